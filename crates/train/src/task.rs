//! What the loop drives: pre-training is a task, fine-tuning a classifier is another.
//!
//! A task has batches and a step, something to save and something to evaluate. Resume, checkpoints, progress, report, the
//! watch for collapse and `--dry-run` come with the loop, for all of them.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Tensor;
use ocelli_data::BadFile;
use ocelli_methods::{Figure, Level, Sign};
use ocelli_models::weights::StateDict;
use ocelli_world::{Alone, World};
use serde::Serialize;
use toml::Table;

use crate::config::{LogConfig, ViewsOn};
use crate::event::Best;
use crate::watch::WatchConfig;
use crate::{Event, Figures, KnnFigures, TrainError};

/// What a task says of itself: whoever shows a run reads this and knows no task or method by name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Declared {
    /// The task: `pretraining`, `classification`.
    pub task: &'static str,
    /// The method in words.
    pub title: &'static str,
    /// What every step tells, in the order of its row.
    pub figures: Vec<Figure>,
    /// What an evaluation tells, per cent.
    pub scores: Vec<Figure>,
    /// Values that say what the figures mean.
    pub levels: Vec<Level>,
    /// Signs that nothing is learnt any more.
    pub signs: Vec<Sign>,
    /// What a person should know before the first step.
    pub notes: Vec<String>,
    /// Settings that make no sense together, a line each.
    pub warnings: Vec<String>,
    /// What the views are for.
    pub views_about: &'static str,
}

/// How often the loop does what, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Cadence {
    /// Epochs.
    pub epochs: usize,
    /// Images per optimizer step.
    pub batch_size: usize,
    /// Epochs between evaluations; 0 is never.
    pub evaluate_every: usize,
    /// Epochs of warm-up, whose figures say little.
    pub warmup_epochs: usize,
    /// What is written and how often.
    pub log: LogConfig,
    /// What to do about a collapse.
    pub watch: WatchConfig,
}

/// How large a task is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size {
    /// Training images.
    pub images: usize,
    /// Optimizer steps per epoch.
    pub steps_per_epoch: usize,
    /// Trained values of the backbone.
    pub backbone_parameters: usize,
    /// Trained values of the head.
    pub head_parameters: usize,
    /// Numbers kept between steps beside the trained network and the optimizer's.
    pub held_values: usize,
    /// Numbers the optimizer keeps of each trained one.
    pub optimizer_values: usize,
}

/// The schedules' values at a step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// Learning rate.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Momentum of what follows the network, where something does.
    pub momentum: Option<f64>,
}

/// What an evaluation found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// k-NN accuracies, per cent.
    pub knn: Option<KnnFigures>,
    /// The others as [`Declared::scores`] names them, per cent.
    pub named: Figures,
    /// The one people quote, and what it is.
    pub quoted: Option<(String, f64)>,
    /// Held-out images that could not be read: the figures are without them.
    pub bad: Vec<BadFile>,
}

/// A task.
pub trait Task {
    /// What it says of itself.
    fn declared(&self) -> Declared;

    /// How often what is done.
    fn cadence(&self) -> Cadence;

    /// How large it is.
    fn size(&self) -> Size;

    /// The processes that do it together, which take every step and evaluate at the same time. All of them have the same
    /// [`Task::state`]; the first alone knows what an evaluation found, draws and writes.
    fn world(&self) -> &dyn World {
        &Alone
    }

    /// Its configuration, every value resolved.
    ///
    /// # Errors
    /// When it cannot be written as TOML.
    fn config(&self) -> Result<Table, TrainError>;

    /// A configuration that a checkpoint of this task keeps, as this version has it.
    ///
    /// # Errors
    /// When it is another task's, or damaged.
    fn stored_config(&self, text: &str) -> Result<Table, TrainError>;

    /// What its checkpoints say of the network in them, beside the configuration.
    fn describes(&self) -> Vec<(&'static str, String)>;

    /// A number by which the data set is known again.
    fn names_crc32(&self) -> u32;

    /// Where views are rendered, whatever the configuration leaves open: on the CPU or the GPU.
    fn views_on(&self) -> ViewsOn;

    /// Takes up an epoch at one of its steps.
    fn begin_epoch(&mut self, epoch: usize, step_in_epoch: usize);

    /// Looks at what has to be seen of the images before the epoch's first step, if anything has; at most so many batches of it
    /// where only the time of a step is wanted.
    ///
    /// # Errors
    /// Unreadable data beyond the limit.
    fn look_through(&mut self, _at_most: usize) -> Result<(), TrainError> {
        Ok(())
    }

    /// Takes the next optimizer step of the epoch, and returns its figures ([`Declared::figures`]) and the gradients' two norms,
    /// still on the device.
    ///
    /// # Errors
    /// Unreadable data beyond the limit.
    fn step(&mut self, iteration: usize) -> Result<Tensor<1>, TrainError>;

    /// The schedules' values at a step.
    fn rates(&self, iteration: usize) -> Rates;

    /// Steps of the start whose figures say nothing yet.
    fn unsettled_steps(&self) -> usize;

    /// The first epoch in which everything is trained.
    fn typical_epoch(&self) -> usize {
        0
    }

    /// Networks, what is held between steps, and the optimizer's under `optimizer.`.
    ///
    /// # Errors
    /// When values cannot be read from the device: a checkpoint has all of them or is not written.
    fn state(&self) -> Result<StateDict, TrainError>;

    /// Restores [`Task::state`].
    ///
    /// # Errors
    /// When it is of another configuration; nothing is changed then.
    fn load(&mut self, state: &StateDict) -> Result<(), TrainError>;

    /// Starts from the weights that the configuration names, if it names any. Returns what was loaded, in words.
    ///
    /// # Errors
    /// When they cannot be used.
    fn init(&mut self) -> Result<Option<String>, TrainError>;

    /// The unreadable images found so far, by number.
    fn bad(&self) -> BTreeMap<usize, BadFile>;

    /// Takes images for unreadable without trying them again.
    fn add_bad(&mut self, known: &BTreeMap<usize, BadFile>);

    /// What the first evaluation is compared with; the second call gives nothing.
    ///
    /// # Errors
    /// When images cannot be read.
    fn baseline(&mut self) -> Result<Option<Event>, TrainError> {
        Ok(None)
    }

    /// The baseline is known from an earlier part of the run.
    fn skip_baseline(&mut self) {}

    /// Evaluates the network as it is. Of several processes the first returns what all found together.
    ///
    /// # Errors
    /// When images cannot be read, or figures are not finite.
    fn evaluate(&mut self) -> Result<Scores, TrainError>;

    /// Keeps the network as it is in the folder of the run: it is the best so far. Nothing where checkpoints are enough.
    ///
    /// # Errors
    /// When values cannot be read or a file not written.
    fn keep(&self, _folder: &Path, _best: &Best) -> Result<(), TrainError> {
        Ok(())
    }

    /// Bytes an evaluation takes beside the network's own, at most; 0 where there is none.
    fn evaluation_bytes(&self) -> usize;

    /// Draws pictures of the network as it is into a folder.
    ///
    /// # Errors
    /// When values cannot be read or files not written.
    fn draw(&self, folder: &Path, epochs_done: usize) -> Result<(), TrainError>;
}
