//! The command line, as a person meets it: a short run from images to pictures, and messages for bad input.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod attention_video;
mod bad_input;
#[path = "../support/command.rs"]
mod command;
mod data;
mod dinov2;
mod finetune;
mod linear;
mod low_shot;
mod machine;
mod matching;
mod moved;
mod onnx;
mod outputs;
mod pixels;
mod quantised;
mod report;
mod resume;
mod retrieval;
mod search;
mod selftest;
mod sense;
mod svm;
mod tables;
mod transfer;
mod transfer_example;
mod video;
mod watch;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use command::{ocelli, stdout};

const TINY: [&str; 20] = [
    "--preset",
    "laptop",
    "--arch",
    "vit-32x2x2/8",
    "--device",
    "cpu",
    "--epochs",
    "2",
    "--set",
    "batch_size=16",
    "--set",
    "dino.head.out_dim=64",
    "--set",
    "dino.head.hidden_dim=32",
    "--set",
    "dino.head.bottleneck_dim=16",
    "--set",
    "optim.warmup_epochs=1",
    "--set",
    "eval.every_epochs=1",
];

fn pretrain(out: &Path, extra: &[&str]) -> Output {
    let out = out.display().to_string();
    let mut args = vec!["pretrain", "--data", "scenes:64", "--out", &out];
    args.extend(TINY);
    args.extend(extra);
    ocelli(&args)
}

#[test]
fn from_images_to_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let text = stdout(&pretrain(&run, &[]));
    assert!(text.contains("64 images, 2 epochs of 4 steps"), "{text}");
    let first = text.lines().find_map(|l| l.strip_prefix("first step ")?.split(' ').next()?.parse::<f64>().ok());
    assert!(first.is_some_and(|s| s < 20.0), "the first step comes within 20 seconds: {text}");
    assert!(text.contains("before training: k-NN of raw pixels"), "{text}");
    assert!(text.contains("epoch   2"), "{text}");

    for file in ["config.toml", "manifest.json", "metrics.jsonl", "checkpoints/epoch-0002.safetensors"] {
        assert!(run.join(file).exists(), "{file}");
    }
    let rows: Vec<serde_json::Value> = fs::read_to_string(run.join("metrics.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let epochs: Vec<_> = rows.iter().filter(|r| r["event"] == "epoch").collect();
    assert_eq!(epochs.len(), 2);
    assert!(epochs.iter().all(|e| e["loss"].as_f64().unwrap() > 0.0 && e["knn"]["20"].is_number()));

    let run = run.display().to_string();
    let maps = folder.path().join("maps").display().to_string();
    let text = stdout(&ocelli(&["attention", "scenes:64", "--limit", "3", "--weights", &run, "--out", &maps]));
    assert!(text.contains("Jaccard"), "{text}");
    assert!(fs::metadata(Path::new(&maps).join("sheet.png")).unwrap().len() > 1000);
    assert_eq!(
        fs::read_dir(&maps).unwrap().count(),
        1 + 3 * (2 + 1) * 2,
        "a map and a mask per head and their mean"
    );

    let text = stdout(&ocelli(&["eval", "knn", "--data", "scenes:64", "--weights", &run, "--k", "5", "--json"]));
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["results"][0]["k"], 5);

    for (file, rows) in [("f.csv", 65), ("f.npy", 0), ("f.safetensors", 0)] {
        let out = folder.path().join(file).display().to_string();
        stdout(&ocelli(&["embed", "scenes:64", "--weights", &run, "--out", &out]));
        if rows > 0 {
            assert_eq!(fs::read_to_string(&out).unwrap().lines().count(), rows);
        }
    }
}

/// DenseCL on a ResNet, and every command that takes its run; MoCo v2 from its weights.
#[test]
fn from_images_to_matches() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let small = "--data scenes:64 --arch resnet18c4 --device cpu --epochs 2 --set batch_size=8 --set moco.queue=16 \
                 --set views.global_size_px=32 --set eval.resize_px=32 --set eval.crop_px=32 --set eval.max_test=20 \
                 --set eval.every_epochs=1 --set log.every_steps=2";
    let small: Vec<&str> = small.split_whitespace().collect();
    let geometric = ["--set", "densecl.matching=geometric"];
    let run = at("dense");
    let text = stdout(&ocelli(
        &[&["pretrain", "--preset", "densecl-laptop", "--out", &run][..], &small, &geometric].concat(),
    ));
    for words in
        ["rises until the queue has turned over once (2 steps)", "dense", "top-1", "queue 100 % full", "k-NN"]
    {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }
    let rows = fs::read_to_string(Path::new(&run).join("metrics.jsonl")).unwrap();
    let rows: Vec<serde_json::Value> = rows.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let steps: Vec<_> = rows.iter().filter(|r| r["event"] == "step").collect();
    assert_eq!(steps.len(), 8);
    for row in &steps {
        let of = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key} in {row}"));
        assert!((of("loss") - 0.5 * (of("loss_global") + of("loss_dense"))).abs() < 1e-4, "{row}");
        // Places reach the method: some cells match, and those the other view does not show do not.
        assert!(of("matched") > 0.2 && of("matched") < 1.0, "{row}");
        assert!((0.0..=1.0).contains(&of("top1")) && of("queue_age") < 2.0 && row.get("kl").is_none());
    }
    assert_eq!(steps[7]["queue_fill"], 1.0);
    for picture in ["features-images", "features-0000", "features-0002", "matches", "views"] {
        assert!(Path::new(&run).join(format!("pictures/{picture}.png")).exists(), "{picture}");
    }
    let page = fs::read_to_string(Path::new(&run).join("report.html")).unwrap();
    for words in
        ["Dense loss", "Queue filled", "ln(queue + 1) =", "dense features tell apart", "choose each other"]
    {
        assert!(page.contains(words), "{words}");
    }
    assert!(!page.contains("Teacher entropy"));

    let cpu = ["--device", "cpu"];
    let knn = ["eval", "knn", "--data", "scenes:64", "--weights", &run, "--k", "5", "--json"];
    let knn: serde_json::Value = serde_json::from_str(&stdout(&ocelli(&[&knn[..], &cpu].concat()))).unwrap();
    assert!(knn["weights"]["description"].as_str().unwrap().contains("resnet-18c4 after 2 epochs"), "{knn}");
    assert_eq!(knn["weights"]["normalisation_source"], "the run's", "{knn}");
    assert_eq!((&knn["weights"]["resize_px"], &knn["weights"]["crop_px"]), (&32.into(), &32.into()), "{knn}");
    assert_eq!(knn["weights"]["mean"].as_array().unwrap().len(), 3, "{knn}");
    for (features, width) in [("cls", 32), ("mean-patch", 32), ("patches", 16 * 32)] {
        let out = at(&format!("{features}.npy"));
        let embed = ["embed", "scenes:3", "--weights", &run, "--features", features, "--out", &out];
        stdout(&ocelli(&[&embed[..], &cpu].concat()));
        // After a header of 128 bytes, four for each value.
        assert_eq!(fs::metadata(&out).unwrap().len(), 128 + 4 * 3 * width, "{features}");
    }
    let (picture, backbone, head) = (at("match.png"), at("backbone.pth"), at("head.safetensors"));
    stdout(&ocelli(
        &[&["match", "scenes:1", "--weights", &run, "--out", &picture, "--one-way"][..], &cpu].concat(),
    ));
    let views = ["--size", "32", "--images", "4"];
    let pck = ["eval", "correspondence", "--data", "scenes:8", "--weights", &run];
    assert!(stdout(&ocelli(&[&pck[..], &views, &cpu].concat())).contains("PCK"));
    let text = stdout(&ocelli(&["export", &run, "--format", "pth-layout", "--out", &backbone]));
    assert!(text.contains("the query encoder's ResNet-18"), "{text}");
    let text = stdout(&ocelli(&["export", &run, "--format", "safetensors", "--what", "head", "--out", &head]));
    assert!(text.contains("projection head, 8 tensors"), "{text}");

    // At learning rate zero the query encoder stays what it was given.
    let still = ["--set", "optim.lr=0", "--set", "optim.min_lr=0", "--set", "seed=3", "--init-from", &backbone];
    let small_stem = ["--set", "resnet.stem=cifar"];
    let next = at("moco");
    let text = stdout(&ocelli(
        &[&["pretrain", "--preset", "moco-laptop", "--out", &next][..], &small, &small_stem, &still].concat(),
    ));
    assert!(text.contains("starting from the backbone"), "{text}");
    let read = |run: &str| {
        let bytes = fs::read(Path::new(run).join("checkpoints/epoch-0002.safetensors")).unwrap();
        ocelli::models::weights::read_safetensors(&bytes).unwrap()
    };
    let (old, new) = (read(&run), read(&next));
    for name in ["conv1.weight", "layer4.1.conv2.weight", "bn1.weight"] {
        let (old, new) = (old.get(&format!("encoder_q.0.{name}")), new.get(&format!("encoder_q.{name}")));
        assert_eq!(old.unwrap(), new.unwrap(), "{name}");
    }
    let text = stdout(&ocelli(
        &[&["pretrain", "--preset", "densecl-laptop", "--dry-run"][..], &small, &geometric].concat(),
    ));
    for words in [
        "DenseCL (densecl) with resnet-18c4",
        "queue of 16 keys",
        "turned over once (2 steps)",
        "matched by place",
        "16 cells",
        "key encoder and both queues",
        "sgd",
    ] {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }
}

#[test]
fn a_picture_of_any_shape_has_attention() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    stdout(&pretrain(&run, &["--set", "epochs=1"]));
    let weights = run.display().to_string();
    for (w, h) in [(200, 33), (7, 7), (1000, 10)] {
        let path = folder.path().join(format!("{w}x{h}.png"));
        image::RgbImage::from_fn(w, h, |x, y| image::Rgb([x as u8, y as u8, 90])).save(&path).unwrap();
        let out = folder.path().join(format!("maps-{w}")).display().to_string();
        stdout(&ocelli(&["attention", &path.display().to_string(), "--weights", &weights, "--out", &out]));
    }
}

#[test]
fn the_same_seed_gives_the_same_run_for_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let losses = |name: &str, threads: &str| -> Vec<f64> {
        let run = folder.path().join(name);
        let out = run.display().to_string();
        let mut args = vec!["pretrain", "--data", "scenes:64", "--out", &out];
        args.extend(TINY);
        let loader = format!("loader.threads={threads}");
        args.extend(["--set", &loader]);
        let output = Command::new(env!("CARGO_BIN_EXE_ocelli"))
            .args(&args)
            .env("RAYON_NUM_THREADS", threads)
            .output()
            .unwrap();
        stdout(&output);
        fs::read_to_string(run.join("metrics.jsonl"))
            .unwrap()
            .lines()
            .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap())
            .filter(|r| r["event"] == "epoch")
            .map(|r| r["loss"].as_f64().unwrap())
            .collect()
    };
    assert_eq!(losses("one", "1"), losses("four", "4"), "bit for bit");
}

/// One optimizer step over two halves of a batch is the step over the whole: centre, teacher and schedules move once.
#[test]
fn accumulated_gradients_make_the_same_step() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, extra: &[&str]| {
        let run = folder.path().join(name);
        let mut args = vec!["--set", "eval.every_epochs=0", "--set", "log.every_steps=1"];
        args.extend(extra);
        stdout(&pretrain(&run, &args));
        let steps: Vec<serde_json::Value> = fs::read_to_string(run.join("metrics.jsonl"))
            .unwrap()
            .lines()
            .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap())
            .filter(|r| r["event"] == "step")
            .collect();
        let bytes = fs::read(run.join("checkpoints/epoch-0002.safetensors")).unwrap();
        (steps, ocelli::models::weights::read_safetensors(&bytes).unwrap())
    };
    let (whole, state) = run("whole", &[]);
    let (halves, halved) = run("halves", &["--set", "accumulate=2"]);
    assert_eq!((whole.len(), halves.len()), (8, 8));
    for (a, b) in whole.iter().zip(&halves) {
        for key in ["lr", "weight_decay", "momentum"] {
            assert_eq!(a[key], b[key], "{key}");
        }
        let (a, b) = (a["loss"].as_f64().unwrap(), b["loss"].as_f64().unwrap());
        assert!((a - b).abs() < 1e-3 * a, "loss {a} and {b}");
    }
    let distance = |name: &str| {
        let (a, b) = (&state.get(name).unwrap().values, &halved.get(name).unwrap().values);
        let apart: f32 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
        let size: f32 = a.iter().map(|a| a.powi(2)).sum();
        (apart / size).sqrt()
    };
    for name in
        ["dino_loss.center", "teacher.backbone.blocks.0.mlp.fc1.weight", "teacher.head.last_layer.weight_v"]
    {
        assert!(distance(name) < 1e-3, "{name}: {}", distance(name));
    }
}

#[test]
fn a_dry_run_plans_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut args = vec!["pretrain", "--data", "scenes:64", "--dry-run"];
    args.extend(TINY);
    let output = Command::new(env!("CARGO_BIN_EXE_ocelli")).args(&args).current_dir(&folder).output().unwrap();
    let text = stdout(&output);
    for words in [
        "2 crops of 64 px",
        "4 of 32 px",
        "16 images each; 4 an epoch, 2 epochs, 8 in all",
        "for parameters, gradients, moments, teacher and centre",
        "evaluation at most",
        "s a step (3 measured",
        "a checkpoint",
    ] {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn help_is_quick() {
    let quickest = (0..5)
        .map(|_| {
            let started = Instant::now();
            let text = stdout(&ocelli(&["--help"]));
            assert!(text.contains("demo") && text.contains("pretrain"));
            started.elapsed()
        })
        .min();
    assert!(quickest < Some(Duration::from_millis(50)), "{quickest:?}");
}

#[test]
fn devices_and_presets_are_listed() {
    assert!(stdout(&ocelli(&["devices", "--device", "cpu"])).contains("* cpu"));
    let list = stdout(&ocelli(&["presets"]));
    for name in ["vit-s16-100", "vit-s16-300", "vit-s16-800", "vit-s8-800", "vit-b16-400", "vit-b8-300", "laptop"]
    {
        assert!(list.contains(name), "{name}");
    }
    let printed = stdout(&ocelli(&["presets", "vit-s16-300"]));
    assert!(printed.contains("norm_last_layer = false") && printed.contains("default true"), "{printed}");
    assert!(stdout(&ocelli(&["presets", "default"])).contains("lr = 0.0005"));
}

#[test]
fn a_run_is_not_overwritten_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    stdout(&pretrain(&run, &["--set", "epochs=1"]));
    let before = fs::read(run.join("checkpoints/epoch-0001.safetensors")).unwrap();
    let output = pretrain(&run, &["--set", "epochs=1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--overwrite"));
    assert_eq!(fs::read(run.join("checkpoints/epoch-0001.safetensors")).unwrap(), before);
}
