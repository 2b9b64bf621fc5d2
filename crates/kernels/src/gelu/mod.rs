//! The exact Gaussian error linear unit.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use ocelli_kernels::gelu;
//!
//! let y = gelu(Tensor::<2>::ones([1, 1], &Device::flex()));
//! assert!((y.into_scalar::<f32>() - 0.841_345).abs() < 1e-5);
//! ```

#[cfg(feature = "autodiff")]
mod backward;
mod cpu;
#[cfg(feature = "wgsl")]
mod gpu;
mod reference;

use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

use crate::mode::fused;

#[cfg(feature = "wgsl")]
pub(crate) use gpu::map;
pub use reference::gelu as gelu_reference;

/// What a device implements.
#[backend_extension(Flex, Cube: cfg(feature = "wgsl"), Fusion: cfg(feature = "fusion"))]
pub trait GeluKernel: Backend {
    /// From `x [rows, dim]`: `x·Φ(x)`.
    #[fusion(dtype = x, shape = x)]
    fn gelu_exact_forward(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// From the gradient of the result and the input: the gradient of the input.
    #[fusion(dtype = x, shape = x)]
    fn gelu_exact_backward(dy: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// The differentiable operation.
#[backend_extension(Autodiff: cfg(feature = "autodiff"), Flex, Cube: cfg(feature = "wgsl"), Fusion: cfg(feature = "fusion"))]
pub trait GeluOps: Backend {
    /// See [`gelu`](super::gelu()).
    #[fusion(dtype = x, shape = x)]
    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// `x·Φ(x) = x·(1 + erf(x/√2))/2` on every number of `x [rows, dim]`, with an absolute error below 1e-6.
pub fn gelu(x: Tensor<2>) -> Tensor<2> {
    if !fused(&x) || x.dims().contains(&0) {
        return reference::gelu(x);
    }
    Tensor::from_dispatch(<Dispatch as GeluOps>::fused_gelu(x.into_dispatch()))
}
