//! AdamW (Loshchilov & Hutter 2019) as PyTorch computes it, with the reference's two groups and per-parameter clipping.

use std::collections::HashMap;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use ocelli_kernels::{AdamWStep, adamw, adamw_ema};
use ocelli_models::params::{self, FlatParam};
use ocelli_models::weights::{HostTensor, StateDict};

/// Constants of AdamW; defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// β₁.
    pub beta1: f64,
    /// β₂.
    pub beta2: f64,
    /// ε.
    pub epsilon: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

/// What changes from step to step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepRates {
    /// Learning rate, all parameters.
    pub lr: f64,
    /// Decoupled decay of the regularised group ([`FlatParam::is_regularised`]); the others have none.
    pub weight_decay: f64,
    /// Largest norm of each parameter's gradient, on its own; 0 switches clipping off.
    pub clip: f64,
}

struct Moments {
    /// `[2, len]`: first, second.
    values: Tensor<2>,
    /// Steps this parameter has taken: fewer than the run's for one that was frozen at first.
    steps: u32,
}

/// Moments by parameter name.
pub struct AdamWState {
    config: AdamW,
    moments: HashMap<String, Moments>,
}

/// A network that is the moving average of the trained one: after a step m·follower + (1 − m)·network, parameter by
/// parameter; running statistics stay its own.
pub struct Follower<M> {
    /// The network that follows.
    pub net: M,
    /// m.
    pub momentum: f64,
}

/// Gradients of one optimizer step by parameter name, flattened: micro-batches add up here.
#[derive(Default, Clone)]
pub struct GradientSum {
    sum: HashMap<String, Tensor<1>>,
}

impl GradientSum {
    /// Adds gradients multiplied by `weight` (1 / number of micro-batches).
    pub fn add(&mut self, gradients: Vec<(String, Tensor<1>)>, weight: f64) {
        for (name, gradient) in gradients {
            let gradient = if weight == 1.0 { gradient } else { gradient * weight };
            let total = match self.sum.remove(&name) {
                None => gradient,
                Some(sum) => sum + gradient,
            };
            self.sum.insert(name, total);
        }
    }

    /// The summed gradient of a parameter.
    pub fn get(&self, name: &str) -> Option<&Tensor<1>> {
        self.sum.get(name)
    }

    /// Leaves parameters out of the step: no moments, no decay.
    pub fn drop_where(&mut self, is_frozen: impl Fn(&str) -> bool) {
        self.sum.retain(|name, _| !is_frozen(name));
    }

    /// Scales every gradient whose norm is above `limit` down to it, each parameter's on its own, as the reference does:
    /// g·min(1, limit/(‖g‖ + 1e-6)). (AdamW's step does this by itself.)
    pub fn clip_each(&mut self, limit: f64) {
        for gradient in self.sum.values_mut() {
            let norm = gradient.clone().powi_scalar(2).sum().sqrt();
            *gradient = gradient.clone() * (norm + 1e-6).recip().mul_scalar(limit).clamp_max(1.0);
        }
    }

    /// Norm of all gradients together and the largest norm of one parameter's, before clipping: `[1]` each.
    pub fn norms(&self) -> Option<(Tensor<1>, Tensor<1>)> {
        if self.sum.is_empty() {
            return None;
        }
        // Sorted, so that the sum does not depend on the map's order.
        let mut names: Vec<&String> = self.sum.keys().collect();
        names.sort();
        let squares: Vec<Tensor<1>> = names.iter().map(|n| self.sum[*n].clone().powi_scalar(2).sum()).collect();
        let squares = Tensor::cat(squares, 0);
        Some((squares.clone().sum().sqrt(), squares.max().sqrt()))
    }
}

impl AdamWState {
    /// No moments yet.
    pub fn new(config: AdamW) -> Self {
        Self { config, moments: HashMap::new() }
    }

    /// One step over every parameter that has a gradient.
    pub fn step<M: Module>(&mut self, module: M, gradients: &GradientSum, rates: &StepRates) -> M {
        self.step_with(module, None, gradients.clone(), rates).0
    }

    /// [`AdamWState::step`], and in the same pass over the memory the network that follows. A parameter without a gradient
    /// stays as it is, and is followed all the same. Gradients are given up one by one, so that their memory serves again.
    pub fn step_with<M: Module>(
        &mut self,
        module: M,
        follower: Option<Follower<M>>,
        mut gradients: GradientSum,
        rates: &StepRates,
    ) -> (M, Option<M>) {
        let (module, params) = params::take(module);
        let momentum = follower.as_ref().map_or(0.0, |f| f.momentum);
        let (follower, followers) = match follower.map(|f| params::take(f.net)) {
            Some((net, params)) => (Some(net), params),
            None => (None, Vec::new()),
        };
        let mut place = HashMap::new();
        // None while a pass moves it.
        let mut moved: Vec<Option<Tensor<1>>> = Vec::with_capacity(followers.len());
        for param in followers {
            if param.trainable {
                place.insert(param.name, moved.len());
            }
            moved.push(Some(param.values));
        }
        let mut stepped = Vec::with_capacity(params.len());
        for param in params {
            let place = if param.trainable { place.get(&param.name) } else { None };
            let behind = place.and_then(|i| moved[*i].take()).map(|values| (values, momentum));
            let (values, behind) = match gradients.sum.remove(&param.name) {
                Some(gradient) => self.step_parameter(param, gradient, behind, rates),
                None => {
                    let behind = behind.map(|(values, m)| values * m + param.values.clone() * (1.0 - m));
                    (param.values, behind)
                }
            };
            stepped.push(values);
            if let Some(i) = place {
                moved[*i] = behind;
            }
        }
        let followed = follower.map(|net| net.fill(moved.into_iter().flatten().collect()));
        (module.fill(stepped), followed)
    }

    fn step_parameter(
        &mut self,
        param: FlatParam,
        gradient: Tensor<1>,
        follower: Option<(Tensor<1>, f64)>,
        rates: &StepRates,
    ) -> (Tensor<1>, Option<Tensor<1>>) {
        let AdamW { beta1, beta2, epsilon } = self.config;
        let keep = if param.is_regularised() { 1.0 - rates.lr * rates.weight_decay } else { 1.0 };
        let (moments, steps) = match self.moments.remove(&param.name) {
            Some(m) => (m.values, m.steps + 1),
            None => (Tensor::zeros([2, gradient.dims()[0]], &gradient.device()), 1),
        };
        let step = AdamWStep { clip: rates.clip, beta1, beta2, epsilon, keep, lr: rates.lr, step: steps as i32 };
        let FlatParam { name, values: p, .. } = param;
        let (next, values, follower) = match follower {
            Some((follower, momentum)) => {
                let (p, moments, follower) = adamw_ema(p, gradient, moments, follower, momentum, step);
                (p, moments, Some(follower))
            }
            None => {
                let (p, moments) = adamw(p, gradient, moments, step);
                (p, moments, None)
            }
        };
        self.moments.insert(name, Moments { values, steps });
        (next, follower)
    }

    /// The moments as named tensors: `exp_avg.NAME`, `exp_avg_sq.NAME`, `step.NAME`.
    pub fn state(&self) -> StateDict {
        let mut names: Vec<&String> = self.moments.keys().collect();
        names.sort();
        let mut state = StateDict::default();
        for name in names {
            let m = &self.moments[name];
            let [_, len] = m.values.dims();
            let both: Vec<f32> = m.values.clone().into_data().try_to_vec().unwrap_or_default();
            for (kind, values) in [("exp_avg", both.get(..len)), ("exp_avg_sq", both.get(len..))] {
                let (shape, values) = (vec![len], values.unwrap_or_default().to_vec());
                state.tensors.push((format!("{kind}.{name}"), HostTensor { shape, values }));
            }
            let steps = HostTensor { shape: vec![1], values: vec![m.steps as f32] };
            state.tensors.push((format!("step.{name}"), steps));
        }
        state
    }

    /// Restores [`AdamWState::state`] for the parameters of `module`.
    pub fn load<M: Module>(&mut self, state: &StateDict, module: &M) {
        self.moments.clear();
        for param in params::collect(module) {
            let get = |kind: &str| state.get(&format!("{kind}.{}", param.name));
            let (Some(first), Some(second), Some(steps)) = (get("exp_avg"), get("exp_avg_sq"), get("step")) else {
                continue;
            };
            let both = [first.values.as_slice(), second.values.as_slice()].concat();
            let data = TensorData::new(both, [2, first.values.len()]);
            let moments = Moments {
                values: Tensor::from_data(data, &param.values.device()),
                steps: steps.values.first().copied().unwrap_or(0.0) as u32,
            };
            self.moments.insert(param.name.clone(), moments);
        }
    }
}
