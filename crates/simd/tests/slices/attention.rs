use ocelli_simd::attention::{backward, forward};

use crate::common::*;

/// The result, maxima and reciprocal sums by head, and the gradient, of one image.
struct Want {
    y: Vec<f64>,
    stats: Vec<f64>,
    dqkv: Vec<f64>,
}

fn reference(qkv: &[f64], dy: &[f64], tokens: usize, heads: usize, scale: f64) -> Want {
    let width = qkv.len() / tokens;
    let (dim, hd) = (width / 3, width / 3 / heads);
    let mut want = Want { y: vec![0.0; tokens * dim], stats: Vec::new(), dqkv: vec![0.0; qkv.len()] };
    for h in 0..heads {
        // Queries, keys and values of this head.
        let part = |t: usize, which: usize| &qkv[t * width + which * dim + h * hd..][..hd];
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let (mut maxima, mut inverse) = (Vec::new(), Vec::new());
        for q in 0..tokens {
            let scores: Vec<f64> = (0..tokens).map(|t| dot(part(q, 0), part(t, 1))).collect();
            let max = scores.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
            let weights: Vec<f64> = scores.iter().map(|s| ((s - max) * scale).exp()).collect();
            let sum: f64 = weights.iter().sum();
            maxima.push(max);
            inverse.push(1.0 / sum);
            let dy = &dy[q * dim + h * hd..][..hd];
            let ascents: Vec<f64> = (0..tokens).map(|t| dot(dy, part(t, 2))).collect();
            let along = dot(&weights, &ascents) / sum;
            for t in 0..tokens {
                let weight = weights[t] / sum;
                let slope = weight * (ascents[t] - along) * scale;
                for (i, dy) in dy.iter().enumerate() {
                    want.y[q * dim + h * hd + i] += weight * part(t, 2)[i];
                    want.dqkv[q * width + h * hd + i] += slope * part(t, 1)[i];
                    want.dqkv[t * width + dim + h * hd + i] += slope * part(q, 0)[i];
                    want.dqkv[t * width + 2 * dim + h * hd + i] += weight * dy;
                }
            }
        }
        want.stats.extend(maxima.into_iter().chain(inverse));
    }
    want
}

#[test]
fn values_and_gradients() {
    // From 129 tokens on queries are taken some at a time.
    for [batch, tokens, heads, hd] in
        [[1, 1, 1, 1], [2, 2, 1, 4], [2, 5, 3, 5], [1, 17, 2, 16], [1, 65, 1, 33], [1, 128, 1, 8], [1, 133, 2, 12]]
    {
        let what = format!("attention of {batch}×{tokens} tokens, {heads} heads of {hd}");
        let (dim, scale) = (heads * hd, 1.0 / (hd as f32).sqrt());
        let qkv = numbers(1, batch * tokens * 3 * dim, 2.0);
        let dy = numbers(2, batch * tokens * dim, 1.0);
        let (y, stats) = forward(&qkv, [batch, tokens, heads], scale);
        let dqkv = backward(&dy, &qkv, &y, &stats, [batch, tokens, heads], scale);
        for image in 0..batch {
            let part = |all: &[f32], of: usize| all[image * of..][..of].to_vec();
            let (qkv, dy) = (wide(&part(&qkv, tokens * 3 * dim)), wide(&part(&dy, tokens * dim)));
            let want = reference(&qkv, &dy, tokens, heads, f64::from(scale));
            close(&what, &part(&y, tokens * dim), &want.y, 1e-5);
            close(&format!("{what}: statistics"), &part(&stats, heads * 2 * tokens), &want.stats, 1e-5);
            close(&format!("{what}: gradient"), &part(&dqkv, tokens * 3 * dim), &want.dqkv, 1e-5);
        }
    }
}
