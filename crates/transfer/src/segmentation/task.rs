//! Fine-tuning for semantic segmentation as a task of the loop.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use ocelli_data::files::{AnnotatedLoader, BatchIter};
use ocelli_data::views::{SegmentationBatch, SegmentationViews};
use ocelli_data::{BadFile, LoaderConfig, Scratch};
use ocelli_methods::Level;
use ocelli_methods::optim::{GradientSum, OptimConfig, Optimizer, StepRates};
use ocelli_methods::schedule::LrSchedule;
use ocelli_models::weights::{ModuleState as _, StateDict};
use ocelli_models::{Init, Vit, params};
use ocelli_train::config::ViewsOn;
use ocelli_train::memory::{Needs, gb};
use ocelli_train::{
    Best, Cadence, Declared, Loaded, Rates, Scores, Size, Task, TrainError, WatchConfig, write_atomically,
    write_picture,
};
use serde_json::json;
use toml::Table;

use super::config::{SEGMENTATION_TASK, SegmentationConfig};
use super::data::SegmentedData;
use super::evaluation::{Limits, PictureScore, SegmentationFound, evaluate};
use super::figures::{GUESSING, MEAN_ACCURACY, MIOU, PIXEL_ACCURACY, figures, scores};
use super::inference::Inference;
use super::load::{DRAWN, segmenter_file};
use super::memory;
use super::network::{NetworkConfig, SegmentationNet};
use super::sheet::{SegmentedPicture, segmentation_sheet};
use super::step::{LossConfig, part, update};

/// The best network of a run.
pub const SEGMENTER_FILE: &str = "segmenter.safetensors";
/// What it came to: IoU of every class, the confusion matrix, the worst and the best pictures.
pub const SEGMENTATION_FILE: &str = "segmentation.json";

/// Pictures with their true and predicted classes, as the network is now; beside the run's other pictures.
const PICTURES_FILE: &str = "segmentations.png";
/// Those shown.
const PICTURES: usize = 4;
/// Unreadable ones are passed over for others, so often at most.
const ATTEMPTS: usize = 16;

/// A fine-tuning for segmentation about to be done.
pub struct SegmentationTask {
    config: SegmentationConfig,
    device: Device,
    shape: NetworkConfig,
    // Absent only while it is replaced.
    net: Option<SegmentationNet>,
    optim: OptimConfig,
    optimizer: Optimizer,
    schedule: LrSchedule,
    inference: Inference,
    data: SegmentedData,
    loader: AnnotatedLoader<SegmentationViews>,
    /// The part of a step that comes next, counted over the run.
    at: usize,
    /// Batches of the pass over the images in progress, and the part that the next one is for.
    batches: Option<(usize, BatchIter<SegmentationBatch>)>,
    /// What the last evaluation found.
    found: Option<SegmentationFound>,
    /// Why the backbone's weights cannot be used, where it only has their shape: until a checkpoint gives it values.
    stand_in: Option<String>,
}

impl SegmentationTask {
    /// Builds network, loader and schedule on a backbone; that of the weights `random:…` is drawn from the seed.
    ///
    /// # Errors
    /// For settings out of range, a head that does not go with the backbone, classes too few or too many, and a set smaller
    /// than a batch.
    pub fn new(
        config: &SegmentationConfig,
        device: &Device,
        loaded: &Loaded,
        data: &SegmentedData,
    ) -> Result<Self, TrainError> {
        config.check()?;
        let backbone = config.backbone(&loaded.config)?;
        let shape = config.network(&backbone, data.classes.len())?;
        // Several seeds are several starts.
        let drawn = config.weights.starts_with(DRAWN).then(|| backbone.init(&mut Init::new(config.seed, device)));
        let drawn = drawn.transpose()?;
        let encoder = drawn.as_ref().unwrap_or(&loaded.encoder);
        let batch_size = config.batch_size / config.accumulate;
        let images = data.train.source.len();
        if images < batch_size {
            return Err(TrainError::TooFewImages { images, batch: batch_size });
        }
        let settings = LoaderConfig {
            batch_size,
            seed: config.seed,
            threads: config.loader.threads,
            prefetch_batches: config.loader.prefetch,
            max_bad_fraction: config.loader.max_bad_fraction,
            ..LoaderConfig::default()
        };
        let loader = AnnotatedLoader::new(data.train.clone(), config.views.clone(), settings)?;
        let optim = config.optim.config();
        Ok(Self {
            net: Some(shape.with_backbone(encoder, config.seed, &device.clone().autodiff())?),
            schedule: LrSchedule::new(&optim, optim.lr, 1, config.iterations),
            optimizer: Optimizer::new(&optim),
            inference: config.inference(&backbone),
            optim,
            shape,
            loader,
            config: config.clone(),
            device: device.clone(),
            data: data.clone(),
            at: 0,
            batches: None,
            found: None,
            stand_in: None,
        })
    }

    /// The same for a run that goes on while its backbone's weights cannot be used, for this reason: the values must come from
    /// a checkpoint, and no step is taken without one.
    #[must_use]
    pub fn without_weights(self, reason: String) -> Self {
        Self { stand_in: Some(reason), ..self }
    }

    /// The network as it is now, on the autodiff device.
    #[allow(clippy::expect_used)] // Absent only inside `step`, which puts it back before it returns.
    pub fn net(&self) -> &SegmentationNet {
        self.net.as_ref().expect("a network is only taken while it is being replaced")
    }

    /// The network as it is now, on the plain device.
    ///
    /// # Errors
    /// When it cannot be built anew, which a run that could be made does not meet.
    pub fn plain_net(&self) -> Result<SegmentationNet, TrainError> {
        Ok(self.shape.with_values(params::collect(self.net()), &self.device)?)
    }

    /// What is learnt from, and what is segmented.
    pub fn data(&self) -> &SegmentedData {
        &self.data
    }

    /// What the last evaluation found.
    pub fn found(&self) -> Option<&SegmentationFound> {
        self.found.as_ref()
    }

    /// What training takes, as far as it can be told before the first step.
    pub fn needs(&self) -> Needs {
        let size = self.size();
        let trained = size.backbone_parameters + size.head_parameters;
        // Weights, gradients, what the optimizer keeps of them, and what is held beside.
        let state = 4 * ((2 + size.optimizer_values) * trained + size.held_values) as u64;
        let images = self.config.batch_size / self.config.accumulate;
        let kept = 4 * memory::training_values(&self.shape, self.config.views.crop_px, images) as u64;
        Needs {
            bytes: state + kept,
            what: format!(
                "{} for network, gradients and momentum, {} for what {images} images at a time leave for the backward pass",
                gb(state),
                gb(kept)
            ),
            remedy: "raise accumulate, which computes a batch in parts, lower batch_size or views.crop_px, or take a smaller \
                     --arch",
        }
    }

    /// The next batch of the run's endless row of passes over the images.
    fn next_batch(&mut self) -> Result<SegmentationBatch, TrainError> {
        let per_pass = self.loader.batches_per_epoch().max(1);
        let (pass, within) = (self.at / per_pass, self.at % per_pass);
        let mut batches = match self.batches.take() {
            Some((next, batches)) if next == self.at && within > 0 => batches,
            _ => self.loader.epoch(pass, within),
        };
        // An iterator that ends early has told its error before.
        let (images, batch) = (self.data.train.source.len(), self.config.batch_size);
        let found = batches.next().ok_or(TrainError::TooFewImages { images, batch })??;
        self.at += 1;
        self.batches = Some((self.at, batches));
        Ok(found)
    }

    fn has_auxiliary(&self) -> bool {
        self.shape.auxiliary.is_some()
    }

    /// Held-out pictures that are evaluated.
    pub fn held_out(&self) -> usize {
        let all = self.data.val.as_ref().map_or(0, |val| val.source.len());
        if self.config.eval.max_pictures == 0 { all } else { all.min(self.config.eval.max_pictures) }
    }

    /// A few pictures with their true classes: the worst and the best of the last evaluation, else evenly spaced. Those that
    /// cannot be read are passed over.
    fn followed(&self) -> Vec<SegmentedPicture> {
        let part = self.data.val.as_ref().filter(|val| !val.source.is_empty()).unwrap_or(&self.data.train);
        let read = |index: usize, caption: String| {
            let (image, truth) = (part.source.load(index).ok()?, part.maps.label_map(index).ok()?);
            let (name, found) = (part.source.name(index), truth.clone());
            Some(SegmentedPicture { name, image, truth: Some(truth), found, caption })
        };
        let ranked = self.found.as_ref().map(SegmentationFound::from_worst).unwrap_or_default();
        if !ranked.is_empty() {
            let best = ranked.len().saturating_sub(PICTURES / 2).max(PICTURES / 2).min(ranked.len());
            let ends = ranked.iter().take(PICTURES / 2).chain(&ranked[best..]);
            let one = |score: &&PictureScore| read(score.index, format!("mIoU {:.1} %", 100.0 * score.miou));
            return ends.filter_map(one).collect();
        }
        let (len, many) = (part.source.len(), PICTURES.min(part.source.len()));
        let spread = |i: usize| {
            let (first, end) = (i * len / many, (i + 1) * len / many);
            (first..end).take(ATTEMPTS).find_map(|index| read(index, String::new()))
        };
        (0..many).filter_map(spread).collect()
    }
}

impl Task for SegmentationTask {
    fn declared(&self) -> Declared {
        let (figures, scores) = (figures(self.has_auxiliary()), scores(self.data.val.is_some()));
        let mut notes = self.config.notes();
        notes.extend(self.data.notes.iter().cloned());
        let passes = (self.config.iterations * self.config.batch_size) as f64 / self.size().images.max(1) as f64;
        notes.push(format!(
            "an epoch is {} iterations here, after which the {} pictures are evaluated; the run sees the training pictures \
             {passes:.1} times",
            self.config.evaluate_every,
            self.data.judged()
        ));
        notes.extend(self.data.judged().note());
        if self.data.val.is_none() {
            notes.push("no part of the data is held out: nothing is evaluated".into());
        }
        Declared {
            task: SEGMENTATION_TASK,
            title: "Semantic segmentation",
            figures,
            scores,
            levels: vec![Level::new(GUESSING, (self.data.classes.len() as f64).ln())],
            signs: Vec::new(),
            notes,
            warnings: self.config.warnings(),
            views_about: "Random crops of resized pictures, mirrored and distorted in colour, with the class of every pixel.",
        }
    }

    fn cadence(&self) -> Cadence {
        Cadence {
            epochs: self.config.epochs(),
            batch_size: self.config.batch_size,
            evaluate_every: usize::from(self.held_out() > 0),
            warmup_epochs: 0,
            log: self.config.log.clone(),
            watch: WatchConfig::default(),
        }
    }

    fn size(&self) -> Size {
        let (mut backbone, mut heads, mut all) = (0, 0, 0);
        for param in params::collect(self.net()) {
            let values = param.shape.num_elements();
            all += values;
            match (param.trainable, param.name.starts_with("backbone.")) {
                (true, true) if !self.config.frozen => backbone += values,
                (true, false) => heads += values,
                _ => {}
            }
        }
        Size {
            images: self.data.train.source.len(),
            steps_per_epoch: self.config.evaluate_every,
            backbone_parameters: backbone,
            head_parameters: heads,
            held_values: all - backbone - heads,
            optimizer_values: self.optimizer.memory(),
        }
    }

    fn config(&self) -> Result<Table, TrainError> {
        self.config.table()
    }

    fn stored_config(&self, text: &str) -> Result<Table, TrainError> {
        SegmentationConfig::parse(text, "the checkpoint's configuration")?.table()
    }

    fn describes(&self) -> Vec<(&'static str, String)> {
        let rule = self.net().backbone.as_vit().and_then(Vit::position_entry);
        let own = [
            ("arch", self.config.arch.to_string()),
            ("classes", serde_json::to_string(&self.data.classes).unwrap_or_default()),
        ];
        own.into_iter().chain(rule).collect()
    }

    /// Of what is learnt from, of what is held out, by which the best network is chosen, and of the classes.
    fn names_crc32(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        let mut add = |names: &mut dyn Iterator<Item = String>| {
            for name in names {
                hasher.update(name.as_bytes());
                hasher.update(b"\n");
            }
            // Between the lists, so that a name in another of them is another set.
            hasher.update(b"\0");
        };
        for part in [Some(&self.data.train), self.data.val.as_ref()] {
            let source = part.map(|part| part.source.as_ref());
            add(&mut source.into_iter().flat_map(|source| (0..source.len()).map(move |index| source.name(index))));
        }
        add(&mut self.data.classes.iter().cloned());
        hasher.finalize()
    }

    fn views_on(&self) -> ViewsOn {
        ViewsOn::Cpu
    }

    fn begin_epoch(&mut self, epoch: usize, step_in_epoch: usize) {
        // A pass over the images goes on through the epochs of the loop.
        self.at = (epoch * self.config.evaluate_every + step_in_epoch) * self.config.accumulate;
    }

    fn step(&mut self, iteration: usize) -> Result<Tensor<1>, TrainError> {
        if let Some(reason) = &self.stand_in {
            return Err(TrainError::File { path: self.config.weights.clone().into(), reason: reason.clone() });
        }
        let parts = self.config.accumulate;
        let loss = LossConfig {
            classes: self.data.classes.len(),
            auxiliary_weight: self.config.auxiliary_weight,
            corners: self.config.corners(),
        };
        let weight = 1.0 / parts as f64;
        let (mut gradients, mut figures): (GradientSum, Option<Tensor<1>>) = Default::default();
        for number in 0..parts {
            let batch = self.next_batch()?;
            let words = [self.config.seed, iteration as u64, number as u64];
            let found = part(self.net(), &batch, &loss, &words, &self.device);
            gradients.add(found.gradients, weight);
            let row = found.figures * weight;
            figures = Some(match figures {
                None => row,
                Some(sum) => sum + row,
            });
        }
        let norms = gradients.norms();
        let Rates { lr, weight_decay, .. } = self.rates(iteration);
        let rates = StepRates { lr, weight_decay, clip: 0.0 };
        if let Some(net) = self.net.take() {
            let optimizer = (&mut self.optimizer, &self.optim);
            self.net = Some(update(net, optimizer, gradients, &rates, self.config.optim.backbone_lr));
        }
        let norms = norms.into_iter().flat_map(|(all, largest)| [all, largest]);
        Ok(Tensor::cat(figures.into_iter().chain(norms).collect(), 0))
    }

    fn rates(&self, iteration: usize) -> Rates {
        let weight_decay = self.config.optim.weight_decay;
        Rates { lr: self.schedule.at(iteration), weight_decay, momentum: None }
    }

    fn unsettled_steps(&self) -> usize {
        0
    }

    fn state(&self) -> Result<StateDict, TrainError> {
        let mut state = StateDict::default();
        state.add_module("", self.net())?;
        for (name, tensor) in self.optimizer.state()?.tensors {
            state.tensors.push((format!("optimizer.{name}"), tensor));
        }
        Ok(state)
    }

    fn load(&mut self, state: &StateDict) -> Result<(), TrainError> {
        if self.stand_in.is_some() {
            // Of the architecture there was nothing but its name; the checkpoint has its shape.
            let fail = |reason| TrainError::File { path: "the checkpoint".into(), reason };
            let backbone = self.config.backbone_of(&state.under("backbone.")).map_err(fail)?;
            self.shape.backbone = self.config.backbone(&backbone)?;
            self.net = Some(self.shape.blank(&self.device.clone().autodiff())?);
        }
        let names: std::collections::HashSet<String> =
            params::collect(self.net()).into_iter().map(|param| param.name).collect();
        let tensors = state.tensors.iter().filter(|(name, _)| names.contains(name)).cloned().collect();
        let net = StateDict { tensors, ..StateDict::default() }.load_into(self.net().clone())?;
        self.optimizer.load(&state.under("optimizer."), &net)?;
        (self.net, self.stand_in) = (Some(net), None);
        Ok(())
    }

    fn init(&mut self) -> Result<Option<String>, TrainError> {
        // The backbone came with its weights.
        Ok(None)
    }

    fn bad(&self) -> BTreeMap<usize, BadFile> {
        self.loader.bad()
    }

    fn add_bad(&mut self, known: &BTreeMap<usize, BadFile>) {
        self.loader.add_bad(known);
    }

    fn evaluate(&mut self) -> Result<Scores, TrainError> {
        let Some(val) = self.data.val.clone() else { return Ok(Scores::default()) };
        let (net, classes) = (self.plain_net()?, self.data.classes.len());
        let limits =
            Limits { most: self.config.eval.max_pictures, max_bad_fraction: self.config.loader.max_bad_fraction };
        let found = evaluate((&net, &self.inference), &val, (classes, limits), &self.device, &mut |_| {})?;
        let scores = &found.scores;
        let named = [
            (MIOU, scores.miou),
            (MEAN_ACCURACY, scores.mean_class_accuracy),
            (PIXEL_ACCURACY, scores.pixel_accuracy),
        ];
        let percent = |(name, share): (&'static str, f64)| (name, 100.0 * share);
        let quoted = Some(("mIoU".to_owned(), 100.0 * scores.miou));
        self.found = Some(found);
        Ok(Scores { named: named.into_iter().map(percent).collect(), quoted, ..Scores::default() })
    }

    fn keep(&self, folder: &Path, best: &Best) -> Result<(), TrainError> {
        let colours = (self.data.classes.as_slice(), self.data.palette.as_slice());
        let scored = self
            .found
            .as_ref()
            .map_or_else(String::new, |found| format!(" of {}", found.scored(self.data.judged())));
        let accuracy = format!("{} {:.2} %{scored}", best.what, best.accuracy);
        let iterations = (best.epoch + 1) * self.config.evaluate_every;
        let said = [("iterations", iterations.to_string()), ("accuracy", accuracy)];
        let file = segmenter_file(self.net(), &self.config, colours, &said)?;
        write_atomically(&folder.join(SEGMENTER_FILE), &file)?;
        match &self.found {
            None => Ok(()),
            Some(found) => {
                let judged = self.data.judged().to_string();
                let more = [
                    ("iterations", json!(iterations)),
                    ("weights", json!(SEGMENTER_FILE)),
                    ("judged", json!(judged)),
                ];
                found.write(&folder.join(SEGMENTATION_FILE), colours, &more)
            }
        }
    }

    fn evaluation_bytes(&self) -> usize {
        let Some(val) = self.data.val.as_ref().filter(|_| self.held_out() > 0) else { return 0 };
        // Pictures differ in size; without a scale, the first one's tells.
        let crop = self.config.views.crop_px;
        let stored = val.source.load(0).map_or(crop, |image| [image.height as usize, image.width as usize]);
        let classes = self.data.classes.len();
        // A picture as it is stored takes three quarters of a number a pixel; its labels, read and found, half of one.
        let picture = 2 * stored[0] * stored[1];
        let network: usize = params::collect(self.net()).iter().map(|p| p.shape.num_elements()).sum();
        let pass = memory::inference_values(&self.shape, self.inference.pass_size(stored));
        4 * (network + pass + picture + self.inference.host_values(stored, classes) + 4 * classes * classes)
    }

    fn draw(&self, folder: &Path, epochs_done: usize) -> Result<(), TrainError> {
        let mut pictures = self.followed();
        if pictures.is_empty() {
            return Ok(());
        }
        let (net, mut scratch) = (self.plain_net()?, Scratch::default());
        for picture in &mut pictures {
            picture.found = self.inference.segment(&net, &picture.image, &self.device, &mut scratch)?;
        }
        let iterations = epochs_done * self.config.evaluate_every;
        let title =
            if epochs_done == 0 { "before training".into() } else { format!("after {iterations} iterations") };
        let colours = (self.data.classes.as_slice(), self.data.palette.as_slice());
        let sheet = segmentation_sheet(&title, &pictures, colours)?;
        write_picture(&folder.join(PICTURES_FILE), &sheet)
    }
}
