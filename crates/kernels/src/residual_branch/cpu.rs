//! Residual branches on the CPU: the sum is burn's.

use burn::backend::ops::FloatTensorOps as _;
use burn::backend::{Flex, flex::FlexTensor};

use super::compute::Parts;
use crate::layer_norm::LayerNormKernel as _;
use crate::mlp::MlpKernel as _;

impl Parts for Flex {
    fn norm_backward_past(
        dy: FlexTensor,
        x: FlexTensor,
        gamma: FlexTensor,
        stats: FlexTensor,
        past: FlexTensor,
    ) -> [FlexTensor; 3] {
        let (dx, dgamma, dbeta) = Self::layer_norm_backward(dy, x, gamma, stats);
        [Self::float_add(past, dx), dgamma, dbeta]
    }

    fn mlp_past(inputs: [FlexTensor; 5], past: FlexTensor, keep: bool) -> (FlexTensor, Option<FlexTensor>) {
        let [x, w1, b1, w2, b2] = inputs;
        let (y, kept) = match keep {
            true => {
                let (y, h) = Self::mlp_forward(x, w1, b1, w2, b2);
                (y, Some(h))
            }
            false => (Self::mlp_value(x, w1, b1, w2, b2), None),
        };
        (Self::float_add(past, y), kept)
    }
}
