//! Parts of a matrix that several tasks write at the same time.

#![allow(unsafe_code)]

use core::marker::PhantomData;

/// A part of a row-major matrix, to be written by nobody else: some rows, and of each some columns.
#[derive(Debug)]
pub struct Tile<'a> {
    data: *mut f32,
    row: usize,
    rows: usize,
    cols: usize,
    /// Where the columns begin in the matrix.
    first: usize,
    matrix: PhantomData<&'a mut [f32]>,
}

// SAFETY: a tile is the only way to its numbers for as long as it lives, like `&mut [f32]`.
unsafe impl Send for Tile<'_> {}

impl<'a> Tile<'a> {
    /// A whole matrix, with rows of `cols` numbers.
    pub fn new(data: &'a mut [f32], cols: usize) -> Self {
        let rows = data.len().checked_div(cols).unwrap_or(0);
        Self { data: data.as_mut_ptr(), row: cols, rows, cols, first: 0, matrix: PhantomData }
    }

    /// The first `at` rows (or all, if there are fewer), and the others.
    pub fn split_rows(self, at: usize) -> (Self, Self) {
        let at = at.min(self.rows);
        // The second part points nowhere else than its first number, or where the first part ends.
        let after = self.data.wrapping_add(at * self.row);
        (Self { rows: at, ..self }, Self { data: after, rows: self.rows - at, ..self })
    }

    /// The columns in front of column `at` of the matrix, and those from there on.
    pub fn split_cols(self, at: usize) -> (Self, Self) {
        let count = at.saturating_sub(self.first).min(self.cols);
        let after = self.data.wrapping_add(count);
        let first = self.first + count;
        (Self { cols: count, ..self }, Self { data: after, cols: self.cols - count, first, ..self })
    }

    /// Rows in this part.
    #[inline(always)]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns in this part.
    #[inline(always)]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Distance between rows.
    #[inline(always)]
    pub(crate) fn distance(&self) -> usize {
        self.row
    }

    /// The first number.
    #[inline(always)]
    pub(crate) fn start(&mut self) -> *mut f32 {
        self.data
    }

    /// This part's columns of one of its rows.
    #[inline(always)]
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "tile: row {row} of {}", self.rows);
        // SAFETY: the row is inside the matrix, and no other tile has these columns of it.
        unsafe { core::slice::from_raw_parts_mut(self.data.add(row * self.row), self.cols) }
    }

    /// The same part for a shorter time, from one of its own columns on.
    #[inline(always)]
    pub fn columns_from(&mut self, column: usize) -> Tile<'_> {
        assert!(column <= self.cols, "tile: column {column} of {}", self.cols);
        Tile {
            data: self.data.wrapping_add(column),
            cols: self.cols - column,
            first: self.first + column,
            row: self.row,
            rows: self.rows,
            matrix: PhantomData,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tile;

    #[test]
    fn parts_cover_the_matrix_once() {
        let mut data = vec![0.0f32; 5 * 7];
        let (top, bottom) = Tile::new(&mut data, 7).split_rows(2);
        let mut parts = Vec::new();
        for part in [top, bottom] {
            let (left, right) = part.split_cols(3);
            let (middle, right) = right.split_cols(6);
            assert_eq!([left.first, middle.first, right.first], [0, 3, 6]);
            parts.extend([left, middle, right]);
        }
        for (i, part) in parts.iter_mut().enumerate() {
            for row in 0..part.rows() {
                for number in part.row(row) {
                    *number += (i + 1) as f32;
                }
            }
        }
        drop(parts);
        for (at, number) in data.iter().enumerate() {
            let (row, col) = (at / 7, at % 7);
            let part = 3 * usize::from(row >= 2) + usize::from(col >= 3) + usize::from(col >= 6);
            assert_eq!(*number, (part + 1) as f32, "{row}, {col}");
        }
    }

    #[test]
    fn splits_beyond_the_end_leave_nothing() {
        let mut data = vec![1.0f32; 6];
        let (all, none) = Tile::new(&mut data, 3).split_rows(9);
        assert_eq!((all.rows(), none.rows()), (2, 0));
        let (all, none) = all.split_cols(9);
        assert_eq!((all.cols(), none.cols(), none.first), (3, 0, 3));
    }
}
