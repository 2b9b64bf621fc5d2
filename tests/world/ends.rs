//! Runs of several processes that end before their time, and what goes on from them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::launch::{Running, assert_done, checkpoints, message, mpirun, rows, signal, tool, weights};

const PICTURES: u32 = 48;

/// Pictures that differ, and one that is cut off.
fn pictures(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for number in 0..PICTURES {
        let pixel = |x: u32, y: u32| {
            image::Rgb([(x * (number + 3)) as u8, (y * (number % 7 + 1) * 5) as u8, (number * 5) as u8])
        };
        let picture = image::RgbImage::from_fn(40, 40, pixel);
        picture.save(folder.join(format!("{number:03}.png"))).unwrap();
    }
    let cut = folder.join("007.png");
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 3]).unwrap();
}

/// DINO in batches of three parts of 4 images: four steps to an epoch.
fn args<'a>(data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let own = [
        "pretrain",
        "--data",
        data,
        "--out",
        out,
        "--preset",
        "laptop",
        "--arch",
        "vit-32x2x2/8",
        "--device",
        "cpu",
        "--set",
        "epochs=6",
        "--set",
        "batch_size=12",
        "--set",
        "accumulate=3",
        "--set",
        "dino.head.out_dim=64",
        "--set",
        "dino.head.hidden_dim=32",
        "--set",
        "optim.warmup_epochs=1",
        "--set",
        "eval.every_epochs=0",
        "--set",
        "loader.threads=1",
        "--set",
        "log.every_steps=1",
        "--set",
        "log.keep_checkpoints=20",
        "--quiet",
    ];
    own.into_iter().chain(more.iter().copied()).collect()
}

/// Folder of pictures and folders of runs.
pub struct Place {
    folder: tempfile::TempDir,
    data: String,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("pictures");
        pictures(&data);
        Self { data: data.display().to_string(), folder }
    }

    pub fn run(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub fn start(&self, ranks: usize, out: &str, more: &[&str]) -> Running {
        Running::start(tool(ranks, &args(&self.data, out, more)))
    }

    pub fn train(&self, ranks: usize, out: &str, more: &[&str]) -> Output {
        self.start(ranks, out, more).end()
    }
}

fn copy(from: &str, to: &str) {
    assert!(Command::new("cp").args(["-r", from, to]).status().unwrap().success());
}

/// Waits until a run has told so many steps.
pub fn wait_for_steps(run: &mut Running, out: &str, steps: usize) {
    let started = Instant::now();
    while rows(Path::new(out), "step").len() < steps {
        assert!(!run.is_over(), "it ended before step {steps}");
        assert!(started.elapsed() < Duration::from_secs(300), "no step {steps} within five minutes");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn assert_same(whole: &str, parts: &str) {
    let [whole, parts] = [whole, parts].map(|run| weights(Path::new(run)));
    assert_eq!(whole.len(), parts.len());
    for ((name, a), (_, b)) in whole.iter().zip(&parts) {
        assert!(a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits())), "{name}");
    }
}

/// The whole story: three processes with a picture that cannot be read, of which one is killed in a step, or all are asked to stop.
/// What is left goes on with three and with one, to the bits of the run that was never disturbed.
#[test]
fn killed_and_stopped_runs_end_as_the_undisturbed_one() {
    let place = Place::new();
    let whole = place.run("whole");
    assert_done(&place.train(3, &whole, &[]));
    let skipped = rows(Path::new(&whole), "warning");
    let skipped = skipped.iter().filter(|row| row["message"].as_str().unwrap().contains("007.png")).count();
    assert_eq!(skipped, 1, "the cut picture is told once, whoever met it");
    assert_eq!(rows(Path::new(&whole), "step").len(), 24);

    let killed = place.run("killed");
    let mut run = place.start(3, &killed, &[]);
    wait_for_steps(&mut run, &killed, 7);
    signal("KILL", &run.ranks()[1..2]);
    assert!(!run.end_soon().status.success());
    assert!(!checkpoints(Path::new(&killed)).is_empty());
    for ranks in [3, 1] {
        let again = place.run(&format!("killed-{ranks}"));
        copy(&killed, &again);
        assert_done(&place.train(ranks, &again, &["--resume"]));
        assert_same(&whole, &again);
        assert_eq!(rows(Path::new(&again), "step").len(), 24, "no row twice and none missing");
    }

    let stopped = place.run("stopped");
    let mut run = place.start(3, &stopped, &[]);
    wait_for_steps(&mut run, &stopped, 6);
    signal("TERM", &run.ranks());
    let output = run.end_soon();
    assert_eq!(output.status.code(), Some(130), "{}", message(&output));
    let told = message(&output);
    assert_eq!(told.matches("--resume --out").count(), 1, "one of them says how to go on: {told}");
    assert_eq!(rows(Path::new(&stopped), "stopped").len(), 1);
    let (row, newest) =
        (&rows(Path::new(&stopped), "stopped")[0], checkpoints(Path::new(&stopped)).pop().unwrap());
    let (epochs, step) = (row["step"].as_u64().unwrap() / 4, row["step"].as_u64().unwrap() % 4);
    let more = if step > 0 { format!("_step-{step:06}") } else { String::new() };
    let name = format!("epoch-{epochs:04}{more}.safetensors");
    assert_eq!(
        newest.file_name().unwrap().to_str(),
        Some(name.as_str()),
        "one checkpoint, at the step they stopped at"
    );
    assert_done(&place.train(3, &stopped, &["--resume"]));
    assert_same(&whole, &stopped);
}

/// One process that is asked to stop stops all.
#[test]
fn one_that_is_asked_to_stop_stops_all_at_one_step() {
    let place = Place::new();
    let out = place.run("run");
    let mut run = place.start(2, &out, &["--set", "accumulate=2"]);
    wait_for_steps(&mut run, &out, 2);
    signal("TERM", &run.ranks()[1..]);
    let output = run.end_soon();
    assert_eq!(output.status.code(), Some(130), "{}", message(&output));
    let rows = rows(Path::new(&out), "stopped");
    assert_eq!(rows.len(), 1);
    let newest = checkpoints(Path::new(&out)).pop().unwrap();
    assert!(rows[0]["checkpoint"].as_str().unwrap().ends_with(&*newest.file_name().unwrap().to_string_lossy()));
}

/// Other numbers of processes have to fit the parts.
#[test]
fn parts_that_cannot_be_shared_are_refused() {
    let place = Place::new();
    let out = place.run("run");
    let refused = |output: &Output, words: &[&str]| {
        let message = message(output);
        assert_eq!(output.status.code(), Some(2), "{message}");
        for word in words {
            assert!(message.contains(word), "expected \"{word}\" in: {message}");
        }
        assert_eq!(message.matches("error (rank").count(), 1, "it is said once: {message}");
    };
    let parts = place.train(2, &out, &[]);
    refused(&parts, &["accumulate: expected a multiple of the number of processes, 2", "found 3"]);
    let out = place.run("other");
    let simclr =
        ["pretrain", "--data", "scenes:48", "--out", &out, "--preset", "simclr-laptop", "--set", "batch_size=16"];
    let method = Running::start(tool(3, &simclr)).end();
    refused(&method, &["batch_size: expected a multiple of the number of processes, 3", "SimCLR", "found 16"]);
    refused(&place.train(3, &out, &["--dry-run"]), &["--dry-run measures one process"]);
    assert!(!Path::new(&out).exists());
    let demo = Running::start(tool(2, &["demo", "--out", &out])).end();
    assert!(demo.status.code() == Some(2) && message(&demo).contains("`ocelli demo` works in one process"));
}

/// What goes wrong in one process ends the other, which waits for it, with its message.
#[test]
fn an_error_of_one_process_ends_all() {
    let place = Place::new();
    let out = place.run("run");
    let missing = place.run("missing");
    let tool = env!("CARGO_BIN_EXE_ocelli");
    let mut command = mpirun();
    let (own, other) =
        (args(&place.data, &out, &["--set", "accumulate=2"]), args(&missing, &out, &["--set", "accumulate=2"]));
    command.args(["-n", "1", tool]).args(own).args([":", "-n", "1", tool]).args(other);
    let output = Running::start(command).end_soon();
    assert_eq!(output.status.code(), Some(2), "{}", message(&output));
    assert!(message(&output).contains("error (rank 1 of 2)") && message(&output).contains(&missing));
}

/// So does a panic, which is a fault of ours.
#[test]
fn a_panic_of_one_process_ends_all() {
    let output = Running::start(tool(3, &["fault", "rank"])).end_soon();
    let message = message(&output);
    assert_eq!(output.status.code(), Some(70), "{message}");
    assert!(message.contains("error (rank 2 of 3)") && message.contains("index out of bounds"), "{message}");
}

/// Without words the parts are as many as the processes.
#[test]
fn a_batch_is_shared_by_itself() {
    let place = Place::new();
    let out = place.run("run");
    let args = args(&place.data, &out, &["--set", "accumulate=1", "--set", "epochs=1"]);
    let loud: Vec<&str> = args.into_iter().filter(|arg| *arg != "--quiet").collect();
    let output = Running::start(tool(3, &loud)).end();
    assert_done(&output);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.matches("accumulate = 3: each of the 3 processes").count(), 1, "{text}");
    assert_eq!(text.matches("epoch   1").count(), 1, "one of them talks: {text}");
    let config = fs::read_to_string(Path::new(&out).join("config.toml")).unwrap();
    assert!(config.contains("accumulate = 3"), "{config}");
}

#[test]
fn doctor_knows_the_library() {
    let output = Running::start(tool(1, &["doctor", "--device", "cpu", "--json"])).end();
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["processes"]["mpi"], true);
}
