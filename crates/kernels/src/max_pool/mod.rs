//! The pooling after the first convolution of a residual network: the largest of 3×3 cells, every second cell.

#[cfg(feature = "autodiff")]
mod backward;
mod cpu;
mod reference;

use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

pub use reference::max_pool as max_pool_reference;

/// What the CPU implements; on a GPU burn's own is taken.
#[backend_extension(Flex)]
pub trait MaxPoolKernel: Backend {
    /// The pooled maps.
    fn max_pool_forward(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// From the gradient of the result and the maps: the gradient of the maps.
    fn max_pool_backward(dy: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// The differentiable operation.
#[backend_extension(Autodiff: cfg(feature = "autodiff"), Flex)]
pub trait MaxPoolOps: Backend {
    /// See [`max_pool`].
    fn fused_max_pool(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// The largest of every 3×3 cells, two cells apart, with a border of one cell that counts for nothing, of maps `[batch, channels,
/// height, width]`: half the height and width, rounded up. Of equal cells the first gets the gradient, as in PyTorch.
pub fn max_pool(x: Tensor<4>) -> Tensor<4> {
    if !crate::mode::fused(&x) || crate::mode::on_gpu(&x) || x.dims().contains(&0) {
        return reference::max_pool(x);
    }
    Tensor::from_dispatch(<Dispatch as MaxPoolOps>::fused_max_pool(x.into_dispatch()))
}
