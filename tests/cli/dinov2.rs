//! Networks with registers and layer scale, as DINOv2's files have them, through the commands that take weights.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use ocelli::models::weights::{HostTensor, ModuleState as _, StateDict, read_safetensors, write_safetensors};
use ocelli::models::{Arch, Init};

use super::command::{ocelli, stdout};
use super::pretrain;

const CPU: [&str; 2] = ["--device", "cpu"];
const ARCH: &str = "vit-64x2x1/14-reg4";

/// A small network with layer scale in the official names, with the token that is only for training, or without it, as timm saves
/// DINOv2.
fn write(path: &Path, arch: &str, mask_token: bool) {
    let config = arch.parse::<Arch>().unwrap().config(56, 0.0);
    let mut state = StateDict::default();
    state.add_module("", &config.init(&mut Init::new(7, &Device::flex())).unwrap()).unwrap();
    let mut add = |name: String, shape: Vec<usize>, value: f32| {
        let values = vec![value; shape.iter().product()];
        state.tensors.push((name, HostTensor { shape, values }));
    };
    if mask_token {
        add("mask_token".into(), vec![1, 64], 0.0);
    }
    for i in 0..2 {
        add(format!("blocks.{i}.ls1.gamma"), vec![64], 0.5);
        add(format!("blocks.{i}.ls2.gamma"), vec![64], 0.25);
    }
    fs::write(path, write_safetensors(&state).unwrap()).unwrap();
}

#[test]
fn every_command_takes_a_network_with_registers() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let weights = at("small.safetensors");
    write(Path::new(&weights), ARCH, true);

    let said = stdout(&ocelli(&["weights", &weights]));
    for word in ["4 register tokens", "layer scale", "mask_token"] {
        assert!(said.contains(word), "expected {word} in: {said}");
    }
    let sized = ["--size", "56"];
    let embed = ["embed", "scenes:3", "--weights", &weights, "--out", &at("f.safetensors")];
    let said = stdout(&ocelli(&[&embed[..], &CPU, &sized].concat()));
    assert!(said.contains(ARCH) && said.contains("layer scale"), "{said}");
    let table = read_safetensors(&fs::read(at("f.safetensors")).unwrap()).unwrap();
    assert_eq!(table.get("features").unwrap().shape, [3, 64]);

    let maps = ["attention", "scenes:2", "--weights", &weights, "--out", &at("maps")];
    stdout(&ocelli(&[&maps[..], &CPU, &sized].concat()));
    assert!(Path::new(&at("maps")).join("sheet.png").exists());
    let matched = ["match", "scenes:1", "scenes:1", "--weights", &weights, "--out", &at("match.png")];
    // Registers are no cells, and a picture is like itself.
    let said = stdout(&ocelli(&[&matched[..], &CPU, &sized].concat()));
    assert!(said.contains("16 cells, 16 of them in mutual matches"), "{said}");
    let knn = ["eval", "knn", "--data", "scenes:40", "--weights", &weights, "--k", "5", "--json"];
    let report: serde_json::Value =
        serde_json::from_str(&stdout(&ocelli(&[&knn[..], &CPU, &sized].concat()))).unwrap();
    assert_eq!(report["results"][0]["k"], 5);
}

/// A run starts from such a file, and what it leaves behind is opened with its registers.
#[test]
fn a_run_with_registers_starts_from_a_file_and_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let (weights, run) = (folder.path().join("small.safetensors"), folder.path().join("run"));
    write(&weights, ARCH, true);
    let weights = weights.display().to_string();
    let from = ["--init-from", &weights];
    let small = "--set views.global_size_px=28 --set views.local_size_px=14 --set arch=";
    let args =
        |arch: &str| -> Vec<String> { format!("{small}{arch}").split_whitespace().map(str::to_owned).collect() };
    let start = |out: &Path, arch: &str| {
        let args = args(arch);
        let args: Vec<&str> = from.into_iter().chain(args.iter().map(String::as_str)).collect();
        pretrain(out, &args)
    };
    let said = stdout(&start(&run, ARCH));
    assert!(said.contains("resampled from 4×4 to 2×2") && said.contains("layer scale"), "{said}");
    let run = run.display().to_string();
    let out = folder.path().join("f.csv").display().to_string();
    let embed = ["embed", "scenes:2", "--weights", &run, "--size", "28", "--out", &out];
    let said = stdout(&ocelli(&[&embed[..], &CPU].concat()));
    assert!(said.contains(ARCH) && !said.contains("layer scale"), "{said}");

    let output = start(&folder.path().join("other"), "vit-64x2x1/14");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    for words in ["found 4", "registers", &format!("arch = \"{ARCH}\"")] {
        assert!(error.contains(words), "expected {words} in: {error}");
    }
}

/// How positions are resampled goes with what `export` writes, or the command says that it does not.
#[test]
fn exported_networks_resample_positions_as_before() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let features = |weights: &str| {
        let out = format!("{weights}.features.safetensors");
        let embed = ["embed", "scenes:2", "--weights", weights, "--size", "84", "--out", &out];
        stdout(&ocelli(&[&embed[..], &CPU].concat()));
        read_safetensors(&fs::read(&out).unwrap()).unwrap().get("features").unwrap().values.clone()
    };
    for (name, arch) in [("plain", "vit-64x2x1/14"), ("registers", ARCH)] {
        let weights = at(&format!("{name}.safetensors"));
        write(Path::new(&weights), arch, false);
        let before = features(&weights);
        for (format, ending) in [("safetensors", "safetensors"), ("pth-layout", "pth")] {
            let out = at(&format!("{name}-out.{ending}"));
            let said = stdout(&ocelli(&["export", &weights, "--format", format, "--out", &out]));
            // With registers this rule is the usual one, which a file need not name.
            let is_lost = (name, ending) == ("plain", "pth");
            assert_eq!(said.contains("resampled (antialiased)"), is_lost, "{said}");
            assert_eq!(features(&out) == before, !is_lost, "{out}");
        }
    }
}
