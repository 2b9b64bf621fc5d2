//! What the training loop needs of a method.

use burn::module::Module;
use burn::tensor::{Gradients, Tensor};
use ocelli_data::ViewBox;
use ocelli_models::params::{self, FlatParam};
use ocelli_models::weights::{StateDict, WeightsError};
use ocelli_models::{BackboneError, ResNetError, VitError};
use ocelli_world::World;

use crate::figure::{Figure, Level};
use crate::optim::{GradientSum, Group, OptimConfig, Optimizer, StepRates};

/// The schedules' values for one optimizer step. Several micro-batches of one step share it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepClock {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Optimizer step, from 0.
    pub iteration: usize,
    /// Micro-batch within the step, from 0; counted over all processes where several take the step together: i·W + r is the i-th
    /// of rank r among W.
    pub micro_batch: usize,
    /// [`Method::momentum`] at this step; 0 where the method has none.
    pub momentum: f64,
    /// Seed of the run; random decisions depend on it, the iteration and the micro-batch alone.
    pub seed: u64,
}

impl StepClock {
    /// A seed for this micro-batch's random decisions (drop path).
    pub fn step_seed(&self) -> u64 {
        let mixed = self.seed ^ (self.iteration as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed.rotate_left(23) ^ (self.micro_batch as u64 + 1).wrapping_mul(0xD1B5_4A32_D192_ED03)
    }
}

/// A micro-batch on the device.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// `[views·images, 3, side, side]`, one tensor per size, view by view, as the method's plan orders them.
    pub views: Vec<Tensor<4>>,
    /// Number of images.
    pub images: usize,
    /// The images' numbers in the data set; empty where nobody knows.
    pub indices: Vec<usize>,
    /// Their classes; empty where nobody knows.
    pub labels: Vec<Option<u32>>,
    /// What each view of each image shows, by image and then by view; empty where nobody knows.
    pub places: Vec<Vec<ViewBox>>,
}

impl Batch {
    /// Views alone.
    pub fn of_views(views: Vec<Tensor<4>>, images: usize) -> Self {
        Self { views, images, ..Self::default() }
    }

    /// One view of every image among those of the first size, `[images, 3, side, side]`.
    pub fn view(&self, index: usize) -> Tensor<4> {
        self.views[0].clone().narrow(0, index * self.images, self.images)
    }
}

/// A tensor that a device has to bind as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// What it is, in words.
    pub what: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Whether it grows with the images of a micro-batch.
    pub by_batch: bool,
}

/// A loss and the figures that say whether training is healthy.
pub struct LossOutput {
    /// `[1]`, on the autodiff device.
    pub loss: Tensor<1>,
    /// Scalars `[1]`, outside autodiff, as [`Method::figures`] lists them; read back together, now and then.
    pub scalars: Vec<(&'static str, Tensor<1>)>,
}

/// What is wrong with a method's configuration or state.
#[derive(Debug, thiserror::Error)]
pub enum MethodError {
    /// A backbone that cannot be built.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// A Vision Transformer that cannot be built.
    #[error(transparent)]
    Vit(#[from] VitError),
    /// A ResNet that cannot be built.
    #[error(transparent)]
    ResNet(#[from] ResNetError),
    /// State of another configuration.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A value out of range.
    #[error("{key}: expected {expected}, found {found}")]
    Value {
        /// The configuration key.
        key: &'static str,
        /// What is allowed.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A section that cannot be read.
    #[error("section {0}: {1}")]
    Section(String, String),
    /// A data set without the labels that the method learns from.
    #[error(
        "{method} learns from labels: expected training images of two classes or more, in a folder for each, found {}",
        if *classes == 0 { "images without classes" } else { "one class" }
    )]
    Labels {
        /// The method in words.
        method: &'static str,
        /// Classes that were found, 0 or 1.
        classes: usize,
    },
    /// State without something it must have.
    #[error("the checkpoint has no {0}")]
    Missing(&'static str),
    /// Values that the device does not give back.
    #[error("cannot read {0} back from the device")]
    Unreadable(String),
}

/// A trained network with its type erased: what gradients, optimizers and counts need of it.
pub trait Network {
    /// All parameters and running statistics.
    fn parameters(&self) -> Vec<FlatParam>;

    /// Takes its parameters' gradients: `(name, [len])`.
    fn take_gradients(&self, gradients: &mut Gradients) -> Vec<(String, Tensor<1>)>;
}

impl<M: Module> Network for M {
    fn parameters(&self) -> Vec<FlatParam> {
        params::collect(self)
    }

    fn take_gradients(&self, gradients: &mut Gradients) -> Vec<(String, Tensor<1>)> {
        params::take_gradients(self, gradients)
    }
}

/// An optimizer's step, for the method to take on its network.
pub struct Update<'a> {
    /// The optimizer.
    pub optimizer: &'a mut Optimizer,
    /// Gradients by parameter name, summed over the micro-batches.
    pub gradients: GradientSum,
    /// Learning rate, decay, clipping.
    pub rates: &'a StepRates,
    /// How the configuration groups parameters, before the method does.
    pub config: &'a OptimConfig,
    /// The step's clock.
    pub clock: &'a StepClock,
}

/// A method in training: it owns the network that is trained and whatever is kept between steps.
///
/// A step is [`before_step`](Method::before_step), where there are several micro-batches
/// [`before_parts`](Method::before_parts), then for each [`loss`](Method::loss) and its gradients, then, where there are several
/// processes, [`exchange`](Method::exchange), then [`update`](Method::update) and [`after_step`](Method::after_step): see
/// [`crate::train_step`] and [`crate::train_step_in`].
pub trait Method {
    /// The scalars that [`Method::loss`] returns, in their order; `loss` is the first.
    fn figures(&self) -> &'static [Figure];

    /// The loss of one micro-batch.
    fn loss(&mut self, batch: &Batch, clock: &StepClock) -> LossOutput;

    /// The network that is trained. Its backbone's parameters are named `backbone.…`.
    fn network(&self) -> &dyn Network;

    /// Takes the optimizer's step on the network, and may move what follows it in the same pass over the memory.
    fn update(&mut self, update: Update<'_>);

    /// An epoch begins, or goes on after a stop.
    fn begin_epoch(&mut self, _epoch: usize) {}

    /// Whether it has to see the images of an epoch before the first step: each batch goes to [`see`](Method::see), and then the
    /// epoch begins.
    fn wants_pass(&self) -> bool {
        false
    }

    /// A batch of the pass that [`wants_pass`](Method::wants_pass) asks for, views and images' numbers as in a step. The clock's
    /// iteration and micro-batch count from 0 with the pass.
    fn see(&mut self, _batch: &Batch, _clock: &StepClock) {}

    /// An optimizer step begins; nothing has been computed in it.
    fn before_step(&mut self, _clock: &StepClock) {}

    /// All of this process's parts of a batch that is computed in several, before the loss of the first: for what needs all of its images at once.
    fn before_parts(&mut self, _parts: &[Batch], _clock: &StepClock) {}

    /// All losses of a step are computed, in every process of `world`: exchanges what the step needs of all micro-batches beside
    /// the gradients. Called where there are several processes alone.
    ///
    /// # Errors
    /// When values cannot be read from the device.
    fn exchange(&mut self, _world: &dyn World) -> Result<(), MethodError> {
        Ok(())
    }

    /// An optimizer step is done: moves what was not moved with it.
    fn after_step(&mut self, _clock: &StepClock) {}

    /// How a parameter is stepped beside what the configuration says: its share of learning rate and decay, and whether it is
    /// left out.
    fn group(&self, _parameter: &FlatParam, _clock: &StepClock) -> Group {
        Group::default()
    }

    /// Momentum of whatever follows the network, at a step of so many.
    fn momentum(&self, _iteration: usize, _iterations: usize) -> Option<f64> {
        None
    }

    /// Values that say what the figures of this run mean, as its figures and signs name them.
    fn levels(&self) -> Vec<Level> {
        Vec::new()
    }

    /// Steps of the start whose figures say nothing yet, with so many steps to an epoch and images to a step.
    fn unsettled_steps(&self, _steps_per_epoch: usize, _batch_size: usize) -> usize {
        0
    }

    /// Epochs at the start in which not every parameter is trained.
    fn frozen_epochs(&self) -> usize {
        0
    }

    /// The backbone one keeps, as it is now, by name: the follower's, where that is the better one.
    fn kept(&self) -> Vec<FlatParam> {
        backbone_of(self.network())
    }

    /// Gives every network this backbone; the heads stay as they are.
    ///
    /// # Errors
    /// When it is of another shape; nothing is changed then.
    fn start_from(&mut self, backbone: &StateDict) -> Result<(), MethodError>;

    /// Everything beside the optimizer that a continued run needs, in PyTorch's names.
    ///
    /// # Errors
    /// When values cannot be read from the device.
    fn state(&self) -> Result<StateDict, MethodError>;

    /// Restores [`Method::state`].
    ///
    /// # Errors
    /// When the state is of another configuration; nothing is changed then.
    fn load_state(&mut self, state: &StateDict) -> Result<(), MethodError>;

    /// Numbers kept between steps beside the trained network: what follows it, queues, centres.
    fn held_values(&self) -> usize {
        0
    }

    /// How many of so many views of one size pass through the network at once.
    fn views_at_once(&self, _views: usize) -> usize {
        1
    }

    /// The large tensors beside the network and its activations, with so many images to a micro-batch and views of each: what is held
    /// between steps, and what arises behind the backbone.
    fn bound(&self, _images: usize, _views: usize) -> Vec<Bound> {
        Vec::new()
    }
}

const BACKBONE: &str = "backbone.";

/// The backbone's part of a network, without the prefix.
pub fn backbone_of(network: &dyn Network) -> Vec<FlatParam> {
    let own = |p: FlatParam| Some(FlatParam { name: p.name.strip_prefix(BACKBONE)?.to_owned(), ..p });
    network.parameters().into_iter().filter_map(own).collect()
}

/// Trained values of backbone and head.
pub fn count(network: &dyn Network) -> (usize, usize) {
    let (mut backbone, mut head) = (0, 0);
    for param in network.parameters().iter().filter(|p| p.trainable) {
        let of = if param.name.starts_with(BACKBONE) { &mut backbone } else { &mut head };
        *of += param.shape.num_elements();
    }
    (backbone, head)
}

/// Numbers in a network, running statistics included.
pub fn num_values(network: &dyn Network) -> usize {
    network.parameters().iter().map(|p| p.shape.num_elements()).sum()
}

/// The values of a scalar a configuration holds, for a message.
pub(crate) fn check_value(
    ok: bool,
    key: &'static str,
    expected: impl Into<String>,
    found: impl std::fmt::Display,
) -> Result<(), MethodError> {
    match ok {
        true => Ok(()),
        false => Err(MethodError::Value { key, expected: expected.into(), found: found.to_string() }),
    }
}
