//! Tasks whose steps are a method's.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Tensor;
use ocelli_data::{BadFile, Source};
use ocelli_methods::{Figure, count};
use ocelli_models::weights::StateDict;
use ocelli_world::World;
use toml::Table;

use super::Steps;
use crate::config::{self, TaskKind, ViewsOn};
use crate::event::Best;
use crate::task::{Cadence, Declared, Rates, Scores, Size, Task};
use crate::{Event, TrainError};

/// A task whose steps are a method's. What is left to it is where it starts and what it evaluates; as a [`Task`] it is the
/// loop's.
pub trait MethodTask {
    /// What it is.
    const KIND: TaskKind;
    /// Its name in events.
    const NAME: &'static str;

    /// Its steps.
    fn steps(&self) -> &Steps;

    /// Its steps, to take one.
    fn steps_mut(&mut self) -> &mut Steps;

    /// What an evaluation tells beside k-NN, per cent.
    fn scores(&self) -> Vec<Figure> {
        Vec::new()
    }

    /// What makes no sense together in settings and data, beside what [`crate::RunConfig::warnings`] finds.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// What its checkpoints say beside architecture and size.
    fn describes(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// As [`Task::init`].
    ///
    /// # Errors
    /// As there.
    fn init(&mut self) -> Result<Option<String>, TrainError> {
        Ok(self.steps_mut().start_from_weights()?.map(|(_, words)| words))
    }

    /// As [`Task::baseline`].
    ///
    /// # Errors
    /// As there.
    fn baseline(&mut self) -> Result<Option<Event>, TrainError> {
        Ok(None)
    }

    /// As [`Task::skip_baseline`].
    fn skip_baseline(&mut self) {}

    /// As [`Task::evaluate`].
    ///
    /// # Errors
    /// As there.
    fn evaluate(&mut self) -> Result<Scores, TrainError>;

    /// As [`Task::keep`].
    ///
    /// # Errors
    /// As there.
    fn keep(&self, _folder: &Path, _best: &Best) -> Result<(), TrainError> {
        Ok(())
    }

    /// As [`Task::evaluation_bytes`].
    fn evaluation_bytes(&self) -> usize;

    /// As [`Task::draw`].
    ///
    /// # Errors
    /// As there.
    fn draw(&self, folder: &Path, epochs_done: usize) -> Result<(), TrainError>;
}

impl<T: MethodTask> Task for T {
    fn declared(&self) -> Declared {
        let steps = self.steps();
        let recipe = steps.config.recipe();
        Declared {
            task: T::NAME,
            title: recipe.title,
            figures: steps.method.figures().to_vec(),
            scores: self.scores(),
            levels: steps.method.levels(),
            signs: recipe.signs.to_vec(),
            notes: steps.config.notes(&steps.backbone, steps.loader.source().len()),
            warnings: [steps.config.warnings(steps.loader.source().len()), self.warnings()].concat(),
            views_about: recipe.views_about,
        }
    }

    fn cadence(&self) -> Cadence {
        let config = &self.steps().config;
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
        let steps = self.steps();
        let (backbone_parameters, head_parameters) = count(steps.method.network());
        Size {
            images: steps.loader.source().len(),
            steps_per_epoch: steps.steps_per_epoch(),
            backbone_parameters,
            head_parameters,
            held_values: steps.method.held_values(),
            optimizer_values: steps.optimizer.memory(),
        }
    }

    fn world(&self) -> &dyn World {
        self.steps().world.as_ref()
    }

    fn config(&self) -> Result<Table, TrainError> {
        Ok(config::table_of(&self.steps().config)?)
    }

    fn stored_config(&self, text: &str) -> Result<Table, TrainError> {
        let stored = config::stored(text, "the checkpoint's configuration")?;
        stored.check_task(T::KIND)?;
        Ok(config::table_of(&stored)?)
    }

    fn describes(&self) -> Vec<(&'static str, String)> {
        let config = &self.steps().config;
        let own = MethodTask::describes(self);
        let all =
            vec![("arch", config.arch.to_string()), ("image_size_px", config.views.global_size_px.to_string())];
        all.into_iter().chain(own).collect()
    }

    fn names_crc32(&self) -> u32 {
        names_crc32(self.steps().loader.source().as_ref())
    }

    fn views_on(&self) -> ViewsOn {
        if self.steps().loader.config().render { ViewsOn::Cpu } else { ViewsOn::Gpu }
    }

    fn begin_epoch(&mut self, epoch: usize, step_in_epoch: usize) {
        self.steps_mut().begin_epoch(epoch, step_in_epoch);
    }

    fn look_through(&mut self, at_most: usize) -> Result<(), TrainError> {
        self.steps_mut().look_through(at_most)
    }

    fn step(&mut self, iteration: usize) -> Result<Tensor<1>, TrainError> {
        self.steps_mut().step(iteration)
    }

    fn rates(&self, iteration: usize) -> Rates {
        self.steps().rates(iteration)
    }

    fn unsettled_steps(&self) -> usize {
        let steps = self.steps();
        steps.method.unsettled_steps(steps.steps_per_epoch(), steps.config.batch_size)
    }

    fn typical_epoch(&self) -> usize {
        self.steps().method.frozen_epochs()
    }

    fn state(&self) -> Result<StateDict, TrainError> {
        self.steps().state()
    }

    fn load(&mut self, state: &StateDict) -> Result<(), TrainError> {
        self.steps_mut().load(state)
    }

    fn init(&mut self) -> Result<Option<String>, TrainError> {
        MethodTask::init(self)
    }

    fn bad(&self) -> BTreeMap<usize, BadFile> {
        self.steps().loader.bad()
    }

    fn add_bad(&mut self, known: &BTreeMap<usize, BadFile>) {
        self.steps().loader.add_bad(known);
    }

    fn baseline(&mut self) -> Result<Option<Event>, TrainError> {
        MethodTask::baseline(self)
    }

    fn skip_baseline(&mut self) {
        MethodTask::skip_baseline(self);
    }

    fn evaluate(&mut self) -> Result<Scores, TrainError> {
        MethodTask::evaluate(self)
    }

    fn keep(&self, folder: &Path, best: &Best) -> Result<(), TrainError> {
        MethodTask::keep(self, folder, best)
    }

    fn evaluation_bytes(&self) -> usize {
        match self.steps().config.eval.every_epochs {
            0 => 0,
            _ => MethodTask::evaluation_bytes(self),
        }
    }

    fn draw(&self, folder: &Path, epochs_done: usize) -> Result<(), TrainError> {
        MethodTask::draw(self, folder, epochs_done)
    }
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
