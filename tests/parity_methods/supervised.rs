//! Supervised training: its loss, mixed batches, and whole steps of a residual network and of a Vision Transformer.

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use ocelli::data::{CropBox, Mix, MixDraw};
use ocelli::methods::optim::{OptimConfig, ScheduleKind};
use ocelli::methods::schedule::LrSchedule;
use ocelli::methods::{
    Batch, Classifier, Figure, LossOutput, Method, MethodError, Network, StepClock, Supervised, SupervisedConfig,
    Update, mix_images, mix_targets, soft_cross_entropy,
};
use ocelli::models::weights::StateDict;
use ocelli::models::{Backbone, BatchNorm, Conv2d, Init, Kernel, Mode, ResNetError, Vit, VitError, pool};

use super::{Steps, at, integers, optim_of, vit_of};
use crate::support::{Fixture, Tolerance, as_usize, assert_close, device, values};

const PLAIN: MixDraw = MixDraw { lambda: 1.0, cut: None };

fn labels(f: &Fixture, name: &str) -> Vec<Option<u32>> {
    f.integers(name).into_iter().map(|label| Some(label as u32)).collect()
}

#[cfg_attr(test, test)]
pub fn loss() {
    let f = Fixture::load("loss_supervised_ce");
    let (device, classes) = (device(), f.usize("classes"));
    let labels = labels(&f, "labels");
    assert_eq!(labels.len(), f.usize("batch"));
    let mut cases: Vec<(String, Vec<f32>)> = vec![("soft".into(), f.get("soft_targets").values.clone())];
    for name in f.json["expected"].as_object().unwrap().keys() {
        let Some(smoothing) = name.strip_prefix("smoothing") else { continue };
        cases.push((name.clone(), mix_targets(&labels, classes, smoothing.parse().unwrap(), &PLAIN)));
    }
    assert_eq!(cases.len(), f.json["expected"].as_object().unwrap().len());
    for (name, targets) in cases {
        let logits = f.tensor::<2>("logits", &device.clone().autodiff()).require_grad();
        let data = burn::tensor::TensorData::new(targets, [labels.len(), classes]);
        let targets = Tensor::<2>::from_data(data, &device).autodiff();
        let loss = soft_cross_entropy(logits.clone(), targets);
        let gradient = values(logits.grad(&loss.backward()).unwrap());
        for (what, found) in [("loss", values(loss)), ("grad", gradient)] {
            let key = format!("{name}.{what}");
            let expected = &f.get(&key).values;
            assert_close(&key, &found, expected, Tolerance::of(&f.json["tolerance"][what], expected));
        }
    }
}

/// Two 3×3 convolutions beside the identity, or beside what `downsample` makes of the input.
#[derive(Module, Debug)]
struct Block {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    downsample: Vec<Shortcut>,
}

#[derive(Module, Debug)]
struct Shortcut {
    op_conv: Option<Conv2d>,
    op_norm: Option<BatchNorm>,
}

impl Block {
    fn new(input: usize, output: usize, stride: usize, init: &mut Init) -> Self {
        let mut downsample = Vec::new();
        if stride > 1 {
            let conv = Conv2d::new(input, output, Kernel::new(1, stride), init);
            downsample.push(Shortcut { op_conv: Some(conv), op_norm: None });
            downsample.push(Shortcut { op_conv: None, op_norm: Some(BatchNorm::new(output, init)) });
        }
        Self {
            conv1: Conv2d::new(input, output, Kernel::new(3, stride), init),
            bn1: BatchNorm::new(output, init),
            conv2: Conv2d::new(output, output, Kernel::new(3, 1), init),
            bn2: BatchNorm::new(output, init),
            downsample,
        }
    }

    fn forward(&self, x: Tensor<4>, mode: Mode) -> Tensor<4> {
        let y = self.bn1.forward_relu(self.conv1.forward(x.clone()), mode, 1);
        let shortcut = self.downsample.iter().fold(x, |x, layer| match (&layer.op_conv, &layer.op_norm) {
            (Some(conv), _) => conv.forward(x),
            (None, Some(norm)) => norm.forward_maps(x, mode, 1),
            (None, None) => x,
        });
        self.bn2.forward_add_relu(self.conv2.forward(y), mode, 1, shortcut)
    }
}

/// The fixture's residual network, of two stages.
#[derive(Module, Debug)]
struct Tiny {
    conv1: Conv2d,
    bn1: BatchNorm,
    layer1: Vec<Block>,
    layer2: Vec<Block>,
}

impl Tiny {
    fn new(width: usize, init: &mut Init) -> Self {
        Self {
            conv1: Conv2d::new(3, width, Kernel::new(3, 1), init),
            bn1: BatchNorm::new(width, init),
            layer1: vec![Block::new(width, width, 1, init)],
            layer2: vec![Block::new(width, 2 * width, 2, init)],
        }
    }
}

impl Backbone for Tiny {
    fn features(&self, images: Tensor<4>, mode: Mode) -> Tensor<2> {
        pool(self.feature_map(images, mode))
    }

    fn feature_map(&self, images: Tensor<4>, mode: Mode) -> Tensor<4> {
        let stem = relu(self.bn1.forward_maps(self.conv1.forward(images), mode, 1));
        self.layer1.iter().chain(&self.layer2).fold(stem, |x, block| block.forward(x, mode))
    }

    fn map_dim(&self) -> usize {
        self.layer2[0].conv2.weight.dims()[0]
    }
}

/// torchvision's names, where backbone and classifier are one network, as those of the two.
fn in_parts(f: Fixture) -> Fixture {
    let renamed = |name: &str| {
        let (kind, rest) = name.split_once('.').unwrap();
        let is_of_network = kind == "init" || kind == "grad0" || kind.starts_with("after");
        match (is_of_network, rest.strip_prefix("fc.")) {
            (false, _) => name.to_owned(),
            (true, Some(rest)) => format!("{kind}.head.{rest}"),
            (true, None) => format!("{kind}.backbone.{rest}"),
        }
    };
    let mut f = f;
    for (name, _) in &mut f.tensors.tensors {
        if name.contains('.') {
            *name = renamed(name);
        }
    }
    f
}

#[cfg_attr(test, test)]
pub fn three_steps_of_a_residual_network() {
    let f = in_parts(Fixture::load("supervised_train_resnet"));
    let device = device();
    let (width, classes) = (f.usize("width"), f.usize("classes"));
    let net = |init: &mut Init| Ok::<_, ResNetError>(Classifier::new(Tiny::new(width, init), classes, init));
    let mut method = Supervised::new(&SupervisedConfig::default(), net, 0, &device).unwrap();
    method.load_state(&f.tensors.under("init.")).unwrap();
    let per_epoch = f.usize("steps_per_epoch");
    let optim = OptimConfig {
        schedule: ScheduleKind::Step,
        milestones_epochs: integers(&f.config()["milestones"]),
        gamma: f.f64("gamma"),
        warmup_epochs: 0,
        ..optim_of(&f)
    };
    let schedule = LrSchedule::new(&optim, f.f64("base_lr"), per_epoch, f.usize("steps").div_ceil(per_epoch));
    for step in 0..f.usize("steps") {
        let expected = at(&f.json["expected"]["lr"], step);
        assert!((schedule.at(step) - expected).abs() <= 1e-12 * expected, "lr[{step}]");
    }
    let batch = |step: usize| Batch {
        labels: labels(&f, &format!("step{step}.labels")),
        ..Batch::of_views(vec![f.tensor(&format!("step{step}.images"), &device)], f.usize("batch"))
    };
    Steps { f: &f, optim, trained: "", follower: "", batch: &batch, momentum: &|_| 0.0 }
        .run(&mut method, |_, output, _| check_figures(output, classes));
}

/// The share of right answers is one of a batch, and what a step tells is what is declared.
fn check_figures(output: &LossOutput, classes: usize) {
    let names: Vec<&str> = output.scalars.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["loss", "top1", "feature_std"]);
    let top1 = values(output.scalars[1].1.clone())[0];
    assert!((0.0..=1.0).contains(&top1), "{top1} of {classes} classes");
}

/// A method whose batches are mixed as the fixture's are.
struct Given {
    method: Supervised<Vit>,
    draws: Vec<MixDraw>,
}

impl Method for Given {
    fn figures(&self) -> &'static [Figure] {
        self.method.figures()
    }

    fn loss(&mut self, batch: &Batch, clock: &StepClock) -> LossOutput {
        self.method.loss_of(batch, &self.draws[clock.iteration], clock)
    }

    fn network(&self) -> &dyn Network {
        self.method.network()
    }

    fn update(&mut self, update: Update<'_>) {
        self.method.update(update);
    }

    fn after_step(&mut self, clock: &StepClock) {
        self.method.after_step(clock);
    }

    fn start_from(&mut self, backbone: &StateDict) -> Result<(), MethodError> {
        self.method.start_from(backbone)
    }

    fn state(&self) -> Result<StateDict, MethodError> {
        self.method.state()
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), MethodError> {
        self.method.load_state(state)
    }

    fn held_values(&self) -> usize {
        self.method.held_values()
    }
}

/// How the fixture mixes the batch of a step: λ, or a box [y0, y1, x0, x1].
fn draw_of(f: &Fixture, step: usize) -> MixDraw {
    let given = &f.config()["box"][step];
    let cut = given.as_array().map(|ends| {
        let [top, bottom, left, right] = [0, 1, 2, 3].map(|i| as_usize(&ends[i], "an end") as u32);
        CropBox { top, left, height: bottom - top, width: right - left }
    });
    let lambda = at(&f.config()["effective_lambda"], step);
    match cut {
        Some(cut) => {
            let rest = 1.0 - f64::from(cut.height * cut.width) / (f.usize("img") as f64).powi(2);
            assert!((rest - lambda).abs() < 1e-12, "{rest} {lambda}");
        }
        None => assert_eq!(lambda, at(&f.config()["lam"], step)),
    }
    MixDraw { lambda, cut }
}

#[cfg_attr(test, test)]
pub fn mixed_batches() {
    let f = Fixture::load("supervised_train_vit");
    let device = device();
    let near = Tolerance { atol: 1e-6, rtol: 1e-6 };
    for step in 0..f.usize("steps") {
        let draw = draw_of(&f, step);
        let images = mix_images(f.tensor::<4>(&format!("step{step}.images_raw"), &device), &draw);
        let key = format!("step{step}.images");
        assert_close(&key, &values(images), &f.get(&key).values, near);
        let labels = labels(&f, &format!("step{step}.labels"));
        let targets = mix_targets(&labels, f.usize("classes"), f.f64("smoothing") as f32, &draw);
        let key = format!("step{step}.targets");
        assert_close(&key, &targets, &f.get(&key).values, near);
    }
}

#[cfg_attr(test, test)]
pub fn three_steps_of_a_vision_transformer() {
    let f = Fixture::load("supervised_train_vit");
    let device = device();
    let (vit, classes) = (vit_of(&f), f.usize("classes"));
    let net = |init: &mut Init| Ok::<_, VitError>(Classifier::new(vit.init(init)?, classes, init));
    let mix = Mix { smoothing: f.f64("smoothing") as f32, ..SupervisedConfig::default().mix };
    let config = SupervisedConfig { mix, ..SupervisedConfig::default() };
    let method = Supervised::new(&config, net, 0, &device).unwrap();
    let mut method = Given { method, draws: (0..f.usize("steps")).map(|step| draw_of(&f, step)).collect() };
    method.load_state(&f.tensors.under("init.")).unwrap();
    let no_decay: Vec<String> = ["pos_embed", "cls_token"].map(String::from).to_vec();
    let words = f.config()["no_weight_decay"].as_str().unwrap();
    assert!(no_decay.iter().all(|name| words.contains(name.as_str())), "{words}");
    let optim = OptimConfig { no_decay, ..optim_of(&f) };
    let batch = |step: usize| raw_batch(&f, step, &device);
    Steps { f: &f, optim, trained: "", follower: "", batch: &batch, momentum: &|_| 0.0 }
        .run(&mut method, |_, output, _| check_figures(output, classes));
}

fn raw_batch(f: &Fixture, step: usize, device: &Device) -> Batch {
    Batch {
        labels: labels(f, &format!("step{step}.labels")),
        ..Batch::of_views(vec![f.tensor(&format!("step{step}.images_raw"), device)], f.usize("batch"))
    }
}
