//! Drawing a view: all the randomness, none of the pixels.

use serde::{Deserialize, Serialize};

use super::crop::Canvas;
use super::{ColourJitter, CropBox, EraseBox, RandStep, ViewSpec, Window};
use crate::Rng;

/// One colour jitter operation with its factor.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JitterStep {
    /// Blend with black.
    Brightness(f64),
    /// Blend with the mean grey.
    Contrast(f64),
    /// Blend with the grey image.
    Saturation(f64),
    /// Turn the hue by this fraction of a circle.
    Hue(f64),
}

/// Everything that was drawn for one view; rendering it is deterministic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ViewParams {
    /// The part of the image the view shows.
    pub crop: CropBox,
    /// Mirrored left to right.
    pub flip: bool,
    /// Colour operations in the order they apply; `None` when the jitter did not happen.
    pub jitter: Option<Vec<JitterStep>>,
    /// Colour dropped.
    pub grayscale: bool,
    /// σ of the Gaussian blur in pixels, `None` when there is none.
    pub blur: Option<f64>,
    /// Bright levels inverted.
    pub solarize: bool,
    /// Operations of RandAugment in the order they apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub randaugment: Vec<RandStep>,
    /// Boxes filled with noise after normalisation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub erase: Vec<EraseBox>,
    /// The part of the resized crop that the view shows; `None` for all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
}

impl ViewParams {
    /// A view of this crop to which nothing else happens.
    pub fn plain(crop: CropBox) -> Self {
        Self {
            crop,
            flip: false,
            jitter: None,
            grayscale: false,
            blur: None,
            solarize: false,
            randaugment: Vec::new(),
            erase: Vec::new(),
            window: None,
        }
    }
}

/// Width and height in pixels of a crop covering `area_fraction` of a `width`×`height` image at `aspect` = width/height,
/// and whether it fits: w = round(√(A·aspect)), h = round(√(A/aspect)), ties to even (torchvision).
pub fn random_resized_crop_size(area_fraction: f64, aspect: f64, width: u32, height: u32) -> (u32, u32, bool) {
    let area = f64::from(width) * f64::from(height) * area_fraction;
    let w = (area * aspect).sqrt().round_ties_even() as u32;
    let h = (area / aspect).sqrt().round_ties_even() as u32;
    (w, h, (1..=width).contains(&w) && (1..=height).contains(&h))
}

/// torchvision's fallback: the largest centred crop whose aspect is within `ratio`.
fn centre_crop(ratio: [f64; 2], width: u32, height: u32) -> CropBox {
    let aspect = f64::from(width) / f64::from(height);
    let (w, h) = if aspect < ratio[0] {
        (width, (f64::from(width) / ratio[0]).round_ties_even() as u32)
    } else if aspect > ratio[1] {
        ((f64::from(height) * ratio[1]).round_ties_even() as u32, height)
    } else {
        (width, height)
    };
    let (w, h) = (w.clamp(1, width), h.clamp(1, height));
    CropBox { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
}

pub(super) fn random_crop(spec: &ViewSpec, width: u32, height: u32, rng: &mut Rng) -> CropBox {
    const TRIES: usize = 10;
    let scale = spec.scale.map(f64::from);
    let ratio = spec.ratio.map(f64::from);
    // libm, not the platform's functions: the same crops everywhere.
    let log_ratio = ratio.map(libm::log);
    for _ in 0..TRIES {
        let area_fraction = rng.uniform(scale[0], scale[1]);
        let aspect = libm::exp(rng.uniform(log_ratio[0], log_ratio[1]));
        let (w, h, fits) = random_resized_crop_size(area_fraction, aspect, width, height);
        if fits {
            let top = rng.below(u64::from(height - h) + 1) as u32;
            let left = rng.below(u64::from(width - w) + 1) as u32;
            return CropBox { top, left, height: h, width: w };
        }
    }
    centre_crop(ratio, width, height)
}

fn sample_jitter(jitter: &ColourJitter, rng: &mut Rng) -> Vec<JitterStep> {
    let around_one = |amount: f32, rng: &mut Rng| {
        let amount = f64::from(amount);
        rng.uniform((1.0 - amount).max(0.0), 1.0 + amount)
    };
    let brightness = JitterStep::Brightness(around_one(jitter.brightness, rng));
    let contrast = JitterStep::Contrast(around_one(jitter.contrast, rng));
    let saturation = JitterStep::Saturation(around_one(jitter.saturation, rng));
    let turn = f64::from(jitter.hue);
    let hue = JitterStep::Hue(rng.uniform(-turn, turn));
    let mut steps = vec![
        (brightness, jitter.brightness),
        (contrast, jitter.contrast),
        (saturation, jitter.saturation),
        (hue, jitter.hue),
    ];
    rng.shuffle(&mut steps);
    // An amount of zero means the operation is absent: a hue turn of zero would still round every colour through HSV.
    steps.into_iter().filter(|&(_, amount)| amount > 0.0).map(|(step, _)| step).collect()
}

impl ViewSpec {
    /// Draws one view of a `width`×`height` image. Depends on the generator only. A patch of a grid gets a crop of its own;
    /// [`super::ViewPlan::draw_all`] draws one for all patches.
    pub fn sample(&self, width: u32, height: u32, rng: &mut Rng) -> ViewParams {
        self.sample_after(width, height, rng, &mut None)
    }

    /// Draws one view after the others of its plan. The draws of a view that has neither RandAugment nor erasing end with
    /// solarize: runs resume bit for bit, so new kinds of draws are appended and happen only where they are asked for.
    pub(super) fn sample_after(
        &self,
        width: u32,
        height: u32,
        rng: &mut Rng,
        canvas: &mut Option<Canvas>,
    ) -> ViewParams {
        let (crop, flip, window) = self.draw_crop([width.max(1), height.max(1)], rng, canvas);
        let jitter =
            self.jitter.as_ref().and_then(|jitter| rng.chance(jitter.prob).then(|| sample_jitter(jitter, rng)));
        let grayscale = rng.chance(self.grayscale_prob);
        let blur = self.blur.as_ref().and_then(|blur| {
            rng.chance(blur.prob).then(|| rng.uniform(f64::from(blur.sigma_min), f64::from(blur.sigma_max)))
        });
        let solarize = rng.chance(self.solarize_prob);
        let randaugment = self.randaugment.map_or_else(Vec::new, |randaugment| randaugment.draw(rng));
        let erase = self.erase.map_or_else(Vec::new, |erase| erase.draw(self.size_px, rng));
        ViewParams { crop, flip, jitter, grayscale, blur, solarize, randaugment, erase, window }
    }
}
