//! What a vector of numbers does.

#![allow(unsafe_code)]

use crate::product::Block;

/// Numbers of the widest vectors.
pub const WIDEST: usize = 16;

/// A vector of `f32`.
///
/// Implementations mark every method `#[inline(always)]`: they only become vector code inside a function compiled for
/// the instruction set.
pub trait Lanes: Copy {
    /// Numbers in one vector.
    const N: usize;
    /// Rows of a matrix tile held in registers: 8, 6, 4 or 2.
    const ROWS: usize;
    /// Columns of vectors in such a tile: 3 or 2.
    const COLS: usize;

    /// The same number in every lane.
    fn splat(x: f32) -> Self;
    /// Reads `N` numbers.
    ///
    /// # Safety
    /// `N` numbers from `at` on are readable.
    unsafe fn read(at: *const f32) -> Self;
    /// Writes `N` numbers.
    ///
    /// # Safety
    /// `N` numbers from `at` on are writable.
    unsafe fn write(self, at: *mut f32);
    /// Reads `count < N` numbers; the other lanes are zero.
    ///
    /// # Safety
    /// `count` numbers from `at` on are readable.
    #[inline(always)]
    unsafe fn read_part(at: *const f32, count: usize) -> Self {
        let mut out = [0.0; WIDEST];
        for (i, lane) in out.iter_mut().enumerate().take(count) {
            // SAFETY: the caller vouches for `count` readable numbers.
            *lane = unsafe { *at.add(i) };
        }
        Self::load(&out)
    }
    /// Writes the first `count < N` lanes.
    ///
    /// # Safety
    /// `count` numbers from `at` on are writable.
    #[inline(always)]
    unsafe fn write_part(self, at: *mut f32, count: usize) {
        let mut out = [0.0; WIDEST];
        self.store(&mut out);
        for (i, &lane) in out.iter().enumerate().take(count) {
            // SAFETY: the caller vouches for `count` writable numbers.
            unsafe { *at.add(i) = lane };
        }
    }
    /// `self + other`.
    fn add(self, other: Self) -> Self;
    /// `self - other`.
    fn sub(self, other: Self) -> Self;
    /// `self · other`.
    fn mul(self, other: Self) -> Self;
    /// `self / other`.
    fn div(self, other: Self) -> Self;
    /// `self · factor + term`.
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// The larger one; `other` where either is not a number.
    fn max(self, other: Self) -> Self;
    /// The smaller one; `other` where either is not a number.
    fn min(self, other: Self) -> Self;
    /// The nearest integer, ties to even.
    fn round(self) -> Self;
    /// `2^self` for integers from −126 to 127.
    fn exp2_int(self) -> Self;
    /// `yes` where `self > limit`, else `no`.
    fn select_gt(self, limit: Self, yes: Self, no: Self) -> Self;
    /// Sum of the lanes, in a fixed order.
    fn sum(self) -> f32;
    /// Largest lane.
    fn largest(self) -> f32;
    /// A block of a matrix product, compiled for this instruction set.
    fn gemm(block: &Block);

    /// Asks for the cache lines of a slice ahead of use.
    #[inline(always)]
    fn prefetch(_: &[f32]) {}

    /// Asks for the cache line at an address ahead of use; the address may be any.
    #[inline(always)]
    fn prefetch_line(_: *const f32) {}

    /// The same into the second-level cache.
    #[inline(always)]
    fn prefetch_far(_: *const f32) {}

    /// The numbers of both vectors in turns, from `self`'s first on: two vectors.
    #[inline(always)]
    fn interleave(self, other: Self) -> (Self, Self) {
        let (mut first, mut second, mut both) = ([0.0; WIDEST], [0.0; WIDEST], [0.0; 2 * WIDEST]);
        self.store(&mut first);
        other.store(&mut second);
        for (i, pair) in both.chunks_exact_mut(2).enumerate().take(Self::N) {
            pair.copy_from_slice(&[first[i], second[i]]);
        }
        (Self::load(&both), Self::load(&both[Self::N..]))
    }

    /// Writes the transpose of an `N`×`N` matrix; both come with the distance between their rows.
    ///
    /// # Safety
    /// `N` numbers of each of `N` rows are readable at `from`, and writable at `to`.
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_row: usize, to: *mut f32, to_row: usize) {
        for r in 0..Self::N {
            for c in 0..Self::N {
                // SAFETY: the caller vouches for N rows of N numbers on both sides.
                unsafe { *to.add(c * to_row + r) = *from.add(r * from_row + c) };
            }
        }
    }

    /// Reads the first `N` numbers of a slice.
    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let from = &from[..Self::N];
        // SAFETY: the slice holds N numbers.
        unsafe { Self::read(from.as_ptr()) }
    }

    /// Writes the first `N` numbers of a slice.
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to = &mut to[..Self::N];
        // SAFETY: the slice holds N numbers.
        unsafe { self.write(to.as_mut_ptr()) }
    }

    /// Reads a slice shorter than a vector; the other lanes are zero.
    #[inline(always)]
    fn load_part(from: &[f32]) -> Self {
        // SAFETY: as many numbers as the slice has are read.
        unsafe { Self::read_part(from.as_ptr(), from.len().min(Self::N - 1)) }
    }

    /// Writes the first lanes to a slice shorter than a vector.
    #[inline(always)]
    fn store_part(self, to: &mut [f32]) {
        // SAFETY: as many numbers as the slice has are written.
        unsafe { self.write_part(to.as_mut_ptr(), to.len().min(Self::N - 1)) }
    }
}
