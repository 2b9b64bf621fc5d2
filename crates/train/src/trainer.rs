//! The loop: loader → method → backward → clip → optimizer → followers → events.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use ocelli_data::{Loader, LoaderConfig, Source, ViewBatch};
use ocelli_methods::schedule::Cosine;
use ocelli_methods::{Dino, Method, StepClock};
use ocelli_models::{Vit, params};

use crate::features::{Labelled, knn_of, knn_of_pixels, to_tensor};
use crate::{
    AdamW, AdamWState, Checkpoint, EpochFigures, Event, GradientSum, RunConfig, RunDir, StepFigures, StepRates,
    TrainError,
};

/// A run about to be trained.
pub struct Trainer {
    config: RunConfig,
    device: Device,
    method: Dino,
    optimizer: AdamWState,
    loader: Loader,
    labelled: Option<Labelled>,
    /// The teacher's backbone as it was drawn, until the first evaluation.
    untrained: Option<Vit>,
    schedules: Schedules,
    images: usize,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Figures of the last epoch.
    pub last: Option<EpochFigures>,
    /// Wall time, seconds.
    pub wall_s: f64,
}

struct Schedules {
    lr: Cosine,
    weight_decay: Cosine,
    momentum: Cosine,
}

/// Names of the figures read from the device each step, in order.
const FIGURES: [&str; 6] =
    ["loss", "teacher_entropy", "kl", "feature_std", "gradient_norm", "max_parameter_gradient_norm"];

/// Figures still on the device, read back together.
#[derive(Default)]
struct Pending {
    rows: Vec<Tensor<1>>,
}

impl Pending {
    fn read(&mut self) -> Vec<[f32; FIGURES.len()]> {
        if self.rows.is_empty() {
            return Vec::new();
        }
        let values =
            Tensor::cat(std::mem::take(&mut self.rows), 0).into_data().try_to_vec::<f32>().unwrap_or_default();
        values.as_chunks().0.to_vec()
    }
}

/// A running mean of figures.
#[derive(Default, Clone)]
struct Means {
    sum: [f64; FIGURES.len()],
    max: [f64; FIGURES.len()],
    n: usize,
}

impl Means {
    fn add(&mut self, row: &[f32; FIGURES.len()]) {
        for (i, v) in row.iter().enumerate() {
            self.sum[i] += f64::from(*v);
            self.max[i] = self.max[i].max(f64::from(*v));
        }
        self.n += 1;
    }
    fn mean(&self, i: usize) -> f64 {
        self.sum[i] / self.n.max(1) as f64
    }
}

impl Trainer {
    /// Builds networks, loader and schedules.
    ///
    /// # Errors
    /// When a value is out of range or the data set is smaller than a batch.
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
        let loader = Loader::new(
            source.clone(),
            config.view_plan(),
            LoaderConfig {
                batch_size: config.batch_size / config.accumulate,
                seed: config.seed,
                threads: config.loader.threads,
                prefetch_batches: config.loader.prefetch,
                max_bad_fraction: config.loader.max_bad_fraction,
                ..LoaderConfig::default()
            },
        )?;
        let vit = config.arch.config(config.views.global_size_px, config.drop_path);
        let method = Dino::new(&config.dino, &vit, config.seed, device)?;
        // Whole optimizer steps only, as the reference drops the last incomplete batch.
        let steps_per_epoch = images / config.batch_size;
        let total = config.epochs * steps_per_epoch;
        let schedules = Schedules {
            lr: Cosine::new(config.peak_lr(), config.optim.min_lr, total)
                .with_warmup(config.optim.warmup_epochs * steps_per_epoch),
            weight_decay: Cosine::new(config.optim.weight_decay, config.optim.weight_decay_end, total),
            momentum: Cosine::new(config.dino.teacher_momentum, 1.0, total),
        };
        Ok(Self {
            labelled: Labelled::of(source, test, &config.eval),
            untrained: Some(method.teacher().backbone.clone()),
            config: config.clone(),
            device: device.clone(),
            method,
            optimizer: AdamWState::new(AdamW::default()),
            loader,
            schedules,
            images,
        })
    }

    /// The method, to look at its networks.
    pub fn method(&self) -> &Dino {
        &self.method
    }

    /// Optimizer steps per epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.images / self.config.batch_size
    }

    /// k-NN accuracy of the pixels and of the network before training. It comes with the first evaluation rather than
    /// before the first step, so that training starts at once however large the data set is.
    fn baseline(&mut self) -> Result<Option<Event>, TrainError> {
        let (Some(labelled), Some(untrained)) = (&self.labelled, self.untrained.take()) else { return Ok(None) };
        let raw_pixels = knn_of_pixels(labelled, &self.config, &self.device)?;
        let untrained = knn_of(&untrained, labelled, &self.config, &self.device)?;
        Ok(Some(Event::Baseline { raw_pixels, untrained }))
    }

    fn knn(&self) -> Result<Option<crate::KnnFigures>, TrainError> {
        let Some(labelled) = &self.labelled else { return Ok(None) };
        Ok(Some(knn_of(&self.method.teacher().backbone, labelled, &self.config, &self.device)?))
    }

    /// Trains all epochs, telling `listen` what happens, with checkpoints in `dir` where there is one.
    ///
    /// # Errors
    /// Unreadable data beyond the limit, a loss that is not finite, files that cannot be written.
    pub fn run(
        &mut self,
        dir: Option<&RunDir>,
        listen: &mut dyn FnMut(&Event) -> Result<(), TrainError>,
    ) -> Result<Summary, TrainError> {
        let started = Instant::now();
        let head = &self.method.net().head;
        listen(&Event::Started {
            images: self.images,
            steps_per_epoch: self.steps_per_epoch(),
            epochs: self.config.epochs,
            uniform_entropy: (self.config.dino.head.out_dim as f64).ln(),
            backbone_parameters: params::count(&self.method.net().backbone),
            head_parameters: params::count(head),
        })?;
        let mut last = None;
        for epoch in 0..self.config.epochs {
            let mut figures = self.epoch(epoch, listen)?;
            let done = epoch + 1;
            let is_last = done == self.config.epochs;
            let every = self.config.eval.every_epochs;
            if every > 0 && (done.is_multiple_of(every) || is_last) {
                if let Some(baseline) = self.baseline()? {
                    listen(&baseline)?;
                }
                figures.knn = self.knn()?;
            }
            listen(&Event::Epoch(figures.clone()))?;
            if let Some(dir) = dir
                && (is_last || done.is_multiple_of(self.config.log.checkpoint_every_epochs))
            {
                let path = dir.checkpoint_path(done);
                self.save(&path, done)?;
                dir.prune_checkpoints(self.config.log.keep_checkpoints)?;
                let file = path.strip_prefix(dir.path()).unwrap_or(&path).display().to_string();
                listen(&Event::Checkpoint { file })?;
            }
            last = Some(figures);
        }
        for bad in self.loader.bad_files() {
            listen(&Event::Warning { message: format!("skipped {}: {}", bad.name, bad.reason) })?;
        }
        let wall_s = started.elapsed().as_secs_f64();
        listen(&Event::Finished { wall_s })?;
        Ok(Summary { last, wall_s })
    }

    /// Writes everything the run holds.
    ///
    /// # Errors
    /// When values cannot be read from the device or the file not written.
    pub fn save(&self, path: &std::path::Path, epochs_done: usize) -> Result<(), TrainError> {
        let mut state = self.method.state()?;
        for (name, tensor) in self.optimizer.state().tensors {
            state.tensors.push((format!("optimizer.{name}"), tensor));
        }
        let checkpoint = Checkpoint {
            epochs_done,
            steps_done: epochs_done * self.steps_per_epoch(),
            arch: self.config.arch.to_string(),
            image_size_px: self.config.views.global_size_px,
            config: toml::to_string(&self.config).unwrap_or_default(),
        };
        checkpoint.save(path, state)
    }

    fn epoch(
        &mut self,
        epoch: usize,
        listen: &mut dyn FnMut(&Event) -> Result<(), TrainError>,
    ) -> Result<EpochFigures, TrainError> {
        let (wall, cpu) = (Instant::now(), cpu_seconds());
        let (steps, accumulate) = (self.steps_per_epoch(), self.config.accumulate);
        let mut batches = self.loader.epoch(epoch, 0);
        let (mut pending, mut all) = (Pending::default(), Means::default());
        let (mut since, mut since_steps) = (Instant::now(), 0);
        for step in 0..steps {
            let iteration = epoch * steps + step;
            let clock = |micro_batch| StepClock {
                epoch,
                iteration,
                micro_batch,
                momentum: self.schedules.momentum.at(iteration),
                seed: self.config.seed,
            };
            let rates = StepRates {
                lr: self.schedules.lr.at(iteration),
                weight_decay: self.schedules.weight_decay.at(iteration),
                clip: self.config.optim.clip_grad,
            };
            let clocks: Vec<StepClock> = (0..accumulate).map(clock).collect();
            let mut micro = Vec::with_capacity(accumulate);
            for _ in 0..accumulate {
                let Some(batch) = batches.next() else { break };
                micro.push(batch?);
            }
            pending.rows.push(self.step(&micro, &clocks, &rates));
            since_steps += 1;
            listen(&Event::Tick { step: iteration + 1 })?;
            if since_steps == self.config.log.every_steps || step + 1 == steps {
                let mut means = Means::default();
                for row in pending.read() {
                    if !row[0].is_finite() {
                        return Err(TrainError::NotFinite { value: row[0], step: iteration, epoch });
                    }
                    means.add(&row);
                    all.add(&row);
                }
                let seconds = since.elapsed().as_secs_f64().max(1e-9);
                listen(&Event::Step(StepFigures {
                    epoch,
                    step: iteration,
                    loss: means.mean(0),
                    teacher_entropy: means.mean(1),
                    kl: means.mean(2),
                    feature_std: means.mean(3),
                    gradient_norm: means.mean(4),
                    max_parameter_gradient_norm: means.max[5],
                    lr: rates.lr,
                    weight_decay: rates.weight_decay,
                    momentum: clocks[0].momentum,
                    images_per_second: (since_steps * self.config.batch_size) as f64 / seconds,
                }))?;
                (since, since_steps) = (Instant::now(), 0);
            }
        }
        let last = (epoch + 1) * steps - 1;
        Ok(EpochFigures {
            epoch,
            loss: all.mean(0),
            teacher_entropy: all.mean(1),
            kl: all.mean(2),
            feature_std: all.mean(3),
            max_parameter_gradient_norm: all.max[5],
            lr: self.schedules.lr.at(last),
            weight_decay: self.schedules.weight_decay.at(last),
            momentum: self.schedules.momentum.at(last),
            knn: None,
            wall_s: wall.elapsed().as_secs_f64(),
            cpu_s: cpu.and_then(|before| cpu_seconds().map(|now| now - before)),
        })
    }

    /// One optimizer step; returns [`FIGURES`], `[6]`, still on the device.
    fn step(&mut self, micro: &[ViewBatch], clocks: &[StepClock], rates: &StepRates) -> Tensor<1> {
        let mut gradients = GradientSum::default();
        let mut figures: Option<Tensor<1>> = None;
        let weight = 1.0 / micro.len() as f64;
        for (batch, clock) in micro.iter().zip(clocks) {
            let views: Vec<Tensor<4>> = batch.groups.iter().map(|g| to_tensor(g, &self.device)).collect();
            let output = self.method.loss(&views, batch.indices.len(), clock);
            let mut raw = output.loss.backward();
            gradients.add(params::take_gradients(self.method.net(), &mut raw), weight);
            let scalars = output.scalars.into_iter().map(|(_, value)| value).collect();
            let row = Tensor::cat(scalars, 0) * weight;
            figures = Some(figures.map_or(row.clone(), |sum| sum + row));
        }
        let norms = gradients
            .norms()
            .map_or_else(|| Tensor::zeros([2], &self.device), |(all, largest)| Tensor::cat(vec![all, largest], 0));
        let clock = &clocks[0];
        let (optimizer, method) = (&mut self.optimizer, &mut self.method);
        gradients.drop_where(|name| method.is_frozen(name, clock.epoch));
        method.update_net(|net| optimizer.step(net, &gradients, rates));
        method.after_step(clock);
        match figures {
            Some(figures) => Tensor::cat(vec![figures, norms], 0),
            None => Tensor::cat(vec![Tensor::zeros([4], &self.device), norms], 0),
        }
    }
}

/// Processor time of this process, seconds, where the platform tells.
fn cpu_seconds() -> Option<f64> {
    cpu_time::ProcessTime::try_now().ok().map(|t| t.as_duration().as_secs_f64())
}
