//! What a network makes of whole pictures: attention, features of cells, features of an image.

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_data::{Image, normalise_into};
use ocelli_eval::attention::AttentionMap;
use ocelli_eval::features::Pooling;
use ocelli_models::weights::preprocessing::Statistics;
use ocelli_models::{AnyBackbone, Backbone as _, Mode, Vit};

use crate::TrainError;

/// Features of an image's cells.
#[derive(Debug, Clone, PartialEq)]
pub struct Cells {
    /// `[rows, columns, dim]`, row-major.
    pub values: Vec<f32>,
    /// Cells down and across.
    pub grid: [usize; 2],
    /// Length of a feature.
    pub dim: usize,
}

/// Features of images, as they were pooled.
#[derive(Debug, Clone, PartialEq)]
pub struct Pooled {
    /// `[images, rows, dim]`, row-major.
    pub values: Vec<f32>,
    /// Rows per image: 1, or with [`Pooling::Patches`] its cells.
    pub rows: usize,
    /// Length of a row.
    pub dim: usize,
}

/// An image as the network wants it, `[1, 3, height, width]`: normalised, at the size that it has.
pub fn image_tensor(image: &Image, statistics: &Statistics, device: &Device) -> Tensor<4> {
    let (width, height) = (image.width as usize, image.height as usize);
    let mut data = vec![0.0; 3 * width * height];
    normalise_into(image, statistics.mean, statistics.std, &mut data);
    Tensor::from_data(TensorData::new(data, [1, 3, height, width]), device)
}

/// What the class token attends to in the last block, of one image `[1, 3, height, width]`. Its sides are multiples of the
/// patch, as [`fit_to_cells`](ocelli_data::fit_to_cells) makes them.
///
/// # Errors
/// When the attention cannot be read back, or is not finite.
pub fn attention_of(vit: &Vit, image: Tensor<4>) -> Result<AttentionMap, TrainError> {
    let [_, _, height, width] = image.dims();
    let patch = vit.patch_size_px();
    let values = read(vit.cls_attention(image), "the attention")?;
    Ok(AttentionMap::new(vit.heads(), height / patch, width / patch, values)?)
}

/// Features of the cells of one image `[1, 3, height, width]`.
///
/// # Errors
/// When they cannot be read back.
pub fn cells_of(encoder: &AnyBackbone, image: Tensor<4>) -> Result<Cells, TrainError> {
    let map = encoder.feature_map(image, Mode::Eval);
    let [_, dim, rows, cols] = map.dims();
    let values = read(map.reshape([dim, rows * cols]).transpose(), "the features")?;
    Ok(Cells { values, grid: [rows, cols], dim })
}

/// Features of images of one size, `[images, 3, height, width]`.
///
/// # Errors
/// When there is no cell, or they cannot be read back.
pub fn pooled_features(encoder: &AnyBackbone, images: Tensor<4>, pooling: Pooling) -> Result<Pooled, TrainError> {
    let pooled = pooling.apply(encoder.tokens(images))?;
    let [_, rows, dim] = pooled.dims();
    Ok(Pooled { values: read(pooled, "the features")?, rows, dim })
}

impl Cells {
    /// The features on a device, `[rows·columns, dim]`.
    pub fn rows(&self, device: &Device) -> Tensor<2> {
        let [rows, cols] = self.grid;
        Tensor::from_data(TensorData::new(self.values.clone(), [rows * cols, self.dim]), device)
    }
}

fn read<const D: usize>(tensor: Tensor<D>, what: &str) -> Result<Vec<f32>, TrainError> {
    tensor
        .into_data()
        .try_to_vec::<f32>()
        .map_err(|e| TrainError::Device(format!("cannot read {what} back: {e:?}")))
}
