//! Hue rotation through PIL's 8-bit HSV, rounding included: a round trip alone already moves most colours a little.
//!
//! With range = max − min and c' = (max − c)/range for each channel, the sextant position is b' − g', 2 + r' − b' or
//! 4 + g' − r' as red, green or blue is the maximum; H = ⌊255·(position/6 mod 1)⌋, S = ⌊255·range/max⌋, V = max.
//! Written without branches: colours change too often for the processor to guess them.

use ocelli_simd::math::level_of_double as level;
use ocelli_simd::simd_fn;

use super::planes::Planes;

/// 8-bit HSV of an 8-bit colour.
#[inline(always)]
pub(crate) fn rgb_to_hsv(r: u8, g: u8, b: u8) -> [u8; 3] {
    let max = r.max(g).max(b);
    let min = r.min(g).min(b);
    let (base, ahead, behind) = if r == max {
        (0.0, b, g)
    } else if g == max {
        (2.0, r, b)
    } else {
        (4.0, g, r)
    };
    // A grey has range 0; both parts are 0 then, and so are hue and saturation.
    let range = f32::from((max - min).max(1));
    let part = |channel: u8| f64::from(f32::from(max - channel) / range);
    let position = (base + part(ahead) - part(behind)) as f32;
    // Only the part below one counts; the value is between 5/6 and 2.
    let turn = f64::from(position) / 6.0 + 1.0;
    let turn = (if turn >= 1.0 { turn - 1.0 } else { turn }) as f32;
    let saturation = f32::from(max - min) / f32::from(max.max(1));
    [level(f64::from(turn) * 255.0), level(f64::from(saturation) * 255.0), max]
}

/// Hues by case, range and distance of the middle channel from the largest, `[6, 256, 256]`, then saturations by largest
/// channel and range, `[256, 256]`: what a device without double precision looks up. The cases are largest and smallest
/// channel: red and blue, red and green, green and blue, green and red, blue and green, blue and red.
pub fn hsv_table() -> Vec<u8> {
    let mut table = vec![0; 7 << 16];
    for (case, [largest, middle, smallest]) in
        [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]].into_iter().enumerate()
    {
        for range in 0..=255u8 {
            for below in 0..=range {
                let mut c = [0; 3];
                (c[largest], c[middle], c[smallest]) = (255, 255 - below, 255 - range);
                table[(case << 16) + usize::from(range) * 256 + usize::from(below)] =
                    rgb_to_hsv(c[0], c[1], c[2])[0];
            }
        }
    }
    for largest in 0..=255u8 {
        for range in 0..=largest {
            let low = largest - range;
            table[(6 << 16) + usize::from(largest) * 256 + usize::from(range)] = rgb_to_hsv(largest, low, low)[1];
        }
    }
    table
}

/// 8-bit turn of a hue factor: ⌊factor·255⌋ (towards zero), modulo 256.
pub fn hue_shift(factor: f64) -> u8 {
    (factor * 255.0) as i32 as u8
}

/// Saturations as fractions, rounded to single precision.
const FRACTIONS: [f64; 256] = {
    let mut table = [0.0; 256];
    let mut s = 0;
    while s < 256 {
        table[s] = (s as f64 / 255.0) as f32 as f64;
        s += 1;
    }
    table
};

/// What of the way back depends on the hue alone: the sextant 0..6 and the position inside it.
const SEXTANTS: [(u8, f64); 256] = {
    let mut table = [(0, 0.0); 256];
    let mut hue = 0;
    while hue < 256 {
        let position = hue as f64 * 6.0 / 255.0;
        let whole = position as u8;
        table[hue] = (whole % 6, (position - whole as f64) as f32 as f64);
        hue += 1;
    }
    table
};

/// Which of v, p, q, t red, green and blue are in each sextant.
const CHANNELS: [[usize; 3]; 6] = [[0, 3, 1], [2, 0, 1], [1, 0, 3], [1, 2, 0], [3, 1, 0], [0, 1, 2]];

#[inline(always)]
fn hsv_to_rgb([h, s, v]: [u8; 3]) -> [u8; 3] {
    let (sextant, fraction) = SEXTANTS[usize::from(h)];
    let saturation = FRACTIONS[usize::from(s)];
    // The values are never negative, so adding a half and truncating rounds as the C function does.
    let scaled = |x: f64| level(f64::from(v) * x + 0.5);
    let levels = [
        v,
        scaled(1.0 - saturation),
        scaled(1.0 - saturation * fraction),
        scaled(1.0 - saturation * (1.0 - fraction)),
    ];
    CHANNELS[usize::from(sextant)].map(|i| levels[i])
}

/// Colours that are worked on at a time.
const TOGETHER: usize = 64;

simd_fn! {
    /// Rotates the hue by `factor` turns: H += ⌊factor·255⌋ (towards zero), modulo 256.
    pub(crate) fn rotate_hue<L>(planes: &mut Planes, factor: f64) {
        let shift = hue_shift(factor);
        let (red, green, blue) = planes.split_mut();
        let parts = red.chunks_mut(TOGETHER).zip(green.chunks_mut(TOGETHER)).zip(blue.chunks_mut(TOGETHER));
        for ((red, green), blue) in parts {
            // What vectors do, in arrays of its own: of slices the compiler does not know that they lie apart.
            let count = red.len();
            let mut colours = [[0u8; TOGETHER]; 3];
            for (to, from) in colours.iter_mut().zip([&*red, green, blue]) {
                to[..count].copy_from_slice(from);
            }
            let mut hsv = [[0u8; TOGETHER]; 3];
            for i in 0..TOGETHER {
                [hsv[0][i], hsv[1][i], hsv[2][i]] = rgb_to_hsv(colours[0][i], colours[1][i], colours[2][i]);
            }
            // What tables do.
            for (i, ((r, g), b)) in red.iter_mut().zip(green).zip(blue).enumerate() {
                [*r, *g, *b] = hsv_to_rgb([hsv[0][i].wrapping_add(shift), hsv[1][i], hsv[2][i]]);
            }
        }
    }
}
