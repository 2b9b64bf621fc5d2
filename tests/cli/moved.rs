//! Runs that go on from another folder, and data and weights that have moved.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ocelli::models::weights::{ModuleState as _, StateDict, write_safetensors};
use ocelli::models::{BackboneConfig, Init, ResNetArch};
use serde_json::Value;

use super::TINY;
use super::command::stdout;
use super::transfer::{DETECTION, SEGMENTATION};

/// A folder with two classes of pictures.
fn photos(folder: &Path) {
    for i in 0..40u32 {
        let class = folder.join(["cats", "dogs"][i as usize % 2]);
        fs::create_dir_all(&class).unwrap();
        let image =
            image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([(x * i) as u8, (y * 7) as u8, (i * 6) as u8]));
        image.save(class.join(format!("{i:02}.png"))).unwrap();
    }
}

/// Runs the tool as somebody who stands in `folder`.
fn within(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ocelli")).args(args).current_dir(folder).output().unwrap()
}

fn refused(output: &Output, words: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    for word in words {
        assert!(message.contains(word), "expected \"{word}\" in: {message}");
    }
}

fn manifest(run: &Path) -> Value {
    serde_json::from_slice(&fs::read(run.join("manifest.json")).unwrap()).unwrap()
}

/// Weights of a tiny ResNet.
fn resnet(path: &Path) {
    let arch: ResNetArch = "resnet-18c8".parse().unwrap();
    let mut state = StateDict::default();
    let network = BackboneConfig::ResNet(arch.into()).init(&mut Init::new(1, &burn::tensor::Device::flex()));
    state.add_module("", &network.unwrap()).unwrap();
    fs::write(path, write_safetensors(&state).unwrap()).unwrap();
}

/// As after a run that was stopped: without its last checkpoints.
fn stop_after(run: &Path, epochs: usize) {
    for entry in fs::read_dir(run.join("checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.as_str() >= format!("epoch-{:04}", epochs + 1).as_str() || epochs == 0 {
            fs::remove_file(path).unwrap();
        }
    }
}

/// A project with a run in it, and another folder to stand in.
struct Project {
    _folder: tempfile::TempDir,
    home: PathBuf,
    elsewhere: PathBuf,
}

impl Project {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Links out of the way, as a system's folder of temporary files may have them.
        let root = folder.path().canonicalize().unwrap();
        let (home, elsewhere) = (root.join("project"), root.join("elsewhere"));
        photos(&home.join("photos"));
        fs::create_dir(&elsewhere).unwrap();
        Self { _folder: folder, home, elsewhere }
    }
}

#[test]
fn a_run_goes_on_from_wherever_one_stands() {
    let Project { _folder, home, elsewhere } = Project::new();
    let begin = ["pretrain", "--data", "photos", "--out", "runs/a"];
    stdout(&within(&home, &[&begin[..], &TINY].concat()));
    let path = home.join("photos").display().to_string();
    let told = manifest(&home.join("runs/a"));
    assert_eq!((&told["data"], &told["data_path"]), (&"photos".into(), &path.as_str().into()));

    // From another folder, and from one in which the same name is something else.
    let run = home.join("runs/a").display().to_string();
    let resume = ["pretrain", "--resume", "--out", &run, "--device", "cpu"];
    for other in [false, true] {
        if other {
            fs::create_dir(elsewhere.join("photos")).unwrap();
        }
        stop_after(&home.join("runs/a"), 1);
        let text = stdout(&within(&elsewhere, &resume));
        for words in ["photos is taken from where the run began", &path, "going on from checkpoints/epoch-0001"] {
            assert!(text.contains(words), "expected \"{words}\" in: {text}");
        }
        let told = manifest(&home.join("runs/a"));
        assert_eq!((&told["data"], &told["data_path"]), (&"photos".into(), &path.as_str().into()));
    }

    // The whole project has moved: from within it nothing has. That it may be another folder of the name is said.
    let moved = home.with_file_name("moved");
    fs::rename(&home, &moved).unwrap();
    stop_after(&moved.join("runs/a"), 1);
    let here = ["pretrain", "--resume", "--out", "runs/a", "--device", "cpu"];
    let text = stdout(&within(&moved, &here));
    let now = format!(
        "photos is no longer where it was when the run began ({path}): taken is what it names from here, "
    );
    for words in ["going on from", &format!("{now}{}", moved.join("photos").display())] {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }

    // The data is nowhere: the message has both paths and says what to do.
    fs::rename(moved.join("photos"), moved.join("pictures")).unwrap();
    stop_after(&moved.join("runs/a"), 1);
    let path = moved.join("photos").display().to_string();
    refused(&within(&moved, &here), &["runs/a", "photos", &path, "--data NEW"]);
    stdout(&within(&moved, &[&here[..], &["--data", "pictures"]].concat()));
    let told = manifest(&moved.join("runs/a"));
    assert_eq!(told["data_path"], moved.join("pictures").display().to_string());

    // A run of an earlier version says less.
    let mut old = told;
    old.as_object_mut().unwrap().retain(|key, _| !key.ends_with("_path"));
    fs::write(moved.join("runs/a/manifest.json"), old.to_string()).unwrap();
    stop_after(&moved.join("runs/a"), 1);
    stdout(&within(&moved, &here));
    fs::write(moved.join("runs/a/manifest.json"), old.to_string()).unwrap();
    let run = moved.join("runs/a").display().to_string();
    let resume = ["pretrain", "--resume", "--out", &run, "--device", "cpu"];
    refused(&within(&elsewhere, &resume), &["pictures", "--data NEW"]);
}

/// A run that has no checkpoint yet begins from its weights again, wherever one stands.
#[test]
fn the_weights_of_a_run_are_found_again() {
    let Project { _folder, home, elsewhere } = Project::new();
    stdout(&within(&home, &[&["pretrain", "--data", "photos", "--out", "first"][..], &TINY].concat()));
    let go_on = |command: &[&str], out: &str, extra: &[&str]| {
        let out = home.join(out).display().to_string();
        stdout(&within(&elsewhere, &[command, &["--resume", "--device", "cpu", "--out", &out], extra].concat()))
    };

    let begin = ["pretrain", "--data", "photos", "--out", "second", "--init-from", "first"];
    stdout(&within(&home, &[&begin[..], &TINY].concat()));
    let told = manifest(&home.join("second"));
    assert_eq!(told["weights_path"], home.join("first").display().to_string());
    stop_after(&home.join("second"), 0);
    assert!(go_on(&["pretrain"], "second", &[]).contains("begins anew"));
    let config = fs::read_to_string(home.join("second/config.toml")).unwrap();
    assert!(config.contains("init_from = \"first\"") && !config.contains("init_from_path"), "{config}");

    let classify = "finetune classification --data photos --weights first --out classes --device cpu --epochs 1 \
                    --set batch_size=16 --set optim.warmup_epochs=0";
    stdout(&within(&home, &classify.split_whitespace().collect::<Vec<_>>()));
    stop_after(&home.join("classes"), 0);
    go_on(&["finetune", "classification"], "classes", &[]);

    let probe = "eval linear --data photos --weights first --out probe --device cpu --cached --epochs 2 --batch-size 16 \
                 --rates 0.1";
    stdout(&within(&home, &probe.split_whitespace().collect::<Vec<_>>()));
    stop_after(&home.join("probe"), 1);
    go_on(&["eval", "linear"], "probe", &[]);

    // What is read is a file of weights here.
    resnet(&home.join("r18.safetensors"));
    for (task, flags) in [("detection", DETECTION), ("segmentation", SEGMENTATION)] {
        let flags = flags.replace("random:resnet-18c8", "r18.safetensors");
        let begin =
            [&["finetune", task, "--out", task], &flags.split_whitespace().collect::<Vec<_>>()[..]].concat();
        stdout(&within(&home, &begin));
        stop_after(&home.join(task), 0);
        go_on(&["finetune", task], task, &[]);
    }
}
