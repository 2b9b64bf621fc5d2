//! Training in the tab, step by step, with the native program's methods and optimizer.

use std::collections::BTreeMap;
use std::rc::Rc;

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_data::{Image, Rng, SceneConfig, SceneSource, Scratch, ViewPlan};
use ocelli_methods::optim::{OptimConfig, Optimizer, StepRates};
use ocelli_methods::schedule::Cosine;
use ocelli_methods::{Batch, CONSTANT_FEATURES, Method, StepClock, train_step};
use ocelli_models::weights::preprocessing::{EvalSize, Preprocessing, Statistics, Told};
use ocelli_models::weights::{StateDict, in_file_layout, read_safetensors, write_safetensors};
use ocelli_models::{AnyBackbone, Arch, BackboneConfig, Vit, VitConfig, params};
use ocelli_web::{Engine, Network, TracedPicture, WebError, from_rgba, read};
use wasm_bindgen::prelude::*;

use crate::config::{Config, told};
use crate::start::Start;

const ORDER_STREAM: u64 = 0x4f52_4445;
/// A pass before the first step has an order and views of its own.
const PASS_STREAM: u64 = 0x5041_5353;

/// A network in training with its pictures.
#[wasm_bindgen]
pub struct Session {
    config: Config,
    backbone: BackboneConfig,
    plan: ViewPlan,
    device: Device,
    /// Built with the first step where it wants to know how many pictures there are.
    method: Option<Box<dyn Method>>,
    optimizer: Optimizer,
    optim: OptimConfig,
    images: Vec<Image>,
    /// What it begins with, until the networks have it.
    start: Option<Start>,
    began_with: &'static str,
    step: usize,
}

#[wasm_bindgen]
impl Session {
    /// A new run; `config` is JSON, what is left out has its default. `weights` is a file to begin with, as
    /// [`Model::load`](crate::Model::load) reads them: the backbone, whose shape is taken, or for DINO of its checkpoint student,
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
        let mut config = Config::read(config)?;
        let start = weights.map(|bytes| Start::read(&bytes, heads, &config)).transpose()?;
        if let Some(start) = &start {
            start.fit(&mut config);
        }
        let settings = &config.settings;
        let vit = match &start {
            Some(start) => VitConfig { drop_path: settings.drop_path, ..start.vit.clone() },
            None => settings.arch.config(settings.views.global_size_px, settings.drop_path),
        };
        let backbone = BackboneConfig::Vit(vit);
        config.check(&backbone)?;
        let optim = OptimConfig { clip_grad: settings.clip_grad, ..OptimConfig::default() };
        let mut session = Self {
            plan: config.plan(),
            device: engine.device().clone(),
            method: None,
            optimizer: Optimizer::new(&optim),
            optim,
            images: Vec::new(),
            began_with: start.as_ref().map_or("nothing", Start::kind),
            start,
            step: 0,
            backbone,
            config,
        };
        if !session.config.recipe.needs.indices {
            session.build(None)?;
        }
        Ok(session)
    }

    /// What it began with: `nothing`, a `backbone`, or a whole `checkpoint`.
    #[wasm_bindgen(getter)]
    pub fn start(&self) -> String {
        self.began_with.to_owned()
    }

    /// The configuration with every default filled in, as JSON.
    ///
    /// # Errors
    /// None that a configuration which was read can have.
    pub fn config(&self) -> Result<String, WebError> {
        self.config.write()
    }

    /// Width, blocks and heads of the network.
    pub fn shape(&self) -> Vec<usize> {
        let Arch { dim, depth, heads, .. } = self.config.settings.arch;
        vec![dim, depth, heads]
    }

    /// Starts from what a checkpoint of the method holds: for DINO student, teacher and centre (safetensors).
    ///
    /// # Errors
    /// `weights` when they are of another configuration; nothing is changed then. `argument` before the first step of a method
    /// that wants to know how many pictures there are.
    #[wasm_bindgen(js_name = loadState)]
    pub fn load_state(&mut self, bytes: &[u8]) -> Result<(), WebError> {
        let state = read_safetensors(bytes)?;
        self.method.as_deref_mut().ok_or_else(unbuilt)?.load_state(&state).map_err(told)
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
        self.config.settings.epochs * self.config.settings.steps_per_epoch
    }

    /// Takes one step on a batch of the pictures and returns its figures, as JSON.
    ///
    /// # Errors
    /// `argument` without pictures, or with too few for the method; `device` when reading fails or a figure is not finite.
    #[wasm_bindgen(js_name = trainStep)]
    pub async fn train_step(&mut self) -> Result<String, WebError> {
        if self.images.is_empty() {
            return Err(WebError::argument("pictures", "at least one", 0));
        }
        if self.step == 0 {
            let images = Some(self.images.len());
            self.config.recipe.check(&self.config.facts(&self.backbone, images)).map_err(told)?;
            if self.method.is_none() {
                self.build(images)?;
            }
        }
        self.look_through();
        let batch = self.batch(self.step, self.config.settings.seed);
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

    /// A picture seen by the network one keeps, as it is now: a teacher, where the method has one.
    ///
    /// # Errors
    /// `image` when bytes and size do not fit together, `argument` before the first step of a method that wants to know how many
    /// pictures there are.
    pub fn look(&self, rgba: &[u8], width: u32, height: u32, long_px: u32) -> Result<TracedPicture, WebError> {
        let network =
            Network { vit: self.kept()?, device: self.device.clone(), mean: self.plan.mean, std: self.plan.std };
        TracedPicture::of(&Rc::new(network), rgba, width, height, long_px)
    }

    /// The backbone one keeps as a safetensors file, which the native program loads.
    ///
    /// # Errors
    /// `device` when reading fails, `argument` as [`Session::look`].
    pub async fn weights(&self) -> Result<Vec<u8>, WebError> {
        // The heads cannot be told from the tensors; the native program reads them from its configuration.
        let mut metadata = BTreeMap::from([
            ("steps_done".to_owned(), self.step.to_string()),
            ("config".to_owned(), format!("arch = \"{}\"\n", self.config.settings.arch)),
        ]);
        let statistics = Statistics { mean: self.plan.mean, std: self.plan.std };
        let side = self.config.settings.views.global_size_px;
        let pictures = Preprocessing {
            statistics: Some(Told::new(statistics, "")),
            size: Some(Told::new(EvalSize::for_side(side), "")),
        };
        pictures.write(&mut metadata);
        let kept = self.kept()?;
        let rule = kept.position_entry();
        metadata.extend(rule.map(|(key, rule)| (key.to_owned(), rule)));
        let mut state = StateDict { tensors: Vec::new(), metadata };
        for param in params::collect(&kept) {
            let values = read(param.values.clone()).await?;
            state.tensors.push((param.name.clone(), in_file_layout(&param, values)));
        }
        Ok(write_safetensors(&state)?)
    }
}

impl Session {
    /// Draws the networks, and puts what the run begins with into them.
    fn build(&mut self, images: Option<usize>) -> Result<(), WebError> {
        let facts = self.config.facts(&self.backbone, images);
        let mut method =
            (self.config.recipe.build)(&facts, self.config.settings.seed, &self.device).map_err(told)?;
        if let Some(start) = &self.start {
            start.load(method.as_mut(), &mut self.optimizer)?;
        }
        (self.method, self.start) = (Some(method), None);
        Ok(())
    }

    /// The network one keeps.
    fn kept(&self) -> Result<Vit, WebError> {
        let kept = self
            .backbone
            .without_drop_path()
            .with_values(self.method.as_deref().ok_or_else(unbuilt)?.kept(), &self.device);
        match kept.map_err(|e| WebError::Weights(e.to_string()))? {
            AnyBackbone::Vit(vit) => Ok(vit),
            AnyBackbone::ResNet(_) => {
                Err(WebError::Weights("expected a Vision Transformer, found a ResNet".into()))
            }
        }
    }

    /// The pass that a method may want before its first step: once through the pictures.
    fn look_through(&mut self) {
        let Some(mut method) = self.method.take_if(|method| method.wants_pass()) else { return };
        let (batches, seed) =
            (self.images.len() / self.config.settings.batch_size, self.config.settings.seed ^ PASS_STREAM);
        let epoch = self.step / self.config.settings.steps_per_epoch;
        for iteration in 0..batches {
            let clock = StepClock { epoch, iteration, micro_batch: 0, momentum: 0.0, seed };
            method.see(&self.batch(iteration, seed), &clock);
        }
        method.begin_epoch(epoch);
        self.method = Some(method);
    }

    /// The pictures of a step with their views: which, and how they are cut, follows from the seed and the step alone.
    fn batch(&self, step: usize, seed: u64) -> Batch {
        let (batch, count) = (self.config.settings.batch_size, self.images.len());
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
        let method = self.method.as_deref_mut().ok_or_else(unbuilt)?;
        let (c, step) = (&self.config.settings, self.step);
        let (per_epoch, total) = (c.steps_per_epoch, c.epochs * c.steps_per_epoch);
        if step.is_multiple_of(per_epoch) && !method.wants_pass() {
            method.begin_epoch(step / per_epoch);
        }
        let momentum = method.momentum(step, total);
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
        let row = train_step(method, optimizer, &[batch], clock, &rates);
        self.step += 1;

        let found = read(row).await?;
        let names = method.figures().iter().map(|f| f.name);
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
        let levels = method.levels();
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
        let declared = method.figures();
        let printed = declared.iter().zip(&found).filter_map(|(f, value)| f.printed(f64::from(*value), &levels));
        told.insert("printed".to_owned(), printed.collect::<Vec<_>>().into());
        let values = declared.iter().zip(&found).map(|(f, value)| (f.name, f64::from(*value))).collect();
        if CONSTANT_FEATURES.is_seen(&values, &levels) {
            told.insert("sign".to_owned(), CONSTANT_FEATURES.meaning.into());
        }
        Ok(serde_json::Value::Object(told).to_string())
    }
}

fn unbuilt() -> WebError {
    let expected = "a step before it: this method wants to know how many pictures there are";
    WebError::argument("method", expected, "none")
}
