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
use crate::gemm::micro::{self, Start, Strided, tile_width};
use crate::parallel;
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

/// Cells `at..at + len` of a block lie next to each other in one row of the grid.
struct Run {
    at: usize,
    len: usize,
    image: usize,
    row: usize,
    col: usize,
}

/// For the cells `to..to + len` of a block, the cells from `from` on, `step` apart.
struct Seen {
    to: usize,
    from: usize,
    len: usize,
}

/// What one tap sees in the first channel, and the cells of a block for which it looks outside.
#[derive(Default)]
struct Tap {
    seen: Vec<Seen>,
    outside: Vec<Range<usize>>,
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

    /// The cells of the grid, all images in one row, that a block holds.
    fn runs(&self, cells: Range<usize>) -> Vec<Run> {
        let (grid, width) = (self.grid(), self.axes[1].grid);
        let mut runs = Vec::new();
        let mut cell = cells.start;
        while cell < cells.end {
            let (image, within) = (cell / grid, cell % grid);
            let (row, col) = (within / width, within % width);
            let len = (width - col).min(cells.end - cell);
            runs.push(Run { at: cell - cells.start, len, image, row, col });
            cell += len;
        }
        runs
    }

    /// What every tap sees for the cells of a block.
    fn seen(&self, runs: &[Run]) -> Vec<Tap> {
        let [y, x] = self.axes;
        let plane = self.channels * y.input * x.input;
        let step = x.step as isize;
        let mut all = Vec::with_capacity(self.taps());
        for down in 0..y.taps {
            for right in 0..x.taps {
                let (dy, dx) = ((down * y.gap) as isize + y.offset, (right * x.gap) as isize + x.offset);
                // The columns c with 0 ≤ c·step + dx < input.
                let (first, end) = (((-dx).max(0) + step - 1) / step, (x.input as isize - dx + step - 1) / step);
                let mut tap = Tap::default();
                for run in runs {
                    let row = (run.row * y.step) as isize + dy;
                    let (begin, stop) = (run.col as isize, (run.col + run.len) as isize);
                    let (from, to) = match (0..y.input as isize).contains(&row) {
                        true => (first.clamp(begin, stop), end.clamp(begin, stop)),
                        false => (begin, begin),
                    };
                    let to = to.max(from);
                    let at = |col: isize| run.at + (col - begin) as usize;
                    if from < to {
                        let start = row as usize * x.input + (from * step + dx) as usize;
                        let from_image = run.image * plane + start;
                        tap.seen.push(Seen { to: at(from), from: from_image, len: (to - from) as usize });
                    }
                    tap.outside
                        .extend([at(begin)..at(from), at(to)..at(stop)].into_iter().filter(|r| !r.is_empty()));
                }
                all.push(tap);
            }
        }
        all
    }

    /// Writes what the taps see in the channels into rows of [`CELLS`] cells. Where they look outside, rows stay as they are.
    fn unfold(&self, channels: Range<usize>, taps: &[Tap], block: &mut [f32]) {
        let [y, x] = self.axes;
        let area = y.input * x.input;
        let rows = channels.flat_map(|c| taps.iter().map(move |tap| (c * area, tap)));
        for ((channel, tap), row) in rows.zip(block.chunks_exact_mut(CELLS)) {
            let from = &self.data[channel..];
            for s in &tap.seen {
                let to = &mut row[s.to..s.to + s.len];
                if x.step == 1 {
                    copy(&from[s.from..s.from + s.len], to);
                } else {
                    for (to, from) in to.iter_mut().zip(from[s.from..].iter().step_by(x.step)) {
                        *to = *from;
                    }
                }
            }
        }
    }
}

/// Taps that look outside see zero, in every channel for the same cells.
fn clear(taps: &[Tap], block: &mut [f32]) {
    for (tap, row) in taps.iter().cycle().zip(block.chunks_exact_mut(CELLS)) {
        for cells in &tap.outside {
            row[cells.clone()].fill(0.0);
        }
    }
}

/// Copies a few numbers; a call for each run would cost more than the run.
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
        3 => whole::<3>(from, to),
        4 => whole::<4>(from, to),
        7 => whole::<7>(from, to),
        8 => whole::<8>(from, to),
        15 => whole::<15>(from, to),
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
    let each = CELLS.div_ceil(maps.grid()).min(images.div_ceil(TASKS)).max(1);
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
        let (grid, taps) = (maps.grid(), maps.taps());
        let [y, x] = maps.axes;
        let Part { images, outer, out } = part;
        let (outer, depth, area) = (outer.len(), maps.channels * taps, maps.output());
        let channels = (DEPTH / taps.max(1)).clamp(1, maps.channels.max(1));
        let mut block = alloc::scratch(channels * taps * CELLS);
        let mut sums = alloc::zeros(outer * CELLS);
        for first in (images.start * grid..images.end * grid).step_by(CELLS) {
            let cells = first..(first + CELLS).min(images.end * grid);
            let runs = maps.runs(cells.clone());
            let seen = maps.seen(&runs);
            clear(&seen, &mut block);
            let mut start = Start::Zero;
            for c in (0..maps.channels).step_by(channels) {
                let channels = c..(c + channels).min(maps.channels);
                let rows = channels.len() * taps;
                if rows == 0 {
                    break;
                }
                maps.unfold(channels, &seen, &mut block);
                micro::gemm::<L>(
                    [outer, cells.len(), rows],
                    Strided(&weight[c * taps..], depth, 1),
                    (&block, CELLS),
                    (&mut sums, CELLS),
                    start,
                );
                start = Start::Add;
            }
            for (o, sums) in sums.chunks_exact(CELLS).enumerate() {
                for run in &runs {
                    let at = ((run.image - images.start) * outer + o) * area
                        + (run.row * y.out_step + y.out_first) * x.output
                        + run.col * x.out_step
                        + x.out_first;
                    let sums = &sums[run.at..run.at + run.len];
                    if x.out_step == 1 {
                        copy(sums, &mut out[at..at + run.len]);
                    } else {
                        for (to, from) in out[at..].iter_mut().step_by(x.out_step).zip(sums) {
                            *to = *from;
                        }
                    }
                }
            }
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
        let mut block = alloc::scratch(rows * CELLS);
        let mut start = Start::Zero;
        for first in (images.start * grid..images.end * grid).step_by(CELLS) {
            let cells = first..(first + CELLS).min(images.end * grid);
            let seen = maps.seen(&maps.runs(cells.clone()));
            clear(&seen, &mut block);
            maps.unfold(channels.clone(), &seen, &mut block);
            for (p, panel) in panels.chunks_exact(panel).enumerate() {
                micro::gemm::<L>(
                    [rows, tile.min(outer - p * tile), cells.len()],
                    Strided(&block, CELLS, 1),
                    (&panel[first * tile..], tile),
                    (&mut out[p * tile..], outer),
                    start,
                );
            }
            start = Start::Add;
        }
    }
}
