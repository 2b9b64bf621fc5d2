//! The steps of an epoch.

use std::sync::atomic::Ordering;
use std::time::Instant;

use burn::tensor::Tensor;
use ocelli_data::{EpochIter, ViewBatch};
use ocelli_methods::StepClock;

use super::{Listen, Trainer};
use crate::config::MethodKind;
use crate::event::Figures;
use crate::features::to_tensor;
use crate::fence::fenced;
use crate::learner::MicroBatch;
use crate::means::{Means, Pending};
use crate::watch::OnCollapse;
use crate::{EpochFigures, Event, RunDir, StepFigures, StepRates, TrainError, view_box};

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

/// Measuring steps ends after this.
const LONG_ENOUGH_S: f64 = 15.0;

/// How an epoch ended.
pub(super) enum EpochEnd {
    Done(EpochFigures),
    Stopped,
}

impl Trainer {
    /// Does up to `steps` optimizer steps after a first one, fewer when they take long, and throws the result away: what a
    /// step takes, in time and, while this lives, in memory. The run itself cannot be made with this trainer any more.
    ///
    /// # Errors
    /// As [`Trainer::run`].
    pub fn measure(&mut self, steps: usize) -> Result<Measured, TrainError> {
        fenced(|| {
            // With every parameter in training, as it is in most of the run.
            self.position.epochs_done = self.frozen_epochs();
            let mut batches = self.loader.epoch(0, 0);
            let mut times: Vec<f64> = Vec::new();
            for iteration in 0..(steps + 1).min(self.steps_per_epoch()) {
                if iteration > 1 && times.iter().sum::<f64>() > LONG_ENOUGH_S {
                    break;
                }
                let started = Instant::now();
                let (micro, rates) = self.next_step(&mut batches, iteration)?;
                let mut pending = Pending::default();
                pending.push(self.learner.step(&mut self.optimizer, &micro, &rates, &self.config.optim));
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

    /// Trains what is left of the epoch.
    pub(super) fn epoch(&mut self, dir: Option<&RunDir>, listen: Listen<'_>) -> Result<EpochEnd, TrainError> {
        let epoch = self.position.epochs_done;
        let (wall, cpu) = (Instant::now(), cpu_seconds());
        let (wall_before, cpu_before) = (self.position.epoch_wall_s, self.position.epoch_cpu_s);
        let (steps, accumulate) = (self.steps_per_epoch(), self.config.accumulate);
        let mut batches = self.loader.epoch(epoch, self.position.step_in_epoch * accumulate);
        let mut pending = Pending::default();
        let mut since = (Instant::now(), self.steps_done());
        while self.position.step_in_epoch < steps {
            let iteration = self.steps_done();
            let (micro, rates) = self.next_step(&mut batches, iteration)?;
            pending.push(self.learner.step(&mut self.optimizer, &micro, &rates, &self.config.optim));
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
                    self.row(&rates, self.schedules.momentum.at(iteration), images_per_second, listen)?;
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
            loss: self.mean(all, "loss"),
            feature_std: self.mean(all, "feature_std"),
            of_method: self.of_method(all),
            max_parameter_gradient_norm: all.max(self.learner.figures().len() + 1),
            lr: self.schedules.lr.at(last),
            weight_decay: self.schedules.weight_decay.at(last),
            momentum: self.schedules.momentum.at(last),
            knn: None,
            wall_s: self.position.epoch_wall_s,
            cpu_s: cpu.map(|_| self.position.epoch_cpu_s),
        }))
    }

    /// The mean of a figure.
    fn mean(&self, means: &Means, name: &str) -> f64 {
        self.learner.figures().iter().position(|n| *n == name).map(|i| means.mean(i)).unwrap_or_default()
    }

    /// The means of what only this method tells.
    fn of_method(&self, means: &Means) -> Figures {
        let named = self.learner.figures().iter().enumerate();
        let own = named.filter(|(_, name)| !["loss", "feature_std"].contains(name));
        own.map(|(i, name)| (*name, means.mean(i))).collect()
    }

    /// Epochs at the start in which not every parameter is trained.
    fn frozen_epochs(&self) -> usize {
        match self.config.method {
            MethodKind::Dino => self.config.dino.freeze_last_layer_epochs,
            MethodKind::Moco | MethodKind::DenseCl => 0,
        }
    }

    /// The micro-batches of an optimizer step and the schedules' values.
    fn next_step(
        &self,
        batches: &mut EpochIter,
        iteration: usize,
    ) -> Result<(Vec<MicroBatch>, StepRates), TrainError> {
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
        let micro = batches.take(self.config.accumulate).enumerate().map(|(i, batch)| {
            let batch = batch?;
            Ok(MicroBatch {
                views: self.views(&batch),
                images: batch.indices.len(),
                places: batch.places.iter().map(|views| views.iter().map(view_box).collect()).collect(),
                clock: clock(i),
            })
        });
        Ok((micro.collect::<Result<_, TrainError>>()?, rates))
    }

    /// The views of a batch on the device, a tensor for each size.
    fn views(&self, batch: &ViewBatch) -> Vec<Tensor<4>> {
        #[cfg(feature = "gpu")]
        if !batch.drawn.is_empty() {
            return crate::gpu_views::render_batch(batch, self.loader.plan(), &self.device);
        }
        batch.groups.iter().map(|g| to_tensor(g, &self.device)).collect()
    }

    /// Waits for the device and adds up what the steps since the last time gave.
    fn read_figures(&mut self, pending: &mut Pending) -> Result<(), TrainError> {
        let rows = pending.read()?;
        let first = self.steps_done() - rows.len();
        let norm = self.learner.figures().len();
        for (i, row) in rows.iter().enumerate() {
            for (what, value) in
                [("the loss", row[0]), ("the gradient's norm", row.get(norm).copied().unwrap_or_default())]
            {
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
        let (means, norm) = (std::mem::take(&mut self.position.row_means), self.learner.figures().len());
        let figures = StepFigures {
            epoch: self.position.epochs_done,
            step: self.steps_done() - 1,
            loss: self.mean(&means, "loss"),
            feature_std: self.mean(&means, "feature_std"),
            of_method: self.of_method(&means),
            gradient_norm: means.mean(norm),
            max_parameter_gradient_norm: means.max(norm + 1),
            lr: rates.lr,
            weight_decay: rates.weight_decay,
            momentum,
            images_per_second,
        };
        let (watch, per_epoch) = (&self.config.watch, self.steps_per_epoch());
        let from = self.config.optim.warmup_epochs.max(self.frozen_epochs()) * per_epoch;
        // A queue of random keys says nothing, and the loss rises while real ones come in.
        let from = from.max(2 * self.queue_steps());
        let patience = (watch.patience_epochs * per_epoch as f64).ceil() as usize;
        let (ln_k, on_collapse) = (self.config.uniform_entropy(), watch.collapse);
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
}

/// Processor time of this process, seconds, where the platform tells.
fn cpu_seconds() -> Option<f64> {
    cpu_time::ProcessTime::try_now().ok().map(|t| t.as_duration().as_secs_f64())
}
