//! The objective, its gradient and products with its Hessian, in passes over blocks of rows.

use std::ops::Range;

use super::LogisticConfig;
use crate::EvalError;
use crate::dense::{Matrix, MatrixMut, add_product, map};

/// Rows of a block.
const BLOCK: usize = 256;
/// Sums are taken over this many parts by themselves, then over the parts: the same for any number of threads.
const PARTS: usize = 16;
/// The least norm a row is divided by.
const LEAST_NORM: f64 = 1e-12;

/// Feature rows of length 1, turned into f64 a block at a time.
pub(super) struct UnitRows<'a> {
    values: &'a [f32],
    dim: usize,
    scales: Vec<f64>,
}

impl<'a> UnitRows<'a> {
    pub fn new(values: &'a [f32], dim: usize, what: &'static str) -> Result<Self, EvalError> {
        if dim == 0 || values.is_empty() {
            return Err(EvalError::Empty { what });
        }
        if !values.len().is_multiple_of(dim) {
            return Err(EvalError::shape(what, format!("rows of {dim}"), format!("{} values", values.len())));
        }
        let norm = |row: &[f32]| row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let norms: Vec<f64> = values.chunks_exact(dim).map(norm).collect();
        if let Some(at) = norms.iter().position(|n| !n.is_finite()) {
            return Err(EvalError::NotFinite { what, place: format!(" in row {at}") });
        }
        Ok(Self { values, dim, scales: norms.iter().map(|n| 1.0 / n.max(LEAST_NORM)).collect() })
    }

    pub fn len(&self) -> usize {
        self.scales.len()
    }

    /// `[rows, dim]`.
    fn block(&self, rows: Range<usize>) -> Vec<f64> {
        let values = &self.values[rows.start * self.dim..rows.end * self.dim];
        let scaled = |(row, scale): (&'a [f32], &f64)| {
            let scale = *scale;
            row.iter().map(move |v| f64::from(*v) * scale)
        };
        values.chunks_exact(self.dim).zip(&self.scales[rows]).flat_map(scaled).collect()
    }

    fn blocks(&self) -> Vec<Range<usize>> {
        (0..self.len()).step_by(BLOCK).map(|first| first..self.len().min(first + BLOCK)).collect()
    }

    /// `[rows, classes]` of a block `[rows, dim]` and weights `[classes, dim]`.
    fn scores(&self, block: &[f64], rows: usize, weight: &[f64], classes: usize) -> Vec<f64> {
        let dim = self.dim;
        let mut scores = vec![0.0; rows * classes];
        add_product(
            &mut MatrixMut::by_cols(&mut scores, classes, rows, classes),
            0.0,
            1.0,
            Matrix::by_rows(weight, classes, dim, dim),
            Matrix::by_cols(block, dim, rows, dim),
        );
        scores
    }

    pub fn logits(&self, weight: &[f64], classes: usize, threads: usize) -> Vec<f32> {
        let of = |rows: Range<usize>| {
            let scores = self.scores(&self.block(rows.clone()), rows.len(), weight, classes);
            scores.iter().map(|v| *v as f32).collect::<Vec<f32>>()
        };
        map(threads, self.blocks(), of).concat()
    }
}

pub(super) struct Objective<'a> {
    rows: UnitRows<'a>,
    labels: &'a [u32],
    pub classes: usize,
    pub lambda: f64,
    threads: usize,
}

/// The objective at a point.
pub(super) struct Value {
    pub objective: f64,
    /// `[classes, dim]`.
    pub gradient: Vec<f64>,
    /// Probabilities `[n, classes]`, in f32: they only shape the path to the optimum, not where it is.
    pub probabilities: Vec<f32>,
}

impl<'a> Objective<'a> {
    pub fn new(
        features: &'a [f32],
        labels: &'a [u32],
        classes: usize,
        config: &LogisticConfig,
    ) -> Result<Self, EvalError> {
        let what = "the training features";
        if labels.is_empty() {
            return Err(EvalError::Empty { what: "the set of training labels" });
        }
        if !features.len().is_multiple_of(labels.len()) {
            return Err(EvalError::shape(what, format!("{} rows", labels.len()), features.len()));
        }
        let rows = UnitRows::new(features, features.len() / labels.len(), what)?;
        let lambda = config.lambda_times_n / labels.len() as f64;
        Ok(Self { rows, labels, classes, lambda, threads: config.threads })
    }

    /// Numbers of the weights.
    pub fn len(&self) -> usize {
        self.classes * self.rows.dim
    }

    pub fn dim(&self) -> usize {
        self.rows.dim
    }

    pub fn images(&self) -> usize {
        self.rows.len()
    }

    /// Blocks of rows in parts that are summed by themselves.
    fn parts(&self) -> Vec<Vec<Range<usize>>> {
        let blocks = self.rows.blocks();
        blocks.chunks(blocks.len().div_ceil(PARTS)).map(<[Range<usize>]>::to_vec).collect()
    }

    /// Adds `factorsᵀ·block` to a sum `[classes, dim]`; the factors are `[rows, classes]`.
    fn add_outer(&self, sum: &mut [f64], block: &[f64], factors: &[f64], rows: usize) {
        let (dim, classes) = (self.rows.dim, self.classes);
        add_product(
            &mut MatrixMut::by_cols(sum, dim, classes, dim),
            1.0,
            1.0,
            Matrix::by_cols(block, dim, rows, dim),
            Matrix::by_rows(factors, rows, classes, classes),
        );
    }

    /// Objective, gradient and probabilities at these weights `[classes, dim]`.
    pub fn at(&self, weight: &[f64]) -> Value {
        let n = self.rows.len() as f64;
        let parts = map(self.threads, self.parts(), |blocks| {
            let (mut loss, mut sum, mut kept) = (0.0, vec![0.0; self.len()], Vec::new());
            for rows in blocks {
                let block = self.rows.block(rows.clone());
                let mut scores = self.rows.scores(&block, rows.len(), weight, self.classes);
                for (row, label) in scores.chunks_exact_mut(self.classes).zip(&self.labels[rows.clone()]) {
                    let own = *label as usize;
                    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let right = row[own] - largest;
                    row.iter_mut().for_each(|v| *v = (*v - largest).exp());
                    let total: f64 = row.iter().sum();
                    loss += total.ln() - right;
                    row.iter_mut().for_each(|v| *v /= total);
                    kept.extend(row.iter().map(|v| *v as f32));
                    row[own] -= 1.0;
                }
                self.add_outer(&mut sum, &block, &scores, rows.len());
            }
            (loss, sum, kept)
        });
        let mut value = Value {
            objective: 0.0,
            gradient: vec![0.0; self.len()],
            probabilities: Vec::with_capacity(self.rows.len() * self.classes),
        };
        for (loss, sum, kept) in parts {
            value.objective += loss / n;
            value.gradient.iter_mut().zip(&sum).for_each(|(g, s)| *g += s / n);
            value.probabilities.extend(kept);
        }
        value.objective += 0.5 * self.lambda * weight.iter().map(|w| w * w).sum::<f64>();
        value.gradient.iter_mut().zip(weight).for_each(|(g, w)| *g += self.lambda * w);
        value
    }

    /// The Hessian where these are the probabilities, times a direction `[classes, dim]`.
    pub fn hessian(&self, probabilities: &[f32], direction: &[f64]) -> Vec<f64> {
        let n = self.rows.len() as f64;
        let parts = map(self.threads, self.parts(), |blocks| {
            let mut sum = vec![0.0; self.len()];
            for rows in blocks {
                let block = self.rows.block(rows.clone());
                let mut scores = self.rows.scores(&block, rows.len(), direction, self.classes);
                let of = &probabilities[rows.start * self.classes..rows.end * self.classes];
                for (row, p) in scores.chunks_exact_mut(self.classes).zip(of.chunks_exact(self.classes)) {
                    let (mut dot, mut total) = (0.0, 0.0);
                    for (v, p) in row.iter().zip(p) {
                        dot += v * f64::from(*p);
                        total += f64::from(*p);
                    }
                    // By their own total, so that rounded probabilities leave no negative curvature.
                    let mean = dot / total;
                    row.iter_mut().zip(p).for_each(|(v, p)| *v = (*v - mean) * f64::from(*p));
                }
                self.add_outer(&mut sum, &block, &scores, rows.len());
            }
            sum
        });
        let mut product: Vec<f64> = direction.iter().map(|d| self.lambda * d).collect();
        for sum in parts {
            product.iter_mut().zip(&sum).for_each(|(p, s)| *p += s / n);
        }
        product
    }

    /// Mean of x·xᵀ over the rows, `[dim, dim]`.
    pub fn second_moments(&self) -> Vec<f64> {
        let dim = self.rows.dim;
        let n = self.rows.len() as f64;
        let parts = map(self.threads, self.parts(), |blocks| {
            let mut sum = vec![0.0; dim * dim];
            for rows in blocks {
                let block = self.rows.block(rows.clone());
                let by_cols = Matrix::by_cols(&block, dim, rows.len(), dim);
                let mut out = MatrixMut::by_cols(&mut sum, dim, dim, dim);
                add_product(&mut out, 1.0, 1.0 / n, by_cols, by_cols.transposed());
            }
            sum
        });
        let mut all = vec![0.0; dim * dim];
        for sum in parts {
            all.iter_mut().zip(&sum).for_each(|(a, s)| *a += s);
        }
        all
    }
}
