//! The two-layer perceptron of a transformer block.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use ocelli_kernels::mlp;
//!
//! let device = Device::flex();
//! let x = Tensor::<2>::ones([3, 2], &device);
//! // Nothing passes the first map, so the second one's bias comes out.
//! let (w1, b1) = (Tensor::<2>::zeros([2, 4], &device), Tensor::<1>::zeros([4], &device));
//! let (w2, b2) = (Tensor::<2>::ones([4, 1], &device), Tensor::<1>::ones([1], &device));
//! let y = mlp(x, w1, b1, w2, b2).into_data().try_to_vec::<f32>()?;
//! assert_eq!(y, [1.0, 1.0, 1.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "autodiff")]
mod backward;
mod cpu;
#[cfg(feature = "wgsl")]
pub(crate) mod gpu;
mod reference;

use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
#[cfg(feature = "fusion")]
use burn::tensor::Shape;
use burn::tensor::Tensor;

use crate::mode::fused;
#[cfg(feature = "fusion")]
use crate::mode::spec;

pub use reference::mlp as mlp_reference;

/// What a device implements. Shapes as in [`mlp`].
#[backend_extension(Flex, Cube: cfg(feature = "wgsl"), Fusion: cfg(feature = "fusion"))]
pub trait MlpKernel: Backend {
    /// The result alone.
    #[fusion(dtype = x, shape = Shape::from([x[0], w2[1]]))]
    fn mlp_value(
        x: FloatTensor<Self>,
        w1: FloatTensor<Self>,
        b1: FloatTensor<Self>,
        w2: FloatTensor<Self>,
        b2: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// The result and `[rows, hidden]`, what goes into the activation.
    #[fusion(meta = |x, w1, _b1, w2, _b2| (spec(x, [x.shape[0], w2.shape[1]]), spec(x, [x.shape[0], w1.shape[1]])))]
    fn mlp_forward(
        x: FloatTensor<Self>,
        w1: FloatTensor<Self>,
        b1: FloatTensor<Self>,
        w2: FloatTensor<Self>,
        b2: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// From the gradient of the result, the input, what goes into the activation, and the weights: the gradients of
    /// `x`, `w1`, `b1`, `w2` and `b2`.
    #[allow(clippy::type_complexity)] // Dispatch over devices takes tuples, and no name for one.
    #[fusion(meta = |_dy, x, _h, w1, w2| (
        x.clone(), w1.clone(), spec(x, [w1.shape[1]]), w2.clone(), spec(x, [w2.shape[1]]),
    ))]
    fn mlp_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        h: FloatTensor<Self>,
        w1: FloatTensor<Self>,
        w2: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// The differentiable operation.
#[backend_extension(Autodiff: cfg(feature = "autodiff"), Flex, Cube: cfg(feature = "wgsl"), Fusion: cfg(feature = "fusion"))]
pub trait MlpOps: Backend {
    /// See [`mlp`](super::mlp()).
    #[fusion(dtype = x, shape = Shape::from([x[0], w2[1]]))]
    fn fused_mlp(
        x: FloatTensor<Self>,
        w1: FloatTensor<Self>,
        b1: FloatTensor<Self>,
        w2: FloatTensor<Self>,
        b2: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// `gelu(x·w1 + b1)·w2 + b2`.
///
/// `x` is `[rows, inputs]`, `w1` `[inputs, hidden]`, `b1` `[hidden]`, `w2` `[hidden, outputs]`, `b2` `[outputs]`; the
/// result `[rows, outputs]`. On the CPU the activations never leave the cache.
pub fn mlp(x: Tensor<2>, w1: Tensor<2>, b1: Tensor<1>, w2: Tensor<2>, b2: Tensor<1>) -> Tensor<2> {
    let ([_, inputs], [hidden, outputs]) = (x.dims(), w2.dims());
    assert!(
        w1.dims() == [inputs, hidden] && b1.dims() == [hidden] && b2.dims() == [outputs],
        "mlp: rows of {inputs}, weights {:?} and {:?}, biases {:?} and {:?}",
        w1.dims(),
        w2.dims(),
        b1.dims(),
        b2.dims()
    );
    if !fused(&x) || x.dims().contains(&0) || w2.dims().contains(&0) {
        return reference::mlp(x, w1, b1, w2, b2);
    }
    Tensor::from_dispatch(<Dispatch as MlpOps>::fused_mlp(
        x.into_dispatch(),
        w1.into_dispatch(),
        b1.into_dispatch(),
        w2.into_dispatch(),
        b2.into_dispatch(),
    ))
}
