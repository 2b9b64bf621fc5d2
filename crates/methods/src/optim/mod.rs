//! Optimizers: AdamW, SGD, LARS and LARC, by configuration, with rates for each group of parameters.
//!
//! ```
//! use burn::tensor::{Device, Tensor, TensorData};
//! use ocelli_methods::optim::GradientSum;
//!
//! // The gradients of two halves of a batch, each with half the weight.
//! let device = Device::flex();
//! let mut sum = GradientSum::default();
//! for _ in 0..2 {
//!     let gradient = Tensor::<1>::from_data(TensorData::new(vec![3.0f32, 4.0], [2]), &device);
//!     sum.add(vec![("head.weight".to_owned(), gradient)], 0.5);
//! }
//! assert_eq!(sum.norms().map(|(all, _)| all.into_scalar::<f32>()), Some(5.0));
//! ```

mod adamw;
mod config;
mod gradients;
mod optimizer;
mod sgd;

pub use adamw::{AdamW, AdamWState};
pub use config::{GradientsAs, OptimConfig, OptimizerKind, ScheduleKind, WarmupKind};
pub use gradients::GradientSum;
pub use optimizer::Optimizer;
pub use sgd::{Sgd, SgdRule, SgdState};

use burn::tensor::Tensor;
use ocelli_models::weights::{HostTensor, StateDict, WeightsError};

/// What changes from step to step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepRates {
    /// Learning rate, before each group's multiplier.
    pub lr: f64,
    /// Weight decay, before each group's multiplier; AdamW's is decoupled.
    pub weight_decay: f64,
    /// Largest norm of each parameter's gradient, on its own; 0 switches clipping off.
    pub clip: f64,
}

/// How a parameter is stepped; the default is as the rates say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Group {
    /// Multiplies the learning rate.
    pub lr: f64,
    /// Multiplies the weight decay.
    pub decay: f64,
    /// Leaves the parameter as it is: it has no moments and no decay. What follows the network follows it all the same.
    pub frozen: bool,
}

impl Group {
    /// Both: what either leaves out is left out, and shares multiply.
    pub fn and(self, other: Self) -> Self {
        Self { lr: self.lr * other.lr, decay: self.decay * other.decay, frozen: self.frozen || other.frozen }
    }
}

impl Default for Group {
    fn default() -> Self {
        Self { lr: 1.0, decay: 1.0, frozen: false }
    }
}

/// A network that is the moving average of the trained one: after a step m·follower + (1 − m)·network, parameter by
/// parameter; running statistics stay its own.
pub struct Follower<M> {
    /// The network that follows.
    pub net: M,
    /// m.
    pub momentum: f64,
}

/// Values on the host; the error names the tensor as a checkpoint would.
fn read<const D: usize>(values: &Tensor<D>, kind: &str, name: &str) -> Result<Vec<f32>, WeightsError> {
    let read = values.clone().into_data().try_to_vec::<f32>();
    read.map_err(|e| WeightsError::Device { name: format!("{kind}.{name}"), reason: format!("{e:?}") })
}

/// A stored tensor of `len` values, where there is one.
fn stored<'a>(
    state: &'a StateDict,
    kind: &str,
    name: &str,
    len: usize,
) -> Result<Option<&'a HostTensor>, WeightsError> {
    let full = format!("{kind}.{name}");
    let Some(found) = state.get(&full) else { return Ok(None) };
    if found.values.len() != len {
        let reason = format!("expected {len} values, as the parameter {name} has, found {}", found.values.len());
        return Err(WeightsError::Tensor { name: full, reason });
    }
    Ok(Some(found))
}
