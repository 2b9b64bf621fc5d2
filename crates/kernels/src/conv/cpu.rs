//! Convolution on the CPU: what the taps see is unfolded, a few hundred cells at a time, and multiplied by the weight while it
//! is in the cache.
//!
//! Tasks own whole images, or whole channels of the weight, and are cut by the sizes alone.

use std::ops::Range;

use burn::backend::{Flex, flex::FlexTensor};

use super::ConvShape;
use super::gather::Axis;
use super::kernel::{ConvKernel, ConvOps};
use crate::alloc::{self, Buffer};
use crate::buffer::{contiguous, numbers, size, tensor};
use crate::gemm::add;
use crate::parallel;
use crate::simd::product::{self, Start, Strided, tile_width};
use crate::simd::simd_fn;

/// Cells unfolded at a time: a multiple of every tile's width.
const CELLS: usize = 192;
/// Channels times taps unfolded at a time, at most, unless one channel has more taps.
const DEPTH: usize = 384;
/// Fewest tasks, where there is work for as many.
const TASKS: usize = 16;

impl ConvOps for Flex {
    fn fused_conv(x: FlexTensor, w: FlexTensor, shape: ConvShape) -> FlexTensor {
        Self::conv_forward(x, w, shape)
    }
}

impl ConvKernel for Flex {
    fn conv_forward(x: FlexTensor, w: FlexTensor, shape: ConvShape) -> FlexTensor {
        let (x, w) = (contiguous(x), contiguous(w));
        let axes = [2, 3].map(|d| Axis::forward(shape, size(&x, d), size(&w, d)));
        let (images, outer) = (size(&x, 0), size(&w, 0));
        let [height, width] = axes.map(|a| a.output);
        let mut y = alloc::scratch(images * outer * height * width);
        let maps = Maps::new(numbers(&x), size(&x, 1), axes);
        gather(&maps, images, numbers(&w), &mut y);
        tensor(y, [images, outer, height, width])
    }

    fn conv_input_grad(dy: FlexTensor, w: FlexTensor, input: [usize; 2], shape: ConvShape) -> FlexTensor {
        let (dy, w) = (contiguous(dy), contiguous(w));
        let (images, outer, inner) = (size(&dy, 0), size(&w, 0), size(&w, 1));
        let mut dx = alloc::scratch(images * inner * input[0] * input[1]);
        for down in 0..shape.stride {
            for right in 0..shape.stride {
                let axes = [
                    Axis::backward(shape, down, input[0], size(&w, 2)),
                    Axis::backward(shape, right, input[1], size(&w, 3)),
                ];
                let weight = turned(numbers(&w), [outer, inner, size(&w, 2), size(&w, 3)], axes);
                gather(&Maps::new(numbers(&dy), outer, axes), images, &weight, &mut dx);
            }
        }
        tensor(dx, [images, inner, input[0], input[1]])
    }

    fn conv_weight_grad(x: FlexTensor, dy: FlexTensor, kernel: [usize; 2], shape: ConvShape) -> FlexTensor {
        let (x, dy) = (contiguous(x), contiguous(dy));
        let (images, outer, inner) = (size(&x, 0), size(&dy, 1), size(&x, 1));
        let axes = [0, 1].map(|i| Axis::forward(shape, size(&x, i + 2), kernel[i]));
        let maps = Maps::new(numbers(&x), inner, axes);
        let dw = weight_grad(&maps, images, numbers(&dy), outer);
        tensor(dw, [outer, inner, kernel[0], kernel[1]])
    }
}

/// Maps `[images, channels, height, width]` and what gathers from them.
struct Maps<'a> {
    data: &'a [f32],
    channels: usize,
    axes: [Axis; 2],
}

/// A part of the grids of some images, whose cells, image by image and row by row, are the columns of a product: at most
/// [`CELLS`] of them. It is whole images, whole rows of one, or a piece of one row.
struct Block {
    images: Range<usize>,
    rows: Range<usize>,
    cols: Range<usize>,
}

impl Block {
    fn cells(&self) -> usize {
        self.images.len() * self.rows.len() * self.cols.len()
    }
}

impl<'a> Maps<'a> {
    fn new(data: &'a [f32], channels: usize, axes: [Axis; 2]) -> Self {
        let [y, x] = axes;
        // Cells that are taken as they come are one long row.
        let axes = match y.is_plain() && x.is_plain() {
            true => {
                let cells = y.input * x.input;
                [Axis::single(), Axis { input: cells, grid: cells, output: cells, ..x }]
            }
            false => axes,
        };
        Self { data, channels, axes }
    }

    /// Cells of the grid in one image.
    fn grid(&self) -> usize {
        self.axes[0].grid * self.axes[1].grid
    }

    /// Cells of the output in one image.
    fn output(&self) -> usize {
        self.axes[0].output * self.axes[1].output
    }

    fn taps(&self) -> usize {
        self.axes[0].taps * self.axes[1].taps
    }

    /// The grids of some images in blocks.
    fn blocks(&self, images: Range<usize>) -> Vec<Block> {
        let [height, width] = self.axes.map(|a| a.grid);
        let pieces = |all: Range<usize>, at_once: usize| {
            // As even as they can be: a narrow last piece would fill no tile.
            let count = all.len().div_ceil(at_once.max(1)).max(1);
            let size = all.len().div_ceil(count).max(1);
            all.clone().step_by(size).map(move |from| from..(from + size).min(all.end))
        };
        let mut blocks = Vec::new();
        for images in pieces(images, CELLS / self.grid().max(1)) {
            for rows in pieces(0..height, CELLS / (images.len() * width).max(1)) {
                for cols in pieces(0..width, CELLS / (images.len() * rows.len()).max(1)) {
                    blocks.push(Block { images: images.clone(), rows: rows.clone(), cols });
                }
            }
        }
        blocks
    }

    /// Writes what all taps see in some channels for the cells of a block: `[channels·taps, CELLS]`. `room` is for a plane with
    /// what lies around it.
    #[inline(always)]
    fn unfold(&self, channels: Range<usize>, block: &Block, room: &mut Vec<f32>, out: &mut [f32]) {
        let [y, x] = self.axes;
        let area = y.input * x.input;
        // What the taps see of a plane, from its first cell to its last, as far as it is there or not.
        let reach =
            |axis: Axis, cells: &Range<usize>| (cells.len() - 1) * axis.step + (axis.taps - 1) * axis.gap + 1;
        let (height, width) = (reach(y, &block.rows), reach(x, &block.cols));
        let origin = |axis: Axis, cells: &Range<usize>| (cells.start * axis.step) as isize + axis.offset;
        let (top, left) = (origin(y, &block.rows), origin(x, &block.cols));
        let inside = top >= 0 && left >= 0 && top as usize + height <= y.input && left as usize + width <= x.input;
        if !inside {
            room.resize(block.images.len() * height * width, 0.0);
        }
        let rows = channels.zip(out.chunks_exact_mut(self.taps() * CELLS));
        for (channel, out) in rows {
            let plane = |image: usize| &self.data[(image * self.channels + channel) * area..][..area];
            let seen = if inside {
                let first = (block.images.start * self.channels + channel) * area;
                let from = first + top as usize * x.input + left as usize;
                Seen { data: &self.data[from..], image: self.channels * area, row: x.input }
            } else {
                for (image, room) in block.images.clone().zip(room.chunks_exact_mut(height * width)) {
                    surround(plane(image), [y.input, x.input], [top, left], width, room);
                }
                Seen { data: room, image: height * width, row: width }
            };
            for (tap, out) in out.chunks_exact_mut(CELLS).enumerate() {
                let (down, right) = (tap / x.taps * y.gap, tap % x.taps * x.gap);
                let seen = Seen { data: &seen.data[down * seen.row + right..], ..seen };
                seen.cells([y.step, x.step], block, out);
            }
        }
    }
}

impl Maps<'_> {
    /// Puts the results of a block, a row of [`CELLS`] for each of some channels, where they belong in `out`, which begins with
    /// the image `first`.
    #[inline(always)]
    fn put(&self, sums: &[f32], block: &Block, (first, outer): (usize, usize), out: &mut [f32]) {
        let ([y, x], area, cols) = (self.axes, self.output(), block.cols.len());
        for (o, sums) in sums.chunks_exact(CELLS).enumerate() {
            let mut rows = sums.chunks_exact(cols);
            for image in block.images.clone() {
                let plane = &mut out[((image - first) * outer + o) * area..][..area];
                for row in block.rows.clone() {
                    let Some(sums) = rows.next() else { return };
                    let row = (row * y.out_step + y.out_first) * x.output;
                    let to = &mut plane[row + block.cols.start * x.out_step + x.out_first..];
                    if x.out_step == 1 {
                        copy(sums, &mut to[..cols]);
                    } else {
                        for (to, from) in to.iter_mut().step_by(x.out_step).zip(sums) {
                            *to = *from;
                        }
                    }
                }
            }
        }
    }
}

/// The part of a plane `[height, width]` from `origin` on, with zeros where there is none, in rows of `across` cells.
fn surround(plane: &[f32], [height, width]: [usize; 2], origin: [isize; 2], across: usize, out: &mut [f32]) {
    let [top, left] = origin;
    // The cells of a row that are there.
    let first = ((-left).max(0) as usize).min(across);
    let end = (width as isize - left).clamp(first as isize, across as isize) as usize;
    for (row, out) in (top..).zip(out.chunks_exact_mut(across)) {
        if row < 0 || row as usize >= height || first == end {
            out.fill(0.0);
            continue;
        }
        let from = row as usize * width + (first as isize + left) as usize;
        out[..first].fill(0.0);
        copy(&plane[from..from + end - first], &mut out[first..end]);
        out[end..].fill(0.0);
    }
}

/// What one tap sees: cells with the distances between images and rows.
#[derive(Clone, Copy)]
struct Seen<'a> {
    data: &'a [f32],
    image: usize,
    row: usize,
}

impl Seen<'_> {
    /// The cells of a block, `step` apart, one after the other.
    #[inline(always)]
    fn cells(self, step: [usize; 2], block: &Block, out: &mut [f32]) {
        match (block.cols.len(), step[1]) {
            (2, 1) => self.whole::<2>(step[0], block, out),
            (4, 1) => self.whole::<4>(step[0], block, out),
            (8, 1) => self.whole::<8>(step[0], block, out),
            (16, 1) => self.whole::<16>(step[0], block, out),
            (cols, across) => {
                let mut at = 0;
                for image in 0..block.images.len() {
                    for row in 0..block.rows.len() {
                        let from = &self.data[image * self.image + row * step[0] * self.row..];
                        let to = &mut out[at..at + cols];
                        if across == 1 {
                            to.copy_from_slice(&from[..cols]);
                        } else {
                            for (to, from) in to.iter_mut().zip(from.iter().step_by(across)) {
                                *to = *from;
                            }
                        }
                        at += cols;
                    }
                }
            }
        }
    }

    /// Rows of `N` cells that lie next to each other.
    #[inline(always)]
    fn whole<const N: usize>(self, step: usize, block: &Block, out: &mut [f32]) {
        let mut out = out.chunks_exact_mut(N);
        for image in 0..block.images.len() {
            for row in 0..block.rows.len() {
                if let Some(to) = out.next() {
                    to.copy_from_slice(&self.data[image * self.image + row * step * self.row..][..N]);
                }
            }
        }
    }
}

/// Copies a few numbers; a call for each row of a small map would cost more than the row.
#[inline(always)]
fn copy(from: &[f32], to: &mut [f32]) {
    #[inline(always)]
    fn whole<const N: usize>(from: &[f32], to: &mut [f32]) {
        if let (Ok(to), Ok(from)) = (<&mut [f32; N]>::try_from(to), <&[f32; N]>::try_from(from)) {
            *to = *from;
        }
    }
    match to.len() {
        1 => whole::<1>(from, to),
        2 => whole::<2>(from, to),
        4 => whole::<4>(from, to),
        8 => whole::<8>(from, to),
        16 => whole::<16>(from, to),
        _ => to.copy_from_slice(from),
    }
}

/// The weight as the input gradient multiplies by it: `[inner, outer·taps]`, those taps that the axes have.
fn turned(w: &[f32], [outer, inner, height, width]: [usize; 4], [y, x]: [Axis; 2]) -> Vec<f32> {
    let tap = |axis: Axis, i: usize| (axis.first as isize + i as isize * axis.between) as usize;
    let taps: Vec<usize> =
        (0..y.taps).flat_map(|down| (0..x.taps).map(move |right| tap(y, down) * width + tap(x, right))).collect();
    let area = height * width;
    let mut out = Vec::with_capacity(inner * outer * taps.len());
    for c in 0..inner {
        for o in 0..outer {
            let kernel = &w[(o * inner + c) * area..][..area];
            out.extend(taps.iter().map(|t| kernel[*t]));
        }
    }
    out
}

/// Results of some images and channels.
struct Part<'a> {
    images: Range<usize>,
    outer: Range<usize>,
    /// `[images, outer, output]`.
    out: &'a mut [f32],
}

/// `out [images, outer, output] = weight [outer, channels·taps]·unfolded maps`, at the cells of the axes' grids.
fn gather(maps: &Maps<'_>, images: usize, weight: &[f32], out: &mut [f32]) {
    let (area, depth) = (maps.output(), maps.channels * maps.taps());
    let outer = out.len() / (images * area).max(1);
    if maps.grid() == 0 || outer == 0 {
        return;
    }
    let each = (CELLS / maps.grid()).min(images.div_ceil(TASKS)).max(1);
    // Few images: their channels are shared out.
    let channels = match each {
        1 => outer.div_ceil(TASKS.div_ceil(images)).next_multiple_of(8).min(outer),
        _ => outer,
    };
    let tasks = out
        .chunks_mut(each * outer * area)
        .enumerate()
        .flat_map(|(i, out)| {
            let images = i * each..i * each + out.len() / (outer * area);
            let size = if channels < outer { channels * area } else { out.len() };
            out.chunks_mut(size).enumerate().map(move |(c, out)| {
                let outer = c * channels..((c + 1) * channels).min(outer);
                Part { images: images.clone(), outer, out }
            })
        })
        .collect();
    parallel::run(tasks, |part: Part<'_>| gather_part(maps, &weight[part.outer.start * depth..], part));
}

simd_fn! {
    /// One task of [`gather`]; the weight begins with the part's channels.
    fn gather_part<L>(maps: &Maps<'_>, weight: &[f32], part: Part<'_>) {
        let taps = maps.taps();
        let Part { images, outer, out } = part;
        let (outer, depth) = (outer.len(), maps.channels * taps);
        let channels = (DEPTH / taps.max(1)).clamp(1, maps.channels.max(1));
        let (mut unfolded, mut room) = (alloc::scratch(channels * taps * CELLS), Vec::new());
        let mut sums = alloc::scratch(outer * CELLS);
        if depth == 0 {
            // Sums over nothing, of cells that no tap has seen.
            sums.fill(0.0);
        }
        for block in maps.blocks(images.clone()) {
            let mut start = Start::Zero;
            for c in (0..maps.channels).step_by(channels).take(depth) {
                let channels = c..(c + channels).min(maps.channels);
                let rows = channels.len() * taps;
                maps.unfold(channels, &block, &mut room, &mut unfolded);
                product::gemm::<L>(
                    [outer, block.cells(), rows],
                    Strided(&weight[c * taps..], depth, 1),
                    (&unfolded, CELLS),
                    (&mut sums, CELLS),
                    start,
                );
                start = Start::Add;
            }
            maps.put(&sums, &block, (images.start, outer), out);
        }
    }
}

/// `dw [outer, channels·taps]` from `dy [images, outer, grid]`.
fn weight_grad(maps: &Maps<'_>, images: usize, dy: &[f32], outer: usize) -> Buffer {
    let (taps, grid, rows) = (maps.taps(), maps.grid(), maps.channels * maps.taps());
    let panels = cells_first(dy, images, outer, grid);
    let channels = maps.channels.div_ceil(TASKS).min(DEPTH / taps).max(1);
    // Few channels: the images are shared out, and what each share gives is added in order.
    let pieces = TASKS.div_ceil(maps.channels.div_ceil(channels)).min(images).max(1);
    let each = images.div_ceil(pieces);
    let mut partial = alloc::scratch(images.div_ceil(each) * rows * outer);
    let tasks = partial
        .chunks_mut(rows * outer)
        .enumerate()
        .flat_map(|(piece, out)| {
            let images = piece * each..((piece + 1) * each).min(images);
            out.chunks_mut(channels * taps * outer).enumerate().map(move |(c, out)| {
                let channels = c * channels..((c + 1) * channels).min(maps.channels);
                WeightPart { images: images.clone(), channels, out }
            })
        })
        .collect();
    parallel::run(tasks, |part: WeightPart<'_>| weight_part(maps, &panels, outer, part));
    let (sum, others) = partial.split_at_mut(rows * outer);
    for other in others.chunks_exact(rows * outer) {
        add(sum, other);
    }
    let mut dw = alloc::scratch(outer * rows);
    let sum = &*sum;
    parallel::run(dw.chunks_mut(rows).enumerate().collect(), |(o, dw): (usize, &mut [f32])| {
        for (to, from) in dw.iter_mut().zip(sum[o..].iter().step_by(outer)) {
            *to = *from;
        }
    });
    dw
}

/// The gradient of some channels by some images.
struct WeightPart<'a> {
    images: Range<usize>,
    channels: Range<usize>,
    /// `[channels·taps, outer]`.
    out: &'a mut [f32],
}

/// `dy [images, outer, grid]` as panels of a tile's channels, each `[images·grid, tile]`, the last filled up with zeros.
fn cells_first(dy: &[f32], images: usize, outer: usize, grid: usize) -> Buffer {
    let tile = tile_width();
    let each = images * grid * tile;
    let mut panels = alloc::scratch(outer.div_ceil(tile) * each);
    let tasks = panels
        .chunks_mut(each)
        .enumerate()
        .flat_map(|(p, panel)| panel.chunks_mut(grid * tile).enumerate().map(move |(i, to)| (p, i, to)))
        .collect();
    parallel::run(tasks, |(p, image, to): (usize, usize, &mut [f32])| {
        let count = tile.min(outer - p * tile);
        let from = &dy[(image * outer + p * tile) * grid..][..count * grid];
        if count < tile {
            to.fill(0.0);
        }
        for (c, from) in from.chunks_exact(grid).enumerate() {
            for (to, from) in to[c..].iter_mut().step_by(tile).zip(from) {
                *to = *from;
            }
        }
    });
    panels
}

simd_fn! {
    /// One task of [`weight_grad`].
    fn weight_part<L>(maps: &Maps<'_>, panels: &[f32], outer: usize, part: WeightPart<'_>) {
        let (grid, tile, taps) = (maps.grid(), tile_width(), maps.taps());
        let WeightPart { images, channels, out } = part;
        let rows = channels.len() * taps;
        let panel = panels.len() / outer.div_ceil(tile);
        let (mut unfolded, mut room) = (alloc::scratch(rows * CELLS), Vec::new());
        let mut start = Start::Zero;
        for block in maps.blocks(images) {
            // The cells of a block lie next to each other in the grids of all images.
            let first = block.images.start * grid + block.rows.start * maps.axes[1].grid + block.cols.start;
            maps.unfold(channels.clone(), &block, &mut room, &mut unfolded);
            for (p, panel) in panels.chunks_exact(panel).enumerate() {
                product::gemm::<L>(
                    [rows, tile.min(outer - p * tile), block.cells()],
                    Strided(&unfolded, CELLS, 1),
                    (&panel[first * tile..], tile),
                    (&mut out[p * tile..], outer),
                    start,
                );
            }
            start = Start::Add;
        }
    }
}
