//! Batch normalisation in WGSL: one pass for the statistics, one for the result; in the other direction one for the sums of
//! every channel, one for the gradients.

use burn::backend::ops::FloatTensorOps;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::Slice;

use super::kernel::{BatchNormKernel, BatchNormOps, How};
use crate::gpu::{Launch, contiguous, empty, reshaped, size, software};

/// Batch, channels, cells of a map.
fn sizes(x: &CubeTensor) -> [usize; 3] {
    [size(x, 0), size(x, 1), size(x, 2) * size(x, 3)]
}

fn like(x: &CubeTensor) -> CubeTensor {
    empty(x, [0, 1, 2, 3].map(|d| size(x, d)))
}

type Settings<'a> = &'a [(&'static str, bool)];

/// A launch with one channel for each invocation (software) or workgroup (hardware).
fn channels_pass(shader: &'static str, settings: Settings<'_>, buffers: &[&CubeTensor], x: &CubeTensor, eps: f32) {
    let [images, channels, area] = sizes(x);
    let (group, groups) = if software() { (8, channels.div_ceil(8)) } else { (256, channels) };
    let mut all = vec![("shared", (!software()).into()), ("group", group.into())];
    all.extend(settings.iter().map(|(name, on)| (*name, (*on).into())));
    let sizes = [images as u32, channels as u32, area as u32, eps.to_bits()];
    Launch { shader, settings: &all, group, groups: (groups, 1), buffers, sizes: &sizes }.run();
}

/// A launch with a part of a map for each invocation or workgroup.
fn maps_pass(shader: &'static str, settings: Settings<'_>, buffers: &[&CubeTensor], x: &CubeTensor, eps: f32) {
    let [images, channels, area] = sizes(x);
    let (group, span) = if software() { (8, 128) } else { (64, 256) };
    let parts = images * channels * area.div_ceil(span);
    let groups = if software() { parts.div_ceil(group) } else { parts };
    let mut all = vec![("shared", (!software()).into()), ("group", group.into())];
    all.extend(settings.iter().map(|(name, on)| (*name, (*on).into())));
    let planes = (images * channels) as u32;
    let sizes = [planes, channels as u32, area as u32, span as u32, eps.to_bits(), 0, 0, 0];
    Launch { shader, settings: &all, group, groups: (groups, 1), buffers, sizes: &sizes }.run();
}

fn forward(inputs: [CubeTensor; 4], other: Option<CubeTensor>, relu: bool, eps: f32) -> CubeTensor {
    let [x, gamma, beta, stats] = inputs.map(contiguous);
    let other = other.map(contiguous);
    let y = like(&x);
    let mut buffers = vec![&x, &gamma, &beta, &stats, &y];
    buffers.extend(&other);
    maps_pass("batch_norm", &[("residual", other.is_some()), ("relu", relu)], &buffers, &x, eps);
    y
}

/// Gradients of `x`, `gamma`, `beta`; that of what was added goes to `dother`.
fn backward(
    inputs: [CubeTensor; 4],
    y: Option<CubeTensor>,
    dother: Option<&CubeTensor>,
    eps: f32,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let [dy, x, gamma, stats] = inputs.map(contiguous);
    let y = y.map(contiguous);
    let channels = size(&x, 1);
    let sums = empty(&x, [5, channels]);
    let relu = y.is_some();
    let mut buffers = vec![&dy, &x, &gamma, &stats, &sums];
    buffers.extend(&y);
    channels_pass("batch_norm_sums", &[("relu", relu)], &buffers, &x, eps);
    let dx = like(&x);
    let mut buffers = vec![&dy, &x, &stats, &sums, &dx];
    buffers.extend(&y);
    buffers.extend(dother);
    maps_pass("batch_norm_backward", &[("residual", dother.is_some()), ("relu", relu)], &buffers, &x, eps);
    let row = |i: usize| {
        let row = contiguous(CubeBackend::float_slice(sums.clone(), &[Slice::from(i..i + 1)]));
        reshaped(row, [channels])
    };
    (dx, row(0), row(1))
}

impl BatchNormOps for CubeBackend {
    fn fused_batch_norm(
        x: CubeTensor,
        gamma: CubeTensor,
        beta: CubeTensor,
        stats: CubeTensor,
        how: How,
    ) -> CubeTensor {
        forward([x, gamma, beta, stats], None, how.relu, how.eps)
    }

    fn fused_batch_norm_add(
        x: CubeTensor,
        gamma: CubeTensor,
        beta: CubeTensor,
        stats: CubeTensor,
        other: CubeTensor,
        how: How,
    ) -> CubeTensor {
        forward([x, gamma, beta, stats], Some(other), how.relu, how.eps)
    }
}

impl BatchNormKernel for CubeBackend {
    fn batch_norm_stats(x: CubeTensor) -> CubeTensor {
        let x = contiguous(x);
        let stats = empty(&x, [2, size(&x, 1)]);
        channels_pass("batch_norm_stats", &[], &[&x, &stats], &x, 0.0);
        stats
    }

    fn batch_norm_plain(
        x: CubeTensor,
        gamma: CubeTensor,
        beta: CubeTensor,
        stats: CubeTensor,
        relu: bool,
        eps: f32,
    ) -> CubeTensor {
        forward([x, gamma, beta, stats], None, relu, eps)
    }

    fn batch_norm_add(
        x: CubeTensor,
        gamma: CubeTensor,
        beta: CubeTensor,
        stats: CubeTensor,
        other: CubeTensor,
        relu: bool,
        eps: f32,
    ) -> CubeTensor {
        forward([x, gamma, beta, stats], Some(other), relu, eps)
    }

    fn batch_norm_backward(
        dy: CubeTensor,
        x: CubeTensor,
        gamma: CubeTensor,
        stats: CubeTensor,
        eps: f32,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        backward([dy, x, gamma, stats], None, None, eps)
    }

    fn batch_norm_relu_backward(
        dy: CubeTensor,
        x: CubeTensor,
        gamma: CubeTensor,
        stats: CubeTensor,
        y: CubeTensor,
        eps: f32,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        backward([dy, x, gamma, stats], Some(y), None, eps)
    }

    fn batch_norm_add_relu_backward(
        dy: CubeTensor,
        x: CubeTensor,
        gamma: CubeTensor,
        stats: CubeTensor,
        y: CubeTensor,
        eps: f32,
    ) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
        let dother = like(&x);
        let (dx, dgamma, dbeta) = backward([dy, x, gamma, stats], Some(y), Some(&dother), eps);
        (dx, dgamma, dbeta, dother)
    }
}
