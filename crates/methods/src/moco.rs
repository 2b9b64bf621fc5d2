//! MoCo v2: contrast with a queue of keys from a momentum encoder (He et al. 2020, Chen et al. 2020,
//! <https://arxiv.org/abs/2003.04297>).

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ocelli_models::contrast_head::{LinearEntry, LinearInit, forward_linear_mlp, linear_mlp};
use ocelli_models::weights::{ModuleState as _, StateDict};
use ocelli_models::{DenseBackbone, Init, Mode, pool};
use serde::{Deserialize, Serialize};

use crate::ViewBox;
use crate::dino::feature_std;
use crate::infonce::{info_nce, unit};
use crate::method::{LossOutput, Method, MethodError, StepClock};
use crate::pair::{Pair, Pending, Shuffle, append, check_value, renamed, scalar};
use crate::queue::KeyQueue;

/// MoCo's own constants; defaults are the published recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MocoConfig {
    /// Width of the head's hidden layer; 0 is the backbone's own (2,048 for ResNet-50).
    pub hidden_dim: usize,
    /// Width of queries and keys (128).
    pub out_dim: usize,
    /// Keys in the queue (65,536); less than the data set has images.
    pub queue: usize,
    /// τ (0.2; 0.07 in MoCo v1).
    pub temperature: f64,
    /// Momentum of the key encoder, constant (0.999).
    pub momentum: f64,
    /// Show the key encoder its batch in another order; matters where the backbone normalises in groups (on).
    pub shuffle_keys: bool,
}

impl Default for MocoConfig {
    fn default() -> Self {
        Self { hidden_dim: 0, out_dim: 128, queue: 65_536, temperature: 0.2, momentum: 0.999, shuffle_keys: true }
    }
}

impl MocoConfig {
    pub(crate) fn check(&self) -> Result<(), MethodError> {
        check_value(self.out_dim > 0, "moco.out_dim", "1 or more", self.out_dim)?;
        check_value(self.queue > 0, "moco.queue", "1 or more", self.queue)?;
        let sharp = self.temperature > 0.0 && self.temperature.is_finite();
        check_value(sharp, "moco.temperature", "a number above 0", self.temperature)?;
        let unit = (0.0..=1.0).contains(&self.momentum);
        check_value(unit, "moco.momentum", "a number from 0 to 1", self.momentum)
    }
}

/// A backbone with MoCo's head.
#[derive(Module, Debug)]
pub struct MocoNet<B: Module> {
    /// The backbone.
    pub backbone: B,
    /// Linear, ReLU, linear, with PyTorch's indices.
    pub fc: Vec<LinearEntry>,
}

impl<B: DenseBackbone> MocoNet<B> {
    fn new(config: &MocoConfig, backbone: B, init: &mut Init) -> Self {
        let dim = backbone.map_dim();
        let hidden = if config.hidden_dim == 0 { dim } else { config.hidden_dim };
        Self { fc: linear_mlp([dim, hidden, config.out_dim], LinearInit::Default, init), backbone }
    }

    /// Unit vectors `[batch, out]` and the backbone's pooled features `[batch, dim]`.
    fn forward(&self, images: Tensor<4>, mode: Mode) -> (Tensor<2>, Tensor<2>) {
        let features = pool(self.backbone.feature_map(images, mode));
        (unit(forward_linear_mlp(&self.fc, features.clone())), features)
    }
}

/// Query encoder, key encoder and queue. See [`MocoConfig`].
pub struct Moco<B: DenseBackbone> {
    config: MocoConfig,
    nets: Pair<MocoNet<B>>,
    queue: KeyQueue,
    pending: Pending,
    device: Device,
}

impl<B: DenseBackbone> Moco<B> {
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
        config.check()?;
        let net = |device: &Device| -> Result<MocoNet<B>, MethodError> {
            let mut init = Init::new(seed, device);
            let backbone = build(&mut init).map_err(Into::into)?;
            Ok(MocoNet::new(config, backbone, &mut init))
        };
        Ok(Self {
            nets: Pair::new(net(&device.clone().autodiff())?, net(device)?),
            queue: KeyQueue::new(config.out_dim, config.queue, seed ^ 0x51, device),
            pending: Pending::default(),
            config: config.clone(),
            device: device.clone(),
        })
    }

    /// The queue.
    pub fn queue(&self) -> &KeyQueue {
        &self.queue
    }

    /// Gives both encoders this backbone; the heads stay as drawn.
    ///
    /// # Errors
    /// When it is of another shape; nothing is changed then.
    pub fn start_from(&mut self, backbone: &B) -> Result<(), MethodError> {
        let mut state = StateDict::default();
        state.add_module("", backbone)?;
        self.nets
            .load([&state, &state], |state, net| Ok(MocoNet { backbone: state.load_into(net.backbone)?, ..net }))
    }

    /// The key encoder.
    pub fn key_net(&self) -> &MocoNet<B> {
        self.nets.key()
    }
}

impl<B: DenseBackbone> Method for Moco<B> {
    type Net = MocoNet<B>;

    const FIGURES: &'static [&'static str] = &["loss", "top1", "queue_fill", "queue_age", "feature_std"];

    fn net(&self) -> &MocoNet<B> {
        self.nets.query()
    }

    fn update_net(&mut self, step: impl FnOnce(MocoNet<B>) -> MocoNet<B>) {
        self.nets.update(step);
    }

    fn loss(&mut self, views: &[Tensor<4>], batch: usize, _: &[Vec<ViewBox>], clock: &StepClock) -> LossOutput {
        let mode = Mode::Train { seed: clock.step_seed() };
        let query_view = views[0].clone().narrow(0, 0, batch).autodiff();
        let key_view = views[0].clone().narrow(0, batch, batch);
        let (query, features) = self.nets.query().forward(query_view, mode);
        // The key encoder moves between the two forward passes, once per step.
        if clock.micro_batch == 0 {
            self.nets.follow(self.config.momentum);
        }
        let key = if self.config.shuffle_keys {
            let (shuffled, shuffle) = Shuffle::images(key_view, clock.step_seed());
            shuffle.undo(self.nets.key().forward(shuffled, mode).0)
        } else {
            self.nets.key().forward(key_view, mode).0
        };
        let found = info_nce(query, key.clone(), &self.queue.entries(), self.config.temperature, None);
        self.pending.push(key);
        let scalars = vec![
            ("loss", found.loss.clone().inner()),
            ("top1", found.top1),
            ("queue_fill", scalar(self.queue.fill(), &self.device)),
            ("queue_age", scalar(self.queue.age(), &self.device)),
            ("feature_std", feature_std(features.inner())),
        ];
        LossOutput { loss: found.loss, scalars }
    }

    fn is_frozen(&self, _: &str, _: usize) -> bool {
        false
    }

    fn after_step(&mut self, _: &StepClock) {
        if let Some(keys) = self.pending.take() {
            self.queue.enqueue(keys);
        }
    }

    /// MoCo's names: `encoder_q.*` (the head is `encoder_q.fc.*`), `encoder_k.*`, `queue`, `queue_ptr`.
    fn state(&self) -> Result<StateDict, MethodError> {
        let mut state = StateDict::default();
        for (prefix, net) in [("encoder_q.", self.nets.query()), ("encoder_k.", self.nets.key())] {
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
        self.pending.clear();
        Ok(())
    }
}
