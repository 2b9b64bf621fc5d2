//! DenseCL: contrast at every location of the feature map (Wang et al. 2021, <https://arxiv.org/abs/2011.09157>).

use burn::module::Module;
use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ocelli_models::contrast_head::{
    ConvEntry, LinearEntry, LinearInit, conv_mlp, forward_conv_mlp, forward_linear_mlp, linear_mlp,
};
use ocelli_models::weights::{ModuleState as _, StateDict};
use ocelli_models::{DenseBackbone, Init, Mode, pool};
use serde::{Deserialize, Serialize};

use crate::dino::feature_std;
use crate::infonce::{InfoNce, info_nce, unit};
use crate::matching::{Matching, ViewBox, at_cells, geometric_match, most_similar, random_match};
use crate::method::{LossOutput, Method, MethodError, StepClock};
use crate::moco::MocoConfig;
use crate::pair::{Pair, Pending, Shuffle, append, check_value, renamed, scalar};
use crate::queue::KeyQueue;

/// DenseCL's own constants; defaults are the published recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DenseClConfig {
    /// What it shares with MoCo: both heads have these widths, both queues this length.
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

/// Both heads, named as the published checkpoints name them.
#[derive(Module, Debug)]
pub struct DenseClHead {
    /// On pooled features: linear, ReLU, linear.
    pub mlp: Vec<LinearEntry>,
    /// On every cell: 1×1 convolution, ReLU, 1×1 convolution.
    pub mlp2: Vec<ConvEntry>,
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

impl<B: DenseBackbone> DenseClNet<B> {
    fn new(config: &DenseClConfig, backbone: B, init: &mut Init) -> Self {
        let MocoConfig { hidden_dim, out_dim, .. } = config.contrast;
        let dim = backbone.map_dim();
        let widths = [dim, if hidden_dim == 0 { dim } else { hidden_dim }, out_dim];
        let mlp = linear_mlp(widths, LinearInit::Kaiming, init);
        Self { head: DenseClHead { mlp, mlp2: conv_mlp(widths, init) }, backbone }
    }

    /// See [`DenseClOutputs`]; `grid` above 0 pools the map to that side first.
    pub fn forward(&self, images: Tensor<4>, mode: Mode, grid: usize) -> DenseClOutputs {
        let map = self.backbone.feature_map(images, mode);
        let features = pool(map.clone());
        let global = unit(forward_linear_mlp(&self.head.mlp, features.clone()));
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
    let norm = map.clone().powi_scalar(2).sum_dim(1).sqrt().clamp_min(1e-12);
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
pub struct DenseCl<B: DenseBackbone> {
    config: DenseClConfig,
    nets: Pair<DenseClNet<B>>,
    queues: [KeyQueue; 2],
    pending: [Pending; 2],
    matched: Option<Tensor<2, Int>>,
    device: Device,
}

impl<B: DenseBackbone> DenseCl<B> {
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
        config.contrast.check()?;
        let share = (0.0..=1.0).contains(&config.lambda);
        check_value(share, "densecl.lambda", "a number from 0 to 1", config.lambda)?;
        check_value(config.grid <= 64, "densecl.grid", "0 to 64", config.grid)?;
        let net = |device: &Device| -> Result<DenseClNet<B>, MethodError> {
            let mut init = Init::new(seed, device);
            let backbone = build(&mut init).map_err(Into::into)?;
            Ok(DenseClNet::new(config, backbone, &mut init))
        };
        let MocoConfig { out_dim, queue, .. } = config.contrast;
        Ok(Self {
            nets: Pair::new(net(&device.clone().autodiff())?, net(device)?),
            queues: [0x51, 0x52].map(|salt| KeyQueue::new(out_dim, queue, seed ^ salt, device)),
            pending: [Pending::default(), Pending::default()],
            matched: None,
            config: config.clone(),
            device: device.clone(),
        })
    }

    /// Gives both encoders this backbone; the heads stay as drawn.
    ///
    /// # Errors
    /// When it is of another shape; nothing is changed then.
    pub fn start_from(&mut self, backbone: &B) -> Result<(), MethodError> {
        let mut state = StateDict::default();
        state.add_module("", backbone)?;
        self.nets.load([&state, &state], |state, net| {
            Ok(DenseClNet { backbone: state.load_into(net.backbone)?, ..net })
        })
    }

    /// The global and the dense queue.
    pub fn queues(&self) -> &[KeyQueue; 2] {
        &self.queues
    }

    /// The key encoder.
    pub fn key_net(&self) -> &DenseClNet<B> {
        self.nets.key()
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
            return self.nets.key().forward(images, mode, grid);
        }
        let (shuffled, shuffle) = Shuffle::images(images, seed);
        let found = self.nets.key().forward(shuffled, mode, grid);
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

impl<B: DenseBackbone> Method for DenseCl<B> {
    type Net = DenseClNet<B>;

    const FIGURES: &'static [&'static str] = &[
        "loss",
        "loss_global",
        "loss_dense",
        "top1",
        "top1_dense",
        "matched",
        "queue_fill",
        "queue_age",
        "feature_std",
    ];

    fn net(&self) -> &DenseClNet<B> {
        self.nets.query()
    }

    fn update_net(&mut self, step: impl FnOnce(DenseClNet<B>) -> DenseClNet<B>) {
        self.nets.update(step);
    }

    fn loss(
        &mut self,
        views: &[Tensor<4>],
        batch: usize,
        places: &[Vec<ViewBox>],
        clock: &StepClock,
    ) -> LossOutput {
        let seed = clock.step_seed();
        let mode = Mode::Train { seed };
        let query_view = views[0].clone().narrow(0, 0, batch).autodiff();
        let key_view = views[0].clone().narrow(0, batch, batch);
        let query = self.nets.query().forward(query_view, mode, self.config.grid);
        // The key encoder moves between the two forward passes, once per step.
        if clock.micro_batch == 0 {
            self.nets.follow(self.config.contrast.momentum);
        }
        let key = self.keys(key_view, mode, seed);
        let (index, weights) = self.matches(&query, &key, places, seed.rotate_left(17));
        self.matched = Some(index.clone());
        let temperature = self.config.contrast.temperature;
        let [queue, queue2] = self.queues.each_ref().map(KeyQueue::entries);
        let global = info_nce(query.global, key.global.clone(), &queue, temperature, None);
        let rows = query.dense.dims()[2] * batch;
        let share = match &weights {
            None => scalar(1.0, &self.device),
            Some(weights) => weights.clone().greater_elem(0.0).float().sum() / rows as f64,
        };
        let dense = dense_loss(query.dense, key.dense, index, &queue2, temperature, weights);
        self.pending[0].push(key.global);
        self.pending[1].push(key.pooled);
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

    fn is_frozen(&self, _: &str, _: usize) -> bool {
        false
    }

    fn after_step(&mut self, _: &StepClock) {
        for (queue, pending) in self.queues.iter_mut().zip(&mut self.pending) {
            if let Some(keys) = pending.take() {
                queue.enqueue(keys);
            }
        }
    }

    /// The published checkpoints' names: `encoder_q.0.*` (backbone), `encoder_q.1.mlp.*` and `.mlp2.*` (heads),
    /// `encoder_k.*`, `queue`, `queue2` and their pointers.
    fn state(&self) -> Result<StateDict, MethodError> {
        let mut state = StateDict::default();
        for (prefix, net) in [("encoder_q.", self.nets.query()), ("encoder_k.", self.nets.key())] {
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
        self.pending.iter_mut().for_each(Pending::clear);
        Ok(())
    }
}
