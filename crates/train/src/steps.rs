//! A method trained on batches of views: what tasks that have one share. Each adds what it evaluates.

mod share;
mod task;

pub use share::Share;
pub use task::MethodTask;
pub(crate) use task::names_crc32;

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use ocelli_data::{EpochIter, Loader, LoaderConfig, Source, Subset, ViewBatch, ViewPlan};
use ocelli_kernels::together;
use ocelli_methods::optim::{Optimizer, StepRates};
use ocelli_methods::schedule::{Cosine, LrSchedule};
use ocelli_methods::{Batch, Method, Ranks, StepClock, train_step_in};
use ocelli_models::weights::preprocessing::Statistics;
use ocelli_models::weights::{ModuleState as _, StateDict};
use ocelli_models::{AnyBackbone, BackboneConfig};
use ocelli_world::{Alone, Shared};

use crate::config::{ConfigError, TaskKind, ViewsOn};
use crate::device::limits;
use crate::features::to_tensor;
use crate::limits::largest;
use crate::task::Rates;
use crate::{RunConfig, TrainError};

/// Random decisions of a pass before the first step are others than the steps'.
const PASS: u64 = 0x7061_7373;

/// Method, optimizer, schedules and loader of a run.
pub struct Steps {
    config: RunConfig,
    device: Device,
    backbone: BackboneConfig,
    method: Box<dyn Method>,
    optimizer: Optimizer,
    loader: Loader,
    /// The processes that take the steps together.
    world: Shared,
    share: Share,
    /// Batches of the epoch in progress.
    batches: Option<EpochIter>,
    epoch: usize,
    lr: LrSchedule,
    weight_decay: Cosine,
}

impl Steps {
    /// Builds networks, loader and schedules. A method that learns from labels sees the images that have one.
    ///
    /// # Errors
    /// When a value is out of range, the configuration is of another task than `kind`, or the data set is smaller than a batch
    /// or lacks what the method needs.
    pub fn new(
        config: &RunConfig,
        kind: TaskKind,
        device: &Device,
        source: &Arc<dyn Source>,
    ) -> Result<Self, TrainError> {
        Self::new_in(Arc::new(Alone), config, kind, device, source)
    }

    /// The same for one of several processes, which take every step together: see [`Share`].
    ///
    /// # Errors
    /// As [`Steps::new`], and when the processes cannot share the method or the parts.
    pub fn new_in(
        world: Shared,
        config: &RunConfig,
        kind: TaskKind,
        device: &Device,
        source: &Arc<dyn Source>,
    ) -> Result<Self, TrainError> {
        config.check_task(kind)?;
        config.check()?;
        let share = Share::of(config, world.size())?;
        let (recipe, backbone) = (config.recipe(), config.backbone());
        let source = if recipe.needs.labels { Subset::labelled(source) } else { source.clone() };
        let (images, classes) = (source.len(), classes_of(source.as_ref()));
        let facts = config.facts(&backbone, Some(images), Some(classes));
        // Why there are too few images is the better message where none has a label.
        if classes > 0 || !recipe.needs.labels {
            check_enough(images, config.batch_size)?;
        }
        recipe.check(&facts)?;
        let plan = config.view_plan();
        let loader = Loader::new(
            source,
            plan.clone(),
            LoaderConfig {
                batch_size: share.images,
                seed: config.seed,
                threads: config.loader.threads,
                prefetch_batches: config.loader.prefetch,
                max_bad_fraction: config.loader.max_bad_fraction,
                render: !views_on_gpu(config.loader.views, &plan, device)?,
                ranks: world.size(),
                rank: world.rank(),
                ..LoaderConfig::default()
            },
        )?;
        let method = (recipe.build)(&facts, config.seed, device)?;
        if let Some(limits) = limits(device) {
            limits.check(&largest(config, share.images, method.as_ref()))?;
        }
        // Whole optimizer steps only, as the reference drops the last incomplete batch.
        let steps_per_epoch = images / config.batch_size;
        let total = config.epochs * steps_per_epoch;
        let optim = &config.optim;
        Ok(Self {
            lr: LrSchedule::new(optim, config.peak_lr(), steps_per_epoch, config.epochs),
            weight_decay: Cosine::new(optim.weight_decay, optim.weight_decay_end, total),
            optimizer: Optimizer::new(optim),
            config: config.clone(),
            device: device.clone(),
            backbone,
            method,
            loader,
            world,
            share,
            batches: None,
            epoch: 0,
        })
    }

    /// The processes that take the steps together.
    pub fn world(&self) -> &Shared {
        &self.world
    }

    /// Every value resolved.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// The images that are learnt from.
    pub fn source(&self) -> &Arc<dyn Source> {
        self.loader.source()
    }

    /// Where it is computed.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The backbone's shape.
    pub fn backbone(&self) -> &BackboneConfig {
        &self.backbone
    }

    /// The method in training.
    pub fn method(&self) -> &dyn Method {
        self.method.as_ref()
    }

    /// The network one keeps, as it is now, without its head.
    ///
    /// # Errors
    /// When it cannot be built anew, which a run that could be made does not meet.
    pub fn encoder(&self) -> Result<AnyBackbone, TrainError> {
        Ok(self.backbone.with_values(self.method.kept(), &self.device)?)
    }

    /// Starts from the backbone that the configuration names, if it names one; returns it and what was loaded, in words.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn start_from_weights(&mut self) -> Result<Option<(AnyBackbone, String)>, TrainError> {
        if self.config.init_from.is_empty() {
            return Ok(None);
        }
        let named = Path::new(&self.config.init_from);
        let path = self.config.init_from_path.as_deref().unwrap_or(named);
        let views = &self.config.views;
        let statistics = Statistics { mean: views.mean, std: views.std };
        let (encoder, words) = crate::load_into(path, &self.backbone, statistics, &self.device)?;
        let mut state = StateDict::default();
        state.add_module("", &encoder)?;
        self.method.start_from(&state)?;
        Ok(Some((encoder, words)))
    }

    fn steps_per_epoch(&self) -> usize {
        self.loader.source().len() / self.config.batch_size
    }

    fn begin_epoch(&mut self, epoch: usize, step_in_epoch: usize) {
        self.epoch = epoch;
        self.batches = Some(self.loader.epoch(epoch, step_in_epoch * self.share.all));
        if !self.method.wants_pass() {
            self.method.begin_epoch(epoch);
        }
    }

    /// The pass a method may want, with the order and the views of an epoch that is never trained.
    fn look_through(&mut self, at_most: usize) -> Result<(), TrainError> {
        if !self.method.wants_pass() {
            return Ok(());
        }
        let (parts, seed) = (self.share.own, self.config.seed ^ PASS);
        let all = self.steps_per_epoch() * parts;
        for (i, batch) in self.loader.epoch(self.config.epochs, 0).take(all.min(at_most)).enumerate() {
            let (iteration, micro_batch) = (i / parts, i % parts * self.world.size() + self.world.rank());
            let clock = StepClock { epoch: self.epoch, iteration, micro_batch, momentum: 0.0, seed };
            let batch = self.on_device(&batch?);
            together::within(&self.world, || self.method.see(&batch, &clock));
        }
        self.method.begin_epoch(self.epoch);
        Ok(())
    }

    fn step(&mut self, iteration: usize) -> Result<Tensor<1>, TrainError> {
        let mut micro = Vec::with_capacity(self.share.own);
        for _ in 0..self.share.own {
            // An iterator that ends early has told its error before.
            let Some(batch) = self.batches.as_mut().and_then(Iterator::next) else { break };
            micro.push(self.on_device(&batch?));
        }
        let Rates { lr, weight_decay, momentum } = self.rates(iteration);
        let clock = StepClock {
            epoch: self.epoch,
            iteration,
            micro_batch: 0,
            momentum: momentum.unwrap_or_default(),
            seed: self.config.seed,
        };
        let rates = StepRates { lr, weight_decay, clip: self.config.optim.clip_grad };
        let optimizer = (&mut self.optimizer, &self.config.optim);
        let ranks = Ranks { world: &self.world, coupled: self.config.recipe().needs.coupled };
        Ok(train_step_in(ranks, self.method.as_mut(), optimizer, &micro, clock, &rates)?)
    }

    fn rates(&self, iteration: usize) -> Rates {
        let iterations = self.config.epochs * self.steps_per_epoch();
        Rates {
            lr: self.lr.at(iteration),
            weight_decay: self.weight_decay.at(iteration),
            momentum: self.method.momentum(iteration, iterations),
        }
    }

    /// A batch on the device.
    fn on_device(&self, batch: &ViewBatch) -> Batch {
        let needs = self.config.recipe().needs;
        let source = self.loader.source();
        Batch {
            views: self.views(batch),
            images: batch.indices.len(),
            labels: match needs.labels {
                true => batch.indices.iter().map(|i| source.label(*i)).collect(),
                false => Vec::new(),
            },
            indices: batch.indices.clone(),
            places: match needs.places {
                true => batch.places.iter().map(|views| views.iter().map(Into::into).collect()).collect(),
                false => Vec::new(),
            },
        }
    }

    /// The views of a batch, a tensor for each size.
    fn views(&self, batch: &ViewBatch) -> Vec<Tensor<4>> {
        #[cfg(feature = "gpu")]
        if !batch.drawn.is_empty() {
            return crate::gpu_views::render_batch(batch, self.loader.plan(), &self.device);
        }
        batch.groups.iter().map(|g| to_tensor(g, &self.device)).collect()
    }

    fn state(&self) -> Result<StateDict, TrainError> {
        let mut state = self.method.state()?;
        for (name, tensor) in self.optimizer.state()?.tensors {
            state.tensors.push((format!("optimizer.{name}"), tensor));
        }
        Ok(state)
    }

    fn load(&mut self, state: &StateDict) -> Result<(), TrainError> {
        self.method.load_state(state)?;
        Ok(self.optimizer.load(&state.under("optimizer."), self.method.network())?)
    }
}

fn check_enough(images: usize, batch: usize) -> Result<(), TrainError> {
    if images < batch { Err(TrainError::TooFewImages { images, batch }) } else { Ok(()) }
}

/// Whether the views are rendered on the device. On a software adapter they are faster on the processor as it is.
fn views_on_gpu(choice: ViewsOn, plan: &ViewPlan, device: &Device) -> Result<bool, ConfigError> {
    let refuse = |expected: &str| {
        let (expected, found) = (expected.to_owned(), "\"gpu\"".to_owned());
        Err(ConfigError::Value { key: "loader.views", expected, found })
    };
    match (choice, device.clone().inner() == Device::flex()) {
        (ViewsOn::Gpu, true) => refuse("\"auto\" or \"cpu\" where the device is the CPU"),
        (ViewsOn::Gpu, false) if !plan.gpu_ready() => {
            refuse("\"auto\" or \"cpu\": these views are made on the CPU")
        }
        (ViewsOn::Gpu, false) => Ok(true),
        (ViewsOn::Cpu, _) | (ViewsOn::Auto, true) => Ok(false),
        #[cfg(feature = "gpu")]
        (ViewsOn::Auto, false) => {
            use ocelli_kernels::gpu::{Family, caps};
            let fast = caps().family == Family::Hardware && ocelli_kernels::mode() != ocelli_kernels::Mode::Stock;
            Ok(fast && plan.gpu_ready())
        }
        #[cfg(not(feature = "gpu"))]
        (ViewsOn::Auto, false) => Ok(false),
    }
}

/// Classes of the images, 0 where they have none: the largest number of one, and all below it.
pub(crate) fn classes_of(source: &dyn Source) -> usize {
    (0..source.len()).filter_map(|i| source.label(i)).max().map_or(0, |last| last as usize + 1)
}
