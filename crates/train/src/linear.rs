//! A linear classifier on a frozen backbone, as a task of the loop: the second way, beside k-NN, in which papers say what
//! features are worth. A head is trained for each of several learning rates, all on the same batches (see
//! [`ocelli_eval::linear`]); the best one on the held-out images is kept.

mod config;
mod frozen;
mod head;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_data::{BadFile, EpochIter, Loader, LoaderConfig, Rng, Source};
use ocelli_eval::linear::{HeadScore, LinearProbe, Scorer};
use ocelli_methods::Figure;
use ocelli_models::weights::preprocessing::{EvalSize, Preprocessing, Statistics, Told};
use ocelli_models::weights::{Dtype, HostTensor, StateDict, write_pth_under, write_safetensors};
use ocelli_models::{AnyBackbone, Init};
use toml::Table;

use crate::atomic::write_atomically;
use crate::config::{LogConfig, ViewsOn};
use crate::event::Best;
use crate::features::to_tensor;
use crate::steps::names_crc32;
use crate::task::{Cadence, Declared, Rates, Scores, Size, Task};
use crate::{ClassifiedData, TrainError, WatchConfig};

pub use crate::replace::{HEAD, HEAD_PTH};
pub use config::{LINEAR_TASK, LinearConfig};
pub use frozen::{FrozenFeatures, extract_for_probe};
pub use head::{ClassifierHead, read_head};

/// Standard deviation of the first weights, as published.
const INIT_STD: f64 = 0.01;
/// Rows whose logits are computed at once in an evaluation.
const ROWS: usize = 1024;
/// Keeps the order of cached features apart from other streams of the same seed.
const ORDER: u64 = 0x6C69_6E65;

/// Top-1 accuracy of the best head, as it is named in rows and events.
const TOP1: &str = "linear_top1";
/// Its top-5 accuracy.
const TOP5: &str = "linear_top5";
/// Its rate.
const RATE: &str = "linear_rate";

/// Where training features come from.
enum Batches {
    /// Once, before training.
    Cached(FrozenFeatures),
    /// Of augmented views, anew in every epoch.
    Augmented { loader: Box<Loader>, epoch: Option<EpochIter> },
}

/// A linear classifier about to be trained.
pub struct LinearTask {
    config: LinearConfig,
    device: Device,
    encoder: AnyBackbone,
    classes: Vec<String>,
    source: Arc<dyn Source>,
    batches: Batches,
    val: FrozenFeatures,
    probe: LinearProbe,
    epoch: usize,
    /// The step of the epoch that comes next, and the order of the epoch's images.
    at: (usize, Vec<usize>),
    /// What the last evaluation found of each head.
    scores: Vec<Option<HeadScore>>,
}

impl LinearTask {
    /// Heads, and where their batches come from: `train` where features were computed before, else augmented views of
    /// `data`. `val` is classified after epochs.
    ///
    /// # Errors
    /// For settings out of range, and a set smaller than a batch where short ones are left out.
    pub fn new(
        config: &LinearConfig,
        device: &Device,
        encoder: AnyBackbone,
        data: &ClassifiedData,
        (train, val): (Option<FrozenFeatures>, FrozenFeatures),
    ) -> Result<Self, TrainError> {
        let (probe, classes) = (config.probe(), data.classes.len());
        let dim = val.dim();
        let weight = Init::new(config.seed, device).trunc_normal([classes, dim], INIT_STD).val();
        let weight = read(weight)?;
        let mut heads = LinearProbe::new(&probe, classes, dim, &weight, device)?;
        let batches = match train {
            Some(train) => {
                heads.see_all(train.features());
                Batches::Cached(train)
            }
            None => Batches::Augmented { loader: Box::new(loader(config, &data.train)?), epoch: None },
        };
        let task = Self {
            config: config.clone(),
            device: device.clone(),
            encoder,
            classes: data.classes.clone(),
            source: data.train.clone(),
            scores: vec![None; heads.heads()],
            batches,
            val,
            probe: heads,
            epoch: 0,
            at: (0, Vec::new()),
        };
        if task.steps_per_epoch() == 0 {
            return Err(TrainError::TooFewImages { images: task.images(), batch: config.batch_size });
        }
        Ok(task)
    }

    /// What each rate came to in the last evaluation: the rate as papers name it, and the accuracy; none where the head's
    /// numbers broke.
    pub fn by_rate(&self) -> Vec<(f64, Option<HeadScore>)> {
        self.config.rates.iter().copied().zip(self.scores.iter().copied()).collect()
    }

    /// Images that are classified after an epoch.
    pub fn held_out(&self) -> usize {
        self.val.len()
    }

    /// Images learnt from.
    pub fn images(&self) -> usize {
        match &self.batches {
            Batches::Cached(train) => train.len(),
            Batches::Augmented { .. } => self.source.len(),
        }
    }

    fn steps_per_epoch(&self) -> usize {
        self.config.probe().steps_per_epoch(self.images())
    }

    /// The next batch's features and labels.
    fn next_batch(&mut self) -> Result<(Tensor<2>, Vec<u32>), TrainError> {
        let (step, size) = (self.at.0, self.config.batch_size);
        self.at.0 += 1;
        match &mut self.batches {
            Batches::Cached(train) => {
                let order = &self.at.1;
                let chosen = &order[(step * size).min(order.len())..((step + 1) * size).min(order.len())];
                Ok(train.rows(chosen))
            }
            Batches::Augmented { epoch, .. } => {
                let batch = epoch
                    .as_mut()
                    .and_then(Iterator::next)
                    .ok_or(TrainError::TooFewImages { images: self.source.len(), batch: size })??;
                let labels = batch.indices.iter().map(|i| self.source.label(*i).unwrap_or_default()).collect();
                let images: Vec<Tensor<4>> = batch.groups.iter().map(|g| to_tensor(g, &self.device)).collect();
                let features = self.config.features.of(&self.encoder, Tensor::cat(images, 0));
                Ok((features, labels))
            }
        }
    }

    /// The head with the best accuracy; of equal ones the one with the lowest rate.
    fn best(&self) -> Option<(usize, HeadScore)> {
        let scored = self.scores.iter().enumerate().filter_map(|(head, score)| Some((head, (*score)?)));
        scored.fold(None, |best: Option<(usize, HeadScore)>, now| match best {
            Some(before) if before.1.top1 >= now.1.top1 => Some(before),
            _ => Some(now),
        })
    }

    /// A head as it is kept: DINO's names, with what is known of it.
    fn head_file(&self, head: usize, best: &Best) -> Result<StateDict, TrainError> {
        let kept = self.probe.head(head)?;
        let (classes, dim) = (self.classes.len(), self.probe.dim());
        let tensor = |shape: Vec<usize>, values: Vec<f32>| HostTensor { shape, values };
        let tensors = vec![
            ("linear.weight".to_owned(), tensor(vec![classes, dim], kept.weight)),
            ("linear.bias".to_owned(), tensor(vec![classes], kept.bias)),
        ];
        let mut state = StateDict { tensors, ..StateDict::default() };
        let config = &self.config;
        let unit = if kept.unit_length { "divided by their length first" } else { "as they are" };
        let said = [
            ("format", "pt".to_owned()),
            ("producer", concat!("ocelli ", env!("CARGO_PKG_VERSION")).to_owned()),
            ("arch", config.arch.to_string()),
            ("features", config.features.to_string()),
            ("features_are", unit.to_owned()),
            ("backbone_crc32", config.weights_crc32.clone()),
            ("classes", serde_json::to_string(&self.classes).unwrap_or_default()),
            ("rate", config.rates[head].to_string()),
            ("accuracy", format!("{} {:.2} % of {} held-out images", best.what, best.accuracy, self.held_out())),
            ("config", Task::config(self)?.to_string()),
        ];
        state.metadata = said.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let input = Preprocessing {
            statistics: Some(Told::new(Statistics { mean: config.mean, std: config.std }, "the head's")),
            size: Some(Told::new(
                EvalSize { resize_px: config.resize_px, crop_px: config.crop_px },
                "as the head was evaluated",
            )),
        };
        input.write(&mut state.metadata);
        Ok(state)
    }
}

/// Random resized crops and flips of the images, as the protocols train on; the last short batch is kept where they keep it.
fn loader(config: &LinearConfig, source: &Arc<dyn Source>) -> Result<Loader, TrainError> {
    let settings = LoaderConfig {
        batch_size: config.batch_size,
        seed: config.seed,
        drop_last: config.probe().drop_last,
        ..LoaderConfig::default()
    };
    Ok(Loader::new(source.clone(), config.view_plan(), settings)?)
}

fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, TrainError> {
    let values = tensor.into_data().try_to_vec::<f32>();
    values.map_err(|e| TrainError::Device(format!("cannot read the heads back: {e:?}")))
}

impl Task for LinearTask {
    fn declared(&self) -> Declared {
        let scores = [
            Figure::new(
                TOP1,
                "Linear top-1 accuracy",
                "Share of held-out images whose class the best of the heads puts first. Healthy: up, and level at the end. The best \
                 head is chosen on these very images, as in papers, so the figure flatters a little.",
            )
            .bar_with("linear top-1", 1.0, 1, " %"),
            Figure::new(TOP5, "Linear top-5 accuracy", "The same with five guesses.").bar_with("top-5", 1.0, 1, " %"),
            Figure::new(RATE, "Learning rate of the best head", "As papers name it, before it is scaled. At one end of the sweep: widen it.")
                .bar_with("rate", 1.0, 4, ""),
        ];
        Declared {
            task: LINEAR_TASK,
            title: "Linear probe",
            figures: vec![
                Figure::new(
                    "loss",
                    "Loss",
                    "Cross-entropy of the head whose loss is lowest. Healthy: below ln(classes), then down.",
                )
                .headline(),
            ],
            scores: scores.into_iter().filter(|f| f.name != TOP5 || self.classes.len() > 5).collect(),
            levels: Vec::new(),
            signs: Vec::new(),
            notes: self.config.notes(),
            warnings: Vec::new(),
            views_about: "Random resized crops and flips, seen by a backbone that does not change.",
        }
    }

    fn cadence(&self) -> Cadence {
        let rare = self.config.cached;
        Cadence {
            epochs: self.config.epochs,
            batch_size: self.config.batch_size,
            evaluate_every: self.config.evaluate_every,
            warmup_epochs: 0,
            log: LogConfig {
                every_steps: self.steps_per_epoch().clamp(1, 50),
                checkpoint_every_epochs: if rare { self.config.epochs.div_ceil(5) } else { 1 },
                keep_every_epochs: 0,
                ..LogConfig::default()
            },
            watch: WatchConfig::default(),
        }
    }

    fn size(&self) -> Size {
        let head = self.probe.heads() * self.classes.len() * (self.probe.dim() + 1);
        Size {
            images: self.images(),
            steps_per_epoch: self.steps_per_epoch(),
            backbone_parameters: ocelli_models::params::count(&self.encoder),
            head_parameters: head,
            held_values: 0,
            optimizer_values: 1,
        }
    }

    fn config(&self) -> Result<Table, TrainError> {
        self.config.table()
    }

    fn stored_config(&self, text: &str) -> Result<Table, TrainError> {
        LinearConfig::parse(text, "the checkpoint's configuration")?.table()
    }

    fn describes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("arch", self.config.arch.to_string()),
            ("classes", serde_json::to_string(&self.classes).unwrap_or_default()),
        ]
    }

    fn names_crc32(&self) -> u32 {
        names_crc32(self.source.as_ref())
    }

    fn views_on(&self) -> ViewsOn {
        ViewsOn::Cpu
    }

    fn begin_epoch(&mut self, epoch: usize, step_in_epoch: usize) {
        self.epoch = epoch;
        self.at = (step_in_epoch, Vec::new());
        match &mut self.batches {
            Batches::Cached(train) => {
                self.at.1 = (0..train.len()).collect();
                Rng::from_words(&[ORDER, self.config.seed, epoch as u64]).shuffle(&mut self.at.1);
            }
            Batches::Augmented { loader, epoch: batches } => *batches = Some(loader.epoch(epoch, step_in_epoch)),
        }
    }

    fn step(&mut self, _: usize) -> Result<Tensor<1>, TrainError> {
        let factor = self.config.probe().factor(self.epoch, self.at.0, self.steps_per_epoch());
        let (features, labels) = self.next_batch()?;
        let [loss, norm] = self.probe.step(features, &labels, factor).lowest();
        Ok(Tensor::cat(vec![loss, norm.clone(), norm], 0))
    }

    fn rates(&self, iteration: usize) -> Rates {
        let steps = self.steps_per_epoch();
        let probe = self.config.probe();
        let factor = probe.factor(iteration / steps, iteration % steps, steps);
        let highest = probe.rates.iter().copied().fold(0.0, f64::max);
        Rates { lr: highest * factor, weight_decay: probe.weight_decay, momentum: None }
    }

    fn unsettled_steps(&self) -> usize {
        0
    }

    fn state(&self) -> Result<StateDict, TrainError> {
        let mut state = StateDict::default();
        for (name, tensor) in self.probe.state() {
            let (shape, mut values) = (tensor.dims().to_vec(), read(tensor)?);
            // A checkpoint holds numbers alone. A head that broke is kept so that it is broken when the run goes on.
            values.iter_mut().filter(|v| !v.is_finite()).for_each(|v| *v = f32::MAX);
            state.tensors.push((format!("probe.{name}"), HostTensor { shape, values }));
        }
        Ok(state)
    }

    fn load(&mut self, state: &StateDict) -> Result<(), TrainError> {
        let device = self.device.clone();
        let find = |name: &'static str| {
            let found = state.get(&format!("probe.{name}"))?;
            let shape: [usize; 2] = found.shape.as_slice().try_into().ok()?;
            Some(Tensor::from_data(TensorData::new(found.values.clone(), shape), &device))
        };
        Ok(self.probe.load(find)?)
    }

    fn init(&mut self) -> Result<Option<String>, TrainError> {
        Ok(None)
    }

    fn bad(&self) -> BTreeMap<usize, BadFile> {
        match &self.batches {
            Batches::Cached(_) => BTreeMap::new(),
            Batches::Augmented { loader, .. } => loader.bad(),
        }
    }

    fn add_bad(&mut self, known: &BTreeMap<usize, BadFile>) {
        if let Batches::Augmented { loader, .. } = &self.batches {
            loader.add_bad(known);
        }
    }

    fn evaluate(&mut self) -> Result<Scores, TrainError> {
        self.scores = score(&self.probe, self.classes.len(), &self.val)?;
        let Some((head, best)) = self.best() else {
            let rates = self.config.rates.len();
            return Err(TrainError::NotFinite { what: "every head's logits", value: f32::NAN, step: rates });
        };
        let named = [(TOP1, Some(best.top1)), (TOP5, best.top5), (RATE, Some(self.config.rates[head]))];
        Ok(Scores {
            named: named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
            quoted: Some(("linear top-1".to_owned(), best.top1)),
            ..Scores::default()
        })
    }

    fn keep(&self, folder: &Path, best: &Best) -> Result<(), TrainError> {
        let Some((head, _)) = self.best() else { return Ok(()) };
        let state = self.head_file(head, best)?;
        write_atomically(&folder.join(HEAD), &write_safetensors(&state)?)?;
        // DINO's own file, as its evaluation saves and loads it.
        let mut pth = state;
        pth.tensors.iter_mut().for_each(|(name, _)| *name = format!("module.{name}"));
        write_atomically(&folder.join(HEAD_PTH), &write_pth_under(Some("state_dict"), &pth, Dtype::F32)?)
    }

    fn evaluation_bytes(&self) -> usize {
        4 * 2 * ROWS.min(self.val.len()) * self.probe.heads() * self.classes.len()
    }

    fn draw(&self, _: &Path, _: usize) -> Result<(), TrainError> {
        Ok(())
    }
}

/// What each head of a probe comes to on `val`.
fn score(probe: &LinearProbe, classes: usize, val: &FrozenFeatures) -> Result<Vec<Option<HeadScore>>, TrainError> {
    let mut scorer = Scorer::new(probe.heads(), classes);
    let all: Vec<usize> = (0..val.len()).collect();
    for rows in all.chunks(ROWS) {
        let (features, labels) = val.rows(rows);
        scorer.add(&read(probe.logits(features))?, &labels)?;
    }
    Ok(scorer.scores())
}

/// Epochs of the online probe.
const ONLINE_EPOCHS: usize = 30;
/// Images of its steps.
const ONLINE_BATCH: usize = 256;
/// Its rates, for features of any scale.
const ONLINE_RATES: [f64; 6] = [0.01, 0.03, 0.1, 0.3, 1.0, 10.0];

/// Top-1 accuracy of linear classifiers trained for a short while on features that were computed for k-NN anyway: how a run
/// goes, not a figure to publish. The best of six rates.
///
/// # Errors
/// When features are not finite, or values cannot be read.
pub(crate) fn online_probe(
    train: &FrozenFeatures,
    val: &FrozenFeatures,
    classes: usize,
    seed: u64,
) -> Result<Option<f64>, TrainError> {
    let batch = ONLINE_BATCH.min(train.len().max(1));
    let config = ocelli_eval::linear::Published::Dino.config(&ONLINE_RATES, ONLINE_EPOCHS, batch);
    let device = train.features().device();
    let weight = read(Init::new(seed, &device).trunc_normal([classes, train.dim()], INIT_STD).val())?;
    let mut probe = LinearProbe::new(&config, classes, train.dim(), &weight, &device)?;
    let steps = config.steps_per_epoch(train.len());
    for epoch in 0..config.epochs {
        let mut order: Vec<usize> = (0..train.len()).collect();
        Rng::from_words(&[ORDER, seed, epoch as u64]).shuffle(&mut order);
        for (step, chosen) in order.chunks(batch).enumerate() {
            let (features, labels) = train.rows(chosen);
            probe.step(features, &labels, config.factor(epoch, step, steps));
        }
    }
    let scores = score(&probe, classes, val)?;
    Ok(scores.into_iter().flatten().map(|s| s.top1).max_by(f64::total_cmp))
}
