//! Stochastic gradient descent with momentum, and its layer-wise adaptive forms (LARS, You et al. 2017).

use std::collections::HashMap;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use ocelli_models::params::{self, FlatParam};
use ocelli_models::weights::{HostTensor, StateDict};

use super::{GradientSum, Group, read, stored};
use crate::{MethodError, Network};

/// How a gradient becomes a step. All keep one buffer per parameter: momentum·buffer + direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SgdRule {
    /// PyTorch's: decay on every parameter; with `nesterov` the step looks one momentum ahead.
    Plain {
        /// Nesterov's form.
        nesterov: bool,
    },
    /// LARS: the decayed gradient scaled to η·‖parameter‖.
    Lars {
        /// η (0.001).
        eta: f64,
        /// As published: one-dimensional parameters, biases and normalisations, are neither decayed nor scaled.
        matrices_only: bool,
        /// As in SimCLR the learning rate goes into the buffer, which differs whenever it changes; else, as in DINO, BYOL
        /// and Barlow Twins, it multiplies the buffer.
        rate_inside: bool,
    },
    /// LARC as in SwAV: the ratio η·‖parameter‖/(‖gradient‖ + decay·‖parameter‖) on every parameter.
    Larc {
        /// η (0.001).
        eta: f64,
    },
}

/// SGD's constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// Share of the buffer that stays (0.9).
    pub momentum: f64,
    /// What becomes of a gradient.
    pub rule: SgdRule,
}

/// Buffers by parameter name.
pub struct SgdState {
    config: Sgd,
    buffers: HashMap<String, Tensor<1>>,
}

impl SgdState {
    /// No buffers yet.
    pub fn new(config: Sgd) -> Self {
        Self { config, buffers: HashMap::new() }
    }

    /// One step at a learning rate and weight decay over every parameter that has a gradient.
    pub fn step<M: Module>(&mut self, module: M, gradients: &GradientSum, lr: f64, weight_decay: f64) -> M {
        self.step_by(module, gradients, lr, weight_decay, &|_| Group::default())
    }

    /// The same with groups.
    pub fn step_by<M: Module>(
        &mut self,
        module: M,
        gradients: &GradientSum,
        lr: f64,
        weight_decay: f64,
        group: &dyn Fn(&FlatParam) -> Group,
    ) -> M {
        params::replace(module, |param| {
            let gradient = gradients.get(&param.name)?;
            let group = group(param);
            let step = || self.step_parameter(param, gradient.clone(), lr * group.lr, weight_decay * group.decay);
            (!group.frozen).then(step)
        })
    }

    fn step_parameter(&mut self, param: &FlatParam, gradient: Tensor<1>, lr: f64, decay: f64) -> Tensor<1> {
        let p = param.values.clone();
        let matrix = param.shape.num_dims() != 1;
        let direction = match self.config.rule {
            SgdRule::Plain { .. } => gradient + p.clone() * decay,
            SgdRule::Lars { matrices_only: true, .. } if !matrix => gradient,
            SgdRule::Lars { eta, .. } => {
                let decayed = gradient + p.clone() * decay;
                let ratio = trust(norm(&p) * eta, norm(&decayed));
                decayed * ratio
            }
            SgdRule::Larc { eta } => larc(&p, gradient, eta, decay),
        };
        let inside = matches!(self.config.rule, SgdRule::Lars { rate_inside: true, .. });
        let direction = if inside { direction * lr } else { direction };
        let buffer = match self.buffers.remove(&param.name) {
            None => direction.clone(),
            Some(buffer) => buffer * self.config.momentum + direction.clone(),
        };
        self.buffers.insert(param.name.clone(), buffer.clone());
        match self.config.rule {
            SgdRule::Lars { rate_inside: true, .. } => p - buffer,
            SgdRule::Plain { nesterov: true } => p - (direction + buffer * self.config.momentum) * lr,
            _ => p - buffer * lr,
        }
    }

    /// The buffers as named tensors: `momentum_buffer.NAME`.
    ///
    /// # Errors
    /// When a buffer cannot be read from the device; it names the parameter.
    pub fn state(&self) -> Result<StateDict, MethodError> {
        let mut names: Vec<&String> = self.buffers.keys().collect();
        names.sort();
        let mut state = StateDict::default();
        for name in names {
            let values = read(&self.buffers[name], BUFFER, name)?;
            let tensor = HostTensor { shape: vec![values.len()], values };
            state.tensors.push((format!("{BUFFER}.{name}"), tensor));
        }
        Ok(state)
    }

    /// Restores [`SgdState::state`] for the parameters of `net`. A parameter of which nothing is stored starts anew.
    ///
    /// # Errors
    /// When a buffer has another length than its parameter; nothing is changed then.
    pub fn load(&mut self, state: &StateDict, net: &dyn Network) -> Result<(), MethodError> {
        let mut buffers = HashMap::new();
        for param in net.parameters() {
            let len = param.shape.num_elements();
            let Some(found) = stored(state, BUFFER, &param.name, len)? else { continue };
            let data = TensorData::new(found.values.clone(), [len]);
            buffers.insert(param.name, Tensor::from_data(data, &param.values.device()));
        }
        self.buffers = buffers;
        Ok(())
    }
}

/// What a buffer is called in a checkpoint, before the parameter's name.
const BUFFER: &str = "momentum_buffer";

fn norm(values: &Tensor<1>) -> Tensor<1> {
    values.clone().powi_scalar(2).sum().sqrt()
}

/// numerator / denominator, 1 where either is 0: `[1]` each, without a look at the values.
fn trust(numerator: Tensor<1>, denominator: Tensor<1>) -> Tensor<1> {
    let either_zero = numerator.clone().equal_elem(0.0).bool_or(denominator.clone().equal_elem(0.0));
    let one = numerator.ones_like();
    (numerator / denominator).mask_where(either_zero, one)
}

/// Where a norm is 0, the gradient as it is: neither scaled nor decayed.
fn larc(p: &Tensor<1>, gradient: Tensor<1>, eta: f64, decay: f64) -> Tensor<1> {
    const EPSILON: f64 = 1e-8;
    let (of_p, of_gradient) = (norm(p), norm(&gradient));
    let either_zero = of_p.clone().equal_elem(0.0).bool_or(of_gradient.clone().equal_elem(0.0));
    let ratio = of_p.clone() * eta / (of_gradient + of_p * decay + EPSILON);
    let scaled = (gradient.clone() + p.clone() * decay) * ratio;
    scaled.clone().mask_where(either_zero.expand(scaled.dims()), gradient)
}
