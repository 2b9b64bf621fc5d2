//! The exact Gaussian error linear unit.

mod backward;
mod cpu;
mod reference;

use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

use crate::mode::fused;

pub(crate) use cpu::{activate, activate_and_slope};
pub use reference::gelu as gelu_reference;

/// What a device implements.
pub trait GeluKernel: Backend {
    /// From `x [rows, dim]`: `x·Φ(x)`.
    fn gelu_exact_forward(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// From the gradient of the result and the input: the gradient of the input.
    fn gelu_exact_backward(dy: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// The differentiable operation.
#[backend_extension(Autodiff, Flex)]
pub trait GeluOps: Backend {
    /// See [`gelu`](super::gelu()).
    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// `x·Φ(x) = x·(1 + erf(x/√2))/2` on every number of `x [rows, dim]`, with an absolute error below 1e-6.
pub fn gelu(x: Tensor<2>) -> Tensor<2> {
    if !fused(&x) {
        return reference::gelu(x);
    }
    Tensor::from_dispatch(<Dispatch as GeluOps>::fused_gelu(x.into_dispatch()))
}
