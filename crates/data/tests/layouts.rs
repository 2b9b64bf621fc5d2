//! Folders as people have them, and what is made of each.
#![cfg(feature = "files")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::path::Path;

use ocelli_data::{DataSet, Source, open_data};

/// `count` pictures in a folder.
fn pictures(root: &Path, folder: &str, count: usize) {
    let folder = root.join(folder);
    fs::create_dir_all(&folder).unwrap();
    for i in 0..count {
        image::RgbImage::from_pixel(5, 4, image::Rgb([i as u8, 0, 7]))
            .save(folder.join(format!("{i}.png")))
            .unwrap();
    }
}

fn open(root: &Path) -> DataSet {
    open_data(root.to_str().unwrap()).unwrap()
}

/// Class of every image, by name.
fn classes(source: &dyn Source) -> Vec<String> {
    let name = |i: usize| source.label(i).map(|l| source.class_names()[l as usize].clone()).unwrap_or_default();
    (0..source.len()).map(name).collect()
}

/// Training images, held-out images, classes.
fn counts(set: &DataSet) -> (usize, usize, usize) {
    (set.train.len(), set.val.as_ref().map_or(0, |v| v.len()), set.understood.classes.len())
}

fn says(set: &DataSet, words: &[&str]) {
    let lines = set.understood.lines().join("\n");
    for word in words {
        assert!(lines.contains(word), "expected \"{word}\" in:\n{lines}");
    }
}

#[test]
fn what_tools_leave_behind_is_passed_over_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for class in ["a", "b", "c"] {
        pictures(root, &format!("train/{class}"), 6);
        pictures(root, &format!("val/{class}"), 2);
    }
    for hidden in
        ["train/.ipynb_checkpoints", "__MACOSX/train/a", "val/@eaDir", "$RECYCLE.BIN", "train/a/.Trash-1000/files"]
    {
        pictures(root, hidden, 1);
    }
    fs::write(root.join("Thumbs.db"), "x").unwrap();
    fs::write(root.join("train/.DS_Store"), "x").unwrap();
    fs::write(root.join("classes.txt"), "x").unwrap();
    let set = open(root);
    assert_eq!(counts(&set), (18, 6, 3));
    says(&set, &["train 18 images, val 6 images, 3 classes (a, b, c)", "7 hidden", "1 other file (1 .txt)"]);
}

#[test]
fn classes_are_matched_by_name_across_parts() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for class in ["b", "c", "d"] {
        pictures(root, &format!("train/{class}"), 3);
    }
    pictures(root, "val/a", 2);
    pictures(root, "val/d", 1);
    let set = open(root);
    assert_eq!(set.understood.classes, ["b", "c", "d", "a"]);
    let val = set.val.clone().unwrap();
    assert_eq!(classes(val.as_ref()), ["a", "a", "d"]);
    assert_eq!((0..3).map(|i| val.label(i).unwrap()).collect::<Vec<_>>(), [3, 3, 2]);
    assert_eq!(set.train.label(8), Some(2), "d has one number in both");
    assert_eq!(set.understood.not_held_out, 2);
    says(&set, &["1 class of the held-out images is not among the training images (a, 2 images)"]);
}

#[test]
fn parts_are_known_by_many_names() {
    for (train, val) in [
        ("train", "validation"),
        ("train", "dev"),
        ("Train", "Val"),
        ("training", "validation"),
        ("train", "testing"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        for class in ["a", "b", "c"] {
            pictures(folder.path(), &format!("{train}/{class}"), 6);
            pictures(folder.path(), &format!("{val}/{class}"), 2);
        }
        assert_eq!(counts(&open(folder.path())), (18, 6, 3), "{train} {val}");
    }
    // Of several held-out parts one is taken, and none is learnt from.
    let folder = tempfile::tempdir().unwrap();
    for part in ["train", "test", "val"] {
        pictures(folder.path(), &format!("{part}/a"), 3);
        pictures(folder.path(), &format!("{part}/b"), 3);
    }
    let set = open(folder.path());
    assert_eq!((counts(&set), set.understood.val.as_ref().unwrap().folder.as_str()), ((6, 6, 2), "val"));
    says(&set, &["6 images beside train and val"]);
}

#[test]
fn folders_around_the_data_are_gone_through() {
    for (around, parts) in
        [("unzipped/flowers/", [""].as_slice()), ("data/", &["train/", "val/"]), ("", &["train/"])]
    {
        let folder = tempfile::tempdir().unwrap();
        for part in parts {
            for class in ["a", "b", "c"] {
                pictures(folder.path(), &format!("{around}{part}{class}"), 4);
            }
        }
        let set = open(folder.path());
        let held_out = if parts.len() > 1 { 12 } else { 0 };
        assert_eq!(counts(&set), (12, held_out, 3), "{around} {parts:?}");
        assert!(set.understood.why_no_knn().is_none());
        assert!(set.train.load(0).is_ok(), "{}", set.train.name(0));
    }
}

#[test]
fn strays_are_named_and_mixtures_have_no_classes() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for class in ["a", "b", "c"] {
        pictures(root, class, 6);
    }
    fs::copy(root.join("a/0.png"), root.join("sample.png")).unwrap();
    let set = open(root);
    assert_eq!(counts(&set), (18, 0, 3));
    says(&set, &["1 images beside the class folders (sample.png)"]);
    pictures(root, ".", 9);
    let set = open(root);
    assert_eq!(counts(&set).2, 0);
    says(&set, &["no classes", "10 images lie beside 3 folders"]);
    assert!(set.understood.why_no_knn().unwrap().contains("no classes"));
}

#[test]
fn held_out_images_may_have_no_labels_or_not_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for class in ["a", "b", "c"] {
        pictures(root, &format!("train/{class}"), 6);
    }
    pictures(root, "test", 6);
    let set = open(root);
    assert_eq!(counts(&set), (18, 6, 3));
    assert!(set.val.as_ref().unwrap().label(0).is_none());
    says(&set, &["test has no class folders", "k-NN holds out a tenth"]);
    fs::remove_dir_all(root.join("test")).unwrap();
    for class in ["a", "b", "c"] {
        fs::create_dir_all(root.join("val").join(class)).unwrap();
    }
    let set = open(root);
    assert_eq!(counts(&set), (18, 0, 3));
    says(&set, &["val holds no image"]);
    // Classes that hold nothing are no classes.
    pictures(root, "val/b", 2);
    let set = open(root);
    assert_eq!(counts(&set), (18, 2, 3));
    assert_eq!(classes(set.val.unwrap().as_ref()), ["b", "b"]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_or_listed_and_end_nothing() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("data");
    pictures(&root, "a", 3);
    pictures(&root, "b", 3);
    pictures(folder.path(), "elsewhere", 2);
    symlink("..", root.join("a/up")).unwrap();
    symlink("/nowhere/photo.png", root.join("b/gone.png")).unwrap();
    symlink(folder.path().join("elsewhere"), root.join("linked")).unwrap();
    let set = open(&root);
    assert_eq!(counts(&set), (8, 0, 3));
    says(
        &set,
        &[
            "2 unreadable or leading nowhere",
            "a/up (a link to a folder it lies in)",
            "b/gone.png (a link that leads nowhere)",
        ],
    );
}

#[test]
fn a_file_that_ends_in_bin_is_no_data_set_beside_pictures() {
    for (name, bytes) in [("thumbcache.bin", 5000), ("pytorch_model.bin", 3073), ("train.bin", 3073)] {
        let folder = tempfile::tempdir().unwrap();
        pictures(folder.path(), "a", 8);
        pictures(folder.path(), "b", 8);
        fs::write(folder.path().join(name), vec![1; bytes]).unwrap();
        let set = open(folder.path());
        assert_eq!(counts(&set), (16, 0, 2), "{name}");
        says(&set, &["1 other file (1 .bin)"]);
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("records.bin"), vec![1; 2 * 3073]).unwrap();
    assert_eq!(open(folder.path()).train.len(), 2, "without pictures they are records");
    pictures(folder.path(), "docs", 1);
    fs::write(folder.path().join("data_batch_1.bin"), vec![1; 3073]).unwrap();
    let set = open(folder.path());
    assert_eq!(set.train.len(), 1, "so they are by the data set's own names");
    says(&set, &["pictures beside CIFAR records"]);
}
