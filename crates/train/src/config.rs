//! A run's configuration: presets, TOML files and single values, in that order of precedence.

use ocelli_data::DinoViews;
use ocelli_methods::DinoConfig;
use ocelli_models::Arch;
use serde::{Deserialize, Serialize};

use crate::watch::WatchConfig;

mod about;
mod changes;
mod presets;
mod resolve;

pub use about::annotated;
pub use changes::{Change, changes};
pub use presets::{PRESETS, Preset, preset};
pub use resolve::{resolve, resolve_over};

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
}

/// Everything that decides what a run computes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// The method; `dino`.
    pub method: String,
    /// The backbone by name.
    pub arch: Arch,
    /// Weights to start from (a run, a checkpoint, a `.safetensors` or `.pth` file); empty starts from random ones.
    pub init_from: String,
    /// Seed of weights, order, views and drop path.
    pub seed: u64,
    /// Epochs.
    pub epochs: usize,
    /// Images per optimizer step (all micro-batches together).
    pub batch_size: usize,
    /// Micro-batches per optimizer step; divides `batch_size`.
    pub accumulate: usize,
    /// Largest drop-path rate of the student (0.1).
    pub drop_path: f64,
    /// Crops and colours.
    pub views: ViewConfig,
    /// Optimizer and its schedules.
    pub optim: OptimConfig,
    /// The method's constants.
    pub dino: DinoConfig,
    /// Evaluation during the run.
    pub eval: EvalConfig,
    /// Reading of images.
    pub loader: LoaderSection,
    /// What is written and how often.
    pub log: LogConfig,
    /// What to do about a collapse.
    pub watch: WatchConfig,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            method: "dino".into(),
            arch: Arch { dim: 384, depth: 12, heads: 6, patch_size_px: 16 },
            init_from: String::new(),
            seed: 0,
            epochs: 100,
            batch_size: 64,
            accumulate: 1,
            drop_path: 0.1,
            views: ViewConfig::default(),
            optim: OptimConfig::default(),
            dino: DinoConfig::default(),
            eval: EvalConfig::default(),
            loader: LoaderSection::default(),
            log: LogConfig::default(),
            watch: WatchConfig::default(),
        }
    }
}

/// Multi-crop; defaults are the reference's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ViewConfig {
    /// Side of the two global crops (224).
    pub global_size_px: usize,
    /// Side of the local crops (96).
    pub local_size_px: usize,
    /// Share of the image's area in a global crop (0.4 to 1).
    pub global_scale: [f32; 2],
    /// Share of the image's area in a local crop (0.05 to 0.4).
    pub local_scale: [f32; 2],
    /// Local crops per image (8).
    pub local_crops: usize,
    /// Largest σ of the Gaussian blur in pixels (2); 0 switches blur off, as one does for images of 32 px.
    pub blur_sigma_max: f32,
    /// Per-channel mean taken off (ImageNet's).
    pub mean: [f32; 3],
    /// Per-channel standard deviation divided by (ImageNet's).
    pub std: [f32; 3],
}

impl Default for ViewConfig {
    fn default() -> Self {
        Self {
            global_size_px: 224,
            local_size_px: 96,
            global_scale: [0.4, 1.0],
            local_scale: [0.05, 0.4],
            local_crops: 8,
            blur_sigma_max: 2.0,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }
}

/// AdamW and its schedules; defaults are the reference's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimConfig {
    /// Peak learning rate per 256 images of a batch (5e-4): the peak is lr·batch_size/256.
    pub lr: f64,
    /// Learning rate at the end, not scaled (1e-6).
    pub min_lr: f64,
    /// Epochs of linear warm-up (10).
    pub warmup_epochs: usize,
    /// Decoupled weight decay at the start (0.04).
    pub weight_decay: f64,
    /// Weight decay at the end, along a cosine (0.4).
    pub weight_decay_end: f64,
    /// Largest gradient norm of each parameter (3.0); 0 is off.
    pub clip_grad: f64,
}

impl Default for OptimConfig {
    fn default() -> Self {
        Self {
            lr: 5e-4,
            min_lr: 1e-6,
            warmup_epochs: 10,
            weight_decay: 0.04,
            weight_decay_end: 0.4,
            clip_grad: 3.0,
        }
    }
}

/// k-NN of the teacher's features during the run.
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
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self { every_epochs: 1, resize_px: 256, crop_px: 224, batch_size: 64, max_train: 10_000, max_test: 2_000 }
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
}

impl Default for LoaderSection {
    fn default() -> Self {
        Self { threads: 0, prefetch: 4, max_bad_fraction: 0.01 }
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
    /// The peak learning rate, scaled by the batch.
    pub fn peak_lr(&self) -> f64 {
        self.optim.lr * self.batch_size as f64 / 256.0
    }

    /// The view plan of these settings.
    pub fn view_plan(&self) -> ocelli_data::ViewPlan {
        let v = &self.views;
        let mut plan = ocelli_data::ViewPlan::dino(DinoViews {
            global_size_px: v.global_size_px as u32,
            local_size_px: v.local_size_px as u32,
            global_scale: v.global_scale,
            local_scale: v.local_scale,
            local_crops: v.local_crops,
            blur_sigma: (v.blur_sigma_max > 0.0).then_some([v.blur_sigma_max.min(0.1), v.blur_sigma_max]),
        });
        (plan.mean, plan.std) = (v.mean, v.std);
        plan
    }

    /// Checks every value that can be wrong by itself.
    ///
    /// # Errors
    /// The first value out of range, with its key.
    pub fn check(&self) -> Result<(), ConfigError> {
        let fail =
            |key, expected: &str, found: String| Err(ConfigError::Value { key, expected: expected.into(), found });
        if self.method != "dino" {
            return fail("method", "\"dino\"", format!("\"{}\"", self.method));
        }
        for (key, value) in [
            ("epochs", self.epochs),
            ("batch_size", self.batch_size),
            ("accumulate", self.accumulate),
            ("views.global_size_px", self.views.global_size_px),
            ("views.local_size_px", self.views.local_size_px),
            ("log.every_steps", self.log.every_steps),
            ("log.keep_checkpoints", self.log.keep_checkpoints),
            ("log.checkpoint_every_epochs", self.log.checkpoint_every_epochs),
            ("eval.batch_size", self.eval.batch_size),
            ("loader.prefetch", self.loader.prefetch),
        ] {
            if value == 0 {
                return fail(key, "at least 1", value.to_string());
            }
        }
        // Far beyond use, and small enough that no product of them overflows or fills the memory before a step is done.
        for (key, value, most) in [
            ("epochs", self.epochs, 1_000_000),
            ("batch_size", self.batch_size, 1_000_000),
            ("views.global_size_px", self.views.global_size_px, 4096),
            ("views.local_size_px", self.views.local_size_px, 4096),
            ("views.local_crops", self.views.local_crops, 1000),
            ("dino.head.out_dim", self.dino.head.out_dim, 100_000_000),
        ] {
            if value > most {
                return fail(key, &format!("at most {most}"), value.to_string());
            }
        }
        if !self.batch_size.is_multiple_of(self.accumulate) {
            return fail(
                "accumulate",
                "a divisor of batch_size",
                format!("{} of {}", self.accumulate, self.batch_size),
            );
        }
        let smallest = if self.views.local_crops > 0 { self.views.local_size_px } else { usize::MAX };
        for (key, side) in [("views.global_size_px", self.views.global_size_px), ("views.local_size_px", smallest)]
        {
            if side < self.arch.patch_size_px {
                let expected = format!("at least one patch, {} px", self.arch.patch_size_px);
                return fail(key, &expected, side.to_string());
            }
        }
        for (key, [low, high]) in
            [("views.global_scale", self.views.global_scale), ("views.local_scale", self.views.local_scale)]
        {
            if !(low > 0.0 && low <= high && high <= 1.0) {
                return fail(key, "two shares of the area, 0 < low <= high <= 1", format!("[{low}, {high}]"));
            }
        }
        for (key, value) in [
            ("optim.lr", self.optim.lr),
            ("optim.min_lr", self.optim.min_lr),
            ("optim.weight_decay", self.optim.weight_decay),
            ("optim.weight_decay_end", self.optim.weight_decay_end),
            ("optim.clip_grad", self.optim.clip_grad),
            ("log.checkpoint_every_minutes", self.log.checkpoint_every_minutes),
            ("watch.patience_epochs", self.watch.patience_epochs),
            ("views.blur_sigma_max", f64::from(self.views.blur_sigma_max)),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return fail(key, "a number of at least 0", value.to_string());
            }
        }
        if self.views.std.iter().any(|s| s.is_nan() || *s <= 0.0) {
            return fail("views.std", "three numbers above 0", format!("{:?}", self.views.std));
        }
        if !(0.0..=1.0).contains(&self.loader.max_bad_fraction) {
            return fail(
                "loader.max_bad_fraction",
                "a share from 0 to 1",
                self.loader.max_bad_fraction.to_string(),
            );
        }
        if !(0.0..1.0).contains(&self.drop_path) {
            return fail("drop_path", "at least 0 and below 1", self.drop_path.to_string());
        }
        Ok(())
    }
}
