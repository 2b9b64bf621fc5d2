//! The loader: the same batches whatever the threads, resume, unreadable files, panics, and dropping it midway.
#![cfg(feature = "files")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ocelli_data::{
    DataError, DinoViews, DrawnView, EvalBatches, EvalConfig, EvalTransform, Image, Loader, LoaderConfig, Scratch,
    Source, ViewBatch, ViewPlan, map_images,
};

/// Images of one colour each; some fail, some panic, all count how often they are read.
struct Flat {
    len: usize,
    bad: Vec<usize>,
    panics: Option<usize>,
    delay: Duration,
    loads: AtomicUsize,
}

impl Flat {
    fn new(len: usize) -> Self {
        Self { len, bad: vec![], panics: None, delay: Duration::ZERO, loads: AtomicUsize::new(0) }
    }
}

impl Source for Flat {
    fn len(&self) -> usize {
        self.len
    }

    fn load(&self, index: usize) -> Result<Image, DataError> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(self.delay);
        assert!(self.panics != Some(index), "sample {index} hit a bug");
        if self.bad.contains(&index) {
            let reason = "made to fail".to_owned();
            return Err(DataError::Decode { name: self.name(index), reason });
        }
        let data = (0..20 * 24 * 3).map(|i| (i * (index + 3)) as u8).collect();
        Image::new(24, 20, data)
    }

    fn label(&self, index: usize) -> Option<u32> {
        Some(index as u32 % 3)
    }

    fn name(&self, index: usize) -> String {
        format!("flat-{index}")
    }
}

fn plan() -> ViewPlan {
    ViewPlan::dino(DinoViews { global_size_px: 16, local_size_px: 8, local_crops: 3, ..DinoViews::default() })
}

fn config(threads: usize) -> LoaderConfig {
    LoaderConfig { batch_size: 4, seed: 11, threads, ..LoaderConfig::default() }
}

fn batches(source: Flat, config: LoaderConfig, epoch: usize, first: usize) -> Vec<ViewBatch> {
    let loader = Loader::new(Arc::new(source), plan(), config).unwrap();
    loader.epoch(epoch, first).map(Result::unwrap).collect()
}

/// One picture, larger than what waits for its views as it is.
struct Photograph;

impl Source for Photograph {
    fn len(&self) -> usize {
        2
    }
    fn load(&self, index: usize) -> Result<Image, DataError> {
        let (width, height) = if index == 0 { (1500, 1100) } else { (90, 70) };
        let data = (0..width * height * 3).map(|i| (i * 31 % 251) as u8).collect();
        Image::new(width, height, data)
    }
    fn name(&self, index: usize) -> String {
        index.to_string()
    }
}

#[test]
fn views_that_are_only_drawn_are_the_same_views() {
    let of = |render| {
        let config = LoaderConfig { batch_size: 2, render, ..config(2) };
        let loader = Loader::new(Arc::new(Photograph), plan(), config).unwrap();
        loader.epoch(3, 0).next().unwrap().unwrap()
    };
    let (whole, drawn) = (of(true), of(false));
    assert_eq!((&whole.indices, &whole.places), (&drawn.indices, &drawn.places));
    assert!(whole.drawn.is_empty() && drawn.groups.iter().all(|g| g.data.is_empty()));
    let waiting: usize = drawn.drawn.iter().flatten().map(|v| v.picture.pixels()).max().unwrap_or_default();
    assert!(waiting <= 90 * 70, "a picture of {waiting} pixels waits");
    let plan = plan();
    for (group, (_, range)) in whole.groups.iter().zip(plan.groups()) {
        let area = 3 * (group.size_px as usize).pow(2);
        for (v, view) in range.enumerate() {
            for (i, sample) in drawn.drawn.iter().enumerate() {
                let DrawnView { picture, params } = &sample[view];
                let mut out = vec![0.0; area];
                let spec = &plan.views[view];
                spec.render_into(picture, params, plan.mean, plan.std, &mut Scratch::default(), &mut out);
                let row = (v * group.batch + i) * area;
                assert_eq!(out, group.data[row..row + area], "view {view} of sample {i}");
            }
        }
    }
}

#[test]
fn threads_do_not_change_anything() {
    let mut source = Flat::new(26);
    source.bad = vec![5, 9];
    let with = |threads| {
        let mut source = Flat::new(26);
        source.bad = vec![5, 9];
        batches(source, LoaderConfig { max_bad_fraction: 0.2, ..config(threads) }, 2, 0)
    };
    let one = with(1);
    assert_eq!(one, with(4));
    assert_eq!(one.len(), 6);
    let batch = &one[0];
    assert_eq!((batch.epoch, batch.iteration, batch.indices.len()), (2, 0, 4));
    let shapes: Vec<_> = batch.groups.iter().map(|g| (g.size_px, g.views, g.batch)).collect();
    assert_eq!(shapes, [(16, 2, 4), (8, 3, 4)]);
    assert_eq!(batch.groups[1].data.len(), 3 * 4 * 3 * 8 * 8);
    assert!(one.iter().flat_map(|b| &b.groups).all(|g| g.data.iter().all(|v| v.is_finite())));
}

#[test]
fn every_epoch_is_another_permutation_and_resume_is_its_tail() {
    let shown = |epoch| -> Vec<usize> {
        batches(Flat::new(24), config(2), epoch, 0).into_iter().flat_map(|b| b.indices).collect()
    };
    let (zero, one) = (shown(0), shown(1));
    assert_ne!(zero, one);
    assert_eq!(zero.iter().collect::<HashSet<_>>().len(), 24);
    let all = batches(Flat::new(24), config(2), 1, 0);
    let tail = batches(Flat::new(24), config(3), 1, 4);
    assert_eq!(all[4..], tail[..]);
    assert_eq!(tail[0].iteration, 4);
    assert!(batches(Flat::new(24), config(2), 1, 6).is_empty());
}

#[test]
fn loaders_that_share_an_epoch_have_every_batch_once() {
    let all = batches(Flat::new(40), config(2), 1, 0);
    for (ranks, first) in [(2, 0), (3, 0), (2, 4), (3, 6)] {
        for rank in 0..ranks {
            let part = batches(Flat::new(40), LoaderConfig { ranks, rank, ..config(1) }, 1, first);
            let expected: Vec<_> = all[first..].iter().skip(rank).step_by(ranks).cloned().collect();
            assert_eq!(part, expected, "{rank} of {ranks} from {first}");
        }
    }
    let outside = LoaderConfig { ranks: 2, rank: 2, ..config(1) };
    assert!(Loader::new(Arc::new(Flat::new(8)), plan(), outside).is_err());
}

#[test]
fn a_view_depends_on_its_sample_not_on_its_batch() {
    let plain = LoaderConfig { shuffle: false, ..config(2) };
    let small = batches(Flat::new(12), plain, 0, 0);
    let large = batches(Flat::new(12), LoaderConfig { batch_size: 12, ..plain }, 0, 0);
    let row = 3 * 16 * 16;
    // Sample 6, view 1: row 1·4 + 2 of the second small batch, row 1·12 + 6 of the large one.
    let a = &small[1].groups[0].data[6 * row..7 * row];
    let b = &large[0].groups[0].data[18 * row..19 * row];
    assert_eq!(a, b);
}

#[test]
fn the_last_batch_may_stay() {
    let keep = LoaderConfig { drop_last: false, ..config(1) };
    let all = batches(Flat::new(10), keep, 0, 0);
    assert_eq!(all.iter().map(|b| b.indices.len()).collect::<Vec<_>>(), [4, 4, 2]);
    assert_eq!(all[2].groups[0].data.len(), 2 * 2 * 3 * 16 * 16);
    assert_eq!(batches(Flat::new(10), config(1), 0, 0).len(), 2);
}

#[test]
fn unreadable_files_are_replaced_and_listed_once() {
    let mut source = Flat::new(40);
    source.bad = vec![7, 31];
    let loader =
        Loader::new(Arc::new(source), plan(), LoaderConfig { max_bad_fraction: 0.05, ..config(2) }).unwrap();
    for epoch in 0..3 {
        for batch in loader.epoch(epoch, 0) {
            assert!(batch.unwrap().indices.iter().all(|i| ![7, 31].contains(i)));
        }
    }
    let bad = loader.bad_files();
    assert_eq!(bad.iter().map(|b| b.name.as_str()).collect::<Vec<_>>(), ["flat-7", "flat-31"]);
    assert!(bad[0].reason.contains("made to fail"));
}

#[test]
fn too_many_unreadable_files_are_an_error() {
    let mut source = Flat::new(40);
    source.bad = (0..30).collect();
    let loader =
        Loader::new(Arc::new(source), plan(), LoaderConfig { max_bad_fraction: 0.1, ..config(2) }).unwrap();
    let last = loader.epoch(0, 0).last().unwrap();
    let message = last.unwrap_err().to_string();
    assert!(message.contains("of 40 images are unreadable, at most 4"), "{message}");
    assert!(message.contains("made to fail") && message.contains("loader.max_bad_fraction"), "{message}");
    let all_bad = Flat { bad: (0..30).collect(), ..Flat::new(30) };
    let loader = Loader::new(
        Arc::new(all_bad),
        plan(),
        LoaderConfig { max_bad_fraction: 1.0, batch_size: 30, ..config(2) },
    )
    .unwrap();
    let message = loader.epoch(0, 0).next().unwrap().unwrap_err().to_string();
    assert!(message.contains("… and 10 more") && message.lines().count() == 22, "{message}");
}

#[test]
fn a_panic_becomes_an_error() {
    let mut source = Flat::new(12);
    source.panics = Some(3);
    let loader = Loader::new(Arc::new(source), plan(), config(2)).unwrap();
    let results: Vec<_> = loader.epoch(0, 0).collect();
    let error = results.last().unwrap().as_ref().unwrap_err().to_string();
    assert!(error.contains("flat-3") && error.contains("hit a bug"), "{error}");
    assert!(results.iter().rev().skip(1).all(Result::is_ok));
}

#[test]
fn dropping_it_midway_stops_the_work() {
    let mut source = Flat::new(4000);
    source.delay = Duration::from_millis(2);
    let source = Arc::new(source);
    let shared: Arc<dyn Source> = source.clone();
    let loader = Loader::new(shared, plan(), LoaderConfig { batch_size: 400, ..config(2) }).unwrap();
    let mut epoch = loader.epoch(0, 0);
    assert!(epoch.next().unwrap().is_ok());
    let start = Instant::now();
    drop(epoch);
    assert!(start.elapsed() < Duration::from_millis(200), "{:?}", start.elapsed());
    let loads = source.loads.load(Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(source.loads.load(Ordering::SeqCst), loads);
}

#[test]
fn memory_is_bounded_and_small_images_are_decoded_once() {
    let source = Arc::new(Flat::new(64));
    let loader =
        Loader::new(source.clone(), plan(), LoaderConfig { prefetch_batches: 2, cache_bytes: 0, ..config(2) })
            .unwrap();
    let mut epoch = loader.epoch(0, 0);
    assert!(epoch.next().unwrap().is_ok());
    std::thread::sleep(Duration::from_millis(100));
    // One consumed, two waiting, one finished and not yet handed over.
    assert!(source.loads.load(Ordering::SeqCst) <= 16);
    drop(epoch);

    let source = Arc::new(Flat::new(64));
    let loader = Loader::new(source.clone(), plan(), config(2)).unwrap();
    for epoch in 0..3 {
        assert_eq!(loader.epoch(epoch, 0).count(), 16);
    }
    assert_eq!(source.loads.load(Ordering::SeqCst), 64);
}

#[test]
fn impossible_settings_are_refused() {
    let fail = |len, config| Loader::new(Arc::new(Flat::new(len)), plan(), config).err().unwrap().to_string();
    assert!(fail(3, config(1)).contains("found 3 images"));
    assert!(fail(30, LoaderConfig { batch_size: 0, ..config(1) }).contains("batch size"));
    assert!(fail(30, LoaderConfig { max_bad_fraction: 2.0, ..config(1) }).contains("max_bad"));
}

#[test]
fn evaluation_goes_in_order_and_leaves_out_what_is_unreadable() {
    let mut source = Flat::new(50);
    source.bad = vec![12];
    let source: Arc<dyn Source> = Arc::new(source);
    let transform = EvalTransform { resize_short_px: Some(10), crop_px: Some(8), ..EvalTransform::default() };
    let config = EvalConfig { transform, batch_size: 16, threads: 3 };
    let mut pass = EvalBatches::all(source.clone(), config).unwrap();
    let batches: Vec<_> = pass.by_ref().map(Result::unwrap).collect();
    let indices: Vec<usize> = batches.iter().flat_map(|b| b.indices.clone()).collect();
    assert_eq!(indices, (0..50).filter(|&i| i != 12).collect::<Vec<_>>());
    assert_eq!(batches[0].data.len(), 16 * 3 * 8 * 8);
    assert_eq!(batches[0].labels[4], Some(1));
    assert_eq!(pass.bad_files()[0].name, "flat-12");

    let wide: Vec<_> = map_images(source, vec![3, 1, 12], 2, |i, image| (i, image.width)).collect();
    assert_eq!(wide[..2], [Ok((3, 24)), Ok((1, 24))]);
    assert!(wide[2].is_err());
}
