//! One pass over images in order: for features, galleries and statistics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::prefetch::{Prefetch, worker_pool};
use super::samples::{BadFile, panic_as_error};
use crate::{DataError, EvalTransform, Image, Source};

/// What a function made of each image, in the order of the indices. See [`map_images`].
pub struct MapImages<T> {
    chunks: Option<Prefetch<Vec<Result<T, DataError>>>>,
    ready: std::vec::IntoIter<Result<T, DataError>>,
    /// Delivered first when the workers could not be started.
    failure: Option<DataError>,
}

/// Images in a chunk for each worker; while one chunk is being used up, one waits and one is being made.
const CHUNK: usize = 8;
const CHUNKS: usize = 3;

/// The most images that [`map_images`] has ready or half done on so many workers (0 for one per core).
pub fn images_ahead(threads: usize) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    CHUNKS * CHUNK * if threads == 0 { cores() } else { threads }
}

/// Loads images on `threads` workers (0 for one per core) and calls `f` with each sample's index and image there. Results
/// come in the order of `indices`, a few images ahead of the consumer. An unreadable image, or a panic in `f`, gives an
/// error in its place and the pass goes on.
pub fn map_images<T, F>(source: Arc<dyn Source>, indices: Vec<usize>, threads: usize, f: F) -> MapImages<T>
where
    T: Send + 'static,
    F: Fn(usize, Image) -> T + Send + Sync + 'static,
{
    let pool = match worker_pool(threads) {
        Ok(pool) => pool,
        Err(error) => {
            return MapImages { chunks: None, ready: Vec::new().into_iter(), failure: Some(error) };
        }
    };
    let chunk = pool.current_num_threads() * CHUNK;
    let mut at = 0;
    let make = move |stop: &AtomicBool| {
        let now = indices.get(at..indices.len().min(at + chunk)).filter(|now| !now.is_empty())?;
        at += now.len();
        let one = |&index: &usize| {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            let name = || source.name(index);
            Some(panic_as_error(name, || source.load(index).map(|image| f(index, image))))
        };
        let done: Option<Vec<_>> = pool.install(|| now.par_iter().map(one).collect());
        done.map(Ok)
    };
    let chunks = Some(Prefetch::start(1, make));
    MapImages { chunks, ready: Vec::new().into_iter(), failure: None }
}

impl<T: Send + 'static> Iterator for MapImages<T> {
    type Item = Result<T, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(failure) = self.failure.take() {
            return Some(Err(failure));
        }
        loop {
            if let Some(item) = self.ready.next() {
                return Some(item);
            }
            match self.chunks.as_mut()?.next()? {
                Ok(chunk) => self.ready = chunk.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// How an evaluation pass is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvalConfig {
    /// What happens to each image; the results must have one size.
    pub transform: EvalTransform,
    /// Images per batch.
    pub batch_size: usize,
    /// Worker threads, 0 for one per core.
    pub threads: usize,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self { transform: EvalTransform::default(), batch_size: 64, threads: 0 }
    }
}

/// A batch of evaluation images.
#[derive(Debug, Clone, PartialEq)]
pub struct EvalBatch {
    /// The samples.
    pub indices: Vec<usize>,
    /// Their labels.
    pub labels: Vec<Option<u32>>,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `[indices.len(), 3, height, width]`, normalised.
    pub data: Vec<f32>,
}

type Prepared = (usize, (Vec<f32>, u32, u32));

/// The images of a source through a fixed transform, in order, in batches; the last one may be smaller. Unreadable
/// images are left out and recorded.
pub struct EvalBatches {
    source: Arc<dyn Source>,
    indices: Vec<usize>,
    position: usize,
    batch_size: usize,
    items: MapImages<Prepared>,
    bad: Vec<BadFile>,
    done: bool,
}

impl EvalBatches {
    /// Starts a pass over `indices`.
    ///
    /// # Errors
    /// [`DataError::Config`] for a batch size of zero.
    pub fn new(source: Arc<dyn Source>, indices: Vec<usize>, config: EvalConfig) -> Result<Self, DataError> {
        if config.batch_size == 0 {
            return Err(DataError::config("batch size", "at least 1", 0));
        }
        let transform = config.transform;
        let prepare = move |index, image: Image| (index, transform.apply_normalised(&image));
        let items = map_images(Arc::clone(&source), indices.clone(), config.threads, prepare);
        let batch_size = config.batch_size;
        Ok(Self { source, indices, position: 0, batch_size, items, bad: Vec::new(), done: false })
    }

    /// A pass over the whole source.
    ///
    /// # Errors
    /// As [`EvalBatches::new`].
    pub fn all(source: Arc<dyn Source>, config: EvalConfig) -> Result<Self, DataError> {
        let indices = (0..source.len()).collect();
        Self::new(source, indices, config)
    }

    /// The images left out so far.
    pub fn bad_files(&self) -> &[BadFile] {
        &self.bad
    }

    fn next_batch(&mut self) -> Result<Option<EvalBatch>, DataError> {
        let mut batch: Option<EvalBatch> = None;
        while let Some(item) = self.items.next() {
            let index = self.indices.get(self.position).copied().unwrap_or_default();
            self.position += 1;
            let (index, (data, width, height)) = match item {
                Ok(prepared) => prepared,
                Err(error @ (DataError::Panic { .. } | DataError::Config { .. })) => {
                    return Err(error);
                }
                Err(error) => {
                    let (name, reason) = (self.source.name(index), error.to_string());
                    self.bad.push(BadFile { name, reason });
                    continue;
                }
            };
            let batch = batch.get_or_insert_with(|| EvalBatch {
                indices: Vec::with_capacity(self.batch_size),
                labels: Vec::with_capacity(self.batch_size),
                width,
                height,
                data: Vec::with_capacity(self.batch_size * data.len()),
            });
            if (width, height) != (batch.width, batch.height) {
                return Err(DataError::config(
                    format!("evaluation image {}", self.source.name(index)),
                    format!("{}x{} pixels as the images before", batch.width, batch.height),
                    format!("{width}x{height}; set a crop size"),
                ));
            }
            batch.indices.push(index);
            batch.labels.push(self.source.label(index));
            batch.data.extend_from_slice(&data);
            if batch.indices.len() == self.batch_size {
                break;
            }
        }
        Ok(batch)
    }
}

impl Iterator for EvalBatches {
    type Item = Result<EvalBatch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.next_batch().transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}
