//! Whitening of features by a set of other images.

use nalgebra::{DMatrix, SymmetricEigen};

use crate::EvalError;

/// Eigenvalues below this share of the largest are raised to it.
const FLOOR: f64 = 1e-5;
/// Rows that are taken to double precision at once.
const CHUNK: usize = 512;

/// A mean and the directions in which features vary, with how much: `y = diag(d^-½) Vᵀ (x − μ)`.
///
/// As published, μ is the mean of the whitening set, but d and V are the eigenvalues and eigenvectors of `FᵀF / n`
/// of the features *as they are*, the mean included. Every direction is kept; d below 10⁻⁵ of the largest is
/// raised to that.
#[derive(Debug, Clone)]
pub struct Whitening {
    mean: Vec<f64>,
    /// `[dim, dim]`: row i is eigenvector i over the root of its eigenvalue.
    directions: DMatrix<f64>,
    images: usize,
    raised: usize,
}

impl Whitening {
    /// Learns from features `[images, dim]`, row-major. Takes some seconds at 1,536 numbers.
    ///
    /// # Errors
    /// [`EvalError::Empty`], [`EvalError::Shape`] or [`EvalError::NotFinite`]; [`EvalError::Setting`] for features
    /// that are all zeros.
    pub fn learn(features: &[f32], dim: usize) -> Result<Self, EvalError> {
        if dim == 0 || features.is_empty() {
            return Err(EvalError::Empty { what: "the whitening set" });
        }
        if !features.len().is_multiple_of(dim) {
            return Err(EvalError::shape(
                "the whitening set's features",
                format!("rows of {dim}"),
                features.len(),
            ));
        }
        if features.iter().any(|v| !v.is_finite()) {
            return Err(EvalError::NotFinite { what: "the whitening set's features", place: String::new() });
        }
        let images = features.len() / dim;
        let mut mean = vec![0.0; dim];
        let mut moments = DMatrix::<f64>::zeros(dim, dim);
        for rows in features.chunks(CHUNK * dim) {
            // By columns, one image each.
            let rows = DMatrix::from_iterator(dim, rows.len() / dim, rows.iter().map(|v| f64::from(*v)));
            moments.gemm(1.0 / images as f64, &rows, &rows.transpose(), 1.0);
            mean.iter_mut().zip(rows.column_sum().iter()).for_each(|(mean, sum)| *mean += sum / images as f64);
        }
        let SymmetricEigen { eigenvectors, eigenvalues } = SymmetricEigen::new(moments);
        let floor = FLOOR * eigenvalues.max();
        if floor <= 0.0 || !floor.is_finite() {
            return Err(EvalError::setting(
                "a whitening set's features",
                "numbers other than zero",
                eigenvalues.max(),
            ));
        }
        let raised = eigenvalues.iter().filter(|value| **value < floor).count();
        let mut directions = eigenvectors.transpose();
        for (mut row, value) in directions.row_iter_mut().zip(eigenvalues.iter()) {
            row /= value.max(floor).sqrt();
        }
        Ok(Self { mean, directions, images, raised })
    }

    /// Images learnt from.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Numbers in a feature.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// Directions in which the set hardly varies: their eigenvalues were raised to the floor. A set of fewer
    /// images than a feature has numbers has such directions of necessity.
    pub fn raised(&self) -> usize {
        self.raised
    }

    /// Whitens features `[images, dim]`, row-major.
    ///
    /// # Errors
    /// [`EvalError::Shape`].
    pub fn apply(&self, features: &[f32]) -> Result<Vec<f32>, EvalError> {
        let dim = self.dim();
        if !features.len().is_multiple_of(dim) {
            return Err(EvalError::shape("features to whiten", format!("rows of {dim}"), features.len()));
        }
        let mut out = Vec::with_capacity(features.len());
        for rows in features.chunks(CHUNK * dim) {
            let values =
                rows.chunks_exact(dim).flat_map(|row| row.iter().zip(&self.mean).map(|(v, m)| f64::from(*v) - m));
            let rows = DMatrix::from_iterator(dim, rows.len() / dim, values);
            out.extend((&self.directions * rows).iter().map(|v| *v as f32));
        }
        Ok(out)
    }
}
