//! 128-bit vectors of WebAssembly, written out: the browser's module is optimised for size, where the compiler does not turn
//! loops into vectors by itself.

#![allow(unsafe_code)]

use std::arch::wasm32::{
    f32x4_add, f32x4_div, f32x4_extract_lane, f32x4_gt, f32x4_mul, f32x4_nearest, f32x4_pmax, f32x4_pmin,
    f32x4_splat, f32x4_sub, i32x4_add, i32x4_shl, i32x4_splat, v128, v128_bitselect, v128_load, v128_store,
};

use crate::Lanes;
use crate::product::{self, Block};

const N: usize = 4;

/// Four numbers.
#[derive(Debug, Clone, Copy)]
pub struct Simd128(v128);

impl Simd128 {
    #[inline(always)]
    fn lanes(self) -> [f32; N] {
        [
            f32x4_extract_lane::<0>(self.0),
            f32x4_extract_lane::<1>(self.0),
            f32x4_extract_lane::<2>(self.0),
            f32x4_extract_lane::<3>(self.0),
        ]
    }
}

impl Lanes for Simd128 {
    const N: usize = N;
    // Eight sums, two vectors of B and one of A: what fits the sixteen registers of x86-64.
    const ROWS: usize = 4;
    const COLS: usize = 2;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self(f32x4_splat(x))
    }

    #[inline(always)]
    unsafe fn read(at: *const f32) -> Self {
        // SAFETY: the caller vouches for four readable numbers; the load needs no alignment.
        Self(unsafe { v128_load(at.cast()) })
    }

    #[inline(always)]
    unsafe fn write(self, at: *mut f32) {
        // SAFETY: the caller vouches for four writable numbers; the store needs no alignment.
        unsafe { v128_store(at.cast(), self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(f32x4_add(self.0, other.0))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(f32x4_sub(self.0, other.0))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(f32x4_mul(self.0, other.0))
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self(f32x4_div(self.0, other.0))
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        // Two roundings: the fused instruction is not in every browser.
        Self(f32x4_add(f32x4_mul(self.0, factor.0), term.0))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // `pmax(a, b)` is `a < b ? b : a`.
        Self(f32x4_pmax(other.0, self.0))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // `pmin(a, b)` is `b < a ? b : a`.
        Self(f32x4_pmin(other.0, self.0))
    }

    #[inline(always)]
    fn round(self) -> Self {
        Self(f32x4_nearest(self.0))
    }

    #[inline(always)]
    fn exp2_int(self) -> Self {
        // In the sum the integer stands in the lowest bits; what is above them is shifted out.
        let bits = f32x4_add(self.0, f32x4_splat(12_582_912.0));
        Self(i32x4_shl(i32x4_add(bits, i32x4_splat(127)), 23))
    }

    #[inline(always)]
    fn select_gt(self, limit: Self, yes: Self, no: Self) -> Self {
        Self(v128_bitselect(yes.0, no.0, f32x4_gt(self.0, limit.0)))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let [a, b, c, d] = self.lanes();
        (a + c) + (b + d)
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        let [a, b, c, d] = self.lanes();
        let max = |x: f32, y: f32| if x > y { x } else { y };
        max(max(a, b), max(c, d))
    }

    #[inline(always)]
    fn gemm(block: &Block) {
        product::run::<Self>(block);
    }
}
