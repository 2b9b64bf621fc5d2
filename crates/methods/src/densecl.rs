//! DenseCL: contrast at every location of the feature map (Wang et al. 2021, <https://arxiv.org/abs/2011.09157>).

use burn::module::Module;
use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ocelli_data::ViewBox;
use ocelli_models::contrast_head::{ConvMlp, conv_mlp, forward_conv_mlp, linear_mlp};
use ocelli_models::mlp::{LinearInit, Mlp, forward_mlp};
use ocelli_models::weights::{ModuleState as _, StateDict};
use ocelli_models::{AnyBackbone, Backbone, BackboneKind, Init, Mode, pool};
use ocelli_world::World;
use serde::{Deserialize, Serialize};

use crate::figure::{CONSTANT_FEATURES, Condition, FEATURE_STD, Figure, Level, Sign, loss};
use crate::held::{Followed, KeyQueue, append, renamed};
use crate::method::{Batch, Bound, LossOutput, Method, MethodError, Network, StepClock, Update};
use crate::moco::{self, FEW, INDIFFERENT, MocoConfig, QUEUE_AGE, QUEUE_FILL, TOP1};
use crate::optim::Group;
use crate::parts::infonce::{InfoNce, info_nce, unit};
use crate::parts::matching::{Matching, at_cells, geometric_match, most_similar, random_match};
use crate::parts::{Shuffle, feature_std, scalar};
use crate::recipe::{Facts, Key, MANY, Needs, Range, Recipe, Sections, check_keys, joined, presets};

/// DenseCL's own constants; defaults are the published recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DenseClConfig {
    /// What it shares with MoCo: both heads have these widths, both queues this length. A section of its own, `moco`.
    #[serde(skip)]
    pub contrast: MocoConfig,
    /// λ, the dense loss's share (0.5).
    pub lambda: f64,
    /// Steps at the start with λ = 0 (0).
    pub lambda_warmup_iterations: usize,
    /// How cells are matched (by the backbone's features).
    pub matching: Matching,
    /// Side of the grid maps are pooled to before the dense head; 0 leaves them as they are (7×7 of 224 px).
    pub grid: usize,
}

impl Default for DenseClConfig {
    fn default() -> Self {
        Self {
            contrast: MocoConfig::default(),
            lambda: 0.5,
            lambda_warmup_iterations: 0,
            matching: Matching::default(),
            grid: 0,
        }
    }
}

const FIGURES: &[Figure] = &[
    loss(moco::LOSS_HEALTHY).level(INDIFFERENT),
    Figure::new(
        "loss_global",
        "Global loss",
        "Contrast of the pooled features. Healthy: up until the queue holds real keys, then slowly down, below ln(queue + 1).",
    )
    .level(INDIFFERENT)
    .bar("global", 3),
    Figure::new(
        "loss_dense",
        "Dense loss",
        "Contrast of the cells. Healthy: as the global loss; it need not fall as far, as cells of one image look alike.",
    )
    .bar("dense", 3),
    TOP1,
    Figure::new(
        "top1_dense",
        "Cells whose matched key comes first",
        "The same of the cells, against the image-level keys. Healthy: as above.",
    )
    .from_zero()
    .bar_with("cells", 100.0, 1, " %"),
    Figure::new(
        "matched",
        "Cells with a match",
        "1 but for geometric matching, where views overlap in part: level, about a half.",
    )
    .from_zero(),
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
        &[Condition::above("loss_global", 0.995).of(INDIFFERENT), Condition::below("top1", 2.0).of(FEW)],
    ),
];

const KEYS: &[Key] = &joined::<{ moco::KEYS.len() + OWN.len() }>(moco::KEYS, OWN);

const OWN: &[Key] = &[
    Key { name: "densecl.lambda", meaning: "share of the dense loss", source: "DenseCL", range: Range::Share },
    Key {
        name: "densecl.lambda_warmup_iterations",
        meaning: "steps at the start without the dense loss",
        source: "DenseCL",
        range: Range::Count(0, MANY),
    },
    Key {
        name: "densecl.matching",
        meaning: "how cells are matched: backbone, head, random, geometric",
        source: "DenseCL; geometric: PixPro",
        range: Range::OneOf(&["backbone", "head", "random", "geometric"]),
    },
    Key {
        name: "densecl.grid",
        meaning: "side of the grid the dense head sees; 0: the backbone's",
        source: "DenseCL",
        range: Range::Count(0, 64),
    },
];

/// What DenseCL declares.
pub const DENSECL: Recipe = Recipe {
    name: "densecl",
    title: "DenseCL",
    paper: "Wang et al. 2021, https://arxiv.org/abs/2011.09157",
    defaults: moco::DEFAULTS,
    sections: || {
        Sections::default().with("moco", &MocoConfig::default())?.with("densecl", &DenseClConfig::default())
    },
    keys: KEYS,
    presets: presets![
        "densecl-r50-200": "DenseCL ResNet-50, ImageNet, 200 epochs, batch 256 (published: VOC detection AP 58.7)",
        "densecl-r50-coco-800": "DenseCL ResNet-50, COCO, 800 epochs, batch 256 (published: VOC detection AP 56.7)",
        "densecl-r50-coco-1600": "DenseCL ResNet-50, COCO, 1600 epochs, batch 256 (published: VOC detection AP 57.2)",
        "densecl-r101-200": "DenseCL ResNet-101, ImageNet, 200 epochs, batch 256 (published: VOC detection AP 61.3)",
        "densecl-laptop": "DenseCL, a narrow ResNet-18 on 48 px views, on a CPU",
    ],
    figures: FIGURES,
    signs: SIGNS,
    backbones: &[BackboneKind::ResNet],
    published_for: "resnet-50, resnet-101",
    needs: Needs { labels: false, indices: false, places: true, whole_batch: false, coupled: false },
    holds: "key encoder and both queues",
    views: moco::views,
    views_about: "The first goes to the query encoder, the second to the key encoder.",
    check,
    notes,
    build,
};

fn check(facts: &Facts<'_>) -> Result<(), MethodError> {
    moco::check(facts)?;
    moco::check_two_layers(facts)
}

fn notes(facts: &Facts<'_>) -> Vec<String> {
    let matching = facts.own.get::<DenseClConfig>("densecl").map(|c| c.matching).unwrap_or_default();
    let mut notes = moco::notes(facts);
    notes.push(format!("cells are matched by {}", matching.about()));
    notes
}

fn build(facts: &Facts<'_>, seed: u64, device: &Device) -> Result<Box<dyn Method>, MethodError> {
    let config = DenseClConfig { contrast: facts.own.get("moco")?, ..facts.own.get("densecl")? };
    let net = |init: &mut Init| facts.backbone.init(init);
    Ok(Box::new(DenseCl::<AnyBackbone>::new(&config, net, seed, device)?))
}

/// Both heads, named as the published checkpoints name them.
#[derive(Module, Debug)]
pub struct DenseClHead {
    /// On pooled features: linear, ReLU, linear.
    pub mlp: Mlp,
    /// On every cell: 1×1 convolution, ReLU, 1×1 convolution.
    pub mlp2: ConvMlp,
}

/// A backbone with DenseCL's heads.
#[derive(Module, Debug)]
pub struct DenseClNet<B: Module> {
    /// The backbone.
    pub backbone: B,
    /// The heads.
    pub head: DenseClHead,
}

/// What a network makes of a batch. Maps are flattened to `[batch, channels, cells]`, everything but `features` has unit
/// length over its channels.
pub struct DenseClOutputs {
    /// Pooled features of the backbone, `[batch, dim]`, not normalised.
    pub features: Tensor<2>,
    /// The backbone's map.
    pub backbone: Tensor<3>,
    /// The global head's output, `[batch, out]`.
    pub global: Tensor<2>,
    /// The dense head's output.
    pub dense: Tensor<3>,
    /// Mean over the cells of the dense head's output before it was normalised, `[batch, out]`.
    pub pooled: Tensor<2>,
    /// Rows and columns of the maps.
    pub grid: [usize; 2],
}

impl<B: Backbone> DenseClNet<B> {
    fn new(config: &DenseClConfig, backbone: B, init: &mut Init) -> Self {
        let MocoConfig { hidden_dim, out_dim, .. } = config.contrast;
        let dim = backbone.map_dim();
        let widths = [dim, if hidden_dim == 0 { dim } else { hidden_dim }, out_dim];
        let mlp = linear_mlp(&widths, LinearInit::Kaiming, init);
        Self { head: DenseClHead { mlp, mlp2: conv_mlp(widths, init) }, backbone }
    }

    /// See [`DenseClOutputs`]; `grid` above 0 pools the map to that side first.
    pub fn forward(&self, images: Tensor<4>, mode: Mode, grid: usize) -> DenseClOutputs {
        let map = self.backbone.feature_map(images, mode);
        let features = pool(map.clone());
        let global = unit(forward_mlp(&self.head.mlp, features.clone(), mode));
        let map = if grid == 0 { map } else { adaptive_avg_pool2d(map, [grid, grid]) };
        let [_, _, rows, cols] = map.dims();
        let dense = forward_conv_mlp(&self.head.mlp2, map.clone());
        DenseClOutputs {
            features,
            backbone: unit_cells(map.flatten(2, 3)),
            global,
            pooled: unit(pool(dense.clone())),
            dense: unit_cells(dense.flatten(2, 3)),
            grid: [rows, cols],
        }
    }
}

/// Cells divided by max(‖cell‖, 1e-12), `[batch, channels, cells]`.
fn unit_cells(map: Tensor<3>) -> Tensor<3> {
    let norm = map.clone().powi_scalar(2).sum_dim(1).clamp_min(1e-24).sqrt();
    map / norm
}

/// `[batch, channels, cells]` to `[batch·cells, channels]`.
fn rows_of(map: Tensor<3>) -> Tensor<2> {
    map.swap_dims(1, 2).flatten(0, 1)
}

/// The dense loss: InfoNCE of every query cell with the key cell matched to it, against image-level negatives. `query`
/// and `key` are `[batch, out, cells]` of unit length, `index` is `[batch, cells]`; `weights` `[batch·cells, 1]`, absent
/// for the mean.
pub fn dense_loss(
    query: Tensor<3>,
    key: Tensor<3>,
    index: Tensor<2, Int>,
    queue: &Tensor<2>,
    temperature: f64,
    weights: Option<Tensor<2>>,
) -> InfoNce {
    let positives = at_cells(key, index);
    info_nce(rows_of(query), rows_of(positives), queue, temperature, weights)
}

/// Query encoder, key encoder and both queues. See [`DenseClConfig`].
pub struct DenseCl<B: Backbone = AnyBackbone> {
    config: DenseClConfig,
    nets: Followed<DenseClNet<B>>,
    queues: [KeyQueue; 2],
    matched: Option<Tensor<2, Int>>,
    device: Device,
}

impl<B: Backbone> DenseCl<B> {
    /// Two equal encoders and random queues, all drawn from `seed`. `build` draws a backbone; `device` is the plain
    /// device, the query encoder's parameters are tracked.
    ///
    /// # Errors
    /// When a value is out of range, or the backbone cannot be built.
    pub fn new<E: Into<MethodError>>(
        config: &DenseClConfig,
        build: impl Fn(&mut Init) -> Result<B, E>,
        seed: u64,
        device: &Device,
    ) -> Result<Self, MethodError> {
        let sections = Sections::default().with("moco", &config.contrast)?.with("densecl", config)?;
        check_keys(KEYS, &sections)?;
        let MocoConfig { out_dim, queue, .. } = config.contrast;
        Ok(Self {
            nets: Followed::drawn([&build, &build], seed, device, |backbone, init| {
                DenseClNet::new(config, backbone, init)
            })?,
            queues: [0x51, 0x52].map(|salt| KeyQueue::new(out_dim, queue, seed ^ salt, device)),
            matched: None,
            config: config.clone(),
            device: device.clone(),
        })
    }

    /// The global and the dense queue.
    pub fn queues(&self) -> &[KeyQueue; 2] {
        &self.queues
    }

    /// The query encoder.
    pub fn query_net(&self) -> &DenseClNet<B> {
        self.nets.net()
    }

    /// The key encoder.
    pub fn key_net(&self) -> &DenseClNet<B> {
        self.nets.follower()
    }

    /// The key cells of the last batch's query cells, `[batch, cells]`.
    pub fn matched(&self) -> Option<Tensor<2, Int>> {
        self.matched.clone()
    }

    /// λ at a step.
    pub fn lambda(&self, iteration: usize) -> f64 {
        if iteration < self.config.lambda_warmup_iterations { 0.0 } else { self.config.lambda }
    }

    /// The key encoder's outputs, its batch shuffled where the configuration says so.
    fn keys(&self, images: Tensor<4>, mode: Mode, seed: u64) -> DenseClOutputs {
        let grid = self.config.grid;
        if !self.config.contrast.shuffle_keys {
            return self.nets.follower().forward(images, mode, grid);
        }
        let (shuffled, shuffle) = Shuffle::images(images, seed);
        let found = self.nets.follower().forward(shuffled, mode, grid);
        // Every output goes back into order: a forgotten one matches cells of different images.
        DenseClOutputs {
            features: shuffle.undo(found.features),
            backbone: shuffle.undo(found.backbone),
            global: shuffle.undo(found.global),
            dense: shuffle.undo(found.dense),
            pooled: shuffle.undo(found.pooled),
            grid: found.grid,
        }
    }

    /// Key cells `[batch, cells]`, and weights of the rows where not all count.
    fn matches(
        &self,
        q: &DenseClOutputs,
        k: &DenseClOutputs,
        places: &[Vec<ViewBox>],
        seed: u64,
    ) -> (Tensor<2, Int>, Option<Tensor<2>>) {
        let [batch, _, cells] = q.dense.dims();
        match self.config.matching {
            Matching::Head => (most_similar(q.dense.clone(), k.dense.clone()), None),
            Matching::Random => (random_match([batch, cells], seed, &self.device), None),
            Matching::Geometric => self.geometric(places, batch, q.grid),
            Matching::Backbone => (most_similar(q.backbone.clone(), k.backbone.clone()), None),
        }
    }

    /// Views whose places are not known match nowhere.
    fn geometric(
        &self,
        places: &[Vec<ViewBox>],
        batch: usize,
        grid: [usize; 2],
    ) -> (Tensor<2, Int>, Option<Tensor<2>>) {
        let cells = grid[0] * grid[1];
        let found = places.iter().take(batch).flat_map(|views| match &views[..] {
            [query, key, ..] => geometric_match(query, key, grid),
            _ => vec![None; cells],
        });
        let mut found: Vec<Option<usize>> = found.collect();
        found.resize(batch * cells, None);
        let share = 1.0 / found.iter().flatten().count().max(1) as f32;
        let weights: Vec<f32> = found.iter().map(|f| if f.is_some() { share } else { 0.0 }).collect();
        let index: Vec<i32> = found.iter().map(|f| f.unwrap_or(0) as i32).collect();
        let weights = Tensor::from_data(TensorData::new(weights, [batch * cells, 1]), &self.device);
        (Tensor::from_data(TensorData::new(index, [batch, cells]), &self.device), Some(weights))
    }
}

impl<B: Backbone> Method for DenseCl<B> {
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
        let seed = clock.step_seed();
        let mode = Mode::Train { seed };
        let query = self.nets.net().forward(batch.view(0).autodiff(), mode, self.config.grid);
        // The key encoder moves between the two forward passes, once per step.
        self.nets.follow_first(self.config.contrast.momentum_at(clock), clock);
        let key = self.keys(batch.view(1), mode, seed);
        let (index, weights) = self.matches(&query, &key, &batch.places, seed.rotate_left(17));
        self.matched = Some(index.clone());
        let temperature = self.config.contrast.temperature;
        let [queue, queue2] = self.queues.each_ref().map(KeyQueue::entries);
        let global = info_nce(query.global, key.global.clone(), &queue, temperature, None);
        let rows = query.dense.dims()[2] * batch.images;
        let share = match &weights {
            None => scalar(1.0, &self.device),
            Some(weights) => weights.clone().greater_elem(0.0).float().sum() / rows as f64,
        };
        let dense = dense_loss(query.dense, key.dense, index, &queue2, temperature, weights);
        self.queues[0].hold(key.global);
        self.queues[1].hold(key.pooled);
        let lambda = self.lambda(clock.iteration);
        let loss = global.loss.clone() * (1.0 - lambda) + dense.loss.clone() * lambda;
        let scalars = vec![
            ("loss", loss.clone().inner()),
            ("loss_global", global.loss.inner()),
            ("loss_dense", dense.loss.inner()),
            ("top1", global.top1),
            ("top1_dense", dense.top1),
            ("matched", share),
            ("queue_fill", scalar(self.queues[0].fill(), &self.device)),
            ("queue_age", scalar(self.queues[0].age(), &self.device)),
            ("feature_std", feature_std(query.features.inner())),
        ];
        LossOutput { loss, scalars }
    }

    fn momentum(&self, iteration: usize, iterations: usize) -> Option<f64> {
        Some(self.config.contrast.momentum_of(iteration, iterations))
    }

    fn levels(&self) -> Vec<Level> {
        moco::levels(self.config.contrast.queue)
    }

    /// As MoCo's.
    fn unsettled_steps(&self, _: usize, batch_size: usize) -> usize {
        2 * (self.config.contrast.queue / batch_size.max(1))
    }

    /// Keys of all processes, in the order of the micro-batches.
    fn exchange(&mut self, world: &dyn World) -> Result<(), MethodError> {
        self.queues.iter_mut().try_for_each(|queue| queue.exchange(world))
    }

    fn after_step(&mut self, _: &StepClock) {
        self.queues.iter_mut().for_each(KeyQueue::turn);
    }

    fn start_from(&mut self, backbone: &StateDict) -> Result<(), MethodError> {
        self.nets.load([backbone, backbone], |state, net| {
            Ok(DenseClNet { backbone: state.load_into(net.backbone)?, ..net })
        })
    }

    /// The published checkpoints' names: `encoder_q.0.*` (backbone), `encoder_q.1.mlp.*` and `.mlp2.*` (heads),
    /// `encoder_k.*`, `queue`, `queue2` and their pointers.
    fn state(&self) -> Result<StateDict, MethodError> {
        let mut state = StateDict::default();
        for (prefix, net) in [("encoder_q.", self.nets.net()), ("encoder_k.", self.nets.follower())] {
            let mut part = StateDict::default();
            part.add_module("", net)?;
            append(&mut state, prefix, renamed(&part, &[("backbone.", "0."), ("head.", "1.")]));
        }
        for (name, queue) in ["queue", "queue2"].into_iter().zip(&self.queues) {
            queue.add_to(name, &mut state)?;
        }
        Ok(state)
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), MethodError> {
        let queues = [self.queues[0].restored("queue", state)?, self.queues[1].restored("queue2", state)?];
        let own = [("0.", "backbone."), ("1.", "head.")];
        let parts = ["encoder_q.", "encoder_k."].map(|prefix| renamed(&state.under(prefix), &own));
        self.nets.load([&parts[0], &parts[1]], |part, net| Ok(part.load_into(net)?))?;
        self.queues = queues;
        Ok(())
    }

    fn held_values(&self) -> usize {
        self.nets.held_values() + self.queues.iter().map(KeyQueue::values).sum::<usize>()
    }

    fn bound(&self, _: usize, _: usize) -> Vec<Bound> {
        self.queues.iter().map(KeyQueue::bound).collect()
    }
}
