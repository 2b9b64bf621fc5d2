//! A run is a stream of events; progress bars, logs and reports only listen.

use serde::{Deserialize, Serialize};

/// A method's own figures by name. DINO: `teacher_entropy` in nats (ln K is uniform, 0 is one prototype) and `kl`, the
/// divergence between teacher and student (loss − entropy). MoCo: `top1`, the share of queries whose own key is above every
/// key of the queue, `queue_fill` (share of the queue that holds keys) and `queue_age` (their mean age in steps). DenseCL:
/// these, `loss_global` and `loss_dense`, `top1_dense`, and `matched`, the share of cells that have a match.
pub type Figures = std::collections::BTreeMap<&'static str, f64>;

/// Figures of some steps, averaged.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StepFigures {
    /// Epoch, from 0.
    pub epoch: usize,
    /// The last of the steps, counted over the whole run, from 0.
    pub step: usize,
    /// Loss.
    pub loss: f64,
    /// Spread of the features (the teacher's, the query encoder's), about 1 when healthy.
    pub feature_std: f64,
    /// What else the method tells.
    #[serde(flatten)]
    pub of_method: Figures,
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// Largest norm of one parameter's gradient, before clipping.
    pub max_parameter_gradient_norm: f64,
    /// Learning rate at the last of the steps.
    pub lr: f64,
    /// Weight decay at the last of the steps.
    pub weight_decay: f64,
    /// Teacher momentum at the last of the steps.
    pub momentum: f64,
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
    /// Mean loss.
    pub loss: f64,
    /// Mean spread of the features.
    pub feature_std: f64,
    /// Means of what else the method tells.
    #[serde(flatten)]
    pub of_method: Figures,
    /// Largest norm of one parameter's gradient, before clipping.
    pub max_parameter_gradient_norm: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Weight decay of the last step.
    pub weight_decay: f64,
    /// Teacher momentum of the last step.
    pub momentum: f64,
    /// k-NN of the teacher, where this epoch has it.
    pub knn: Option<KnnFigures>,
    /// Wall time of training, seconds.
    pub wall_s: f64,
    /// Processor time of training (all threads, views included), seconds; absent where the platform does not say.
    pub cpu_s: Option<f64>,
}

/// How large a run is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunShape {
    /// Training images.
    pub images: usize,
    /// Optimizer steps per epoch.
    pub steps_per_epoch: usize,
    /// Epochs.
    pub epochs: usize,
    /// ln K, the entropy of a uniform teacher; of contrast with a queue of K keys ln(K + 1), the loss where no key is
    /// nearer than another.
    pub uniform_entropy: f64,
    /// Steps until the queue has turned over once; 0 without a queue.
    pub queue_steps: usize,
    /// Parameters of the backbone.
    pub backbone_parameters: usize,
    /// Parameters of the head.
    pub head_parameters: usize,
}

/// The best k-NN accuracy of a run so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Neighbours.
    pub k: usize,
    /// Top-1 accuracy, per cent.
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
        /// Of the untrained teacher.
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
    /// A checkpoint was written.
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
        /// The best k-NN accuracy, where it was measured.
        best: Option<Best>,
    },
}
