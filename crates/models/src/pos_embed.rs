//! Position embeddings at any grid, as the programs interpolate them that networks come from.
//!
//! DINO asks PyTorch for a bicubic resize by the factor (cells + 0.1)/√N, which keeps the output size from being rounded down
//! and, because the factor is passed on, also shifts the sampling grid: source = (target + ½)/factor − ½. The kernel is the
//! cubic convolution with a = −¾, four taps clamped at the border, no antialiasing. Others ask for the size itself, and
//! some for antialiasing, which PyTorch does with a = −½, a kernel as wide as the shrinking, and taps beyond the border left out.
//! All of them are separable, so two small matrix products do it and gradients flow through them.

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// PyTorch's kernel without antialiasing, and with it (as PIL's).
const CUBIC_A: f64 = -0.75;
const ANTIALIASED_A: f64 = -0.5;
const SCALE_OFFSET: f64 = 0.1;

/// Which program's way to interpolate a network's position embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PositionRule {
    /// DINO's, and that of DINOv2 without registers: bicubic by the factor (cells + 0.1)/side.
    #[default]
    Dino,
    /// That of Hugging Face's transformers for networks without registers: bicubic to the size.
    Bicubic,
    /// That of DINOv2 with registers, and timm's: bicubic to the size with antialiasing.
    Antialiased,
}

impl PositionRule {
    /// Of a file's metadata, the entry that names the rule by [`PositionRule::name`].
    pub const METADATA: &'static str = "position_rule";

    /// `dino`, `bicubic` or `antialiased`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dino => "dino",
            Self::Bicubic => "bicubic",
            Self::Antialiased => "antialiased",
        }
    }

    /// What published networks with so many registers do, where nobody says.
    pub fn of_registers(registers: usize) -> Self {
        if registers > 0 { Self::Antialiased } else { Self::Dino }
    }

    /// The rule of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Dino, Self::Bicubic, Self::Antialiased].into_iter().find(|rule| rule.name() == name)
    }
}

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

/// The cubic convolution of Keys (1981).
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

/// The `[target, source]` matrix of one axis, row-major.
pub(crate) fn interpolation_matrix(source: usize, target: usize, rule: PositionRule) -> Vec<f32> {
    let mut matrix = vec![0.0f64; target * source];
    let offset = if rule == PositionRule::Dino { SCALE_OFFSET } else { 0.0 };
    let factor = (target as f64 + offset) / source as f64;
    for (i, row) in matrix.chunks_mut(source).enumerate() {
        let position = (i as f64 + 0.5) / factor - 0.5;
        match rule {
            PositionRule::Antialiased => antialiased_row(row, position, 1.0 / factor),
            PositionRule::Dino | PositionRule::Bicubic => {
                let base = position.floor();
                for tap in -1..=2i64 {
                    let at = (base as i64 + tap).clamp(0, source as i64 - 1) as usize;
                    row[at] += cubic(position - base - tap as f64, CUBIC_A);
                }
            }
        }
    }
    matrix.into_iter().map(|v| v as f32).collect()
}

/// Weights around `position` of a kernel stretched by the shrinking, those inside the border brought to a sum of 1.
fn antialiased_row(row: &mut [f64], position: f64, shrinking: f64) {
    let stretch = shrinking.max(1.0);
    for (j, weight) in row.iter_mut().enumerate() {
        *weight = cubic((j as f64 - position) / stretch, ANTIALIASED_A);
    }
    let sum: f64 = row.iter().sum();
    row.iter_mut().for_each(|weight| *weight /= sum);
}

/// Position embeddings `[1 + side², dim]`, the class token's first, at another grid: `[1 + grid.cells(), dim]`.
pub fn resample_positions(positions: Tensor<2>, grid: PositionGrid, rule: PositionRule) -> Tensor<2> {
    let stored = positions.dims()[0] - 1;
    let side = stored.isqrt();
    let square = grid.rows == grid.cols;
    let patches = interpolate(positions.clone().narrow(0, 1, stored), side, grid, square, rule);
    Tensor::cat(vec![positions.narrow(0, 0, 1), patches], 0)
}

/// Interpolates patch position embeddings `[side², dim]` to `[grid.cells(), dim]`.
///
/// Returned unchanged when the number of cells is the stored one and the grid is square; like the reference, a
/// 7×28 grid over 14×14 stored cells *is* interpolated.
pub(crate) fn interpolate(
    patches: Tensor<2>,
    side: usize,
    grid: PositionGrid,
    square_image: bool,
    rule: PositionRule,
) -> Tensor<2> {
    let [cells, dim] = patches.dims();
    if grid.cells() == cells && square_image {
        return patches;
    }
    let device = patches.device();
    let vertical = axis(side, grid.rows, rule, &device).matmul(patches.reshape([side, side * dim]));
    let columns_first = vertical.reshape([grid.rows, side, dim]).swap_dims(0, 1).reshape([side, grid.rows * dim]);
    axis(side, grid.cols, rule, &device)
        .matmul(columns_first)
        .reshape([grid.cols, grid.rows, dim])
        .swap_dims(0, 1)
        .reshape([grid.cells(), dim])
}

fn axis(source: usize, target: usize, rule: PositionRule, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(interpolation_matrix(source, target, rule), [target, source]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: [PositionRule; 3] = [PositionRule::Dino, PositionRule::Bicubic, PositionRule::Antialiased];

    #[test]
    fn rows_of_the_matrix_sum_to_one() {
        for (source, target) in [(14, 6), (14, 30), (28, 60), (3, 1), (1, 5), (37, 16), (37, 1)] {
            for rule in RULES {
                for row in interpolation_matrix(source, target, rule).chunks(source) {
                    assert!(
                        (row.iter().sum::<f32>() - 1.0).abs() < 1e-6,
                        "{source} to {target}, {rule:?}: {row:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_offset_shifts_the_grid() {
        // Without the +0.1 an equal-size resize would be the identity.
        let same = interpolation_matrix(7, 7, PositionRule::Dino);
        assert!((same[0] - 1.0).abs() > 1e-4);
        let identity: Vec<f32> = (0..49).map(|i| if i % 8 == 0 { 1.0 } else { 0.0 }).collect();
        for rule in [PositionRule::Bicubic, PositionRule::Antialiased] {
            assert_eq!(interpolation_matrix(7, 7, rule), identity, "{rule:?}");
        }
    }

    /// What PyTorch's `interpolate(mode="bicubic", antialias=True)` makes of unit vectors, to six digits.
    #[test]
    fn antialiasing_is_that_of_pytorch() {
        let shrunk = [[0.75286, 0.304348, -0.057208, 0.0], [-0.035201, 0.535201, 0.535201, -0.035201]];
        let grown = [
            [1.065789, -0.065789, 0.0, 0.0],
            [0.529412, 0.529412, -0.058824, 0.0],
            [-0.05787, 0.9375, 0.131944, -0.011574],
        ];
        for (target, expected) in [(3, &shrunk[..]), (6, &grown)] {
            let found = interpolation_matrix(4, target, PositionRule::Antialiased);
            for (found, expected) in found.chunks(4).zip(expected) {
                assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} {expected:?}");
            }
        }
    }

    #[test]
    fn rules_have_names() {
        for rule in RULES {
            assert_eq!(PositionRule::of_name(rule.name()), Some(rule));
        }
        assert_eq!(PositionRule::of_name("nearest"), None);
    }
}
