//! What may happen to a view, and how likely.

use serde::{Deserialize, Serialize};

use super::blur::MAX_SIGMA;
use super::{Crop, Erase, Filter, FloatBrightness, RandAugment};
use crate::DataError;

/// Random brightness, contrast, saturation and hue, in random order.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColourJitter {
    /// Probability that any of it happens.
    pub prob: f32,
    /// Factor from [1 − b, 1 + b]; 0 leaves brightness alone.
    pub brightness: f32,
    /// Factor from [1 − c, 1 + c]; 0 leaves contrast alone.
    pub contrast: f32,
    /// Factor from [1 − s, 1 + s]; 0 leaves saturation alone.
    pub saturation: f32,
    /// Turns from [−h, h], h ≤ 0.5; 0 leaves the hue alone.
    pub hue: f32,
}

/// How a view is blurred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlurKind {
    /// PIL's three box filters, on levels (MoCo, DINO, SwAV, Barlow Twins).
    #[default]
    Pil,
    /// A kernel of a tenth of the view, zeros beyond the border, on floats (SimCLR, BYOL).
    Convolution,
    /// A kernel that reaches 11 pixels, the image reflected beyond the border, on levels (InfoMin).
    Reflect,
}

/// On what the colour operations, blur and solarize of a view work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Colour {
    /// 8-bit levels, rounded after every operation, as PIL and torchvision do.
    #[default]
    Levels,
    /// Floats in 0..1, clipped after every operation, as SimCLR and BYOL do. Crop and resize stay on levels.
    Floats {
        /// What a brightness factor does.
        brightness: FloatBrightness,
    },
}

/// An operation of a view, after crop, resize and flip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ViewStep {
    /// Colour jitter.
    Jitter,
    /// Dropping colour.
    Grayscale,
    /// Gaussian blur.
    Blur,
    /// Inverting bright levels.
    Solarize,
    /// RandAugment.
    Randaugment,
}

/// The order of DINO, MoCo, BYOL and most others.
const USUAL_ORDER: [ViewStep; 5] =
    [ViewStep::Jitter, ViewStep::Grayscale, ViewStep::Blur, ViewStep::Solarize, ViewStep::Randaugment];

/// Random Gaussian blur.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blur {
    /// Probability.
    pub prob: f32,
    /// Smallest σ in pixels.
    pub sigma_min: f32,
    /// Largest σ in pixels.
    pub sigma_max: f32,
    /// How.
    #[serde(default)]
    pub kind: BlurKind,
}

impl Blur {
    /// PIL's blur with this probability and range of σ in pixels.
    pub fn pil(prob: f32, [sigma_min, sigma_max]: [f32; 2]) -> Self {
        Self { prob, sigma_min, sigma_max, kind: BlurKind::Pil }
    }
}

/// The distribution one view is drawn from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ViewSpec {
    /// What pictures call the view; may be empty.
    pub title: String,
    /// Side of the square view in pixels.
    pub size_px: u32,
    /// Which part of the image the view shows.
    pub crop: Crop,
    /// Smallest and largest fraction of the image area a crop covers.
    pub scale: [f32; 2],
    /// Smallest and largest aspect ratio (width / height) of a crop, drawn log-uniformly.
    pub ratio: [f32; 2],
    /// Probability of mirroring left to right.
    pub flip_prob: f32,
    /// Colour jitter, if any.
    pub jitter: Option<ColourJitter>,
    /// Probability of dropping colour.
    pub grayscale_prob: f32,
    /// Gaussian blur, if any.
    pub blur: Option<Blur>,
    /// Probability of inverting the bright levels.
    pub solarize_prob: f32,
    /// Levels from here on are inverted.
    pub solarize_threshold: u8,
    /// Resize kernel.
    pub filter: Filter,
    /// On what colour operations, blur and solarize work.
    pub colour: Colour,
    /// RandAugment, if any.
    pub randaugment: Option<RandAugment>,
    /// Random erasing after normalisation, if any.
    pub erase: Option<Erase>,
    /// The order of the operations, each once. What is drawn does not depend on it.
    pub order: [ViewStep; 5],
}

impl Default for ViewSpec {
    /// A plain random resized crop of 224 pixels with a flip: scale (0.08, 1), aspect (3/4, 4/3), no colour changes.
    fn default() -> Self {
        Self {
            title: String::new(),
            size_px: 224,
            crop: Crop::Random,
            scale: [0.08, 1.0],
            ratio: [3.0 / 4.0, 4.0 / 3.0],
            flip_prob: 0.5,
            jitter: None,
            grayscale_prob: 0.0,
            blur: None,
            solarize_prob: 0.0,
            solarize_threshold: 128,
            filter: Filter::Bicubic,
            colour: Colour::Levels,
            randaugment: None,
            erase: None,
            order: USUAL_ORDER,
        }
    }
}

impl ViewSpec {
    /// Whether the GPU path has everything the view needs.
    pub fn gpu_ready(&self) -> bool {
        self.crop == Crop::Random
            && self.colour == Colour::Levels
            && self.blur.is_none_or(|blur| blur.kind == BlurKind::Pil)
            && self.randaugment.is_none()
            && self.erase.is_none()
            && self.order == USUAL_ORDER
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`DataError::Config`] naming the first setting outside its range.
    pub fn validate(&self) -> Result<(), DataError> {
        let probability = |what: &str, p: f32| {
            if (0.0..=1.0).contains(&p) {
                Ok(())
            } else {
                Err(DataError::config(what, "a probability from 0 to 1", p))
            }
        };
        let range = |what: &str, [low, high]: [f32; 2], above: f32, most: f32| {
            // Written so that NaN fails.
            if low > above && low <= high && high <= most {
                Ok(())
            } else {
                let expected = format!("low and high with {above} < low <= high <= {most}");
                Err(DataError::config(what, expected, format!("{low} and {high}")))
            }
        };
        if !(1..=8192).contains(&self.size_px) {
            return Err(DataError::config("view size", "1 to 8192 pixels", self.size_px));
        }
        range("crop scale", self.scale, 0.0, 1.0)?;
        range("crop aspect ratio", self.ratio, 0.0, 100.0)?;
        probability("flip probability", self.flip_prob)?;
        probability("grayscale probability", self.grayscale_prob)?;
        probability("solarize probability", self.solarize_prob)?;
        if let Some(jitter) = self.jitter {
            probability("colour jitter probability", jitter.prob)?;
            for (what, amount, most) in [
                ("brightness jitter", jitter.brightness, f32::MAX),
                ("contrast jitter", jitter.contrast, f32::MAX),
                ("saturation jitter", jitter.saturation, f32::MAX),
                ("hue jitter", jitter.hue, 0.5),
            ] {
                if !(0.0..=most).contains(&amount) {
                    return Err(DataError::config(what, format!("0 to {most}"), amount));
                }
            }
        }
        if let Some(blur) = self.blur {
            probability("blur probability", blur.prob)?;
            range("blur sigma", [blur.sigma_min, blur.sigma_max], 0.0, MAX_SIGMA as f32)?;
            let floats = self.colour != Colour::Levels;
            if floats != (blur.kind == BlurKind::Convolution) {
                let expected = if floats {
                    "convolution, as colours are floats"
                } else {
                    "pil or reflect, as colours are levels"
                };
                return Err(DataError::config("blur kind", expected, format!("{:?}", blur.kind)));
            }
        }
        self.validate_crop()?;
        if let Some(randaugment) = self.randaugment {
            randaugment.validate()?;
            if self.colour != Colour::Levels {
                return Err(DataError::config("colour of a view with RandAugment", "levels", "floats"));
            }
        }
        self.erase.map_or(Ok(()), |erase| erase.validate())?;
        if USUAL_ORDER.iter().any(|step| !self.order.contains(step)) {
            let expected = format!("each of {USUAL_ORDER:?} once");
            return Err(DataError::config("order of a view's operations", expected, format!("{:?}", self.order)));
        }
        Ok(())
    }
}
