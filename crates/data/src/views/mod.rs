//! Views: which part of an image, which colour changes, and the arithmetic that makes them. Any method's.
//!
//! A [`ViewSpec`] says with what probabilities; [`ViewSpec::sample`] draws a [`ViewParams`], in which nothing is random
//! any more; [`ViewSpec::render`] applies it. The order is crop and resize, flip, the view's [`ViewSpec::order`] (usually
//! colour jitter, greyscale, blur, solarize, RandAugment), normalise, erase. Formulas on 8 bits: PIL and torchvision, matched
//! to the level. SimCLR and BYOL change colours on floats: [`Colour::Floats`]. [`Mix`] mixes whole batches.
//!
//! Images with boxes or labels have views of their own, in which both go along with the pixels: [`DetectionViews`],
//! [`SegmentationViews`].
//!
//! ```
//! use ocelli_data::views::{EvalTransform, IMAGENET_MEAN, IMAGENET_STD, ViewSpec};
//! use ocelli_data::{Image, Rng};
//!
//! let image = Image::filled(40, 20, [255, 0, 0]);
//!
//! // A random crop, drawn and then rendered.
//! let spec = ViewSpec { size_px: 8, ..ViewSpec::default() };
//! let view = spec.render(&image, &spec.sample(image.width, image.height, &mut Rng::from_words(&[1])));
//! assert_eq!((view.width, view.height, view.pixel(3, 3)), (8, 8, Some([255, 0, 0])));
//!
//! // What an evaluation sees: the centre, normalised.
//! let transform = EvalTransform { resize_short_px: Some(16), crop_px: Some(14), ..EvalTransform::default() };
//! let (pixels, width, height) = transform.apply_normalised(&image);
//! assert_eq!((width, height, pixels.len()), (14, 14, 3 * 14 * 14));
//! assert!((pixels[0] - (1.0 - IMAGENET_MEAN[0]) / IMAGENET_STD[0]).abs() < 1e-5);
//! ```

mod affine;
mod blur;
mod colour;
mod convolve;
mod crop;
mod detection;
mod distortion;
mod distribution;
mod erase;
mod eval;
mod fit;
mod floats;
mod hue;
mod levels;
mod mix;
mod moco;
mod padded;
mod plan;
mod planes;
mod randaugment;
mod render;
mod resize;
mod sample;
mod segmentation;
mod spec;
mod view_box;

pub use affine::{Affine, Interpolation};
pub use blur::ExtendedBox;
pub use convolve::{blur_kernel, blur_radius, convolution_blur};
pub use crop::{Crop, Grid, Window};
pub use detection::{DetectionSample, DetectionViews, short_side_size};
pub use erase::{Erase, EraseBox, erase, erase_size};
pub use eval::EvalTransform;
pub use fit::{FittedImage, fit_to_cells};
pub use floats::{FloatBrightness, FloatPlanes};
pub use hue::{hsv_table, hue_shift};
pub use mix::{Mix, MixDraw, cutmix, cutmix_box, mixup, soft_targets};
pub use moco::{MocoViews, ViewPlace};
pub use padded::{DetectionBatch, SegmentationBatch};
pub use plan::{DinoViews, IMAGENET_MEAN, IMAGENET_STD, ViewPlan};
pub use randaugment::{InterpolationChoice, RandAugment, RandOp, RandStep};
pub use render::{Scratch, normalise_into};
pub use resize::{CropBox, Filter, Taps, resized_crop};
pub use sample::{JitterStep, ViewParams, random_resized_crop_size};
pub use segmentation::{SegmentationSample, SegmentationTest, SegmentationViews, TestView, fitted_size};
pub use spec::{Blur, BlurKind, Colour, ColourJitter, ViewSpec, ViewStep};
pub use view_box::ViewBox;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_detection;
#[cfg(test)]
mod tests_draws;
#[cfg(test)]
mod tests_golden;
#[cfg(test)]
mod tests_listed;
#[cfg(test)]
mod tests_more;
#[cfg(test)]
mod tests_recipes;
#[cfg(test)]
mod tests_segmentation;
