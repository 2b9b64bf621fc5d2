//! Sizes of views with labels, labels that stay with their pixels, the share of a class, and padding.

use super::*;
use crate::annotated::{IGNORED, LabelMap};
use crate::{Image, Rng};

/// The colours of the classes in [`patchwork`].
const COLOURS: [[u8; 3]; 4] = [[0, 0, 0], [250, 0, 0], [0, 250, 0], [0, 0, 250]];

/// Cells of 16 pixels of random classes: the colours and the labels.
fn patchwork(width: usize, height: usize, seed: u64) -> (Image, LabelMap) {
    let label = |i: usize| {
        let (x, y) = (i % width / 16, i / width / 16);
        Rng::from_words(&[seed, x as u64, y as u64]).below(4) as u8
    };
    let labels: Vec<u8> = (0..width * height).map(label).collect();
    let data = labels.iter().flat_map(|&label| COLOURS[usize::from(label)]).collect();
    (Image::new(width as u32, height as u32, data).unwrap(), LabelMap { width, height, labels })
}

/// Crops whose pixels are levels scaled to 0..1.
fn plain(scale_px: [usize; 2], ratio: [f64; 2], crop_px: [usize; 2]) -> SegmentationViews {
    let (mean, std) = ([0.0; 3], [1.0; 3]);
    SegmentationViews { scale_px, ratio, crop_px, photometric: false, mean, std, ..SegmentationViews::default() }
}

#[test]
fn sizes_are_the_published_formula() {
    for (from, scale, to) in [
        ([375, 500], [2048, 512], [512, 683]),
        ([500, 375], [512, 2048], [683, 512]),
        // The long side decides.
        ([100, 1000], [2048, 512], [205, 2048]),
        ([1024, 2048], [2049, 1025], [1025, 2049]),
        ([1, 9000], [2048, 512], [1, 2048]),
    ] {
        assert_eq!(fitted_size(from, scale), to, "{from:?} in {scale:?}");
    }
    SegmentationViews::default().validate().unwrap();
    SegmentationTest::default().validate().unwrap();
}

#[test]
fn labels_stay_with_their_pixels() {
    let views = plain([120, 100], [0.5, 2.0], [64, 80]);
    let mut checked = 0;
    for seed in 0..40 {
        let (image, map) = patchwork(120, 90, seed);
        let sample = views.draw(&image, &map, &mut Rng::from_words(&[5, seed]), &mut Scratch::default());
        assert_eq!((sample.height, sample.width), (64, 80));
        assert_eq!((sample.pixels.len(), sample.labels.len()), (3 * 64 * 80, 64 * 80));
        for y in 2..62 {
            for x in 2..78 {
                // A resize mixes neighbours: only pixels amid their like are looked at.
                let near = |i: usize| sample.labels[(y + i / 5 - 2) * 80 + x + i % 5 - 2];
                let label = near(12);
                if label == IGNORED || (0..25).any(|i| near(i) != label) {
                    continue;
                }
                for (channel, level) in COLOURS[usize::from(label)].into_iter().enumerate() {
                    let value = sample.pixels[(channel * 64 + y) * 80 + x];
                    assert_eq!(value, f32::from(level) / 255.0, "seed {seed}, class {label} at {x}, {y}");
                }
                checked += 1;
            }
        }
    }
    assert!(checked > 40_000, "{checked}");
}

#[test]
fn labels_are_the_nearest_and_a_flip_mirrors_both() {
    let (image, map) = patchwork(50, 34, 3);
    let straight = SegmentationViews { flip: 0.0, ..plain([100, 68], [1.0, 1.0], [68, 100]) };
    let draw =
        |views: &SegmentationViews| views.draw(&image, &map, &mut Rng::from_words(&[6]), &mut Scratch::default());
    let sample = draw(&straight);
    for (i, &label) in sample.labels.iter().enumerate() {
        let (x, y) = (i % 100, i / 100);
        assert_eq!(label, map.labels[y / 2 * 50 + x / 2], "{x}, {y}");
    }
    let mirrored = draw(&SegmentationViews { flip: 1.0, ..straight });
    assert_ne!(mirrored, sample);
    for (a, b) in sample.labels.chunks_exact(100).zip(mirrored.labels.chunks_exact(100)) {
        assert!(a.iter().eq(b.iter().rev()));
    }
    for (a, b) in sample.pixels.chunks_exact(100).zip(mirrored.pixels.chunks_exact(100)) {
        assert!(a.iter().eq(b.iter().rev()));
    }
}

/// Half of the map is of another class: of the 49 places of a crop of 16 columns, 7 have less than three quarters of either.
#[test]
fn crops_of_one_class_are_drawn_again() {
    const DRAWS: usize = 20_000;
    const FITS: f64 = 7.0 / 49.0;
    let image = Image::filled(64, 64, [9; 3]);
    let map = LabelMap { width: 64, height: 64, labels: (0..64 * 64).map(|i| u8::from(i % 64 >= 32)).collect() };
    let fitting = |views: &SegmentationViews| {
        let mut rng = Rng::from_words(&[8]);
        let mut scratch = Scratch::default();
        let mut fits = || {
            let labels = views.draw(&image, &map, &mut rng, &mut scratch).labels;
            let ones = labels.iter().filter(|&&label| label == 1).count();
            ones.max(256 - ones) * 4 < 256 * 3
        };
        (0..DRAWS).filter(|_| fits()).count() as f64 / DRAWS as f64
    };
    let views = plain([64, 64], [1.0, 1.0], [16, 16]);
    // Ten are looked at, the one after is taken as it is. Five standard deviations are .0137.
    let (found, expected) = (fitting(&views), 1.0 - (1.0 - FITS).powi(11));
    assert!((found - expected).abs() < 0.0137, "{found}, expected {expected}");
    let any = SegmentationViews { max_class_share: 1.0, ..views };
    let found = fitting(&any);
    assert!((found - FITS).abs() < 0.0124, "{found}, expected {FITS}");
}

/// Unlabelled pixels do not count: beside them one class fills all that is labelled, and such crops are drawn again.
#[test]
fn ignored_pixels_have_no_share() {
    let image = Image::filled(60, 10, [9; 3]);
    // Columns: 20 of class 2 and 20 unlabelled, alternating by column; then 20 that alternate between classes 2 and 3.
    let label = |x: usize| match (x < 40, x % 2) {
        (_, 0) => 2,
        (true, _) => IGNORED,
        (false, _) => 3,
    };
    let map = LabelMap { width: 60, height: 10, labels: (0..600).map(|i| label(i % 60)).collect() };
    let views = plain([60, 10], [1.0, 1.0], [10, 10]);
    let mixed = |share: f64| {
        let views = SegmentationViews { max_class_share: share, ..views };
        let mut rng = Rng::from_words(&[12]);
        let draw = |_: &usize| {
            let labels = views.draw(&image, &map, &mut rng, &mut Scratch::default()).labels;
            labels.contains(&3)
        };
        (0..400).filter(draw).count()
    };
    // A crop without class 3 has share 1: half the pixels, all of the labelled ones. By chance 19 of 51 places show class 3.
    // 17 show so much of it that class 2 has less than three quarters: ten tries miss all of them in 2 % of the draws.
    assert!(mixed(0.75) > 380, "{}", mixed(0.75));
    assert!((100..200).contains(&mixed(1.0)), "{}", mixed(1.0));

    let unlabelled = LabelMap { labels: vec![IGNORED; 600], ..map };
    let sample = views.draw(&image, &unlabelled, &mut Rng::from_words(&[1]), &mut Scratch::default());
    assert!(sample.labels.iter().all(|&label| label == IGNORED));
    let short = LabelMap { labels: vec![1; 7], ..map };
    let sample = views.draw(&image, &short, &mut Rng::from_words(&[1]), &mut Scratch::default());
    assert!(sample.labels.iter().all(|label| [1, IGNORED].contains(label)));
}

#[test]
fn what_lies_beyond_the_image_is_padding() {
    let (image, map) = patchwork(40, 30, 4);
    let views = SegmentationViews {
        ratio: [0.7, 0.7],
        scale_px: [100, 40],
        crop_px: [50, 60],
        ..SegmentationViews::default()
    };
    // ⌊40·.7⌋ = 28 rows: 28/30 of 40 columns are 37.
    let sample = views.draw(&image, &map, &mut Rng::from_words(&[9]), &mut Scratch::default());
    for (i, &label) in sample.labels.iter().enumerate() {
        let (x, y) = (i % 60, i / 60);
        let inside = x < 37 && y < 28;
        assert_eq!(label != IGNORED, inside, "{x}, {y}");
        // Normalised black is not 0, so neither is the padding before normalisation.
        assert!(inside || (0..3).all(|c| sample.pixels[c * 3000 + i] == 0.0), "{x}, {y}");
    }
    assert!(sample.pixels[..37].iter().all(|&value| value != 0.0));
}

#[test]
fn photometric_distortion_changes_colours_alone() {
    let (image, map) = patchwork(64, 64, 5);
    let plain = plain([64, 64], [0.5, 2.0], [32, 32]);
    let distorted = SegmentationViews { photometric: true, ..plain };
    let mut changed = 0;
    for seed in 0..20 {
        let draw = |views: &SegmentationViews| {
            views.draw(&image, &map, &mut Rng::from_words(&[13, seed]), &mut Scratch::default())
        };
        let (a, b) = (draw(&plain), draw(&distorted));
        assert_eq!(a.labels, b.labels);
        assert!(b.pixels.iter().all(|value| (0.0..=1.0).contains(value)));
        changed += usize::from(a.pixels != b.pixels);
    }
    // All four are left out once in sixteen times.
    assert!((13..=20).contains(&changed), "{changed}");
}

#[test]
fn a_test_view_is_the_whole_image() {
    let (image, _) = patchwork(50, 30, 6);
    let whole = SegmentationTest { scale_px: None, ..SegmentationTest::default() };
    let view = whole.view(&image, &mut Scratch::default());
    let mut expected = vec![0.0; image.data.len()];
    normalise_into(&image, IMAGENET_MEAN, IMAGENET_STD, &mut expected);
    assert_eq!(view, TestView { pixels: expected, height: 30, width: 50 });
    let resized = SegmentationTest { scale_px: Some([200, 60]), ..whole };
    let view = resized.view(&image, &mut Scratch::default());
    assert_eq!((view.height, view.width, view.pixels.len()), (60, 100, 3 * 6000));
}

#[test]
fn batches_are_padded_to_the_largest() {
    let sample = |height: usize, width: usize, label: u8| SegmentationSample {
        pixels: vec![f32::from(label); 3 * height * width],
        labels: vec![label; height * width],
        height,
        width,
    };
    let batch = SegmentationBatch::new(vec![(4, sample(2, 3, 1)), (9, sample(3, 2, 2))]);
    assert_eq!((batch.height, batch.width, batch.indices.as_slice()), (3, 3, &[4, 9][..]));
    let ignored = IGNORED;
    assert_eq!(batch.labels[..9], [1, 1, 1, 1, 1, 1, ignored, ignored, ignored]);
    assert_eq!(batch.labels[9..], [2, 2, ignored, 2, 2, ignored, 2, 2, ignored]);
    let planes: Vec<&[f32]> = batch.pixels.chunks_exact(9).collect();
    assert_eq!(planes.len(), 6);
    assert!(planes[..3].iter().all(|plane| *plane == [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]));
    assert!(planes[3..].iter().all(|plane| *plane == [2.0, 2.0, 0.0, 2.0, 2.0, 0.0, 2.0, 2.0, 0.0]));
    assert!(SegmentationBatch::new(vec![]).pixels.is_empty());
}

#[test]
fn impossible_settings_are_refused() {
    let fail = |views: SegmentationViews| views.validate().unwrap_err().to_string();
    let usual = SegmentationViews::default;
    assert!(fail(SegmentationViews { crop_px: [512, 0], ..usual() }).contains("crop of segmentation"));
    assert!(fail(SegmentationViews { scale_px: [1 << 20, 512], ..usual() }).contains("1 to 8192"));
    assert!(fail(SegmentationViews { ratio: [0.0, 1.0], ..usual() }).contains("ratio"));
    assert!(fail(SegmentationViews { ratio: [1.0, f64::NAN], ..usual() }).contains("ratio"));
    assert!(fail(SegmentationViews { max_class_share: 0.0, ..usual() }).contains("share"));
    assert!(fail(SegmentationViews { flip: -0.1, ..usual() }).contains("flip"));
    assert!(fail(SegmentationViews { mean: [f32::NAN; 3], ..usual() }).contains("mean"));
}
