//! Position embeddings at any grid, as DINO interpolates them.
//!
//! The reference asks PyTorch for a bicubic resize by the factor (cells + 0.1)/√N, which keeps the output size
//! from being rounded down and, because the factor is passed on, also shifts the sampling grid:
//! source = (target + ½)/factor − ½. The kernel is the cubic convolution with a = −¾, four taps clamped at the
//! border, no antialiasing. It is separable, so two small matrix products do it and gradients flow through them.

use burn::tensor::{Device, Tensor, TensorData};

const CUBIC_A: f64 = -0.75;
const SCALE_OFFSET: f64 = 0.1;

/// A patch grid: rows along the image height, columns along its width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PositionGrid {
    /// Patches along the height.
    pub rows: usize,
    /// Patches along the width.
    pub cols: usize,
}

impl PositionGrid {
    /// As many rows as columns.
    pub fn square(side: usize) -> Self {
        Self { rows: side, cols: side }
    }

    /// Number of patches.
    pub fn cells(&self) -> usize {
        self.rows * self.cols
    }
}

fn cubic(x: f64) -> f64 {
    let x = x.abs();
    if x <= 1.0 {
        ((CUBIC_A + 2.0) * x - (CUBIC_A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((CUBIC_A * x - 5.0 * CUBIC_A) * x + 8.0 * CUBIC_A) * x - 4.0 * CUBIC_A
    } else {
        0.0
    }
}

/// The `[target, source]` matrix of one axis, row-major.
pub(crate) fn interpolation_matrix(source: usize, target: usize) -> Vec<f32> {
    let factor = (target as f64 + SCALE_OFFSET) / source as f64;
    let mut matrix = vec![0.0f64; target * source];
    for (i, row) in matrix.chunks_mut(source).enumerate() {
        let position = (i as f64 + 0.5) / factor - 0.5;
        let base = position.floor();
        for tap in -1..=2i64 {
            let at = (base as i64 + tap).clamp(0, source as i64 - 1) as usize;
            row[at] += cubic(position - base - tap as f64);
        }
    }
    matrix.into_iter().map(|v| v as f32).collect()
}

/// Position embeddings `[1 + side², dim]`, the class token's first, at another grid: `[1 + grid.cells(), dim]`.
pub fn resample_positions(positions: Tensor<2>, grid: PositionGrid) -> Tensor<2> {
    let stored = positions.dims()[0] - 1;
    let side = stored.isqrt();
    let patches = interpolate(positions.clone().narrow(0, 1, stored), side, grid, grid.rows == grid.cols);
    Tensor::cat(vec![positions.narrow(0, 0, 1), patches], 0)
}

/// Interpolates patch position embeddings `[side², dim]` to `[grid.cells(), dim]`.
///
/// Returned unchanged when the number of cells is the stored one and the grid is square; like the reference, a
/// 7×28 grid over 14×14 stored cells *is* interpolated.
pub(crate) fn interpolate(patches: Tensor<2>, side: usize, grid: PositionGrid, square_image: bool) -> Tensor<2> {
    let [cells, dim] = patches.dims();
    if grid.cells() == cells && square_image {
        return patches;
    }
    let device = patches.device();
    let vertical = axis(side, grid.rows, &device).matmul(patches.reshape([side, side * dim]));
    let columns_first = vertical.reshape([grid.rows, side, dim]).swap_dims(0, 1).reshape([side, grid.rows * dim]);
    axis(side, grid.cols, &device)
        .matmul(columns_first)
        .reshape([grid.cols, grid.rows, dim])
        .swap_dims(0, 1)
        .reshape([grid.cells(), dim])
}

fn axis(source: usize, target: usize, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(interpolation_matrix(source, target), [target, source]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_matrix_sum_to_one() {
        for (source, target) in [(14, 6), (14, 30), (28, 60), (3, 1), (1, 5)] {
            for row in interpolation_matrix(source, target).chunks(source) {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{source} to {target}: {row:?}");
            }
        }
    }

    #[test]
    fn the_offset_shifts_the_grid() {
        // Without the +0.1 an equal-size resize would be the identity.
        let same = interpolation_matrix(7, 7);
        assert!((same[0] - 1.0).abs() > 1e-4);
    }
}
