//! Residual networks (He et al. 2016, <https://arxiv.org/abs/1512.03385>) in torchvision's names, and the wide and
//! selective-kernel ones that self-supervised work compares with.

use burn::module::Module;
use burn::tensor::Tensor;
use ocelli_kernels::max_pool;
use serde::{Deserialize, Serialize};

mod arch;
mod block;

pub use arch::{ResNetArch, ResNetError};
use block::{BlockShape, ConvNorm, Norms, ResidualBlock};

use crate::backbone::pool;
use crate::weights::StateDict;
use crate::{BatchNorm, Conv2d, Init, Kernel, Mode};

/// What is in front of the stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stem {
    /// 7×7 of stride 2 and max pooling: a quarter of the image's side.
    #[default]
    Imagenet,
    /// 3×3 of stride 1 and no pooling, for images of 32 to 64 px.
    Cifar,
}

/// A ResNet and how it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// Its stages.
    pub arch: ResNetArch,
    /// What is in front of them.
    #[serde(default)]
    pub stem: Stem,
    /// Pixels per cell of the last stage with the usual stem: 32, or 16 or 8 with dilation in place of stride.
    #[serde(default = "usual_stride")]
    pub output_stride: usize,
    /// Start every block as the identity (γ of its last normalisation 0).
    #[serde(default)]
    pub zero_init_residual: bool,
    /// Shares of a batch that are normalised by their own statistics in training, as on that many devices (1).
    #[serde(default = "one")]
    pub norm_groups: usize,
}

fn usual_stride() -> usize {
    32
}

fn one() -> usize {
    1
}

impl From<ResNetArch> for ResNetConfig {
    fn from(arch: ResNetArch) -> Self {
        Self { arch, stem: Stem::Imagenet, output_stride: 32, zero_init_residual: false, norm_groups: 1 }
    }
}

impl ResNetConfig {
    /// The configuration of a backbone's tensors in torchvision's names.
    ///
    /// # Errors
    /// When they are another network's.
    pub fn of(state: &StateDict) -> Result<Self, ResNetError> {
        let (arch, side) = ResNetArch::of(state)?;
        let small = side == 3 && !arch.selective_kernel;
        Ok(Self { stem: if small { Stem::Cifar } else { Stem::Imagenet }, ..arch.into() })
    }

    /// Number of trained values, without building the network.
    pub fn num_parameters(&self) -> usize {
        self.arch.num_parameters(if self.stem == Stem::Cifar { 3 } else { 7 })
    }

    /// Pixels per cell of the last stage: a quarter of the output stride with the stem for small images.
    pub fn stride_px(&self) -> usize {
        self.output_stride / if self.stem == Stem::Cifar { 4 } else { 1 }
    }

    /// Checks the numbers and draws the network: convolutions by He et al. 2015, γ = 1, β = 0.
    ///
    /// # Errors
    /// Which number is wrong and what is allowed.
    pub fn init(&self, init: &mut Init) -> Result<ResNet, ResNetError> {
        self.arch.check()?;
        let value = |key, expected, found| Err(ResNetError::Value { key, expected, found });
        if !matches!(self.output_stride, 8 | 16 | 32) {
            return value("output_stride", "8, 16 or 32", self.output_stride);
        }
        if self.norm_groups == 0 {
            return value("norm_groups", "1 or more", self.norm_groups);
        }
        let c = self.arch.channels;
        let (mut conv1, mut bn1, mut stem) = (None, None, Vec::new());
        if self.arch.selective_kernel {
            let stride = if self.stem == Stem::Cifar { 1 } else { 2 };
            stem.push(ConvNorm::new(3, c / 2, Kernel::new(3, stride), init));
            stem.push(ConvNorm::new(c / 2, c / 2, Kernel::new(3, 1), init));
            stem.push(ConvNorm::new(c / 2, c, Kernel::new(3, 1), init));
        } else {
            let kernel = if self.stem == Stem::Cifar { Kernel::new(3, 1) } else { Kernel::new(7, 2) };
            conv1 = Some(Conv2d::new(3, c, kernel, init));
            bn1 = Some(BatchNorm::new(c, init));
        }
        let mut next = StageStart { input: c, dilation: 1, stride_px: 4 };
        let mut stage = |index: usize| self.stage(index, &mut next, init);
        Ok(ResNet {
            conv1,
            bn1,
            stem,
            layer1: stage(0),
            layer2: stage(1),
            layer3: stage(2),
            layer4: stage(3),
            pools: self.stem == Stem::Imagenet,
            norm_groups: self.norm_groups,
            dim: self.arch.dim(),
            stride_px: self.stride_px(),
        })
    }

    /// A stage's blocks. Where a stride would go below the output stride, cells get closer by dilation instead; the
    /// first block still has the dilation of the stage before, as its input has.
    fn stage(&self, stage: usize, next: &mut StageStart, init: &mut Init) -> Vec<ResidualBlock> {
        let (inner, output) = (self.arch.stage_inner(stage), self.arch.stage_dim(stage));
        let before = next.dilation;
        let mut stride = if stage == 0 { 1 } else { 2 };
        if next.stride_px * stride > self.output_stride {
            next.dilation *= stride;
            stride = 1;
        }
        next.stride_px *= stride;
        let blocks = (0..self.arch.blocks[stage])
            .map(|i| {
                let first = i == 0;
                let shape = BlockShape {
                    input: if first { next.input } else { output },
                    inner,
                    output,
                    stride: if first { stride } else { 1 },
                    dilation: if first { before } else { next.dilation },
                    first: first && (stage > 0 || next.input != output),
                };
                ResidualBlock::new(&self.arch, &shape, self.zero_init_residual, init)
            })
            .collect();
        next.input = output;
        blocks
    }
}

struct StageStart {
    input: usize,
    dilation: usize,
    stride_px: usize,
}

/// A ResNet without a classifier. See [`ResNetConfig`].
#[derive(Module, Debug)]
pub struct ResNet {
    /// The first convolution, but for networks with selective kernels.
    pub conv1: Option<Conv2d>,
    /// After `conv1`.
    pub bn1: Option<BatchNorm>,
    /// Three 3×3 convolutions in place of `conv1`.
    pub stem: Vec<ConvNorm>,
    /// First stage.
    pub layer1: Vec<ResidualBlock>,
    /// Second stage.
    pub layer2: Vec<ResidualBlock>,
    /// Third stage.
    pub layer3: Vec<ResidualBlock>,
    /// Fourth stage.
    pub layer4: Vec<ResidualBlock>,
    #[module(skip)]
    pools: bool,
    #[module(skip)]
    norm_groups: usize,
    #[module(skip)]
    dim: usize,
    #[module(skip)]
    stride_px: usize,
}

impl ResNet {
    /// Channels of the last stage.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Pixels per cell of the last stage.
    pub fn stride_px(&self) -> usize {
        self.stride_px
    }

    /// Outputs of the four stages, `[batch, channels, rows, cols]` each.
    pub fn stages(&self, images: Tensor<4>, mode: Mode) -> [Tensor<4>; 4] {
        let mut x = self.before_stages(images, mode);
        [&self.layer1, &self.layer2, &self.layer3, &self.layer4].map(|blocks| {
            x = self.stage(blocks, x.clone(), mode);
            x.clone()
        })
    }

    /// Output of the third stage, `[batch, 3, height, width]` to `[batch, channels, rows, cols]`: with the usual stem and stride a
    /// cell for every 16 pixels, sizes rounded up (C4 of a detector).
    pub fn to_stage3(&self, images: Tensor<4>, mode: Mode) -> Tensor<4> {
        let x = self.before_stages(images, mode);
        [&self.layer1, &self.layer2, &self.layer3].into_iter().fold(x, |x, blocks| self.stage(blocks, x, mode))
    }

    /// The fourth stage alone, of maps with the third's channels.
    pub fn stage4(&self, maps: Tensor<4>, mode: Mode) -> Tensor<4> {
        self.stage(&self.layer4, maps, mode)
    }

    fn stage(&self, blocks: &[ResidualBlock], x: Tensor<4>, mode: Mode) -> Tensor<4> {
        let norms = Norms { mode, groups: self.norm_groups };
        blocks.iter().fold(x, |x, block| block.forward(x, norms))
    }

    fn before_stages(&self, images: Tensor<4>, mode: Mode) -> Tensor<4> {
        let norms = Norms { mode, groups: self.norm_groups };
        let mut x = self.stem.iter().fold(images, |x, layer| layer.forward(x, norms));
        if let (Some(conv), Some(norm)) = (&self.conv1, &self.bn1) {
            x = norm.forward_relu(conv.forward(x), mode, self.norm_groups);
        }
        if self.pools {
            x = max_pool(x);
        }
        x
    }

    /// `[batch, 3, height, width]` to the last stage's mean over its cells, `[batch, dim]`.
    pub fn forward(&self, images: Tensor<4>, mode: Mode) -> Tensor<2> {
        let [_, _, _, last] = self.stages(images, mode);
        pool(last)
    }
}
