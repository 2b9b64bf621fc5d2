//! The three leading principal components of patch features, shown as red, green and blue.
//!
//! Patches of one colour have similar features; taken over several pictures together, equal parts of different objects
//! get equal colours.

use crate::EvalError;

/// Components: one per colour channel.
const COMPONENTS: usize = 3;
/// Vectors iterated: a few more than are kept, which makes the kept ones converge much faster.
const BLOCK: usize = 8;
const ITERATIONS: usize = 60;
/// Share of patches cut off at either end of the colour scale, so that a few outliers do not take all the contrast.
const CLIP: f64 = 0.01;

/// Scores of the leading three components, `[rows, 3]` row-major, largest variance first.
///
/// `features` is `[rows, dim]` row-major. The mean is removed; the components are the leading eigenvectors of the
/// covariance, found by subspace iteration in f64. The sign of each is chosen so that its entry of largest magnitude
/// (the first of equals) is positive, which makes the result reproducible. With fewer than three dimensions the
/// remaining scores are 0.
///
/// # Errors
/// [`EvalError::Empty`], [`EvalError::Shape`] or [`EvalError::NotFinite`].
pub fn pca3(features: &[f32], dim: usize) -> Result<Vec<f32>, EvalError> {
    if dim == 0 || features.is_empty() {
        return Err(EvalError::Empty { what: "the table of patch features" });
    }
    if !features.len().is_multiple_of(dim) {
        return Err(EvalError::shape("patch features", format!("rows of {dim}"), features.len()));
    }
    if features.iter().any(|v| !v.is_finite()) {
        return Err(EvalError::NotFinite { what: "the table of patch features", place: String::new() });
    }
    let rows = features.len() / dim;
    let mut mean = vec![0.0f64; dim];
    for row in features.chunks_exact(dim) {
        for (mean, value) in mean.iter_mut().zip(row) {
            *mean += f64::from(*value) / rows as f64;
        }
    }
    let components = leading(&covariance(features, &mean), dim);
    let mut scores = Vec::with_capacity(rows * COMPONENTS);
    for row in features.chunks_exact(dim) {
        for component in 0..COMPONENTS {
            let score = components.get(component).map_or(0.0, |direction| {
                let centred = row.iter().zip(&mean).map(|(value, mean)| f64::from(*value) - mean);
                centred.zip(direction).map(|(value, weight)| value * weight).sum()
            });
            scores.push(score as f32);
        }
    }
    Ok(scores)
}

/// Colours of patch features, `[rows, 3]` bytes: the scores of [`pca3`], each component stretched to 0..=255 between
/// its first and last percentile. A component without variance is mid-grey.
///
/// # Errors
/// As [`pca3`].
pub fn pca_rgb(features: &[f32], dim: usize) -> Result<Vec<u8>, EvalError> {
    let scores = pca3(features, dim)?;
    let rows = scores.len() / COMPONENTS;
    let mut colours = vec![128u8; scores.len()];
    for component in 0..COMPONENTS {
        let column = || scores.iter().skip(component).step_by(COMPONENTS).copied();
        let mut sorted: Vec<f32> = column().collect();
        sorted.sort_by(f32::total_cmp);
        let cut = (rows as f64 * CLIP) as usize;
        let (low, high) = (sorted[cut], sorted[rows - 1 - cut]);
        // Relative to the size of the scores, so that rounding noise is not blown up to full colour.
        if high - low > 1e-6 * high.abs().max(low.abs()).max(f32::MIN_POSITIVE) {
            for (row, score) in column().enumerate() {
                let level = ((score - low) / (high - low)).clamp(0.0, 1.0);
                colours[row * COMPONENTS + component] = (level * 255.0).round() as u8;
            }
        }
    }
    Ok(colours)
}

/// `[dim, dim]`, up to the factor 1 / rows.
fn covariance(features: &[f32], mean: &[f64]) -> Vec<f64> {
    let dim = mean.len();
    let mut covariance = vec![0.0f64; dim * dim];
    let mut centred = vec![0.0f64; dim];
    for row in features.chunks_exact(dim) {
        for ((centred, value), mean) in centred.iter_mut().zip(row).zip(mean) {
            *centred = f64::from(*value) - mean;
        }
        for i in 0..dim {
            let left = centred[i];
            for (sum, right) in covariance[i * dim..][i..dim].iter_mut().zip(&centred[i..]) {
                *sum += left * right;
            }
        }
    }
    for i in 0..dim {
        for j in 0..i {
            covariance[i * dim + j] = covariance[j * dim + i];
        }
    }
    covariance
}

/// The leading unit eigenvectors of a symmetric positive matrix `[dim, dim]`, at most [`COMPONENTS`].
fn leading(matrix: &[f64], dim: usize) -> Vec<Vec<f64>> {
    let block = BLOCK.min(dim);
    // A fixed start without structure: integer hashing spreads it over all directions.
    let mut basis: Vec<Vec<f64>> = (0..block)
        .map(|b| {
            (0..dim)
                .map(|i| {
                    f64::from(((i * block + b) as u32 + 1).wrapping_mul(0x9E37_79B9)) / f64::from(u32::MAX) - 0.5
                })
                .collect()
        })
        .collect();
    orthonormalise(&mut basis);
    for _ in 0..ITERATIONS {
        for vector in &mut basis {
            *vector = apply(matrix, vector);
        }
        orthonormalise(&mut basis);
    }
    // Within the subspace the directions may still be mixed: rotate them to the eigenvectors of the small matrix.
    let images: Vec<Vec<f64>> = basis.iter().map(|vector| apply(matrix, vector)).collect();
    let mut small: Vec<f64> = basis.iter().flat_map(|a| images.iter().map(|b| dot(a, b))).collect();
    let rotation = jacobi(&mut small, block);
    let mut order: Vec<usize> = (0..block).collect();
    order.sort_by(|a, b| small[b * block + b].total_cmp(&small[a * block + a]));
    order
        .into_iter()
        .take(COMPONENTS)
        .map(|column| {
            let mut vector = vec![0.0; dim];
            for (row, basis) in basis.iter().enumerate() {
                let weight = rotation[row * block + column];
                vector.iter_mut().zip(basis).for_each(|(sum, value)| *sum += weight * value);
            }
            let largest = vector.iter().copied().fold(0.0f64, |m, v| if v.abs() > m.abs() { v } else { m });
            if largest < 0.0 {
                vector.iter_mut().for_each(|value| *value = -*value);
            }
            vector
        })
        .collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn apply(matrix: &[f64], vector: &[f64]) -> Vec<f64> {
    matrix.chunks_exact(vector.len()).map(|row| dot(row, vector)).collect()
}

/// Gram–Schmidt, twice for accuracy. A vector that lies in the span of the earlier ones becomes 0.
fn orthonormalise(basis: &mut [Vec<f64>]) {
    for index in 0..basis.len() {
        let (done, rest) = basis.split_at_mut(index);
        let vector = &mut rest[0];
        let before = dot(vector, vector).sqrt();
        for _ in 0..2 {
            for other in done.iter() {
                let along = dot(vector, other);
                vector.iter_mut().zip(other).for_each(|(value, other)| *value -= along * other);
            }
        }
        let norm = dot(vector, vector).sqrt();
        let scale = if norm > 1e-12 * before { 1.0 / norm } else { 0.0 };
        vector.iter_mut().for_each(|value| *value *= scale);
    }
}

/// Cyclic Jacobi: diagonalises the symmetric `[n, n]` in place and returns the eigenvectors as columns.
fn jacobi(matrix: &mut [f64], n: usize) -> Vec<f64> {
    let mut vectors = vec![0.0; n * n];
    (0..n).for_each(|i| vectors[i * n + i] = 1.0);
    for _ in 0..30 {
        for p in 0..n {
            for q in p + 1..n {
                let off = matrix[p * n + q];
                if off.abs() <= f64::EPSILON * (matrix[p * n + p] * matrix[q * n + q]).abs().sqrt() {
                    continue;
                }
                let theta = (matrix[q * n + q] - matrix[p * n + p]) / (2.0 * off);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for k in 0..n {
                    let (a, b) = (matrix[k * n + p], matrix[k * n + q]);
                    (matrix[k * n + p], matrix[k * n + q]) = (c * a - s * b, s * a + c * b);
                }
                for k in 0..n {
                    let (a, b) = (matrix[p * n + k], matrix[q * n + k]);
                    (matrix[p * n + k], matrix[q * n + k]) = (c * a - s * b, s * a + c * b);
                    let (a, b) = (vectors[k * n + p], vectors[k * n + q]);
                    (vectors[k * n + p], vectors[k * n + q]) = (c * a - s * b, s * a + c * b);
                }
            }
        }
    }
    vectors
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points on known orthogonal axes with falling variance.
    fn cloud() -> Vec<f32> {
        let r = 0.5f64.sqrt();
        let axes = [[0.0, r, r, 0.0, 0.0], [0.0, r, -r, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]];
        let mut values = Vec::new();
        for i in 0..5 {
            for j in 0..4 {
                for k in 0..3 {
                    let at = [(f64::from(i) - 2.0) * 5.0, (f64::from(j) - 1.5) * 2.0, f64::from(k) - 1.0];
                    values.extend((0..5).map(|d| {
                        let value: f64 = at.iter().zip(&axes).map(|(at, axis)| at * axis[d]).sum();
                        (value + 7.0) as f32
                    }));
                }
            }
        }
        values
    }

    #[test]
    fn known_axes_are_found() {
        let values = cloud();
        let scores = pca3(&values, 5).unwrap();
        for (index, score) in scores.chunks_exact(3).enumerate() {
            let (i, j, k) = (index / 12, index / 3 % 4, index % 3);
            let want = [(i as f32 - 2.0) * 5.0, (j as f32 - 1.5) * 2.0, k as f32 - 1.0];
            for component in 0..3 {
                // The second axis has two entries of one magnitude; rounding may pick either sign for it.
                let (got, want) = (score[component], want[component]);
                let close = if component == 1 { (got.abs() - want.abs()).abs() } else { (got - want).abs() };
                assert!(close < 1e-4, "{index}: {score:?}");
            }
        }
        assert_eq!(scores, pca3(&values, 5).unwrap());
    }

    #[test]
    fn colours_span_the_scale() {
        let values = cloud();
        let colours = pca_rgb(&values, 5).unwrap();
        for channel in 0..3 {
            let column = || colours.iter().skip(channel).step_by(3);
            assert_eq!((column().min(), column().max()), (Some(&0), Some(&255)));
        }
    }

    #[test]
    fn degenerate_tables() {
        assert!(pca_rgb(&[1.0; 12], 4).unwrap().iter().all(|c| *c == 128));
        assert_eq!(pca_rgb(&[1.0, 2.0, 3.0], 3).unwrap(), [128; 3]);
        let one = pca_rgb(&[0.0, 1.0, 2.0], 1).unwrap();
        assert_eq!(one, [0, 128, 128, 128, 128, 128, 255, 128, 128]);
        assert!(pca3(&[], 3).is_err());
        assert!(pca3(&[1.0; 4], 3).is_err());
        assert!(pca3(&[f32::NAN; 3], 3).is_err());
    }
}
