//! Everything that decides what fine-tuning a detector computes.

mod check;
mod resolve;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use ocelli_data::DetectionViews;
use ocelli_eval::detection::Interpolation;
use ocelli_models::{ResNetArch, Stem};
use ocelli_train::config::{LoaderSection, LogConfig};
use serde::{Deserialize, Serialize};

use super::anchors::Anchors;
use super::schedule::DetectorOptim;
use crate::NormStatistics;

/// The task's name in configurations and events.
pub const DETECTION_TASK: &str = "detection";
/// The method's.
pub const FASTER_RCNN: &str = "faster-rcnn";

/// Presets: a name, what it is for, and what differs from the published recipe.
pub const PRESETS: [(&str, &str, &str); 3] = [
    (
        "voc-24k",
        "PASCAL VOC 07+12 as MoCo and DenseCL fine-tune on it: 24,000 steps of 16 images",
        include_str!("presets/voc-24k.toml"),
    ),
    (
        "small",
        "small images on a laptop's processor: 2,000 steps of 2 images of 192 px",
        include_str!("presets/small.toml"),
    ),
    (
        "overfit",
        "a few images learnt by heart, to see that everything works",
        include_str!("presets/overfit.toml"),
    ),
];

/// A detector's configuration, every value resolved. Defaults are the published recipe (`voc-24k`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DetectionConfig {
    /// [`DETECTION_TASK`].
    pub task: String,
    /// [`FASTER_RCNN`].
    pub method: String,
    /// The backbone, a ResNet.
    pub arch: ResNetArch,
    /// What is in front of its stages.
    pub stem: Stem,
    /// Its weights, as they were named; `random:…` draws them.
    pub weights: String,
    /// Where they lie, where that is not as they are named; no part of what a configuration writes.
    #[serde(skip)]
    pub weights_path: Option<PathBuf>,
    /// CRC-32 of their values; empty where they are drawn, which seed and architecture decide.
    pub weights_crc32: String,
    /// Seed of first weights, order, views and samples.
    pub seed: u64,
    /// Optimizer steps (24,000).
    pub iterations: usize,
    /// Images of a step (16).
    pub batch_size: usize,
    /// Parts that a step's images are computed in, one after the other; divides `batch_size`. Each is normalised by its own
    /// statistics, as on that many devices.
    pub accumulate: usize,
    /// Sizes and flips of training images, and the normalisation.
    pub views: DetectionViews,
    /// Anchors.
    pub anchors: AnchorSection,
    /// Region proposals.
    pub rpn: RpnConfig,
    /// Their classes and boxes.
    pub roi: RoiConfig,
    /// Optimizer and schedule.
    pub optim: DetectorOptim,
    /// Evaluation.
    pub eval: DetectionEval,
    /// Reading of images.
    pub loader: LoaderSection,
    /// What is written and how often.
    pub log: LogConfig,
}

impl Default for DetectionConfig {
    fn default() -> Self {
        Self {
            task: DETECTION_TASK.into(),
            method: FASTER_RCNN.into(),
            arch: ResNetArch {
                blocks: [3, 4, 6, 3],
                bottleneck: true,
                channels: 64,
                inner: 1,
                selective_kernel: false,
            },
            stem: Stem::Imagenet,
            weights: String::new(),
            weights_path: None,
            weights_crc32: String::new(),
            seed: 0,
            iterations: 24_000,
            batch_size: 16,
            accumulate: 1,
            views: DetectionViews::default(),
            anchors: AnchorSection::default(),
            rpn: RpnConfig::default(),
            roi: RoiConfig::default(),
            optim: DetectorOptim::default(),
            eval: DetectionEval::default(),
            // Finished batches are large.
            loader: LoaderSection { prefetch: 2, ..LoaderSection::default() },
            log: LogConfig::default(),
        }
    }
}

/// Boxes from which proposals start, the same at every cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnchorSection {
    /// Roots of their areas, pixels of the network's input (32, 64, 128, 256, 512); scale them with the images.
    pub sizes_px: Vec<f32>,
    /// Height by width (0.5, 1, 2).
    pub ratios: Vec<f32>,
    /// Where in its cell an anchor has its centre, in cells (0, the upper left corner, as C4 was published).
    pub offset: f32,
}

impl Default for AnchorSection {
    fn default() -> Self {
        Self { sizes_px: vec![32.0, 64.0, 128.0, 256.0, 512.0], ratios: vec![0.5, 1.0, 2.0], offset: 0.0 }
    }
}

impl AnchorSection {
    /// The anchors of a trunk with so many pixels a cell.
    pub fn anchors(&self, stride_px: usize) -> Anchors {
        let Self { sizes_px, ratios, offset } = self;
        Anchors { stride: stride_px, sizes: sizes_px.clone(), ratios: ratios.clone(), offset: *offset }
    }
}

/// The region proposal network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RpnConfig {
    /// Anchors of an image that the loss looks at (256).
    pub batch_size_per_image: usize,
    /// Largest share of objects among them (0.5).
    pub positive_fraction: f64,
    /// IoU below which an anchor is background (0.3).
    pub background_below: f32,
    /// IoU from which an anchor is an object (0.7).
    pub object_from: f32,
    /// Overlap above which the less likely of two proposals is left out (0.7).
    pub nms_iou: f32,
    /// Likeliest anchors of an image that are looked at in training (12,000).
    pub train_before_nms: usize,
    /// Proposals of an image in training (2,000).
    pub train_after_nms: usize,
    /// Likeliest anchors of an image that are looked at in a test (6,000).
    pub test_before_nms: usize,
    /// Proposals of an image in a test (1,000).
    pub test_after_nms: usize,
}

impl Default for RpnConfig {
    fn default() -> Self {
        Self {
            batch_size_per_image: 256,
            positive_fraction: 0.5,
            background_below: 0.3,
            object_from: 0.7,
            nms_iou: 0.7,
            train_before_nms: 12_000,
            train_after_nms: 2_000,
            test_before_nms: 6_000,
            test_after_nms: 1_000,
        }
    }
}

/// The second stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoiConfig {
    /// Proposals of an image that are learnt from (512).
    pub batch_size_per_image: usize,
    /// Largest share of objects among them (0.25).
    pub positive_fraction: f64,
    /// IoU from which a proposal is an object (0.5).
    pub object_from: f32,
    /// Cells on a side of a crop (14); the fourth stage halves them.
    pub cells: usize,
    /// Samples of a cell's side; 0 takes one for each cell of the map (0).
    pub sampling_ratio: usize,
    /// What the four numbers of a box are multiplied by (10, 10, 5, 5).
    pub box_weights: [f32; 4],
    /// A batch normalisation behind the fourth stage (true).
    pub extra_norm: bool,
    /// Probability above which a class counts as found (0.05).
    pub score: f32,
    /// Overlap above which the less likely of two objects of a class is left out (0.5).
    pub nms_iou: f32,
    /// Objects found in an image at most (100).
    pub top: usize,
}

impl Default for RoiConfig {
    fn default() -> Self {
        Self {
            batch_size_per_image: 512,
            positive_fraction: 0.25,
            object_from: 0.5,
            cells: 14,
            sampling_ratio: 0,
            box_weights: [10.0, 10.0, 5.0, 5.0],
            extra_norm: true,
            score: 0.05,
            nms_iou: 0.5,
            top: 100,
        }
    }
}

/// Evaluation during the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DetectionEval {
    /// Steps from one evaluation to the next (24,000: at the end); 0 is never. What the curves count as an epoch.
    pub every_iterations: usize,
    /// Short side of a test image, pixels (800).
    pub short_px: usize,
    /// Test images, at most; 0 is all.
    pub max_images: usize,
    /// Batches of `batch_size` images by whose statistics the network is evaluated and kept (200), each in its `accumulate` parts; 0
    /// takes the running averages.
    pub precise_bn_batches: usize,
    /// How they become one: `population` or `batch_mean`.
    pub norm_statistics: NormStatistics,
    /// How VOC's precision is interpolated: `11-point` or `continuous`.
    pub interpolation: Interpolation,
}

impl Default for DetectionEval {
    fn default() -> Self {
        Self {
            every_iterations: 24_000,
            short_px: 800,
            max_images: 0,
            precise_bn_batches: 200,
            norm_statistics: NormStatistics::Population,
            interpolation: Interpolation::ElevenPoint,
        }
    }
}
