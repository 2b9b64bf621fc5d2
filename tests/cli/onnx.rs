//! Graphs for other runtimes: their structure always, their features where Python has onnxruntime.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use burn::tensor::Device;
use ocelli::models::weights::{ModuleState as _, StateDict, write_safetensors};
use ocelli::models::{BackboneConfig, Init, PositionRule, ResNetArch, Stem, VitConfig};
use ocelli_onnx::{OPSET, decode, proto, shape_of, unsound};

use crate::command::{ocelli, refused, stdout};

/// Vision Transformers of width 32 for 56 px.
fn vit(patch_size_px: usize, registers: usize, position_rule: PositionRule) -> BackboneConfig {
    BackboneConfig::Vit(VitConfig {
        image_size_px: 56,
        patch_size_px,
        dim: 32,
        depth: 2,
        heads: 2,
        mlp_ratio: 4,
        drop_path: 0.0,
        registers,
        position_rule,
    })
}

fn resnet(arch: &str, stem: Stem) -> BackboneConfig {
    let arch: ResNetArch = arch.parse().unwrap();
    BackboneConfig::ResNet(ocelli::models::ResNetConfig { stem, ..arch.into() })
}

/// Networks whose every tensor matters, and the flags they need.
fn networks() -> Vec<(&'static str, BackboneConfig, &'static [&'static str])> {
    vec![
        ("dino", vit(8, 0, PositionRule::Dino), &["--heads", "2"]),
        ("dinov2-registers", vit(14, 4, PositionRule::Antialiased), &["--heads", "2"]),
        ("transformers", vit(14, 0, PositionRule::Bicubic), &["--heads", "2"]),
        ("resnet-18c8", resnet("resnet-18c8", Stem::Imagenet), &[]),
        ("resnet-50c8", resnet("resnet-50c8", Stem::Imagenet), &[]),
        ("selective-kernels", resnet("resnet-50c8-sk", Stem::Imagenet), &[]),
        ("small-images", resnet("resnet-18c8", Stem::Cifar), &[]),
    ]
}

/// Writes a network's weights: drawn, then moved by noise, so that no norm is the identity and no register is zero.
fn write(folder: &Path, name: &str, config: &BackboneConfig) -> PathBuf {
    let net = config.init(&mut Init::new(3, &Device::flex())).unwrap();
    let mut state = StateDict::default();
    state.add_module("", &net).unwrap();
    let mut noise = 7u32;
    for (name, tensor) in &mut state.tensors {
        for value in &mut tensor.values {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let share = (noise >> 8) as f32 / (1 << 24) as f32;
            // Variances stay above zero.
            *value += if name.ends_with("running_var") { share } else { 0.2 * (share - 0.5) };
        }
    }
    state.metadata.insert("mean".into(), "[0.5,0.4,0.3]".into());
    state.metadata.insert("std".into(), "[0.2,0.2,0.25]".into());
    state.metadata.insert("resize_px".into(), "64".into());
    state.metadata.insert("crop_px".into(), "56".into());
    if let Some(vit) = net.as_vit() {
        let rule = vit.position_entry();
        state.metadata.extend(rule.map(|(key, rule)| (key.to_owned(), rule)));
    }
    let file = folder.join(format!("{name}.safetensors"));
    fs::write(&file, write_safetensors(&state).unwrap()).unwrap();
    file
}

fn export(source: &Path, out: &Path, flags: &[&[&str]]) -> Output {
    let (source, out) = (source.display().to_string(), out.display().to_string());
    let mut args = vec!["export", &source, "--format", "onnx", "--out", &out];
    args.extend(flags.concat());
    ocelli(&args)
}

#[test]
fn graphs_are_sound_and_say_what_they_want() {
    let folder = tempfile::tempdir().unwrap();
    for (name, config, flags) in networks() {
        let source = write(folder.path(), name, &config);
        let is_vit = matches!(config, BackboneConfig::Vit(_));
        for dynamic in [false, true] {
            let out = folder.path().join(format!("{name}-{dynamic}.onnx"));
            let more: &[&str] = if dynamic { &["--dynamic"] } else { &["--batch", "3"] };
            let text = stdout(&export(&source, &out, &[flags, more]));
            assert!(text.contains("opset 17") && text.contains("mean 0.5,0.4,0.3"), "{text}");
            let model = decode(&fs::read(&out).unwrap()).unwrap();
            assert_eq!(unsound(&model), None, "{name}");
            assert_eq!(model.opset_import, [proto::OperatorSet { domain: String::new(), version: OPSET }]);
            let told = |key: &str| model.metadata_props.iter().find(|p| p.key == key).map(|p| p.value.as_str());
            assert_eq!(told("mean"), Some("[0.5,0.4,0.3]"));
            assert_eq!((told("resize_px"), told("crop_px")), (Some("64"), Some("56")));
            let graph = model.graph.unwrap();
            let shapes = |values: &[proto::ValueInfo]| -> Vec<String> {
                values.iter().map(|value| format!("{} {}", value.name, shape_of(value))).collect()
            };
            let sizes = if dynamic { "batch, 3, height, width" } else { "3, 3, 56, 56" };
            assert_eq!(shapes(&graph.input), [format!("pixels [{sizes}]")]);
            let outputs = shapes(&graph.output);
            let batch = if dynamic { "batch" } else { "3" };
            let second = if is_vit { "tokens" } else { "map" };
            assert!(outputs[0].starts_with(&format!("features [{batch}, ")), "{outputs:?}");
            assert!(outputs[1].starts_with(&format!("{second} [{batch}, ")), "{outputs:?}");
            if name == "dinov2-registers" && !dynamic {
                assert_eq!(outputs[1], "tokens [3, 17, 32]", "registers do not come out");
            }
        }
    }
    // No file that is not whole stays behind.
    let hidden = fs::read_dir(folder.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(hidden.count(), 0);
}

#[test]
fn onnxruntime_gives_our_features() {
    let python = std::env::var("OCELLI_PYTHON").unwrap_or_else(|_| "python3".into());
    let there = Command::new(&python).args(["-c", "import onnxruntime"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        println!("skipped: {python} has no onnxruntime (set OCELLI_PYTHON to one that has)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, config, flags) in networks() {
        let source = write(folder.path(), name, &config);
        // Any size, another one than the positions are stored for; and once the stored one, and one with a rest.
        let flags_of_size: [&[&str]; 4] =
            [&["--dynamic"], &["--size", "96", "--batch", "1"], &["--size", "56"], &["--size", "45"]];
        for more in flags_of_size.into_iter().take(if name == "dino" { 4 } else { 2 }) {
            let out = folder.path().join(format!("{name}.onnx"));
            let text = stdout(&export(&source, &out, &[flags, more, &["--check", "--overwrite"]]));
            let checked = text.lines().filter(|line| line.starts_with("onnxruntime ")).count();
            assert_eq!(checked, if more == ["--dynamic"] { 2 } else { 1 }, "{name} {more:?}: {text}");
            assert!(text.contains("agrees for a batch of"), "{text}");
        }
    }
}

#[test]
fn what_a_graph_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let source = write(folder.path(), "net", &vit(8, 0, PositionRule::Dino)).display().to_string();
    let out = folder.path().join("net.onnx").display().to_string();
    let onnx = ["export", &source, "--format", "onnx", "--out", &out, "--heads", "2"];
    let with = |more: &[&'static str]| [&onnx[..], more].concat();
    refused(&with(&["--dtype", "f16"]), &["written as f32"]);
    refused(&with(&["--what", "head"]), &["expected a backbone"]);
    refused(&with(&["--batch", "0"]), &["expected a number of images"]);
    refused(&with(&["--size", "7"]), &["at least one patch", "8×8 px"]);
    refused(&["export", &source, "--format", "safetensors", "--out", &out, "--dynamic"], &["--dynamic is for"]);
    let program = env!("CARGO_BIN_EXE_ocelli");
    let output =
        Command::new(program).args(with(&["--check"])).env("OCELLI_PYTHON", "no-such-python").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for words in ["was not written", "cannot start no-such-python", "pip install onnxruntime"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["net.safetensors"], "nothing is left of what was refused");
}
