//! Linear probes and what they leave: a whole probe, one in two parts, its place in the table, and images classified by it.

use std::fs;
use std::path::Path;
use std::process::Output;

use ocelli::models::weights::{StateDict, Weights, read_safetensors};
use serde_json::Value;

use super::command::{ocelli, refused, stdout};
use super::pretrain;

const VIT: &str = "random:vit-32x2x2/8";

/// A few seconds on 80 scenes of 64 px.
fn probe(out: &Path, extra: &[&str]) -> Output {
    let all = ["eval", "linear", "--data", "scenes:80", "--size", "64", "--device", "cpu", "--batch-size", "16"];
    let out = ["--out", out.to_str().unwrap()];
    ocelli(&[&all[..], &out, extra].concat())
}

fn read(path: &Path) -> StateDict {
    read_safetensors(&fs::read(path).unwrap()).unwrap()
}

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[test]
fn a_cached_probe_and_the_same_in_two_parts() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let cached = ["--weights", VIT, "--cached", "--epochs", "10"];
    let text = stdout(&probe(&at("whole"), &cached));
    for words in [
        "80 images",
        "protocol: dino; features: cls-2",
        "features of 80 training images, 64 numbers each",
        "another protocol than the published one",
        "10 rates side by side",
        "10 epochs instead of the 100",
        "linear top-1",
        "by learning rate:",
        "head.safetensors",
    ] {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }
    let page = fs::read_to_string(at("whole").join("report.html")).unwrap();
    for words in ["Linear top-1 accuracy", "Learning rate of the best head", "linear"] {
        assert!(page.contains(words), "{words}");
    }
    // Of the checkpoints the last two are kept.
    stdout(&probe(&at("parts"), &cached));
    fs::remove_file(at("parts").join("checkpoints/epoch-0010.safetensors")).unwrap();
    let parts = at("parts").display().to_string();
    let text =
        stdout(&ocelli(&["eval", "linear", "--resume", "--out", &parts, "--device", "cpu", "--size", "64"]));
    assert!(text.contains("going on from checkpoints/epoch-0009") && text.contains("computed again"), "{text}");
    let last = "checkpoints/epoch-0010.safetensors";
    assert_eq!(read(&at("whole").join(last)).tensors, read(&at("parts").join(last)).tensors, "to the last bit");
    assert_eq!(fs::read(at("whole").join("head.pth")).unwrap(), fs::read(at("parts").join("head.pth")).unwrap());

    // DINO's layout.
    let bytes = fs::read(at("whole").join("head.pth")).unwrap();
    let file = Weights::open(&bytes).unwrap();
    let names: Vec<&str> = file.entries().iter().map(|e| e.name.as_str()).collect();
    assert!(names.iter().all(|n| n.contains("module.linear.")) && names.len() == 2, "{names:?}");
    let head = read(&at("whole").join("head.safetensors"));
    assert_eq!(head.get("linear.weight").unwrap().shape[1], 64);
    assert_eq!(head.metadata["features"], "cls-2");

    // Other weights, another task.
    let resume = ["eval", "linear", "--resume", "--out", &parts, "--device", "cpu", "--size", "64"];
    refused(&[&resume[..], &["--weights", "random:vit-32x3x2/8"]].concat(), &["other weights", "CRC-32"]);
    refused(&["pretrain", "--resume", "--out", &parts], &["linear"]);
    let message = String::from_utf8_lossy(&probe(&at("whole"), &cached).stderr).into_owned();
    assert!(message.contains("--overwrite"), "{message}");
}

#[test]
fn augmented_views_and_json() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("linear");
    let extra =
        ["--weights", "random:resnet-18c2", "--protocol", "mae", "--epochs", "2", "--rates", "0.1", "1", "--json"];
    let all = rows(&stdout(&probe(&out, &extra)));
    let epochs: Vec<&Value> = all.iter().filter(|r| r["event"] == "epoch").collect();
    assert_eq!(epochs.len(), 2);
    let result = all.last().unwrap();
    assert_eq!(
        (&result["event"], &result["features"], &result["cached"]),
        (&"result".into(), &"mean".into(), &false.into())
    );
    let best = epochs.iter().map(|e| e["linear_top1"].as_f64().unwrap()).fold(0.0, f64::max);
    assert_eq!(result["top1"], best);
    let rates = result["rates"].as_array().unwrap();
    assert_eq!((rates.len(), rates[1]["rate"].as_f64()), (2, Some(1.0)));
    assert!(rates.iter().all(|r| (0.0..=100.0).contains(&r["top1"].as_f64().unwrap())));
}

#[test]
fn a_run_has_its_probe_in_the_table_and_its_images_classified() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("runs/first");
    stdout(&pretrain(&run, &["--set", "epochs=1", "--set", "eval.linear=true"]));
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let online = rows(&metrics).iter().find_map(|r| r["linear_online"].as_f64());
    assert!(online.is_some_and(|accuracy| (1.0..=100.0).contains(&accuracy)), "{metrics}");

    let weights = run.display().to_string();
    let cached = [
        "eval",
        "linear",
        "--data",
        "scenes:80",
        "--weights",
        &weights,
        "--cached",
        "--epochs",
        "3",
        "--device",
        "cpu",
    ];
    stdout(&ocelli(&cached));
    let json: Value = serde_json::from_str(
        stdout(&ocelli(&["table", folder.path().join("runs").to_str().unwrap(), "--format", "json"]))
            .trim_start_matches(|c| c != '{'),
    )
    .unwrap();
    let row = &json["rows"][0];
    assert!(row["linear"].as_f64().is_some_and(|v| (0.0..=100.0).contains(&v)), "{row}");
    assert!(row["linear_how"].as_str().unwrap().contains("features computed once"), "{row}");
    assert_eq!(json["rows"].as_array().unwrap().len(), 1, "the probe is in its run's row");

    let classify = ["classify", "scenes:3", "--weights", &weights, "--head", &weights, "--device", "cpu"];
    let text = stdout(&ocelli(&classify));
    assert!(text.contains("classifier: linear.weight") && text.matches(" %").count() == 15, "{text}");
    let json: Value =
        serde_json::from_str(&stdout(&ocelli(&[&classify[..], &["--json", "--top", "100"]].concat()))).unwrap();
    for image in json["images"].as_array().unwrap() {
        let classes = image["classes"].as_array().unwrap();
        let p: Vec<f64> = classes.iter().map(|c| c["probability"].as_f64().unwrap()).collect();
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-5 && p.windows(2).all(|w| w[0] >= w[1]), "{p:?}");
        assert!(classes.iter().all(|c| c["name"].is_string()));
    }
    // On other weights it is not silent.
    let other = [
        "classify",
        "scenes:1",
        "--weights",
        "random:vit-32x2x2/8",
        "--head",
        &weights,
        "--device",
        "cpu",
        "--size",
        "64",
    ];
    assert!(stdout(&ocelli(&other)).contains("trained on other weights"));
    refused(&["classify", "scenes:1", "--weights", "random:resnet-18c2", "--head", &weights], &["mean", "ResNet"]);
    // A run's own probe is its classifier; other weights have none.
    assert!(
        stdout(&ocelli(&["classify", "scenes:1", "--weights", &weights, "--device", "cpu"]))
            .contains("linear.weight")
    );
    refused(&["classify", "scenes:1", "--weights", VIT], &["--head"]);
    let names = folder.path().join("names.txt");
    fs::write(&names, "one\ntwo\n").unwrap();
    refused(&[&classify[..], &["--classes", names.to_str().unwrap()]].concat(), &["names.txt", "found 2"]);
}

#[test]
fn what_cannot_be_probed_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out").display().to_string();
    let base = ["eval", "linear", "--out", &out, "--device", "cpu", "--size", "32"];
    let with = |extra: &[&str], words: &[&str]| refused(&[&base[..], extra].concat(), words);
    with(&["--data", "scenes:20", "--weights", VIT, "--rates=-1"], &["learning rate", "-1"]);
    with(&["--data", "scenes:20", "--weights", VIT, "--features", "cls-9"], &["--features", "cls-2"]);
    with(&["--data", "scenes:20", "--weights", VIT, "--protocol", "msf"], &["--cached"]);
    with(&["--data", "scenes:20", "--weights", VIT, "--protocol", "simclr"], &["dino, moco, mae or msf"]);
    with(&["--data", "scenes:20", "--weights", VIT, "--protocol", "mae", "--cached"], &["20", "256"]);
    // One class, no class.
    let photos = folder.path().join("photos");
    for name in ["a.png", "b.png"] {
        fs::create_dir_all(&photos).unwrap();
        image::RgbImage::new(8, 8).save(photos.join(name)).unwrap();
    }
    with(&["--data", photos.to_str().unwrap(), "--weights", VIT], &["photos"]);
    assert!(!Path::new(&out).exists(), "nothing is left");
    refused(&["eval", "linear", "--data", "scenes:20", "--weights", VIT], &["--out"]);
    refused(&["eval", "linear", "--resume", "--out", &out], &["no run here"]);
}
