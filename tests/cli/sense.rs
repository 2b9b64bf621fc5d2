//! What a person writes that is no mistake for certain, or nearly right: warnings, hints, files of other programs.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::TINY;
use super::command::{ocelli, refused, stdout};
use super::transfer::{DETECTION, SEGMENTATION};

/// The plan of a run with these flags, and the warnings it has as fields.
fn planned(command: &[&str], flags: &[&str]) -> (String, Vec<String>) {
    let text = stdout(&ocelli(&[command, flags, &["--dry-run"]].concat()));
    let json = stdout(&ocelli(&[command, flags, &["--dry-run", "--json"]].concat()));
    let plan: Value = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}: {json}"));
    let warnings = plan["warnings"].as_array().unwrap_or_else(|| panic!("no warnings in {plan}"));
    (text, warnings.iter().map(|w| w.as_str().unwrap().to_owned()).collect())
}

#[test]
fn numbers_that_make_no_sense_together_are_said() {
    let pretrain = [&["pretrain", "--data", "scenes:64"], &TINY[..]].concat();
    assert_eq!(planned(&pretrain, &[]).1, Vec::<String>::new());
    let sets = [
        "optim.warmup_epochs=5",
        "dino.warmup_teacher_temp_epochs=30",
        "log.checkpoint_every_epochs=9",
        "eval.every_epochs=7",
        "views.global_size_px=128",
    ];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let (text, warnings) = planned(&pretrain, &sets);
    let words = [
        "optim.warmup_epochs is 5 and the run has 2 epochs",
        "eval.every_epochs is 7",
        "log.checkpoint_every_epochs is 9",
        "dino.warmup_teacher_temp_epochs (epochs of its warm-up) is 30",
        "views.global_size_px is 128 and the pictures have 64 px at most",
    ];
    assert_eq!(warnings.len(), words.len(), "{warnings:?}");
    for (warning, words) in warnings.iter().zip(words) {
        assert!(warning.starts_with(words), "expected \"{words}\" in: {warning}");
        assert!(text.contains(&format!("  warning    {warning}")), "expected \"{warning}\" in: {text}");
    }

    // A run says them once, to people and as rows.
    let folder = tempfile::tempdir().unwrap();
    let out = |name: &str| folder.path().join(name).display().to_string();
    let few = ["--set", "optim.warmup_epochs=5", "--epochs", "1"];
    let few = [&["pretrain", "--data", "scenes:18"], &TINY[..6], &TINY[8..], &few[..]].concat();
    let text = stdout(&ocelli(&[&few[..], &["--out", &out("a")]].concat()));
    let rows = stdout(&ocelli(&[&few[..], &["--out", &out("b"), "--json"]].concat()));
    for words in
        ["optim.warmup_epochs is 5 and the run has 1 epoch:", "k = 20 is more than the 18 neighbours there are"]
    {
        assert_eq!(text.matches(&format!("warning: {words}")).count(), 1, "{words}: {text}");
        let is_it = |row: &Value| {
            row["event"] == "warning" && row["message"].as_str().is_some_and(|message| message.starts_with(words))
        };
        let rows = rows.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        assert_eq!(rows.filter(is_it).count(), 1, "{words}");
    }

    // Fine-tuning that counts steps.
    for (task, flags, set, words) in [
        (
            "detection",
            DETECTION,
            "optim.warmup_iterations=100",
            "optim.warmup_iterations is 100 and the run has 4 steps",
        ),
        ("detection", DETECTION, "optim.milestones=[2,9]", "of optim.milestones 9 come after the run's 4 steps"),
        (
            "segmentation",
            SEGMENTATION,
            "optim.warmup_iterations=4",
            "optim.warmup_iterations is 4 and the run has 4 steps",
        ),
    ] {
        let flags: Vec<&str> = flags.split_whitespace().collect();
        let (text, warnings) = planned(&["finetune", task], &[&flags[..], &["--set", set]].concat());
        assert!(warnings.iter().any(|w| w.starts_with(words)), "{task}: {warnings:?}");
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn more_neighbours_than_there_are_is_said() {
    let knn = [
        "eval",
        "knn",
        "--data",
        "scenes:64",
        "--weights",
        "random:vit-32x1x2/8",
        "--size",
        "64",
        "--device",
        "cpu",
    ];
    let text = stdout(&ocelli(&[&knn[..], &["--k", "5", "64", "200"]].concat()));
    assert!(text.contains("warning: k = 200 is more than the 64 neighbours there are"), "{text}");
    let json = stdout(&ocelli(&[&knn[..], &["--k", "5", "65", "200", "--json"]].concat()));
    let report: Value = serde_json::from_str(&json).unwrap();
    assert!(report["warnings"][0].as_str().unwrap().starts_with("k = 65, 200 is more"), "{report}");
    assert!(!stdout(&ocelli(&[&knn[..], &["--k", "5"]].concat())).contains("warning"));
}

#[test]
fn keys_are_found_wherever_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run").display().to_string();
    let detection: Vec<&str> = DETECTION.split_whitespace().collect();
    let segmentation: Vec<&str> = SEGMENTATION.split_whitespace().collect();
    let classification =
        ["--data", "scenes:64", "--weights", "random:vit-32x1x2/8", "--size", "64", "--device", "cpu"];
    let commands = [
        [&["pretrain", "--data", "scenes:64"], &TINY[..]].concat(),
        [&["finetune", "classification"], &classification[..]].concat(),
        [&["finetune", "detection"], &detection[..]].concat(),
        [&["finetune", "segmentation"], &segmentation[..]].concat(),
    ];
    for command in &commands {
        let with = |set: &'static str| [&command[..], &["--out", &out, "--set", set]].concat();
        refused(&with("lr=0.1"), &["unknown key \"lr\" in --set lr=0.1; did you mean \"optim.lr\"?"]);
        refused(&with("optim.prefetch=1"), &["did you mean \"loader.prefetch\"?"]);
        refused(&with("optim.weight_decy=1"), &["did you mean \"optim.weight_decay\"?"]);
        refused(&with("lg.every_steps=1"), &["did you mean \"log.every_steps\"?"]);
    }
    refused(&[&commands[0][..], &["--out", &out, "--set", "out_dim=64"]].concat(), &["\"dino.head.out_dim\"?"]);
    assert!(!Path::new(&out).exists());
}

/// Files as Windows' programs save them, and what is no file of ours.
#[test]
fn configurations_of_other_programs() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let utf16 = |text: &str| {
        std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect::<Vec<u8>>()
    };
    let text = "# Größe\r\nepochs = 3\r\n";
    let small = ["--arch", "vit-32x2x2/8", "--set", "batch_size=16", "--set", "dino.head.out_dim=64"];
    let small =
        [&small[..], &["--set", "optim.warmup_epochs=1", "--preset", "laptop", "--device", "cpu"]].concat();
    let pretrain = [&["pretrain", "--data", "scenes:64", "--dry-run", "--json"], &small[..]].concat();
    for file in
        [at("powershell.toml", &utf16(text)), at("notepad.toml", &[b"\xef\xbb\xbf", text.as_bytes()].concat())]
    {
        let plan: Value =
            serde_json::from_str(&stdout(&ocelli(&[&pretrain[..], &["--config", &file]].concat()))).unwrap();
        assert_eq!(plan["numbers"]["epochs"], 3, "{file}");
    }
    for (file, words) in [
        (at("model.safetensors.index.json", b"{\"weight_map\": {}}"), &["TOML", "shards", "--init-from"][..]),
        (at("config.json", b"{\"model_type\": \"vit\"}"), &["Hugging Face"]),
        (at("latin.toml", b"# Gr\xf6\xdfe\n"), &["line 1", "Save it as UTF-8"]),
        (at("bare.toml", &utf16(text)[2..]), &["UTF-16 without a mark"]),
        (folder.path().display().to_string(), &["found a folder"]),
    ] {
        refused(&[&pretrain[..], &["--config", &file]].concat(), &[&[file.as_str()][..], words].concat());
    }
}

/// What holds pictures but is no folder of them.
#[test]
fn data_of_other_programs() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let out = folder.path().join("run").display().to_string();
    at("imagenet/train/data-00000-of-00001.arrow", b"ARROW1");
    at("imagenet/dataset_dict.json", b"{}");
    at("hub/data/train-00000-of-00001.parquet", b"PAR1");
    at("shards/0000.tar", b"");
    let below = |name: &str| folder.path().join(name).display().to_string();
    for (data, words) in [
        (at("photos.zip", b"PK\x03\x04"), &["an archive", "unpack it first"][..]),
        (at("photos.tar.gz", b"\x1f\x8b"), &["unpack it first"]),
        (at("mnist.npz", b"PK\x03\x04"), &["arrays"]),
        (at("train.parquet", b"PAR1"), &["Hugging Face", "export"]),
        (at("vit.safetensors", b""), &["--weights"]),
        (at("list.txt", b"a.jpg"), &["the folder of the images"]),
        (below("imagenet"), &["data-00000-of-00001.arrow", "Hugging Face", "export"]),
        (below("hub"), &["train-00000-of-00001.parquet", "Hugging Face"]),
        (below("shards"), &["0000.tar", "unpack it first"]),
    ] {
        refused(
            &["pretrain", "--data", &data, "--out", &out, "--device", "cpu"],
            &[&[data.as_str()][..], words].concat(),
        );
    }
    assert!(!Path::new(&out).exists());
}
