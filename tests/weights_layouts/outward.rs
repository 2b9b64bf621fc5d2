//! Out to other programs, and in from Hugging Face's cache.

use std::fs;
use std::process::{Command, Output};

use ocelli::models::weights::{HostTensor, StateDict, read_data_pickle, write_safetensors};

use super::{layout, own};
use crate::command::{ocelli, refused, stdout};

#[test]
fn a_resnet_goes_to_detectron2() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (source, out) = (layout("hf-resnet").display().to_string(), at("r.pkl"));
    let said = stdout(&ocelli(&["export", &source, "--format", "detectron2", "--out", &out]));
    assert!(
        said.contains("STRIDE_IN_1X1: False") && said.contains("PIXEL_MEAN: [123.675, 116.28, 103.53]"),
        "{said}"
    );
    let bytes = fs::read(&out).unwrap();
    let pickle = read_data_pickle(&bytes).unwrap();
    assert_eq!(pickle["matching_heuristics"], true);
    let model = pickle["model"].as_object().unwrap();
    let state = own("hf-resnet/model.safetensors");
    assert_eq!(model.len(), state.tensors.len());
    for (own, there) in [
        ("conv1.weight", "stem.conv1.weight"),
        ("bn1.running_mean", "stem.conv1.norm.running_mean"),
        ("layer1.0.conv2.weight", "res2.0.conv2.weight"),
        ("layer4.0.downsample.0.weight", "res5.0.shortcut.weight"),
        ("layer4.0.downsample.1.running_var", "res5.0.shortcut.norm.running_var"),
    ] {
        let mut flat = Vec::new();
        flatten(&model[there], &mut flat);
        assert_eq!(flat, state.get(own).unwrap().values, "{there}");
    }
    refused(&["export", &source, "--format", "detectron2", "--out", &at("r.pth")], &["ends in .pkl"]);
    let vit = layout("hf-vit").display().to_string();
    refused(&["export", &vit, "--format", "detectron2", "--out", &at("v.pkl")], &["expected a ResNet"]);
    // detectron2 has no stem for small images.
    let mut small = StateDict { tensors: state.tensors.clone(), ..StateDict::default() };
    small.tensors.retain(|(n, _)| n != "conv1.weight");
    small.tensors.push(("conv1.weight".into(), HostTensor { shape: vec![4, 3, 3, 3], values: vec![0.1; 108] }));
    fs::write(at("small.safetensors"), write_safetensors(&small).unwrap()).unwrap();
    refused(
        &["export", &at("small.safetensors"), "--format", "detectron2", "--out", &at("s.pkl")],
        &["one convolution of 7×7 pixels"],
    );

    let check = "import pickle, sys, numpy as np\n\
                 d = pickle.load(open(sys.argv[1], 'rb'), encoding='latin1')\n\
                 assert d['matching_heuristics'] is True and d['__author__'].startswith('ocelli')\n\
                 w = d['model']['res5.0.shortcut.weight']\n\
                 assert w.dtype == np.float32 and w.shape == (32, 16, 1, 1) and w.flags.c_contiguous\n\
                 print(len(d['model']))\n";
    let python = std::env::var("OCELLI_PYTHON").unwrap_or_else(|_| "python3".into());
    let there = Command::new(&python).args(["-c", "import numpy"]).output();
    if !there.is_ok_and(|o| o.status.success()) {
        eprintln!("skipped: {python} has no numpy (OCELLI_PYTHON names another)");
        return;
    }
    let said = stdout(&Command::new(python).args(["-c", check, &out]).output().unwrap());
    assert_eq!(said.trim(), state.tensors.len().to_string());
}

fn flatten(value: &serde_json::Value, out: &mut Vec<f32>) {
    match value.as_array() {
        Some(items) => items.iter().for_each(|item| flatten(item, out)),
        None => out.push(value.as_f64().unwrap() as f32),
    }
}

/// The tool with a cache of its own.
fn with_cache(cache: &std::path::Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocelli"));
    command.args(args).env_remove("RUST_BACKTRACE").env("HF_HUB_CACHE", cache).output().unwrap()
}

#[test]
fn what_hugging_face_has_cached_is_found_by_name() {
    let cache = tempfile::tempdir().unwrap();
    let repository = cache.path().join("models--some--small-vit");
    let snapshot = repository.join("snapshots/0123abc");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::write(repository.join("refs/main"), "0123abc").unwrap();
    for name in ["config.json", "preprocessor_config.json", "model.safetensors"] {
        fs::copy(layout("hf-vit").join(name), snapshot.join(name)).unwrap();
    }
    let said = stdout(&with_cache(cache.path(), &["weights", "hf:some/small-vit"]));
    for words in ["transformers' names", "mean 0.5,0.4,0.3", "a classifier of 3 classes", "Use it with --weights"]
    {
        assert!(said.contains(words), "expected \"{words}\" in: {said}");
    }
    let out = cache.path().join("f.csv").display().to_string();
    let embed = ["embed", "scenes:1", "--device", "cpu", "--out", &out, "--weights"];
    stdout(&with_cache(cache.path(), &[&embed[..], &["hf:some/small-vit"]].concat()));
    let output = with_cache(cache.path(), &["weights", "hf:some/other"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("cached on this machine") && message.contains("--download gets it"), "{message}");
}

/// Hugging Face's program, played by a script: it writes down what it was called with and caches a network.
#[cfg(unix)]
#[test]
fn what_is_not_cached_is_downloaded_when_asked_for() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let (cache, bin, calls) =
        (folder.path().join("cache"), folder.path().join("bin"), folder.path().join("calls"));
    fs::create_dir_all(&bin).unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ocelli"));
        command
            .args(args)
            .env_remove("RUST_BACKTRACE")
            .env("HF_HUB_CACHE", &cache)
            .env("PATH", &bin)
            .output()
            .unwrap()
    };
    let failed = |args: &[&str]| {
        let output = run(args);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let weights = ["weights", "hf:some/small-vit@v1", "--download"];
    let message = failed(&weights);
    assert!(
        message.contains("hf or huggingface-cli") && message.contains("pip install huggingface_hub"),
        "{message}"
    );

    // Only the older program is there, and it fails.
    let program = |name: &str, script: &str| {
        let path = bin.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    program("huggingface-cli", "echo no such repository >&2; exit 3");
    let message = failed(&weights);
    assert!(
        message.contains("no such repository") && message.contains("huggingface-cli download some/small-vit"),
        "{message}"
    );

    // It gives the pickle alone, so safetensors are asked for first.
    let from = layout("hf-vit");
    let snapshot = cache.join("models--some--small-vit/snapshots/0123abc");
    let refs = cache.join("models--some--small-vit/refs");
    program(
        "hf",
        &format!(
            "echo \"$@\" >> {calls}; echo of the program; /bin/mkdir -p {snapshot} {refs}; printf 0123abc > {refs}/v1\n\
             case \"$6\" in *.json) /bin/cp {from}/config.json {snapshot};; pytorch*) /bin/cp {from}/model.safetensors \
             {snapshot}/pytorch_model.bin;; esac",
            calls = calls.display(),
            snapshot = snapshot.display(),
            refs = refs.display(),
            from = from.display(),
        ),
    );
    let message = failed(&weights[..2]);
    assert!(message.contains("--download gets it") && !calls.exists(), "{message}");
    let said = stdout(&run(&weights));
    assert!(said.contains("transformers' names") && !said.contains("of the program"), "{said}");
    let called = fs::read_to_string(&calls).unwrap();
    let patterns = ["*.json", "model*.safetensors", "pytorch_model*.bin"];
    let expected = patterns.map(|p| format!("download some/small-vit --revision v1 --include {p}\n")).concat();
    assert_eq!(called, expected);
    // What is there is not asked for again.
    stdout(&run(&weights));
    assert_eq!(fs::read_to_string(&calls).unwrap(), expected);

    // An index comes before its shards: a download that ended between them is taken up again.
    let snapshot = cache.join("models--some--shards/snapshots/0123abc");
    fs::create_dir_all(&snapshot).unwrap();
    let from = layout("hf-shards");
    for name in ["config.json", "model.safetensors.index.json"] {
        fs::copy(from.join(name), snapshot.join(name)).unwrap();
    }
    let copy = format!("/bin/cp {}/model-* {}", from.display(), snapshot.display());
    program("hf", &format!("case \"$6\" in model*) {copy};; esac"));
    let said = stdout(&run(&["weights", "hf:some/shards", "--download"]));
    assert!(said.contains("transformers' names"), "{said}");
}

/// No file is written that no command would open again.
#[test]
fn heads_that_do_not_fit_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("v.safetensors");
    let source = layout("hf-vit").display().to_string();
    let export = ["export", &source, "--format", "safetensors", "--out", out.to_str().unwrap(), "--heads"];
    for heads in ["0", "3"] {
        refused(&[&export[..], &[heads]].concat(), &["--heads", "divides the network's width, 16"]);
    }
    assert!(!out.exists());
}

/// DINOv2's positions are for 518 px; it is evaluated at 224.
#[test]
fn dinov2_is_evaluated_at_its_usual_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.safetensors");
    let mut state = own("hf-vit/model.safetensors");
    state.metadata.clear();
    state.tensors.retain(|(n, _)| n != "pos_embed" && n != "patch_embed.proj.weight");
    for (name, shape) in [("pos_embed", vec![1, 1370, 16]), ("patch_embed.proj.weight", vec![16, 3, 14, 14])] {
        let values = vec![0.01; shape.iter().product()];
        state.tensors.push((name.into(), HostTensor { shape, values }));
    }
    let said = |state: &StateDict| {
        fs::write(&path, write_safetensors(state).unwrap()).unwrap();
        stdout(&ocelli(&["weights", path.to_str().unwrap()]))
    };
    let plain = said(&state);
    assert!(plain.contains("centre crop of 224 px (a guess: what DINOv2 is evaluated at"), "{plain}");
    let size = [("resize_px", "518"), ("crop_px", "518")];
    state.metadata.extend(size.map(|(k, v)| (k.to_owned(), v.to_owned())));
    let told = said(&state);
    assert!(told.contains("centre crop of 518 px (the file's metadata)"), "{told}");
}
