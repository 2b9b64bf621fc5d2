//! The layouts of the programs people have: each is opened, its features are those programs' own, and every command agrees with
//! `ocelli weights` on what it takes. `tests/golden/make_weights_layouts.py` made the files.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use ocelli::models::weights::{HostTensor, StateDict, Weights, read_safetensors};
use ocelli::models::{Backbone as _, Mode};
use ocelli::train::{Loaded, Loading};

use super::support::{Tolerance, assert_close, device, values};

mod outward;
mod programs;
mod pytorch;
mod refusals;

/// The project's own: sets of fixtures from elsewhere do not have it.
pub fn layout(name: &str) -> PathBuf {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    Path::new(&root).join("tests/golden/weights_layouts").join(name)
}

fn expected() -> StateDict {
    read_safetensors(&fs::read(layout("features.safetensors")).unwrap()).unwrap()
}

fn tensor(host: &HostTensor) -> Tensor<4> {
    let shape: [usize; 4] = host.shape.clone().try_into().unwrap();
    Tensor::from_data(TensorData::new(host.values.clone(), shape), &device())
}

/// The feature of one of the fixture's pictures.
fn feature(loaded: &Loaded, picture: &str) -> Vec<f32> {
    values(loaded.encoder.features(tensor(expected().get(picture).unwrap()), Mode::Eval))
}

/// A file or folder of the fixture. Heads of a file alone are given: 16 columns do not tell them.
fn open(path: &Path) -> Loaded {
    let heads = path.is_file().then_some(2);
    Loading { heads, ..Loading::default() }.open(path, &device()).unwrap_or_else(|e| panic!("{e}"))
}

/// A fixture's backbone in our form.
fn own(name: &str) -> StateDict {
    let bytes = fs::read(layout(name)).unwrap();
    let weights = Weights::open(&bytes).unwrap();
    weights.backbone(&weights.network(None).unwrap()).unwrap()
}

const CLOSE: Tolerance = Tolerance { atol: 1e-4, rtol: 0.0 };

#[test]
fn features_are_those_of_the_programs() {
    let expected = expected();
    for (name, picture, ending) in [
        ("hf-vit", "picture", ""),
        ("hf-vit", "picture_wide", ".wide"),
        ("hf-shards", "picture", ""),
        ("transformers5.pth", "picture", ""),
        ("hf-dinov2", "picture", ""),
        ("hf-dinov2", "picture_wide", ".wide"),
        ("hf-registers", "picture", ""),
        ("hf-registers", "picture_wide", ".wide"),
        ("hf-resnet", "picture_large", ""),
        ("torchvision-vit.safetensors", "picture", ""),
        ("timm-deit3.safetensors", "picture", ""),
        ("timm-registers.safetensors", "picture", ""),
    ] {
        let loaded = open(&layout(name));
        let want = &expected.get(&format!("{name}{ending}")).unwrap().values;
        assert_close(&format!("{name}{ending}"), &feature(&loaded, picture), want, CLOSE);
    }
}

/// Index and shards are one network, under the folder's name or the index's.
#[test]
fn shards_are_opened_by_folder_and_by_index() {
    let index = layout("hf-shards/model.safetensors.index.json");
    let by_index = Loading::default().open(&index, &device()).unwrap();
    let by_folder = open(&layout("hf-shards"));
    assert_eq!(feature(&by_index, "picture"), feature(&by_folder, "picture"));
    assert!(by_folder.description.contains("index.json"), "{}", by_folder.description);

    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(layout("hf-shards")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let refused = |words: &[&str]| {
        let error = Loading::default().open(folder.path(), &device()).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "expected \"{word}\" in: {error}");
        }
    };
    let last = folder.path().join("model-00003-of-00003.safetensors");
    fs::copy(layout("hf-shards/model-00001-of-00003.safetensors"), &last).unwrap();
    refused(&["it is there twice", "model-00001-of", "model-00003-of"]);
    fs::remove_file(&last).unwrap();
    refused(&["model-00003-of-00003.safetensors", "read the shard"]);
    let index = folder.path().join("model.safetensors.index.json");
    let text = fs::read_to_string(&index).unwrap();
    fs::write(&index, text.replace("model-00003-of-00003.safetensors", "model-00001-of-00003.safetensors"))
        .unwrap();
    refused(&["tensors that the index of shards names are not in the files"]);
    fs::write(&index, text.replace("model-00003-of-00003.safetensors", "../model.safetensors")).unwrap();
    refused(&["../model.safetensors", "Nothing outside of it is read"]);
}

/// What a folder of Hugging Face says: heads, normalisation, size.
#[test]
fn a_folder_tells_heads_normalisation_and_size() {
    let vit = open(&layout("hf-vit"));
    assert_eq!(vit.vit().unwrap().heads(), 2);
    let statistics = vit.statistics.value;
    assert_eq!((statistics.mean, statistics.std), ([0.5, 0.4, 0.3], [0.5, 0.25, 0.2]));
    assert!(vit.statistics.source.contains("preprocessor_config.json"), "{}", vit.statistics);
    let size = open(&layout("hf-dinov2")).size;
    assert_eq!((size.value.resize_px, size.value.crop_px), (18, 16), "{size}");

    // Heads that the tensors would fit and the network did not have are never taken without a word.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::copy(layout("hf-vit/model.safetensors"), &path).unwrap();
    let error = Loading::default().open(folder.path(), &device()).unwrap_err().to_string();
    assert!(error.contains("--heads"), "{error}");
    let config = fs::read_to_string(layout("hf-vit/config.json")).unwrap();
    let with = |from: &str, to: &str| {
        fs::write(folder.path().join("config.json"), config.replace(from, to)).unwrap();
        Loading::default().open(folder.path(), &device()).map(|loaded| loaded.vit().unwrap().heads())
    };
    assert_eq!(with("", "").unwrap(), 2);
    assert_eq!(with("\"num_attention_heads\": 2", "\"num_attention_heads\": 4").unwrap(), 4);
    let error = with("\"num_attention_heads\": 2", "\"num_attention_heads\": 3").unwrap_err().to_string();
    assert!(error.contains("divide its width, 16"), "{error}");
    let error = with("\"gelu\"", "\"quick_gelu\"").unwrap_err().to_string();
    assert!(error.contains("quick_gelu") && error.contains("have gelu"), "{error}");
    // The config.json of another network says nothing of this one.
    let error = with("\"hidden_size\": 16", "\"hidden_size\": 64").unwrap_err().to_string();
    assert!(error.contains("--heads"), "{error}");
}
