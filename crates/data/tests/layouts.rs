//! Folders as people have them, and what is made of each.
#![cfg(feature = "files")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;
use std::path::Path;

use ocelli_data::{DataSet, Source, open_data};
use support::pictures;

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

/// What was left out, as `count what`.
fn left_out(set: &DataSet) -> Vec<String> {
    set.understood.left_out.iter().map(|l| format!("{} {}", l.count, l.what)).collect()
}

#[test]
fn what_tools_leave_behind_is_passed_over_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for class in ["a", "b", "c"] {
        pictures(root, &format!("train/{class}"), 6);
        pictures(root, &format!("val/{class}"), 2);
    }
    for hidden in [
        "train/.ipynb_checkpoints",
        "__MACOSX/train/a",
        "val/@eaDir",
        "$RECYCLE.BIN",
        "#recycle",
        "lost+found",
        "System Volume Information",
        "train/a/.Trash-1000/files",
    ] {
        pictures(root, hidden, 1);
    }
    for hidden in ["thumbs.DB", "train/.DS_Store", "train/a/._0.png", "Desktop.ini"] {
        fs::write(root.join(hidden), "x").unwrap();
    }
    fs::write(root.join("classes.txt"), "x").unwrap();
    let set = open(root);
    assert_eq!(counts(&set), (18, 6, 3));
    assert_eq!(left_out(&set), ["8 hidden folders", "4 hidden files", "1 file"]);
    assert_eq!(set.understood.left_out[0].examples.len(), 3);
    says(
        &set,
        &["data: train 18 images, val 6 images, 3 classes (a, b, c)", "1 file (.txt)", "hidden folders (#recycle"],
    );
    assert_eq!(set.understood.lines().len(), 2);
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
    assert_eq!(set.train.class_names(), val.class_names());
    assert_eq!(set.understood.val_only_classes, [("a".to_owned(), 2)]);
    says(
        &set,
        &[
            "1 class of val is not in train: a (2 images): k-NN cannot get it right",
            "2 classes of train are not in val: b, c",
        ],
    );
}

#[test]
fn a_held_out_part_may_lack_classes() {
    let folder = tempfile::tempdir().unwrap();
    for class in ["a", "b", "c"] {
        pictures(folder.path(), &format!("train/{class}"), 3);
    }
    pictures(folder.path(), "val/c", 2);
    let set = open(folder.path());
    assert_eq!(classes(set.val.clone().unwrap().as_ref()), ["c", "c"]);
    assert_eq!(set.val.as_ref().unwrap().label(0), Some(2), "not the 0 that a numbering of its own would give");
    says(&set, &["2 classes of train are not in val: a, b"]);
}

#[test]
fn parts_are_known_by_many_names() {
    for (train, val) in [
        ("train", "validation"),
        ("train", "dev"),
        ("Train", "Val"),
        ("training", "VALIDATION"),
        ("train", "testing"),
        ("TRAIN", "Test"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        for class in ["a", "b", "c"] {
            pictures(folder.path(), &format!("{train}/{class}"), 6);
            pictures(folder.path(), &format!("{val}/{class}"), 2);
        }
        let set = open(folder.path());
        assert_eq!(counts(&set), (18, 6, 3), "{train} {val}");
        let (of, held_out) = (&set.understood.train.folder, &set.understood.val.as_ref().unwrap().folder);
        assert_eq!((of.as_str(), held_out.as_str()), (train, val));
    }
    // Of several held-out parts one is taken, and none is learnt from.
    let folder = tempfile::tempdir().unwrap();
    for part in ["train", "test", "val"] {
        pictures(folder.path(), &format!("{part}/a"), 3);
        pictures(folder.path(), &format!("{part}/b"), 3);
    }
    let set = open(folder.path());
    assert_eq!((counts(&set), set.understood.val.as_ref().unwrap().folder.as_str()), ((6, 6, 2), "val"));
    says(&set, &["1 more held-out folder (test: 6 images)"]);
}

#[test]
fn what_lies_beside_the_parts_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for part in ["train/a", "train/b", "val/a", "val/b", "unlabelled"] {
        pictures(folder.path(), part, 2);
    }
    pictures(folder.path(), ".", 1);
    fs::create_dir(folder.path().join("docs")).unwrap();
    let set = open(folder.path());
    assert_eq!(counts(&set), (4, 4, 2));
    assert_eq!(
        left_out(&set),
        ["1 folder beside the parts", "1 folder without images", "1 image beside the parts"]
    );
}

#[test]
fn folders_around_the_data_are_gone_through() {
    for (around, parts) in [
        ("unzipped/flowers/", [""].as_slice()),
        ("data/", &["train/", "val/"]),
        ("", &["train/"]),
        ("", &["train/images/", "val/images/"]),
    ] {
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
        assert!(set.understood.root.trim_end_matches('/').ends_with(around.trim_end_matches('/')));
        let in_root = set.understood.lines()[0].contains(&format!(", in {}", folder.path().display()));
        assert_eq!(in_root, !around.is_empty(), "{:?}", set.understood.lines());
    }
    let flat = tempfile::tempdir().unwrap();
    pictures(flat.path(), "photos", 4);
    let set = open(flat.path());
    assert_eq!((counts(&set), set.train.name(0).as_str()), ((4, 0, 0), "photos/0.png"));
}

#[test]
fn strays_are_named_and_mixtures_have_no_classes() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for class in ["a", "b", "c"] {
        pictures(root, class, 6);
    }
    fs::create_dir(root.join("d")).unwrap();
    fs::copy(root.join("a/0.png"), root.join("sample.png")).unwrap();
    let set = open(root);
    assert_eq!(counts(&set), (18, 0, 3));
    says(&set, &["1 image beside the classes (sample.png)", "1 folder without images (d)"]);
    pictures(root, ".", 9);
    let set = open(root);
    assert_eq!((counts(&set), set.train.label(0)), ((28, 0, 0), None));
    says(&set, &["no classes", "10 images lie beside 3 folders: taken as one set without classes"]);
    assert!(set.understood.why_no_knn().unwrap().contains("no classes"));
}

#[test]
fn held_out_images_may_have_no_labels() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for class in ["a", "b", "c"] {
        pictures(root, &format!("train/{class}"), 6);
    }
    pictures(root, "test", 6);
    let set = open(root);
    assert_eq!(counts(&set), (18, 6, 3));
    let val = set.val.as_ref().unwrap();
    assert!(
        val.label(0).is_none() && val.class_names().is_empty() && !set.understood.val.as_ref().unwrap().labelled
    );
    let note = "test has no class folders, so its images have no labels: k-NN holds out a tenth of train";
    assert_eq!(set.understood.notes, [note]);
    // The other way round there is nothing to find neighbours in.
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path(), "train", 6);
    pictures(folder.path(), "val/a", 6);
    pictures(folder.path(), "val/b", 6);
    let set = open(folder.path());
    assert_eq!((set.train.label(0), set.train.class_names().len()), (None, 0));
    assert_eq!(set.understood.notes, ["train has no class folders, so its images have no labels: no k-NN"]);
}

#[test]
fn empty_parts_and_classes_are_absent_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for class in ["a", "b", "c"] {
        pictures(root, &format!("train/{class}"), 6);
        fs::create_dir_all(root.join("val").join(class)).unwrap();
    }
    let set = open(root);
    assert_eq!(counts(&set), (18, 0, 3));
    assert_eq!(set.understood.notes, ["val holds no image: it counts as absent"]);
    pictures(root, "test/b", 2);
    assert_eq!(open(root).understood.val.unwrap().folder, "test", "the next one is taken");
    // Classes that hold nothing are no classes.
    pictures(root, "val/b", 2);
    let set = open(root);
    assert_eq!(counts(&set), (18, 2, 3));
    assert_eq!(classes(set.val.as_ref().unwrap().as_ref()), ["b", "b"]);
    says(&set, &["2 folders without images (val/a, val/c)"]);
    // Nothing anywhere.
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("train/a")).unwrap();
    fs::create_dir_all(folder.path().join("train/b")).unwrap();
    let message = open_data(folder.path().to_str().unwrap()).err().unwrap().to_string();
    assert!(message.contains("only empty folders: train, train/a, train/b"), "{message}");
    pictures(folder.path(), ".cache", 1);
    let message = open_data(folder.path().to_str().unwrap()).err().unwrap().to_string();
    assert!(message.contains("only what is passed over: .cache"), "{message}");
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
    symlink("/nowhere/lock", root.join(".lock")).unwrap();
    symlink(folder.path().join("elsewhere"), root.join("linked")).unwrap();
    let set = open(&root);
    assert_eq!(counts(&set), (8, 0, 3));
    assert!((0..8).all(|i| set.train.load(i).is_ok()));
    says(
        &set,
        &[
            "1 hidden file (.lock)",
            "2 unreadable entries (",
            "a/up (a link to a folder it lies in)",
            "b/gone.png (a link that leads nowhere)",
        ],
    );
}

#[test]
fn a_file_that_ends_in_bin_is_no_data_set_beside_pictures() {
    for (name, bytes) in [("thumbcache.bin", 5000), ("pytorch_model.bin", 3073), ("training_args.bin", 3073)] {
        let folder = tempfile::tempdir().unwrap();
        pictures(folder.path(), "a", 8);
        pictures(folder.path(), "b", 8);
        fs::write(folder.path().join(name), vec![1; bytes]).unwrap();
        let set = open(folder.path());
        assert_eq!(counts(&set), (16, 0, 2), "{name}");
        says(&set, &["1 file (.bin)"]);
    }
}

#[test]
fn records_are_found_alone_wrapped_and_beside_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("cifar-10-batches-bin");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("records.bin"), vec![1; 2 * 3073]).unwrap();
    assert_eq!(open(&root).train.len(), 2, "without pictures they are records");
    pictures(&root, "docs", 1);
    fs::write(root.join("data_batch_1.bin"), vec![1; 3073]).unwrap();
    fs::write(root.join("test_batch.bin"), vec![2; 3 * 3073]).unwrap();
    fs::write(root.join("batches.meta.txt"), "").unwrap();
    for path in [root.as_path(), folder.path()] {
        let set = open(path);
        assert_eq!(counts(&set), (1, 3, 10), "by the data set's own names they are records beside pictures too");
        assert_eq!(left_out(&set), ["1 file", "1 image beside the records"]);
        says(&set, &["data: train 1 image, val 3 images, 10 classes (airplane", "…)", "1 file (.bin)"]);
        assert!(set.understood.root.ends_with("cifar-10-batches-bin"));
    }
    let file = open(&root.join("test_batch.bin"));
    assert_eq!((counts(&file), file.understood.lines().len()), ((3, 0, 10), 1));
}

#[test]
fn the_built_in_scenes_say_what_they_are() {
    let set = open_data("scenes:20:32").unwrap();
    assert_eq!((set.understood.spec.as_str(), set.understood.train.images), ("scenes:20:32", 20));
    assert_eq!(set.understood.classes, set.train.class_names());
    assert!(set.understood.train.labelled && set.understood.notes.is_empty());
    let held_out = set.val.as_ref().unwrap().len();
    says(&set, &[&format!("data: train 20 images, val {held_out} images, 10 classes (")]);
}
