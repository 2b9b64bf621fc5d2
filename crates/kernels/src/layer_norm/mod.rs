//! Layer normalisation over the last dimension.

#[cfg(feature = "autodiff")]
mod backward;
mod cpu;
#[cfg(feature = "wgsl")]
pub(crate) mod gpu;
mod reference;

use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

use crate::mode::fused;
#[cfg(feature = "fusion")]
use crate::mode::spec;

pub use reference::layer_norm as layer_norm_reference;

/// What a device implements: the two directions, without any graph.
#[backend_extension(Flex, Cube: cfg(feature = "wgsl"), Fusion: cfg(feature = "fusion"))]
pub trait LayerNormKernel: Backend {
    /// From `x [rows, dim]`, `gamma [dim]`, `beta [dim]`: the result and `[2, rows]`, the mean and the reciprocal of the
    /// standard deviation of every row.
    #[fusion(meta = |x, _gamma, _beta, _eps| (x.clone(), spec(x, [2, x.shape[0]])))]
    fn layer_norm_forward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// From the gradient of the result, the inputs and the statistics: the gradients of `x`, `gamma` and `beta`.
    #[fusion(meta = |_dy, x, gamma, _stats| (x.clone(), gamma.clone(), gamma.clone()))]
    fn layer_norm_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        stats: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// The differentiable operation.
#[backend_extension(Autodiff: cfg(feature = "autodiff"), Flex, Cube: cfg(feature = "wgsl"), Fusion: cfg(feature = "fusion"))]
pub trait LayerNormOps: Backend {
    /// See [`layer_norm`](super::layer_norm()).
    #[fusion(dtype = x, shape = x)]
    fn fused_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self>;
}

/// `(x − mean) / √(variance + eps) · gamma + beta`, mean and (biased) variance of every row.
///
/// `x` is `[rows, dim]`, `gamma` and `beta` `[dim]`; the result `[rows, dim]`.
pub fn layer_norm(x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, eps: f32) -> Tensor<2> {
    let [_, dim] = x.dims();
    assert!(
        gamma.dims() == [dim] && beta.dims() == [dim],
        "layer_norm: rows have {dim} numbers, gamma {:?}, beta {:?}",
        gamma.dims(),
        beta.dims()
    );
    if !fused(&x) || x.dims().contains(&0) {
        return reference::layer_norm(x, gamma, beta, eps);
    }
    Tensor::from_dispatch(<Dispatch as LayerNormOps>::fused_layer_norm(
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        eps,
    ))
}
