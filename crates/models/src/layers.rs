//! Layers with PyTorch's parameter names, over the operations of `ocelli-kernels`.

use std::cell::RefCell;

use burn::module::{Module, Param, ParamId, RunningState};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::module::batch_norm;
use ocelli_kernels::residual_branch::{Map, Norm};
use ocelli_kernels::together;

use crate::Init;

/// Whether a forward pass trains or evaluates. Drop path and batch statistics follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics, drop path on; `seed` decides which paths are dropped.
    Train {
        /// Seed of this step's random decisions.
        seed: u64,
    },
    /// Running statistics, drop path off.
    Eval,
}

/// y = xW + b on rows. `weight` is `[in, out]`, PyTorch's transposed.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[in, out]`.
    pub weight: Param<Tensor<2>>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// The reference's initialisation of transformers and heads: N(0, .02²) weights, zero bias.
    pub fn new(input: usize, output: usize, bias: bool, init: &mut Init) -> Self {
        Self { weight: init.trunc_normal([input, output], 0.02), bias: bias.then(|| init.constant([output], 0.0)) }
    }

    /// `[rows, in]` to `[rows, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        ocelli_kernels::linear(x, self.weight.val(), self.bias.as_ref().map(Param::val))
    }

    /// Weight and bias, where there is one.
    pub(crate) fn weights(&self) -> Option<Map> {
        Some(Map { weight: self.weight.val(), bias: self.bias.as_ref()?.val() })
    }

    /// The columns `start..start + len` of the output only.
    pub fn forward_columns(&self, x: Tensor<2>, start: usize, len: usize) -> Tensor<2> {
        let weight = self.weight.val().narrow(1, start, len);
        let bias = self.bias.as_ref().map(|b| b.val().narrow(0, start, len));
        ocelli_kernels::linear(x, weight, bias)
    }
}

/// Layer normalisation over the last axis of `[rows, dim]`.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// γ, `[dim]`.
    pub weight: Param<Tensor<1>>,
    /// β, `[dim]`.
    pub bias: Param<Tensor<1>>,
    #[module(skip)]
    epsilon: f64,
}

impl LayerNorm {
    /// γ = 1, β = 0.
    pub fn new(dim: usize, epsilon: f64, init: &mut Init) -> Self {
        Self { weight: init.constant([dim], 1.0), bias: init.constant([dim], 0.0), epsilon }
    }

    /// γ, β, ε.
    pub(crate) fn weights(&self) -> Norm {
        Norm { gamma: self.weight.val(), beta: self.bias.val(), epsilon: self.epsilon as f32 }
    }

    /// `[rows, dim]` to the same shape.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        ocelli_kernels::layer_norm(x, self.weight.val(), self.bias.val(), self.epsilon as f32)
    }
}

/// Batch normalisation of `[rows, dim]`, as PyTorch's `BatchNorm1d` (momentum .1, ε 1e-5, biased variance for the
/// output, unbiased for the running estimate).
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// γ, `[dim]`.
    pub weight: Param<Tensor<1>>,
    /// β, `[dim]`.
    pub bias: Param<Tensor<1>>,
    /// Running mean, `[dim]`; each network keeps its own, the teacher's is never averaged.
    pub running_mean: RunningState<Tensor<1>>,
    /// Running variance, `[dim]`.
    pub running_var: RunningState<Tensor<1>>,
}

impl BatchNorm {
    const EPSILON: f64 = 1e-5;
    const MOMENTUM: f64 = 0.1;

    /// γ = 1, β = 0, running mean 0 and variance 1.
    pub fn new(dim: usize, init: &mut Init) -> Self {
        let device = init.device().clone().inner();
        Self {
            weight: init.constant([dim], 1.0),
            bias: init.constant([dim], 0.0),
            running_mean: RunningState::new(Tensor::zeros([dim], &device)),
            running_var: RunningState::new(Tensor::ones([dim], &device)),
        }
    }

    /// `[rows, dim]` to the same shape; [`Mode::Train`] uses the batch's statistics and updates the running ones.
    pub fn forward(&self, x: Tensor<2>, mode: Mode) -> Tensor<2> {
        let y = normalise_rows(x, &self.running_mean, &self.running_var, mode);
        y * self.weight.val().unsqueeze::<2>() + self.bias.val().unsqueeze::<2>()
    }
}

/// Rows `[rows, dim]` by the batch's mean and variance, which the running ones then take a tenth of, or by the running ones.
pub(crate) fn normalise_rows(
    x: Tensor<2>,
    running_mean: &RunningState<Tensor<1>>,
    running_var: &RunningState<Tensor<1>>,
    mode: Mode,
) -> Tensor<2> {
    let [rows, _] = x.dims();
    let (mean, var) = match mode {
        Mode::Eval => (running_mean.value().unsqueeze::<2>(), running_var.value().unsqueeze::<2>()),
        Mode::Train { .. } => {
            let mean = x.clone().mean_dim(0);
            let var = (x.clone() - mean.clone()).powi_scalar(2).mean_dim(0);
            let (mean, var) = together::pooled(mean, var);
            let rows = rows * together::place().1;
            let unbias = rows as f64 / (rows.max(2) - 1) as f64;
            blend(running_mean, mean.clone() * BatchNorm::MOMENTUM);
            blend(running_var, var.clone() * (unbias * BatchNorm::MOMENTUM));
            (mean, var)
        }
    };
    (x - mean) / (var + BatchNorm::EPSILON).sqrt()
}

impl BatchNorm {
    /// `[batch, dim, height, width]` to the same shape, as PyTorch's `BatchNorm2d`. With `groups` above 1 every share
    /// of the batch is normalised by its own statistics, as on that many devices; the running statistics then take
    /// the groups' mean. One node of the autodiff graph per group.
    pub fn forward_maps(&self, x: Tensor<4>, mode: Mode, groups: usize) -> Tensor<4> {
        self.forward_with(x, mode, groups, None, false)
    }

    /// [`forward_maps`](Self::forward_maps), then ReLU.
    pub fn forward_relu(&self, x: Tensor<4>, mode: Mode, groups: usize) -> Tensor<4> {
        self.forward_with(x, mode, groups, None, true)
    }

    /// [`forward_maps`](Self::forward_maps), plus a shortcut of the same shape, then ReLU.
    pub fn forward_add_relu(&self, x: Tensor<4>, mode: Mode, groups: usize, shortcut: Tensor<4>) -> Tensor<4> {
        self.forward_with(x, mode, groups, Some(shortcut), true)
    }

    fn forward_with(
        &self,
        x: Tensor<4>,
        mode: Mode,
        groups: usize,
        shortcut: Option<Tensor<4>>,
        rectified: bool,
    ) -> Tensor<4> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        if mode == Mode::Eval {
            let (mean, var) = (self.running_mean.value(), self.running_var.value());
            let y = batch_norm(x, weight, bias, mean, var, Self::EPSILON);
            let y = match shortcut {
                Some(shortcut) => y + shortcut,
                None => y,
            };
            return if rectified { relu(y) } else { y };
        }
        let [batch, _, height, width] = x.dims();
        let split = |x: Tensor<4>| if groups > 1 { x.chunk(groups, 0) } else { vec![x] };
        let mut shortcuts = shortcut.map(split).into_iter().flatten();
        let (mut outputs, mut mean, mut var) = (Vec::new(), None, None);
        for share in split(x) {
            let rows = share.dims()[0];
            let values = rows * height * width * together::place().1;
            let unbias = values as f64 / values.max(2).saturating_sub(1) as f64;
            let part = Self::MOMENTUM * rows as f64 / batch as f64;
            let (weight, bias) = (weight.clone(), bias.clone());
            let normalised =
                ocelli_kernels::batch_norm(share, weight, bias, shortcuts.next(), rectified, Self::EPSILON);
            note(self.weight.id, values, &normalised.mean, &normalised.variance);
            mean = add(mean, normalised.mean * part);
            var = add(var, normalised.variance * (part * unbias));
            outputs.push(normalised.output);
        }
        if let (Some(mean), Some(var)) = (mean, var) {
            blend(&self.running_mean, mean.unsqueeze::<2>());
            blend(&self.running_var, var.unsqueeze::<2>());
        }
        match <[Tensor<4>; 1]>::try_from(outputs) {
            Ok([only]) => only,
            Err(several) => Tensor::cat(several, 0),
        }
    }
}

/// What a batch normalisation over maps found of one batch, or of one of its groups. See [`watch_norms`].
#[derive(Debug, Clone)]
pub struct NormBatch {
    /// The norm, by its weight's id.
    pub norm: ParamId,
    /// Values of a channel: batch · height · width.
    pub values: usize,
    /// Their means, `[dim]`, outside autodiff.
    pub mean: Tensor<1>,
    /// Their variances divided by their number, `[dim]`, outside autodiff.
    pub variance: Tensor<1>,
}

thread_local! {
    static WATCHED: RefCell<Option<Vec<NormBatch>>> = const { RefCell::new(None) };
}

/// Puts back what was watched before, however a pass ends.
struct Restore(Option<Vec<NormBatch>>);

impl Drop for Restore {
    fn drop(&mut self) {
        WATCHED.set(self.0.take());
    }
}

/// Runs forward passes on this thread, and returns what every batch normalisation over maps that trains found in them, in the
/// order of the calls: the statistics themselves, which the running ones hold only a tenth of.
pub fn watch_norms<R>(passes: impl FnOnce() -> R) -> (R, Vec<NormBatch>) {
    let restore = Restore(WATCHED.replace(Some(Vec::new())));
    let result = passes();
    let seen = WATCHED.take().unwrap_or_default();
    drop(restore);
    (result, seen)
}

/// Keeps a batch's statistics, where somebody watches.
fn note(norm: ParamId, values: usize, mean: &Tensor<1>, variance: &Tensor<1>) {
    WATCHED.with_borrow_mut(|watched| {
        if let Some(seen) = watched {
            let (mean, variance) = (mean.clone().inner(), variance.clone().inner());
            seen.push(NormBatch { norm, values, mean, variance });
        }
    });
}

fn add(sum: Option<Tensor<1>>, part: Tensor<1>) -> Option<Tensor<1>> {
    Some(match sum {
        None => part,
        Some(sum) => sum + part,
    })
}

/// Adds `share` of the batch to what is left of a running statistic, or keeps it where [`hold_statistics`] asks for that.
fn blend(running: &RunningState<Tensor<1>>, share: Tensor<2>) {
    let share = share.inner().squeeze_dim::<1>(0);
    let share = HELD.with_borrow_mut(|held| match held {
        Some(held) => {
            held.push((running.clone(), share));
            None
        }
        None => Some(share),
    });
    if let Some(share) = share {
        blend_now(running, share);
    }
}

fn blend_now(running: &RunningState<Tensor<1>>, share: Tensor<1>) {
    let rest = running.value_sync() * (1.0 - BatchNorm::MOMENTUM);
    running.update(rest + share);
    // An update waits per thread until it is asked for; readers that only look (evaluation, checkpoints) want it now.
    let _ = running.value_sync();
}

/// A running statistic with a batch's share.
type Held = (RunningState<Tensor<1>>, Tensor<1>);

thread_local! {
    static HELD: RefCell<Option<Vec<Held>>> = const { RefCell::new(None) };
}

/// What batches would have added to running statistics. See [`hold_statistics`].
#[derive(Debug)]
pub struct HeldStatistics(Vec<Held>);

/// Runs forward passes on this thread that leave all running statistics as they are, and returns what the passes would have added
/// to them: for whoever has other batches' shares to add before these.
pub fn hold_statistics<R>(passes: impl FnOnce() -> R) -> (R, HeldStatistics) {
    struct Stop;
    impl Drop for Stop {
        fn drop(&mut self) {
            HELD.set(None);
        }
    }
    let stop = Stop;
    HELD.set(Some(Vec::new()));
    let result = passes();
    let held = HELD.take().unwrap_or_default();
    drop(stop);
    (result, HeldStatistics(held))
}

impl HeldStatistics {
    /// The shares, `[dim]` each, in the order of the calls.
    pub fn shares(&self) -> Vec<Tensor<1>> {
        self.0.iter().map(|(_, share)| share.clone()).collect()
    }

    /// Adds shares to the statistics that the passes met: their own, or those of passes of the same kind over another batch.
    pub fn add(&self, shares: Vec<Tensor<1>>) {
        for ((running, _), share) in self.0.iter().zip(shares) {
            blend_now(running, share);
        }
    }
}
