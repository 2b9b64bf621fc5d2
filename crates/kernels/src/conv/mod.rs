//! Two-dimensional convolution.

#[cfg(feature = "autodiff")]
mod backward;
mod cpu;
mod gather;
#[cfg(feature = "wgsl")]
mod gpu;
mod kernel;
#[cfg(feature = "wgsl")]
mod product;
mod reference;

use burn::tensor::Tensor;

pub use reference::conv2d as conv2d_reference;

/// How a convolution goes over its input, the same along both axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvShape {
    /// Cells of the input from one output to the next, 1 or more.
    pub stride: usize,
    /// Rows and columns of zeros around the input.
    pub padding: usize,
    /// Cells of the input from one tap of the kernel to the next, 1 or more.
    pub dilation: usize,
}

impl ConvShape {
    /// Outputs along an axis of `size` cells for `taps` of the kernel; none where the kernel does not fit.
    pub fn output(&self, size: usize, taps: usize) -> usize {
        let reach = self.dilation * (taps - 1) + 1;
        (size + 2 * self.padding).checked_sub(reach).map_or(0, |rest| rest / self.stride + 1)
    }
}

/// Cross-correlation, as everywhere in the field, of `x [batch, in, height, width]` with `w [out, in, kernel height, kernel
/// width]`, plus `b [out]`: `[batch, out, height', width']`.
///
/// By kernels of this crate, on a GPU or the CPU; in other precisions by burn's.
pub fn conv2d(x: Tensor<4>, w: Tensor<4>, b: Option<Tensor<1>>, shape: ConvShape) -> Tensor<4> {
    let ([batch, inputs, height, width], [outputs, depth, kernel_h, kernel_w]) = (x.dims(), w.dims());
    assert!(inputs == depth, "conv2d: maps have {inputs} channels, the weight takes {depth}");
    assert!(
        shape.stride > 0 && shape.dilation > 0 && kernel_h * kernel_w > 0,
        "conv2d: {shape:?}, {:?}",
        w.dims()
    );
    if let Some(b) = &b {
        assert!(b.dims() == [outputs], "conv2d: {outputs} outputs, bias {:?}", b.dims());
    }
    let size = [batch, outputs, shape.output(height, kernel_h), shape.output(width, kernel_w)];
    if size.contains(&0) || inputs == 0 {
        return Tensor::zeros(size, &x.device());
    }
    if crate::mode::fused(&x) {
        let (x, w) = (x.into_dispatch(), w.into_dispatch());
        let y = <burn::backend::Dispatch as kernel::ConvOps>::fused_conv(x, w, shape);
        let y = Tensor::from_dispatch(y);
        return match b {
            Some(b) => y + b.reshape([1, outputs, 1, 1]),
            None => y,
        };
    }
    reference::conv2d(x, w, b, shape)
}
