//! The fixed transform of evaluation: resize the short side, cut out the centre.

use serde::{Deserialize, Serialize};

use super::{CropBox, Filter, IMAGENET_MEAN, IMAGENET_STD, normalise_into, resized_crop};
use crate::Image;

/// PIL bicubic resize of the short side, then a centre crop, then normalisation. Both sizes `None` leave the image as
/// it is. The published protocol is 256 and 224.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvalTransform {
    /// The short side becomes this many pixels, the long side ⌊long·size/short⌋.
    pub resize_short_px: Option<u32>,
    /// Side of the centre crop in pixels; where the image is smaller, the rest is black.
    pub crop_px: Option<u32>,
    /// After that, images whose long side is longer are made smaller, to this many pixels.
    pub max_side_px: Option<u32>,
    /// Subtracted from levels scaled to 0..1.
    pub mean: [f32; 3],
    /// Divides what is left.
    pub std: [f32; 3],
}

impl Default for EvalTransform {
    fn default() -> Self {
        Self {
            resize_short_px: Some(256),
            crop_px: Some(224),
            max_side_px: None,
            mean: IMAGENET_MEAN,
            std: IMAGENET_STD,
        }
    }
}

impl EvalTransform {
    /// Resizes and crops; the pixels stay 8 bits.
    pub fn apply(&self, image: &Image) -> Image {
        let resized = self.resize_short_px.and_then(|size| resize_short(image, size.max(1)));
        let cut = match self.crop_px {
            Some(size) => centre_crop(resized.as_ref().unwrap_or(image), size.max(1)),
            None => resized.unwrap_or_else(|| image.clone()),
        };
        match self.max_side_px {
            Some(side) => shrunk(cut, side.max(1)),
            None => cut,
        }
    }

    /// Resizes, crops and normalises: (`[3, height, width]`, width, height).
    pub fn apply_normalised(&self, image: &Image) -> (Vec<f32>, u32, u32) {
        let image = self.apply(image);
        let mut out = vec![0.0; image.data.len()];
        normalise_into(&image, self.mean, self.std, &mut out);
        (out, image.width, image.height)
    }
}

/// `None` when the short side has the size already.
fn resize_short(image: &Image, size: u32) -> Option<Image> {
    let (short, long) = (image.width.min(image.height), image.width.max(image.height));
    if short == size || short == 0 {
        return None;
    }
    let long = (u64::from(size) * u64::from(long) / u64::from(short)) as u32;
    let (width, height) = if image.width <= image.height { (size, long) } else { (long, size) };
    Some(resized_crop(image, CropBox::whole(image), width, height, Filter::Bicubic))
}

/// The long side at most so many pixels.
fn shrunk(image: Image, most: u32) -> Image {
    let long = image.width.max(image.height);
    if long <= most {
        return image;
    }
    let side = |s: u32| ((u64::from(s) * u64::from(most) / u64::from(long)) as u32).max(1);
    resized_crop(&image, CropBox::whole(&image), side(image.width), side(image.height), Filter::Bicubic)
}

fn centre_crop(image: &Image, size: u32) -> Image {
    // torchvision rounds the offset half to even, and pads with zeros where the image is too small.
    let offset = |side: u32| ((f64::from(side) - f64::from(size)) / 2.0).round_ties_even() as i64;
    let padding = |side: u32| i64::from(size.saturating_sub(side) / 2);
    let place = |side: u32| if side < size { -padding(side) } else { offset(side) };
    let (left, top) = (place(image.width), place(image.height));
    let mut out = Image::filled(size, size, [0; 3]);
    let first = (-left).max(0) as usize;
    let columns = (i64::from(image.width) - left).min(i64::from(size)) as usize - first;
    for (y, line) in out.data.chunks_exact_mut(size as usize * 3).enumerate() {
        let row = y as i64 + top;
        if row < 0 || row >= i64::from(image.height) {
            continue;
        }
        let begin = (row as usize * image.width as usize + (first as i64 + left) as usize) * 3;
        line[first * 3..(first + columns) * 3].copy_from_slice(&image.data[begin..begin + columns * 3]);
    }
    out
}
