//! One picture seen by one network: maps, features and colours of it, without another pass.

use std::rc::Rc;

use burn::tensor::Tensor;
use ocelli_eval::pca::pca_rgb;
use ocelli_models::Trace;
use wasm_bindgen::prelude::*;

use crate::WebError;
use crate::compare::Matches;
use crate::model::Network;

/// A picture inside a network. Holds what lies between the blocks on the device; `free()` gives it back.
#[wasm_bindgen]
pub struct TracedPicture {
    network: Rc<Network>,
    trace: Trace,
    width: usize,
    height: usize,
    prepare_ms: f64,
}

impl TracedPicture {
    pub(crate) fn new(
        network: &Rc<Network>,
        pixels: Tensor<4>,
        width: usize,
        height: usize,
        prepare_ms: f64,
    ) -> Self {
        let trace = network.vit.trace(pixels);
        Self { network: network.clone(), trace, width, height, prepare_ms }
    }

    /// See [`TracedPicture::attention`]; `[batch, heads, 1 + rows·columns]`.
    pub(crate) fn attention_on_device(&self, layer: usize, query: usize) -> Result<Tensor<3>, WebError> {
        let (depth, tokens) = (self.network.vit.blocks.len(), 1 + self.trace.grid().cells());
        if layer >= depth {
            return Err(WebError::argument("layer", format!("0 to {}", depth - 1), layer));
        }
        if query >= tokens {
            return Err(WebError::argument("query", format!("0 to {}", tokens - 1), query));
        }
        Ok(self.network.vit.traced_attention(&self.trace, layer, query))
    }
}

#[wasm_bindgen]
impl TracedPicture {
    /// Width in pixels of what the network saw.
    #[wasm_bindgen(getter)]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels of what the network saw.
    #[wasm_bindgen(getter)]
    pub fn height(&self) -> usize {
        self.height
    }

    /// Milliseconds that went into the picture before the network: scaling, normalising, and the way to the device.
    #[wasm_bindgen(getter, js_name = prepareMs)]
    pub fn prepare_ms(&self) -> f64 {
        self.prepare_ms
    }

    /// Patches along the height.
    #[wasm_bindgen(getter)]
    pub fn rows(&self) -> usize {
        self.trace.grid().rows
    }

    /// Patches along the width.
    #[wasm_bindgen(getter)]
    pub fn columns(&self) -> usize {
        self.trace.grid().cols
    }

    /// What a query attends to in block `layer` (0 is the first): `[batch, heads, 1 + rows·columns]`, the class token's
    /// column first. Query 0 is the class token, query 1 + i patch i.
    ///
    /// # Errors
    /// `argument` for a block or query that is not there, `device` when reading fails.
    pub async fn attention(&self, layer: usize, query: usize) -> Result<Vec<f32>, WebError> {
        read(self.attention_on_device(layer, query)?).await
    }

    /// All tokens after the final norm, `[batch, 1 + rows·columns, dim]`, the class token first.
    ///
    /// # Errors
    /// `device` when reading fails.
    pub async fn tokens(&self) -> Result<Vec<f32>, WebError> {
        read(self.network.vit.traced_tokens(&self.trace)).await
    }

    /// Colours of the patches of the first picture, `[rows·columns, 3]`: their three leading principal components.
    ///
    /// # Errors
    /// `device` when reading fails.
    pub async fn colours(&self) -> Result<Vec<u8>, WebError> {
        Ok(pca_rgb(&self.patches().await?, self.network.vit.dim())?)
    }

    /// For every patch here the most similar patch of another picture.
    ///
    /// # Errors
    /// `argument` when the pictures were seen by networks of different width, `device` when reading fails.
    #[wasm_bindgen(js_name = matchWith)]
    pub async fn match_with(&self, other: &TracedPicture) -> Result<Matches, WebError> {
        let (dim, theirs) = (self.network.vit.dim(), other.network.vit.dim());
        if dim != theirs {
            return Err(WebError::argument("match", format!("features of width {dim}"), theirs));
        }
        Ok(Matches::of(&self.patches().await?, &other.patches().await?, dim))
    }

    async fn patches(&self) -> Result<Vec<f32>, WebError> {
        let cells = self.trace.grid().cells();
        let tokens = self.network.vit.traced_tokens(&self.trace);
        read(tokens.narrow(0, 0, 1).narrow(1, 1, cells)).await
    }
}

/// Values off the device, row-major.
///
/// # Errors
/// `device` when reading fails.
pub async fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, WebError> {
    let data = tensor.into_data_async().await;
    let data = data.map_err(|e| WebError::Device(format!("the device did not give its result: {e}")))?;
    data.try_to_vec::<f32>().map_err(|e| WebError::Device(format!("the device gave no f32 values: {e:?}")))
}
