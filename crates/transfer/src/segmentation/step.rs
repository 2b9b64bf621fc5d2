//! One optimizer step: the losses of both heads, their gradients, and the move of everything that is trained.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use ocelli_data::hash_words;
use ocelli_data::views::SegmentationBatch;
use ocelli_methods::optim::{GradientSum, Group, OptimConfig, Optimizer, StepRates};
use ocelli_models::Mode;
use ocelli_models::params::{self, FlatParam};

use super::loss::{Labels, PixelLoss, carrying, pixel_loss};
use super::network::{Logits, SegmentationNet};
use super::resize::Corners;

/// How the heads' losses become one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossConfig {
    /// Classes.
    pub classes: usize,
    /// Weight of the auxiliary head's loss.
    pub auxiliary_weight: f64,
    /// How logits are resized.
    pub corners: Corners,
}

/// The losses of a batch. Scalars are `[1]`, outside autodiff.
#[derive(Debug, Clone)]
pub struct Losses {
    /// The decode head's.
    pub decode: PixelLoss,
    /// The auxiliary head's, times its weight.
    pub auxiliary: Option<Tensor<1>>,
    /// Their sum.
    pub total: Tensor<1>,
    /// A number on the graph whose gradients are the total's.
    pub carried: Tensor<1>,
}

/// The losses of both heads' logits.
pub fn losses(logits: Logits, labels: &Labels, config: &LossConfig) -> Losses {
    let decode = pixel_loss(logits.decode.clone(), labels, config.corners);
    let mut carried = carrying(logits.decode, decode.gradient.clone());
    let mut total = decode.loss.clone();
    let auxiliary = logits.auxiliary.map(|logits| {
        let found = pixel_loss(logits.clone(), labels, config.corners);
        let loss = found.loss * config.auxiliary_weight;
        total = total.clone() + loss.clone();
        carried = carried.clone() + carrying(logits, found.gradient * config.auxiliary_weight);
        loss
    });
    Losses { decode, auxiliary, total, carried }
}

/// What one part of a step gave.
pub(super) struct Part {
    /// The figures, as the task declares them.
    pub figures: Tensor<1>,
    /// Gradients by name.
    pub gradients: Vec<(String, Tensor<1>)>,
}

/// Forward and backward pass of a batch. `words` decide which channels are dropped.
pub(super) fn part(
    net: &SegmentationNet,
    batch: &SegmentationBatch,
    config: &LossConfig,
    words: &[u64],
    device: &Device,
) -> Part {
    let (images, height, width) = (batch.indices.len(), batch.height, batch.width);
    let pixels = TensorData::new(batch.pixels.clone(), [images, 3, height, width]);
    let labels = Labels::new(&batch.labels, [images, height, width], config.classes, device);
    let logits = net.forward(Tensor::from_data(pixels, device), Mode::Train { seed: hash_words(words) });
    let Losses { decode, auxiliary, total, carried } = losses(logits, &labels, config);
    let mut raw = carried.backward();
    let gradients = params::take_gradients(net, &mut raw);
    let PixelLoss { loss, right, labelled, .. } = decode;
    let accuracy = right / labelled.clone().clamp_min(1.0);
    let share = labelled / (images * height * width) as f64;
    let figures = [Some(total), Some(loss), auxiliary, Some(accuracy), Some(share)];
    Part { figures: Tensor::cat(figures.into_iter().flatten().collect(), 0), gradients }
}

/// Moves a network by the optimizer. Parameters under `backbone.` have their share of the learning rate.
pub fn update<M: Module>(
    net: M,
    (optimizer, config): (&mut Optimizer, &OptimConfig),
    gradients: GradientSum,
    rates: &StepRates,
    backbone_lr: f64,
) -> M {
    let group = |param: &FlatParam| {
        let lr = if param.name.starts_with("backbone.") { backbone_lr } else { 1.0 };
        config.group(param).and(Group { lr, ..Group::default() })
    };
    optimizer.step(net, None, gradients, rates, &group).0
}
