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
    let norm = x.clone().powi_scalar(2).sum_dim(1).clamp_min(1e-24).sqrt();
    x / norm
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::params;
    use crate::weights::{ModuleState as _, StateDict};

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    fn column(rows: &[f32], dim: usize, j: usize) -> (f64, f64) {
        let n = rows.len() / dim;
        let column: Vec<f64> = (0..n).map(|i| f64::from(rows[i * dim + j])).collect();
        let mean = column.iter().sum::<f64>() / n as f64;
        (mean, column.iter().map(|x| (x - mean).powi(2)).sum::<f64>())
    }

    #[test]
    fn batch_norm_keeps_running_statistics_as_pytorch_does() {
        let device = Device::flex();
        let (rows, dim) = (7, 3);
        let x: Vec<f32> = (0..rows * dim).map(|i| ((i * 37 % 19) as f32).sqrt() - 1.5).collect();
        let norm = BatchNorm::new(dim, &mut Init::new(0, &device));
        let input = || Tensor::<2>::from_data(TensorData::new(x.clone(), [rows, dim]), &device);
        let trained = values(norm.forward(input(), Mode::Train { seed: 0 }));
        let (mean, var) = (values(norm.running_mean.value()), values(norm.running_var.value()));
        let evaluated = values(norm.forward(input(), Mode::Eval));
        for j in 0..dim {
            let (m, squares) = column(&x, dim, j);
            // The output uses the biased variance, the running estimate the unbiased one.
            let (biased, unbiased) = (squares / rows as f64, squares / (rows - 1) as f64);
            assert!((f64::from(mean[j]) - 0.1 * m).abs() < 1e-6);
            assert!((f64::from(var[j]) - (0.9 + 0.1 * unbiased)).abs() < 1e-6);
            for i in 0..rows {
                let at = f64::from(x[i * dim + j]);
                let expected = (at - m) / (biased + 1e-5).sqrt();
                assert!((f64::from(trained[i * dim + j]) - expected).abs() < 1e-5);
                let expected = (at - 0.1 * m) / (0.9 + 0.1 * unbiased + 1e-5).sqrt();
                assert!((f64::from(evaluated[i * dim + j]) - expected).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn batch_norm_in_the_head_has_the_reference_names_and_follows_the_mode() {
        let device = Device::flex();
        let config = DinoHeadConfig {
            out_dim: 12,
            hidden_dim: 8,
            bottleneck_dim: 4,
            layers: 3,
            batch_norm: true,
            norm_last_layer: false,
        };
        let head = config.init(6, &mut Init::new(1, &device));
        let mut state = StateDict::default();
        state.add_module("", &head).unwrap();
        // Linear, norm, GELU, linear, norm, GELU, linear.
        for name in ["mlp.0.weight", "mlp.1.running_mean", "mlp.3.bias", "mlp.4.weight", "mlp.6.weight"] {
            assert!(
                state.get(name).is_some(),
                "{name} in {:?}",
                state.tensors.iter().map(|t| &t.0).collect::<Vec<_>>()
            );
        }
        assert!(
            params::collect(&head).iter().all(|p| p.trainable != p.name.contains("running")),
            "statistics are not trained"
        );
        let x = Tensor::<2>::from_data(TensorData::new((0..30).map(|i| i as f32).collect(), [5, 6]), &device);
        let before = values(head.forward(x.clone(), Mode::Eval));
        let training = values(head.forward(x.clone(), Mode::Train { seed: 0 }));
        let after = values(head.forward(x, Mode::Eval));
        assert_ne!(before, training, "training uses the batch's statistics");
        assert_ne!(before, after, "and moves the running ones");
    }
}
