//! Network, queue and step of SwAV.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ocelli_kernels::together;
use ocelli_models::mlp::{LastNorm, LinearInit, MlpConfig};
use ocelli_models::params::{self, FlatParam};
use ocelli_models::weights::{HostTensor, StateDict};
use ocelli_models::{AnyBackbone, Backbone, Init, Linear, Mode};

use super::{CHANCE, FIGURES, KEYS, SwavConfig, UNIFORM};
use crate::figure::{Figure, Level};
use crate::held::{EmbeddingQueue, Trained};
use crate::method::{Batch, Bound, LossOutput, Method, MethodError, Network, StepClock, Update};
use crate::optim::Group;
use crate::parts::infonce::unit;
use crate::parts::swapped::{ASSIGNED, Codes, entropy, first_prototypes, swav_loss};
use crate::parts::{Projected, feature_std, sinkhorn};
use crate::recipe::{Sections, check_keys};

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
#[path = "tests.rs"]
mod tests;
