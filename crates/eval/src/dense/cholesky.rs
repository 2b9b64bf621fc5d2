//! Cholesky factors of symmetric positive definite matrices, for solving with them.

use super::product::{Matrix, MatrixMut, add_product};

/// Columns that are worked on together: what comes before them is taken off as one product.
const PANEL: usize = 32;

/// The lower triangle L of A = L·Lᵀ.
#[derive(Debug)]
pub struct Cholesky {
    /// By columns, `[n, n]`. What lies above the diagonal is of no meaning.
    lower: Vec<f64>,
    n: usize,
}

impl Cholesky {
    /// Factorises A, `[n, n]` by columns, of which the lower triangle is read. `None` where it is not positive
    /// definite, as far as rounding lets that be seen.
    pub fn of(mut a: Vec<f64>, n: usize) -> Option<Self> {
        if a.len() != n * n {
            return None;
        }
        for first in (0..n).step_by(PANEL) {
            let (width, height) = (PANEL.min(n - first), n - first);
            let (done, rest) = a.split_at_mut(first * n);
            if first > 0 {
                // Rows from `first` on of the columns that are done.
                let below = Matrix::by_cols(&done[first..], height, first, n);
                let beside = Matrix::by_cols(&done[first..], width, first, n);
                let mut panel = MatrixMut::by_cols(&mut rest[first..], height, width, n);
                add_product(&mut panel, 1.0, -1.0, below, beside.transposed());
            }
            for column in 0..width {
                let (before, now) = rest.split_at_mut(column * n);
                let now = &mut now[first + column..n];
                for earlier in before.chunks_exact(n) {
                    let earlier = &earlier[first + column..];
                    let factor = earlier[0];
                    now.iter_mut().zip(earlier).for_each(|(v, e)| *v -= factor * e);
                }
                let pivot = now[0];
                if !(pivot > 0.0 && pivot.is_finite()) {
                    return None;
                }
                let root = pivot.sqrt();
                now.iter_mut().for_each(|v| *v /= root);
            }
        }
        Some(Self { lower: a, n })
    }

    /// Solves A·x = b in place.
    ///
    /// # Panics
    /// When `b` has another length than the matrix has rows.
    pub fn solve(&self, b: &mut [f64]) {
        let n = self.n;
        assert_eq!(b.len(), n, "a right side of another length");
        for j in 0..n {
            let column = &self.lower[j * n + j..(j + 1) * n];
            b[j] /= column[0];
            let value = b[j];
            b[j + 1..].iter_mut().zip(&column[1..]).for_each(|(b, l)| *b -= value * l);
        }
        for j in (0..n).rev() {
            let column = &self.lower[j * n + j..(j + 1) * n];
            let dot: f64 = column[1..].iter().zip(&b[j + 1..]).map(|(l, b)| l * b).sum();
            b[j] = (b[j] - dot) / column[0];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solutions_give_the_right_side_back() {
        for n in [1, 2, PANEL - 1, PANEL, PANEL + 1, 3 * PANEL + 5] {
            let at = |i: usize, j: usize| {
                let apart = i.abs_diff(j) as f64;
                ((i * j) % 5) as f64 * 0.1 / (1.0 + apart) + if i == j { 2.0 } else { 0.0 }
            };
            let full: Vec<f64> = (0..n * n).map(|e| at(e % n, e / n)).collect();
            // Above the diagonal nothing is read.
            let a = (0..n * n).map(|e| if e % n < e / n { f64::NAN } else { full[e] }).collect();
            let b: Vec<f64> = (0..n).map(|i| (i as f64 * 0.7).sin()).collect();
            let mut x = b.clone();
            Cholesky::of(a, n).unwrap().solve(&mut x);
            for i in 0..n {
                let back: f64 = (0..n).map(|j| full[j * n + i] * x[j]).sum();
                assert!((back - b[i]).abs() < 1e-12, "n = {n}: row {i} gives {back}, not {}", b[i]);
            }
        }
    }

    #[test]
    fn what_is_not_positive_definite_has_no_factor() {
        assert!(Cholesky::of(vec![1.0, 2.0, 2.0, 1.0], 2).is_none());
        assert!(Cholesky::of(vec![f64::NAN], 1).is_none());
        assert!(Cholesky::of(vec![1.0; 3], 2).is_none());
    }
}
