//! Near-duplicates: rows that are more similar than a threshold, and rows that such ones connect.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};

use super::Rows;
use crate::EvalError;

/// Rows on a side of a tile. Two blocks of rows and a tile of similarities are in memory, a few megabytes.
const BLOCK: usize = 1024;
/// What f32 sums of a few thousand products are off by: a row and its copy have a cosine a little below 1.
const ROUNDING: f32 = 2e-6;

/// Sets that grow together.
struct Sets {
    /// The parent of each; a root is its own.
    parents: Vec<u32>,
}

impl Sets {
    fn root(&mut self, mut of: u32) -> u32 {
        while self.parents[of as usize] != of {
            let above = self.parents[self.parents[of as usize] as usize];
            self.parents[of as usize] = above;
            of = above;
        }
        of
    }

    fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        // The earlier row stays the root.
        self.parents[a.max(b) as usize] = a.min(b);
    }
}

/// Groups of two rows or more: two rows are in one group where their cosine is at least `threshold`, or where
/// others of the group connect them. Rows of a group rise, and groups are in the order of their first rows.
///
/// All pairs are looked at in tiles, so memory stays at a few megabytes beside the rows; no pair is kept.
/// `progress` is called with the rows that are compared with all others, and stops the work by returning false:
/// the result is then `None`.
///
/// # Errors
/// [`EvalError::Setting`] for a threshold outside -1..=1, [`EvalError::Device`] when a product cannot be read
/// back.
pub fn near_duplicates(
    rows: Rows<'_>,
    threshold: f32,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<Option<Vec<Vec<usize>>>, EvalError> {
    if !(-1.0..=1.0).contains(&threshold) {
        return Err(EvalError::setting("threshold", "a cosine from -1 to 1", threshold));
    }
    let (len, dim, device) = (rows.len(), rows.dim(), Device::flex());
    let mut sets = Sets { parents: (0..len as u32).collect() };
    let block = |start: usize| {
        let values = rows.to_vec(start..start + BLOCK);
        Tensor::<2>::from_data(TensorData::new(values, [BLOCK.min(len - start), dim]), &device)
    };
    for first in (0..len).step_by(BLOCK) {
        let left = block(first);
        for second in (first..len).step_by(BLOCK) {
            let product = left.clone().matmul(block(second).transpose());
            let width = product.dims()[1];
            let similarities: Vec<f32> = product
                .into_data()
                .try_into_vec_as()
                .map_err(|e| EvalError::Device { during: "comparing pictures", reason: format!("{e:?}") })?;
            for (a, line) in (first..).zip(similarities.chunks_exact(width)) {
                for (b, similarity) in (second..).zip(line) {
                    if *similarity >= threshold - ROUNDING && b > a {
                        sets.join(a as u32, b as u32);
                    }
                }
            }
        }
        if !progress((first + BLOCK).min(len)) {
            return Ok(None);
        }
    }
    let mut groups: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for row in 0..len {
        groups.entry(sets.root(row as u32)).or_default().push(row);
    }
    Ok(Some(groups.into_values().filter(|group| group.len() > 1).collect()))
}
