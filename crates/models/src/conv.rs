//! Convolution with PyTorch's parameter names.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use ocelli_kernels::{ConvShape, conv2d};

use crate::Init;

/// Side, stride and dilation of a convolution's kernel; it is padded so that stride 1 keeps the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// Cells on a side, odd.
    pub side: usize,
    /// Step between outputs.
    pub stride: usize,
    /// Step between the cells of the kernel.
    pub dilation: usize,
}

impl Kernel {
    /// A dense kernel.
    pub fn new(side: usize, stride: usize) -> Self {
        Self { side, stride, dilation: 1 }
    }

    /// The same, its cells `dilation` apart.
    pub fn dilated(self, dilation: usize) -> Self {
        Self { dilation, ..self }
    }
}

/// A square convolution, cross-correlation as everywhere in the field.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// `[out, in, side, side]`.
    pub weight: Param<Tensor<4>>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    stride: usize,
    #[module(skip)]
    dilation: usize,
}

impl Conv2d {
    /// Without bias, N(0, 2/(out·side²)): He et al. 2015 by outgoing values, as torchvision draws its ResNets.
    pub fn new(input: usize, output: usize, kernel: Kernel, init: &mut Init) -> Self {
        let fan_out = output * kernel.side * kernel.side;
        let weight = init.trunc_normal([output, input, kernel.side, kernel.side], (2.0 / fan_out as f64).sqrt());
        Self { weight, bias: None, stride: kernel.stride, dilation: kernel.dilation }
    }

    /// With bias, PyTorch's default: U(±1/√fan_in) for both.
    pub fn with_bias(input: usize, output: usize, kernel: Kernel, init: &mut Init) -> Self {
        let bound = 1.0 / ((input * kernel.side * kernel.side) as f64).sqrt();
        Self {
            weight: init.uniform([output, input, kernel.side, kernel.side], bound),
            bias: Some(init.uniform([output], bound)),
            stride: kernel.stride,
            dilation: kernel.dilation,
        }
    }

    /// `[batch, in, height, width]` to `[batch, out, height/stride, width/stride]`, sizes rounded up.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let side = self.weight.dims()[2];
        let padding = self.dilation * (side / 2);
        let shape = ConvShape { stride: self.stride, padding, dilation: self.dilation };
        conv2d(x, self.weight.val(), self.bias.as_ref().map(Param::val), shape)
    }
}
