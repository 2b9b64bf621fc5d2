//! Masks of objects to labels of cells, and back.

use super::GridSize;
use crate::EvalError;

/// What DAVIS marks pixels with that belong to nothing.
pub const VOID: u8 = 255;

/// Source index of every index of a nearest-neighbour resize from `from` to `to` along one axis, as PIL computes
/// it: the place is summed up step by step in f64, so that where it falls on a whole number, rounding decides as
/// it does there.
pub fn nearest(from: usize, to: usize) -> Vec<usize> {
    let step = from as f64 / to as f64;
    let mut place = step * 0.5;
    (0..to)
        .map(|_| {
            let index = (place as usize).min(from.saturating_sub(1));
            place += step;
            index
        })
        .collect()
}

/// A mask resized to `to_width × to_height`, nearest; see [`nearest`].
///
/// # Errors
/// [`EvalError::Empty`] for a side of 0, [`EvalError::Shape`] if the number of pixels is not `width · height`.
pub fn resize_nearest(
    mask: &[u8],
    [width, height]: [usize; 2],
    [to_width, to_height]: [usize; 2],
) -> Result<Vec<u8>, EvalError> {
    if [width, height, to_width, to_height].contains(&0) {
        return Err(EvalError::Empty { what: "the mask" });
    }
    if mask.len() != width * height {
        return Err(EvalError::shape("mask", format!("{width} × {height} pixels"), mask.len()));
    }
    let (columns, rows) = (nearest(width, to_width), nearest(height, to_height));
    Ok(rows.iter().flat_map(|row| columns.iter().map(move |column| mask[row * width + column])).collect())
}

/// The first frame's labels `[channels, cells]`, each 0 or 1: its mask of object numbers resized to the grid,
/// nearest, and one channel for the background and each number up to the largest that is left. [`VOID`] pixels are
/// background.
///
/// # Errors
/// As [`resize_nearest`].
pub fn first_labels(mask: &[u8], size: [usize; 2], grid: GridSize) -> Result<Vec<f32>, EvalError> {
    let mut small = resize_nearest(mask, size, [grid.columns, grid.rows])?;
    small.iter_mut().filter(|label| **label == VOID).for_each(|label| *label = 0);
    let channels = 1 + small.iter().copied().max().unwrap_or(0);
    Ok((0..channels).flat_map(|channel| small.iter().map(move |label| f32::from(*label == channel))).collect())
}

/// One channel of soft labels at the size of the network's input, `[rows · factor, columns · factor]`: bilinear
/// with pixel centres at half-integers, and stretched to 0..=1 over the frame.
///
/// The published code divides a channel that is the same above 0 everywhere by 0; here it stays as it is.
pub fn upsampled(labels: &[f32], grid: GridSize, factor: usize) -> Vec<f32> {
    let (width, height) = (grid.columns * factor, grid.rows * factor);
    let (across, down) = (taps(grid.columns, factor), taps(grid.rows, factor));
    let rows: Vec<f32> = labels
        .chunks_exact(grid.columns)
        .flat_map(|row| across.iter().map(|(a, b, weight)| row[*a] + (row[*b] - row[*a]) * weight))
        .collect();
    let mut values = Vec::with_capacity(width * height);
    for (a, b, weight) in down {
        let (a, b) = (&rows[a * width..][..width], &rows[b * width..][..width]);
        values.extend(a.iter().zip(b).map(|(a, b)| a + (b - a) * weight));
    }
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if high > 0.0 && high > low {
        let range = high - low;
        values.iter_mut().for_each(|value| *value = (*value - low) / range);
    }
    values
}

/// For every pixel of an axis, the two cells it lies between and the weight of the second.
fn taps(cells: usize, factor: usize) -> Vec<(usize, usize, f32)> {
    (0..cells * factor)
        .map(|pixel| {
            let place = ((pixel as f32 + 0.5) / factor as f32 - 0.5).max(0.0);
            let below = (place as usize).min(cells - 1);
            (below, (below + 1).min(cells - 1), place - below as f32)
        })
        .collect()
}

/// The mask `[height, width]` of soft labels `[channels, cells]`: each channel [`upsampled`], of a pixel the
/// channel that is largest (the first of equals), and that resized, nearest, to the frame's `size`, which is width
/// and height.
///
/// # Errors
/// [`EvalError::Empty`] for a side of 0, [`EvalError::Shape`] for labels that are not whole channels or more than
/// 255.
pub fn hard_mask(labels: &[f32], grid: GridSize, factor: usize, size: [usize; 2]) -> Result<Vec<u8>, EvalError> {
    if labels.is_empty() || factor == 0 {
        return Err(EvalError::Empty { what: "the labels" });
    }
    if !labels.len().is_multiple_of(grid.cells()) || labels.len() / grid.cells() > usize::from(VOID) {
        let expected = format!("1 to {VOID} channels of {} cells", grid.cells());
        return Err(EvalError::shape("labels", expected, labels.len()));
    }
    let pixels = grid.cells() * factor * factor;
    let (mut best, mut mask) = (vec![f32::NEG_INFINITY; pixels], vec![0u8; pixels]);
    for (channel, labels) in (0u8..).zip(labels.chunks_exact(grid.cells())) {
        let values = upsampled(labels, grid, factor);
        for ((value, best), label) in values.iter().zip(&mut best).zip(&mut mask) {
            if *value > *best {
                (*best, *label) = (*value, channel);
            }
        }
    }
    resize_nearest(&mask, [grid.columns * factor, grid.rows * factor], size)
}
