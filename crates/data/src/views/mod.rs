//! Views: which crop of an image, which colour changes, and the 8-bit arithmetic that makes them.
//!
//! A [`ViewSpec`] says with what probabilities; [`ViewSpec::sample`] draws a [`ViewParams`], in which nothing is random
//! any more; [`ViewSpec::render`] applies it. The order is crop and resize, flip, colour jitter, greyscale, blur,
//! solarize, normalise. Formulas: PIL 11 and torchvision, matched to the level.

mod blur;
mod colour;
mod eval;
mod hue;
mod moco;
mod plan;
mod planes;
mod render;
mod resize;
mod sample;
mod spec;
mod view_box;

pub use blur::ExtendedBox;
pub use eval::EvalTransform;
pub use hue::{hsv_table, hue_shift};
pub use moco::{MocoViews, ViewPlace};
pub use plan::{DinoViews, IMAGENET_MEAN, IMAGENET_STD, ViewPlan};
pub use render::{Scratch, normalise_into};
pub use resize::{CropBox, Filter, Taps, resized_crop};
pub use sample::{JitterStep, ViewParams, random_resized_crop_size};
pub use spec::{Blur, ColourJitter, ViewSpec};
pub use view_box::ViewBox;

#[cfg(test)]
mod tests;
