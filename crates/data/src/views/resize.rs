//! Antialiased resize of a box of an image, to the level as PIL does it.
//!
//! With s = in/out and f = max(s, 1), output i has its centre at c = (i + 0.5)·s and takes the inputs from
//! ⌊c − R·f + 0.5⌋ to ⌊c + R·f + 0.5⌋ − 1 (R = 2 for bicubic, 1 for bilinear) with weights k((j + 0.5 − c)/f),
//! normalised to sum 1 and rounded to 22 fractional bits. Columns first into 8 bits, then rows. Inputs outside the box
//! are never touched: the box is cut out first, as `resized_crop` does.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::Window;
use super::planes::Planes;
use crate::Image;

/// Interpolation kernel of a resize.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Cubic convolution with a = −0.5.
    #[default]
    Bicubic,
    /// Triangle.
    Bilinear,
}

/// A box of an image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CropBox {
    /// First row.
    pub top: u32,
    /// First column.
    pub left: u32,
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

impl CropBox {
    /// The whole of an image.
    pub fn whole(image: &Image) -> Self {
        Self { top: 0, left: 0, height: image.height, width: image.width }
    }

    /// The part of the box inside `width`×`height` pixels, at least one pixel.
    pub fn clipped(self, width: u32, height: u32) -> Self {
        let top = self.top.min(height.saturating_sub(1));
        let left = self.left.min(width.saturating_sub(1));
        Self {
            top,
            left,
            height: self.height.clamp(1, (height - top).max(1)),
            width: self.width.clamp(1, (width - left).max(1)),
        }
    }
}

const PRECISION_BITS: u32 = 22;
const HALF: i32 = 1 << (PRECISION_BITS - 1);

impl Filter {
    fn radius(self) -> f64 {
        match self {
            Self::Bicubic => 2.0,
            Self::Bilinear => 1.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Self::Bilinear => (1.0 - x).max(0.0),
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Self::Bicubic => 0.0,
        }
    }
}

/// For each output position of an axis: where its inputs start and their weights.
#[derive(Debug, Clone, Default)]
pub struct Taps {
    /// First inputs.
    pub starts: Vec<usize>,
    /// Where the weights of each output end.
    pub ends: Vec<usize>,
    /// Weights of all outputs, 22 fractional bits.
    pub weights: Vec<i32>,
}

impl Taps {
    /// From `input` to `output` pixels, both at least 1.
    pub fn new(input: usize, output: usize, filter: Filter) -> Self {
        let mut taps = Self::default();
        taps.fill(input, output, 0..output, filter, &mut Vec::new());
        taps
    }

    /// The outputs `some` of an axis from `input` to `output` pixels.
    fn fill(&mut self, input: usize, output: usize, some: Range<usize>, filter: Filter, real: &mut Vec<f64>) {
        let scale = input as f64 / output as f64;
        let stretch = scale.max(1.0);
        let support = filter.radius() * stretch;
        let inverse = 1.0 / stretch;
        self.starts.clear();
        self.ends.clear();
        self.weights.clear();
        for i in some {
            let centre = (i as f64 + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let last = ((centre + support + 0.5) as usize).min(input);
            real.clear();
            real.extend((first..last).map(|j| filter.weight((j as f64 - centre + 0.5) * inverse)));
            let sum: f64 = real.iter().sum();
            self.starts.push(first);
            self.weights.extend(real.iter().map(|&w| {
                let fixed = w / sum * f64::from(1u32 << PRECISION_BITS);
                (fixed + if fixed < 0.0 { -0.5 } else { 0.5 }) as i32
            }));
            self.ends.push(self.weights.len());
        }
    }

    /// (first input, weights) for each output in turn.
    fn iter(&self) -> impl DoubleEndedIterator<Item = (usize, &[i32])> + ExactSizeIterator {
        self.starts.iter().zip(&self.ends).enumerate().map(|(i, (&start, &end))| {
            let begin = if i == 0 { 0 } else { self.ends[i - 1] };
            (start, &self.weights[begin..end])
        })
    }
}

fn to_level(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Buffers a resize needs, kept between calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResizeScratch {
    columns: Taps,
    rows: Taps,
    real: Vec<f64>,
    narrow: Vec<u8>,
    sums: Vec<i32>,
}

/// Cuts `crop` (inside the image) out of `image`, resizes it to `out.width`×`out.height`, mirrors it if asked.
pub(crate) fn resized_crop_into(
    image: &Image,
    crop: CropBox,
    filter: Filter,
    flip: bool,
    scratch: &mut ResizeScratch,
    out: &mut Planes,
) {
    let (width, height) = (out.width, out.height);
    let ResizeScratch { columns, rows, real, .. } = scratch;
    columns.fill(crop.width as usize, width, 0..width, filter, real);
    rows.fill(crop.height as usize, height, 0..height, filter, real);
    resample(image, crop, flip, scratch, out);
}

/// Cuts `crop` (inside the image) out of `image`, resizes it to the window's canvas and mirrors that if asked: the window of
/// it, which lies within the canvas and is of the size of `out`.
pub(crate) fn resized_window_into(
    image: &Image,
    crop: CropBox,
    window: Window,
    (filter, flip): (Filter, bool),
    scratch: &mut ResizeScratch,
    out: &mut Planes,
) {
    let canvas = [window.canvas_width, window.canvas_height].map(|n| n as usize);
    let left = window.left as usize;
    let left = if flip { canvas[0] - out.width - left } else { left };
    resized_part_into(image, crop, canvas, [left, window.top as usize], (filter, flip), scratch, out);
}

/// Cuts `crop` (inside the image) out of `image` and resizes it to a canvas of so many columns and rows. What is made is the part
/// of it that begins at this column and row and is of the size of `out`, mirrored if asked; it lies within the canvas.
pub(crate) fn resized_part_into(
    image: &Image,
    crop: CropBox,
    [canvas_width, canvas_height]: [usize; 2],
    [left, top]: [usize; 2],
    (filter, flip): (Filter, bool),
    scratch: &mut ResizeScratch,
    out: &mut Planes,
) {
    let ResizeScratch { columns, rows, real, .. } = scratch;
    columns.fill(crop.width as usize, canvas_width, left..left + out.width, filter, real);
    rows.fill(crop.height as usize, canvas_height, top..top + out.height, filter, real);
    resample(image, crop, flip, scratch, out);
}

/// Makes the outputs that `scratch` has weights for.
fn resample(image: &Image, crop: CropBox, flip: bool, scratch: &mut ResizeScratch, out: &mut Planes) {
    let (width, height) = (out.width, out.height);
    let in_width = crop.width as usize;
    let ResizeScratch { columns, rows, narrow, sums, .. } = scratch;
    // The input lines that any output needs: all of them unless the outputs are a window.
    let first = rows.starts.first().copied().unwrap_or(0);
    let last = rows.iter().map(|(start, weights)| start + weights.len()).max().unwrap_or(0);

    // Columns: packed pixels in, planes [3, lines, width] out. Mirroring costs nothing here.
    let plane = (last - first) * width;
    narrow.resize(plane * 3, 0);
    let stride = image.width as usize * 3;
    let (red, rest) = narrow.split_at_mut(plane);
    let (green, blue) = rest.split_at_mut(plane);
    let lines = red.chunks_exact_mut(width).zip(green.chunks_exact_mut(width));
    for (y, ((red, green), blue)) in lines.zip(blue.chunks_exact_mut(width)).enumerate() {
        let begin = (crop.top as usize + first + y) * stride + crop.left as usize * 3;
        let line = &image.data[begin..begin + in_width * 3];
        for (x, (start, weights)) in columns.iter().enumerate() {
            let mut sum = [HALF; 3];
            let pixels = line[start * 3..(start + weights.len()) * 3].chunks_exact(3);
            for (pixel, &weight) in pixels.zip(weights) {
                for (sum, &value) in sum.iter_mut().zip(pixel) {
                    *sum += weight * i32::from(value);
                }
            }
            let x = if flip { width - 1 - x } else { x };
            (red[x], green[x], blue[x]) = (to_level(sum[0]), to_level(sum[1]), to_level(sum[2]));
        }
    }

    // Rows: whole lines at a time.
    sums.resize(width, 0);
    for (plane_in, plane_out) in narrow.chunks_exact(plane).zip(out.data.chunks_exact_mut(width * height)) {
        for ((start, weights), line_out) in rows.iter().zip(plane_out.chunks_exact_mut(width)) {
            sums.fill(HALF);
            let lines = plane_in[(start - first) * width..].chunks_exact(width);
            for (line, &weight) in lines.zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(line) {
                    *sum += weight * i32::from(value);
                }
            }
            for (out, &sum) in line_out.iter_mut().zip(sums.iter()) {
                *out = to_level(sum);
            }
        }
    }
}

/// The pixels of a box that lies within the image.
fn cut(image: &Image, crop: CropBox) -> Image {
    let [left, top, width, height] = [crop.left, crop.top, crop.width, crop.height].map(|n| n as usize);
    let rows = image.data.chunks_exact(3 * image.width as usize).skip(top).take(height);
    let data = rows.flat_map(|row| &row[3 * left..3 * (left + width)]).copied().collect();
    Image { width: crop.width, height: crop.height, data }
}

/// Cuts `crop` out of `image` and resizes it to `width`×`height` pixels, as torchvision's `resized_crop` on a PIL image.
/// The box is clipped to the image, and sides are at least one pixel.
pub fn resized_crop(image: &Image, crop: CropBox, width: u32, height: u32, filter: Filter) -> Image {
    let clipped = crop.clipped(image.width, image.height);
    if (clipped.width, clipped.height) == (width, height) {
        // Every filter gives the pixel itself there.
        return cut(image, clipped);
    }
    let mut out = Planes::default();
    out.set_size(width.max(1) as usize, height.max(1) as usize);
    let crop = crop.clipped(image.width, image.height);
    resized_crop_into(image, crop, filter, false, &mut ResizeScratch::default(), &mut out);
    out.to_image()
}
