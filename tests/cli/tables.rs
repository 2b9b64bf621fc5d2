//! Images a second, runs as a table, presets by table, and what is too large for this machine.

use std::fs;

use serde_json::Value;

use super::command::{ocelli, refused, stdout};
use super::pretrain;

#[test]
fn images_a_second_stand_beside_the_published_ones() {
    let small = ["bench", "--device", "cpu", "--size", "32", "--seconds", "0.05"];
    let tiny = ["--arch", "vit-32x1x2/8,resnet18c4"];
    let text = stdout(&ocelli(&[&small[..], &tiny].concat()));
    let line = |text: &str, name: &str| {
        let found = text.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
        found.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let reference = line(&text, "resnet-50 ");
    assert_eq!((reference[1].as_str(), reference[2].as_str(), reference[4].as_str()), ("RN50", "23.51", "1.000"));
    assert!(text.contains("V100") && reference.contains(&"1237".to_owned()), "{text}");
    assert!(line(&text, "vit-32x1x2/8").ends_with(&["–".to_owned(), "–".to_owned()]), "{text}");
    assert!(line(&text, "resnet-18c4")[3].parse::<f64>().unwrap() > 0.0);

    let fixed = ["--arch", "vit-32x1x2/8", "--batch", "3", "--json"];
    let json: Value = serde_json::from_str(&stdout(&ocelli(&[&small[..], &fixed].concat()))).unwrap();
    let rows = json["rows"].as_array().unwrap();
    let of = |arch: &str| rows.iter().find(|r| r["arch"] == arch).unwrap();
    assert_eq!((rows.len(), &json["device"], &json["size_px"]), (2, &"CPU".into(), &32.into()));
    assert_eq!(of("resnet-50")["parameters"], 23_508_032);
    assert_eq!(of("resnet-50")["published"]["images_per_second"], 1237);
    let tiny = of("vit-32x1x2/8");
    assert_eq!((&tiny["batch"], &tiny["published"], &tiny["refused"]), (&3.into(), &Value::Null, &Value::Null));
    let ratio =
        tiny["images_per_second"].as_f64().unwrap() / of("resnet-50")["images_per_second"].as_f64().unwrap();
    assert!((tiny["of_resnet_50"].as_f64().unwrap() / ratio - 1.0).abs() < 1e-9);
    assert!(tiny["passes"].as_u64().unwrap() >= 3 && tiny["estimated_bytes"].as_u64().unwrap() > 0);

    // 65,536 images of 4,096 px are 13 TB before the first layer.
    let large = ["--batch", "65536", "--size", "4096", "--arch", "resnet18"];
    let output = ocelli(&[&["bench", "--device", "cpu"][..], &large].concat());
    let (text, message) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{text}{message}");
    assert!(
        text.contains("refused") && message.contains("65536 images") && message.contains("--batch"),
        "{message}"
    );
    refused(&["bench", "--arch", "alexnet"], &["alexnet", "unknown architecture"]);
    refused(&["bench", "--arch", "vit-s/16", "--size", "8"], &["--size", "16 px"]);
    refused(&["bench", "--seconds=-1"], &["seconds from 0 to 3600"]);
}

#[test]
fn runs_stand_in_a_table_beside_what_is_published() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    stdout(&pretrain(&folder.path().join("runs/a"), &[]));
    // A run that says of itself that it trained what DINO's table has.
    let paper = folder.path().join("runs/paper");
    fs::create_dir_all(&paper).unwrap();
    fs::write(paper.join("metrics.jsonl"), "{\"event\":\"epoch\",\"epoch\":299,\"loss\":2.5,\"wall_s\":9.0}\n")
        .unwrap();
    fs::write(paper.join("config.toml"), "method = \"dino\"\narch = \"vit-s/16\"\nepochs = 300\nbatch_size = 8\n")
        .unwrap();
    fs::write(paper.join("manifest.json"), "{\"ocelli\": \"0.0.9\", \"data\": \"imagenet\"}").unwrap();

    let runs = at("runs");
    let text = stdout(&ocelli(&["table", &runs]));
    let line = |name: &str| text.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
    assert!(line("a ").contains("vit-32x2x2/8") && line("a ").contains("scenes:64"), "{text}");
    assert!(line("paper ").contains("76.0") && line("paper ").contains("21.67"), "{text}");
    assert!(line("paper ").contains("DINO, ImageNet, 300 epochs") && line("paper ").contains("1007"), "{text}");
    assert!(line("paper lacks").contains("k-NN") && text.contains("made with Ocelli 0.0.9"), "{text}");
    assert!(text.contains("│ published") && line("a lacks").contains("linear"), "{text}");

    let bench = at("bench.json");
    fs::write(
        &bench,
        "{\"device\":\"CPU\",\"size_px\":224,\"rows\":[{\"arch\":\"vit-s/16\",\"images_per_second\":31.5}]}",
    )
    .unwrap();
    let json: Value =
        serde_json::from_str(&stdout(&ocelli(&["table", &runs, "--format", "json", "--bench", &bench]))).unwrap();
    let rows = json["rows"].as_array().unwrap();
    let of = |name: &str| rows.iter().find(|r| r["run"] == name).unwrap();
    assert_eq!((rows.len(), &of("paper")["images_per_second"]), (2, &31.5.into()));
    assert!(of("a")["knn"].is_number() && of("a")["published"].is_null() && of("a")["seed"] == 0, "{json}");
    assert_eq!(of("paper")["published"]["knn"], 73.3);
    for (name, words) in [("t.md", "| a | DINO |"), ("t.json", "ocelli_table"), ("t.html", "class=\"sorts\"")] {
        let out = at(name);
        for _ in 0..2 {
            stdout(&ocelli(&["table", &runs, "--out", &out]));
        }
        assert!(fs::read_to_string(&out).unwrap().contains(words), "{name}");
        fs::write(&out, "mine").unwrap();
        refused(&["table", &runs, "--out", &out], &[name, "found another"]);
        assert_eq!(fs::read_to_string(&out).unwrap(), "mine");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5, "no file is left beside them");
    refused(&["table", &at("nowhere")], &["nowhere", "found none"]);
    refused(&["table", &runs, "--out", &at("t.txt")], &[".html"]);
    refused(&["table", &runs, "--bench", &at("t.md")], &["ocelli bench --json"]);
}

/// One command trains several methods, keeps what is finished, and refuses to mix budgets.
#[test]
fn methods_are_compared_with_one_budget() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("runs").display().to_string();
    let table = folder.path().join("table.md").display().to_string();
    let compare_on = |data: &str, more: &[&str]| {
        let start = ["compare", "--data", data, "--device", "cpu", "--out", &out, "--methods", "simclr,barlow"];
        let small = ["--arch", "resnet-18c4", "--set", "batch_size=8", "--set", "views.global_size_px=32"];
        let eval =
            ["--set", "eval.every_epochs=1", "--set", "optim.warmup_epochs=0", "--set", "watch.collapse=off"];
        ocelli(&[&start[..], &small, &eval, more].concat())
    };
    let compare = |more: &[&str]| compare_on("scenes:40", more);
    let planned = stdout(&compare(&["--epochs", "1", "--dry-run"]));
    assert!(planned.contains("simclr-laptop") && planned.contains("barlow-laptop"), "{planned}");
    assert!(!folder.path().join("runs").exists());

    let text = stdout(&compare(&["--epochs", "1", "--again", "1", "--table", &table]));
    assert!(text.contains("1 of 2: SimCLR") && text.contains("again, 1 of 1"), "{text}");
    let written = fs::read_to_string(&table).unwrap();
    assert_eq!(written, fs::read_to_string(folder.path().join("runs/table.md")).unwrap());
    assert!(folder.path().join("runs/table.html").is_file());
    for column in ["k-NN", "untrained", "pixels", "s/epoch", "memory", "seed"] {
        assert!(written.contains(&format!("| {column} |")), "{column}: {written}");
    }
    let seeds = |seed: &str| written.lines().filter(|l| l.contains(&format!(" MB | {seed} |"))).count();
    assert_eq!((seeds("0"), seeds("1")), (2, 1), "{written}");

    let rows = |output| {
        let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
        json["rows"].as_array().unwrap().clone()
    };
    let again = rows(compare(&["--epochs", "1", "--json"]));
    assert_eq!(again.len(), 3);
    for row in &again {
        assert!(
            row["knn_untrained"].as_f64().unwrap() > 0.0 && row["knn_pixels"].as_f64().unwrap() > 0.0,
            "{row}"
        );
        assert!(row["memory_bytes"].as_f64().unwrap() > 1e6 && row["epoch_s"].as_f64().unwrap() > 0.0, "{row}");
    }
    let kept = stdout(&compare(&["--epochs", "1"]));
    assert_eq!(kept.matches("finished before").count(), 2, "{kept}");
    let other = compare(&["--epochs", "2"]);
    assert_eq!(other.status.code(), Some(2));
    let message = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(message.contains("epochs = 2") && message.contains("found 1"), "{message}");
    let elsewhere = compare_on("scenes:48", &["--epochs", "1"]);
    assert_eq!(elsewhere.status.code(), Some(2));
    let message = String::from_utf8_lossy(&elsewhere.stderr).into_owned();
    assert!(message.contains("scenes:48") && message.contains("found one on scenes:40"), "{message}");
    refused(&["compare", "--data", "scenes:40", "--methods", "alexnet"], &["alexnet"]);
}

#[test]
fn presets_stand_in_the_tables_they_make() {
    let list = stdout(&ocelli(&["presets"]));
    let (dino, rest) = list.split_once("\nDenseCL").unwrap();
    let line = |text: &str, name: &str| {
        let found =
            text.lines().find(|l| l.trim_start().starts_with(name)).unwrap_or_else(|| panic!("{name}: {list}"));
        found.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let row = ["vit-s16-800", "DINO", "vit-s/16", "21", "1007", "ImageNet", "800", "77.0", "74.5"];
    assert_eq!(line(dino, "vit-s16-800"), row);
    assert_eq!(line(dino, "byol-r200w2-1000")[3..5], ["250", "123"]);
    let row = ["densecl-r101-200", "DenseCL", "resnet-101", "ImageNet", "200", "61.3", "74.1"];
    assert_eq!(line(rest, "densecl-r101-200"), row);
    assert!(rest.contains("Others") && rest.contains("laptop"), "{list}");
    let (_, transfer) = rest.split_once("\nDetection").unwrap();
    assert!(transfer.contains("voc-24k") && transfer.contains("cityscapes-40k"), "{list}");
    let printed = |name: &str| stdout(&ocelli(&["presets", name]));
    assert!(printed("voc-24k").contains("iterations = 24000"));
    // Two tasks have a recipe of this name.
    assert!(
        printed("laptop").contains("[views]")
            && printed("segmentation/laptop").contains("auxiliary_channels = 64")
    );
}

/// RN50w5's weights, gradients and moments alone are 7 GB; with 256 images nothing here is large enough.
#[test]
fn a_plan_says_when_there_is_not_enough_memory() {
    let args =
        ["pretrain", "--method", "vicreg", "--arch", "resnet-50x5", "--data", "scenes:4096", "--device", "cpu"];
    let sets = ["--dry-run", "--set", "batch_size=4096"];
    let output = ocelli(&[&args[..], &sets].concat());
    let (text, message) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{text}{message}");
    for words in ["586.45 M parameters", "nothing was built", "7.0 GB", "4096 images at a time"] {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }
    assert!(message.contains("of memory or more") && message.contains("free on this machine"), "{message}");
    assert!(message.contains("accumulate"), "{message}");
}
