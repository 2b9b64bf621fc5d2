//! Matrix products for tall activations and small weights, without copying a transpose.
//!
//! The weights are packed once into panels as wide as a register tile; activations are read where they are. Each block
//! of rows is one task, so the result does not depend on the number of threads.

mod pack;
mod weight_grad;

pub use pack::{Panels, View};
pub use weight_grad::{CHUNK, WeightGrad, add, chunk, chunk_room, weight_grad};

use crate::parallel;
use crate::product::{self, Start, Strided};
use crate::simd_fn;

/// Rows of activations in one task.
const ROWS: usize = 64;
/// Depth of one pass: a block of activations and a panel of weights stay in the second-level cache.
const DEPTH: usize = 512;

/// `Y[m, n] = X[m, k]·W[k, n] (+ bias)`, row-major, `W` packed.
pub fn tall(x: &[f32], weights: &Panels, bias: Option<&[f32]>, y: &mut [f32]) {
    let (k, n) = (weights.depth(), weights.width());
    if n == 0 {
        return;
    }
    let bias = bias.map(|b| weights.padded(b));
    let tasks = y
        .chunks_mut(ROWS * n)
        .enumerate()
        .map(|(i, y)| {
            let rows = y.len() / n;
            (&x[i * ROWS * k..][..rows * k], y)
        })
        .collect();
    parallel::run(tasks, |(x, y)| rows(x, weights, bias.as_deref(), y));
}

simd_fn! {
    /// One block of rows of [`tall`].
    pub fn rows<L>(x: &[f32], weights: &Panels, bias: Option<&[f32]>, y: &mut [f32]) {
        let (k, n) = (weights.depth(), weights.width());
        let m = y.len() / n;
        let mut from = 0;
        loop {
            let depth = (k - from).min(DEPTH);
            for (panel, j) in weights.panels() {
                let width = (n - j).min(weights.tile());
                let start = match bias {
                    _ if from > 0 => Start::Add,
                    Some(bias) => Start::Bias(&bias[j..]),
                    None => Start::Zero,
                };
                product::gemm::<L>(
                    [m, width, depth],
                    Strided(&x[from..], k, 1),
                    (&panel[from * weights.tile()..], weights.tile()),
                    (&mut y[j..], n),
                    start,
                );
            }
            from += depth;
            if from >= k {
                break;
            }
        }
    }
}
