//! Maps, what gathers from them, and the blocks of cells that are worked on at a time.

use std::ops::Range;

use crate::conv::gather::Axis;
use crate::simd::Level;

/// Fewest tasks, where there is work for as many.
pub(super) const TASKS: usize = 16;
/// Cells of an image that are worth a product of their own; those of smaller ones are put together.
const APART: usize = 48;

/// Maps `[images, channels, height, width]` and what gathers from them.
pub(super) struct Maps<'a> {
    pub data: &'a [f32],
    pub images: usize,
    pub channels: usize,
    pub axes: [Axis; 2],
}

/// A part of the grids of some images, whose cells, image by image and row by row, are the columns of a product. It is whole
/// images, whole rows of one, or pieces of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub images: Range<usize>,
    pub rows: Range<usize>,
    pub cols: Range<usize>,
}

impl Block {
    pub fn cells(&self) -> usize {
        self.images.len() * self.rows.len() * self.cols.len()
    }
}

impl<'a> Maps<'a> {
    pub fn new(data: &'a [f32], [images, channels]: [usize; 2], axes: [Axis; 2]) -> Self {
        let [y, x] = axes;
        // Cells that are taken as they come are one long row.
        let axes = match y.is_plain() && x.is_plain() {
            true => {
                let cells = y.input * x.input;
                [Axis::single(), Axis { input: cells, grid: cells, output: cells, ..x }]
            }
            false => axes,
        };
        Self { data, images, channels, axes }
    }

    /// Whether the maps as they are are what the taps see.
    pub fn is_plain(&self) -> bool {
        self.axes[0] == Axis::single() && self.axes[1].is_plain()
    }

    /// Cells of the grid in one image.
    pub fn grid(&self) -> usize {
        self.axes[0].grid * self.axes[1].grid
    }

    /// Cells of the input in one image.
    pub fn input(&self) -> usize {
        self.axes[0].input * self.axes[1].input
    }

    /// Cells of the output in one image.
    pub fn output(&self) -> usize {
        self.axes[0].output * self.axes[1].output
    }

    pub fn taps(&self) -> usize {
        self.axes[0].taps * self.axes[1].taps
    }

    /// The grids of all images in blocks of at most `most` cells, of which those of one image come in order. A block of several
    /// images has all their cells: the weight gradient takes them as one row.
    pub fn blocks(&self, most: usize) -> Vec<Block> {
        let [height, width] = self.axes.map(|a| a.grid);
        let mut blocks = Vec::new();
        let images = pieces(self.images, (most / (height * width).max(1)).max(1));
        for images in images {
            let rows = (most / (images.len() * width).max(1)).max(1);
            let rows = if images.len() > 1 { height } else { best(height, width, rows) };
            for rows in pieces(height, rows) {
                for cols in pieces(width, (most / (images.len() * rows.len()).max(1)).max(1)) {
                    blocks.push(Block { images: images.clone(), rows: rows.clone(), cols });
                }
            }
        }
        blocks
    }

    /// Blocks of plain maps: what fills whole vectors, which a product reads where it is, image by image; then the cells left
    /// over at the ends, of as many images together as `most` cells hold.
    pub fn plain_blocks(&self, most: usize) -> (Vec<Block>, Vec<Block>) {
        let (grid, vector) = (self.grid(), Level::detect().vector());
        let whole = if grid < APART { 0 } else { grid / vector * vector };
        let wide = (most / Level::detect().tile()).max(1) * Level::detect().tile();
        let mut direct = Vec::new();
        for image in 0..self.images {
            for from in (0..whole).step_by(wide) {
                let cols = from..(from + wide).min(whole);
                direct.push(Block { images: image..image + 1, rows: 0..1, cols });
            }
        }
        let left = if whole == grid { 0 } else { self.images };
        let rest = pieces(left, (most / (grid - whole).max(1)).max(1))
            .map(|images| Block { images, rows: 0..1, cols: whole..grid })
            .collect();
        (direct, rest)
    }
}

/// `0..count` in pieces of at most `at_once`, as even as they can be: a narrow last piece would fill no tile.
fn pieces(count: usize, at_once: usize) -> impl Iterator<Item = Range<usize>> {
    let size = count.div_ceil(count.div_ceil(at_once.max(1)).max(1)).max(1);
    (0..count).step_by(size).map(move |from| from..(from + size).min(count))
}

/// Of at most `most` rows of `width` cells at a time, how many waste the fewest lanes of vectors over `height` rows.
fn best(height: usize, width: usize, most: usize) -> usize {
    let vector = Level::detect().vector();
    let vectors = |rows: usize| (rows * width).div_ceil(vector);
    let cost = |rows: usize| {
        let size = height.div_ceil(height.div_ceil(rows));
        height / size * vectors(size) + vectors(height % size)
    };
    (most.div_ceil(2)..=most.min(height.max(1))).rev().min_by_key(|rows| cost(*rows)).unwrap_or(most)
}
