//! Supervised classification: the yardstick of self-supervised features, and how they are fine-tuned.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use ocelli_data::{ColourJitter, Erase, Filter, Mix, MixDraw, RandAugment, ViewPlan, ViewSpec};
use ocelli_models::mlp::LinearInit;
use ocelli_models::params::{self, FlatParam};
use ocelli_models::weights::{ModuleState as _, StateDict};
use ocelli_models::{AnyBackbone, Backbone, BackboneConfig, BackboneKind, Init, Linear, Mode};
use serde::{Deserialize, Serialize};

use crate::ViewSettings;
use crate::figure::{CONSTANT_FEATURES, Condition, FEATURE_STD, Figure, Level, Sign, loss};
use crate::held::Trained;
use crate::method::{Batch, LossOutput, Method, MethodError, Network, StepClock, Update, check_value};
use crate::optim::Group;
use crate::parts::{feature_std, mix_images, mix_targets, soft_cross_entropy};
use crate::recipe::{Facts, Key, Needs, Range, Recipe, Sections, check_keys, presets};

/// What is supervised training's own; the defaults mix and smooth nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SupervisedConfig {
    /// Each layer's learning rate is this much of the next one's, the head's being the whole (1: all alike).
    pub layer_decay: f64,
    /// How images and targets of a batch are mixed, and how much of a target is spread over all classes.
    pub mix: Mix,
}

impl Default for SupervisedConfig {
    fn default() -> Self {
        let mix = Mix { mixup_alpha: 0.0, cutmix_alpha: 0.0, smoothing: 0.0, ..Mix::default() };
        Self { layer_decay: 1.0, mix }
    }
}

impl SupervisedConfig {
    /// Whether batches are mixed.
    fn mixes(&self) -> bool {
        self.mix.prob > 0.0 && (self.mix.mixup_alpha > 0.0 || self.mix.cutmix_alpha > 0.0)
    }
}

/// The loss of guessing.
const GUESSING: &str = "ln(classes)";
/// The share of right answers by chance.
const CHANCE: &str = "chance";

const FIGURES: &[Figure] = &[
    loss(
        "Cross-entropy with the targets. Healthy: below ln(classes) within an epoch or two, then down. Where targets are mixed \
         or smoothed it stays well above 0.",
    )
    .level(GUESSING),
    Figure::new(
        "top1",
        "Top-1 of the batch",
        "How often the class comes first that has the largest share in the target, with the images as they are trained on. \
         Healthy: up. Mixed and augmented images are harder than those of an evaluation, whose accuracy is higher.",
    )
    .from_zero()
    .bar_with("top-1", 100.0, 1, " %")
    .headline(),
    FEATURE_STD,
];

/// A network that answers every image with the classes' frequencies has a loss of ln(classes) or more, where the classes are
/// equally frequent; batches differ by more than a three-hundredth of it, and a network that has learnt anything does not
/// stay so close for an epoch.
const SIGNS: &[Sign] = &[
    CONSTANT_FEATURES,
    Sign::new(
        "guessing",
        "the loss stays at ln(classes): the network tells no class from another",
        "a lower optim.lr, a longer optim.warmup_epochs, less supervised.mix and views.randaugment, labels that say what is in \
         the images",
        &[Condition::above("loss", 0.997).of(GUESSING), Condition::below("top1", 1.5).of(CHANCE)],
    ),
];

const fn key(name: &'static str, meaning: &'static str, source: &'static str, range: Range) -> Key {
    Key { name, meaning, source, range }
}

const KEYS: &[Key] = &[
    key(
        "supervised.layer_decay",
        "learning rate of a layer as a share of the next one's; 1: all alike",
        "DeiT, DINO: 1; BEiT, MAE: 0.65 to 0.75",
        Range::Share,
    ),
    key("supervised.mix.mixup_alpha", "mixup's lambda is of Beta(a, a); 0: none", "DeiT: 0.8", Range::AtLeastZero),
    key("supervised.mix.cutmix_alpha", "cutmix's lambda is of Beta(a, a); 0: none", "DeiT: 1", Range::AtLeastZero),
    key("supervised.mix.prob", "probability that a batch is mixed", "DeiT", Range::Share),
    key("supervised.mix.switch_prob", "probability of cutmix where both are on", "DeiT", Range::Share),
    key(
        "supervised.mix.smoothing",
        "share of every target that is spread over all classes",
        "DeiT: 0.1",
        Range::Share,
    ),
];

/// What supervised training declares.
pub const SUPERVISED: Recipe = Recipe {
    name: "supervised",
    title: "Supervised classification",
    paper: "He et al. 2016, https://arxiv.org/abs/1512.03385; Touvron et al. 2021 (DeiT), https://arxiv.org/abs/2012.12877",
    defaults: r#"
arch = "resnet-50"
epochs = 105
batch_size = 256
drop_path = 0.0
[views]
global_scale = [0.08, 1.0]
local_crops = 0
jitter = 0.4
[optim]
optimizer = "sgd"
nesterov = true
lr = 0.1
min_lr = 0.0
schedule = "step"
milestones_epochs = [30, 60, 90, 100]
lr_by_epoch = true
warmup_epochs = 0
weight_decay = 1e-4
weight_decay_end = 1e-4
decay_all = true
clip_grad = 0.0
"#,
    sections: || Sections::default().with("supervised", &SupervisedConfig::default()),
    keys: KEYS,
    presets: presets![
        "supervised-r50": "ResNet-50 with labels, 105 epochs, batch 256 (VISSL: top-1 75.45; the 79.3 of DINO's table is another, stronger recipe)",
        "supervised-vit-s16": "DeiT-S, a ViT-S/16 with labels, 300 epochs, batch 1024 (published: top-1 79.9; in DINO's table linear 79.8, k-NN 79.8)",
        "supervised-vit-b16": "DeiT-B, a ViT-B/16 with labels, 300 epochs, batch 1024 (published: top-1 81.8)",
        "finetune": "what `ocelli finetune classification` trains with: DeiT's recipe from pre-trained weights",
        "supervised-laptop": "with labels, a narrow ResNet-18 on 64 px views, on a CPU",
    ],
    figures: FIGURES,
    signs: SIGNS,
    backbones: &[BackboneKind::Vit, BackboneKind::ResNet],
    published_for: "resnet-50, vit-s/16, vit-b/16",
    needs: Needs { labels: true, indices: false, places: false, whole_batch: false, coupled: false },
    holds: "nothing else",
    views,
    views_about: "The network names the class of each.",
    check,
    notes,
    build,
};

/// One view. As in the recipes it comes from, bicubic beside RandAugment (DeiT) and bilinear otherwise (torchvision).
fn views(v: &ViewSettings) -> ViewPlan {
    let jitter = ColourJitter {
        prob: 1.0,
        brightness: v.jitter,
        contrast: v.jitter,
        saturation: v.jitter,
        hue: v.jitter.min(0.5),
    };
    let randaugment = RandAugment { magnitude: f64::from(v.randaugment), ..RandAugment::default() };
    let view = ViewSpec {
        title: "view".into(),
        size_px: v.global_size_px as u32,
        scale: v.global_scale,
        jitter: (v.jitter > 0.0).then_some(jitter),
        filter: if v.randaugment > 0.0 { Filter::Bicubic } else { Filter::Bilinear },
        randaugment: (v.randaugment > 0.0).then_some(randaugment),
        erase: (v.erase > 0.0).then_some(Erase { prob: v.erase, ..Erase::default() }),
        ..ViewSpec::default()
    };
    ViewPlan { views: vec![view], mean: v.mean, std: v.std }
}

fn check(facts: &Facts<'_>) -> Result<(), MethodError> {
    let crops = facts.views.local_crops;
    check_value(crops == 0, "views.local_crops", "0: supervised training has one view", crops)?;
    let decay = facts.own.number("supervised.layer_decay");
    check_value(decay > 0.0, "supervised.layer_decay", "above 0 and at most 1", decay)
}

fn notes(facts: &Facts<'_>) -> Vec<String> {
    let mixes = facts.own.get::<SupervisedConfig>("supervised").is_ok_and(|config| config.mixes());
    let note = "images and targets are mixed: the loss stays well above 0, and top-1 of the batch below that of an evaluation";
    if mixes { vec![note.to_owned()] } else { Vec::new() }
}

fn build(facts: &Facts<'_>, seed: u64, device: &Device) -> Result<Box<dyn Method>, MethodError> {
    let net = |init: &mut Init| {
        let backbone = facts.backbone.init(init)?;
        Ok::<_, MethodError>(Classifier::drawn(backbone, facts.backbone, facts.classes.unwrap_or(0), init))
    };
    Ok(Box::new(Supervised::<AnyBackbone>::new(&facts.own.get("supervised")?, net, seed, device)?))
}

/// A backbone with a linear map from its features to the classes' logits.
#[derive(Module, Debug)]
pub struct Classifier<B: Module> {
    /// The backbone.
    pub backbone: B,
    /// `[dim, classes]`.
    pub head: Linear,
}

impl<B: Backbone> Classifier<B> {
    /// Draws the head: N(0, 0.02²) and zero bias as DeiT's.
    pub fn new(backbone: B, classes: usize, init: &mut Init) -> Self {
        let head = Linear::new(backbone.map_dim(), classes, true, init);
        Self { backbone, head }
    }

    /// Images `[batch, 3, height, width]` to logits `[batch, classes]` and the backbone's features `[batch, dim]`.
    pub fn forward(&self, images: Tensor<4>, mode: Mode) -> (Tensor<2>, Tensor<2>) {
        let features = self.backbone.features(images, mode);
        (self.head.forward(features.clone()), features)
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.head.weight.dims()[1]
    }
}

impl Classifier<AnyBackbone> {
    /// The same, where the backbone is a ResNet with PyTorch's default U(±1/√dim), as torchvision's.
    fn drawn(backbone: AnyBackbone, config: &BackboneConfig, classes: usize, init: &mut Init) -> Self {
        match config.kind() {
            BackboneKind::Vit => Self::new(backbone, classes, init),
            BackboneKind::ResNet => {
                let head = LinearInit::Default.linear([backbone.map_dim(), classes], true, init);
                Self { backbone, head }
            }
        }
    }

    /// A network with these values, by name (`backbone.…`, `head.…`): of its own, on the plain device, with running statistics
    /// that are not shared. What is missing keeps what is drawn.
    ///
    /// # Errors
    /// As [`BackboneConfig::init`].
    pub fn with_values(
        config: &BackboneConfig,
        classes: usize,
        values: Vec<FlatParam>,
        device: &Device,
    ) -> Result<Self, MethodError> {
        let mut init = Init::blank(device);
        let own = Self::new(config.init(&mut init)?, classes, &mut init);
        let mut values: std::collections::BTreeMap<String, Tensor<1>> =
            values.into_iter().map(|p| (p.name, p.values)).collect();
        Ok(params::replace(own, |param| values.remove(&param.name)))
    }
}

/// A classifier in training.
pub struct Supervised<B: Backbone = AnyBackbone> {
    config: SupervisedConfig,
    net: Trained<Classifier<B>>,
    classes: usize,
    /// Layers below the head that have a learning rate of their own.
    layers: usize,
}

impl<B: Backbone> Supervised<B> {
    /// A network that `build` draws from `seed`. `device` is the plain device, the parameters are tracked.
    ///
    /// # Errors
    /// When a value is out of range, the network cannot be built, or it has fewer than two classes.
    pub fn new<E: Into<MethodError>>(
        config: &SupervisedConfig,
        build: impl Fn(&mut Init) -> Result<Classifier<B>, E>,
        seed: u64,
        device: &Device,
    ) -> Result<Self, MethodError> {
        check_keys(KEYS, &Sections::default().with("supervised", config)?)?;
        let net = build(&mut Init::new(seed, &device.clone().autodiff())).map_err(Into::into)?;
        let classes = net.classes();
        check_value(classes >= 2, "classes", "2 or more", classes)?;
        let layers =
            params::collect(&net).iter().filter_map(|p| layer_of(&p.name)).max().map_or(0, |last| last + 1);
        Ok(Self { config: config.clone(), net: Trained::new(net), classes, layers })
    }

    /// The network.
    pub fn net(&self) -> &Classifier<B> {
        self.net.net()
    }

    /// The loss of a batch mixed in a given way.
    pub fn loss_of(&self, batch: &Batch, draw: &MixDraw, clock: &StepClock) -> LossOutput {
        let images = mix_images(batch.view(0), draw);
        let targets = mix_targets(&batch.labels, self.classes, self.config.mix.smoothing, draw);
        let shape = [batch.labels.len(), self.classes];
        let targets = Tensor::<2>::from_data(TensorData::new(targets, shape), &images.device());
        let (logits, features) = self.net().forward(images.autodiff(), Mode::Train { seed: clock.step_seed() });
        let first = logits.clone().inner().argmax(1).equal(targets.clone().argmax(1));
        let loss = soft_cross_entropy(logits, targets.autodiff());
        let scalars = vec![
            ("loss", loss.clone().inner()),
            ("top1", first.float().mean()),
            ("feature_std", feature_std(features.inner())),
        ];
        LossOutput { loss, scalars }
    }
}

/// How a parameter is stepped: the rate falls by `decay` with every layer below the last of `layers`, the head's.
fn group((layers, decay): (usize, f64), parameter: &FlatParam) -> Group {
    let below = layers - layer_of(&parameter.name).unwrap_or(layers).min(layers);
    Group { lr: decay.powi(below as i32), ..Group::default() }
}

/// Depth of a parameter's layer: 0 for what comes before the blocks or stages, the number of the block or stage from 1 after
/// that; none for what comes after them.
fn layer_of(name: &str) -> Option<usize> {
    let inside = name.strip_prefix("backbone.")?;
    let number = |rest: &str| rest.split('.').next()?.parse::<usize>().ok();
    match (inside.strip_prefix("blocks."), inside.strip_prefix("layer")) {
        (Some(rest), _) => number(rest).map(|block| block + 1),
        (None, Some(rest)) => number(rest),
        (None, None) if inside.starts_with("norm.") => None,
        (None, None) => Some(0),
    }
}

impl<B: Backbone> Method for Supervised<B> {
    fn figures(&self) -> &'static [Figure] {
        FIGURES
    }

    fn network(&self) -> &dyn Network {
        self.net.net()
    }

    fn update(&mut self, update: Update<'_>) {
        let depth = (self.layers, self.config.layer_decay);
        self.net.update(update, &|parameter| group(depth, parameter));
    }

    fn group(&self, parameter: &FlatParam, _: &StepClock) -> Group {
        group((self.layers, self.config.layer_decay), parameter)
    }

    fn loss(&mut self, batch: &Batch, clock: &StepClock) -> LossOutput {
        let [_, _, height, width] = batch.view(0).dims();
        let size = [height as u32, width as u32];
        let draw = self.config.mix.draw(clock.step_seed(), clock.epoch as u64, clock.iteration as u64, size);
        self.loss_of(batch, &draw, clock)
    }

    fn levels(&self) -> Vec<Level> {
        let classes = self.classes as f64;
        vec![Level::new(GUESSING, classes.ln()), Level::new(CHANCE, 1.0 / classes)]
    }

    fn unsettled_steps(&self, steps_per_epoch: usize, _: usize) -> usize {
        2 * steps_per_epoch
    }

    fn start_from(&mut self, backbone: &StateDict) -> Result<(), MethodError> {
        self.net.change(|net| Ok(Classifier { backbone: backbone.load_into(net.backbone)?, ..net }))
    }

    fn state(&self) -> Result<StateDict, MethodError> {
        self.net.state()
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), MethodError> {
        self.net.load(state)
    }
}

#[cfg(test)]
mod tests {
    use ocelli_models::Arch;

    use super::*;
    use crate::optim::{OptimConfig, Optimizer, OptimizerKind, StepRates};
    use crate::train_step;

    fn pixels(batch: usize, side: usize) -> Vec<f32> {
        (0..batch * 3 * side * side).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect()
    }

    fn tensor(values: &[f32], shape: [usize; 4]) -> Tensor<4> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
    }

    #[test]
    fn layers_have_their_depth() {
        for (name, depth) in [
            ("backbone.cls_token", Some(0)),
            ("backbone.patch_embed.proj.weight", Some(0)),
            ("backbone.blocks.0.norm1.weight", Some(1)),
            ("backbone.blocks.11.mlp.fc2.bias", Some(12)),
            ("backbone.norm.weight", None),
            ("backbone.conv1.weight", Some(0)),
            ("backbone.bn1.bias", Some(0)),
            ("backbone.layer4.2.conv3.weight", Some(4)),
            ("head.weight", None),
        ] {
            assert_eq!(layer_of(name), depth, "{name}");
        }
    }

    fn supervised(config: &SupervisedConfig) -> Supervised<AnyBackbone> {
        let vit = BackboneConfig::Vit("vit-32x2x2/8".parse::<Arch>().unwrap().config(16, 0.0));
        let net = |init: &mut Init| {
            let backbone = vit.init(init)?;
            Ok::<_, MethodError>(Classifier::drawn(backbone, &vit, 3, init))
        };
        Supervised::new(config, net, 5, &Device::flex()).unwrap()
    }

    /// SGD's first step is the gradient times the rate, so that a layer's share of it shows.
    #[test]
    fn rates_fall_with_depth() {
        let batch = Batch {
            labels: vec![Some(0), Some(2), Some(1)],
            ..Batch::of_views(vec![tensor(&pixels(3, 16), [3, 3, 16, 16])], 3)
        };
        let moved = |layer_decay: f64| {
            let mut method = supervised(&SupervisedConfig { layer_decay, ..SupervisedConfig::default() });
            let config = OptimConfig { optimizer: OptimizerKind::Sgd, ..OptimConfig::default() };
            let rates = StepRates { lr: 1.0, weight_decay: 0.0, clip: 0.0 };
            let clock = StepClock { epoch: 0, iteration: 0, micro_batch: 0, momentum: 0.0, seed: 0 };
            let before = method.state().unwrap();
            train_step(
                &mut method,
                (&mut Optimizer::new(&config), &config),
                std::slice::from_ref(&batch),
                clock,
                &rates,
            );
            let after = method.state().unwrap();
            let of = |name: &str| {
                let (a, b) = (before.get(name).unwrap(), after.get(name).unwrap());
                a.values.iter().zip(&b.values).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>()
            };
            [
                "head.bias",
                "backbone.norm.bias",
                "backbone.blocks.1.mlp.fc2.bias",
                "backbone.blocks.0.mlp.fc2.bias",
                "backbone.pos_embed",
            ]
            .map(of)
        };
        let (alike, falling) = (moved(1.0), moved(0.5));
        for (i, share) in [1.0, 1.0, 0.5, 0.25, 0.125].into_iter().enumerate() {
            let found = falling[i] / alike[i];
            assert!((found - share).abs() < 1e-3, "{i}: {found}, expected {share}");
        }
    }

    #[test]
    fn mixing_is_drawn_from_the_clock_alone() {
        let mix = Mix { mixup_alpha: 0.8, cutmix_alpha: 1.0, ..SupervisedConfig::default().mix };
        let mut method = supervised(&SupervisedConfig { mix, ..SupervisedConfig::default() });
        let batch = Batch {
            labels: vec![Some(0), Some(2), Some(1), Some(1)],
            ..Batch::of_views(vec![tensor(&pixels(4, 16), [4, 3, 16, 16])], 4)
        };
        let mut loss = |iteration| {
            let clock = StepClock { epoch: 0, iteration, micro_batch: 0, momentum: 0.0, seed: 3 };
            method.loss(&batch, &clock).loss.into_data().try_to_vec::<f32>().unwrap()[0]
        };
        let first: Vec<f32> = (0..6).map(&mut loss).collect();
        let again: Vec<f32> = (0..6).map(&mut loss).collect();
        assert_eq!(first, again);
        assert!(first.windows(2).any(|w| w[0] != w[1]), "{first:?}");
    }

    #[test]
    fn a_classifier_with_the_same_values_answers_the_same() {
        let method = supervised(&SupervisedConfig::default());
        let vit = BackboneConfig::Vit("vit-32x2x2/8".parse::<Arch>().unwrap().config(16, 0.0));
        let images = tensor(&pixels(2, 16), [2, 3, 16, 16]);
        let own = Classifier::with_values(&vit, 3, method.network().parameters(), &Device::flex()).unwrap();
        let logits = |(logits, _): (Tensor<2>, Tensor<2>)| logits.into_data().try_to_vec::<f32>().unwrap();
        let tracked = method.net().forward(images.clone().autodiff(), Mode::Eval);
        // Tracked and plain tensors may take kernels of their own.
        let (own, tracked) = (logits(own.forward(images, Mode::Eval)), logits((tracked.0.inner(), tracked.1)));
        let near = own.iter().zip(&tracked).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near && own.len() == 6, "{own:?} {tracked:?}");
    }
}
