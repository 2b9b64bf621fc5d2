//! The steps of an epoch.

use std::sync::atomic::Ordering;
use std::time::Instant;

use burn::tensor::Tensor;
use ocelli_data::{EpochIter, ViewBatch};
use ocelli_methods::{Method, StepClock};
use ocelli_models::params;

use super::{Listen, Trainer};
use crate::features::to_tensor;
use crate::fence::fenced;
use crate::means::Pending;
use crate::watch::OnCollapse;
use crate::{EpochFigures, Event, GradientSum, RunDir, StepFigures, StepRates, TrainError};

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
    pub(super) fn uniform_entropy(&self) -> f64 {
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
        method.update_with_follower(clock, |net, follower| optimizer.step_with(net, follower, gradients, rates));
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
