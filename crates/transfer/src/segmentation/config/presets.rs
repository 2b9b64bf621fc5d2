//! Recipes: the published ones, and a small one.

use super::SegmentationConfig;
use ocelli_train::config::ConfigError;

/// A recipe by name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SegmentationPreset {
    /// Its name.
    pub name: &'static str,
    /// What it is for, in one sentence.
    pub about: &'static str,
    /// What differs from the defaults, as TOML.
    pub toml: &'static str,
}

const PRESETS: &[SegmentationPreset] = &[
    SegmentationPreset {
        name: "voc-20k",
        about: "FCN-R50-d8 on PASCAL VOC aug, crops of 512, 20,000 iterations of 16 images: how DenseCL is judged",
        toml: "",
    },
    SegmentationPreset {
        name: "cityscapes-40k",
        about: "FCN-R50-d8 on Cityscapes, crops of 769, 40,000 iterations of 8 images, windows of 769 in the test",
        toml: r#"
iterations = 40000
evaluate_every = 40000
batch_size = 8
align_corners = true
[views]
scale_px = [2049, 1025]
crop_px = [769, 769]
[eval]
scale_px = [2049, 1025]
window_px = 769
window_stride_px = 513
"#,
    },
    SegmentationPreset {
        name: "laptop",
        about: "FCN-R18-d8 with heads of 128 and 64 channels, crops of 160 px, 2,000 iterations of 8 images, on a CPU",
        toml: r#"
arch = "resnet-18"
channels = 128
convs = 1
concat_input = false
auxiliary_channels = 64
iterations = 2000
evaluate_every = 200
batch_size = 8
[views]
scale_px = [240, 180]
ratio = [0.75, 1.5]
crop_px = [160, 160]
[eval]
scale_px = [0, 0]
[log]
every_steps = 10
"#,
    },
    // Whole pictures and fine cells: what a cell cannot show, no network learns. Several pictures of a step, as the statistics of
    // one differ from those that the evaluation takes.
    SegmentationPreset {
        name: "overfit",
        about: "a few pictures of 240 × 180 learnt by heart, to see that everything works: cells of 2 px, which want a ResNet with the \
                stem for small images",
        toml: r#"
arch = "resnet-18c16"
stride_px = 2
channels = 64
convs = 1
concat_input = false
auxiliary_channels = 32
dropout = 0.0
iterations = 2400
evaluate_every = 200
batch_size = 4
[views]
scale_px = [240, 180]
ratio = [1.0, 1.0]
crop_px = [180, 240]
max_class_share = 1.0
flip = 0.0
photometric = false
[optim]
optimizer = "adamw"
lr = 5e-3
min_lr = 0.0
warmup_iterations = 20
weight_decay = 1e-4
decay_all = false
[eval]
scale_px = [240, 180]
[log]
every_steps = 20
"#,
    },
    SegmentationPreset {
        name: "vit-linear",
        about: "a linear map of a frozen Vision Transformer's patches, 40,000 iterations of 16 images: after DINOv2, which slides \
                windows over its test pictures, where this takes them whole, and warms up in another form",
        toml: r#"
arch = "vit-s/16"
head = "linear"
frozen = true
auxiliary_channels = 0
iterations = 40000
evaluate_every = 4000
[optim]
optimizer = "adamw"
lr = 1e-3
min_lr = 0.0
power = 1.0
warmup_iterations = 1500
weight_decay = 1e-4
decay_all = false
"#,
    },
    SegmentationPreset {
        name: "vit-conv",
        about: "a 3×3 convolution on a Vision Transformer's patches, all of it trained, 20,000 iterations of 16 images",
        toml: r#"
arch = "vit-s/16"
head = "conv"
channels = 256
auxiliary_channels = 0
evaluate_every = 2000
[optim]
optimizer = "adamw"
lr = 1e-3
min_lr = 0.0
power = 1.0
warmup_iterations = 1000
weight_decay = 0.05
decay_all = false
backbone_lr = 0.1
"#,
    },
];

/// All recipes, in the order of lists.
pub fn segmentation_presets() -> &'static [SegmentationPreset] {
    PRESETS
}

/// The recipe of a name.
pub(super) fn preset(name: &str) -> Result<&'static SegmentationPreset, ConfigError> {
    PRESETS.iter().find(|preset| preset.name == name).ok_or_else(|| {
        let known: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
        ConfigError::UnknownPreset { name: name.to_owned(), known: known.join(", "), hint: String::new() }
    })
}

impl SegmentationConfig {
    /// A recipe's configuration.
    ///
    /// # Errors
    /// When there is none of this name; the message lists them.
    pub fn preset(name: &str) -> Result<Self, ConfigError> {
        Self::resolve(Some(name), None, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_is_a_configuration() {
        for preset in segmentation_presets() {
            let config =
                SegmentationConfig::preset(preset.name).unwrap_or_else(|e| panic!("{}: {e}", preset.name));
            config.check().unwrap_or_else(|e| panic!("{}: {e}", preset.name));
        }
        assert_eq!(SegmentationConfig::preset("voc-20k").unwrap(), SegmentationConfig::default());
        // Published figures are those at the end, not the best on the way.
        for name in ["voc-20k", "cityscapes-40k"] {
            let config = SegmentationConfig::preset(name).unwrap();
            assert_eq!((config.epochs(), config.notes()), (1, Vec::new()), "{name}");
        }
        let notes = SegmentationConfig::preset("laptop").unwrap().notes();
        assert!(notes.iter().any(|note| note.contains("10 evaluations")), "{notes:?}");
        let message = SegmentationConfig::preset("voc").unwrap_err().to_string();
        assert!(message.contains("voc-20k") && message.contains("laptop"), "{message}");
    }
}
