//! What the loader makes of images with boxes, in training and in a test, and of images with labels, in training.

use super::super::samples::Stored;
use super::Draws;
use crate::annotated::{BoxedPart, LabelMap, MaskedPart, ObjectBox};
use crate::views::{
    DetectionBatch, DetectionSample, DetectionViews, SegmentationBatch, SegmentationSample, SegmentationViews,
};
use crate::{DataError, Image, Rng, Scratch};

impl Stored for BoxedPart {
    type Sample = Image;

    fn count(&self) -> usize {
        self.source.len()
    }

    fn name_of(&self, index: usize) -> String {
        self.source.name(index)
    }

    fn read(&self, index: usize) -> Result<Image, DataError> {
        self.source.load(index)
    }

    fn bytes(sample: &Image) -> usize {
        sample.data.len()
    }
}

impl Stored for MaskedPart {
    type Sample = (Image, LabelMap);

    fn count(&self) -> usize {
        self.source.len()
    }

    fn name_of(&self, index: usize) -> String {
        self.source.name(index)
    }

    fn read(&self, index: usize) -> Result<(Image, LabelMap), DataError> {
        let image = self.source.load(index)?;
        let map = self.maps.label_map(index)?;
        let (width, height) = (image.width as usize, image.height as usize);
        if (map.width, map.height, map.labels.len()) != (width, height, width * height) {
            let found = format!("{}x{} with {} labels", map.width, map.height, map.labels.len());
            let reason = format!("expected labels for its {width}x{height} pixels, found a map of {found}");
            return Err(DataError::Decode { name: self.source.name(index), reason });
        }
        Ok((image, map))
    }

    fn bytes((image, map): &(Image, LabelMap)) -> usize {
        image.data.len() + map.labels.len()
    }
}

/// The views of a test of detection, see [`DetectionViews::at_test`].
#[derive(Debug, Clone, PartialEq)]
pub struct DetectionTest {
    /// Limit of the long side, and normalisation.
    pub views: DetectionViews,
    /// The short side becomes this many pixels. Published: 800.
    pub short_px: usize,
}

/// Boxes must be there for every image.
fn boxes_fit(part: &BoxedPart) -> Result<(), DataError> {
    let (images, lists) = (part.source.len(), part.objects.len());
    if images == lists {
        return Ok(());
    }
    Err(DataError::config("objects of a data set", format!("a list for each of {images} images"), lists))
}

fn objects_of(part: &BoxedPart, index: usize) -> &[ObjectBox] {
    part.objects.get(index).map(Vec::as_slice).unwrap_or_default()
}

impl Draws for DetectionViews {
    type Data = BoxedPart;
    type Sample = DetectionSample;
    type Batch = DetectionBatch;
    const REPLACED: bool = true;

    fn check(&self, part: &BoxedPart) -> Result<(), DataError> {
        self.validate()?;
        boxes_fit(part)
    }

    fn make(
        &self,
        part: &BoxedPart,
        index: usize,
        image: &Image,
        rng: &mut Rng,
        scratch: &mut Scratch,
    ) -> DetectionSample {
        self.draw(image, objects_of(part, index), rng, scratch)
    }

    fn batch(samples: Vec<(usize, DetectionSample)>) -> DetectionBatch {
        DetectionBatch::new(samples)
    }
}

impl Draws for DetectionTest {
    type Data = BoxedPart;
    type Sample = DetectionSample;
    type Batch = DetectionBatch;
    const REPLACED: bool = false;

    fn check(&self, part: &BoxedPart) -> Result<(), DataError> {
        DetectionViews { short_px: vec![self.short_px], ..self.views.clone() }.validate()?;
        boxes_fit(part)
    }

    fn make(
        &self,
        part: &BoxedPart,
        index: usize,
        image: &Image,
        _rng: &mut Rng,
        scratch: &mut Scratch,
    ) -> DetectionSample {
        self.views.at_test(image, objects_of(part, index), self.short_px, scratch)
    }

    fn batch(samples: Vec<(usize, DetectionSample)>) -> DetectionBatch {
        DetectionBatch::new(samples)
    }
}

impl Draws for SegmentationViews {
    type Data = MaskedPart;
    type Sample = SegmentationSample;
    type Batch = SegmentationBatch;
    const REPLACED: bool = true;

    fn check(&self, _part: &MaskedPart) -> Result<(), DataError> {
        self.validate()
    }

    fn make(
        &self,
        _part: &MaskedPart,
        _index: usize,
        (image, map): &(Image, LabelMap),
        rng: &mut Rng,
        scratch: &mut Scratch,
    ) -> SegmentationSample {
        self.draw(image, map, rng, scratch)
    }

    fn batch(samples: Vec<(usize, SegmentationSample)>) -> SegmentationBatch {
        SegmentationBatch::new(samples)
    }
}
