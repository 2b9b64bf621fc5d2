//! RandAugment (Cubuk et al. 2020): a few operations, drawn anew for every image, of one magnitude.
//!
//! All that is random is drawn into a list of [`RandStep`]s, which is applied without chance. Arguments at a magnitude are
//! those of timm, whose set DeiT and InfoMin use.

use serde::{Deserialize, Serialize};

use super::affine::{Affine, Interpolation, affine};
use super::distribution::normal;
use super::planes::Planes;
use super::{colour, levels};
use crate::{DataError, Image, Rng};

/// The largest magnitude.
const MOST: f64 = 10.0;

/// How turns, shears and shifts of [`RandAugment`] read between pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InterpolationChoice {
    /// Always bilinear.
    Bilinear,
    /// Always bicubic.
    #[default]
    Bicubic,
    /// One of the two for every operation.
    Random,
}

/// Random operations of one magnitude. The defaults are DeiT's, `rand-m9-mstd0.5-inc1`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandAugment {
    /// Operations drawn, with replacement.
    pub ops: usize,
    /// Mean magnitude, from 0 to 10.
    pub magnitude: f64,
    /// Standard deviation of the magnitude, which is drawn for every operation and clipped to 0..10.
    pub magnitude_std: f64,
    /// Probability with which each operation drawn is applied.
    pub prob: f32,
    /// Every operation changes the image more as the magnitude grows.
    pub increasing: bool,
    /// How turns, shears and shifts read between pixels.
    pub interpolation: InterpolationChoice,
    /// Colour of what a turn, shear or shift brings in from outside.
    pub fill: [u8; 3],
}

impl Default for RandAugment {
    fn default() -> Self {
        Self {
            ops: 2,
            magnitude: 9.0,
            magnitude_std: 0.5,
            prob: 0.5,
            increasing: true,
            interpolation: InterpolationChoice::Bicubic,
            fill: [124, 116, 104],
        }
    }
}

/// The operations [`RandAugment`] draws from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // Each is the step of the same name.
pub enum RandOp {
    AutoContrast,
    Equalize,
    Invert,
    Rotate,
    Posterize,
    Solarize,
    SolarizeAdd,
    Colour,
    Contrast,
    Brightness,
    Sharpness,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
}

/// One operation with its argument.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RandStep {
    /// Stretches each channel to 0..255.
    AutoContrast,
    /// Makes the levels of each channel about equally frequent.
    Equalize,
    /// Inverts all levels.
    Invert,
    /// Keeps this many of the highest bits.
    Posterize(u8),
    /// Inverts the levels from here on; 256 leaves all.
    Solarize(u16),
    /// Adds this to the levels below 128.
    SolarizeAdd(u8),
    /// Blends with the grey image by this factor.
    Colour(f64),
    /// Blends with the mean grey by this factor.
    Contrast(f64),
    /// Blends with black by this factor.
    Brightness(f64),
    /// Blends with the smoothed image by this factor.
    Sharpness(f64),
    /// Turns, shears or shifts.
    Affine(Affine, Interpolation),
}

impl RandOp {
    /// All of them; each is drawn as often as any other.
    pub const ALL: [Self; 15] = [
        Self::AutoContrast,
        Self::Equalize,
        Self::Invert,
        Self::Rotate,
        Self::Posterize,
        Self::Solarize,
        Self::SolarizeAdd,
        Self::Colour,
        Self::Contrast,
        Self::Brightness,
        Self::Sharpness,
        Self::ShearX,
        Self::ShearY,
        Self::TranslateX,
        Self::TranslateY,
    ];

    /// The operation at a `magnitude` from 0 to 10. `negative` turns the sign of arguments that have one;
    /// `increasing` takes the arguments that change the image more as the magnitude grows.
    pub fn at(self, magnitude: f64, increasing: bool, negative: bool, interpolation: Interpolation) -> RandStep {
        let part = magnitude / MOST;
        let signed = |x: f64| if negative { -x } else { x };
        let factor = if increasing { (1.0 + signed(part * 0.9)).max(0.1) } else { part * 1.8 + 0.1 };
        let moved = |change: Affine| RandStep::Affine(change, interpolation);
        match self {
            Self::AutoContrast => RandStep::AutoContrast,
            Self::Equalize => RandStep::Equalize,
            Self::Invert => RandStep::Invert,
            Self::Posterize => {
                let bits = (part * 4.0) as u8;
                RandStep::Posterize(if increasing { 4 - bits.min(4) } else { bits })
            }
            Self::Solarize => {
                let threshold = ((part * 256.0) as u16).min(256);
                RandStep::Solarize(if increasing { 256 - threshold } else { threshold })
            }
            Self::SolarizeAdd => RandStep::SolarizeAdd(((part * 110.0) as u8).min(128)),
            Self::Colour => RandStep::Colour(factor),
            Self::Contrast => RandStep::Contrast(factor),
            Self::Brightness => RandStep::Brightness(factor),
            Self::Sharpness => RandStep::Sharpness(factor),
            Self::Rotate => moved(Affine::Rotate(signed(part * 30.0))),
            Self::ShearX => moved(Affine::ShearX(signed(part * 0.3))),
            Self::ShearY => moved(Affine::ShearY(signed(part * 0.3))),
            Self::TranslateX => moved(Affine::TranslateX(signed(part * 0.45))),
            Self::TranslateY => moved(Affine::TranslateY(signed(part * 0.45))),
        }
    }
}

impl RandStep {
    /// Applies the operation to an image; `fill` is the colour of what lay outside.
    pub fn apply(&self, image: &Image, fill: [u8; 3]) -> Image {
        let mut planes = Planes::from_image(image);
        self.apply_to(&mut planes, fill);
        planes.to_image()
    }

    pub(crate) fn apply_to(&self, planes: &mut Planes, fill: [u8; 3]) {
        match *self {
            Self::AutoContrast => levels::auto_contrast(planes),
            Self::Equalize => levels::equalize(planes),
            Self::Invert => levels::invert(planes),
            Self::Posterize(bits) => levels::posterize(planes, bits),
            Self::Solarize(threshold) => levels::solarize_from(planes, threshold),
            Self::SolarizeAdd(add) => levels::solarize_add(planes, add),
            Self::Colour(factor) => colour::saturation(planes, factor),
            Self::Contrast(factor) => colour::contrast(planes, factor),
            Self::Brightness(factor) => colour::brightness(planes, factor),
            Self::Sharpness(factor) => levels::sharpness(planes, factor),
            Self::Affine(change, interpolation) => affine(planes, change, interpolation, fill),
        }
    }
}

impl RandAugment {
    /// Draws the operations for one image. The generator takes the same number of steps whatever is drawn.
    pub fn draw(&self, rng: &mut Rng) -> Vec<RandStep> {
        let one = |_| {
            let op = RandOp::ALL[rng.below(RandOp::ALL.len() as u64) as usize];
            let applied = rng.chance(self.prob);
            let magnitude = (self.magnitude + self.magnitude_std * normal(rng)).clamp(0.0, MOST);
            let negative = rng.chance(0.5);
            let bicubic = rng.chance(0.5);
            let interpolation = match self.interpolation {
                InterpolationChoice::Bilinear => Interpolation::Bilinear,
                InterpolationChoice::Bicubic => Interpolation::Bicubic,
                InterpolationChoice::Random if bicubic => Interpolation::Bicubic,
                InterpolationChoice::Random => Interpolation::Bilinear,
            };
            applied.then(|| op.at(magnitude, self.increasing, negative, interpolation))
        };
        (0..self.ops).filter_map(one).collect()
    }

    pub(super) fn validate(&self) -> Result<(), DataError> {
        if !(0.0..=1.0).contains(&self.prob) {
            return Err(DataError::config("RandAugment probability", "a probability from 0 to 1", self.prob));
        }
        if !(0.0..=MOST).contains(&self.magnitude) {
            return Err(DataError::config("RandAugment magnitude", "0 to 10", self.magnitude));
        }
        if !(0.0..=MOST).contains(&self.magnitude_std) {
            let found = self.magnitude_std;
            return Err(DataError::config("RandAugment magnitude_std", "0 to 10", found));
        }
        Ok(())
    }
}
