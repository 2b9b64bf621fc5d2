//! InfoMin: contrast of strongly changed views with a queue, and a jigsaw of patches (Tian et al. 2020,
//! <https://arxiv.org/abs/2005.10243>; the jigsaw is that of Misra & van der Maaten 2020,
//! <https://arxiv.org/abs/1912.01991>).

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ocelli_data::{
    Blur, BlurKind, ColourJitter, Filter, Grid, InterpolationChoice, RandAugment, ViewPlan, ViewSpec, ViewStep,
};
use ocelli_models::contrast_head::linear_mlp;
use ocelli_models::mlp::{LinearInit, Mlp, forward_mlp};
use ocelli_models::weights::{ModuleState as _, StateDict};
use ocelli_models::{AnyBackbone, Backbone, BackboneKind, Init, Linear, Mode};
use ocelli_world::World;
use serde::{Deserialize, Serialize};

use crate::ViewSettings;
use crate::figure::{CONSTANT_FEATURES, Condition, FEATURE_STD, Figure, Level, Sign, loss};
use crate::held::{Followed, KeyQueue};
use crate::method::{Batch, Bound, LossOutput, Method, MethodError, Network, StepClock, Update, check_value};
use crate::moco::{self, FEW, INDIFFERENT, MocoConfig, QUEUE_AGE, QUEUE_FILL, TOP1};
use crate::optim::Group;
use crate::parts::infonce::{info_nce, unit};
use crate::parts::matching::Draw;
use crate::parts::{Shuffle, feature_std, scalar};
use crate::recipe::{Facts, Key, Needs, Range, Recipe, Sections, check_keys, joined, presets};

/// Patches of a jigsaw.
const PATCHES: usize = 9;

/// InfoMin's own constants; defaults are the published recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InfoMinConfig {
    /// What it shares with MoCo: both heads have these widths. A section of its own, `moco`.
    #[serde(skip)]
    pub contrast: MocoConfig,
    /// β, the jigsaw's share of the loss (0.5).
    pub jigsaw: f64,
}

impl Default for InfoMinConfig {
    fn default() -> Self {
        Self { contrast: MocoConfig { temperature: 0.15, ..MocoConfig::default() }, jigsaw: 0.5 }
    }
}

const FIGURES: &[Figure] = &[
    loss(
        "The losses of both branches, weighted. Healthy: up until the queue has turned over once, then slowly down. Stuck at \
         ln(queue + 1) it has learnt nothing; how good the features are it does not say.",
    )
    .level(INDIFFERENT),
    Figure::new(
        "loss_instance",
        "Loss of the whole view",
        "Contrast of the first view with the second. Healthy: up until the queue holds real keys, then slowly down, below \
         ln(queue + 1).",
    )
    .level(INDIFFERENT)
    .bar("view", 3),
    Figure::new(
        "loss_jigsaw",
        "Loss of the jigsaw",
        "Contrast of nine shuffled patches with the second view. Healthy: from about ln(queue + 1) slowly down; it stays above \
         the loss of the whole view, as patches tell less.",
    )
    .level(INDIFFERENT)
    .bar("jigsaw", 3),
    TOP1,
    Figure::new(
        "top1_jigsaw",
        "Jigsaws whose own key comes first",
        "The same of the shuffled patches. Healthy: near 0 at first, as their head knows nothing of the keys, then rising, below \
         the share of whole views.",
    )
    .from_zero()
    .bar_with("jigsaw top-1", 100.0, 1, " %"),
    QUEUE_FILL,
    QUEUE_AGE,
    FEATURE_STD,
];

const SIGNS: &[Sign] = &[
    CONSTANT_FEATURES,
    Sign::new(
        "indifferent",
        moco::INDIFFERENT_MEANS,
        moco::INDIFFERENT_REMEDIES,
        &[Condition::above("loss_instance", 0.995).of(INDIFFERENT), Condition::below("top1", 2.0).of(FEW)],
    ),
];

const KEYS: &[Key] = &joined::<{ moco::KEYS.len() + OWN.len() }>(moco::KEYS, OWN);

const OWN: &[Key] = &[Key {
    name: "infomin.jigsaw",
    meaning: "share of the jigsaw's loss",
    source: "InfoMin",
    range: Range::Share,
}];

/// What InfoMin declares.
pub const INFOMIN: Recipe = Recipe {
    name: "infomin",
    title: "InfoMin",
    paper: "Tian et al. 2020, https://arxiv.org/abs/2005.10243",
    // ImageNet, 8 devices of 32 images. The smallest rate is that of batches of 256.
    defaults: r#"
arch = "resnet-50"
epochs = 200
batch_size = 256
drop_path = 0.0
[resnet]
norm_groups = 8
[views]
global_scale = [0.2, 1.0]
local_crops = 9
local_size_px = 64
local_scale = [0.6, 1.0]
randaugment = 10.0
[optim]
optimizer = "sgd"
lr = 0.03
min_lr = 3e-5
lr_by_epoch = true
warmup_epochs = 0
weight_decay = 1e-4
weight_decay_end = 1e-4
decay_all = true
clip_grad = 0.0
"#,
    sections: || {
        let config = InfoMinConfig::default();
        Sections::default().with("moco", &config.contrast)?.with("infomin", &config)
    },
    keys: KEYS,
    presets: presets![
        "infomin-r50-200": "InfoMin ResNet-50, 200 epochs, batch 256 (published: linear 70.1)",
        "infomin-r50-800": "InfoMin ResNet-50, 800 epochs, batch 256 (published: linear 73.0, k-NN 65.3)",
        "infomin-laptop": "InfoMin, a narrow ResNet-18 on 48 px views, on a CPU",
    ],
    figures: FIGURES,
    signs: SIGNS,
    backbones: &[BackboneKind::ResNet],
    published_for: "resnet-50",
    needs: Needs { labels: false, indices: false, places: false, whole_batch: false, coupled: false },
    holds: "key encoder and queue",
    views,
    views_about: "The first and the nine patches go to the query encoder, the second to the key encoder.",
    check,
    notes,
    build,
};

/// Two views alike, of the augmentation called D, and nine patches of a third crop with their colours as they are.
fn views(v: &ViewSettings) -> ViewPlan {
    let randaugment = RandAugment {
        magnitude: f64::from(v.randaugment),
        increasing: false,
        interpolation: InterpolationChoice::Random,
        ..RandAugment::default()
    };
    let view = ViewSpec {
        size_px: v.global_size_px as u32,
        scale: v.global_scale,
        jitter: Some(ColourJitter { prob: 0.8, brightness: 0.8, contrast: 0.8, saturation: 0.8, hue: 0.2 }),
        grayscale_prob: 0.2,
        blur: v.blur_sigma().map(|sigma| Blur { kind: BlurKind::Reflect, ..Blur::pil(0.5, sigma) }),
        randaugment: (v.randaugment > 0.0).then_some(randaugment),
        filter: Filter::Bilinear,
        order: [ViewStep::Jitter, ViewStep::Blur, ViewStep::Randaugment, ViewStep::Grayscale, ViewStep::Solarize],
        ..ViewSpec::default()
    };
    let patch = ViewSpec {
        title: "patch".to_owned(),
        size_px: v.local_size_px as u32,
        scale: v.local_scale,
        filter: Filter::Bilinear,
        ..ViewSpec::default()
    };
    let mut views: Vec<ViewSpec> =
        ["query", "key"].map(|title| ViewSpec { title: title.into(), ..view.clone() }).into();
    views.extend(grid(patch.size_px).views(v.local_crops as u32, &patch));
    ViewPlan { views, mean: v.mean, std: v.std }
}

/// Cells of a third more than a patch, as 85 pixels are for patches of 64.
fn grid(patch_px: u32) -> Grid {
    let cell = (patch_px * Grid::JIGSAW.stride_px + 32) / 64;
    Grid {
        canvas_px: Grid::JIGSAW.per_side * cell,
        stride_px: cell,
        jitter_px: cell.saturating_sub(patch_px),
        ..Grid::JIGSAW
    }
}

fn check(facts: &Facts<'_>) -> Result<(), MethodError> {
    let crops = facts.views.local_crops;
    let nine = "9: the patches of a jigsaw, three rows of three";
    check_value(crops == PATCHES, "views.local_crops", nine, crops)?;
    moco::check_two_layers(facts)?;
    moco::check_contrast(facts)
}

fn notes(facts: &Facts<'_>) -> Vec<String> {
    moco::notes(facts)
}

fn build(facts: &Facts<'_>, seed: u64, device: &Device) -> Result<Box<dyn Method>, MethodError> {
    let config = InfoMinConfig { contrast: facts.own.get("moco")?, ..facts.own.get("infomin")? };
    let net = |init: &mut Init| facts.backbone.init(init);
    Ok(Box::new(InfoMin::<AnyBackbone>::new(&config, net, seed, device)?))
}

/// The head of the jigsaw: every patch by itself, then all of an image together.
#[derive(Module, Debug)]
pub struct JigsawHead {
    /// On the feature of a patch: linear, ReLU, linear.
    pub fc1: Mlp,
    /// On the results of an image's patches, one after the other.
    pub fc2: Linear,
}

/// A backbone with both heads.
#[derive(Module, Debug)]
pub struct InfoMinNet<B: Module> {
    /// The backbone.
    pub backbone: B,
    /// On the feature of a whole view: linear, ReLU, linear.
    pub head: Mlp,
    /// On the features of patches.
    pub head_jig: JigsawHead,
}

impl<B: Backbone> InfoMinNet<B> {
    fn new(config: &MocoConfig, backbone: B, init: &mut Init) -> Self {
        let dim = backbone.map_dim();
        let hidden = if config.hidden_dim == 0 { dim } else { config.hidden_dim };
        let widths = [dim, hidden, config.out_dim];
        let head = linear_mlp(&widths, LinearInit::Default, init);
        let fc1 = linear_mlp(&widths, LinearInit::Default, init);
        let fc2 = LinearInit::Default.linear([PATCHES * config.out_dim, config.out_dim], true, init);
        Self { backbone, head, head_jig: JigsawHead { fc1, fc2 } }
    }

    /// Unit vectors `[batch, out]` and the backbone's features `[batch, dim]` of whole views.
    pub fn forward(&self, images: Tensor<4>, mode: Mode) -> (Tensor<2>, Tensor<2>) {
        let features = self.backbone.features(images, mode);
        (unit(forward_mlp(&self.head, features.clone(), mode)), features)
    }

    /// Unit vectors `[batch, out]` of jigsaws: patches `[batch·9, 3, side, side]`, image by image, in the `order` of
    /// [`jigsaw_order`].
    pub fn forward_jigsaw(&self, patches: Tensor<4>, order: &[usize], mode: Mode) -> Tensor<2> {
        let device = patches.device();
        let each = forward_mlp(&self.head_jig.fc1, self.backbone.features(patches, mode), mode);
        let [rows, out] = each.dims();
        let shuffled: Vec<i32> =
            order.iter().enumerate().map(|(i, p)| (i / PATCHES * PATCHES + p) as i32).collect();
        let shuffled = Tensor::<1, Int>::from_data(TensorData::new(shuffled, [rows]), &device);
        let together = each.select(0, shuffled).reshape([rows / PATCHES, PATCHES * out]);
        unit(self.head_jig.fc2.forward(together))
    }
}

/// Which patch stands at each of the nine positions of every image's jigsaw, `[images·9]`, image by image.
pub fn jigsaw_order(images: usize, seed: u64) -> Vec<usize> {
    // Another stream than the one that shuffles the keys.
    let mut draw = Draw(seed ^ 0x4A16_5A3B);
    (0..images).flat_map(|_| draw.permutation(PATCHES)).collect()
}

/// The patches of a batch, image by image: `[images·9, 3, side, side]`. Batches hold views one after the other, and what is
/// normalised in groups of images needs the patches of an image side by side.
fn patches(batch: &Batch) -> Tensor<4> {
    let images = batch.images;
    let patches = match batch.views.get(1) {
        Some(patches) => patches.clone(),
        // Of the whole views' size, and so in one tensor with them.
        None => batch.views[0].clone().narrow(0, 2 * images, PATCHES * images),
    };
    let [rows, channels, height, width] = patches.dims();
    let by_view = patches.reshape([PATCHES, images, channels * height * width]);
    by_view.swap_dims(0, 1).reshape([rows, channels, height, width])
}

/// Query encoder, key encoder and queue. See [`InfoMinConfig`].
pub struct InfoMin<B: Backbone = AnyBackbone> {
    config: InfoMinConfig,
    nets: Followed<InfoMinNet<B>>,
    queue: KeyQueue,
    device: Device,
}

impl<B: Backbone> InfoMin<B> {
    /// Two equal encoders and a random queue, all drawn from `seed`. `build` draws a backbone; `device` is the plain
    /// device, the query encoder's parameters are tracked.
    ///
    /// # Errors
    /// When a value is out of range, or the backbone cannot be built.
    pub fn new<E: Into<MethodError>>(
        config: &InfoMinConfig,
        build: impl Fn(&mut Init) -> Result<B, E>,
        seed: u64,
        device: &Device,
    ) -> Result<Self, MethodError> {
        let contrast = &config.contrast;
        check_keys(KEYS, &Sections::default().with("moco", contrast)?.with("infomin", config)?)?;
        Ok(Self {
            nets: Followed::drawn([&build, &build], seed, device, |backbone, init| {
                InfoMinNet::new(contrast, backbone, init)
            })?,
            queue: KeyQueue::new(contrast.out_dim, contrast.queue, seed ^ 0x51, device),
            config: config.clone(),
            device: device.clone(),
        })
    }

    /// The queue.
    pub fn queue(&self) -> &KeyQueue {
        &self.queue
    }

    /// The query encoder.
    pub fn query_net(&self) -> &InfoMinNet<B> {
        self.nets.net()
    }

    /// The key encoder.
    pub fn key_net(&self) -> &InfoMinNet<B> {
        self.nets.follower()
    }
}

impl<B: Backbone> Method for InfoMin<B> {
    fn figures(&self) -> &'static [Figure] {
        FIGURES
    }

    fn network(&self) -> &dyn Network {
        self.nets.net()
    }

    /// The key encoder moves after the query encoder's step; its jigsaw head, which nobody asks, moves too.
    fn update(&mut self, update: Update<'_>) {
        let momentum = self.config.contrast.momentum_at(update.clock);
        self.nets.update(update, Some(momentum), &|_| Group::default());
    }

    fn loss(&mut self, batch: &Batch, clock: &StepClock) -> LossOutput {
        let MocoConfig { temperature, shuffle_keys, .. } = self.config.contrast;
        let seed = clock.step_seed();
        let mode = Mode::Train { seed };
        let key = if shuffle_keys {
            let (shuffled, shuffle) = Shuffle::images(batch.view(1), seed);
            shuffle.undo(self.nets.follower().forward(shuffled, mode).0)
        } else {
            self.nets.follower().forward(batch.view(1), mode).0
        };
        let net = self.nets.net();
        let (query, features) = net.forward(batch.view(0).autodiff(), mode);
        let jigsaw = net.forward_jigsaw(patches(batch).autodiff(), &jigsaw_order(batch.images, seed), mode);
        let queue = self.queue.entries();
        let whole = info_nce(query, key.clone(), &queue, temperature, None);
        let parts = info_nce(jigsaw, key.clone(), &queue, temperature, None);
        self.queue.hold(key);
        let share = self.config.jigsaw;
        let loss = whole.loss.clone() * (1.0 - share) + parts.loss.clone() * share;
        let scalars = vec![
            ("loss", loss.clone().inner()),
            ("loss_instance", whole.loss.inner()),
            ("loss_jigsaw", parts.loss.inner()),
            ("top1", whole.top1),
            ("top1_jigsaw", parts.top1),
            ("queue_fill", scalar(self.queue.fill(), &self.device)),
            ("queue_age", scalar(self.queue.age(), &self.device)),
            ("feature_std", feature_std(features.inner())),
        ];
        LossOutput { loss, scalars }
    }

    fn momentum(&self, iteration: usize, iterations: usize) -> Option<f64> {
        Some(self.config.contrast.momentum_of(iteration, iterations))
    }

    fn levels(&self) -> Vec<Level> {
        moco::levels(self.config.contrast.queue)
    }

    /// A queue of random keys says nothing, and the loss rises while real ones come in.
    fn unsettled_steps(&self, _: usize, batch_size: usize) -> usize {
        2 * (self.config.contrast.queue / batch_size.max(1))
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
            Ok(InfoMinNet { backbone: state.load_into(net.backbone)?, ..net })
        })
    }

    /// `query.*`, `key.*`, `queue`, `queue_ptr`.
    fn state(&self) -> Result<StateDict, MethodError> {
        let mut state = self.nets.state(["query.", "key."])?;
        self.queue.add_to("queue", &mut state)?;
        Ok(state)
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), MethodError> {
        let queue = self.queue.restored("queue", state)?;
        let parts = ["query.", "key."].map(|prefix| state.under(prefix));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_two_of_the_strong_kind_and_the_patches_of_a_jigsaw() {
        let settings = ViewSettings {
            local_crops: 9,
            local_size_px: 64,
            local_scale: [0.6, 1.0],
            randaugment: 10.0,
            ..ViewSettings::default()
        };
        let plan = views(&settings);
        plan.validate().unwrap();
        assert_eq!(grid(64), Grid::JIGSAW);
        assert_eq!(plan.groups(), [(224, 0..2), (64, 2..11)]);
        let magnitude = |plan: &ViewPlan| plan.views[0].randaugment.as_ref().map(|r| r.magnitude);
        assert!(magnitude(&plan) == Some(10.0) && plan.views[2].jitter.is_none());
        for (side, cell) in [(16, 21), (8, 11), (96, 128), (1, 1)] {
            let plan = views(&ViewSettings { local_size_px: side, ..settings.clone() });
            plan.validate().unwrap();
            assert_eq!(grid(side as u32).stride_px, cell);
        }
        assert_eq!(magnitude(&views(&ViewSettings { randaugment: 0.0, ..settings })), None);
    }

    #[test]
    fn every_image_has_its_own_order_of_all_nine() {
        let order = jigsaw_order(40, 5);
        assert_eq!(order.len(), 360);
        let mut firsts = order[..9].to_vec();
        assert_ne!(order[..9], order[9..18]);
        firsts.sort_unstable();
        assert_eq!(firsts, (0..9).collect::<Vec<_>>());
        assert_ne!(order, jigsaw_order(40, 6));
    }

    /// Patch by patch in, image by image out; also where they lie in one tensor with the whole views.
    #[test]
    fn patches_come_image_by_image() {
        let device = Device::flex();
        let numbers = |from: usize, n: usize| {
            let values: Vec<f32> = (from..from + 3 * n).map(|v| (v / 3) as f32).collect();
            Tensor::<4>::from_data(TensorData::new(values, [n, 3, 1, 1]), &device)
        };
        let expected: Vec<f32> = (0..2).flat_map(|b| (0..9).map(move |p| (2 * p + b) as f32)).collect();
        let of = |views: Vec<Tensor<4>>| {
            let rows = patches(&Batch::of_views(views, 2));
            rows.narrow(1, 2, 1).into_data().try_to_vec::<f32>().unwrap()
        };
        assert_eq!(of(vec![numbers(500, 4), numbers(0, 18)]), expected);
        assert_eq!(of(vec![Tensor::cat(vec![numbers(500, 4), numbers(0, 18)], 0)]), expected);
    }
}
