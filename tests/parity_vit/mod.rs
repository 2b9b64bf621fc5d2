//! DINOv2's networks as their files are opened: layer scale, registers, and position embeddings as each program interpolates
//! them. The fixture's JSON says how weights follow from names.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use ocelli::models::weights::preprocessing::Statistics;
use ocelli::models::weights::{Dtype, HostTensor, StateDict, read_safetensors, write_pth, write_safetensors};
use ocelli::models::{Arch, BackboneConfig, Mode, PositionRule, ProbeFeatures, Vit};
use ocelli::train::{Loaded, Loading, load_into};
use serde_json::Value;

use crate::support::{Fixture, Tolerance, as_usize, assert_close, device, formula, values};

/// The project's own: sets of fixtures from elsewhere do not have it.
fn fixture() -> Fixture {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let read = |file: &str| fs::read(Path::new(&root).join("tests/golden").join(file)).unwrap();
    Fixture {
        name: "dinov2".into(),
        json: serde_json::from_slice(&read("dinov2.json")).unwrap(),
        tensors: read_safetensors(&read("dinov2.safetensors")).unwrap(),
    }
}

/// The weights of a case under the names of its file.
fn weights_of(f: &Fixture, case: &Value) -> StateDict {
    let salt = f.config()["salt"].as_str().unwrap();
    let tensors = case["tensors"].as_object().unwrap().iter().map(|(name, about)| {
        let shape: Vec<usize> = about[0].as_array().unwrap().iter().map(|n| as_usize(n, name)).collect();
        let (offset, scale) = (about[1].as_f64().unwrap(), about[2].as_f64().unwrap());
        let count = shape.iter().product();
        let values = (0..count).map(|i| (offset + scale * formula(salt, name, i)) as f32).collect();
        (name.clone(), HostTensor { shape, values })
    });
    StateDict { tensors: tensors.collect(), ..StateDict::default() }
}

fn cases(f: &Fixture) -> Vec<(&str, &Value)> {
    let all = f.config()["cases"].as_array().unwrap();
    all.iter().map(|case| (case["key"].as_str().unwrap(), case)).collect()
}

fn rule_of(case: &Value) -> PositionRule {
    PositionRule::of_name(case["position_rule"].as_str().unwrap()).unwrap()
}

/// Writes the file of a case. What transformers does only its folder can tell, or the file's metadata.
fn write(f: &Fixture, key: &str, case: &Value, folder: &Path, ending: &str) -> PathBuf {
    let mut state = weights_of(f, case);
    if key.starts_with("transformers") {
        state.metadata.insert(PositionRule::METADATA.into(), rule_of(case).name().into());
    }
    let path = folder.join(format!("{key}.{ending}"));
    let bytes = match ending {
        "pth" => write_pth(&state, Dtype::F32).unwrap(),
        _ => write_safetensors(&state).unwrap(),
    };
    fs::write(&path, bytes).unwrap();
    path
}

fn open(f: &Fixture, path: &Path) -> Loaded {
    let heads = Some(f.usize("heads"));
    Loading { heads, only_vit: true, ..Loading::default() }.open(path, &device()).unwrap()
}

fn images(f: &Fixture, height: usize, width: usize) -> Tensor<4> {
    let (salt, name) = (f.config()["salt"].as_str().unwrap(), f.config()["input_name"].as_str().unwrap());
    let batch = f.usize("batch");
    let pixels: Vec<f32> = (0..batch * 3 * height * width).map(|i| formula(salt, name, i) as f32).collect();
    Tensor::from_data(TensorData::new(pixels, [batch, 3, height, width]), &device())
}

/// Every way to tokens and attention gives the reference's numbers, and registers are in none of them.
fn check(f: &Fixture, key: &str, vit: &Vit) {
    let (batch, dim, heads, query) = (f.usize("batch"), f.usize("dim"), f.usize("heads"), f.usize("query"));
    let depth = f.usize("depth");
    for size in f.config()["sizes"].as_array().unwrap() {
        let (height, width) = (as_usize(&size[0], "height"), as_usize(&size[1], "width"));
        let cells = (height / f.usize("patch")) * (width / f.usize("patch"));
        let images = images(f, height, width);
        let near = |what: &str, found: Vec<f32>, tolerance: &str| {
            let name = format!("{key}.{height}x{width}.{what}");
            let expected = &f.get(&name).values;
            assert_close(&name, &found, expected, Tolerance::of(&f.json["tolerance"][tolerance], expected));
        };
        near("cls", values(vit.forward(images.clone(), Mode::Eval)), "tokens");
        let trace = vit.trace(images.clone());
        let layers = vit.intermediate_layers(images.clone(), depth);
        for tokens in [vit.tokens(images.clone()), vit.traced_tokens(&trace), layers[depth - 1].clone()] {
            assert_eq!(tokens.dims(), [batch, 1 + cells, dim]);
            near("cls", values(tokens.clone().narrow(1, 0, 1)), "tokens");
            near("patches", values(tokens.narrow(1, 1, cells)), "tokens");
        }
        let both = values(ProbeFeatures::ClsAndMean.of_vit(vit, images.clone()));
        let cls: Vec<f32> = both.iter().step_by(2).copied().collect();
        near("cls", cls, "tokens");
        for (what, row) in [("attn_cls", 0), ("attn_row", 1 + query)] {
            near(what, values(vit.traced_attention(&trace, depth - 1, row)), "attention");
            near(what, values(vit.attention_rows(images.clone(), depth - 1, row..row + 1)), "attention");
        }
        let map = vit.cls_attention(images.clone());
        assert_eq!(map.dims(), [batch, heads, cells]);
        let row = vit.attention_rows(images, depth - 1, 0..1).reshape([batch, heads, 1 + cells]);
        assert_close("map", &values(map), &values(row.narrow(2, 1, cells)), Tolerance { atol: 1e-6, rtol: 0.0 });
    }
}

#[test]
fn dinov2_networks() {
    let f = fixture();
    let folder = tempfile::tempdir().unwrap();
    for (key, case) in cases(&f) {
        let loaded = open(&f, &write(&f, key, case, folder.path(), "safetensors"));
        let vit = loaded.vit().unwrap();
        let registers = as_usize(&case["registers"], "registers");
        assert_eq!((vit.registers(), vit.position_rule()), (registers, rule_of(case)), "{key}");
        let ending = if registers > 0 { "/14-reg4" } else { "/14" };
        assert!(loaded.arch().ends_with(ending), "{key}: {}", loaded.arch());
        let words = ["layer scale", "mask_token"];
        let has = [true, case["tensors"].get("mask_token").is_some()];
        for (word, has) in words.into_iter().zip(has) {
            assert_eq!(loaded.description.contains(word), has, "{word} in {}", loaded.description);
        }
        check(&f, key, vit);
    }
    let (key, case) = cases(&f)[1];
    let loaded = open(&f, &write(&f, key, case, folder.path(), "pth"));
    check(&f, key, loaded.vit().unwrap());
}

/// A run of another grid begins with the positions that the file's network would use there.
#[test]
fn a_run_can_start_from_dinov2() {
    let f = fixture();
    let folder = tempfile::tempdir().unwrap();
    let side_px = f.usize("patch") * 6;
    for (key, case) in cases(&f) {
        let path = write(&f, key, case, folder.path(), "safetensors");
        let loaded = open(&f, &path);
        let arch: Arch = loaded.arch().parse().unwrap();
        let config = arch.config(side_px, 0.0);
        let into = |config: &ocelli::models::VitConfig| {
            load_into(&path, &BackboneConfig::Vit(config.clone()), Statistics::IMAGENET, &device())
        };
        let (net, words) = into(&config).unwrap();
        assert!(words.contains("resampled from 4×4 to 6×6") && words.contains("layer scale"), "{words}");
        let differs = config.position_rule != rule_of(case);
        assert_eq!(words.contains("for views of other sizes"), differs, "{key}: {words}");
        let own = values(net.as_vit().unwrap().position_embedding(side_px, side_px));
        let wanted = values(loaded.vit().unwrap().position_embedding(side_px, side_px));
        assert_close(key, &own, &wanted, Tolerance { atol: 1e-6, rtol: 0.0 });
        let tokens = |vit: &Vit| values(vit.forward(images(&f, side_px, side_px), Mode::Eval));
        let near = Tolerance { atol: 1e-5, rtol: 1e-5 };
        assert_close(key, &tokens(net.as_vit().unwrap()), &tokens(loaded.vit().unwrap()), near);

        let other = Arch { registers: if arch.registers > 0 { 0 } else { 2 }, ..arch.clone() };
        let error = into(&other.config(side_px, 0.0)).unwrap_err().to_string();
        assert!(error.contains("registers") && error.contains(&format!("give arch = \"{arch}\"")), "{error}");
    }
}

/// timm's full-size ViT-S/14 with formula weights, which `make_dinov2.py --full` writes into the folder that `OCELLI_DINOV2` names.
#[test]
fn dinov2_at_full_size() {
    let Some(folder) = std::env::var_os("OCELLI_DINOV2").map(PathBuf::from) else {
        eprintln!("skipped: OCELLI_DINOV2 names no folder of make_dinov2.py --full");
        return;
    };
    let f = fixture();
    let (salt, input) = (f.config()["salt"].as_str().unwrap(), f.config()["input_name"].as_str().unwrap());
    for (name, arch) in
        [("vit_small_patch14_dinov2", "vit-s/14"), ("vit_small_patch14_reg4_dinov2", "vit-s/14-reg4")]
    {
        let expected = read_safetensors(&fs::read(folder.join(format!("{name}.expected.safetensors"))).unwrap());
        let expected = expected.unwrap();
        let loaded = Loading::default().open(&folder.join(format!("{name}.safetensors")), &device()).unwrap();
        assert_eq!(loaded.arch(), arch);
        assert_eq!((loaded.size.value.resize_px, loaded.size.value.crop_px), (256, 224), "{}", loaded.size);
        for side in [224, 518] {
            let pixels: Vec<f32> = (0..3 * side * side).map(|i| formula(salt, input, i) as f32).collect();
            let images = Tensor::<4>::from_data(TensorData::new(pixels, [1, 3, side, side]), &device());
            let tokens = loaded.vit().unwrap().tokens(images);
            for (what, found) in [("cls", tokens.clone().narrow(1, 0, 1)), ("patches", tokens.narrow(1, 1, 8))] {
                let (found, expected) = (values(found), &expected.get(&format!("{side}.{what}")).unwrap().values);
                let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                let largest = expected.iter().map(|v| v.abs()).fold(0.0, f32::max);
                eprintln!("{name} {side} {what}: at most {apart:.1e} apart, values up to {largest:.1}");
                assert_close(name, &found, expected, Tolerance { atol: 1e-4, rtol: 1e-4 });
            }
        }
    }
}
