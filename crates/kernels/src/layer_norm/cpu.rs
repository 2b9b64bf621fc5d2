//! Layer normalisation on the CPU.

use burn::backend::{Flex, flex::FlexTensor};
use ocelli_simd::layer_norm::{backward, forward};

use super::{LayerNormKernel, LayerNormOps};
use crate::buffer::{contiguous, numbers, size, tensor};

impl LayerNormOps for Flex {
    fn fused_layer_norm(x: FlexTensor, gamma: FlexTensor, beta: FlexTensor, eps: f32) -> FlexTensor {
        Self::layer_norm_forward(x, gamma, beta, eps).0
    }
}

impl LayerNormKernel for Flex {
    fn layer_norm_forward(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        eps: f32,
    ) -> (FlexTensor, FlexTensor) {
        let (x, gamma, beta) = (contiguous(x), contiguous(gamma), contiguous(beta));
        let (rows, dim) = (size(&x, 0), size(&x, 1));
        let (y, stats) = forward(numbers(&x), numbers(&gamma), numbers(&beta), eps);
        (tensor(y, [rows, dim]), tensor(stats, [2, rows]))
    }

    fn layer_norm_backward(
        dy: FlexTensor,
        x: FlexTensor,
        gamma: FlexTensor,
        stats: FlexTensor,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let (dy, x, gamma) = (contiguous(dy), contiguous(x), contiguous(gamma));
        let (rows, dim) = (size(&x, 0), size(&x, 1));
        let [dx, dgamma, dbeta] = backward(numbers(&dy), numbers(&x), numbers(&gamma), numbers(&stats));
        (tensor(dx, [rows, dim]), tensor(dgamma, [dim]), tensor(dbeta, [dim]))
    }
}
