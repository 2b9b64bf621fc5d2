//! Attention: one image is one task, scores in a small scratch that stays in cache.
//!
//! Scores are kept transposed, `[keys, queries]`: the softmax of sixteen queries runs down a column of vectors, without
//! sums across lanes, and only the queries have to be transposed for the product.

use crate::alloc::{self, Buffer};
use crate::product::{self, Start, Strided};
use crate::{Lanes, math, parallel, simd_fn};

/// Queries handled at a time where there are many tokens; up to [`WHOLE`] tokens are handled at once.
const QUERIES: usize = 64;
/// See [`QUERIES`].
const WHOLE: usize = 128;

/// From `qkv [batch, tokens, 3·dim]` the result `[batch, tokens, dim]`, and `[batch, heads, 2, tokens]`: the largest score of
/// every query and the reciprocal of what the softmax divides by. `size` is `[batch, tokens, heads]`.
pub fn forward(qkv: &[f32], size: [usize; 3], scale: f32) -> (Buffer, Buffer) {
    let [batch, tokens, heads] = size;
    let (each, stats_each) = (qkv.len() / batch, heads * 2 * tokens);
    let mut y = alloc::scratch(qkv.len() / 3);
    let mut stats = alloc::scratch(batch * stats_each);
    let tasks =
        qkv.chunks_exact(each).zip(y.chunks_exact_mut(each / 3)).zip(stats.chunks_exact_mut(stats_each)).collect();
    parallel::run(tasks, |((qkv, y), stats): ((&[f32], &mut [f32]), &mut [f32])| {
        image(qkv, tokens, heads, scale, y, stats);
    });
    (y, stats)
}

/// The gradient of `qkv` from that of the result, the result `y` and the statistics of [`forward`].
pub fn backward(dy: &[f32], qkv: &[f32], y: &[f32], stats: &[f32], size: [usize; 3], scale: f32) -> Buffer {
    let [batch, tokens, heads] = size;
    let each = qkv.len() / batch;
    let mut dqkv = alloc::scratch(qkv.len());
    type Task<'a> = (((&'a [f32], &'a [f32]), (&'a [f32], &'a [f32])), &'a mut [f32]);
    let tasks = dy
        .chunks_exact(each / 3)
        .zip(qkv.chunks_exact(each))
        .zip(y.chunks_exact(each / 3).zip(stats.chunks_exact(heads * 2 * tokens)))
        .zip(dqkv.chunks_exact_mut(each))
        .collect();
    parallel::run(tasks, |(((dy, qkv), (y, stats)), dqkv): Task<'_>| {
        image_gradient(dy, qkv, y, stats, tokens, heads, scale, dqkv);
    });
    dqkv
}

#[inline(always)]
fn queries_at_once(tokens: usize) -> usize {
    if tokens <= WHOLE { tokens } else { QUERIES }
}

/// Copies `[rows, hd]`, rows `stride` apart, to `to [hd, padded]`; the padding becomes zero.
#[inline(always)]
fn transpose(from: &[f32], stride: usize, rows: usize, hd: usize, padded: usize, to: &mut [f32]) {
    let mut t = 0;
    while t + 4 <= rows {
        let a = &from[t * stride..][..hd];
        let b = &from[(t + 1) * stride..][..hd];
        let c = &from[(t + 2) * stride..][..hd];
        let d = &from[(t + 3) * stride..][..hd];
        for i in 0..hd {
            to[i * padded + t..][..4].copy_from_slice(&[a[i], b[i], c[i], d[i]]);
        }
        t += 4;
    }
    for t in t..rows {
        for (d, &x) in from[t * stride..][..hd].iter().enumerate() {
            to[d * padded + t] = x;
        }
    }
    if rows < padded {
        for line in to.chunks_exact_mut(padded).take(hd) {
            line[rows..].fill(0.0);
        }
    }
}

/// An operand `[tokens, hd]` whose rows can be read in whole vectors: in place if `hd` is a multiple of one, else
/// copied to `room`.
#[inline(always)]
fn whole_rows<'a, L: Lanes>(
    from: &'a [f32],
    stride: usize,
    tokens: usize,
    hd: usize,
    room: &'a mut [f32],
) -> (&'a [f32], usize) {
    let wide = hd.next_multiple_of(L::N);
    if wide == hd {
        return (from, stride);
    }
    for (t, line) in room.chunks_exact_mut(wide).take(tokens).enumerate() {
        line[..hd].copy_from_slice(&from[t * stride..][..hd]);
        line[hd..].fill(0.0);
    }
    (room, wide)
}

/// Room for [`whole_rows`] of `count` operands.
#[inline(always)]
fn rooms<L: Lanes>(tokens: usize, hd: usize, count: usize) -> usize {
    if hd.is_multiple_of(L::N) { 0 } else { count * tokens * hd.next_multiple_of(L::N) }
}

/// Turns columns of scores `[keys, padded]` into `e^((s − max)·scale)`; the maxima and the reciprocals of the sums to
/// `stats [2, padded]`.
#[inline(always)]
fn exponentials<L: Lanes>(scores: &mut [f32], padded: usize, scale: f32, stats: &mut [f32]) {
    let factor = L::splat(scale);
    for c in (0..padded).step_by(L::N) {
        let mut top = L::splat(f32::NEG_INFINITY);
        for row in scores.chunks_exact(padded) {
            top = top.max(L::load(&row[c..]));
        }
        let mut sum = L::splat(0.0);
        for row in scores.chunks_exact_mut(padded) {
            let e = math::exp(L::load(&row[c..]).sub(top).mul(factor));
            e.store(&mut row[c..]);
            sum = sum.add(e);
        }
        top.store(&mut stats[c..]);
        L::splat(1.0).div(sum).store(&mut stats[padded + c..]);
    }
}

simd_fn! {
    /// Attention of all heads of one image: `qkv [tokens, 3·dim]` to `y [tokens, dim]` and `stats [heads, 2, tokens]`.
    fn image<L>(qkv: &[f32], tokens: usize, heads: usize, scale: f32, y: &mut [f32], stats: &mut [f32]) {
        let width = qkv.len() / tokens;
        let dim = width / 3;
        let hd = dim / heads;
        let some = queries_at_once(tokens);
        let most = some.next_multiple_of(L::N);
        let mut queries = alloc::scratch(hd * most);
        let mut scores = alloc::scratch(tokens * most);
        let mut columns = alloc::scratch(2 * most);
        let mut room = alloc::scratch(rooms::<L>(tokens, hd, 1));
        for (h, stats) in stats.chunks_exact_mut(2 * tokens).enumerate() {
            let (maxima, inverse) = stats.split_at_mut(tokens);
            let (q, k, v) = (&qkv[h * hd..], &qkv[dim + h * hd..], &qkv[2 * dim + h * hd..]);
            let (v, v_row) = whole_rows::<L>(v, width, tokens, hd, &mut room);
            for from in (0..tokens).step_by(some) {
                let m = some.min(tokens - from);
                let padded = m.next_multiple_of(L::N);
                let scores = &mut scores[..tokens * padded];
                transpose(&q[from * width..], width, m, hd, padded, &mut queries);
                product::gemm::<L>(
                    [tokens, padded, hd],
                    Strided(k, width, 1),
                    (&queries, padded),
                    (scores, padded),
                    Start::Zero,
                );
                exponentials::<L>(scores, padded, scale, &mut columns);
                maxima[from..from + m].copy_from_slice(&columns[..m]);
                inverse[from..from + m].copy_from_slice(&columns[padded..][..m]);
                product::gemm::<L>(
                    [m, hd, tokens],
                    Strided(scores, 1, padded),
                    (v, v_row),
                    (&mut y[from * dim + h * hd..], dim),
                    Start::Zero,
                );
                for r in from..from + m {
                    for x in &mut y[r * dim + h * hd..][..hd] {
                        *x *= inverse[r];
                    }
                }
            }
        }
    }
}

simd_fn! {
    /// The gradient of [`image`]: writes all of `dqkv [tokens, 3·dim]`.
    fn image_gradient<L>(
        dy: &[f32], qkv: &[f32], y: &[f32], stats: &[f32], tokens: usize, heads: usize, scale: f32, dqkv: &mut [f32],
    ) {
        let width = qkv.len() / tokens;
        let dim = width / 3;
        let hd = dim / heads;
        let some = queries_at_once(tokens);
        let most = some.next_multiple_of(L::N);
        let mut queries = alloc::scratch(hd * most);
        let mut ascents = alloc::scratch(hd * most);
        let mut weights = alloc::scratch(tokens * most);
        let mut slopes = alloc::scratch(tokens * most);
        // By query: maximum, reciprocal of the sum, and the part of the gradient that the softmax removes.
        let mut columns = alloc::zeros(3 * most);
        let mut space = alloc::scratch(rooms::<L>(tokens, hd, 3));
        let third = space.len() / 3;
        let (q_room, rest) = space.split_at_mut(third);
        let (k_room, d_room) = rest.split_at_mut(third);
        for (h, stats) in stats.chunks_exact(2 * tokens).enumerate() {
            let (maxima, inverse) = stats.split_at(tokens);
            let at = h * hd;
            let (q, k, v) = (&qkv[at..], &qkv[dim + at..], &qkv[2 * dim + at..]);
            let (dy, y) = (&dy[at..], &y[at..]);
            let (q_whole, q_row) = whole_rows::<L>(q, width, tokens, hd, q_room);
            let (k_whole, k_row) = whole_rows::<L>(k, width, tokens, hd, k_room);
            let (d_whole, d_row) = whole_rows::<L>(dy, dim, tokens, hd, d_room);
            for from in (0..tokens).step_by(some) {
                let m = some.min(tokens - from);
                let padded = m.next_multiple_of(L::N);
                let start = if from == 0 { Start::Zero } else { Start::Add };
                let (weights, slopes) = (&mut weights[..tokens * padded], &mut slopes[..tokens * padded]);
                transpose(&q[from * width..], width, m, hd, padded, &mut queries);
                transpose(&dy[from * dim..], dim, m, hd, padded, &mut ascents);
                product::gemm::<L>(
                    [tokens, padded, hd],
                    Strided(k, width, 1),
                    (&queries, padded),
                    (weights, padded),
                    Start::Zero,
                );
                product::gemm::<L>(
                    [tokens, padded, hd],
                    Strided(v, width, 1),
                    (&ascents, padded),
                    (slopes, padded),
                    Start::Zero,
                );
                let (tops, rest) = columns.split_at_mut(most);
                let (shares, alongs) = rest.split_at_mut(most);
                tops[..m].copy_from_slice(&maxima[from..from + m]);
                shares[..m].copy_from_slice(&inverse[from..from + m]);
                for (r, along) in (from..from + m).zip(alongs.iter_mut()) {
                    *along = dot::<L>(&dy[r * dim..][..hd], &y[r * dim..][..hd]);
                }
                let factor = L::splat(scale);
                // The padding is finite, and what it becomes is never read.
                for c in (0..padded).step_by(L::N) {
                    let (top, share, along) =
                        (L::load(&tops[c..]), L::load(&shares[c..]), L::load(&alongs[c..]));
                    for (p, ds) in weights.chunks_exact_mut(padded).zip(slopes.chunks_exact_mut(padded)) {
                        let weight = math::exp(L::load(&p[c..]).sub(top).mul(factor)).mul(share);
                        weight.store(&mut p[c..]);
                        weight.mul(L::load(&ds[c..]).sub(along)).mul(factor).store(&mut ds[c..]);
                    }
                }
                product::gemm::<L>(
                    [tokens, hd, m],
                    Strided(weights, padded, 1),
                    (&d_whole[from * d_row..], d_row),
                    (&mut dqkv[2 * dim + at..], width),
                    start,
                );
                product::gemm::<L>(
                    [m, hd, tokens],
                    Strided(slopes, 1, padded),
                    (k_whole, k_row),
                    (&mut dqkv[from * width + at..], width),
                    Start::Zero,
                );
                product::gemm::<L>(
                    [tokens, hd, m],
                    Strided(slopes, padded, 1),
                    (&q_whole[from * q_row..], q_row),
                    (&mut dqkv[dim + at..], width),
                    start,
                );
            }
        }
    }
}

#[inline(always)]
fn dot<L: Lanes>(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = L::splat(0.0);
    let mut i = 0;
    while i + L::N <= a.len() {
        sums = L::load(&a[i..]).mul_add(L::load(&b[i..]), sums);
        i += L::N;
    }
    let last = if i < a.len() { L::load_part(&a[i..]).mul(L::load_part(&b[i..])) } else { L::splat(0.0) };
    sums.add(last).sum()
}
