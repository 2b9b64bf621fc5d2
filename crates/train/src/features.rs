//! Features of a backbone over a source of images.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_data::{BadFile, EvalBatches, EvalTransform, Source, ViewGroup};
use ocelli_models::{AnyBackbone, Backbone as _, Mode};

use crate::{RunConfig, TrainError};

/// At most `limit` entries, evenly spaced; 0 keeps all.
pub(crate) fn thin(indices: Vec<usize>, limit: usize) -> Vec<usize> {
    if limit == 0 || indices.len() <= limit {
        return indices;
    }
    (0..limit).map(|i| indices[i * indices.len() / limit]).collect()
}

/// The view group's pixels on a device, `[views·batch, 3, side, side]`.
pub fn to_tensor(group: &ViewGroup, device: &Device) -> Tensor<4> {
    let side = group.size_px as usize;
    Tensor::from_data(TensorData::new(group.data.clone(), [group.views * group.batch, 3, side, side]), device)
}

/// How images become inputs for evaluation, by a run's configuration.
pub fn eval_transform(config: &RunConfig) -> EvalTransform {
    let some = |px: usize| (px > 0).then_some(px as u32);
    EvalTransform {
        resize_short_px: some(config.eval.resize_px),
        crop_px: some(config.eval.crop_px),
        max_side_px: None,
        mean: config.views.mean,
        std: config.views.std,
    }
}

/// Applies `map` to batches `[n, 3, height, width]` of the images and stacks the rows `[n, dim]` it returns; labels
/// come along. Unreadable images are left out.
pub(crate) fn rows_of(
    images: &(Arc<dyn Source>, Vec<usize>),
    transform: EvalTransform,
    config: &RunConfig,
    device: &Device,
    map: impl Fn(Tensor<4>) -> Tensor<2>,
) -> Result<(Tensor<2>, Vec<u32>), TrainError> {
    rows_and_bad(images, transform, config, device, map).map(|(rows, labels, _)| (rows, labels))
}

/// The same with the images that were left out.
pub(crate) fn rows_and_bad(
    (source, indices): &(Arc<dyn Source>, Vec<usize>),
    transform: EvalTransform,
    config: &RunConfig,
    device: &Device,
    map: impl Fn(Tensor<4>) -> Tensor<2>,
) -> Result<(Tensor<2>, Vec<u32>, Vec<BadFile>), TrainError> {
    let mut batches = EvalBatches::new(
        source.clone(),
        indices.clone(),
        ocelli_data::EvalConfig { transform, batch_size: config.eval.batch_size, threads: config.loader.threads },
    )?;
    let (mut rows, mut labels) = (Vec::new(), Vec::new());
    for batch in batches.by_ref() {
        let batch = batch?;
        let shape = [batch.indices.len(), 3, batch.height as usize, batch.width as usize];
        rows.push(map(Tensor::from_data(TensorData::new(batch.data, shape), device)));
        labels.extend(batch.labels.iter().map(|l| l.unwrap_or_default()));
    }
    if rows.is_empty() {
        return Err(TrainError::TooFewImages { images: 0, batch: 1 });
    }
    let bad = batches.bad_files().to_vec();
    Ok((Tensor::cat(rows, 0), labels, bad))
}

/// Features `[n, dim]` of the images that can be read, their labels, and the images that cannot, as [`extract_features`].
///
/// # Errors
/// When none can be read.
pub fn extract_features_and_bad(
    encoder: &AnyBackbone,
    images: &(Arc<dyn Source>, Vec<usize>),
    config: &RunConfig,
    device: &Device,
) -> Result<(Tensor<2>, Vec<u32>, Vec<BadFile>), TrainError> {
    rows_and_bad(images, eval_transform(config), config, device, |x| encoder.features(x, Mode::Eval))
}

/// Features `[n, dim]` of the images (see [`Backbone::features`](ocelli_models::Backbone::features)) and their labels.
///
/// # Errors
/// When images cannot be read.
pub fn extract_features(
    encoder: &AnyBackbone,
    images: &(Arc<dyn Source>, Vec<usize>),
    config: &RunConfig,
    device: &Device,
) -> Result<(Tensor<2>, Vec<u32>), TrainError> {
    rows_of(images, eval_transform(config), config, device, |x| encoder.features(x, Mode::Eval))
}
