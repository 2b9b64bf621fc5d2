//! Boundary accuracy F of the DAVIS benchmark.

use serde::{Deserialize, Serialize};

use super::{same_size, without};
use crate::EvalError;
use crate::mask::Mask;

/// How far boundaries may lie apart and still match, as a share of the picture's diagonal.
pub const BOUNDARY_THRESHOLD: f64 = 0.008;

/// How well the boundaries of two masks fit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Boundary {
    /// Share of the predicted boundary that lies near the true one.
    pub precision: f64,
    /// Share of the true boundary that lies near the predicted one.
    pub recall: f64,
    /// Their harmonic mean.
    pub f: f64,
    /// What near is: pixels.
    pub radius_px: usize,
}

/// Compares the boundaries of two masks of one size; void pixels count as background in both.
///
/// A boundary pixel is near the other boundary when a pixel of that lies within `radius_px = ceil(threshold ·
/// diagonal)` of it. An empty prediction has precision 1 and recall 0, an empty truth the reverse; where both have
/// no boundary, all is 1. A threshold of 1 or more is a number of pixels.
///
/// # Errors
/// [`EvalError::Shape`] if the sizes differ, [`EvalError::Setting`] if the threshold is not a positive number.
pub fn boundary(
    prediction: &Mask,
    truth: &Mask,
    void: Option<&Mask>,
    threshold: f64,
) -> Result<Boundary, EvalError> {
    same_size(truth, prediction)?;
    if !(threshold.is_finite() && threshold > 0.0) {
        return Err(EvalError::setting("boundary threshold", "a positive number", threshold));
    }
    let (width, height) = (truth.width(), truth.height());
    let radius_px = match threshold {
        pixels if pixels >= 1.0 => pixels.ceil() as usize,
        share => (share * (width as f64).hypot(height as f64)).ceil() as usize,
    };
    let of = |mask: &Mask| match void {
        Some(void) => Ok::<_, EvalError>(edge(&without(mask, void)?)),
        None => Ok(edge(mask)),
    };
    let (predicted, true_edge) = (of(prediction)?, of(truth)?);
    let (precision, recall) = match (predicted.is_empty(), true_edge.is_empty()) {
        (true, true) => (1.0, 1.0),
        (true, false) => (1.0, 0.0),
        (false, true) => (0.0, 1.0),
        (false, false) => {
            let share = |of: &[(usize, usize)], near: &[(usize, usize)]| {
                let near = dilate(near, width, height, radius_px);
                of.iter().filter(|(x, y)| near[y * width + x]).count() as f64 / of.len() as f64
            };
            (share(&predicted, &true_edge), share(&true_edge, &predicted))
        }
    };
    let sum = precision + recall;
    let f = if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 };
    Ok(Boundary { precision, recall, f, radius_px })
}

/// Boundary pixels, column and row: those that differ from their right, lower or lower right neighbour. The last
/// row looks right only, the last column down only, the last pixel nowhere.
fn edge(mask: &Mask) -> Vec<(usize, usize)> {
    let (width, height, cells) = (mask.width(), mask.height(), mask.cells());
    let mut edge = Vec::new();
    for y in 0..height {
        let row = &cells[y * width..][..width];
        let below = if y + 1 < height { &cells[(y + 1) * width..][..width] } else { row };
        for x in 0..width {
            let right = (x + 1).min(width - 1);
            if row[x] != row[right] || row[x] != below[x] || row[x] != below[right] {
                edge.push((x, y));
            }
        }
    }
    edge
}

/// Pixels within `radius` of one of these: the disk `x² + y² <= radius²` around each, row by row. A disk is a span
/// in each of its rows, so a pixel costs two sums for each of them, however wide it is.
pub(super) fn dilate(pixels: &[(usize, usize)], width: usize, height: usize, radius: usize) -> Vec<bool> {
    let spans: Vec<usize> = (0..=radius).map(|dy| (radius * radius - dy * dy).isqrt()).collect();
    // Where spans begin, less where they end.
    let mut steps = vec![0i32; (width + 1) * height];
    for &(x, y) in pixels {
        for row in y.saturating_sub(radius)..=(y + radius).min(height - 1) {
            let span = spans[row.abs_diff(y)];
            steps[row * (width + 1) + x.saturating_sub(span)] += 1;
            steps[row * (width + 1) + (x + span + 1).min(width)] -= 1;
        }
    }
    let mut near = Vec::with_capacity(width * height);
    for row in steps.chunks_exact(width + 1) {
        let mut open = 0;
        near.extend(row[..width].iter().map(|step| {
            open += step;
            open > 0
        }));
    }
    near
}
