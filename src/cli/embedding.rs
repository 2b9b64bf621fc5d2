//! Features of pictures of any size, in batches of one size.

use std::sync::Arc;

use anyhow::bail;
use burn::tensor::{Tensor, TensorData};
use ocelli::data::{BadFile, DataError, Source, map_images};
use ocelli::eval::index::normalise;
use ocelli::models::{Backbone as _, Mode};
use ocelli::train::device::Chosen;
use ocelli::train::{Loaded, eval_transform};

/// Images through the network at once.
const BATCH: usize = 32;

/// A network on a device.
pub struct Network {
    /// The network.
    pub loaded: Loaded,
    /// Where it computes.
    pub device: Chosen,
}

/// A picture and its feature.
pub struct Embedded {
    /// Its number in the source.
    pub index: usize,
    /// Width and height of the picture itself, pixels.
    pub size: (u32, u32),
    /// `[dim]`, of unit length.
    pub feature: Vec<f32>,
}

/// A picture as the network takes it.
struct Prepared {
    index: usize,
    size: (u32, u32),
    /// `[3, height, width]`.
    pixels: Vec<f32>,
    width: u32,
    height: u32,
}

impl Network {
    /// Embeds images of a source, and gives `take` each batch; it stops the work by returning false. Images that
    /// cannot be read are left out and returned.
    pub fn embed(
        &self,
        source: &Arc<dyn Source>,
        indices: Vec<usize>,
        mut take: impl FnMut(Vec<Embedded>) -> anyhow::Result<bool>,
    ) -> anyhow::Result<Vec<BadFile>> {
        let transform = eval_transform(&self.loaded.eval_config());
        let smallest = self.loaded.config.cell_px() as u32;
        let items = map_images(source.clone(), indices.clone(), 0, move |index, image| {
            let (pixels, width, height) = transform.apply_normalised(&image);
            Prepared { index, size: (image.width, image.height), pixels, width, height }
        });
        let (mut bad, mut batch) = (Vec::new(), Vec::<Prepared>::new());
        for (index, item) in indices.into_iter().zip(items) {
            let refused = match item {
                Ok(one) if one.width.min(one.height) < smallest => {
                    format!("expected at least {smallest} px each way, found {}×{}", one.width, one.height)
                }
                Ok(one) => {
                    // Without a crop pictures come in many sizes.
                    let fits = batch.first().is_none_or(|b| (b.width, b.height) == (one.width, one.height));
                    if (!fits || batch.len() == BATCH)
                        && !take(self.features(source, std::mem::take(&mut batch))?)?
                    {
                        return Ok(bad);
                    }
                    batch.push(one);
                    continue;
                }
                Err(error @ (DataError::Panic { .. } | DataError::Config { .. })) => return Err(error.into()),
                Err(error) => error.to_string(),
            };
            bad.push(BadFile { name: source.name(index), reason: refused });
        }
        if !batch.is_empty() {
            take(self.features(source, batch)?)?;
        }
        Ok(bad)
    }

    fn features(&self, source: &Arc<dyn Source>, batch: Vec<Prepared>) -> anyhow::Result<Vec<Embedded>> {
        let Some(first) = batch.first() else { return Ok(Vec::new()) };
        let shape = [batch.len(), 3, first.height as usize, first.width as usize];
        let pixels: Vec<f32> = batch.iter().flat_map(|one| &one.pixels).copied().collect();
        let images = Tensor::from_data(TensorData::new(pixels, shape), &self.device.device);
        let features = self.loaded.encoder.features(images, Mode::Eval);
        let dim = features.dims()[1];
        let values = features
            .into_data()
            .try_to_vec::<f32>()
            .map_err(|e| anyhow::anyhow!("cannot read features back: {e:?}"))?;
        let mut embedded = Vec::with_capacity(batch.len());
        for (one, feature) in batch.into_iter().zip(values.chunks_exact(dim)) {
            let mut feature = feature.to_vec();
            if !normalise(&mut feature) {
                bail!(
                    "{}: the network's feature is zero or not finite; look at the weights with `ocelli weights`",
                    source.name(one.index)
                );
            }
            embedded.push(Embedded { index: one.index, size: one.size, feature });
        }
        Ok(embedded)
    }
}
