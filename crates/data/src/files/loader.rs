//! Batches of views, made ahead of the trainer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::rounds::{BatchIter, LoaderConfig, Rounds};
use super::samples::BadFile;
use crate::views::resized_crop;
use crate::{CropBox, DataError, Image, Rng, Scratch, Source, ViewParams, ViewPlace, ViewPlan, ViewSpec};

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

/// Pixels beyond which a picture does not wait for its views to be rendered.
const LARGE_PX: usize = 1 << 20;

/// Turns a source into batches of views, decoding and rendering on its own threads ahead of the trainer.
pub struct Loader {
    shared: Arc<Shared>,
}

struct Shared {
    rounds: Rounds<Arc<dyn Source>>,
    plan: ViewPlan,
}

impl Loader {
    /// Checks the settings and starts the workers.
    ///
    /// # Errors
    /// [`DataError::Config`] for a setting out of range, or a data set smaller than one batch with `drop_last`.
    pub fn new(source: Arc<dyn Source>, plan: ViewPlan, config: LoaderConfig) -> Result<Self, DataError> {
        plan.validate()?;
        let rounds = Rounds::new(source, config)?;
        Ok(Self { shared: Arc::new(Shared { rounds, plan }) })
    }

    /// Batches in one epoch.
    pub fn batches_per_epoch(&self) -> usize {
        self.shared.rounds.batches()
    }

    /// The batches of an epoch from `first_iteration` on; a resumed run continues exactly where it stopped. Where several
    /// loaders share the batches ([`LoaderConfig::ranks`]), those of this one. Dropping the iterator stops the work.
    pub fn epoch(&self, epoch: usize, first_iteration: usize) -> EpochIter {
        let shared = Arc::clone(&self.shared);
        let mut order = None;
        self.shared.rounds.ahead(first_iteration, move |iteration, stop| {
            let order = order.get_or_insert_with(|| shared.rounds.order(epoch));
            shared.batch(order, epoch, iteration, stop)
        })
    }

    /// The unreadable images found so far, in sample order.
    pub fn bad_files(&self) -> Vec<BadFile> {
        self.bad().into_values().collect()
    }

    /// The unreadable images found so far, by sample number.
    pub fn bad(&self) -> BTreeMap<usize, BadFile> {
        self.shared.rounds.samples().bad()
    }

    /// Takes images for unreadable without trying them again: what an earlier part of the run found.
    pub fn add_bad(&self, known: &BTreeMap<usize, BadFile>) {
        self.shared.rounds.samples().add_bad(known);
    }

    /// The data set.
    pub fn source(&self) -> &Arc<dyn Source> {
        self.shared.rounds.samples().data()
    }

    /// The views made of every sample.
    pub fn plan(&self) -> &ViewPlan {
        &self.shared.plan
    }

    /// The settings.
    pub fn config(&self) -> &LoaderConfig {
        self.shared.rounds.config()
    }
}

impl Shared {
    /// `None` when told to stop.
    fn batch(
        &self,
        order: &[usize],
        epoch: usize,
        iteration: usize,
        stop: &AtomicBool,
    ) -> Result<Option<ViewBatch>, DataError> {
        let wanted = self.rounds.wanted(order, iteration);
        let render = self.rounds.config().render;
        let group = |(size_px, range): (u32, std::ops::Range<usize>)| {
            let mut group = ViewGroup { size_px, views: range.len(), batch: wanted.len(), data: Vec::new() };
            if render {
                group.data = vec![0.0; group.len()];
            }
            group
        };
        let mut groups: Vec<ViewGroup> = self.plan.groups().into_iter().map(group).collect();
        let mut rows = rows_by_sample(&mut groups, wanted.len());
        let made = self
            .rounds
            .make(wanted, &mut rows, stop, |index, outs, scratch| self.sample(epoch, index, scratch, outs))?;
        let Some(made) = made else { return Ok(None) };
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
        let LoaderConfig { seed, render, .. } = *self.rounds.config();
        let (used, image) = self.rounds.samples().get_or_replace(seed, epoch as u64, index)?;
        let mut rng = Rng::for_sample(seed, epoch as u64, index as u64);
        let views = self.plan.draw_all(&image, &mut rng);
        let places = views.iter().map(ViewPlace::from).collect();
        let drawn = if render {
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
pub type EpochIter = BatchIter<ViewBatch>;
