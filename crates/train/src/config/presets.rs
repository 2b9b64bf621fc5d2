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
    "cifar-reference": "the learning-curve setting: tiny ViT, CIFAR-10, 20 epochs",
    "laptop": "a tiny ViT on 64 px crops: an hour on two CPU cores for 10,000 photographs",
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

    #[test]
    fn every_preset_resolves() {
        for preset in PRESETS {
            resolve(Some(preset.name), None, &[]).unwrap_or_else(|e| panic!("{}: {e}", preset.name));
        }
    }
}
