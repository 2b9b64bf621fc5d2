//! What a device implements.

use burn::backend::{Backend, backend_extension, tensor::FloatTensor};
#[cfg(feature = "fusion")]
use burn::tensor::Shape;

use super::ConvShape;
#[cfg(feature = "fusion")]
use crate::mode::spec;

/// Batch and channels of the result, then its sizes.
#[cfg(feature = "fusion")]
fn output(x: &Shape, w: &Shape, shape: &ConvShape) -> [usize; 4] {
    [x[0], w[0], shape.output(x[2], w[2]), shape.output(x[3], w[3])]
}

/// The three products of a convolution. Shapes as in [`conv2d`](super::conv2d()).
#[backend_extension(Flex, Cube: cfg(feature = "wgsl"), Fusion: cfg(feature = "fusion"))]
pub trait ConvKernel: Backend {
    /// The convolution.
    #[fusion(meta = |x, w, shape| spec(x, output(&x.shape, &w.shape, shape)))]
    fn conv_forward(x: FloatTensor<Self>, w: FloatTensor<Self>, shape: ConvShape) -> FloatTensor<Self>;

    /// The gradient of an input of this height and width.
    #[fusion(meta = |dy, w, size, _shape| spec(dy, [dy.shape[0], w.shape[1], size[0], size[1]]))]
    fn conv_input_grad(
        dy: FloatTensor<Self>,
        w: FloatTensor<Self>,
        size: [usize; 2],
        shape: ConvShape,
    ) -> FloatTensor<Self>;

    /// The gradient of a weight with a kernel of this height and width.
    #[fusion(meta = |x, dy, kernel, _shape| spec(x, [dy.shape[1], x.shape[1], kernel[0], kernel[1]]))]
    fn conv_weight_grad(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        kernel: [usize; 2],
        shape: ConvShape,
    ) -> FloatTensor<Self>;
}

/// The differentiable operation.
#[backend_extension(Autodiff: cfg(feature = "autodiff"), Flex, Cube: cfg(feature = "wgsl"), Fusion: cfg(feature = "fusion"))]
pub trait ConvOps: Backend {
    /// The convolution.
    #[fusion(meta = |x, w, shape| spec(x, output(&x.shape, &w.shape, shape)))]
    fn fused_conv(x: FloatTensor<Self>, w: FloatTensor<Self>, shape: ConvShape) -> FloatTensor<Self>;
}
