//! Runs that go wrong by themselves end with words, exit code 3, and their last good checkpoint.

use std::fs;
use std::path::Path;

use super::command::{ocelli, stdout};

const SMALL: [&str; 21] = [
    "--data",
    "scenes:320",
    "--preset",
    "laptop",
    "--arch",
    "vit-32x2x2/8",
    "--device",
    "cpu",
    "--epochs",
    "30",
    "--set",
    "batch_size=16",
    "--set",
    "dino.head.hidden_dim=64",
    "--set",
    "dino.head.out_dim=256",
    "--set",
    "optim.warmup_epochs=1",
    "--set",
    "eval.every_epochs=0",
    "--quiet",
];

fn fails(run: &Path, sets: &[&str], words: &[&str]) -> Vec<serde_json::Value> {
    let out = run.display().to_string();
    let mut args = vec!["pretrain", "--out", &out];
    args.extend(SMALL);
    args.extend(sets.iter().flat_map(|s| ["--set", s]));
    let output = ocelli(&args);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{message}");
    for word in words {
        assert!(message.contains(word), "expected \"{word}\" in: {message}");
    }
    let rows = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let rows: Vec<serde_json::Value> = rows.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(rows.last().unwrap()["event"], "failed");
    rows
}

/// Names of checkpoints one can go on from.
fn checkpoints(run: &Path) -> Vec<String> {
    let names =
        fs::read_dir(run.join("checkpoints")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|n| n.ends_with(".safetensors")).collect()
}

/// Without centring one prototype takes all; without sharpening all are equal (the paper's figure 7).
#[test]
fn collapse_is_recognised_and_the_checkpoint_before_it_kept() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("one");
    let rows = fails(
        &run,
        &["dino.centre_momentum=1", "optim.lr=0.02"],
        &["collapsed since step 20", "same prototype", "last good checkpoint", "epoch-0001", "--init-from"],
    );
    assert_eq!(checkpoints(&run), ["epoch-0001.safetensors"]);
    assert!(rows.iter().filter(|r| r["event"] == "epoch").count() < 10, "noticed soon");
    let run = folder.path().join("uniform");
    fails(
        &run,
        &["dino.teacher_temp=1", "dino.warmup_teacher_temp=1"],
        &["collapsed since step", "uniform", "dino.teacher_temp"],
    );
    assert_eq!(checkpoints(&run).len(), 1);
}

#[test]
fn a_collapse_may_be_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run").display().to_string();
    let mut args = vec!["pretrain", "--out", &out];
    args.extend(SMALL.iter().filter(|a| **a != "--quiet"));
    for set in ["dino.centre_momentum=1", "optim.lr=0.02", "watch.collapse=warn", "epochs=9"] {
        args.extend(["--set", set]);
    }
    let text = stdout(&ocelli(&args));
    assert_eq!(text.matches("the run has collapsed").count(), 1, "{text}");
}

#[test]
fn what_is_not_finite_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    fails(
        &run,
        &["optim.lr=1e9", "optim.clip_grad=0"],
        &["the loss became", "at step", "optim.lr", "no checkpoint yet"],
    );
    assert_eq!(checkpoints(&run), [""; 0]);
}
