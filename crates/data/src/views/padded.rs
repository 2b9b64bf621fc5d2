//! Batches of samples of several sizes: padded right and below to the largest.

use super::{DetectionSample, SegmentationSample};
use crate::annotated::{IGNORED, ObjectBox};

/// A batch of images with boxes.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectionBatch {
    /// The samples shown; where one was unreadable, the one shown in its place.
    pub indices: Vec<usize>,
    /// `[n, 3, height, width]`, normalised; 0 beyond an image's own size.
    pub pixels: Vec<f32>,
    /// Rows, those of the highest image.
    pub height: usize,
    /// Columns, those of the widest.
    pub width: usize,
    /// Each image's own rows and columns.
    pub sizes: Vec<[usize; 2]>,
    /// Rows and columns of each image as it is stored.
    pub originals: Vec<[usize; 2]>,
    /// The objects of each image, boxes in the batch's pixels.
    pub objects: Vec<Vec<ObjectBox>>,
}

/// A batch of images with a class for every pixel.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentationBatch {
    /// The samples shown; where one was unreadable, the one shown in its place.
    pub indices: Vec<usize>,
    /// `[n, 3, height, width]`, normalised; 0 beyond a sample.
    pub pixels: Vec<f32>,
    /// `[n, height, width]`; [`IGNORED`] beyond a sample.
    pub labels: Vec<u8>,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl DetectionBatch {
    /// Puts samples, each with its number in the data set, into a batch.
    pub fn new(samples: Vec<(usize, DetectionSample)>) -> Self {
        let [height, width] = largest(samples.iter().map(|(_, sample)| [sample.height, sample.width]));
        let row = 3 * height * width;
        let mut batch = Self {
            indices: Vec::new(),
            pixels: vec![0.0; samples.len() * row],
            height,
            width,
            sizes: Vec::new(),
            originals: Vec::new(),
            objects: Vec::new(),
        };
        for ((index, sample), out) in samples.into_iter().zip(batch.pixels.chunks_exact_mut(row.max(1))) {
            let size = [sample.height, sample.width];
            paste(&sample.pixels, size, out, [height, width]);
            batch.indices.push(index);
            batch.sizes.push(size);
            batch.originals.push(sample.original);
            batch.objects.push(sample.objects);
        }
        batch
    }
}

impl SegmentationBatch {
    /// Puts samples, each with its number in the data set, into a batch.
    pub fn new(samples: Vec<(usize, SegmentationSample)>) -> Self {
        let [height, width] = largest(samples.iter().map(|(_, sample)| [sample.height, sample.width]));
        let area = height * width;
        let mut pixels = vec![0.0; samples.len() * 3 * area];
        let mut labels = vec![IGNORED; samples.len() * area];
        let mut indices = Vec::new();
        let outs = pixels.chunks_exact_mut((3 * area).max(1)).zip(labels.chunks_exact_mut(area.max(1)));
        for ((index, sample), (pixels, labels)) in samples.into_iter().zip(outs) {
            let size = [sample.height, sample.width];
            paste(&sample.pixels, size, pixels, [height, width]);
            paste(&sample.labels, size, labels, [height, width]);
            indices.push(index);
        }
        Self { indices, pixels, labels, height, width }
    }
}

/// The most rows and the most columns.
fn largest(sizes: impl Iterator<Item = [usize; 2]>) -> [usize; 2] {
    sizes.fold([0, 0], |most, size| [most[0].max(size[0]), most[1].max(size[1])])
}

/// Copies planes of one size into the upper left of planes of a size at least as large.
fn paste<T: Copy>(from: &[T], [height, width]: [usize; 2], to: &mut [T], [rows, columns]: [usize; 2]) {
    let planes = from.chunks_exact((height * width).max(1)).zip(to.chunks_exact_mut((rows * columns).max(1)));
    for (from, to) in planes {
        for (from, to) in from.chunks_exact(width.max(1)).zip(to.chunks_exact_mut(columns.max(1))) {
            to[..width].copy_from_slice(from);
        }
    }
}
