//! Features of images for retrieval and copy detection: images keep what sizes they come in, each may go through
//! the network at several scales, and those that cannot be read keep their place.

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use ocelli::data::files::{DecodeLimits, decode_file};
use ocelli::data::{BadFile, DataError, Image, Source, map_images};
use ocelli::train::Loaded;
use ocelli::train::device::Chosen;

use super::images;

/// Images through the network at once, and their pixels together, at most.
const BATCH: usize = 32;
const BATCH_PIXELS: usize = BATCH * 224 * 224;

/// Normalised planes `[3, height, width]`, their height and their width.
pub type Planes = (Vec<f32>, usize, usize);

/// Image files by name.
pub struct Files {
    /// What they are called in messages.
    pub names: Vec<String>,
    /// Where they are.
    pub paths: Vec<PathBuf>,
}

impl Source for Files {
    fn len(&self) -> usize {
        self.paths.len()
    }

    fn load(&self, index: usize) -> Result<Image, DataError> {
        let path = self.paths.get(index).ok_or(DataError::OutOfRange { index, len: self.paths.len() })?;
        decode_file(path, DecodeLimits::default())
    }

    fn name(&self, index: usize) -> String {
        self.names.get(index).cloned().unwrap_or_default()
    }
}

/// Features in the order of the images.
pub struct Features {
    /// Numbers in a feature.
    pub dim: usize,
    /// `[images · dim]`; zeros for those that could not be read.
    pub rows: Vec<f32>,
    /// Which could be read.
    pub is_there: Vec<bool>,
    /// Those that could not.
    pub bad: Vec<BadFile>,
}

impl Features {
    /// The features that are there, without gaps.
    pub fn dense(&self) -> Vec<f32> {
        let rows = self.rows.chunks_exact(self.dim.max(1)).zip(&self.is_there);
        rows.filter(|(_, is_there)| **is_there).flat_map(|(row, _)| row.iter().copied()).collect()
    }

    /// How many are there.
    pub fn count(&self) -> usize {
        self.is_there.iter().filter(|is_there| **is_there).count()
    }

    /// Lines that say which images were skipped.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.bad.iter().map(|bad| format!("warning: skipped {}: {}", bad.name, bad.reason))
    }
}

/// A network on a device.
pub struct Network<'a> {
    /// The network.
    pub loaded: &'a Loaded,
    /// Where it computes.
    pub device: &'a Chosen,
}

impl Network<'_> {
    /// The features of images. `prepare` makes of an image its pixels at each scale, on other threads; `forward`
    /// makes of a batch of images at one scale their features, row-major.
    ///
    /// An image's scales lie behind each other in its row. Images of one size that follow each other are one
    /// batch.
    pub fn features(
        &self,
        source: &Arc<dyn Source>,
        indices: Vec<usize>,
        prepare: impl Fn(usize, &Image) -> anyhow::Result<Vec<Planes>> + Send + Sync + 'static,
        forward: &dyn Fn(Tensor<4>) -> anyhow::Result<Vec<f32>>,
    ) -> anyhow::Result<Features> {
        let smallest = self.loaded.config.cell_px();
        let prepared = map_images(source.clone(), indices.clone(), 0, move |index, image| {
            let scales = prepare(index, &image).map_err(|e| format!("{e:#}"))?;
            match scales.iter().find(|(_, height, width)| *height.min(width) < smallest) {
                Some((_, height, width)) => {
                    Err(format!("expected at least {smallest} px each way at every scale, found {width}×{height}"))
                }
                None => Ok(scales),
            }
        });
        let mut found =
            Features { dim: 0, rows: Vec::new(), is_there: vec![false; indices.len()], bad: Vec::new() };
        let mut batch = Batch::default();
        let bar = images::bar(indices.len(), false);
        for ((place, index), item) in indices.into_iter().enumerate().zip(prepared) {
            bar.inc(1);
            match item {
                Ok(Ok(scales)) => {
                    if batch.is_full(&scales) {
                        self.run(&mut batch, forward, &mut found)?;
                    }
                    batch.places.push(place);
                    batch.images.push(scales);
                }
                Ok(Err(reason)) => found.bad.push(BadFile { name: source.name(index), reason }),
                Err(error @ (DataError::Panic { .. } | DataError::Config { .. })) => return Err(error.into()),
                Err(error) => found.bad.push(BadFile { name: source.name(index), reason: error.to_string() }),
            }
        }
        self.run(&mut batch, forward, &mut found)?;
        bar.finish_and_clear();
        Ok(found)
    }

    /// Sends a batch through the network and empties it.
    fn run(
        &self,
        batch: &mut Batch,
        forward: &dyn Fn(Tensor<4>) -> anyhow::Result<Vec<f32>>,
        found: &mut Features,
    ) -> anyhow::Result<()> {
        let Batch { places, images } = std::mem::take(batch);
        let Some(first) = images.first() else { return Ok(()) };
        let (count, scales) = (images.len(), first.len());
        for scale in 0..scales {
            let (_, height, width) = first[scale];
            let pixels = images.iter().flat_map(|image| &image[scale].0).copied().collect::<Vec<f32>>();
            let tensor =
                Tensor::from_data(TensorData::new(pixels, [count, 3, height, width]), &self.device.device);
            let rows = forward(tensor)?;
            let dim = rows.len() / count;
            if found.dim == 0 {
                found.dim = scales * dim;
                found.rows = vec![0.0; found.is_there.len() * found.dim];
            }
            for (place, row) in places.iter().zip(rows.chunks_exact(dim)) {
                found.rows[place * found.dim + scale * dim..][..dim].copy_from_slice(row);
                found.is_there[*place] = true;
            }
        }
        Ok(())
    }
}

/// Images of one size, and their places among all.
#[derive(Default)]
struct Batch {
    places: Vec<usize>,
    images: Vec<Vec<Planes>>,
}

impl Batch {
    /// Whether an image of these scales must wait for the next batch.
    fn is_full(&self, scales: &[Planes]) -> bool {
        let sides = |scales: &[Planes]| scales.first().map(|(_, height, width)| (*height, *width));
        let Some(first) = self.images.first() else { return false };
        let (height, width) = sides(first).unwrap_or_default();
        let pixels = (self.images.len() + 1) * height * width;
        sides(first) != sides(scales) || self.images.len() == BATCH || pixels > BATCH_PIXELS
    }
}

/// The numbers of a tensor.
pub fn read_back<const D: usize>(tensor: Tensor<D>) -> anyhow::Result<Vec<f32>> {
    tensor.into_data().try_to_vec::<f32>().map_err(|e| anyhow::anyhow!("cannot read features back: {e:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_of_one_size_and_not_too_large() {
        let image = |height: usize, width: usize| vec![(Vec::new(), height, width), (Vec::new(), 1, 1)];
        let mut batch = Batch::default();
        assert!(!batch.is_full(&image(9, 9)), "the first image of any size");
        batch.images.push(image(448, 448));
        assert!(!batch.is_full(&image(448, 448)) && batch.is_full(&image(448, 447)));
        batch.images.extend((0..7).map(|_| image(448, 448)));
        assert!(batch.is_full(&image(448, 448)), "nine of 448² are more than 32 of 224²");
        batch.images = (0..BATCH).map(|_| image(16, 16)).collect();
        assert!(batch.is_full(&image(16, 16)));
    }

    #[test]
    fn what_could_not_be_read_keeps_its_place() {
        let found = Features {
            dim: 2,
            rows: vec![1.0, 2.0, 0.0, 0.0, 3.0, 4.0],
            is_there: vec![true, false, true],
            bad: vec![BadFile { name: "b.jpg".into(), reason: "empty file".into() }],
        };
        assert_eq!((found.dense(), found.count()), (vec![1.0, 2.0, 3.0, 4.0], 2));
        assert_eq!(found.warnings().collect::<Vec<_>>(), ["warning: skipped b.jpg: empty file"]);
    }
}
