//! Runs of several processes, and what they leave behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ocelli::models::weights::read_safetensors;
use serde_json::Value;

/// No test waits longer for processes that are to end at once.
const SOON: Duration = Duration::from_secs(60);
/// No test waits longer for a run.
const LIMIT: Duration = Duration::from_secs(600);

const TOOL: &str = env!("CARGO_BIN_EXE_ocelli");

/// `mpirun` for processes that share this machine's cores with each other.
pub fn mpirun() -> Command {
    let mut command = Command::new("mpirun");
    command.args(["--bind-to", "none", "--oversubscribe"]);
    // Containers run tests as root, and forbid a process to read another's memory.
    for (name, value) in [
        ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
        ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
        ("OMPI_MCA_btl_vader_single_copy_mechanism", "none"),
        ("RAYON_NUM_THREADS", "1"),
    ] {
        command.env(name, value);
    }
    command.env_remove("RUST_BACKTRACE").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The tool, as so many processes; as one without a launcher.
pub fn tool(ranks: usize, args: &[&str]) -> Command {
    let mut command = match ranks {
        1 => Command::new(TOOL),
        _ => {
            let mut command = mpirun();
            command.args(["-n", &ranks.to_string(), TOOL]);
            command
        }
    };
    // Mesa's driver complains on every start where this is unset, which is no fault of ours.
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
    }
    command.args(args).env("RAYON_NUM_THREADS", "1").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A child that does not outlive its test.
pub struct Running(Option<Child>);

impl Running {
    pub fn start(mut command: Command) -> Self {
        Self(Some(command.spawn().unwrap()))
    }

    fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    pub fn is_over(&mut self) -> bool {
        self.child().try_wait().unwrap().is_some()
    }

    /// Process numbers of the ranks: the launcher's children, in the order they were started.
    pub fn ranks(&mut self) -> Vec<u32> {
        let id = self.child().id();
        let tasks = fs::read_dir(format!("/proc/{id}/task")).unwrap();
        let children = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("children")).unwrap());
        let mut all: Vec<u32> =
            children.flat_map(|c| c.split(' ').filter_map(|n| n.parse().ok()).collect::<Vec<_>>()).collect();
        all.sort_unstable();
        all
    }

    /// Waits for the end of what it does.
    pub fn end(self) -> Output {
        self.end_within(LIMIT)
    }

    /// Waits for its end before it is done.
    pub fn end_soon(self) -> Output {
        self.end_within(SOON)
    }

    fn end_within(mut self, limit: Duration) -> Output {
        let started = Instant::now();
        while !self.is_over() {
            if started.elapsed() > limit {
                let _ = self.child().kill();
                panic!("still running after {limit:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn message(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn assert_done(output: &Output) {
    assert!(output.status.success(), "{:?}\n{}", output.status, message(output));
}

/// Sends a signal to processes.
pub fn signal(name: &str, ids: &[u32]) {
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    assert!(Command::new("kill").arg(format!("-{name}")).args(ids).status().unwrap().success());
}

/// All checkpoints of a run, oldest first.
pub fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(run.join("checkpoints")).into_iter().flatten();
    let mut all: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| path.extension().is_some_and(|e| e == "safetensors") && !hidden(path));
    all.sort();
    all
}

fn hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// Everything the newest checkpoint holds, by name.
pub fn weights(run: &Path) -> Vec<(String, Vec<f32>)> {
    let newest = checkpoints(run).pop().expect("a checkpoint");
    let state = read_safetensors(&fs::read(newest).unwrap()).unwrap();
    let mut all: Vec<_> = state.tensors.into_iter().map(|(name, tensor)| (name, tensor.values)).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// Rows of the metrics of a kind.
pub fn rows(run: &Path, event: &str) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let all = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    all.filter(|row| row["event"] == event).collect()
}

/// Figures of all steps, by name, without what a clock gave.
pub fn figures(run: &Path) -> Vec<(String, f64)> {
    let numbers = |row: Value| -> Vec<(String, f64)> {
        let fields = row.as_object().unwrap().clone();
        let timed = |name: &str| ["unix_s", "images_per_second"].contains(&name);
        fields
            .into_iter()
            .filter(|(name, _)| !timed(name))
            .filter_map(|(name, v)| Some((name, v.as_f64()?)))
            .collect()
    };
    rows(run, "step").into_iter().flat_map(numbers).collect()
}
