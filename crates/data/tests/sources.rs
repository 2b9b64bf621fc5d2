//! Folders, record files, and what a user may write after `--data`.
#![cfg(feature = "files")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::io::Write;
use std::path::Path;

use ocelli_data::{CifarSource, FolderSource, Source, Split, open_source, open_split};

fn write_png(path: &Path, level: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_pixel(5, 4, image::Rgb([level, 0, 255 - level])).save(path).unwrap();
}

fn names(source: &dyn Source) -> Vec<String> {
    (0..source.len()).map(|i| source.name(i)).collect()
}

#[test]
fn subfolders_are_classes() {
    let folder = tempfile::tempdir().unwrap();
    for (i, name) in ["b/2.png", "a/x/1.PNG", "b/1.png", "a/notes.txt"].iter().enumerate() {
        let path = folder.path().join(name);
        if name.ends_with("txt") { fs::write(path, "no").unwrap() } else { write_png(&path, i as u8) }
    }
    let source = FolderSource::open(folder.path()).unwrap();
    assert_eq!(names(&source), ["a/x/1.PNG", "b/1.png", "b/2.png"]);
    assert_eq!(source.class_names(), ["a", "b"]);
    assert_eq!((0..3).map(|i| source.label(i).unwrap()).collect::<Vec<_>>(), [0, 1, 1]);
    let image = source.load(1).unwrap();
    assert_eq!((image.width, image.height, image.pixel(0, 0)), (5, 4, Some([2, 0, 253])));
    assert!(source.load(3).unwrap_err().to_string().contains("holds 3"));
}

#[test]
fn flat_and_mixed_folders_are_unlabelled() {
    let folder = tempfile::tempdir().unwrap();
    write_png(&folder.path().join("one.png"), 1);
    write_png(&folder.path().join("two.png"), 2);
    let source = FolderSource::open(folder.path()).unwrap();
    assert_eq!((source.len(), source.label(0)), (2, None));
    write_png(&folder.path().join("c/three.png"), 3);
    write_png(&folder.path().join("d/four.png"), 3);
    let source = FolderSource::open(folder.path()).unwrap();
    assert_eq!((source.len(), source.label(0), source.class_names().len()), (4, None, 0));
    let single = tempfile::tempdir().unwrap();
    write_png(&single.path().join("only/one.png"), 1);
    assert_eq!(FolderSource::open(single.path()).unwrap().label(0), None);
}

#[test]
fn folder_errors_say_what_was_found() {
    let fail = |path: &Path| FolderSource::open(path).unwrap_err().to_string();
    let folder = tempfile::tempdir().unwrap();
    assert!(fail(&folder.path().join("nowhere")).contains("no such file or folder"));
    assert!(fail(folder.path()).contains("found an empty folder"));
    for name in ["a.txt", "b.csv", "c"] {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    let message = fail(folder.path());
    assert!(message.contains("3 files, none with a known image extension: a.txt, b.csv, c"), "{message}");
    assert!(fail(&folder.path().join("a.txt")).contains("expected a folder of images, found a "));
    write_png(&folder.path().join("broken.png"), 1);
    fs::write(folder.path().join("broken.png"), "not a png").unwrap();
    let source = FolderSource::open(folder.path()).unwrap();
    assert!(source.load(0).unwrap_err().to_string().contains("broken.png"));
}

/// `count` records of constant planes r = label, g = 100, b = number of the record.
fn records(label_bytes: usize, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for i in 0..count {
        let label = (i % 10) as u8;
        bytes.extend(std::iter::repeat_n(label, label_bytes));
        for value in [label, 100, i as u8] {
            bytes.extend(std::iter::repeat_n(value, 1024));
        }
    }
    bytes
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut writer = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

#[test]
fn cifar_records_plain_and_compressed() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("train.bin");
    fs::write(&plain, records(1, 13)).unwrap();
    let packed = folder.path().join("test.bin.xz");
    fs::write(&packed, xz(&records(1, 4))).unwrap();
    for (path, len) in [(&plain, 13), (&packed, 4)] {
        let source = CifarSource::open(path).unwrap();
        assert_eq!(source.len(), len);
        assert_eq!(source.label(3), Some(3));
        assert_eq!(source.load(2).unwrap().pixel(31, 31), Some([2, 100, 2]));
        assert_eq!(source.class_names()[3], "cat");
        assert_eq!(source.label(len), None);
    }
    let spec = folder.path().to_str().unwrap();
    assert_eq!(open_source(spec).unwrap().len(), 13);
    assert_eq!(open_split(spec, Split::Val).unwrap().unwrap().len(), 4);
    assert_eq!(CifarSource::open(&plain).unwrap().name(12), "train.bin#12");
    assert_eq!(CifarSource::open(folder.path()).unwrap().len(), 13);
}

#[test]
fn cifar100_uses_the_fine_label() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.bin");
    let mut bytes = records(2, 7);
    bytes[1] = 93;
    fs::write(&path, bytes).unwrap();
    let source = CifarSource::open(&path).unwrap();
    assert_eq!((source.len(), source.label(0), source.class_names().len()), (7, Some(93), 100));
}

#[test]
fn damaged_records_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let fail = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let message = CifarSource::open(&path).unwrap_err().to_string();
        assert!(message.contains(name), "{message}");
        message
    };
    let good = records(1, 5);
    let message = fail("cut.bin", &good[..good.len() - 100]);
    assert!(message.contains("4 records of 3073 and 2973 bytes more"), "{message}");
    let packed = xz(&good);
    assert!(fail("cut.bin.xz", &packed[..packed.len() / 2]).contains("xz"));
    assert!(fail("empty.bin", &[]).contains("empty"));
    let mut wrong = good;
    wrong[3073] = 77;
    assert!(fail("wrong.bin", &wrong).contains("found 77 in record 1"));
}

#[test]
fn specs_are_understood() {
    let train = open_split("scenes:20:32", Split::Train).unwrap().unwrap();
    let val = open_split("scenes:20:32", Split::Val).unwrap().unwrap();
    assert_eq!(train.len(), 20);
    assert_eq!(train.load(0).unwrap().width, 32);
    assert_ne!(train.load(0).unwrap(), val.load(0).unwrap());
    assert_eq!(train.name(12), "scene-000012");
    for wrong in ["scenes:many", "scenes:1:2:3", "scenes:0", "scenes:10:2"] {
        let message = open_source(wrong).err().unwrap().to_string();
        assert!(message.contains("scenes"), "{message}");
    }
    let error = open_source("/nowhere/at/all").err().unwrap().to_string();
    assert!(error.contains("/nowhere/at/all"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    for name in ["train/a/1.png", "train/b/2.png", "val/a/3.png", "val/b/4.png", "val/b/5.png"] {
        write_png(&folder.path().join(name), 9);
    }
    let spec = folder.path().to_str().unwrap();
    assert_eq!(open_source(spec).unwrap().class_names(), ["a", "b"]);
    assert_eq!(open_split(spec, Split::Val).unwrap().unwrap().len(), 3);
    let part = folder.path().join("val");
    assert!(open_split(part.to_str().unwrap(), Split::Val).unwrap().is_none());
}

#[test]
fn real_cifar_records() {
    let Ok(data) = std::env::var("OCELLI_DATA") else {
        println!("skipped: OCELLI_DATA is not set");
        return;
    };
    let spec = format!("{data}/cifar10-5k");
    let train = open_source(&spec).unwrap();
    let test = open_split(&spec, Split::Val).unwrap().unwrap();
    assert_eq!((train.len(), test.len()), (4000, 1000));
    assert_eq!(train.class_names().len(), 10);
    let mean: f64 = train.load(0).unwrap().data.iter().map(|&b| f64::from(b)).sum::<f64>() / 3072.0;
    assert!((20.0..235.0).contains(&mean));
    let image = fs::read(format!("{data}/vit-tiny-in1k/golden/chelsea.png"));
    if let Ok(bytes) = image {
        let image = ocelli_data::decode_bytes("chelsea", &bytes, Default::default()).unwrap();
        assert_eq!((image.width, image.height), (224, 224));
    }
}
