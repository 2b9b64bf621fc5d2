//! Colour operations on planes, to the level as PIL and torchvision do them on 8-bit images.
//!
//! Brightness, contrast and saturation are blends: trunc(clip(b + f·(x − b), 0, 255)) in single precision, with b = 0,
//! the rounded mean of the grey image, and the grey image. Grey is (19595 R + 38470 G + 7471 B + 32768) >> 16.

use ocelli_simd::math::level;
use ocelli_simd::simd_fn;

use super::planes::Planes;

#[inline(always)]
fn grey_level(r: u8, g: u8, b: u8) -> u8 {
    ((19595 * u32::from(r) + 38470 * u32::from(g) + 7471 * u32::from(b) + 32768) >> 16) as u8
}

#[inline(always)]
pub(super) fn blend(base: f32, value: f32, factor: f32) -> u8 {
    level(base + factor * (value - base))
}

pub(super) fn apply_table(planes: &mut Planes, change: impl Fn(u8) -> u8) {
    let table: [u8; 256] = std::array::from_fn(|i| change(i as u8));
    for value in &mut planes.data {
        *value = table[usize::from(*value)];
    }
}

pub(crate) fn brightness(planes: &mut Planes, factor: f64) {
    let factor = factor as f32;
    apply_table(planes, |x| blend(0.0, f32::from(x), factor));
}

simd_fn! {
    fn sum_of_greys<L>(planes: &Planes) -> u64 {
        let (red, green, blue) = planes.split();
        let mut sum = 0u64;
        for ((&r, &g), &b) in red.iter().zip(green).zip(blue) {
            sum += u64::from(grey_level(r, g, b));
        }
        sum
    }
}

pub(crate) fn contrast(planes: &mut Planes, factor: f64) {
    let factor = factor as f32;
    let mean = (sum_of_greys(planes) as f64 / planes.area().max(1) as f64 + 0.5) as u8;
    apply_table(planes, |x| blend(f32::from(mean), f32::from(x), factor));
}

simd_fn! {
    pub(crate) fn saturation<L>(planes: &mut Planes, factor: f64) {
        let factor = factor as f32;
        let (red, green, blue) = planes.split_mut();
        for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
            let grey = f32::from(grey_level(*r, *g, *b));
            *r = blend(grey, f32::from(*r), factor);
            *g = blend(grey, f32::from(*g), factor);
            *b = blend(grey, f32::from(*b), factor);
        }
    }
}

simd_fn! {
    pub(crate) fn greyscale<L>(planes: &mut Planes) {
        let (red, green, blue) = planes.split_mut();
        for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
            let grey = grey_level(*r, *g, *b);
            (*r, *g, *b) = (grey, grey, grey);
        }
    }
}

simd_fn! {
    pub(crate) fn solarize<L>(planes: &mut Planes, threshold: u8) {
        for value in &mut planes.data {
            *value = if *value < threshold { *value } else { 255 - *value };
        }
    }
}
