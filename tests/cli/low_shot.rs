//! `ocelli eval low-shot`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::command::{ocelli, refused, stdout};

const CLASSES: [(&str, [u8; 3]); 3] = [("lawn", [20, 220, 30]), ("rose", [230, 20, 40]), ("sky", [30, 60, 240])];

/// Pictures of one colour each, a little different every time.
fn fill(folder: &Path, class: usize, count: usize) {
    let (name, colour) = CLASSES[class];
    fs::create_dir_all(folder.join(name)).unwrap();
    for i in 0..count {
        let level = |x: u32, y: u32, c: usize| {
            colour[c].saturating_add(((x * 3 + y * 5) as usize + i * 7 * (c + 1)) as u8 % 16)
        };
        image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([level(x, y, 0), level(x, y, 1), level(x, y, 2)]))
            .save(folder.join(name).join(format!("{name}-{i}.png")))
            .unwrap();
    }
}

fn args<'a>(data: &'a Path, extra: &[&'a str]) -> Vec<&'a str> {
    let all = ["eval", "low-shot", "--data", data.to_str().unwrap(), "--weights", "random:vit-32x2x2/8"];
    all.iter().chain(&["--size", "32", "--device", "cpu"]).chain(extra).copied().collect()
}

fn json(data: &Path, extra: &[&str]) -> Value {
    serde_json::from_str(&stdout(&ocelli(&args(data, &[&["--json"], extra].concat())))).unwrap()
}

#[test]
fn a_few_labels_tell_colours_apart() {
    let folder = tempfile::tempdir().unwrap();
    for class in 0..3 {
        fill(&folder.path().join("train"), class, 20);
        fill(&folder.path().join("val"), class, 4);
    }
    let found = json(folder.path(), &[]);
    let results = found["results"].as_array().unwrap();
    assert_eq!((results.len(), &found["test"], &found["classes"]), (2, &12.into(), &3.into()));
    assert_eq!(results[0]["images"], serde_json::json!([3, 3, 3]), "one of each class at least");
    assert_eq!(results[1]["images"], serde_json::json!([6, 6, 6]));
    for row in results {
        assert_eq!(
            (&row["lambda_times_n"], &row["top1"], &row["top1_std"]),
            (&0.1.into(), &100.0.into(), &0.0.into())
        );
        assert!(row["top5"].is_null(), "three classes are always among five");
    }
    assert_eq!(json(folder.path(), &[]), found, "the same seed draws the same");

    let text =
        stdout(&ocelli(&args(folder.path(), &["--per-class", "1", "5", "--lambda", "0.1", "1", "--draws", "2"])));
    for words in [
        "3 classes, 12 test images",
        "1 image of each class, 3 images, λ·n 0.1:  top-1",
        "5 images of each class, 15 images, λ·n 1:  top-1 100.0 % ± 0.0  (2 draws)",
    ] {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }
    // A list, an image of it that cannot be read, and a class without any.
    let list = folder.path().join("one.txt");
    fs::write(&list, "lawn/lawn-3.png\nrose-1.png\nrose-2.png\n").unwrap();
    fs::write(folder.path().join("train/rose/rose-2.png"), "no picture").unwrap();
    let listed = ["--list", list.to_str().unwrap()];
    let found = json(folder.path(), &listed);
    let row = &found["results"][0];
    assert_eq!((&row["images"], &row["classes_without_images"]), (&serde_json::json!([2]), &1.into()));
    assert!(row["top1"].as_f64().unwrap() <= 67.0 && row["top1_std"].is_null(), "no sky was learnt: {row}");
    assert!(found["skipped"][0]["name"].as_str().unwrap().contains("rose-2"));
    let text = stdout(&ocelli(&args(folder.path(), &listed)));
    for words in ["warning: skipped rose/rose-2.png", "1 classes have no image there"] {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }
    fs::write(&list, "lawn/lawn-3.png\ntulip.png\n").unwrap();
    refused(&args(folder.path(), &listed), &["one.txt:2", "tulip.png", "lawn/lawn-0.png"]);
    for (extra, words) in [
        (&["--share", "0"][..], ["--share", "above 0"]),
        (&["--share", "101"], ["--share", "up to 100"]),
        (&["--lambda", "-1"], ["--lambda", "-1"]),
        (&["--lambda", "0"], ["--lambda", "above 0"]),
        (&["--draws", "0"], ["--draws", "at least 1"]),
        (&["--per-class", "0"], ["--per-class", "at least 1"]),
        (&["--share", "1", "--per-class", "2"], ["--share", "--per-class"]),
        (&["--list", "nowhere.txt"], ["--list", "nowhere.txt"]),
    ] {
        refused(&args(folder.path(), extra), &words);
    }
}

#[test]
fn sets_without_two_classes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fill(&at("one/train"), 0, 4);
    fill(&at("one/val"), 0, 2);
    refused(&args(&at("one"), &[]), &["labelled images"]);
    fill(&at("flat"), 1, 4);
    refused(&args(&at("flat").join("rose"), &[]), &["expected labelled images", "a folder for each class"]);
}
