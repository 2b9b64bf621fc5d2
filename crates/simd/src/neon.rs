//! 128-bit vectors of 64-bit Arm, which every such processor has.
//!
//! Beside [`Portable`](crate::Portable), which the compiler turns into the same instructions, vectors have half the numbers:
//! sums across them are added in another order, and everything else gives the same numbers.

#![allow(unsafe_code)]

use core::arch::aarch64::*;
use core::arch::asm;

use crate::Lanes;
use crate::product::{self, Block};

const N: usize = 4;
/// Numbers in a cache line.
const LINE: usize = 16;

/// Four numbers.
#[derive(Debug, Clone, Copy)]
pub struct Neon(float32x4_t);

/// Wraps an intrinsic that is safe wherever the instruction set is there, which is everywhere.
macro_rules! op {
    ($call:expr) => {
        // SAFETY: NEON is part of every target of this architecture that has a standard library.
        Self(unsafe { $call })
    };
}

/// The larger one; `b` where either is not a number.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

impl Neon {
    #[inline(always)]
    fn lanes(self) -> [f32; N] {
        let mut lanes = [0.0; N];
        // SAFETY: there is room for four numbers; NEON as in `op!`.
        unsafe { vst1q_f32(lanes.as_mut_ptr(), self.0) };
        lanes
    }
}

impl Lanes for Neon {
    const N: usize = N;
    // Twenty-four sums, three vectors and a broadcast: twenty-eight of thirty-two registers.
    const ROWS: usize = 8;
    const COLS: usize = 3;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        op!(vdupq_n_f32(x))
    }

    #[inline(always)]
    unsafe fn read(at: *const f32) -> Self {
        // SAFETY: the caller vouches for four readable numbers; the load needs no alignment.
        Self(unsafe { vld1q_f32(at) })
    }

    #[inline(always)]
    unsafe fn write(self, at: *mut f32) {
        // SAFETY: the caller vouches for four writable numbers; the store needs no alignment.
        unsafe { vst1q_f32(at, self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        op!(vaddq_f32(self.0, other.0))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        op!(vsubq_f32(self.0, other.0))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        op!(vmulq_f32(self.0, other.0))
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        op!(vdivq_f32(self.0, other.0))
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        op!(vfmaq_f32(term.0, self.0, factor.0))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // Arm's own maximum would keep what is not a number on either side.
        op!(vbslq_f32(vcgtq_f32(self.0, other.0), self.0, other.0))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        op!(vbslq_f32(vcltq_f32(self.0, other.0), self.0, other.0))
    }

    #[inline(always)]
    fn round(self) -> Self {
        op!(vrndnq_f32(self.0))
    }

    #[inline(always)]
    fn exp2_int(self) -> Self {
        op!({
            let exponent = vaddq_s32(vcvtq_s32_f32(self.0), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
        })
    }

    #[inline(always)]
    fn select_gt(self, limit: Self, yes: Self, no: Self) -> Self {
        op!(vbslq_f32(vcgtq_f32(self.0, limit.0), yes.0, no.0))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let [a, b, c, d] = self.lanes();
        (a + c) + (b + d)
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        let [a, b, c, d] = self.lanes();
        larger(larger(a, b), larger(c, d))
    }

    #[inline(always)]
    fn gemm(block: &Block) {
        product::run::<Self>(block);
    }

    #[inline(always)]
    fn prefetch(of: &[f32]) {
        for line in of.chunks(LINE) {
            Self::prefetch_far(line.as_ptr());
        }
    }

    #[inline(always)]
    fn prefetch_line(at: *const f32) {
        // SAFETY: a prefetch has no effect on the program, whatever the address. (The intrinsic is not stable.)
        unsafe { asm!("prfm pldl1keep, [{0}]", in(reg) at.addr(), options(nomem, nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn prefetch_far(at: *const f32) {
        // SAFETY: as above.
        unsafe { asm!("prfm pldl2keep, [{0}]", in(reg) at.addr(), options(nomem, nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn interleave(self, other: Self) -> (Self, Self) {
        (op!(vzip1q_f32(self.0, other.0)), op!(vzip2q_f32(self.0, other.0)))
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_row: usize, to: *mut f32, to_row: usize) {
        // SAFETY: the caller vouches for four rows of four numbers on both sides.
        unsafe {
            let row = |r: usize| vld1q_f32(from.add(r * from_row));
            let (a, b, c, d) = (row(0), row(1), row(2), row(3));
            // Pairs of rows: in each half of a vector, one column of the two.
            let (even, odd) = (vtrn1q_f32(a, b), vtrn2q_f32(a, b));
            let (more_even, more_odd) = (vtrn1q_f32(c, d), vtrn2q_f32(c, d));
            let double = |x: float32x4_t| vreinterpretq_f64_f32(x);
            let put = |c: usize, x: float64x2_t| vst1q_f32(to.add(c * to_row), vreinterpretq_f32_f64(x));
            // Halves of the same column go together.
            put(0, vtrn1q_f64(double(even), double(more_even)));
            put(1, vtrn1q_f64(double(odd), double(more_odd)));
            put(2, vtrn2q_f64(double(even), double(more_even)));
            put(3, vtrn2q_f64(double(odd), double(more_odd)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Portable;

    /// Numbers in all of the vectors here.
    const BOTH: usize = 8;

    fn results<L: Lanes>(a: &[f32], b: &[f32], c: &[f32]) -> [[f32; BOTH]; 12] {
        let mut out = [[0.0; BOTH]; 12];
        for at in (0..BOTH).step_by(L::N) {
            let (x, y, z) = (L::load(&a[at..]), L::load(&b[at..]), L::load(&c[at..]));
            let results = [
                L::splat(b[0]),
                x.add(y),
                x.sub(y),
                x.mul(y),
                x.div(y),
                x.mul_add(y, z),
                x.max(y),
                x.min(y),
                z.round(),
                z.round().exp2_int(),
                x.select_gt(y, z, x),
                crate::math::exp(x),
            ];
            for (result, out) in results.iter().zip(&mut out) {
                result.store(&mut out[at..]);
            }
        }
        out
    }

    #[test]
    fn lane_by_lane_it_is_what_the_compiler_makes_of_arrays() {
        let some = [0.0, -0.0, 1.5, -2.5, 1e-3, 77.7, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1e30, 0.1];
        for shift in 0..some.len() * some.len() {
            let a: Vec<f32> = (0..BOTH).map(|i| some[(i + shift) % some.len()]).collect();
            let b: Vec<f32> = (0..BOTH).map(|i| some[(3 * i + shift / some.len()) % some.len()]).collect();
            let c: Vec<f32> = (0..BOTH).map(|i| (i * shift % 211) as f32 * 0.5 - 60.0).collect();
            let (ours, theirs) = (results::<Neon>(&a, &b, &c), results::<Portable>(&a, &b, &c));
            for (which, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                for (x, y) in ours.iter().zip(theirs) {
                    // Zeros of either sign are as good.
                    let same = x == y || (x.is_nan() && y.is_nan());
                    assert!(same, "operation {which} of {a:?}, {b:?}, {c:?}: {x}, portable {y}");
                }
            }
        }
    }

    #[test]
    fn sums_are_taken_in_the_order_of_the_lanes() {
        // In any other order the large ones would swallow the small one.
        assert_eq!(Neon::load(&[1e30, 1.0, -1e30, 2.0]).sum(), 3.0);
        assert_eq!(Neon::load(&[1.0, f32::NAN, -3.0, 2.0]).largest(), 2.0);
    }
}
