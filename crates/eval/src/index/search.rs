//! Exact search for the rows most similar to a query.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::ops::Range;

use super::Rows;

/// A row that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// The row.
    pub row: usize,
    /// Its cosine with the query.
    pub similarity: f32,
}

impl Eq for Hit {}

/// The more similar one is the greater; of equals the earlier row.
impl Ord for Hit {
    fn cmp(&self, other: &Self) -> Ordering {
        self.similarity.total_cmp(&other.similarity).then(other.row.cmp(&self.row))
    }
}

impl PartialOrd for Hit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The `top` rows of `within` most similar to `query`, `[dim]` of unit length: the most similar first, equals in
/// their order. Row `skip` is left out, and so are rows whose similarity is no number, as those of a damaged file.
pub fn nearest(rows: Rows<'_>, within: Range<usize>, query: &[f32], top: usize, skip: Option<usize>) -> Vec<Hit> {
    // The least of those kept lies on top of the heap. No more room than there are rows, whatever was asked for.
    let mut kept = BinaryHeap::with_capacity(top.min(rows.len()).saturating_add(1));
    for row in within.start..within.end.min(rows.len()) {
        let hit = Hit { row, similarity: rows.dot(row, query) };
        let passes = kept.len() < top || kept.peek().is_some_and(|Reverse(least)| hit > *least);
        if passes && hit.similarity.is_finite() && skip != Some(row) {
            kept.push(Reverse(hit));
            if kept.len() > top {
                kept.pop();
            }
        }
    }
    best(kept.into_iter().map(|Reverse(hit)| hit).collect(), top)
}

/// The best of what was found in several parts, the most similar first.
pub fn best(mut hits: Vec<Hit>, top: usize) -> Vec<Hit> {
    hits.sort_unstable_by(|a, b| b.cmp(a));
    hits.truncate(top);
    hits
}
