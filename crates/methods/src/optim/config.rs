//! What a configuration says of the optimizer and the learning rate.

use ocelli_models::params::FlatParam;
use ocelli_world::Wire;
use serde::{Deserialize, Serialize};

use super::Group;
use crate::MethodError;
use crate::names::names;

names! {
    /// How gradients become steps.
    OptimizerKind, "optim.optimizer":
    /// AdamW (Loshchilov & Hutter 2019).
    AdamW = "adamw",
    /// Stochastic gradient descent with momentum.
    Sgd = "sgd",
    /// Layer-wise adaptive rates (You et al. 2017), for large batches.
    Lars = "lars",
    /// Layer-wise adaptive rates as in SwAV, for every parameter.
    Larc = "larc",
}

names! {
    /// The learning rate after the warm-up.
    ScheduleKind, "optim.schedule":
    /// Half a cosine down to `min_lr`.
    Cosine = "cosine",
    /// Times `gamma` at each of `milestones_epochs`.
    Step = "step",
    /// (1 − t/T)^`power`, down to `min_lr`.
    Poly = "poly",
    /// The peak.
    Constant = "constant",
}

names! {
    /// Where a linear warm-up ends.
    WarmupKind, "optim.warmup":
    /// Its last step has the peak, and the schedule follows: DINO.
    Closed = "closed",
    /// The step after it has the peak, and the schedule follows: SimCLR, BYOL, Barlow Twins.
    Open = "open",
    /// It replaces the schedule's first steps, and ends as `open` does: DeiT.
    Overlapping = "overlapping",
}

names! {
    /// What gradients travel as where several processes share a run.
    GradientsAs, "optim.gradients":
    /// Single precision: the same step as in one process.
    F32 = "f32",
    /// Half precision with a scale for each 1,024 values: half the bytes, and about three digits of each gradient.
    F16 = "f16",
}

impl GradientsAs {
    /// How a sum sends them.
    pub fn wire(self) -> Wire {
        match self {
            GradientsAs::F32 => Wire::F32,
            GradientsAs::F16 => Wire::F16,
        }
    }
}

/// The optimizer and its schedules; defaults are DINO's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimConfig {
    /// `adamw`, `sgd`, `lars` or `larc`.
    pub optimizer: OptimizerKind,
    /// Peak learning rate per `scale_base` images of a batch (5e-4): the peak is lr·batch_size/scale_base.
    pub lr: f64,
    /// Images of a batch that `lr` is meant for (256); 0 takes `lr` as it is.
    pub scale_base: usize,
    /// Multiplies the learning rate of one-dimensional parameters (1): Barlow Twins has another for biases and
    /// normalisations.
    pub lr_factor_1d: f64,
    /// Learning rate at the end of `cosine` and `poly`, not scaled (1e-6).
    pub min_lr: f64,
    /// The learning rate after the warm-up: `cosine`, `step`, `poly` or `constant`.
    pub schedule: ScheduleKind,
    /// Epochs at whose start `step` multiplies the learning rate by `gamma`.
    pub milestones_epochs: Vec<usize>,
    /// What `step` multiplies by (0.1).
    pub gamma: f64,
    /// Exponent of `poly` (0.9).
    pub power: f64,
    /// Let the learning rate move once an epoch, as MoCo does, not with every step.
    pub lr_by_epoch: bool,
    /// Epochs of linear warm-up (10).
    pub warmup_epochs: usize,
    /// Learning rate of the warm-up's first step, not scaled (0).
    pub warmup_start_lr: f64,
    /// Where the warm-up ends: `closed`, `open` or `overlapping`.
    pub warmup: WarmupKind,
    /// Weight decay at the start (0.04); AdamW's is decoupled.
    pub weight_decay: f64,
    /// Weight decay at the end, along a cosine (0.4).
    pub weight_decay_end: f64,
    /// Decay biases and normalisations too, as MoCo, DenseCL and SwAV do (LARS never does while `lars_matrices_only`).
    pub decay_all: bool,
    /// Last parts of the names of parameters that are not decayed: DeiT has `pos_embed` and `cls_token`.
    pub no_decay: Vec<String>,
    /// Largest gradient norm of each parameter (3.0); 0 is off.
    pub clip_grad: f64,
    /// β₁ of AdamW (0.9).
    pub beta1: f64,
    /// β₂ of AdamW (0.999).
    pub beta2: f64,
    /// Momentum of SGD, LARS and LARC (0.9).
    pub momentum: f64,
    /// Nesterov's form of SGD's momentum.
    pub nesterov: bool,
    /// η of LARS and LARC (0.001).
    pub lars_eta: f64,
    /// Leave one-dimensional parameters out of LARS, as published: neither decayed nor scaled.
    pub lars_matrices_only: bool,
    /// Put LARS's learning rate into the momentum buffer, as SimCLR does.
    pub lars_rate_inside: bool,
    /// What gradients travel as where several processes share the run: `f32` or `f16`.
    pub gradients: GradientsAs,
}

impl Default for OptimConfig {
    fn default() -> Self {
        Self {
            optimizer: OptimizerKind::AdamW,
            lr: 5e-4,
            scale_base: 256,
            lr_factor_1d: 1.0,
            min_lr: 1e-6,
            schedule: ScheduleKind::Cosine,
            milestones_epochs: Vec::new(),
            gamma: 0.1,
            power: 0.9,
            lr_by_epoch: false,
            warmup_epochs: 10,
            warmup_start_lr: 0.0,
            warmup: WarmupKind::Closed,
            weight_decay: 0.04,
            weight_decay_end: 0.4,
            decay_all: false,
            no_decay: Vec::new(),
            clip_grad: 3.0,
            beta1: 0.9,
            beta2: 0.999,
            momentum: 0.9,
            nesterov: false,
            lars_eta: 0.001,
            lars_matrices_only: true,
            lars_rate_inside: false,
            gradients: GradientsAs::F32,
        }
    }
}

impl OptimConfig {
    /// The peak learning rate of batches of so many images.
    pub fn peak_lr(&self, batch_size: usize) -> f64 {
        if self.scale_base == 0 { self.lr } else { self.lr * batch_size as f64 / self.scale_base as f64 }
    }

    /// How a parameter is stepped where neither method nor task says otherwise: biases and everything one-dimensional are
    /// not decayed unless `decay_all`, what `no_decay` names never is.
    pub fn group(&self, param: &FlatParam) -> Group {
        let last = param.name.rsplit('.').next().unwrap_or_default();
        let is_decayed = (self.decay_all || param.is_regularised()) && !self.no_decay.iter().any(|n| n == last);
        Group {
            lr: if param.shape.num_dims() == 1 { self.lr_factor_1d } else { 1.0 },
            decay: if is_decayed { 1.0 } else { 0.0 },
            frozen: false,
        }
    }

    /// Checks every value, and that none is set that another makes useless.
    ///
    /// # Errors
    /// The first value that is wrong, with its key under `optim.`.
    pub fn check(&self) -> Result<(), MethodError> {
        let fail = |key, expected: &str, found: &dyn ToString| {
            Err(MethodError::Value { key, expected: expected.to_owned(), found: found.to_string() })
        };
        for (key, value) in [
            ("optim.lr", self.lr),
            ("optim.lr_factor_1d", self.lr_factor_1d),
            ("optim.min_lr", self.min_lr),
            ("optim.gamma", self.gamma),
            ("optim.power", self.power),
            ("optim.warmup_start_lr", self.warmup_start_lr),
            ("optim.weight_decay", self.weight_decay),
            ("optim.weight_decay_end", self.weight_decay_end),
            ("optim.clip_grad", self.clip_grad),
            ("optim.lars_eta", self.lars_eta),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return fail(key, "a number of at least 0", &value);
            }
        }
        for (key, value) in
            [("optim.momentum", self.momentum), ("optim.beta1", self.beta1), ("optim.beta2", self.beta2)]
        {
            if !(0.0..1.0).contains(&value) {
                return fail(key, "at least 0 and below 1", &value);
            }
        }
        if self.nesterov && self.optimizer != OptimizerKind::Sgd {
            return fail("optim.nesterov", "false, or optim.optimizer = \"sgd\"", &self.optimizer);
        }
        for (key, is_set) in [
            ("optim.lars_rate_inside", self.lars_rate_inside),
            ("optim.lars_matrices_only", !self.lars_matrices_only),
        ] {
            if is_set && self.optimizer != OptimizerKind::Lars {
                return fail(key, "its default, or optim.optimizer = \"lars\"", &self.optimizer);
            }
        }
        if self.schedule == ScheduleKind::Step && self.milestones_epochs.is_empty() {
            return fail("optim.milestones_epochs", "epochs, such as [30, 60], for schedule = \"step\"", &"[]");
        }
        if !self.milestones_epochs.is_sorted_by(|a, b| a < b) {
            let found = format!("{:?}", self.milestones_epochs);
            return fail("optim.milestones_epochs", "rising epochs", &found);
        }
        Ok(())
    }
}
