//! AdamW: every number read and written once.

use crate::alloc::{self, Buffer};
use crate::parallel;

/// Numbers in one task. Fixed, so that sums do not depend on the number of threads.
const CHUNK: usize = 1 << 14;

/// The scalars of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// Largest norm of the gradient; 0 does not clip.
    pub clip: f64,
    /// β1.
    pub beta1: f64,
    /// β2.
    pub beta2: f64,
    /// ε.
    pub epsilon: f64,
    /// What the decay leaves of the parameter: 1 − lr·decay, or 1.
    pub keep: f64,
    /// Learning rate.
    pub lr: f64,
    /// Steps done with this one, from 1.
    pub step: i32,
}

impl AdamWStep {
    /// lr over the correction of the first moment.
    pub fn rate(&self) -> f64 {
        self.lr / (1.0 - self.beta1.powi(self.step))
    }

    /// 1 over the root of the second moment's correction.
    pub fn unbias(&self) -> f64 {
        1.0 / (1.0 - self.beta2.powi(self.step)).sqrt()
    }
}

/// A step of parameters `p [n]` with gradients `g [n]` and both moments `[2, n]`: the new parameters and moments.
pub fn adamw(p: &[f32], g: &[f32], moments: &[f32], step: AdamWStep) -> (Buffer, Buffer) {
    let n = p.len();
    let factor = factor(g, step.clip);
    let (mut next, mut next_moments) = (alloc::scratch(n), alloc::scratch(2 * n));
    let (m, v) = next_moments.split_at_mut(n);
    let (first, second) = moments.split_at(n);
    let old = p.chunks(CHUNK).zip(g.chunks(CHUNK)).zip(first.chunks(CHUNK).zip(second.chunks(CHUNK)));
    let new = next.chunks_mut(CHUNK).zip(m.chunks_mut(CHUNK)).zip(v.chunks_mut(CHUNK));
    parallel::run(old.zip(new).collect(), |(old, new): (Old<'_>, New<'_>)| chunk(old, new, factor, step));
    (next, next_moments)
}

/// [`adamw`], and in the same pass the moving average that follows the parameters: `momentum·follower + (1 − momentum)·p` with
/// the new `p`. The new parameters, moments and follower.
pub fn adamw_ema(
    p: &[f32],
    g: &[f32],
    moments: &[f32],
    follower: &[f32],
    momentum: f64,
    step: AdamWStep,
) -> [Buffer; 3] {
    let n = p.len();
    let factor = factor(g, step.clip);
    let (mut next, mut next_moments, mut followed) = (alloc::scratch(n), alloc::scratch(2 * n), alloc::scratch(n));
    let (m, v) = next_moments.split_at_mut(n);
    let (first, second) = moments.split_at(n);
    let old = p.chunks(CHUNK).zip(g.chunks(CHUNK)).zip(first.chunks(CHUNK).zip(second.chunks(CHUNK)));
    let new = next.chunks_mut(CHUNK).zip(m.chunks_mut(CHUNK)).zip(v.chunks_mut(CHUNK));
    let average = follower.chunks(CHUNK).zip(followed.chunks_mut(CHUNK));
    type Task<'a> = ((Old<'a>, New<'a>), (&'a [f32], &'a mut [f32]));
    // A chunk of the new parameter is still in the cache when its average moves.
    parallel::run(old.zip(new).zip(average).collect(), |((old, ((p, m), v)), (before, after)): Task<'_>| {
        chunk(old, ((&mut *p, m), v), factor, step);
        average_chunk(p, before, after, momentum);
    });
    [next, next_moments, followed]
}

fn average_chunk(p: &[f32], before: &[f32], after: &mut [f32], momentum: f64) {
    let (momentum, share) = (momentum as f32, (1.0 - momentum) as f32);
    for ((after, before), p) in after.iter_mut().zip(before).zip(p) {
        *after = before * momentum + p * share;
    }
}

/// Parameters and gradients, both moments.
type Old<'a> = ((&'a [f32], &'a [f32]), (&'a [f32], &'a [f32]));
/// Parameters and both moments after the step.
type New<'a> = ((&'a mut [f32], &'a mut [f32]), &'a mut [f32]);

/// What clipping leaves of the gradient.
fn factor(g: &[f32], clip: f64) -> f32 {
    if clip <= 0.0 {
        return 1.0;
    }
    let mut sums = vec![0.0f64; g.len().div_ceil(CHUNK)];
    parallel::run(g.chunks(CHUNK).zip(&mut sums).collect(), |(g, sum): (&[f32], &mut f64)| {
        // Sixteen sums side by side, as wide as a register.
        let (wide, rest) = g.as_chunks::<16>();
        let mut lanes = [0.0f32; 16];
        for chunk in wide {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane += x * x;
            }
        }
        *sum = lanes.iter().chain(&rest.iter().map(|x| x * x).collect::<Vec<_>>()).map(|x| f64::from(*x)).sum();
    });
    let norm = sums.iter().sum::<f64>().sqrt();
    (clip / (norm + 1e-6)).min(1.0) as f32
}

fn chunk(((p, g), (first, second)): Old<'_>, ((next, m), v): New<'_>, factor: f32, step: AdamWStep) {
    let [beta1, beta2, epsilon, keep, rate, unbias] =
        [step.beta1, step.beta2, step.epsilon, step.keep, step.rate(), step.unbias()].map(|x| x as f32);
    let (rest1, rest2) = ((1.0 - step.beta1) as f32, (1.0 - step.beta2) as f32);
    let n = p.len();
    let (g, first, second) = (&g[..n], &first[..n], &second[..n]);
    let (next, m, v) = (&mut next[..n], &mut m[..n], &mut v[..n]);
    for i in 0..n {
        let g = g[i] * factor;
        m[i] = first[i] * beta1 + g * rest1;
        v[i] = second[i] * beta2 + g * g * rest2;
        next[i] = p[i] * keep - m[i] / (v[i].sqrt() * unbias + epsilon) * rate;
    }
}
