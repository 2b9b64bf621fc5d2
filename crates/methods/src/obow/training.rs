//! Student, teacher, predictors and a step of OBoW.

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use ocelli_kernels::together;
use ocelli_models::mlp::LinearInit;
use ocelli_models::weights::{ModuleState as _, StateDict};
use ocelli_models::{AnyBackbone, Backbone, BatchNorm, Init, Linear, Mode};

use super::{FIGURES, KEYS, ObowConfig, STAGES, WORDS};
use crate::figure::{Figure, Level};
use crate::held::{Followed, Vocabulary};
use crate::method::{Batch, LossOutput, Method, MethodError, Network, StepClock, Update, check_value};
use crate::optim::Group;
use crate::parts::bow::{BagFigures, bag_loss, inner, new_words, places};
use crate::parts::infonce::unit;
use crate::parts::matching::Draw;
use crate::parts::{feature_std, scalar};
use crate::recipe::{Sections, check_keys};
use crate::schedule::Cosine;

/// Makes the weights of a linear classifier of its words: word, linear map, batch normalisation over the words, ReLU, linear map.
#[derive(Module, Debug)]
pub struct BowPredictor {
    /// Without bias, from the words' width.
    pub fc: Linear,
    /// Over the words.
    pub bn: BatchNorm,
    /// To the features' width.
    pub last: Linear,
}

impl BowPredictor {
    /// Draws it, as PyTorch draws linear layers.
    pub fn new([words, hidden, features]: [usize; 3], init: &mut Init) -> Self {
        Self {
            fc: LinearInit::Default.linear([words, hidden], false, init),
            bn: BatchNorm::new(hidden, init),
            last: LinearInit::Default.linear([hidden, features], true, init),
        }
    }

    /// A unit vector for each word: `[words, dim]`, on the parameters' device, to `[words, features]`.
    pub fn forward(&self, words: Tensor<2>, mode: Mode) -> Tensor<2> {
        let hidden = self.bn.forward(self.fc.forward(unit(words)), mode);
        unit(self.last.forward(relu(hidden)))
    }
}

/// A backbone, and in the student a predictor for each level, the finest first. (One field each, as in the reference's names.)
#[derive(Module, Debug)]
pub struct ObowNet<B: Module> {
    /// The backbone.
    pub backbone: B,
    /// Of the first level.
    pub predictor0: Option<BowPredictor>,
    /// Of the second.
    pub predictor1: Option<BowPredictor>,
    /// Of the third.
    pub predictor2: Option<BowPredictor>,
    /// Of the fourth.
    pub predictor3: Option<BowPredictor>,
}

impl<B: Backbone> ObowNet<B> {
    fn new(backbone: B, mut predictors: impl Iterator<Item = BowPredictor>) -> Self {
        let mut next = || predictors.next();
        Self { backbone, predictor0: next(), predictor1: next(), predictor2: next(), predictor3: next() }
    }

    /// The predictors, level by level.
    pub fn predictors(&self) -> impl Iterator<Item = &BowPredictor> {
        [&self.predictor0, &self.predictor1, &self.predictor2, &self.predictor3].into_iter().flatten()
    }
}

/// Which cell of each image gives a level's next word: of the step, the level, the number of images and the number of cells to
/// choose from (see [`places`]).
pub type Cells = dyn Fn(&StepClock, usize, [usize; 2]) -> Vec<usize>;

/// Any cell, as the clock's seed says.
fn random_cells(clock: &StepClock, level: usize, [images, cells]: [usize; 2]) -> Vec<usize> {
    let mut draw = Draw(clock.step_seed() ^ (level as u64 + 1).wrapping_mul(0x9E6C_63D0_876A_46AD));
    (0..images).map(|_| draw.below(cells)).collect()
}

/// Student, teacher and a vocabulary for each level. See [`ObowConfig`].
pub struct Obow<B: Backbone = AnyBackbone> {
    config: ObowConfig,
    nets: Followed<ObowNet<B>>,
    vocabularies: Vec<Vocabulary>,
    cells: Box<Cells>,
    device: Device,
}

impl<B: Backbone> Obow<B> {
    /// A student drawn from `seed`, a teacher equal to its backbone and random vocabularies. `build` draws a backbone; `device`
    /// is the plain device, the student's parameters are tracked.
    ///
    /// # Errors
    /// When a value is out of range, or the backbone cannot be built or has fewer levels than are asked for.
    pub fn new<E: Into<MethodError>>(
        config: &ObowConfig,
        build: impl Fn(&mut Init) -> Result<B, E>,
        seed: u64,
        device: &Device,
    ) -> Result<Self, MethodError> {
        check_keys(KEYS, &Sections::default().with("obow", config)?)?;
        let draw = |device: &Device| -> Result<(B, Init), MethodError> {
            let mut init = Init::new(seed, device);
            Ok((build(&mut init).map_err(Into::into)?, init))
        };
        let (backbone, mut init) = draw(&device.clone().autodiff())?;
        let (dim, dims) = (backbone.map_dim(), backbone.level_dims(config.levels));
        let expected = format!("at most {}, the levels of this backbone", dims.len());
        check_value(dims.len() == config.levels, "obow.levels", expected, config.levels)?;
        let hidden = if config.hidden_dim == 0 { 2 * dim } else { config.hidden_dim };
        let predictors: Vec<_> = dims.iter().map(|d| BowPredictor::new([*d, hidden, dim], &mut init)).collect();
        let vocabulary = |(level, dim): (usize, &usize)| {
            let seed = seed ^ (0xB0 + level as u64);
            Vocabulary::new([config.words, *dim], config.distance_momentum, seed, device)
        };
        Ok(Self {
            nets: Followed::new(
                ObowNet::new(backbone, predictors.into_iter()),
                ObowNet::new(draw(device)?.0, std::iter::empty()),
            ),
            vocabularies: dims.iter().enumerate().map(vocabulary).collect(),
            cells: Box::new(random_cells),
            config: config.clone(),
            device: device.clone(),
        })
    }

    /// The same with new words from these cells, not from random ones.
    pub fn with_cells(self, cells: impl Fn(&StepClock, usize, [usize; 2]) -> Vec<usize> + 'static) -> Self {
        Self { cells: Box::new(cells), ..self }
    }

    /// The student.
    pub fn student(&self) -> &ObowNet<B> {
        self.nets.net()
    }

    /// The teacher: a backbone without predictors.
    pub fn teacher(&self) -> &ObowNet<B> {
        self.nets.follower()
    }

    /// The vocabularies, level by level.
    pub fn vocabularies(&self) -> &[Vocabulary] {
        &self.vocabularies
    }

    /// The teacher's bags of each level; the vocabularies keep a new word of each image until the step is done.
    fn bags(&mut self, images: Tensor<4>, clock: &StepClock, mode: Mode) -> Vec<Tensor<2>> {
        let maps = self.nets.follower().backbone.levels(images, mode, self.config.levels);
        // The cells of all ranks' images are drawn as one process would, and each takes its own.
        let (rank, ranks) = together::place();
        let clock = StepClock { micro_batch: clock.micro_batch / ranks, ..*clock };
        let levels = maps.into_iter().zip(&mut self.vocabularies).enumerate();
        let bags = levels.map(|(level, (map, vocabulary))| {
            let map = inner(map);
            let [images, _, rows, cols] = map.dims();
            let bags = vocabulary.bags(map.clone(), self.config.inv_delta).bags;
            let cells = (self.cells)(&clock, level, [ranks * images, places([rows, cols])]);
            vocabulary.hold(together::gather(new_words(map, &cells[rank * images..][..images])));
            bags
        });
        bags.collect()
    }
}

/// The mean of tensors of one shape.
fn mean_of(parts: Vec<Tensor<1>>) -> Tensor<1> {
    Tensor::cat(parts, 0).mean()
}

impl<B: Backbone> Method for Obow<B> {
    fn figures(&self) -> &'static [Figure] {
        FIGURES
    }

    fn network(&self) -> &dyn Network {
        self.nets.net()
    }

    /// The teacher moves within the next step.
    fn update(&mut self, update: Update<'_>) {
        self.nets.update(update, None, &|_| Group::default());
    }

    fn loss(&mut self, batch: &Batch, clock: &StepClock) -> LossOutput {
        let mode = Mode::Train { seed: clock.step_seed() };
        let student = self.nets.net();
        let views = batch.views.iter().skip(1);
        let features: Vec<Tensor<2>> =
            views.map(|v| student.backbone.features(v.clone().autodiff(), mode)).collect();
        // Of the words as they are before this step's.
        let predictors = student.predictors().zip(&self.vocabularies);
        // All ranks have the same words: what they normalise is no part of a whole.
        let weights = predictors.map(|(p, v)| together::apart(|| p.forward(v.words().autodiff(), mode)));
        let weights: Vec<Tensor<2>> = weights.collect();
        // The teacher moves between the two forward passes, once per step.
        self.nets.follow_first(clock.momentum, clock);
        let bags = self.bags(batch.views[0].clone(), clock, mode);
        let of_group = |features: &Tensor<2>| {
            let levels = weights.iter().zip(&bags);
            let parts = levels.map(|(w, b)| bag_loss(features.clone(), w.clone(), b, self.config.kappa));
            mean_of(parts.collect())
        };
        let groups: Vec<Tensor<1>> = features.iter().map(of_group).collect();
        let group = |i: usize| groups.get(i).map_or_else(|| scalar(0.0, &self.device), |g| g.clone().inner());
        let (crops, patches) = (group(0), group(1));
        let found: Vec<BagFigures> = bags.iter().map(BagFigures::of).collect();
        let mean =
            |figure: fn(&BagFigures) -> &Tensor<1>| mean_of(found.iter().map(|f| figure(f).clone()).collect());
        let distance = mean_of(self.vocabularies.iter().map(Vocabulary::mean).collect());
        let loss = Tensor::cat(groups, 0).sum();
        let scalars = vec![
            ("loss", loss.clone().inner()),
            ("loss_crops", crops),
            ("loss_patches", patches),
            ("perplexity_image", mean(|f| &f.of_image)),
            ("perplexity_batch", mean(|f| &f.of_batch)),
            ("bag_information", mean(|f| &f.told)),
            ("word_distance", distance),
            ("feature_std", feature_std(features[0].clone().inner())),
        ];
        LossOutput { loss, scalars }
    }

    fn momentum(&self, iteration: usize, iterations: usize) -> Option<f64> {
        Some(Cosine::new(self.config.momentum, 1.0, iterations).at(iteration))
    }

    fn levels(&self) -> Vec<Level> {
        vec![Level::new(WORDS, self.config.words as f64)]
    }

    /// Two turns of the vocabulary, and what the mean distance takes to reach the scale of the features.
    fn unsettled_steps(&self, _: usize, batch_size: usize) -> usize {
        let scale = 3.0 / (1.0 - self.config.distance_momentum).max(1e-3);
        2 * (self.config.words / batch_size.max(1)) + scale as usize
    }

    fn after_step(&mut self, _: &StepClock) {
        self.vocabularies.iter_mut().for_each(Vocabulary::turn);
    }

    fn start_from(&mut self, backbone: &StateDict) -> Result<(), MethodError> {
        self.nets.load([backbone, backbone], |state, net| {
            Ok(ObowNet { backbone: state.load_into(net.backbone)?, ..net })
        })
    }

    /// `student.backbone.*`, `student.predictor0.*` and so on, `teacher.backbone.*`; of each level `words0`, `words0_ptr`,
    /// `words0_distance_mean`.
    fn state(&self) -> Result<StateDict, MethodError> {
        let mut state = self.nets.state(["student.", "teacher."])?;
        for (name, vocabulary) in STAGES.iter().zip(&self.vocabularies) {
            vocabulary.add_to(name, &mut state)?;
        }
        Ok(state)
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), MethodError> {
        let vocabularies = STAGES.iter().zip(&self.vocabularies).map(|(name, v)| v.restored(name, state));
        let vocabularies = vocabularies.collect::<Result<Vec<_>, _>>()?;
        let (student, teacher) = (state.under("student."), state.under("teacher."));
        // The teacher has no predictors: what both have is loaded together, with the student's own beside it.
        let mut shared = student.clone();
        shared.tensors.retain(|(name, _)| name.starts_with("backbone."));
        self.nets.load([&shared, &teacher], |part, net| {
            let part = if net.predictor0.is_some() { &student } else { part };
            Ok(part.load_into(net)?)
        })?;
        self.vocabularies = vocabularies;
        Ok(())
    }

    fn held_values(&self) -> usize {
        self.nets.held_values() + self.vocabularies.iter().map(Vocabulary::values).sum::<usize>()
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
