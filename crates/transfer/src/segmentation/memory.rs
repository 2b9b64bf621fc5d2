//! How much memory a network takes for pictures of a size. Numbers are of 4 bytes.

use ocelli_models::{BackboneConfig, ResNetConfig};

use super::head::{FcnHeadConfig, PatchHeadConfig};
use super::network::{DecodeConfig, NetworkConfig};

/// Outputs that a convolution, its normalisation and its ReLU leave, and the convolution's unfolded input.
const PER_CONVOLUTION: usize = 3;
const UNFOLDED: usize = 9;
/// Copies of the logits of one picture at its own size that exist while its loss is computed.
const LOGITS: usize = 6;

/// Side of the square with as many pixels.
fn side_of([height, width]: [usize; 2]) -> usize {
    height.saturating_mul(width).isqrt().max(1)
}

/// Numbers that are there at once while one picture of `[height, width]` passes through without gradients, at most.
pub(super) fn inference_values(shape: &NetworkConfig, size: [usize; 2]) -> usize {
    let side = side_of(size);
    let cells = shape.backbone.cells(side);
    let (backbone, dim) = match &shape.backbone {
        BackboneConfig::Vit(vit) => (shape.backbone.activations(side), vit.dim * shape.blocks),
        // Stages that were dilated have more cells than a usual network's, and as many channels.
        BackboneConfig::ResNet(config) => {
            let usual = BackboneConfig::ResNet(ResNetConfig { output_stride: 32, ..*config });
            (usual.activations(side).max(6 * cells * config.arch.dim()), config.arch.dim())
        }
    };
    // The widest convolution of the head unfolds what it sees.
    let head = match &shape.decode {
        DecodeConfig::Fcn(FcnHeadConfig { input, channels, concat_input, .. }) => {
            UNFOLDED * if *concat_input { input + channels } else { *input } + 4 * channels
        }
        DecodeConfig::Patch(PatchHeadConfig::Conv { channels, .. }) => UNFOLDED * dim + 4 * channels,
        DecodeConfig::Patch(PatchHeadConfig::Linear { .. }) => 3 * dim,
    };
    backbone + cells * head
}

/// Numbers that a training forward pass of so many pictures leaves for the backward pass, at least, with those of the losses.
pub(super) fn training_values(shape: &NetworkConfig, size: [usize; 2], images: usize) -> usize {
    let side = side_of(size);
    let cells = shape.backbone.cells(side);
    let backbone = if shape.frozen { 0 } else { shape.backbone.training_activations(side) };
    let fcn = |head: &FcnHeadConfig| {
        let convolutions = head.convs + usize::from(head.concat_input);
        let beside = if head.concat_input { head.input + head.channels } else { 0 };
        (PER_CONVOLUTION * convolutions * head.channels + beside + head.channels + head.classes, head.classes)
    };
    let (decode, classes) = match &shape.decode {
        DecodeConfig::Fcn(head) => fcn(head),
        DecodeConfig::Patch(PatchHeadConfig::Linear { input, classes }) => (2 * input + classes, *classes),
        DecodeConfig::Patch(PatchHeadConfig::Conv { channels, classes, .. }) => {
            (PER_CONVOLUTION * channels + classes, *classes)
        }
    };
    let auxiliary = shape.auxiliary.as_ref().map_or(0, |head| fcn(head).0);
    let per_image = backbone + cells * (decode + auxiliary) + 4 * size[0] * size[1];
    images * per_image + LOGITS * classes * size[0] * size[1]
}

#[cfg(test)]
mod tests {
    use super::super::config::SegmentationConfig;
    use super::*;

    /// The published recipe on one device: more than 16 GB, less than 80.
    #[test]
    fn the_published_recipe_takes_what_people_say() {
        let config = SegmentationConfig::default();
        let arch: ocelli_models::ResNetArch = "resnet-50".parse().unwrap();
        let backbone = config.backbone(&BackboneConfig::ResNet(arch.into())).unwrap();
        let shape = config.network(&backbone, 21).unwrap();
        let gb = |values: usize| 4.0 * values as f64 / 1e9;
        let whole = gb(training_values(&shape, [512, 512], 16));
        assert!((16.0..80.0).contains(&whole), "{whole}");
        let one = gb(training_values(&shape, [512, 512], 1));
        assert!(one > whole / 20.0 && one < whole / 10.0, "{one} {whole}");
        let frozen = NetworkConfig { frozen: true, ..shape.clone() };
        assert!(training_values(&frozen, [512, 512], 16) < training_values(&shape, [512, 512], 16) / 2);
        let pass = gb(inference_values(&shape, [512, 1024]));
        assert!((0.1..8.0).contains(&pass), "{pass}");
    }
}
