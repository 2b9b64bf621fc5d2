//! Views of images with a class for every pixel.
//!
//! In training: resize to a scale times a random ratio, keeping the aspect; a random crop, drawn again while one class fills too
//! much of it; a flip; photometric distortion; normalise; pad. In a test: resize, normalise; the labels stay as they are, and the
//! network's answer is resized to them. (The published protocol of FCN on PASCAL VOC and Cityscapes.)
//!
//! Images are resized as PIL does, bilinear and antialiased. Labels are never mixed: pixel i of n shows pixel ⌊i·m/n⌋ of m, as
//! OpenCV's nearest does.

use serde::{Deserialize, Serialize};

use super::distortion::Distortion;
use super::render::normalised;
use super::resize::{resized_crop_into, resized_part_into};
use super::{CropBox, Filter, IMAGENET_MEAN, IMAGENET_STD, Scratch};
use crate::annotated::{IGNORED, LabelMap};
use crate::{DataError, Image, Rng};

/// Crops that are looked at; if one class fills too much of all of them, one more is drawn and taken as it is.
const CROP_TRIES: usize = 10;

/// Largest side of anything that is made, in pixels.
pub(super) const MAX_SIDE_PX: usize = 8192;

/// Views for training. The default is the published recipe of PASCAL VOC; Cityscapes has a scale of 2049 × 1025 and crops of 769.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SegmentationViews {
    /// Long and short side in pixels that an image is fitted into, see [`fitted_size`], after both were multiplied by a ratio.
    pub scale_px: [usize; 2],
    /// Smallest and largest ratio, drawn uniformly.
    pub ratio: [f64; 2],
    /// Rows and columns of a sample. Smaller images are padded right and below.
    pub crop_px: [usize; 2],
    /// A crop is drawn again while one class has at least this share of its labelled pixels; 1 takes every crop.
    pub max_class_share: f64,
    /// Probability of mirroring left to right.
    pub flip: f64,
    /// Whether colours are distorted: brightness ±32 levels, contrast and saturation by 0.5 to 1.5, hue by ±36 degrees, each
    /// with probability ½.
    pub photometric: bool,
    /// Subtracted from levels scaled to 0..1.
    pub mean: [f32; 3],
    /// Divides what is left.
    pub std: [f32; 3],
}

impl Default for SegmentationViews {
    fn default() -> Self {
        Self {
            scale_px: [2048, 512],
            ratio: [0.5, 2.0],
            crop_px: [512, 512],
            max_class_share: 0.75,
            flip: 0.5,
            photometric: true,
            mean: IMAGENET_MEAN,
            std: IMAGENET_STD,
        }
    }
}

/// A view with its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentationSample {
    /// `[3, height, width]`, normalised; 0 where the image ends before the sample.
    pub pixels: Vec<f32>,
    /// `[height, width]`; [`IGNORED`] there.
    pub labels: Vec<u8>,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// Views for a test: the whole image.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SegmentationTest {
    /// Long and short side in pixels that an image is fitted into, see [`fitted_size`]; `None` leaves its size.
    pub scale_px: Option<[usize; 2]>,
    /// Subtracted from levels scaled to 0..1.
    pub mean: [f32; 3],
    /// Divides what is left.
    pub std: [f32; 3],
}

impl Default for SegmentationTest {
    fn default() -> Self {
        Self { scale_px: Some([2048, 512]), mean: IMAGENET_MEAN, std: IMAGENET_STD }
    }
}

/// A whole image as a network takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct TestView {
    /// `[3, height, width]`, normalised.
    pub pixels: Vec<f32>,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// Rows and columns of an image resized to lie within a long and a short side and to touch one: ⌊side·s + ½⌋, at least 1, with
/// s = min(long / longer side, short / shorter side).
pub fn fitted_size([height, width]: [usize; 2], scale_px: [usize; 2]) -> [usize; 2] {
    let ratio = |px: usize, side: usize| px as f64 / side.max(1) as f64;
    let long = ratio(scale_px[0].max(scale_px[1]), height.max(width));
    let short = ratio(scale_px[0].min(scale_px[1]), height.min(width));
    let scale = long.min(short);
    [height, width].map(|side| ((side as f64 * scale + 0.5) as usize).max(1))
}

/// A part of a resized image.
#[derive(Debug, Clone, Copy)]
struct Part {
    top: usize,
    left: usize,
    height: usize,
    width: usize,
}

impl SegmentationViews {
    /// Checks every setting.
    ///
    /// # Errors
    /// [`DataError::Config`] naming the first setting outside its range.
    pub fn validate(&self) -> Result<(), DataError> {
        sides("scale of segmentation", &self.scale_px)?;
        sides("crop of segmentation", &self.crop_px)?;
        let [low, high] = self.ratio;
        if !(low > 0.0 && low <= high && high <= 16.0) {
            let expected = "low and high with 0 < low <= high <= 16";
            return Err(DataError::config("ratio of segmentation", expected, format!("{low} and {high}")));
        }
        if !(self.max_class_share > 0.0 && self.max_class_share <= 1.0) {
            return Err(DataError::config("largest share of a class", "above 0, at most 1", self.max_class_share));
        }
        normalisation(self.flip, self.mean, self.std)
    }

    /// Draws a view of an image and its labels. A label that the map lacks is [`IGNORED`].
    pub fn draw(&self, image: &Image, map: &LabelMap, rng: &mut Rng, scratch: &mut Scratch) -> SegmentationSample {
        let ratio = rng.uniform(self.ratio[0], self.ratio[1]);
        let scale = self.scale_px.map(|px| ((px as f64 * ratio) as usize).max(1));
        let canvas = fitted_size([image.height as usize, image.width as usize], scale);
        let (part, labels) = self.crop(map, canvas, rng);
        let flip = rng.unit() < self.flip;
        let distortion = if self.photometric { Distortion::draw(rng) } else { Distortion::default() };

        let Scratch { planes, resize, floats, .. } = scratch;
        planes.set_size(part.width, part.height);
        let (corner, size) = ([part.left, part.top], [canvas[1], canvas[0]]);
        let how = (Filter::Bilinear, flip);
        resized_part_into(image, CropBox::whole(image), size, corner, how, resize, planes);
        floats.fill_from(planes);
        distortion.apply(floats);
        self.padded(part, &floats.data, &labels, flip)
    }

    /// Draws crops of the resized image until no class fills too much of one: the crop, its labels `[height, width]`.
    fn crop(&self, map: &LabelMap, canvas: [usize; 2], rng: &mut Rng) -> (Part, Vec<u8>) {
        let [height, width] = [0, 1].map(|axis| self.crop_px[axis].max(1).min(canvas[axis]));
        let mut draw = || {
            let mut first = |side: usize, of: usize| rng.below((of - side) as u64 + 1) as usize;
            let (top, left) = (first(height, canvas[0]), first(width, canvas[1]));
            let part = Part { top, left, height, width };
            (part, nearest_labels(map, canvas, part))
        };
        let mut drawn = draw();
        if self.max_class_share >= 1.0 {
            return drawn;
        }
        for _ in 0..CROP_TRIES {
            if largest_share(&drawn.1).is_some_and(|share| share < self.max_class_share) {
                break;
            }
            drawn = draw();
        }
        drawn
    }

    /// Normalises colours in 0..1, `[3, part.height, part.width]`, mirrors the labels if asked (the colours are) and pads both.
    fn padded(&self, part: Part, colours: &[f32], labels: &[u8], flip: bool) -> SegmentationSample {
        let [height, width] = self.crop_px.map(|side| side.max(1));
        let mut pixels = vec![0.0; 3 * height * width];
        let planes = pixels.chunks_exact_mut(height * width).zip(colours.chunks_exact(part.height * part.width));
        for ((out, plane), (mean, std)) in planes.zip(self.mean.into_iter().zip(self.std)) {
            for (out, line) in out.chunks_exact_mut(width).zip(plane.chunks_exact(part.width)) {
                for (out, &x) in out.iter_mut().zip(line) {
                    *out = (x - mean) / std;
                }
            }
        }
        let mut out = vec![IGNORED; height * width];
        for (out, line) in out.chunks_exact_mut(width).zip(labels.chunks_exact(part.width)) {
            let out = &mut out[..part.width];
            out.copy_from_slice(line);
            if flip {
                out.reverse();
            }
        }
        SegmentationSample { pixels, labels: out, height, width }
    }
}

impl SegmentationTest {
    /// Checks every setting.
    ///
    /// # Errors
    /// [`DataError::Config`] naming the first setting outside its range.
    pub fn validate(&self) -> Result<(), DataError> {
        if let Some(scale_px) = &self.scale_px {
            sides("scale of segmentation", scale_px)?;
        }
        normalisation(0.0, self.mean, self.std)
    }

    /// The whole image, resized and normalised.
    pub fn view(&self, image: &Image, scratch: &mut Scratch) -> TestView {
        let stored = [image.height as usize, image.width as usize];
        let [height, width] = self.scale_px.map_or(stored, |scale_px| fitted_size(stored, scale_px));
        let Scratch { planes, resize, .. } = scratch;
        planes.set_size(width, height);
        resized_crop_into(image, CropBox::whole(image), Filter::Bilinear, false, resize, planes);
        TestView { pixels: normalised(planes, self.mean, self.std), height, width }
    }
}

/// The labels of a part of a map that was resized to `[rows, columns]` by taking the nearest.
fn nearest_labels(map: &LabelMap, [rows, columns]: [usize; 2], part: Part) -> Vec<u8> {
    // 64 bits: sides multiply, and a browser's words have 32.
    let at = |i: usize, stored: usize, resized: usize| (i as u64 * stored as u64 / resized.max(1) as u64) as usize;
    let across: Vec<usize> = (part.left..part.left + part.width).map(|x| at(x, map.width, columns)).collect();
    let mut labels = Vec::with_capacity(part.height * part.width);
    for y in part.top..part.top + part.height {
        let begin = at(y, map.height, rows) * map.width;
        labels.extend(across.iter().map(|&x| map.labels.get(begin + x).copied().unwrap_or(IGNORED)));
    }
    labels
}

/// Share of the commonest class in the labelled pixels; `None` where none is labelled.
fn largest_share(labels: &[u8]) -> Option<f64> {
    let mut counts = [0usize; 256];
    for &label in labels {
        counts[usize::from(label)] += 1;
    }
    counts[usize::from(IGNORED)] = 0;
    let labelled: usize = counts.iter().sum();
    let most = counts.iter().copied().max().unwrap_or(0);
    (labelled > 0).then(|| most as f64 / labelled as f64)
}

/// Checks sides in pixels.
fn sides(what: &str, px: &[usize]) -> Result<(), DataError> {
    match px.iter().find(|px| !(1..=MAX_SIDE_PX).contains(*px)) {
        Some(px) => Err(DataError::config(what, format!("1 to {MAX_SIDE_PX} pixels"), px)),
        None => Ok(()),
    }
}

/// Checks what all these views have.
pub(super) fn normalisation(flip: f64, mean: [f32; 3], std: [f32; 3]) -> Result<(), DataError> {
    if !(0.0..=1.0).contains(&flip) {
        return Err(DataError::config("flip probability", "a probability from 0 to 1", flip));
    }
    if !mean.iter().all(|x| x.is_finite()) {
        return Err(DataError::config("mean of the channels", "numbers", format!("{mean:?}")));
    }
    if !std.iter().all(|x| x.is_finite() && *x > 0.0) {
        return Err(DataError::config("standard deviation of the channels", "above 0", format!("{std:?}")));
    }
    Ok(())
}
