//! Features to search in.

use crate::EvalError;

/// Partial sums of a dot product. They do not depend on each other, so the compiler keeps them in vectors.
const LANES: usize = 16;

/// Rows of unit length.
#[derive(Debug, Clone)]
pub struct Gallery {
    rows: Vec<f32>,
    dim: usize,
}

impl Gallery {
    /// Takes features `[images, dim]`, row-major, and divides every row by its L2 norm; rows of zeros stay.
    ///
    /// # Errors
    /// [`EvalError::Empty`], [`EvalError::Shape`] or [`EvalError::NotFinite`].
    pub fn new(mut rows: Vec<f32>, dim: usize) -> Result<Self, EvalError> {
        if rows.is_empty() || dim == 0 {
            return Err(EvalError::Empty { what: "the database of images" });
        }
        if !rows.len().is_multiple_of(dim) {
            return Err(EvalError::shape("the database's features", format!("rows of {dim}"), rows.len()));
        }
        for (i, row) in rows.chunks_exact_mut(dim).enumerate() {
            to_unit(row).ok_or_else(|| EvalError::NotFinite {
                what: "the database's features",
                place: format!(" in row {i}"),
            })?;
        }
        Ok(Self { rows, dim })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.rows.len() / self.dim
    }

    /// Never: an empty one is refused.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Numbers in a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Cosines of a query `[dim]` with every image: `[images]`.
    ///
    /// # Errors
    /// [`EvalError::Shape`] or [`EvalError::NotFinite`].
    pub fn similarities(&self, query: &[f32]) -> Result<Vec<f32>, EvalError> {
        if query.len() != self.dim {
            return Err(EvalError::shape("a query's feature", format!("{} numbers", self.dim), query.len()));
        }
        let mut query = query.to_vec();
        let place = String::new;
        to_unit(&mut query).ok_or_else(|| EvalError::NotFinite { what: "a query's feature", place: place() })?;
        Ok(self.rows.chunks_exact(self.dim).map(|row| dot(row, &query)).collect())
    }
}

/// The numbers of the images, the most similar first; of equals the one with the lower number.
pub fn rank(similarities: &[f32]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..similarities.len() as u32).collect();
    order.sort_by(|a, b| similarities[*b as usize].total_cmp(&similarities[*a as usize]));
    order
}

/// Divides by the L2 norm, where there is one. `None` when a value is not finite.
pub(super) fn to_unit(row: &mut [f32]) -> Option<()> {
    let norm = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    if !norm.is_finite() {
        return None;
    }
    if norm > 0.0 {
        row.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
    }
    Some(())
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}
