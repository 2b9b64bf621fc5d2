//! Weights rearranged for the register tiles.

use crate::alloc::{self, Buffer};
use crate::parallel;
use crate::product::tile_width;

/// A matrix in memory: numbers, size, and distances between rows and between columns.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// From the first number of the matrix on.
    pub data: &'a [f32],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Distance between rows.
    pub row: usize,
    /// Distance between columns.
    pub col: usize,
}

impl<'a> View<'a> {
    /// A contiguous row-major matrix.
    pub fn row_major(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self { data, rows, cols, row: cols, col: 1 }
    }

    /// The same numbers with rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self { data: self.data, rows: self.cols, cols: self.rows, row: self.col, col: self.row }
    }
}

/// A `[depth, width]` matrix cut into panels of as many columns as a register tile has, each stored contiguously,
/// the last padded with zeros.
#[derive(Debug)]
pub struct Panels {
    data: Buffer,
    depth: usize,
    width: usize,
    tile: usize,
}

impl Panels {
    /// Packs a matrix of any strides: a transpose is free.
    pub fn new(matrix: View<'_>) -> Self {
        let tile = tile_width();
        let View { data: from, rows: depth, cols: width, row, col } = matrix;
        let mut data = alloc::scratch(depth * width.next_multiple_of(tile));
        let tasks = data.chunks_mut((depth * tile).max(1)).enumerate().collect();
        parallel::run(tasks, |(i, panel): (usize, &mut [f32])| {
            let j = i * tile;
            let count = tile.min(width - j);
            if count < tile {
                panel.fill(0.0);
            }
            if col == 1 {
                for (p, line) in panel.chunks_exact_mut(tile).enumerate() {
                    line[..count].copy_from_slice(&from[p * row + j..][..count]);
                }
            } else {
                for c in 0..count {
                    let column = &from[(j + c) * col..];
                    for (p, line) in panel.chunks_exact_mut(tile).enumerate() {
                        line[c] = column[p * row];
                    }
                }
            }
        });
        Self { data, depth, width, tile }
    }

    /// Rows of the matrix: the length of the sums.
    #[inline(always)]
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Columns of the matrix.
    #[inline(always)]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Columns of a panel.
    #[inline(always)]
    pub fn tile(&self) -> usize {
        self.tile
    }

    /// The panels with their first columns.
    #[inline(always)]
    pub fn panels(&self) -> impl Iterator<Item = (&[f32], usize)> {
        let tile = self.tile;
        self.data.chunks_exact((self.depth * tile).max(1)).enumerate().map(move |(i, panel)| (panel, i * tile))
    }

    /// A bias as long as the padded matrix is wide.
    pub fn padded(&self, bias: &[f32]) -> Vec<f32> {
        let mut out = bias.to_vec();
        out.resize(self.width.next_multiple_of(self.tile), 0.0);
        out
    }
}
