//! What the commands make of a data set, as a person sees it. How folders are understood is tested in `ocelli-data`.

use std::fs;
use std::path::Path;

use super::command::{ocelli, refused, stdout};
use super::pretrain;

/// A picture unlike the others: a pattern of its number.
fn picture(path: &Path, number: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let level =
        |x: u32, y: u32, c: u32| (x * (3 + number) + y * (7 * c + number * number) + 31 * number * c) as u8;
    image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([level(x, y, 0), level(x, y, 1), level(x, y, 2)]))
        .save(path)
        .unwrap();
}

/// Pictures of a class from a number on that is its own.
fn fill(root: &Path, folder: &str, class: u32, count: u32) {
    for i in 0..count {
        picture(&root.join(folder).join(format!("{i}.png")), class * 20 + i);
    }
}

fn of(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Every held-out picture is a copy of a training picture, so its nearest neighbour is itself, whichever classes val has.
#[test]
fn copies_are_found_whichever_classes_val_has() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let run = at("run");
    stdout(&pretrain(&run, &["--set", "epochs=1", "--set", "eval.every_epochs=0"]));
    let knn = |data: &str, extra: &[&str]| {
        let data = at(data);
        let args = [
            "eval",
            "knn",
            "--data",
            of(&data),
            "--weights",
            of(&run),
            "--k",
            "1",
            "--resize",
            "32",
            "--crop",
            "32",
        ];
        stdout(&ocelli(&[&args[..], &["--device", "cpu"], extra].concat()))
    };
    let names = ["ant", "bee", "cat", "dog"];
    let made = |name: &str, train: &[u32], val: &[u32]| {
        for class in train {
            fill(&at(name), &format!("train/{}", names[*class as usize]), *class, 4);
        }
        for class in val {
            fill(&at(name), &format!("Validation/{}", names[*class as usize]), *class, 2);
        }
    };
    made("alike", &[0, 1, 2, 3], &[0, 1, 2, 3]);
    made("lacks", &[0, 1, 2, 3], &[0, 2, 3]);
    made("more", &[1, 2, 3], &[0, 1, 2, 3]);
    fs::create_dir_all(at("lacks/Validation/bee")).unwrap();
    picture(&at("lacks/train/.ipynb_checkpoints/0-checkpoint.png"), 3);

    let text = knn("alike", &[]);
    assert!(text.contains("data: train 16 images, Validation 8 images, 4 classes (ant, bee, cat, dog)"), "{text}");
    assert!(text.contains("top-1 100.0 %"), "{text}");
    let text = knn("lacks", &[]);
    assert!(
        text.contains("top-1 100.0 %") && text.contains("1 hidden folder (train/.ipynb_checkpoints)"),
        "{text}"
    );
    let text = knn("more", &[]);
    assert!(text.contains("1 class of Validation is not in train: ant (2 images)"), "{text}");
    assert!(text.contains("2 of the queries are of classes that no neighbour has"), "{text}");
    assert!(text.contains("top-1  75.0 %"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&knn("more", &["--json"])).unwrap();
    assert_eq!((&json["data"]["train"]["images"], &json["queries_without_neighbour"]), (&12.into(), &2.into()));
    assert_eq!(json["results"][0]["top1"], 75.0);

    // Held-out images without labels: every tenth training image instead, and it is said.
    for class in 0..4 {
        fill(&at("flat"), &format!("train/{}", names[class as usize]), class, 4);
    }
    fill(&at("flat"), "test", 4, 3);
    let text = knn("flat", &[]);
    for words in ["test has no class folders, so its images have no labels", "k-NN holds out a tenth of train"] {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }
    // One class for each picture: no query can be right, and it is said.
    for class in 0..10 {
        fill(&at("ones"), &format!("class-{class}"), class, 1);
    }
    let text = knn("ones", &[]);
    assert!(text.contains("1 of the queries are of classes that no neighbour has"), "{text}");
    fill(&at("unlabelled"), ".", 0, 4);
    let unlabelled = at("unlabelled");
    let args = ["eval", "knn", "--data", of(&unlabelled), "--weights", of(&run), "--device", "cpu"];
    refused(&args, &["the training images have no classes", "one for each class"]);
}

/// Before a run starts: what it will learn from and whether labels measure it, and never the opposite.
#[test]
fn a_run_says_what_it_learns_from() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let plan = |data: &str, extra: &[&str]| {
        let data = at(data);
        let args = ["pretrain", "--data", of(&data), "--dry-run"];
        let small = ["--set", "batch_size=4"];
        stdout(&ocelli(&[&args[..], &super::TINY, &small, extra].concat()))
    };
    for (i, class) in ["ant", "bee", "cat"].into_iter().enumerate() {
        fill(&at("unzipped"), &format!("flowers/{class}"), i as u32, 6);
    }
    fs::write(at("unzipped/readme.txt"), "words").unwrap();
    let text = plan("unzipped", &[]);
    for words in
        ["18 images, 3 classes (ant, bee, cat)", "in ", "1 file (.txt)", "k-NN with 1 held out, 3 classes"]
    {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }
    fill(&at("photos"), ".", 0, 8);
    let text = plan("photos", &[]);
    for words in ["8 images, no classes", "no k-NN: the training images have no classes"] {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }
    let out = at("quiet");
    let output = pretrain(&out, &["--set", "epochs=1", "--set", "eval.every_epochs=0", "--quiet"]);
    assert_eq!(stdout(&output), "");
}
