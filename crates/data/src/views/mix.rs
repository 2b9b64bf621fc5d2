//! Mixup (Zhang et al. 2018) and cutmix (Yun et al. 2019) of a batch with itself in reverse order.
//!
//! The partner of sample i of n is sample n − 1 − i, as in DeiT; one draw serves the whole batch.

use serde::{Deserialize, Serialize};

use super::CropBox;
use super::distribution::beta;
use crate::{DataError, Rng};

/// Keeps the draws apart from those of views and orders with the same seed.
const MIX_STREAM: u64 = 0x4D49_5855;

/// How batches are mixed. The defaults are DeiT's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mix {
    /// λ of mixup is drawn from Beta(α, α); 0 turns mixup off.
    pub mixup_alpha: f64,
    /// λ of cutmix is drawn from Beta(α, α); 0 turns cutmix off.
    pub cutmix_alpha: f64,
    /// Probability that a batch is mixed.
    pub prob: f32,
    /// Probability of cutmix where both are on.
    pub switch_prob: f32,
    /// Label smoothing: this much of every target is spread over all classes.
    pub smoothing: f32,
}

impl Default for Mix {
    fn default() -> Self {
        Self { mixup_alpha: 0.8, cutmix_alpha: 1.0, prob: 1.0, switch_prob: 0.5, smoothing: 0.1 }
    }
}

/// What was drawn for a batch; applying it is deterministic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MixDraw {
    /// Share of a sample in its own image and target; 1 where nothing is mixed.
    pub lambda: f64,
    /// The box that comes from the partner (cutmix); `None` blends whole images (mixup).
    pub cut: Option<CropBox>,
}

/// The box that cutmix takes from the partner, and λ corrected to what is left: 1 − box area / image area. The sides are
/// trunc(side·√(1 − λ)), around the centre (y, x), clipped to the image.
pub fn cutmix_box(lambda: f64, size: [u32; 2], centre: [u32; 2]) -> (CropBox, f64) {
    let ends = |side: u32, centre: u32| {
        let cut = (f64::from(side) * (1.0 - lambda).max(0.0).sqrt()) as u32;
        (centre.saturating_sub(cut / 2).min(side), centre.saturating_add(cut.div_ceil(2)).min(side))
    };
    let ((top, bottom), (left, right)) = (ends(size[0], centre[0]), ends(size[1], centre[1]));
    let cut = CropBox { top, left, height: bottom - top, width: right - left };
    (cut, left_of(cut, size))
}

fn left_of(cut: CropBox, [height, width]: [u32; 2]) -> f64 {
    1.0 - f64::from(cut.height) * f64::from(cut.width) / (f64::from(height) * f64::from(width)).max(1.0)
}

/// Blends every one of the `batch` equal parts of `data` with its partner: λ·x + (1 − λ)·partner.
pub fn mixup(data: &mut [f32], batch: usize, lambda: f64) {
    let (own, other) = (lambda as f32, (1.0 - lambda) as f32);
    by_pair(data, batch, |a, b| {
        for (x, y) in a.iter_mut().zip(b) {
            (*x, *y) = (own * *x + other * *y, own * *y + other * *x);
        }
    });
}

/// Swaps a box of every image with its partner's: `images` is `[batch, 3, height, width]`, the box lies within.
pub fn cutmix(images: &mut [f32], batch: usize, [height, width]: [usize; 2], cut: CropBox) {
    let [top, left, rows, columns] = [cut.top, cut.left, cut.height, cut.width].map(|n| n as usize);
    by_pair(images, batch, |a, b| {
        let planes = a.chunks_exact_mut((height * width).max(1)).zip(b.chunks_exact_mut((height * width).max(1)));
        for (a, b) in planes {
            for row in top..top + rows {
                let place = row * width + left..row * width + left + columns;
                a[place.clone()].swap_with_slice(&mut b[place]);
            }
        }
    });
}

/// The middle of an odd batch is its own partner and stays as it is.
fn by_pair(data: &mut [f32], batch: usize, change: impl Fn(&mut [f32], &mut [f32])) {
    let part = data.len() / batch.max(1);
    if part == 0 {
        return;
    }
    let (front, back) = data[..part * batch].split_at_mut(part * batch.div_ceil(2));
    for (a, b) in front.chunks_exact_mut(part).zip(back.chunks_exact_mut(part).rev()) {
        change(a, b);
    }
}

/// Targets of a batch, `[batch, classes]`: (1 − s)·one-hot + s/classes.
///
/// # Errors
/// [`DataError::Config`] for a label that is no class.
pub fn soft_targets(labels: &[usize], classes: usize, smoothing: f32) -> Result<Vec<f32>, DataError> {
    let spread = smoothing / classes.max(1) as f32;
    let mut targets = vec![spread; labels.len() * classes];
    for (i, &label) in labels.iter().enumerate() {
        if label >= classes {
            let expected = format!("a class from 0 to below {classes}");
            return Err(DataError::config(format!("label of sample {i} of the batch"), expected, label));
        }
        targets[i * classes + label] += 1.0 - smoothing;
    }
    Ok(targets)
}

impl Mix {
    /// Draws how a batch of images of `[height, width]` pixels is mixed: a function of seed, epoch and iteration.
    pub fn draw(&self, seed: u64, epoch: u64, iteration: u64, size: [u32; 2]) -> MixDraw {
        let mut rng = Rng::from_words(&[MIX_STREAM, seed, epoch, iteration]);
        let mixed = rng.chance(self.prob);
        let switched = rng.chance(self.switch_prob);
        let (mixup, cutmix) = (self.mixup_alpha > 0.0, self.cutmix_alpha > 0.0);
        if !mixed || !(mixup || cutmix) {
            return MixDraw { lambda: 1.0, cut: None };
        }
        if !cutmix || (mixup && !switched) {
            return MixDraw { lambda: beta(self.mixup_alpha, self.mixup_alpha, &mut rng), cut: None };
        }
        let lambda = beta(self.cutmix_alpha, self.cutmix_alpha, &mut rng);
        let centre = size.map(|side| rng.below(u64::from(side)) as u32);
        let (cut, lambda) = cutmix_box(lambda, size, centre);
        MixDraw { lambda, cut: Some(cut) }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`DataError::Config`] naming the first setting outside its range.
    pub fn validate(&self) -> Result<(), DataError> {
        for (what, alpha) in [("mixup_alpha", self.mixup_alpha), ("cutmix_alpha", self.cutmix_alpha)] {
            if !(0.0..=1000.0).contains(&alpha) {
                return Err(DataError::config(what, "0 to 1000", alpha));
            }
        }
        for (what, p) in [("prob", self.prob), ("switch_prob", self.switch_prob), ("smoothing", self.smoothing)] {
            if !(0.0..=1.0).contains(&p) {
                return Err(DataError::config(format!("mix {what}"), "0 to 1", p));
            }
        }
        Ok(())
    }
}

impl MixDraw {
    /// Mixes `images`, `[batch, 3, height, width]`, in place. The box was drawn for images of this size.
    pub fn apply(&self, images: &mut [f32], batch: usize, size: [usize; 2]) {
        match self.cut {
            Some(cut) => cutmix(images, batch, size, cut),
            None if self.lambda < 1.0 => mixup(images, batch, self.lambda),
            None => {}
        }
    }

    /// The mixed targets, `[batch, classes]`.
    ///
    /// # Errors
    /// [`DataError::Config`] for a label that is no class.
    pub fn targets(&self, labels: &[usize], classes: usize, smoothing: f32) -> Result<Vec<f32>, DataError> {
        let mut targets = soft_targets(labels, classes, smoothing)?;
        mixup(&mut targets, labels.len(), self.lambda);
        Ok(targets)
    }
}
