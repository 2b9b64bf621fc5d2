//! Real files, as PyTorch writes them.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod support;

use ocelli_weights::{Dtype, Family, Part, Weights, WeightsError};
use support::{PTH, fixture, ramp};

#[test]
fn every_kind_of_tensor_in_every_form() {
    for (file, form) in [
        ("kinds.zip.pth", "PyTorch zip"),
        ("kinds.legacy.pth", "PyTorch before 1.6"),
        ("kinds.protocol4.pth", "PyTorch zip"),
    ] {
        let bytes = fixture(file);
        let weights = Weights::open(&bytes).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert_eq!(weights.format(), form);
        let get = |name: &str| weights.get(name).unwrap_or_else(|| panic!("{file}: {name}"));
        let values = |name: &str| weights.values(get(name)).unwrap_or_else(|e| panic!("{file}: {e}"));
        for (name, dtype) in [("f32", Dtype::F32), ("f64", Dtype::F64), ("f16", Dtype::F16), ("bf16", Dtype::BF16)]
        {
            assert_eq!((get(name).dtype, &get(name).shape[..]), (dtype, &[2, 3][..]), "{file}: {name}");
            assert_eq!(values(name), ramp(6, 0.0), "{file}: {name}");
        }
        assert_eq!(values("parameter"), ramp(3, 0.0));
        assert_eq!(values("whole"), ramp(24, 0.0));
        // Views of the same storage: [4, 6] transposed, and rows 1 and 2 with every second column.
        let whole = ramp(24, 0.0);
        let transposed: Vec<f32> = (0..24).map(|i| whole[i % 4 * 6 + i / 4]).collect();
        assert_eq!((&get("transposed").shape[..], values("transposed")), (&[6, 4][..], transposed), "{file}");
        assert_eq!(values("part"), [6, 8, 10, 12, 14, 16].map(|i| whole[i]), "{file}");
        assert_eq!(get("part").storage_bytes(), get("whole").storage_bytes());
        assert_eq!((&get("scalar").shape[..], values("scalar")), (&[][..], vec![0.5]));
        assert_eq!((&get("empty").shape[..], values("empty")), (&[0, 3][..], vec![]));
        assert_eq!(values("nested.0.deep"), ramp(2, 4.0));
        // Integers are listed and not converted.
        assert_eq!(get("num_batches_tracked").dtype, Dtype::I64);
        let error = weights.values(get("num_batches_tracked")).unwrap_err().to_string();
        assert!(error.contains("num_batches_tracked") && error.contains("i64"), "{error}");
        assert_eq!(weights.metadata()["epoch"], "12");
        assert_eq!(weights.entries().len(), 12, "{file}");
    }
}

#[test]
fn a_dino_checkpoint_gives_its_teacher() {
    let bytes = fixture("dino.pth");
    let weights = Weights::open(&bytes).unwrap();
    let layout = weights.layout();
    assert_eq!(layout.name, "a DINO checkpoint (student and teacher)");
    let prefixes: Vec<&str> = layout.networks.iter().map(|n| n.prefix.as_str()).collect();
    assert_eq!(prefixes, ["teacher.backbone.", "student.module.backbone."]);
    let family = Family::Vit { dim: 8, depth: 1, patch_size_px: 2, tokens: 5, hidden: 32, registers: 0 };
    for (part, offset) in [(None, 0.0), (Some(Part::Teacher), 0.0), (Some(Part::Student), 1.0)] {
        let network = weights.network(part).unwrap();
        assert_eq!(network.family, family);
        let state = weights.backbone(&network).unwrap();
        assert_eq!(state.tensors.len(), 18, "no head, no optimizer");
        assert_eq!(state.get("cls_token").unwrap().values, ramp(8, offset));
        assert_eq!(state.num_values(), network.parameters);
    }
    // The arguments of the program that wrote it, argparse's Namespace included.
    let says = |key: &str| weights.metadata().get(key).map(String::as_str);
    assert_eq!(says("epoch"), Some("100"));
    assert_eq!(says("args.arch"), Some("vit_small"));
    assert_eq!(says("args.lr"), Some("0.0005"));
    assert_eq!(says("args.norm_last_layer"), Some("true"));
    assert_eq!(says("args.scales"), Some("[0.4, 1]"));
    assert_eq!(says("args.momentum"), Some("0.996"), "NumPy's scalars");
    assert_eq!(says("args.device"), Some("cuda:0"));
    // The optimizer's tensors are there for whoever wants them.
    assert!(weights.get("optimizer.state.0.exp_avg").is_some());
}

#[test]
fn half_precision_and_whole_networks() {
    let bytes = fixture("backbone.f16.pth");
    let weights = Weights::open(&bytes).unwrap();
    assert_eq!(weights.layout().name, "a backbone in DINO's names");
    let state = weights.backbone(&weights.network(None).unwrap()).unwrap();
    assert_eq!(state.get("pos_embed").unwrap().values, ramp(40, 1.0));
    assert!(
        matches!(weights.network(Some(Part::Student)), Err(WeightsError::Layout(m)) if m.contains("no student"))
    );

    let bytes = fixture("module.pth");
    let weights = Weights::open(&bytes).unwrap();
    let names: Vec<&str> = weights.entries().iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["seen", "layer.weight", "layer.bias"]);
    let error = weights.network(None).unwrap_err().to_string();
    assert!(error.contains("Vision Transformer") && error.contains("layer.weight"), "{error}");
}

#[test]
fn a_cut_anywhere_is_an_error_and_not_a_panic() {
    for file in PTH {
        let bytes = fixture(file);
        assert!(Weights::open(&bytes).is_ok(), "{file}");
        for end in 0..bytes.len() {
            let error = match Weights::open(&bytes[..end]) {
                Err(error) => error.to_string(),
                Ok(_) => panic!("{file}: its first {end} of {} bytes pass for the whole", bytes.len()),
            };
            assert!(!error.is_empty());
        }
    }
}
