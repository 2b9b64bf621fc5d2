//! Residual blocks.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::{relu, softmax};
use burn::tensor::module::avg_pool2d;
use burn::tensor::ops::AvgPoolOptions;

use super::ResNetArch;
use crate::backbone::pool;
use crate::{BatchNorm, Conv2d, Init, Kernel, Linear, Mode};

/// How a forward pass normalises: its mode, and shares of the batch with statistics of their own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Norms {
    pub mode: Mode,
    pub groups: usize,
}

impl Norms {
    fn apply(self, norm: &BatchNorm, x: Tensor<4>) -> Tensor<4> {
        norm.forward_maps(x, self.mode, self.groups)
    }

    fn apply_relu(self, norm: &BatchNorm, x: Tensor<4>) -> Tensor<4> {
        norm.forward_relu(x, self.mode, self.groups)
    }

    fn apply_add_relu(self, norm: &BatchNorm, x: Tensor<4>, shortcut: Tensor<4>) -> Tensor<4> {
        norm.forward_add_relu(x, self.mode, self.groups, shortcut)
    }
}

/// Convolution, batch normalisation, ReLU.
#[derive(Module, Debug)]
pub struct ConvNorm {
    /// The convolution.
    pub conv: Conv2d,
    /// What normalises it.
    pub norm: BatchNorm,
}

impl ConvNorm {
    pub(super) fn new(input: usize, output: usize, kernel: Kernel, init: &mut Init) -> Self {
        Self { conv: Conv2d::new(input, output, kernel, init), norm: BatchNorm::new(output, init) }
    }

    pub(super) fn forward(&self, x: Tensor<4>, norms: Norms) -> Tensor<4> {
        norms.apply_relu(&self.norm, self.conv.forward(x))
    }
}

/// Two 3×3 streams mixed per channel by what the image holds (Li et al. 2019, as in SimCLRv2).
#[derive(Module, Debug)]
pub struct SelectiveKernel {
    /// Both streams in one convolution, `[2·channels, channels, 3, 3]`.
    pub conv: Conv2d,
    /// Normalises both.
    pub norm: BatchNorm,
    /// Pooled channels to the selection's width.
    pub reduce: Linear,
    /// Normalises that.
    pub reduce_norm: BatchNorm,
    /// To a weight per stream and channel.
    pub select: Linear,
}

impl SelectiveKernel {
    fn new(channels: usize, kernel: Kernel, init: &mut Init) -> Self {
        let mid = ResNetArch::sk_width(channels);
        Self {
            conv: Conv2d::new(channels, 2 * channels, kernel, init),
            norm: BatchNorm::new(2 * channels, init),
            reduce: Linear::new(channels, mid, false, init),
            reduce_norm: BatchNorm::new(mid, init),
            select: Linear::new(mid, 2 * channels, false, init),
        }
    }

    fn forward(&self, x: Tensor<4>, norms: Norms) -> Tensor<4> {
        let both = norms.apply_relu(&self.norm, self.conv.forward(x));
        let [batch, doubled, rows, cols] = both.dims();
        let channels = doubled / 2;
        let both = both.reshape([batch, 2, channels, rows * cols]);
        let pooled = pool(both.clone().sum_dim(1).reshape([batch, channels, rows, cols]));
        let reduced = self.reduce.forward(pooled);
        let [_, mid] = reduced.dims();
        let reduced = norms.apply(&self.reduce_norm, reduced.reshape([batch, mid, 1, 1])).reshape([batch, mid]);
        let chosen = softmax(self.select.forward(relu(reduced)).reshape([batch, 2, channels]), 1);
        let mixed = both * chosen.reshape([batch, 2, channels, 1]);
        mixed.sum_dim(1).reshape([batch, channels, rows, cols])
    }
}

/// One entry of the shortcut's `Sequential`, so that indices in the names agree: a convolution, a batch norm, or (both
/// absent) average pooling. Path components that start with `op_` are left out of parameter names.
#[derive(Module, Debug)]
pub struct ShortcutLayer {
    op_conv: Option<Conv2d>,
    op_norm: Option<BatchNorm>,
}

impl ShortcutLayer {
    fn conv(conv: Conv2d) -> Self {
        Self { op_conv: Some(conv), op_norm: None }
    }

    fn norm(norm: BatchNorm) -> Self {
        Self { op_conv: None, op_norm: Some(norm) }
    }

    fn forward(&self, x: Tensor<4>, norms: Norms) -> Tensor<4> {
        match (&self.op_conv, &self.op_norm) {
            (Some(conv), _) => conv.forward(x),
            (None, Some(norm)) => norms.apply(norm, x),
            (None, None) => {
                let [_, _, height, width] = x.dims();
                // As the convolutions do, half the size rounded up; the mean is over the cells that are there.
                let options = AvgPoolOptions::new([2, 2]).with_padding_pairs([(0, height % 2), (0, width % 2)]);
                avg_pool2d(x, options.with_stride([2, 2]).with_count_include_pad(false))
            }
        }
    }
}

/// Two or three convolutions and what they are added to.
#[derive(Module, Debug)]
pub struct ResidualBlock {
    /// 1×1 (3×3 in blocks of two).
    pub conv1: Conv2d,
    /// After `conv1`.
    pub bn1: BatchNorm,
    /// 3×3, with the stride of blocks of three.
    pub conv2: Option<Conv2d>,
    /// After `conv2`.
    pub bn2: Option<BatchNorm>,
    /// In place of `conv2` and `bn2`.
    pub sk: Option<SelectiveKernel>,
    /// 1×1, blocks of three only.
    pub conv3: Option<Conv2d>,
    /// After `conv3`.
    pub bn3: Option<BatchNorm>,
    /// Where size or channels change.
    pub downsample: Vec<ShortcutLayer>,
}

/// What a block is made for.
pub(super) struct BlockShape {
    pub input: usize,
    pub inner: usize,
    pub output: usize,
    pub stride: usize,
    pub dilation: usize,
    /// The first block of a stage changes the channels or the size.
    pub first: bool,
}

impl ResidualBlock {
    pub(super) fn new(arch: &ResNetArch, shape: &BlockShape, zero_init: bool, init: &mut Init) -> Self {
        let &BlockShape { input, inner, output, stride, dilation, first } = shape;
        let three = arch.bottleneck;
        // Stride and dilation belong to one 3×3 convolution: the second of three, the first of two (mmsegmentation's basic block).
        let dilated = Kernel::new(3, stride).dilated(dilation);
        let (before, middle) = if three { (Kernel::new(1, 1), dilated) } else { (dilated, Kernel::new(3, 1)) };
        let last = |init: &mut Init| {
            let mut norm = BatchNorm::new(output, init);
            if zero_init {
                norm.weight = init.constant([output], 0.0);
            }
            norm
        };
        let conv1 = Conv2d::new(input, inner, before, init);
        let bn1 = BatchNorm::new(inner, init);
        let (conv2, bn2, sk) = match arch.selective_kernel {
            true => (None, None, Some(SelectiveKernel::new(inner, middle, init))),
            false => {
                let conv = Conv2d::new(inner, inner, middle, init);
                (Some(conv), Some(if three { BatchNorm::new(inner, init) } else { last(init) }), None)
            }
        };
        let conv3 = three.then(|| Conv2d::new(inner, output, Kernel::new(1, 1), init));
        let bn3 = three.then(|| last(init));
        let mut downsample = Vec::new();
        if first && (stride > 1 || input != output) {
            // SimCLRv2 (ResNet-D) pools before a 1×1 of stride 1, so that no value is skipped.
            let pools = arch.selective_kernel && stride > 1;
            if pools {
                downsample.push(ShortcutLayer { op_conv: None, op_norm: None });
            }
            let kernel = Kernel::new(1, if pools { 1 } else { stride });
            downsample.push(ShortcutLayer::conv(Conv2d::new(input, output, kernel, init)));
            downsample.push(ShortcutLayer::norm(BatchNorm::new(output, init)));
        }
        Self { conv1, bn1, conv2, bn2, sk, conv3, bn3, downsample }
    }

    pub(super) fn forward(&self, x: Tensor<4>, norms: Norms) -> Tensor<4> {
        let shortcut = self.downsample.iter().fold(x.clone(), |x, layer| layer.forward(x, norms));
        let mut y = norms.apply_relu(&self.bn1, self.conv1.forward(x));
        let last = self.conv3.as_ref().zip(self.bn3.as_ref());
        if let (Some(conv), Some(norm)) = (&self.conv2, &self.bn2) {
            let maps = conv.forward(y);
            if last.is_none() {
                return norms.apply_add_relu(norm, maps, shortcut);
            }
            y = norms.apply_relu(norm, maps);
        }
        // A selective kernel ends in its mixture, which is not rectified again.
        if let Some(sk) = &self.sk {
            y = sk.forward(y, norms);
        }
        match last {
            Some((conv, norm)) => norms.apply_add_relu(norm, conv.forward(y), shortcut),
            None => relu(y + shortcut),
        }
    }
}
