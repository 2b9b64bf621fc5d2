//! Which cells of two feature maps match, and how often rightly.
//!
//! ```
//! use burn::tensor::{Device, Tensor, TensorData};
//! use ocelli_eval::correspondence::nearest;
//!
//! let device = Device::flex();
//! let map = |values: [f32; 4]| Tensor::<2>::from_data(TensorData::new(values.to_vec(), [2, 2]), &device);
//! // The cells of the second map are those of the first, exchanged.
//! let matches = nearest(map([1.0, 0.0, 0.0, 1.0]), map([0.0, 2.0, 3.0, 0.0]))?;
//! assert_eq!(matches.iter().map(|m| (m.from, m.to, m.mutual)).collect::<Vec<_>>(), [(0, 1, true), (1, 0, true)]);
//! # Ok::<(), ocelli_eval::EvalError>(())
//! ```

mod drawing;

use burn::tensor::Tensor;

pub use drawing::{MatchPicture, position_colour};

use crate::EvalError;

/// A cell and its nearest neighbour in the other map. Cells are row-major.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Match {
    /// Cell of the first map.
    pub from: usize,
    /// The most similar cell of the second map, the first of equals.
    pub to: usize,
    /// Cosine of the two features.
    pub similarity: f32,
    /// Whether `from` is the most similar cell to `to`, too.
    pub mutual: bool,
}

/// The nearest neighbour of every cell of `first` among those of `second` by cosine: `[cells, dim]` each.
///
/// # Errors
/// [`EvalError::Empty`], [`EvalError::Shape`], [`EvalError::NotFinite`] or [`EvalError::Device`].
pub fn nearest(first: Tensor<2>, second: Tensor<2>) -> Result<Vec<Match>, EvalError> {
    let ([rows, dim], [cols, other]) = (first.dims(), second.dims());
    if rows == 0 || cols == 0 {
        return Err(EvalError::Empty { what: "a feature map" });
    }
    if dim != other {
        return Err(EvalError::shape("the second feature map", format!("{dim} channels"), other));
    }
    let unit = |x: Tensor<2>| {
        let norm = x.clone().powi_scalar(2).sum_dim(1).sqrt().clamp_min(1e-12);
        x / norm
    };
    let table = unit(first).matmul(unit(second).transpose());
    let table: Vec<f32> = table
        .into_data()
        .try_to_vec()
        .map_err(|e| EvalError::Device { during: "comparing features", reason: format!("{e:?}") })?;
    if table.iter().any(|v| !v.is_finite()) {
        return Err(EvalError::NotFinite { what: "the table of similarities", place: String::new() });
    }
    let first_best = |values: &mut dyn Iterator<Item = f32>| {
        values.enumerate().fold((0, f32::NEG_INFINITY), |best, (i, v)| if v > best.1 { (i, v) } else { best })
    };
    let back: Vec<usize> =
        (0..cols).map(|c| first_best(&mut table.iter().skip(c).step_by(cols).copied()).0).collect();
    let find = |from: usize| {
        let (to, similarity) = first_best(&mut table[from * cols..][..cols].iter().copied());
        Match { from, to, similarity, mutual: back[to] == from }
    };
    Ok((0..rows).map(find).collect())
}

/// Matches counted against the truth: add pairs of views, then read the shares.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pck {
    /// Cells whose place the other view shows.
    pub cells: usize,
    /// Of these, matches within one cell of the truth.
    pub within_1: usize,
    /// Within two cells.
    pub within_2: usize,
    /// Of the cells, those in mutual matches.
    pub mutual: usize,
    /// Of the mutual matches, those within one cell.
    pub mutual_within_1: usize,
    /// Of the mutual matches, those within two cells.
    pub mutual_within_2: usize,
    /// Sum over the cells of the share of the other map's cells within one cell of the truth: what guessing gets.
    pub chance_1: f64,
    /// The same within two cells.
    pub chance_2: f64,
}

impl Pck {
    /// Counts a pair's matches. `truth` has an entry per cell of the first map: where the second view shows its place, in
    /// cells from its upper left corner (a cell's centre is at .5), or `None` where it does not. `grid` is rows and columns
    /// of the second map. Distances are Euclidean.
    pub fn add(&mut self, matches: &[Match], truth: &[Option<(f32, f32)>], grid: [usize; 2]) {
        let [rows, cols] = grid;
        for m in matches {
            let Some(&Some((x, y))) = truth.get(m.from) else { continue };
            let away = |cell: usize| ((cell % cols) as f32 + 0.5 - x).hypot((cell / cols) as f32 + 0.5 - y);
            let hit = away(m.to);
            let near = |reach: f32| (0..rows * cols).filter(|c| away(*c) <= reach).count() as f64;
            let count = |ok: bool| usize::from(ok);
            self.cells += 1;
            self.within_1 += count(hit <= 1.0);
            self.within_2 += count(hit <= 2.0);
            self.mutual += count(m.mutual);
            self.mutual_within_1 += count(m.mutual && hit <= 1.0);
            self.mutual_within_2 += count(m.mutual && hit <= 2.0);
            self.chance_1 += near(1.0) / (rows * cols) as f64;
            self.chance_2 += near(2.0) / (rows * cols) as f64;
        }
    }

    /// `part` of `whole` in per cent; 0 of nothing.
    pub fn percent(part: f64, whole: usize) -> f64 {
        100.0 * part / whole.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    fn map(rows: &[[f32; 2]]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(rows.concat(), [rows.len(), 2]), &Device::flex())
    }

    #[test]
    fn neighbours_are_the_most_similar_cells_and_mutual_where_both_agree() {
        let first = map(&[[1.0, 0.0], [0.0, 3.0], [2.0, 0.1]]);
        let second = map(&[[0.0, 1.0], [5.0, 0.1]]);
        let found = nearest(first, second).unwrap();
        let pairs: Vec<(usize, usize, bool)> = found.iter().map(|m| (m.from, m.to, m.mutual)).collect();
        // Both outer cells point at cell 1, which points back at one of them.
        assert_eq!(pairs, [(0, 1, true), (1, 0, true), (2, 1, false)]);
        assert!((found[1].similarity - 1.0).abs() < 1e-6);
        assert!(nearest(map(&[[1.0, 0.0]]), map(&[])).is_err());
        assert!(nearest(map(&[[f32::NAN, 0.0]]), map(&[[1.0, 0.0]])).is_err());
    }

    #[test]
    fn pck_counts_cells_the_other_view_shows() {
        let m = |from, to, mutual| Match { from, to, similarity: 1.0, mutual };
        // A row of four cells: right, one off, three off, and one whose place is not shown.
        let truth = [Some((0.5, 0.5)), Some((0.5, 0.5)), Some((0.5, 0.5)), None];
        let mut pck = Pck::default();
        pck.add(&[m(0, 0, true), m(1, 1, false), m(2, 3, true), m(3, 0, true)], &truth, [1, 4]);
        assert_eq!((pck.cells, pck.within_1, pck.within_2), (3, 2, 2));
        assert_eq!((pck.mutual, pck.mutual_within_1, pck.mutual_within_2), (2, 1, 1));
        // Two of four cells are within one of the truth, three within two.
        assert!((pck.chance_1 - 1.5).abs() < 1e-9 && (pck.chance_2 - 2.25).abs() < 1e-9);
        assert_eq!(Pck::percent(pck.within_1 as f64, pck.cells).round(), 67.0);
        assert_eq!(Pck::percent(0.0, 0), 0.0);
    }
}
