//! Layouts that only rename what other files have: lightly, solo-learn, Lightning, VISSL, MoCo v3, BYOL, mmpretrain, iBOT, MAE.

use std::fs;

use ocelli::models::weights::{Dtype, HostTensor, Part, StateDict, Weights, write_pth_under};
use ocelli::train::Loading;

use super::{CLOSE, feature, layout, open, own};
use crate::command::{ocelli, stdout};
use crate::support::{assert_close, device};

/// The same tensors, their names changed, their values `times` as large.
fn renamed(state: &StateDict, times: f32, name: &dyn Fn(&str) -> String) -> Vec<(String, HostTensor)> {
    let scaled = |t: &HostTensor| HostTensor { values: t.values.iter().map(|v| v * times).collect(), ..t.clone() };
    state.tensors.iter().map(|(n, t)| (name(n), scaled(t))).collect()
}

fn prefixed(prefix: &str) -> impl Fn(&str) -> String {
    move |name| format!("{prefix}{name}")
}

/// A ResNet's children in a Sequential.
fn numbered(prefix: &str, stage: usize) -> impl Fn(&str) -> String {
    move |name| {
        let own = match name.strip_prefix("layer").and_then(|rest| rest.split_once('.')) {
            Some((number, rest)) => format!("{}.{rest}", number.parse::<usize>().unwrap() - 1 + stage),
            None => name.replace("conv1", "0").replace("bn1", "1"),
        };
        format!("{prefix}{own}")
    }
}

fn mmpretrain(name: &str) -> String {
    let own = name
        .replace("blocks.", "layers.")
        .replace("patch_embed.proj.", "patch_embed.projection.")
        .replace("mlp.fc1", "ffn.layers.0.0")
        .replace("mlp.fc2", "ffn.layers.1")
        .replace("norm1", "ln1")
        .replace("norm2", "ln2");
    let own = own.strip_prefix("norm.").map_or(own.clone(), |rest| format!("ln1.{rest}"));
    format!("backbone.{own}")
}

/// DINOv2's training program keeps blocks in chunks, with their numbers in the whole.
fn chunked(name: &str) -> String {
    let own = name.replace("blocks.0.", "blocks.0.0.").replace("blocks.1.", "blocks.1.1.");
    format!("backbone.{own}")
}

struct Case<'a> {
    tensors: Vec<(String, HostTensor)>,
    /// The key they are under.
    under: Option<&'a str>,
    layout: &'a str,
    prefix: &'a str,
    part: Option<Part>,
    notes: &'a [&'a str],
}

fn token(name: &str) -> (String, HostTensor) {
    (name.to_owned(), HostTensor { shape: vec![1, 1, 16], values: vec![0.5; 16] })
}

#[test]
fn every_program_is_known() {
    let resnet = own("hf-resnet/model.safetensors");
    let vit = own("hf-vit/model.safetensors");
    let (one, other) = (1.0, 1.5);
    let pair = |state: &StateDict, first: &dyn Fn(&str) -> String, second: &dyn Fn(&str) -> String| {
        [renamed(state, other, second), renamed(state, one, first)].concat()
    };
    let plain = |state: &StateDict, name: &dyn Fn(&str) -> String| renamed(state, one, name);
    let with = |mut tensors: Vec<(String, HostTensor)>, more: &[&str]| {
        tensors.extend(more.iter().map(|name| token(name)));
        tensors
    };
    let (teacher, student) = (Some(Part::Teacher), Some(Part::Student));
    let state_dict = Some("state_dict");
    let case = |tensors, under, layout, prefix, part| Case { tensors, under, layout, prefix, part, notes: &[] };
    let cases = [
        case(plain(&resnet, &prefixed("")), None, "a ResNet in torchvision's names", "", None),
        case(plain(&resnet, &numbered("backbone.", 4)), state_dict, "nn.Sequential", "state_dict.backbone.", None),
        case(plain(&resnet, &numbered("backbone.", 2)), None, "nn.Sequential", "backbone.", None),
        case(plain(&resnet, &prefixed("model.")), state_dict, "torchvision's names", "state_dict.model.", None),
        case(
            plain(&resnet, &prefixed("trunk._feature_blocks.")),
            Some("classy_state_dict"),
            "VISSL",
            "classy_state_dict.trunk._feature_blocks.",
            None,
        ),
        // lightly's teacher; the half of a pair that its authors use; the plain name before the one that follows.
        case(
            pair(&vit, &prefixed("teacher_backbone."), &prefixed("student_backbone.")),
            state_dict,
            "lightly",
            "state_dict.teacher_backbone.",
            teacher,
        ),
        case(
            pair(&resnet, &numbered("backbone.", 4), &numbered("backbone_momentum.", 4)),
            state_dict,
            "lightly",
            "state_dict.backbone.",
            None,
        ),
        case(
            pair(&resnet, &prefixed("backbone."), &prefixed("momentum_backbone.")),
            state_dict,
            "solo-learn",
            "state_dict.backbone.",
            None,
        ),
        case(
            pair(&resnet, &prefixed("module.base_encoder."), &prefixed("module.momentum_encoder.")),
            state_dict,
            "MoCo v3",
            "state_dict.module.base_encoder.",
            student,
        ),
        case(
            pair(&resnet, &prefixed("online_encoder.net."), &prefixed("target_encoder.net.")),
            None,
            "BYOL",
            "online_encoder.net.",
            student,
        ),
        Case {
            notes: &["left out, for training only: projection_head, prototypes"],
            ..case(
                with(
                    plain(&resnet, &prefixed("module.")),
                    &["module.projection_head.0.weight", "module.prototypes.weight"],
                ),
                None,
                "torchvision's names",
                "module.",
                None,
            )
        },
        Case {
            notes: &["left out, for training only: masked_embed"],
            ..case(
                with(
                    pair(&vit, &prefixed("teacher.backbone."), &prefixed("student.module.backbone.")),
                    &["student.module.backbone.masked_embed", "teacher.backbone.masked_embed"],
                ),
                None,
                "an iBOT checkpoint (student and teacher)",
                "teacher.backbone.",
                teacher,
            )
        },
        Case {
            notes: &["left out, for training only: decoder_blocks, decoder_embed, mask_token"],
            ..case(
                with(
                    plain(&vit, &prefixed("")),
                    &["mask_token", "decoder_embed.weight", "decoder_blocks.0.norm1.weight"],
                ),
                Some("model"),
                "an MAE checkpoint (encoder and decoder)",
                "model.",
                None,
            )
        },
        case(plain(&vit, &mmpretrain), state_dict, "mmpretrain", "state_dict.backbone.", None),
        case(plain(&vit, &chunked), Some("teacher"), "a DINO teacher", "teacher.backbone.", teacher),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.ckpt");
    let features =
        [feature(&open(&layout("hf-resnet")), "picture_large"), feature(&open(&layout("hf-vit")), "picture")];
    for Case { tensors, under, layout, prefix, part, notes } in cases {
        let is_vit = tensors.iter().any(|(n, _)| n.ends_with("cls_token"));
        let state = StateDict { tensors, ..StateDict::default() };
        let bytes = write_pth_under(under, &state, Dtype::F32).unwrap();
        let weights = Weights::open(&bytes).unwrap();
        let name = weights.layout().name;
        assert!(name.contains(layout), "expected \"{layout}\", found \"{name}\"");
        let network = weights.network(None).unwrap_or_else(|e| panic!("{layout}: {e}"));
        assert_eq!((network.prefix.as_str(), network.part), (prefix, part), "{layout}");
        assert_eq!(network.notes(), notes, "{layout}");
        fs::write(&path, &bytes).unwrap();
        let loaded = Loading { heads: Some(2), ..Loading::default() }.open(&path, &device()).unwrap();
        let (want, picture) = if is_vit { (&features[1], "picture") } else { (&features[0], "picture_large") };
        assert_close(layout, &feature(&loaded, picture), want, CLOSE);
        for note in notes {
            assert!(loaded.description.contains(note), "{}", loaded.description);
        }
    }
}

/// solo-learn's DINO: its teacher.
#[test]
fn solo_learn_says_its_method() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("solo.safetensors");
    let vit = own("hf-vit/model.safetensors");
    let tensors =
        [renamed(&vit, 1.0, &prefixed("momentum_backbone.")), renamed(&vit, 1.5, &prefixed("backbone."))];
    let mut state = StateDict { tensors: tensors.concat(), ..StateDict::default() };
    let prefix = |state: &StateDict| {
        fs::write(&path, ocelli::models::weights::write_safetensors(state).unwrap()).unwrap();
        let said = stdout(&ocelli(&["weights", path.to_str().unwrap(), "--json"]));
        let json: serde_json::Value = serde_json::from_str(&said).unwrap();
        json["networks"][0]["prefix"].as_str().unwrap().to_owned()
    };
    assert_eq!(prefix(&state), "backbone.");
    state.metadata.insert("hyper_parameters.method".into(), "dino".into());
    assert_eq!(prefix(&state), "momentum_backbone.");
}
