//! Matrices with rows and columns exchanged.

#![allow(unsafe_code)]

use crate::Lanes;

/// Writes the transpose of `from [rows, cols]`: `to[c·to_row + r] = from[r·from_row + c]`.
#[inline(always)]
pub fn transpose<L: Lanes>(
    (from, from_row): (&[f32], usize),
    [rows, cols]: [usize; 2],
    (to, to_row): (&mut [f32], usize),
) {
    if rows == 0 || cols == 0 {
        return;
    }
    // Rows may overlap; those of the result may not.
    assert!((rows - 1) * from_row + cols <= from.len(), "transpose: too short");
    assert!((cols - 1) * to_row + rows <= to.len() && rows <= to_row, "transpose: the result is too short");
    let (whole_rows, whole_cols) = (rows / L::N * L::N, cols / L::N * L::N);
    for r in (0..whole_rows).step_by(L::N) {
        for c in (0..whole_cols).step_by(L::N) {
            let (from, to) = (&from[r * from_row + c..], &mut to[c * to_row + r..]);
            // SAFETY: `r + N <= rows` and `c + N <= cols`, and both matrices were checked against rows and columns.
            unsafe { L::transpose(from.as_ptr(), from_row, to.as_mut_ptr(), to_row) };
        }
        edge((from, from_row), [r, r + L::N], [whole_cols, cols], (to, to_row));
    }
    edge((from, from_row), [whole_rows, rows], [0, cols], (to, to_row));
}

/// What fills no whole square.
#[inline(always)]
fn edge(
    (from, from_row): (&[f32], usize),
    [top, bottom]: [usize; 2],
    [left, right]: [usize; 2],
    (to, to_row): (&mut [f32], usize),
) {
    for r in top..bottom {
        for c in left..right {
            to[c * to_row + r] = from[r * from_row + c];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::transpose;
    use crate::simd_fn;

    simd_fn! {
        fn turned<L>(from: &[f32], from_row: usize, size: [usize; 2], to: &mut [f32], to_row: usize) {
            transpose::<L>((from, from_row), size, (to, to_row));
        }
    }

    #[test]
    fn every_number_gets_to_its_place_and_none_beside_it() {
        for (rows, cols) in [(1, 1), (3, 40), (16, 16), (33, 17), (48, 49), (5, 8), (0, 4), (4, 0)] {
            let (from_row, to_row) = (cols + 3, rows + 2);
            let from: Vec<f32> = (0..rows * from_row).map(|i| i as f32).collect();
            let mut to = vec![-1.0; cols * to_row];
            turned(&from, from_row, [rows, cols], &mut to, to_row);
            for c in 0..cols {
                for r in 0..to_row {
                    let want = if r < rows { from[r * from_row + c] } else { -1.0 };
                    assert_eq!(to[c * to_row + r], want, "{rows}x{cols} at {r}, {c}");
                }
            }
        }
    }
}
