//! A linear map with its bias.
//!
//! ```
//! use burn::tensor::{Device, Tensor, TensorData};
//! use ocelli_kernels::linear;
//!
//! let device = Device::flex();
//! let x = Tensor::<2>::from_data(TensorData::new(vec![1.0f32, 2.0], [1, 2]), &device);
//! let w = Tensor::<2>::from_data(TensorData::new(vec![3.0f32, 4.0], [2, 1]), &device);
//! let b = Tensor::<1>::from_data(TensorData::new(vec![0.5f32], [1]), &device);
//! assert_eq!(linear(x, w, Some(b)).into_scalar::<f32>(), 11.5);
//! ```

#[cfg(feature = "autodiff")]
mod backward;
mod cpu;
#[cfg(feature = "wgsl")]
mod gpu;
mod reference;

use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
#[cfg(feature = "fusion")]
use burn::tensor::Shape;
use burn::tensor::Tensor;

#[cfg(feature = "fusion")]
use crate::mode::spec;
use crate::mode::{fused, leaf, preferred};

pub use reference::{linear as linear_reference, linear_residual as linear_residual_reference};

/// What a device implements.
#[backend_extension(Flex, Cube: cfg(feature = "wgsl"), Fusion: cfg(feature = "fusion"))]
pub trait LinearKernel: Backend {
    /// `x [rows, inputs]·w [inputs, outputs] + b [outputs]`.
    #[fusion(dtype = x, shape = Shape::from([x[0], w[1]]))]
    fn linear_forward(x: FloatTensor<Self>, w: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;
    /// The same plus `past [rows, outputs]`.
    #[fusion(dtype = x, shape = past)]
    fn linear_past(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        past: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
    /// Without a bias.
    #[fusion(dtype = x, shape = Shape::from([x[0], w[1]]))]
    fn linear_plain(x: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self>;
    /// The gradient of `x`: `dy·wᵀ`.
    #[fusion(dtype = dy, shape = Shape::from([dy[0], w[0]]))]
    fn linear_input_grad(dy: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self>;
    /// The gradients of `w`, `xᵀ·dy`, and of `b`, the column sums of `dy`.
    #[fusion(meta = |x, dy| (spec(x, [x.shape[1], dy.shape[1]]), spec(x, [dy.shape[1]])))]
    fn linear_weight_grad(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>);
    /// The gradient of `w` alone.
    #[fusion(dtype = x, shape = Shape::from([x[1], dy[1]]))]
    fn linear_weight_grad_plain(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// The differentiable operation.
#[backend_extension(Autodiff: cfg(feature = "autodiff"), Flex, Cube: cfg(feature = "wgsl"), Fusion: cfg(feature = "fusion"))]
pub trait LinearOps: Backend {
    /// See [`linear`](super::linear()).
    #[fusion(dtype = x, shape = Shape::from([x[0], w[1]]))]
    fn fused_linear(x: FloatTensor<Self>, w: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;
    /// See [`linear_residual`](super::linear_residual()).
    #[fusion(dtype = x, shape = past)]
    fn fused_linear_past(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        past: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
    /// Without a bias.
    #[fusion(dtype = x, shape = Shape::from([x[0], w[1]]))]
    fn fused_linear_plain(x: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// `x·w + b` for `x [rows, inputs]`, `w [inputs, outputs]`, `b [outputs]`; the result `[rows, outputs]`.
pub fn linear(x: Tensor<2>, w: Tensor<2>, b: Option<Tensor<1>>) -> Tensor<2> {
    let ([_, inputs], [depth, outputs]) = (x.dims(), w.dims());
    assert!(inputs == depth, "linear: rows have {inputs} numbers, the weight takes {depth}");
    if let Some(b) = &b {
        assert!(b.dims() == [outputs], "linear: {outputs} outputs, bias {:?}", b.dims());
    }
    if !fused(&x) || x.dims().contains(&0) || outputs == 0 {
        return reference::linear(x, w, b);
    }
    let [rows, _] = x.dims();
    let with_bias = b.is_some();
    let ours = preferred("linear", &x, rows, [inputs, outputs], |device, ours| {
        let leaf = |shape: [usize; 2]| leaf(shape, device);
        let (x, w) = (leaf([rows, inputs]), leaf([inputs, outputs]));
        let b = with_bias.then(|| leaf([1, outputs]).reshape([outputs]));
        if ours { kernel(x, w, b) } else { reference::linear(x, w, b) }
    });
    if ours { kernel(x, w, b) } else { reference::linear(x, w, b) }
}

fn kernel(x: Tensor<2>, w: Tensor<2>, b: Option<Tensor<1>>) -> Tensor<2> {
    let (x, w) = (x.into_dispatch(), w.into_dispatch());
    Tensor::from_dispatch(match b {
        Some(b) => <Dispatch as LinearOps>::fused_linear(x, w, b.into_dispatch()),
        None => <Dispatch as LinearOps>::fused_linear_plain(x, w),
    })
}

/// `x·w + b + past`, the end of a residual branch: shapes as in [`linear`], `past` and the result `[rows, outputs]`.
pub fn linear_residual(x: Tensor<2>, w: Tensor<2>, b: Tensor<1>, past: Tensor<2>) -> Tensor<2> {
    let ([rows, inputs], [depth, outputs]) = (x.dims(), w.dims());
    assert!(inputs == depth, "linear: rows have {inputs} numbers, the weight takes {depth}");
    assert!(
        b.dims() == [outputs] && past.dims() == [rows, outputs],
        "linear: {rows} rows of {outputs} outputs, bias {:?}, residual {:?}",
        b.dims(),
        past.dims()
    );
    if !fused(&x) || x.dims().contains(&0) || outputs == 0 {
        return reference::linear_residual(x, w, b, past);
    }
    Tensor::from_dispatch(<Dispatch as LinearOps>::fused_linear_past(
        x.into_dispatch(),
        w.into_dispatch(),
        b.into_dispatch(),
        past.into_dispatch(),
    ))
}
