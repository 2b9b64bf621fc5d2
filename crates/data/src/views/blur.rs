//! PIL's Gaussian blur: three extended box filters along x, then three along y, 8 bits after each.
//!
//! With v = σ²/3, L = √(12v + 1), l = ⌊(L − 1)/2⌋ and a = (2l + 1)(l(l + 1) − 3v) / (6(v − (l + 1)²)), a box has 2l + 1
//! whole taps and a fraction a of one more at either end; weights are 24-bit fixed point, borders are repeated.

use ocelli_simd::simd_fn;

use super::planes::Planes;

const PASSES: usize = 3;
const HALF: u32 = 1 << 23;

/// The largest σ in pixels: 16-bit sums hold 257 taps.
pub(crate) const MAX_SIGMA: f64 = 100.0;

/// Box filter with fractional ends, weights with 24 fractional bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtendedBox {
    /// Whole taps on either side of the centre.
    pub reach: usize,
    /// Weight of a whole tap.
    pub whole: u32,
    /// Weight of the tap beyond, on either side.
    pub end: u32,
}

impl ExtendedBox {
    /// The box of a blur; `None` for a σ that leaves the image alone.
    pub fn of_blur(sigma: f64) -> Option<Self> {
        (sigma > 0.0 && sigma <= MAX_SIGMA).then(|| Self::for_sigma(sigma))
    }

    fn for_sigma(sigma: f64) -> Self {
        let sigma = sigma as f32;
        let variance = sigma * sigma / PASSES as f32;
        let length = (12.0 * f64::from(variance) + 1.0).sqrt() as f32;
        let reach = ((length - 1.0) / 2.0).floor();
        let mut part = (2.0 * reach + 1.0) * (reach * (reach + 1.0) - 3.0 * variance);
        part /= 6.0 * (variance - (reach + 1.0) * (reach + 1.0));
        let radius = reach + part;
        let reach = radius as u32;
        let whole = (16_777_216.0 / (radius * 2.0 + 1.0)) as u32;
        // Rounding of `whole` may leave the taps a hair above one; PIL's subtraction is unsigned too.
        let end = (1u32 << 24).wrapping_sub((reach * 2 + 1).wrapping_mul(whole)) / 2;
        Self { reach: reach as usize, whole, end }
    }
}

/// Buffers a blur needs, kept between calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct BlurScratch {
    padded: Vec<u8>,
    plane: Vec<u8>,
    sums: Vec<u16>,
}

/// `out[i]` = weighted sum over the lines, the first and last of which are the fractional ends.
#[inline(always)]
fn combine<'a>(filter: &ExtendedBox, line: impl Fn(usize) -> &'a [u8], sums: &mut [u16], out: &mut [u8]) {
    let taps = 2 * filter.reach + 1;
    for (sum, &value) in sums.iter_mut().zip(line(1)) {
        *sum = u16::from(value);
    }
    for tap in 1..taps {
        for (sum, &value) in sums.iter_mut().zip(line(tap + 1)) {
            *sum += u16::from(value);
        }
    }
    let ends = line(0).iter().zip(line(taps + 1));
    for ((out, &sum), (&a, &b)) in out.iter_mut().zip(sums.iter()).zip(ends) {
        let ends = u32::from(a) + u32::from(b);
        let total = u32::from(sum).wrapping_mul(filter.whole).wrapping_add(ends.wrapping_mul(filter.end));
        *out = (total.wrapping_add(HALF) >> 24) as u8;
    }
}

/// Blurs in place; `sigma` in pixels, 0 leaves the image alone.
pub(crate) fn gaussian_blur(planes: &mut Planes, sigma: f64, scratch: &mut BlurScratch) {
    if let Some(filter) = ExtendedBox::of_blur(sigma) {
        blur(planes, filter, scratch);
    }
}

simd_fn! {
    fn blur<L>(planes: &mut Planes, filter: ExtendedBox, scratch: &mut BlurScratch) {
        let (width, height) = (planes.width, planes.height);
        let margin = filter.reach + 1;
        let BlurScratch { padded, plane, sums } = scratch;
        padded.resize(width + 2 * margin, 0);
        sums.resize(width, 0);

        for line in planes.data.chunks_exact_mut(width) {
            for _ in 0..PASSES {
                padded[..margin].fill(line[0]);
                padded[margin..margin + width].copy_from_slice(line);
                padded[margin + width..].fill(line[width - 1]);
                combine(&filter, |tap| &padded[tap..tap + width], sums, line);
            }
        }
        for pixels in planes.data.chunks_exact_mut(width * height) {
            for _ in 0..PASSES {
                plane.clear();
                plane.extend_from_slice(pixels);
                for (y, line) in pixels.chunks_exact_mut(width).enumerate() {
                    let source = |tap: usize| {
                        let row = (y + tap).saturating_sub(margin).min(height - 1);
                        &plane[row * width..(row + 1) * width]
                    };
                    combine(&filter, source, sums, line);
                }
            }
        }
    }
}
