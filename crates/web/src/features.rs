//! Features of a picture for classifiers and searches, prepared as evaluations prepare it.

use ocelli_data::EvalTransform;
use ocelli_models::weights::StateDict;
use ocelli_models::{AnyBackbone, BackboneConfig, ProbeError, ProbeFeatures, Vit, params};
use serde::Deserialize;
use wasm_bindgen::prelude::*;

use crate::model::channels;
use crate::picture::{from_rgba, to_tensor};
use crate::traced::read;
use crate::{Model, WebError};

/// Largest side a picture is scaled or cut to, pixels.
const MAX_PX: u32 = 2048;

/// What is wanted of a picture: `FeatureOptions` of the package.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    kind: String,
    /// Short side; 0 leaves the picture as it is.
    resize: u32,
    /// Side of the centre crop; 0 takes all.
    crop: u32,
    mean: Option<Vec<f32>>,
    std: Option<Vec<f32>>,
}

#[wasm_bindgen]
impl Model {
    /// Numbers of a picture that a classifier takes (see [`ProbeFeatures`]), by the steps of `ocelli embed` and
    /// `ocelli classify`. `wanted` is JSON: `kind`, `resize`, `crop`, and `mean` and `std` where they are not the
    /// network's.
    ///
    /// # Errors
    /// `argument` for a kind the network has not and sizes out of range, `image` when bytes and size do not fit
    /// together, `device` when reading fails.
    pub async fn features(
        &self,
        rgba: &[u8],
        width: u32,
        height: u32,
        wanted: &str,
    ) -> Result<Vec<f32>, WebError> {
        let expected = "JSON with kind, resize and crop";
        let wanted: Wanted =
            serde_json::from_str(wanted).map_err(|e| WebError::argument("features", expected, e))?;
        let refuse = |e: ProbeError| WebError::argument("features", e.expected, e.found);
        let kind: ProbeFeatures = wanted.kind.parse().map_err(refuse)?;
        kind.width(&BackboneConfig::Vit(self.config.clone())).map_err(refuse)?;
        if wanted.resize.max(wanted.crop) > MAX_PX {
            let found = format!("{} and {}", wanted.resize, wanted.crop);
            return Err(WebError::argument("resize and crop", format!("at most {MAX_PX} px"), found));
        }
        let px = |side: u32| (side > 0).then_some(side);
        let transform = EvalTransform {
            resize_short_px: px(wanted.resize),
            crop_px: px(wanted.crop),
            ..EvalTransform::default()
        };
        let image = transform.apply(&from_rgba(rgba, width, height)?);
        let patch = self.network.vit.patch_size_px();
        if (image.width.min(image.height) as usize) < patch {
            let found = format!("{} × {} px", image.width, image.height);
            return Err(WebError::argument("resize and crop", format!("a patch of {patch} px at least"), found));
        }
        let mean = channels("mean", wanted.mean, self.network.mean)?;
        let std = channels("std", wanted.std, self.network.std)?;
        let pixels = to_tensor(&image, mean, std, &self.network.device);
        // A copy shares the tensors.
        read(kind.of(&AnyBackbone::Vit(self.network.vit.clone()), pixels)).await
    }
}

/// CRC-32 of names, shapes and values in the network's order, by which it is known again: the `backbone_crc32`
/// that `ocelli eval linear` writes beside a classifier.
pub(crate) fn fingerprint(vit: &Vit, state: &StateDict) -> String {
    let mut hasher = crc32fast::Hasher::new();
    for param in params::collect(vit) {
        if let Some(tensor) = state.get(&param.name) {
            hasher.update(format!("{} {:?}\n", param.name, tensor.shape).as_bytes());
            hasher.update(bytemuck::cast_slice(&tensor.values));
        }
    }
    format!("{:08x}", hasher.finalize())
}
