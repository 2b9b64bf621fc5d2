//! MoCo v2: contrast with a queue of keys from a momentum encoder (He et al. 2020, Chen et al. 2020,
//! <https://arxiv.org/abs/2003.04297>).

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ocelli_data::{MocoViews, ViewPlan};
use ocelli_models::contrast_head::linear_mlp;
use ocelli_models::mlp::{LinearInit, Mlp, forward_mlp};
use ocelli_models::weights::{ModuleState as _, StateDict};
use ocelli_models::{AnyBackbone, Backbone, BackboneKind, Init, Mode};
use ocelli_world::World;
use serde::{Deserialize, Serialize};

use crate::ViewSettings;
use crate::figure::{CONSTANT_FEATURES, Condition, FEATURE_STD, Figure, Level, Sign, loss};
use crate::held::{Draw, Followed, KeyQueue, append, check_queue, renamed};
use crate::method::{Batch, Bound, LossOutput, Method, MethodError, Network, StepClock, Update, check_value};
use crate::names::names;
use crate::optim::Group;
use crate::parts::infonce::{info_nce, unit};
use crate::parts::{Shuffle, feature_std, scalar};
use crate::recipe::{Facts, Key, MANY, Needs, Range, Recipe, Sections, check_keys, presets};
use crate::schedule::Cosine;

names! {
    /// How the key encoder's momentum goes.
    MomentumSchedule, "moco.momentum_schedule":
    /// It stays.
    Constant = "constant",
    /// From its start along a cosine to 1 at the end of the run.
    Cosine = "cosine",
}

/// MoCo's own constants; defaults are the published recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MocoConfig {
    /// Width of the head's hidden layers; 0 is the backbone's own (2,048 for ResNet-50).
    pub hidden_dim: usize,
    /// Linear layers of the head; 0 is 2, and 3 where a configuration has a Vision Transformer.
    pub layers: usize,
    /// Width of queries and keys (128).
    pub out_dim: usize,
    /// Keys in the queue (65,536); less than the data set has images.
    pub queue: usize,
    /// τ (0.2; 0.07 in MoCo v1).
    pub temperature: f64,
    /// Momentum of the key encoder (0.999).
    pub momentum: f64,
    /// How it goes from there (constant).
    pub momentum_schedule: MomentumSchedule,
    /// Show the key encoder its batch in another order; matters where the backbone normalises in groups (on).
    pub shuffle_keys: bool,
}

impl Default for MocoConfig {
    fn default() -> Self {
        Self {
            hidden_dim: 0,
            layers: 0,
            out_dim: 128,
            queue: 65_536,
            temperature: 0.2,
            momentum: 0.999,
            momentum_schedule: MomentumSchedule::Constant,
            shuffle_keys: true,
        }
    }
}

impl MocoConfig {
    /// The key encoder's momentum at a step of so many.
    pub(crate) fn momentum_of(&self, iteration: usize, iterations: usize) -> f64 {
        match self.momentum_schedule {
            MomentumSchedule::Constant => self.momentum,
            MomentumSchedule::Cosine => Cosine::new(self.momentum, 1.0, iterations).at(iteration),
        }
    }

    /// The same at the step of a clock.
    pub(crate) fn momentum_at(&self, clock: &StepClock) -> f64 {
        match self.momentum_schedule {
            MomentumSchedule::Constant => self.momentum,
            MomentumSchedule::Cosine => clock.momentum,
        }
    }
}

/// The loss where no key is nearer to a query than another.
pub(crate) const INDIFFERENT: &str = "ln(queue + 1)";

/// A share of queries nearer to their own key than to all others that says nothing: what guessing gives, and where the queue is
/// long, which makes that next to nothing, 2.5 %.
pub(crate) const FEW: &str = "1 / (queue + 1), at least 0.025";

/// What a queue of so many keys makes of guessing.
pub(crate) fn levels(queue: usize) -> Vec<Level> {
    let all = queue as f64 + 1.0;
    vec![Level::new(INDIFFERENT, all.ln()), Level::new(FEW, (1.0 / all).max(0.025))]
}

pub(crate) const LOSS_HEALTHY: &str = "Healthy: it rises until the queue has turned over once, as random entries give way to real keys, and then falls slowly. \
     Stuck at ln(queue + 1) it has learnt nothing; how good the features are it does not say.";

/// What contrast with a queue tells beside its loss.
pub(crate) const TOP1: Figure = Figure::new(
    "top1",
    "Queries whose own key comes first",
    "Share of queries nearer to their own key than to every key of the queue. Healthy: high while the queue is random, down \
     as real keys come in, then rising. All of them within an epoch or two is a leak through the batch's statistics.",
)
.from_zero()
.bar_with("top-1", 100.0, 1, " %")
.headline();

/// How much of the queue holds keys.
pub(crate) const QUEUE_FILL: Figure = Figure::new(
    "queue_fill",
    "Queue filled",
    "Share of the queue that holds keys, not random vectors. Healthy: a straight line up to 1; until then the loss rises.",
)
.from_zero()
.bar_with("queue", 100.0, 0, " % full");

/// How old they are.
pub(crate) const QUEUE_AGE: Figure = Figure::new(
    "queue_age",
    "Age of the keys, steps",
    "Healthy: up to half of queue / batch, then level. The key encoder must change little within that time.",
)
.from_zero()
.bar_with("keys", 1.0, 0, " steps old");

const FIGURES: &[Figure] = &[loss(LOSS_HEALTHY).level(INDIFFERENT), TOP1, QUEUE_FILL, QUEUE_AGE, FEATURE_STD];

pub(crate) const INDIFFERENT_MEANS: &str =
    "the loss stays at ln(queue + 1): to every query all keys of the queue are as near as its own";
pub(crate) const INDIFFERENT_REMEDIES: &str = "a higher moco.momentum (0.99 and more: keys of one queue must be comparable), a lower optim.lr, an optim.warmup_epochs, a \
     smaller moco.queue";

const SIGNS: &[Sign] = &[
    CONSTANT_FEATURES,
    Sign::new(
        "indifferent",
        INDIFFERENT_MEANS,
        INDIFFERENT_REMEDIES,
        &[Condition::above("loss", 0.995).of(INDIFFERENT), Condition::below("top1", 2.0).of(FEW)],
    ),
];

/// The keys of the section `moco`, which DenseCL and InfoMin have too.
pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "moco.hidden_dim",
        meaning: "width of the head's hidden layers; 0: the backbone's own",
        source: "MoCo, DenseCL, InfoMin",
        range: Range::Count(0, 1_000_000),
    },
    Key {
        name: "moco.out_dim",
        meaning: "width of queries and keys",
        source: "MoCo, DenseCL, InfoMin",
        range: Range::Count(1, 1_000_000),
    },
    Key {
        name: "moco.queue",
        meaning: "keys in the queue: a multiple of batch_size, fewer than there are images",
        source: "MoCo, DenseCL, InfoMin",
        range: Range::Count(1, MANY),
    },
    Key {
        name: "moco.temperature",
        meaning: "temperature of the contrast",
        source: "MoCo v2, DenseCL: 0.2; InfoMin: 0.15; MoCo v1: 0.07",
        range: Range::Positive,
    },
    Key {
        name: "moco.momentum",
        meaning: "momentum of the key encoder",
        source: "MoCo, DenseCL, InfoMin; lower for short runs",
        range: Range::Share,
    },
    Key {
        name: "moco.shuffle_keys",
        meaning: "show the key encoder its batch in another order",
        source: "MoCo, DenseCL, InfoMin",
        range: Range::Any,
    },
    Key {
        name: "moco.layers",
        meaning: "linear layers of the head; 0: 2, and 3 of a Vision Transformer (DenseCL: 2)",
        source: "MoCo, DenseCL: 2; DINO's authors on Vision Transformers: 3",
        range: Range::Count(0, 64),
    },
    Key {
        name: "moco.momentum_schedule",
        meaning: "how the momentum goes: constant, or cosine: to 1 at the end",
        source: "MoCo, DenseCL: constant; DINO's authors on Vision Transformers: cosine",
        range: Range::OneOf(&["constant", "cosine"]),
    },
];

/// ImageNet, 200 epochs, 8 devices of 32 images.
pub(crate) const DEFAULTS: &str = r#"
arch = "resnet-50"
epochs = 200
batch_size = 256
drop_path = 0.0
[resnet]
norm_groups = 8
[views]
global_scale = [0.2, 1.0]
local_crops = 0
[optim]
optimizer = "sgd"
lr = 0.03
min_lr = 0.0
lr_by_epoch = true
warmup_epochs = 0
weight_decay = 1e-4
weight_decay_end = 1e-4
decay_all = true
clip_grad = 0.0
"#;

/// What MoCo v2 declares.
pub const MOCO: Recipe = Recipe {
    name: "moco",
    title: "MoCo v2",
    paper: "Chen et al. 2020, https://arxiv.org/abs/2003.04297",
    defaults: DEFAULTS,
    sections: || Sections::default().with("moco", &MocoConfig::default()),
    keys: KEYS,
    presets: presets![
        "moco-r50-200": "MoCo v2 ResNet-50, 200 epochs, batch 256 (published: linear 67.7)",
        "moco-r50-800": "MoCo v2 ResNet-50, 800 epochs, batch 256 (published: k-NN 61.9, linear 71.1)",
        "moco-vit-s16-300": "MoCo v2 ViT-S/16, 300 epochs, batch 1024, AdamW (published by DINO: k-NN 64.4, linear 72.7)",
        "moco-r50-coco-800": "MoCo v2 ResNet-50, COCO, 800 epochs, batch 256 (published: VOC detection AP 54.7)",
        "moco-laptop": "MoCo v2, a narrow ResNet-18 on 64 px views, on a CPU",
    ],
    figures: FIGURES,
    signs: SIGNS,
    backbones: &[BackboneKind::Vit, BackboneKind::ResNet],
    published_for: "resnet-50, vit-s/16",
    needs: Needs { labels: false, indices: false, places: false, whole_batch: false, coupled: false },
    holds: "key encoder and queue",
    views,
    views_about: "The first goes to the query encoder, the second to the key encoder.",
    check,
    notes: own_notes,
    build,
};

/// Two views alike.
pub(crate) fn views(v: &ViewSettings) -> ViewPlan {
    let plan = ViewPlan::moco(MocoViews {
        size_px: v.global_size_px as u32,
        scale: v.global_scale,
        blur_sigma: v.blur_sigma(),
    });
    ViewPlan { mean: v.mean, std: v.std, ..plan }
}

/// The heads of DenseCL and InfoMin have two layers.
pub(crate) fn check_two_layers(facts: &Facts<'_>) -> Result<(), MethodError> {
    let layers = facts.own.count("moco.layers");
    check_value(layers == 0 || layers == 2, "moco.layers", "2, which all heads of this method have", layers)
}

/// Two views, and no others.
pub(crate) fn check_two_views(facts: &Facts<'_>) -> Result<(), MethodError> {
    let two = "0: this method compares two views of each image";
    check_value(facts.views.local_crops == 0, "views.local_crops", two, facts.views.local_crops)
}

/// What contrast of two views with a queue wants.
pub(crate) fn check(facts: &Facts<'_>) -> Result<(), MethodError> {
    check_two_views(facts)?;
    check_contrast(facts)
}

/// A queue that takes whole batches and holds fewer keys than there are images.
pub(crate) fn check_contrast(facts: &Facts<'_>) -> Result<(), MethodError> {
    let queue = facts.own.count("moco.queue");
    let fits = queue.is_multiple_of(facts.batch_size);
    check_value(fits, "moco.queue", format!("a multiple of batch_size, {}", facts.batch_size), queue)?;
    match facts.images {
        Some(images) => check_queue(queue, facts.batch_size, images),
        None => Ok(()),
    }
}

/// The queue's first turn.
pub(crate) fn notes(facts: &Facts<'_>) -> Vec<String> {
    let queue = facts.own.count("moco.queue");
    vec![format!(
        "queue of {queue} keys: the loss rises until the queue has turned over once ({} steps): random entries give way to real \
         keys",
        queue / facts.batch_size.max(1)
    )]
}

/// Linear layers of the head where the configuration leaves them open.
const fn head_layers(kind: BackboneKind) -> usize {
    match kind {
        BackboneKind::Vit => 3,
        BackboneKind::ResNet => 2,
    }
}

/// The queue's first turn, and what a Vision Transformer gets.
fn own_notes(facts: &Facts<'_>) -> Vec<String> {
    let mut notes = notes(facts);
    if facts.backbone.kind() == BackboneKind::Vit {
        let layers = match facts.own.count("moco.layers") {
            0 => head_layers(BackboneKind::Vit),
            layers => layers,
        };
        notes.push(format!(
            "a Vision Transformer: the head has {layers} layers without batch normalisation and takes the class token"
        ));
        if facts.own.value("moco.momentum_schedule").and_then(|v| v.as_str()) == Some("constant") {
            notes.push(
                "the defaults are a ResNet's; the preset moco-vit-s16-300 has what Vision Transformers are trained with (AdamW, \
                 temperature 0.1, momentum 0.996 to 1)"
                    .into(),
            );
        }
    }
    notes
}

fn build(facts: &Facts<'_>, seed: u64, device: &Device) -> Result<Box<dyn Method>, MethodError> {
    let mut config: MocoConfig = facts.own.get("moco")?;
    if config.layers == 0 {
        config.layers = head_layers(facts.backbone.kind());
    }
    let key = facts.backbone.without_drop_path();
    let query = |init: &mut Init| facts.backbone.init(init);
    let key = |init: &mut Init| key.init(init);
    Ok(Box::new(Moco::<AnyBackbone>::of(&config, [&query, &key], seed, device)?))
}

/// A backbone with MoCo's head.
#[derive(Module, Debug)]
pub struct MocoNet<B: Module> {
    /// The backbone.
    pub backbone: B,
    /// Linear layers with a ReLU between, with PyTorch's indices.
    pub fc: Mlp,
}

impl<B: Backbone> MocoNet<B> {
    fn new(config: &MocoConfig, backbone: B, init: &mut Init) -> Self {
        let dim = backbone.map_dim();
        let hidden = if config.hidden_dim == 0 { dim } else { config.hidden_dim };
        let layers = if config.layers == 0 { head_layers(BackboneKind::ResNet) } else { config.layers };
        let mut widths = vec![hidden; layers + 1];
        widths[0] = dim;
        widths[layers] = config.out_dim;
        Self { fc: linear_mlp(&widths, LinearInit::Default, init), backbone }
    }

    /// Images `[batch, 3, height, width]` to unit vectors `[batch, out]` and the backbone's features `[batch, dim]`.
    pub fn forward(&self, images: Tensor<4>, mode: Mode) -> (Tensor<2>, Tensor<2>) {
        let features = self.backbone.features(images, mode);
        (unit(forward_mlp(&self.fc, features.clone(), mode)), features)
    }
}

/// Query encoder, key encoder and queue. See [`MocoConfig`].
pub struct Moco<B: Backbone = AnyBackbone> {
    config: MocoConfig,
    nets: Followed<MocoNet<B>>,
    queue: KeyQueue,
    device: Device,
}

impl<B: Backbone> Moco<B> {
    /// Two equal encoders and a random queue, all drawn from `seed`. `build` draws a backbone; `device` is the plain
    /// device, the query encoder's parameters are tracked.
    ///
    /// # Errors
    /// When a value is out of range, or the backbone cannot be built.
    pub fn new<E: Into<MethodError>>(
        config: &MocoConfig,
        build: impl Fn(&mut Init) -> Result<B, E>,
        seed: u64,
        device: &Device,
    ) -> Result<Self, MethodError> {
        Self::of(config, [&build, &build], seed, device)
    }

    /// The same where the key encoder's backbone is built otherwise: without drop path, of which it has none.
    ///
    /// # Errors
    /// As [`Moco::new`].
    pub fn of<E: Into<MethodError>>(
        config: &MocoConfig,
        build: [&Draw<'_, B, E>; 2],
        seed: u64,
        device: &Device,
    ) -> Result<Self, MethodError> {
        check_keys(KEYS, &Sections::default().with("moco", config)?)?;
        Ok(Self {
            nets: Followed::drawn(build, seed, device, |backbone, init| MocoNet::new(config, backbone, init))?,
            queue: KeyQueue::new(config.out_dim, config.queue, seed ^ 0x51, device),
            config: config.clone(),
            device: device.clone(),
        })
    }

    /// The queue.
    pub fn queue(&self) -> &KeyQueue {
        &self.queue
    }

    /// The query encoder.
    pub fn query_net(&self) -> &MocoNet<B> {
        self.nets.net()
    }

    /// The key encoder.
    pub fn key_net(&self) -> &MocoNet<B> {
        self.nets.follower()
    }
}

impl<B: Backbone> Method for Moco<B> {
    fn figures(&self) -> &'static [Figure] {
        FIGURES
    }

    fn network(&self) -> &dyn Network {
        self.nets.net()
    }

    /// The key encoder moves within the next step.
    fn update(&mut self, update: Update<'_>) {
        self.nets.update(update, None, &|_| Group::default());
    }

    fn loss(&mut self, batch: &Batch, clock: &StepClock) -> LossOutput {
        let mode = Mode::Train { seed: clock.step_seed() };
        let (query, features) = self.nets.net().forward(batch.view(0).autodiff(), mode);
        // The key encoder moves between the two forward passes, once per step.
        self.nets.follow_first(self.config.momentum_at(clock), clock);
        let key = if self.config.shuffle_keys {
            let (shuffled, shuffle) = Shuffle::images(batch.view(1), clock.step_seed());
            shuffle.undo(self.nets.follower().forward(shuffled, mode).0)
        } else {
            self.nets.follower().forward(batch.view(1), mode).0
        };
        let found = info_nce(query, key.clone(), &self.queue.entries(), self.config.temperature, None);
        self.queue.hold(key);
        let scalars = vec![
            ("loss", found.loss.clone().inner()),
            ("top1", found.top1),
            ("queue_fill", scalar(self.queue.fill(), &self.device)),
            ("queue_age", scalar(self.queue.age(), &self.device)),
            ("feature_std", feature_std(features.inner())),
        ];
        LossOutput { loss: found.loss, scalars }
    }

    fn momentum(&self, iteration: usize, iterations: usize) -> Option<f64> {
        Some(self.config.momentum_of(iteration, iterations))
    }

    fn levels(&self) -> Vec<Level> {
        levels(self.config.queue)
    }

    /// A queue of random keys says nothing, and the loss rises while real ones come in.
    fn unsettled_steps(&self, _: usize, batch_size: usize) -> usize {
        2 * (self.config.queue / batch_size.max(1))
    }

    /// Keys of all processes, in the order of the micro-batches.
    fn exchange(&mut self, world: &dyn World) -> Result<(), MethodError> {
        self.queue.exchange(world)
    }

    fn after_step(&mut self, _: &StepClock) {
        self.queue.turn();
    }

    fn start_from(&mut self, backbone: &StateDict) -> Result<(), MethodError> {
        self.nets.load([backbone, backbone], |state, net| {
            Ok(MocoNet { backbone: state.load_into(net.backbone)?, ..net })
        })
    }

    /// MoCo's names: `encoder_q.*` (the head is `encoder_q.fc.*`), `encoder_k.*`, `queue`, `queue_ptr`.
    fn state(&self) -> Result<StateDict, MethodError> {
        let mut state = StateDict::default();
        for (prefix, net) in [("encoder_q.", self.nets.net()), ("encoder_k.", self.nets.follower())] {
            let mut part = StateDict::default();
            part.add_module("", net)?;
            append(&mut state, prefix, renamed(&part, &[("backbone.", "")]));
        }
        self.queue.add_to("queue", &mut state)?;
        Ok(state)
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), MethodError> {
        let queue = self.queue.restored("queue", state)?;
        let parts = ["encoder_q.", "encoder_k."].map(|prefix| {
            let part = state.under(prefix);
            // The head's names stay, all others are the backbone's.
            renamed(&part, &[("fc.", "fc."), ("", "backbone.")])
        });
        self.nets.load([&parts[0], &parts[1]], |part, net| Ok(part.load_into(net)?))?;
        self.queue = queue;
        Ok(())
    }

    fn held_values(&self) -> usize {
        self.nets.held_values() + self.queue.values()
    }

    fn bound(&self, _: usize, _: usize) -> Vec<Bound> {
        vec![self.queue.bound()]
    }
}
