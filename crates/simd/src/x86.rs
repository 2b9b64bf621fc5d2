//! AVX2 and AVX-512 vectors.
//!
//! The values of these types only ever appear inside functions compiled for, and guarded by, their instruction set; see
//! [`simd_fn!`](crate::simd_fn).

#![allow(unsafe_code)]

use core::arch::x86_64::*;

use crate::Lanes;
use crate::product::{self, Block};

/// Sixteen numbers.
#[derive(Debug, Clone, Copy)]
pub struct Avx512(__m512);

/// Eight numbers.
#[derive(Debug, Clone, Copy)]
pub struct Avx2(__m256);

#[target_feature(enable = "avx512f,avx512dq,avx2,fma")]
fn gemm_avx512(block: &Block) {
    product::run::<Avx512>(block);
}

#[target_feature(enable = "avx2,fma")]
fn gemm_avx2(block: &Block) {
    product::run::<Avx2>(block);
}

#[inline(always)]
fn prefetch(of: &[f32]) {
    for line in of.chunks(16) {
        // SAFETY: a prefetch has no effect on the program, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
}

#[inline(always)]
fn prefetch_far(at: *const f32) {
    // SAFETY: as above.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) };
}

#[inline(always)]
fn prefetch_line(at: *const f32) {
    // SAFETY: a prefetch has no effect on the program, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
}

/// Wraps an intrinsic that is safe wherever the instruction set is there.
macro_rules! op {
    ($self:ident, $call:expr) => {
        // SAFETY: the type is only used where its instruction set has been detected (module documentation).
        $self(unsafe { $call })
    };
}

impl Lanes for Avx512 {
    const N: usize = 16;
    const ROWS: usize = 8;
    const COLS: usize = 3;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        op!(Self, _mm512_set1_ps(x))
    }

    #[inline(always)]
    unsafe fn read(at: *const f32) -> Self {
        // SAFETY: the caller vouches for sixteen readable numbers.
        Self(unsafe { _mm512_loadu_ps(at) })
    }

    #[inline(always)]
    unsafe fn write(self, at: *mut f32) {
        // SAFETY: the caller vouches for sixteen writable numbers.
        unsafe { _mm512_storeu_ps(at, self.0) }
    }

    #[inline(always)]
    unsafe fn read_part(at: *const f32, count: usize) -> Self {
        // SAFETY: the mask covers the `count` numbers the caller vouches for.
        Self(unsafe { _mm512_maskz_loadu_ps((1u16 << count) - 1, at) })
    }

    #[inline(always)]
    unsafe fn write_part(self, at: *mut f32, count: usize) {
        // SAFETY: the mask covers the `count` numbers the caller vouches for.
        unsafe { _mm512_mask_storeu_ps(at, (1u16 << count) - 1, self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        op!(Self, _mm512_add_ps(self.0, other.0))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        op!(Self, _mm512_sub_ps(self.0, other.0))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        op!(Self, _mm512_mul_ps(self.0, other.0))
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        op!(Self, _mm512_div_ps(self.0, other.0))
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        op!(Self, _mm512_fmadd_ps(self.0, factor.0, term.0))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        op!(Self, _mm512_max_ps(self.0, other.0))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        op!(Self, _mm512_min_ps(self.0, other.0))
    }

    #[inline(always)]
    fn round(self) -> Self {
        op!(Self, _mm512_roundscale_ps::<0x08>(self.0))
    }

    #[inline(always)]
    fn exp2_int(self) -> Self {
        op!(Self, _mm512_scalef_ps(_mm512_set1_ps(1.0), self.0))
    }

    #[inline(always)]
    fn select_gt(self, limit: Self, yes: Self, no: Self) -> Self {
        op!(Self, {
            let mask = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, limit.0);
            _mm512_mask_blend_ps(mask, no.0, yes.0)
        })
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: as in `op!`.
        unsafe { _mm512_reduce_add_ps(self.0) }
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        // SAFETY: as in `op!`.
        unsafe { _mm512_reduce_max_ps(self.0) }
    }

    #[inline(always)]
    fn gemm(block: &Block) {
        // SAFETY: as in `op!`.
        unsafe { gemm_avx512(block) }
    }

    #[inline(always)]
    fn prefetch(of: &[f32]) {
        prefetch(of);
    }

    #[inline(always)]
    fn prefetch_line(at: *const f32) {
        prefetch_line(at);
    }

    #[inline(always)]
    fn prefetch_far(at: *const f32) {
        prefetch_far(at);
    }

    #[inline(always)]
    fn interleave(self, other: Self) -> (Self, Self) {
        // SAFETY: as in `op!`.
        unsafe {
            let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
            let low = _mm512_permutex2var_ps(self.0, low, other.0);
            (Self(low), Self(_mm512_permutex2var_ps(self.0, high, other.0)))
        }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_row: usize, to: *mut f32, to_row: usize) {
        // SAFETY: the caller vouches for sixteen rows of sixteen numbers on both sides.
        unsafe {
            let mut rows = [_mm512_setzero_ps(); 16];
            for (r, row) in rows.iter_mut().enumerate() {
                *row = _mm512_loadu_ps(from.add(r * from_row));
            }
            // Four rows at a time: in each quarter of a vector, one column of the four.
            for four in rows.chunks_exact_mut(4) {
                let (a, b) = (_mm512_unpacklo_ps(four[0], four[1]), _mm512_unpackhi_ps(four[0], four[1]));
                let (c, d) = (_mm512_unpacklo_ps(four[2], four[3]), _mm512_unpackhi_ps(four[2], four[3]));
                let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
                let (c, d) = (_mm512_castps_pd(c), _mm512_castps_pd(d));
                four[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
                four[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
                four[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
                four[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
            }
            // Quarters of the same column go together.
            for c in 0..4 {
                let even = _mm512_shuffle_f32x4::<0x88>(rows[c], rows[4 + c]);
                let odd = _mm512_shuffle_f32x4::<0xdd>(rows[c], rows[4 + c]);
                let more_even = _mm512_shuffle_f32x4::<0x88>(rows[8 + c], rows[12 + c]);
                let more_odd = _mm512_shuffle_f32x4::<0xdd>(rows[8 + c], rows[12 + c]);
                let at = to.add(c * to_row);
                _mm512_storeu_ps(at, _mm512_shuffle_f32x4::<0x88>(even, more_even));
                _mm512_storeu_ps(at.add(4 * to_row), _mm512_shuffle_f32x4::<0x88>(odd, more_odd));
                _mm512_storeu_ps(at.add(8 * to_row), _mm512_shuffle_f32x4::<0xdd>(even, more_even));
                _mm512_storeu_ps(at.add(12 * to_row), _mm512_shuffle_f32x4::<0xdd>(odd, more_odd));
            }
        }
    }
}

/// A mask for the first `count` of eight lanes: seven set words, then eight clear ones, read from `7 - count` on.
#[inline(always)]
unsafe fn mask8(count: usize) -> __m256i {
    const WORDS: [i32; 15] = [-1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: `count` is at most 7, so the eight words read lie inside the table.
    unsafe { _mm256_loadu_si256(WORDS.as_ptr().add(7 - count.min(7)).cast()) }
}

impl Lanes for Avx2 {
    const N: usize = 8;
    // Twelve sums, two vectors and a broadcast: more would not stay in sixteen registers.
    const ROWS: usize = 6;
    const COLS: usize = 2;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        op!(Self, _mm256_set1_ps(x))
    }

    #[inline(always)]
    unsafe fn read(at: *const f32) -> Self {
        // SAFETY: the caller vouches for eight readable numbers.
        Self(unsafe { _mm256_loadu_ps(at) })
    }

    #[inline(always)]
    unsafe fn write(self, at: *mut f32) {
        // SAFETY: the caller vouches for eight writable numbers.
        unsafe { _mm256_storeu_ps(at, self.0) }
    }

    #[inline(always)]
    unsafe fn read_part(at: *const f32, count: usize) -> Self {
        // SAFETY: the mask covers the `count` numbers the caller vouches for.
        Self(unsafe { _mm256_maskload_ps(at, mask8(count)) })
    }

    #[inline(always)]
    unsafe fn write_part(self, at: *mut f32, count: usize) {
        // SAFETY: the mask covers the `count` numbers the caller vouches for.
        unsafe { _mm256_maskstore_ps(at, mask8(count), self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        op!(Self, _mm256_add_ps(self.0, other.0))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        op!(Self, _mm256_sub_ps(self.0, other.0))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        op!(Self, _mm256_mul_ps(self.0, other.0))
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        op!(Self, _mm256_div_ps(self.0, other.0))
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        op!(Self, _mm256_fmadd_ps(self.0, factor.0, term.0))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        op!(Self, _mm256_max_ps(self.0, other.0))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        op!(Self, _mm256_min_ps(self.0, other.0))
    }

    #[inline(always)]
    fn round(self) -> Self {
        op!(Self, _mm256_round_ps::<0x08>(self.0))
    }

    #[inline(always)]
    fn exp2_int(self) -> Self {
        op!(Self, {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        })
    }

    #[inline(always)]
    fn select_gt(self, limit: Self, yes: Self, no: Self) -> Self {
        op!(Self, {
            let mask = _mm256_cmp_ps::<_CMP_GT_OQ>(self.0, limit.0);
            _mm256_blendv_ps(no.0, yes.0, mask)
        })
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: as in `op!`.
        unsafe {
            let half = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)))
        }
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        // SAFETY: as in `op!`.
        unsafe {
            let half = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let quarter = _mm_max_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_max_ss(quarter, _mm_movehdup_ps(quarter)))
        }
    }

    #[inline(always)]
    fn gemm(block: &Block) {
        // SAFETY: as in `op!`.
        unsafe { gemm_avx2(block) }
    }

    #[inline(always)]
    fn prefetch(of: &[f32]) {
        prefetch(of);
    }

    #[inline(always)]
    fn prefetch_line(at: *const f32) {
        prefetch_line(at);
    }

    #[inline(always)]
    fn prefetch_far(at: *const f32) {
        prefetch_far(at);
    }

    #[inline(always)]
    fn interleave(self, other: Self) -> (Self, Self) {
        // SAFETY: as in `op!`.
        unsafe {
            let (even, odd) = (_mm256_unpacklo_ps(self.0, other.0), _mm256_unpackhi_ps(self.0, other.0));
            (Self(_mm256_permute2f128_ps::<0x20>(even, odd)), Self(_mm256_permute2f128_ps::<0x31>(even, odd)))
        }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_row: usize, to: *mut f32, to_row: usize) {
        // SAFETY: the caller vouches for eight rows of eight numbers on both sides.
        unsafe {
            let mut rows = [_mm256_setzero_ps(); 8];
            for (r, row) in rows.iter_mut().enumerate() {
                *row = _mm256_loadu_ps(from.add(r * from_row));
            }
            // Four rows at a time: in each half of a vector, one column of the four.
            for four in rows.chunks_exact_mut(4) {
                let (a, b) = (_mm256_unpacklo_ps(four[0], four[1]), _mm256_unpackhi_ps(four[0], four[1]));
                let (c, d) = (_mm256_unpacklo_ps(four[2], four[3]), _mm256_unpackhi_ps(four[2], four[3]));
                let (a, b) = (_mm256_castps_pd(a), _mm256_castps_pd(b));
                let (c, d) = (_mm256_castps_pd(c), _mm256_castps_pd(d));
                four[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
                four[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
                four[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
                four[3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
            }
            // Halves of the same column go together.
            for c in 0..4 {
                let at = to.add(c * to_row);
                _mm256_storeu_ps(at, _mm256_permute2f128_ps::<0x20>(rows[c], rows[4 + c]));
                _mm256_storeu_ps(at.add(4 * to_row), _mm256_permute2f128_ps::<0x31>(rows[c], rows[4 + c]));
            }
        }
    }
}
