//! 3×3 convolutions of stride 1 by Winograd's F(2×2, 3×3): four results from sixteen products where thirty-six would be
//! multiplied (Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks").
//!
//! A square of 4×4 cells `d` and a kernel `g` give 2×2 results `Aᵀ[(G·g·Gᵀ) ∘ (Bᵀ·d·B)]A`. Summed over channels, each of the sixteen
//! places is a matrix product. The sums differ from direct ones by a few roundings more.

use std::ops::Range;

use super::gather::shares;
use super::maps::{Block, Maps, TASKS};
use super::unfold::{halve, reach};
use crate::alloc::{self, Buffer};
use crate::conv::gather::Axis;
use crate::parallel;
use crate::simd::product::{self, Start, Strided};
use crate::simd::tile::Tile;
use crate::simd::transpose::transpose;
use crate::simd::{Lanes, WIDEST, simd_fn};

/// Places of a square.
const PLACES: usize = 16;
/// Squares at a time, at most.
const SQUARES: usize = 208;
/// From one row of squares to the next: numbers are written in whole vectors.
const WIDE: usize = SQUARES + WIDEST;
/// Fewest channels on either side, and squares in all, for which the products outweigh what is around them.
const CHANNELS: usize = 32;
const WORTH: usize = 48;
/// Kernels transformed in one task.
const KERNELS: usize = 8;

/// Maps whose results are squares of 2×2, where this way is the faster one.
pub(super) fn squares<'a>(maps: &Maps<'a>, outer: usize) -> Option<Maps<'a>> {
    let fits = |a: Axis| a.taps == 3 && a.step == 1 && a.gap == 1 && a.out_step == 1;
    let square = |a: Axis| Axis { taps: 4, step: 2, grid: a.grid.div_ceil(2), out_step: 2, ..a };
    let of_squares = Maps { axes: maps.axes.map(square), ..*maps };
    let enough = maps.channels.min(outer) >= CHANNELS && maps.images * of_squares.grid() >= WORTH;
    // A piece of a row of squares would have two pieces of rows for results, which lie apart.
    let whole_rows = of_squares.axes[1].grid <= SQUARES;
    (enough && whole_rows && maps.axes.iter().all(|a| fits(*a))).then_some(of_squares)
}

/// How the weight is multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// `[outer, channels, 3, 3]`, as it is.
    No,
    /// `[channels, outer, 3, 3]`, with the taps from the last to the first, for the gradient of the input.
    Yes,
}

/// `out [images, outer, output]` from the maps of [`squares`] and the weight.
pub(super) fn convolve(maps: &Maps<'_>, w: &[f32], turn: Turn, outer: usize, out: &mut [f32]) {
    let channels = maps.channels;
    let kernels = match turn {
        Turn::No => kernels(w, [outer, channels]),
        Turn::Yes => kernels(w, [channels, outer]),
    };
    let blocks = maps.blocks(SQUARES);
    let alone = blocks.len() >= TASKS;
    let parts = blocks.iter().zip(shares(maps, &blocks, outer, out)).collect();
    // Blocks at the same time, or, where there are few, what is done for each.
    let work = |(block, out): (&Block, Vec<Tile<'_>>)| {
        let mut seen = alloc::scratch(PLACES * channels * WIDE);
        let mut sums = alloc::scratch(PLACES * outer * WIDE);
        let each = if alone { channels } else { channels.div_ceil(TASKS) };
        let tasks = rows_of(&mut seen, channels, each);
        run(alone, tasks, |(channels, seen)| cells(maps, block, channels, seen));
        let tasks = sums.chunks_mut(outer * WIDE).enumerate().collect();
        run(alone, tasks, |(place, sums): (usize, &mut [f32])| {
            let size = [outer, block.cells(), channels];
            let seen = &seen[place * channels * WIDE..];
            let kernels = |place: usize| &kernels[place * outer * channels..];
            let kernels = match turn {
                Turn::No => Strided(kernels(place), channels, 1),
                // Taps from last to first exchange the first place and the last, along both axes.
                Turn::Yes => Strided(kernels(4 * turned(place / 4) + turned(place % 4)), 1, outer),
            };
            multiply(size, kernels, seen, sums);
        });
        let each = if alone { outer } else { outer.div_ceil(TASKS) };
        let (mut tasks, mut rest) = (Vec::new(), out);
        for first in (0..outer).step_by(each) {
            let (here, below) = rest.into_iter().map(|tile| tile.split_rows(each)).unzip();
            rest = below;
            tasks.push((first, here));
        }
        run(alone, tasks, |(first, out)| results(maps, block, &sums, first, out));
    };
    run(!alone, parts, work);
}

/// Tasks in turn, where others run beside these, or at the same time.
fn run<T: Send>(in_turn: bool, tasks: Vec<T>, work: impl Fn(T) + Sync + Send) {
    match in_turn {
        true => tasks.into_iter().for_each(work),
        false => parallel::run(tasks, work),
    }
}

/// The rows `[PLACES, channels, WIDE]` of `each` channels at a time, place by place.
fn rows_of(data: &mut [f32], channels: usize, each: usize) -> Vec<(Range<usize>, Vec<&mut [f32]>)> {
    let mut tasks: Vec<_> =
        (0..channels).step_by(each).map(|c| (c..(c + each).min(channels), Vec::with_capacity(PLACES))).collect();
    for place in data.chunks_mut(channels * WIDE) {
        for ((_, rows), place) in tasks.iter_mut().zip(place.chunks_mut(each * WIDE)) {
            rows.push(place);
        }
    }
    tasks
}

/// `Bᵀ·d` or its like along the other axis.
#[inline(always)]
fn spread<L: Lanes>([a, b, c, d]: [L; 4]) -> [L; 4] {
    [a.sub(c), b.add(c), c.sub(b), b.sub(d)]
}

/// `G·g`.
#[inline(always)]
fn kernel<L: Lanes>([a, b, c]: [L; 3]) -> [L; 4] {
    let half = L::splat(0.5);
    let (ends, middle) = (a.add(c).mul(half), b.mul(half));
    [a, ends.add(middle), ends.sub(middle), c]
}

/// Where `G·g` has the value of a place when the taps come from last to first.
fn turned(place: usize) -> usize {
    [3, 1, 2, 0][place]
}

/// `Aᵀ·m`.
#[inline(always)]
fn gathered<L: Lanes>([a, b, c, d]: [L; 4]) -> [L; 2] {
    [a.add(b).add(c), b.sub(c).sub(d)]
}

/// The transformed weight, `[PLACES, outer, channels]`.
fn kernels(w: &[f32], [outer, channels]: [usize; 2]) -> Buffer {
    let mut out = alloc::scratch(PLACES * outer * channels);
    let (mut tasks, mut rest) = (Vec::new(), Tile::new(&mut out, outer * channels));
    for first in (0..outer).step_by(KERNELS) {
        let (here, after) = rest.split_cols((first + KERNELS) * channels);
        rest = after;
        tasks.push((first, here));
    }
    parallel::run(tasks, |(first, out)| transform(w, channels, first, out));
    out
}

simd_fn! {
    /// Some rows of [`kernels`], from `first` on.
    fn transform<L>(w: &[f32], channels: usize, first: usize, out: Tile<'_>) {
        let mut out = out;
        let wide = channels.next_multiple_of(L::N);
        // Whole squares of numbers are faster, even if they are of the next kernels.
        let whole = 9usize.next_multiple_of(L::N);
        let mut taps = vec![0.0; whole * wide];
        for o in 0..out.cols() / channels {
            let w = &w[(first + o) * channels * 9..];
            let cols = if w.len() < (channels - 1) * 9 + whole { 9 } else { whole };
            transpose::<L>((w, 9), [channels, cols], (&mut taps, wide));
            for c in (0..channels).step_by(L::N) {
                let mut columns = [[L::splat(0.0); 4]; 3];
                for (col, column) in columns.iter_mut().enumerate() {
                    let taps = &taps[col * wide + c..];
                    let (middle, last) = (&taps[3 * wide..], &taps[6 * wide..]);
                    *column = kernel([L::load(taps), L::load(middle), L::load(last)]);
                }
                let [left, middle, right] = columns;
                for row in 0..4 {
                    let values = kernel([left[row], middle[row], right[row]]);
                    for (col, value) in values.iter().enumerate() {
                        let to = &mut out.row(row * 4 + col)[o * channels + c..(o + 1) * channels];
                        if to.len() >= L::N {
                            value.store(to);
                        } else {
                            value.store_part(to);
                        }
                    }
                }
            }
        }
    }
}

simd_fn! {
    /// The transformed cells of some channels: for each place `[channels, WIDE]`.
    fn cells<L>(maps: &Maps<'_>, block: &Block, channels: Range<usize>, out: Vec<&mut [f32]>) {
        let mut out = out;
        let height = reach(maps.axes[0], &block.rows);
        let (across, count) = (block.cols.len(), block.cols.len() + 1);
        // Every row's even cells, then its odd ones, as far as whole vectors reach.
        let wide = count.next_multiple_of(L::N) + L::N;
        let (mut split, mut room) = (vec![0.0; height * 2 * wide], Vec::new());
        for (i, channel) in channels.enumerate() {
            let seen = maps.seen::<L>(channel, block, &mut room);
            let mut at = i * WIDE;
            for image in 0..block.images.len() {
                for (row, split) in split.chunks_exact_mut(2 * wide).enumerate() {
                    let row = &seen.data[image * seen.image + row * seen.row..][..2 * count];
                    let (even, odd) = split.split_at_mut(wide);
                    halve(&row[..2 * count - 1], &mut even[..count]);
                    halve(&row[1..], &mut odd[..count]);
                }
                for rows in 0..block.rows.len() {
                    let split = &split[rows * 4 * wide..][..8 * wide];
                    for x in (0..across).step_by(L::N) {
                        let mut squares = [[L::splat(0.0); 4]; 4];
                        for (square, split) in squares.iter_mut().zip(split.chunks_exact(2 * wide)) {
                            let (even, odd) = (&split[x..], &split[wide + x..]);
                            let [next_even, next_odd] = [L::load(&even[1..]), L::load(&odd[1..])];
                            *square = spread([L::load(even), L::load(odd), next_even, next_odd]);
                        }
                        for col in 0..4 {
                            let [a, b, c, d] = squares;
                            let values = spread([a[col], b[col], c[col], d[col]]);
                            for (row, value) in values.iter().enumerate() {
                                // What is written beyond a row's end, the next row overwrites.
                                value.store(&mut out[row * 4 + col][at + x..]);
                            }
                        }
                    }
                    at += across;
                }
            }
        }
    }
}

simd_fn! {
    /// One place's product.
    fn multiply<L>(size: [usize; 3], kernels: Strided<'_>, seen: &[f32], sums: &mut [f32]) {
        product::gemm::<L>(size, kernels, (seen, WIDE), (sums, WIDE), Start::Zero);
    }
}

simd_fn! {
    /// The results of some channels, from `first` on, of a block's images.
    fn results<L>(maps: &Maps<'_>, block: &Block, sums: &[f32], first: usize, out: Vec<Tile<'_>>) {
        let [y, x] = maps.axes;
        let place = sums.len() / PLACES;
        let across = block.cols.len();
        // Cells of the output that are there, in rows that are there.
        let width = (2 * block.cols.end).min(x.output) - 2 * block.cols.start;
        let height = (2 * block.rows.end).min(y.output) - 2 * block.rows.start;
        let mut at = first * WIDE;
        let mut out = out;
        let channels = out.first().map_or(0, Tile::rows);
        for channel in 0..channels {
            let mut next = at;
            for tile in &mut out {
                let out = tile.row(channel);
                for rows in 0..block.rows.len() {
                    for col in (0..across).step_by(L::N) {
                        let mut columns = [[L::splat(0.0); 2]; 4];
                        for (c, column) in columns.iter_mut().enumerate() {
                            let mut squares = [L::splat(0.0); 4];
                            for (row, square) in squares.iter_mut().enumerate() {
                                *square = L::load(&sums[(row * 4 + c) * place + next + col..]);
                            }
                            *column = gathered(squares);
                        }
                        let [a, b, c, d] = columns;
                        for row in 0..2.min(height - 2 * rows) {
                            let [left, right] = gathered([a[row], b[row], c[row], d[row]]);
                            let (low, high) = left.interleave(right);
                            let to = (2 * rows + row) * x.output + 2 * col;
                            let count = (width - 2 * col).min(2 * L::N);
                            put(low, high, &mut out[to..to + count]);
                        }
                    }
                    next += across;
                }
            }
            at += WIDE;
        }
    }
}

/// Writes the numbers of two vectors as far as there is room.
#[inline(always)]
fn put<L: Lanes>(low: L, high: L, to: &mut [f32]) {
    if to.len() < L::N {
        return low.store_part(to);
    }
    let (first, second) = to.split_at_mut(L::N);
    low.store(first);
    if second.len() < L::N {
        high.store_part(second);
    } else {
        high.store(second);
    }
}
