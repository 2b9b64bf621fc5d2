//! The second stage (Girshick 2015): proposals are told apart by class and moved onto their objects.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Tensor, TensorData};
use ocelli_train::TrainError;

use super::boxes::{BoxCoder, Xyxy, clip, is_nonempty, rescale};
use super::config::RoiConfig;
use super::network::RegionOutput;
use super::nms::nms_per_class;
use super::rpn::read;
use super::sampling::{Labelled, Sampled, Thresholds, label};

/// What proposals are, those of an image with its objects appended. There is nothing between object and background.
pub fn label_proposals(boxes: &[Xyxy], objects: &[Xyxy], config: &RoiConfig) -> Labelled {
    let object_from = config.object_from;
    label(boxes, objects, Thresholds { background_below: object_from, object_from, best_of_each: false })
}

/// Regions that are learnt from, those of the first image first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Regions {
    /// In pixels of the network's input.
    pub boxes: Vec<Xyxy>,
    /// The image of each.
    pub images: Vec<usize>,
    /// The class of each; the number of classes stands for the background.
    pub classes: Vec<usize>,
    /// The object of each; of background any box.
    pub objects: Vec<Xyxy>,
}

impl Regions {
    /// Adds the sampled ones of an image's `boxes`: objects, then background.
    pub fn push(
        &mut self,
        image: usize,
        boxes: &[Xyxy],
        (objects, of_objects): (&[Xyxy], &[usize]),
        (labelled, sampled): (&Labelled, &Sampled),
        background: usize,
    ) {
        for (place, number) in sampled.all().enumerate() {
            let object = labelled.matched[number];
            let is_object = place < sampled.positive.len();
            self.boxes.push(boxes[number]);
            self.images.push(image);
            self.classes.push(if is_object { of_objects[object] } else { background });
            self.objects.push(if is_object { objects[object] } else { boxes[number] });
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.boxes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.boxes.is_empty()
    }
}

/// The second stage's two losses: cross-entropy, the mean over all regions, and |delta of the object's class − encode(box, object)|
/// summed over objects and four coordinates and divided by the number of *all* regions.
pub fn losses(output: &RegionOutput, regions: &Regions, config: &RoiConfig) -> [Tensor<1>; 2] {
    let [count, columns] = output.logits.dims();
    let classes = columns - 1;
    let coder = BoxCoder { weights: config.box_weights };
    let (mut chosen, mut wanted) = (vec![0.0f32; count * columns], vec![0.0f32; 4 * count]);
    for (row, class) in regions.classes.iter().enumerate().take(count) {
        chosen[row * columns + class] = 1.0;
        if *class < classes {
            let delta = coder.encode(regions.boxes[row], regions.objects[row]);
            wanted[4 * row..][..4].copy_from_slice(&delta);
        }
    }
    let device = output.logits.device().inner();
    let chosen = Tensor::<2>::from_data(TensorData::new(chosen, [count, columns]), &device).autodiff();
    let wanted = Tensor::<3>::from_data(TensorData::new(wanted, [count, 1, 4]), &device).autodiff();
    let surprise = (log_softmax(output.logits.clone(), 1) * chosen.clone()).sum().neg();
    let off = (output.deltas.clone().reshape([count, classes, 4]) - wanted).abs();
    // The background has no column there, so its regions count nothing.
    let off = off * chosen.narrow(1, 0, classes).reshape([count, classes, 1]);
    let all = count.max(1) as f64;
    [surprise / all, off.sum() / all]
}

/// Share of the regions, and of those that are objects, whose class comes first: `[1]` each, outside autodiff; of no objects 0.
pub fn accuracies(logits: Tensor<2>, regions: &Regions) -> [Tensor<1>; 2] {
    let logits = logits.inner();
    let [count, columns] = logits.dims();
    let device = logits.device();
    let classes: Vec<i32> = regions.classes.iter().map(|class| *class as i32).collect();
    let objects: Vec<f32> =
        regions.classes.iter().map(|class| f32::from(u8::from(*class + 1 < columns))).collect();
    let of_objects = objects.iter().sum::<f32>().max(1.0);
    let classes = Tensor::<2, burn::tensor::Int>::from_data(TensorData::new(classes, [count, 1]), &device);
    let objects = Tensor::<2>::from_data(TensorData::new(objects, [count, 1]), &device);
    let first = logits.argmax(1).equal(classes).float();
    [first.clone().mean(), (first * objects).sum() / of_objects]
}

/// A found object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// Its class.
    pub class: usize,
    /// Probability of the class.
    pub score: f32,
    /// In pixels of the network's input.
    pub xyxy: Xyxy,
    /// The proposal it was found from.
    pub proposal: usize,
}

/// What the second stage said of the proposals of one image, on the host.
#[derive(Debug, Clone, Default)]
pub struct RegionHost {
    /// `[proposals, classes + 1]`.
    pub logits: Vec<f32>,
    /// `[proposals, 4·classes]`.
    pub deltas: Vec<f32>,
}

impl RegionHost {
    /// Reads logits and deltas from the device, both at once, and adds them to those before.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn extend(&mut self, output: &RegionOutput) -> Result<(), TrainError> {
        let count: usize = output.logits.dims().iter().product();
        let flat = |t: &Tensor<2>| t.clone().inner().flatten::<1>(0, 1);
        let all = read(Tensor::cat(vec![flat(&output.logits), flat(&output.deltas)], 0))?;
        let (logits, deltas) = all.split_at(count);
        self.logits.extend_from_slice(logits);
        self.deltas.extend_from_slice(deltas);
        Ok(())
    }
}

/// The objects of an image of `[height, width]` pixels: softmax, a box for every class moved by the class's own numbers and clipped,
/// those of `score` or less and the background left out, non-maximum suppression within each class, the best `top` of all.
pub fn select(host: &RegionHost, proposals: &[Xyxy], size: [usize; 2], config: &RoiConfig) -> Vec<Found> {
    let columns = if proposals.is_empty() { 1 } else { host.logits.len() / proposals.len() };
    let classes = columns.saturating_sub(1);
    let coder = BoxCoder { weights: config.box_weights };
    let mut found = Vec::new();
    for (proposal, row) in host.logits.chunks_exact(columns.max(1)).enumerate().take(proposals.len()) {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let all: f32 = row.iter().map(|v| (v - most).exp()).sum();
        for (class, logit) in row[..classes].iter().enumerate() {
            let score = (logit - most).exp() / all;
            // What is no number is no object.
            if !matches!(score.partial_cmp(&config.score), Some(std::cmp::Ordering::Greater)) {
                continue;
            }
            let deltas = &host.deltas[4 * (proposal * classes + class)..][..4];
            let moved = coder.decode(proposals[proposal], std::array::from_fn(|c| deltas[c]));
            let xyxy = clip(moved, size);
            if xyxy.iter().all(|v| v.is_finite()) {
                found.push(Found { class, score, xyxy, proposal });
            }
        }
    }
    let boxes: Vec<Xyxy> = found.iter().map(|f| f.xyxy).collect();
    let scores: Vec<f32> = found.iter().map(|f| f.score).collect();
    let of: Vec<usize> = found.iter().map(|f| f.class).collect();
    let kept = nms_per_class(&boxes, &scores, &of, config.nms_iou);
    kept.into_iter().take(config.top).map(|i| found[i]).collect()
}

/// The same in pixels of the image as it is stored; what has no area there is left out.
pub fn in_original(found: &[Found], from: [usize; 2], original: [usize; 2]) -> Vec<Found> {
    let moved = found.iter().map(|f| Found { xyxy: clip(rescale(f.xyxy, from, original), original), ..*f });
    moved.filter(|f| is_nonempty(f.xyxy)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_found_of_nothing_nor_of_what_is_no_number() {
        let config = RoiConfig::default();
        assert_eq!(select(&RegionHost::default(), &[], [10, 10], &config), []);
        let host = RegionHost { logits: vec![f32::NAN, 0.0, 0.0], deltas: vec![0.0; 8] };
        assert_eq!(select(&host, &[[0.0, 0.0, 5.0, 5.0]], [10, 10], &config), []);
        let host = RegionHost { logits: vec![3.0, 0.0, 0.0], deltas: vec![f32::NAN; 8] };
        assert_eq!(select(&host, &[[0.0, 0.0, 5.0, 5.0]], [10, 10], &config), []);
        let host = RegionHost { logits: vec![3.0, 0.0, 0.0], deltas: vec![0.0; 8] };
        let found = select(&host, &[[0.0, 0.0, 5.0, 5.0]], [10, 10], &config);
        assert!(found.len() == 1 || found.len() == 2, "{found:?}");
        assert_eq!((found[0].class, found[0].xyxy), (0, [0.0, 0.0, 5.0, 5.0]));
        let twice = in_original(&found[..1], [10, 10], [20, 40]);
        assert_eq!(twice[0].xyxy, [0.0, 0.0, 20.0, 10.0]);
    }

    #[test]
    fn background_regions_have_no_object() {
        let labelled = Labelled { labels: Vec::new(), matched: vec![1, 0, 0] };
        let sampled = Sampled { positive: vec![0], negative: vec![2, 1] };
        let boxes = [[0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 2.0, 1.0], [2.0, 0.0, 3.0, 1.0]];
        let objects = [[5.0; 4], [0.0, 0.0, 1.0, 2.0]];
        let mut regions = Regions::default();
        regions.push(3, &boxes, (&objects, &[4, 2]), (&labelled, &sampled), 7);
        assert_eq!((regions.classes.as_slice(), regions.images.as_slice()), (&[2, 7, 7][..], &[3; 3][..]));
        assert_eq!(regions.boxes, [boxes[0], boxes[2], boxes[1]]);
        assert_eq!((regions.objects[0], regions.objects[1]), (objects[1], boxes[2]));
    }
}
