//! Weighted sums of neighbouring pixels: what resizing an image along its rows computes.

use crate::Level;

/// For each output its first pixel, where its weights end in those of all, and the weights.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    /// First pixels.
    pub starts: &'a [usize],
    /// Where the weights of each output end; they begin where those of the one before end.
    pub ends: &'a [usize],
    /// Weights of all outputs.
    pub weights: &'a [i32],
}

/// `out[i] = first + Σ weight·pixel`, in 32 bits, for each of the four numbers of a pixel by itself.
///
/// # Panics
/// Where an output's pixels reach beyond the last.
pub fn weighted_sums(pixels: &[[u8; 4]], weights: Weights<'_>, first: i32, out: &mut [[i32; 4]]) {
    match Level::detect() {
        // SAFETY: the processor has the features.
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        Level::Avx512 | Level::Avx2 => unsafe { x86::weighted_sums(pixels, weights, first, out) },
        _ => portable(pixels, weights, first, out),
    }
}

impl<'a> Weights<'a> {
    /// The pixels of each output, and their weights.
    fn taps<'b>(self, pixels: &'b [[u8; 4]]) -> impl Iterator<Item = (&'b [[u8; 4]], &'a [i32])> {
        let begins = std::iter::once(&0).chain(self.ends);
        self.starts.iter().zip(begins).zip(self.ends).map(move |((start, begin), end)| {
            let weights = &self.weights[*begin..*end];
            (&pixels[*start..start + weights.len()], weights)
        })
    }
}

fn portable(pixels: &[[u8; 4]], weights: Weights<'_>, first: i32, out: &mut [[i32; 4]]) {
    for ((pixels, weights), out) in weights.taps(pixels).zip(out) {
        *out = [first; 4];
        for (pixel, weight) in pixels.iter().zip(weights) {
            for (sum, value) in out.iter_mut().zip(pixel) {
                *sum = sum.wrapping_add(weight.wrapping_mul(i32::from(*value)));
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_cvtepu8_epi32, _mm_cvtsi32_si128, _mm_cvtsi64_si128, _mm_mullo_epi32,
        _mm_set1_epi32, _mm256_add_epi32, _mm256_castsi256_si128, _mm256_cvtepu8_epi32, _mm256_extracti128_si256,
        _mm256_mullo_epi32, _mm256_set_m128i, _mm256_setzero_si256,
    };

    use super::Weights;

    /// Two pixels at a time. Left to itself, the compiler makes vectors of one number of several pixels.
    #[target_feature(enable = "avx2")]
    pub fn weighted_sums(pixels: &[[u8; 4]], weights: Weights<'_>, first: i32, out: &mut [[i32; 4]]) {
        for ((pixels, weights), out) in weights.taps(pixels).zip(out) {
            let (pixels, last_pixel) = pixels.as_chunks::<2>();
            let (weights, last_weight) = weights.as_chunks::<2>();
            let mut sums = _mm256_setzero_si256();
            for ([a, b], [left, right]) in pixels.iter().zip(weights) {
                let pair = [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]];
                let values = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(pair)));
                let weights = _mm256_set_m128i(_mm_set1_epi32(*right), _mm_set1_epi32(*left));
                sums = _mm256_add_epi32(sums, _mm256_mullo_epi32(values, weights));
            }
            let both = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
            let mut sum = _mm_add_epi32(both, _mm_set1_epi32(first));
            if let ([pixel], [weight]) = (last_pixel, last_weight) {
                let values = _mm_cvtepu8_epi32(_mm_cvtsi32_si128(i32::from_le_bytes(*pixel)));
                sum = _mm_add_epi32(sum, _mm_mullo_epi32(values, _mm_set1_epi32(*weight)));
            }
            *out = numbers(sum);
        }
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn numbers(vector: __m128i) -> [i32; 4] {
        // SAFETY: both are sixteen bytes, any of which are numbers.
        unsafe { std::mem::transmute(vector) }
    }
}
