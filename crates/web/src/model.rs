//! A backbone out of a file's bytes.

use std::collections::BTreeMap;
use std::rc::Rc;

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_models::weights::preprocessing::{EvalSize, Preprocessing, Statistics, Told};
use ocelli_models::weights::{Family, ModuleState as _, StateDict, Weights};
use ocelli_models::{Arch, Init, Vit, VitConfig, usual_side_px};
use serde_json::json;
use wasm_bindgen::prelude::*;

use crate::features::fingerprint;
use crate::picture::{fit, from_rgba, to_tensor};
use crate::{Engine, TracedPicture, WebError};

#[wasm_bindgen]
extern "C" {
    /// Milliseconds by the worker's clock.
    #[wasm_bindgen(js_namespace = performance)]
    fn now() -> f64;
}

/// What a look needs of the network it came from.
pub struct Network {
    /// The network.
    pub vit: Vit,
    /// Where it lies.
    pub device: Device,
    /// Taken off pixels in 0..1.
    pub mean: [f32; 3],
    /// Divides what is left.
    pub std: [f32; 3],
}

/// A loaded network.
#[wasm_bindgen]
pub struct Model {
    pub(crate) network: Rc<Network>,
    pub(crate) config: VitConfig,
    format: String,
    /// What was done to the file's tensors, in words.
    notes: Vec<String>,
    parameters: usize,
    normalisation: String,
    size: EvalSize,
    fingerprint: String,
}

#[wasm_bindgen]
impl Model {
    /// Reads weights: safetensors, or PyTorch's `.pth`, in DINO's, DINOv2's or timm's names. `heads` where the file does not tell (a
    /// width that is no multiple of 64); `mean` and `std` of the pixels in 0..1, if left out what the file says, else
    /// ImageNet's.
    ///
    /// # Errors
    /// `weights` when the bytes are none, hold another network, or contradict themselves; nothing in them is run.
    pub fn load(
        engine: &Engine,
        bytes: &[u8],
        heads: Option<usize>,
        mean: Option<Vec<f32>>,
        std: Option<Vec<f32>>,
    ) -> Result<Model, WebError> {
        let weights = Weights::open(bytes)?;
        let (config, state, notes) = backbone_of(&weights, heads)?;
        let vit = config.init(&mut Init::blank(&engine.device))?;
        let fingerprint = fingerprint(&vit, &state);
        let vit = state.load_into(vit)?;
        let size = eval_size(weights.metadata(), &config);
        let statistics = statistics(weights.metadata(), mean, std)?;
        let Statistics { mean, std } = statistics.value;
        let network = Network { vit, device: engine.device.clone(), mean, std };
        let parameters = config.num_parameters();
        let format = weights.format().to_owned();
        let normalisation = statistics.to_string();
        let network = Rc::new(network);
        Ok(Self { network, config, format, notes, parameters, normalisation, size, fingerprint })
    }

    /// The network's numbers, as JSON.
    pub fn describe(&self) -> String {
        let VitConfig { dim, depth, heads, patch_size_px, image_size_px, registers, .. } = self.config;
        json!({
            "arch": self.config.arch().to_string(),
            "dim": dim, "depth": depth, "heads": heads, "patch": patch_size_px, "imageSize": image_size_px,
            "registers": registers, "notes": self.notes,
            "parameters": self.parameters, "format": self.format,
            "mean": self.network.mean, "std": self.network.std, "normalisation": self.normalisation,
            "resize": self.size.resize_px, "crop": self.size.crop_px, "fingerprint": self.fingerprint,
        })
        .to_string()
    }

    /// Runs a picture through the network, its long side scaled to `long_px` (0 keeps it) and cropped to whole patches.
    ///
    /// # Errors
    /// `image` when bytes and size do not fit together.
    pub fn look(&self, rgba: &[u8], width: u32, height: u32, long_px: u32) -> Result<TracedPicture, WebError> {
        TracedPicture::of(&self.network, rgba, width, height, long_px)
    }

    /// The same for pixels already normalised, `[batch, 3, height, width]`.
    ///
    /// # Errors
    /// `image` when the number of values does not fit.
    #[wasm_bindgen(js_name = lookAt)]
    pub fn look_at(
        &self,
        values: Vec<f32>,
        batch: usize,
        height: usize,
        width: usize,
    ) -> Result<TracedPicture, WebError> {
        let patch = self.config.patch_size_px;
        if batch == 0 || values.len() != batch * 3 * height * width || height < patch || width < patch {
            let expected = format!("[{batch}, 3, {height}, {width}] values, sides of at least {patch}");
            return Err(WebError::Image(format!("expected {expected}, found {} values", values.len())));
        }
        let data = TensorData::new(values, [batch, 3, height, width]);
        Ok(TracedPicture::new(&self.network, Tensor::from_data(data, &self.network.device), width, height, 0.0))
    }
}

impl TracedPicture {
    /// A picture, `[height, width, 4]` bytes, through a network, its long side scaled to `long_px` (0 keeps it).
    ///
    /// # Errors
    /// `image` when bytes and size do not fit together.
    pub fn of(
        network: &Rc<Network>,
        rgba: &[u8],
        width: u32,
        height: u32,
        long_px: u32,
    ) -> Result<Self, WebError> {
        let began = now();
        let image = fit(&from_rgba(rgba, width, height)?, long_px, network.vit.patch_size_px());
        let pixels = to_tensor(&image, network.mean, network.std, &network.device);
        let prepare_ms = now() - began;
        Ok(Self::new(network, pixels, image.width as usize, image.height as usize, prepare_ms))
    }
}

/// The Vision Transformer to use of a file, its tensors, and what was done to them, in words.
///
/// # Errors
/// `weights` for another network, or one that contradicts itself.
pub fn backbone_of(
    weights: &Weights<'_>,
    heads: Option<usize>,
) -> Result<(VitConfig, StateDict, Vec<String>), WebError> {
    let network = weights.network(None)?;
    if !matches!(network.family, Family::Vit { .. }) {
        let what = weights.layout().name;
        let message = format!("expected the weights of a Vision Transformer, found {what} ({})", network.family);
        return Err(WebError::Weights(message));
    }
    let state = weights.backbone(&network)?;
    let told = state.metadata.get("config").and_then(|c| heads_of_run(c));
    let config = VitConfig::of_weights(&state, heads.or(told)).map_err(WebError::Weights)?;
    Ok((config, state, network.notes()))
}

/// Heads of the run a checkpoint of ours belongs to, whose configuration is TOML with one key a line.
fn heads_of_run(config: &str) -> Option<usize> {
    let line = config.lines().find_map(|l| l.strip_prefix("arch = \"")?.strip_suffix('"'))?;
    line.parse::<Arch>().ok().map(|arch| arch.heads)
}

/// The normalisation that is given, else the file's, else ImageNet's.
fn statistics(
    metadata: &BTreeMap<String, String>,
    mean: Option<Vec<f32>>,
    std: Option<Vec<f32>>,
) -> Result<Told<Statistics>, WebError> {
    if mean.is_some() && std.is_some() {
        let usual = Statistics::IMAGENET;
        let (mean, std) = (channels("mean", mean, usual.mean)?, channels("std", std, usual.std)?);
        return Ok(Told::new(Statistics { mean, std }, "as given"));
    }
    let told = Preprocessing::of_metadata(metadata).map_err(WebError::Weights)?.statistics;
    let told = told.unwrap_or_else(|| Told::guess(Statistics::IMAGENET, "the file does not say"));
    let value =
        Statistics { mean: channels("mean", mean, told.value.mean)?, std: channels("std", std, told.value.std)? };
    Ok(Told { value, ..told })
}

/// The size it is evaluated at: as the file says, as the run it comes from does, or as is usual for its position embeddings.
fn eval_size(metadata: &BTreeMap<String, String>, config: &VitConfig) -> EvalSize {
    // What is wrong with the file's normalisation is told where that is read.
    let told = Preprocessing::of_metadata(metadata).ok().and_then(|said| said.size);
    let of_run = |key: &str| {
        let lines = metadata.get("config")?.lines();
        lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix(" = ")).find_map(|v| v.parse::<usize>().ok())
    };
    let run = of_run("resize_px").zip(of_run("crop_px"));
    let run = run.map(|(resize_px, crop_px)| EvalSize { resize_px, crop_px });
    let usual = || EvalSize::for_side(usual_side_px(config.patch_size_px, config.image_size_px));
    told.map(|told| told.value).or(run).unwrap_or_else(usual)
}

pub(crate) fn channels(
    what: &'static str,
    given: Option<Vec<f32>>,
    default: [f32; 3],
) -> Result<[f32; 3], WebError> {
    let Some(given) = given else { return Ok(default) };
    let fail = || WebError::argument(what, "three numbers (std above 0)", format!("{given:?}"));
    let values = <[f32; 3]>::try_from(given.as_slice()).map_err(|_| fail())?;
    let fine = values.iter().all(|v| v.is_finite() && (what != "std" || *v > 0.0));
    if fine { Ok(values) } else { Err(fail()) }
}
