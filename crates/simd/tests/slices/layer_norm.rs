use ocelli_simd::layer_norm::{backward, forward};

use crate::common::*;

const EPS: f32 = 1e-6;

/// The result, `[mean, 1/σ]` of every row, and the gradients of x, γ and β.
type Want = (Vec<f64>, Vec<[f64; 2]>, [Vec<f64>; 3]);

fn reference(x: &[f64], gamma: &[f64], beta: &[f64], dy: &[f64]) -> Want {
    let dim = gamma.len();
    let (mut y, mut stats, mut dx) = (Vec::new(), Vec::new(), Vec::new());
    let (mut dgamma, mut dbeta) = (vec![0.0; dim], vec![0.0; dim]);
    for (x, dy) in x.chunks_exact(dim).zip(dy.chunks_exact(dim)) {
        let mean = x.iter().sum::<f64>() / dim as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / dim as f64;
        let rstd = 1.0 / (variance + f64::from(EPS)).sqrt();
        let hat: Vec<f64> = x.iter().map(|x| (x - mean) * rstd).collect();
        let g: Vec<f64> = dy.iter().zip(gamma).map(|(d, g)| d * g).collect();
        let plain = g.iter().sum::<f64>() / dim as f64;
        let along = g.iter().zip(&hat).map(|(g, h)| g * h).sum::<f64>() / dim as f64;
        for i in 0..dim {
            y.push(hat[i] * gamma[i] + beta[i]);
            dx.push((g[i] - plain - hat[i] * along) * rstd);
            dgamma[i] += dy[i] * hat[i];
            dbeta[i] += dy[i];
        }
        stats.push([mean, rstd]);
    }
    (y, stats, [dx, dgamma, dbeta])
}

#[test]
fn values_and_gradients() {
    for (rows, dim) in [(1, 2), (3, 5), (2, 16), (17, 33), (129, 48), (260, 7), (2, 384)] {
        let what = format!("layer_norm {rows}×{dim}");
        let (x, dy) = (numbers(1, rows * dim, 2.0), numbers(2, rows * dim, 1.0));
        let (gamma, beta) = (numbers(3, dim, 1.0), numbers(4, dim, 1.0));
        let (y, stats) = forward(&x, &gamma, &beta, EPS);
        let [dx, dgamma, dbeta] = backward(&dy, &x, &gamma, &stats);
        let (want, moments, [wide_dx, wide_dgamma, wide_dbeta]) =
            reference(&wide(&x), &wide(&gamma), &wide(&beta), &wide(&dy));
        close(&what, &y, &want, 1e-5);
        for (i, [mean, rstd]) in moments.into_iter().enumerate() {
            close_or(&what, &[stats[i]], &[mean], 1e-6, 1.0);
            close(&what, &[stats[rows + i]], &[rstd], 1e-5);
        }
        // Two numbers of a row are normalised to the same whatever they are: nothing is left of numbers of size 1.
        close_or(&format!("{what}: dx"), &dx, &wide_dx, 1e-5, 1.0);
        close(&format!("{what}: dgamma"), &dgamma, &wide_dgamma, 1e-5);
        close(&format!("{what}: dbeta"), &dbeta, &wide_dbeta, 1e-5);
    }
}
