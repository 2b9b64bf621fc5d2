//! The colour operations of SimCLR and BYOL: on single-precision numbers in 0..1, clipped after every operation.
//!
//! They differ from the 8-bit ones in more than rounding: contrast is about the mean of each channel, and saturation scales
//! the S of HSV.

use ocelli_simd::simd_fn;
use serde::{Deserialize, Serialize};

use super::JitterStep;
use super::planes::Planes;

/// What a brightness factor f does to floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FloatBrightness {
    /// x·f (SimCLR v2).
    #[default]
    Multiply,
    /// x + (f − 1) (SimCLR v1, BYOL).
    Add,
}

/// Three planes of floats in 0..1, `data` is `[3, height, width]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FloatPlanes {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// `3 * height * width` numbers.
    pub data: Vec<f32>,
}

impl FloatPlanes {
    pub(crate) fn fill_from(&mut self, planes: &Planes) {
        (self.width, self.height) = (planes.width, planes.height);
        self.data.clear();
        self.data.extend(planes.data.iter().map(|&level| f32::from(level) / 255.0));
    }

    pub(crate) fn levels_into(&self, planes: &mut Planes) {
        planes.set_size(self.width, self.height);
        for (level, &x) in planes.data.iter_mut().zip(&self.data) {
            *level = (x * 255.0).round() as u8;
        }
    }

    fn area(&self) -> usize {
        (self.width * self.height).max(1)
    }

    /// Changes every number, then clips it to 0..1.
    pub(crate) fn map(&mut self, change: impl Fn(f32) -> f32) {
        for x in &mut self.data {
            *x = change(*x).clamp(0.0, 1.0);
        }
    }

    #[inline(always)]
    fn map_colours(&mut self, change: impl Fn([f32; 3]) -> [f32; 3]) {
        let area = self.area();
        let (red, rest) = self.data.split_at_mut(area);
        let (green, blue) = rest.split_at_mut(area);
        for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
            [*r, *g, *b] = change([*r, *g, *b]).map(|x| x.clamp(0.0, 1.0));
        }
    }

    /// x·f.
    pub fn brightness(&mut self, factor: f32) {
        self.map(|x| x * factor);
    }

    /// x + d.
    pub fn brightness_add(&mut self, delta: f32) {
        self.map(|x| x + delta);
    }

    /// (x − m)·f + m, m the mean of the channel.
    pub fn contrast(&mut self, factor: f32) {
        let area = self.area();
        for plane in self.data.chunks_exact_mut(area) {
            let mean = (plane.iter().map(|&x| f64::from(x)).sum::<f64>() / area as f64) as f32;
            for x in plane {
                *x = ((*x - mean) * factor + mean).clamp(0.0, 1.0);
            }
        }
    }

    /// S·f of HSV, clipped to 0..1.
    pub fn saturation(&mut self, factor: f32) {
        saturate(self, factor);
    }

    /// H + this many turns.
    pub fn hue(&mut self, turns: f32) {
        turn_hue(self, turns);
    }

    /// 0.2989 R + 0.587 G + 0.114 B in all channels.
    pub fn grayscale(&mut self) {
        self.map_colours(|[r, g, b]| [0.2989 * r + 0.587 * g + 0.114 * b; 3]);
    }

    /// 1 − x from the threshold on.
    pub fn solarize(&mut self, threshold: f32) {
        self.map(|x| if x < threshold { x } else { 1.0 - x });
    }

    /// One operation of the colour jitter.
    pub fn jitter(&mut self, step: JitterStep, brightness: FloatBrightness) {
        match (step, brightness) {
            (JitterStep::Brightness(factor), FloatBrightness::Multiply) => self.brightness(factor as f32),
            (JitterStep::Brightness(factor), FloatBrightness::Add) => self.brightness_add((factor - 1.0) as f32),
            (JitterStep::Contrast(factor), _) => self.contrast(factor as f32),
            (JitterStep::Saturation(factor), _) => self.saturation(factor as f32),
            (JitterStep::Hue(turns), _) => self.hue(turns as f32),
        }
    }
}

simd_fn! {
    fn saturate<L>(planes: &mut FloatPlanes, factor: f32) {
        planes.map_colours(|rgb| {
            let [h, s, v] = rgb_to_hsv(rgb);
            hsv_to_rgb([h, (s * factor).clamp(0.0, 1.0), v])
        });
    }
}

simd_fn! {
    fn turn_hue<L>(planes: &mut FloatPlanes, turns: f32) {
        planes.map_colours(|rgb| {
            let [h, s, v] = rgb_to_hsv(rgb);
            hsv_to_rgb([h + turns - (h + turns).floor(), s, v])
        });
    }
}

/// Hue in turns from 0 to 1, saturation and value. Without branches, so that several are computed at once.
#[inline(always)]
fn rgb_to_hsv([r, g, b]: [f32; 3]) -> [f32; 3] {
    let (max, min) = (r.max(g).max(b), r.min(g).min(b));
    let range = max - min;
    let (base, ahead, behind) = if g == max { (2.0, b, r) } else { (4.0, r, g) };
    let (base, ahead, behind) = if r == max { (0.0, g, b) } else { (base, ahead, behind) };
    let turns = (base + (ahead - behind) / range) / 6.0;
    // A grey has no hue.
    let hue = if range > 0.0 { turns - turns.floor() } else { 0.0 };
    [hue, if range > 0.0 { range / max } else { 0.0 }, max]
}

/// Each channel is v − v·s·clip(min(k, 4 − k), 0, 1) with k = (n + 6h) mod 6, n = 5, 3 and 1.
#[inline(always)]
fn hsv_to_rgb([h, s, v]: [f32; 3]) -> [f32; 3] {
    [5.0, 3.0, 1.0].map(|n| {
        let position = n + 6.0 * h;
        let k = if position >= 6.0 { position - 6.0 } else { position };
        v - v * s * k.min(4.0 - k).clamp(0.0, 1.0)
    })
}
