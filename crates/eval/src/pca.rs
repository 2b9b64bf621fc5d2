//! The three leading principal components of patch features, shown as red, green and blue.
//!
//! Patches of one colour have similar features; taken over several pictures together, equal parts of different objects
//! get equal colours.
//!
//! ```
//! use ocelli_eval::pca::pca_rgb;
//!
//! // Four patches of two kinds, three numbers each: patches of one kind get one colour.
//! let colours = pca_rgb(&[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0], 3)?;
//! assert_eq!(colours.len(), 4 * 3);
//! assert_eq!(colours[..3], colours[6..9]);
//! assert_ne!(colours[0], colours[3]);
//! # Ok::<(), ocelli_eval::EvalError>(())
//! ```

use crate::EvalError;

/// Components: one per colour channel.
const COMPONENTS: usize = 3;
/// Vectors iterated: a few more than are kept, which makes the kept ones converge much faster.
const BLOCK: usize = 8;
const ITERATIONS: usize = 60;
/// Share of patches cut off at either end of the colour scale, so that a few outliers do not take all the contrast.
const CLIP: f64 = 0.01;

/// The leading three components of a table of features. Fitted once, it gives any features from the same network scores
/// that can be compared: the frames of a video, say.
#[derive(Clone, Debug, PartialEq)]
pub struct Pca {
    mean: Vec<f64>,
    components: Vec<Vec<f64>>,
}

impl Pca {
    /// From `features`, `[rows, dim]` row-major.
    ///
    /// The mean is removed; the components are the leading eigenvectors of the covariance, found by subspace iteration in
    /// f64. The sign of each is chosen so that its entry of largest magnitude (the first of equals) is positive, which
    /// makes the result reproducible.
    ///
    /// # Errors
    /// [`EvalError::Empty`], [`EvalError::Shape`] or [`EvalError::NotFinite`].
    pub fn fit(features: &[f32], dim: usize) -> Result<Self, EvalError> {
        check(features, dim)?;
        let rows = features.len() / dim;
        let mut mean = vec![0.0f64; dim];
        for row in features.chunks_exact(dim) {
            for (mean, value) in mean.iter_mut().zip(row) {
                *mean += f64::from(*value) / rows as f64;
            }
        }
        let components = leading(&covariance(features, &mean), dim);
        Ok(Self { mean, components })
    }

    /// Scores of `features`, `[rows, dim]`, as `[rows, 3]` row-major, largest variance first. With fewer than three
    /// dimensions the remaining scores are 0.
    ///
    /// # Errors
    /// As [`Pca::fit`].
    pub fn scores(&self, features: &[f32]) -> Result<Vec<f32>, EvalError> {
        let dim = self.mean.len();
        check(features, dim)?;
        let mut scores = Vec::with_capacity(features.len() / dim * COMPONENTS);
        for row in features.chunks_exact(dim) {
            for component in 0..COMPONENTS {
                let score = self.components.get(component).map_or(0.0, |direction| {
                    let centred = row.iter().zip(&self.mean).map(|(value, mean)| f64::from(*value) - mean);
                    centred.zip(direction).map(|(value, weight)| value * weight).sum()
                });
                scores.push(score as f32);
            }
        }
        Ok(scores)
    }
}

fn check(features: &[f32], dim: usize) -> Result<(), EvalError> {
    if dim == 0 || features.is_empty() {
        return Err(EvalError::Empty { what: "the table of patch features" });
    }
    if !features.len().is_multiple_of(dim) {
        return Err(EvalError::shape("patch features", format!("rows of {dim}"), features.len()));
    }
    if features.iter().any(|v| !v.is_finite()) {
        return Err(EvalError::NotFinite { what: "the table of patch features", place: String::new() });
    }
    Ok(())
}

/// Scores of the leading three components, `[rows, 3]` row-major, of the table they are fitted to; see [`Pca`].
///
/// # Errors
/// [`EvalError::Empty`], [`EvalError::Shape`] or [`EvalError::NotFinite`].
pub fn pca3(features: &[f32], dim: usize) -> Result<Vec<f32>, EvalError> {
    Pca::fit(features, dim)?.scores(features)
}

/// Colours of patch features, `[rows, 3]` bytes: the scores of [`pca3`] on their own [`ColourScale`].
///
/// # Errors
/// As [`pca3`].
pub fn pca_rgb(features: &[f32], dim: usize) -> Result<Vec<u8>, EvalError> {
    let scores = pca3(features, dim)?;
    Ok(ColourScale::of(&scores)?.rgb(&scores))
}

/// Which scores are black and which are full colour, of each component.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColourScale {
    /// The scores at either end; none for a component without variance, which is mid-grey.
    ends: [Option<(f32, f32)>; COMPONENTS],
}

impl ColourScale {
    /// From the first to the last percentile of each component of `scores`, `[rows, 3]`.
    ///
    /// # Errors
    /// [`EvalError::Empty`] without scores.
    pub fn of(scores: &[f32]) -> Result<Self, EvalError> {
        let rows = scores.len() / COMPONENTS;
        if rows == 0 {
            return Err(EvalError::Empty { what: "the table of scores" });
        }
        let ends = std::array::from_fn(|component| {
            let mut sorted: Vec<f32> = scores.iter().skip(component).step_by(COMPONENTS).copied().collect();
            sorted.sort_by(f32::total_cmp);
            let cut = (rows as f64 * CLIP) as usize;
            let (low, high) = (sorted[cut], sorted[rows - 1 - cut]);
            // Relative to the size of the scores, so that rounding noise is not blown up to full colour.
            (high - low > 1e-6 * high.abs().max(low.abs()).max(f32::MIN_POSITIVE)).then_some((low, high))
        });
        Ok(Self { ends })
    }

    /// Colours of scores, `[rows, 3]` bytes.
    pub fn rgb(&self, scores: &[f32]) -> Vec<u8> {
        let level = |(score, ends): (&f32, &Option<(f32, f32)>)| match ends {
            Some((low, high)) => (((score - low) / (high - low)).clamp(0.0, 1.0) * 255.0).round() as u8,
            None => 128,
        };
        scores.chunks_exact(COMPONENTS).flat_map(|row| row.iter().zip(&self.ends).map(level)).collect()
    }
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
    fn other_tables_are_scored_on_the_same_axes_and_scale() {
        let values = cloud();
        let pca = Pca::fit(&values, 5).unwrap();
        let scores = pca.scores(&values).unwrap();
        // A part alone has other components, and other percentiles; with the whole's it has the whole's colours.
        let (part, rest) = values.split_at(5 * 12);
        assert_eq!(pca.scores(part).unwrap(), scores[..3 * 12]);
        assert_eq!(pca.scores(rest).unwrap(), scores[3 * 12..]);
        let scale = ColourScale::of(&scores).unwrap();
        assert_eq!(scale.rgb(&scores[..3 * 12]), pca_rgb(&values, 5).unwrap()[..3 * 12]);
        assert_ne!(scale.rgb(&scores[..3 * 12]), pca_rgb(part, 5).unwrap());
        // Beyond the scale is its end.
        assert_eq!(scale.rgb(&[-1e9, 1e9, 0.0])[..2], [0, 255]);
        assert!(pca.scores(&values[..7]).is_err() && ColourScale::of(&[]).is_err());
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
