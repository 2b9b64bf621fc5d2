//! Batch normalisation of maps by their own statistics, with the residual and the ReLU that follow it in residual networks.

#[cfg(feature = "autodiff")]
mod backward;
mod cpu;
#[cfg(feature = "wgsl")]
mod gpu;
mod kernel;
mod reference;

use burn::tensor::Tensor;

pub use reference::batch_norm as batch_norm_reference;

/// Normalised maps, and what they were normalised by.
pub struct BatchNormed {
    /// As the input, `[batch, channels, height, width]`.
    pub output: Tensor<4>,
    /// `[channels]`, outside autodiff.
    pub mean: Tensor<1>,
    /// The biased variance, `[channels]`, outside autodiff.
    pub variance: Tensor<1>,
}

/// `(x − mean) / √(variance + eps) · gamma + beta`, plus the residual, then ReLU if asked: mean and (biased) variance of
/// every channel over batch and cells (Ioffe and Szegedy 2015).
///
/// `x` and the residual are `[batch, channels, height, width]`, `gamma` and `beta` `[channels]`. By kernels of this crate, on a
/// GPU or the CPU; in other precisions by burn's.
pub fn batch_norm(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    residual: Option<Tensor<4>>,
    relu: bool,
    eps: f64,
) -> BatchNormed {
    let [_, channels, _, _] = x.dims();
    assert!(
        gamma.dims() == [channels] && beta.dims() == [channels],
        "batch_norm: {channels} channels, gamma {:?}, beta {:?}",
        gamma.dims(),
        beta.dims()
    );
    if let Some(residual) = &residual {
        assert!(residual.dims() == x.dims(), "batch_norm: maps {:?}, residual {:?}", x.dims(), residual.dims());
    }
    if crate::mode::fused(&x) && !x.dims().contains(&0) {
        return kernel::batch_norm(x, gamma, beta, residual, relu, eps as f32);
    }
    reference::batch_norm(x, gamma, beta, residual, relu, eps)
}
