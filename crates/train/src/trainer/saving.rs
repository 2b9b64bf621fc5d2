//! What a run leaves behind and goes on from.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{Listen, Summary, Trainer};
use crate::checkpoint::{Checkpoint, Position};
use crate::checkpoint_files::{Keep, prune};
use crate::config::{MethodKind, continued};
use crate::encoder::EncoderConfig;
use crate::resnet::load_resnet_into;
use crate::{Encoder, EpochFigures, Event, RunDir, TrainError, load_backbone_into};

impl Trainer {
    /// Starts from the weights that the configuration names, if it names any: the backbone of every network. Returns
    /// what was loaded, in words. ([`Trainer::resume`] does this by itself where it is needed.)
    ///
    /// # Errors
    /// When there is no such file, or it is of another network: the message lists what is missing, unexpected, and of
    /// another shape.
    pub fn init(&mut self) -> Result<Option<String>, TrainError> {
        if self.config.init_from.is_empty() {
            return Ok(None);
        }
        let path = Path::new(&self.config.init_from);
        let (encoder, words) = match self.config.encoder_config() {
            EncoderConfig::Vit(shape) => {
                let (vit, words) = load_backbone_into(path, None, &shape, &self.device)?;
                (Encoder::Vit(Box::new(vit)), words)
            }
            EncoderConfig::ResNet(shape) => {
                let (net, words) = load_resnet_into(path, &shape, &self.device)?;
                (Encoder::ResNet(Box::new(net)), words)
            }
        };
        self.learner.start_from(&encoder)?;
        self.untrained = Some(encoder);
        Ok(Some(words))
    }

    /// Goes on from the newest whole checkpoint in `dir`: networks, moments, centre or queues, schedules, data order and the rows
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
        let views = now.views;
        let changed = continued(&checkpoint.config, &self.config, [then.views, views])?;
        if let Some(change) = changed.into_iter().find(|c| !c.is_harmless) {
            return Err(differs(&change.key, change.before, change.after));
        }
        if then.baseline_done {
            self.untrained = None;
        } else {
            self.init()?;
        }
        self.learner.load(&checkpoint.state, &mut self.optimizer)?;
        self.position = Position { views, ..checkpoint.position };
        self.loader.add_bad(&self.position.bad);
        dir.rewind_metrics(self.position.metrics_bytes)?;
        self.resumed_from = Some(name);
        Ok(warnings)
    }

    /// Bytes of a checkpoint: two networks, what the optimizer remembers of everything trained, queues.
    pub fn checkpoint_bytes(&self) -> usize {
        let shape = self.shape();
        let trained = shape.backbone_parameters + shape.head_parameters;
        4 * ((2 + self.optimizer.memory()) * trained + self.queue_values())
    }

    /// Bytes of parameters, gradients, what the optimizer remembers, the network that follows, and queues.
    pub fn state_bytes(&self) -> usize {
        let shape = self.shape();
        self.checkpoint_bytes() + 4 * (shape.backbone_parameters + shape.head_parameters)
    }

    fn queue_values(&self) -> usize {
        let queue = self.config.moco.queue * self.config.moco.out_dim;
        match self.config.method {
            MethodKind::Dino => 0,
            MethodKind::Moco => queue,
            MethodKind::DenseCl => 2 * queue,
        }
    }

    /// Saves (where `dir` is given: otherwise that is done), and says that the run stopped.
    pub(super) fn stopped(
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
    pub(super) fn save(&mut self, dir: Option<&RunDir>, listen: Listen<'_>) -> Result<(), TrainError> {
        let Some(dir) = dir else { return Ok(()) };
        let asked = Instant::now();
        let mut state = self.learner.state()?;
        for (name, tensor) in self.optimizer.state()?.tensors {
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
    pub(super) fn is_save_due(&self) -> bool {
        let minutes = self.config.log.checkpoint_every_minutes;
        minutes > 0.0 && self.last_saved.elapsed() >= Duration::from_secs_f64(60.0 * minutes)
    }
}
