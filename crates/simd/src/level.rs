//! Which vectors there are, and functions compiled for all of them.

use std::sync::LazyLock;

#[cfg(target_arch = "aarch64")]
use crate::neon;
#[cfg(target_arch = "x86_64")]
use crate::x86;
use crate::{Lanes, Portable};

/// What the processor offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// 512-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 256-bit vectors with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// The 128-bit vectors that every 64-bit Arm has.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// Whatever the compilation target guarantees.
    Portable,
}

impl Level {
    /// The best level of this machine, found once. The environment variable `OCELLI_SIMD` (`avx2` on x86-64; `portable`)
    /// keeps it lower, to test those paths.
    #[inline]
    pub fn detect() -> Self {
        static LEVEL: LazyLock<Level> = LazyLock::new(Level::find);
        *LEVEL
    }

    #[cfg(target_arch = "x86_64")]
    fn find() -> Self {
        let limit = limit();
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

    #[cfg(target_arch = "aarch64")]
    fn find() -> Self {
        if limit() == "portable" { Self::Portable } else { Self::Neon }
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn find() -> Self {
        Self::Portable
    }

    /// What `OCELLI_SIMD` calls it.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "neon",
            Self::Portable => "portable",
        }
    }

    /// Numbers in a vector.
    pub fn vector(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => <x86::Avx512 as Lanes>::N,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => <x86::Avx2 as Lanes>::N,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => <neon::Neon as Lanes>::N,
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
            #[cfg(target_arch = "aarch64")]
            Self::Neon => <neon::Neon as Lanes>::N * <neon::Neon as Lanes>::COLS,
            Self::Portable => <Portable as Lanes>::N * <Portable as Lanes>::COLS,
        }
    }
}

/// The environment variable that keeps the level low.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn limit() -> String {
    std::env::var("OCELLI_SIMD").unwrap_or_default()
}

/// Defines a function compiled for every [`Level`], generic over one [`Lanes`] parameter.
///
/// What the body calls must be `#[inline(always)]`, or it is compiled without the vector instructions.
///
/// ```
/// use ocelli_simd::simd_fn;
///
/// simd_fn! {
///     /// The largest of as many numbers as a vector has or more.
///     fn largest<L>(numbers: &[f32]) -> f32 {
///         let from = numbers.len() - L::N;
///         let last = L::load(&numbers[from..]);
///         numbers.chunks_exact(L::N).fold(last, |most, part| L::load(part).max(most)).largest()
///     }
/// }
///
/// let numbers: Vec<f32> = (0..50).map(|i| ((i * 7) % 50) as f32).collect();
/// assert_eq!(largest(&numbers), 49.0);
/// ```
#[macro_export]
macro_rules! simd_fn {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$lanes:ident>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(unsafe_code, clippy::too_many_arguments)]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn generic<$lanes: $crate::Lanes>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512dq,avx2,fma")]
            fn avx512($($arg: $ty),*) $(-> $ret)? {
                generic::<$crate::x86::Avx512>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                generic::<$crate::x86::Avx2>($($arg),*)
            }

            match $crate::Level::detect() {
                // SAFETY: the processor has the features.
                #[cfg(target_arch = "x86_64")]
                $crate::Level::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: the processor has the features.
                #[cfg(target_arch = "x86_64")]
                $crate::Level::Avx2 => unsafe { avx2($($arg),*) },
                // The target guarantees the features.
                #[cfg(target_arch = "aarch64")]
                $crate::Level::Neon => generic::<$crate::neon::Neon>($($arg),*),
                $crate::Level::Portable => generic::<$crate::Portable>($($arg),*),
            }
        }
    };
}
