//! Projection heads of MoCo v2 and DenseCL: two layers with a ReLU between, on rows or on every cell of a map.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use ocelli_models::Init;
//! use ocelli_models::contrast_head::{conv_mlp, forward_conv_mlp};
//!
//! let device = Device::flex();
//! let head = conv_mlp([4, 8, 2], &mut Init::new(0, &device));
//! assert_eq!(forward_conv_mlp(&head, Tensor::ones([1, 4, 3, 3], &device)).dims(), [1, 2, 3, 3]);
//! ```

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;

use crate::mlp::{LastNorm, LinearInit, Mlp, MlpConfig};
use crate::{Conv2d, Init, Kernel};

/// One entry of PyTorch's `Sequential`, so that indices in the names agree: a 1×1 convolution, or (absent) the ReLU. Path
/// components that start with `op_` are left out of parameter names.
#[derive(Module, Debug)]
pub struct ConvEntry {
    op_conv: Option<Conv2d>,
}

/// 1×1 convolution, ReLU, 1×1 convolution. A plain list of entries, so that whoever holds it names it.
pub type ConvMlp = Vec<ConvEntry>;

/// Layers from `input` over `hidden` to `output` channels.
pub fn linear_mlp(widths: &[usize], how: LinearInit, init: &mut Init) -> Mlp {
    let widths = widths.to_vec();
    MlpConfig { widths, norm: false, bias: true, last_bias: true, last_norm: LastNorm::None, how }.init(init)
}

/// The same for maps, drawn as PyTorch draws convolutions by default.
pub fn conv_mlp([input, hidden, output]: [usize; 3], init: &mut Init) -> ConvMlp {
    let one = Kernel::new(1, 1);
    let first = Conv2d::with_bias(input, hidden, one, init);
    let layers = [Some(first), None, Some(Conv2d::with_bias(hidden, output, one, init))];
    layers.into_iter().map(|op_conv| ConvEntry { op_conv }).collect()
}

/// `[batch, in, rows, cols]` to `[batch, out, rows, cols]`.
pub fn forward_conv_mlp(mlp: &[ConvEntry], map: Tensor<4>) -> Tensor<4> {
    mlp.iter().fold(map, |x, entry| match &entry.op_conv {
        Some(layer) => layer.forward(x),
        None => relu(x),
    })
}
