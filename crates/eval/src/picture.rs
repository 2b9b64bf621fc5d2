//! An RGB canvas: filling, copying, resizing and drawing masks.
//!
//! ```
//! use ocelli_eval::picture::{Filter, Picture};
//!
//! let mut picture = Picture::filled(4, 2, [0, 0, 0]);
//! picture.fill(1, 0, 2, 1, [255, 0, 0]);
//! assert_eq!(picture.get(2, 0), Some([255, 0, 0]));
//! assert_eq!(picture.get(2, 1), Some([0, 0, 0]));
//! let large = picture.resize(8, 4, Filter::Nearest);
//! assert_eq!((large.width(), large.height(), large.get(2, 1)), (8, 4, Some([255, 0, 0])));
//! ```

use crate::EvalError;
use crate::mask::Mask;

/// A colour: red, green, blue, 0..=255 in sRGB.
pub type Rgb = [u8; 3];

/// How a picture is resampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// Every source pixel becomes a block: what patches really are.
    Nearest,
    /// Linear interpolation; averages over the source pixels when it makes a picture smaller.
    #[default]
    Smooth,
}

/// A picture of packed RGB bytes, `[height, width, 3]` row-major. Sizes are in pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    data: Vec<u8>,
}

impl Picture {
    /// A picture from its bytes, `[height, width, 3]` row-major.
    ///
    /// # Errors
    /// [`EvalError::Empty`] for a side of 0, [`EvalError::Shape`] if the number of bytes does not fit.
    pub fn new(width: usize, height: usize, data: Vec<u8>) -> Result<Self, EvalError> {
        if width == 0 || height == 0 {
            return Err(EvalError::Empty { what: "the picture" });
        }
        if data.len() != width * height * 3 {
            return Err(EvalError::shape("picture", format!("{width} × {height} × 3 bytes"), data.len()));
        }
        Ok(Self { width, height, data })
    }

    /// A picture of one colour; a side of 0 becomes 1.
    pub fn filled(width: usize, height: usize, colour: Rgb) -> Self {
        let (width, height) = (width.max(1), height.max(1));
        Self { width, height, data: colour.repeat(width * height) }
    }

    /// A mask in black and white.
    ///
    /// # Errors
    /// [`EvalError::Empty`] for a mask without cells.
    pub fn from_mask(mask: &Mask) -> Result<Self, EvalError> {
        let data = mask.cells().iter().flat_map(|cell| [if *cell { 255 } else { 0 }; 3]).collect();
        Self::new(mask.width(), mask.height(), data)
    }

    /// Pixels across.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Pixels down.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The bytes, `[height, width, 3]` row-major.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The bytes, `[height, width, 3]` row-major.
    pub fn into_data(self) -> Vec<u8> {
        self.data
    }

    /// The colour at column `x` and row `y`, or `None` outside.
    pub fn get(&self, x: usize, y: usize) -> Option<Rgb> {
        let at = (y * self.width + x) * 3;
        (x < self.width && y < self.height).then(|| [self.data[at], self.data[at + 1], self.data[at + 2]])
    }

    /// Sets one pixel; outside nothing happens.
    pub fn set(&mut self, x: usize, y: usize, colour: Rgb) {
        if x < self.width && y < self.height {
            self.data[(y * self.width + x) * 3..][..3].copy_from_slice(&colour);
        }
    }

    /// Mixes `colour` into one pixel with `weight` in 0..=1; outside nothing happens.
    pub fn blend(&mut self, x: usize, y: usize, colour: Rgb, weight: f32) {
        if let Some(old) = self.get(x, y) {
            self.set(x, y, mix(old, colour, weight));
        }
    }

    /// Fills a rectangle, cut off at the border.
    pub fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, colour: Rgb) {
        for y in y..(y + height).min(self.height) {
            for x in x..(x + width).min(self.width) {
                self.set(x, y, colour);
            }
        }
    }

    /// Copies `other` with its top left corner to column `x` and row `y`, cut off at the border.
    pub fn paste(&mut self, other: &Self, x: usize, y: usize) {
        let width = other.width.min(self.width.saturating_sub(x)) * 3;
        let height = other.height.min(self.height.saturating_sub(y));
        if width > 0 {
            for row in 0..height {
                let to = ((y + row) * self.width + x) * 3;
                self.data[to..to + width].copy_from_slice(&other.data[row * other.width * 3..][..width]);
            }
        }
    }

    /// The top left part, at most `width × height`.
    pub fn crop(&self, width: usize, height: usize) -> Self {
        let (width, height) = (width.clamp(1, self.width), height.clamp(1, self.height));
        let rows = self.data.chunks_exact(self.width * 3).take(height);
        Self { width, height, data: rows.flat_map(|row| &row[..width * 3]).copied().collect() }
    }

    /// Resampled to `width × height`; a side of 0 becomes 1.
    pub fn resize(&self, width: usize, height: usize, filter: Filter) -> Self {
        let (width, height) = (width.max(1), height.max(1));
        if (width, height) == (self.width, self.height) {
            return self.clone();
        }
        let values: Vec<f32> = self.data.iter().map(|byte| f32::from(*byte)).collect();
        let values = resample(&values, 3, [self.width, self.height], [width, height], filter);
        Self { width, height, data: values.into_iter().map(|value| value.round() as u8).collect() }
    }

    /// `other`, resized to this picture's size, laid over it with `weight` in 0..=1.
    pub fn overlay(&self, other: &Self, weight: f32) -> Self {
        let other = other.resize(self.width, self.height, Filter::Smooth);
        let pairs = self.data.iter().zip(&other.data);
        let data = pairs.map(|(a, b)| mix([*a; 3], [*b; 3], weight)[0]).collect();
        Self { data, ..*self }
    }

    /// Mixes `colour` with `weight` in 0..=1 into the pixels inside the mask (`inside`), or those outside it. The mask
    /// is resized to the picture, nearest.
    pub fn tint(&self, mask: &Mask, inside: bool, colour: Rgb, weight: f32) -> Self {
        let mask = mask.resize(self.width, self.height);
        let pixels = self.data.as_chunks::<3>().0.iter().zip(mask.cells());
        let tinted = pixels.flat_map(|(rgb, cell)| if *cell == inside { mix(*rgb, colour, weight) } else { *rgb });
        Self { data: tinted.collect(), ..*self }
    }

    /// Draws the inner border of the mask, `thickness` pixels wide. The mask is resized to the picture, nearest. The
    /// picture's own border is no border of the mask.
    pub fn outline(&self, mask: &Mask, colour: Rgb, thickness: usize) -> Self {
        let mask = mask.resize(self.width, self.height);
        let mut outlined = self.clone();
        for y in 0..self.height {
            for x in 0..self.width {
                let mut around =
                    (y.saturating_sub(thickness)..=(y + thickness).min(self.height - 1)).flat_map(|v| {
                        (x.saturating_sub(thickness)..=(x + thickness).min(self.width - 1)).map(move |u| (u, v))
                    });
                if mask.get(x, y) && around.any(|(u, v)| !mask.get(u, v)) {
                    outlined.set(x, y, colour);
                }
            }
        }
        outlined
    }
}

/// `a` and `b` mixed; `weight` is that of `b`.
pub(crate) fn mix(a: Rgb, b: Rgb, weight: f32) -> Rgb {
    let weight = weight.clamp(0.0, 1.0);
    let channel = |i: usize| (f32::from(a[i]) + (f32::from(b[i]) - f32::from(a[i])) * weight).round() as u8;
    [channel(0), channel(1), channel(2)]
}

/// Resamples `[height, width, channels]` values; `from` and `to` are `[width, height]`, none of them 0.
///
/// Pixel centres lie at half-integers in both pictures. [`Filter::Smooth`] is a triangle as wide as one pixel of the
/// coarser picture, cut off and renormalised at the border.
pub(crate) fn resample(
    values: &[f32],
    channels: usize,
    from: [usize; 2],
    to: [usize; 2],
    filter: Filter,
) -> Vec<f32> {
    let columns = taps(from[0], to[0], filter);
    let rows = taps(from[1], to[1], filter);
    let mut across = Vec::with_capacity(to[0] * from[1] * channels);
    for row in values.chunks_exact(from[0] * channels) {
        for taps in &columns {
            for channel in 0..channels {
                across.push(taps.iter().map(|(x, weight)| row[x * channels + channel] * weight).sum::<f32>());
            }
        }
    }
    let stride = to[0] * channels;
    let mut out = vec![0.0; stride * to[1]];
    for (out, taps) in out.chunks_exact_mut(stride).zip(&rows) {
        for (y, weight) in taps {
            for (out, value) in out.iter_mut().zip(&across[y * stride..][..stride]) {
                *out += value * weight;
            }
        }
    }
    out
}

/// For every new pixel of one axis: the old pixels it is made of and their weights, which sum to 1.
fn taps(from: usize, to: usize, filter: Filter) -> Vec<Vec<(usize, f32)>> {
    if filter == Filter::Nearest {
        return (0..to).map(|x| vec![(x * from / to, 1.0)]).collect();
    }
    let scale = from as f32 / to as f32;
    let reach = scale.max(1.0);
    (0..to)
        .map(|x| {
            let centre = (x as f32 + 0.5) * scale - 0.5;
            let first = (centre - reach).ceil().max(0.0) as usize;
            let last = ((centre + reach).floor() as usize).min(from - 1);
            let weight = |old: usize| (1.0 - (old as f32 - centre).abs() / reach).max(0.0);
            let sum: f32 = (first..=last).map(weight).sum();
            (first..=last).map(|old| (old, weight(old) / sum)).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked() {
        assert!(Picture::new(2, 2, vec![0; 11]).is_err());
        assert!(Picture::new(0, 2, vec![]).is_err());
        assert_eq!(Picture::filled(0, 0, [1, 2, 3]).data(), [1, 2, 3]);
    }

    #[test]
    fn resizing_keeps_flat_colour_and_mean() {
        let flat = Picture::filled(7, 5, [10, 200, 30]);
        for (width, height) in [(1, 1), (3, 9), (20, 2), (7, 5)] {
            for filter in [Filter::Nearest, Filter::Smooth] {
                assert_eq!(flat.resize(width, height, filter), Picture::filled(width, height, [10, 200, 30]));
            }
        }
        let checks: Vec<u8> = (0..64).flat_map(|i| [if (i / 8 + i % 8) % 2 == 0 { 0 } else { 200 }; 3]).collect();
        let small = Picture::new(8, 8, checks).unwrap().resize(2, 2, Filter::Smooth);
        assert!(small.data().iter().all(|v| v.abs_diff(100) <= 2), "{small:?}");
    }

    #[test]
    fn nearest_makes_blocks() {
        let two = Picture::new(2, 1, vec![1, 1, 1, 9, 9, 9]).unwrap().resize(6, 2, Filter::Nearest);
        assert_eq!(two.data()[..18], [1, 1, 1, 1, 1, 1, 1, 1, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9]);
    }

    #[test]
    fn pasting_and_filling_stop_at_the_border() {
        let mut canvas = Picture::filled(4, 4, [0; 3]);
        canvas.paste(&Picture::filled(3, 3, [9; 3]), 2, 2);
        canvas.paste(&Picture::filled(3, 3, [5; 3]), 9, 9);
        canvas.fill(3, 0, 10, 1, [7; 3]);
        let reds: Vec<u8> = canvas.data().iter().step_by(3).copied().collect();
        assert_eq!(reds, [0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 9, 9, 0, 0, 9, 9]);
        assert_eq!(canvas.crop(3, 99).width(), 3);
        assert_eq!(canvas.get(4, 0), None);
    }

    #[test]
    fn masks_are_tinted_and_outlined() {
        let mask = Mask::new(4, 1, vec![true, true, true, false]).unwrap();
        let grey = Picture::filled(4, 1, [100; 3]);
        let reds = |picture: &Picture| picture.data().iter().step_by(3).copied().collect::<Vec<u8>>();
        assert_eq!(reds(&grey.tint(&mask, true, [200; 3], 0.5)), [150, 150, 150, 100]);
        assert_eq!(reds(&grey.tint(&mask, false, [200; 3], 0.5)), [100, 100, 100, 150]);
        assert_eq!(reds(&grey.outline(&mask, [7; 3], 1)), [100, 100, 7, 100]);
        assert_eq!(reds(&grey.overlay(&Picture::filled(1, 1, [0; 3]), 0.25)), [75; 4]);
    }
}
