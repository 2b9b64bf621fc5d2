//! Bad input: one clear message, exit code 2, nothing lost and nothing left behind. A row of the table each.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::command::{ocelli, refused, stdout};
use super::{TINY, pretrain};

#[test]
fn bad_input_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let out = at("run");
    let run = |data: &str, extra: &[&str], words: &[&str]| {
        let mut args = vec!["pretrain", "--data", data, "--out", &out, "--device", "cpu"];
        args.extend(extra);
        refused(&args, words);
        assert!(!Path::new(&out).exists(), "nothing is left behind");
    };
    run(&at("nowhere"), &[], &["nowhere"]);
    fs::create_dir(folder.path().join("empty")).unwrap();
    run(&at("empty"), &[], &["empty"]);
    fs::create_dir(folder.path().join("texts")).unwrap();
    fs::write(folder.path().join("texts/a.txt"), "no picture").unwrap();
    run(&at("texts"), &[], &["a.txt"]);
    run("scenes:64", &["--arch", "resnet51"], &["unknown architecture", "18, 34, 50"]);
    for name in ["resnet-18é", "resnet18é", "vit-é/16", "é"] {
        run("scenes:64", &["--arch", name], &["unknown architecture", name]);
    }
    run("scenes:64", &["--method", "densecl", "--arch", "vit-s/16"], &["arch: expected a ResNet", "vit-s/16"]);
    let contrast = |set: &str, words: &[&str]| {
        let small = ["--preset", "densecl-laptop", "--set", "moco.queue=32", "--set"];
        run("scenes:64", &[&small[..], &[set]].concat(), words);
    };
    contrast("moco.queue=64", &["moco.queue", "64 entries for 64 images", "48 would do"]);
    contrast("moco.queue=100", &["moco.queue", "multiple of batch_size, 16"]);
    contrast("moco.temperature=0", &["moco.temperature", "above 0"]);
    contrast("moco.momentum=1.5", &["moco.momentum", "0 to 1"]);
    contrast("densecl.lambda=2", &["densecl.lambda", "0 to 1"]);
    contrast("densecl.matching=nearest", &["nearest", "geometric"]);
    contrast("resnet.norm_groups=5", &["resnet.norm_groups", "divisor"]);
    contrast("resnet.stem=tiny", &["tiny", "cifar"]);
    contrast("optim.optimizer=adam", &["optim.optimizer", "lars"]);
    contrast("views.local_crops=4", &["views.local_crops", "two views"]);
    contrast("views.global_size_px=4", &["views.global_size_px", "one cell, 8 px"]);
    run("scenes:64", &["--method", "mae"], &["method", "dino"]);
    run("scenes:64", &["--preset", "laptp"], &["unknown preset", "laptop"]);
    run("scenes:64", &["--set", "optim.lrr=1"], &["unknown key", "did you mean"]);
    run("scenes:64", &["--set", "optim.lr=-1"], &["optim.lr", "expected"]);
    run("scenes:64", &["--set", "batch_size=0"], &["batch_size", "at least 1"]);
    run("scenes:64", &["--set", "batch_size=65"], &["64 images", "batch"]);
    run("scenes:64", &["--set", "views.global_scale=[0.4,1.5]"], &["views.global_scale"]);
    run("scenes:64", &["--set", "views.local_size_px=8"], &["one patch"]);
    // A softmax over one prototype is 1 whatever comes in: a loss of 0 from the first step on.
    run("scenes:64", &["--set", "dino.head.out_dim=1"], &["dino.head.out_dim", "at least 2, found 1"]);
    // A character of several bytes where one of one byte is expected.
    for name in ["resnet-18é", "resnet-é", "vit-sé/16", "vit-s/1６", "é"] {
        run("scenes:64", &["--arch", name], &["arch", name]);
    }
    run("scenes:64", &["--config", &at("none.toml")], &["none.toml"]);
    fs::write(folder.path().join("broken.toml"), "epochs = 3\nseed = = 1\n").unwrap();
    run("scenes:64", &["--config", &at("broken.toml")], &["broken.toml", "line 2"]);
    refused(&["devices", "--device", "gpu:99"], &["gpu:99"]);
    refused(&["devices", "--device", "tpu"], &["auto, gpu, gpu:N or cpu"]);
    refused(&["attention", "scenes:3", "--weights", &at("none")], &["weights", "none"]);
    fs::write(folder.path().join("junk.safetensors"), vec![7u8; 100]).unwrap();
    refused(&["attention", "scenes:3", "--device", "cpu", "--weights", &at("junk.safetensors")], &["safetensors"]);
    refused(&["embed", "scenes:3", "--weights", &at("junk.safetensors"), "--out", "f.txt"], &[".csv"]);
}

/// A PNG that says it has so many pixels, and has none.
fn claiming(width: u32, height: u32) -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        !bytes.iter().fold(!0u32, |crc, b| {
            (0..8).fold(crc ^ u32::from(*b), |c, _| if c & 1 == 1 { 0xEDB8_8320 ^ (c >> 1) } else { c >> 1 })
        })
    };
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    for body in [header.as_slice(), b"IDAT", b"IEND"] {
        png.extend((body.len() as u32 - 4).to_be_bytes());
        png.extend(body);
        png.extend(crc(body).to_be_bytes());
    }
    png
}

/// A folder of 60 good pictures, to put a bad one into.
fn photos(folder: &Path) -> String {
    let photos = folder.join("photos");
    fs::create_dir(&photos).unwrap();
    for i in 0..60u32 {
        let image =
            image::RgbImage::from_fn(40, 40, |x, y| image::Rgb([(x * i) as u8, (y * 6) as u8, (i * 4) as u8]));
        image.save(photos.join(format!("{i:03}.png"))).unwrap();
    }
    photos.display().to_string()
}

/// Damaged pictures: a few are skipped and listed; where none may be, they are named in the message with the reason and the setting.
#[test]
fn damaged_pictures_are_named() {
    let jpeg = {
        let mut bytes = Vec::new();
        let image = image::RgbImage::from_fn(200, 200, |x, y| image::Rgb([(x * y) as u8, y as u8, 90]));
        image.write_to(&mut std::io::Cursor::new(&mut bytes), image::ImageFormat::Jpeg).unwrap();
        bytes
    };
    let rows: [(&str, Vec<u8>, &str); 4] = [
        ("cut.jpg", jpeg[..jpeg.len() / 2].to_vec(), "truncated jpeg"),
        ("huge.png", claiming(60_000, 60_000), "60000x60000"),
        ("noise.webp", vec![7; 500], "expected a JPEG"),
        ("empty.png", Vec::new(), "empty file"),
    ];
    for (name, bytes, words) in rows {
        let folder = tempfile::tempdir().unwrap();
        let (data, out) = (photos(folder.path()), folder.path().join("run").display().to_string());
        fs::write(Path::new(&data).join(name), bytes).unwrap();
        let mut args = vec!["pretrain", "--data", &data, "--out", &out];
        args.extend(TINY);
        args.extend(["--set", "epochs=1", "--overwrite"]);
        let none = [&args[..], &["--set", "loader.max_bad_fraction=0"]].concat();
        refused(&none, &["1 of 61 images are unreadable", "loader.max_bad_fraction", name, words]);
        // One in sixty is more than one per cent, and no reason to stop: it is listed at the end.
        let text = stdout(&ocelli(&args));
        assert!(text.contains("warning: skipped") && text.contains(name), "{text}");
        // Looked at alone it is refused.
        let picture = Path::new(&data).join(name).display().to_string();
        let maps = folder.path().join("maps").display().to_string();
        refused(&["attention", &picture, "--weights", &out, "--out", &maps, "--device", "cpu"], &[name, words]);
        assert!(!Path::new(&maps).exists());
    }
}

/// Pictures of one pixel and of one row are pictures.
#[test]
fn extreme_shapes_are_fine() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (photos(folder.path()), folder.path().join("run").display().to_string());
    for (w, h) in [(1, 1), (20_000, 1), (1, 20_000)] {
        image::RgbImage::from_pixel(w, h, image::Rgb([200, 10, 10])).save(format!("{data}/{w}x{h}.png")).unwrap();
    }
    let mut args = vec!["pretrain", "--data", &data, "--out", &out];
    args.extend(TINY);
    stdout(&ocelli(&args));
    let table = folder.path().join("f.csv").display().to_string();
    stdout(&ocelli(&["embed", &data, "--weights", &out, "--out", &table, "--device", "cpu"]));
    assert_eq!(fs::read_to_string(&table).unwrap().lines().count(), 64);
    for picture in ["1x1", "20000x1", "1x20000"] {
        let maps = folder.path().join(picture).display().to_string();
        let picture = format!("{data}/{picture}.png");
        stdout(&ocelli(&["attention", &picture, "--weights", &out, "--out", &maps, "--device", "cpu"]));
    }
}

#[test]
fn an_output_that_cannot_be_written_is_said_before_training() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "not a folder").unwrap();
    let output = pretrain(&folder.path().join("file/run"), &[]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("file/run: cannot create the folder"), "{message}");
    assert_eq!(fs::read_to_string(folder.path().join("file")).unwrap(), "not a folder");
    // Nobody may write here, whoever they are.
    if cfg!(target_os = "linux") {
        let output = pretrain(Path::new("/proc/ocelli-run"), &[]);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains("/proc/ocelli-run: cannot create the folder"), "{message}");
    }
}

/// A file system of a few megabytes, where this process may make one.
#[cfg(target_os = "linux")]
struct SmallDisk(std::path::PathBuf);

#[cfg(target_os = "linux")]
impl SmallDisk {
    fn new(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let mount = ["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"];
        let done = Command::new("mount").args(mount).arg(at).output().is_ok_and(|o| o.status.success());
        done.then(|| Self(at.to_owned()))
    }

    fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// All files below a folder.
#[cfg(target_os = "linux")]
fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries.flat_map(|p| if p.is_dir() { walk(&p) } else { vec![p] }).collect()
}

/// The disk fills up in the middle of a checkpoint: the one before stays, nothing half-written does, and with room again
/// the run goes on.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // Room for what a run has after two epochs, and half a checkpoint more: far more than report and pictures, which may come
    // later than the checkpoints.
    let two = folder.path().join("two");
    let sets = ["--set", "epochs=4", "--set", "dino.head.out_dim=16384"];
    stdout(&pretrain(&two, &[&sets[..], &["--set", "epochs=2"]].concat()));
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    let files = walk(&two).iter().map(|f| size(f).next_multiple_of(4096)).sum::<u64>();
    let room = files + size(&two.join("checkpoints/epoch-0002.safetensors")) / 2;
    let Some(disk) = SmallDisk::new(&folder.path().join("disk"), &room.to_string()) else {
        println!("skipped: mounting a tmpfs takes more rights than this process has");
        return;
    };
    let run = disk.0.join("run");
    let output = pretrain(&run, &sets);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    for words in ["No space left", "checkpoint", "intact", "--resume"] {
        assert!(message.contains(words), "expected \"{words}\" in: {message}");
    }
    let mut files: Vec<String> = fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ["epoch-0001.safetensors", "epoch-0002.safetensors"]);
    disk.resize("200m");
    let out = run.display().to_string();
    let text = stdout(&ocelli(&["pretrain", "--resume", "--out", &out, "--device", "cpu"]));
    assert!(text.contains("going on from checkpoints/epoch-0002.safetensors"), "{text}");
    assert!(run.join("checkpoints/epoch-0004.safetensors").exists());
}

/// A fault of ours is no bad input: it says so, where it is, and what to attach to a report.
#[test]
fn a_fault_of_ours_says_where_it_is() {
    for place in ["command", "reading", "training"] {
        let output = ocelli(&["fault", place]);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(70), "{place}: {message}");
        let attach = ["report", "RUST_BACKTRACE=1", "device:", env!("CARGO_PKG_VERSION")];
        for words in
            ["a fault in Ocelli", "index out of bounds", "src/cli/fault.rs:", "ocelli fault"].iter().chain(&attach)
        {
            let message = message.replace(env!("CARGO_BIN_EXE_ocelli"), "ocelli");
            assert!(message.contains(words), "{place}: expected \"{words}\" in: {message}");
        }
        assert!(!message.contains("the device failed") && !message.contains("panicked"), "{message}");
    }
    let traced =
        Command::new(env!("CARGO_BIN_EXE_ocelli")).arg("fault").env("RUST_BACKTRACE", "1").output().unwrap();
    assert!(String::from_utf8_lossy(&traced.stderr).contains("stack backtrace"), "{traced:?}");
    let help = stdout(&ocelli(&["--help"]));
    let codes = &help[help.find("Exit codes").unwrap()..];
    assert!(["0 ", "2 ", "3 ", "70 ", "130 "].iter().all(|code| codes.contains(code)), "{codes}");
    assert!(!help.contains("  fault"), "{help}");
}

/// What commands write where the user says goes over nothing that is the user's.
#[test]
fn files_of_the_users_are_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let photo = at("holiday.png");
    image::RgbImage::new(40, 40).save(&photo).unwrap();
    fs::copy(&photo, at("sheet.png")).unwrap();
    for name in ["table.csv", "table.txt"] {
        fs::write(at(name), "mine").unwrap();
    }
    let weights = ["--weights", "random:vit-32x2x2/8", "--device", "cpu", "--out"];
    let refuse = |args: &[&str], out: &str, word: &str| {
        let before = fs::read_dir(folder.path()).unwrap().count();
        refused(&[args, &weights[..], &[&at(out)]].concat(), &[word, "--out"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), before, "{args:?}");
    };
    refuse(&["match", &photo], "holiday.png", "holiday.png");
    refuse(&["attention", &photo], ".", "sheet.png");
    refuse(&["embed", &photo], "table.csv", "--overwrite");
    // The names of the rows go beside the table.
    refuse(&["embed", &photo], "table.npy", "table.txt");
    for name in ["table.csv", "table.txt"] {
        assert_eq!(fs::read(at(name)).unwrap(), b"mine");
    }
    assert_eq!(fs::read(&photo).unwrap(), fs::read(at("sheet.png")).unwrap());
    let (match_out, table) = (at("match.png"), at("table.csv"));
    // Ours are made anew; a table is replaced when asked.
    let matched = [&["match", &photo, "--one-way"], &weights[..], &[&match_out]].concat();
    for _ in 0..2 {
        stdout(&ocelli(&matched));
    }
    let embed = [&["embed", &photo, "--overwrite"], &weights[..], &[&table]].concat();
    stdout(&ocelli(&embed));
    assert!(fs::read_to_string(at("table.csv")).unwrap().contains("holiday.png"));
}

/// The demo replaces no run unless it is asked to.
#[test]
fn the_demo_replaces_nothing_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    let small = ["--data", "scenes:32", "--epochs", "1", "--device", "cpu", "--set", "batch_size=16", "--set"];
    let small = [&small[..], &["arch=vit-32x2x2/8", "--set", "dino.head.out_dim=64"]].concat();
    stdout(&ocelli(&[&["demo", "--out", &out], &small[..]].concat()));
    let rows = || fs::read(folder.path().join("metrics.jsonl")).unwrap();
    let before = rows();
    refused(&[&["demo", "--out", &out], &small[..]].concat(), &["there is a run here already", "--overwrite"]);
    assert_eq!(rows(), before, "the run is as it was");
    stdout(&ocelli(&[&["demo", "--overwrite", "--out", &out], &small[..]].concat()));
}

/// As in `ocelli presets | head -1`: whoever read has enough, and that is nobody's fault.
#[test]
fn a_closed_pipe_is_no_fault() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut tool = Command::new(env!("CARGO_BIN_EXE_ocelli"));
    let output = tool.arg("presets").env_remove("RUST_BACKTRACE").stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
