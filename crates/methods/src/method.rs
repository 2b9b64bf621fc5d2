//! What the training loop needs of a method.

use burn::module::Module;
use burn::tensor::Tensor;
use ocelli_models::weights::{StateDict, WeightsError};
use ocelli_models::{ResNetError, VitError};

use crate::ViewBox;
use crate::optim::Follower;

/// The schedules' values for one optimizer step. Several micro-batches of one step share it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepClock {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Optimizer step, from 0.
    pub iteration: usize,
    /// Micro-batch within the step, from 0.
    pub micro_batch: usize,
    /// Momentum of the teacher at this step.
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

/// A loss and the figures that say whether training is healthy.
pub struct LossOutput {
    /// `[1]`, on the autodiff device.
    pub loss: Tensor<1>,
    /// Named scalars `[1]`, outside autodiff, as [`Method::FIGURES`] lists them; read back together, now and then.
    pub scalars: Vec<(&'static str, Tensor<1>)>,
}

/// What is wrong with a method's configuration or state.
#[derive(Debug, thiserror::Error)]
pub enum MethodError {
    /// A backbone that cannot be built.
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
        expected: &'static str,
        /// What was given.
        found: String,
    },
    /// State without something it must have.
    #[error("the checkpoint has no {0}")]
    Missing(&'static str),
}

/// A self-supervised method.
pub trait Method {
    /// The network that is trained.
    type Net: Module;

    /// Names of the scalars that [`Method::loss`] returns, in their order; `loss` is the first.
    const FIGURES: &'static [&'static str];

    /// The network that is trained.
    fn net(&self) -> &Self::Net;

    /// Replaces the trained network by `step` of it (the optimizer's step).
    fn update_net(&mut self, step: impl FnOnce(Self::Net) -> Self::Net);

    /// The same for an optimizer that moves in one pass what follows the network: `step` gets both, and gives both back.
    /// [`Method::after_step`] does not move it again. Without something that moves after every step it is
    /// [`Method::update_net`].
    fn update_with_follower(
        &mut self,
        clock: &StepClock,
        step: impl FnOnce(Self::Net, Option<Follower<Self::Net>>) -> (Self::Net, Option<Self::Net>),
    ) {
        let _ = clock;
        self.update_net(|net| step(net, None).0);
    }

    /// The loss of one micro-batch. `views` are `[views·batch, 3, side, side]`, one tensor per crop size, crop-major,
    /// global crops first; `batch` is the number of images. `places` has what each view of each image shows, by image and
    /// then by view, for methods that compare places; it may be empty where a method does not.
    fn loss(
        &mut self,
        views: &[Tensor<4>],
        batch: usize,
        places: &[Vec<ViewBox>],
        clock: &StepClock,
    ) -> LossOutput;

    /// Whether the parameter is left out of this epoch's steps (no moments, no decay).
    fn is_frozen(&self, parameter: &str, epoch: usize) -> bool;

    /// Moves what follows the network, once per optimizer step, after it.
    fn after_step(&mut self, clock: &StepClock);

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
}
