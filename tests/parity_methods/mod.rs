//! Whole training steps of the methods, beside the reference's.

mod barlow;
mod byol;
mod deepcluster;
mod infomin;
mod moco_vit;
mod obow;
// It needs the trainer, which no browser has.
#[cfg(not(target_arch = "wasm32"))]
mod recipes;
mod simclr;
mod supervised;
mod swav;

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use ocelli::methods::optim::{GradientSum, OptimConfig, Optimizer, OptimizerKind, StepRates};
use ocelli::methods::{Batch, LossOutput, Method, StepClock, Update};
use ocelli::models::weights::StateDict;
use ocelli::models::{Backbone, BatchNorm, Conv2d, Init, Kernel, Mode, PositionRule, ResNetError, VitConfig};
use serde_json::Value;

use crate::support::{Fixture, Tolerance, as_usize, assert_close, values};

/// The tests by name, for a browser, which has no test runner.
#[allow(dead_code)]
pub const TESTS: &[(&str, fn())] = &[
    ("barlow::loss", barlow::loss),
    ("barlow::three_steps", barlow::three_steps),
    ("byol::loss", byol::loss),
    ("byol::three_steps", byol::three_steps),
    ("byol::three_steps_of_a_vit", byol::three_steps_of_a_vit),
    ("byol::goes_on_bit_for_bit", byol::goes_on_bit_for_bit),
    ("byol::signs_tell_a_collapse", byol::signs_tell_a_collapse),
    ("deepcluster::loss", deepcluster::loss),
    ("deepcluster::clusters", deepcluster::clusters),
    ("deepcluster::an_epoch_of_three_steps", deepcluster::an_epoch_of_three_steps),
    ("infomin::three_steps", infomin::three_steps),
    ("infomin::embeddings", infomin::embeddings),
    ("moco_vit::three_steps", moco_vit::three_steps),
    ("moco_vit::the_momentum_stays_unless_it_is_to_rise", moco_vit::the_momentum_stays_unless_it_is_to_rise),
    ("obow::loss", obow::loss),
    ("obow::three_steps", obow::three_steps),
    ("obow::the_first_features_and_weights", obow::the_first_features_and_weights),
    ("simclr::loss", simclr::loss),
    ("simclr::three_steps", simclr::three_steps),
    ("supervised::loss", supervised::loss),
    ("supervised::three_steps_of_a_residual_network", supervised::three_steps_of_a_residual_network),
    ("supervised::mixed_batches", supervised::mixed_batches),
    ("supervised::three_steps_of_a_vision_transformer", supervised::three_steps_of_a_vision_transformer),
    ("swav::loss", swav::loss),
    ("swav::three_steps_with_a_full_queue", swav::three_steps_with_a_full_queue),
    (
        "swav::a_queue_of_zeros_is_used_once_it_is_full_and_none_is_none",
        swav::a_queue_of_zeros_is_used_once_it_is_full_and_none_is_none,
    ),
    ("swav::three_steps_of_a_vit", swav::three_steps_of_a_vit),
    ("swav::a_batch_in_parts_has_the_codes_of_the_whole", swav::a_batch_in_parts_has_the_codes_of_the_whole),
];

/// The backbone of the fixtures: three 3×3 convolutions, each followed by batch normalisation and ReLU.
#[derive(Module, Debug)]
pub struct Small {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    conv3: Conv2d,
    bn3: BatchNorm,
}

impl Small {
    /// Four numbers of channels, the images' first, and three strides.
    pub fn new(channels: &[usize], strides: &[usize], init: &mut Init) -> Self {
        let mut conv = |i: usize| Conv2d::new(channels[i], channels[i + 1], Kernel::new(3, strides[i]), init);
        let (conv1, conv2, conv3) = (conv(0), conv(1), conv(2));
        let mut norm = |i: usize| BatchNorm::new(channels[i + 1], init);
        Self { conv1, bn1: norm(0), conv2, bn2: norm(1), conv3, bn3: norm(2) }
    }

    /// As a fixture's `chans` and `strides` say.
    pub fn of(f: &Fixture) -> impl Fn(&mut Init) -> Result<Self, ResNetError> {
        let (channels, strides) = (integers(&f.config()["chans"]), integers(&f.config()["strides"]));
        move |init: &mut Init| Ok(Self::new(&channels, &strides, init))
    }

    fn maps(&self, images: Tensor<4>, mode: Mode) -> [Tensor<4>; 3] {
        let mut x = images;
        [(&self.conv1, &self.bn1), (&self.conv2, &self.bn2), (&self.conv3, &self.bn3)].map(|(conv, norm)| {
            x = relu(norm.forward_maps(conv.forward(x.clone()), mode, 1));
            x.clone()
        })
    }
}

impl Backbone for Small {
    fn features(&self, images: Tensor<4>, mode: Mode) -> Tensor<2> {
        ocelli::models::pool(self.feature_map(images, mode))
    }

    fn feature_map(&self, images: Tensor<4>, mode: Mode) -> Tensor<4> {
        let [_, _, last] = self.maps(images, mode);
        last
    }

    fn map_dim(&self) -> usize {
        self.conv3.weight.dims()[0]
    }

    fn levels(&self, images: Tensor<4>, mode: Mode, count: usize) -> Vec<Tensor<4>> {
        self.maps(images, mode).into_iter().skip(3usize.saturating_sub(count)).collect()
    }

    fn level_dims(&self, count: usize) -> Vec<usize> {
        let dims = [&self.conv1, &self.conv2, &self.conv3].map(|conv| conv.weight.dims()[0]);
        dims[3usize.saturating_sub(count)..].to_vec()
    }
}

/// The tiny Vision Transformer of a fixture.
pub fn vit_of(f: &Fixture) -> VitConfig {
    VitConfig {
        image_size_px: f.usize("img"),
        patch_size_px: f.usize("patch"),
        dim: f.usize("dim"),
        depth: f.usize("depth"),
        heads: f.usize("nheads"),
        mlp_ratio: crate::support::number_after(f.config()["backbone"].as_str().unwrap(), "mlp ratio ") as usize,
        drop_path: 0.0,
        registers: 0,
        position_rule: PositionRule::Dino,
    }
}

pub fn integers(list: &Value) -> Vec<usize> {
    list.as_array().unwrap().iter().map(|n| as_usize(n, "an entry")).collect()
}

/// The number of a step, from a list or the same for all.
pub fn at(value: &Value, step: usize) -> f64 {
    value.as_f64().or_else(|| value[step].as_f64()).unwrap_or_else(|| panic!("no number {step} in {value}"))
}

/// The optimizer of a fixture.
pub fn optim_of(f: &Fixture) -> OptimConfig {
    let number = |key: &str| f.config()[key].as_f64();
    let base =
        OptimConfig { momentum: number("momentum").unwrap_or(0.9), clip_grad: 0.0, ..OptimConfig::default() };
    let lars_eta = number("eta").or(number("trust")).unwrap_or(base.lars_eta);
    let all = OptimConfig { decay_all: true, lars_eta, ..base.clone() };
    match f.config()["opt"].as_str().unwrap() {
        "adamw" => base,
        "sgd" => {
            let nesterov = f.config()["nesterov"].as_bool() == Some(true);
            OptimConfig { optimizer: OptimizerKind::Sgd, nesterov, ..all }
        }
        "larc" => OptimConfig { optimizer: OptimizerKind::Larc, ..all },
        "lars" => OptimConfig { optimizer: OptimizerKind::Lars, lars_eta, ..base },
        "lars_classic" => OptimConfig { optimizer: OptimizerKind::Lars, lars_eta, lars_rate_inside: true, ..base },
        other => panic!("an optimizer nobody knows: {other}"),
    }
}

/// The fixture's tensors under `init.`, those that start with the first of a pair also under the second's name.
pub fn init_of(f: &Fixture, copies: &[(&str, &str)]) -> StateDict {
    let mut state = f.tensors.under("init.");
    let given = state.tensors.clone();
    for (name, tensor) in &given {
        for (from, to) in copies {
            if let Some(rest) = name.strip_prefix(from) {
                state.tensors.push((format!("{to}{rest}"), tensor.clone()));
            }
        }
    }
    state
}

/// Views `[batch, 3, side, side]` by name as one tensor.
pub fn cat(f: &Fixture, names: &[String], device: &Device) -> Tensor<4> {
    Tensor::cat(names.iter().map(|name| f.tensor::<4>(name, device)).collect(), 0)
}

/// A fixture's steps, as they are run through a method.
pub struct Steps<'a> {
    pub f: &'a Fixture,
    pub optim: OptimConfig,
    /// In front of the trained network's names in the fixture and in the method's state.
    pub trained: &'a str,
    /// In front of the follower's names, or nothing.
    pub follower: &'a str,
    /// The batch of a step.
    pub batch: &'a dyn Fn(usize) -> Batch,
    /// The follower's momentum at a step.
    pub momentum: &'a dyn Fn(usize) -> f64,
}

impl Steps<'_> {
    /// Takes every step: losses, the first gradients, and what is stored after a step are the fixture's. `each` looks at the
    /// method after a step.
    pub fn run<M: Method>(&self, method: &mut M, mut each: impl FnMut(usize, &LossOutput, &M)) {
        let f = self.f;
        let mut optimizer = Optimizer::new(&self.optim);
        let mut lr_sum = 0.0;
        assert!(f.usize("steps") > 1, "{}: one step shows little", f.name);
        for step in 0..f.usize("steps") {
            let clock = StepClock {
                epoch: step,
                iteration: step,
                micro_batch: 0,
                momentum: (self.momentum)(step),
                seed: 0,
            };
            let config = f.config();
            let rates =
                StepRates { lr: at(&config["lr"], step), weight_decay: at(&config["wd"], step), clip: 0.0 };
            lr_sum += rates.lr;
            method.before_step(&clock);
            let output = method.loss(&(self.batch)(step), &clock);
            let expected = &f.get("loss").values[step..=step];
            let near = Tolerance::of(&f.json["tolerance"]["loss"], expected);
            assert_close(&format!("{} loss[{step}]", f.name), &values(output.loss.clone()), expected, near);
            let mut raw = output.loss.clone().backward();
            let gradients = method.network().take_gradients(&mut raw);
            if step == 0 {
                self.check_gradients(&gradients);
            }
            let mut sum = GradientSum::default();
            sum.add(gradients, 1.0);
            let optim = (&mut optimizer, &self.optim);
            let update =
                Update { optimizer: optim.0, gradients: sum, rates: &rates, config: optim.1, clock: &clock };
            method.update(update);
            method.after_step(&clock);
            self.check_state(&method.state().unwrap(), step + 1, lr_sum);
            each(step, &output, method);
        }
    }

    /// Parameters whose gradient is zero: a batch normalisation takes away what they add.
    fn has_no_gradient(&self, name: &str) -> bool {
        self.f.config()["zero_gradient_names"].as_array().is_some_and(|names| names.iter().any(|n| n == name))
    }

    fn check_gradients(&self, gradients: &[(String, Tensor<1>)]) {
        let f = self.f;
        let expected = f.tensors.under("grad0.");
        assert_eq!(gradients.len(), expected.tensors.len(), "{}: number of gradients", f.name);
        for (name, expected) in &expected.tensors {
            let own = name.strip_prefix(self.trained).unwrap_or(name);
            let (_, found) = gradients.iter().find(|(n, _)| n == own).unwrap_or_else(|| {
                panic!("no gradient of {own} among {:?}", gradients.iter().map(|g| &g.0).collect::<Vec<_>>())
            });
            let found = match expected.shape[..] {
                // Linear weights are [in, out] here.
                [out, input] => values(found.clone().reshape([input, out]).transpose()),
                _ => values(found.clone()),
            };
            let near = match self.has_no_gradient(name) {
                true => Tolerance { atol: 1e-6, rtol: 0.0 },
                false => Tolerance::of(&f.json["tolerance"]["grad0"], &expected.values),
            };
            assert_close(&format!("{} grad0 {name}", f.name), &found, &expected.values, near);
        }
    }

    /// What the fixture has of this step. Its notes allow for rounding noise that AdamW and LARC amplify where the true
    /// gradient is zero.
    fn check_state(&self, state: &StateDict, after: usize, lr_sum: f64) {
        let f = self.f;
        let stored = f.tensors.under(&format!("after{after}."));
        assert!(!stored.tensors.is_empty() || after < f.usize("steps"), "{}: nothing after {after}", f.name);
        let adam = self.optim.optimizer == OptimizerKind::AdamW;
        let (mut total, mut off) = (0usize, 0usize);
        for (name, expected) in &stored.tensors {
            let found = state.get(name).unwrap_or_else(|| panic!("{}: the state has no {name}", f.name));
            assert_eq!(found.shape, expected.shape, "{name}");
            let what = format!("{} {name} after {after}", f.name);
            let kind = match (name.contains(".running_"), !self.follower.is_empty()) {
                (true, _) => "buffers",
                (false, true) if name.starts_with(self.follower) => "followers",
                _ => "params",
            };
            let near = Tolerance::of(&f.json["tolerance"][kind], &expected.values);
            if self.has_no_gradient(name) {
                if self.optim.optimizer == OptimizerKind::Larc {
                    assert_close(&what, &found.values, &expected.values, Tolerance { atol: 1e-3, rtol: 0.0 });
                }
                if adam || self.optim.optimizer == OptimizerKind::Larc {
                    continue;
                }
            }
            if !adam {
                assert_close(&what, &found.values, &expected.values, near);
                continue;
            }
            // A running mean takes up whatever a bias in front of it has drifted by.
            if name.ends_with("running_mean") {
                continue;
            }
            let third = expected.values.len() / 3;
            for (i, (a, b)) in found.values.iter().zip(&expected.values).enumerate() {
                if name.ends_with("attn.qkv.bias") && (third..2 * third).contains(&i) {
                    continue;
                }
                total += 1;
                if near.excess(*a, *b) > 0.0 || a.is_nan() {
                    off += 1;
                    let distance = f64::from((a - b).abs());
                    assert!(distance <= 2.0 * lr_sum, "{what}[{i}]: {a} {b}");
                }
            }
        }
        assert!(off * 1000 <= total, "{} after {after}: {off} of {total} values are off", f.name);
    }
}
