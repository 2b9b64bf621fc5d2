//! Everything that decides what a fine-tuned segmentation computes.
//!
//! Its length is counted in iterations, optimizer steps, as the published protocols count. The loop counts epochs: one epoch
//! of the loop is `evaluate_every` iterations, however many images there are, so that a run has as many steps as its
//! configuration says, and is evaluated, drawn and kept that often.

mod check;
mod presets;
mod resolve;

use ocelli_data::files::MAX_PIXELS;
use ocelli_data::views::{SegmentationTest, SegmentationViews};
use ocelli_methods::optim::{OptimConfig, OptimizerKind, ScheduleKind, WarmupKind};
use ocelli_models::weights::preprocessing::Statistics;
use ocelli_models::{BackboneArch, BackboneConfig, ResNetArch, ResNetConfig, Stem};
use ocelli_train::config::{ConfigError, LogConfig};
use serde::{Deserialize, Serialize};

pub use presets::{SegmentationPreset, segmentation_presets};

use super::head::{FcnHeadConfig, PatchHeadConfig};
use super::inference::{Inference, Sliding};
use super::network::{DecodeConfig, NetworkConfig};
use super::resize::Corners;

/// The task's name in configurations and events.
pub const SEGMENTATION_TASK: &str = "segmentation";

/// Classes that a byte can tell apart, beside the value for none.
pub const MOST_CLASSES: usize = 255;

/// What is put on the backbone's map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadKind {
    /// FCN's head on a ResNet's last stage, with an auxiliary one on the third.
    Fcn,
    /// Normalisation and a linear map of a Vision Transformer's patches.
    Linear,
    /// One 3×3 convolution over a Vision Transformer's patches, then a linear map.
    Conv,
}

/// The configuration of a fine-tuning for segmentation, every value resolved. The default is the published recipe of PASCAL
/// VOC (`voc-20k`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SegmentationConfig {
    /// [`SEGMENTATION_TASK`].
    pub task: String,
    /// The same word, where other runs have their method.
    pub method: String,
    /// The backbone.
    pub arch: BackboneArch,
    /// Its weights, as they were named.
    pub weights: String,
    /// CRC-32 of their values; empty for `random:…`, which are drawn from the seed.
    pub weights_crc32: String,
    /// `fcn` on a ResNet, `linear` or `conv` on a Vision Transformer.
    pub head: HeadKind,
    /// Pixels per cell of a ResNet's last stage (8), by dilation in place of stride. A Vision Transformer has its patch.
    pub stride_px: usize,
    /// The last blocks of a Vision Transformer whose patches the head sees side by side (1; DINOv2 also reports 4).
    pub blocks: usize,
    /// Whether the backbone stays as it is.
    pub frozen: bool,
    /// Channels of the head's 3×3 convolutions (512).
    pub channels: usize,
    /// Their number, of `fcn` (2).
    pub convs: usize,
    /// Whether one more convolution of `fcn` sees the map and their output side by side.
    pub concat_input: bool,
    /// Share of the channels that `fcn` and the auxiliary head drop in training (0.1).
    pub dropout: f64,
    /// Channels of the auxiliary head on a ResNet's third stage (256); 0 is no such head.
    pub auxiliary_channels: usize,
    /// Weight of its loss (0.4).
    pub auxiliary_weight: f64,
    /// Whether logits are resized with the corners of both grids in one place, as mmsegmentation does for crops of 8·n + 1
    /// pixels; otherwise with pixels as areas.
    pub align_corners: bool,
    /// Seed of the first weights (the heads', and a `random:…` backbone's), order, views and dropout.
    pub seed: u64,
    /// Optimizer steps (20,000).
    pub iterations: usize,
    /// Iterations between evaluations (20,000: once, at the end): an epoch of the loop. Divides `iterations`. Of several
    /// evaluations the best network is kept, which flatters.
    pub evaluate_every: usize,
    /// Images per optimizer step (16).
    pub batch_size: usize,
    /// Parts in which a batch is computed one after another (1); divides `batch_size`.
    pub accumulate: usize,
    /// What is trained on: scale, crop, flip, colours, normalisation.
    pub views: SegmentationViews,
    /// Optimizer and learning rate.
    pub optim: SegmentationOptim,
    /// How pictures are segmented.
    pub eval: SegmentationEval,
    /// Reading of images.
    pub loader: SegmentationLoading,
    /// What is written and how often.
    pub log: LogConfig,
}

/// Optimizer and learning rate: (lr − min_lr)·(1 − t/T)^power + min_lr at iteration t of T, after a linear warm-up that
/// replaces the first steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SegmentationOptim {
    /// `sgd` or `adamw`.
    pub optimizer: OptimizerKind,
    /// Learning rate, not scaled by the batch (0.01).
    pub lr: f64,
    /// What it approaches and never reaches (1e-4).
    pub min_lr: f64,
    /// Exponent (0.9).
    pub power: f64,
    /// Iterations of warm-up (0).
    pub warmup_iterations: usize,
    /// Momentum of SGD (0.9).
    pub momentum: f64,
    /// Weight decay (5e-4).
    pub weight_decay: f64,
    /// Decay biases and normalisations too, as mmsegmentation does.
    pub decay_all: bool,
    /// The backbone's learning rate as a share of the heads' (1).
    pub backbone_lr: f64,
}

/// How pictures are segmented in an evaluation and afterwards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SegmentationEval {
    /// Long and short side that a picture is fitted into, pixels; `[0, 0]` leaves it as it is.
    pub scale_px: [usize; 2],
    /// Side of the windows that slide over it, pixels (0: none, the whole picture at once).
    pub window_px: usize,
    /// From one window to the next, pixels.
    pub window_stride_px: usize,
    /// Held-out pictures, at most; 0 is all.
    pub max_pictures: usize,
}

/// How images are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SegmentationLoading {
    /// Threads that decode and cut; 0 is one per core. No effect on the result.
    pub threads: usize,
    /// Batches made ahead of the trainer (2).
    pub prefetch: usize,
    /// Share of unreadable images that stops the run (0.01).
    pub max_bad_fraction: f32,
    /// Largest width × height of an image that is read (100 million). Whoever opens the data makes it the limit of the process
    /// (`ocelli_data::files::set_max_pixels`).
    pub max_pixels: u64,
}

impl Default for SegmentationConfig {
    fn default() -> Self {
        let resnet50 =
            ResNetArch { blocks: [3, 4, 6, 3], bottleneck: true, channels: 64, inner: 1, selective_kernel: false };
        Self {
            task: SEGMENTATION_TASK.into(),
            method: SEGMENTATION_TASK.into(),
            arch: BackboneArch::ResNet(resnet50),
            weights: String::new(),
            weights_crc32: String::new(),
            head: HeadKind::Fcn,
            stride_px: 8,
            blocks: 1,
            frozen: false,
            channels: 512,
            convs: 2,
            concat_input: true,
            dropout: 0.1,
            auxiliary_channels: 256,
            auxiliary_weight: 0.4,
            align_corners: false,
            seed: 0,
            iterations: 20_000,
            evaluate_every: 20_000,
            batch_size: 16,
            accumulate: 1,
            views: SegmentationViews::default(),
            optim: SegmentationOptim::default(),
            eval: SegmentationEval::default(),
            loader: SegmentationLoading::default(),
            log: LogConfig { every_steps: 50, keep_every_epochs: 0, ..LogConfig::default() },
        }
    }
}

impl Default for SegmentationOptim {
    fn default() -> Self {
        Self {
            optimizer: OptimizerKind::Sgd,
            lr: 0.01,
            min_lr: 1e-4,
            power: 0.9,
            warmup_iterations: 0,
            momentum: 0.9,
            weight_decay: 5e-4,
            decay_all: true,
            backbone_lr: 1.0,
        }
    }
}

impl Default for SegmentationEval {
    fn default() -> Self {
        Self { scale_px: [2048, 512], window_px: 0, window_stride_px: 0, max_pictures: 0 }
    }
}

impl Default for SegmentationLoading {
    fn default() -> Self {
        Self { threads: 0, prefetch: 2, max_bad_fraction: 0.01, max_pixels: MAX_PIXELS }
    }
}

impl SegmentationOptim {
    /// The same in the words of the optimizers, whose schedule counts one step per epoch here.
    pub fn config(&self) -> OptimConfig {
        OptimConfig {
            optimizer: self.optimizer,
            lr: self.lr,
            scale_base: 0,
            min_lr: self.min_lr,
            schedule: ScheduleKind::Poly,
            power: self.power,
            warmup_epochs: self.warmup_iterations,
            warmup: WarmupKind::Overlapping,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            weight_decay_end: self.weight_decay,
            decay_all: self.decay_all,
            clip_grad: 0.0,
            ..OptimConfig::default()
        }
    }
}

impl SegmentationConfig {
    /// The normalisation of pixels.
    pub fn statistics(&self) -> Statistics {
        Statistics { mean: self.views.mean, std: self.views.std }
    }

    /// How logits are resized.
    pub fn corners(&self) -> Corners {
        if self.align_corners { Corners::Aligned } else { Corners::HalfPixel }
    }

    /// A backbone with this configuration's cells: a ResNet's stages keep their resolution by dilation. With the stem for
    /// small images, whose cells are a quarter as large, that may take no dilation at all.
    ///
    /// # Errors
    /// When a ResNet cannot have cells of that size.
    pub fn backbone(&self, loaded: &BackboneConfig) -> Result<BackboneConfig, ConfigError> {
        match loaded {
            BackboneConfig::Vit(config) => Ok(BackboneConfig::Vit(config.clone())),
            BackboneConfig::ResNet(config) => {
                let times = if config.stem == Stem::Cifar { 4 } else { 1 };
                let output_stride = self.stride_px.saturating_mul(times);
                if !matches!(output_stride, 8 | 16 | 32) {
                    let expected = if times == 4 { "2, 4 or 8 with this network's stem" } else { "8, 16 or 32" };
                    return Err(wrong("stride_px", expected, self.stride_px));
                }
                Ok(BackboneConfig::ResNet(ResNetConfig { output_stride, norm_groups: 1, ..*config }))
            }
        }
    }

    /// The network on a backbone ([`SegmentationConfig::backbone`]) for so many classes.
    ///
    /// # Errors
    /// When the head does not go with the backbone, or there are too few classes or too many.
    pub fn network(&self, backbone: &BackboneConfig, classes: usize) -> Result<NetworkConfig, ConfigError> {
        if !(2..=MOST_CLASSES).contains(&classes) {
            return Err(wrong("classes", format!("2 to {MOST_CLASSES}"), classes));
        }
        let is_vit = matches!(backbone, BackboneConfig::Vit(_));
        if is_vit == (self.head == HeadKind::Fcn) {
            let expected =
                if is_vit { "\"linear\" or \"conv\" on a Vision Transformer" } else { "\"fcn\" on a ResNet" };
            return Err(wrong("head", expected, format!("{:?}", self.head).to_lowercase()));
        }
        if let BackboneConfig::Vit(vit) = backbone {
            if self.blocks > vit.depth {
                return Err(wrong("blocks", format!("1 to {}, its blocks", vit.depth), self.blocks));
            }
            let patch = vit.patch_size_px;
            if let Some(side) = self.views.crop_px.iter().find(|side| !side.is_multiple_of(patch)) {
                let near = (side / patch).max(1) * patch;
                let expected = format!("multiples of {patch}, the patch, such as {near}");
                return Err(wrong("views.crop_px", expected, side));
            }
        }
        let input = NetworkConfig::decode_dim(backbone, if is_vit { self.blocks } else { 1 });
        let fcn = |input: usize, channels: usize, convs: usize, concat_input: bool| FcnHeadConfig {
            input,
            channels,
            convs,
            concat_input,
            classes,
            dropout: self.dropout,
        };
        let decode = match self.head {
            HeadKind::Fcn => DecodeConfig::Fcn(fcn(input, self.channels, self.convs, self.concat_input)),
            HeadKind::Linear => DecodeConfig::Patch(PatchHeadConfig::Linear { input, classes }),
            HeadKind::Conv => {
                DecodeConfig::Patch(PatchHeadConfig::Conv { input, channels: self.channels, classes })
            }
        };
        let auxiliary = NetworkConfig::auxiliary_dim(backbone)
            .filter(|_| self.auxiliary_channels > 0)
            .map(|input| fcn(input, self.auxiliary_channels, 1, false));
        Ok(NetworkConfig {
            backbone: backbone.clone(),
            blocks: if is_vit { self.blocks } else { 1 },
            frozen: self.frozen,
            decode,
            auxiliary,
        })
    }

    /// How pictures are segmented by a network on this backbone.
    pub fn inference(&self, backbone: &BackboneConfig) -> Inference {
        let (window, stride) = (self.eval.window_px, self.eval.window_stride_px);
        Inference {
            test: SegmentationTest {
                scale_px: (self.eval.scale_px != [0, 0]).then_some(self.eval.scale_px),
                mean: self.views.mean,
                std: self.views.std,
            },
            sliding: (window > 0).then_some(Sliding { size_px: [window; 2], stride_px: [stride; 2] }),
            corners: self.corners(),
            multiple_px: match backbone {
                BackboneConfig::Vit(vit) => vit.patch_size_px,
                BackboneConfig::ResNet(_) => 1,
            },
        }
    }

    /// Epochs of the loop.
    pub fn epochs(&self) -> usize {
        self.iterations / self.evaluate_every.max(1)
    }
}

#[allow(clippy::needless_pass_by_value)] // Callers hand over numbers and fresh text alike.
fn wrong(key: &'static str, expected: impl Into<String>, found: impl ToString) -> ConfigError {
    ConfigError::Value { key, expected: expected.into(), found: found.to_string() }
}

#[cfg(test)]
mod tests {
    use ocelli_models::{Arch, BackboneKind};

    use super::*;

    fn backbone(name: &str) -> BackboneConfig {
        match name.parse().unwrap() {
            BackboneArch::ResNet(arch) => BackboneConfig::ResNet(arch.into()),
            BackboneArch::Vit(arch) => BackboneConfig::Vit(Arch::config(&arch, 224, 0.0)),
        }
    }

    #[test]
    fn the_default_is_the_published_recipe() {
        let config = SegmentationConfig::default();
        config.check().unwrap();
        assert_eq!(config.epochs() * config.evaluate_every, 20_000);
        let net = config.backbone(&backbone("resnet-50")).unwrap();
        assert_eq!(net.cell_px(), 8);
        let shape = config.network(&net, 21).unwrap();
        let DecodeConfig::Fcn(head) = shape.decode else { panic!("{shape:?}") };
        assert_eq!((head.input, head.channels, head.convs, head.concat_input), (2048, 512, 2, true));
        assert_eq!(shape.auxiliary.unwrap().input, 1024);
        // conv + conv + cat + classifier, and the auxiliary head.
        let decode = (9 * 2048 * 512 + 2048) + (9 * 512 * 512 + 2048) + (9 * 2560 * 512 + 2048) + 513 * 21;
        let auxiliary = 9 * 1024 * 256 + 1024 + 257 * 21;
        assert_eq!(shape.head_values(), decode + auxiliary);
    }

    #[test]
    fn heads_go_with_their_backbones() {
        let fcn = SegmentationConfig::default();
        let linear = SegmentationConfig { head: HeadKind::Linear, ..fcn.clone() };
        let vit = backbone("vit-s/16");
        assert_eq!(vit.kind(), BackboneKind::Vit);
        for (config, backbone, words) in [
            (fcn.clone(), &vit, "\"linear\" or \"conv\""),
            (linear.clone(), &backbone("resnet-18"), "\"fcn\" on a ResNet"),
            (SegmentationConfig { blocks: 13, ..linear.clone() }, &vit, "1 to 12"),
        ] {
            let message = config.network(backbone, 5).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
        let odd = SegmentationViews { crop_px: [512, 500], ..fcn.views };
        let message =
            SegmentationConfig { views: odd, ..linear.clone() }.network(&vit, 5).unwrap_err().to_string();
        assert!(message.contains("views.crop_px") && message.contains("496"), "{message}");
        let four = SegmentationConfig { blocks: 4, ..linear }.network(&vit, 5).unwrap();
        assert_eq!(four.decode, DecodeConfig::Patch(PatchHeadConfig::Linear { input: 1536, classes: 5 }));
        for classes in [0, 1, 256] {
            assert!(fcn.network(&backbone("resnet-18"), classes).is_err());
        }
    }

    #[test]
    fn cells_of_either_stem() {
        let config = SegmentationConfig::default();
        let BackboneConfig::ResNet(resnet) = backbone("resnet-18") else { panic!() };
        let small = BackboneConfig::ResNet(ResNetConfig { stem: Stem::Cifar, ..resnet });
        assert_eq!(config.backbone(&small).unwrap().cell_px(), 8);
        let coarse = SegmentationConfig { stride_px: 16, ..config };
        assert_eq!(coarse.backbone(&backbone("resnet-18")).unwrap().cell_px(), 16);
        let message = coarse.backbone(&small).unwrap_err().to_string();
        assert!(message.contains("2, 4 or 8"), "{message}");
    }
}
