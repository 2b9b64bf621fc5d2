//! GELU.

use crate::alloc::{self, Buffer};
use crate::{Lanes, math, parallel, simd_fn};

/// Numbers in one task.
const CHUNK: usize = 1 << 15;

/// `gelu(x)`, exact: `x·Φ(x)`.
pub fn forward(x: &[f32]) -> Buffer {
    let mut y = alloc::scratch(x.len());
    let tasks = x.chunks(CHUNK).zip(y.chunks_mut(CHUNK)).collect();
    parallel::run(tasks, |(x, y): (&[f32], &mut [f32])| activate(x, y));
    y
}

/// The gradient of `x` from that of the result, `dy·gelu'(x)`.
pub fn backward(dy: &[f32], x: &[f32]) -> Buffer {
    let mut dx = alloc::scratch(x.len());
    let tasks = x.chunks(CHUNK).zip(dy.chunks(CHUNK)).zip(dx.chunks_mut(CHUNK)).collect();
    parallel::run(tasks, |((x, dy), dx): ((&[f32], &[f32]), &mut [f32])| {
        slope(x, dy, dx);
    });
    dx
}

#[inline(always)]
fn value<L: Lanes>(x: L) -> L {
    x.mul(math::half_erf(x).add(L::splat(0.5)))
}

#[inline(always)]
fn derivative<L: Lanes>(x: L) -> L {
    math::gelu_slope(x).add(L::splat(0.5))
}

simd_fn! {
    /// `y = gelu(x)`.
    pub fn activate<L>(x: &[f32], y: &mut [f32]) {
        let (mut x, mut y) = (x.chunks_exact(L::N), y.chunks_exact_mut(L::N));
        for (x, y) in (&mut x).zip(&mut y) {
            value(L::load(x)).store(y);
        }
        value(L::load_part(x.remainder())).store_part(y.into_remainder());
    }
}

simd_fn! {
    /// `dx = dy·gelu'(x)`.
    fn slope<L>(x: &[f32], dy: &[f32], dx: &mut [f32]) {
        let (mut x, mut dy, mut dx) =
            (x.chunks_exact(L::N), dy.chunks_exact(L::N), dx.chunks_exact_mut(L::N));
        for ((x, dy), dx) in (&mut x).zip(&mut dy).zip(&mut dx) {
            derivative(L::load(x)).mul(L::load(dy)).store(dx);
        }
        derivative(L::load_part(x.remainder()))
            .mul(L::load_part(dy.remainder()))
            .store_part(dx.into_remainder());
    }
}

simd_fn! {
    /// `y = gelu(x)` and `d *= gelu'(x)`.
    pub fn activate_and_slope<L>(x: &[f32], y: &mut [f32], d: &mut [f32]) {
        let (mut x, mut y, mut d) =
            (x.chunks_exact(L::N), y.chunks_exact_mut(L::N), d.chunks_exact_mut(L::N));
        for ((x, y), d) in (&mut x).zip(&mut y).zip(&mut d) {
            let x = L::load(x);
            value(x).store(y);
            derivative(x).mul(L::load(d)).store(d);
        }
        let (x, d) = (L::load_part(x.remainder()), d.into_remainder());
        value(x).store_part(y.into_remainder());
        derivative(x).mul(L::load_part(d)).store_part(d);
    }
}
