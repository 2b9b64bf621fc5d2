//! Operations of RandAugment that work level by level, and sharpness, as PIL does them on 8-bit images.
//!
//! Colour, contrast and brightness by a factor are the blends of the colour jitter.

use super::colour::{apply_table, blend};
use super::planes::Planes;

/// Changes each plane by a table made from the plane.
fn by_plane(planes: &mut Planes, table: impl Fn(&[u8]) -> Option<[u8; 256]>) {
    let area = planes.area().max(1);
    for plane in planes.data.chunks_exact_mut(area) {
        if let Some(table) = table(plane) {
            for value in plane {
                *value = table[usize::from(*value)];
            }
        }
    }
}

/// Stretches each channel to 0..255: trunc(x·s − low·s), s = 255 / (high − low). A channel of one level stays.
pub(crate) fn auto_contrast(planes: &mut Planes) {
    by_plane(planes, |plane| {
        let low = *plane.iter().min()?;
        let high = *plane.iter().max()?;
        if high <= low {
            return None;
        }
        let scale = 255.0 / f64::from(high - low);
        let offset = -f64::from(low) * scale;
        // Conversion to u8 truncates and clips.
        Some(std::array::from_fn(|level| (level as f64 * scale + offset) as u8))
    });
}

/// Makes the levels of each channel about equally frequent. With step = (pixels − count of the largest level) div 255 and
/// n = step div 2 + the number of pixels below a level, the level becomes n div step; a step of 0 leaves the channel.
pub(crate) fn equalize(planes: &mut Planes) {
    by_plane(planes, |plane| {
        let mut counts = [0usize; 256];
        for &value in plane {
            counts[usize::from(value)] += 1;
        }
        let largest = *plane.iter().max()?;
        let step = (plane.len() - counts[usize::from(largest)]) / 255;
        if step == 0 {
            return None;
        }
        let mut below = step / 2;
        Some(std::array::from_fn(|level| {
            let equal = (below / step).min(255) as u8;
            below += counts[level];
            equal
        }))
    });
}

pub(crate) fn invert(planes: &mut Planes) {
    for value in &mut planes.data {
        *value = 255 - *value;
    }
}

/// Keeps the `bits` highest bits of every level; 0 gives black.
pub(crate) fn posterize(planes: &mut Planes, bits: u8) {
    let mask = (0xFF00u16 >> bits.min(8)) as u8;
    for value in &mut planes.data {
        *value &= mask;
    }
}

/// Inverts the levels from `threshold` on; 256 leaves all.
pub(crate) fn solarize_from(planes: &mut Planes, threshold: u16) {
    apply_table(planes, |x| if u16::from(x) < threshold { x } else { 255 - x });
}

/// Adds to the levels below 128.
pub(crate) fn solarize_add(planes: &mut Planes, add: u8) {
    apply_table(planes, |x| if x < 128 { x.saturating_add(add) } else { x });
}

/// Blends with the smoothed image: 3×3 taps of 1, the middle one 5, over 13, rounded; border pixels stay as they are.
pub(crate) fn sharpness(planes: &mut Planes, factor: f64) {
    let factor = factor as f32;
    let (width, height) = (planes.width, planes.height);
    for plane in planes.data.chunks_exact_mut((width * height).max(1)) {
        let source = plane.to_vec();
        for y in 0..height {
            for x in 0..width {
                let at = y * width + x;
                let middle = source[at];
                let border = x == 0 || y == 0 || x + 1 == width || y + 1 == height;
                let smooth = if border {
                    middle
                } else {
                    let taps = [at - width - 1, at - 1, at + width - 1].map(|i| &source[i..i + 3]);
                    let sum: u32 = taps.into_iter().flatten().map(|&v| u32::from(v)).sum();
                    ((2 * (sum + 4 * u32::from(middle)) + 13) / 26) as u8
                };
                plane[at] = blend(f32::from(smooth), f32::from(middle), factor);
            }
        }
    }
}
