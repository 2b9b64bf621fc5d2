//! Both stages over a batch in training, and over an image in a test.

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_data::{DetectionBatch, Rng};
use ocelli_kernels::roi_align::Roi;
use ocelli_models::Mode;
use ocelli_train::TrainError;

use super::anchors::Anchors;
use super::boxes::Xyxy;
use super::config::{DetectionConfig, RoiConfig, RpnConfig};
use super::network::{C4, FasterRcnn, RegionOutput, RpnOutput};
use super::roi::{self, Found, RegionHost, Regions};
use super::rpn::{self, Proposals, RpnHost, RpnTargets};
use super::sampling::{Labelled, Sampled};

/// Proposals of a test image that the second stage sees at once.
const AT_ONCE: usize = 128;
/// Keep the samples of anchors and of proposals apart from other streams of the same seed.
const ANCHOR_STREAM: u64 = 0x616E_6368;
const REGION_STREAM: u64 = 0x7265_6769;

/// Both stages' constants.
#[derive(Debug, Clone, PartialEq)]
pub struct Stages {
    /// Anchors.
    pub anchors: Anchors,
    /// The first stage's.
    pub rpn: RpnConfig,
    /// The second's.
    pub roi: RoiConfig,
}

impl Stages {
    /// A configuration's, for a trunk with so many pixels a cell.
    pub fn of(config: &DetectionConfig, stride_px: usize) -> Self {
        Self { anchors: config.anchors.anchors(stride_px), rpn: config.rpn.clone(), roi: config.roi.clone() }
    }
}

/// Images on a device with their objects.
#[derive(Debug, Clone)]
pub struct BoxedImages {
    /// `[batch, 3, height, width]`, normalised, 0 beyond an image's own size.
    pub images: Tensor<4>,
    /// Each image's own height and width.
    pub sizes: Vec<[usize; 2]>,
    /// Objects of each image, in its pixels.
    pub objects: Vec<Vec<Xyxy>>,
    /// Their classes.
    pub classes: Vec<Vec<usize>>,
}

impl BoxedImages {
    /// A batch on a device.
    pub fn new(batch: DetectionBatch, device: &Device) -> Self {
        let DetectionBatch { pixels, height, width, sizes, objects, .. } = batch;
        let images = Tensor::from_data(TensorData::new(pixels, [sizes.len(), 3, height, width]), device);
        Self {
            images,
            objects: objects.iter().map(|of| of.iter().map(|o| o.xyxy).collect()).collect(),
            classes: objects.iter().map(|of| of.iter().map(|o| o.class as usize).collect()).collect(),
            sizes,
        }
    }
}

/// Which anchors and proposals the losses look at.
#[derive(Debug, Clone, Copy)]
pub enum Choice<'a> {
    /// Drawn, as a function of these words and the image's place in the batch alone.
    Drawn {
        /// Seed of the run.
        seed: u64,
        /// Step, or whatever else tells batches apart.
        step: u64,
    },
    /// Given for each image: anchors, and of the proposals with the objects appended.
    Given {
        /// Anchors.
        anchors: &'a [Sampled],
        /// Proposals.
        regions: &'a [Sampled],
    },
}

/// What a forward pass in training made of a batch.
#[derive(Debug, Clone)]
pub struct Pass {
    /// The trunk's maps.
    pub maps: Tensor<4>,
    /// What the first stage said.
    pub rpn: RpnOutput,
    /// Anchors of the maps.
    pub anchors: Vec<Xyxy>,
    /// What each image's anchors are.
    pub labelled: Vec<Labelled>,
    /// Those that the loss looks at.
    pub sampled: Vec<Sampled>,
    /// Each image's proposals, its objects not among them.
    pub proposals: Vec<Proposals>,
    /// What is learnt from of the proposals and objects.
    pub regions: Regions,
    /// What the second stage said of them; none where there are none.
    pub output: Option<RegionOutput>,
}

/// Runs both stages in training mode.
///
/// # Errors
/// When values cannot be read from the device.
pub fn train_pass<N: C4>(
    net: &FasterRcnn<N>,
    batch: &BoxedImages,
    stages: &Stages,
    choice: Choice<'_>,
) -> Result<Pass, TrainError> {
    let mode = Mode::Train { seed: 0 };
    let maps = net.network.trunk(batch.images.clone(), mode);
    let rpn = net.rpn.forward(maps.clone());
    let [_, _, rows, cols] = maps.dims();
    let anchors = stages.anchors.grid(rows, cols);
    // While the host labels anchors, the device works.
    let labelled: Vec<Labelled> =
        batch.objects.iter().map(|objects| rpn::label_anchors(&anchors, objects, &stages.rpn)).collect();
    let sampled = labelled.iter().enumerate().map(|(image, l)| choice.anchors(image, l, &stages.rpn)).collect();
    let host = RpnHost::read(&rpn)?;
    let limits = (&stages.rpn, stages.rpn.train_before_nms, stages.rpn.train_after_nms);
    let (mut proposals, mut regions) = (Vec::new(), Regions::default());
    for (image, size) in batch.sizes.iter().enumerate() {
        let found = host.proposals(image, &anchors, *size, limits);
        let (objects, classes) = (&batch.objects[image], &batch.classes[image]);
        let boxes: Vec<Xyxy> = found.boxes.iter().chain(objects).copied().collect();
        let labelled = roi::label_proposals(&boxes, objects, &stages.roi);
        let sampled = choice.regions(image, &labelled, &stages.roi);
        regions.push(image, &boxes, (objects, classes), (&labelled, &sampled), net.classes());
        proposals.push(found);
    }
    let output = (!regions.is_empty()).then(|| {
        let rois: Vec<Roi> = regions
            .images
            .iter()
            .zip(&regions.boxes)
            .map(|(image, xyxy)| Roi { image: *image, xyxy: *xyxy })
            .collect();
        net.judge(maps.clone(), &rois, (stages.roi.cells, stages.roi.sampling_ratio), mode)
    });
    Ok(Pass { maps, rpn, anchors, labelled, sampled, proposals, regions, output })
}

impl Choice<'_> {
    fn anchors(&self, image: usize, labelled: &Labelled, config: &RpnConfig) -> Sampled {
        let (count, share) = (config.batch_size_per_image, config.positive_fraction);
        match self {
            Self::Given { anchors, .. } => anchors.get(image).cloned().unwrap_or_default(),
            Self::Drawn { seed, step } => {
                let mut rng = Rng::from_words(&[ANCHOR_STREAM, *seed, *step, image as u64]);
                Sampled::draw(&labelled.labels, count, share, &mut rng)
            }
        }
    }

    fn regions(&self, image: usize, labelled: &Labelled, config: &RoiConfig) -> Sampled {
        let (count, share) = (config.batch_size_per_image, config.positive_fraction);
        match self {
            Self::Given { regions, .. } => regions.get(image).cloned().unwrap_or_default(),
            Self::Drawn { seed, step } => {
                let mut rng = Rng::from_words(&[REGION_STREAM, *seed, *step, image as u64]);
                Sampled::draw(&labelled.labels, count, share, &mut rng)
            }
        }
    }
}

/// The four losses of a pass; the detector's is their sum.
#[derive(Debug, Clone)]
pub struct Losses {
    /// Objects told from background, over anchors.
    pub rpn_cls: Tensor<1>,
    /// Their places, over anchors.
    pub rpn_loc: Tensor<1>,
    /// Classes, over regions.
    pub cls: Tensor<1>,
    /// Their places, over regions.
    pub box_reg: Tensor<1>,
}

impl Losses {
    /// All four.
    pub fn each(&self) -> [Tensor<1>; 4] {
        [self.rpn_cls.clone(), self.rpn_loc.clone(), self.cls.clone(), self.box_reg.clone()]
    }

    /// Their sum.
    pub fn total(&self) -> Tensor<1> {
        let [a, b, c, d] = self.each();
        a + b + c + d
    }
}

impl Pass {
    /// The losses.
    pub fn losses(&self, batch: &BoxedImages, stages: &Stages) -> Losses {
        let parts = batch.objects.iter().zip(&self.labelled).zip(&self.sampled);
        let targets: Vec<RpnTargets<'_>> =
            parts.map(|((objects, labelled), sampled)| RpnTargets { objects, labelled, sampled }).collect();
        let [rpn_cls, rpn_loc] = rpn::losses(&self.rpn, &self.anchors, &targets, &stages.rpn);
        let [cls, box_reg] = match &self.output {
            Some(output) => roi::losses(output, &self.regions, &stages.roi),
            None => [(); 2].map(|()| rpn_cls.zeros_like()),
        };
        Losses { rpn_cls, rpn_loc, cls, box_reg }
    }
}

/// The objects of one image `[1, 3, height, width]`, the likeliest first, in its pixels.
///
/// # Errors
/// When values cannot be read from the device.
pub fn find<N: C4>(net: &FasterRcnn<N>, image: Tensor<4>, stages: &Stages) -> Result<Vec<Found>, TrainError> {
    let [_, _, height, width] = image.dims();
    let maps = net.network.trunk(image, Mode::Eval);
    let rpn = net.rpn.forward(maps.clone());
    let [_, _, rows, cols] = maps.dims();
    let limits = (&stages.rpn, stages.rpn.test_before_nms, stages.rpn.test_after_nms);
    let size = [height, width];
    let boxes = RpnHost::read(&rpn)?.proposals(0, &stages.anchors.grid(rows, cols), size, limits).boxes;
    let mut host = RegionHost::default();
    let crop = (stages.roi.cells, stages.roi.sampling_ratio);
    for some in boxes.chunks(AT_ONCE) {
        let rois: Vec<Roi> = some.iter().map(|xyxy| Roi { image: 0, xyxy: *xyxy }).collect();
        host.extend(&net.judge(maps.clone(), &rois, crop, Mode::Eval))?;
    }
    Ok(roi::select(&host, &boxes, size, &stages.roi))
}
