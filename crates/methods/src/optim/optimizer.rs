//! One interface over the optimizers: gradients in, a network out.

use burn::module::Module;
use ocelli_models::params::FlatParam;
use ocelli_models::weights::StateDict;

use super::{
    AdamW, AdamWState, Follower, GradientSum, Group, OptimConfig, OptimizerKind, Sgd, SgdRule, SgdState, StepRates,
};
use crate::{MethodError, Network, ema_update};

/// An optimizer with what it remembers of every parameter.
pub enum Optimizer {
    /// AdamW.
    AdamW(AdamWState),
    /// SGD, LARS or LARC.
    Sgd(SgdState),
}

impl Optimizer {
    /// The optimizer of a configuration, which remembers nothing yet.
    pub fn new(config: &OptimConfig) -> Self {
        let &OptimConfig { beta1, beta2, momentum, nesterov, lars_eta: eta, .. } = config;
        let rule = match config.optimizer {
            OptimizerKind::AdamW => {
                return Self::AdamW(AdamWState::new(AdamW { beta1, beta2, ..AdamW::default() }));
            }
            OptimizerKind::Sgd => SgdRule::Plain { nesterov },
            OptimizerKind::Lars => SgdRule::Lars {
                eta,
                matrices_only: config.lars_matrices_only,
                rate_inside: config.lars_rate_inside,
            },
            OptimizerKind::Larc => SgdRule::Larc { eta },
        };
        Self::Sgd(SgdState::new(Sgd { momentum, rule }))
    }

    /// Values kept per trained one.
    pub fn memory(&self) -> usize {
        match self {
            Self::AdamW(_) => 2,
            Self::Sgd(_) => 1,
        }
    }

    /// One step over every parameter that has a gradient and is not frozen, and of what follows the network. Gradients are
    /// clipped one by one where the rates say so. `group` tells of each parameter how it is stepped;
    /// [`OptimConfig::group`] is the configuration's own.
    pub fn step<M: Module>(
        &mut self,
        net: M,
        follower: Option<Follower<M>>,
        mut gradients: GradientSum,
        rates: &StepRates,
        group: &dyn Fn(&FlatParam) -> Group,
    ) -> (M, Option<M>) {
        match self {
            Self::AdamW(state) => state.step_by(net, follower, gradients, rates, group),
            Self::Sgd(state) => {
                if rates.clip > 0.0 {
                    gradients.clip_each(rates.clip);
                }
                let net = state.step_by(net, &gradients, rates.lr, rates.weight_decay, group);
                let follower = follower.map(|f| ema_update(f.net, &net, f.momentum));
                (net, follower)
            }
        }
    }

    /// What it remembers as named tensors: `exp_avg.NAME`, `exp_avg_sq.NAME` and `step.NAME` of AdamW, `momentum_buffer.NAME`
    /// of the others.
    ///
    /// # Errors
    /// When values cannot be read from the device; it names the parameter.
    pub fn state(&self) -> Result<StateDict, MethodError> {
        match self {
            Self::AdamW(state) => state.state(),
            Self::Sgd(state) => state.state(),
        }
    }

    /// Restores [`Optimizer::state`] for the parameters of `net`.
    ///
    /// # Errors
    /// When what is stored of a parameter has another length than it; nothing is changed then.
    pub fn load(&mut self, stored: &StateDict, net: &dyn Network) -> Result<(), MethodError> {
        match self {
            Self::AdamW(state) => state.load(stored, net),
            Self::Sgd(state) => state.load(stored, net),
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
        let (linear, _) = optimizer.step(linear, None, gradients, &rates, &|p| config.group(p));
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

    fn linear(weight: [f32; 2], bias: f32) -> Linear {
        let device = Device::flex();
        let mut linear = Linear::new(2, 1, true, &mut Init::new(0, &device));
        linear.weight = Param::from_tensor(Tensor::from_floats([[weight[0]], [weight[1]]], &device));
        linear.bias = Some(Param::from_tensor(Tensor::from_floats([bias], &device)));
        linear
    }

    fn gradients() -> GradientSum {
        let of = |values: &[f32]| Tensor::<1>::from_floats(values, &Device::flex());
        let mut gradients = GradientSum::default();
        gradients.add(vec![("weight".into(), of(&[3.0, 4.0])), ("bias".into(), of(&[0.5]))], 1.0);
        gradients
    }

    fn all(linear: &Linear) -> Vec<f32> {
        let values = |t: Tensor<1>| t.into_data().try_to_vec::<f32>().unwrap();
        [values(linear.weight.val().flatten(0, 1)), values(linear.bias.as_ref().unwrap().val())].concat()
    }

    const KINDS: [OptimizerKind; 4] =
        [OptimizerKind::AdamW, OptimizerKind::Sgd, OptimizerKind::Lars, OptimizerKind::Larc];

    const RATES: StepRates = StepRates { lr: 0.5, weight_decay: 0.1, clip: 0.0 };

    fn config(optimizer: OptimizerKind) -> OptimConfig {
        OptimConfig { optimizer, decay_all: true, ..OptimConfig::default() }
    }

    /// A multiplier is a rate of one's own: half the rate and a third of the decay are what the rates would be.
    #[test]
    fn groups_multiply_the_rates() {
        for kind in KINDS {
            let step = |rates: &StepRates, group: &dyn Fn(&FlatParam) -> Group| {
                let mut optimizer = Optimizer::new(&config(kind));
                all(&optimizer.step(linear([1.0, 2.0], 4.0), None, gradients(), rates, group).0)
            };
            let plain = step(&RATES, &|_| Group::default());
            let own = StepRates { lr: 0.25, weight_decay: 0.025, clip: 0.0 };
            let other = step(&own, &|_| Group::default());
            assert!(plain.iter().zip(&other).all(|(a, b)| a != b), "{kind}: {plain:?} {other:?}");
            let of_bias = Group { lr: 0.5, decay: 0.25, frozen: false };
            let found = step(&RATES, &|p| if p.name == "bias" { of_bias } else { Group::default() });
            assert_eq!(found, [plain[0], plain[1], other[2]], "{kind}");
        }
    }

    #[test]
    fn what_is_frozen_stays_and_is_followed() {
        for kind in KINDS {
            let mut optimizer = Optimizer::new(&config(kind));
            let follower = Follower { net: linear([0.0, 0.0], 0.0), momentum: 0.75 };
            let frozen = |p: &FlatParam| Group { frozen: p.name == "bias", ..Group::default() };
            let (net, followed) =
                optimizer.step(linear([1.0, 2.0], 4.0), Some(follower), gradients(), &RATES, &frozen);
            let (net, followed) = (all(&net), all(&followed.unwrap()));
            assert!(net[0] != 1.0 && net[1] != 2.0 && net[2] == 4.0, "{kind}: {net:?}");
            assert_eq!(followed[2], 1.0, "{kind}");
            let state = optimizer.state().unwrap();
            assert!(state.tensors.iter().all(|(name, _)| name.ends_with(".weight")), "{kind}");
        }
    }

    /// Barlow Twins' second rate, SwAV's decay of everything and DeiT's exceptions are the configuration's.
    #[test]
    fn a_configuration_has_its_groups() {
        let param = |name: &str, shape: &[usize]| FlatParam {
            name: name.into(),
            shape: shape.to_vec().into(),
            values: Tensor::zeros([shape.iter().product::<usize>()], &Device::flex()),
            trainable: true,
        };
        let parameters = [
            param("backbone.pos_embed", &[1, 5, 4]),
            param("backbone.norm.weight", &[4]),
            param("head.mlp.0.weight", &[4, 3]),
        ];
        let of = |config: &OptimConfig| {
            let groups = parameters.iter().map(|p| config.group(p));
            groups.map(|g| (g.lr, g.decay)).collect::<Vec<_>>()
        };
        let dino = OptimConfig::default();
        assert_eq!(of(&dino), [(1.0, 1.0), (1.0, 0.0), (1.0, 1.0)]);
        let barlow = OptimConfig { lr_factor_1d: 0.024, ..dino.clone() };
        assert_eq!(of(&barlow), [(1.0, 1.0), (0.024, 0.0), (1.0, 1.0)]);
        let swav = OptimConfig { decay_all: true, ..dino.clone() };
        assert_eq!(of(&swav), [(1.0, 1.0), (1.0, 1.0), (1.0, 1.0)]);
        let deit = OptimConfig { no_decay: vec!["pos_embed".into(), "cls_token".into()], ..dino };
        assert_eq!(of(&deit), [(1.0, 0.0), (1.0, 0.0), (1.0, 1.0)]);
    }

    #[test]
    fn it_goes_on_from_its_state_and_refuses_another() {
        for kind in KINDS {
            let config = config(kind);
            // Another gradient than the first: of a constant one AdamW's moments say nothing.
            let step = |optimizer: &mut Optimizer, net: Linear| {
                let mut again = GradientSum::default();
                again.add(vec![("weight".into(), Tensor::from_floats([-1.0, 6.0], &Device::flex()))], 1.0);
                optimizer.step(net, None, again, &RATES, &|p| config.group(p)).0
            };
            let mut whole = Optimizer::new(&config);
            let net = whole.step(linear([1.0, 2.0], 4.0), None, gradients(), &RATES, &|p| config.group(p)).0;
            let state = whole.state().unwrap();
            let mut restored = Optimizer::new(&config);
            restored.load(&state, &net).unwrap();
            let expected = all(&step(&mut whole, net.clone()));
            assert_eq!(all(&step(&mut restored, net.clone())), expected, "{kind}");
            let forgetful = all(&step(&mut Optimizer::new(&config), net.clone()));
            assert!(forgetful != expected, "{kind}: the state makes no difference");

            let mut short = state.clone();
            let (name, tensor) = short.tensors.iter_mut().find(|(n, _)| n.ends_with(".weight")).unwrap();
            tensor.values.pop();
            let name = name.clone();
            let mut kept = Optimizer::new(&config);
            kept.load(&state, &net).unwrap();
            let message = kept.load(&short, &net).unwrap_err().to_string();
            assert!(message.contains(&name) && message.contains("expected 2 values"), "{kind}: {message}");
            assert_eq!(all(&step(&mut kept, net.clone())), expected, "{kind}: a refused state changes nothing");
        }
        let net = linear([1.0, 2.0], 4.0);
        let mut optimizer = Optimizer::new(&config(OptimizerKind::AdamW));
        let net = optimizer.step(net, None, gradients(), &RATES, &|_| Group::default()).0;
        let mut part = optimizer.state().unwrap();
        part.tensors.retain(|(name, _)| name != "exp_avg_sq.bias");
        let message = optimizer.load(&part, &net).unwrap_err().to_string();
        assert!(message.contains("bias") && message.contains("only some"), "{message}");
    }
}
