//! The region proposal network (Ren et al. 2015): anchors of a grid are told from background and moved, and the best of them
//! become proposals. Tensors are read from the device once a batch; labels and selections are made on the host.

use burn::tensor::activation::log_sigmoid;
use burn::tensor::{Tensor, TensorData};
use ocelli_train::TrainError;

use super::boxes::{BoxCoder, Xyxy, clip, is_nonempty};
use super::config::RpnConfig;
use super::network::RpnOutput;
use super::nms::nms_best;
use super::sampling::{Labelled, Sampled, Thresholds, label};

/// Anchors move without weights.
const CODER: BoxCoder = BoxCoder { weights: [1.0; 4] };

/// What the head said of a batch, on the host.
#[derive(Debug, Clone)]
pub struct RpnHost {
    /// `[batch, anchors, rows, cols]`.
    logits: Vec<f32>,
    /// `[batch, 4·anchors, rows, cols]`.
    deltas: Vec<f32>,
    /// Anchors of a cell, rows, columns.
    grid: [usize; 3],
}

/// Regions of an image, the likeliest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Proposals {
    /// In pixels of the network's input.
    pub boxes: Vec<Xyxy>,
    /// How much each looks like an object.
    pub logits: Vec<f32>,
    /// The anchor each comes from: (row · columns + column) · anchors of a cell + anchor.
    pub anchors: Vec<usize>,
}

impl RpnHost {
    /// Reads logits and deltas from the device, both at once.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read(output: &RpnOutput) -> Result<Self, TrainError> {
        let [_, anchors, rows, cols] = output.logits.dims();
        let flat = |t: &Tensor<4>| t.clone().inner().flatten::<1>(0, 3);
        let count = output.logits.dims().iter().product();
        let mut logits = read(Tensor::cat(vec![flat(&output.logits), flat(&output.deltas)], 0))?;
        let deltas = logits.split_off(count);
        Ok(Self { logits, deltas, grid: [anchors, rows, cols] })
    }

    /// Anchors of an image.
    pub fn anchors(&self) -> usize {
        self.grid.iter().product()
    }

    /// Where the logit of an image's anchor lies.
    fn logit_at(&self, image: usize, anchor: usize) -> usize {
        logit_at(self.grid, image, anchor)
    }

    fn delta(&self, image: usize, anchor: usize) -> [f32; 4] {
        std::array::from_fn(|c| self.deltas[delta_at(self.grid, image, anchor, c)])
    }

    /// The regions of an image of `[height, width]` pixels: the `before_nms` likeliest anchors, moved, clipped to the image, those
    /// without area left out, and of what is left after non-maximum suppression the first `after_nms`. No gradient flows through them.
    pub fn proposals(
        &self,
        image: usize,
        anchors: &[Xyxy],
        size: [usize; 2],
        (config, before_nms, after_nms): (&RpnConfig, usize, usize),
    ) -> Proposals {
        let logit = |anchor: usize| self.logits[self.logit_at(image, anchor)];
        // Of equal logits the first anchor; what is no number is no proposal.
        let by_logit = |a: &usize, b: &usize| logit(*b).total_cmp(&logit(*a)).then(a.cmp(b));
        let mut order: Vec<usize> = (0..anchors.len()).filter(|a| logit(*a).is_finite()).collect();
        if order.len() > before_nms {
            order.select_nth_unstable_by(before_nms, by_logit);
            order.truncate(before_nms);
        }
        order.sort_unstable_by(by_logit);
        let mut found = Proposals::default();
        for anchor in order {
            let moved = clip(CODER.decode(anchors[anchor], self.delta(image, anchor)), size);
            if is_nonempty(moved) {
                found.boxes.push(moved);
                found.logits.push(logit(anchor));
                found.anchors.push(anchor);
            }
        }
        let kept = nms_best(&found.boxes, &found.logits, config.nms_iou, after_nms);
        Proposals {
            boxes: kept.iter().map(|i| found.boxes[*i]).collect(),
            logits: kept.iter().map(|i| found.logits[*i]).collect(),
            anchors: kept.iter().map(|i| found.anchors[*i]).collect(),
        }
    }
}

/// What the anchors of an image are. Those that cross its border are anchors as others are.
pub fn label_anchors(anchors: &[Xyxy], objects: &[Xyxy], config: &RpnConfig) -> Labelled {
    let thresholds = Thresholds {
        background_below: config.background_below,
        object_from: config.object_from,
        best_of_each: true,
    };
    label(anchors, objects, thresholds)
}

/// What the anchors of an image should have said.
#[derive(Debug, Clone, Copy)]
pub struct RpnTargets<'a> {
    /// The image's objects.
    pub objects: &'a [Xyxy],
    /// What its anchors are.
    pub labelled: &'a Labelled,
    /// Those that are looked at.
    pub sampled: &'a Sampled,
}

/// The proposal network's two losses: binary cross-entropy over the sampled anchors, and |delta − encode(anchor, object)| over the
/// sampled objects and four coordinates. Both are sums divided by `batch_size_per_image` · images, even if fewer are sampled.
pub fn losses(
    output: &RpnOutput,
    anchors: &[Xyxy],
    targets: &[RpnTargets<'_>],
    config: &RpnConfig,
) -> [Tensor<1>; 2] {
    let shape = output.logits.dims();
    let [images, per_cell, rows, cols] = shape;
    let grid = [per_cell, rows, cols];
    let count: usize = shape.iter().product();
    // Dense, so that nothing is gathered on the device: 1 or −1 for object or background and 0 for what is not looked at.
    let (mut sign, mut wanted) = (vec![0.0f32; count], vec![0.0f32; 4 * count]);
    for (image, target) in targets.iter().enumerate().take(images) {
        for &anchor in &target.sampled.negative {
            sign[logit_at(grid, image, anchor)] = -1.0;
        }
        for &anchor in &target.sampled.positive {
            sign[logit_at(grid, image, anchor)] = 1.0;
            let object = target.objects[target.labelled.matched[anchor]];
            for (c, value) in CODER.encode(anchors[anchor], object).into_iter().enumerate() {
                wanted[delta_at(grid, image, anchor, c)] = value;
            }
        }
    }
    let device = output.logits.device();
    let sign = Tensor::<4>::from_data(TensorData::new(sign, shape), &device.clone().inner());
    let wanted =
        Tensor::<4>::from_data(TensorData::new(wanted, [images, 4 * per_cell, rows, cols]), &device.inner());
    let is_sampled = sign.clone().abs().autodiff();
    let is_object = sign.clone().clamp_min(0.0).reshape([images, per_cell, 1, rows * cols]).autodiff();
    let all = (config.batch_size_per_image * images).max(1) as f64;
    let surprise = log_sigmoid(output.logits.clone() * sign.autodiff()).neg() * is_sampled;
    let off = (output.deltas.clone() - wanted.autodiff()).abs();
    let off = off.reshape([images, per_cell, 4, rows * cols]) * is_object;
    [surprise.sum() / all, off.sum() / all]
}

fn logit_at([anchors, rows, cols]: [usize; 3], image: usize, anchor: usize) -> usize {
    let (cell, of_cell) = (anchor / anchors, anchor % anchors);
    (image * anchors + of_cell) * rows * cols + cell
}

fn delta_at([anchors, rows, cols]: [usize; 3], image: usize, anchor: usize, coordinate: usize) -> usize {
    let (cell, of_cell) = (anchor / anchors, anchor % anchors);
    ((image * anchors + of_cell) * 4 + coordinate) * rows * cols + cell
}

/// Values on the host.
pub(super) fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, TrainError> {
    let values = tensor.try_into_data().map_err(|e| TrainError::Device(e.to_string()))?.try_to_vec::<f32>();
    values.map_err(|e| TrainError::Device(format!("cannot read values back: {e:?}")))
}
