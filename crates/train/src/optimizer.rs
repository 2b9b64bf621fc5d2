//! One interface over the optimizers: gradients in, a network out.

use burn::module::Module;
use ocelli_methods::ema_update;
use ocelli_methods::optim::{AdamW, AdamWState, Follower, GradientSum, StepRates};
use ocelli_models::weights::StateDict;

use crate::config::{OptimConfig, OptimizerKind};
use crate::{Sgd, SgdRule, SgdState, TrainError};

/// An optimizer with what it remembers of every parameter.
pub(crate) enum Optimizer {
    AdamW(AdamWState),
    /// SGD or LARS; `decay_all` decays biases and normalisations too.
    Sgd {
        state: SgdState,
        decay_all: bool,
    },
}

impl Optimizer {
    pub fn new(config: &OptimConfig) -> Self {
        let rule = match config.optimizer {
            OptimizerKind::AdamW => return Self::AdamW(AdamWState::new(AdamW::default())),
            OptimizerKind::Sgd => SgdRule::Plain { nesterov: false },
            OptimizerKind::Lars => SgdRule::Lars { eta: config.lars_eta, matrices_only: true },
        };
        Self::Sgd { state: SgdState::new(Sgd { momentum: config.momentum, rule }), decay_all: config.decay_all }
    }

    /// Values kept per trained one.
    pub fn memory(&self) -> usize {
        match self {
            Self::AdamW(_) => 2,
            Self::Sgd { .. } => 1,
        }
    }

    /// One step over every parameter that has a gradient, and of what follows the network; gradients are clipped one by one
    /// where the rates say so.
    pub fn step<M: Module>(
        &mut self,
        net: M,
        follower: Option<Follower<M>>,
        mut gradients: GradientSum,
        rates: &StepRates,
    ) -> (M, Option<M>) {
        match self {
            Self::AdamW(state) => state.step_with(net, follower, gradients, rates),
            Self::Sgd { state, decay_all } => {
                if rates.clip > 0.0 {
                    gradients.clip_each(rates.clip);
                }
                let all = *decay_all;
                let decay = |p: &ocelli_models::params::FlatParam| {
                    if all || p.is_regularised() { rates.weight_decay } else { 0.0 }
                };
                let net = state.step_by(net, &gradients, rates.lr, decay);
                let follower = follower.map(|f| ema_update(f.net, &net, f.momentum));
                (net, follower)
            }
        }
    }

    pub fn state(&self) -> Result<StateDict, TrainError> {
        match self {
            Self::AdamW(state) => Ok(state.state()),
            Self::Sgd { state, .. } => state
                .state()
                .map_err(|name| TrainError::Device(format!("cannot read the momentum of {name} back"))),
        }
    }

    pub fn load<M: Module>(&mut self, stored: &StateDict, net: &M) {
        match self {
            Self::AdamW(state) => state.load(stored, net),
            Self::Sgd { state, .. } => state.load(stored, net),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn::tensor::{Device, Tensor};
    use ocelli_models::{Init, Linear};

    use super::*;

    /// One step of SGD on a linear map whose gradients are known.
    fn stepped(decay_all: bool, clip: f64) -> (Vec<f32>, Vec<f32>) {
        let device = Device::flex();
        let mut linear = Linear::new(2, 1, true, &mut Init::new(0, &device));
        linear.weight = Param::from_tensor(Tensor::from_floats([[1.0], [2.0]], &device));
        linear.bias = Some(Param::from_tensor(Tensor::from_floats([4.0], &device)));
        let config = OptimConfig { optimizer: OptimizerKind::Sgd, decay_all, ..OptimConfig::default() };
        let mut optimizer = Optimizer::new(&config);
        let mut gradients = GradientSum::default();
        let of = |values: &[f32]| Tensor::<1>::from_floats(values, &device);
        gradients.add(vec![("weight".into(), of(&[3.0, 4.0])), ("bias".into(), of(&[0.5]))], 1.0);
        let rates = StepRates { lr: 1.0, weight_decay: 0.1, clip };
        let (linear, _) = optimizer.step(linear, None, gradients, &rates);
        let values = |t: Tensor<1>| t.into_data().try_to_vec::<f32>().unwrap();
        (values(linear.weight.val().flatten(0, 1)), values(linear.bias.unwrap().val()))
    }

    #[test]
    fn decay_and_clipping_are_each_parameters_own() {
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        let (weight, bias) = stepped(false, 0.0);
        assert!(close(&weight, &[1.0 - 3.1, 2.0 - 4.2]) && close(&bias, &[3.5]), "{weight:?} {bias:?}");
        let (weight, bias) = stepped(true, 2.5);
        // The weight's gradient is halved, the bias's is short enough.
        assert!(close(&weight, &[1.0 - 1.6, 2.0 - 2.2]) && close(&bias, &[4.0 - 0.9]), "{weight:?} {bias:?}");
    }
}
