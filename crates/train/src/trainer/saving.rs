//! What a run leaves behind and goes on from.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{Listen, Summary, Trainer};
use crate::checkpoint::{Checkpoint, Position, Written};
use crate::checkpoint_files::{Keep, prune};
use crate::config::continued_of;
use crate::task::Task;
use crate::{EpochFigures, Event, RunDir, TrainError};

impl<T: Task> Trainer<T> {
    /// Starts from the weights that the configuration names, if it names any: the backbone of every network. Returns
    /// what was loaded, in words. ([`Trainer::resume`] does this by itself where it is needed.)
    ///
    /// # Errors
    /// When there is no such file, or it is of another network: the message lists what is missing, unexpected, and of
    /// another shape.
    pub fn init(&mut self) -> Result<Option<String>, TrainError> {
        self.task.init()
    }

    /// Goes on from the newest whole checkpoint in `dir`: networks, moments, centre or queues, schedules, data order and the rows
    /// of the metrics stand where they stood. Without any checkpoint the run begins anew. Returns what a person should
    /// know.
    ///
    /// # Errors
    /// When the checkpoint belongs to another data set or configuration, or the folder cannot be read.
    pub fn resume(&mut self, dir: &RunDir) -> Result<Vec<String>, TrainError> {
        let mut warnings = Vec::new();
        let newest = dir.newest_checkpoint(&mut warnings)?;
        // The others take the same, see `follow`.
        self.task.world().broadcast(&mut newest.iter().flat_map(|(name, _)| name.bytes()).collect());
        let Some((name, checkpoint)) = newest else {
            dir.rewind_metrics(0)?;
            self.init()?;
            return Ok(warnings);
        };
        self.go_on(&dir.path().join(&name), checkpoint)?;
        dir.rewind_metrics(self.position.metrics_bytes)?;
        self.resumed_from = Some(name);
        Ok(warnings)
    }

    /// Stands where a checkpoint of the file `path` stood.
    pub(super) fn go_on(&mut self, path: &Path, checkpoint: Checkpoint) -> Result<(), TrainError> {
        let differs = |what: &str, expected: String, found: String| TrainError::File {
            path: path.to_owned(),
            reason: format!("cannot go on with other {what}: expected {expected}, found {found}"),
        };
        let (then, now) = (&checkpoint.position, &self.position);
        if then.images != now.images {
            return Err(differs("data", format!("{} images", then.images), format!("{}", now.images)));
        }
        if then.names_crc32 != now.names_crc32 {
            return Err(differs("data", "the images of the first part".into(), "as many with other names".into()));
        }
        let views = now.views;
        let (before, after) = (self.task.stored_config(&checkpoint.config)?, self.task.config()?);
        let changed = continued_of(&before, &after, [then.views, views]);
        if let Some(change) = changed.into_iter().find(|c| !c.is_harmless) {
            return Err(differs(&change.key, change.before, change.after));
        }
        if then.baseline_done {
            self.task.skip_baseline();
        } else {
            self.init()?;
        }
        self.task.load(&checkpoint.state)?;
        self.position = Position { views, ..checkpoint.position };
        self.task.add_bad(&self.position.bad);
        Ok(())
    }

    /// Bytes of a checkpoint: the trained network, what the optimizer remembers of it, and what is held between steps.
    pub fn checkpoint_bytes(&self) -> usize {
        let size = &self.size;
        let trained = size.backbone_parameters + size.head_parameters;
        4 * ((1 + size.optimizer_values) * trained + size.held_values)
    }

    /// Bytes of a checkpoint's contents and the gradients.
    pub fn state_bytes(&self) -> usize {
        self.checkpoint_bytes() + 4 * (self.size.backbone_parameters + self.size.head_parameters)
    }

    /// Bytes an evaluation takes beside that, at most.
    pub fn evaluation_bytes(&self) -> usize {
        self.task.evaluation_bytes()
    }

    /// Saves (where `dir` is given: otherwise that is done), and says that the run stopped.
    pub(super) fn stopped(
        &mut self,
        dir: Option<&RunDir>,
        last: Option<EpochFigures>,
        listen: Listen<'_>,
    ) -> Result<Summary, TrainError> {
        self.save(dir, listen)?;
        self.finish_writing(listen)?;
        let (step, checkpoint) = (self.steps_done(), self.resumed_from.clone());
        listen(&Event::Stopped { message: format!("asked to stop after {step} steps"), step, checkpoint })?;
        let (wall_s, best) = (self.position.wall_s, self.position.best.clone());
        Ok(Summary { last, wall_s, best, stopped: true })
    }

    /// Copies everything the run holds and has it written while training goes on. The event is sent when the file is there.
    /// All processes save at the same time: the first, which has `dir`, writes what all of them know.
    pub(super) fn save(&mut self, dir: Option<&RunDir>, listen: Listen<'_>) -> Result<(), TrainError> {
        self.share_bad()?;
        let Some(dir) = dir else { return Ok(()) };
        let asked = Instant::now();
        let state = self.task.state()?;
        self.position.bad = self.task.bad();
        self.position.metrics_bytes = dir.metrics_bytes();
        // An epoch that is trained but not yet evaluated counts as done to whoever looks at the folder.
        let (mut epochs, mut step) = (self.position.epochs_done, self.position.step_in_epoch);
        if step == self.steps_per_epoch() {
            (epochs, step) = (epochs + 1, 0);
        }
        let path = dir.checkpoint_path(epochs, step);
        let file = dir.relative(&path);
        let config = self.task.config()?.to_string();
        let checkpoint = Checkpoint {
            config,
            describes: self.task.describes(),
            epochs_done: epochs,
            steps_done: self.steps_done(),
            position: self.position.clone(),
            state,
        };
        let keep = Keep {
            newest: self.cadence.log.keep_checkpoints,
            every_epochs: self.cadence.log.keep_every_epochs,
            healthy_until: self.position.watch.healthy_until(),
            steps_per_epoch: self.steps_per_epoch(),
        };
        let (metrics, root) = (dir.metrics_file(), dir.path().to_owned());
        self.finish_writing(listen)?;
        let waited_s = asked.elapsed().as_secs_f64();
        self.writer.start(Written { file: file.clone(), waited_s }, move || {
            // The checkpoint counts on the rows before it.
            if let Some(metrics) = metrics {
                metrics.sync_data().map_err(|e| TrainError::io(&root, "sync the metrics", &e))?;
            }
            checkpoint.write(&path)?;
            prune(&root, keep)
        })?;
        self.last_saved = Instant::now();
        self.resumed_from = Some(file);
        self.position.waited_s += waited_s;
        Ok(())
    }

    /// Waits for a checkpoint that is being written, and tells it.
    pub(super) fn finish_writing(&mut self, listen: Listen<'_>) -> Result<(), TrainError> {
        let written = self.writer.finish()?;
        tell(written, listen)
    }

    /// Tells a checkpoint that has been written, without waiting.
    pub(super) fn poll_writing(&mut self, listen: Listen<'_>) -> Result<(), TrainError> {
        let written = self.writer.poll()?;
        tell(written, listen)
    }

    /// Whether a checkpoint within the epoch is due.
    pub(super) fn is_save_due(&self) -> bool {
        let minutes = self.cadence.log.checkpoint_every_minutes;
        minutes > 0.0 && self.last_saved.elapsed() >= Duration::from_secs_f64(60.0 * minutes)
    }
}

fn tell(written: Option<Written>, listen: Listen<'_>) -> Result<(), TrainError> {
    match written {
        Some(Written { file, waited_s }) => listen(&Event::Checkpoint { file, waited_s }),
        None => Ok(()),
    }
}
