//! ResNets out of the files other programs write.

use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use ocelli::methods::{DenseCl, DenseClConfig, Method as _, Moco, MocoConfig};
use ocelli::models::weights::{
    Dtype, HostTensor, ModuleState as _, Part, StateDict, write_pth, write_safetensors,
};
use ocelli::models::{Backbone as _, BackboneConfig, Init, Mode, ResNetArch, ResNetConfig};
use ocelli::train::{Loaded, Loading, TrainError};

use crate::support::{device, formula_tensor, values};

fn backbone(salt: &str, config: &ResNetConfig) -> StateDict {
    let net = config.init(&mut Init::new(0, &device())).unwrap();
    let mut state = StateDict::default();
    state.add_module("", &net).unwrap();
    for (name, tensor) in &mut state.tensors {
        *tensor = formula_tensor(salt, name, &tensor.shape);
    }
    state
}

fn add(state: &mut StateDict, prefix: &str, part: &StateDict) {
    state.tensors.extend(part.tensors.iter().map(|(n, t)| (format!("{prefix}{n}"), t.clone())));
}

fn extra(state: &mut StateDict, name: &str, shape: &[usize]) {
    let n = shape.iter().product();
    state.tensors.push((name.into(), HostTensor { shape: shape.to_vec(), values: vec![0.25; n] }));
}

fn write(folder: &Path, name: &str, state: &StateDict) -> std::path::PathBuf {
    let path = folder.join(name);
    let bytes = match name.ends_with(".pth") {
        true => write_pth(state, Dtype::F32).unwrap(),
        false => write_safetensors(state).unwrap(),
    };
    std::fs::write(&path, bytes).unwrap();
    path
}

fn load(path: &Path, part: Option<Part>) -> Result<Loaded, TrainError> {
    Loading { part, ..Loading::default() }.open(path, &device())
}

#[test]
fn resnets_of_every_layout() {
    let folder = tempfile::tempdir().unwrap();
    let arch: ResNetArch = "resnet-50c4".parse().unwrap();
    let config = ResNetConfig::from(arch);
    let (query, key) = (backbone("q", &config), backbone("k", &config));
    let dim = arch.dim();
    let images = || {
        Tensor::<4>::from_data(
            TensorData::new(
                (0..2 * 3 * 32 * 32).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<_>>(),
                [2, 3, 32, 32],
            ),
            &device(),
        )
    };
    let features = |state: &StateDict| {
        let net = config.init(&mut Init::new(1, &device())).unwrap();
        values(state.load_into(net).unwrap().forward(images(), Mode::Eval))
    };
    let (of_query, of_key) = (features(&query), features(&key));
    assert_ne!(of_query, of_key);

    let mut torchvision = query.clone();
    extra(&mut torchvision, "fc.weight", &[10, dim]);
    extra(&mut torchvision, "fc.bias", &[10]);
    let mut dino = StateDict::default();
    add(&mut dino, "student.module.backbone.", &query);
    extra(&mut dino, "student.module.head.mlp.0.weight", &[8, dim]);
    add(&mut dino, "teacher.module.backbone.", &key);
    extra(&mut dino, "teacher.module.head.mlp.0.weight", &[8, dim]);
    let mut moco = StateDict::default();
    for (name, net) in [("q", &query), ("k", &key)] {
        add(&mut moco, &format!("state_dict.module.encoder_{name}."), net);
        extra(&mut moco, &format!("state_dict.module.encoder_{name}.fc.0.weight"), &[dim, dim]);
        extra(&mut moco, &format!("state_dict.module.encoder_{name}.fc.2.weight"), &[8, dim]);
    }
    extra(&mut moco, "state_dict.module.queue", &[8, 32]);
    let mut raw = StateDict::default();
    for (name, net) in [("q", &query), ("k", &key)] {
        add(&mut raw, &format!("state_dict.encoder_{name}.0."), net);
        extra(&mut raw, &format!("state_dict.encoder_{name}.1.mlp.0.weight"), &[dim, dim]);
        extra(&mut raw, &format!("state_dict.encoder_{name}.1.mlp2.0.weight"), &[dim, dim, 1, 1]);
    }
    add(&mut raw, "state_dict.backbone.", &query);
    extra(&mut raw, "state_dict.queue2", &[8, 32]);
    let mut extracted = StateDict::default();
    add(&mut extracted, "state_dict.", &query);

    for (name, state, part, expected, words) in [
        ("torchvision.pth", &torchvision, None, &of_query, "backbone resnet-50c4"),
        ("dino.pth", &dino, None, &of_key, "teacher backbone resnet-50c4"),
        ("dino.safetensors", &dino, Some(Part::Student), &of_query, "student backbone"),
        ("moco.pth", &moco, None, &of_query, "query encoder's backbone"),
        ("moco-k.pth", &moco, Some(Part::Teacher), &of_key, "key encoder's backbone"),
        ("densecl.pth", &raw, None, &of_query, "backbone resnet-50c4"),
        ("densecl-k.safetensors", &raw, Some(Part::Teacher), &of_key, "key encoder's backbone"),
        ("extracted.pth", &extracted, None, &of_query, "backbone resnet-50c4"),
    ] {
        let path = write(folder.path(), name, state);
        let loaded = load(&path, part).unwrap();
        assert!(loaded.description.starts_with(words), "{name}: {}", loaded.description);
        assert_eq!(loaded.config, BackboneConfig::ResNet(config), "{name}");
        assert_eq!(&values(loaded.encoder.features(images(), Mode::Eval)), expected, "{name}");
        // Commands for Vision Transformers say what this is.
        let message =
            Loading { only_vit: true, ..Loading::default() }.open(&path, &device()).unwrap_err().to_string();
        assert!(message.contains("expected the weights of a Vision Transformer, found"), "{message}");
    }
    // A tensor too few is named.
    let mut broken = query.clone();
    broken.tensors.retain(|(n, _)| n != "layer3.2.bn2.bias");
    let message = load(&write(folder.path(), "broken.pth", &broken), None).unwrap_err().to_string();
    assert!(message.contains("layer3.2.bn2.bias"), "{message}");
    // Few tensors cannot ask for a large network.
    let mut greedy = StateDict::default();
    extra(&mut greedy, "conv1.weight", &[4096, 3, 7, 7]);
    for stage in 1..=4 {
        for name in ["conv1.weight", "conv3.weight"] {
            extra(&mut greedy, &format!("layer{stage}.0.{name}"), &[4096, 1]);
        }
    }
    let message = load(&write(folder.path(), "greedy.pth", &greedy), None).unwrap_err().to_string();
    assert!(message.contains("no network here is such a ResNet") && message.contains("58 missing"), "{message}");
}

/// What our own methods store is in the published layouts.
#[test]
fn states_are_checkpoints_of_the_published_layouts() {
    let folder = tempfile::tempdir().unwrap();
    let build = |init: &mut Init| ResNetConfig::from("resnet-18c4".parse::<ResNetArch>().unwrap()).init(init);
    let config = MocoConfig { hidden_dim: 8, out_dim: 4, queue: 6, ..MocoConfig::default() };
    let moco = Moco::new(&config, build, 1, &device()).unwrap().state().unwrap();
    for name in
        ["encoder_q.conv1.weight", "encoder_k.layer4.1.bn2.running_var", "encoder_q.fc.2.bias", "queue_ptr"]
    {
        assert!(moco.get(name).is_some(), "{name}");
    }
    let config = DenseClConfig { contrast: config, ..DenseClConfig::default() };
    let dense = DenseCl::new(&config, build, 1, &device()).unwrap().state().unwrap();
    for name in ["encoder_q.0.conv1.weight", "encoder_q.1.mlp2.2.weight", "encoder_k.1.mlp.0.bias", "queue2_ptr"] {
        assert!(dense.get(name).is_some(), "{name}");
    }
    assert_eq!(dense.get("encoder_q.1.mlp2.2.weight").unwrap().shape, [4, 8, 1, 1]);
    for (name, state) in [("moco.pth", moco), ("dense.safetensors", dense)] {
        let loaded = load(&write(folder.path(), name, &state), None).unwrap();
        assert!(loaded.description.starts_with("query encoder's backbone resnet-18c4"), "{}", loaded.description);
    }
}
