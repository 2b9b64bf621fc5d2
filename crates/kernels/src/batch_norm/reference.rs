//! Batch normalisation by burn's own operations.

use burn::tensor::Tensor;
use burn::tensor::activation;
use burn::tensor::module::batch_norm_train;

use super::BatchNormed;

/// See [`batch_norm`](super::batch_norm()); on any device, in any precision.
pub fn batch_norm(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    residual: Option<Tensor<4>>,
    relu: bool,
    eps: f64,
) -> BatchNormed {
    let normalised = batch_norm_train(x, gamma, beta, eps);
    let mut output = normalised.output;
    if let Some(residual) = residual {
        output = output + residual;
    }
    if relu {
        output = activation::relu(output);
    }
    BatchNormed { output, mean: normalised.mean, variance: normalised.variance }
}
