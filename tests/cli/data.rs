//! What the commands make of a data set, as a person sees it. How folders are understood is tested in `ocelli-data`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

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

/// Runs the tool in a folder.
fn within(folder: &Path, args: &[&str]) -> String {
    stdout(&Command::new(env!("CARGO_BIN_EXE_ocelli")).args(args).current_dir(folder).output().unwrap())
}

/// `cd photos; ocelli pretrain --data . --out runs/first`, interrupted, resumed, and again: no run sees another's charts, nor its own.
#[test]
fn runs_within_the_data_are_no_data() {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    fill(&photos, ".", 0, 16);
    let run = |out| {
        let mut args = vec!["pretrain", "--data", ".", "--out", out];
        args.extend(super::TINY);
        args.extend(["--set", "eval.every_epochs=0", "--set", "epochs=40"]);
        args
    };
    let mut child = Command::new(env!("CARGO_BIN_EXE_ocelli"))
        .args(run("runs/first"))
        .current_dir(&photos)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let rows = photos.join("runs/first/metrics.jsonl");
    let has_begun = || fs::read_to_string(&rows).is_ok_and(|rows| rows.contains("\"epoch\""));
    while !has_begun() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before its first epoch");
        std::thread::sleep(Duration::from_millis(5));
    }
    if cfg!(unix) {
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    } else {
        child.kill().unwrap();
    }
    child.wait().unwrap();
    assert!(photos.join("runs/first/pictures/views.png").exists(), "there is something to learn from");

    let text = within(&photos, &["pretrain", "--resume", "--out", "runs/first", "--device", "cpu"]);
    for words in ["data: 16 images, no classes", "1 folder of a run (runs/first)"] {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }
    let text = within(&photos, &[&run("runs/second")[..], &["--set", "epochs=1"]].concat());
    assert!(text.contains("data: 16 images") && text.contains("1 folder of a run (runs/first)"), "{text}");
    let weights = ["--weights", "runs/second", "--device", "cpu", "--out"];
    within(&photos, &[&["attention", ".", "--limit", "2"][..], &weights, &["maps"]].concat());
    within(&photos, &[&["match", "1.png", "--one-way"][..], &weights, &["match.png"]].concat());
    let text = within(&photos, &[&["embed", "."][..], &weights, &["features.csv"]].concat());
    for words in ["data: 16 images", "2 folders of runs", "pictures that Ocelli drew (maps/", "of 16 images"] {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }
    assert_eq!(fs::read_to_string(photos.join("features.csv")).unwrap().lines().count(), 17);
    // A copy of a chart elsewhere is known by its mark.
    fs::copy(photos.join("runs/first/pictures/views.png"), photos.join("copy.png")).unwrap();
    let text = within(&photos, &[&run("runs/third")[..], &["--dry-run"]].concat());
    assert!(text.contains("data: 16 images") && text.contains("copy.png"), "{text}");
}

/// Two damaged pictures among four, and links and pipes as folders have them: each command lists them and goes on; alone they are
/// refused.
#[test]
fn one_bad_entry_stops_no_command() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let photos = folder.path().join("photos");
    fill(&photos, ".", 1, 4);
    let mut jpeg = Vec::new();
    let noise = image::RgbImage::from_fn(99, 99, |x, y| image::Rgb([(x * y) as u8, (x ^ y) as u8, 90]));
    noise.write_to(&mut std::io::Cursor::new(&mut jpeg), image::ImageFormat::Jpeg).unwrap();
    fs::write(photos.join("0-cut.jpg"), &jpeg[..jpeg.len() / 3]).unwrap();
    fs::write(photos.join("3-empty.jpg"), "").unwrap();
    #[cfg(unix)]
    for (to, name) in [("nowhere", "gone.jpg"), ("..", "up"), ("round.jpg", "round.jpg")] {
        std::os::unix::fs::symlink(to, photos.join(name)).unwrap();
    }
    let listed =
        if cfg!(unix) { &["3 unreadable entries (gone.jpg", "a link that leads nowhere"][..] } else { &[] };
    let (data, cut, good) = (at("photos"), at("photos/0-cut.jpg"), at("photos/1.png"));
    let network = ["--weights", "random:vit-32x2x2/8", "--device", "cpu"];
    let (maps, matched, table, sheet, run) =
        (at("maps"), at("match.png"), at("t.csv"), at("sheet.png"), at("run"));
    let commands: [&[&str]; 5] = [
        &["attention", &data, "--sheet-only", "--out", &maps],
        &["eval", "correspondence", "--data", &data, "--size", "32"],
        &["embed", &data, "--out", &table],
        &["search", &data, "--in", &data, "--top", "2", "--out", &sheet],
        &["duplicates", &data, "--json"],
    ];
    for command in commands {
        let text = stdout(&ocelli(&[command, &network].concat()));
        for words in ["0-cut.jpg", "3-empty.jpg"] {
            assert!(text.contains(words), "{command:?}: expected \"{words}\" in: {text}");
        }
        if !command.contains(&"--json") {
            for words in listed.iter().chain(&["warning: skipped"]) {
                assert!(text.contains(words), "{command:?}: expected \"{words}\" in: {text}");
            }
        }
    }
    assert_eq!(fs::read_to_string(&table).unwrap().lines().count(), 5);
    // Of a folder the first picture that can be read is matched.
    let text = stdout(&ocelli(&[&["match", &data, &good, "--one-way", "--out", &matched][..], &network].concat()));
    assert!(text.contains("warning: skipped 0-cut.jpg"), "{text}");
    // A third of six is more than one per cent, and still only two.
    let mut train = vec!["pretrain", "--data", &data, "--out", &run];
    train.extend(super::TINY);
    train.extend(["--set", "batch_size=4", "--set", "epochs=3", "--set", "eval.every_epochs=0"]);
    let text = stdout(&ocelli(&train));
    for words in ["warning: skipped 0-cut.jpg", "warning: skipped 3-empty.jpg"].iter().chain(listed) {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }
    train.extend(["--overwrite", "--set", "loader.max_bad_fraction=0"]);
    // Whichever is met first.
    refused(&train, &["of 6 images are unreadable, at most 0", "loader.max_bad_fraction", ".jpg: "]);
    // Nothing is left of these.
    for command in [
        &["attention", &cut, "--out", &at("none")][..],
        &["match", &cut, "--out", &at("none.png")],
        &["match", &good, &cut, "--out", &at("none.png")],
        &["embed", &cut, "--out", &at("none.csv")],
        &["eval", "correspondence", "--data", &cut, "--size", "32"],
    ] {
        refused(&[command, &network].concat(), &["0-cut.jpg"]);
    }
    assert!(["none", "none.png", "none.csv"].iter().all(|name| !Path::new(&at(name)).exists()));

    // Labelled: the neighbours and queries that were left out are listed, also where they measure a run.
    for (class, name) in ["ant", "bee"].into_iter().enumerate() {
        fill(&folder.path().join("set"), &format!("train/{name}"), class as u32, 4);
        fill(&folder.path().join("set"), &format!("val/{name}"), class as u32, 2);
    }
    fs::write(at("set/train/ant/9.jpg"), "").unwrap();
    fs::write(at("set/val/bee/9.jpg"), "").unwrap();
    let knn = ["eval", "knn", "--data", &at("set"), "--k", "1", "--size", "32"];
    let text = stdout(&ocelli(&[&knn[..], &network].concat()));
    for words in ["warning: skipped ant/9.jpg", "warning: skipped bee/9.jpg", "8 neighbours, 4 queries", "100.0 %"]
    {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }
    let (set, measured) = (at("set"), at("measured"));
    let mut train = vec!["pretrain", "--data", &set, "--out", &measured];
    train.extend(super::TINY);
    train.extend(["--set", "batch_size=4", "--set", "epochs=3"]);
    let text = stdout(&ocelli(&train));
    for words in ["warning: skipped ant/9.jpg", "warning: skipped bee/9.jpg"] {
        assert_eq!(text.matches(words).count(), 1, "expected \"{words}\" once in: {text}");
    }
}
