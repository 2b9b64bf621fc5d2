//! Other platforms, from this one: everything compiles for Windows and macOS, and the program for Windows runs under Wine.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::web::target_folder;
use crate::{Outcome, cargo, root};

/// What is compiled, and not linked: that would need the platforms' own libraries.
const CHECKED: [&str; 2] = ["x86_64-pc-windows-msvc", "aarch64-apple-darwin"];
/// What is linked by Debian's MinGW and run.
const WINDOWS: &str = "x86_64-pc-windows-gnu";
const LINKER: &str = "x86_64-w64-mingw32-gcc";
/// Where Wine may be. The first is the program itself, which can be killed; the others may be scripts around it.
const WINES: [&str; 3] = ["/usr/lib/wine/wine64", "wine64", "wine"];

/// The demo's recipe for 16 steps, with checkpoints as often as they can be written.
const TRAINING: [&str; 21] = [
    "pretrain",
    "--preset",
    "demo",
    "--data",
    "scenes:64",
    "--device",
    "cpu",
    "--epochs",
    "4",
    "--quiet",
    "--set",
    "batch_size=16",
    "--set",
    "optim.warmup_epochs=1",
    "--set",
    "eval.every_epochs=0",
    "--set",
    "log.every_steps=1",
    "--set",
    "log.checkpoint_every_minutes=0.002",
    "--out",
];
const STEPS: usize = 16;
/// Fields of a row that a clock or the machine gave.
const CLOCKS: [&str; 6] = ["unix_s", "images_per_second", "wall_s", "waited_s", "cpu_s", "memory_bytes"];
/// How far figures of two platforms may lie apart, as a share of them or of a tenth: their elementary functions differ in the
/// last bit.
const SAME: f64 = 1e-3;
/// A picture whose name has letters of another script, a space and no ending.
const PICTURE: &str = "фото d24";
/// One command takes seconds; beyond this it hangs.
const PATIENCE: Duration = Duration::from_secs(900);

/// Adds a target to the toolchain. One that is there takes milliseconds.
pub fn add(target: &str) -> Outcome {
    let added = Command::new("rustup").args(["target", "add", target]).status();
    match added.is_ok_and(|status| status.success()) {
        true => Ok(()),
        false => Err(format!("cannot add the target: `rustup target add {target}` failed")),
    }
}

/// Checks every target, and runs what can be run here.
pub fn run() -> Outcome {
    // Apart from the usual builds, which would otherwise wait for these and be thrown out by them.
    let folder = root().join(target_folder()).join("targets");
    let shown = folder.display().to_string();
    for target in CHECKED {
        add(target)?;
        let own = ["--target", target, "--target-dir", &shown];
        cargo(&[&["check", "--release", "--workspace", "--all-targets"], &own[..]].concat(), &[])?;
    }
    let wine = WINES.iter().find_map(|name| found(name));
    match (found(LINKER), wine) {
        (Some(_), Some(wine)) => under_wine(&folder, &wine),
        (linker, wine) => {
            let parts = [("MinGW (gcc-mingw-w64-x86-64)", linker.is_none()), ("Wine (wine64)", wine.is_none())];
            let missing: Vec<&str> = parts.iter().filter(|(_, gone)| *gone).map(|(name, _)| *name).collect();
            println!("\nleft out: the run under Wine; not installed: {}", missing.join(", "));
            Ok(())
        }
    }
}

/// A program by its path, or by its name in PATH.
pub fn found(name: &str) -> Option<PathBuf> {
    let paths = env::var_os("PATH").unwrap_or_default();
    // Joining an absolute path gives that path.
    env::split_paths(&paths).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Trains, is killed, resumes and reads a picture, with the figures of this platform.
fn under_wine(folder: &Path, wine: &Path) -> Outcome {
    add(WINDOWS)?;
    cargo(&["build", "--release", "--target", WINDOWS, "--target-dir", &folder.display().to_string()], &[])?;
    cargo(&["build", "--release"], &[])?;
    let place = folder.join("wine");
    // Runs of last time. Wine's own folder stays: making it takes a minute.
    let runs = place.join("runs");
    if runs.exists() {
        fs::remove_dir_all(&runs).map_err(|e| format!("cannot remove {}: {e}", runs.display()))?;
    }
    fs::create_dir_all(&runs).map_err(|e| format!("cannot make {}: {e}", runs.display()))?;
    write(&runs.join(PICTURE), &picture())?;

    let here = root().join(target_folder()).join("release/ocelli");
    let linux = Program { command: vec![here], runs: &runs, prefix: place.join("prefix") };
    let exe = folder.join(WINDOWS).join("release/ocelli.exe");
    let windows = Program { command: vec![wine.to_path_buf(), exe], runs: &runs, prefix: place.join("prefix") };

    let training = |out: &'static str| [&TRAINING[..], &[out]].concat();
    linux.finish(&training("linux"))?;
    windows.finish(&training("windows"))?;
    kill_at_checkpoint(&windows, &training("killed"), &runs.join("killed"))?;
    let before = steps(&runs.join("killed"))?.len();
    if before >= STEPS {
        return Err(format!("the run was killed after its last step ({before}): nothing would be resumed"));
    }
    windows.finish(&[&training("killed")[..], &["--resume"]].concat())?;

    let [linux_steps, windows_steps, killed_steps] =
        [steps(&runs.join("linux"))?, steps(&runs.join("windows"))?, steps(&runs.join("killed"))?];
    if windows_steps.len() != STEPS || killed_steps != windows_steps {
        return Err(format!(
            "expected the same {STEPS} rows of a run that was killed and resumed and of one that was not; see {}",
            runs.display()
        ));
    }
    let losses = |rows: &[Vec<Field>]| rows.iter().filter_map(|row| number(row, "loss")).collect::<Vec<f64>>();
    same("loss", &losses(&linux_steps), &losses(&windows_steps))?;

    // The same network on both, so that only reading and computing differ.
    let features = |out: &'static str| ["embed", PICTURE, "--weights", "windows", "--device", "cpu", "--out", out];
    linux.finish(&features("linux.csv"))?;
    windows.finish(&features("windows.csv"))?;
    let [linux_table, windows_table] = [table(&runs.join("linux.csv"))?, table(&runs.join("windows.csv"))?];
    same("features", &linux_table, &windows_table)?;
    println!("\nWindows under Wine: {STEPS} steps as on Linux, killed and resumed, and \"{PICTURE}\" read");
    Ok(())
}

/// The program of a platform. It runs where the runs are, so that its arguments are plain names.
struct Program<'a> {
    command: Vec<PathBuf>,
    runs: &'a Path,
    prefix: PathBuf,
}

impl Program<'_> {
    /// What it prints goes to a file: Wine's helpers would keep a pipe open.
    fn start(&self, args: &[&str]) -> Result<Child, String> {
        let [program, rest @ ..] = self.command.as_slice() else {
            return Err("there is no program to run".into());
        };
        println!("\n$ {} {}", program.display(), args.join(" "));
        let log = self.runs.join("log.txt");
        let file = File::create(&log).map_err(|e| format!("cannot write {}: {e}", log.display()))?;
        let again = file.try_clone().map_err(|e| format!("cannot write {}: {e}", log.display()))?;
        Command::new(program)
            .args(rest)
            .args(args)
            .current_dir(self.runs)
            .env("WINEPREFIX", &self.prefix)
            .env("WINEDEBUG", "-all")
            // Without these Wine asks whether it may download them.
            .env("WINEDLLOVERRIDES", "mscoree,mshtml=")
            // Arguments in other scripts.
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(again)
            .spawn()
            .map_err(|e| format!("cannot run {}: {e}", program.display()))
    }

    fn finish(&self, args: &[&str]) -> Outcome {
        let mut child = self.start(args)?;
        let started = Instant::now();
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("{status}; it said:\n{}", self.said())),
                Ok(None) if started.elapsed() < PATIENCE => sleep(Duration::from_millis(50)),
                Ok(None) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("no end after {} s; it said:\n{}", PATIENCE.as_secs(), self.said()));
                }
                Err(e) => return Err(format!("cannot wait for {}: {e}", args.join(" "))),
            }
        }
    }

    fn said(&self) -> String {
        fs::read(self.runs.join("log.txt")).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }
}

/// Kills a run as soon as there is a checkpoint to go on from.
fn kill_at_checkpoint(program: &Program<'_>, args: &[&str], run: &Path) -> Outcome {
    let mut child = program.start(args)?;
    let started = Instant::now();
    let end = loop {
        match child.try_wait() {
            Ok(Some(status)) => {
                break Err(format!("the run ended before it was killed: {status}\n{}", program.said()));
            }
            Err(e) => break Err(format!("cannot wait for the run: {e}")),
            Ok(None) if has_checkpoint(run) => break Ok(()),
            Ok(None) if started.elapsed() > PATIENCE => break Err("the run wrote no checkpoint".to_owned()),
            Ok(None) => sleep(Duration::from_millis(5)),
        }
    };
    let _ = child.kill();
    let _ = child.wait();
    end
}

/// Whether a checkpoint is there under its own name.
fn has_checkpoint(run: &Path) -> bool {
    let entries = fs::read_dir(run.join("checkpoints")).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.any(|name| name.ends_with(".safetensors") && !name.starts_with('.'))
}

/// A key and its value, as a row of a run has them.
type Field = (String, String);

/// The rows of a run's steps, without what a clock gave. Such rows have neither lists nor texts with commas.
fn steps(run: &Path) -> Result<Vec<Vec<Field>>, String> {
    let path = run.join("metrics.jsonl");
    let text = fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let field = |text: &str| {
        let (key, value) = text.split_once(':')?;
        Some((key.trim().trim_matches('"').to_owned(), value.trim().to_owned()))
    };
    let row = |line: &str| -> Vec<Field> {
        let fields = line.trim().trim_start_matches('{').trim_end_matches('}').split(',').filter_map(field);
        fields.filter(|(key, _)| !CLOCKS.contains(&key.as_str())).collect()
    };
    let is_step = |row: &Vec<Field>| row.iter().any(|(key, value)| key == "event" && value == "\"step\"");
    Ok(text.lines().map(row).filter(is_step).collect())
}

fn number(row: &[Field], key: &str) -> Option<f64> {
    row.iter().find(|(name, _)| name == key)?.1.parse().ok()
}

/// The numbers of the only row of a table, behind the picture's name.
fn table(path: &Path) -> Result<Vec<f64>, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let row = text.lines().nth(1).and_then(|line| line.strip_prefix(PICTURE));
    let row = row.ok_or_else(|| format!("expected a row that begins with {PICTURE} in {}", path.display()))?;
    Ok(row.split(',').filter_map(|value| value.parse().ok()).collect())
}

fn same(what: &str, linux: &[f64], windows: &[f64]) -> Outcome {
    if linux.is_empty() || linux.len() != windows.len() {
        return Err(format!(
            "{what}: expected as many numbers on both, found {} and {}",
            linux.len(),
            windows.len()
        ));
    }
    for (i, (a, b)) in linux.iter().zip(windows).enumerate() {
        // Written so that NaN fails.
        let close = (a - b).abs() <= SAME * a.abs().max(b.abs()).max(0.1);
        if !close {
            return Err(format!("{what} {i}: {a} on Linux, {b} on Windows"));
        }
    }
    Ok(())
}

/// A picture of 64×64 pixels with 24 bits each, as BMP: a colour that changes along both sides.
fn picture() -> Vec<u8> {
    const SIDE: u8 = 64;
    let pixels = usize::from(SIDE) * usize::from(SIDE) * 3;
    let word = |value: usize| (value as u32).to_le_bytes();
    let mut bytes = b"BM".to_vec();
    // Size of the file, nothing, where the pixels begin; then the header: its size, width, height.
    for value in [54 + pixels, 0, 54, 40, usize::from(SIDE), usize::from(SIDE)] {
        bytes.extend(word(value));
    }
    // One plane, 24 bits a pixel; no compression, size of the pixels, resolution and palette left open.
    bytes.extend([1, 0, 24, 0]);
    for value in [0, pixels, 0, 0, 0, 0] {
        bytes.extend(word(value));
    }
    let rows = (0..SIDE).flat_map(|y| (0..SIDE).flat_map(move |x| [4 * x, 4 * y, 255 - 2 * x - y]));
    bytes.extend(rows);
    bytes
}

fn write(path: &Path, bytes: &[u8]) -> Outcome {
    fs::write(path, bytes).map_err(|e| format!("cannot write {}: {e}", path.display()))
}
