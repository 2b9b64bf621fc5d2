//! Products of matrices, by the `gemm` crate.

/// A matrix that lies in a slice: element (i, j) at `i·row_stride + j·col_stride`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    values: &'a [f64],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

/// One that can be written to. Its strides keep elements apart: it is by columns.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    values: &'a mut [f64],
    rows: usize,
    cols: usize,
    col_stride: usize,
}

/// Elements a slice needs to hold a matrix of these strides.
fn needed(rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> usize {
    match (rows, cols) {
        (0, _) | (_, 0) => 0,
        _ => (rows - 1).saturating_mul(row_stride).saturating_add((cols - 1).saturating_mul(col_stride)) + 1,
    }
}

impl<'a> Matrix<'a> {
    /// By rows: `[rows, cols]`, each row `stride` after the one before.
    ///
    /// # Panics
    /// When the slice is too short.
    pub fn by_rows(values: &'a [f64], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(values.len() >= needed(rows, cols, stride, 1), "a matrix reaches beyond its slice");
        Self { values, rows, cols, row_stride: stride, col_stride: 1 }
    }

    /// By columns: each column `stride` after the one before.
    ///
    /// # Panics
    /// When the slice is too short.
    pub fn by_cols(values: &'a [f64], rows: usize, cols: usize, stride: usize) -> Self {
        Self::by_rows(values, cols, rows, stride).transposed()
    }

    /// Rows as columns.
    #[must_use]
    pub fn transposed(self) -> Self {
        let Self { values, rows, cols, row_stride, col_stride } = self;
        Self { values, rows: cols, cols: rows, row_stride: col_stride, col_stride: row_stride }
    }
}

impl<'a> MatrixMut<'a> {
    /// By columns: each column `stride` (at least `rows`) after the one before.
    ///
    /// # Panics
    /// When the slice is too short, or columns overlap.
    pub fn by_cols(values: &'a mut [f64], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(stride >= rows, "columns overlap");
        assert!(values.len() >= needed(rows, cols, 1, stride), "a matrix reaches beyond its slice");
        Self { values, rows, cols, col_stride: stride }
    }
}

/// `out ← keep·out + factor·a·b`.
///
/// # Panics
/// When the shapes do not fit.
pub fn add_product(out: &mut MatrixMut<'_>, keep: f64, factor: f64, a: Matrix<'_>, b: Matrix<'_>) {
    assert!(a.cols == b.rows && out.rows == a.rows && out.cols == b.cols, "matrices of shapes that do not fit");
    if out.rows == 0 || out.cols == 0 {
        return;
    }
    // Strides are below the lengths of slices, which fit.
    let signed = |stride: usize| stride as isize;
    // SAFETY: the constructors have checked that every element of the three matrices lies within its slice, and
    // that no two elements of `out` share a place; borrowing keeps `out` apart from the other two.
    #[allow(unsafe_code, reason = "gemm takes pointers")]
    unsafe {
        gemm::gemm(
            out.rows,
            out.cols,
            a.cols,
            out.values.as_mut_ptr(),
            signed(out.col_stride),
            1,
            keep != 0.0,
            a.values.as_ptr(),
            signed(a.col_stride),
            signed(a.row_stride),
            b.values.as_ptr(),
            signed(b.col_stride),
            signed(b.row_stride),
            keep,
            factor,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_the_definition() {
        let (n, k, m) = (5, 7, 3);
        let a: Vec<f64> = (0..n * k).map(|i| (i * i % 11) as f64 - 4.0).collect();
        let b: Vec<f64> = (0..k * m).map(|i| (i * 5 % 13) as f64 - 6.0).collect();
        let mut out = vec![1.0; (n + 2) * m];
        add_product(
            &mut MatrixMut::by_cols(&mut out, n, m, n + 2),
            2.0,
            -0.5,
            Matrix::by_rows(&a, n, k, k),
            Matrix::by_cols(&b, k, m, k),
        );
        for (i, j) in (0..n).flat_map(|i| (0..m).map(move |j| (i, j))) {
            let dot: f64 = (0..k).map(|l| a[i * k + l] * b[j * k + l]).sum();
            assert_eq!(out[j * (n + 2) + i], 2.0 - 0.5 * dot);
        }
        assert_eq!(out[n], 1.0, "what lies between columns stays");
        let mut replaced = vec![f64::NAN; n * n];
        let a = Matrix::by_rows(&a, n, k, k);
        add_product(&mut MatrixMut::by_cols(&mut replaced, n, n, n), 0.0, 1.0, a, a.transposed());
        assert!(replaced.iter().all(|v| v.is_finite()), "what was there is not read");
    }

    #[test]
    #[should_panic(expected = "beyond its slice")]
    fn a_matrix_stays_within_its_slice() {
        let _ = Matrix::by_rows(&[0.0; 11], 3, 4, 4);
    }
}
