//! Projection heads of MoCo v2 and DenseCL: two layers with a ReLU between, on rows or on every cell of a map.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;

use crate::{Conv2d, Init, Kernel, Linear};

/// One entry of PyTorch's `Sequential`, so that indices in the names agree: a layer, or (absent) the ReLU. Path
/// components that start with `op_` are left out of parameter names.
#[derive(Module, Debug)]
pub struct LinearEntry {
    op_linear: Option<Linear>,
}

/// The same with 1×1 convolutions.
#[derive(Module, Debug)]
pub struct ConvEntry {
    op_conv: Option<Conv2d>,
}

/// Linear, ReLU, linear. A plain list of entries, so that whoever holds it names it.
pub type LinearMlp = Vec<LinearEntry>;

/// 1×1 convolution, ReLU, 1×1 convolution.
pub type ConvMlp = Vec<ConvEntry>;

/// How linear layers are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinearInit {
    /// PyTorch's default: U(±1/√in) for weights and biases.
    Default,
    /// N(0, 2/in), zero bias (He et al. 2015).
    Kaiming,
}

fn linear(input: usize, output: usize, how: LinearInit, init: &mut Init) -> Linear {
    let bound = 1.0 / (input as f64).sqrt();
    match how {
        LinearInit::Default => {
            Linear { weight: init.uniform([input, output], bound), bias: Some(init.uniform([output], bound)) }
        }
        LinearInit::Kaiming => Linear {
            weight: init.trunc_normal([input, output], (2.0 / input as f64).sqrt()),
            bias: Some(init.constant([output], 0.0)),
        },
    }
}

/// Layers from `input` over `hidden` to `output` channels.
pub fn linear_mlp([input, hidden, output]: [usize; 3], how: LinearInit, init: &mut Init) -> LinearMlp {
    let layers = [Some(linear(input, hidden, how, init)), None, Some(linear(hidden, output, how, init))];
    layers.into_iter().map(|op_linear| LinearEntry { op_linear }).collect()
}

/// The same for maps, drawn as PyTorch draws convolutions by default.
pub fn conv_mlp([input, hidden, output]: [usize; 3], init: &mut Init) -> ConvMlp {
    let one = Kernel::new(1, 1);
    let first = Conv2d::with_bias(input, hidden, one, init);
    let layers = [Some(first), None, Some(Conv2d::with_bias(hidden, output, one, init))];
    layers.into_iter().map(|op_conv| ConvEntry { op_conv }).collect()
}

/// `[rows, in]` to `[rows, out]`.
pub fn forward_linear_mlp(mlp: &[LinearEntry], rows: Tensor<2>) -> Tensor<2> {
    mlp.iter().fold(rows, |x, entry| match &entry.op_linear {
        Some(layer) => layer.forward(x),
        None => relu(x),
    })
}

/// `[batch, in, rows, cols]` to `[batch, out, rows, cols]`.
pub fn forward_conv_mlp(mlp: &[ConvEntry], map: Tensor<4>) -> Tensor<4> {
    mlp.iter().fold(map, |x, entry| match &entry.op_conv {
        Some(layer) => layer.forward(x),
        None => relu(x),
    })
}
