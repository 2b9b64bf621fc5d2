//! One feature of an image at several sizes.

use super::gallery::to_unit;
use crate::EvalError;

/// The scales of DINO's retrieval protocol.
pub const SCALES: [f64; 3] = [1.0, std::f64::consts::FRAC_1_SQRT_2, 0.5];

/// The side that `side` pixels become at a scale, pixels.
pub fn scaled_side(side: usize, scale: f64) -> usize {
    (side as f64 * scale).floor() as usize
}

/// Normalised planes `[3, height, width]` at another scale: bilinear between the centres of pixels and without
/// antialiasing, as PyTorch's `interpolate(scale_factor=scale, mode="bilinear")`. Returns the planes, their height
/// and their width.
///
/// The centre of output i lies at (i + 0.5) / scale − 0.5, with the scale as given, not that of the rounded sides.
///
/// # Errors
/// [`EvalError::Shape`] when the data are not three planes, [`EvalError::Setting`] for a scale that leaves no
/// pixel.
pub fn at_scale(
    planes: &[f32],
    (height, width): (usize, usize),
    scale: f64,
) -> Result<(Vec<f32>, usize, usize), EvalError> {
    if height == 0 || width == 0 || planes.len() != 3 * height * width {
        return Err(EvalError::shape("an image", format!("3 × {height} × {width} numbers"), planes.len()));
    }
    if scale == 1.0 {
        return Ok((planes.to_vec(), height, width));
    }
    let (rows, columns) = (scaled_side(height, scale), scaled_side(width, scale));
    if rows == 0 || columns == 0 || !scale.is_finite() {
        return Err(EvalError::setting("a scale", "one that leaves an image at least a pixel each way", scale));
    }
    let (down, across) = (taps(height, rows, scale), taps(width, columns, scale));
    let mut out = Vec::with_capacity(3 * rows * columns);
    for plane in planes.chunks_exact(height * width) {
        for &(top, bottom, below) in &down {
            let (top, bottom) = (&plane[top * width..][..width], &plane[bottom * width..][..width]);
            out.extend(across.iter().map(|&(left, right, beside)| {
                let between = |a: f32, b: f32, share: f64| f64::from(a) * (1.0 - share) + f64::from(b) * share;
                let (upper, lower) =
                    (between(top[left], top[right], beside), between(bottom[left], bottom[right], beside));
                (upper * (1.0 - below) + lower * below) as f32
            }));
        }
    }
    Ok((out, rows, columns))
}

/// For each output the two inputs around its centre and the second one's share.
fn taps(input: usize, output: usize, scale: f64) -> Vec<(usize, usize, f64)> {
    let last = input - 1;
    let tap = |i: usize| {
        let centre = ((i as f64 + 0.5) / scale - 0.5).max(0.0);
        let first = (centre as usize).min(last);
        (first, (first + 1).min(last), centre - first as f64)
    };
    (0..output).map(tap).collect()
}

/// The mean of an image's raw features at its scales, `[scales, dim]`, then divided by its L2 norm: `[dim]`. The
/// features are not normalised one by one.
///
/// # Errors
/// [`EvalError::Empty`], [`EvalError::Shape`] or [`EvalError::NotFinite`].
pub fn mean_of_scales(features: &[f32], dim: usize) -> Result<Vec<f32>, EvalError> {
    if dim == 0 || features.is_empty() {
        return Err(EvalError::Empty { what: "the list of scales" });
    }
    if !features.len().is_multiple_of(dim) {
        return Err(EvalError::shape("features of scales", format!("rows of {dim}"), features.len()));
    }
    let scales = features.len() / dim;
    let sum = |i: usize| features.iter().skip(i).step_by(dim).map(|v| f64::from(*v)).sum::<f64>();
    let mut mean: Vec<f32> = (0..dim).map(|i| (sum(i) / scales as f64) as f32).collect();
    let place = String::new;
    to_unit(&mut mean).ok_or_else(|| EvalError::NotFinite { what: "a feature", place: place() })?;
    Ok(mean)
}
