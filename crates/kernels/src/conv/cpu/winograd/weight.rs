//! The gradient of the weight: with `U` the transformed kernel and `V` the transformed square of cells, a result's gradient `dy` goes
//! back through `Aᵀ(U ∘ V)A` as `(A·dy·Aᵀ) ∘ V`, and from there to the kernel as `Gᵀ·dU·G`. Summed over squares, each of the sixteen
//! places is a matrix product.

use std::ops::Range;

use super::squares::{Joined, Splitter, Squares, cells};
use super::{APART, PLACES, run};
use crate::alloc::{self, Buffer};
use crate::conv::cpu::maps::{Block, TASKS};
use crate::gemm::add;
use crate::parallel;
use crate::simd::product::{self, Start, Strided};
use crate::simd::transpose::transpose;
use crate::simd::{Lanes, simd_fn};

/// Squares added up one after the other, about: what is added first would be rounded once for each that follows.
const MOST: usize = 2048;
/// Numbers of sixteen shares' sums, at most, where shares are worked on at the same time: 20 MiB.
const SUMS: usize = 5 << 20;
/// Numbers added by one task.
const SPAN: usize = 1 << 14;
/// Kernels made of their sums in one task.
const KERNELS: usize = 8;

/// `dw [outer, channels, 3, 3]` from `dy [images, outer, output]`.
pub(in super::super) fn weight_grad(squares: &Squares<'_>, dy: &[f32], outer: usize) -> Buffer {
    let (channels, wide) = (squares.maps.channels, squares.wide());
    let [place_in, place_out] = [channels, outer].map(|rows| squares.place(rows));
    let place = outer * channels + APART;
    let size = PLACES * place;
    let blocks = squares.blocks();
    // Shares at the same time, each with sums of its own, or, where there are few, what is done for each block.
    let alone = blocks.len() >= TASKS && TASKS * size <= SUMS;
    let count = blocks.iter().map(|block| squares.count(block)).sum::<usize>();
    let shares = count.div_ceil(MOST).max(if alone { TASKS } else { 1 });
    let each = blocks.len().div_ceil(shares).max(1);
    let shares = blocks.len().div_ceil(each);
    let add_up = |(blocks, sums): (&[Block], &mut [f32])| {
        let mut seen = alloc::scratch(PLACES * place_in);
        let mut slopes = alloc::scratch(PLACES * place_out);
        let part = |count: usize| if alone { count } else { count.div_ceil(TASKS) };
        let mut start = Start::Zero;
        for block in blocks {
            let size = [outer, channels, squares.count(block)];
            let tasks = squares.rows(&mut seen, channels, part(channels));
            run(alone, tasks, |(channels, seen)| cells(squares, block, channels, seen));
            let tasks = squares.rows(&mut slopes, outer, part(outer));
            run(alone, tasks, |(rows, slopes)| gradients(squares, block, (dy, outer), rows, slopes));
            let tasks = sums.chunks_mut(place).enumerate().collect();
            run(alone, tasks, |(i, sums): (usize, &mut [f32])| {
                let (slopes, seen) = (&slopes[i * place_out..], &seen[i * place_in..]);
                multiply(size, slopes, seen, wide, sums, start);
            });
            start = Start::Add;
        }
    };
    let mut sums = alloc::scratch(size * if alone { shares } else { 1 });
    if alone {
        parallel::run(blocks.chunks(each).zip(sums.chunks_mut(size)).collect(), add_up);
    } else {
        let mut more = alloc::scratch(if shares > 1 { size } else { 0 });
        for (i, blocks) in blocks.chunks(each).enumerate() {
            add_up((blocks, if i == 0 { &mut sums } else { &mut more }));
            let tasks = sums.chunks_mut(SPAN).zip(more.chunks(SPAN)).collect();
            parallel::run(if i == 0 { Vec::new() } else { tasks }, |(sums, more): (&mut [f32], &[f32])| {
                add(sums, more);
            });
        }
    }
    let mut dw = alloc::scratch(9 * outer * channels);
    let tasks = dw.chunks_mut(KERNELS * channels * 9).enumerate().collect();
    parallel::run(tasks, |(i, dw): (usize, &mut [f32])| taps(&sums, [outer, channels], i * KERNELS, dw));
    dw
}

/// `A·dy` or its like along the other axis.
#[inline(always)]
fn slope<L: Lanes>([a, b]: [L; 2]) -> [L; 4] {
    [a, a.add(b), a.sub(b), L::splat(0.0).sub(b)]
}

/// `Gᵀ·u`.
#[inline(always)]
fn tap<L: Lanes>([a, b, c, d]: [L; 4]) -> [L; 3] {
    let half = L::splat(0.5);
    let (sum, difference) = (b.add(c).mul(half), b.sub(c).mul(half));
    [a.add(sum), difference, sum.add(d)]
}

/// The rows of `A·dy` times `Aᵀ`, from its columns. What is written beyond a row's end, the next row overwrites.
#[inline(always)]
fn slope_across<L: Lanes>([left, right]: [[L; 4]; 2], out: &mut [&mut [f32]; PLACES], at: usize) {
    for row in 0..4 {
        for (place, value) in slope([left[row], right[row]]).iter().enumerate() {
            value.store(&mut out[row * 4 + place][at..]);
        }
    }
}

simd_fn! {
    /// The transformed gradients of some channels of the results: for each place `[channels, wide]`.
    fn gradients<L>(
        squares: &Squares<'_>,
        block: &Block,
        dy: (&[f32], usize),
        channels: Range<usize>,
        out: Vec<&mut [f32]>,
    ) {
        let Ok(mut out) = <[&mut [f32]; PLACES]>::try_from(out) else { return };
        let ((dy, outer), strips) = (dy, squares.strips(block));
        let (phases, [y, x], area) = (squares.phases, squares.maps.axes, squares.maps.output());
        let mut splitter = Splitter::new::<L>(block.rows.len() * y.step, 2 * phases, x.grid);
        let (size, wide) = (splitter.size, splitter.wide);
        let origin = [(block.rows.start * y.step) as isize, 0];
        let mut joined = Joined::new::<L, 2>(squares, strips.len());
        for (i, channel) in channels.enumerate() {
            let mut at = i * squares.wide();
            for image in block.images.clone() {
                let plane = &dy[(image * outer + channel) * area..][..area];
                if let Some(joined) = &mut joined {
                    joined.look::<L, 2>(plane, [y.output, x.output], origin);
                    let count = strips.len() * squares.across[0];
                    for first in (0..count).step_by(L::N) {
                        let mut columns = [[L::splat(0.0); 4]; 2];
                        for (side, column) in columns.iter_mut().enumerate() {
                            let above = joined.cells::<L, 2>(0, side, first);
                            *column = slope([above, joined.cells::<L, 2>(1, side, first)]);
                        }
                        slope_across(columns, &mut out, at + first);
                    }
                    at += count;
                    continue;
                }
                let split = splitter.split::<L>(plane, [y.output, x.output], origin);
                for &top in &strips {
                    let rows = &split[top * size..];
                    for (right, &across) in squares.across.iter().enumerate() {
                        for col in (0..across).step_by(L::N) {
                            // Closures would be functions of their own, without vector instructions.
                            let mut columns = [[L::splat(0.0); 4]; 2];
                            for (side, column) in columns.iter_mut().enumerate() {
                                let from = &rows[(side * phases + right) * wide + col..];
                                *column = slope([L::load(from), L::load(&from[phases * size..])]);
                            }
                            slope_across(columns, &mut out, at + col);
                        }
                        at += across;
                    }
                }
            }
        }
    }
}

simd_fn! {
    /// One place's product, of `[outer, channels]` numbers summed over squares.
    fn multiply<L>(
        size: [usize; 3],
        slopes: &[f32],
        seen: &[f32],
        wide: usize,
        sums: &mut [f32],
        start: Start<'_>,
    ) {
        let ([outer, channels, count], tile) = (size, L::COLS * L::N);
        let mut panel = vec![0.0; count * tile];
        for first in (0..channels).step_by(tile) {
            let columns = tile.min(channels - first);
            transpose::<L>((&seen[first * wide..], wide), [columns, count], (&mut panel, tile));
            let out = (&mut sums[first..], channels);
            product::gemm::<L>([outer, columns, count], Strided(slopes, wide, 1), (&panel, tile), out, start);
        }
    }
}

simd_fn! {
    /// The gradients of some kernels, from `first` on, from their sums `[shares, PLACES, outer·channels + APART]`.
    fn taps<L>(sums: &[f32], size: [usize; 2], first: usize, out: &mut [f32]) {
        let [outer, channels] = size;
        let (apart, wide) = (outer * channels + APART, channels.next_multiple_of(L::N));
        let mut taps = vec![0.0; 9 * wide];
        for (o, out) in (first..).zip(out.chunks_exact_mut(9 * channels)) {
            for c in (0..channels).step_by(L::N) {
                let mut square = [[L::splat(0.0); 4]; 4];
                for sums in sums.chunks_exact(PLACES * apart) {
                    for (place, value) in square.as_flattened_mut().iter_mut().enumerate() {
                        let row = &sums[place * apart + o * channels + c..][..(channels - c).min(L::N)];
                        let more = if row.len() < L::N { L::load_part(row) } else { L::load(row) };
                        *value = value.add(more);
                    }
                }
                let mut columns = [[L::splat(0.0); 3]; 4];
                for (col, column) in columns.iter_mut().enumerate() {
                    *column = tap([square[0][col], square[1][col], square[2][col], square[3][col]]);
                }
                for row in 0..3 {
                    let values = tap([columns[0][row], columns[1][row], columns[2][row], columns[3][row]]);
                    for (col, value) in values.iter().enumerate() {
                        value.store(&mut taps[(3 * row + col) * wide + c..]);
                    }
                }
            }
            transpose::<L>((&taps, wide), [9, channels], (out, 9));
        }
    }
}
