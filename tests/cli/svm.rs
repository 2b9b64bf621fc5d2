//! `ocelli eval svm`: multi-label sets as people have them, and what is refused.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::command::{ocelli, refused, stdout};

/// Classes and where in the picture each paints its colour.
const CLASSES: [(&str, [u8; 3]); 3] = [("lawn", [20, 230, 30]), ("rose", [240, 20, 40]), ("sky", [30, 60, 250])];

/// Whether picture `i` shows class `c`; every class is in about half of them.
fn shows(i: usize, class: usize) -> bool {
    (i * 7 + class * 5 + i * class) % 5 < 2 || i % 6 == class
}

fn picture(path: &Path, i: usize) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_fn(40, 24, |x, y| {
        let class = (x / 14) as usize;
        let level = |c: usize| ((x * 5 + y * 3 + (i * 37) as u32 * (c as u32 + 1)) % 60) as u8;
        let grey = image::Rgb([level(0), level(1), level(2)]);
        CLASSES.get(class).filter(|_| shows(i, class)).map_or(grey, |(_, colour)| image::Rgb(*colour))
    })
    .save(path)
    .unwrap();
}

const TRAIN: usize = 24;
const TEST: usize = 12;

/// A VOC folder. Its pictures 3 and 5 show a class that is too rare, and one more class is only in picture 0.
fn voc(root: &Path) {
    let mut lists = [String::new(), String::new()];
    fs::create_dir_all(root.join("Annotations")).unwrap();
    for i in 0..TRAIN + TEST {
        let id = format!("{i:06}");
        picture(&root.join(format!("JPEGImages/{id}.png")), i);
        lists[usize::from(i >= TRAIN)] += &format!("{id}\n");
        let names = CLASSES.iter().enumerate().filter(|(class, _)| shows(i, *class)).map(|(_, (name, _))| *name);
        let rare = ["moon"].into_iter().filter(|_| i == 3 || i == 5 || i == TRAIN);
        let object = |name: &str| format!("<object><name>{name}</name><difficult>0</difficult></object>\n");
        let xml = format!("<annotation>\n{}</annotation>", names.chain(rare).map(object).collect::<String>());
        fs::write(root.join(format!("Annotations/{id}.xml")), xml).unwrap();
    }
    fs::create_dir_all(root.join("ImageSets/Main")).unwrap();
    for (name, list) in ["trainval", "test"].iter().zip(&lists) {
        fs::write(root.join(format!("ImageSets/Main/{name}.txt")), list).unwrap();
    }
}

/// The same pictures with YOLO's labels.
fn yolo(root: &Path) {
    for i in 0..TRAIN + TEST {
        let part = if i < TRAIN { "train" } else { "val" };
        picture(&root.join(format!("images/{part}/{i:06}.png")), i);
        let lines = (0..CLASSES.len()).filter(|class| shows(i, *class)).map(|c| format!("{c} 0.5 0.5 0.3 1\n"));
        let labels = root.join(format!("labels/{part}"));
        fs::create_dir_all(&labels).unwrap();
        fs::write(labels.join(format!("{i:06}.txt")), lines.collect::<String>()).unwrap();
    }
    let names: Vec<&str> = CLASSES.iter().map(|(name, _)| *name).collect();
    fs::write(root.join("data.yaml"), format!("train: images/train\nval: images/val\nnames: {names:?}\n"))
        .unwrap();
}

fn args<'a>(data: &'a str, weights: &'a str, extra: &[&'a str]) -> Vec<&'a str> {
    let all = ["eval", "svm", "--data", data, "--weights", weights, "--device", "cpu"];
    all.iter().chain(extra).copied().collect()
}

fn json(data: &Path, weights: &str, extra: &[&str]) -> Value {
    let extra = [&["--json"], extra].concat();
    serde_json::from_str(&stdout(&ocelli(&args(data.to_str().unwrap(), weights, &extra)))).unwrap()
}

const VIT: &str = "random:vit-32x2x2/8";

#[test]
fn colours_are_told_apart_in_every_layout() {
    let folder = tempfile::tempdir().unwrap();
    let (voc_root, yolo_root) = (folder.path().join("VOCdevkit/VOC2007"), folder.path().join("yolo"));
    voc(&voc_root);
    yolo(&yolo_root);
    let size = ["--size", "32"];
    let by_voc = json(&folder.path().join("VOCdevkit"), VIT, &size);
    assert_eq!((&by_voc["train"], &by_voc["test"], &by_voc["dim"]), (&24.into(), &12.into(), &32.into()));
    let classes = by_voc["classes"].as_array().unwrap();
    let names: Vec<&str> = classes.iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["lawn", "rose", "sky"]);
    for class in classes {
        assert_eq!(class["cv_ap"].as_array().unwrap().len(), 19);
        let best = class["cv_ap"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).fold(0.0, f64::max);
        let (ap, chance) = (class["ap"].as_f64().unwrap(), class["chance"].as_f64().unwrap());
        assert!(best <= 100.0 && ap > chance, "bright colours are seen even by random weights: {class}");
        assert!(by_voc["costs"].as_array().unwrap().contains(&class["cost"]));
    }
    let map: f64 = classes.iter().map(|c| c["ap"].as_f64().unwrap()).sum::<f64>() / 3.0;
    assert!((map - by_voc["map"].as_f64().unwrap()).abs() < 1e-9);
    assert_eq!(by_voc["left_out"][0]["name"], "moon");
    assert_eq!(by_voc["left_out"][0]["why"], "2 training images show it; 3 folds need 3");
    assert_eq!(by_voc["data"]["train"]["folder"], "trainval");

    let by_yolo = json(&yolo_root, VIT, &size);
    assert_eq!(by_yolo["classes"], by_voc["classes"], "the same images, the same figures");
    let few = json(&yolo_root, VIT, &["--size", "32", "--costs", "1,0.01", "--fit", "crop"]);
    assert_eq!(few["classes"][0]["cv_ap"].as_array().unwrap().len(), 2);
    assert!(few["fit"].as_str().unwrap().contains("centre crop of 32 px"), "{few}");

    let text = stdout(&ocelli(&args(voc_root.to_str().unwrap(), VIT, &size)));
    for words in [
        "trainval 24 images, test 12 images, 4 classes (lawn, moon, rose, sky)",
        "VOC's annotations",
        "1 class is left out: moon: 2 training images show it",
        "short side 37 px, then squashed to 32×32 px",
        "features: the class token, 32 numbers",
        "chance",
        "over 3 of 4 classes; 24 training and 12 test images",
    ] {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }
    fs::write(voc_root.join("JPEGImages/000007.png"), "no picture").unwrap();
    let skipped = json(&voc_root, VIT, &size);
    assert_eq!(skipped["train"], 23);
    assert!(skipped["skipped"][0]["name"].as_str().unwrap().contains("000007"), "{}", skipped["skipped"]);
    let text = stdout(&ocelli(&args(voc_root.to_str().unwrap(), VIT, &size)));
    assert!(text.contains("warning: skipped 000007"), "{text}");
}

/// The published feature: the last stage pooled to 2×2.
#[test]
fn a_resnet_is_pooled_to_two_by_two() {
    let folder = tempfile::tempdir().unwrap();
    yolo(folder.path());
    let data = folder.path().to_str().unwrap();
    let net = "random:resnet-18c4";
    let found = json(folder.path(), net, &["--size", "64", "--costs", "1"]);
    assert_eq!((&found["features"], &found["dim"]), (&"res5-2x2".into(), &(4 * 32).into()));
    let mean = json(folder.path(), net, &["--size", "64", "--costs", "1", "--features", "cls"]);
    assert_eq!((&mean["features"], &mean["dim"]), (&"mean".into(), &32.into()));
    let text = stdout(&ocelli(&args(data, net, &["--size", "96", "--costs", "vissl"])));
    for words in
        ["pooled to 2×2 cells, 128 numbers", "windows of 2×2 of 3×3 cells; the published ones are 6×6 of 7×7"]
    {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }
    refused(&args(data, net, &["--size", "32"]), &["res5-2x2", "two cells each way", "32 px make 1"]);
    refused(&args(data, VIT, &["--features", "res5-2x2"]), &["expected a ResNet", "vit-32x2x2/8"]);
}

#[test]
fn bad_sets_and_settings_are_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let refuse = |data: &Path, extra: &[&str], words: &[&str]| {
        refused(&args(data.to_str().unwrap(), VIT, &[&["--size", "32"], extra].concat()), words);
    };
    refuse(&at("nowhere"), &[], &["nowhere"]);
    for class in ["cat", "dog"] {
        picture(&at("folders").join(class).join("1.png"), 1);
    }
    refuse(&at("folders"), &[], &["no labels of several classes", "ImageSets/Main", "eval low-shot"]);
    voc(&at("voc"));
    refuse(
        &at("voc"),
        &["--min-positives", "13"],
        &["none of the classes can be evaluated", "--min-positives 13"],
    );
    refuse(&at("voc"), &["--costs", "1,two"], &["openselfsup, vissl"]);
    refuse(&at("voc"), &["--costs", "0"], &["above 0"]);
    fs::write(at("voc/Annotations/000002.xml"), "<annotation>").unwrap();
    refuse(&at("voc"), &[], &["000002.xml", "not XML"]);
    fs::remove_dir_all(at("voc/ImageSets")).unwrap();
    refuse(&at("voc"), &[], &["ImageSets/Main/trainval.txt and test.txt", "no such folder"]);
    yolo(&at("yolo"));
    fs::write(at("yolo/labels/train/000004.txt"), "0 0.5 0.5 0.1 0.1\n1 0.5 x\n").unwrap();
    refuse(&at("yolo"), &[], &["000004.txt:2", "1 0.5 x"]);
    // One class alone, which every image shows.
    for (part, count) in [("train", 6), ("val", 3)] {
        for i in 0..count {
            picture(&at("one").join(format!("images/{part}/{i}.png")), i);
            let labels = at("one").join("labels").join(part);
            fs::create_dir_all(&labels).unwrap();
            fs::write(labels.join(format!("{i}.txt")), "0 0.5 0.5 1 1\n").unwrap();
        }
    }
    refuse(&at("one"), &[], &["there is one class only", "0 training images do not show it"]);
}
