//! Batches of views, made ahead of the trainer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::ThreadPool;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::prefetch::{Prefetch, worker_pool};
use super::samples::{BadFile, Samples, panic_as_error};
use crate::views::resized_crop;
use crate::{CropBox, DataError, Image, Rng, Scratch, Source, ViewParams, ViewPlace, ViewPlan, ViewSpec};

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
    /// Fraction of the data set that may be unreadable before an epoch fails.
    pub max_bad_fraction: f32,
    /// Leave out the last batch of an epoch when it is not full.
    pub drop_last: bool,
    /// A new order each epoch; otherwise the order of the source.
    pub shuffle: bool,
    /// Bytes of decoded images kept for later epochs; beyond it images are decoded anew.
    pub cache_bytes: usize,
    /// Render the views; otherwise they are only drawn, and rendering is left to whoever takes the batch.
    pub render: bool,
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
        }
    }
}

/// Consecutive views of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewGroup {
    /// Side in pixels.
    pub size_px: u32,
    /// Number of views.
    pub views: usize,
    /// Number of samples.
    pub batch: usize,
    /// `[views * batch, 3, size_px, size_px]`, normalised; rows `v * batch..(v + 1) * batch` belong to view `v`. Empty where
    /// views were only drawn.
    pub data: Vec<f32>,
}

/// A view that was drawn and not rendered.
#[derive(Debug, Clone, PartialEq)]
pub struct DrawnView {
    /// Its picture, which other views of the sample share.
    pub picture: Arc<Image>,
    /// What was drawn, for this picture.
    pub params: ViewParams,
}

/// The views of a batch of samples.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewBatch {
    /// The epoch.
    pub epoch: usize,
    /// Number of the batch within its epoch, from 0.
    pub iteration: usize,
    /// The samples shown; where one was unreadable, the one shown in its place.
    pub indices: Vec<usize>,
    /// The views of the plan in order, consecutive ones of one size together.
    pub groups: Vec<ViewGroup>,
    /// What every view of every sample shows: by sample, then by view of the plan.
    pub places: Vec<Vec<ViewPlace>>,
    /// Where views were only drawn: by sample, then by view of the plan. Else empty.
    pub drawn: Vec<Vec<DrawnView>>,
}

impl ViewGroup {
    /// Numbers in all its views.
    fn len(&self) -> usize {
        self.views * self.batch * 3 * (self.size_px as usize).pow(2)
    }
}

/// Rows are view-major, work goes by sample: the rows of each sample, in the order of the plan's views.
fn rows_by_sample(groups: &mut [ViewGroup], samples: usize) -> Vec<Vec<&mut [f32]>> {
    let mut rows: Vec<Vec<&mut [f32]>> = (0..samples).map(|_| Vec::new()).collect();
    for group in groups {
        let row_len = 3 * (group.size_px as usize).pow(2);
        for (i, row) in group.data.chunks_exact_mut(row_len).enumerate() {
            rows[i % samples].push(row);
        }
    }
    rows
}

/// Keeps the stream of sample orders apart from others with the same seed.
const ORDER_STREAM: u64 = 0x4F52_4445;

/// Pixels beyond which a picture does not wait for its views to be rendered.
const LARGE_PX: usize = 1 << 20;

/// Turns a source into batches of views, decoding and rendering on its own threads ahead of the trainer.
pub struct Loader {
    shared: Arc<Shared>,
}

struct Shared {
    samples: Samples,
    plan: ViewPlan,
    config: LoaderConfig,
    pool: Arc<ThreadPool>,
}

impl Loader {
    /// Checks the settings and starts the workers.
    ///
    /// # Errors
    /// [`DataError::Config`] for a setting out of range, or a data set smaller than one batch with `drop_last`.
    pub fn new(source: Arc<dyn Source>, plan: ViewPlan, config: LoaderConfig) -> Result<Self, DataError> {
        plan.validate()?;
        if config.batch_size == 0 {
            return Err(DataError::config("batch size", "at least 1", 0));
        }
        if !(0.0..=1.0).contains(&config.max_bad_fraction) {
            let found = config.max_bad_fraction;
            return Err(DataError::config("max_bad_fraction", "0 to 1", found));
        }
        let needed = if config.drop_last { config.batch_size } else { 1 };
        if source.len() < needed {
            return Err(DataError::config(
                "data set",
                format!("at least one batch of {needed} images"),
                format!("{} images", source.len()),
            ));
        }
        let samples = Samples::new(source, config.cache_bytes, config.max_bad_fraction);
        let pool = worker_pool(config.threads)?;
        Ok(Self { shared: Arc::new(Shared { samples, plan, config, pool }) })
    }

    /// Batches in one epoch.
    pub fn batches_per_epoch(&self) -> usize {
        self.shared.batches()
    }

    /// The batches of an epoch from `first_iteration` on; a resumed run continues exactly where it stopped. Dropping
    /// the iterator stops the work.
    pub fn epoch(&self, epoch: usize, first_iteration: usize) -> EpochIter {
        let shared = Arc::clone(&self.shared);
        let batches = shared.batches();
        let mut order = None;
        let mut iteration = first_iteration;
        let batches_left = batches.saturating_sub(first_iteration);
        let make = move |stop: &AtomicBool| {
            if iteration >= batches {
                return None;
            }
            let order = order.get_or_insert_with(|| shared.order(epoch));
            let item = shared.batch(order, epoch, iteration, stop);
            iteration += 1;
            item.transpose()
        };
        let items = Prefetch::start(self.shared.config.prefetch_batches, make);
        EpochIter { items, batches_left }
    }

    /// The unreadable images found so far, in sample order.
    pub fn bad_files(&self) -> Vec<BadFile> {
        self.bad().into_values().collect()
    }

    /// The unreadable images found so far, by sample number.
    pub fn bad(&self) -> BTreeMap<usize, BadFile> {
        self.shared.samples.bad()
    }

    /// Takes images for unreadable without trying them again: what an earlier part of the run found.
    pub fn add_bad(&self, known: &BTreeMap<usize, BadFile>) {
        self.shared.samples.add_bad(known);
    }

    /// The data set.
    pub fn source(&self) -> &Arc<dyn Source> {
        self.shared.samples.source()
    }

    /// The views made of every sample.
    pub fn plan(&self) -> &ViewPlan {
        &self.shared.plan
    }

    /// The settings.
    pub fn config(&self) -> &LoaderConfig {
        &self.shared.config
    }
}

impl Shared {
    fn batches(&self) -> usize {
        let (len, size) = (self.samples.source().len(), self.config.batch_size);
        if self.config.drop_last { len / size } else { len.div_ceil(size) }
    }

    fn order(&self, epoch: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.samples.source().len()).collect();
        if self.config.shuffle {
            Rng::from_words(&[ORDER_STREAM, self.config.seed, epoch as u64]).shuffle(&mut order);
        }
        order
    }

    /// `None` when told to stop.
    fn batch(
        &self,
        order: &[usize],
        epoch: usize,
        iteration: usize,
        stop: &AtomicBool,
    ) -> Result<Option<ViewBatch>, DataError> {
        let size = self.config.batch_size;
        let first = iteration * size;
        let wanted = &order[first..(first + size).min(order.len())];
        let group = |(size_px, range): (u32, std::ops::Range<usize>)| {
            let mut group = ViewGroup { size_px, views: range.len(), batch: wanted.len(), data: Vec::new() };
            if self.config.render {
                group.data = vec![0.0; group.len()];
            }
            group
        };
        let mut groups: Vec<ViewGroup> = self.plan.groups().into_iter().map(group).collect();
        let mut rows = rows_by_sample(&mut groups, wanted.len());
        let work = || {
            rows.par_iter_mut()
                .zip(wanted)
                .map_init(Scratch::default, |scratch, (outs, &index)| {
                    if stop.load(Ordering::Relaxed) {
                        return Ok(None);
                    }
                    panic_as_error(
                        || self.samples.source().name(index),
                        || self.sample(epoch, index, scratch, outs),
                    )
                    .map(Some)
                })
                .collect::<Vec<_>>()
        };
        let made: Result<Option<Vec<Sampled>>, DataError> = self.pool.install(work).into_iter().collect();
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        // Checked after the whole batch, so that the list does not depend on who was fastest.
        self.samples.check_bad()?;
        let made = match made {
            Err(DataError::TooManyBad { .. }) => return Err(self.samples.too_many_bad()),
            other => other?.unwrap_or_default(),
        };
        let mut batch = ViewBatch { epoch, iteration, indices: vec![], groups, places: vec![], drawn: vec![] };
        for Sampled { used, places, drawn } in made {
            batch.indices.push(used);
            batch.places.push(places);
            batch.drawn.extend(drawn);
        }
        Ok(Some(batch))
    }

    fn sample(
        &self,
        epoch: usize,
        index: usize,
        scratch: &mut Scratch,
        outs: &mut [&mut [f32]],
    ) -> Result<Sampled, DataError> {
        let seed = self.config.seed;
        let (used, image) = self.samples.get_or_replace(seed, epoch as u64, index)?;
        let mut rng = Rng::for_sample(seed, epoch as u64, index as u64);
        let views = self.plan.draw_all(&image, &mut rng);
        let places = views.iter().map(ViewPlace::from).collect();
        let drawn = if self.config.render {
            self.plan.render_all(&image, &views, scratch, outs);
            None
        } else {
            Some(self.leave_undone(&image, views))
        };
        Ok(Sampled { used, places, drawn })
    }

    /// Views for somebody else to render. A large picture is resized for each of them here: batches ahead of the trainer
    /// would be gigabytes of photographs.
    fn leave_undone(&self, image: &Arc<Image>, views: Vec<ViewParams>) -> Vec<DrawnView> {
        let large = image.pixels() > LARGE_PX;
        let undone = |(spec, mut params): (&ViewSpec, ViewParams)| {
            if !large {
                return DrawnView { picture: Arc::clone(image), params };
            }
            let crop = params.crop.clipped(image.width, image.height);
            let side = spec.size_px.max(1);
            let picture = Arc::new(resized_crop(image, crop, side, side, spec.filter));
            params.crop = CropBox::whole(&picture);
            DrawnView { picture, params }
        };
        self.plan.views.iter().zip(views).map(undone).collect()
    }
}

/// A sample's part of a batch.
struct Sampled {
    used: usize,
    places: Vec<ViewPlace>,
    drawn: Option<Vec<DrawnView>>,
}

/// The batches of one epoch, in order. Ends after the first error.
pub struct EpochIter {
    items: Prefetch<ViewBatch>,
    batches_left: usize,
}

impl Iterator for EpochIter {
    type Item = Result<ViewBatch, DataError>;

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
