use ocelli_simd::gemm::{Panels, View};
use ocelli_simd::mlp::{backward, forward};

use crate::common::*;
use crate::gelu::reference;

#[test]
fn values_and_gradients() {
    // One piece, two, and weights that are too many for pieces.
    for [rows, inputs, hidden, outputs] in
        [[1, 1, 1, 1], [5, 3, 9, 4], [65, 12, 33, 7], [600, 5, 16, 6], [3, 700, 200, 650]]
    {
        let what = format!("mlp of {rows} rows, {inputs}, {hidden}, {outputs}");
        let (x, dy) = (numbers(1, rows * inputs, 1.0), numbers(2, rows * outputs, 1.0));
        let (w1, b1) = (numbers(3, inputs * hidden, 0.5), numbers(4, hidden, 0.5));
        let (w2, b2) = (numbers(5, hidden * outputs, 0.5), numbers(6, outputs, 0.5));
        let (v1, v2) = (View::row_major(&w1, inputs, hidden), View::row_major(&w2, hidden, outputs));
        let (p1, p2) = (Panels::new(v1), Panels::new(v2));
        let mut h = vec![f32::NAN; rows * hidden];
        let y = forward(&x, (&p1, &b1), (&p2, &b2), Some(&mut h));
        assert_eq!(&*y, &*forward(&x, (&p1, &b1), (&p2, &b2), None), "{what}: saved or not");
        let (dx, first, second) =
            backward(&dy, &x, &h, &Panels::new(v1.transposed()), &Panels::new(v2.transposed()));

        let [x, dy, w1, b1, w2, b2] = [&x, &dy, &w1, &b1, &w2, &b2].map(|v| wide(v));
        let biased = |mut y: Vec<f64>, bias: &[f64]| {
            for (i, y) in y.iter_mut().enumerate() {
                *y += bias[i % bias.len()];
            }
            y
        };
        let want_h = biased(product(&x, &w1, [rows, hidden, inputs]), &b1);
        close(&format!("{what}: saved"), &h, &want_h, 1e-5);
        let active: Vec<f64> = want_h.iter().map(|h| reference(*h)[0]).collect();
        close(&what, &y, &biased(product(&active, &w2, [rows, outputs, hidden]), &b2), 1e-5);
        let dh = product(&dy, &transposed(&w2, outputs), [rows, hidden, outputs]);
        let dh: Vec<f64> = dh.iter().zip(&want_h).map(|(d, h)| d * reference(*h)[1]).collect();
        close(&format!("{what}: dx"), &dx, &product(&dh, &transposed(&w1, hidden), [rows, inputs, hidden]), 1e-5);
        let want = product(&transposed(&x, inputs), &dh, [inputs, hidden, rows]);
        close(&format!("{what}: dw1"), &first.weight, &want, 1e-5);
        close(&format!("{what}: db1"), &first.bias, &column_sums(&dh, hidden), 1e-5);
        let want = product(&transposed(&active, hidden), &dy, [hidden, outputs, rows]);
        close(&format!("{what}: dw2"), &second.weight, &want, 1e-5);
        close(&format!("{what}: db2"), &second.bias, &column_sums(&dy, outputs), 1e-5);
    }
}
