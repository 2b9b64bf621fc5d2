//! What a detector finds in held-out images, and what that is worth.

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_data::annotated::BoxedPart;
use ocelli_data::{AnnotatedLoader, DetectionBatch, DetectionTest, LoaderConfig};
use ocelli_eval::detection::{Detection, DetectionSummary, Interpolation, Truth, summary};
use ocelli_train::TrainError;

use super::network::{C4, FasterRcnn};
use super::pass::{Stages, find};
use super::roi::in_original;

/// Score from which detections count in the table of what is taken for what, and are shown in pictures.
pub const SHOWN_SCORE: f32 = 0.5;

/// Detections and objects of the images that could be read, by their numbers in the part.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// What was found.
    pub detections: Vec<Detection>,
    /// What is there.
    pub truths: Vec<Truth>,
    /// Numbers of the images.
    pub images: Vec<usize>,
}

/// Looks at every image of a part, one at a time, each in its own size; `tell` hears how many are done. Unreadable images are left
/// out.
///
/// # Errors
/// When more images are unreadable than the settings allow, or values cannot be read from the device.
pub fn look<N: C4>(
    net: &FasterRcnn<N>,
    stages: &Stages,
    (part, test): (&BoxedPart, &DetectionTest),
    config: LoaderConfig,
    device: &Device,
    tell: &mut dyn FnMut(usize),
) -> Result<Findings, TrainError> {
    // Each image is seen once: none is kept for later.
    let config = LoaderConfig { batch_size: 1, shuffle: false, drop_last: false, cache_bytes: 0, ..config };
    let loader = AnnotatedLoader::new(part.clone(), test.clone(), config)?;
    let mut found = Findings::default();
    for batch in loader.epoch(0, 0) {
        let batch = batch?;
        let Some(&image) = batch.indices.first() else { continue };
        found.detections.extend(detections_of(net, stages, batch, device)?);
        let objects = part.objects.get(image).map_or(&[][..], Vec::as_slice);
        found.truths.extend(objects.iter().map(|o| Truth {
            image,
            class: o.class as usize,
            xyxy: o.xyxy,
            is_difficult_or_crowd: o.is_difficult || o.is_crowd,
            area: o.area_px,
        }));
        found.images.push(image);
        tell(found.images.len());
    }
    if found.images.is_empty() {
        return Err(TrainError::TooFewImages { images: 0, batch: 1 });
    }
    Ok(found)
}

fn detections_of<N: C4>(
    net: &FasterRcnn<N>,
    stages: &Stages,
    batch: DetectionBatch,
    device: &Device,
) -> Result<Vec<Detection>, TrainError> {
    let DetectionBatch { indices, pixels, height, width, originals, .. } = batch;
    let input = Tensor::from_data(TensorData::new(pixels, [indices.len(), 3, height, width]), device);
    let (image, original) = (indices[0], originals[0]);
    let found = in_original(&find(net, input, stages)?, [height, width], original);
    Ok(found.iter().map(|f| Detection { image, class: f.class, score: f.score, xyxy: f.xyxy }).collect())
}

impl Findings {
    /// What they are worth.
    ///
    /// # Errors
    /// For boxes that are not finite or inside out.
    pub fn judge(&self, classes: &[String], interpolation: Interpolation) -> Result<DetectionSummary, TrainError> {
        Ok(summary(&self.detections, &self.truths, classes, self.images.len(), interpolation, SHOWN_SCORE)?)
    }
}
