//! Vectors as arrays: correct everywhere, and turned into vector instructions by the compiler where the target
//! guarantees any.

#![allow(unsafe_code)]

use crate::Lanes;
use crate::product::{self, Block};

const N: usize = 8;

/// Eight numbers.
#[derive(Debug, Clone, Copy)]
pub struct Portable([f32; N]);

#[inline(always)]
fn zip(a: Portable, b: Portable, f: impl Fn(f32, f32) -> f32) -> Portable {
    let mut out = [0.0; N];
    for (i, out) in out.iter_mut().enumerate() {
        *out = f(a.0[i], b.0[i]);
    }
    Portable(out)
}

impl Lanes for Portable {
    const N: usize = N;
    const ROWS: usize = if cfg!(target_arch = "aarch64") { 4 } else { 2 };
    const COLS: usize = if cfg!(target_arch = "aarch64") { 3 } else { 2 };

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; N])
    }

    #[inline(always)]
    unsafe fn read(at: *const f32) -> Self {
        // SAFETY: the caller vouches for N readable numbers; an array of f32 needs no more alignment than f32.
        Self(unsafe { at.cast::<[f32; N]>().read() })
    }

    #[inline(always)]
    unsafe fn write(self, at: *mut f32) {
        // SAFETY: the caller vouches for N writable numbers.
        unsafe { at.cast::<[f32; N]>().write(self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        zip(self, other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        zip(self, other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        zip(self, other, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        zip(self, other, |a, b| a / b)
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        let mut out = [0.0; N];
        for (i, out) in out.iter_mut().enumerate() {
            // Without the instruction a fused multiply-add is a slow library call.
            *out = if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
                self.0[i].mul_add(factor.0[i], term.0[i])
            } else {
                self.0[i] * factor.0[i] + term.0[i]
            };
        }
        Self(out)
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        zip(self, other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        zip(self, other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn round(self) -> Self {
        // Adding 1.5·2^23 leaves no bits for the fraction; exact for |x| < 2^22, which is all the callers need.
        const MAGIC: f32 = 12_582_912.0;
        zip(self, self, |a, _| (a + MAGIC) - MAGIC)
    }

    #[inline(always)]
    fn exp2_int(self) -> Self {
        zip(self, self, |a, _| f32::from_bits((((a as i32) + 127) << 23) as u32))
    }

    #[inline(always)]
    fn select_gt(self, limit: Self, yes: Self, no: Self) -> Self {
        let mut out = [0.0; N];
        for (i, out) in out.iter_mut().enumerate() {
            *out = if self.0[i] > limit.0[i] { yes.0[i] } else { no.0[i] };
        }
        Self(out)
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let [a, b, c, d, e, f, g, h] = self.0;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        let mut out = self.0[0];
        for &x in &self.0[1..] {
            out = if out > x { out } else { x };
        }
        out
    }

    #[inline(always)]
    fn gemm(block: &Block) {
        product::run::<Self>(block);
    }
}
