//! Batches of images with boxes or labels, made ahead of whoever trains or tests on them.
//!
//! One loader serves all of them: [`Draws`] says what is read of a sample, what is made of it and how samples become a batch. What
//! a sample looks like is a function of (seed, epoch, index), as with the other loader, whatever the number of threads.

mod kinds;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::rounds::{BatchIter, LoaderConfig, Rounds};
use super::samples::{BadFile, Stored};
use crate::{DataError, Rng, Scratch};

pub use kinds::DetectionTest;

/// What a loader makes of the samples of a data set.
pub trait Draws: Send + Sync + 'static {
    /// The data set.
    type Data: Stored + 'static;
    /// What becomes of a sample.
    type Sample: Send;
    /// What becomes of several.
    type Batch: Send + 'static;

    /// Whether another sample is shown in the place of an unreadable one, as in training. Otherwise it is left out: a test must
    /// not count a sample twice.
    const REPLACED: bool;

    /// Checks the settings, and that they and the data set belong together.
    ///
    /// # Errors
    /// [`DataError::Config`] naming what does not fit.
    fn check(&self, data: &Self::Data) -> Result<(), DataError>;

    /// Makes something of a sample that was read; all randomness comes from `rng`.
    fn make(
        &self,
        data: &Self::Data,
        index: usize,
        stored: &<Self::Data as Stored>::Sample,
        rng: &mut Rng,
        scratch: &mut Scratch,
    ) -> Self::Sample;

    /// Puts samples, each with its number in the data set, into a batch.
    fn batch(samples: Vec<(usize, Self::Sample)>) -> Self::Batch;
}

/// Turns images with boxes or labels into batches, reading and rendering on its own threads ahead of the consumer.
///
/// [`LoaderConfig::render`] has no meaning here. Finished batches of detection are large: 16 images of 800 × 1333 pixels take
/// 200 MB, times [`LoaderConfig::prefetch_batches`] and two more.
pub struct AnnotatedLoader<V: Draws> {
    shared: Arc<Shared<V>>,
}

struct Shared<V: Draws> {
    rounds: Rounds<V::Data>,
    views: V,
}

impl<V: Draws> AnnotatedLoader<V> {
    /// Checks the settings and starts the workers. A test wants `shuffle` and `drop_last` off.
    ///
    /// # Errors
    /// [`DataError::Config`] for a setting out of range, or a data set smaller than one batch with `drop_last`.
    pub fn new(data: V::Data, views: V, config: LoaderConfig) -> Result<Self, DataError> {
        views.check(&data)?;
        let rounds = Rounds::new(data, config)?;
        Ok(Self { shared: Arc::new(Shared { rounds, views }) })
    }

    /// Batches in one epoch; fewer come where all samples of one are left out.
    pub fn batches_per_epoch(&self) -> usize {
        self.shared.rounds.batches()
    }

    /// The batches of an epoch from `first_iteration` on; a resumed run continues exactly where it stopped. Dropping
    /// the iterator stops the work.
    pub fn epoch(&self, epoch: usize, first_iteration: usize) -> BatchIter<V::Batch> {
        let shared = Arc::clone(&self.shared);
        let mut order = None;
        self.shared.rounds.ahead(first_iteration, move |iteration, stop| {
            let order = order.get_or_insert_with(|| shared.rounds.order(epoch));
            shared.batch(shared.rounds.wanted(order, iteration), epoch as u64, stop)
        })
    }

    /// The unreadable samples found so far, in their order.
    pub fn bad_files(&self) -> Vec<BadFile> {
        self.bad().into_values().collect()
    }

    /// The unreadable samples found so far, by number.
    pub fn bad(&self) -> BTreeMap<usize, BadFile> {
        self.shared.rounds.samples().bad()
    }

    /// Takes samples for unreadable without trying them again: what an earlier part of the run found.
    pub fn add_bad(&self, known: &BTreeMap<usize, BadFile>) {
        self.shared.rounds.samples().add_bad(known);
    }

    /// The data set.
    pub fn data(&self) -> &V::Data {
        self.shared.rounds.samples().data()
    }

    /// What is made of every sample.
    pub fn views(&self) -> &V {
        &self.shared.views
    }

    /// The settings.
    pub fn config(&self) -> &LoaderConfig {
        self.shared.rounds.config()
    }
}

impl<V: Draws> Shared<V> {
    /// `None` when told to stop, or when all of the samples are left out.
    fn batch(&self, wanted: &[usize], epoch: u64, stop: &AtomicBool) -> Result<Option<V::Batch>, DataError> {
        let mut outs = vec![(); wanted.len()];
        let made = self.rounds.make(wanted, &mut outs, stop, |index, (), scratch| {
            let (samples, seed) = (self.rounds.samples(), self.rounds.config().seed);
            let read = if V::REPLACED {
                Some(samples.get_or_replace(seed, epoch, index)?)
            } else {
                samples.get(index).map(|stored| (index, stored))
            };
            let draw = |(used, stored): (usize, Arc<<V::Data as Stored>::Sample>)| {
                let mut rng = Rng::for_sample(seed, epoch, index as u64);
                (used, self.views.make(samples.data(), used, &stored, &mut rng, scratch))
            };
            Ok(read.map(draw))
        })?;
        let Some(made) = made else { return Ok(None) };
        let made: Vec<_> = made.into_iter().flatten().collect();
        Ok((!made.is_empty()).then(|| V::batch(made)))
    }
}
