//! Views of images with boxes: the short side resized to a size drawn from a list, a flip; the boxes go along.
//!
//! The published protocol of Faster R-CNN on PASCAL VOC. With s = short / shorter side, made smaller where the longer side would
//! pass a limit, sides are ⌊side·s + ½⌋; boxes are scaled by the sides that came out, mirrored by x → width − x, clipped to the
//! image, and dropped where nothing is left of them. Crowds are not trained on; difficult objects are. Images are resized as PIL
//! does, bilinear. Batches mix images of any aspect; grouping them by it would save padding and is not needed.

use serde::{Deserialize, Serialize};

use super::render::normalised;
use super::resize::resized_crop_into;
use super::segmentation::{MAX_SIDE_PX, normalisation};
use super::{CropBox, Filter, IMAGENET_MEAN, IMAGENET_STD, Scratch};
use crate::annotated::ObjectBox;
use crate::{DataError, Image, Rng};

/// Boxes of which a side is not longer than this many pixels are not trained on.
const EMPTY_PX: f32 = 1e-5;

/// Views for training and test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DetectionViews {
    /// Sizes in pixels from which the short side is drawn in training.
    pub short_px: Vec<usize>,
    /// Most pixels of the long side.
    pub max_px: usize,
    /// Probability of mirroring left to right in training.
    pub flip: f64,
    /// Subtracted from levels scaled to 0..1.
    pub mean: [f32; 3],
    /// Divides what is left.
    pub std: [f32; 3],
}

impl Default for DetectionViews {
    /// 480, 512, … 800 pixels, the long side at most 1333, a flip with probability ½.
    fn default() -> Self {
        Self {
            short_px: (480..=800).step_by(32).collect(),
            max_px: 1333,
            flip: 0.5,
            mean: IMAGENET_MEAN,
            std: IMAGENET_STD,
        }
    }
}

/// A view with its boxes.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectionSample {
    /// `[3, height, width]`, normalised.
    pub pixels: Vec<f32>,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Rows and columns of the image as it is stored.
    pub original: [usize; 2],
    /// The objects, boxes and areas in this sample's pixels.
    pub objects: Vec<ObjectBox>,
}

/// Rows and columns of an image whose short side is resized to `short_px`, or less so that the long side has at most `max_px`.
pub fn short_side_size([height, width]: [usize; 2], short_px: usize, max_px: usize) -> [usize; 2] {
    let scale = short_px as f64 / height.min(width).max(1) as f64;
    // The short side is exact, not a product that may round.
    let side = |side: usize, other: usize| if side <= other { short_px as f64 } else { side as f64 * scale };
    let sides = [side(height, width), side(width, height)];
    let longest = sides[0].max(sides[1]);
    let shrink = if longest > max_px as f64 { max_px as f64 / longest } else { 1.0 };
    sides.map(|side| ((side * shrink + 0.5) as usize).max(1))
}

impl DetectionViews {
    /// Checks every setting.
    ///
    /// # Errors
    /// [`DataError::Config`] naming the first setting outside its range.
    pub fn validate(&self) -> Result<(), DataError> {
        let expected = || format!("1 to {MAX_SIDE_PX} pixels");
        if self.short_px.is_empty() {
            return Err(DataError::config("short sides of detection", "at least one size", "none"));
        }
        if let Some(px) = self.short_px.iter().find(|px| !(1..=MAX_SIDE_PX).contains(*px)) {
            return Err(DataError::config("short side of detection", expected(), px));
        }
        if !(1..=MAX_SIDE_PX).contains(&self.max_px) {
            return Err(DataError::config("longest side of detection", expected(), self.max_px));
        }
        normalisation(self.flip, self.mean, self.std)
    }

    /// Draws a view for training. Crowds and boxes without area are left out.
    pub fn draw(
        &self,
        image: &Image,
        objects: &[ObjectBox],
        rng: &mut Rng,
        scratch: &mut Scratch,
    ) -> DetectionSample {
        let which = rng.below(self.short_px.len() as u64) as usize;
        let short_px = self.short_px.get(which).copied().unwrap_or(self.max_px);
        let flip = rng.unit() < self.flip;
        let mut sample = self.view(image, objects, (short_px, flip), scratch);
        sample.objects.retain(|object| {
            let [x1, y1, x2, y2] = object.xyxy;
            !object.is_crowd && x2 - x1 > EMPTY_PX && y2 - y1 > EMPTY_PX
        });
        sample
    }

    /// The view for a test: the short side resized to `short_px`, not mirrored. All objects stay, in their order.
    pub fn at_test(
        &self,
        image: &Image,
        objects: &[ObjectBox],
        short_px: usize,
        scratch: &mut Scratch,
    ) -> DetectionSample {
        self.view(image, objects, (short_px, false), scratch)
    }

    fn view(
        &self,
        image: &Image,
        objects: &[ObjectBox],
        (short_px, flip): (usize, bool),
        scratch: &mut Scratch,
    ) -> DetectionSample {
        let original = [image.height as usize, image.width as usize];
        let size = short_side_size(original, short_px, self.max_px);
        let [height, width] = size;
        let Scratch { planes, resize, .. } = scratch;
        planes.set_size(width, height);
        resized_crop_into(image, CropBox::whole(image), Filter::Bilinear, flip, resize, planes);
        let pixels = normalised(planes, self.mean, self.std);
        let objects = objects.iter().map(|object| moved(object, original, size, flip)).collect();
        DetectionSample { pixels, height, width, original, objects }
    }
}

/// An object of an image after the image was resized from `[rows, columns]` to others and perhaps mirrored.
fn moved(object: &ObjectBox, from: [usize; 2], to: [usize; 2], flip: bool) -> ObjectBox {
    let [down, across] = [0, 1].map(|axis| to[axis] as f64 / from[axis].max(1) as f64);
    let [x1, y1, x2, y2] = object.xyxy.map(f64::from);
    let ordered = |a: f64, b: f64, side: usize| [a.min(b), a.max(b)].map(|at| at.clamp(0.0, side as f64) as f32);
    let (x1, x2) = (x1 * across, x2 * across);
    let (x1, x2) = if flip { (to[1] as f64 - x2, to[1] as f64 - x1) } else { (x1, x2) };
    let [x1, x2] = ordered(x1, x2, to[1]);
    let [y1, y2] = ordered(y1 * down, y2 * down, to[0]);
    let area_px = object.area_px.map(|area| (f64::from(area) * across * down) as f32);
    ObjectBox { xyxy: [x1, y1, x2, y2], area_px, ..*object }
}
