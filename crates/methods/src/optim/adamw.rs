//! AdamW (Loshchilov & Hutter 2019) as PyTorch computes it, with groups and per-parameter clipping.

use std::collections::HashMap;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use ocelli_kernels::{AdamWStep, adamw, adamw_ema};
use ocelli_models::params::{self, FlatParam};
use ocelli_models::weights::{HostTensor, StateDict, WeightsError};

use super::{Follower, GradientSum, Group, StepRates, read, stored};
use crate::{MethodError, Network};

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

impl AdamWState {
    /// No moments yet.
    pub fn new(config: AdamW) -> Self {
        Self { config, moments: HashMap::new() }
    }

    /// One step over every parameter that has a gradient. Decay is of the regularised group
    /// ([`FlatParam::is_regularised`]); the others have none.
    pub fn step<M: Module>(&mut self, module: M, gradients: &GradientSum, rates: &StepRates) -> M {
        self.step_with(module, None, gradients.clone(), rates).0
    }

    /// [`AdamWState::step`], and in the same pass over the memory the network that follows.
    pub fn step_with<M: Module>(
        &mut self,
        module: M,
        follower: Option<Follower<M>>,
        gradients: GradientSum,
        rates: &StepRates,
    ) -> (M, Option<M>) {
        let decay = |param: &FlatParam| f64::from(u8::from(param.is_regularised()));
        self.step_by(module, follower, gradients, rates, &|param| Group {
            decay: decay(param),
            ..Group::default()
        })
    }

    /// The same with groups. A parameter that is frozen or has no gradient stays as it is, and is followed all the same.
    /// Gradients are given up one by one, so that their memory serves again.
    pub fn step_by<M: Module>(
        &mut self,
        module: M,
        follower: Option<Follower<M>>,
        mut gradients: GradientSum,
        rates: &StepRates,
        group: &dyn Fn(&FlatParam) -> Group,
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
            let group = group(&param);
            let (values, behind) = match gradients.take(&param.name).filter(|_| !group.frozen) {
                Some(gradient) => self.step_parameter(param, gradient, behind, rates, group),
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
        group: Group,
    ) -> (Tensor<1>, Option<Tensor<1>>) {
        let AdamW { beta1, beta2, epsilon } = self.config;
        let lr = rates.lr * group.lr;
        let keep = 1.0 - lr * (rates.weight_decay * group.decay);
        let (moments, steps) = match self.moments.remove(&param.name) {
            Some(m) => (m.values, m.steps + 1),
            None => (Tensor::zeros([2, gradient.dims()[0]], &gradient.device()), 1),
        };
        let step = AdamWStep { clip: rates.clip, beta1, beta2, epsilon, keep, lr, step: steps as i32 };
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
    ///
    /// # Errors
    /// When moments cannot be read from the device; it names the parameter.
    pub fn state(&self) -> Result<StateDict, MethodError> {
        let mut names: Vec<&String> = self.moments.keys().collect();
        names.sort();
        let mut state = StateDict::default();
        for name in names {
            let m = &self.moments[name];
            let [_, len] = m.values.dims();
            let mut first = read(&m.values, "exp_avg", name)?;
            let second = first.split_off(len);
            for (kind, values) in [("exp_avg", first), ("exp_avg_sq", second)] {
                state.tensors.push((format!("{kind}.{name}"), HostTensor { shape: vec![len], values }));
            }
            let steps = HostTensor { shape: vec![1], values: vec![m.steps as f32] };
            state.tensors.push((format!("step.{name}"), steps));
        }
        Ok(state)
    }

    /// Restores [`AdamWState::state`] for the parameters of `net`. A parameter of which nothing is stored starts anew, as
    /// one does that was frozen.
    ///
    /// # Errors
    /// When moments have another length than their parameter, or are there in part; nothing is changed then.
    pub fn load(&mut self, state: &StateDict, net: &dyn Network) -> Result<(), MethodError> {
        let mut moments = HashMap::new();
        for param in net.parameters() {
            let (name, len) = (&param.name, param.shape.num_elements());
            let found = [
                stored(state, "exp_avg", name, len)?,
                stored(state, "exp_avg_sq", name, len)?,
                stored(state, "step", name, 1)?,
            ];
            let [Some(first), Some(second), Some(steps)] = found else {
                if found.iter().all(Option::is_none) {
                    continue;
                }
                let reason =
                    "expected exp_avg, exp_avg_sq and step of this parameter, found only some of them".into();
                return Err(WeightsError::Tensor { name: param.name, reason }.into());
            };
            let both = TensorData::new([first.values.as_slice(), second.values.as_slice()].concat(), [2, len]);
            let values = Tensor::from_data(both, &param.values.device());
            moments.insert(param.name, Moments { values, steps: steps.values[0] as u32 });
        }
        self.moments = moments;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};

    use super::*;

    #[test]
    fn moments_that_cannot_be_read_are_an_error_and_not_empty() {
        let device = Device::flex();
        let data = TensorData::new(vec![1.0f64; 4], [2, 2]);
        let values = Tensor::<2>::from_data(data, (&device, DType::F64));
        let mut state = AdamWState::new(AdamW::default());
        state.moments.insert("head.weight".into(), Moments { values, steps: 1 });
        let message = state.state().unwrap_err().to_string();
        assert!(message.contains("exp_avg.head.weight from the device"), "{message}");
    }
}
