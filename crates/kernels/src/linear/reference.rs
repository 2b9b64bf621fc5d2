//! A linear map in plain tensor operations.

use burn::tensor::Tensor;

/// See [`linear`](super::linear); on any device, in any precision.
pub fn linear(x: Tensor<2>, w: Tensor<2>, b: Option<Tensor<1>>) -> Tensor<2> {
    let y = x.matmul(w);
    match b {
        Some(b) => y + b.unsqueeze(),
        None => y,
    }
}

/// See [`linear_residual`](super::linear_residual()); on any device, in any precision.
pub fn linear_residual(x: Tensor<2>, w: Tensor<2>, b: Tensor<1>, past: Tensor<2>) -> Tensor<2> {
    past + linear(x, w, Some(b))
}
