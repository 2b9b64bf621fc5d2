//! SwAV: contrasting cluster assignments of crops (Caron et al. 2020, <https://arxiv.org/abs/2006.09882>).

use burn::tensor::Device;
use ocelli_data::{Blur, ColourJitter, Filter, ViewPlan, ViewSpec};
use ocelli_models::{AnyBackbone, BackboneKind, Init};
use serde::{Deserialize, Serialize};

use crate::ViewSettings;
use crate::figure::{CONSTANT_FEATURES, Condition, FEATURE_STD, Figure, Sign, loss};
use crate::method::{Method, MethodError, check_value};
use crate::parts::swapped::ASSIGNED;
use crate::recipe::{Facts, Key, MANY, Needs, Range, Recipe, Sections, presets};

mod training;

pub(crate) use training::projector;
pub use training::{Swav, SwavNet, SwavOutputs};

/// SwAV's own constants; defaults are the published recipe for batches of 4,096.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SwavConfig {
    /// K (3,000).
    pub prototypes: usize,
    /// Width of the projector's hidden layer (2,048; 8,192 for the wide networks).
    pub hidden_dim: usize,
    /// Width of the embeddings (128).
    pub out_dim: usize,
    /// Batch normalisation in the projector (on).
    pub head_norm: bool,
    /// τ of the predictions (0.1).
    pub temperature: f64,
    /// ε of Sinkhorn's iterations (0.05): smaller codes are harder.
    pub epsilon: f64,
    /// Sinkhorn's iterations (3).
    pub iterations: usize,
    /// Embeddings of former batches that codes are balanced with (0; 3,840 for batches of 256).
    pub queue: usize,
    /// The first epoch with the queue (15).
    pub queue_from_epoch: usize,
    /// Steps at the start in which the prototypes are not trained (313; 5,005 for batches of 256: one epoch of ImageNet).
    pub freeze_prototypes_steps: usize,
}

impl Default for SwavConfig {
    fn default() -> Self {
        Self {
            prototypes: 3000,
            hidden_dim: 2048,
            out_dim: 128,
            head_norm: true,
            temperature: 0.1,
            epsilon: 0.05,
            iterations: 3,
            queue: 0,
            queue_from_epoch: 15,
            freeze_prototypes_steps: 313,
        }
    }
}

/// The loss where no prototype is preferred.
pub(crate) const UNIFORM: &str = "ln K";
/// The agreement of guesses.
pub(crate) const CHANCE: &str = "1 / K";

const FIGURES: &[Figure] = &[
    loss(
        "Cross-entropy of each crop's prediction with the codes of the other global crops. Healthy: close to ln K at first, \
         or above, then down past it. A plateau at ln K is a collapse.",
    )
    .level(UNIFORM),
    Figure::new(
        "code_entropy",
        "Entropy of the codes",
        "How many prototypes share a crop's code, as a logarithm. Healthy: it may rise at first and stays well below ln K. At ln K the \
         codes are uniform: all crops look alike.",
    )
    .from_zero()
    .level(UNIFORM)
    .bar("H", 2)
    .headline(),
    Figure::new(
        "top1",
        "Crops that predict the code's first prototype",
        "Share of predictions whose largest score is at the prototype that leads the code of another crop of the same image. \
         Healthy: near 1 / K at first, then rising far above it.",
    )
    .from_zero()
    .bar_with("top-1", 100.0, 1, " %")
    .headline(),
    Figure::new(
        "prototypes_used",
        "Prototypes used",
        "Different prototypes that come first for the crops of a batch, as a share of how many could. Healthy: level, far \
         above the least. Falling towards 0 means that all crops point at the same few.",
    )
    .from_zero()
    .bar_with("used", 100.0, 0, " %"),
    FEATURE_STD,
];

/// A network that has just been drawn predicts with confidence and wrongly: its loss is above 1.05 ln K, its codes have 0.6 to 0.8
/// ln K, its top-1 is at chance. Runs of swav-laptop that collapsed within 100 steps were at 1.00 to 1.01 ln K with codes of 0.99 ln K.
/// A loss that crosses ln K on its way down does so with a top-1 above chance.
const SIGNS: &[Sign] = &[
    CONSTANT_FEATURES,
    Sign::new(
        "uniform_codes",
        "the codes are uniform and the loss stays at ln K: to the prototypes all crops look alike",
        "a smaller swav.epsilon (0.03), a longer swav.freeze_prototypes_steps, a lower optim.lr, a longer optim.warmup_epochs, \
         swav.head_norm = false, fewer views.local_crops",
        &[Condition::above("loss", 0.99).of(UNIFORM), Condition::above("code_entropy", 0.99).of(UNIFORM)],
    ),
    Sign::new(
        "plateau",
        "the loss stays at ln K: no crop predicts the code of another of the same image",
        "a longer swav.freeze_prototypes_steps, a smaller swav.epsilon (0.03), a lower optim.lr, a larger batch_size, a \
         swav.queue that starts later or is smaller, larger views.local_scale",
        &[
            Condition::above("loss", 0.99).of(UNIFORM),
            Condition::below("loss", 1.01).of(UNIFORM),
            Condition::below("top1", 3.0).of(CHANCE),
        ],
    ),
];

const fn key(name: &'static str, meaning: &'static str, source: &'static str, range: Range) -> Key {
    Key { name, meaning, source, range }
}

const KEYS: &[Key] = &[
    key("swav.prototypes", "prototypes K", "SwAV", Range::Count(2, 10_000_000)),
    key(
        "swav.hidden_dim",
        "width of the projector's hidden layer",
        "SwAV; 8192 for wide networks",
        Range::Count(1, 1_000_000),
    ),
    key("swav.out_dim", "width of the embeddings", "SwAV", Range::Count(1, 1_000_000)),
    key("swav.head_norm", "batch normalisation in the projector", "SwAV", Range::Any),
    key("swav.temperature", "temperature of the predictions", "SwAV", Range::Positive),
    key(
        "swav.epsilon",
        "regularisation of the codes: smaller makes them harder",
        "SwAV; 0.03 against collapse",
        Range::Positive,
    ),
    key("swav.iterations", "Sinkhorn iterations", "SwAV", Range::Count(1, 1000)),
    key(
        "swav.queue",
        "former embeddings that codes are balanced with, whole batches of them; 0: none",
        "SwAV; 3840 for batches of 256",
        Range::Count(0, MANY),
    ),
    key("swav.queue_from_epoch", "the first epoch with the queue", "SwAV", Range::Count(0, MANY)),
    key(
        "swav.freeze_prototypes_steps",
        "steps at the start in which the prototypes are not trained",
        "SwAV: an epoch; 5005 for batches of 256",
        Range::Count(0, MANY),
    ),
];

/// ImageNet, 800 epochs, batches of 4,096: the views and the optimizer of DeepCluster-v2, too.
pub(crate) const DEFAULTS: &str = r#"
arch = "resnet-50"
epochs = 800
batch_size = 4096
drop_path = 0.0
[views]
global_scale = [0.14, 1.0]
local_scale = [0.05, 0.14]
local_crops = 6
std = [0.228, 0.224, 0.225]
[optim]
optimizer = "larc"
lr = 0.3
min_lr = 0.0048
warmup_epochs = 10
warmup_start_lr = 0.3
weight_decay = 1e-6
weight_decay_end = 1e-6
decay_all = true
clip_grad = 0.0
"#;

/// What SwAV declares.
pub const SWAV: Recipe = Recipe {
    name: "swav",
    title: "SwAV",
    paper: "Caron et al. 2020, https://arxiv.org/abs/2006.09882",
    defaults: DEFAULTS,
    sections: || Sections::default().with("swav", &SwavConfig::default()),
    keys: KEYS,
    presets: presets![
        "swav-r50-800": "SwAV ResNet-50, 800 epochs, batch 4096 (published: k-NN 65.7, linear 75.3 on ImageNet)",
        "swav-r50-200-small-batch": "SwAV ResNet-50, 200 epochs, batch 256 with a queue (published: linear 72.7)",
        "swav-r50w2": "SwAV ResNet-50 of twice the width (published: k-NN 67.3, linear 77.3)",
        "swav-r50w4": "SwAV ResNet-50 of four times the width (published: linear 77.9)",
        "swav-r50w5": "SwAV ResNet-50 of five times the width (published: k-NN 67.1, linear 78.5)",
        "swav-vit-s16-300": "SwAV ViT-S/16, AdamW, as the authors of DINO ran it, as far as it is known (published: k-NN 66.3, linear 73.5)",
        "swav-laptop": "SwAV, a narrow ResNet-18 on 64 px and 32 px views, on a CPU",
    ],
    figures: FIGURES,
    signs: SIGNS,
    backbones: &[BackboneKind::Vit, BackboneKind::ResNet],
    published_for: "resnet-50, resnet-50x2, resnet-50x4, resnet-50x5, vit-s/16",
    // Codes are balanced over all parts of a batch, see `before_parts`.
    needs: Needs { labels: false, indices: false, places: false, whole_batch: false, coupled: true },
    holds: "a queue of embeddings, where there is one",
    views,
    views_about: "The network sees all of them; each predicts the prototypes of the other global crops.",
    check,
    notes,
    build,
};

/// Two global crops and local ones, alike but for their size.
pub(crate) fn views(v: &ViewSettings) -> ViewPlan {
    let view = |title: String, size_px: usize, scale| ViewSpec {
        title,
        size_px: size_px as u32,
        scale,
        jitter: Some(ColourJitter { prob: 0.8, brightness: 0.8, contrast: 0.8, saturation: 0.8, hue: 0.2 }),
        grayscale_prob: 0.2,
        blur: v.blur_sigma().map(|sigma| Blur::pil(0.5, sigma)),
        filter: Filter::Bilinear,
        ..ViewSpec::default()
    };
    let global = (1..=ASSIGNED).map(|i| view(format!("global {i}"), v.global_size_px, v.global_scale));
    let local = (1..=v.local_crops).map(|i| view(format!("local {i}"), v.local_size_px, v.local_scale));
    ViewPlan { views: global.chain(local).collect(), mean: v.mean, std: v.std }
}

fn check(facts: &Facts<'_>) -> Result<(), MethodError> {
    let queue = facts.own.count("swav.queue");
    let expected = format!("0, or batch_size, {}, or more: it holds whole batches", facts.batch_size);
    check_value(queue == 0 || queue >= facts.batch_size, "swav.queue", expected, queue)
}

fn notes(facts: &Facts<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    if facts.accumulate > 1 {
        notes.push(
            "codes are balanced over the whole batch, which takes a forward pass over all of its parts before the first one's \
             loss: a third more work than at once"
                .to_owned(),
        );
    }
    let (queue, k) = (facts.own.count("swav.queue"), facts.own.count("swav.prototypes"));
    let rows = facts.batch_size + queue;
    if 4 * rows < k {
        notes.push(format!(
            "codes of {rows} embeddings over {k} prototypes: fewer than a fourth as many leave little to balance; a swav.queue of \
             {} would do",
            facts.batch_size * (k / facts.batch_size.max(1) + 1)
        ));
    }
    notes
}

fn build(facts: &Facts<'_>, seed: u64, device: &Device) -> Result<Box<dyn Method>, MethodError> {
    let net = |init: &mut Init| facts.backbone.init(init);
    let config = facts.own.get("swav")?;
    Ok(Box::new(Swav::<AnyBackbone>::new(&config, facts.batch_size, net, seed, device)?))
}
