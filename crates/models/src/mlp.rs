//! Projection heads as lists of layers: linear maps with batch normalisation and ReLU between them, on rows.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use ocelli_models::mlp::{LastNorm, LinearInit, MlpConfig, forward_mlp};
//! use ocelli_models::{Init, Mode};
//!
//! let device = Device::flex();
//! let config = MlpConfig {
//!     widths: vec![4, 8, 2],
//!     norm: true,
//!     bias: false,
//!     last_bias: true,
//!     last_norm: LastNorm::None,
//!     how: LinearInit::Default,
//! };
//! let mlp = config.init(&mut Init::new(0, &device));
//! assert_eq!(forward_mlp(&mlp, Tensor::ones([3, 4], &device), Mode::Eval).dims(), [3, 2]);
//! ```

use burn::module::{Module, Param, RunningState};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;

use crate::layers::normalise_rows;
use crate::{Init, Linear, Mode};

/// Batch normalisation of `[rows, dim]` whose scale and shift may be absent; otherwise as [`crate::BatchNorm`].
#[derive(Module, Debug)]
pub struct RowNorm {
    /// γ, `[dim]`.
    pub weight: Option<Param<Tensor<1>>>,
    /// β, `[dim]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// Running mean, `[dim]`.
    pub running_mean: RunningState<Tensor<1>>,
    /// Running variance, `[dim]`.
    pub running_var: RunningState<Tensor<1>>,
}

impl RowNorm {
    /// γ = 1, β = 0 where they are wanted; running mean 0 and variance 1.
    pub fn new(dim: usize, scale: bool, shift: bool, init: &mut Init) -> Self {
        let device = init.device().clone().inner();
        Self {
            weight: scale.then(|| init.constant([dim], 1.0)),
            bias: shift.then(|| init.constant([dim], 0.0)),
            running_mean: RunningState::new(Tensor::zeros([dim], &device)),
            running_var: RunningState::new(Tensor::ones([dim], &device)),
        }
    }

    /// `[rows, dim]` to the same shape; [`Mode::Train`] uses the batch's statistics and moves the running ones.
    pub fn forward(&self, x: Tensor<2>, mode: Mode) -> Tensor<2> {
        let mut y = normalise_rows(x, &self.running_mean, &self.running_var, mode);
        if let Some(weight) = &self.weight {
            y = y * weight.val().unsqueeze::<2>();
        }
        match &self.bias {
            Some(bias) => y + bias.val().unsqueeze::<2>(),
            None => y,
        }
    }
}

/// How linear layers are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinearInit {
    /// PyTorch's default: U(±1/√in) for weights and biases.
    Default,
    /// N(0, 2/in), zero bias (He et al. 2015).
    Kaiming,
    /// N(0, 0.01²), zero bias (SimCLR).
    Narrow,
}

impl LinearInit {
    /// Draws a layer.
    pub fn linear(self, [input, output]: [usize; 2], bias: bool, init: &mut Init) -> Linear {
        let bound = 1.0 / (input as f64).sqrt();
        let weight = match self {
            Self::Default => init.uniform([input, output], bound),
            Self::Kaiming => init.trunc_normal([input, output], (2.0 / input as f64).sqrt()),
            Self::Narrow => init.trunc_normal([input, output], 0.01),
        };
        let bias = bias.then(|| match self {
            Self::Default => init.uniform([output], bound),
            Self::Kaiming | Self::Narrow => init.constant([output], 0.0),
        });
        Linear { weight, bias }
    }
}

/// What follows the last linear layer of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastNorm {
    /// Nothing.
    None,
    /// Batch normalisation with scale and without shift (SimCLR).
    Scaled,
    /// Batch normalisation with neither (Barlow Twins).
    Plain,
}

/// The shape of a head.
#[derive(Debug, Clone, PartialEq)]
pub struct MlpConfig {
    /// Widths, the input's first: n + 1 of them make n linear layers.
    pub widths: Vec<usize>,
    /// Batch normalisation between a linear layer and its ReLU, on all but the last.
    pub norm: bool,
    /// Biases of all linear layers but the last.
    pub bias: bool,
    /// A bias of the last.
    pub last_bias: bool,
    /// What follows the last.
    pub last_norm: LastNorm,
    /// How linear layers are drawn.
    pub how: LinearInit,
}

impl MlpConfig {
    /// Draws the layers.
    pub fn init(&self, init: &mut Init) -> Mlp {
        let mut entries = Vec::new();
        let layers = self.widths.len().saturating_sub(1);
        for (i, width) in self.widths.windows(2).enumerate() {
            let last = i + 1 == layers;
            let bias = if last { self.last_bias } else { self.bias };
            entries.push(MlpEntry::linear(self.how.linear([width[0], width[1]], bias, init)));
            let norm = match (last, self.last_norm) {
                (false, _) => self.norm.then_some((true, true)),
                (true, LastNorm::None) => None,
                (true, LastNorm::Scaled) => Some((true, false)),
                (true, LastNorm::Plain) => Some((false, false)),
            };
            if let Some((scale, shift)) = norm {
                entries
                    .push(MlpEntry { op_linear: None, op_norm: Some(RowNorm::new(width[1], scale, shift, init)) });
            }
            if !last {
                entries.push(MlpEntry { op_linear: None, op_norm: None });
            }
        }
        entries
    }
}

/// One entry of PyTorch's `Sequential`, so that indices in the names agree: a linear layer, a normalisation, or (both
/// absent) a ReLU. Path components that start with `op_` are left out of parameter names.
#[derive(Module, Debug)]
pub struct MlpEntry {
    op_linear: Option<Linear>,
    op_norm: Option<RowNorm>,
}

impl MlpEntry {
    fn linear(linear: Linear) -> Self {
        Self { op_linear: Some(linear), op_norm: None }
    }
}

/// A plain list of entries, so that whoever holds it names it.
pub type Mlp = Vec<MlpEntry>;

/// `[rows, in]` to `[rows, out]`.
pub fn forward_mlp(mlp: &[MlpEntry], rows: Tensor<2>, mode: Mode) -> Tensor<2> {
    mlp.iter().fold(rows, |x, entry| match (&entry.op_linear, &entry.op_norm) {
        (Some(linear), _) => linear.forward(x),
        (None, Some(norm)) => norm.forward(x, mode),
        (None, None) => relu(x),
    })
}
