//! The perceptron in plain tensor operations.

use burn::tensor::Tensor;

use crate::gelu::gelu_reference;
use crate::linear::linear_reference;

/// See [`mlp`](super::mlp); on any device, in any precision.
pub fn mlp(x: Tensor<2>, w1: Tensor<2>, b1: Tensor<1>, w2: Tensor<2>, b2: Tensor<1>) -> Tensor<2> {
    linear_reference(gelu_reference(linear_reference(x, w1, Some(b1))), w2, Some(b2))
}
