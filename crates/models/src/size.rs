//! How large a backbone is, without building it.

use crate::{BackboneConfig, ResNetConfig, Stem, VitConfig};

impl BackboneConfig {
    /// Number of trained values.
    pub fn num_parameters(&self) -> usize {
        match self {
            Self::Vit(config) => config.num_parameters(),
            Self::ResNet(config) => config.num_parameters(),
        }
    }

    /// Numbers of the largest tensor that arises while one square image of `side_px` passes through in training.
    pub fn largest_activation(&self, side_px: usize) -> usize {
        match self {
            // Queries, keys and values, or the hidden layer of the MLP.
            Self::Vit(config) => {
                let tokens = 1 + config.registers + (side_px / config.patch_size_px).pow(2);
                tokens * config.dim * config.mlp_ratio.max(3)
            }
            Self::ResNet(config) => config.largest_output(side_px),
        }
    }

    /// Numbers that a training forward pass of one square image of `side_px` leaves for the backward pass, at least.
    pub fn training_activations(&self, side_px: usize) -> usize {
        match self {
            Self::Vit(config) => config.training_activations(side_px),
            // Of every convolution the output, and what normalisation and ReLU make of it.
            Self::ResNet(config) => 2 * config.convolution_outputs(side_px),
        }
    }
}

impl VitConfig {
    /// As [`BackboneConfig::training_activations`].
    fn training_activations(&self, side_px: usize) -> usize {
        let tokens = 1 + self.registers + (side_px / self.patch_size_px).pow(2);
        // Of a block its input, queries, keys and values, their mixture, the sum, and the hidden layer of the MLP.
        let block = tokens * self.dim * (6 + self.mlp_ratio);
        3 * side_px * side_px + self.depth * block
    }
}

impl ResNetConfig {
    /// Numbers in the largest output of a convolution for one square image of `side_px`.
    fn largest_output(&self, side_px: usize) -> usize {
        let (mut side, mut stride_px) =
            (if self.stem == Stem::Imagenet { side_px.div_ceil(2) } else { side_px }, 4);
        let mut largest = self.arch.channels * side * side;
        if self.stem == Stem::Imagenet {
            side = side.div_ceil(2);
        }
        for stage in 0..self.arch.blocks.len() {
            let before = side;
            if stage > 0 && 2 * stride_px <= self.output_stride {
                (side, stride_px) = (side.div_ceil(2), 2 * stride_px);
            }
            // The first convolution of three still sees the larger map.
            let first = if self.arch.bottleneck { self.arch.stage_inner(stage) * before * before } else { 0 };
            largest = largest.max(first).max(self.arch.stage_dim(stage) * side * side);
        }
        largest
    }

    /// Numbers in the outputs of all convolutions for one square image of `side_px`.
    fn convolution_outputs(&self, side_px: usize) -> usize {
        let arch = &self.arch;
        let (mut side, channels) = match self.stem {
            Stem::Imagenet => (side_px.div_ceil(2), arch.channels),
            Stem::Cifar => (side_px, arch.channels),
        };
        // The stem of networks with selective kernels has three convolutions, two of them half as wide.
        let stem = channels * if arch.selective_kernel { 2 } else { 1 };
        let mut total = side * side * stem;
        let mut stride_px = 4;
        if self.stem == Stem::Imagenet {
            side = side.div_ceil(2);
        }
        for (stage, blocks) in arch.blocks.iter().enumerate() {
            let (inner, output) = (arch.stage_inner(stage), arch.stage_dim(stage));
            let before = side;
            if stage > 0 && 2 * stride_px <= self.output_stride {
                (side, stride_px) = (side.div_ceil(2), 2 * stride_px);
            }
            let cells = side * side;
            let middle = inner * if arch.selective_kernel { 2 } else { 1 };
            let block = if arch.bottleneck { inner + middle + output } else { 2 * output };
            total += blocks * block * cells;
            // The first block of three convolutions still sees the larger map, and a shortcut has a convolution.
            if arch.bottleneck {
                total += inner * (before * before - cells);
            }
            let input = if stage == 0 { arch.channels } else { arch.stage_dim(stage - 1) };
            if stage > 0 || input != output {
                total += output * cells;
            }
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BackboneArch, ResNetArch};

    fn of(name: &str) -> BackboneConfig {
        match name.parse().unwrap() {
            BackboneArch::Vit(arch) => BackboneConfig::Vit(arch.config(224, 0.0)),
            BackboneArch::ResNet(arch) => BackboneConfig::ResNet(arch.into()),
        }
    }

    /// Radosavovic et al. 2020 (<https://arxiv.org/abs/2003.13678>) count 11.1 M outputs of ResNet-50's convolutions at 224 px,
    /// 16.2 M of ResNet-101's.
    #[test]
    fn outputs_of_convolutions_are_those_others_count() {
        let outputs = |name: &str| {
            let config = ResNetConfig::from(name.parse::<ResNetArch>().unwrap());
            config.convolution_outputs(224) as f64 / 1e6
        };
        assert!((outputs("resnet-50") - 11.1).abs() < 0.05, "{}", outputs("resnet-50"));
        assert!((outputs("resnet-101") - 16.2).abs() < 0.05, "{}", outputs("resnet-101"));
        let ratio = outputs("resnet-50x5") / outputs("resnet-50");
        assert!((ratio - 5.0).abs() < 1e-9, "{ratio}");
        assert!(outputs("resnet-152x3-sk") > 3.0 * outputs("resnet-152"));
    }

    #[test]
    fn the_largest_tensor_is_the_hidden_layer_or_a_map_of_the_first_stage() {
        for (name, largest) in [
            ("vit-s/16", 197 * 4 * 384),
            ("vit-s/8", 785 * 4 * 384),
            ("resnet-18", 64 * 112 * 112),
            ("resnet-50", 256 * 56 * 56),
            ("resnet-50x2", 2 * 256 * 56 * 56),
        ] {
            let config = of(name);
            assert_eq!(config.largest_activation(224), largest, "{name}");
            assert!(config.largest_activation(224) < config.training_activations(224), "{name}");
        }
    }

    #[test]
    fn training_keeps_more_than_a_pass_needs_at_once() {
        for name in ["resnet-50", "resnet-50x5", "resnet-152x3-sk", "vit-s/16", "vit-b/8"] {
            let config = of(name);
            assert!(config.training_activations(224) > config.activations(224), "{name}");
            assert!(config.num_parameters() > 20_000_000, "{name}");
        }
    }
}
