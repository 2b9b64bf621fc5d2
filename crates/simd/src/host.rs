//! A matrix product on slices, for code whose numbers lie on the host and whose blocks are too small and too many
//! for tensors.
//!
//! ```
//! use ocelli_simd::host::{PADDING, product};
//!
//! let a = [1.0, 2.0];
//! let mut b = vec![3.0, 4.0];
//! b.resize(2 + PADDING, 0.0);
//! let mut c = [0.0];
//! product([1, 1, 2], (&a, 2), (&b, 1), (&mut c, 1));
//! assert_eq!(c, [11.0]);
//! ```

use crate::product::{self, Start, Strided};
use crate::simd_fn;

/// Numbers that [`product()`] may read past the end of a row of `B`, at any level of any machine: a vector less one.
pub const PADDING: usize = 15;

simd_fn! {
    /// `C[m, n] = A[m, k]·B[k, n]`, row-major; `size` is `[m, n, k]`.
    ///
    /// `A`, `B` and `C` come with the distance between their rows. Whole vectors of `B` are read, so at least
    /// [`PADDING`] numbers must follow its last column in the last row; what they are does not matter. Every
    /// number of the result is one chain of multiply-adds in the order of `k`: it does not depend on how a larger
    /// product was cut into blocks. Runs on the calling thread.
    ///
    /// # Panics
    /// When a slice is too short.
    pub fn product<L>(size: [usize; 3], a: (&[f32], usize), b: (&[f32], usize), c: (&mut [f32], usize)) {
        product::gemm::<L>(size, Strided(a.0, a.1, 1), b, c, Start::Zero);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_a_larger_matrix_at_odd_sizes() {
        let number = |i: usize| ((i * 7919) % 23) as f32 - 11.0;
        for [m, n, k] in [[1, 1, 1], [3, 5, 7], [8, 32, 40], [9, 50, 12], [33, 17, 3]] {
            let (lda, ldb, ldc) = (k + 2, n + 3, n + 1);
            let a: Vec<f32> = (0..m * lda).map(number).collect();
            let b: Vec<f32> = (0..k * ldb + PADDING).map(|i| number(i + 5)).collect();
            let mut c = vec![0.5; m * ldc];
            product([m, n, k], (&a, lda), (&b, ldb), (&mut c, ldc));
            for i in 0..m {
                for j in 0..n {
                    let want: f32 = (0..k).map(|p| a[i * lda + p] * b[p * ldb + j]).sum();
                    assert_eq!(c[i * ldc + j], want, "{m}×{n}×{k} at {i}, {j}");
                }
                assert_eq!(c[i * ldc + n], 0.5, "what lies beside the result stays");
            }
        }
    }
}
