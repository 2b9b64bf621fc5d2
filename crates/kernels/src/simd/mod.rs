//! Vectors of `f32` chosen at run time: AVX-512, AVX2 with FMA, or what the target guarantees: WebAssembly's 128-bit
//! vectors, or plain arrays that the compiler vectorises (NEON, SSE2).
//!
//! A kernel is written once, generic over [`Lanes`], inside [`simd_fn!`], which compiles it for every level and picks
//! one by what the processor reports.

#![allow(unsafe_code)]

pub mod math;
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod portable;
pub mod product;
pub mod tile;
pub mod transpose;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;
#[cfg(target_arch = "x86_64")]
pub mod x86;

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
pub use portable::Portable;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub use wasm::Simd128 as Portable;

use std::sync::LazyLock;

use product::Block;

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
    unsafe fn read_part(at: *const f32, count: usize) -> Self;
    /// Writes the first `count < N` lanes.
    ///
    /// # Safety
    /// `count` numbers from `at` on are writable.
    unsafe fn write_part(self, at: *mut f32, count: usize);
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

/// What the processor offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// 512-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 256-bit vectors with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Whatever the compilation target guarantees.
    Portable,
}

impl Level {
    /// The best level of this machine, found once. The environment variable `OCELLI_SIMD` (`avx2`, `portable`) keeps
    /// it lower, to test those paths.
    #[inline]
    pub fn detect() -> Self {
        static LEVEL: LazyLock<Level> = LazyLock::new(Level::find);
        *LEVEL
    }

    #[cfg(target_arch = "x86_64")]
    fn find() -> Self {
        let limit = std::env::var("OCELLI_SIMD").unwrap_or_default();
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = avx2 && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq");
        match limit.as_str() {
            "portable" => Self::Portable,
            "avx2" if avx2 => Self::Avx2,
            _ if avx512 => Self::Avx512,
            _ if avx2 => Self::Avx2,
            _ => Self::Portable,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn find() -> Self {
        Self::Portable
    }

    /// Numbers in a vector.
    pub fn vector(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => <x86::Avx512 as Lanes>::N,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => <x86::Avx2 as Lanes>::N,
            Self::Portable => <Portable as Lanes>::N,
        }
    }

    /// Numbers in one row of a matrix tile.
    pub fn tile(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => <x86::Avx512 as Lanes>::N * <x86::Avx512 as Lanes>::COLS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => <x86::Avx2 as Lanes>::N * <x86::Avx2 as Lanes>::COLS,
            Self::Portable => <Portable as Lanes>::N * <Portable as Lanes>::COLS,
        }
    }
}

/// Defines a function compiled for every [`Level`], generic over one [`Lanes`] parameter.
///
/// What the body calls must be `#[inline(always)]`, or it is compiled without the vector instructions.
macro_rules! simd_fn {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$lanes:ident>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(unsafe_code, clippy::too_many_arguments)]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn generic<$lanes: $crate::simd::Lanes>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512dq,avx2,fma")]
            fn avx512($($arg: $ty),*) $(-> $ret)? {
                generic::<$crate::simd::x86::Avx512>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                generic::<$crate::simd::x86::Avx2>($($arg),*)
            }

            match $crate::simd::Level::detect() {
                // SAFETY: the processor has the features.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Level::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: the processor has the features.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Level::Avx2 => unsafe { avx2($($arg),*) },
                $crate::simd::Level::Portable => generic::<$crate::simd::Portable>($($arg),*),
            }
        }
    };
}
pub(crate) use simd_fn;
