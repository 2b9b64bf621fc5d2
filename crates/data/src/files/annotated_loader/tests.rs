//! The same batches whatever the threads, resume, unreadable images and maps, and what is left out of a test.

use std::sync::Arc;

use super::*;
use crate::annotated::{BoxedPart, LabelMap, LabelMaps, MaskedPart, ObjectBox};
use crate::views::{DetectionBatch, DetectionViews, SegmentationBatch, SegmentationViews};
use crate::{Image, Source};

/// Images of several sizes whose colours and labels tell their numbers; some cannot be read.
#[derive(Default)]
struct Numbered {
    len: usize,
    bad: Vec<usize>,
    bad_maps: Vec<usize>,
    small_maps: Vec<usize>,
}

impl Numbered {
    fn new(len: usize) -> Self {
        Self { len, ..Self::default() }
    }

    fn size(index: usize) -> (u32, u32) {
        (20 + 3 * (index as u32 % 5), 16 + 2 * (index as u32 % 7))
    }

    fn boxed(self) -> BoxedPart {
        let object =
            |i: usize| ObjectBox { class: i as u32, xyxy: [2.0, 3.0, 12.0, 14.0], ..ObjectBox::default() };
        let objects = Arc::new((0..self.len).map(|i| vec![object(i); i % 3]).collect());
        BoxedPart { source: Arc::new(self), objects }
    }

    fn masked(self) -> MaskedPart {
        let both = Arc::new(self);
        MaskedPart { source: both.clone(), maps: both }
    }
}

impl Source for Numbered {
    fn len(&self) -> usize {
        self.len
    }

    fn load(&self, index: usize) -> Result<Image, DataError> {
        if self.bad.contains(&index) {
            return Err(DataError::Decode { name: self.name(index), reason: "made to fail".into() });
        }
        let (width, height) = Self::size(index);
        Image::new(width, height, (0..width * height * 3).map(|i| (i as usize * (index + 3)) as u8).collect())
    }

    fn name(&self, index: usize) -> String {
        format!("numbered-{index}")
    }
}

impl LabelMaps for Numbered {
    fn label_map(&self, index: usize) -> Result<LabelMap, DataError> {
        if self.bad_maps.contains(&index) {
            return Err(DataError::Decode { name: format!("map-{index}"), reason: "no such labels".into() });
        }
        let (width, height) = Self::size(index);
        let width = width as usize - usize::from(self.small_maps.contains(&index));
        let labels = (0..width * height as usize).map(|i| if i % 2 == 0 { index as u8 } else { 200 }).collect();
        Ok(LabelMap { width, height: height as usize, labels })
    }
}

fn config(threads: usize) -> LoaderConfig {
    LoaderConfig { batch_size: 4, seed: 11, threads, max_bad_fraction: 0.3, ..LoaderConfig::default() }
}

fn in_order(threads: usize) -> LoaderConfig {
    LoaderConfig { shuffle: false, drop_last: false, ..config(threads) }
}

fn boxes() -> DetectionViews {
    DetectionViews { short_px: vec![12, 20, 33], max_px: 50, ..DetectionViews::default() }
}

fn labels() -> SegmentationViews {
    SegmentationViews { scale_px: [40, 20], crop_px: [24, 28], ..SegmentationViews::default() }
}

fn batches<V: Draws>(data: V::Data, views: V, config: LoaderConfig, epoch: usize, first: usize) -> Vec<V::Batch> {
    AnnotatedLoader::new(data, views, config).unwrap().epoch(epoch, first).map(Result::unwrap).collect()
}

#[test]
fn threads_do_not_change_anything() {
    let bad = |len| Numbered { bad: vec![5, 9], bad_maps: vec![2], ..Numbered::new(len) };
    let detection = |threads| batches(bad(26).boxed(), boxes(), config(threads), 2, 0);
    let one: Vec<DetectionBatch> = detection(1);
    assert_eq!(one.len(), 6);
    assert_eq!(one, detection(4));
    let segmentation = |threads| batches(bad(26).masked(), labels(), config(threads), 2, 0);
    let one: Vec<SegmentationBatch> = segmentation(1);
    assert_eq!(one.len(), 6);
    assert_eq!(one, segmentation(4));
}

#[test]
fn resume_is_the_tail_of_an_epoch_and_epochs_differ() {
    let epoch = |epoch, first| batches(Numbered::new(26).boxed(), boxes(), config(2), epoch, first);
    let all = epoch(1, 0);
    assert_eq!(all[4..], epoch(1, 4)[..]);
    assert!(epoch(1, 6).is_empty());
    assert_ne!(all, epoch(0, 0));
    let epoch = |epoch, first| batches(Numbered::new(26).masked(), labels(), config(3), epoch, first);
    assert_eq!(epoch(1, 0)[3..], epoch(1, 3)[..]);
}

#[test]
fn a_sample_depends_on_its_number_and_not_on_its_batch() {
    let by = |batch_size| {
        let config = LoaderConfig { batch_size, ..in_order(2) };
        let batches = batches(Numbered::new(12).masked(), labels(), config, 3, 0);
        batches.into_iter().flat_map(|batch| batch.pixels).collect::<Vec<f32>>()
    };
    assert_eq!(by(4), by(12));
}

#[test]
fn unreadable_samples_are_replaced_with_their_boxes_and_listed() {
    let part = Numbered { bad: vec![7, 10], ..Numbered::new(26) }.boxed();
    let loader = AnnotatedLoader::new(part, boxes(), config(2)).unwrap();
    for epoch in 0..2 {
        for batch in loader.epoch(epoch, 0) {
            let batch = batch.unwrap();
            assert_eq!(batch.indices.len(), 4);
            for ((&index, objects), original) in batch.indices.iter().zip(&batch.objects).zip(&batch.originals) {
                assert!(![7, 10].contains(&index));
                let (width, height) = Numbered::size(index);
                assert_eq!(original, &[height as usize, width as usize]);
                assert_eq!(objects.len(), index % 3);
                assert!(objects.iter().all(|object| object.class as usize == index));
            }
        }
    }
    let bad = loader.bad();
    assert_eq!(bad.keys().copied().collect::<Vec<_>>(), [7, 10]);
    assert_eq!(bad[&7].name, "numbered-7");
    assert!(bad[&7].reason.contains("made to fail"));
    assert_eq!(loader.bad_files().len(), 2);
}

#[test]
fn a_map_that_is_missing_or_of_another_size_is_a_bad_sample() {
    let part = Numbered { bad_maps: vec![1], small_maps: vec![4], ..Numbered::new(26) }.masked();
    let loader = AnnotatedLoader::new(part, labels(), LoaderConfig { drop_last: false, ..config(2) }).unwrap();
    for batch in loader.epoch(0, 0) {
        let batch = batch.unwrap();
        let area = batch.height * batch.width;
        for (index, labels) in batch.indices.iter().zip(batch.labels.chunks_exact(area)) {
            assert!(![1, 4].contains(index));
            assert!(labels.iter().all(|&label| [*index as u8, 200, 255].contains(&label)));
        }
    }
    let reasons: Vec<String> = loader.bad_files().into_iter().map(|bad| bad.reason).collect();
    assert_eq!(reasons.len(), 2);
    assert!(reasons[0].contains("map-1: no such labels"), "{}", reasons[0]);
    // Image 4 has 32 columns and 24 rows.
    let expected = "numbered-4: expected labels for its 32x24 pixels, found a map of 31x24";
    assert!(reasons[1].contains(expected), "{}", reasons[1]);
}

#[test]
fn a_test_goes_in_order_and_leaves_out_what_is_unreadable() {
    let bad = Numbered { bad: vec![2, 4, 5, 6, 7], ..Numbered::new(18) };
    let views = DetectionTest { views: boxes(), short_px: 20 };
    // Nothing of the second batch can be read, so there is none.
    let loader = AnnotatedLoader::new(bad.boxed(), views, in_order(2)).unwrap();
    assert_eq!(loader.batches_per_epoch(), 5);
    let all: Vec<DetectionBatch> = loader.epoch(0, 0).map(Result::unwrap).collect();
    let indices: Vec<&[usize]> = all.iter().map(|batch| batch.indices.as_slice()).collect();
    assert_eq!(indices, [&[0, 1, 3][..], &[8, 9, 10, 11], &[12, 13, 14, 15], &[16, 17]]);
    assert!(all.iter().flat_map(|batch| &batch.sizes).all(|size| size[0].min(size[1]) == 20));
    assert_eq!(loader.bad().len(), 5);
    // Epochs do not differ: nothing is drawn.
    assert_eq!(loader.epoch(1, 0).map(Result::unwrap).collect::<Vec<_>>(), all);
}

#[test]
fn too_many_unreadable_samples_are_an_error() {
    let part = Numbered { bad: (0..10).collect(), ..Numbered::new(26) };
    let loader = AnnotatedLoader::new(part.boxed(), boxes(), config(2)).unwrap();
    let message = loader.epoch(0, 0).last().unwrap().unwrap_err().to_string();
    assert!(message.contains("of 26 images are unreadable, at most 7"), "{message}");
    let known = loader.bad();
    // What an earlier part of a run found is not tried again.
    let again = AnnotatedLoader::new(Numbered::new(26).boxed(), boxes(), config(2)).unwrap();
    again.add_bad(&known);
    assert_eq!(again.bad(), known);
    assert!(again.epoch(0, 0).any(|batch| batch.is_err()));
}

#[test]
fn impossible_settings_are_refused() {
    let fail = |part: BoxedPart, views: DetectionViews, config| {
        AnnotatedLoader::new(part, views, config).err().unwrap().to_string()
    };
    let part = || Numbered::new(26).boxed();
    let fewer = BoxedPart { objects: Arc::new(vec![vec![]; 25]), ..part() };
    assert!(fail(fewer, boxes(), config(1)).contains("a list for each of 26 images"));
    assert!(fail(part(), DetectionViews { max_px: 0, ..boxes() }, config(1)).contains("longest side"));
    assert!(fail(part(), boxes(), LoaderConfig { batch_size: 0, ..config(1) }).contains("batch size"));
    assert!(fail(part(), boxes(), LoaderConfig { batch_size: 27, ..config(1) }).contains("found 26 images"));
    let test = DetectionTest { views: boxes(), short_px: 0 };
    assert!(AnnotatedLoader::new(part(), test, config(1)).err().unwrap().to_string().contains("short side"));
}
