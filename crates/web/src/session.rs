//! Training in the tab: DINO, step by step, with the native program's method and optimizer.

use std::collections::BTreeMap;
use std::rc::Rc;

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_data::{DinoViews, Image, Rng, SceneConfig, SceneSource, Scratch, ViewPlan};
use ocelli_methods::optim::{OptimConfig, Optimizer, StepRates};
use ocelli_methods::schedule::Cosine;
use ocelli_methods::{Batch, CONSTANT_FEATURES, Dino, DinoConfig, Method as _, StepClock, train_step};
use ocelli_models::weights::preprocessing::{EvalSize, Preprocessing, Statistics, Told};
use ocelli_models::weights::{StateDict, in_file_layout, read_safetensors, write_safetensors};
use ocelli_models::{Arch, VitConfig, params};
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;

use crate::model::Network;
use crate::picture::from_rgba;
use crate::start::Start;
use crate::traced::read;
use crate::{Engine, TracedPicture, WebError};

const ORDER_STREAM: u64 = 0x4f52_4445;
/// A pass before the first step has an order and views of its own.
const PASS_STREAM: u64 = 0x5041_5353;

/// A run in a tab. The names are those of the native configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionConfig {
    arch: Arch,
    dino: DinoConfig,
    views: DinoViews,
    epochs: usize,
    steps_per_epoch: usize,
    batch_size: usize,
    seed: u64,
    drop_path: f64,
    /// Peak learning rate, as it is.
    lr: f64,
    min_lr: f64,
    warmup_epochs: usize,
    weight_decay: f64,
    weight_decay_end: f64,
    clip_grad: f64,
}

impl Default for SessionConfig {
    /// Small enough for a laptop's browser: a few million values, pictures of 64 px.
    fn default() -> Self {
        let mut dino = DinoConfig { teacher_momentum: 0.99, freeze_last_layer_epochs: 1, ..DinoConfig::default() };
        (dino.head.out_dim, dino.head.hidden_dim, dino.head.bottleneck_dim) = (1024, 512, 128);
        let views = DinoViews {
            global_size_px: 64,
            local_size_px: 32,
            local_crops: 4,
            blur_sigma: Some([0.1, 1.0]),
            ..DinoViews::default()
        };
        Self {
            arch: Arch { dim: 128, depth: 4, heads: 2, patch_size_px: 8, registers: 0 },
            dino,
            views,
            epochs: 20,
            steps_per_epoch: 50,
            batch_size: 16,
            seed: 0,
            drop_path: 0.0,
            lr: 5e-4,
            min_lr: 1e-6,
            warmup_epochs: 2,
            weight_decay: 0.04,
            weight_decay_end: 0.4,
            clip_grad: 3.0,
        }
    }
}

impl SessionConfig {
    fn check(&self) -> Result<(), WebError> {
        let within =
            |what: &'static str, value: usize, low: usize, high: usize| match (low..=high).contains(&value) {
                true => Ok(()),
                false => Err(WebError::argument(what, format!("{low} to {high}"), value)),
            };
        let patch = self.arch.patch_size_px;
        within("epochs", self.epochs, 1, 100_000)?;
        within("steps_per_epoch", self.steps_per_epoch, 1, 100_000)?;
        within("batch_size", self.batch_size, 1, 1024)?;
        within("views.global_size_px", self.views.global_size_px as usize, patch, 512)?;
        within("views.local_size_px", self.views.local_size_px as usize, patch, 512)?;
        within("views.local_crops", self.views.local_crops, 0, 32)?;
        within("dino.head.out_dim", self.dino.head.out_dim, 2, 1 << 17)?;
        for (what, value) in [
            ("lr", self.lr),
            ("min_lr", self.min_lr),
            ("weight_decay", self.weight_decay),
            ("weight_decay_end", self.weight_decay_end),
            ("clip_grad", self.clip_grad),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(WebError::argument(what, "a number of at least 0", value));
            }
        }
        Ok(ViewPlan::dino(self.views).validate()?)
    }
}

/// A network in training with its pictures.
#[wasm_bindgen]
pub struct Session {
    config: SessionConfig,
    plan: ViewPlan,
    device: Device,
    method: Dino,
    optimizer: Optimizer,
    optim: OptimConfig,
    images: Vec<Image>,
    start: &'static str,
    step: usize,
}

#[wasm_bindgen]
impl Session {
    /// A new run; `config` is JSON, what is left out has its default. `weights` is a file to begin with, as
    /// [`Model::load`](crate::Model::load) reads them: the backbone, whose shape is taken, or of a checkpoint of DINO student,
    /// teacher, centre and moments.
    ///
    /// # Errors
    /// `argument` for a value that is unknown or out of range, `weights` for weights that cannot be used.
    #[wasm_bindgen(constructor)]
    pub fn new(
        engine: &Engine,
        config: &str,
        weights: Option<Vec<u8>>,
        heads: Option<usize>,
    ) -> Result<Session, WebError> {
        let mut config: SessionConfig = serde_json::from_str(config)
            .map_err(|e| WebError::argument("config", "a training configuration", e.to_string()))?;
        let start = weights.map(|bytes| Start::read(&bytes, heads)).transpose()?;
        if let Some(start) = &start {
            config.arch = start.arch();
            start.fit(&mut config.dino);
        }
        config.check()?;
        let vit = match &start {
            Some(start) => VitConfig { drop_path: config.drop_path, ..start.vit.clone() },
            None => config.arch.config(config.views.global_size_px as usize, config.drop_path),
        };
        let mut method = Dino::new(&config.dino, &vit, config.seed, &engine.device)?;
        let optim = OptimConfig { clip_grad: config.clip_grad, ..OptimConfig::default() };
        let mut optimizer = Optimizer::new(&optim);
        if let Some(start) = &start {
            start.load(&mut method, &mut optimizer)?;
        }
        Ok(Self {
            plan: ViewPlan::dino(config.views),
            device: engine.device.clone(),
            start: start.as_ref().map_or("nothing", Start::kind),
            optimizer,
            optim,
            images: Vec::new(),
            step: 0,
            method,
            config,
        })
    }

    /// What it began with: `nothing`, a `backbone`, or a whole `checkpoint`.
    #[wasm_bindgen(getter)]
    pub fn start(&self) -> String {
        self.start.to_owned()
    }

    /// The configuration with every default filled in, as JSON.
    pub fn config(&self) -> Result<String, WebError> {
        serde_json::to_string(&self.config).map_err(|e| WebError::argument("config", "JSON", e.to_string()))
    }

    /// Width, blocks and heads of the network.
    pub fn shape(&self) -> Vec<usize> {
        let Arch { dim, depth, heads, .. } = self.config.arch;
        vec![dim, depth, heads]
    }

    /// Starts from a checkpoint's student, teacher and centre (safetensors).
    ///
    /// # Errors
    /// `weights` when they are of another configuration; nothing is changed then.
    #[wasm_bindgen(js_name = loadState)]
    pub fn load_state(&mut self, bytes: &[u8]) -> Result<(), WebError> {
        Ok(self.method.load_state(&read_safetensors(bytes)?)?)
    }

    /// Adds a picture to train on, `[height, width, 4]` bytes.
    ///
    /// # Errors
    /// `image` when bytes and size do not fit together.
    #[wasm_bindgen(js_name = addImage)]
    pub fn add_image(&mut self, rgba: &[u8], width: u32, height: u32) -> Result<(), WebError> {
        self.images.push(from_rgba(rgba, width, height)?);
        Ok(())
    }

    /// Adds built-in scenes.
    ///
    /// # Errors
    /// `image` for none, or a size out of range.
    #[wasm_bindgen(js_name = addScenes)]
    pub fn add_scenes(&mut self, count: usize, size_px: u32) -> Result<(), WebError> {
        let source = SceneSource::new(SceneConfig { count, size_px, ..SceneConfig::default() })?;
        self.images.extend((0..count).map(|i| source.scene(i).image));
        Ok(())
    }

    /// Pictures to train on.
    #[wasm_bindgen(getter)]
    pub fn images(&self) -> usize {
        self.images.len()
    }

    /// Steps done.
    #[wasm_bindgen(getter)]
    pub fn steps(&self) -> usize {
        self.step
    }

    /// Steps of the whole run.
    #[wasm_bindgen(getter, js_name = totalSteps)]
    pub fn total_steps(&self) -> usize {
        self.config.epochs * self.config.steps_per_epoch
    }

    /// Takes one step on a batch of the pictures and returns its figures, as JSON.
    ///
    /// # Errors
    /// `argument` without pictures, `device` when reading fails or a figure is not finite.
    #[wasm_bindgen(js_name = trainStep)]
    pub async fn train_step(&mut self) -> Result<String, WebError> {
        if self.images.is_empty() {
            return Err(WebError::argument("pictures", "at least one", 0));
        }
        self.look_through();
        let batch = self.batch(self.step, self.config.seed);
        self.advance(batch).await
    }

    /// Takes one step on views made elsewhere, crop-major: `globals` `[2·batch, 3, side, side]`, `locals` likewise.
    ///
    /// # Errors
    /// `argument` for values that do not fit the configuration, `device` as `train_step`.
    #[wasm_bindgen(js_name = trainStepOn)]
    pub async fn train_step_on(
        &mut self,
        globals: Vec<f32>,
        locals: Vec<f32>,
        batch: usize,
    ) -> Result<String, WebError> {
        let mut views = Vec::new();
        for ((side, range), values) in self.plan.groups().into_iter().zip([globals, locals]) {
            let shape = [range.len() * batch, 3, side as usize, side as usize];
            if batch == 0 || values.len() != shape.iter().product::<usize>() {
                return Err(WebError::argument("views", format!("{shape:?}"), format!("{} values", values.len())));
            }
            views.push(Tensor::from_data(TensorData::new(values, shape), &self.device));
        }
        self.advance(Batch::of_views(views, batch)).await
    }

    /// A picture seen by the teacher as it is now.
    ///
    /// # Errors
    /// `image` when bytes and size do not fit together.
    pub fn look(&self, rgba: &[u8], width: u32, height: u32, long_px: u32) -> Result<TracedPicture, WebError> {
        let network = Network {
            vit: self.method.teacher().backbone.clone(),
            device: self.device.clone(),
            mean: self.plan.mean,
            std: self.plan.std,
        };
        TracedPicture::of(&Rc::new(network), rgba, width, height, long_px)
    }

    /// The teacher's backbone as a safetensors file, which the native program loads.
    ///
    /// # Errors
    /// `device` when reading fails.
    pub async fn weights(&self) -> Result<Vec<u8>, WebError> {
        // The heads cannot be told from the tensors; the native program reads them from its configuration.
        let mut metadata = BTreeMap::from([
            ("steps_done".to_owned(), self.step.to_string()),
            ("config".to_owned(), format!("arch = \"{}\"\n", self.config.arch)),
        ]);
        let statistics = Statistics { mean: self.plan.mean, std: self.plan.std };
        let side = self.config.views.global_size_px as usize;
        let pictures = Preprocessing {
            statistics: Some(Told::new(statistics, "")),
            size: Some(Told::new(EvalSize::for_side(side), "")),
        };
        pictures.write(&mut metadata);
        let rule = self.method.teacher().backbone.position_entry();
        metadata.extend(rule.map(|(key, rule)| (key.to_owned(), rule)));
        let mut state = StateDict { tensors: Vec::new(), metadata };
        for param in params::collect(&self.method.teacher().backbone) {
            let values = read(param.values.clone()).await?;
            state.tensors.push((param.name.clone(), in_file_layout(&param, values)));
        }
        Ok(write_safetensors(&state)?)
    }
}

impl Session {
    /// The pass over the pictures that a method may want before its first step: an epoch of them.
    fn look_through(&mut self) {
        if !self.method.wants_pass() {
            return;
        }
        let (per_epoch, seed) = (self.config.steps_per_epoch, self.config.seed ^ PASS_STREAM);
        for iteration in 0..per_epoch {
            let epoch = self.step / per_epoch;
            let clock = StepClock { epoch, iteration, micro_batch: 0, momentum: 0.0, seed };
            self.method.see(&self.batch(iteration, seed), &clock);
        }
        self.method.begin_epoch(self.step / per_epoch);
    }

    /// The pictures of a step with their views: which, and how they are cut, follows from the seed and the step alone.
    fn batch(&self, step: usize, seed: u64) -> Batch {
        let (batch, count) = (self.config.batch_size, self.images.len());
        let groups = self.plan.groups();
        let mut data: Vec<Vec<f32>> =
            groups.iter().map(|(side, r)| vec![0.0; r.len() * batch * 3 * (side * side) as usize]).collect();
        let mut scratch = Scratch::default();
        let mut indices = Vec::with_capacity(batch);
        for slot in 0..batch {
            // Rounds through all pictures, each in an order of its own.
            let position = step * batch + slot;
            let (round, place) = (position / count, position % count);
            let mut order: Vec<usize> = (0..count).collect();
            Rng::from_words(&[ORDER_STREAM, seed, round as u64]).shuffle(&mut order);
            let mut rng = Rng::for_sample(seed, round as u64, order[place] as u64);
            indices.push(order[place]);
            let image = &self.images[order[place]];
            let drawn = self.plan.draw_all(image, &mut rng);
            for ((side, range), data) in groups.iter().zip(&mut data) {
                let size = 3 * (side * side) as usize;
                let views = self.plan.views[range.clone()].iter().zip(&drawn[range.clone()]);
                for (i, (view, params)) in views.enumerate() {
                    let out = &mut data[(i * batch + slot) * size..][..size];
                    view.render_into(image, params, self.plan.mean, self.plan.std, &mut scratch, out);
                }
            }
        }
        let views = groups.iter().zip(data).map(|((side, range), data)| {
            let shape = [range.len() * batch, 3, *side as usize, *side as usize];
            Tensor::from_data(TensorData::new(data, shape), &self.device)
        });
        Batch { indices, ..Batch::of_views(views.collect(), batch) }
    }

    /// One step of the native trainer, and its figures.
    async fn advance(&mut self, batch: Batch) -> Result<String, WebError> {
        let (c, step) = (&self.config, self.step);
        let (per_epoch, total) = (c.steps_per_epoch, c.epochs * c.steps_per_epoch);
        if step.is_multiple_of(per_epoch) && !self.method.wants_pass() {
            self.method.begin_epoch(step / per_epoch);
        }
        let momentum = self.method.momentum(step, total);
        let clock = StepClock {
            epoch: step / per_epoch,
            iteration: step,
            micro_batch: 0,
            momentum: momentum.unwrap_or_default(),
            seed: c.seed,
        };
        let rates = StepRates {
            lr: Cosine::new(c.lr, c.min_lr, total).with_warmup(c.warmup_epochs * per_epoch).at(step),
            weight_decay: Cosine::new(c.weight_decay, c.weight_decay_end, total).at(step),
            clip: c.clip_grad,
        };
        let optimizer = (&mut self.optimizer, &self.optim);
        let row = train_step(&mut self.method, optimizer, &[batch], clock, &rates);
        self.step += 1;

        let found = read(row).await?;
        let names = self.method.figures().iter().map(|f| f.name);
        let names: Vec<&str> = names.chain(["gradient_norm", "max_parameter_gradient_norm"]).collect();
        if found.len() != names.len() {
            let (expected, found) = (names.len(), found.len());
            return Err(WebError::Device(format!("expected {expected} figures of a step, found {found}")));
        }
        if let Some((value, name)) = found.iter().zip(&names).find(|(value, _)| !value.is_finite()) {
            return Err(WebError::Device(format!(
                "{name} is {value} after {} steps; a lower lr helps",
                self.step
            )));
        }
        let mut told = serde_json::Map::new();
        let figures = names.iter().zip(&found).map(|(name, value)| (*name, f64::from(*value)));
        let levels = self.method.levels();
        let own = [
            ("step", step as f64),
            ("epoch", clock.epoch as f64),
            ("lr", rates.lr),
            ("weight_decay", rates.weight_decay),
            ("momentum", clock.momentum),
            // What the loss is where nothing is learnt.
            ("level", levels.first().map_or(0.0, |l| l.value)),
        ];
        for (name, value) in figures.chain(own) {
            told.insert(name.to_owned(), value.into());
        }
        told.insert("level_name".to_owned(), levels.first().map_or("", |l| l.name).into());
        let declared = self.method.figures();
        let printed = declared.iter().zip(&found).filter_map(|(f, value)| f.printed(f64::from(*value), &levels));
        told.insert("printed".to_owned(), printed.collect::<Vec<_>>().into());
        let values = declared.iter().zip(&found).map(|(f, value)| (f.name, f64::from(*value))).collect();
        if CONSTANT_FEATURES.is_seen(&values, &levels) {
            told.insert("sign".to_owned(), CONSTANT_FEATURES.meaning.into());
        }
        Ok(serde_json::Value::Object(told).to_string())
    }
}
