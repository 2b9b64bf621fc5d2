//! DINO: self-distillation with no labels (Caron et al. 2021, <https://arxiv.org/abs/2104.14294>).

use burn::module::Module;
use burn::tensor::{Device, Tensor, activation};
use ocelli_data::{DinoViews, ViewPlan};
use ocelli_models::params::FlatParam;
use ocelli_models::weights::{HostTensor, ModuleState as _, StateDict};
use ocelli_models::{AnyBackbone, Backbone, BackboneKind, DinoHead, DinoHeadConfig, Init, Mode, Vit, VitConfig};
use ocelli_world::{Wire, World};
use serde::{Deserialize, Serialize};

use crate::ViewSettings;
use crate::figure::{CONSTANT_FEATURES, Condition, FEATURE_STD, Figure, Level, Sign, loss};
use crate::held::{Draw, Followed};
use crate::method::{Batch, Bound, LossOutput, Method, MethodError, Network, StepClock, Update, backbone_of};
use crate::optim::Group;
use crate::parts::feature_std;
use crate::recipe::{
    Facts, Key, MANY, Needs, Range, Recipe, Sections, check_keys, no_notes, nothing_more, presets,
};
use crate::schedule::{Cosine, TeacherTemperature};
use crate::step::sum_of;

/// DINO's own constants; defaults are the reference's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DinoConfig {
    /// The projection head.
    pub head: DinoHeadConfig,
    /// τs (0.1).
    pub student_temp: f64,
    /// τt after its warm-up (0.04; above 0.07 training becomes unstable).
    pub teacher_temp: f64,
    /// τt of epoch 0 (0.04).
    pub warmup_teacher_temp: f64,
    /// Epochs until τt is reached (0).
    pub warmup_teacher_temp_epochs: usize,
    /// Momentum of the centre (0.9).
    pub centre_momentum: f64,
    /// Momentum of the teacher at the start; a cosine takes it to 1 (0.996; 0.9995 for batches of 256 and below).
    pub teacher_momentum: f64,
    /// Epochs during which the last layer is not trained (1).
    pub freeze_last_layer_epochs: usize,
}

impl Default for DinoConfig {
    fn default() -> Self {
        Self {
            head: DinoHeadConfig::default(),
            student_temp: 0.1,
            teacher_temp: 0.04,
            warmup_teacher_temp: 0.04,
            warmup_teacher_temp_epochs: 0,
            centre_momentum: 0.9,
            teacher_momentum: 0.996,
            freeze_last_layer_epochs: 1,
        }
    }
}

/// The entropy of a teacher that prefers no prototype.
const UNIFORM: &str = "ln K";

const FIGURES: &[Figure] = &[
    loss(
        "Teacher entropy plus KL. Healthy: often up at first, while the teacher spreads over its prototypes, then slowly \
         down. Stuck at ln K or fallen to 0 it has learnt nothing; how good the features are it does not say.",
    ),
    Figure::new(
        "teacher_entropy",
        "Teacher entropy",
        "Healthy: up towards ln K at first, then slowly down, well above 0. On ln K for good, the teacher tells no image \
         from another; at 0 it puts all of them into one prototype.",
    )
    .from_zero()
    .level(UNIFORM)
    .bar("entropy", 2)
    .headline(),
    Figure::new(
        "kl",
        "KL divergence, teacher to student",
        "The part of the loss the student can lower. Healthy: down at first, then clearly above 0, often rising again; at 0 \
         the teacher has nothing left to teach.",
    )
    .from_zero()
    .bar("KL", 3),
    FEATURE_STD,
];

/// The closest a healthy run has come to a uniform teacher is a KL divergence of 0.008 ln K at an entropy of 0.99 ln K, in the
/// first epochs of the demo; a run that has collapsed is below 0.0002. (Caron et al. 2021, §5.3 and figure 7.)
const SIGNS: &[Sign] = &[
    CONSTANT_FEATURES,
    Sign::new(
        "uniform",
        "the teacher's output is uniform: every prototype is equally likely for every image, and the student has nothing to \
         learn from",
        "a lower dino.teacher_temp (0.04), a lower dino.warmup_teacher_temp, a lower dino.centre_momentum (0.9), a higher \
         dino.teacher_momentum",
        &[Condition::above("teacher_entropy", 0.98).of(UNIFORM), Condition::below("kl", 0.001).of(UNIFORM)],
    ),
    Sign::new(
        "one_prototype",
        "the teacher answers every image with the same prototype, and the loss is near zero for nothing",
        "check that centring is on (dino.centre_momentum below 1), a higher dino.teacher_temp, dino.head.norm_last_layer = \
         true, a lower optim.lr",
        &[Condition::below("loss", 0.04).of(UNIFORM), Condition::below("teacher_entropy", 0.04).of(UNIFORM)],
    ),
];

const fn key(name: &'static str, meaning: &'static str, source: &'static str, range: Range) -> Key {
    Key { name, meaning, source, range }
}

const KEYS: &[Key] = &[
    key("dino.student_temp", "temperature of the student", "DINO", Range::Positive),
    key(
        "dino.teacher_temp",
        "temperature of the teacher after its warm-up",
        "DINO; unstable above 0.07",
        Range::Positive,
    ),
    key("dino.warmup_teacher_temp", "temperature of the teacher in epoch 0", "DINO", Range::Positive),
    key("dino.warmup_teacher_temp_epochs", "epochs of its warm-up", "DINO", Range::Count(0, MANY)),
    key("dino.centre_momentum", "momentum of the centre", "DINO", Range::Share),
    key(
        "dino.teacher_momentum",
        "momentum of the teacher at the start; a cosine takes it to 1",
        "DINO; 0.9995 for small batches",
        Range::Share,
    ),
    key(
        "dino.freeze_last_layer_epochs",
        "epochs before the head's last layer is trained",
        "DINO",
        Range::Count(0, MANY),
    ),
    // With one prototype every output is the same, and the loss is 0 whatever the network does.
    key("dino.head.out_dim", "prototypes K", "DINO", Range::Count(2, MANY)),
    key("dino.head.hidden_dim", "width of the head", "DINO", Range::Count(1, MANY)),
    key("dino.head.bottleneck_dim", "width before the prototypes", "DINO", Range::Count(1, MANY)),
    key("dino.head.layers", "linear maps before the prototypes", "DINO", Range::Count(1, 64)),
    key("dino.head.batch_norm", "batch normalisation in the head", "DINO", Range::Any),
    key(
        "dino.head.norm_last_layer",
        "prototypes of length 1; false trains their length",
        "DINO; false for the large ViTs",
        Range::Any,
    ),
];

/// What DINO declares.
pub const DINO: Recipe = Recipe {
    name: "dino",
    title: "DINO",
    paper: "Caron et al. 2021, https://arxiv.org/abs/2104.14294",
    defaults: "",
    sections: || Sections::default().with("dino", &DinoConfig::default()),
    keys: KEYS,
    presets: presets![
        "vit-s16-100": "DINO ViT-S/16, 100 epochs, batch 512 (published: k-NN 69.3, linear 74.0 on ImageNet)",
        "vit-s16-300": "DINO ViT-S/16, 300 epochs, batch 1024 (published: k-NN 73.3, linear 76.0)",
        "vit-s16-800": "DINO ViT-S/16, 800 epochs, batch 1024, 10 local crops (published: k-NN 74.5, linear 77.0)",
        "vit-s8-800": "DINO ViT-S/8, 800 epochs, batch 1024 (published: k-NN 78.3, linear 79.7)",
        "vit-b16-400": "DINO ViT-B/16, 400 epochs, batch 1024 (published: k-NN 76.1, linear 78.2)",
        "vit-b8-300": "DINO ViT-B/8, 300 epochs, batch 1024 (published: k-NN 77.4, linear 80.1)",
        "vit-s16-one-gpu": "DINO ViT-S/16 on one GPU: batch 64, small head, slow teacher",
        "dino-r50-100": "DINO ResNet-50, 100 epochs, batch 512, SGD (the reference's README; result not published with it)",
        "dino-r50-800": "DINO ResNet-50, 800 epochs, batch 4080, LARS (published: k-NN 67.5, linear 75.3)",
        "cifar-reference": "the learning-curve setting: tiny ViT, CIFAR-10, 20 epochs",
        "laptop": "a tiny ViT on 64 px crops: an hour on two CPU cores for 10,000 photographs",
        "demo": "what `ocelli demo` runs: five minutes on two CPU cores",
    ],
    figures: FIGURES,
    signs: SIGNS,
    backbones: &[BackboneKind::Vit, BackboneKind::ResNet],
    published_for: "vit-s/16, vit-s/8, vit-b/16, vit-b/8, resnet-50",
    needs: Needs { labels: false, indices: false, places: false, whole_batch: false, coupled: false },
    holds: "teacher and centre",
    views,
    views_about: "The student sees all of them, the teacher the global ones.",
    check: nothing_more,
    notes: no_notes,
    build,
};

fn views(v: &ViewSettings) -> ViewPlan {
    let plan = ViewPlan::dino(DinoViews {
        global_size_px: v.global_size_px as u32,
        local_size_px: v.local_size_px as u32,
        global_scale: v.global_scale,
        local_scale: v.local_scale,
        local_crops: v.local_crops,
        blur_sigma: v.blur_sigma(),
    });
    ViewPlan { mean: v.mean, std: v.std, ..plan }
}

fn build(facts: &Facts<'_>, seed: u64, device: &Device) -> Result<Box<dyn Method>, MethodError> {
    let teacher = facts.backbone.without_drop_path();
    let student = |init: &mut Init| facts.backbone.init(init);
    let teacher = |init: &mut Init| teacher.init(init);
    Ok(Box::new(Dino::<AnyBackbone>::of(&facts.own.get("dino")?, [&student, &teacher], seed, device)?))
}

/// A backbone with its projection head.
#[derive(Module, Debug)]
pub struct DinoNet<B: Module> {
    /// The backbone.
    pub backbone: B,
    /// The projection head.
    pub head: DinoHead,
}

impl<B: Backbone> DinoNet<B> {
    /// Logits of all views: one backbone pass per crop size, one head pass over everything. Also returns the
    /// backbone's features.
    fn forward(&self, views: &[Tensor<4>], mode: Mode) -> (Tensor<2>, Tensor<2>) {
        let features: Vec<Tensor<2>> = views.iter().map(|v| self.backbone.features(v.clone(), mode)).collect();
        let features = match <[Tensor<2>; 1]>::try_from(features) {
            Ok([only]) => only,
            Err(several) => Tensor::cat(several, 0),
        };
        (self.head.forward(features.clone(), mode), features)
    }
}

/// Student, teacher and centre.
pub struct Dino<B: Backbone = Vit> {
    config: DinoConfig,
    nets: Followed<DinoNet<B>>,
    centre: Tensor<2>,
    teacher_mean: Option<(Tensor<2>, usize)>,
}

impl Dino<Vit> {
    /// A Vision Transformer as student, drawn from `seed`, and a teacher equal to it without drop path. `device` is the
    /// plain device; the student's parameters are tracked.
    ///
    /// # Errors
    /// When a value is out of range.
    pub fn new(config: &DinoConfig, vit: &VitConfig, seed: u64, device: &Device) -> Result<Self, MethodError> {
        let teacher = VitConfig { drop_path: 0.0, ..vit.clone() };
        Self::of(config, [&|init: &mut Init| vit.init(init), &|init: &mut Init| teacher.init(init)], seed, device)
    }
}

impl<B: Backbone> Dino<B> {
    /// A student drawn from `seed` and a teacher equal to it, with a zero centre. `build` draws the student's and the
    /// teacher's backbone; `device` is the plain device, the student's parameters are tracked.
    ///
    /// # Errors
    /// When a value is out of range, or a backbone cannot be built.
    pub fn of<E: Into<MethodError>>(
        config: &DinoConfig,
        build: [&Draw<'_, B, E>; 2],
        seed: u64,
        device: &Device,
    ) -> Result<Self, MethodError> {
        check_keys(KEYS, &Sections::default().with("dino", config)?)?;
        // The reference always builds the teacher's head with a frozen weight_g, which comes to the same: it copies
        // the student's value, and averages whatever the student has.
        let nets = Followed::drawn(build, seed, device, |backbone: B, init| {
            let head = config.head.init(backbone.map_dim(), init);
            DinoNet { backbone, head }
        })?;
        Ok(Self {
            centre: Tensor::zeros([1, config.head.out_dim], device),
            config: config.clone(),
            nets,
            teacher_mean: None,
        })
    }

    /// The student.
    pub fn student(&self) -> &DinoNet<B> {
        self.nets.net()
    }

    /// The teacher: its backbone is the network one keeps.
    pub fn teacher(&self) -> &DinoNet<B> {
        self.nets.follower()
    }

    /// The centre, `[1, K]`.
    pub fn centre(&self) -> Tensor<2> {
        self.centre.clone()
    }

    /// τt of an epoch.
    pub fn teacher_temperature(&self, epoch: usize) -> f64 {
        TeacherTemperature {
            start: self.config.warmup_teacher_temp,
            end: self.config.teacher_temp,
            warmup_epochs: self.config.warmup_teacher_temp_epochs,
        }
        .at(epoch)
    }

    /// Student logits `[views·batch, K]`, teacher logits `[2·batch, K]` and teacher features of these views.
    pub fn outputs(&self, views: &[Tensor<4>], batch: usize, seed: u64) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
        let mode = Mode::Train { seed };
        let tracked: Vec<Tensor<4>> = views.iter().map(|v| v.clone().autodiff()).collect();
        let (student, _) = self.student().forward(&tracked, mode);
        let global = views[0].clone().narrow(0, 0, 2 * batch);
        let (teacher, features) = self.teacher().forward(&[global], mode);
        (student, teacher, features)
    }
}

/// The last layer is left out of the first epochs.
fn group(config: &DinoConfig, parameter: &FlatParam, epoch: usize) -> Group {
    let frozen = epoch < config.freeze_last_layer_epochs && parameter.name.contains("last_layer");
    Group { frozen, ..Group::default() }
}

impl<B: Backbone> Method for Dino<B> {
    fn figures(&self) -> &'static [Figure] {
        FIGURES
    }

    fn network(&self) -> &dyn Network {
        self.nets.net()
    }

    fn update(&mut self, update: Update<'_>) {
        let (config, clock) = (&self.config, update.clock);
        let group = |parameter: &FlatParam| group(config, parameter, clock.epoch);
        self.nets.update(update, Some(clock.momentum), &group);
    }

    fn loss(&mut self, batch: &Batch, clock: &StepClock) -> LossOutput {
        let images = batch.images;
        let (student, teacher, features) = self.outputs(&batch.views, images, clock.step_seed());
        let temperature = self.teacher_temperature(clock.epoch);
        let n_views = student.dims()[0] / images;
        let loss = ocelli_kernels::dino_cross_entropy(
            student,
            teacher.clone(),
            self.centre.clone(),
            self.config.student_temp as f32,
            temperature as f32,
            n_views,
        );

        let entropy = entropy((teacher.clone() - self.centre.clone()) / temperature);
        let kl = loss.clone().inner() - entropy.clone();
        let mean = teacher.mean_dim(0);
        self.teacher_mean = Some(match self.teacher_mean.take() {
            None => (mean, 1),
            Some((sum, n)) => (sum + mean, n + 1),
        });
        let scalars = vec![
            ("loss", loss.clone().inner()),
            ("teacher_entropy", entropy),
            ("kl", kl),
            ("feature_std", feature_std(features)),
        ];
        LossOutput { loss, scalars }
    }

    fn group(&self, parameter: &FlatParam, clock: &StepClock) -> Group {
        group(&self.config, parameter, clock.epoch)
    }

    fn momentum(&self, iteration: usize, iterations: usize) -> Option<f64> {
        Some(Cosine::new(self.config.teacher_momentum, 1.0, iterations).at(iteration))
    }

    fn levels(&self) -> Vec<Level> {
        vec![Level::new(UNIFORM, (self.config.head.out_dim as f64).ln())]
    }

    fn frozen_epochs(&self) -> usize {
        self.config.freeze_last_layer_epochs
    }

    fn unsettled_steps(&self, steps_per_epoch: usize, _: usize) -> usize {
        self.config.freeze_last_layer_epochs * steps_per_epoch
    }

    fn exchange(&mut self, world: &dyn World) -> Result<(), MethodError> {
        let Some((sum, n)) = self.teacher_mean.take() else { return Ok(()) };
        let own = sum.squeeze_dim::<1>(0);
        let all = sum_of(world, &[own], Wire::F32, "the teacher's mean")?.pop();
        self.teacher_mean = all.map(|all| (all.unsqueeze(), n * world.size()));
        Ok(())
    }

    fn after_step(&mut self, clock: &StepClock) {
        if let Some((sum, n)) = self.teacher_mean.take() {
            let m = self.config.centre_momentum;
            self.centre = self.centre.clone() * m + sum * ((1.0 - m) / n as f64);
        }
        self.nets.follow_once(clock);
    }

    fn kept(&self) -> Vec<FlatParam> {
        backbone_of(self.teacher())
    }

    fn start_from(&mut self, backbone: &StateDict) -> Result<(), MethodError> {
        self.nets.load([backbone, backbone], |state, net| {
            Ok(DinoNet { backbone: state.load_into(net.backbone)?, ..net })
        })
    }

    fn state(&self) -> Result<StateDict, MethodError> {
        let mut state = self.nets.state(["student.", "teacher."])?;
        let shape = self.centre.dims().to_vec();
        let values = self.centre.clone().into_data().try_to_vec();
        let values = values.map_err(|_| MethodError::Unreadable("the centre".into()))?;
        state.tensors.push(("dino_loss.center".into(), HostTensor { shape, values }));
        Ok(state)
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), MethodError> {
        let centre = state.get("dino_loss.center").ok_or(MethodError::Missing("centre"))?;
        if centre.values.len() != self.config.head.out_dim {
            return Err(MethodError::Value {
                key: "dino.head.out_dim",
                expected: "the checkpoint's number of prototypes".into(),
                found: format!("{} here, {} there", self.config.head.out_dim, centre.values.len()),
            });
        }
        let parts = ["student.", "teacher."].map(|prefix| state.under(prefix));
        self.nets.load([&parts[0], &parts[1]], |part, net| Ok(part.load_into(net)?))?;
        let device = self.centre.device();
        self.centre = Tensor::<1>::from_floats(centre.values.as_slice(), &device).unsqueeze();
        self.teacher_mean = None;
        Ok(())
    }

    fn held_values(&self) -> usize {
        self.nets.held_values() + self.config.head.out_dim
    }

    fn views_at_once(&self, views: usize) -> usize {
        views
    }

    fn bound(&self, images: usize, views: usize) -> Vec<Bound> {
        let shape = vec![views * images, self.config.head.out_dim];
        vec![Bound { what: "the student's logits", shape, by_batch: true }]
    }
}

/// Mean over rows of −Σ p·log p with p = softmax(logits): `[1]`. Between 0 (one prototype takes all) and ln K.
fn entropy(logits: Tensor<2>) -> Tensor<1> {
    let log_p = activation::log_softmax(logits, 1);
    let p = log_p.clone().exp();
    // p·log p → 0 where p underflows; log p itself may be −∞ there.
    (p * log_p.clamp_min(-1e4)).sum_dim(1).mean().neg()
}
