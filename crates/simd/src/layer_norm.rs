//! Layer normalisation: one pass forward, one pass back.

use crate::alloc::{self, Buffer};
use crate::gemm::add;
use crate::{parallel, simd_fn};

/// Rows of one task. Fixed, so that the sums over rows do not depend on the number of threads.
const ROWS: usize = 128;

/// The normalised rows of `x [rows, dim]`, and `[2, rows]`: means, then inverse standard deviations. `gamma` and `beta` are
/// `[dim]`.
pub fn forward(x: &[f32], gamma: &[f32], beta: &[f32], eps: f32) -> (Buffer, Buffer) {
    let dim = gamma.len();
    let rows = x.len() / dim;
    let mut y = alloc::scratch(rows * dim);
    let mut stats = alloc::scratch(2 * rows);
    let (mean, rstd) = stats.split_at_mut(rows);
    type Task<'a> = ((&'a [f32], &'a mut [f32]), (&'a mut [f32], &'a mut [f32]));
    let tasks = x
        .chunks(ROWS * dim)
        .zip(y.chunks_mut(ROWS * dim))
        .zip(mean.chunks_mut(ROWS).zip(rstd.chunks_mut(ROWS)))
        .collect();
    parallel::run(tasks, |((x, y), (mean, rstd)): Task<'_>| {
        forward_rows(x, gamma, beta, eps, y, mean, rstd);
    });
    (y, stats)
}

/// The gradients of `x`, `gamma` and `beta` from that of the result and the statistics of [`forward`].
pub fn backward(dy: &[f32], x: &[f32], gamma: &[f32], stats: &[f32]) -> [Buffer; 3] {
    let dim = gamma.len();
    let rows = x.len() / dim;
    let (mean, rstd) = stats.split_at(rows);
    let mut dx = alloc::scratch(rows * dim);
    let mut partial = alloc::zeros(rows.div_ceil(ROWS) * 2 * dim);
    let tasks = dy
        .chunks(ROWS * dim)
        .zip(x.chunks(ROWS * dim))
        .zip(mean.chunks(ROWS).zip(rstd.chunks(ROWS)))
        .zip(dx.chunks_mut(ROWS * dim).zip(partial.chunks_mut(2 * dim)))
        .collect();
    type Task<'a> = (((&'a [f32], &'a [f32]), (&'a [f32], &'a [f32])), (&'a mut [f32], &'a mut [f32]));
    parallel::run(tasks, |(((dy, x), (mean, rstd)), (dx, partial)): Task<'_>| {
        let (dgamma, dbeta) = partial.split_at_mut(dim);
        backward_rows(dy, x, gamma, mean, rstd, dx, dgamma, dbeta);
    });
    let (mut dgamma, mut dbeta) = (alloc::zeros(dim), alloc::zeros(dim));
    for block in partial.chunks_exact(2 * dim) {
        add(&mut dgamma, &block[..dim]);
        add(&mut dbeta, &block[dim..]);
    }
    [dx, dgamma, dbeta]
}

/// Sum over `i` of `term`, given the vectors at `i`; the last, shorter vectors are filled with zeros.
macro_rules! sum_over {
    ($L:ident, $dim:expr, |$($name:ident = $slice:ident),+| $term:expr) => {{
        let mut sum = $L::splat(0.0);
        let mut i = 0;
        while i + $L::N <= $dim {
            $(let $name = $L::load(&$slice[i..]);)+
            sum = sum.add($term);
            i += $L::N;
        }
        let mut total = sum.sum();
        if i < $dim {
            $(let $name = $L::load_part(&$slice[i..]);)+
            let mut last = [0.0; 16];
            $term.store(&mut last);
            for x in &last[..$dim - i] {
                total += x;
            }
        }
        total
    }};
}

simd_fn! {
    fn forward_rows<L>(
        x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, y: &mut [f32], mean: &mut [f32], rstd: &mut [f32],
    ) {
        let dim = gamma.len();
        let beta = &beta[..dim];
        let scale = 1.0 / dim as f32;
        for (((x, y), mean), rstd) in x.chunks_exact(dim).zip(y.chunks_exact_mut(dim)).zip(mean).zip(rstd) {
            *mean = sum_over!(L, dim, |v = x| v) * scale;
            let centre = L::splat(*mean);
            let variance = sum_over!(L, dim, |v = x| {
                let d = v.sub(centre);
                d.mul(d)
            }) * scale;
            *rstd = 1.0 / (variance + eps).sqrt();
            let r = L::splat(*rstd);
            let mut i = 0;
            while i + L::N <= dim {
                let hat = L::load(&x[i..]).sub(centre).mul(r);
                hat.mul_add(L::load(&gamma[i..]), L::load(&beta[i..])).store(&mut y[i..]);
                i += L::N;
            }
            if i < dim {
                let hat = L::load_part(&x[i..]).sub(centre).mul(r);
                hat.mul_add(L::load_part(&gamma[i..]), L::load_part(&beta[i..])).store_part(&mut y[i..]);
            }
        }
    }
}

simd_fn! {
    fn backward_rows<L>(
        dy: &[f32], x: &[f32], gamma: &[f32], mean: &[f32], rstd: &[f32],
        dx: &mut [f32], dgamma: &mut [f32], dbeta: &mut [f32],
    ) {
        let dim = gamma.len();
        let (dgamma, dbeta) = (&mut dgamma[..dim], &mut dbeta[..dim]);
        let scale = 1.0 / dim as f32;
        let lines = dy.chunks_exact(dim).zip(x.chunks_exact(dim)).zip(dx.chunks_exact_mut(dim));
        for ((((dy, x), dx), &mean), &rstd) in lines.zip(mean).zip(rstd) {
            let (centre, r) = (L::splat(mean), L::splat(rstd));
            let mut plain = L::splat(0.0);
            let mut along = L::splat(0.0);
            let mut i = 0;
            while i + L::N <= dim {
                let d = L::load(&dy[i..]);
                let hat = L::load(&x[i..]).sub(centre).mul(r);
                L::load(&dbeta[i..]).add(d).store(&mut dbeta[i..]);
                d.mul_add(hat, L::load(&dgamma[i..])).store(&mut dgamma[i..]);
                let g = d.mul(L::load(&gamma[i..]));
                plain = plain.add(g);
                along = g.mul_add(hat, along);
                i += L::N;
            }
            if i < dim {
                // Lanes beyond the row have a gradient of zero and drop out of every sum.
                let d = L::load_part(&dy[i..]);
                let hat = L::load_part(&x[i..]).sub(centre).mul(r);
                L::load_part(&dbeta[i..]).add(d).store_part(&mut dbeta[i..]);
                d.mul_add(hat, L::load_part(&dgamma[i..])).store_part(&mut dgamma[i..]);
                let g = d.mul(L::load_part(&gamma[i..]));
                plain = plain.add(g);
                along = g.mul_add(hat, along);
            }
            let plain = L::splat(-plain.sum() * scale);
            let along = L::splat(-along.sum() * scale);
            let mut i = 0;
            while i + L::N <= dim {
                let hat = L::load(&x[i..]).sub(centre).mul(r);
                let g = L::load(&dy[i..]).mul(L::load(&gamma[i..]));
                hat.mul_add(along, g.add(plain)).mul(r).store(&mut dx[i..]);
                i += L::N;
            }
            if i < dim {
                let hat = L::load_part(&x[i..]).sub(centre).mul(r);
                let g = L::load_part(&dy[i..]).mul(L::load_part(&gamma[i..]));
                hat.mul_add(along, g.add(plain)).mul(r).store_part(&mut dx[i..]);
            }
        }
    }
}
