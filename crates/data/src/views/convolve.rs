//! Gaussian blurs by separable convolution: SimCLR's and BYOL's on floats, InfoMin's on 8 bits.
//!
//! Weights are exp(−i²/(2σ²)), normalised. SimCLR and BYOL take a kernel by the height of the view and pad with zeros, so that
//! borders darken; InfoMin's reaches 11 pixels and reflects the image without repeating the border.

use ocelli_simd::simd_fn;

use super::floats::FloatPlanes;
use super::planes::Planes;

/// Reach of InfoMin's kernel in pixels, for views of 224.
const INFOMIN_RADIUS: u32 = 11;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Border {
    Zero,
    Reflect,
}

/// Reach of SimCLR's and BYOL's kernel for views of this height: (height div 10) div 2. 0 leaves the view as it is.
pub fn blur_radius(height: u32) -> u32 {
    height / 10 / 2
}

/// `2 * radius + 1` weights of a Gaussian of this σ in pixels.
pub fn blur_kernel(sigma: f64, radius: u32) -> Vec<f32> {
    let taps = -i64::from(radius)..=i64::from(radius);
    let weights: Vec<f64> = taps.map(|i| libm::exp(-((i * i) as f64) / (2.0 * sigma * sigma))).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|w| (w / sum) as f32).collect()
}

/// Which of `side` inputs a tap falls on.
fn source(at: i64, side: usize, border: Border) -> Option<usize> {
    let last = side as i64 - 1;
    match border {
        Border::Zero => (0..=last).contains(&at).then_some(at as usize),
        Border::Reflect if last == 0 => Some(0),
        Border::Reflect => {
            let within = at.rem_euclid(2 * last);
            Some(within.min(2 * last - within) as usize)
        }
    }
}

simd_fn! {
    /// Down the columns first, then along the rows, plane by plane.
    fn convolve<L>(planes: &mut FloatPlanes, kernel: &[f32], border: Border) {
        let (width, height) = (planes.width, planes.height);
        if width * height == 0 {
            return;
        }
        let radius = (kernel.len() / 2) as i64;
        let mut padded = vec![0.0; width + kernel.len() - 1];
        for plane in planes.data.chunks_exact_mut(width * height) {
            let before = plane.to_vec();
            plane.fill(0.0);
            for (y, line) in plane.chunks_exact_mut(width).enumerate() {
                for (tap, &weight) in kernel.iter().enumerate() {
                    let Some(row) = source(y as i64 + tap as i64 - radius, height, border) else { continue };
                    for (out, &x) in line.iter_mut().zip(&before[row * width..]) {
                        *out += weight * x;
                    }
                }
            }
            for line in plane.chunks_exact_mut(width) {
                for (i, x) in padded.iter_mut().enumerate() {
                    *x = source(i as i64 - radius, width, border).map_or(0.0, |column| line[column]);
                }
                line.fill(0.0);
                for (tap, &weight) in kernel.iter().enumerate() {
                    for (out, &x) in line.iter_mut().zip(&padded[tap..]) {
                        *out += weight * x;
                    }
                }
            }
        }
    }
}

/// SimCLR's and BYOL's blur: zeros beyond the border, then clipped to 0..1. `sigma` in pixels.
pub fn convolution_blur(planes: &mut FloatPlanes, sigma: f64) {
    let radius = blur_radius(planes.height as u32);
    if radius > 0 && sigma > 0.0 {
        convolve(planes, &blur_kernel(sigma, radius), Border::Zero);
        planes.map(|x| x);
    }
}

/// InfoMin's blur of 8-bit levels: on x/255, the result truncated. `floats` is a buffer.
pub(crate) fn infomin_blur(planes: &mut Planes, sigma: f64, floats: &mut FloatPlanes) {
    if sigma > 0.0 {
        floats.fill_from(planes);
        convolve(floats, &blur_kernel(sigma, INFOMIN_RADIUS), Border::Reflect);
        for (level, &x) in planes.data.iter_mut().zip(&floats.data) {
            *level = (x * 255.0) as u8;
        }
    }
}
