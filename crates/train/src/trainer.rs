//! The loop: loader → method → backward → clip → optimizer → followers → events.

mod epoch;
mod saving;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::tensor::Device;
use ocelli_data::{Loader, LoaderConfig, Source};
use ocelli_methods::check_queue;
use ocelli_methods::schedule::Cosine;

use crate::checkpoint::{Position, Writer};
use crate::config::{ConfigError, MethodKind, ViewsOn};
use crate::event::{Best, RunShape};
use crate::features::{Labelled, knn_of, knn_of_pixels};
use crate::fence::fenced;
use crate::learner::Learner;
use crate::means::Means;
use crate::optimizer::Optimizer;
use crate::{Encoder, EpochFigures, Event, Pictures, RunConfig, RunDir, TrainError};
use epoch::EpochEnd;
pub use epoch::Measured;

/// Told what happens; an error ends the run.
pub type Listen<'a> = &'a mut dyn FnMut(&Event) -> Result<(), TrainError>;

/// A run about to be trained.
pub struct Trainer {
    config: RunConfig,
    device: Device,
    learner: Learner,
    optimizer: Optimizer,
    loader: Loader,
    labelled: Option<Labelled>,
    /// The backbone as it was drawn, until the first evaluation.
    untrained: Option<Encoder>,
    schedules: Schedules,
    position: Position,
    /// The checkpoint this process went on from, relative to the run.
    resumed_from: Option<String>,
    stop: Arc<AtomicBool>,
    writer: Writer,
    last_saved: Instant,
    pictures: Pictures,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Figures of the last epoch of this process.
    pub last: Option<EpochFigures>,
    /// Wall time over all parts of the run, seconds.
    pub wall_s: f64,
    /// The best k-NN accuracy, where it was measured.
    pub best: Option<Best>,
    /// Whether it was asked to stop before its end.
    pub stopped: bool,
}

struct Schedules {
    lr: Cosine,
    /// The learning rate moves every so many steps.
    lr_every: usize,
    weight_decay: Cosine,
    momentum: Cosine,
}

impl Schedules {
    fn lr_at(&self, iteration: usize) -> f64 {
        self.lr.at(iteration / self.lr_every * self.lr_every)
    }
}

impl Trainer {
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
        if config.method.has_queue() {
            check_queue(config.moco.queue, config.batch_size, images)?;
        }
        let on_gpu = views_on_gpu(config.loader.views, device)?;
        let views = Some(if on_gpu { ViewsOn::Gpu } else { ViewsOn::Cpu });
        let loader = Loader::new(
            source.clone(),
            config.view_plan(),
            LoaderConfig {
                batch_size: config.batch_size / config.accumulate,
                seed: config.seed,
                threads: config.loader.threads,
                prefetch_batches: config.loader.prefetch,
                max_bad_fraction: config.loader.max_bad_fraction,
                render: !on_gpu,
                ..LoaderConfig::default()
            },
        )?;
        let learner = Learner::new(config, device)?;
        // Whole optimizer steps only, as the reference drops the last incomplete batch.
        let steps_per_epoch = images / config.batch_size;
        let total = config.epochs * steps_per_epoch;
        let (momentum, momentum_end) = match config.method {
            MethodKind::Dino => (config.dino.teacher_momentum, 1.0),
            MethodKind::Moco | MethodKind::DenseCl => (config.moco.momentum, config.moco.momentum),
        };
        let schedules = Schedules {
            lr_every: if config.optim.lr_by_epoch { steps_per_epoch } else { 1 },
            lr: Cosine::new(config.peak_lr(), config.optim.min_lr, total)
                .with_warmup(config.optim.warmup_epochs * steps_per_epoch),
            weight_decay: Cosine::new(config.optim.weight_decay, config.optim.weight_decay_end, total),
            momentum: Cosine::new(momentum, momentum_end, total),
        };
        Ok(Self {
            labelled: Labelled::of(source, test, &config.eval),
            // Drawn again: what is trained shares its running statistics with its clones.
            untrained: Some(config.encoder_config().init(config.seed, device)?),
            pictures: Pictures::new(config, device, source, test),
            config: config.clone(),
            device: device.clone(),
            learner,
            optimizer: Optimizer::new(&config.optim),
            schedules,
            position: Position { images, names_crc32: names_crc32(source.as_ref()), views, ..Position::default() },
            loader,
            resumed_from: None,
            stop: Arc::default(),
            writer: Writer::default(),
            last_saved: Instant::now(),
        })
    }

    /// The network one keeps, as it is now: DINO's teacher, or the query encoder of MoCo and DenseCL, without its head.
    ///
    /// # Errors
    /// When it cannot be built anew, which a run that could be made does not meet.
    pub fn encoder(&self) -> Result<Encoder, TrainError> {
        self.learner.encoder(&self.device)
    }

    /// Optimizer steps per epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.position.images / self.config.batch_size
    }

    /// Optimizer steps done.
    pub fn steps_done(&self) -> usize {
        self.position.epochs_done * self.steps_per_epoch() + self.position.step_in_epoch
    }

    /// Set it to have the run finish its step, save and return.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// k-NN accuracy of the pixels and of the network before training. It comes with the first evaluation rather than
    /// before the first step, so that training starts at once however large the data set is.
    fn baseline(&mut self) -> Result<Option<Event>, TrainError> {
        let (Some(labelled), Some(untrained)) = (&self.labelled, self.untrained.take()) else { return Ok(None) };
        let raw_pixels = knn_of_pixels(labelled, &self.config, &self.device)?;
        let untrained = knn_of(&untrained, labelled, &self.config, &self.device)?;
        self.position.baseline_done = true;
        Ok(Some(Event::Baseline { raw_pixels, untrained }))
    }

    fn knn(&self) -> Result<Option<crate::KnnFigures>, TrainError> {
        let Some(labelled) = &self.labelled else { return Ok(None) };
        Ok(Some(knn_of(&self.encoder()?, labelled, &self.config, &self.device)?))
    }

    /// Trains to the last epoch, or until told to stop, telling `listen` what happens, with checkpoints in `dir` where
    /// there is one.
    ///
    /// # Errors
    /// Unreadable data beyond the limit, collapse, figures that are not finite, files that cannot be written.
    pub fn run(&mut self, dir: Option<&RunDir>, listen: Listen<'_>) -> Result<Summary, TrainError> {
        let done = fenced(|| self.run_epochs(dir, listen));
        // A checkpoint being written is part of the run, however it ends.
        let written = self.writer.finish();
        match (done, written) {
            (Ok(summary), Ok(())) => Ok(summary),
            (Ok(_), Err(error)) => Err(error),
            (Err(error), _) => {
                if let (TrainError::Collapsed { since, .. }, Some(dir)) = (&error, dir) {
                    dir.set_aside_after(*since, self.steps_per_epoch())?;
                }
                // The reason is worth a row, but not the place of the error it reports.
                let _ = listen(&Event::Failed { message: error.to_string() });
                Err(error)
            }
        }
    }

    /// What is trained, in numbers.
    pub fn shape(&self) -> RunShape {
        let (backbone_parameters, head_parameters) = self.learner.parameters();
        RunShape {
            images: self.position.images,
            steps_per_epoch: self.steps_per_epoch(),
            epochs: self.config.epochs,
            uniform_entropy: self.config.uniform_entropy(),
            queue_steps: self.queue_steps(),
            backbone_parameters,
            head_parameters,
        }
    }

    /// Steps until a queue has turned over once; 0 without one.
    fn queue_steps(&self) -> usize {
        if self.config.method.has_queue() { self.config.moco.queue / self.config.batch_size } else { 0 }
    }

    fn run_epochs(&mut self, dir: Option<&RunDir>, listen: Listen<'_>) -> Result<Summary, TrainError> {
        let (started, before) = (Instant::now(), self.position.wall_s);
        let shape = self.shape();
        self.last_saved = Instant::now();
        match self.resumed_from.clone() {
            None => listen(&Event::Started(shape))?,
            Some(checkpoint) => listen(&Event::Resumed { step: self.steps_done(), checkpoint, shape })?,
        }
        if self.steps_done() == 0 {
            self.draw(dir, 0, listen)?;
        }
        let mut last = None;
        while self.position.epochs_done < self.config.epochs {
            let mut figures = match self.epoch(dir, listen)? {
                EpochEnd::Done(figures) => figures,
                EpochEnd::Stopped => {
                    self.position.wall_s = before + started.elapsed().as_secs_f64();
                    return self.stopped(dir, last, listen);
                }
            };
            let done = self.position.epochs_done + 1;
            let is_last = done == self.config.epochs;
            let every = self.config.eval.every_epochs;
            if every > 0 && (done.is_multiple_of(every) || is_last) {
                if let Some(baseline) = self.baseline()? {
                    listen(&baseline)?;
                }
                figures.knn = self.knn()?;
            }
            if is_last || every == 0 || done.is_multiple_of(every) {
                self.draw(dir, done, listen)?;
            }
            listen(&Event::Epoch(figures.clone()))?;
            self.begin_epoch(done, &figures);
            self.position.wall_s = before + started.elapsed().as_secs_f64();
            let stop = self.stop.load(Ordering::Relaxed) && !is_last;
            if is_last || stop || done.is_multiple_of(self.config.log.checkpoint_every_epochs) {
                self.save(dir, listen)?;
            }
            last = Some(figures);
            if stop {
                return self.stopped(None, last, listen);
            }
        }
        for bad in self.loader.bad_files() {
            listen(&Event::Warning { message: format!("skipped {}: {}", bad.name, bad.reason) })?;
        }
        // A run is finished when its last checkpoint is.
        let asked = Instant::now();
        self.writer.finish()?;
        self.position.waited_s += asked.elapsed().as_secs_f64();
        let (wall_s, best) = (before + started.elapsed().as_secs_f64(), self.position.best);
        listen(&Event::Finished { wall_s, waited_s: self.position.waited_s, best })?;
        Ok(Summary { last, wall_s, best, stopped: false })
    }

    /// Pictures show a run; no run ends for want of them.
    fn draw(&self, dir: Option<&RunDir>, epochs_done: usize, listen: Listen<'_>) -> Result<(), TrainError> {
        let Some(dir) = dir else { return Ok(()) };
        let folder = dir.path().join("pictures");
        let views = if epochs_done == 0 { self.pictures.views(&folder) } else { Ok(()) };
        let look = || self.pictures.look(&self.encoder()?, epochs_done, &folder);
        match views.and_then(|()| look()) {
            Ok(()) => Ok(()),
            Err(e) => listen(&Event::Warning { message: format!("pictures after {epochs_done} epochs: {e}") }),
        }
    }

    fn begin_epoch(&mut self, epochs_done: usize, figures: &EpochFigures) {
        let position = &mut self.position;
        (position.epochs_done, position.step_in_epoch) = (epochs_done, 0);
        (position.epoch_means, position.row_means) = (Means::default(), Means::default());
        (position.epoch_wall_s, position.epoch_cpu_s) = (0.0, 0.0);
        let knn = figures.knn.as_ref().and_then(|k| k.get_key_value(&20).or_else(|| k.iter().next()));
        if let Some((&k, &accuracy)) = knn
            && position.best.is_none_or(|b| accuracy > b.accuracy)
        {
            position.best = Some(Best { k, accuracy, epoch: figures.epoch });
        }
    }
}

/// Whether the views are rendered on the device. On a software adapter they are faster on the processor as it is.
fn views_on_gpu(choice: ViewsOn, device: &Device) -> Result<bool, ConfigError> {
    let (expected, found) = ("\"auto\" or \"cpu\" where the device is the CPU".into(), "\"gpu\"".into());
    match (choice, device.clone().inner() == Device::flex()) {
        (ViewsOn::Gpu, true) => Err(ConfigError::Value { key: "loader.views", expected, found }),
        (ViewsOn::Gpu, false) => Ok(true),
        (ViewsOn::Cpu, _) | (ViewsOn::Auto, true) => Ok(false),
        #[cfg(feature = "gpu")]
        (ViewsOn::Auto, false) => {
            use ocelli_kernels::gpu::{Family, caps};
            Ok(caps().family == Family::Hardware && ocelli_kernels::mode() != ocelli_kernels::Mode::Stock)
        }
        #[cfg(not(feature = "gpu"))]
        (ViewsOn::Auto, false) => Ok(false),
    }
}

/// CRC-32 of the names of all images, to know the data set again.
fn names_crc32(source: &dyn Source) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for i in 0..source.len() {
        hasher.update(source.name(i).as_bytes());
        hasher.update(b"\n");
    }
    hasher.finalize()
}
