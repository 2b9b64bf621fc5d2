//! A run's configuration: presets, TOML files and single values, in that order of precedence.
//!
//! ```
//! use ocelli_train::config::resolve;
//!
//! let config = resolve(Some("demo"), None, &["epochs=2".to_owned(), "optim.lr=0.01".to_owned()])?;
//! assert_eq!((config.epochs, config.optim.lr), (2, 0.01));
//!
//! // What nobody knows is refused, with the key that may be meant.
//! let message = resolve(Some("demo"), None, &["epoch=2".to_owned()]).err().map(|e| e.to_string());
//! assert!(message.is_some_and(|text| text.contains("epochs")));
//! # Ok::<(), ocelli_train::config::ConfigError>(())
//! ```

use std::path::PathBuf;

use ocelli_data::ViewPlan;
use ocelli_data::files::MAX_PIXELS;
use ocelli_methods::{Facts, MethodError, Recipe, Sections, ViewSettings};
use ocelli_models::{Arch, BackboneArch, BackboneConfig, ResNetConfig, Stem};
use serde::{Deserialize, Serialize};

use crate::watch::WatchConfig;

mod about;
mod changes;
mod check;
mod hints;
mod kinds;
pub mod layers;
mod method;
mod presets;
mod resolve;
mod sense;
mod text;

pub use about::annotated;
pub(crate) use changes::continued_of;
pub use changes::{Change, changes};
pub use kinds::{TaskKind, ViewsOn};
pub use method::MethodChoice;
pub use ocelli_methods::optim::{OptimConfig, OptimizerKind, ScheduleKind, WarmupKind};
pub use presets::{preset, presets};
pub(crate) use resolve::table_of;
pub use resolve::{resolve, resolve_over, stored};
pub use text::{read_config, text_of};

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A preset nobody wrote.
    #[error("unknown preset \"{name}\"; there are: {known}{hint}")]
    UnknownPreset {
        /// As given.
        name: String,
        /// All names.
        known: String,
        /// The nearest one.
        hint: String,
    },
    /// TOML that cannot be read.
    #[error("{source_name}: {reason}")]
    Toml {
        /// The file, or the option.
        source_name: String,
        /// What and where.
        reason: String,
    },
    /// A key nobody knows.
    #[error("unknown key \"{key}\" in {source_name}{hint}")]
    UnknownKey {
        /// As given.
        key: String,
        /// Where it was given.
        source_name: String,
        /// The nearest key.
        hint: String,
    },
    /// A value out of range.
    #[error("{key}: expected {expected}, found {found}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is allowed.
        expected: String,
        /// What was given.
        found: String,
    },
    /// What the method finds wrong.
    #[error(transparent)]
    Method(#[from] MethodError),
}

/// Everything that decides what a run computes.
///
/// Read one with [`resolve`] or [`stored`], which check every key: the method's own sections make it one that takes any.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunConfig {
    /// What the run is.
    pub task: TaskKind,
    /// The method.
    pub method: MethodChoice,
    /// The backbone by name.
    pub arch: BackboneArch,
    /// Weights to start from (a run, a checkpoint, a `.safetensors` or `.pth` file); empty starts from random ones.
    pub init_from: String,
    /// Where those weights lie, where that is not as they are named: a relative name means nothing in another folder. No part of what a
    /// configuration writes.
    #[serde(skip)]
    pub init_from_path: Option<PathBuf>,
    /// Seed of weights, order, views and drop path.
    pub seed: u64,
    /// Epochs.
    pub epochs: usize,
    /// Images per optimizer step (all micro-batches together).
    pub batch_size: usize,
    /// Micro-batches per optimizer step; divides `batch_size`.
    pub accumulate: usize,
    /// Largest drop-path rate of the student (0.1), where it is a Vision Transformer.
    pub drop_path: f64,
    /// The backbone, where it is a ResNet.
    pub resnet: ResNetSection,
    /// Crops and colours.
    pub views: ViewSettings,
    /// Optimizer and its schedules.
    pub optim: OptimConfig,
    /// Evaluation during the run.
    pub eval: EvalConfig,
    /// Reading of images.
    pub loader: LoaderSection,
    /// What is written and how often.
    pub log: LogConfig,
    /// What to do about a collapse.
    pub watch: WatchConfig,
    /// The method's own sections.
    #[serde(flatten)]
    pub own: Sections,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            task: TaskKind::Pretraining,
            method: MethodChoice::default(),
            arch: BackboneArch::Vit(Arch { dim: 384, depth: 12, heads: 6, patch_size_px: 16, registers: 0 }),
            init_from: String::new(),
            init_from_path: None,
            seed: 0,
            epochs: 100,
            batch_size: 64,
            accumulate: 1,
            drop_path: 0.1,
            resnet: ResNetSection::default(),
            views: ViewSettings::default(),
            optim: OptimConfig::default(),
            eval: EvalConfig::default(),
            loader: LoaderSection::default(),
            log: LogConfig::default(),
            watch: WatchConfig::default(),
            own: (MethodChoice::default().recipe().sections)().unwrap_or_default(),
        }
    }
}

/// How a ResNet is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResNetSection {
    /// `imagenet` (7×7 of stride 2 and pooling) or `cifar` (3×3, for images of 32 to 64 px).
    pub stem: Stem,
    /// Shares of each micro-batch that are normalised by their own statistics, as on that many devices.
    pub norm_groups: usize,
    /// Start every block as the identity.
    pub zero_init_residual: bool,
}

impl Default for ResNetSection {
    fn default() -> Self {
        Self { stem: Stem::Imagenet, norm_groups: 1, zero_init_residual: false }
    }
}

/// Evaluation of the features during the run: k-NN, and a linear probe where it is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvalConfig {
    /// Epochs between evaluations (1); 0 is never. Needs labels.
    pub every_epochs: usize,
    /// Short side after resizing, pixels (256); 0 leaves images as they are.
    pub resize_px: usize,
    /// Side of the centre crop, pixels (224); 0 takes the whole (square) image.
    pub crop_px: usize,
    /// Images per forward pass (64).
    pub batch_size: usize,
    /// Training images the neighbours come from, at most (10,000); 0 is all.
    pub max_train: usize,
    /// Test images, at most (2,000); 0 is all.
    pub max_test: usize,
    /// Also train a linear classifier on the features for a short while (false).
    pub linear: bool,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            every_epochs: 1,
            resize_px: 256,
            crop_px: 224,
            batch_size: 64,
            max_train: 10_000,
            max_test: 2_000,
            linear: false,
        }
    }
}

/// How images are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoaderSection {
    /// Threads that decode and cut views; 0 is one per core. No effect on the result.
    pub threads: usize,
    /// Batches made ahead of the trainer (4).
    pub prefetch: usize,
    /// Share of unreadable images that stops the run (0.01).
    pub max_bad_fraction: f32,
    /// Largest width × height of an image that is read (100 million). Whoever opens the data makes it the limit of the process
    /// (`ocelli_data::files::set_max_pixels`).
    pub max_pixels: u64,
    /// Where views are rendered: `auto`, `cpu` or `gpu`. Levels differ by 2 of 255 at most.
    pub views: ViewsOn,
}

impl Default for LoaderSection {
    fn default() -> Self {
        Self { threads: 0, prefetch: 4, max_bad_fraction: 0.01, max_pixels: MAX_PIXELS, views: ViewsOn::Auto }
    }
}

/// What is written during a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Steps between rows of `metrics.jsonl` (10); the figures of all of them are averaged.
    pub every_steps: usize,
    /// Epochs between checkpoints (1); the last epoch always has one.
    pub checkpoint_every_epochs: usize,
    /// Minutes between checkpoints within a long epoch (30); 0 is none.
    pub checkpoint_every_minutes: f64,
    /// The newest so many checkpoints are kept (2).
    pub keep_checkpoints: usize,
    /// Beside them every one after a multiple of so many epochs (20, as the reference); 0 is none.
    pub keep_every_epochs: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            every_steps: 10,
            checkpoint_every_epochs: 1,
            checkpoint_every_minutes: 30.0,
            keep_checkpoints: 2,
            keep_every_epochs: 20,
        }
    }
}

impl RunConfig {
    /// Refuses a configuration of another task.
    ///
    /// # Errors
    /// When it is of another task; the message names its command.
    pub fn check_task(&self, task: TaskKind) -> Result<(), ConfigError> {
        if self.task == task {
            return Ok(());
        }
        let (expected, found) = (format!("\"{task}\""), self.task);
        Err(ConfigError::Value {
            key: "task",
            expected,
            found: format!("\"{found}\", which belongs to `ocelli {}`", found.command()),
        })
    }

    /// The peak learning rate, scaled by the batch.
    pub fn peak_lr(&self) -> f64 {
        self.optim.peak_lr(self.batch_size)
    }

    /// The published recipe of a method: what values are where nothing sets them.
    ///
    /// # Errors
    /// When what the method declares is no configuration, which a test rules out for every method there is.
    pub fn of(method: MethodChoice) -> Result<Self, ConfigError> {
        resolve::defaults(method)
    }

    /// What the method declares.
    pub fn recipe(&self) -> &'static Recipe {
        self.method.recipe()
    }

    /// A section of the method's own.
    ///
    /// # Errors
    /// When the method has no such section.
    pub fn section<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, ConfigError> {
        Ok(self.own.get(name)?)
    }

    /// What the method may ask of this run; images and their classes (0 without labels) once they are known.
    pub fn facts<'a>(
        &'a self,
        backbone: &'a BackboneConfig,
        images: Option<usize>,
        classes: Option<usize>,
    ) -> Facts<'a> {
        Facts {
            own: &self.own,
            views: &self.views,
            backbone,
            batch_size: self.batch_size,
            accumulate: self.accumulate,
            images,
            classes,
        }
    }

    /// What a person should know before deciding, with so many images.
    pub(crate) fn notes(&self, backbone: &BackboneConfig, images: usize) -> Vec<String> {
        let recipe = self.recipe();
        let mut notes = (recipe.notes)(&self.facts(backbone, Some(images), None));
        if self.accumulate > 1 {
            let parts = self.accumulate;
            if recipe.needs.whole_batch {
                notes.push(format!(
                    "the loss of {} looks at the whole batch; in {parts} parts (accumulate) it sees one part at a time, which is \
                     another loss",
                    recipe.title
                ));
            } else if backbone.has_batch_norm() {
                notes.push(format!(
                    "batch normalisation sees one of {parts} parts at a time (accumulate): close to the whole batch at once, \
                     not the same"
                ));
            }
        }
        notes
    }

    /// Has batches computed in as many parts as there are processes, where they were to be computed at once; where processes
    /// compute every part together, there is nothing to change (see [`Share`](crate::Share)). Returns what was done, in
    /// words.
    pub fn spread_over(&mut self, processes: usize) -> Option<String> {
        if processes < 2 || self.accumulate > 1 {
            return None;
        }
        if self.recipe().needs.coupled {
            return Some(format!(
                "each of the {processes} processes computes {} images of every batch of {}, and their losses and batch \
                 normalisations see the images of all",
                self.batch_size / processes,
                self.batch_size
            ));
        }
        self.accumulate = processes;
        Some(format!(
            "accumulate = {processes}: each of the {processes} processes computes a part of every batch of {} images",
            self.batch_size
        ))
    }

    /// The view plan of these settings.
    pub fn view_plan(&self) -> ViewPlan {
        (self.recipe().views)(&self.views)
    }

    /// Pixels per cell of the backbone's map: the patch, or a ResNet's stride.
    pub fn cell_px(&self) -> usize {
        self.backbone().cell_px()
    }

    /// The backbone of these settings.
    pub fn backbone(&self) -> BackboneConfig {
        match &self.arch {
            BackboneArch::Vit(arch) => BackboneConfig::Vit(arch.config(self.views.global_size_px, self.drop_path)),
            BackboneArch::ResNet(arch) => BackboneConfig::ResNet(ResNetConfig {
                stem: self.resnet.stem,
                norm_groups: self.resnet.norm_groups,
                zero_init_residual: self.resnet.zero_init_residual,
                ..(*arch).into()
            }),
        }
    }
}
