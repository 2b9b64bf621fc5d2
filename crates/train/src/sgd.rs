//! Stochastic gradient descent with momentum, and its layer-wise adaptive forms (LARS, You et al. 2017).

use std::collections::HashMap;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use ocelli_models::params::{self, FlatParam};
use ocelli_models::weights::{HostTensor, StateDict};

use ocelli_methods::optim::GradientSum;

/// How a gradient becomes a step. All keep one buffer per parameter: momentum·buffer + direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SgdRule {
    /// PyTorch's: decay on every parameter; with `nesterov` the step looks one momentum ahead.
    Plain {
        /// Nesterov's form.
        nesterov: bool,
    },
    /// LARS as in DINO and Barlow Twins: the decayed gradient scaled to η·‖parameter‖. With `matrices_only`, as published,
    /// one-dimensional parameters are neither decayed nor scaled.
    Lars {
        /// η (0.001).
        eta: f64,
        /// Leave biases and normalisations alone.
        matrices_only: bool,
    },
    /// LARS as in SimCLR and BYOL: the ratio is over the decayed gradient too, but the learning rate goes into the buffer,
    /// which differs whenever it changes.
    LarsRateInside {
        /// η (0.001).
        eta: f64,
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
        self.step_by(module, gradients, lr, |_| weight_decay)
    }

    /// The same with a weight decay for each parameter.
    pub fn step_by<M: Module>(
        &mut self,
        module: M,
        gradients: &GradientSum,
        lr: f64,
        weight_decay: impl Fn(&FlatParam) -> f64,
    ) -> M {
        params::replace(module, |param| {
            let gradient = gradients.get(&param.name)?;
            Some(self.step_parameter(param, gradient.clone(), lr, weight_decay(param)))
        })
    }

    fn step_parameter(&mut self, param: &FlatParam, gradient: Tensor<1>, lr: f64, decay: f64) -> Tensor<1> {
        let p = param.values.clone();
        let matrix = param.shape.num_dims() != 1;
        let direction = match self.config.rule {
            SgdRule::Plain { .. } => gradient + p.clone() * decay,
            SgdRule::Lars { matrices_only: true, .. } | SgdRule::LarsRateInside { .. } if !matrix => gradient,
            SgdRule::Lars { eta, .. } | SgdRule::LarsRateInside { eta } => {
                let decayed = gradient + p.clone() * decay;
                let ratio = trust(norm(&p) * eta, norm(&decayed));
                decayed * ratio
            }
            SgdRule::Larc { eta } => larc(&p, gradient, eta, decay),
        };
        let inside = matches!(self.config.rule, SgdRule::LarsRateInside { .. });
        let direction = if inside { direction * lr } else { direction };
        let buffer = match self.buffers.remove(&param.name) {
            None => direction.clone(),
            Some(buffer) => buffer * self.config.momentum + direction.clone(),
        };
        self.buffers.insert(param.name.clone(), buffer.clone());
        match self.config.rule {
            SgdRule::LarsRateInside { .. } => p - buffer,
            SgdRule::Plain { nesterov: true } => p - (direction + buffer * self.config.momentum) * lr,
            _ => p - buffer * lr,
        }
    }

    /// The buffers as named tensors: `momentum_buffer.NAME`.
    ///
    /// # Errors
    /// The name of a buffer that cannot be read from the device.
    pub fn state(&self) -> Result<StateDict, String> {
        let mut names: Vec<&String> = self.buffers.keys().collect();
        names.sort();
        let mut state = StateDict::default();
        for name in names {
            let values = self.buffers[name].clone().into_data().try_to_vec::<f32>().map_err(|_| name.clone())?;
            let tensor = HostTensor { shape: vec![values.len()], values };
            state.tensors.push((format!("momentum_buffer.{name}"), tensor));
        }
        Ok(state)
    }

    /// Restores [`SgdState::state`] for the parameters of `module`; others start anew.
    pub fn load<M: Module>(&mut self, state: &StateDict, module: &M) {
        self.buffers.clear();
        for param in params::collect(module) {
            let Some(found) = state.get(&format!("momentum_buffer.{}", param.name)) else { continue };
            if found.values.len() == param.shape.num_elements() {
                let data = TensorData::new(found.values.clone(), [found.values.len()]);
                self.buffers.insert(param.name, Tensor::from_data(data, &param.values.device()));
            }
        }
    }
}

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
