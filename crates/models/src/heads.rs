//! Projection heads.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::{BatchNorm, Init, Linear, Mode};

/// DINO's projection head: an MLP to a bottleneck, L2 normalisation, and a weight-normalised linear layer to the
/// prototypes (Caron et al. 2021, appendix C). Defaults are the published ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DinoHeadConfig {
    /// K, the number of prototypes (65,536).
    pub out_dim: usize,
    /// Width of the hidden layers (2,048).
    pub hidden_dim: usize,
    /// Width before the last layer (256).
    pub bottleneck_dim: usize,
    /// Linear layers before the last one (3).
    pub layers: usize,
    /// Batch normalisation after each hidden layer (off).
    pub batch_norm: bool,
    /// Keep the last layer's row norms at 1 (on); off trains them, which the ViT-S recipes do for a better result.
    pub norm_last_layer: bool,
}

impl Default for DinoHeadConfig {
    fn default() -> Self {
        Self {
            out_dim: 65_536,
            hidden_dim: 2_048,
            bottleneck_dim: 256,
            layers: 3,
            batch_norm: false,
            norm_last_layer: true,
        }
    }
}

impl DinoHeadConfig {
    /// Builds the head over features of `in_dim`.
    pub fn init(&self, in_dim: usize, init: &mut Init) -> DinoHead {
        let mut mlp = Vec::new();
        for layer in 0..self.layers.max(1) {
            let first = layer == 0;
            let last = layer + 1 == self.layers.max(1);
            let input = if first { in_dim } else { self.hidden_dim };
            let output = if last { self.bottleneck_dim } else { self.hidden_dim };
            mlp.push(HeadLayer::linear(Linear::new(input, output, true, init)));
            if !last {
                if self.batch_norm {
                    mlp.push(HeadLayer::norm(BatchNorm::new(output, init)));
                }
                mlp.push(HeadLayer::gelu());
            }
        }
        // The reference initialises the MLP before the last layer exists, so this one keeps PyTorch's default.
        let bound = 1.0 / (self.bottleneck_dim as f64).sqrt();
        let weight_v = init.uniform([self.out_dim, self.bottleneck_dim], bound);
        let weight_g = (!self.norm_last_layer).then(|| init.constant([self.out_dim, 1], 1.0));
        DinoHead { mlp, last_layer: WeightNorm { weight_v, weight_g } }
    }
}

/// One entry of PyTorch's `Sequential`, so that indices in the names agree: a linear layer, a batch norm, or (both
/// absent) a GELU. Path components that start with `op_` are left out of parameter names.
#[derive(Module, Debug)]
pub struct HeadLayer {
    op_linear: Option<Linear>,
    op_norm: Option<BatchNorm>,
}

impl HeadLayer {
    fn linear(linear: Linear) -> Self {
        Self { op_linear: Some(linear), op_norm: None }
    }
    fn norm(norm: BatchNorm) -> Self {
        Self { op_linear: None, op_norm: Some(norm) }
    }
    fn gelu() -> Self {
        Self { op_linear: None, op_norm: None }
    }

    fn forward(&self, x: Tensor<2>, mode: Mode) -> Tensor<2> {
        match (&self.op_linear, &self.op_norm) {
            (Some(linear), _) => linear.forward(x),
            (None, Some(norm)) => norm.forward(x, mode),
            (None, None) => ocelli_kernels::gelu(x),
        }
    }
}

/// A linear layer without bias whose effective row is g·v/‖v‖. `weight_g` is absent while it is frozen at 1.
#[derive(Module, Debug)]
pub struct WeightNorm {
    /// `[K, bottleneck]`.
    pub weight_v: Param<Tensor<2>>,
    /// `[K, 1]`, only where it is trained.
    pub weight_g: Option<Param<Tensor<2>>>,
}

impl WeightNorm {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let v = self.weight_v.val();
        let norm = v.clone().powi_scalar(2).sum_dim(1).sqrt();
        let scale = match &self.weight_g {
            Some(g) => g.val() / norm,
            None => norm.recip(),
        };
        ocelli_kernels::linear(x, (v * scale).transpose(), None)
    }
}

/// See [`DinoHeadConfig`].
#[derive(Module, Debug)]
pub struct DinoHead {
    /// The MLP with PyTorch's indices.
    pub mlp: Vec<HeadLayer>,
    /// The prototypes.
    pub last_layer: WeightNorm,
}

impl DinoHead {
    /// Features `[rows, in]` to logits `[rows, K]`.
    pub fn forward(&self, features: Tensor<2>, mode: Mode) -> Tensor<2> {
        let mut x = features;
        for layer in &self.mlp {
            x = layer.forward(x, mode);
        }
        self.last_layer.forward(l2_normalise(x))
    }
}

/// Rows divided by max(‖row‖, 1e-12).
pub(crate) fn l2_normalise(x: Tensor<2>) -> Tensor<2> {
    let norm = x.clone().powi_scalar(2).sum_dim(1).sqrt().clamp_min(1e-12);
    x / norm
}
