//! Weights in eight bits: `ocelli export --dtype q8`, and every command that takes weights.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use ocelli::models::weights::{Dtype, ModuleState as _, StateDict, Weights, read_safetensors, write_safetensors};
use ocelli::models::{Arch, BackboneConfig, Init, ResNetArch};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype as FileDtype, TensorView};

use super::command::{ocelli, refused, stdout};

const CPU: [&str; 2] = ["--device", "cpu"];

/// A small Vision Transformer and a small ResNet with first weights.
fn networks() -> [(&'static str, StateDict); 2] {
    let init = || Init::new(11, &Device::flex());
    let vit = "vit-64x4x1/8".parse::<Arch>().unwrap().config(64, 0.0).init(&mut init()).unwrap();
    let arch: ResNetArch = "resnet-18c8".parse().unwrap();
    let resnet = BackboneConfig::ResNet(arch.into()).init(&mut init()).unwrap();
    let (mut a, mut b) = (StateDict::default(), StateDict::default());
    a.add_module("", &vit).unwrap();
    b.add_module("", &resnet).unwrap();
    [("vit", a), ("resnet", b)]
}

fn write(path: &Path, state: &StateDict) -> String {
    fs::write(path, write_safetensors(state).unwrap()).unwrap();
    path.display().to_string()
}

/// Features of twelve scenes, a row each.
fn features(weights: &str) -> Vec<Vec<f32>> {
    let out = format!("{weights}.features.safetensors");
    let embed = ["embed", "scenes:12", "--weights", weights, "--size", "64", "--out", &out, "--json"];
    let told: serde_json::Value = serde_json::from_str(&stdout(&ocelli(&[&embed[..], &CPU].concat()))).unwrap();
    let table = read_safetensors(&fs::read(&out).unwrap()).unwrap();
    let found = table.get("features").unwrap();
    assert_eq!((&told["images"], &told["shape"]), (&12.into(), &found.shape.clone().into()));
    found.values.chunks(found.shape[1]).map(<[f32]>::to_vec).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn features_stay_what_they_were() {
    let folder = tempfile::tempdir().unwrap();
    for (name, state) in networks() {
        let source = write(&folder.path().join(format!("{name}.safetensors")), &state);
        let small = folder.path().join(format!("{name}.q8.safetensors")).display().to_string();
        let said =
            stdout(&ocelli(&["export", &source, "--format", "safetensors", "--dtype", "q8", "--out", &small]));
        assert!(said.contains("NAME.scale"), "{said}");
        let other = folder.path().join(format!("{name}.quiet.safetensors")).display().to_string();
        let quiet = stdout(&ocelli(&["export", &source, "--format", "safetensors", "--quiet", "--out", &other]));
        assert!(quiet.starts_with(&other) && quiet.lines().count() == 1, "{quiet}");
        let (before, after) = (fs::metadata(&source).unwrap().len(), fs::metadata(&small).unwrap().len());
        assert!(2 * after < before, "{name}: {before} bytes became {after}");

        let bytes = fs::read(&small).unwrap();
        let weights = Weights::open(&bytes).unwrap();
        let is_int8 = |name: &str| weights.get(name).unwrap().dtype == Dtype::I8;
        let (matrix, norm) = match name {
            "vit" => ("blocks.0.mlp.fc1.weight", "blocks.0.norm1.weight"),
            _ => ("layer1.0.conv1.weight", "bn1.weight"),
        };
        assert!(is_int8(matrix) && !is_int8(norm), "{name}");

        let (exact, rounded) = (features(&source), features(&small));
        for (a, b) in exact.iter().zip(&rounded) {
            let found = cosine(a, b);
            assert!(found >= 0.999, "{name}: cosine {found}");
        }
        assert_ne!(exact, rounded, "{name}: eight bits are not thirty-two");

        // What is read from it is a network like any other.
        let said = stdout(&ocelli(&["weights", &small]));
        assert!(said.contains("i8") && said.contains("int8-per-row") && !said.contains(".scale"), "{said}");
        let again = folder.path().join(format!("{name}.again.safetensors")).display().to_string();
        stdout(&ocelli(&["export", &small, "--format", "safetensors", "--out", &again]));
        assert_eq!(features(&again), rounded, "{name}");
        let bytes = fs::read(&again).unwrap();
        let weights = Weights::open(&bytes).unwrap();
        assert!(!weights.metadata().contains_key("ocelli.quantization"), "its values are f32 again");
    }
}

/// The tensors of a file, to be written again with one of them changed.
type Stored = Vec<(String, FileDtype, Vec<usize>, Vec<u8>)>;

fn changed(file: &[u8], change: impl FnOnce(&mut Stored)) -> Vec<u8> {
    let (_, header) = SafeTensors::read_metadata(file).unwrap();
    let views = SafeTensors::deserialize(file).unwrap();
    let mut all: Stored = views
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, view.dtype(), view.shape().to_vec(), view.data().to_vec()))
        .collect();
    change(&mut all);
    let views = all.iter().map(|(n, t, s, b)| (n.as_str(), TensorView::new(*t, s.clone(), b).unwrap()));
    safetensors::serialize(views, header.metadata().clone()).unwrap()
}

#[test]
fn damaged_files_are_refused_in_words() {
    const SCALE: &str = "blocks.1.mlp.fc2.weight.scale";
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let [(_, state), _] = networks();
    let source = write(&folder.path().join("source.safetensors"), &state);
    let small = at("small.safetensors");
    stdout(&ocelli(&["export", &source, "--format", "safetensors", "--dtype", "q8", "--out", &small]));
    let good = fs::read(&small).unwrap();
    let bad = at("bad.safetensors");
    let out = at("f.safetensors");
    let check = |file: Vec<u8>, words: &str| {
        fs::write(&bad, file).unwrap();
        let embed = ["embed", "scenes:1", "--weights", &bad, "--out", &out];
        for args in [&["weights", &bad][..], &[&embed[..], &CPU].concat()] {
            refused(args, &["bad.safetensors", "blocks.1.mlp.fc2.weight", words]);
        }
        assert!(!Path::new(&out).exists());
    };
    let scale = |all: &mut Stored| all.iter().position(|(name, ..)| name == SCALE).unwrap();
    check(
        changed(&good, |all| {
            let at = scale(all);
            all.remove(at);
        }),
        "are not in the file",
    );
    check(
        changed(&good, |all| {
            let at = scale(all);
            (all[at].2, all[at].3) = (vec![63], vec![0; 4 * 63]);
        }),
        "expected blocks.1.mlp.fc2.weight.scale as f32 of shape [64]",
    );
    check(
        changed(&good, |all| {
            let at = scale(all);
            all[at].3[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
        }),
        "found NaN in row 1",
    );

    // Nothing but safetensors has a place for the scales.
    for (format, file) in [("pth-layout", "a.pth"), ("bpk", "a.bpk"), ("onnx", "a.onnx")] {
        let out = at(file);
        refused(
            &["export", &source, "--format", format, "--dtype", "q8", "--out", &out],
            &["--format", "--dtype"],
        );
        assert!(!Path::new(&out).exists(), "{format}");
    }
}
