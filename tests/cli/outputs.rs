//! Files that are written for each of several pictures: one set for each, whatever the pictures are called.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::command::stdout;

const WEIGHTS: [&str; 4] = ["--weights", "random:vit-32x1x2/8", "--device", "cpu"];

/// Files of a picture: a map and a mask of each of two heads and of their mean.
const FILES: usize = 6;

fn picture(path: &Path, shade: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_fn(16, 16, |x, y| image::Rgb([shade, (x * 9) as u8, (y * 9) as u8])).save(path).unwrap();
}

/// Runs the tool where the folder is.
fn within(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ocelli")).args(args).args(WEIGHTS).current_dir(folder).output().unwrap()
}

fn files(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_picture_has_maps_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let long = format!("{}.png", "long".repeat(60));
    let names = [
        "2024/beach/IMG_0001.png",
        "2025/beach/IMG_0001.png",
        "cat 1.png",
        "cat_1.png",
        "cat (1).png",
        "кот 1.png",
        "a,b 'c'.png",
        &long,
    ];
    for (shade, name) in names.iter().enumerate() {
        picture(&folder.path().join(name), 20 * shade as u8);
    }
    // Twice, for nothing of it counts as somebody else's file.
    for _ in 0..2 {
        stdout(&within(folder.path(), &[&["attention", "--out", "maps"], &names[..]].concat()));
        let found = files(&folder.path().join("maps"));
        assert_eq!(found.len(), 1 + FILES * names.len(), "{found:?}");
        for stem in ["2024-beach-IMG_0001", "2025-beach-IMG_0001", "cat_1", "cat_1-2", "cat__1_", "кот_1"] {
            assert!(found.contains(&format!("{stem}-head2-mask.png")), "{stem}: {found:?}");
        }
        assert!(found.iter().all(|name| name.len() <= 255));
    }
    // The name is the picture's: what cat_1.png shows is not what "cat 1.png" does.
    let maps = |stem: &str| fs::read(folder.path().join(format!("maps/{stem}-mean.png"))).unwrap();
    assert_ne!(maps("cat_1"), maps("cat_1-2"));

    // The same pictures as folders: what tells them apart is the argument.
    stdout(&within(folder.path(), &["attention", "2024/beach", "2025/beach/", "--out", "both"]));
    let found = files(&folder.path().join("both"));
    assert_eq!(found.len(), 1 + 2 * FILES, "{found:?}");
    assert!(found.contains("2024-beach-IMG_0001-mean.png"), "{found:?}");

    // A picture of somebody else's is found before anything is drawn.
    picture(&folder.path().join("theirs/cat_1-mean.png"), 3);
    let output = within(folder.path(), &["attention", "cat_1.png", "--out", "theirs"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && message.contains("cat_1-mean.png"), "{message}");
    assert_eq!(files(&folder.path().join("theirs")).len(), 1);
}

#[test]
fn rows_of_features_have_names_that_differ() {
    let folder = tempfile::tempdir().unwrap();
    for (shade, name) in ["2024/1.png", "2024/2.png", "2025/1.png", "a,b.png"].iter().enumerate() {
        picture(&folder.path().join(name), 20 * shade as u8);
    }
    let images = ["embed", "2024", "2025/", "a,b.png", "./a,b.png", "a,b.png", "--size", "16"];
    stdout(&within(folder.path(), &[&images[..], &["--out", "f.npy"]].concat()));
    let names = fs::read_to_string(folder.path().join("f.txt")).unwrap();
    let names: Vec<&str> = names.lines().collect();
    assert_eq!(names, ["2024/1.png", "2024/2.png", "2025/1.png", "a,b.png", "./a,b.png", "a,b.png (2)"]);
    // Where nothing is the same, nothing comes before it.
    stdout(&within(folder.path(), &["embed", "2024", "a,b.png", "--size", "16", "--out", "g.npy"]));
    let names = fs::read_to_string(folder.path().join("g.txt")).unwrap();
    assert_eq!(names.lines().collect::<Vec<_>>(), ["1.png", "2.png", "a,b.png"]);
}
