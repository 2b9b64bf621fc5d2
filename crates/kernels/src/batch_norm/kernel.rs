//! What a device implements.

use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;
use ocelli_world::Shared;

use super::BatchNormed;
#[cfg(feature = "fusion")]
use crate::mode::spec;
use crate::together;

/// The directions. Maps are `[batch, channels, height, width]`, statistics `[2, channels]`: means, then variances.
#[backend_extension(Flex, Cube: cfg(feature = "wgsl"), Fusion: cfg(feature = "fusion"))]
pub trait BatchNormKernel: Backend {
    /// The statistics of maps.
    #[fusion(meta = |x| spec(x, [2, x.shape[1]]))]
    fn batch_norm_stats(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Normalised maps.
    #[fusion(dtype = x, shape = x)]
    fn batch_norm_plain(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        stats: FloatTensor<Self>,
        relu: bool,
        eps: f32,
    ) -> FloatTensor<Self>;

    /// Normalised maps plus others.
    #[fusion(dtype = x, shape = x)]
    fn batch_norm_add(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        stats: FloatTensor<Self>,
        other: FloatTensor<Self>,
        relu: bool,
        eps: f32,
    ) -> FloatTensor<Self>;

    /// The gradients of `x`, `gamma` and `beta` without ReLU.
    #[fusion(meta = |_dy, x, gamma, _stats, _eps| (x.clone(), gamma.clone(), gamma.clone()))]
    fn batch_norm_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        stats: FloatTensor<Self>,
        eps: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The same where ReLU gave `y`.
    #[fusion(meta = |_dy, x, gamma, _stats, _y, _eps| (x.clone(), gamma.clone(), gamma.clone()))]
    fn batch_norm_relu_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        stats: FloatTensor<Self>,
        y: FloatTensor<Self>,
        eps: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The same with the gradient of what was added, last.
    #[fusion(meta = |_dy, x, gamma, _stats, _y, _eps| (x.clone(), gamma.clone(), gamma.clone(), x.clone()))]
    fn batch_norm_add_relu_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        stats: FloatTensor<Self>,
        y: FloatTensor<Self>,
        eps: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// What is done beside normalising.
#[derive(Debug, Clone)]
pub struct How {
    /// ReLU at the end.
    pub relu: bool,
    /// Added to the variance.
    pub eps: f32,
    /// The ranks whose statistics they are, where there are several.
    pub over: Option<Shared>,
}

/// The differentiable operations. The statistics must be those of `x`, together with those of the other ranks
/// where there are some: the gradient goes through them.
#[backend_extension(Autodiff: cfg(feature = "autodiff"), Flex, Cube: cfg(feature = "wgsl"), Fusion: cfg(feature = "fusion"))]
pub trait BatchNormOps: Backend {
    /// Normalised maps.
    #[fusion(dtype = x, shape = x)]
    fn fused_batch_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        stats: FloatTensor<Self>,
        how: How,
    ) -> FloatTensor<Self>;

    /// Normalised maps plus others.
    #[fusion(dtype = x, shape = x)]
    fn fused_batch_norm_add(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        stats: FloatTensor<Self>,
        other: FloatTensor<Self>,
        how: How,
    ) -> FloatTensor<Self>;
}

/// See [`batch_norm`](super::batch_norm()).
pub fn batch_norm(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    residual: Option<Tensor<4>>,
    relu: bool,
    eps: f32,
) -> BatchNormed {
    let channels = gamma.dims()[0];
    let how = How { relu, eps, over: together::ranks() };
    let mut stats = <Dispatch as BatchNormKernel>::batch_norm_stats(x.clone().inner().into_dispatch());
    if how.over.is_some() {
        let own = Tensor::<2>::from_dispatch(stats);
        let (mean, variance) = together::pooled(own.clone().narrow(0, 0, 1), own.narrow(0, 1, 1));
        stats = Tensor::cat(vec![mean, variance], 0).into_dispatch();
    }
    let (x, gamma, beta) = (x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch());
    let output = match residual {
        None => <Dispatch as BatchNormOps>::fused_batch_norm(x, gamma, beta, stats.clone(), how),
        Some(other) => {
            let other = other.into_dispatch();
            <Dispatch as BatchNormOps>::fused_batch_norm_add(x, gamma, beta, stats.clone(), other, how)
        }
    };
    let stats: Tensor<2> = Tensor::from_dispatch(stats);
    let row = |i: usize| stats.clone().narrow(0, i, 1).reshape([channels]);
    BatchNormed { output: Tensor::from_dispatch(output), mean: row(0), variance: row(1) }
}
