//! Batch normalisation on the CPU.

use burn::backend::{Flex, flex::FlexTensor};
use ocelli_simd::batch_norm::{Maps, Passed, backward, forward, statistics};

use super::kernel::{BatchNormKernel, BatchNormOps, How};
use crate::alloc;
use crate::buffer::{contiguous, numbers, size, tensor};

impl BatchNormOps for Flex {
    fn fused_batch_norm(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        stats: FlexTensor,
        how: How,
    ) -> FlexTensor {
        Self::batch_norm_plain(x, gamma, beta, stats, how.relu, how.eps)
    }

    fn fused_batch_norm_add(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        stats: FlexTensor,
        other: FlexTensor,
        how: How,
    ) -> FlexTensor {
        Self::batch_norm_add(x, gamma, beta, stats, other, how.relu, how.eps)
    }
}

impl BatchNormKernel for Flex {
    fn batch_norm_stats(x: FlexTensor) -> FlexTensor {
        let x = contiguous(x);
        let maps = maps(&x);
        tensor(statistics(&maps, numbers(&x)), [2, maps.channels])
    }

    fn batch_norm_plain(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        stats: FlexTensor,
        relu: bool,
        eps: f32,
    ) -> FlexTensor {
        normalise(x, [gamma, beta, stats], None, relu, eps)
    }

    fn batch_norm_add(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        stats: FlexTensor,
        other: FlexTensor,
        relu: bool,
        eps: f32,
    ) -> FlexTensor {
        normalise(x, [gamma, beta, stats], Some(other), relu, eps)
    }

    fn batch_norm_backward(
        dy: FlexTensor,
        x: FlexTensor,
        gamma: FlexTensor,
        stats: FlexTensor,
        eps: f32,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        gradients([dy, x, gamma, stats], None, eps, None)
    }

    fn batch_norm_relu_backward(
        dy: FlexTensor,
        x: FlexTensor,
        gamma: FlexTensor,
        stats: FlexTensor,
        y: FlexTensor,
        eps: f32,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        gradients([dy, x, gamma, stats], Some(y), eps, None)
    }

    fn batch_norm_add_relu_backward(
        dy: FlexTensor,
        x: FlexTensor,
        gamma: FlexTensor,
        stats: FlexTensor,
        y: FlexTensor,
        eps: f32,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        let shape = [0, 1, 2, 3].map(|d| size(&x, d));
        let mut dother = alloc::scratch(shape.iter().product());
        let (dx, dgamma, dbeta) = gradients([dy, x, gamma, stats], Some(y), eps, Some(&mut dother));
        (dx, dgamma, dbeta, tensor(dother, shape))
    }
}

fn maps(x: &FlexTensor) -> Maps {
    Maps { images: size(x, 0), channels: size(x, 1), cells: size(x, 2) * size(x, 3) }
}

/// The normalised maps by gamma, beta and statistics, plus others.
fn normalise(x: FlexTensor, by: [FlexTensor; 3], other: Option<FlexTensor>, relu: bool, eps: f32) -> FlexTensor {
    let (x, by, other) = (contiguous(x), by.map(contiguous), other.map(contiguous));
    let y = forward(&maps(&x), numbers(&x), by.each_ref().map(numbers), other.as_ref().map(numbers), relu, eps);
    tensor(y, [0, 1, 2, 3].map(|d| size(&x, d)))
}

/// The gradients of `x`, `gamma`, `beta`, and, in `dother`, of what was added, from that of the result, `x`, gamma and
/// statistics. `y` is what ReLU gave.
fn gradients(
    inputs: [FlexTensor; 4],
    y: Option<FlexTensor>,
    eps: f32,
    dother: Option<&mut [f32]>,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let ([dy, x, gamma, stats], y) = (inputs.map(contiguous), y.map(contiguous));
    let maps = maps(&x);
    let passed = Passed { dy: numbers(&dy), y: y.as_ref().map(numbers) };
    let by = [numbers(&gamma), numbers(&stats)];
    let [dx, dgamma, dbeta] = backward(&maps, passed, numbers(&x), by, eps, dother);
    let shape = [0, 1, 2, 3].map(|d| size(&x, d));
    (tensor(dx, shape), tensor(dgamma, [maps.channels]), tensor(dbeta, [maps.channels]))
}
