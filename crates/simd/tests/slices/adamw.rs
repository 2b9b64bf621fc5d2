use ocelli_simd::adamw::{AdamWStep, adamw, adamw_ema};

use crate::common::*;

#[test]
fn steps_with_and_without_clipping_and_a_follower() {
    for n in [1, 7, 16, 100, (1 << 14) + 5] {
        for clip in [0.0, 0.3] {
            let step = AdamWStep { clip, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, keep: 0.99, lr: 0.1, step: 3 };
            let what = format!("adamw of {n}, clipped at {clip}");
            let (p, g, follower) = (numbers(1, n, 1.0), numbers(2, n, 1.0), numbers(3, n, 1.0));
            let mut moments = numbers(4, 2 * n, 0.1);
            for second in &mut moments[n..] {
                *second = second.abs() + 1e-3;
            }
            let (next, after) = adamw(&p, &g, &moments, step);
            let [again, moved, followed] = adamw_ema(&p, &g, &moments, &follower, 0.9, step);
            assert!(*next == *again && *after == *moved, "{what}: with a follower");

            let [p, g, moments, follower] = [&p, &g, &moments, &follower].map(|v| wide(v));
            let norm = g.iter().map(|g| g * g).sum::<f64>().sqrt();
            let factor = if clip > 0.0 { (clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
            let (mut want, mut want_moments) = (Vec::new(), vec![0.0; 2 * n]);
            for i in 0..n {
                let g = g[i] * factor;
                let m = 0.9 * moments[i] + 0.1 * g;
                let v = 0.999 * moments[n + i] + 0.001 * g * g;
                let (m_hat, v_hat) = (m / (1.0 - 0.9f64.powi(3)), v / (1.0 - 0.999f64.powi(3)));
                want.push(p[i] * 0.99 - 0.1 * m_hat / (v_hat.sqrt() + 1e-8));
                (want_moments[i], want_moments[n + i]) = (m, v);
            }
            close(&what, &next, &want, 1e-5);
            close(&format!("{what}: first moments"), &after[..n], &want_moments[..n], 1e-5);
            close(&format!("{what}: second moments"), &after[n..], &want_moments[n..], 1e-5);
            let average: Vec<f64> = follower.iter().zip(&want).map(|(f, p)| 0.9 * f + 0.1 * p).collect();
            close(&format!("{what}: follower"), &followed, &average, 1e-5);
        }
    }
}
