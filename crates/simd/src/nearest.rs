//! The most similar rows of a bank: a block of queries at a time against a tile of it.

use std::cmp::Ordering;

use crate::alloc::{self, Buffer};
use crate::gemm::{self, Panels, View};
use crate::parallel;

/// Queries of one task.
const ROWS: usize = 64;

/// The `k` rows of `bank [n, dim]` with the largest dot product with each row of `queries [rows, dim]`: similarities and
/// indices, `[rows, k]`, best first, equal similarities in the order of the bank. `tile` rows of the bank at a time. Where there are
/// fewer than `k`, the rest is −∞ and −1.
pub fn similarity_topk(queries: &[f32], bank: &[f32], dim: usize, k: usize, tile: usize) -> (Buffer, Vec<i64>) {
    let rows = queries.len() / dim;
    let mut nearest = vec![Nearest::new(k); rows];
    for (t, part) in bank.chunks(tile * dim).enumerate() {
        let width = part.len() / dim;
        let panels = Panels::new(View::row_major(part, width, dim).transposed());
        let tasks = queries.chunks(ROWS * dim).zip(nearest.chunks_mut(ROWS)).collect();
        parallel::run(tasks, |(queries, nearest): (&[f32], &mut [Nearest])| {
            let mut scores = alloc::scratch(nearest.len() * width);
            gemm::rows(queries, &panels, None, &mut scores);
            for (nearest, row) in nearest.iter_mut().zip(scores.chunks_exact(width)) {
                nearest.extend(row, t * tile);
            }
        });
    }
    let mut similarities = alloc::scratch(rows * k);
    let mut indices = vec![-1i64; rows * k];
    for (row, nearest) in nearest.into_iter().enumerate() {
        let found = nearest.finish();
        let places = similarities[row * k..][..k].iter_mut().zip(&mut indices[row * k..][..k]);
        for (i, (similarity, index)) in places.enumerate() {
            *similarity = found.get(i).map_or(f32::NEG_INFINITY, |r| r.similarity);
            *index = found.get(i).map_or(-1, |r| i64::from(r.index));
        }
    }
    (similarities, indices)
}

/// A row of the bank and how similar it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// Similarity.
    pub similarity: f32,
    /// Which row.
    pub index: u32,
}

impl Ranked {
    /// Most similar first, then the order of the bank.
    pub fn nearest_first(a: &Self, b: &Self) -> Ordering {
        b.similarity.total_cmp(&a.similarity).then(a.index.cmp(&b.index))
    }
}

/// The best k of a stream of similarities that comes in the order of the bank.
///
/// They collect in a buffer of 2k; when it is full, a partial select drops the worse half and raises the bar that newcomers
/// have to pass. Almost all of a long row fails that one comparison.
#[derive(Debug, Clone)]
pub struct Nearest {
    k: usize,
    bar: f32,
    kept: Vec<Ranked>,
}

impl Nearest {
    /// Of `k`, at least 1.
    pub fn new(k: usize) -> Self {
        Self { k, bar: f32::NEG_INFINITY, kept: Vec::with_capacity(2 * k) }
    }

    /// The similarities of the rows from `first_index` on.
    pub fn extend(&mut self, row: &[f32], first_index: usize) {
        for (offset, &similarity) in row.iter().enumerate() {
            // Strictly: a later row with the similarity of the bar loses against the earlier ones that set it.
            // NaN goes in as well, in the sign that sorts first, so that whoever asked finds it and can refuse.
            if similarity > self.bar || similarity.is_nan() {
                let similarity = if similarity.is_nan() { f32::NAN } else { similarity };
                self.kept.push(Ranked { similarity, index: (first_index + offset) as u32 });
                if self.kept.len() == 2 * self.k {
                    self.shrink();
                }
            }
        }
    }

    fn shrink(&mut self) {
        self.kept.select_nth_unstable_by(self.k - 1, Ranked::nearest_first);
        self.kept.truncate(self.k);
        self.bar = self.kept[self.k - 1].similarity;
    }

    /// The best, best first; fewer than k where there were not as many above −∞.
    pub fn finish(mut self) -> Vec<Ranked> {
        self.kept.sort_unstable_by(Ranked::nearest_first);
        self.kept.truncate(self.k);
        self.kept
    }
}
