//! Recipes by name.

use super::{ConfigError, resolve::nearest};

/// A recipe: what it sets beyond the defaults, and where its numbers come from.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// The name on the command line.
    pub name: &'static str,
    /// One line for people choosing.
    pub about: &'static str,
    /// TOML over the defaults.
    pub toml: &'static str,
}

macro_rules! presets {
    ($($name:literal: $about:literal),* $(,)?) => {
        &[$(Preset { name: $name, about: $about, toml: include_str!(concat!("../../presets/", $name, ".toml")) }),*]
    };
}

/// All recipes: the published ones first, then the small ones.
pub const PRESETS: &[Preset] = presets![
    "vit-s16-100": "DINO ViT-S/16, 100 epochs, batch 512 (published: k-NN 69.3, linear 74.0 on ImageNet)",
    "vit-s16-300": "DINO ViT-S/16, 300 epochs, batch 1024 (published: k-NN 73.3, linear 76.0)",
    "vit-s16-800": "DINO ViT-S/16, 800 epochs, batch 1024, 10 local crops (published: k-NN 74.5, linear 77.0)",
    "vit-s8-800": "DINO ViT-S/8, 800 epochs, batch 1024 (published: k-NN 78.3, linear 79.7)",
    "vit-b16-400": "DINO ViT-B/16, 400 epochs, batch 1024 (published: k-NN 76.1, linear 78.2)",
    "vit-b8-300": "DINO ViT-B/8, 300 epochs, batch 1024 (published: k-NN 77.4, linear 80.1)",
    "vit-s16-one-gpu": "DINO ViT-S/16 on one GPU: batch 64, small head, slow teacher",
    "dino-r50-100": "DINO ResNet-50, 100 epochs, batch 512, SGD (the reference's README; result not published with it)",
    "dino-r50-800": "DINO ResNet-50, 800 epochs, batch 4080, LARS (published: k-NN 67.5, linear 75.3)",
    "moco-r50-200": "MoCo v2 ResNet-50, 200 epochs, batch 256 (published: linear 67.7)",
    "densecl-r50-200": "DenseCL ResNet-50, ImageNet, 200 epochs, batch 256 (published: VOC detection AP 58.7)",
    "densecl-r50-coco-800": "DenseCL ResNet-50, COCO, 800 epochs, batch 256 (published: VOC detection AP 56.7)",
    "cifar-reference": "the learning-curve setting: tiny ViT, CIFAR-10, 20 epochs",
    "laptop": "a tiny ViT on 64 px crops: an hour on two CPU cores for 10,000 photographs",
    "moco-laptop": "MoCo v2, a narrow ResNet-18 on 48 px views, on a CPU",
    "densecl-laptop": "DenseCL, the same",
    "demo": "what `ocelli demo` runs: five minutes on two CPU cores",
];

/// The recipe of this name.
///
/// # Errors
/// [`ConfigError::UnknownPreset`] with all names and the nearest one.
pub fn preset(name: &str) -> Result<&'static Preset, ConfigError> {
    PRESETS.iter().find(|p| p.name == name).ok_or_else(|| {
        let names: Vec<String> = PRESETS.iter().map(|p| p.name.to_owned()).collect();
        ConfigError::UnknownPreset {
            name: name.to_owned(),
            hint: nearest(name, names.iter()),
            known: names.join(", "),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resolve;

    /// The constants of the published tables, where a preset differs from its method's defaults or is them.
    #[test]
    fn contrastive_recipes_are_the_published_ones() {
        let of = |name| resolve(Some(name), None, &[]).unwrap();
        let (moco, dense, coco) = (of("moco-r50-200"), of("densecl-r50-200"), of("densecl-r50-coco-800"));
        for config in [&moco, &dense, &coco] {
            assert_eq!((config.batch_size, config.moco.queue, config.moco.out_dim), (256, 65_536, 128));
            assert_eq!((config.moco.temperature, config.moco.momentum), (0.2, 0.999));
            let o = &config.optim;
            assert_eq!((o.weight_decay, o.weight_decay_end, o.momentum, o.min_lr), (1e-4, 1e-4, 0.9, 0.0));
            assert!(o.decay_all && o.lr_by_epoch && o.warmup_epochs == 0 && o.clip_grad == 0.0);
            assert_eq!(config.views.global_scale, [0.2, 1.0]);
        }
        assert_eq!((moco.epochs, dense.epochs, coco.epochs), (200, 200, 800));
        assert_eq!((moco.peak_lr(), dense.peak_lr(), coco.peak_lr()), (0.03, 0.03, 0.3));
        assert_eq!((dense.densecl.lambda, dense.densecl.lambda_warmup_iterations), (0.5, 0));
        let (sgd, lars) = (of("dino-r50-100"), of("dino-r50-800"));
        assert_eq!((sgd.optim.lr, sgd.optim.weight_decay, sgd.optim.clip_grad), (0.03, 1e-4, 3.0));
        assert_eq!((sgd.views.global_scale, sgd.views.local_scale), ([0.14, 1.0], [0.05, 0.14]));
        assert_eq!((lars.batch_size, lars.dino.head.out_dim, lars.dino.head.batch_norm), (4080, 60_000, true));
        assert_eq!((lars.optim.weight_decay, lars.optim.clip_grad), (1e-6, 0.0));
    }

    #[test]
    fn every_preset_resolves() {
        for preset in PRESETS {
            resolve(Some(preset.name), None, &[]).unwrap_or_else(|e| panic!("{}: {e}", preset.name));
        }
    }
}
