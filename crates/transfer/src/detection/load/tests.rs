use ocelli_models::weights::{HostTensor, write_safetensors};

use super::super::names::to_file;
use super::*;

/// A detector of 3 classes as another program would write it: detectron2's names, and nothing said of it.
fn file() -> StateDict {
    let init = &mut Init::new(0, &Device::flex());
    let shape = ResNetConfig::from("resnet-18c4".parse::<ocelli_models::ResNetArch>().unwrap());
    let net = FasterRcnn::new(ResNetC4::new(&shape, true, init).unwrap(), 15, 3, init);
    to_file(&net).unwrap()
}

fn open(state: &StateDict) -> Result<Detector, TrainError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, write_safetensors(state).unwrap()).unwrap();
    Detector::open(&path, &Device::flex())
}

fn with_pixels(mean: [f32; 3], std: [f32; 3]) -> StateDict {
    let mut state = file();
    for (name, values) in [("pixel_mean", mean), ("model.pixel_std", std)] {
        state.tensors.push((name.to_owned(), HostTensor { shape: vec![3, 1, 1], values: values.to_vec() }));
    }
    state
}

#[test]
fn what_a_file_says_of_pixels_is_taken() {
    let plain = open(&file()).unwrap();
    assert_eq!((plain.config.views.mean, plain.config.views.std), {
        let Statistics { mean, std } = Statistics::IMAGENET;
        (mean, std)
    });
    for words in ["a guess", "RGB", "as ImageNet's", "STRIDE_IN_1X1: False"] {
        assert!(plain.description.contains(words), "{}", plain.description);
    }
    let (mean, std) = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]);
    let told = open(&with_pixels(mean, std)).unwrap();
    let near = |a: [f32; 3], b: [f32; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(near(told.config.views.mean, Statistics::IMAGENET.mean), "{:?}", told.config.views);
    assert!(near(told.test().views.std, Statistics::IMAGENET.std), "{:?}", told.config.views);
    assert!(told.description.contains("pixel_mean and pixel_std"), "{}", told.description);
    let shifted = open(&with_pixels(mean, [1.0; 3])).unwrap();
    assert!(near(shifted.config.views.std, [1.0 / 255.0; 3]), "{:?}", shifted.config.views);
    let to_one = open(&with_pixels(Statistics::IMAGENET.mean, Statistics::IMAGENET.std)).unwrap();
    assert!(near(to_one.config.views.mean, Statistics::IMAGENET.mean), "{:?}", to_one.config.views);
}

#[test]
fn pixels_in_another_order_or_out_of_range_are_refused() {
    for (mean, std, words) in [
        ([103.53, 116.28, 123.675], [57.375, 57.12, 58.395], "INPUT.FORMAT: RGB"),
        ([102.98, 115.95, 122.77], [1.0; 3], "blue, green, red"),
        ([400.0, 0.0, 0.0], [1.0; 3], "pixel_mean"),
        ([120.0; 3], [0.0; 3], "pixel_std"),
        ([f32::NAN; 3], [1.0; 3], "pixel_mean"),
    ] {
        let message = open(&with_pixels(mean, std)).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }
    let mut half = with_pixels([120.0; 3], [60.0; 3]);
    half.tensors.retain(|(name, _)| name != "pixel_mean");
    assert!(open(&half).unwrap_err().to_string().contains("three numbers"), "one of the two");
}

#[test]
fn a_file_cannot_ask_for_any_amount_of_memory() {
    let shape = ResNetConfig::from("resnet-18c4".parse::<ocelli_models::ResNetArch>().unwrap());
    let all = file();
    let of = |name: &str| all.get(name).unwrap().values.len();
    let heads: usize = all.tensors.iter().filter(|(n, _)| head_of(n)).map(|(n, _)| of(n)).sum();
    assert_eq!(head_values(&shape, (3, 15), true), heads);
    // A short bias that speaks of many classes.
    let mut state = all;
    for (name, tensor) in &mut state.tensors {
        if name == "roi_heads.box_predictor.cls_score.bias" {
            (tensor.shape, tensor.values) = (vec![1 << 20], vec![0.0; 1 << 20]);
        }
    }
    let message = open(&state).unwrap_err().to_string();
    assert!(message.contains("values, and there are"), "{message}");
}

fn head_of(name: &str) -> bool {
    ["proposal_generator.", "roi_heads.box_predictor.", "roi_heads.res5.norm."].iter().any(|p| name.starts_with(p))
}

#[test]
fn a_lower_threshold_finds_more() {
    let mut detector = open(&file()).unwrap();
    assert_eq!(detector.stages().roi.score, 0.05);
    detector.find_from(0.5);
    assert_eq!(detector.stages().roi.score, 0.05);
    detector.find_from(0.01);
    assert_eq!(detector.stages().roi.score, 0.01);
}
