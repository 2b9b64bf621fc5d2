//! Fine-tuning a classifier: a whole run, one that is taken up in the middle of an epoch, and what cannot be trained.

use std::fs;
use std::path::Path;

use ocelli::models::weights::{StateDict, Weights, read_safetensors};
use serde_json::Value;

use super::command::{ocelli, refused, stdout};
use super::pretrain;

/// A few seconds on 64 scenes.
const SMALL: &str = "--device cpu --epochs 3 --set batch_size=16 --set optim.warmup_epochs=1 --set optim.lr=0.01 \
                     --set log.every_steps=2";

fn finetune(data: &str, weights: &str, out: &Path, extra: &[&str]) -> std::process::Output {
    let mut args =
        vec!["finetune", "classification", "--data", data, "--weights", weights, "--out", out.to_str().unwrap()];
    args.extend(SMALL.split_whitespace());
    args.extend(extra);
    ocelli(&args)
}

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn read(path: &Path) -> StateDict {
    read_safetensors(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn from_weights_to_a_classifier_and_the_same_in_two_parts() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    stdout(&pretrain(&at("first"), &["--set", "epochs=1", "--set", "eval.every_epochs=0"]));
    let first = at("first").display().to_string();

    let text = stdout(&finetune("scenes:64", &first, &at("whole"), &[]));
    for words in [
        "normalisation: ImageNet's mean and std (the run's); size: short side 64 px, centre crop of 64 px",
        "starting from the teacher backbone",
        "64 images, 3 epochs of 4 steps",
        "images and targets are mixed",
        "top-1",
        "held-out top-1",
        "best top-1",
        "classifier.safetensors (after epoch",
    ] {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }
    let told = rows(&fs::read_to_string(at("whole").join("metrics.jsonl")).unwrap());
    let epochs: Vec<&Value> = told.iter().filter(|r| r["event"] == "epoch").collect();
    assert_eq!(epochs.len(), 3);
    assert!(
        epochs
            .iter()
            .all(|e| (0.0..=100.0).contains(&e["top1_val"].as_f64().unwrap()) && e["top5_val"].is_number())
    );
    assert!(epochs.iter().all(|e| e["loss"].as_f64().unwrap() > 0.0 && e["knn"].is_null()));
    let best = epochs.iter().map(|e| e["top1_val"].as_f64().unwrap()).fold(0.0, f64::max);
    let finished = told.iter().find(|r| r["event"] == "finished").unwrap();
    assert_eq!(finished["best"]["accuracy"], best);
    let page = fs::read_to_string(at("whole").join("report.html")).unwrap();
    for words in ["Top-1 accuracy", "Best top-1 accuracy", "Top-5 accuracy", "Top-1 of the batch", "supervised"] {
        assert!(page.contains(words), "{words}");
    }

    // The same in two parts, with a checkpoint after every step to choose from.
    let busy = ["--set", "log.checkpoint_every_minutes=0.000001", "--set", "log.keep_checkpoints=100"];
    stdout(&finetune("scenes:64", &first, &at("parts"), &busy));
    let mut files: Vec<_> =
        fs::read_dir(at("parts").join("checkpoints")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let middle = files.iter().position(|f| f.ends_with("epoch-0001_step-000002.safetensors")).unwrap();
    files[middle + 1..].iter().for_each(|file| fs::remove_file(file).unwrap());
    let resume = ["finetune", "classification", "--resume", "--device", "cpu", "--out"];
    let text = stdout(&ocelli(&[&resume[..], &[at("parts").to_str().unwrap()]].concat()));
    assert!(text.contains("going on from checkpoints/epoch-0001_step-000002.safetensors after 6 steps"), "{text}");
    let last = "checkpoints/epoch-0003.safetensors";
    let (whole, parts) = (read(&at("whole").join(last)), read(&at("parts").join(last)));
    assert_eq!(whole.tensors, parts.tensors, "bit for bit");

    // The best classifier, in timm's names, with what is known of it.
    let kept = read(&at("whole").join("classifier.safetensors"));
    assert_eq!(kept.tensors, read(&at("parts").join("classifier.safetensors")).tensors);
    assert_eq!(kept.get("head.weight").unwrap().shape, [10, 32]);
    assert!(kept.get("blocks.1.mlp.fc2.bias").is_some() && kept.get("backbone.cls_token").is_none());
    let classes: Vec<String> = serde_json::from_str(&kept.metadata["classes"]).unwrap();
    assert_eq!(classes.len(), 10);
    assert!(kept.metadata["accuracy"].contains(&format!("top-1 {best:.2} %")), "{:?}", kept.metadata["accuracy"]);
    assert_eq!(kept.metadata["arch"], "vit-32x2x2/8");
    let bytes = fs::read(at("whole").join("classifier.safetensors")).unwrap();
    assert_eq!(Weights::open(&bytes).unwrap().layout().networks[0].classes, Some(10));
    // It is a backbone as any other.
    for weights in ["whole", "whole/classifier.safetensors"] {
        let weights = at(weights).display().to_string();
        let knn =
            ["eval", "knn", "--data", "scenes:64", "--k", "5", "--json", "--device", "cpu", "--weights", &weights];
        let report: Value = serde_json::from_str(&stdout(&ocelli(&knn))).unwrap();
        assert_eq!(report["weights"]["crop_px"], 64, "{report}");
    }

    // Each command goes on with its own runs.
    let whole = at("whole").display().to_string();
    refused(
        &["pretrain", "--resume", "--out", &whole],
        &["task", "\"classification\"", "ocelli finetune classification"],
    );
    refused(&["finetune", "classification", "--resume", "--out", &first], &["task", "ocelli pretrain"]);
    let again = ["--set", "optim.lr=1"];
    refused(
        &[&resume[..], &[whole.as_str()], &again[..]].concat(),
        &["optim.lr: was 0.01, now 1", "ocelli finetune classification --weights"],
    );
    let output = finetune("scenes:64", &first, &at("whole"), &[]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--overwrite"));
}

#[test]
fn programs_can_read_along() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let quick = ["--size", "32", "--set", "eval.max_test=20", "--json"];
    let weights = "random:resnet-18c4";
    let text = stdout(&finetune("scenes:64", weights, &out, &[&quick[..], &["--dry-run"]].concat()));
    let plan: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&plan["numbers"]["task"], &plan["numbers"]["steps_per_epoch"]),
        (&"classification".into(), &4.into())
    );
    assert!(plan["data"].as_str().unwrap().contains("top-1 accuracy on 20 held out, 10 classes"), "{plan}");
    assert!(!out.exists());
    let told = rows(&stdout(&finetune("scenes:64", weights, &out, &quick)));
    let events: Vec<&str> = told.iter().map(|r| r["event"].as_str().unwrap()).collect();
    assert_eq!((events[0], events[1], *events.last().unwrap()), ("understood", "started", "finished"));
    assert_eq!(events.iter().filter(|e| **e == "epoch").count(), 3);
    assert_eq!(told[1]["task"], "classification");
    assert_eq!(told[0]["understood"]["held_out"], 100);
    let kept = read(&out.join("classifier.safetensors"));
    assert_eq!(kept.get("fc.weight").unwrap().shape, [10, 32]);
    assert!(kept.get("layer4.1.conv2.weight").is_some());
    let manifest: Value = serde_json::from_slice(&fs::read(out.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["understood"]["classes"].as_array().unwrap().len(), 10);
}

#[test]
fn what_cannot_be_fine_tuned_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let picture = |path: &Path, level: u8| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::from_pixel(40, 40, image::Rgb([level, 90, 20])).save(path).unwrap();
    };
    for i in 0..20 {
        picture(&at(&format!("flat/{i}.png")), i);
        picture(&at(&format!("one/train/ant/{i}.png")), i);
        for class in ["ant", "bee"] {
            picture(&at(&format!("two/{class}/{i}.png")), 10 * i);
        }
    }
    let out = at("run");
    let small = "random:vit-32x1x2/8";
    let with = |data: &str, weights: &str, extra: &[&str], words: &[&str]| {
        let output = finetune(data, weights, &out, extra);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{message}");
        for word in words {
            assert!(message.contains(word), "expected \"{word}\" in: {message}");
        }
        assert!(!out.exists() && !message.contains("panicked"), "{message}");
    };
    let (flat, one, two) =
        (at("flat").display().to_string(), at("one").display().to_string(), at("two").display().to_string());
    with(&flat, small, &[], &["learns from labels", "two classes or more", "images without classes"]);
    with(&one, small, &[], &["learns from labels", "two classes or more"]);
    with(&two, "nowhere.pth", &[], &["nowhere.pth", "expected weights"]);
    with(&two, small, &["--set", "method=dino"], &["dino"]);
    with(&two, small, &["--set", "task=pretraining"], &["task", "\"classification\""]);
    with(&two, small, &["--set", "batch_size=64"], &["36 images", "batch of 64"]);
    with(&two, small, &["--set", "supervised.layer_decay=0"], &["supervised.layer_decay", "above 0"]);
    with(&two, small, &["--set", "supervised.mix.prob=2"], &["supervised.mix.prob", "0 to 1"]);
    with(&two, small, &["--set", "views.randaugment=11"], &["views.randaugment", "0 to 10"]);
    with(&two, small, &["--set", "views.local_crops=2"], &["views.local_crops", "one view"]);
    with(&two, small, &["--preset", "laptop"], &["method"]);
    // Weights of another shape than somebody wants.
    stdout(&pretrain(&at("first"), &["--set", "epochs=1", "--set", "eval.every_epochs=0"]));
    let first = at("first").display().to_string();
    with(&two, &first, &["--set", "arch=vit-48x3x2/8"], &["missing", "blocks.2.", "[48, 3, 8, 8]"]);
    with(&two, &first, &["--set", "arch=resnet-18c4"], &["expected the weights of a ResNet"]);
    // Of the held-out tenth of two small classes something is left to train on.
    let text = stdout(&finetune(
        &two,
        small,
        &out,
        &["--size", "32", "--set", "epochs=1", "--set", "optim.warmup_epochs=0"],
    ));
    assert!(text.contains("every tenth image is held out, 4 of 40"), "{text}");

    let supervised = ["pretrain", "--preset", "supervised-laptop", "--device", "cpu", "--out", "x", "--data"];
    refused(&[&supervised[..], &[flat.as_str()]].concat(), &["learns from labels", "images without classes"]);
    let pretrain = ["pretrain", "--preset", "finetune", "--out", "x", "--data", two.as_str()];
    refused(&pretrain, &["task", "ocelli finetune classification"]);
    refused(
        &["pretrain", "--data", &two, "--out", "x", "--set", "views.erase=0.5"],
        &["views.erase", "dino do not leave it open"],
    );
}
