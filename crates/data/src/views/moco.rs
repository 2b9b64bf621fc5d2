//! The two views of MoCo v2 and DenseCL.

use serde::{Deserialize, Serialize};

use super::{Blur, ColourJitter, CropBox, Filter, IMAGENET_MEAN, IMAGENET_STD, ViewParams, ViewPlan, ViewSpec};

/// What differs between contrastive runs; the defaults are the published recipe of MoCo v2 and DenseCL.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MocoViews {
    /// Side of the views in pixels.
    pub size_px: u32,
    /// Area range of the crops.
    pub scale: [f32; 2],
    /// Range of the blur's σ in pixels; `None` turns blur off, as is usual for images of 32 pixels.
    pub blur_sigma: Option<[f32; 2]>,
}

impl Default for MocoViews {
    fn default() -> Self {
        Self { size_px: 224, scale: [0.2, 1.0], blur_sigma: Some([0.1, 2.0]) }
    }
}

impl ViewPlan {
    /// Two views alike, the query's and the key's: bilinear crops, flip 0.5, jitter (0.4, 0.4, 0.4, 0.1) with probability
    /// 0.8, greyscale 0.2, blur 0.5. ImageNet mean and standard deviation. ("aug-plus" of MoCo v2.)
    pub fn moco(config: MocoViews) -> Self {
        let view = ViewSpec {
            size_px: config.size_px,
            scale: config.scale,
            jitter: Some(ColourJitter { prob: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 }),
            grayscale_prob: 0.2,
            blur: config.blur_sigma.map(|sigma| Blur::pil(0.5, sigma)),
            filter: Filter::Bilinear,
            ..ViewSpec::default()
        };
        let views = ["query", "key"].map(|title| ViewSpec { title: title.to_owned(), ..view.clone() });
        Self { views: views.to_vec(), mean: IMAGENET_MEAN, std: IMAGENET_STD }
    }
}

/// What a view shows of its image: all that geometry needs of [`ViewParams`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewPlace {
    /// The part of the image.
    pub crop: CropBox,
    /// Mirrored left to right.
    pub flip: bool,
}

impl From<&ViewParams> for ViewPlace {
    fn from(params: &ViewParams) -> Self {
        let crop = params.window.map_or(params.crop, |window| window.of(params.crop, params.flip));
        Self { crop, flip: params.flip }
    }
}
