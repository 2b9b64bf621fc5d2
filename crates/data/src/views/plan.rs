//! The views of one sample, as a recipe.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Blur, ColourJitter, Crop, Scratch, ViewParams, ViewSpec};
use crate::{DataError, Image, Rng};

/// Channel means of ImageNet, of levels scaled to 0..1.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Channel standard deviations of ImageNet, of levels scaled to 0..1.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// The views made of every sample, and how they are normalised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ViewPlan {
    /// One entry per view, in the order the method expects them.
    pub views: Vec<ViewSpec>,
    /// Subtracted from levels scaled to 0..1.
    pub mean: [f32; 3],
    /// Divides what is left.
    pub std: [f32; 3],
}

/// What differs between DINO runs; the defaults are the published recipe.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DinoViews {
    /// Side of the two global views in pixels.
    pub global_size_px: u32,
    /// Side of the local views in pixels.
    pub local_size_px: u32,
    /// Area range of the global crops.
    pub global_scale: [f32; 2],
    /// Area range of the local crops.
    pub local_scale: [f32; 2],
    /// Number of local views.
    pub local_crops: usize,
    /// Range of the blur's σ in pixels; `None` turns blur off, as is usual for images of 32 pixels.
    pub blur_sigma: Option<[f32; 2]>,
}

impl Default for DinoViews {
    fn default() -> Self {
        Self {
            global_size_px: 224,
            local_size_px: 96,
            global_scale: [0.4, 1.0],
            local_scale: [0.05, 0.4],
            local_crops: 8,
            blur_sigma: Some([0.1, 2.0]),
        }
    }
}

impl ViewPlan {
    /// Two global views, then the local ones: bicubic crops, flip 0.5, jitter (0.4, 0.4, 0.2, 0.1) with probability
    /// 0.8, grayscale 0.2; blur 1.0 / 0.1 / 0.5 for the first, the second and the local views; solarize 0.2 for the
    /// second. ImageNet mean and standard deviation. (DINO's augmentation table.)
    pub fn dino(config: DinoViews) -> Self {
        let view = |title: String, size_px, scale, blur_prob, solarize_prob| ViewSpec {
            title,
            size_px,
            scale,
            jitter: Some(ColourJitter { prob: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.2, hue: 0.1 }),
            grayscale_prob: 0.2,
            blur: config.blur_sigma.map(|sigma| Blur::pil(blur_prob, sigma)),
            solarize_prob,
            ..ViewSpec::default()
        };
        let mut views = vec![
            view("global 1".to_owned(), config.global_size_px, config.global_scale, 1.0, 0.0),
            view("global 2".to_owned(), config.global_size_px, config.global_scale, 0.1, 0.2),
        ];
        let local = |i| view(format!("local {i}"), config.local_size_px, config.local_scale, 0.5, 0.0);
        views.extend((1..=config.local_crops).map(local));
        Self { views, mean: IMAGENET_MEAN, std: IMAGENET_STD }
    }

    /// Runs of consecutive views of one size: (side in pixels, which views). Each is one pass through a network.
    pub fn groups(&self) -> Vec<(u32, Range<usize>)> {
        let mut groups: Vec<(u32, Range<usize>)> = Vec::new();
        for (i, view) in self.views.iter().enumerate() {
            match groups.last_mut() {
                Some((size_px, range)) if *size_px == view.size_px => range.end = i + 1,
                _ => groups.push((view.size_px, i..i + 1)),
            }
        }
        groups
    }

    /// Whether the GPU path renders every view of the plan; otherwise views are the CPU's work.
    pub fn gpu_ready(&self) -> bool {
        self.views.iter().all(ViewSpec::gpu_ready)
    }

    /// Draws every view of an image.
    pub fn draw_all(&self, image: &Image, rng: &mut Rng) -> Vec<ViewParams> {
        let mut canvas = None;
        let draw = |view: &ViewSpec| view.sample_after(image.width, image.height, rng, &mut canvas);
        self.views.iter().map(draw).collect()
    }

    /// Renders what [`ViewPlan::draw_all`] drew for an image; `outs` holds one `[3, size, size]` slice per view.
    pub fn render_all(&self, image: &Image, drawn: &[ViewParams], scratch: &mut Scratch, outs: &mut [&mut [f32]]) {
        for ((view, params), out) in self.views.iter().zip(drawn).zip(outs) {
            view.render_into(image, params, self.mean, self.std, scratch, out);
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`DataError::Config`] naming the first setting outside its range.
    pub fn validate(&self) -> Result<(), DataError> {
        if self.views.is_empty() {
            return Err(DataError::config("view plan", "at least one view", "none"));
        }
        if self.mean.iter().any(|m| !m.is_finite()) || self.std.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
            return Err(DataError::config(
                "normalisation",
                "finite means and positive standard deviations",
                format!("mean {:?}, std {:?}", self.mean, self.std),
            ));
        }
        self.views.iter().try_for_each(ViewSpec::validate)?;
        self.validate_grids()
    }

    /// The patches of a grid share what the first drew: they follow each other, and crop and flip are drawn alike.
    fn validate_grids(&self) -> Result<(), DataError> {
        let mut before: Option<&ViewSpec> = None;
        for (i, view) in self.views.iter().enumerate() {
            if let Crop::Patch { grid, number } = view.crop
                && number > 0
            {
                let first = |v: &&ViewSpec| {
                    v.crop == Crop::Patch { grid, number: number - 1 }
                        && (v.scale, v.ratio, v.flip_prob) == (view.scale, view.ratio, view.flip_prob)
                };
                if before.filter(first).is_none() {
                    let expected =
                        format!("patch {} of the same grid, scale, ratio and flip before it", number - 1);
                    return Err(DataError::config(
                        format!("view {} of the plan, patch {number}", i + 1),
                        expected,
                        before.map_or("no view".to_owned(), |v| format!("{:?}", v.crop)),
                    ));
                }
            }
            before = Some(view);
        }
        Ok(())
    }
}
