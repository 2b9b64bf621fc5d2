//! A run that was killed, again and again, ends as the run that was never killed.
//!
//!     OCELLI_KILLS=50 cargo test --release --test cli killed -- --nocapture

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ocelli::models::weights::{StateDict, read_safetensors};
use serde_json::Value;

/// Small, and busy with checkpoints: one after every third of a second or so beside those after each epoch.
const TINY: [&str; 26] = [
    "--preset",
    "laptop",
    "--arch",
    "vit-32x2x2/8",
    "--device",
    "cpu",
    "--epochs",
    "6",
    "--set",
    "batch_size=8",
    "--set",
    "dino.head.out_dim=2048",
    "--set",
    "dino.head.hidden_dim=128",
    "--set",
    "optim.warmup_epochs=1",
    "--set",
    "eval.every_epochs=2",
    "--set",
    "log.every_steps=5",
    "--set",
    "log.checkpoint_every_minutes=0.002",
    "--set",
    "accumulate=2",
    "--quiet",
    "--resume",
];

fn command(out: &Path, resume: bool, extra: &[&str]) -> Command {
    command_with("scenes:96", out, resume, extra)
}

fn command_with(data: &str, out: &Path, resume: bool, extra: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocelli"));
    let flags = if resume { &TINY[..] } else { &TINY[..25] };
    command.args(["pretrain", "--data", data, "--out"]).arg(out).args(flags).args(extra);
    command
}

fn train(out: &Path, resume: bool, extra: &[&str]) -> Output {
    command(out, resume, extra).output().unwrap()
}

fn assert_done(output: &Output) {
    assert!(output.status.success(), "{:?}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}

fn refused(output: &Output, words: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    for word in words {
        assert!(message.contains(word), "expected \"{word}\" in: {message}");
    }
}

fn last_checkpoint(run: &Path) -> PathBuf {
    run.join("checkpoints/epoch-0006.safetensors")
}

/// Networks, moments and centre, bit for bit.
fn weights(run: &Path) -> Vec<(String, Vec<u32>)> {
    let state: StateDict = read_safetensors(&fs::read(last_checkpoint(run)).unwrap()).unwrap();
    state.tensors.into_iter().map(|(n, t)| (n, t.values.iter().map(|v| v.to_bits()).collect())).collect()
}

/// All rows but those that say when something was saved or taken up again, without what a clock gave.
fn metrics(run: &Path) -> Vec<Value> {
    let rows = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    rows.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|row| row["event"] != "checkpoint" && row["event"] != "resumed" && row["event"] != "stopped")
        .map(|mut row| {
            for clock in ["unix_s", "wall_s", "waited_s", "cpu_s", "images_per_second", "memory_bytes"] {
                row.as_object_mut().unwrap().remove(clock);
            }
            row
        })
        .collect()
}

fn assert_same(whole: &Path, parts: &Path) {
    let (a, b) = (metrics(whole), metrics(parts));
    assert_eq!(a.len(), b.len(), "rows");
    for (a, b) in a.iter().zip(&b) {
        assert_eq!(a, b);
    }
    for ((name, a), (_, b)) in weights(whole).iter().zip(&weights(parts)) {
        assert_eq!(a, b, "{name}");
    }
    assert_eq!(weights(whole).len(), weights(parts).len());
    let leftovers = |folder: &str| -> Vec<String> {
        fs::read_dir(parts.join(folder))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter(|n| n.starts_with(".ocelli-"))
            .collect()
    };
    assert_eq!((leftovers("."), leftovers("checkpoints")), (vec![], vec![]), "nothing half-written is left");
}

/// xorshift64: where to kill.
fn random(state: &mut u64) -> f64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as f64 / (1u64 << 53) as f64
}

fn half_written(run: &Path) -> bool {
    let entries = fs::read_dir(run.join("checkpoints")).into_iter().flatten().filter_map(Result::ok);
    entries.into_iter().any(|e| e.file_name().to_string_lossy().starts_with(".ocelli-"))
}

/// Waits up to `limit` for a file under a temporary name; true when it was seen.
fn wait_for_writing(child: &mut Child, run: &Path, limit: Duration) -> bool {
    let started = Instant::now();
    while started.elapsed() < limit && child.try_wait().unwrap().is_none() {
        if half_written(run) {
            return true;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    false
}

#[test]
fn killed_at_any_moment_it_ends_the_same() {
    let kills: usize = std::env::var("OCELLI_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    let started = Instant::now();
    assert_done(&train(&whole, false, &[]));
    let all_at_once = started.elapsed();

    let (mut killed, mut while_writing, mut finished, mut at) = (0, 0, 0, 0x9E37_79B9_7F4A_7C15_u64);
    let mut begun = false;
    while killed < kills {
        let mut process = command(&parts, begun, &[]);
        let mut child = process.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // A random moment of the run's start, which always comes; every other time within writing a checkpoint.
        std::thread::sleep(all_at_once.mul_f64(0.3 * random(&mut at)));
        let writing = killed % 2 == 1 && wait_for_writing(&mut child, &parts, all_at_once);
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        begun |= parts.join("config.toml").exists();
        if ended.success() {
            // Done before it could be killed: the next ones begin anew.
            assert_same(&whole, &parts);
            fs::remove_dir_all(&parts).unwrap();
            (begun, finished) = (false, finished + 1);
        } else {
            killed += 1;
            while_writing += usize::from(writing && half_written(&parts));
        }
    }
    assert_done(&train(&parts, begun, &[]));
    assert_same(&whole, &parts);
    println!(
        "{killed} kills, {while_writing} of them within writing a checkpoint, {} whole runs: the same weights, moments and \
         metrics as the run that was never killed",
        finished + 1
    );
}

#[test]
#[cfg(unix)]
fn asked_to_stop_it_saves_and_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    assert_done(&train(&whole, false, &[]));
    let child = command(&parts, false, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let rows = || fs::read_to_string(parts.join("metrics.jsonl")).unwrap_or_default();
    while !rows().contains("\"step\"") {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("--resume --out"), "{message}");
    assert!(rows().lines().last().unwrap().contains("stopped"));
    // By the folder alone: data and configuration are the run's own.
    let resume = ["pretrain", "--resume", "--device", "cpu", "--out"];
    let output = Command::new(env!("CARGO_BIN_EXE_ocelli")).args(resume).arg(&parts).output().unwrap();
    assert_done(&output);
    assert!(String::from_utf8_lossy(&output.stdout).contains("going on from checkpoints/epoch-"), "{output:?}");
    assert_same(&whole, &parts);
}

/// Queues and their ages, the key encoder, running statistics, λ's warm-up, places of the views, momentum buffers: DenseCL
/// with SGD, DINO on a ResNet with LARS, SwAV's queue and frozen prototypes and DeepCluster's memory bank with LARC, stopped in
/// the middle of an epoch.
#[test]
#[cfg(unix)]
fn resnets_go_on_bit_for_bit() {
    let shared = "--arch resnet-18c2 --device cpu --epochs 6 --quiet --set batch_size=8 --set accumulate=2 \
                  --set resnet.norm_groups=2 --set views.global_size_px=32 --set log.every_steps=2 \
                  --set eval.every_epochs=3 --set eval.resize_px=32 --set eval.crop_px=32 --set eval.max_test=8";
    let densecl = "--preset densecl-laptop --set moco.queue=16 --set densecl.matching=geometric \
                   --set densecl.lambda_warmup_iterations=9 --set moco.hidden_dim=8 --set moco.out_dim=8";
    let dino = "--preset laptop --set resnet.stem=cifar --set views.local_size_px=16 --set views.local_crops=2 \
                --set optim.optimizer=lars --set optim.warmup_epochs=1 --set dino.head.batch_norm=true \
                --set dino.head.out_dim=64 --set dino.head.hidden_dim=16 --set dino.head.bottleneck_dim=8";
    let swav = "--preset swav-laptop --set resnet.stem=cifar --set optim.optimizer=larc --set views.local_size_px=16 --set swav.prototypes=12 --set swav.hidden_dim=16 \
                --set swav.out_dim=8 --set swav.queue=16 --set swav.queue_from_epoch=1 --set swav.freeze_prototypes_steps=3";
    let deepcluster = "--preset deepcluster-laptop --set views.local_size_px=16 --set deepcluster.heads=[6,5] \
                       --set deepcluster.hidden_dim=16 --set deepcluster.out_dim=8";
    for (name, method) in [("densecl", densecl), ("dino", dino), ("swav", swav), ("deepcluster", deepcluster)] {
        let folder = tempfile::tempdir().unwrap();
        let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
        let start = |out: &Path| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_ocelli"));
            command.args(["pretrain", "--data", "scenes:32", "--out"]).arg(out);
            command.args(method.split_whitespace().chain(shared.split_whitespace()));
            command
        };
        assert_done(&start(&whole).output().unwrap());
        let child = start(&parts).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while !fs::read_to_string(parts.join("metrics.jsonl")).unwrap_or_default().contains("\"step\":5") {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
        assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130), "{name} was stopped, not done");
        let resume = ["pretrain", "--resume", "--device", "cpu", "--quiet", "--out"];
        assert_done(&Command::new(env!("CARGO_BIN_EXE_ocelli")).args(resume).arg(&parts).output().unwrap());
        assert_same(&whole, &parts);
        let names: Vec<String> = weights(&whole).into_iter().map(|(n, _)| n).collect();
        let wanted: &[&str] = match name {
            "densecl" => &["queue2", "queue_ptr", "queue_generations", "encoder_k.0.bn1.running_var"],
            "dino" => &["dino_loss.center", "teacher.backbone.bn1.running_mean"],
            "swav" => &["queue", "prototypes.weight", "projector.1.running_var"],
            _ => &["bank.embeddings", "bank.index", "assignments", "centroids1", "clustered_epoch"],
        };
        for wanted in wanted {
            assert!(names.iter().any(|n| n == wanted), "{wanted} in {names:?}");
        }
        assert!(names.iter().any(|n| n.starts_with("optimizer.momentum_buffer.backbone.")), "{names:?}");
    }
}

/// Two processes on one folder.
#[test]
fn a_folder_in_use_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut first = command(&run, false, &["--set", "epochs=500"]).stdout(Stdio::null()).spawn().unwrap();
    while !run.join("config.toml").exists() {
        assert!(first.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    refused(&train(&run, true, &["--set", "epochs=500"]), &["another process"]);
    refused(&train(&run, false, &["--overwrite"]), &["another process"]);
    assert!(first.try_wait().unwrap().is_none(), "the first goes on");
    first.kill().unwrap();
    first.wait().unwrap();
    // The lock of a killed process is nobody's.
    assert_done(&train(&run, false, &["--overwrite", "--set", "epochs=1"]));
}

#[test]
fn damaged_checkpoints_are_noticed_and_the_one_before_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    assert_done(&train(&whole, false, &[]));
    assert_done(&train(
        &parts,
        false,
        &["--set", "log.keep_checkpoints=6", "--set", "log.checkpoint_every_minutes=0"],
    ));
    let damage = |epoch: usize, how: &dyn Fn(&mut Vec<u8>)| {
        let path = parts.join(format!("checkpoints/epoch-000{epoch}.safetensors"));
        let mut bytes = fs::read(&path).unwrap();
        how(&mut bytes);
        fs::write(&path, bytes).unwrap();
    };
    // One bit of a value; a file cut short; a changed word in what it says of itself.
    damage(6, &|bytes| *bytes.last_mut().unwrap() ^= 1);
    damage(5, &|bytes| bytes.truncate(bytes.len() / 2));
    damage(4, &|bytes| {
        let at = bytes.windows(14).position(|w| w == b"epochs_done\":\"").unwrap();
        bytes[at + 14] = b'3';
    });
    let resume = ["pretrain", "--resume", "--device", "cpu", "--out"];
    let output = Command::new(env!("CARGO_BIN_EXE_ocelli")).args(resume).arg(&parts).output().unwrap();
    assert_done(&output);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.matches("damaged checkpoint").count(), 3, "{text}");
    assert!(text.contains("checksum") && text.contains("trying the one before"), "{text}");
    assert!(parts.join("checkpoints/epoch-0006.safetensors.damaged").exists());
    let warnings = metrics(&parts).iter().filter(|r| r["event"] == "warning").count();
    assert_eq!(warnings, 3);
    for ((name, a), (_, b)) in weights(&whole).iter().zip(&weights(&parts)) {
        assert_eq!(a, b, "{name}");
    }
}

#[test]
fn a_run_goes_on_only_as_itself() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    refused(&train(&run, true, &[]), &["no run here", "without --resume"]);
    assert!(!run.exists());
    assert_done(&train(&run, false, &["--set", "epochs=1"]));
    let one = ["--set", "epochs=1"];
    refused(&train(&run, false, &one), &["a run here already", "--resume", "--overwrite"]);
    refused(&train(&run, true, &["--set", "epochs=2"]), &["epochs: was 1, now 2", "--init-from"]);
    refused(&train(&run, true, &[one[0], one[1], "--set", "optim.lr=1"]), &["optim.lr: was 0.006, now 1"]);
    let with = |data: &str| command_with(data, &run, true, &one).output().unwrap();
    refused(&with("scenes:97"), &["other data", "96 images", "97"]);
    // A folder of as many pictures with other names.
    let photos = folder.path().join("photos");
    fs::create_dir(&photos).unwrap();
    for i in 0..96 {
        image::RgbImage::new(40, 40).save(photos.join(format!("{i}.png"))).unwrap();
    }
    let photos = photos.display().to_string();
    refused(&with(&photos), &["other data", "other names"]);
    // What does not change the training may change.
    assert_done(&train(&run, true, &[one[0], one[1], "--set", "log.every_steps=1"]));
}

/// New runs from old weights, and only from weights that fit.
#[test]
fn weights_to_start_from() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let one = ["--set", "epochs=1", "--set", "eval.every_epochs=1"];
    assert_done(&train(&at("first"), false, &one));
    let first = at("first").display().to_string();
    // At learning rate zero the student does not move: its backbone is the old teacher's.
    let still = ["--init-from", &first, "--set", "optim.lr=0", "--set", "optim.min_lr=0", "--set", "seed=7"];
    let still: Vec<&str> = one.iter().chain(&still).copied().collect();
    assert_done(&train(&at("still"), false, &still));
    let state = |name: &str| {
        read_safetensors(&fs::read(at(name).join("checkpoints/epoch-0001.safetensors")).unwrap()).unwrap()
    };
    let (old, new) = (state("first").under("teacher."), state("still").under("student."));
    for (name, tensor) in &old.tensors {
        let same = *tensor == *new.get(name).unwrap();
        let is_drawn = name.starts_with("head") && tensor.values.iter().any(|v| *v != 0.0 && *v != 1.0);
        assert_eq!(same, !is_drawn, "{name}");
    }
    // Killed before its first checkpoint it begins anew, from the same weights.
    let begun = command(&at("begun"), false, &still[..]).stdout(Stdio::null()).spawn();
    let mut begun = begun.unwrap();
    while !at("begun").join("config.toml").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    begun.kill().unwrap();
    begun.wait().unwrap();
    fs::remove_dir_all(at("begun").join("checkpoints")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ocelli"))
        .args(["pretrain", "--resume", "--device", "cpu", "--out"])
        .arg(at("begun"))
        .output()
        .unwrap();
    assert_done(&output);
    assert_eq!(state("begun").under("student.").tensors, new.tensors);

    let other = ["--init-from", &first, "--set", "arch=vit-48x3x2/8"];
    let words = ["missing", "blocks.2.", "expected shape", "[48, 3, 8, 8]", "[32, 3, 8, 8]"];
    refused(&train(&at("other"), false, &other), &words);
    assert!(!at("other").exists());
    refused(&train(&at("other"), false, &["--init-from", "nowhere.pth"]), &["nowhere.pth", "expected weights"]);
}
