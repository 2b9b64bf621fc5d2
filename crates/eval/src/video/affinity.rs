//! Which cells of the context are most like each cell of a frame.
//!
//! Only the square around a cell is computed: blocks of neighbouring cells share their sources, so a block against
//! one row of a context frame is a small matrix product.

use std::thread;

use ocelli_kernels::host::{PADDING, product};

use super::neighbours::TopK;
use super::{GridSize, PropagationConfig};

/// Cells of a block, down and across. With the published radius 12, a block of 8 across has 32 sources in a row:
/// whole vectors at any width.
const BLOCK: GridSize = GridSize { rows: 4, columns: 8 };

/// Sources of a target cell and their weights, which sum to 1. A source's number is `frame · cells + cell`.
pub type Affinity = Vec<(u32, f32)>;

/// A context frame's features, `[rows, dim, columns]`: a product finds the sources of a row side by side.
pub struct Keys(Vec<f32>);

impl Keys {
    /// From `[cells, dim]`, row by row.
    pub fn new(features: &[f32], grid: GridSize, dim: usize) -> Self {
        let mut keys = vec![0.0; features.len() + PADDING];
        let size = grid.columns * dim;
        for (row, features) in keys.chunks_exact_mut(size).zip(features.chunks_exact(size)) {
            for (column, feature) in features.chunks_exact(dim).enumerate() {
                for (place, value) in row[column..].iter_mut().step_by(grid.columns).zip(feature) {
                    *place = *value;
                }
            }
        }
        Self(keys)
    }
}

/// Cells of a block of targets.
#[derive(Clone, Copy)]
struct Block {
    row: usize,
    column: usize,
    rows: usize,
    columns: usize,
}

/// Affinities of every cell of a frame with unit features `queries`, `[cells, dim]`, to the context frames `keys`.
pub fn affinities(
    queries: &[f32],
    keys: &[&Keys],
    grid: GridSize,
    dim: usize,
    config: &PropagationConfig,
) -> Vec<Affinity> {
    let mut blocks = Vec::new();
    for row in (0..grid.rows).step_by(BLOCK.rows) {
        for column in (0..grid.columns).step_by(BLOCK.columns) {
            let rows = BLOCK.rows.min(grid.rows - row);
            blocks.push(Block { row, column, rows, columns: BLOCK.columns.min(grid.columns - column) });
        }
    }
    let threads = config.threads.min(blocks.len()).max(1);
    let search = Search { queries, keys, grid, dim, config };
    // Every cell is found by itself, so neither the number of threads nor their order matters.
    let share =
        |thread: usize| search.run(&blocks.iter().copied().skip(thread).step_by(threads).collect::<Vec<_>>());
    let mut all = vec![Affinity::new(); grid.cells()];
    let mut put = |found: Vec<(usize, Affinity)>| {
        for (cell, affinity) in found {
            all[cell] = affinity;
        }
    };
    thread::scope(|scope| {
        let share = &share;
        let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || share(thread))).collect();
        put(share(0));
        for other in others {
            match other.join() {
                Ok(found) => put(found),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    all
}

struct Search<'a> {
    queries: &'a [f32],
    keys: &'a [&'a Keys],
    grid: GridSize,
    dim: usize,
    config: &'a PropagationConfig,
}

impl Search<'_> {
    /// Affinities of the cells of some blocks. One context frame after another, so that it stays in cache while
    /// the blocks pass by.
    fn run(&self, blocks: &[Block]) -> Vec<(usize, Affinity)> {
        let targets: Vec<Vec<usize>> = blocks.iter().map(|block| self.cells(*block)).collect();
        let mut best: Vec<Vec<TopK>> =
            targets.iter().map(|cells| cells.iter().map(|_| TopK::new(self.config.top_k)).collect()).collect();
        let (mut features, mut cosines) = (Vec::new(), Vec::new());
        for frame in 0..self.keys.len() {
            for ((block, cells), best) in blocks.iter().zip(&targets).zip(&mut best) {
                features.clear();
                for cell in cells {
                    features.extend_from_slice(&self.queries[cell * self.dim..][..self.dim]);
                }
                self.against(frame, *block, &features, &mut cosines, best);
            }
        }
        let found = best.into_iter().flatten().map(|best| self.weights(best.finish()));
        targets.into_iter().flatten().zip(found).collect()
    }

    fn cells(&self, block: Block) -> Vec<usize> {
        let columns = block.column..block.column + block.columns;
        (block.row..block.row + block.rows)
            .flat_map(|row| columns.clone().map(move |column| row * self.grid.columns + column))
            .collect()
    }

    /// Offers a block's cells their sources in one context frame.
    fn against(&self, frame: usize, block: Block, features: &[f32], cosines: &mut Vec<f32>, best: &mut [TopK]) {
        let (grid, dim) = (self.grid, self.dim);
        let reach = match self.config.radius {
            0 => grid.rows.max(grid.columns),
            radius => radius,
        };
        let (left, right) = around(block.column, block.columns, reach, grid.columns);
        let (top, bottom) = around(block.row, block.rows, reach, grid.rows);
        let (targets, sources) = (best.len(), right - left);
        cosines.resize(targets * sources, 0.0);
        for row in top..bottom {
            let keys = &self.keys[frame].0[row * dim * grid.columns + left..];
            product([targets, sources, dim], (features, dim), (keys, grid.columns), (cosines, sources));
            let first = frame * grid.cells() + row * grid.columns;
            for (target, (best, cosines)) in best.iter_mut().zip(cosines.chunks_exact(sources)).enumerate() {
                if row.abs_diff(block.row + target / block.columns) > reach {
                    continue;
                }
                let (from, to) = around(block.column + target % block.columns, 1, reach, grid.columns);
                best.offer(&cosines[from - left..to - left], (first + from) as u32);
            }
        }
    }

    /// Cosines to weights. The largest is taken off before the exponential, which the division takes back.
    fn weights(&self, sources: Vec<(u32, f32)>) -> Affinity {
        let largest = sources.iter().map(|(_, cosine)| *cosine).fold(f32::NEG_INFINITY, f32::max);
        let weight = |cosine: f32| ((f64::from(cosine) - f64::from(largest)) / self.config.temperature).exp();
        let sum: f64 = sources.iter().map(|(_, cosine)| weight(*cosine)).sum();
        sources.into_iter().map(|(source, cosine)| (source, (weight(cosine) / sum) as f32)).collect()
    }
}

/// Cells `from..from + count` and `reach` more either way, of `all`.
fn around(from: usize, count: usize, reach: usize, all: usize) -> (usize, usize) {
    (from.saturating_sub(reach), (from + count + reach).min(all))
}
