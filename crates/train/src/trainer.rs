//! The loop: step → figures → events → checkpoint → evaluation, of any [`Task`].

mod epoch;
mod ranks;
mod saving;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use burn::tensor::Device;
use ocelli_data::{BadFile, Source};
use ocelli_models::AnyBackbone;
use ocelli_world::Shared;

use crate::averages::Averages;
use crate::checkpoint::{Position, Writer};
use crate::event::{Best, RunShape};
use crate::fence::fenced;
use crate::task::{Cadence, Declared, Scores, Size, Task};
use crate::{EpochFigures, Event, Pretraining, RunConfig, RunDir, TrainError};
use epoch::EpochEnd;
pub use epoch::Measured;

/// Told what happens; an error ends the run.
pub type Listen<'a> = &'a mut dyn FnMut(&Event) -> Result<(), TrainError>;

/// A task about to be done.
pub struct Trainer<T: Task = Pretraining> {
    task: T,
    declared: Declared,
    cadence: Cadence,
    size: Size,
    position: Position,
    /// The checkpoint this process went on from or wrote last, relative to the run.
    resumed_from: Option<String>,
    stop: Arc<AtomicBool>,
    writer: Writer,
    last_saved: Instant,
    /// The skipped images that were told already, with the reasons: an evaluation finds the same ones again.
    told: HashSet<String>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Figures of the last epoch of this process.
    pub last: Option<EpochFigures>,
    /// Wall time over all parts of the run, seconds.
    pub wall_s: f64,
    /// The best accuracy, where it was measured.
    pub best: Option<Best>,
    /// Whether it was asked to stop before its end.
    pub stopped: bool,
}

impl Trainer {
    /// Pre-training of a configuration on a device.
    ///
    /// # Errors
    /// As [`Pretraining::new`].
    pub fn new(
        config: &RunConfig,
        device: &Device,
        source: &Arc<dyn Source>,
        test: Option<&Arc<dyn Source>>,
    ) -> Result<Self, TrainError> {
        Ok(Self::of(Pretraining::new(config, device, source, test)?))
    }

    /// Pre-training by several processes, of which this is one: all of them run the same.
    ///
    /// # Errors
    /// As [`Pretraining::new_in`].
    pub fn new_in(
        world: Shared,
        config: &RunConfig,
        device: &Device,
        source: &Arc<dyn Source>,
        test: Option<&Arc<dyn Source>>,
    ) -> Result<Self, TrainError> {
        Ok(Self::of(Pretraining::new_in(world, config, device, source, test)?))
    }

    /// The network one keeps, as it is now, without its head.
    ///
    /// # Errors
    /// As [`Pretraining::encoder`].
    pub fn encoder(&self) -> Result<AnyBackbone, TrainError> {
        self.task.encoder()
    }
}

impl<T: Task> Trainer<T> {
    /// The loop over a task.
    pub fn of(task: T) -> Self {
        let (declared, cadence, size) = (task.declared(), task.cadence(), task.size());
        let position = Position {
            images: size.images,
            names_crc32: task.names_crc32(),
            views: Some(task.views_on()),
            ..Position::default()
        };
        Self {
            task,
            declared,
            cadence,
            size,
            position,
            resumed_from: None,
            stop: Arc::default(),
            writer: Writer::default(),
            last_saved: Instant::now(),
            told: HashSet::new(),
        }
    }

    /// The task.
    pub fn task(&self) -> &T {
        &self.task
    }

    /// Optimizer steps per epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.size.steps_per_epoch
    }

    /// Optimizer steps done.
    pub fn steps_done(&self) -> usize {
        self.position.epochs_done * self.steps_per_epoch() + self.position.step_in_epoch
    }

    /// Set it to have the run finish its step, save and return.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// Trains to the last epoch, or until told to stop, telling `listen` what happens, with checkpoints in `dir` where
    /// there is one. Of several processes the first alone has a `dir`; when one is told to stop, all do after the same step.
    ///
    /// # Errors
    /// Unreadable data beyond the limit, collapse, figures that are not finite, files that cannot be written.
    pub fn run(&mut self, dir: Option<&RunDir>, listen: Listen<'_>) -> Result<Summary, TrainError> {
        let done = fenced(|| self.run_epochs(dir, listen));
        // A checkpoint being written is part of the run, however it ends.
        let written = self.finish_writing(listen);
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

    /// What is trained, in numbers, and what its figures mean.
    pub fn shape(&self) -> RunShape {
        RunShape {
            images: self.size.images,
            steps_per_epoch: self.size.steps_per_epoch,
            epochs: self.cadence.epochs,
            backbone_parameters: self.size.backbone_parameters,
            head_parameters: self.size.head_parameters,
            declared: self.declared.clone(),
        }
    }

    fn run_epochs(&mut self, dir: Option<&RunDir>, listen: Listen<'_>) -> Result<Summary, TrainError> {
        let (started, before) = (Instant::now(), self.position.wall_s);
        let shape = self.shape();
        self.last_saved = Instant::now();
        match self.resumed_from.clone() {
            None => {
                let warnings = shape.declared.warnings.clone();
                listen(&Event::Started(shape))?;
                warnings.into_iter().try_for_each(|message| listen(&Event::Warning { message }))?;
            }
            Some(checkpoint) => listen(&Event::Resumed { step: self.steps_done(), checkpoint, shape })?,
        }
        if self.steps_done() == 0 {
            self.draw(dir, 0, listen)?;
        }
        let mut last = None;
        while self.position.epochs_done < self.cadence.epochs {
            let figures = match self.epoch(dir, listen)? {
                EpochEnd::Done(figures) => figures,
                EpochEnd::Stopped => {
                    self.position.wall_s = before + started.elapsed().as_secs_f64();
                    return self.stopped(dir, last, listen);
                }
            };
            self.position.wall_s = before + started.elapsed().as_secs_f64();
            self.align(listen)?;
            let done = self.position.epochs_done + 1;
            let is_last = done == self.cadence.epochs;
            let stop = self.agreed(false).stop && !is_last;
            let every = self.cadence.evaluate_every;
            let evaluates = every > 0 && (done.is_multiple_of(every) || is_last);
            // The checkpoint comes first: whatever becomes of the evaluation, the epoch is kept. A run that goes on from it
            // evaluates it then.
            if is_last || stop || evaluates || done.is_multiple_of(self.cadence.log.checkpoint_every_epochs) {
                self.save(dir, listen)?;
            }
            if stop {
                // What is left of the epoch is told when the run goes on.
                return self.stopped(None, last, listen);
            }
            let figures = if evaluates { self.evaluated(figures, dir, listen)? } else { figures };
            if is_last || every == 0 || done.is_multiple_of(every) {
                self.draw(dir, done, listen)?;
            }
            listen(&Event::Epoch(figures.clone()))?;
            self.next_epoch(done);
            last = Some(figures);
        }
        self.share_bad()?;
        self.tell_bad(self.task.bad().into_values().collect(), listen)?;
        // A run is finished when its last checkpoint is.
        let asked = Instant::now();
        self.finish_writing(listen)?;
        self.position.waited_s += asked.elapsed().as_secs_f64();
        let (wall_s, best) = (before + started.elapsed().as_secs_f64(), self.position.best.clone());
        listen(&Event::Finished { wall_s, waited_s: self.position.waited_s, best: best.clone() })?;
        Ok(Summary { last, wall_s, best, stopped: false })
    }

    /// An epoch's figures with what an evaluation finds. One that fails is a warning, never the end of a run.
    fn evaluated(
        &mut self,
        figures: EpochFigures,
        dir: Option<&RunDir>,
        listen: Listen<'_>,
    ) -> Result<EpochFigures, TrainError> {
        let baseline_wanted = self.of_first(!self.position.baseline_done);
        let task = &mut self.task;
        let baseline = fenced(|| if baseline_wanted { task.baseline() } else { Ok(None) });
        // Whatever became of the baseline: the other processes are there for both.
        let scores = fenced(|| task.evaluate());
        let (baseline, scores) = match baseline.and_then(|baseline| Ok((baseline, scores?))) {
            Ok(found) => found,
            Err(error) => {
                let message = format!(
                    "the evaluation after epoch {} failed; the epoch is saved and the run goes on: {error}",
                    figures.epoch + 1
                );
                listen(&Event::Warning { message })?;
                return Ok(figures);
            }
        };
        if let Some(baseline) = baseline {
            listen(&baseline)?;
            self.position.baseline_done = true;
        }
        let Scores { knn, named, quoted, bad } = scores;
        self.tell_bad(bad, listen)?;
        if let Some((what, accuracy)) = quoted
            && self.position.best.as_ref().is_none_or(|b| accuracy > b.accuracy)
        {
            let best = Best { what, accuracy, epoch: figures.epoch };
            if let Some(dir) = dir {
                fenced(|| self.task.keep(dir.path(), &best))?;
            }
            self.position.best = Some(best);
        }
        Ok(EpochFigures { knn, scores: named, ..figures })
    }

    /// Tells which images were skipped, each once.
    fn tell_bad(&mut self, bad: Vec<BadFile>, listen: Listen<'_>) -> Result<(), TrainError> {
        for bad in bad {
            let message = format!("skipped {}: {}", bad.name, bad.reason);
            if self.told.insert(message.clone()) {
                listen(&Event::Warning { message })?;
            }
        }
        Ok(())
    }

    /// Pictures show a run; no run ends for want of them.
    fn draw(&self, dir: Option<&RunDir>, epochs_done: usize, listen: Listen<'_>) -> Result<(), TrainError> {
        let Some(dir) = dir else { return Ok(()) };
        let folder = dir.path().join("pictures");
        match fenced(|| self.task.draw(&folder, epochs_done)) {
            Ok(()) => Ok(()),
            Err(e) => listen(&Event::Warning { message: format!("pictures after {epochs_done} epochs: {e}") }),
        }
    }

    fn next_epoch(&mut self, epochs_done: usize) {
        let position = &mut self.position;
        (position.epochs_done, position.step_in_epoch) = (epochs_done, 0);
        (position.epoch_means, position.row_means) = (Averages::default(), Averages::default());
        (position.epoch_wall_s, position.epoch_cpu_s) = (0.0, 0.0);
    }
}
