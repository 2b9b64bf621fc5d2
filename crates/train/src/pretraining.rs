//! Self-supervised pre-training: a method, its views and its backbone, as a task of the loop.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use ocelli_data::{BadFile, EpochIter, Loader, LoaderConfig, Source, ViewBatch, ViewPlan};
use ocelli_methods::optim::{Optimizer, StepRates};
use ocelli_methods::schedule::{Cosine, LrSchedule};
use ocelli_methods::{Batch, Method, StepClock, count, train_step};
use ocelli_models::weights::preprocessing::Statistics;
use ocelli_models::weights::{ModuleState as _, StateDict};
use ocelli_models::{AnyBackbone, BackboneConfig, Init};
use toml::Table;

use crate::config::{self, ConfigError, ViewsOn};
use crate::features::{Labelled, evaluation_bytes, knn_of, knn_of_pixels, to_tensor};
use crate::task::{Cadence, Declared, Rates, Scores, Size, Task};
use crate::{Event, KnnFigures, Pictures, RunConfig, TrainError};

/// A run about to be trained.
pub struct Pretraining {
    config: RunConfig,
    device: Device,
    backbone: BackboneConfig,
    method: Box<dyn Method>,
    optimizer: Optimizer,
    loader: Loader,
    /// Batches of the epoch in progress.
    batches: Option<EpochIter>,
    epoch: usize,
    labelled: Option<Labelled>,
    /// The backbone as it was drawn or loaded, until the first evaluation.
    untrained: Option<AnyBackbone>,
    lr: LrSchedule,
    weight_decay: Cosine,
    pictures: Pictures,
}

impl Pretraining {
    /// Builds networks, loader and schedules.
    ///
    /// # Errors
    /// When a value is out of range, or the data set is smaller than a batch or no larger than a queue.
    pub fn new(
        config: &RunConfig,
        device: &Device,
        source: &Arc<dyn Source>,
        test: Option<&Arc<dyn Source>>,
    ) -> Result<Self, TrainError> {
        config.check()?;
        let images = source.len();
        if images < config.batch_size {
            return Err(TrainError::TooFewImages { images, batch: config.batch_size });
        }
        let (recipe, backbone) = (config.recipe(), config.backbone());
        let facts = config.facts(&backbone, Some(images), Some(classes_of(source.as_ref())));
        recipe.check(&facts)?;
        let plan = config.view_plan();
        let loader = Loader::new(
            source.clone(),
            plan.clone(),
            LoaderConfig {
                batch_size: config.batch_size / config.accumulate,
                seed: config.seed,
                threads: config.loader.threads,
                prefetch_batches: config.loader.prefetch,
                max_bad_fraction: config.loader.max_bad_fraction,
                render: !views_on_gpu(config.loader.views, &plan, device)?,
                ..LoaderConfig::default()
            },
        )?;
        let method = (recipe.build)(&facts, config.seed, device)?;
        // Whole optimizer steps only, as the reference drops the last incomplete batch.
        let steps_per_epoch = images / config.batch_size;
        let total = config.epochs * steps_per_epoch;
        let optim = &config.optim;
        Ok(Self {
            labelled: Labelled::of(source, test, &config.eval),
            // Drawn again: what is trained shares its running statistics with its clones.
            untrained: Some(backbone.init(&mut Init::new(config.seed, device))?),
            pictures: Pictures::new(config, device, source, test),
            lr: LrSchedule::new(optim, config.peak_lr(), steps_per_epoch, config.epochs),
            weight_decay: Cosine::new(optim.weight_decay, optim.weight_decay_end, total),
            optimizer: Optimizer::new(optim),
            config: config.clone(),
            device: device.clone(),
            backbone,
            method,
            loader,
            batches: None,
            epoch: 0,
        })
    }

    /// The network one keeps, as it is now, without its head.
    ///
    /// # Errors
    /// When it cannot be built anew, which a run that could be made does not meet.
    pub fn encoder(&self) -> Result<AnyBackbone, TrainError> {
        Ok(self.backbone.with_values(self.method.kept(), &self.device)?)
    }

    /// The method in training.
    pub fn method(&self) -> &dyn Method {
        self.method.as_ref()
    }

    fn steps_per_epoch(&self) -> usize {
        self.loader.source().len() / self.config.batch_size
    }

    fn iterations(&self) -> usize {
        self.config.epochs * self.steps_per_epoch()
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
}

impl Task for Pretraining {
    fn declared(&self) -> Declared {
        let recipe = self.config.recipe();
        Declared {
            task: "pretraining",
            title: recipe.title,
            figures: self.method.figures().to_vec(),
            scores: Vec::new(),
            levels: self.method.levels(),
            signs: recipe.signs.to_vec(),
            notes: self.config.notes(&self.backbone, self.loader.source().len()),
            views_about: recipe.views_about,
        }
    }

    fn cadence(&self) -> Cadence {
        let config = &self.config;
        Cadence {
            epochs: config.epochs,
            batch_size: config.batch_size,
            evaluate_every: config.eval.every_epochs,
            warmup_epochs: config.optim.warmup_epochs,
            log: config.log.clone(),
            watch: config.watch.clone(),
        }
    }

    fn size(&self) -> Size {
        let (backbone_parameters, head_parameters) = count(self.method.network());
        Size {
            images: self.loader.source().len(),
            steps_per_epoch: self.steps_per_epoch(),
            backbone_parameters,
            head_parameters,
            held_values: self.method.held_values(),
            optimizer_values: self.optimizer.memory(),
        }
    }

    fn config(&self) -> Result<Table, TrainError> {
        Ok(config::table_of(&self.config)?)
    }

    fn stored_config(&self, text: &str) -> Result<Table, TrainError> {
        Ok(config::table_of(&config::stored(text, "the checkpoint's configuration")?)?)
    }

    fn describes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("arch", self.config.arch.to_string()),
            ("image_size_px", self.config.views.global_size_px.to_string()),
        ]
    }

    fn names_crc32(&self) -> u32 {
        names_crc32(self.loader.source().as_ref())
    }

    fn views_on(&self) -> ViewsOn {
        if self.loader.config().render { ViewsOn::Cpu } else { ViewsOn::Gpu }
    }

    fn begin_epoch(&mut self, epoch: usize, step_in_epoch: usize) {
        self.epoch = epoch;
        self.batches = Some(self.loader.epoch(epoch, step_in_epoch * self.config.accumulate));
        self.method.begin_epoch(epoch);
    }

    fn step(&mut self, iteration: usize) -> Result<Tensor<1>, TrainError> {
        let mut micro = Vec::with_capacity(self.config.accumulate);
        for _ in 0..self.config.accumulate {
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
        Ok(train_step(self.method.as_mut(), optimizer, &micro, clock, &rates))
    }

    fn rates(&self, iteration: usize) -> Rates {
        Rates {
            lr: self.lr.at(iteration),
            weight_decay: self.weight_decay.at(iteration),
            momentum: self.method.momentum(iteration, self.iterations()),
        }
    }

    fn unsettled_steps(&self) -> usize {
        self.method.unsettled_steps(self.steps_per_epoch(), self.config.batch_size)
    }

    fn typical_epoch(&self) -> usize {
        self.method.frozen_epochs()
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

    fn init(&mut self) -> Result<Option<String>, TrainError> {
        if self.config.init_from.is_empty() {
            return Ok(None);
        }
        let path = Path::new(&self.config.init_from);
        let views = &self.config.views;
        let statistics = Statistics { mean: views.mean, std: views.std };
        let (encoder, words) = crate::load_into(path, &self.backbone, statistics, &self.device)?;
        let mut state = StateDict::default();
        state.add_module("", &encoder)?;
        self.method.start_from(&state)?;
        self.untrained = Some(encoder);
        Ok(Some(words))
    }

    fn bad(&self) -> BTreeMap<usize, BadFile> {
        self.loader.bad()
    }

    fn add_bad(&mut self, known: &BTreeMap<usize, BadFile>) {
        self.loader.add_bad(known);
    }

    /// k-NN accuracy of the pixels and of the network before training. It comes with the first evaluation rather than
    /// before the first step, so that training starts at once however large the data set is.
    fn baseline(&mut self) -> Result<Option<Event>, TrainError> {
        let (Some(labelled), Some(untrained)) = (&self.labelled, self.untrained.take()) else { return Ok(None) };
        let (raw_pixels, pixels) = knn_of_pixels(labelled, &self.config, &self.device)?;
        let untrained = knn_of(&untrained, labelled, &self.config, &self.device)?;
        Ok(Some(Event::Baseline { raw_pixels, pixels, untrained }))
    }

    fn skip_baseline(&mut self) {
        self.untrained = None;
    }

    fn evaluate(&mut self) -> Result<Scores, TrainError> {
        let Some(labelled) = &self.labelled else { return Ok(Scores::default()) };
        let knn = knn_of(&self.encoder()?, labelled, &self.config, &self.device)?;
        Ok(Scores { quoted: quoted(&knn), knn: Some(knn), ..Scores::default() })
    }

    fn evaluation_bytes(&self) -> usize {
        let every = self.config.eval.every_epochs;
        self.labelled
            .as_ref()
            .filter(|_| every > 0)
            .map_or(0, |l| evaluation_bytes(l, &self.config, &self.backbone))
    }

    fn draw(&self, folder: &Path, epochs_done: usize) -> Result<(), TrainError> {
        let views = if epochs_done == 0 { self.pictures.views(folder) } else { Ok(()) };
        views.and_then(|()| self.pictures.draw_network(&self.encoder()?, epochs_done, folder))
    }
}

/// The accuracy people quote: k = 20 where it is there.
fn quoted(knn: &KnnFigures) -> Option<(String, f64)> {
    let (k, accuracy) = knn.get_key_value(&20).or_else(|| knn.iter().next())?;
    Some((format!("k-NN (k = {k})"), *accuracy))
}

/// Whether the views are rendered on the device. On a software adapter they are faster on the processor as it is.
pub(crate) fn views_on_gpu(choice: ViewsOn, plan: &ViewPlan, device: &Device) -> Result<bool, ConfigError> {
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

/// CRC-32 of the names of all images, to know the data set again.
pub(crate) fn names_crc32(source: &dyn Source) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for i in 0..source.len() {
        hasher.update(source.name(i).as_bytes());
        hasher.update(b"\n");
    }
    hasher.finalize()
}
