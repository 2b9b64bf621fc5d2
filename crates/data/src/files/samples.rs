//! Samples as workers see them: decoded once where memory allows, replaced when unreadable.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};

use crate::{DataError, Image, Source, hash_words};

/// An image that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadFile {
    /// The sample's name.
    pub name: String,
    /// Why it could not be read.
    pub reason: String,
}

/// Keeps the stream of replacements apart from others with the same seed.
const REPLACEMENT_STREAM: u64 = 0x4241_4446;
const REPLACEMENT_ATTEMPTS: u64 = 64;
const LISTED: usize = 20;

/// Samples as they are stored, numbered from 0: images, or images with what is known about them.
pub trait Stored: Send + Sync {
    /// What is read of one of them.
    type Sample: Send + Sync;

    /// Number of samples.
    fn count(&self) -> usize;

    /// A name for messages.
    fn name_of(&self, index: usize) -> String;

    /// Reads a sample. The same index always gives the same.
    ///
    /// # Errors
    /// When the index is out of range or something of the sample cannot be read; the message names it.
    fn read(&self, index: usize) -> Result<Self::Sample, DataError>;

    /// Memory that a sample takes, for the limit of a cache.
    fn bytes(sample: &Self::Sample) -> usize;
}

impl Stored for Arc<dyn Source> {
    type Sample = Image;

    fn count(&self) -> usize {
        self.len()
    }

    fn name_of(&self, index: usize) -> String {
        self.name(index)
    }

    fn read(&self, index: usize) -> Result<Image, DataError> {
        self.load(index)
    }

    fn bytes(sample: &Image) -> usize {
        sample.data.len()
    }
}

/// Stored samples with a cache of what was read and a record of the unreadable ones.
pub(super) struct Samples<D: Stored> {
    data: D,
    cached: Vec<OnceLock<Arc<D::Sample>>>,
    cached_bytes: AtomicUsize,
    cache_bytes: usize,
    bad: Mutex<BTreeMap<usize, BadFile>>,
    max_bad: usize,
}

/// Unreadable images that are tolerated in a small set, whatever the share, but no more than half of it.
const FEW: usize = 3;

/// How many of so many images may be unreadable: the share, but at least a few, for one cut file among sixty is no reason to
/// stop. A share of 0 tolerates none. In single precision, in which a hundredth of 100 is 1.
pub fn bad_limit(max_bad_fraction: f32, images: usize) -> usize {
    let share = (max_bad_fraction * images as f32).floor() as usize;
    if max_bad_fraction > 0.0 { share.max(FEW.min(images / 2)) } else { share }
}

impl<D: Stored> Samples<D> {
    pub fn new(data: D, cache_bytes: usize, max_bad_fraction: f32) -> Self {
        let len = data.count();
        Self {
            cached: if cache_bytes == 0 { Vec::new() } else { vec![OnceLock::new(); len] },
            cached_bytes: AtomicUsize::new(0),
            cache_bytes,
            bad: Mutex::new(BTreeMap::new()),
            max_bad: bad_limit(max_bad_fraction, len),
            data,
        }
    }

    pub fn data(&self) -> &D {
        &self.data
    }

    /// A panic on another thread leaves the map in order: entries are only ever inserted whole.
    fn lock_bad(&self) -> MutexGuard<'_, BTreeMap<usize, BadFile>> {
        self.bad.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The unreadable images found so far, in sample order, with their sample numbers.
    pub fn bad(&self) -> BTreeMap<usize, BadFile> {
        self.lock_bad().clone()
    }

    /// Takes images for unreadable without trying them again.
    pub fn add_bad(&self, known: &BTreeMap<usize, BadFile>) {
        self.lock_bad().extend(known.iter().map(|(i, b)| (*i, b.clone())));
    }

    /// A sample, or `None` when it is (now) known to be unreadable.
    pub fn get(&self, index: usize) -> Option<Arc<D::Sample>> {
        let slot = self.cached.get(index);
        if let Some(sample) = slot.and_then(OnceLock::get) {
            return Some(Arc::clone(sample));
        }
        if self.lock_bad().contains_key(&index) {
            return None;
        }
        match self.data.read(index) {
            Ok(sample) => {
                let bytes = D::bytes(&sample);
                let sample = Arc::new(sample);
                if let Some(slot) = slot {
                    let before = self.cached_bytes.fetch_add(bytes, Ordering::Relaxed);
                    // Two workers may decode the same sample at once; the second copy is not kept.
                    if before + bytes > self.cache_bytes || slot.set(Arc::clone(&sample)).is_err() {
                        self.cached_bytes.fetch_sub(bytes, Ordering::Relaxed);
                    }
                }
                Some(sample)
            }
            Err(error) => {
                let bad = BadFile { name: self.data.name_of(index), reason: error.to_string() };
                self.lock_bad().entry(index).or_insert(bad);
                None
            }
        }
    }

    /// A sample or, when it is unreadable, another one chosen by a hash: (the index used, the sample).
    pub fn get_or_replace(
        &self,
        seed: u64,
        epoch: u64,
        index: usize,
    ) -> Result<(usize, Arc<D::Sample>), DataError> {
        let mut candidate = index;
        for attempt in 0..REPLACEMENT_ATTEMPTS {
            if let Some(sample) = self.get(candidate) {
                return Ok((candidate, sample));
            }
            let hash = hash_words(&[REPLACEMENT_STREAM, seed, epoch, index as u64, attempt]);
            candidate = (hash % self.data.count().max(1) as u64) as usize;
        }
        Err(self.too_many_bad())
    }

    /// Fails once more images are unreadable than tolerated.
    pub fn check_bad(&self) -> Result<(), DataError> {
        if self.lock_bad().len() > self.max_bad { Err(self.too_many_bad()) } else { Ok(()) }
    }

    /// The error that lists the unreadable images found so far.
    pub fn too_many_bad(&self) -> DataError {
        let bad = self.lock_bad();
        let mut lines: Vec<String> = bad.values().take(LISTED).map(BadFile::line).collect();
        if bad.len() > LISTED {
            lines.push(format!("  … and {} more", bad.len() - LISTED));
        }
        DataError::TooManyBad {
            bad: bad.len(),
            total: self.data.count(),
            allowed: self.max_bad,
            listing: lines.join("\n"),
        }
    }
}

impl BadFile {
    fn line(&self) -> String {
        // Reasons start with the full path, which says more than the name.
        if self.reason.contains(&self.name) {
            format!("  {}", self.reason)
        } else {
            format!("  {}: {}", self.name, self.reason)
        }
    }
}

/// Runs `work`, turning a panic into an error that names what was being worked on.
pub(super) fn panic_as_error<T>(
    what: impl FnOnce() -> String,
    work: impl FnOnce() -> Result<T, DataError>,
) -> Result<T, DataError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let message = payload
            .downcast_ref::<&str>()
            .map(|s| (*s).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        Err(DataError::Panic { what: what(), message })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_bad_images_are_tolerated_unless_none_may_be() {
        for (share, images, limit) in [
            (0.01, 100, 3),
            (0.01, 300, 3),
            (0.01, 1000, 10),
            (0.01, 61, 3),
            (0.01, 6, 3),
            (0.01, 4, 2),
            (0.01, 1, 0),
            (0.2, 40, 8),
            (1.0, 2, 2),
            (0.0, 1000, 0),
        ] {
            assert_eq!(bad_limit(share, images), limit, "{share} of {images}");
        }
    }
}
