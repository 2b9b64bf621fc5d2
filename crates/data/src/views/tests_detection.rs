//! Sizes of views with boxes, boxes that follow the pixels, and what is dropped.

use super::*;
use crate::annotated::ObjectBox;
use crate::{Image, Rng};

fn boxed(xyxy: [f32; 4]) -> ObjectBox {
    ObjectBox { class: 3, xyxy, ..ObjectBox::default() }
}

/// Black, with a white block that covers the box.
fn block([width, height]: [u32; 2], [x1, y1, x2, y2]: [u32; 4]) -> Image {
    let mut image = Image::filled(width, height, [0; 3]);
    for (i, pixel) in image.data.chunks_exact_mut(3).enumerate() {
        let (x, y) = (i as u32 % width, i as u32 / width);
        if (x1..x2).contains(&x) && (y1..y2).contains(&y) {
            pixel.fill(255);
        }
    }
    image
}

/// The box around the pixels of the first channel that are more white than black.
fn white(sample: &DetectionSample) -> [f32; 4] {
    let mut found = [f32::MAX, f32::MAX, 0.0, 0.0];
    for (i, &value) in sample.pixels[..sample.height * sample.width].iter().enumerate() {
        if value > 0.5 {
            let (x, y) = ((i % sample.width) as f32, (i / sample.width) as f32);
            found = [found[0].min(x), found[1].min(y), found[2].max(x + 1.0), found[3].max(y + 1.0)];
        }
    }
    found
}

/// Views whose pixels are levels scaled to 0..1.
fn plain(short_px: Vec<usize>, max_px: usize) -> DetectionViews {
    DetectionViews { short_px, max_px, mean: [0.0; 3], std: [1.0; 3], ..DetectionViews::default() }
}

#[test]
fn sizes_are_the_published_formula() {
    for (from, short, max, to) in [
        ([480, 640], 480, 1333, [480, 640]),
        ([375, 500], 800, 1333, [800, 1067]),
        ([500, 375], 800, 1333, [1067, 800]),
        ([333, 500], 608, 1333, [608, 913]),
        // The long side decides: 2667 would be too long.
        ([300, 1000], 800, 1333, [400, 1333]),
        ([200, 200], 224, 1333, [224, 224]),
        ([1, 10_000], 800, 1333, [1, 1333]),
    ] {
        assert_eq!(short_side_size(from, short, max), to, "{from:?}, {short}, {max}");
    }
    let published = DetectionViews::default();
    assert_eq!(published.short_px, [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]);
    published.validate().unwrap();
}

#[test]
fn boxes_follow_the_pixels() {
    let views = plain(vec![24, 40, 57, 120], 150);
    let mut scratch = Scratch::default();
    let (mut mirrored, mut heights) = (0, std::collections::BTreeSet::new());
    for seed in 0..60 {
        let mut rng = Rng::from_words(&[21, seed]);
        let (x, y) = (rng.below(60) as u32, rng.below(30) as u32);
        let (w, h) = (8 + rng.below(10) as u32, 8 + rng.below(10) as u32);
        let corners = [x, y, x + w, y + h];
        let image = block([80, 50], corners);
        let object = boxed(corners.map(|c| c as f32));
        let sample = views.draw(&image, &[object], &mut rng, &mut scratch);
        assert_eq!(sample.original, [50, 80]);
        assert_eq!(sample.pixels.len(), 3 * sample.height * sample.width);
        let (found, given) = (white(&sample), sample.objects[0].xyxy);
        let worst = found.iter().zip(given).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= 1.0, "seed {seed}: the block is at {found:?}, the box at {given:?}");
        let scale = sample.width as f32 / 80.0;
        let straight = (given[0] - x as f32 * scale).abs() < 1e-3;
        mirrored += usize::from(!straight);
        heights.insert(sample.height);
    }
    // Five standard deviations of a binomial(60, ½) are 19; the block may lie in the middle once or twice.
    assert!((9..=50).contains(&mirrored), "{mirrored} of 60 were mirrored");
    // The size of 120 is cut down by the limit: 192 columns would be too many.
    assert_eq!(heights.into_iter().collect::<Vec<_>>(), [24, 40, 57, 94]);
}

#[test]
fn a_mirrored_box_is_the_width_minus_x() {
    let views = DetectionViews { flip: 1.0, ..plain(vec![20], 100) };
    let object = ObjectBox { area_px: Some(100.0), ..boxed([2.0, 1.0, 7.0, 9.0]) };
    let sample =
        views.draw(&block([30, 10], [0; 4]), &[object], &mut Rng::from_words(&[1]), &mut Scratch::default());
    assert_eq!((sample.height, sample.width), (20, 60));
    assert_eq!(sample.objects[0].xyxy, [46.0, 2.0, 56.0, 18.0]);
    assert_eq!(sample.objects[0].area_px, Some(400.0));
    assert_eq!(sample.objects[0].class, 3);
}

#[test]
fn boxes_are_clipped_and_crowds_and_empty_ones_left_out() {
    let objects = [
        boxed([-5.0, -5.0, 4.0, 4.0]),
        ObjectBox { is_difficult: true, ..boxed([10.0, 5.0, 50.0, 60.0]) },
        ObjectBox { is_crowd: true, ..boxed([0.0, 0.0, 20.0, 20.0]) },
        boxed([40.0, 2.0, 45.0, 5.0]),
        boxed([3.0, 3.0, 3.0, 8.0]),
        boxed([f32::NAN, 3.0, 6.0, 8.0]),
        boxed([9.0, 8.0, 5.0, 2.0]),
    ];
    let image = block([30, 20], [0; 4]);
    let views = DetectionViews { flip: 0.0, ..plain(vec![40], 100) };
    let sample = views.draw(&image, &objects, &mut Rng::from_words(&[2]), &mut Scratch::default());
    let boxes: Vec<[f32; 4]> = sample.objects.iter().map(|object| object.xyxy).collect();
    // Corners in the wrong order are put right.
    assert_eq!(boxes, [[0.0, 0.0, 8.0, 8.0], [20.0, 10.0, 60.0, 40.0], [10.0, 4.0, 18.0, 16.0]]);
    assert!(sample.objects[1].is_difficult);
    let test = views.at_test(&image, &objects, 10, &mut Scratch::default());
    assert_eq!((test.height, test.width, test.objects.len()), (10, 15, objects.len()));
    assert!(test.objects[2].is_crowd);
    assert_eq!(test.objects[0].xyxy, [0.0, 0.0, 2.0, 2.0]);
}

#[test]
fn pixels_are_normalised_and_batches_padded_with_zeros() {
    let views = DetectionViews::default();
    let rgb = [200, 100, 7];
    let mut scratch = Scratch::default();
    let objects = [boxed([1.0, 1.0, 4.0, 5.0])];
    let wide = views.at_test(&Image::filled(30, 20, rgb), &objects, 12, &mut scratch);
    let high = views.at_test(&Image::filled(20, 30, rgb), &[], 10, &mut scratch);
    let expected = [0, 1, 2].map(|c| (f32::from(rgb[c]) / 255.0 - IMAGENET_MEAN[c]) / IMAGENET_STD[c]);
    let batch = DetectionBatch::new(vec![(8, wide.clone()), (5, high)]);
    assert_eq!((batch.height, batch.width, batch.indices.as_slice()), (15, 18, &[8, 5][..]));
    assert_eq!(batch.sizes, [[12, 18], [15, 10]]);
    assert_eq!(batch.originals, [[20, 30], [30, 20]]);
    assert_eq!(batch.objects, [wide.objects, vec![]]);
    assert_eq!(batch.pixels.len(), 2 * 3 * 15 * 18);
    for (at, &value) in batch.pixels.iter().enumerate() {
        let [x, y, channel, image] = [at % 18, at / 18 % 15, at / 270 % 3, at / 810];
        let [rows, columns] = batch.sizes[image];
        let inside = y < rows && x < columns;
        assert_eq!(value, if inside { expected[channel] } else { 0.0 }, "{image}, {channel}, {y}, {x}");
    }
}

#[test]
fn impossible_settings_are_refused() {
    let fail = |views: DetectionViews| views.validate().unwrap_err().to_string();
    assert!(fail(plain(vec![], 100)).contains("at least one size"));
    assert!(fail(plain(vec![480, 0], 100)).contains("found 0"));
    assert!(fail(plain(vec![480], 1 << 20)).contains("longest side"));
    assert!(fail(DetectionViews { flip: f64::NAN, ..DetectionViews::default() }).contains("flip"));
    assert!(fail(DetectionViews { std: [1.0, 0.0, 1.0], ..DetectionViews::default() }).contains("deviation"));
}
