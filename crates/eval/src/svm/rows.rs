//! Feature rows as the protocol scales them, turned into f64 a block at a time.

use std::ops::Range;

use crate::EvalError;
use crate::dense::{Matrix, MatrixMut, add_product, map};

/// Added to the norm a row is divided by.
const EPSILON: f64 = 1e-5;
/// Rows turned into f64 at once.
const ROWS: usize = 256;
/// Features turned into f64 at once, where all rows are wanted.
const FEATURES: usize = 256;

/// Rows x / (‖x‖ + 10⁻⁵), and behind their `dim` features one that is always 1.
pub(super) struct Rows<'a> {
    values: &'a [f32],
    dim: usize,
    scales: Vec<f64>,
}

impl<'a> Rows<'a> {
    /// Of values `[rows, dim]`; `what` names them in messages.
    pub fn new(values: &'a [f32], dim: usize, what: &'static str) -> Result<Self, EvalError> {
        if dim == 0 || values.is_empty() {
            return Err(EvalError::Empty { what });
        }
        if !values.len().is_multiple_of(dim) {
            return Err(EvalError::shape(what, format!("rows of {dim}"), format!("{} values", values.len())));
        }
        let scale = |row: &[f32]| 1.0 / (row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt() + EPSILON);
        let scales: Vec<f64> = values.chunks_exact(dim).map(scale).collect();
        // The norm of a row with a NaN or an infinity in it is none.
        if let Some(at) = scales.iter().position(|s| !s.is_finite() || *s == 0.0) {
            return Err(EvalError::NotFinite { what, place: format!(" in row {at}") });
        }
        Ok(Self { values, dim, scales })
    }

    pub fn len(&self) -> usize {
        self.scales.len()
    }

    /// Features of a row with the constant one.
    pub fn width(&self) -> usize {
        self.dim + 1
    }

    /// A block, `[items, features]` by rows. The constant feature is the one of number `dim`.
    pub fn block(&self, items: Range<usize>, features: Range<usize>) -> Vec<f64> {
        let mut block = Vec::with_capacity(items.len() * features.len());
        let real = features.start.min(self.dim)..features.end.min(self.dim);
        for item in items {
            let row = &self.values[item * self.dim..(item + 1) * self.dim];
            block.extend(row[real.clone()].iter().map(|v| f64::from(*v) * self.scales[item]));
            block.extend((features.end > self.dim).then_some(1.0));
        }
        block
    }

    /// Inner products of all rows, `[rows, rows]`, symmetric.
    pub fn gram(&self, threads: usize) -> Vec<f64> {
        let (n, width) = (self.len(), self.width());
        let blocks = || (0..n).step_by(ROWS).map(|first| first..n.min(first + ROWS));
        // The longest first, so that threads end together.
        let jobs: Vec<Range<usize>> = blocks().rev().collect();
        let below_diagonal = map(threads, jobs, |rows: Range<usize>| {
            let own = self.block(rows.clone(), 0..width);
            let own = Matrix::by_rows(&own, rows.len(), width, width);
            let mut out = vec![0.0; rows.len() * rows.end];
            for others in blocks().take_while(|b| b.start < rows.end) {
                let other = self.block(others.clone(), 0..width);
                let other = Matrix::by_rows(&other, others.len(), width, width);
                let place = &mut out[others.start * rows.len()..others.end * rows.len()];
                let mut place = MatrixMut::by_cols(place, rows.len(), others.len(), rows.len());
                add_product(&mut place, 0.0, 1.0, own, other.transposed());
            }
            (rows, out)
        });
        let mut gram = vec![0.0; n * n];
        for (rows, block) in below_diagonal {
            for (j, column) in block.chunks_exact(rows.len()).enumerate() {
                for (i, value) in rows.clone().zip(column).filter(|(i, _)| *i >= j) {
                    gram[j * n + i] = *value;
                    gram[i * n + j] = *value;
                }
            }
        }
        gram
    }

    /// Sums of rows with these coefficients: `[width]` for each set of coefficients `[rows]`.
    pub fn combined(&self, coefficients: &[&[f64]], threads: usize) -> Vec<Vec<f64>> {
        let (n, sets) = (self.len(), coefficients.len());
        let packed: Vec<f64> = coefficients.concat();
        let jobs: Vec<Range<usize>> =
            (0..self.width()).step_by(FEATURES).map(|first| first..self.width().min(first + FEATURES)).collect();
        let parts = map(threads, jobs, |features: Range<usize>| {
            let mut out = vec![0.0; features.len() * sets];
            for first in (0..n).step_by(ROWS) {
                let items = first..n.min(first + ROWS);
                let block = self.block(items.clone(), features.clone());
                let block = Matrix::by_rows(&block, items.len(), features.len(), features.len());
                let by = Matrix::by_cols(packed.get(first..).unwrap_or_default(), items.len(), sets, n);
                let mut out = MatrixMut::by_cols(&mut out, features.len(), sets, features.len());
                add_product(&mut out, 1.0, 1.0, block.transposed(), by);
            }
            (features.len(), out)
        });
        columns_of(&parts, sets)
    }

    /// Products of every row with these weights `[width]`: `[rows]` for each set of weights.
    pub fn decisions(&self, weights: &[Vec<f64>], threads: usize) -> Vec<Vec<f64>> {
        let (n, width, sets) = (self.len(), self.width(), weights.len());
        let packed: Vec<f64> = weights.concat();
        let jobs: Vec<usize> = (0..n).step_by(ROWS).collect();
        let parts = map(threads, jobs, |first: usize| {
            let items = first..n.min(first + ROWS);
            let block = self.block(items.clone(), 0..width);
            let mut out = vec![0.0; items.len() * sets];
            add_product(
                &mut MatrixMut::by_cols(&mut out, items.len(), sets, items.len()),
                0.0,
                1.0,
                Matrix::by_rows(&block, items.len(), width, width),
                Matrix::by_cols(&packed, width, sets, width),
            );
            (items.len(), out)
        });
        columns_of(&parts, sets)
    }
}

/// The columns of blocks of rows that lie below one another, each by columns with its number of rows.
pub(super) fn columns_of(blocks: &[(usize, Vec<f64>)], columns: usize) -> Vec<Vec<f64>> {
    let part = |(rows, values): &(usize, Vec<f64>), j: usize| values[j * rows..(j + 1) * rows].to_vec();
    (0..columns).map(|j| blocks.iter().flat_map(|block| part(block, j)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_products_and_sums_are_those_of_the_scaled_rows() {
        let (n, dim) = (ROWS + 5, FEATURES + 3);
        let values: Vec<f32> = (0..n * dim).map(|i| ((i * i) % 17) as f32 - 7.0).collect();
        let rows = Rows::new(&values, dim, "rows").unwrap();
        let full = rows.block(0..n, 0..dim + 1);
        let row = |i: usize| &full[i * (dim + 1)..(i + 1) * (dim + 1)];
        let norm: f64 = values[..dim].iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        assert_eq!(row(0)[1], f64::from(values[1]) * (1.0 / (norm + 1e-5)));
        assert_eq!(row(n - 1)[dim], 1.0);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let gram = rows.gram(2);
        for (i, j) in [(0, 0), (3, n - 1), (n - 1, 3), (n - 2, n - 1), (ROWS, ROWS - 1)] {
            assert!((gram[i * n + j] - dot(row(i), row(j))).abs() < 1e-12, "{i}, {j}");
        }
        let by: Vec<f64> = (0..n).map(|i| (i as f64).cos()).collect();
        let twice: Vec<f64> = by.iter().map(|v| 2.0 * v).collect();
        let sums = rows.combined(&[&by, &twice], 2);
        for feature in [0, FEATURES, dim] {
            let sum: f64 = (0..n).map(|i| by[i] * row(i)[feature]).sum();
            assert!((sums[0][feature] - sum).abs() < 1e-11 && (sums[1][feature] - 2.0 * sum).abs() < 1e-11);
        }
        let decisions = rows.decisions(&sums, 3);
        for item in [0, ROWS, n - 1] {
            assert!((decisions[1][item] - dot(&sums[1], row(item))).abs() < 1e-10);
        }
        assert_eq!(rows.gram(1), gram);
        assert_eq!(rows.decisions(&rows.combined(&[&by, &twice], 1), 1), decisions);
    }

    #[test]
    fn rows_without_a_norm_are_refused() {
        assert!(Rows::new(&[0.0; 4], 2, "rows").is_ok(), "a row of zeros stays one");
        let message = |values: &[f32], dim| Rows::new(values, dim, "rows").err().unwrap().to_string();
        assert!(message(&[1.0, 2.0, f32::INFINITY, 0.0], 2).contains("row 1"));
        assert!(message(&[1.0, 2.0, 3.0], 2).contains("rows of 2"));
        assert!(message(&[], 2).contains("empty"));
    }
}
