//! How much memory a detector's training takes, before the first step. Numbers are of 4 bytes.

use ocelli_models::{BackboneConfig, ResNetConfig};
use ocelli_train::memory::{Needs, gb};

use super::config::DetectionConfig;

/// What normalisation and ReLU make of a convolution's output is kept beside it.
const PER_CONVOLUTION: usize = 2;

/// What training of so many values takes, as far as it can be told before the first step.
pub(super) fn needs(config: &DetectionConfig, trained: usize) -> Needs {
    // Weights, gradients and momentum.
    let state = 4 * 3 * trained as u64;
    let images = config.batch_size / config.accumulate;
    let (whole, regions) = training_values(config, images);
    let [whole, regions] = [whole, regions].map(|values| (values as u64).saturating_mul(4));
    Needs {
        bytes: state.saturating_add(whole).saturating_add(regions),
        what: format!(
            "{} for network, gradients and momentum, {} for what {images} images at a time leave for the backward pass, {} for what \
             their regions do",
            gb(state),
            gb(whole),
            gb(regions)
        ),
        remedy: "raise accumulate, which computes a batch in parts, lower batch_size, roi.batch_size_per_image or views.short_px, \
                 or take a smaller backbone",
    }
}

/// Numbers that a training forward pass of so many images leaves for the backward pass, at least, in two parts: what sees whole
/// images, and what sees the regions cut out of them. Images are as large as the views make them, and square.
fn training_values(config: &DetectionConfig, images: usize) -> (usize, usize) {
    let shape = ResNetConfig { stem: config.stem, ..config.arch.into() };
    let side = config.views.short_px.iter().copied().max().unwrap_or(0).min(config.views.max_px);
    let (trunk, cells) = (config.arch.stage_dim(2), side.div_ceil((shape.stride_px() / 2).max(1)).pow(2));
    // The fourth stage, which does not see whole images, is a twentieth of this.
    let whole = BackboneConfig::ResNet(shape).training_activations(side) + PER_CONVOLUTION * cells * trunk;
    let regions = config.roi.batch_size_per_image.min(config.rpn.train_after_nms);
    let of_one = region_values(config) + config.roi.cells.pow(2) * trunk;
    (images.saturating_mul(whole), (images * regions).saturating_mul(of_one))
}

/// Numbers that the fourth stage leaves of one region, beside the crop.
fn region_values(config: &DetectionConfig) -> usize {
    let arch = &config.arch;
    let (dim, inner, blocks) = (arch.dim(), (arch.channels << 3) * arch.inner, arch.blocks[3]);
    let (before, after) = (config.roi.cells.pow(2), config.roi.cells.div_ceil(2).pow(2));
    // The first block halves the sides, in its 3×3 convolution, and has a convolution beside.
    let outputs = match arch.bottleneck {
        true => before * inner + after * (inner + 2 * dim) + (blocks - 1) * after * (2 * inner + dim),
        false => after * 3 * dim + (blocks - 1) * after * 2 * dim,
    };
    PER_CONVOLUTION * outputs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 8192 regions of 14 × 14 cells and 1024 channels are 6.6 GB before the fourth stage has begun.
    #[test]
    fn regions_take_most_of_it() {
        let config = DetectionConfig::default();
        let gb = |values: usize| 4.0 * values as f64 / 1e9;
        let (whole, regions) = training_values(&config, 16);
        let crops = 16 * 512 * 14 * 14 * 1024;
        assert!(regions > 3 * crops && gb(regions) < 100.0, "{}", gb(regions));
        assert!((5.0..40.0).contains(&gb(whole)), "{}", gb(whole));
        let (one, of_one) = training_values(&config, 1);
        assert_eq!((16 * one, 16 * of_one), (whole, regions));
        let few = DetectionConfig {
            roi: super::super::config::RoiConfig { batch_size_per_image: 64, ..config.roi.clone() },
            ..config
        };
        assert_eq!(8 * training_values(&few, 16).1, regions);
    }
}
