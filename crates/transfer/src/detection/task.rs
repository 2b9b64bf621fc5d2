//! Fine-tuning a detector, as a task of the training loop.

mod backbone;
mod figures;
mod kept;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use burn::tensor::{Device, Tensor};
use ocelli_data::{
    AnnotatedLoader, BadFile, BatchIter, DetectionBatch, DetectionTest, DetectionViews, LoaderConfig,
};
use ocelli_eval::detection::DetectionSummary;
use ocelli_methods::optim::{GradientSum, Group, Sgd, SgdRule, SgdState};
use ocelli_models::params::{self, FlatParam};
use ocelli_models::weights::{HostTensor, ModuleState as _, StateDict, write_safetensors};
use ocelli_models::{BackboneConfig, Init, ResNetConfig};
use ocelli_train::config::ViewsOn;
use ocelli_train::memory::Needs;
use ocelli_train::{
    Best, Cadence, Declared, Loaded, Rates, Scores, Size, Task, TrainError, WatchConfig, write_atomically,
    write_picture,
};
use toml::Table;

use super::config::{DETECTION_TASK, DetectionConfig};
use super::data::{DetectionData, at_most};
use super::evaluation::{Findings, look};
use super::load::DETECTOR_FILE;
use super::memory;
use super::network::{C4 as _, FasterRcnn, ResNetC4, norm_parameters};
use super::pass::{BoxedImages, Choice, Pass, Stages, train_pass};
use super::pictures::sheet;
use super::roi::accuracies;
use crate::PreciseBn;
use backbone::{resnet_of, with_backbone};
use figures::{FIGURES, SCORES, scores_of};
use kept::Kept;

/// What the best detector came to, class by class, in the folder of its run.
pub const DETECTION_FILE: &str = "detection.json";

/// Passes over the training images whose statistics the norms take: numbers that training never comes to.
const PRECISE_PASSES: usize = 1 << 30;
/// Keeps their samples apart from training's.
const PRECISE_SEED: u64 = 0x7072_6563;

/// What the last evaluation found.
struct Evaluated {
    /// On the plain device, with the statistics it was evaluated with.
    net: FasterRcnn<ResNetC4>,
    findings: Findings,
    summary: DetectionSummary,
}

/// A detector about to be trained.
pub struct DetectionTask {
    config: DetectionConfig,
    device: Device,
    data: DetectionData,
    names_crc32: u32,
    stages: Stages,
    // Absent only while it is replaced.
    net: Option<FasterRcnn<ResNetC4>>,
    optimizer: SgdState,
    /// Names of the normalisations' parameters, which are not decayed.
    norms: HashSet<String>,
    loader: AnnotatedLoader<DetectionViews>,
    /// Batches of a pass over the images, and how many parts of steps come before the next of them.
    batches: Option<(usize, BatchIter<DetectionBatch>)>,
    evaluated: Option<Evaluated>,
    /// Why there is nothing to begin from: the weights that the configuration names are not in the network.
    missing: Option<String>,
}

impl DetectionTask {
    /// Network, loader and schedules. The backbone has the values of `backbone` where it is given; for the weights `random:…`, and
    /// where the configuration names none, it is drawn from the seed. Of a run that goes on no backbone is given: its values are the
    /// checkpoint's, or, where there is none, those that [`Task::init`] finds where the configuration says.
    ///
    /// # Errors
    /// When a value is out of range, the backbone is no ResNet or another one than the configuration's, or there are fewer images than
    /// a batch takes.
    pub fn new(
        config: &DetectionConfig,
        device: &Device,
        backbone: Option<&Loaded>,
        data: &DetectionData,
    ) -> Result<Self, TrainError> {
        config.check()?;
        let shape = ResNetConfig { stem: config.stem, ..config.arch.into() };
        let is_drawn = config.weights.starts_with("random:");
        let init = &mut Init::new(config.seed, &device.clone().autodiff());
        let network = ResNetC4::new(&shape, config.roi.extra_norm, init)?;
        let stages = Stages::of(config, network.stride_px());
        let mut net = FasterRcnn::new(network, stages.anchors.per_cell(), data.classes.len(), init);
        if let Some(loaded) = backbone {
            let theirs = resnet_of(loaded, &shape)?;
            // Drawn weights are this run's seed's, so that several seeds are several starts.
            if !is_drawn {
                net = with_backbone(net, theirs);
            }
        }
        let part = config.batch_size / config.accumulate;
        if data.train.source.len() < part {
            return Err(TrainError::TooFewImages { images: data.train.source.len(), batch: part });
        }
        let loader = AnnotatedLoader::new(
            data.train.clone(),
            config.views.clone(),
            LoaderConfig { batch_size: part, seed: config.seed, ..loading(config) },
        )?;
        let momentum = config.optim.momentum;
        let (names_crc32, all) = (data.names_crc32(), data.val.source.len());
        let mut data = DetectionData { val: at_most(&data.val, config.eval.max_images), ..data.clone() };
        if data.val.source.len() < all {
            data.notes.push(format!(
                "{} of {all} {} images are evaluated (eval.max_images)",
                data.val.source.len(),
                data.judged
            ));
        }
        let is_missing = backbone.is_none() && !is_drawn && !config.weights.is_empty();
        Ok(Self {
            names_crc32,
            missing: is_missing.then(|| "they were not opened".to_owned()),
            norms: norm_parameters(&net),
            optimizer: SgdState::new(Sgd { momentum, rule: SgdRule::Plain { nesterov: false } }),
            config: config.clone(),
            device: device.clone(),
            data,
            stages,
            net: Some(net),
            loader,
            batches: None,
            evaluated: None,
        })
    }

    /// The network in training, on the autodiff device.
    #[allow(clippy::expect_used)] // Absent only inside `update`, which puts it back before it returns.
    pub fn net(&self) -> &FasterRcnn<ResNetC4> {
        self.net.as_ref().expect("a network is only taken while it is being replaced")
    }

    /// What is learnt from and tested on.
    pub fn data(&self) -> &DetectionData {
        &self.data
    }

    /// The configuration.
    pub fn settings(&self) -> &DetectionConfig {
        &self.config
    }

    /// What the last evaluation came to.
    pub fn summary(&self) -> Option<&DetectionSummary> {
        self.evaluated.as_ref().map(|e| &e.summary)
    }

    /// What training takes, as far as it can be told before the first step.
    pub fn needs(&self) -> Needs {
        let size = self.size();
        memory::needs(&self.config, size.backbone_parameters + size.head_parameters)
    }

    /// A part of a step's images, counted over the whole run: pass after pass over the data, whatever the loop calls an epoch.
    fn part(&mut self, number: usize) -> Result<DetectionBatch, TrainError> {
        let per_pass = self.loader.batches_per_epoch().max(1);
        let (pass, place) = (number / per_pass, number % per_pass);
        let mut batches = match self.batches.take() {
            Some((next, batches)) if next == number && place > 0 => batches,
            _ => self.loader.epoch(pass, place),
        };
        let images = self.data.train.source.len();
        let found = batches.next().ok_or(TrainError::TooFewImages { images, batch: self.config.batch_size })??;
        self.batches = Some((number + 1, batches));
        Ok(found)
    }

    /// The losses and their gradients of one part, and the figures, `[figures]`.
    fn learn(&mut self, number: usize, gradients: &mut GradientSum) -> Result<Tensor<1>, TrainError> {
        let mut batch = BoxedImages::new(self.part(number)?, &self.device);
        batch.images = batch.images.autodiff();
        let choice = Choice::Drawn { seed: self.config.seed, step: number as u64 };
        let pass = train_pass(self.net(), &batch, &self.stages, choice)?;
        let losses = pass.losses(&batch, &self.stages);
        let total = losses.total();
        let mut raw = total.backward();
        gradients.add(params::take_gradients(self.net(), &mut raw), 1.0 / self.config.accumulate as f64);
        let mut row: Vec<Tensor<1>> = vec![total.inner()];
        row.extend(losses.each().map(Tensor::inner));
        row.extend(self.shares(&pass));
        Ok(Tensor::cat(row, 0))
    }

    /// Share of objects among regions, their accuracies, and objects among an image's sampled anchors.
    fn shares(&self, pass: &Pass) -> [Tensor<1>; 4] {
        let regions = &pass.regions;
        let background = self.data.classes.len();
        let objects = regions.classes.iter().filter(|class| **class < background).count();
        let share = objects as f32 / regions.len().max(1) as f32;
        let anchors: usize = pass.sampled.iter().map(|s| s.positive.len()).sum();
        let anchors = anchors as f32 / pass.sampled.len().max(1) as f32;
        let host = Tensor::<1>::from_floats([share, anchors, 0.0], &self.device);
        let of = |place: usize| host.clone().narrow(0, place, 1);
        let [all, of_objects] = match &pass.output {
            Some(output) => accuracies(output.logits.clone(), regions),
            None => [of(2), of(2)],
        };
        [of(0), all, of_objects, of(1)]
    }

    /// The network as it is, on the plain device, with precise statistics; training's own stay as they are.
    fn precise(&self) -> Result<FasterRcnn<ResNetC4>, TrainError> {
        use burn::module::Module as _;
        let net = self.net().valid();
        // A batch is normalised in its parts, as in training.
        let wanted = self.config.eval.precise_bn_batches.saturating_mul(self.config.accumulate);
        if wanted == 0 {
            return Ok(net);
        }
        let mut precise = PreciseBn::new(self.config.eval.norm_statistics);
        let per_pass = self.loader.batches_per_epoch().max(1);
        // A pass has one batch at least, or an error.
        let batches = (0..wanted).flat_map(|pass| self.loader.epoch(PRECISE_PASSES + pass, 0).take(per_pass));
        for (i, batch) in batches.take(wanted).enumerate() {
            let batch = BoxedImages::new(batch?, &self.device);
            let choice = Choice::Drawn { seed: self.config.seed ^ PRECISE_SEED, step: i as u64 };
            // The forward pass moves running averages, which are this copy's.
            precise.see(|| train_pass(&net, &batch, &self.stages, choice).map(|_| ()))??;
        }
        Ok(precise.apply(net))
    }

    fn classes_as_json(&self) -> String {
        serde_json::to_string(&self.data.classes).unwrap_or_default()
    }
}

/// How images are read.
fn loading(config: &DetectionConfig) -> LoaderConfig {
    LoaderConfig {
        threads: config.loader.threads,
        prefetch_batches: config.loader.prefetch,
        max_bad_fraction: config.loader.max_bad_fraction,
        ..LoaderConfig::default()
    }
}

impl Task for DetectionTask {
    fn declared(&self) -> Declared {
        let mut notes = self.config.notes(self.data.train.source.len());
        notes.extend(self.data.notes.iter().cloned());
        Declared {
            task: DETECTION_TASK,
            title: "Faster R-CNN C4",
            figures: FIGURES.to_vec(),
            scores: SCORES.to_vec(),
            levels: Vec::new(),
            signs: Vec::new(),
            notes,
            warnings: self.config.warnings(),
            views_about: "Whole images in one of several sizes, some mirrored; the boxes go along.",
        }
    }

    fn cadence(&self) -> Cadence {
        Cadence {
            epochs: self.config.spans().0,
            batch_size: self.config.batch_size,
            evaluate_every: usize::from(self.config.eval.every_iterations > 0),
            warmup_epochs: 0,
            log: self.config.log.clone(),
            watch: WatchConfig::default(),
        }
    }

    fn size(&self) -> Size {
        let trained = params::collect(self.net()).into_iter().filter(|p| p.trainable);
        let (backbone, head): (Vec<FlatParam>, Vec<FlatParam>) =
            trained.partition(|p| p.name.starts_with("network.backbone."));
        let count = |all: &[FlatParam]| all.iter().map(|p| p.shape.num_elements()).sum();
        Size {
            images: self.data.train.source.len(),
            steps_per_epoch: self.config.spans().1,
            backbone_parameters: count(&backbone),
            head_parameters: count(&head),
            held_values: 0,
            optimizer_values: 1,
        }
    }

    fn config(&self) -> Result<Table, TrainError> {
        self.config.table()
    }

    fn stored_config(&self, text: &str) -> Result<Table, TrainError> {
        DetectionConfig::parse(text, "the checkpoint's configuration")?.table()
    }

    fn describes(&self) -> Vec<(&'static str, String)> {
        vec![("arch", self.config.arch.to_string()), ("classes", self.classes_as_json())]
    }

    fn names_crc32(&self) -> u32 {
        self.names_crc32
    }

    fn views_on(&self) -> ViewsOn {
        ViewsOn::Cpu
    }

    fn begin_epoch(&mut self, _: usize, _: usize) {
        // Batches follow the steps, not the loop's epochs.
    }

    fn step(&mut self, iteration: usize) -> Result<Tensor<1>, TrainError> {
        if let Some(reason) = &self.missing {
            return Err(TrainError::File {
                path: Path::new(&self.config.weights).to_owned(),
                reason: format!(
                    "expected the weights that the run began from, for it has no checkpoint to go on from: {reason}. Put them \
                     back, or begin a new run with --weights and --overwrite"
                ),
            });
        }
        let parts = self.config.accumulate;
        let mut gradients = GradientSum::default();
        let mut figures: Option<Tensor<1>> = None;
        for part in 0..parts {
            let row = self.learn(iteration * parts + part, &mut gradients)? / parts as f64;
            figures = Some(match figures {
                None => row,
                Some(sum) => sum + row,
            });
        }
        let norms = gradients.norms().into_iter().flat_map(|(all, largest)| [all, largest]).collect::<Vec<_>>();
        let Rates { lr, weight_decay, .. } = self.rates(iteration);
        let norms_names = &self.norms;
        let group = |param: &FlatParam| Group {
            decay: if norms_names.contains(&param.name) { 0.0 } else { 1.0 },
            ..Group::default()
        };
        if let Some(net) = self.net.take() {
            self.net = Some(self.optimizer.step_by(net, &gradients, lr, weight_decay, &group));
        }
        Ok(Tensor::cat(figures.into_iter().chain(norms).collect(), 0))
    }

    fn rates(&self, iteration: usize) -> Rates {
        let optim = &self.config.optim;
        Rates { lr: optim.lr_at(iteration), weight_decay: optim.weight_decay, momentum: None }
    }

    fn unsettled_steps(&self) -> usize {
        self.config.optim.warmup_iterations
    }

    fn state(&self) -> Result<StateDict, TrainError> {
        let mut state = StateDict::default();
        state.add_module("", self.net())?;
        for (name, tensor) in self.optimizer.state()?.tensors {
            state.tensors.push((format!("{OPTIMIZER}{name}"), tensor));
        }
        Ok(state)
    }

    fn load(&mut self, state: &StateDict) -> Result<(), TrainError> {
        let is_own = |(name, _): &&(String, HostTensor)| !name.starts_with(OPTIMIZER);
        let tensors = state.tensors.iter().filter(is_own).cloned().collect();
        let own = StateDict { tensors, ..StateDict::default() };
        let net = own.load_into(self.net().clone())?;
        self.optimizer.load(&state.under(OPTIMIZER), &net)?;
        self.net = Some(net);
        (self.batches, self.missing) = (None, None);
        Ok(())
    }

    fn init(&mut self) -> Result<Option<String>, TrainError> {
        // The loop also asks where a checkpoint follows, and then the file may be gone: it is the first step that needs it.
        self.begin_again().or_else(|error| {
            self.missing = Some(error.to_string());
            Ok(None)
        })
    }

    fn bad(&self) -> BTreeMap<usize, BadFile> {
        self.loader.bad()
    }

    fn add_bad(&mut self, known: &BTreeMap<usize, BadFile>) {
        self.loader.add_bad(known);
    }

    fn evaluate(&mut self) -> Result<Scores, TrainError> {
        self.evaluated = None;
        let net = self.precise()?;
        let test = DetectionTest { views: self.config.views.clone(), short_px: self.config.eval.short_px };
        let of = (&self.data.val, &test);
        let findings = look(&net, &self.stages, of, loading(&self.config), &self.device, &mut |_| ())?;
        let summary = findings.judge(&self.data.classes, self.config.eval.interpolation)?;
        let scores = scores_of(&summary);
        self.evaluated = Some(Evaluated { net, findings, summary });
        Ok(scores)
    }

    fn keep(&self, folder: &Path, best: &Best) -> Result<(), TrainError> {
        let Some(evaluated) = &self.evaluated else { return Ok(()) };
        let path = folder.join(DETECTION_FILE);
        let kept = Kept {
            summary: &evaluated.summary,
            left_out: self.left_out(evaluated),
            judged: self.data.judged.to_string(),
        };
        let json = serde_json::to_vec(&kept).map_err(|e| TrainError::File {
            path: path.clone(),
            reason: format!("cannot write the figures: {e}"),
        })?;
        write_atomically(&folder.join(DETECTOR_FILE), &write_safetensors(&self.file(evaluated, best)?)?)?;
        write_atomically(&path, &json)
    }

    fn evaluation_bytes(&self) -> usize {
        if self.config.eval.every_iterations == 0 {
            return 0;
        }
        let config = &self.config;
        let shape = BackboneConfig::ResNet(ResNetConfig { stem: config.stem, ..config.arch.into() });
        let side = config.views.short_px.iter().copied().max().unwrap_or(0).max(config.eval.short_px);
        let part = config.batch_size / config.accumulate;
        // A pass in training over a part, for the statistics; a copy of the network that is kept.
        let regions = part * config.roi.batch_size_per_image * config.roi.cells.pow(2) * config.arch.stage_dim(2);
        4 * (part * shape.activations(side) + 4 * regions) + 4 * ocelli_methods::num_values(self.net())
    }

    fn draw(&self, folder: &Path, _: usize) -> Result<(), TrainError> {
        let Some(Evaluated { findings, .. }) = &self.evaluated else { return Ok(()) };
        match sheet(&self.data.val, findings, &self.data.classes)? {
            Some(picture) => write_picture(&folder.join("detections.png"), &picture),
            None => Ok(()),
        }
    }
}

/// What the optimizer remembers, in a checkpoint.
const OPTIMIZER: &str = "optimizer.";
