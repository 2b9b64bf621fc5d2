//! The gradient of a weight matrix: a product whose sums run over all rows of the batch.
//!
//! The rows are cut into pieces of a fixed size, each piece gives a partial result, and the partial results are added
//! in order: the same bits for any number of threads.

use crate::alloc::{self, Buffer};
use crate::parallel;
use crate::product::{self, Start, Strided, tile_width};
use crate::{Lanes, simd_fn};

/// Rows packed at a time, so that a panel of `dY` stays in the first-level cache.
pub const CHUNK: usize = 128;
/// Numbers of a partial result: it stays in the second-level cache.
const OUT: usize = 96 * 768;
/// Columns of a partial result, before rounding down to whole tiles.
const OUT_COLS: usize = 384;
/// Fewest rows of a piece.
const PIECE: usize = 512;

/// Gradients of the weights and the bias.
#[derive(Debug)]
pub struct WeightGrad {
    /// `[inputs, outputs]`.
    pub weight: Buffer,
    /// `[outputs]`, the column sums of `dY`.
    pub bias: Buffer,
}

struct Task<'a> {
    rows: core::ops::Range<usize>,
    inputs: core::ops::Range<usize>,
    outputs: core::ops::Range<usize>,
    weight: &'a mut [f32],
    bias: &'a mut [f32],
}

/// `dW = Xᵀ·dY` and the column sums of `dY`, for row-major `X[rows, inputs]` and `dY[rows, outputs]`.
pub fn weight_grad(x: &[f32], dy: &[f32], inputs: usize, outputs: usize) -> WeightGrad {
    let rows = dy.len().checked_div(outputs).unwrap_or(0);
    let tile = tile_width();
    // Output blocks of whole tiles; their shape and the pieces depend on the sizes alone.
    let block_out = outputs.min(OUT_COLS / tile * tile).max(1);
    let block_in = inputs.min((OUT / block_out).next_multiple_of(8)).max(1);
    // The partial results together should not outweigh the operands.
    let room = (rows * (inputs + outputs)) / (2 * inputs * outputs).max(1);
    let pieces = rows.div_ceil(PIECE).min(room).max(1);
    let piece = rows.div_ceil(pieces).next_multiple_of(CHUNK);
    let pieces = rows.div_ceil(piece.max(1)).max(1);

    let mut partial = alloc::zeros(pieces * (inputs * outputs + outputs));
    let mut tasks = Vec::new();
    let mut rest = &mut partial[..];
    for p in 0..pieces {
        for j in (0..outputs).step_by(block_out) {
            let width = block_out.min(outputs - j);
            for i in (0..inputs).step_by(block_in) {
                let height = block_in.min(inputs - i);
                let (weight, after) = rest.split_at_mut(height * width);
                let (bias, after) = after.split_at_mut(if i == 0 { width } else { 0 });
                rest = after;
                tasks.push(Task {
                    rows: p * piece..((p + 1) * piece).min(rows),
                    inputs: i..i + height,
                    outputs: j..j + width,
                    weight,
                    bias,
                });
            }
        }
    }
    parallel::run(tasks, |task| block(x, dy, inputs, outputs, task));
    gather(&partial, inputs, outputs, block_in, block_out, pieces)
}

/// Adds the partial results in the order of the pieces.
fn gather(
    partial: &[f32],
    inputs: usize,
    outputs: usize,
    block_in: usize,
    block_out: usize,
    pieces: usize,
) -> WeightGrad {
    let each = inputs * outputs + outputs;
    let mut weight = alloc::zeros(inputs * outputs);
    let mut bias = alloc::zeros(outputs);
    for piece in partial.chunks_exact(each.max(1)).take(pieces) {
        let mut rest = piece;
        for j in (0..outputs).step_by(block_out) {
            let width = block_out.min(outputs - j);
            for i in (0..inputs).step_by(block_in) {
                let height = block_in.min(inputs - i);
                let (from, after) = rest.split_at(height * width);
                for (r, from) in from.chunks_exact(width).enumerate() {
                    add(&mut weight[(i + r) * outputs + j..][..width], from);
                }
                rest = after;
                if i == 0 {
                    let (from, after) = rest.split_at(width);
                    add(&mut bias[j..j + width], from);
                    rest = after;
                }
            }
        }
    }
    WeightGrad { weight, bias }
}

/// `to += from`.
pub fn add(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

simd_fn! {
    fn block<L>(x: &[f32], dy: &[f32], inputs: usize, outputs: usize, task: Task<'_>) {
        let Task { rows, inputs: from, outputs: to, weight, bias } = task;
        let mut packed = alloc::zeros(chunk_room::<L>(to.len()));
        for at in rows.clone().step_by(CHUNK) {
            let count = CHUNK.min(rows.end - at);
            chunk::<L>(
                (&x[at * inputs + from.start..], inputs),
                (&dy[at * outputs + to.start..], outputs),
                [from.len(), to.len(), count],
                &mut packed,
                weight,
                bias,
                at == rows.start,
            );
        }
    }
}

/// Room for the packed rows of [`chunk`].
#[inline(always)]
pub fn chunk_room<L: Lanes>(outputs: usize) -> usize {
    CHUNK * outputs.next_multiple_of(L::COLS * L::N)
}

/// Adds what up to [`CHUNK`] rows contribute to `weight [inputs, outputs]` and, unless it is empty, to `bias [outputs]`.
/// `size` is `[inputs, outputs, rows]`; both operands come with the distance between their rows. The first chunk
/// overwrites the weight.
#[inline(always)]
pub fn chunk<L: Lanes>(
    (x, x_row): (&[f32], usize),
    (dy, dy_row): (&[f32], usize),
    [inputs, outputs, rows]: [usize; 3],
    packed: &mut [f32],
    weight: &mut [f32],
    bias: &mut [f32],
    first: bool,
) {
    let tile = L::COLS * L::N;
    // The tiles below walk down columns, which the processor does not foresee.
    for row in x.chunks(x_row).take(rows) {
        L::prefetch(&row[..inputs]);
    }
    for (t, panel) in packed.chunks_exact_mut(CHUNK * tile).enumerate() {
        let j = t * tile;
        let count = tile.min(outputs - j);
        for (r, line) in panel.chunks_exact_mut(tile).take(rows).enumerate() {
            line[..count].copy_from_slice(&dy[r * dy_row + j..][..count]);
        }
        if !bias.is_empty() {
            let sums = &mut bias[j..j + count];
            for line in panel.chunks_exact(tile).take(rows) {
                for (sum, &x) in sums.iter_mut().zip(line) {
                    *sum += x;
                }
            }
        }
        product::gemm::<L>(
            [inputs, count, rows],
            Strided(x, 1, x_row),
            (panel, tile),
            (&mut weight[j..], outputs),
            if first { Start::Zero } else { Start::Add },
        );
    }
}
