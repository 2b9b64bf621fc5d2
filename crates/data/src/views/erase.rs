//! Random erasing (Zhong et al. 2020): boxes of a normalised view filled with noise.

use serde::{Deserialize, Serialize};

use super::CropBox;
use super::distribution::normal_pair;
use crate::{DataError, Rng};

/// Keeps the noise apart from other streams.
const NOISE_STREAM: u64 = 0x4552_4153;

/// Boxes of standard normal noise, one number per pixel and channel. The defaults are DeiT's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Erase {
    /// Probability that a view loses anything.
    pub prob: f32,
    /// Smallest and largest fraction of the view that the boxes cover together.
    pub area: [f32; 2],
    /// Smallest and largest height / width of a box, drawn log-uniformly.
    pub aspect: [f32; 2],
    /// Boxes.
    pub count: u32,
}

impl Default for Erase {
    fn default() -> Self {
        Self { prob: 0.25, area: [0.02, 1.0 / 3.0], aspect: [0.3, 1.0 / 0.3], count: 1 }
    }
}

/// A box to erase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EraseBox {
    /// Where, in pixels of the view.
    pub at: CropBox,
    /// Decides the noise.
    pub seed: u64,
}

/// Height and width in pixels of a box covering `area_fraction` of a view of `height`×`width` pixels at `aspect` =
/// height/width, and whether it fits: h = round(√(A·aspect)), w = round(√(A/aspect)), ties to even, both smaller than the
/// view.
pub fn erase_size(area_fraction: f64, aspect: f64, height: u32, width: u32) -> (u32, u32, bool) {
    let area = f64::from(height) * f64::from(width) * area_fraction;
    let h = (area * aspect).sqrt().round_ties_even() as u32;
    let w = (area / aspect).sqrt().round_ties_even() as u32;
    (h, w, h < height && w < width)
}

/// Fills a box of `data`, `[3, height, width]`, with `noise`, `[3, box height, box width]`. The box lies within the view.
pub fn erase(data: &mut [f32], [height, width]: [usize; 2], at: CropBox, noise: &[f32]) {
    let [top, left, rows, columns] = [at.top, at.left, at.height, at.width].map(|n| n as usize);
    if rows * columns == 0 {
        return;
    }
    let planes = data.chunks_exact_mut((height * width).max(1));
    for (plane, noise) in planes.zip(noise.chunks_exact(rows * columns)) {
        let lines = plane.chunks_exact_mut(width).skip(top);
        for (line, noise) in lines.zip(noise.chunks_exact(columns)) {
            line[left..left + columns].copy_from_slice(noise);
        }
    }
}

impl EraseBox {
    /// Standard normal noise for the box, `[3, height, width]`; the same for the same seed.
    pub fn noise(&self) -> Vec<f32> {
        let mut rng = Rng::from_words(&[NOISE_STREAM, self.seed]);
        let count = 3 * self.at.height as usize * self.at.width as usize;
        let mut noise: Vec<f32> =
            (0..count.div_ceil(2)).flat_map(|_| normal_pair(&mut rng)).map(|x| x as f32).collect();
        noise.truncate(count);
        noise
    }

    /// Erases the box in a normalised view, `[3, side, side]`.
    pub fn apply(&self, data: &mut [f32], side: usize) {
        let at = self.at.clipped(side as u32, side as u32);
        erase(data, [side; 2], at, &Self { at, ..*self }.noise());
    }
}

impl Erase {
    /// Draws the boxes of a view of `side`×`side` pixels. A box that fits in none of ten tries is left out.
    pub fn draw(&self, side: u32, rng: &mut Rng) -> Vec<EraseBox> {
        const TRIES: usize = 10;
        if !rng.chance(self.prob) {
            return Vec::new();
        }
        let area = self.area.map(|a| f64::from(a) / f64::from(self.count.max(1)));
        // libm, not the platform's functions: the same boxes everywhere.
        let log_aspect = self.aspect.map(|a| libm::log(f64::from(a)));
        let one = |_| {
            (0..TRIES).find_map(|_| {
                let fraction = rng.uniform(area[0], area[1]);
                let aspect = libm::exp(rng.uniform(log_aspect[0], log_aspect[1]));
                let (height, width, fits) = erase_size(fraction, aspect, side, side);
                fits.then(|| {
                    let top = rng.below(u64::from(side - height) + 1) as u32;
                    let left = rng.below(u64::from(side - width) + 1) as u32;
                    // 53 bits: a number that every text format keeps.
                    EraseBox { at: CropBox { top, left, height, width }, seed: rng.next_u64() >> 11 }
                })
            })
        };
        (0..self.count).filter_map(one).collect()
    }

    pub(super) fn validate(&self) -> Result<(), DataError> {
        let within = |[low, high]: [f32; 2], most: f32| low > 0.0 && low <= high && high <= most;
        if !(0.0..=1.0).contains(&self.prob) {
            return Err(DataError::config("erasing probability", "a probability from 0 to 1", self.prob));
        }
        if !within(self.area, 1.0) {
            let found = format!("{:?}", self.area);
            return Err(DataError::config("erased area", "low and high with 0 < low <= high <= 1", found));
        }
        if !within(self.aspect, 100.0) {
            let found = format!("{:?}", self.aspect);
            return Err(DataError::config(
                "erased aspect ratio",
                "low and high with 0 < low <= high <= 100",
                found,
            ));
        }
        Ok(())
    }
}
