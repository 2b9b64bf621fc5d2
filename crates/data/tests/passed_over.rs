//! What in a folder is no data: what Ocelli wrote itself, and entries that nobody can read. Nothing of it ends anything.
#![cfg(feature = "files")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;
use std::path::Path;

use ocelli_data::files::marked_png;
use ocelli_data::{AllImages, DataSet, FolderSource, Source, open_data, open_data_beside};
use support::pictures;

/// A picture that Ocelli drew.
fn drawn(root: &Path, name: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_pixel(9, 9, image::Rgb([1, 2, 3])).save(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    fs::write(path, marked_png(&bytes)).unwrap();
}

/// A run as earlier versions left it: its charts have no mark.
fn run(root: &Path, folder: &str) {
    let folder = root.join(folder);
    fs::create_dir_all(folder.join("checkpoints")).unwrap();
    pictures(&folder, "pictures", 1);
    for (i, name) in ["views.png", "heads.png", "attention-0001.png"].iter().enumerate() {
        fs::copy(folder.join("pictures/0.png"), folder.join("pictures").join(name)).unwrap();
        fs::write(folder.join(["config.toml", "metrics.jsonl", "report.html"][i]), "x").unwrap();
    }
    fs::remove_file(folder.join("pictures/0.png")).unwrap();
}

fn open(root: &Path) -> DataSet {
    open_data(root.to_str().unwrap()).unwrap()
}

fn names(source: &dyn Source) -> Vec<String> {
    (0..source.len()).map(|i| source.name(i)).collect()
}

fn says(lines: &[String], words: &[&str]) {
    let lines = lines.join("\n");
    for word in words {
        assert!(lines.contains(word), "expected \"{word}\" in:\n{lines}");
    }
}

#[test]
fn what_ocelli_wrote_is_no_data() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    pictures(root, ".", 16);
    let before = open(root);
    run(root, "runs/first");
    run(root, "runs/old/second");
    drawn(root, "attention/sheet.png");
    drawn(root, "match.png");
    fs::write(root.join("clip.gif"), b"GIF89a\x01\0\x01\0\0\0\0\x21\xFE\x06Ocelli\0;").unwrap();
    let set = open(root);
    assert_eq!(names(set.train.as_ref()), names(before.train.as_ref()));
    assert_eq!(set.train.len(), 16);
    says(
        &set.understood.lines(),
        &[
            "2 folders of runs (runs/first, runs/old/second)",
            "3 pictures that Ocelli drew (attention/sheet.png, clip.gif, match.png)",
        ],
    );
    assert!(set.understood.notes.is_empty(), "{:?}", set.understood.notes);
    assert_eq!(FolderSource::open(root).unwrap().len(), 16);
    let all = AllImages::open(root).unwrap();
    assert_eq!(all.len(), 16);
    says(&all.understood().lines(), &["2 folders of runs", "3 pictures that Ocelli drew"]);
    // There is nothing else.
    let message = open_data(root.join("attention").to_str().unwrap()).err().unwrap().to_string();
    assert!(message.contains("only what Ocelli wrote: sheet.png"), "{message}");
    let message = open_data(root.join("runs/first/pictures").to_str().unwrap()).err().unwrap().to_string();
    assert!(message.contains("only what Ocelli wrote: attention-0001.png"), "{message}");
}

/// A run within the data changes neither classes nor names, whether it is about to begin or goes on.
#[test]
fn the_layout_is_the_same_with_a_run_in_it() {
    for (out, has_folder) in [("runs/first", false), ("runs/first", true), ("flowers/run", false), (".", true)] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("photos");
        pictures(&root, "flowers/aster", 4);
        pictures(&root, "flowers/rose", 4);
        if has_folder {
            fs::create_dir_all(root.join(out)).unwrap();
        }
        let out = root.join(out);
        let told = |set: &DataSet| (names(set.train.as_ref()), set.understood.classes.clone());
        let open = || told(&open_data_beside(root.to_str().unwrap(), Some(&out)).unwrap());
        let before = open();
        assert_eq!((before.0.len(), before.1.as_slice()), (8, ["aster", "rose"].map(str::to_owned).as_slice()));
        run(&out, ".");
        assert_eq!(open(), before, "{}", out.display());
        assert_eq!(told(&open_data(root.to_str().unwrap()).unwrap()), before, "{}", out.display());
    }
}

/// Pictures of a person's own in the folder of a run are no data either, before it begins and after, and that is said; the folder
/// that a run learns from is data.
#[test]
fn a_run_beside_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for class in ["ant", "bee", "cat"] {
        pictures(root, class, 3);
    }
    let beside = |out: &str| open_data_beside(root.to_str().unwrap(), Some(&root.join(out))).unwrap();
    for _ in 0..2 {
        let set = beside("cat");
        assert_eq!((set.train.len(), set.understood.classes.len()), (6, 2));
        says(
            &set.understood.lines(),
            &["1 folder of a run (cat)", "cat is the folder of a run: its 3 other images are left out with it"],
        );
        run(root, "cat");
    }
    let set = open(&root.join("cat"));
    assert_eq!(names(set.train.as_ref()), ["0.png", "1.png", "2.png"], "named itself it is data");
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path(), "pictures", 5);
    for _ in 0..2 {
        let spec = folder.path().join("pictures");
        let set = open_data_beside(spec.to_str().unwrap(), Some(folder.path())).unwrap();
        assert_eq!(set.train.len(), 5, "charts may lie among photographs");
        let set = open_data_beside(folder.path().to_str().unwrap(), Some(folder.path())).unwrap();
        assert_eq!(set.train.len(), 5);
        for (file, text) in [("config.toml", ""), ("metrics.jsonl", "{}")] {
            fs::write(folder.path().join(file), text).unwrap();
        }
        fs::copy(spec.join("0.png"), spec.join("views.png")).unwrap();
        drawn(&spec, "holiday-mean.png");
    }
}

#[test]
fn endings_are_counted_and_photographs_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    pictures(root, ".", 4);
    fs::rename(root.join("0.png"), root.join("no-ending")).unwrap();
    fs::rename(root.join("1.png"), root.join("IMG_1234.png.1")).unwrap();
    for name in ["a.heic", "b.HEIC", "c.avif", "d.txt", "e.txt", "f.txt", "g.csv", "README", "cache.bin"] {
        fs::write(root.join(name), "\0\0\0\x18ftypheic").unwrap();
    }
    let set = open(root);
    assert_eq!(names(set.train.as_ref()), ["2.png", "3.png", "IMG_1234.png.1", "no-ending"]);
    assert!((0..4).all(|i| set.train.load(i).is_ok()));
    let lines = set.understood.lines();
    says(
        &lines,
        &[
            "9 files (2 .heic, 1 .avif, 3 .txt, 1 .bin, 1 .csv, 1 without an ending)",
            "1 AVIF picture, 2 HEIC pictures are not read: convert such files to JPEG or PNG",
        ],
    );
    assert_eq!(lines.len(), 3, "{lines:?}");
    let phone = tempfile::tempdir().unwrap();
    fs::write(phone.path().join("IMG_1.HEIC"), "x").unwrap();
    let message = open_data(phone.path().to_str().unwrap()).err().unwrap().to_string();
    assert!(message.contains("IMG_1.HEIC; 1 HEIC picture is not read: convert"), "{message}");
}

#[cfg(unix)]
mod unix {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    #[test]
    fn links_in_circles_are_noticed_and_what_lies_above_is_no_data() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("set/photos");
        pictures(&root, "a", 3);
        pictures(&root, "b", 3);
        pictures(folder.path(), "private", 5);
        symlink("../../..", root.join("a/far-up")).unwrap();
        symlink("round.png", root.join("a/round.png")).unwrap();
        symlink("pong", root.join("b/ping")).unwrap();
        symlink("ping", root.join("b/pong")).unwrap();
        symlink(".", root.join("b/self")).unwrap();
        let set = open(&root);
        assert_eq!((set.train.len(), set.understood.classes.len()), (6, 2));
        let problems = set.understood.left_out.iter().find(|l| l.what == "unreadable entries").unwrap();
        assert_eq!(problems.count, 5, "{problems:?}");
        says(&problems.examples, &["a/far-up (a link to a folder it lies in)", "a link that cannot be followed"]);
        // A link by another way into the same set is followed as often as it is there, and ends.
        symlink("../b", root.join("a/to-b")).unwrap();
        symlink("../a", root.join("b/to-a")).unwrap();
        assert!(open(&root).train.len() >= 6);
        // The set itself may be a link.
        symlink(&root, folder.path().join("linked")).unwrap();
        assert_eq!(open(&folder.path().join("linked")).understood.classes.len(), 2);
    }

    #[test]
    fn pipes_and_sockets_are_never_opened() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        pictures(root, ".", 3);
        let pipes = ["pipe.jpg", "train.bin", "pipe", "drawn.png"];
        let made =
            pipes.map(|name| Command::new("mkfifo").arg(root.join(name)).status().is_ok_and(|s| s.success()));
        if made != [true; 4] {
            println!("skipped: there is no mkfifo");
            return;
        }
        let _socket = UnixListener::bind(root.join("socket.png")).unwrap();
        let set = open(root);
        assert_eq!(set.train.len(), 3);
        says(&set.understood.lines(), &["5 unreadable entries (", "drawn.png (a pipe, no file)"]);
        assert_eq!(AllImages::open(root).unwrap().len(), 3);
        let message = open_data(root.join("pipe.jpg").to_str().unwrap()).err().unwrap().to_string();
        assert!(message.contains("a pipe, no file"), "{message}");
    }

    #[test]
    fn names_that_are_not_utf8_are_read_and_shown() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        pictures(root, "a", 2);
        pictures(root, "b", 2);
        for name in [&b"caf\xE9.png"[..], b"caf\xE8.png"] {
            let made = fs::copy(root.join("a/0.png"), root.join("b").join(OsStr::from_bytes(name)));
            if made.is_err() {
                println!("skipped: this file system takes names in UTF-8 alone");
                return;
            }
        }
        let set = open(root);
        let names = names(set.train.as_ref());
        assert_eq!(names[4..], ["b/caf\\xE8.png", "b/caf\\xE9.png"]);
        assert!((0..6).all(|i| set.train.load(i).is_ok()));
        says(&set.understood.lines(), &["2 images have names that are not UTF-8", "b/caf\\xE8.png"]);
        let all = AllImages::open(root).unwrap();
        assert_eq!(all.find("b/caf\\xE9.png"), Some(5));
    }

    #[test]
    fn a_folder_without_permission_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for class in ["a", "b", "closed"] {
            pictures(root, class, 2);
        }
        let closed = root.join("closed");
        let allow = |mode| fs::set_permissions(&closed, fs::Permissions::from_mode(mode)).unwrap();
        allow(0o000);
        let is_open = fs::read_dir(&closed).is_ok();
        let set = open_data(root.to_str().unwrap());
        let alone = open_data(closed.to_str().unwrap()).err();
        allow(0o755);
        if is_open {
            println!("skipped: this user may read everything");
            return;
        }
        let set = set.unwrap();
        assert_eq!((set.train.len(), set.understood.classes.len()), (4, 2));
        says(
            &set.understood.lines(),
            &["1 unreadable entry (closed (not readable: this user has no permission))"],
        );
        let message = alone.unwrap().to_string();
        assert!(message.contains("closed") && message.contains("no permission"), "{message}");
    }
}

/// Eight folders that all link to each other: 8! ways through them.
#[test]
#[cfg(unix)]
fn folders_that_link_to_each_other_are_not_walked_in_every_order() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..8).map(|i| format!("f{i}")).collect();
    for name in &names {
        pictures(folder.path(), name, 1);
    }
    for (name, other) in names.iter().flat_map(|a| names.iter().map(move |b| (a, b))).filter(|(a, b)| a != b) {
        std::os::unix::fs::symlink(Path::new("..").join(other), folder.path().join(name).join(other)).unwrap();
    }
    let data = open_data(folder.path().to_str().unwrap()).unwrap();
    // Each folder by itself, and through up to three links.
    assert_eq!(data.train.len(), 8 * (1 + 7 + 7 * 6 + 7 * 6 * 5));
    let problems = data.understood.left_out.iter().find(|l| l.what == "unreadable entries").unwrap();
    assert!(problems.count >= 8 * 7 * 6 * 5 * 4, "{}", problems.count);
}
