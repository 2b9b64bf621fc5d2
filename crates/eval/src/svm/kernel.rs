//! Inner products of the training rows, as the solver needs them: by their table where there are fewer rows than
//! features, else by the features.

use std::ops::Range;

use super::rows::{Rows, columns_of};
use crate::dense::{Cholesky, Matrix, MatrixMut, add_product, map};

/// Rows of a product that one job computes.
const BLOCK: usize = 256;
/// Below so many multiplications, threads cost more than they save.
const WORTH_THREADS: usize = 1 << 22;

/// K = X·Xᵀ for rows X `[n, width]`, the constant feature among them.
pub(super) enum Kernel {
    /// K itself, `[n, n]`.
    Gram { values: Vec<f64>, n: usize },
    /// X by rows.
    Features { values: Vec<f64>, n: usize, width: usize },
}

impl Kernel {
    /// Whichever makes products cheaper.
    pub fn of(rows: &Rows<'_>, threads: usize) -> Self {
        let (n, width) = (rows.len(), rows.width());
        match n <= width {
            true => Self::Gram { values: rows.gram(threads), n },
            false => Self::Features { values: rows.block(0..n, 0..width), n, width },
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Gram { n, .. } | Self::Features { n, .. } => *n,
        }
    }

    /// How many products with one vector take as long as solving with so many active rows directly.
    pub fn products_per_solution(&self, active: usize) -> usize {
        let active = active as f64;
        let (direct, product) = match self {
            Self::Gram { n, .. } => (active.powi(3) / 3.0, 2.0 * (*n as f64).powi(2)),
            Self::Features { n, width, .. } => {
                let width = *width as f64;
                (2.0 * active * width.powi(2) + width.powi(3) / 3.0, 4.0 * *n as f64 * width)
            }
        };
        (direct / product) as usize
    }

    /// K·v for every vector `[n]`.
    pub fn products(&self, vectors: &[&[f64]], threads: usize) -> Vec<Vec<f64>> {
        let sets = vectors.len();
        let packed: Vec<f64> = vectors.concat();
        match self {
            Self::Gram { values, n } => {
                let rows = |r: &Range<usize>| Matrix::by_cols(&values[r.start..], r.len(), *n, *n);
                blockwise(*n, rows, Matrix::by_cols(&packed, *n, sets, *n), sets, *n, threads)
            }
            Self::Features { values, n, width } => {
                let features = |r: &Range<usize>| Matrix::by_cols(&values[r.start..], r.len(), *n, *width);
                let by = Matrix::by_cols(&packed, *n, sets, *n);
                let sums = blockwise(*width, features, by, sets, *n, threads).concat();
                let rows = |r: &Range<usize>| Matrix::by_rows(&values[r.start * width..], r.len(), *width, *width);
                blockwise(*n, rows, Matrix::by_cols(&sums, *width, sets, *width), sets, *width, threads)
            }
        }
    }

    /// Solves (K + 1/s)·β = y on the active rows, with s, y and β for these alone. `None` where rounding is in the
    /// way.
    pub fn solve(&self, active: &[usize], stiffness: &[f64], y: &[f64]) -> Option<Vec<f64>> {
        let m = active.len();
        match self {
            Self::Gram { values, n } => {
                let mut table = Vec::with_capacity(m * m);
                for (&j, s) in active.iter().zip(stiffness) {
                    let column = &values[j * n..(j + 1) * n];
                    let diagonal = table.len() / m.max(1);
                    table.extend(active.iter().map(|&i| column[i]));
                    let at = table.len() - m + diagonal;
                    table[at] += 1.0 / s;
                }
                let mut solution = y.to_vec();
                Cholesky::of(table, m)?.solve(&mut solution);
                Some(solution)
            }
            Self::Features { values, width, .. } => {
                let row = |i: usize| &values[i * width..(i + 1) * width];
                solve_by_features(&active.iter().map(|i| row(*i)), *width, stiffness, y)
            }
        }
    }
}

/// Solves (X·Xᵀ + 1/s)·β = y for few features: (1 + Σ s·x·xᵀ)·v = Σ s·y·x, then β = s·(y − X·v).
fn solve_by_features<'r>(
    rows: &(impl Iterator<Item = &'r [f64]> + Clone),
    width: usize,
    s: &[f64],
    y: &[f64],
) -> Option<Vec<f64>> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let sum_of = |by: &[f64]| {
        let mut sum = vec![0.0; width];
        for (row, by) in rows.clone().zip(by) {
            sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += by * x);
        }
        sum
    };
    let scaled: Vec<f64> =
        rows.clone().zip(s).flat_map(|(row, s)| row.iter().map(move |x| s.sqrt() * x)).collect();
    let scaled = Matrix::by_rows(&scaled, s.len(), width, width);
    let mut table = vec![0.0; width * width];
    let mut out = MatrixMut::by_cols(&mut table, width, width, width);
    add_product(&mut out, 0.0, 1.0, scaled.transposed(), scaled);
    table.iter_mut().step_by(width + 1).for_each(|d| *d += 1.0);
    let factor = Cholesky::of(table, width)?;
    let mut solution = vec![0.0; s.len()];
    let mut left = y.to_vec();
    // Rounding errors of v come back times s; the second round takes them off.
    for _ in 0..2 {
        let weighted: Vec<f64> = left.iter().zip(s).map(|(left, s)| s * left).collect();
        let mut v = sum_of(&weighted);
        factor.solve(&mut v);
        for (((row, part), left), s) in rows.clone().zip(&mut solution).zip(&left).zip(s) {
            *part += s * (left - dot(row, &v));
        }
        let sum = sum_of(&solution);
        for ((((row, part), left), s), y) in rows.clone().zip(&solution).zip(&mut left).zip(s).zip(y) {
            *left = y - dot(row, &sum) - part / s;
        }
    }
    Some(solution)
}

/// The columns of a product whose left side gives its rows in blocks.
fn blockwise<'m>(
    rows: usize,
    left: impl Fn(&Range<usize>) -> Matrix<'m> + Sync,
    right: Matrix<'_>,
    columns: usize,
    depth: usize,
    threads: usize,
) -> Vec<Vec<f64>> {
    let threads = if rows * columns * depth < WORTH_THREADS { 1 } else { threads };
    let jobs: Vec<Range<usize>> = (0..rows).step_by(BLOCK).map(|first| first..rows.min(first + BLOCK)).collect();
    let parts = map(threads, jobs, |block: Range<usize>| {
        let mut out = vec![0.0; block.len() * columns];
        let mut place = MatrixMut::by_cols(&mut out, block.len(), columns, block.len());
        add_product(&mut place, 0.0, 1.0, left(&block), right);
        (block.len(), out)
    });
    columns_of(&parts, columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_and_features_give_the_same() {
        let (n, dim) = (BLOCK + 9, 7);
        let values: Vec<f32> = (0..n * dim).map(|i| (i as f32 * 0.37).sin()).collect();
        let rows = Rows::new(&values, dim, "rows").unwrap();
        let features = Kernel::of(&rows, 2);
        assert!(matches!(features, Kernel::Features { .. }), "more rows than features");
        let gram = Kernel::Gram { values: rows.gram(2), n };
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9 * (1.0 + b.abs()));
        let vectors: Vec<Vec<f64>> = (0..3).map(|s| (0..n).map(|i| ((i * s) as f64).cos()).collect()).collect();
        let vectors: Vec<&[f64]> = vectors.iter().map(Vec::as_slice).collect();
        let (a, b) = (gram.products(&vectors, 2), features.products(&vectors, 1));
        assert!(a.iter().zip(&b).all(|(a, b)| close(a, b)));
        let active: Vec<usize> = (0..n).filter(|i| i % 3 != 1).collect();
        let stiffness: Vec<f64> = active.iter().map(|i| 1.0 + (i % 2) as f64).collect();
        let y: Vec<f64> = active.iter().map(|i| if i % 5 == 0 { 1.0 } else { -1.0 }).collect();
        let (a, b) =
            (gram.solve(&active, &stiffness, &y).unwrap(), features.solve(&active, &stiffness, &y).unwrap());
        assert!(close(&a, &b));
        // It solves what it says.
        let mut spread = vec![0.0; n];
        active.iter().zip(&a).for_each(|(i, v)| spread[*i] = *v);
        let product = &gram.products(&[&spread], 1)[0];
        for ((i, s), (y, v)) in active.iter().zip(&stiffness).zip(y.iter().zip(&a)) {
            assert!((product[*i] + v / s - y).abs() < 1e-9);
        }
    }
}
