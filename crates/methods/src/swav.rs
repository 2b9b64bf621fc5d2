//! SwAV: contrasting cluster assignments of crops (Caron et al. 2020, <https://arxiv.org/abs/2006.09882>).

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ocelli_data::{Blur, ColourJitter, Filter, ViewPlan, ViewSpec};
use ocelli_kernels::together;
use ocelli_models::mlp::{LastNorm, LinearInit, MlpConfig};
use ocelli_models::params::{self, FlatParam};
use ocelli_models::weights::{HostTensor, StateDict};
use ocelli_models::{AnyBackbone, Backbone, BackboneKind, Init, Linear, Mode};
use serde::{Deserialize, Serialize};

use crate::ViewSettings;
use crate::figure::{CONSTANT_FEATURES, Condition, FEATURE_STD, Figure, Level, Sign, loss};
use crate::held::{EmbeddingQueue, Trained};
use crate::method::{Batch, Bound, LossOutput, Method, MethodError, Network, StepClock, Update, check_value};
use crate::optim::Group;
use crate::parts::infonce::unit;
use crate::parts::swapped::{ASSIGNED, Codes, entropy, first_prototypes, swav_loss};
use crate::parts::{Projected, feature_std, sinkhorn};
use crate::recipe::{Facts, Key, MANY, Needs, Range, Recipe, Sections, check_keys, presets};

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

/// Linear, batch normalisation, ReLU, linear.
pub(crate) fn projector([dim, hidden, out]: [usize; 3], norm: bool) -> MlpConfig {
    MlpConfig {
        widths: vec![dim, hidden, out],
        norm,
        bias: true,
        last_bias: true,
        last_norm: LastNorm::None,
        how: LinearInit::Default,
    }
}

/// A backbone, a projector and prototypes.
#[derive(Module, Debug)]
pub struct SwavNet<B: Module> {
    /// Backbone and projector.
    pub op_projected: Projected<B>,
    /// A linear map without bias; its weight is `[out, K]`.
    pub prototypes: Linear,
}

impl<B: Backbone> SwavNet<B> {
    /// The same with prototypes of length 1.
    fn normalised(self) -> Self {
        let prototypes = params::replace(self.prototypes, |param| {
            let columns: Tensor<2> = param.values.clone().reshape(param.shape.clone());
            Some(unit(columns.transpose()).transpose().flatten(0, 1))
        });
        Self { prototypes, ..self }
    }
}

/// What the network says of all views of a batch.
pub struct SwavOutputs {
    /// Unit vectors, `[views·images, out]`.
    pub embeddings: Tensor<2>,
    /// Their cosines with the prototypes, `[views·images, K]`.
    pub scores: Tensor<2>,
    /// The backbone's, `[views·images, dim]`.
    pub features: Tensor<2>,
}

impl SwavOutputs {
    /// Embeddings `[images, out]` and scores `[images, K]` of one view, outside autodiff.
    fn view(&self, view: usize, images: usize) -> [Tensor<2>; 2] {
        [&self.embeddings, &self.scores].map(|all| all.clone().inner().narrow(0, view * images, images))
    }
}

/// A network in training with its queue. See [`SwavConfig`].
pub struct Swav<B: Backbone = AnyBackbone> {
    config: SwavConfig,
    /// Rows of the queue: whole batches.
    queue_len: usize,
    net: Trained<SwavNet<B>>,
    /// There once its epoch has come.
    queue: Option<EmbeddingQueue>,
    /// Codes of the parts of the step in progress, the last one first, where there are several.
    planned: Vec<Codes>,
    device: Device,
}

impl<B: Backbone> Swav<B> {
    /// A network drawn from `seed`, for batches of so many images, all parts together. `build` draws a backbone; `device` is the
    /// plain device, the parameters are tracked.
    ///
    /// # Errors
    /// When a value is out of range, or the backbone cannot be built.
    pub fn new<E: Into<MethodError>>(
        config: &SwavConfig,
        batch_size: usize,
        build: impl Fn(&mut Init) -> Result<B, E>,
        seed: u64,
        device: &Device,
    ) -> Result<Self, MethodError> {
        check_keys(KEYS, &Sections::default().with("swav", config)?)?;
        let shape = |dim| projector([dim, config.hidden_dim, config.out_dim], config.head_norm);
        let (op_projected, mut init) = Projected::drawn(build, shape, seed, device)?;
        let prototypes = LinearInit::Default.linear([config.out_dim, config.prototypes], false, &mut init);
        let batch_size = batch_size.max(1);
        Ok(Self {
            config: config.clone(),
            queue_len: config.queue / batch_size * batch_size,
            net: Trained::new(SwavNet { op_projected, prototypes }),
            queue: None,
            planned: Vec::new(),
            device: device.clone(),
        })
    }

    /// The queue, once its epoch has come.
    pub fn queue(&self) -> Option<&EmbeddingQueue> {
        self.queue.as_ref()
    }

    /// Embeddings and scores of all views.
    pub fn outputs(&self, batch: &Batch, clock: &StepClock) -> SwavOutputs {
        let views: Vec<Tensor<4>> = batch.views.iter().map(|v| v.clone().autodiff()).collect();
        let net = self.net.net();
        let (projected, features) = net.op_projected.forward_all(&views, Mode::Train { seed: clock.step_seed() });
        let embeddings = unit(projected);
        SwavOutputs { scores: net.prototypes.forward(embeddings.clone()), embeddings, features }
    }

    /// The codes of every part of a batch (embeddings and scores of both global crops, and the number of images), balanced over
    /// all of them and the queue where it is full. The embeddings enter the queue after it has been used.
    fn assign(&mut self, parts: &[([[Tensor<2>; 2]; ASSIGNED], usize)], clock: &StepClock) -> Vec<Codes> {
        let prototypes = self.net.net().prototypes.weight.val().inner();
        let queue = self.queue.as_mut().filter(|_| clock.epoch >= self.config.queue_from_epoch);
        let all = |crop: usize, what: usize| {
            Tensor::cat(parts.iter().map(|(crops, _)| crops[crop][what].clone()).collect(), 0)
        };
        // Of the queue, which all ranks hold, each balances a share.
        let (rank, ranks) = together::place();
        let share = |rows: Tensor<2>| {
            let len = rows.dims()[0];
            let from = len * rank / ranks;
            rows.narrow(0, from, len * (rank + 1) / ranks - from)
        };
        let whole: Codes = std::array::from_fn(|crop| {
            let scores: Tensor<2> = all(crop, 1);
            let own = scores.dims()[0];
            let scores = match &queue {
                Some(queue) if queue.is_full() => {
                    Tensor::cat(vec![share(queue.of(crop)).matmul(prototypes.clone()), scores], 0)
                }
                _ => scores,
            };
            let former = scores.dims()[0] - own;
            sinkhorn(scores, self.config.epsilon, self.config.iterations).narrow(0, former, own)
        });
        if let Some(queue) = queue {
            let of_ranks = |crop: usize| {
                let parts = parts.iter().map(|(crops, _)| together::gather(crops[crop][0].clone()));
                Tensor::cat(parts.collect(), 0)
            };
            queue.push((0..ASSIGNED).map(of_ranks).collect());
        }
        let mut at = 0;
        let of = |(_, images): &(_, usize)| {
            at += images;
            whole.clone().map(|codes| codes.narrow(0, at - images, *images))
        };
        parts.iter().map(of).collect()
    }

    /// The codes of a batch that is computed at once.
    pub fn codes(&mut self, outputs: &SwavOutputs, images: usize, clock: &StepClock) -> Codes {
        let crops = std::array::from_fn(|crop| outputs.view(crop, images));
        let mut found = self.assign(&[(crops, images)], clock);
        found.remove(0)
    }
}

impl<B: Backbone> Method for Swav<B> {
    fn figures(&self) -> &'static [Figure] {
        FIGURES
    }

    fn network(&self) -> &dyn Network {
        self.net.net()
    }

    /// Prototypes have length 1 in every forward pass, frozen or not.
    fn before_step(&mut self, clock: &StepClock) {
        self.net.map(SwavNet::normalised);
        self.planned.clear();
        let from = self.config.queue_from_epoch;
        if self.queue_len > 0 && clock.epoch >= from && self.queue.is_none() {
            self.queue = Some(EmbeddingQueue::new(ASSIGNED, self.queue_len, self.config.out_dim, &self.device));
        }
    }

    /// Codes of a part alone would be balanced over too few images.
    fn before_parts(&mut self, parts: &[Batch], clock: &StepClock) {
        let (rank, ranks) = together::place();
        let of = |(part, batch): (usize, &Batch)| {
            let outputs = self.outputs(batch, &StepClock { micro_batch: part * ranks + rank, ..*clock });
            (std::array::from_fn(|crop| outputs.view(crop, batch.images)), batch.images)
        };
        let parts: Vec<_> = parts.iter().enumerate().map(of).collect();
        self.planned = self.assign(&parts, clock);
        self.planned.reverse();
    }

    fn loss(&mut self, batch: &Batch, clock: &StepClock) -> LossOutput {
        let images = batch.images;
        let outputs = self.outputs(batch, clock);
        let codes = match self.planned.pop() {
            Some(codes) => codes,
            None => self.codes(&outputs, images, clock),
        };
        let (top1, used) = first_prototypes(outputs.scores.clone().inner(), &codes, images);
        let loss = swav_loss(outputs.scores, codes.clone(), self.config.temperature);
        let scalars = vec![
            ("loss", loss.clone().inner()),
            ("code_entropy", entropy(Tensor::cat(codes.to_vec(), 0))),
            ("top1", top1),
            ("prototypes_used", used),
            ("feature_std", feature_std(outputs.features.inner().narrow(0, 0, images))),
        ];
        LossOutput { loss, scalars }
    }

    fn group(&self, parameter: &FlatParam, clock: &StepClock) -> Group {
        group(&self.config, parameter, clock)
    }

    fn update(&mut self, update: Update<'_>) {
        let (config, clock) = (&self.config, update.clock);
        self.net.update(update, &|parameter| group(config, parameter, clock));
    }

    fn levels(&self) -> Vec<Level> {
        let k = self.config.prototypes as f64;
        vec![Level::new(UNIFORM, k.ln()), Level::new(CHANCE, k.recip())]
    }

    fn unsettled_steps(&self, steps_per_epoch: usize, _: usize) -> usize {
        self.config.freeze_prototypes_steps + steps_per_epoch
    }

    fn start_from(&mut self, backbone: &StateDict) -> Result<(), MethodError> {
        self.net.change(|net| Ok(SwavNet { op_projected: net.op_projected.with_backbone(backbone)?, ..net }))
    }

    /// The network's names, `prototypes.weight`, and `queue` once there is one.
    fn state(&self) -> Result<StateDict, MethodError> {
        let mut state = self.net.state()?;
        if let Some(queue) = &self.queue {
            queue.add_to("queue", &mut state)?;
            // That there is one is said twice: without it the codes would be others, and nobody would know.
            state.tensors.push((HAS_QUEUE.into(), HostTensor { shape: vec![1], values: vec![1.0] }));
        }
        Ok(state)
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), MethodError> {
        let size = [ASSIGNED, self.queue_len, self.config.out_dim];
        let read = |stored| EmbeddingQueue::restored(size, "swav.queue", stored, &self.device);
        let queue = state.get("queue").map(read).transpose()?;
        if queue.is_none() && state.get(HAS_QUEUE).is_some() {
            return Err(MethodError::Missing("queue"));
        }
        self.net.load(state)?;
        self.queue = queue;
        self.planned.clear();
        Ok(())
    }

    fn held_values(&self) -> usize {
        ASSIGNED * self.queue_len * self.config.out_dim
    }

    fn views_at_once(&self, views: usize) -> usize {
        views
    }

    fn bound(&self, images: usize, views: usize) -> Vec<Bound> {
        let SwavConfig { prototypes, out_dim, .. } = self.config;
        let scores = vec![views * images, prototypes];
        vec![
            Bound { what: "the scores of all views", shape: scores, by_batch: true },
            // While it is balanced, with the batch behind it.
            Bound { what: "the scores of the queue", shape: vec![self.queue_len, prototypes], by_batch: false },
            Bound {
                what: "the queue of a crop's embeddings",
                shape: vec![self.queue_len, out_dim],
                by_batch: false,
            },
        ]
    }
}

const HAS_QUEUE: &str = "has_queue";

/// The prototypes are left out of the first steps.
fn group(config: &SwavConfig, parameter: &FlatParam, clock: &StepClock) -> Group {
    let frozen = clock.iteration < config.freeze_prototypes_steps && parameter.name.starts_with("prototypes.");
    Group { frozen, ..Group::default() }
}

#[cfg(test)]
mod tests;
