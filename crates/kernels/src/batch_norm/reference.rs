//! Batch normalisation by burn's own operations.

use burn::tensor::Tensor;
use burn::tensor::activation;
use burn::tensor::module::batch_norm_train;

use super::BatchNormed;
use crate::together;

/// See [`batch_norm`](super::batch_norm()); on any device, in any precision.
pub fn batch_norm(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    residual: Option<Tensor<4>>,
    relu: bool,
    eps: f64,
) -> BatchNormed {
    let (mut output, mean, variance) = match together::ranks() {
        None => {
            let normalised = batch_norm_train(x, gamma, beta, eps);
            (normalised.output, normalised.mean, normalised.variance)
        }
        Some(_) => over_ranks(x, gamma, beta, eps),
    };
    if let Some(residual) = residual {
        output = output + residual;
    }
    if relu {
        output = activation::relu(output);
    }
    BatchNormed { output, mean, variance }
}

/// By the statistics over the maps of all ranks that compute together.
fn over_ranks(x: Tensor<4>, gamma: Tensor<1>, beta: Tensor<1>, eps: f64) -> (Tensor<4>, Tensor<1>, Tensor<1>) {
    let channels = gamma.dims()[0];
    let of_channels = |x: Tensor<4>| x.swap_dims(0, 1).flatten::<2>(1, 3).mean_dim(1).transpose();
    let along = |row: Tensor<2>| row.reshape([1, channels, 1, 1]);
    let mean = of_channels(x.clone());
    let variance = of_channels((x.clone() - along(mean.clone())).powi_scalar(2));
    let (mean, variance) = together::pooled(mean, variance);
    let scale = gamma.unsqueeze::<2>() / (variance.clone() + eps).sqrt();
    let output = (x - along(mean.clone())) * along(scale) + along(beta.unsqueeze::<2>());
    let plain = |row: Tensor<2>| row.inner().reshape([channels]);
    (output, plain(mean), plain(variance))
}
