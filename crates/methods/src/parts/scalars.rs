//! Figures that several methods tell.

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_kernels::together;

/// A figure of the host as a scalar beside the others, `[1]`.
pub(crate) fn scalar(value: f64, device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(vec![value as f32], [1]), device)
}

/// Standard deviation of the L2-normalised features over the batch, averaged over dimensions and multiplied by √dim:
/// about 1 when they spread over the sphere, 0 when they are all the same. `[batch, dim]` to `[1]`.
pub fn feature_std(features: Tensor<2>) -> Tensor<1> {
    let dim = features.dims()[1] as f64;
    let norm = features.clone().powi_scalar(2).sum_dim(1).sqrt().clamp_min(1e-12);
    let unit = features / norm;
    let mean = unit.clone().mean_dim(0);
    let variance = (unit - mean.clone()).powi_scalar(2).mean_dim(0);
    let (_, variance) = together::pooled(mean, variance);
    variance.sqrt().mean() * dim.sqrt()
}
