//! Features of a picture for classifiers and searches, prepared as evaluations prepare it.

use ocelli_data::EvalTransform;
use ocelli_models::weights::StateDict;
use ocelli_models::{BackboneConfig, ProbeError, ProbeFeatures, Vit, params};
use wasm_bindgen::prelude::*;

use crate::model::channels;
use crate::picture::{from_rgba, to_tensor};
use crate::traced::read;
use crate::{Model, WebError};

/// Largest side a picture is scaled or cut to, pixels.
const MAX_PX: u32 = 2048;

#[wasm_bindgen]
impl Model {
    /// Numbers of a picture that a classifier takes (see [`ProbeFeatures`]), by the steps of `ocelli embed` and
    /// `ocelli classify`: short side scaled to `resize`, the middle `crop` square cut out (pixels; 0 for neither), `mean` and
    /// `std` where they are not the network's.
    ///
    /// # Errors
    /// `argument` for a kind the network has not and sizes out of range, `image` when bytes and size do not fit
    /// together, `device` when reading fails.
    #[allow(clippy::too_many_arguments)] // A struct read from JSON is kilobytes of code in every download.
    pub async fn features(
        &self,
        rgba: &[u8],
        width: u32,
        height: u32,
        kind: &str,
        resize: u32,
        crop: u32,
        mean: Option<Vec<f32>>,
        std: Option<Vec<f32>>,
    ) -> Result<Vec<f32>, WebError> {
        let refuse = |e: ProbeError| WebError::argument("features", e.expected, e.found);
        let kind: ProbeFeatures = kind.parse().map_err(refuse)?;
        kind.width(&BackboneConfig::Vit(self.config.clone())).map_err(refuse)?;
        if resize.max(crop) > MAX_PX {
            let found = format!("{resize} and {crop}");
            return Err(WebError::argument("resize and crop", format!("at most {MAX_PX} px"), found));
        }
        let px = |side: u32| (side > 0).then_some(side);
        let transform =
            EvalTransform { resize_short_px: px(resize), crop_px: px(crop), ..EvalTransform::default() };
        let image = transform.apply(&from_rgba(rgba, width, height)?);
        let patch = self.network.vit.patch_size_px();
        if (image.width.min(image.height) as usize) < patch {
            let found = format!("{} × {} px", image.width, image.height);
            return Err(WebError::argument("resize and crop", format!("a patch of {patch} px at least"), found));
        }
        let mean = channels("mean", mean, self.network.mean)?;
        let std = channels("std", std, self.network.std)?;
        let pixels = to_tensor(&image, mean, std, &self.network.device);
        read(kind.of_vit(&self.network.vit, pixels)).await
    }
}

/// CRC-32 of names, shapes and values in the network's order, by which it is known again: the `backbone_crc32`
/// that `ocelli eval linear` writes beside a classifier.
pub(crate) fn fingerprint(vit: &Vit, state: &StateDict) -> String {
    let mut crc = Crc::new();
    for param in params::collect(vit) {
        if let Some(tensor) = state.get(&param.name) {
            crc.update(format!("{} {:?}\n", param.name, tensor.shape).as_bytes());
            crc.update(bytemuck::cast_slice(&tensor.values));
        }
    }
    format!("{:08x}", !crc.state)
}

/// CRC-32 (the polynomial of zip and PNG), a byte at a time: the tables of a faster one are 16 kB of noise in every download.
struct Crc {
    table: [u32; 256],
    state: u32,
}

impl Crc {
    fn new() -> Self {
        let of_byte = |byte: usize| {
            (0..8).fold(byte as u32, |crc, _| if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 })
        };
        Self { table: std::array::from_fn(of_byte), state: !0 }
    }

    fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.state = self.table[((self.state ^ u32::from(*byte)) & 0xff) as usize] ^ (self.state >> 8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value that catalogues of CRCs give.
    #[test]
    fn the_sum_is_the_usual_one() {
        let mut crc = Crc::new();
        crc.update(b"1234");
        crc.update(b"56789");
        assert_eq!(!crc.state, 0xCBF4_3926);
    }
}
