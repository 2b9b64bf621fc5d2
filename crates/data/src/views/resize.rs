//! Antialiased resize of a box of an image, to the level as PIL does it.
//!
//! With s = in/out and f = max(s, 1), output i has its centre at c = (i + 0.5)·s and takes the inputs from
//! ⌊c − R·f + 0.5⌋ to ⌊c + R·f + 0.5⌋ − 1 (R = 2 for bicubic, 1 for bilinear) with weights k((j + 0.5 − c)/f),
//! normalised to sum 1 and rounded to 22 fractional bits. Columns first into 8 bits, then rows. Inputs outside the box
//! are never touched: the box is cut out first, as `resized_crop` does.

use std::ops::Range;

use ocelli_simd::pixels::{Weights, weighted_sums};
use ocelli_simd::simd_fn;
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

    fn all(&self) -> Weights<'_> {
        Weights { starts: &self.starts, ends: &self.ends, weights: &self.weights }
    }

    /// (first input, weights) for each output in turn.
    fn iter(&self) -> impl DoubleEndedIterator<Item = (usize, &[i32])> + ExactSizeIterator {
        self.starts.iter().zip(&self.ends).enumerate().map(|(i, (&start, &end))| {
            let begin = if i == 0 { 0 } else { self.ends[i - 1] };
            (start, &self.weights[begin..end])
        })
    }
}

#[inline(always)]
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
    let ResizeScratch { columns, rows, narrow, .. } = scratch;
    // The input lines that any output needs: all of them unless the outputs are a window.
    let first = rows.starts.first().copied().unwrap_or(0);
    let last = rows.iter().map(|(start, weights)| start + weights.len()).max().unwrap_or(0);

    // Columns: packed pixels in, planes [3, lines, width] out.
    let plane = (last - first) * width;
    narrow.resize(plane * 3, 0);
    let [top, left] = [crop.top, crop.left].map(|n| n as usize);
    let cols = [left, left + crop.width as usize];
    pass_columns(image, [top + first, top + last], cols, columns, flip, narrow);
    for (plane_in, plane_out) in narrow.chunks_exact(plane).zip(out.data.chunks_exact_mut(width * height)) {
        pass_rows(plane_in, first, rows, width, plane_out);
    }
}

simd_fn! {
    /// Resizes along the rows of an image, some of its lines and columns: packed pixels to planes. Mirroring costs
    /// nothing here.
    fn pass_columns<L>(
        image: &Image,
        lines: [usize; 2],
        cols: [usize; 2],
        columns: &Taps,
        flip: bool,
        out: &mut [u8],
    ) {
        let (width, stride) = (columns.starts.len(), image.width as usize * 3);
        let (red, rest) = out.split_at_mut((lines[1] - lines[0]) * width);
        let (green, blue) = rest.split_at_mut(red.len());
        let outputs = red.chunks_exact_mut(width).zip(green.chunks_exact_mut(width)).zip(blue.chunks_exact_mut(width));
        // Four numbers of a pixel are a vector, three are not. The fourth is summed up and passed over.
        let (mut pixels, mut sums) = (vec![[0u8; 4]; cols[1] - cols[0]], vec![[0i32; 4]; width]);
        for (y, ((red, green), blue)) in (lines[0]..lines[1]).zip(outputs) {
            let line = &image.data[y * stride + cols[0] * 3..y * stride + cols[1] * 3];
            for (pixel, packed) in pixels.iter_mut().zip(line.chunks_exact(3)) {
                *pixel = [packed[0], packed[1], packed[2], 0];
            }
            weighted_sums(&pixels, columns.all(), HALF, &mut sums);
            if flip {
                sums.reverse();
            }
            for (((sums, red), green), blue) in sums.iter().zip(red).zip(green).zip(blue) {
                (*red, *green, *blue) = (to_level(sums[0]), to_level(sums[1]), to_level(sums[2]));
            }
        }
    }
}

/// Columns of a plane that are worked on at a time.
const TOGETHER: usize = 16;

simd_fn! {
    /// Resizes along the columns of a plane, whose first line has the number `first`.
    fn pass_rows<L>(plane: &[u8], first: usize, rows: &Taps, width: usize, out: &mut [u8]) {
        for ((start, weights), out) in rows.iter().zip(out.chunks_exact_mut(width)) {
            let lines = &plane[(start - first) * width..];
            let (blocks, rest) = out.as_chunks_mut::<TOGETHER>();
            let left = blocks.len() * TOGETHER;
            for (block, from) in blocks.iter_mut().zip((0..).step_by(TOGETHER)) {
                let mut sums = [HALF; TOGETHER];
                for (line, weight) in lines.chunks_exact(width).zip(weights) {
                    let Some(values) = line[from..].first_chunk::<TOGETHER>() else { break };
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum += weight * i32::from(*value);
                    }
                }
                for (level, sum) in block.iter_mut().zip(sums) {
                    *level = to_level(sum);
                }
            }
            for (x, level) in (left..).zip(rest) {
                let column = lines.chunks_exact(width).zip(weights);
                *level = to_level(column.fold(HALF, |sum, (line, weight)| sum + weight * i32::from(line[x])));
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
