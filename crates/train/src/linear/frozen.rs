//! Features of images that a frozen backbone gave once.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use ocelli_data::{BadFile, EvalBatches, EvalConfig, EvalTransform, Source};
use ocelli_models::{AnyBackbone, ProbeFeatures};

use crate::TrainError;

/// Rows of features and their labels.
#[derive(Debug, Clone)]
pub struct FrozenFeatures {
    features: Tensor<2>,
    labels: Vec<u32>,
}

impl FrozenFeatures {
    /// Features `[images, dim]` with a label each.
    ///
    /// # Errors
    /// When there are none, or not as many labels.
    pub fn new(features: Tensor<2>, labels: Vec<u32>) -> Result<Self, TrainError> {
        if labels.is_empty() || features.dims()[0] != labels.len() {
            return Err(TrainError::TooFewImages { images: labels.len(), batch: features.dims()[0].max(1) });
        }
        Ok(Self { features, labels })
    }

    /// Images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Never: there is one row at least.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Numbers of an image.
    pub fn dim(&self) -> usize {
        self.features.dims()[1]
    }

    /// All rows.
    pub fn features(&self) -> Tensor<2> {
        self.features.clone()
    }

    /// All labels.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Some rows and their labels, in the order asked.
    pub fn rows(&self, of: &[usize]) -> (Tensor<2>, Vec<u32>) {
        let numbers: Vec<i32> = of.iter().map(|i| *i as i32).collect();
        let count = numbers.len();
        let at = Tensor::<1, Int>::from_data(TensorData::new(numbers, [count]), &self.features.device());
        (self.features.clone().select(0, at), of.iter().map(|i| self.labels[*i]).collect())
    }
}

/// Features of all images of a source that can be read, with the images left out. `tell` hears how many are done.
///
/// # Errors
/// When images come out in different sizes, or none can be read.
pub fn extract_for_probe(
    encoder: &AnyBackbone,
    features: ProbeFeatures,
    source: &Arc<dyn Source>,
    pass: (EvalTransform, usize),
    device: &Device,
    tell: &mut dyn FnMut(usize),
) -> Result<(FrozenFeatures, Vec<BadFile>), TrainError> {
    let (transform, batch_size) = pass;
    let mut batches = EvalBatches::all(source.clone(), EvalConfig { transform, batch_size, threads: 0 })?;
    let (mut rows, mut labels) = (Vec::new(), Vec::new());
    for batch in batches.by_ref() {
        let batch = batch?;
        let shape = [batch.indices.len(), 3, batch.height as usize, batch.width as usize];
        let found = features.of(encoder, Tensor::from_data(TensorData::new(batch.data, shape), device));
        // Read at once: on a GPU a queue of batches would hold all their pictures.
        let dims = found.dims();
        let values = found
            .into_data()
            .try_to_vec::<f32>()
            .map_err(|e| TrainError::Device(format!("cannot read features back: {e:?}")))?;
        if let Some(value) = values.iter().copied().find(|v| !v.is_finite()) {
            return Err(TrainError::NotFinite { what: "a feature", value, step: labels.len() });
        }
        rows.push(Tensor::<2>::from_data(TensorData::new(values, dims), device));
        labels.extend(batch.labels.iter().map(|l| l.unwrap_or_default()));
        tell(labels.len());
    }
    let bad = batches.bad_files().to_vec();
    if rows.is_empty() {
        return Err(TrainError::TooFewImages { images: 0, batch: 1 });
    }
    Ok((FrozenFeatures::new(Tensor::cat(rows, 0), labels)?, bad))
}
