//! The steps of an epoch.

use std::time::Instant;

use super::ranks::Agreed;
use super::{Listen, Trainer};
use crate::averages::{Averages, Unread};
use crate::event::Figures;
use crate::fence::fenced;
use crate::task::{Rates, Task};
use crate::watch::OnCollapse;
use crate::{EpochFigures, Event, RunDir, StepFigures, TrainError};

/// What a step takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The first step, seconds: with everything that is done once.
    pub first_s: f64,
    /// Mean of the others, seconds.
    pub step_s: f64,
    /// Each of those, seconds.
    pub times_s: Vec<f64>,
    /// Mean of what they took of the processor, all threads together, seconds; 0 where the system does not tell.
    pub cpu_s: f64,
}

/// Measuring steps ends after this.
const LONG_ENOUGH_S: f64 = 15.0;

/// How an epoch ended.
pub(super) enum EpochEnd {
    Done(EpochFigures),
    Stopped,
}

impl<T: Task> Trainer<T> {
    /// Does up to `steps` optimizer steps after a first one, fewer when they take long, and throws the result away: what a
    /// step takes, in time and, while this lives, in memory. The run itself cannot be made with this trainer any more.
    ///
    /// # Errors
    /// As [`Trainer::run`].
    pub fn measure(&mut self, steps: usize) -> Result<Measured, TrainError> {
        fenced(|| {
            // With every parameter in training, as it is in most of the run.
            self.task.begin_epoch(self.task.typical_epoch(), 0);
            self.task.look_through(1)?;
            let (mut times, mut cpu): (Vec<f64>, f64) = (Vec::new(), 0.0);
            for iteration in 0..(steps + 1).min(self.steps_per_epoch()) {
                if iteration > 1 && times.iter().sum::<f64>() > LONG_ENOUGH_S {
                    break;
                }
                let (started, cpu_before) = (Instant::now(), cpu_seconds());
                let mut unread = Unread::default();
                unread.push(self.task.step(iteration)?);
                unread.read()?;
                times.push(started.elapsed().as_secs_f64());
                if iteration > 0 {
                    cpu += cpu_before.and_then(|before| Some(cpu_seconds()? - before)).unwrap_or_default();
                }
            }
            let first_s = times.first().copied().unwrap_or_default();
            let rest = if times.len() > 1 { times.split_off(1) } else { times };
            Ok(Measured {
                first_s,
                step_s: rest.iter().sum::<f64>() / rest.len().max(1) as f64,
                cpu_s: cpu / rest.len().max(1) as f64,
                times_s: rest,
            })
        })
    }

    /// Trains what is left of the epoch.
    pub(super) fn epoch(&mut self, dir: Option<&RunDir>, listen: Listen<'_>) -> Result<EpochEnd, TrainError> {
        let epoch = self.position.epochs_done;
        let (wall, cpu) = (Instant::now(), cpu_seconds());
        let (wall_before, cpu_before) = (self.position.epoch_wall_s, self.position.epoch_cpu_s);
        let steps = self.steps_per_epoch();
        if self.position.step_in_epoch < steps {
            self.task.begin_epoch(epoch, self.position.step_in_epoch);
            self.task.look_through(usize::MAX)?;
        }
        let mut unread = Unread::default();
        let mut since = (Instant::now(), self.steps_done());
        while self.position.step_in_epoch < steps {
            let iteration = self.steps_done();
            unread.push(self.task.step(iteration)?);
            self.position.step_in_epoch += 1;
            listen(&Event::Tick { step: iteration + 1 })?;
            self.poll_writing(listen)?;

            let waiting = iteration + 1 - since.1;
            let Agreed { stop, save } = self.agreed(dir.is_some() && self.is_save_due());
            let is_end = self.position.step_in_epoch == steps;
            let row_due = self.position.row_means.len() + waiting >= self.cadence.log.every_steps || is_end;
            if stop || save || row_due {
                let seconds = since.0.elapsed().as_secs_f64().max(1e-9);
                self.read_figures(&mut unread)?;
                if row_due {
                    let images_per_second = (waiting * self.cadence.batch_size) as f64 / seconds;
                    self.row(images_per_second, listen)?;
                }
                since = (Instant::now(), iteration + 1);
            }
            self.position.epoch_wall_s = wall_before + wall.elapsed().as_secs_f64();
            let spent = cpu.and_then(|before| cpu_seconds().map(|now| now - before));
            self.position.epoch_cpu_s = cpu_before + spent.unwrap_or_default();
            // A whole epoch is saved, evaluated and told as such.
            if stop && !is_end {
                return Ok(EpochEnd::Stopped);
            }
            if save && !is_end {
                self.save(dir, listen)?;
            }
        }
        let (all, rates) = (&self.position.epoch_means, self.task.rates((epoch + 1) * steps - 1));
        let figures = self.named(all);
        let seen = self.declared.signs.iter().filter(|s| s.is_seen(&figures, &self.declared.levels));
        Ok(EpochEnd::Done(EpochFigures {
            epoch,
            signs: seen.map(|s| s.name).collect(),
            figures,
            scores: Figures::default(),
            max_parameter_gradient_norm: all.max(self.declared.figures.len() + 1),
            lr: rates.lr,
            weight_decay: rates.weight_decay,
            momentum: rates.momentum,
            knn: None,
            wall_s: self.position.epoch_wall_s,
            cpu_s: cpu.map(|_| self.position.epoch_cpu_s),
            memory_bytes: crate::memory::host_peak(),
        }))
    }

    /// Means by the figures' names.
    fn named(&self, means: &Averages) -> Figures {
        self.declared.figures.iter().enumerate().map(|(i, f)| (f.name, means.mean(i))).collect()
    }

    /// Waits for the device and adds up what the steps since the last time gave.
    fn read_figures(&mut self, unread: &mut Unread) -> Result<(), TrainError> {
        let rows = unread.read()?;
        let first = self.steps_done() - rows.len();
        let norm = self.declared.figures.len();
        for (i, row) in rows.iter().enumerate() {
            for (what, value) in [("the loss", row.first()), ("the gradient's norm", row.get(norm))] {
                if let Some(value) = value.copied().filter(|v| !v.is_finite()) {
                    return Err(TrainError::NotFinite { what, value, step: first + i + 1 });
                }
            }
            self.position.row_means.add(row);
            self.position.epoch_means.add(row);
        }
        Ok(())
    }

    /// Tells the figures since the last row, and looks at them for signs of collapse.
    fn row(&mut self, images_per_second: f64, listen: Listen<'_>) -> Result<(), TrainError> {
        let (means, norm) = (std::mem::take(&mut self.position.row_means), self.declared.figures.len());
        let step = self.steps_done() - 1;
        let Rates { lr, weight_decay, momentum } = self.task.rates(step);
        let figures = StepFigures {
            epoch: self.position.epochs_done,
            step,
            figures: self.named(&means),
            gradient_norm: means.mean(norm),
            max_parameter_gradient_norm: means.max(norm + 1),
            lr,
            weight_decay,
            momentum,
            images_per_second,
        };
        let (watch, per_epoch) = (&self.cadence.watch, self.steps_per_epoch());
        let from = (self.cadence.warmup_epochs * per_epoch).max(self.task.unsettled_steps());
        let patience = (watch.patience_epochs * per_epoch as f64).ceil() as usize;
        let on_collapse = watch.collapse;
        let (signs, levels) = (&self.declared.signs, &self.declared.levels);
        let form = if step < from {
            None
        } else {
            signs.iter().find(|s| s.is_seen(&figures.figures, levels)).map(|s| s.name)
        };
        let collapse = self.position.watch.see(step, form, patience);
        listen(&Event::Step(figures))?;
        let sign = collapse.and_then(|name| self.declared.signs.iter().find(|s| s.name == name));
        let Some(sign) = sign.copied() else { return Ok(()) };
        let error = TrainError::Collapsed { sign, since: self.position.watch.healthy_until().unwrap_or_default() };
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
