//! The loop: loader → method → backward → clip → optimizer → followers → events.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor};
use ocelli_data::{EpochIter, Loader, LoaderConfig, Source, ViewBatch};
use ocelli_methods::schedule::Cosine;
use ocelli_methods::{Dino, Method, StepClock};
use ocelli_models::{Vit, params};

use crate::checkpoint::{Checkpoint, Position, Writer};
use crate::event::{Best, RunShape};
use crate::features::{Labelled, knn_of, knn_of_pixels, to_tensor};
use crate::fence::fenced;
use crate::means::{Means, Pending};
use crate::run_dir::{Keep, prune};
use crate::watch::OnCollapse;
use crate::{
    AdamW, AdamWState, EpochFigures, Event, GradientSum, Pictures, RunConfig, RunDir, StepFigures, StepRates,
    TrainError, load_backbone_into,
};

/// Told what happens; an error ends the run.
pub type Listen<'a> = &'a mut dyn FnMut(&Event) -> Result<(), TrainError>;

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

/// What a step takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// The first step, seconds: with everything that is done once.
    pub first_s: f64,
    /// Mean of the others, seconds.
    pub step_s: f64,
    /// How many those were.
    pub steps: usize,
}

struct Schedules {
    lr: Cosine,
    weight_decay: Cosine,
    momentum: Cosine,
}

/// Measuring steps ends after this.
const LONG_ENOUGH_S: f64 = 15.0;

/// How an epoch ended.
enum EpochEnd {
    Done(EpochFigures),
    Stopped,
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
            pictures: Pictures::new(config, device, source, test),
            config: config.clone(),
            device: device.clone(),
            method,
            optimizer: AdamWState::new(AdamW::default()),
            schedules,
            position: Position { images, names_crc32: names_crc32(source.as_ref()), ..Position::default() },
            loader,
            resumed_from: None,
            stop: Arc::default(),
            writer: Writer::default(),
            last_saved: Instant::now(),
        })
    }

    /// The method, to look at its networks.
    pub fn method(&self) -> &Dino {
        &self.method
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

    /// Starts from the weights that the configuration names, if it names any: the backbone of student and teacher. Returns
    /// what was loaded, in words. ([`Trainer::resume`] does this by itself where it is needed.)
    ///
    /// # Errors
    /// When there is no such file, or it is of another network: the message lists what is missing, unexpected, and of
    /// another shape.
    pub fn init(&mut self) -> Result<Option<String>, TrainError> {
        if self.config.init_from.is_empty() {
            return Ok(None);
        }
        let shape = self.config.arch.config(self.config.views.global_size_px, 0.0);
        let (vit, words) = load_backbone_into(Path::new(&self.config.init_from), None, &shape, &self.device)?;
        self.method.start_from(&vit)?;
        self.untrained = Some(vit);
        Ok(Some(words))
    }

    /// Goes on from the newest whole checkpoint in `dir`: networks, moments, centre, schedules, data order and the rows
    /// of the metrics stand where they stood. Without any checkpoint the run begins anew. Returns what a person should
    /// know.
    ///
    /// # Errors
    /// When the checkpoint belongs to another data set or configuration, or the folder cannot be read.
    pub fn resume(&mut self, dir: &RunDir) -> Result<Vec<String>, TrainError> {
        let mut warnings = Vec::new();
        let Some((name, checkpoint)) = dir.newest_checkpoint(&mut warnings)? else {
            dir.rewind_metrics(0)?;
            self.init()?;
            return Ok(warnings);
        };
        let path = dir.path().join(&name);
        let differs = |what: &str, expected: String, found: String| TrainError::File {
            path: path.clone(),
            reason: format!("cannot go on with other {what}: expected {expected}, found {found}"),
        };
        let (then, now) = (&checkpoint.position, &self.position);
        if then.images != now.images {
            return Err(differs("data", format!("{} images", then.images), format!("{}", now.images)));
        }
        if then.names_crc32 != now.names_crc32 {
            return Err(differs("data", "the images of the first part".into(), "as many with other names".into()));
        }
        if then.baseline_done {
            self.untrained = None;
        } else {
            self.init()?;
        }
        self.method.load_state(&checkpoint.state)?;
        self.optimizer.load(&checkpoint.state.under("optimizer."), self.method.net());
        self.position = checkpoint.position;
        self.loader.add_bad(&self.position.bad);
        dir.rewind_metrics(self.position.metrics_bytes)?;
        self.resumed_from = Some(name);
        Ok(warnings)
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
        Ok(Some(knn_of(&self.method.teacher().backbone, labelled, &self.config, &self.device)?))
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

    /// Does up to `steps` optimizer steps after a first one, fewer when they take long, and throws the result away: what a
    /// step takes, in time and, while this lives, in memory. The run itself cannot be made with this trainer any more.
    ///
    /// # Errors
    /// As [`Trainer::run`].
    pub fn measure(&mut self, steps: usize) -> Result<Measured, TrainError> {
        fenced(|| {
            // With every parameter in training, as it is in most of the run.
            self.position.epochs_done = self.config.dino.freeze_last_layer_epochs;
            let mut batches = self.loader.epoch(0, 0);
            let mut times: Vec<f64> = Vec::new();
            for iteration in 0..(steps + 1).min(self.steps_per_epoch()) {
                if iteration > 1 && times.iter().sum::<f64>() > LONG_ENOUGH_S {
                    break;
                }
                let started = Instant::now();
                let (micro, clocks, rates) = self.next_step(&mut batches, iteration)?;
                let mut pending = Pending::default();
                pending.push(self.step(&micro, &clocks, &rates));
                pending.read()?;
                times.push(started.elapsed().as_secs_f64());
            }
            let first_s = times.first().copied().unwrap_or_default();
            let rest = if times.len() > 1 { &times[1..] } else { &times[..] };
            Ok(Measured {
                first_s,
                step_s: rest.iter().sum::<f64>() / rest.len().max(1) as f64,
                steps: rest.len(),
            })
        })
    }

    /// Bytes of a checkpoint: student, teacher, two moments of everything trained.
    pub fn checkpoint_bytes(&self) -> usize {
        let shape = self.shape();
        4 * 4 * (shape.backbone_parameters + shape.head_parameters)
    }

    /// What is trained, in numbers.
    pub fn shape(&self) -> RunShape {
        RunShape {
            images: self.position.images,
            steps_per_epoch: self.steps_per_epoch(),
            epochs: self.config.epochs,
            uniform_entropy: self.uniform_entropy(),
            backbone_parameters: params::count(&self.method.net().backbone),
            head_parameters: params::count(&self.method.net().head),
        }
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
        let teacher = &self.method.teacher().backbone;
        match views.and_then(|()| self.pictures.attention(teacher, epochs_done, &folder)) {
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

    /// Saves (where `dir` is given: otherwise that is done), and says that the run stopped.
    fn stopped(
        &mut self,
        dir: Option<&RunDir>,
        last: Option<EpochFigures>,
        listen: Listen<'_>,
    ) -> Result<Summary, TrainError> {
        if dir.is_some() {
            self.save(dir, listen)?;
        }
        self.writer.finish()?;
        let (step, checkpoint) = (self.steps_done(), self.resumed_from.clone());
        listen(&Event::Stopped { message: format!("asked to stop after {step} steps"), step, checkpoint })?;
        Ok(Summary { last, wall_s: self.position.wall_s, best: self.position.best, stopped: true })
    }

    /// Copies everything the run holds and has it written while training goes on.
    fn save(&mut self, dir: Option<&RunDir>, listen: Listen<'_>) -> Result<(), TrainError> {
        let Some(dir) = dir else { return Ok(()) };
        let asked = Instant::now();
        let mut state = self.method.state()?;
        for (name, tensor) in self.optimizer.state().tensors {
            state.tensors.push((format!("optimizer.{name}"), tensor));
        }
        self.position.bad = self.loader.bad();
        self.position.metrics_bytes = dir.metrics_bytes();
        let path = dir.checkpoint_path(self.position.epochs_done, self.position.step_in_epoch);
        let file = dir.relative(&path);
        let (config, position) = (self.config.clone(), self.position.clone());
        let checkpoint = Checkpoint { config, steps_done: self.steps_done(), position, state };
        let keep = Keep {
            newest: self.config.log.keep_checkpoints,
            every_epochs: self.config.log.keep_every_epochs,
            healthy_until: self.position.watch.healthy_until(),
            steps_per_epoch: self.steps_per_epoch(),
        };
        let (metrics, root) = (dir.metrics_file(), dir.path().to_owned());
        self.writer.start(move || {
            // The checkpoint counts on the rows before it.
            if let Some(metrics) = metrics {
                metrics.sync_data().map_err(|e| TrainError::io(&root, "sync the metrics", &e))?;
            }
            checkpoint.write(&path)?;
            prune(&root, keep)
        })?;
        self.last_saved = Instant::now();
        self.resumed_from = Some(file.clone());
        let waited_s = asked.elapsed().as_secs_f64();
        self.position.waited_s += waited_s;
        listen(&Event::Checkpoint { file, waited_s })
    }

    /// Whether a checkpoint within the epoch is due.
    fn is_save_due(&self) -> bool {
        let minutes = self.config.log.checkpoint_every_minutes;
        minutes > 0.0 && self.last_saved.elapsed() >= Duration::from_secs_f64(60.0 * minutes)
    }

    /// Trains what is left of the epoch.
    fn epoch(&mut self, dir: Option<&RunDir>, listen: Listen<'_>) -> Result<EpochEnd, TrainError> {
        let epoch = self.position.epochs_done;
        let (wall, cpu) = (Instant::now(), cpu_seconds());
        let (wall_before, cpu_before) = (self.position.epoch_wall_s, self.position.epoch_cpu_s);
        let (steps, accumulate) = (self.steps_per_epoch(), self.config.accumulate);
        let mut batches = self.loader.epoch(epoch, self.position.step_in_epoch * accumulate);
        let mut pending = Pending::default();
        let mut since = (Instant::now(), self.steps_done());
        while self.position.step_in_epoch < steps {
            let iteration = self.steps_done();
            let (micro, clocks, rates) = self.next_step(&mut batches, iteration)?;
            pending.push(self.step(&micro, &clocks, &rates));
            self.position.step_in_epoch += 1;
            listen(&Event::Tick { step: iteration + 1 })?;
            self.writer.poll()?;

            let waiting = iteration + 1 - since.1;
            let (stop, save) = (self.stop.load(Ordering::Relaxed), dir.is_some() && self.is_save_due());
            let row_due = self.position.row_means.len() + waiting >= self.config.log.every_steps
                || self.position.step_in_epoch == steps;
            if stop || save || row_due {
                let seconds = since.0.elapsed().as_secs_f64().max(1e-9);
                self.read_figures(&mut pending)?;
                if row_due {
                    let images_per_second = (waiting * self.config.batch_size) as f64 / seconds;
                    self.row(&rates, clocks[0].momentum, images_per_second, listen)?;
                }
                since = (Instant::now(), iteration + 1);
            }
            self.position.epoch_wall_s = wall_before + wall.elapsed().as_secs_f64();
            let spent = cpu.and_then(|before| cpu_seconds().map(|now| now - before));
            self.position.epoch_cpu_s = cpu_before + spent.unwrap_or_default();
            if stop {
                return Ok(EpochEnd::Stopped);
            }
            if save {
                self.save(dir, listen)?;
            }
        }
        let (all, last) = (&self.position.epoch_means, (epoch + 1) * steps - 1);
        Ok(EpochEnd::Done(EpochFigures {
            epoch,
            loss: all.mean(0),
            teacher_entropy: all.mean(1),
            kl: all.mean(2),
            feature_std: all.mean(3),
            max_parameter_gradient_norm: all.max(5),
            lr: self.schedules.lr.at(last),
            weight_decay: self.schedules.weight_decay.at(last),
            momentum: self.schedules.momentum.at(last),
            knn: None,
            wall_s: self.position.epoch_wall_s,
            cpu_s: cpu.map(|_| self.position.epoch_cpu_s),
        }))
    }

    /// The micro-batches of an optimizer step, their clocks, and the schedules' values.
    fn next_step(
        &self,
        batches: &mut EpochIter,
        iteration: usize,
    ) -> Result<(Vec<ViewBatch>, Vec<StepClock>, StepRates), TrainError> {
        let clock = |micro_batch| StepClock {
            epoch: self.position.epochs_done,
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
        let clocks = (0..self.config.accumulate).map(clock).collect();
        let micro = batches.take(self.config.accumulate).collect::<Result<_, _>>()?;
        Ok((micro, clocks, rates))
    }

    /// Waits for the device and adds up what the steps since the last time gave.
    fn read_figures(&mut self, pending: &mut Pending) -> Result<(), TrainError> {
        let rows = pending.read()?;
        let first = self.steps_done() - rows.len();
        for (i, row) in rows.iter().enumerate() {
            for (what, value) in [("the loss", row[0]), ("the gradient's norm", row[4])] {
                if !value.is_finite() {
                    return Err(TrainError::NotFinite { what, value, step: first + i + 1 });
                }
            }
            self.position.row_means.add(row);
            self.position.epoch_means.add(row);
        }
        Ok(())
    }

    /// Tells the figures since the last row, and looks at them for collapse.
    fn row(
        &mut self,
        rates: &StepRates,
        momentum: f64,
        images_per_second: f64,
        listen: Listen<'_>,
    ) -> Result<(), TrainError> {
        let means = std::mem::take(&mut self.position.row_means);
        let figures = StepFigures {
            epoch: self.position.epochs_done,
            step: self.steps_done() - 1,
            loss: means.mean(0),
            teacher_entropy: means.mean(1),
            kl: means.mean(2),
            feature_std: means.mean(3),
            gradient_norm: means.mean(4),
            max_parameter_gradient_norm: means.max(5),
            lr: rates.lr,
            weight_decay: rates.weight_decay,
            momentum,
            images_per_second,
        };
        let (watch, per_epoch) = (&self.config.watch, self.steps_per_epoch());
        let from = self.config.optim.warmup_epochs.max(self.config.dino.freeze_last_layer_epochs) * per_epoch;
        let patience = (watch.patience_epochs * per_epoch as f64).ceil() as usize;
        let (ln_k, on_collapse) = (self.uniform_entropy(), watch.collapse);
        let collapse = self.position.watch.see(&figures, ln_k, from, patience);
        listen(&Event::Step(figures))?;
        let Some(form) = collapse else { return Ok(()) };
        let error = TrainError::Collapsed { form, since: self.position.watch.healthy_until().unwrap_or_default() };
        match on_collapse {
            OnCollapse::Stop => Err(error),
            OnCollapse::Warn if self.position.watch.tell() => {
                listen(&Event::Warning { message: error.to_string() })
            }
            OnCollapse::Warn | OnCollapse::Off => Ok(()),
        }
    }

    /// ln K.
    fn uniform_entropy(&self) -> f64 {
        (self.config.dino.head.out_dim as f64).ln()
    }

    /// One optimizer step; returns its figures, `[FIGURES]`, still on the device.
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

/// CRC-32 of the names of all images, to know the data set again.
fn names_crc32(source: &dyn Source) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for i in 0..source.len() {
        hasher.update(source.name(i).as_bytes());
        hasher.update(b"\n");
    }
    hasher.finalize()
}

/// Processor time of this process, seconds, where the platform tells.
fn cpu_seconds() -> Option<f64> {
    cpu_time::ProcessTime::try_now().ok().map(|t| t.as_duration().as_secs_f64())
}
