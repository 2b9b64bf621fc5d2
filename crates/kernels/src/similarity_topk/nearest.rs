//! The best k of a stream.

use std::cmp::Ordering;

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
