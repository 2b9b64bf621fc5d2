//! A run's configuration: presets, TOML files and single values, in that order of precedence.

use ocelli_data::{DinoViews, MocoViews, ViewPlan};
use ocelli_methods::{DenseClConfig, DinoConfig, Matching, MocoConfig};
use ocelli_models::{Arch, ResNetArch, ResNetConfig, Stem};
use serde::{Deserialize, Serialize};

use crate::encoder::EncoderConfig;
use crate::watch::WatchConfig;

mod about;
mod changes;
mod check;
mod kinds;
mod presets;
mod resolve;

pub use about::annotated;
pub use changes::{Change, changes, continued};
pub use kinds::{BackboneArch, MethodKind, OptimizerKind, ViewsOn};
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
    /// The method; `dino`, `moco` or `densecl`.
    pub method: MethodKind,
    /// The backbone by name.
    pub arch: BackboneArch,
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
    /// Largest drop-path rate of the student (0.1), where it is a Vision Transformer.
    pub drop_path: f64,
    /// The backbone, where it is a ResNet.
    pub resnet: ResNetSection,
    /// Crops and colours.
    pub views: ViewConfig,
    /// Optimizer and its schedules.
    pub optim: OptimConfig,
    /// DINO's constants.
    pub dino: DinoConfig,
    /// MoCo v2's constants, and what DenseCL shares with it.
    pub moco: MocoConfig,
    /// DenseCL's own constants.
    pub densecl: DenseClSection,
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
            method: MethodKind::Dino,
            arch: BackboneArch::Vit(Arch { dim: 384, depth: 12, heads: 6, patch_size_px: 16 }),
            init_from: String::new(),
            seed: 0,
            epochs: 100,
            batch_size: 64,
            accumulate: 1,
            drop_path: 0.1,
            resnet: ResNetSection::default(),
            views: ViewConfig::default(),
            optim: OptimConfig::default(),
            dino: DinoConfig::default(),
            moco: MocoConfig::default(),
            densecl: DenseClSection::default(),
            eval: EvalConfig::default(),
            loader: LoaderSection::default(),
            log: LogConfig::default(),
            watch: WatchConfig::default(),
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

/// DenseCL's own constants; what it shares with MoCo is in `moco`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DenseClSection {
    /// λ, the dense loss's share (0.5).
    pub lambda: f64,
    /// Steps at the start with λ = 0 (0).
    pub lambda_warmup_iterations: usize,
    /// How cells are matched: `backbone` (max-sim on its features, the default), `head`, `random` or `geometric`.
    pub matching: Matching,
    /// Side of the grid maps are pooled to before the dense head; 0 leaves them as they are.
    pub grid: usize,
}

impl Default for DenseClSection {
    fn default() -> Self {
        let DenseClConfig { lambda, lambda_warmup_iterations, matching, grid, .. } = DenseClConfig::default();
        Self { lambda, lambda_warmup_iterations, matching, grid }
    }
}

/// Crops; defaults are DINO's multi-crop. Methods that compare two views have the global crops alone.
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

/// The optimizer and its schedules; defaults are DINO's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimConfig {
    /// `adamw`, `sgd` or `lars`.
    pub optimizer: OptimizerKind,
    /// Peak learning rate per 256 images of a batch (5e-4): the peak is lr·batch_size/256.
    pub lr: f64,
    /// Learning rate at the end, not scaled (1e-6).
    pub min_lr: f64,
    /// Let the learning rate move once an epoch, as MoCo does, not with every step.
    pub lr_by_epoch: bool,
    /// Epochs of linear warm-up (10).
    pub warmup_epochs: usize,
    /// Weight decay at the start (0.04); AdamW's is decoupled.
    pub weight_decay: f64,
    /// Weight decay at the end, along a cosine (0.4).
    pub weight_decay_end: f64,
    /// Decay biases and normalisations too, as MoCo and DenseCL do (LARS never does).
    pub decay_all: bool,
    /// Largest gradient norm of each parameter (3.0); 0 is off.
    pub clip_grad: f64,
    /// Momentum of SGD and LARS (0.9).
    pub momentum: f64,
    /// η of LARS (0.001).
    pub lars_eta: f64,
}

impl Default for OptimConfig {
    fn default() -> Self {
        Self {
            optimizer: OptimizerKind::AdamW,
            lr: 5e-4,
            min_lr: 1e-6,
            lr_by_epoch: false,
            warmup_epochs: 10,
            weight_decay: 0.04,
            weight_decay_end: 0.4,
            decay_all: false,
            clip_grad: 3.0,
            momentum: 0.9,
            lars_eta: 0.001,
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
    /// Where views are rendered: `auto`, `cpu` or `gpu`. Levels differ by 2 of 255 at most.
    pub views: ViewsOn,
}

impl Default for LoaderSection {
    fn default() -> Self {
        Self { threads: 0, prefetch: 4, max_bad_fraction: 0.01, views: ViewsOn::Auto }
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

    /// The published recipe of a method: what values are where nothing sets them.
    pub fn of(method: MethodKind) -> Self {
        let dino = Self::default();
        if method == MethodKind::Dino {
            return dino;
        }
        // MoCo v2, and DenseCL after it: ImageNet, 200 epochs, 8 devices of 32 images.
        Self {
            method,
            arch: BackboneArch::ResNet(ResNetArch {
                blocks: [3, 4, 6, 3],
                bottleneck: true,
                channels: 64,
                inner: 1,
                selective_kernel: false,
            }),
            epochs: 200,
            batch_size: 256,
            drop_path: 0.0,
            resnet: ResNetSection { norm_groups: 8, ..dino.resnet },
            views: ViewConfig { global_scale: [0.2, 1.0], local_crops: 0, ..dino.views },
            optim: OptimConfig {
                optimizer: OptimizerKind::Sgd,
                lr: 0.03,
                min_lr: 0.0,
                lr_by_epoch: true,
                warmup_epochs: 0,
                weight_decay: 1e-4,
                weight_decay_end: 1e-4,
                decay_all: true,
                clip_grad: 0.0,
                ..dino.optim
            },
            ..dino
        }
    }

    /// The view plan of these settings.
    pub fn view_plan(&self) -> ViewPlan {
        let v = &self.views;
        let blur_sigma = (v.blur_sigma_max > 0.0).then_some([v.blur_sigma_max.min(0.1), v.blur_sigma_max]);
        let plan = match self.method {
            MethodKind::Dino => ViewPlan::dino(DinoViews {
                global_size_px: v.global_size_px as u32,
                local_size_px: v.local_size_px as u32,
                global_scale: v.global_scale,
                local_scale: v.local_scale,
                local_crops: v.local_crops,
                blur_sigma,
            }),
            MethodKind::Moco | MethodKind::DenseCl => {
                ViewPlan::moco(MocoViews { size_px: v.global_size_px as u32, scale: v.global_scale, blur_sigma })
            }
        };
        ViewPlan { mean: v.mean, std: v.std, ..plan }
    }

    /// Pixels per cell of the backbone's map: the patch, or a ResNet's stride.
    pub fn cell_px(&self) -> usize {
        match self.encoder_config() {
            EncoderConfig::Vit(config) => config.patch_size_px,
            EncoderConfig::ResNet(config) => config.stride_px(),
        }
    }

    /// The backbone of these settings.
    pub(crate) fn encoder_config(&self) -> EncoderConfig {
        match &self.arch {
            BackboneArch::Vit(arch) => EncoderConfig::Vit(arch.config(self.views.global_size_px, self.drop_path)),
            BackboneArch::ResNet(arch) => EncoderConfig::ResNet(ResNetConfig {
                stem: self.resnet.stem,
                norm_groups: self.resnet.norm_groups,
                zero_init_residual: self.resnet.zero_init_residual,
                ..(*arch).into()
            }),
        }
    }

    /// DenseCL's constants, those it shares with MoCo among them.
    pub(crate) fn densecl(&self) -> DenseClConfig {
        let DenseClSection { lambda, lambda_warmup_iterations, matching, grid } = self.densecl;
        DenseClConfig { contrast: self.moco.clone(), lambda, lambda_warmup_iterations, matching, grid }
    }

    /// ln K of DINO's prototypes; of contrast with a queue ln(K + 1), the loss where no key is nearer than another.
    pub fn uniform_entropy(&self) -> f64 {
        match self.method {
            MethodKind::Dino => (self.dino.head.out_dim as f64).ln(),
            MethodKind::Moco | MethodKind::DenseCl => (self.moco.queue as f64 + 1.0).ln(),
        }
    }
}
