//! One check: what `ocelli weights` recommends every command takes, and what it does not every command refuses in the same words.

use std::fs;
use std::path::Path;

use ocelli::models::weights::preprocessing::Statistics;
use ocelli::models::weights::{HostTensor, StateDict, write_safetensors};
use ocelli::models::{Arch, BackboneConfig};
use ocelli::train::{Loading, load_into};

use super::{layout, own};
use crate::command::{ocelli, refused, stdout};
use crate::support::device;

fn add(state: &mut StateDict, name: &str, shape: &[usize]) {
    let values = vec![0.1; shape.iter().product()];
    state.tensors.push((name.to_owned(), HostTensor { shape: shape.to_vec(), values }));
}

fn rename(state: &mut StateDict, from: &str, to: &str) {
    for (name, _) in &mut state.tensors {
        *name = name.replace(from, to);
    }
}

fn agree(path: &Path, words: Option<&str>) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let path_text = path.display().to_string();
    let said = stdout(&ocelli(&["weights", &path_text]));
    let (features, exported) = (at("f.csv"), at("e.safetensors"));
    let embed = ["embed", "scenes:1", "--weights", &path_text, "--heads", "2", "--size", "16", "--device", "cpu"];
    let embed = [&embed[..], &["--out", &features]].concat();
    let export = ["export", &path_text, "--heads", "2", "--format", "safetensors", "--out", &exported];
    let arch: Arch = "vit-16x2x2/4".parse().unwrap();
    let config = BackboneConfig::Vit(ocelli::models::VitConfig { mlp_ratio: 2, ..arch.config(16, 0.0) });
    let from = load_into(path, &config, Statistics::IMAGENET, &device());
    match words {
        None => {
            assert!(said.contains("Use it with --weights"), "{said}");
            stdout(&ocelli(&embed));
            stdout(&ocelli(&export));
            assert!(from.is_ok(), "{}", from.unwrap_err());
            // And what was exported is the same network, heads included.
            let again = stdout(&ocelli(&["weights", &exported]));
            assert!(again.contains("Use it with --weights") && !again.contains("Give --heads"), "{again}");
        }
        Some(words) => {
            assert!(said.contains("No command here takes it") && said.contains(words), "{words}: {said}");
            refused(&embed, &[words]);
            refused(&export, &[words]);
            let error = from.err().unwrap().to_string();
            assert!(error.contains(words), "{words}: {error}");
        }
    }
}

#[test]
fn every_command_agrees_on_vision_transformers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.safetensors");
    type Change = fn(&mut StateDict);
    let cases: [(Change, Option<&str>); 13] = [
        (|_| {}, None),
        // Classifiers and what only training needs.
        (
            |s| {
                for name in ["head.weight", "fc.weight", "head_dist.weight", "pre_logits.fc.weight"] {
                    add(s, name, &[3, 16]);
                }
                add(s, "mask_token", &[1, 1, 16]);
                add(s, "decoder_blocks.0.attn.qkv.weight", &[48, 16]);
                add(s, "decoder_pred.weight", &[48, 16]);
            },
            None,
        ),
        (|s| s.tensors.retain(|(n, _)| !n.ends_with("attn.qkv.bias")), None),
        (|s| rename(s, "mlp.fc1", "mlp.w12"), Some("SwiGLU (ViT-g)")),
        (
            |s| {
                for (name, tensor) in &mut s.tensors {
                    if name.ends_with("mlp.fc2.weight") {
                        *tensor = HostTensor { shape: vec![16, 16], values: vec![0.1; 256] };
                    }
                }
            },
            Some("SwiGLU (ViT-g)"),
        ),
        (|s| add(s, "dist_token", &[1, 1, 16]), Some("distilled DeiT")),
        (|s| s.tensors.retain(|(n, _)| n != "cls_token"), Some("no class token")),
        (|s| s.tensors.retain(|(n, _)| n != "pos_embed"), Some("rotary or relative positions")),
        (|s| rename(s, "norm.weight", "fc_norm.weight"), Some("averages its patches")),
        (
            |s| add(s, "blocks.0.attn.relative_position_bias_table", &[9, 2]),
            Some("1 unexpected: blocks.0.attn.rel"),
        ),
        (|s| add(s, "norm_pre.weight", &[16]), Some("1 unexpected: norm_pre.weight")),
        (|s| s.tensors.retain(|(n, _)| n != "blocks.1.mlp.fc2.bias"), Some("1 missing: blocks.1.mlp.fc2.bias")),
        (
            |s| {
                s.tensors.retain(|(n, _)| n != "pos_embed");
                add(s, "pos_embed", &[1, 19, 16]);
            },
            Some("positions of a square of patches"),
        ),
    ];
    let plain = own("hf-vit/model.safetensors");
    for (change, words) in cases {
        let mut state = StateDict { tensors: plain.tensors.clone(), ..StateDict::default() };
        change(&mut state);
        fs::write(&path, write_safetensors(&state).unwrap()).unwrap();
        agree(&path, words);
    }
}

#[test]
fn every_command_agrees_on_resnets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.safetensors");
    let text = path.display().to_string();
    let out = folder.path().join("f.csv").display().to_string();
    let plain = own("hf-resnet/model.safetensors");
    type Change = fn(&mut StateDict);
    let cases: [(Change, Option<&str>); 5] = [
        (|s| add(s, "fc.weight", &[3, 32]), None),
        (
            |s| {
                s.tensors.retain(|(n, _)| n != "conv1.weight");
                add(s, "conv1.weight", &[4, 3, 5, 5]);
            },
            Some("its first kernel has 5×5 pixels"),
        ),
        (|s| add(s, "layer1.0.se.fc1.weight", &[4, 4, 1, 1]), Some("1 unexpected: layer1.0.se.fc1.weight")),
        (
            |s| s.tensors.retain(|(n, _)| n != "layer2.0.bn2.running_var"),
            Some("1 missing: layer2.0.bn2.running_var"),
        ),
        (
            |s| {
                for (name, tensor) in &mut s.tensors {
                    if name == "layer3.0.conv2.weight" {
                        *tensor = HostTensor { shape: vec![16, 1, 3, 3], values: vec![0.1; 144] };
                    }
                }
            },
            Some("layer3.0.conv2.weight (expected shape [16, 16, 3, 3], found [16, 1, 3, 3])"),
        ),
    ];
    for (change, words) in cases {
        let mut state = StateDict { tensors: plain.tensors.clone(), ..StateDict::default() };
        change(&mut state);
        fs::write(&path, write_safetensors(&state).unwrap()).unwrap();
        let said = stdout(&ocelli(&["weights", &text]));
        let embed = ["embed", "scenes:1", "--weights", &text, "--size", "64", "--device", "cpu", "--out", &out];
        match words {
            None => {
                assert!(said.contains("Use it with --weights"), "{said}");
                stdout(&ocelli(&embed));
                fs::remove_file(&out).unwrap();
            }
            Some(words) => {
                assert!(said.contains("No command here takes it") && said.contains(words), "{said}");
                refused(&embed, &[words]);
            }
        }
    }
}

/// A `config.json` speaks of its own network alone, and what no tensor shows of that is not lost.
#[test]
fn a_config_of_another_network_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let text = |name: &str| fs::read_to_string(layout(name)).unwrap();
    let with = |weights: &str, config: &str| {
        fs::copy(layout(weights).join("model.safetensors"), &path).unwrap();
        fs::write(folder.path().join("config.json"), config).unwrap();
        let opened = Loading { heads: Some(2), ..Loading::default() }.open(&path, &device());
        opened.map(|loaded| loaded.arch()).map_err(|e| e.to_string())
    };
    let (resnet, vit) = (text("hf-resnet/config.json"), text("hf-vit/config.json"));
    assert!(resnet.contains("\"relu\"") && vit.contains("\"gelu\""));
    for (weights, config) in [("hf-resnet", &resnet), ("hf-resnet", &vit), ("hf-vit", &vit), ("hf-vit", &resnet)] {
        assert!(with(weights, config).is_ok(), "{weights}: {:?}", with(weights, config));
    }
    for key in ["downsample_in_bottleneck", "downsample_in_first_stage"] {
        let config = resnet.replace(&format!("\"{key}\": false"), &format!("\"{key}\": true"));
        let error = with("hf-resnet", &config).unwrap_err();
        assert!(error.contains(key), "{error}");
    }
}

/// A run does not begin with another number of heads than the network had: tensors would fit, features not.
#[test]
fn a_run_begins_with_the_heads_of_the_network() {
    let config = |heads: usize| {
        let arch: Arch = format!("vit-16x2x{heads}/4").parse().unwrap();
        BackboneConfig::Vit(ocelli::models::VitConfig { mlp_ratio: 2, ..arch.config(16, 0.0) })
    };
    let into = |heads| load_into(&layout("hf-vit"), &config(heads), Statistics::IMAGENET, &device());
    assert!(into(2).is_ok());
    let error = into(4).unwrap_err().to_string();
    assert!(error.contains("4 attention heads") && error.contains("give arch = \"vit-16x2x2/4\""), "{error}");
}
