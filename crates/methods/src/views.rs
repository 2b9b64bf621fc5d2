//! The `views` section of a configuration: what every method's views are made from.

use serde::{Deserialize, Serialize};

/// Crops; defaults are DINO's multi-crop. Methods that compare two views have the global crops alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ViewSettings {
    /// Side of the two global crops (224).
    pub global_size_px: usize,
    /// Side of the local crops (96).
    pub local_size_px: usize,
    /// Share of the image's area in a global crop (0.4 to 1).
    pub global_scale: [f32; 2],
    /// Share of the image's area in a local crop (0.05 to 0.4).
    pub local_scale: [f32; 2],
    /// Local crops per image (8).
    pub local_crops: usize,
    /// Largest σ of the Gaussian blur in pixels (2); 0 switches blur off, as one does for images of 32 px.
    pub blur_sigma_max: f32,
    /// Strength of brightness, contrast, saturation and hue jitter, of methods that leave it open (0: none).
    pub jitter: f32,
    /// Magnitude of RandAugment, from 0 to 10, of methods that leave it open (0: none).
    pub randaugment: f32,
    /// Probability of random erasing, of methods that leave it open (0: none).
    pub erase: f32,
    /// Per-channel mean taken off (ImageNet's).
    pub mean: [f32; 3],
    /// Per-channel standard deviation divided by (ImageNet's).
    pub std: [f32; 3],
}

impl Default for ViewSettings {
    fn default() -> Self {
        Self {
            global_size_px: 224,
            local_size_px: 96,
            global_scale: [0.4, 1.0],
            local_scale: [0.05, 0.4],
            local_crops: 8,
            blur_sigma_max: 2.0,
            jitter: 0.0,
            randaugment: 0.0,
            erase: 0.0,
            mean: ocelli_data::IMAGENET_MEAN,
            std: ocelli_data::IMAGENET_STD,
        }
    }
}

impl ViewSettings {
    /// Range of the blur's σ in pixels, where there is blur.
    pub fn blur_sigma(&self) -> Option<[f32; 2]> {
        (self.blur_sigma_max > 0.0).then_some([self.blur_sigma_max.min(0.1), self.blur_sigma_max])
    }
}
