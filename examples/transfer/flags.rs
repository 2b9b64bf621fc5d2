//! Flags of the comparison, and the configurations they stand for.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use ocelli::train::device::DeviceChoice;
use serde_json::{Value, json};

/// Flags of a budget that only shows that everything works; those beside it win.
const QUICK: &str = "--data scenes:96:48 --arch resnet-18c8 --seeds 2 --size 48 --view 32 --pretrain-steps 24 --queue 64 \
     --test-images 16 --detection-steps 24 --detection-batch 2 --regions 16 --precise-bn 4 --segmentation-steps 24 \
     --segmentation-batch 4";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Budget {
    Table,
    Quick,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Detection,
    Segmentation,
}

/// What pre-training is worth after fine-tuning.
#[derive(Parser)]
#[command(args_override_self = true)]
pub struct Args {
    /// Images with boxes and classes of pixels: `scenes[:COUNT[:SIZE]]`, or a folder
    #[arg(long, default_value = "scenes:1000:64")]
    pub data: String,
    /// Folder of weights, JSON and table
    #[arg(long)]
    pub out: PathBuf,
    /// `table`, or `quick`, which sets small numbers and leaves the documentation alone
    #[arg(long, value_enum, default_value_t = Budget::Table)]
    pub budget: Budget,
    /// Tasks (default: those that the data has labels for)
    #[arg(long, value_enum, value_delimiter = ',')]
    pub tasks: Vec<Kind>,
    /// The file with the marks between which the table goes (docs/transfer.md, not with `quick`)
    #[arg(long)]
    pub docs: Option<PathBuf>,
    /// Leave the documentation alone
    #[arg(long)]
    pub no_docs: bool,
    /// Where to compute: auto, gpu, gpu:N or cpu
    #[arg(long, default_value = "cpu")]
    pub device: DeviceChoice,
    /// Seeds, from 0
    #[arg(long, default_value_t = 3)]
    pub seeds: u64,
    /// A ResNet by name
    #[arg(long, default_value = "resnet-18c16")]
    pub arch: String,
    /// What is before its stages: `cifar` for small images, or `imagenet`
    #[arg(long, default_value = "cifar")]
    pub stem: String,
    /// Short side of images in fine-tuning, pixels; also the side of segmentation's crops
    #[arg(long, default_value_t = 64)]
    pub size: usize,
    /// Side of views in pre-training, pixels
    #[arg(long, default_value_t = 48)]
    pub view: usize,
    /// Steps of pre-training, rounded up to whole passes over the images
    #[arg(long, default_value_t = 744)]
    pub pretrain_steps: usize,
    /// Images of a step of pre-training
    #[arg(long, default_value_t = 16)]
    pub pretrain_batch: usize,
    /// `sgd` or `adamw`
    #[arg(long, default_value = "sgd")]
    pub pretrain_optimizer: String,
    /// Its rate, on a cosine to 0
    #[arg(long, default_value_t = 0.03)]
    pub pretrain_lr: f64,
    /// Its weight decay
    #[arg(long, default_value_t = 1e-4)]
    pub pretrain_decay: f64,
    /// Keys in the queue; fewer than there are images
    #[arg(long, default_value_t = 256)]
    pub queue: usize,
    /// Momentum of the key encoder
    #[arg(long, default_value_t = 0.995)]
    pub momentum: f64,
    /// Training images whose labels fine-tuning has, evenly spaced; 0 is all
    #[arg(long, default_value_t = 0)]
    pub labelled: usize,
    /// Held-out images that are looked at, at most
    #[arg(long, default_value_t = 250)]
    pub test_images: usize,
    /// Steps of a detector
    #[arg(long, default_value_t = 450)]
    pub detection_steps: usize,
    /// Images of its steps
    #[arg(long, default_value_t = 4)]
    pub detection_batch: usize,
    /// Its rate, a tenth from three quarters of the steps on
    #[arg(long, default_value_t = 0.01)]
    pub detection_lr: f64,
    /// Sides of its anchors, pixels (default: an eighth, 3/16, a quarter and 3/8 of --size)
    #[arg(long, value_delimiter = ',')]
    pub anchors: Vec<f64>,
    /// Regions of an image that it learns from
    #[arg(long, default_value_t = 32)]
    pub regions: usize,
    /// Batches for the statistics of its norms
    #[arg(long, default_value_t = 25)]
    pub precise_bn: usize,
    /// Steps of a segmentation
    #[arg(long, default_value_t = 350)]
    pub segmentation_steps: usize,
    /// Images of its steps
    #[arg(long, default_value_t = 8)]
    pub segmentation_batch: usize,
    /// Its rate, falling as (1 − t)^.9
    #[arg(long, default_value_t = 0.01)]
    pub segmentation_lr: f64,
    /// Pixels a cell of its map
    #[arg(long, default_value_t = 8)]
    pub stride_px: usize,
    /// Any other value of pre-training's configuration
    #[arg(long, value_name = "KEY=VALUE")]
    pub pretrain_set: Vec<String>,
    /// Any other value of the detector's
    #[arg(long, value_name = "KEY=VALUE")]
    pub detection_set: Vec<String>,
    /// Any other value of the segmentation's
    #[arg(long, value_name = "KEY=VALUE")]
    pub segmentation_set: Vec<String>,
}

impl Args {
    /// Out of the words of a command, the program's name first.
    pub fn of(given: &[String]) -> Self {
        let own = Self::parse_from(given);
        if own.budget == Budget::Table {
            return own;
        }
        let (program, flags) = given.split_at(1);
        let quick = QUICK.split_whitespace().map(str::to_owned);
        Self::parse_from(program.iter().cloned().chain(quick).chain(flags.iter().cloned()))
    }

    /// Everything that decides the figures.
    pub fn settings(&self) -> Value {
        json!({
            "data": self.data, "arch": self.arch, "stem": self.stem, "size_px": self.size, "view_px": self.view,
            "pretrain_steps": self.pretrain_steps, "pretrain_batch": self.pretrain_batch,
            "pretrain_optimizer": self.pretrain_optimizer, "pretrain_lr": self.pretrain_lr,
            "pretrain_decay": self.pretrain_decay, "queue": self.queue, "momentum": self.momentum,
            "labelled": self.labelled, "test_images": self.test_images, "detection_steps": self.detection_steps,
            "detection_batch": self.detection_batch, "detection_lr": self.detection_lr, "anchors_px": self.anchors(),
            "regions": self.regions, "precise_bn": self.precise_bn, "segmentation_steps": self.segmentation_steps,
            "segmentation_batch": self.segmentation_batch, "segmentation_lr": self.segmentation_lr,
            "stride_px": self.stride_px, "pretrain_set": self.pretrain_set, "detection_set": self.detection_set, "segmentation_set": self.segmentation_set,
        })
    }

    pub fn anchors(&self) -> Vec<f64> {
        match self.anchors.is_empty() {
            true => [0.125, 0.1875, 0.25, 0.375].map(|share| share * self.size as f64).to_vec(),
            false => self.anchors.clone(),
        }
    }

    /// Pre-training is the same for every method: optimizer, schedule, views, queue.
    pub fn pretraining(&self, images: usize, seed: u64) -> Vec<String> {
        let epochs = self.pretrain_steps.div_ceil((images / self.pretrain_batch).max(1));
        let Self { arch, stem, view, pretrain_batch, pretrain_optimizer, pretrain_lr, pretrain_decay, .. } = self;
        let own = vec![
            format!("arch={arch}"),
            format!("resnet.stem={stem}"),
            "resnet.norm_groups=2".into(),
            format!("seed={seed}"),
            format!("epochs={epochs}"),
            format!("batch_size={pretrain_batch}"),
            format!("views.global_size_px={view}"),
            "views.blur_sigma_max=1.0".into(),
            format!("optim.optimizer={pretrain_optimizer}"),
            format!("optim.lr={pretrain_lr:?}"),
            "optim.scale_base=0".into(),
            "optim.min_lr=0.0".into(),
            "optim.lr_by_epoch=false".into(),
            "optim.warmup_epochs=0".into(),
            format!("optim.weight_decay={pretrain_decay:?}"),
            format!("optim.weight_decay_end={pretrain_decay:?}"),
            "optim.decay_all=true".into(),
            "optim.clip_grad=0.0".into(),
            format!("moco.queue={}", self.queue),
            format!("moco.momentum={:?}", self.momentum),
            "eval.every_epochs=0".into(),
            "watch.collapse=warn".into(),
        ];
        [own, self.pretrain_set.clone()].concat()
    }

    pub fn detection(&self, seed: u64) -> Vec<String> {
        let (steps, size) = (self.detection_steps, self.size);
        let sizes = [7, 8, 9].map(|eighths| size * eighths / 8);
        let own = vec![
            format!("arch={}", self.arch),
            format!("stem={}", self.stem),
            format!("seed={seed}"),
            format!("iterations={steps}"),
            format!("batch_size={}", self.detection_batch),
            format!("views.short_px={sizes:?}"),
            format!("views.max_px={}", 3 * size),
            format!("anchors.sizes_px={:?}", self.anchors()),
            "rpn.batch_size_per_image=64".into(),
            "rpn.train_before_nms=1000".into(),
            "rpn.train_after_nms=200".into(),
            "rpn.test_before_nms=500".into(),
            "rpn.test_after_nms=64".into(),
            format!("roi.batch_size_per_image={}", self.regions),
            format!("optim.lr={:?}", self.detection_lr),
            format!("optim.warmup_iterations={}", (steps / 10).min(100)),
            format!("optim.milestones=[{}]", (steps * 3).div_ceil(4)),
            format!("eval.every_iterations={steps}"),
            format!("eval.short_px={size}"),
            format!("eval.max_images={}", self.test_images),
            format!("eval.precise_bn_batches={}", self.precise_bn),
        ];
        [own, self.detection_set.clone()].concat()
    }

    pub fn segmentation(&self, seed: u64) -> Vec<String> {
        let (steps, size) = (self.segmentation_steps, self.size);
        let own = vec![
            format!("seed={seed}"),
            format!("iterations={steps}"),
            format!("evaluate_every={steps}"),
            format!("batch_size={}", self.segmentation_batch),
            format!("stride_px={}", self.stride_px),
            format!("views.scale_px=[{}, {size}]", 3 * size),
            format!("views.crop_px=[{size}, {size}]"),
            format!("optim.lr={:?}", self.segmentation_lr),
            format!("eval.scale_px=[{}, {size}]", 3 * size),
            format!("eval.max_pictures={}", self.test_images),
        ];
        [own, self.segmentation_set.clone()].concat()
    }
}
