//! Matrix products: tiles in registers, tall activations, gradients of weights.

use ocelli_simd::gemm::{Panels, View, tall, weight_grad};
use ocelli_simd::product::{self, Start, Strided};
use ocelli_simd::tile::Tile;
use ocelli_simd::{WIDEST, simd_fn};

use crate::common::*;

simd_fn! {
    fn multiply<L>(size: [usize; 3], a: Strided<'_>, b: (&[f32], usize), c: (&mut [f32], usize), start: Start<'_>) {
        product::gemm::<L>(size, a, b, c, start);
    }
}

simd_fn! {
    fn multiply_tile<L>(size: [usize; 3], a: Strided<'_>, b: (&[f32], usize), c: Tile<'_>, start: Start<'_>) {
        let mut c = c;
        product::gemm_tile::<L>(size, a, b, &mut c, start);
    }
}

#[test]
fn tiles_of_any_size_from_any_start() {
    for [m, n, k] in
        [[1, 1, 1], [2, 3, 5], [5, 4, 0], [7, 13, 9], [8, 48, 33], [9, 16, 16], [13, 50, 17], [23, 31, 40]]
    {
        let (ldb, ldc) = (n + 3, n + 2);
        let a = numbers(1, m * k, 1.0);
        let b = numbers(2, k * ldb + WIDEST, 1.0);
        let bias = numbers(3, n + WIDEST, 1.0);
        let before = numbers(4, m * ldc, 1.0);
        let narrow: Vec<f64> = b.chunks_exact(ldb).take(k).flat_map(|row| wide(&row[..n])).collect();
        let plain = product(&wide(&a), &narrow, [m, n, k]);
        // The rows of A next to each other, and its columns.
        let turned = if k == 0 { Vec::new() } else { transposed(&a, k) };
        for (a, name) in [(Strided(&a, k, 1), "rows"), (Strided(&turned, 1, m), "columns")] {
            for start in [Start::Zero, Start::Bias(&bias), Start::Add] {
                let what = format!("{m}×{n}×{k}, {name}, {start:.0?}");
                let mut c = before.clone();
                multiply([m, n, k], a, (&b, ldb), (&mut c, ldc), start);
                let mut tile = before.clone();
                let (top, _) = Tile::new(&mut tile, ldc).split_rows(m);
                let (left, _) = top.split_cols(n);
                multiply_tile([m, n, k], a, (&b, ldb), left, start);
                assert_eq!(c, tile, "{what}: by a tile");
                for (i, row) in c.chunks_exact(ldc).enumerate() {
                    let want: Vec<f64> = (0..n)
                        .map(|j| {
                            plain[i * n + j]
                                + match start {
                                    Start::Zero => 0.0,
                                    Start::Bias(bias) => f64::from(bias[j]),
                                    Start::Add => f64::from(before[i * ldc + j]),
                                }
                        })
                        .collect();
                    close_or(&what, &row[..n], &want, 1e-5, 1.0);
                    assert_eq!(row[n..], before[i * ldc + n..][..2], "{what}: what lies beside the result stays");
                }
            }
        }
    }
}

#[test]
fn tall_products_with_and_without_a_bias() {
    for [m, n, k] in [[1, 1, 1], [3, 7, 5], [64, 12, 40], [65, 100, 33], [130, 49, 16], [5, 20, 1030], [0, 4, 4]] {
        let (x, w, bias) = (numbers(1, m * k, 1.0), numbers(2, k * n, 1.0), numbers(3, n, 1.0));
        let plain = product(&wide(&x), &wide(&w), [m, n, k]);
        let biased: Vec<f64> = plain.iter().enumerate().map(|(i, y)| y + f64::from(bias[i % n])).collect();
        // The same matrix, row by row and column by column.
        let turned = transposed(&w, n);
        let views = [View::row_major(&w, k, n), View::row_major(&turned, n, k).transposed()];
        for panels in views.map(Panels::new) {
            assert_eq!((panels.depth(), panels.width()), (k, n));
            let mut y = vec![f32::NAN; m * n];
            tall(&x, &panels, None, &mut y);
            close_or(&format!("{m}×{n}×{k}"), &y, &plain, 1e-5, 1.0);
            tall(&x, &panels, Some(&bias), &mut y);
            close_or(&format!("{m}×{n}×{k} with a bias"), &y, &biased, 1e-5, 1.0);
        }
    }
}

#[test]
fn gradients_of_weights_sum_over_rows() {
    for [rows, inputs, outputs] in
        [[1, 1, 1], [5, 3, 7], [128, 8, 12], [129, 33, 50], [1300, 5, 9], [40, 210, 400]]
    {
        let (x, dy) = (numbers(1, rows * inputs, 1.0), numbers(2, rows * outputs, 1.0));
        let grad = weight_grad(&x, &dy, inputs, outputs);
        let (x, dy) = (wide(&x), wide(&dy));
        let what = format!("{rows} rows, {inputs}×{outputs}");
        let want = product(&transposed(&x, inputs), &dy, [inputs, outputs, rows]);
        close(&what, &grad.weight, &want, 1e-5);
        close(&format!("{what}: bias"), &grad.bias, &column_sums(&dy, outputs), 1e-5);
    }
}
