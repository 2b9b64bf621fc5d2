//! What all loaders share: the order of an epoch, samples made on workers, and batches made ahead of the consumer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::ThreadPool;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::prefetch::{Prefetch, worker_pool};
use super::samples::{Samples, Stored, panic_as_error};
use crate::{DataError, Rng, Scratch};

/// How batches are made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoaderConfig {
    /// Samples per batch.
    pub batch_size: usize,
    /// Decides order, views and replacements, together with epoch and sample.
    pub seed: u64,
    /// Worker threads, 0 for one per core. Results do not depend on it.
    pub threads: usize,
    /// Finished batches that may wait for the trainer: bounds the memory.
    pub prefetch_batches: usize,
    /// Fraction of the data set that may be unreadable before an epoch fails; see [`bad_limit`](super::bad_limit).
    pub max_bad_fraction: f32,
    /// Leave out the last batch of an epoch when it is not full.
    pub drop_last: bool,
    /// A new order each epoch; otherwise the order of the source.
    pub shuffle: bool,
    /// Bytes of decoded images kept for later epochs; beyond it images are decoded anew.
    pub cache_bytes: usize,
    /// Render the views; otherwise they are only drawn, and rendering is left to whoever takes the batch.
    pub render: bool,
    /// Of every so many batches this loader makes one, and leaves the others, unread, to those of other processes.
    pub ranks: usize,
    /// Which one: of the first `ranks` batches that with this number.
    pub rank: usize,
}

impl Default for LoaderConfig {
    fn default() -> Self {
        Self {
            batch_size: 64,
            seed: 0,
            threads: 0,
            prefetch_batches: 4,
            max_bad_fraction: 0.01,
            drop_last: true,
            shuffle: true,
            cache_bytes: 512 << 20,
            render: true,
            ranks: 1,
            rank: 0,
        }
    }
}

/// Keeps the stream of sample orders apart from others with the same seed.
const ORDER_STREAM: u64 = 0x4F52_4445;

/// Samples, how they are dealt out in epochs, and who makes something of them.
pub(super) struct Rounds<D: Stored> {
    samples: Samples<D>,
    config: LoaderConfig,
    pool: Arc<ThreadPool>,
}

impl<D: Stored> Rounds<D> {
    /// Checks the settings and starts the workers.
    pub fn new(data: D, config: LoaderConfig) -> Result<Self, DataError> {
        if config.batch_size == 0 {
            return Err(DataError::config("batch size", "at least 1", 0));
        }
        if !(0.0..=1.0).contains(&config.max_bad_fraction) {
            let found = config.max_bad_fraction;
            return Err(DataError::config("loader.max_bad_fraction", "0 to 1", found));
        }
        if config.rank >= config.ranks {
            return Err(DataError::config("rank of the loader", format!("below {}", config.ranks), config.rank));
        }
        let needed = if config.drop_last { config.batch_size } else { 1 };
        if data.count() < needed {
            return Err(DataError::config(
                "data set",
                format!("at least one batch of {needed} images"),
                format!("{} images", data.count()),
            ));
        }
        let samples = Samples::new(data, config.cache_bytes, config.max_bad_fraction);
        let pool = worker_pool(config.threads)?;
        Ok(Self { samples, config, pool })
    }

    pub fn samples(&self) -> &Samples<D> {
        &self.samples
    }

    pub fn config(&self) -> &LoaderConfig {
        &self.config
    }

    /// Batches in one epoch.
    pub fn batches(&self) -> usize {
        let (len, size) = (self.samples.data().count(), self.config.batch_size);
        if self.config.drop_last { len / size } else { len.div_ceil(size) }
    }

    /// The samples in the order of an epoch.
    pub fn order(&self, epoch: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.samples.data().count()).collect();
        if self.config.shuffle {
            Rng::from_words(&[ORDER_STREAM, self.config.seed, epoch as u64]).shuffle(&mut order);
        }
        order
    }

    /// The samples of one of its batches.
    pub fn wanted<'a>(&self, order: &'a [usize], iteration: usize) -> &'a [usize] {
        let size = self.config.batch_size;
        let first = (iteration * size).min(order.len());
        &order[first..(first + size).min(order.len())]
    }

    /// Calls `make` on the workers for each wanted sample and its own of `outs`. `None` when told to stop.
    pub fn make<O: Send, T: Send>(
        &self,
        wanted: &[usize],
        outs: &mut [O],
        stop: &AtomicBool,
        make: impl Fn(usize, &mut O, &mut Scratch) -> Result<T, DataError> + Sync,
    ) -> Result<Option<Vec<T>>, DataError> {
        let work = || {
            outs.par_iter_mut()
                .zip(wanted)
                .map_init(Scratch::default, |scratch, (out, &index)| {
                    if stop.load(Ordering::Relaxed) {
                        return Ok(None);
                    }
                    let name = || self.samples.data().name_of(index);
                    panic_as_error(name, || make(index, out, scratch)).map(Some)
                })
                .collect::<Vec<_>>()
        };
        let made: Result<Option<Vec<T>>, DataError> = self.pool.install(work).into_iter().collect();
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        // Checked after the whole batch, so that the list does not depend on who was fastest.
        self.samples.check_bad()?;
        match made {
            Err(DataError::TooManyBad { .. }) => Err(self.samples.too_many_bad()),
            other => Ok(Some(other?.unwrap_or_default())),
        }
    }

    /// This loader's batches of an epoch from `first_iteration` on, a multiple of [`LoaderConfig::ranks`], each made by `batch`,
    /// which is told when to give up. Where it gives `None` unasked, there is no batch and the next one follows.
    pub fn ahead<B: Send + 'static>(
        &self,
        first_iteration: usize,
        mut batch: impl FnMut(usize, &AtomicBool) -> Result<Option<B>, DataError> + Send + 'static,
    ) -> BatchIter<B> {
        let batches = self.batches();
        let mut iterations = (first_iteration + self.config.rank..batches).step_by(self.config.ranks);
        let batches_left = iterations.len();
        let make = move |stop: &AtomicBool| {
            loop {
                let made = batch(iterations.next()?, stop).transpose();
                if made.is_some() || stop.load(Ordering::Relaxed) {
                    return made;
                }
            }
        };
        let items = Prefetch::start(self.config.prefetch_batches, make);
        BatchIter { items, batches_left }
    }
}

/// The batches of one epoch, in order. Ends after the first error.
pub struct BatchIter<B> {
    items: Prefetch<B>,
    batches_left: usize,
}

impl<B> Iterator for BatchIter<B> {
    type Item = Result<B, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.items.next()?;
        self.batches_left = self.batches_left.saturating_sub(1);
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // An error may end it early.
        (0, Some(self.batches_left))
    }
}
