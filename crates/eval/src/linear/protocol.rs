//! What the published protocols do, and what a probe may be told.

use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::EvalError;

/// How a head learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeOptimizer {
    /// SGD with momentum 0.9, no dampening, no Nesterov.
    Sgd,
    /// The same with weight steps of a length in proportion to the weights' (You et al. 2017); the bias as SGD has it.
    Lars,
}

/// What happens to features before the heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeInput {
    /// Nothing.
    Raw,
    /// Batch normalisation without scale and shift.
    BatchNorm,
    /// Divided by their length, then by mean and standard deviation over the training set.
    Standardised,
}

/// How rates fall.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeSchedule {
    /// Half a cosine, one value for each epoch.
    CosinePerEpoch,
    /// A tenth after each of these epochs.
    Steps(Vec<usize>),
    /// Up over so many epochs, then half a cosine, step by step. The first step has rate 0.
    WarmupCosine(usize),
}

/// How heads are trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeConfig {
    /// Peak rates as they are applied, a head for each.
    pub rates: Vec<f64>,
    /// Epochs.
    pub epochs: usize,
    /// Images of a step.
    pub batch_size: usize,
    /// Leave out the last batch of an epoch where it is short.
    pub drop_last: bool,
    /// The optimizer.
    pub optimizer: ProbeOptimizer,
    /// How rates fall.
    pub schedule: ProbeSchedule,
    /// Weight decay, of weights and, with SGD, of the bias.
    pub weight_decay: f64,
    /// What happens to features first.
    pub input: ProbeInput,
    /// Added to the variance by batch normalisation.
    pub batch_norm_epsilon: f64,
}

impl ProbeConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// [`EvalError::Empty`] without rates, [`EvalError::Setting`] for a value out of range.
    pub fn validate(&self) -> Result<(), EvalError> {
        if self.rates.is_empty() {
            return Err(EvalError::Empty { what: "the list of learning rates" });
        }
        if let Some(rate) = self.rates.iter().find(|r| !(r.is_finite() && **r > 0.0)) {
            return Err(EvalError::setting("learning rate", "a finite number above 0", rate));
        }
        for (name, value) in [("epochs", self.epochs), ("batch_size", self.batch_size)] {
            if value == 0 {
                return Err(EvalError::setting(name, "at least 1", value));
            }
        }
        if self.input == ProbeInput::BatchNorm && self.batch_size < 2 {
            return Err(EvalError::setting("batch_size", "at least 2 with batch normalisation", self.batch_size));
        }
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            return Err(EvalError::setting("weight_decay", "a finite number of at least 0", self.weight_decay));
        }
        Ok(())
    }

    /// Steps of an epoch over so many images.
    pub fn steps_per_epoch(&self, images: usize) -> usize {
        if self.drop_last { images / self.batch_size } else { images.div_ceil(self.batch_size) }
    }

    /// What is left of the peak rates at a step of an epoch.
    pub fn factor(&self, epoch: usize, step: usize, steps_per_epoch: usize) -> f64 {
        let (e, all) = (epoch as f64, self.epochs as f64);
        match &self.schedule {
            ProbeSchedule::CosinePerEpoch => half_cosine(e / all),
            ProbeSchedule::Steps(milestones) => {
                0.1f64.powi(milestones.iter().filter(|m| **m <= epoch).count() as i32)
            }
            ProbeSchedule::WarmupCosine(warmup) => {
                let (t, warmup) = (e + step as f64 / steps_per_epoch.max(1) as f64, *warmup as f64);
                if t < warmup { t / warmup } else { half_cosine((t - warmup) / (all - warmup).max(1.0)) }
            }
        }
    }
}

fn half_cosine(share: f64) -> f64 {
    0.5 * (1.0 + (PI * share).cos())
}

/// A published protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Published {
    /// DINO (Caron et al. 2021): SGD, cosine per epoch, rates scaled by batch/256; 100 epochs.
    Dino,
    /// MoCo (He et al. 2020): SGD, rates as they are (30), a tenth after 60 and 80 of 100 epochs.
    Moco,
    /// MAE (He et al. 2022): batch normalisation and LARS, 10 of 90 epochs of warm-up.
    Mae,
    /// MSF (Koohpayegani et al. 2021): unit length and standardisation, a tenth after 15 and 30 of 40 epochs.
    Msf,
}

impl Published {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Dino, Self::Moco, Self::Mae, Self::Msf];

    /// Epochs, where nobody says otherwise.
    pub fn epochs(self) -> usize {
        match self {
            Self::Dino | Self::Moco => 100,
            Self::Mae => 90,
            Self::Msf => 40,
        }
    }

    /// What rates are multiplied by: protocols that scale them name those of a batch of 256.
    pub fn scale(self, batch_size: usize) -> f64 {
        match self {
            Self::Dino | Self::Mae => batch_size as f64 / 256.0,
            Self::Moco | Self::Msf => 1.0,
        }
    }

    /// The published rate as papers name it, of Vision Transformers or of ResNets.
    pub fn rate(self, of_resnet: bool) -> f64 {
        match (self, of_resnet) {
            (Self::Dino, false) => 0.001,
            (Self::Dino, true) => 0.3,
            (Self::Moco, _) => 30.0,
            (Self::Mae, _) => 0.1,
            (Self::Msf, _) => 0.01,
        }
    }

    /// The protocol with rates as papers name them. Epochs other than the published ones keep the proportions.
    pub fn config(self, rates: &[f64], epochs: usize, batch_size: usize) -> ProbeConfig {
        let part = |of: usize| epochs * of / self.epochs();
        let (optimizer, schedule, weight_decay, input) = match self {
            Self::Dino => (ProbeOptimizer::Sgd, ProbeSchedule::CosinePerEpoch, 0.0, ProbeInput::Raw),
            Self::Moco => {
                (ProbeOptimizer::Sgd, ProbeSchedule::Steps(vec![part(60), part(80)]), 0.0, ProbeInput::Raw)
            }
            Self::Mae => (ProbeOptimizer::Lars, ProbeSchedule::WarmupCosine(part(10)), 0.0, ProbeInput::BatchNorm),
            Self::Msf => (
                ProbeOptimizer::Sgd,
                ProbeSchedule::Steps(vec![part(15), part(30)]),
                1e-4,
                ProbeInput::Standardised,
            ),
        };
        ProbeConfig {
            rates: rates.iter().map(|rate| rate * self.scale(batch_size)).collect(),
            epochs,
            batch_size,
            drop_last: self == Self::Mae,
            optimizer,
            schedule,
            weight_decay,
            input,
            batch_norm_epsilon: 1e-6,
        }
    }
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dino => "dino",
            Self::Moco => "moco",
            Self::Mae => "mae",
            Self::Msf => "msf",
        })
    }
}

impl FromStr for Published {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|p| p.to_string() == name)
            .ok_or_else(|| format!("expected dino, moco, mae or msf, found \"{name}\""))
    }
}

impl TryFrom<String> for Published {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl From<Published> for String {
    fn from(published: Published) -> Self {
        published.to_string()
    }
}
