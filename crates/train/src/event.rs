//! A run is a stream of events; progress bars, logs and reports only listen.

use serde::{Deserialize, Serialize};

use crate::Declared;

/// Figures by name, as the task declares them (see [`Declared`](crate::Declared)).
pub type Figures = std::collections::BTreeMap<&'static str, f64>;

/// Figures of some steps, averaged.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StepFigures {
    /// Epoch, from 0.
    pub epoch: usize,
    /// The last of the steps, counted over the whole run, from 0.
    pub step: usize,
    /// The task's figures, `loss` among them.
    #[serde(flatten)]
    pub figures: Figures,
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// Largest norm of one parameter's gradient, before clipping.
    pub max_parameter_gradient_norm: f64,
    /// Learning rate at the last of the steps.
    pub lr: f64,
    /// Weight decay at the last of the steps.
    pub weight_decay: f64,
    /// Momentum of what follows the network at the last of the steps, where something does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Images trained on per second of wall time since the figures before.
    pub images_per_second: f64,
}

/// Top-1 accuracies by number of neighbours, per cent.
pub type KnnFigures = std::collections::BTreeMap<usize, f64>;

/// Figures of an epoch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EpochFigures {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Means of the task's figures, `loss` among them.
    #[serde(flatten)]
    pub figures: Figures,
    /// What the evaluation after it found, where there was one.
    #[serde(flatten)]
    pub scores: Figures,
    /// Names of the signs that the means show.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signs: Vec<&'static str>,
    /// Largest norm of one parameter's gradient, before clipping.
    pub max_parameter_gradient_norm: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Weight decay of the last step.
    pub weight_decay: f64,
    /// Momentum of what follows the network in the last step, where something does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// k-NN of the network one keeps, where this epoch has it.
    pub knn: Option<KnnFigures>,
    /// Wall time of training, seconds.
    pub wall_s: f64,
    /// Processor time of training (all threads, views included), seconds; absent where the platform does not say.
    pub cpu_s: Option<f64>,
    /// The most of the machine's memory that this process has had in use so far (peak resident set), bytes; absent where the
    /// platform does not say. A graphics card's own memory is not in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

/// How large a run is, and what it says of itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunShape {
    /// Training images.
    pub images: usize,
    /// Optimizer steps per epoch.
    pub steps_per_epoch: usize,
    /// Epochs.
    pub epochs: usize,
    /// Parameters of the backbone.
    pub backbone_parameters: usize,
    /// Parameters of the head.
    pub head_parameters: usize,
    /// What its figures are and mean.
    #[serde(flatten)]
    pub declared: Declared,
}

/// The best accuracy of a run so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Whose accuracy: `k-NN` with its k, `top-1`.
    #[serde(default)]
    pub what: String,
    /// Accuracy, per cent.
    pub accuracy: f64,
    /// Its epoch, from 0.
    pub epoch: usize,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run begins.
    Started(RunShape),
    /// The run goes on from a checkpoint.
    Resumed {
        /// Optimizer steps the checkpoint had done.
        step: usize,
        /// The checkpoint, relative to the run.
        checkpoint: String,
        /// What is trained.
        #[serde(flatten)]
        shape: RunShape,
    },
    /// k-NN before training, where there are labels.
    Baseline {
        /// Of the pixels themselves.
        raw_pixels: KnnFigures,
        /// What the pixels were, in words.
        pixels: String,
        /// Of the network as it was drawn or loaded.
        untrained: KnnFigures,
    },
    /// An optimizer step was queued; no figures yet (they are read together now and then).
    Tick {
        /// Steps done over the whole run.
        step: usize,
    },
    /// Figures of the last steps.
    Step(StepFigures),
    /// An epoch ended.
    Epoch(EpochFigures),
    /// A checkpoint is on the disk, whole.
    Checkpoint {
        /// The file, relative to the run.
        file: String,
        /// How long training waited for it: copying the values, and the file before it if that was not done.
        waited_s: f64,
    },
    /// Something a person should know.
    Warning {
        /// In words.
        message: String,
    },
    /// The run was asked to stop and did, at a checkpoint.
    Stopped {
        /// In words.
        message: String,
        /// Optimizer steps done.
        step: usize,
        /// The checkpoint it can go on from, relative to the run; absent where nothing is kept.
        checkpoint: Option<String>,
    },
    /// The run went wrong by itself.
    Failed {
        /// Why, in words.
        message: String,
    },
    /// The run ended as planned.
    Finished {
        /// Wall time over all its parts, seconds.
        wall_s: f64,
        /// Of which training waited for checkpoints, seconds.
        waited_s: f64,
        /// The best accuracy, where it was measured.
        best: Option<Best>,
    },
}
