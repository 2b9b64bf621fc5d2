use burn::tensor::{Tensor, TensorData};
use ocelli_kernels::roi_align::roi_align_reference;
use ocelli_kernels::{Roi, RoiAlignShape, roi_align};

use crate::common::*;

fn shape(rows: usize, cols: usize, scale: f32, sampling_ratio: usize) -> RoiAlignShape {
    RoiAlignShape { rows, cols, scale, sampling_ratio }
}

fn run(
    f: impl Fn(&Tensor<4>, &[Roi], RoiAlignShape) -> Tensor<4>,
    x: Tensor<4>,
    rois: &[Roi],
    how: RoiAlignShape,
) -> (Tensor<4>, Tensor<4>) {
    let x = x.require_grad();
    let y = f(&x, rois, how);
    let grads = weigh(y.clone()).backward();
    (y, x.grad(&grads).unwrap())
}

fn kernel(x: &Tensor<4>, rois: &[Roi], how: RoiAlignShape) -> Tensor<4> {
    roi_align(x.clone(), rois, how)
}

fn check(x: &Tensor<4>, rois: &[Roi], how: RoiAlignShape) {
    let what = format!("roi_align of {} boxes on {:?} {how:?}", rois.len(), x.dims());
    let want = run(roi_align_reference, double(x), rois, how);
    let got = run(kernel, x.clone().detach(), rois, how);
    close(&what, &got.0, &want.0, 2e-6);
    close(&format!("{what} dx"), &got.1, &want.1, 2e-6);
}

/// Boxes on images of a map, most of them on it, some beyond its edges, of all sizes, and two empty ones.
fn boxes(seed: u64, count: usize, [images, height, width]: [usize; 3], scale: f32) -> Vec<Roi> {
    let (wide, high) = (width as f32 / scale, height as f32 / scale);
    let drawn = numbers(seed, 5 * count, 0.2);
    let mut rois: Vec<Roi> = drawn
        .chunks_exact(5)
        .map(|d| {
            let [x, y] = [(d[0] + 0.5) * wide, (d[1] + 0.5) * high];
            let [w, h] = [d[2].abs() * 2.0 * wide, d[3].abs() * 2.0 * high];
            let image = (d[4].abs() * 1e4) as usize % images;
            Roi { image, xyxy: [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0] }
        })
        .collect();
    rois.push(Roi { image: 0, xyxy: [1.0, 1.0, 1.0, 3.0] });
    rois.insert(0, Roi { image: images - 1, xyxy: [0.25 * wide, 0.5 * high, 0.75 * wide, 0.5 * high] });
    rois
}

/// The definition, sample by sample.
fn plainly(x: &Tensor<4>, rois: &[Roi], how: RoiAlignShape) -> Vec<f64> {
    let ([_, channels, height, width], x) = (x.dims(), list(x));
    let scale = f64::from(how.scale);
    let mut out = Vec::new();
    for roi in rois {
        let [x1, y1, x2, y2] = roi.xyxy.map(f64::from);
        let bins = [(y2 - y1) * scale / how.rows as f64, (x2 - x1) * scale / how.cols as f64];
        let [down, across] = bins.map(|b| match how.sampling_ratio {
            0 => b.ceil().max(0.0) as usize,
            ratio => ratio,
        });
        for channel in 0..channels {
            let map = &x[(roi.image * channels + channel) * height * width..][..height * width];
            for cell in 0..how.rows * how.cols {
                let (row, col) = ((cell / how.cols) as f64, (cell % how.cols) as f64);
                let mut sum = 0.0;
                for sample in 0..down * across {
                    let (i, j) = ((sample / across) as f64, (sample % across) as f64);
                    let y = y1 * scale - 0.5 + row * bins[0] + (i + 0.5) * bins[0] / down as f64;
                    let x = x1 * scale - 0.5 + col * bins[1] + (j + 0.5) * bins[1] / across as f64;
                    sum += sampled(map, [height, width], [y, x]);
                }
                out.push(sum / (down * across).max(1) as f64);
            }
        }
    }
    out
}

fn sampled(map: &[f64], [height, width]: [usize; 2], [y, x]: [f64; 2]) -> f64 {
    if y < -1.0 || y > height as f64 || x < -1.0 || x > width as f64 {
        return 0.0;
    }
    let near = |v: f64, size: usize| {
        let (v, last) = (v.max(0.0), size - 1);
        let low = v.floor() as usize;
        if low >= last { (last, last, 0.0) } else { (low, low + 1, v - low as f64) }
    };
    let ((top, bottom, down), (left, right, across)) = (near(y, height), near(x, width));
    let at = |row: usize, col: usize| map[row * width + col];
    (1.0 - down) * ((1.0 - across) * at(top, left) + across * at(top, right))
        + down * ((1.0 - across) * at(bottom, left) + across * at(bottom, right))
}

#[test]
fn reference_is_the_definition() {
    for (maps, how) in [
        ([2, 3, 14, 18], shape(14, 14, 1.0 / 16.0, 0)),
        ([2, 3, 14, 18], shape(7, 7, 1.0 / 16.0, 2)),
        ([1, 2, 5, 3], shape(2, 3, 0.5, 0)),
        ([3, 1, 1, 1], shape(3, 1, 0.25, 1)),
        ([2, 2, 40, 31], shape(5, 2, 1.0, 0)),
    ] {
        let x = random::<4>(1, maps, 1.0);
        let rois = boxes(7, 24, [maps[0], maps[2], maps[3]], how.scale);
        let got = list(&roi_align_reference(&double(&x), &rois, how));
        agree(&format!("{maps:?} {how:?}"), &got, &plainly(&x, &rois, how), 1e-6);
    }
}

#[test]
fn agrees_with_the_reference() {
    for (maps, count, how) in [
        ([2, 3, 14, 18], 20, shape(14, 14, 1.0 / 16.0, 0)),
        ([2, 4, 14, 18], 20, shape(7, 7, 1.0 / 16.0, 2)),
        // More channels than the CPU takes at a time, and than one of its tasks has.
        ([2, 19, 9, 7], 9, shape(7, 7, 0.125, 0)),
        ([1, 132, 12, 12], 5, shape(14, 14, 0.0625, 0)),
        // Few cells, many outputs; many cells, few outputs; wider than any vector.
        ([3, 2, 1, 1], 12, shape(3, 2, 0.25, 1)),
        ([3, 8, 2, 3], 12, shape(5, 3, 0.25, 0)),
        ([1, 5, 50, 67], 12, shape(2, 1, 0.0625, 0)),
        ([1, 1, 33, 40], 30, shape(17, 35, 0.5, 3)),
        ([4, 4, 5, 5], 1, shape(1, 1, 1.0, 0)),
    ] {
        let x = random::<4>(1, maps, 1.0);
        check(&x, &boxes(3, count, [maps[0], maps[2], maps[3]], how.scale), how);
    }
}

#[test]
fn takes_strided_features() {
    let x = random::<4>(1, [9, 7, 4, 3], 1.0).permute([3, 2, 1, 0]).slice([0..2, 0..4, 1..7, 0..8]);
    check(&x, &boxes(2, 10, [2, 6, 8], 0.5), shape(3, 4, 0.5, 0));
}

#[test]
fn images_without_a_box_get_no_gradient() {
    let rois = [Roi { image: 2, xyxy: [8.0, 8.0, 40.0, 40.0] }];
    let (y, dx) = run(kernel, random(1, [4, 3, 8, 8], 1.0), &rois, shape(4, 4, 0.125, 0));
    assert_eq!(y.dims(), [1, 3, 4, 4]);
    for (image, dx) in list(&dx).chunks_exact(3 * 64).enumerate() {
        assert_eq!(dx.iter().any(|g| *g != 0.0), image == 2, "image {image}");
    }
}

#[test]
fn boxes_without_a_sample_give_zeros() {
    let nan = f32::NAN;
    let astray = [
        [3.0, 3.0, 3.0, 9.0],
        [9.0, 3.0, 3.0, 9.0],
        [-400.0, 0.0, -200.0, 30.0],
        [nan, 0.0, 9.0, 9.0],
        [0.0, 0.0, f32::INFINITY, 9.0],
        [nan; 4],
        [f32::MIN, f32::MIN, f32::MIN, f32::MIN],
    ];
    let mut rois: Vec<Roi> = astray.iter().map(|b| Roi { image: 0, xyxy: *b }).collect();
    let x = random::<4>(1, [1, 5, 6, 7], 1.0);
    let how = shape(3, 4, 0.25, 0);
    let (y, dx) = run(kernel, x.clone(), &rois, how);
    assert!(list(&y).iter().chain(&list(&dx)).all(|v| *v == 0.0));
    // One that has some changes nothing about the others.
    rois.insert(3, Roi { image: 0, xyxy: [2.0, 2.0, 17.0, 19.0] });
    let (mixed, _) = run(kernel, x.clone(), &rois, how);
    let size = 5 * 12;
    for (roi, part) in list(&mixed).chunks_exact(size).enumerate() {
        assert_eq!(part.iter().any(|v| *v != 0.0), roi == 3, "box {roi}");
    }
    check(&x, &rois, how);
    // As large as numbers go: it takes no time, and next to no sample is on the map.
    let all = [Roi { image: 0, xyxy: [f32::MIN, f32::MIN, f32::MAX, f32::MAX] }];
    finite("the largest box", &roi_align(x, &all, how));
}

#[test]
fn nothing_gives_nothing() {
    let x = random::<4>(1, [2, 3, 8, 8], 1.0);
    let how = shape(7, 5, 0.5, 0);
    assert_eq!(roi_align(x.clone(), &[], how).dims(), [0, 3, 7, 5]);
    let rois = boxes(1, 3, [2, 8, 8], 0.5);
    assert_eq!(roi_align(x.slice_dim(1, 0..0), &rois, how).dims(), [5, 0, 7, 5]);
}

#[test]
#[should_panic(expected = "box 1 is on image 2, there are 2")]
fn a_box_on_no_image_is_refused() {
    let rois = [0, 2].map(|image| Roi { image, xyxy: [0.0, 0.0, 4.0, 4.0] });
    roi_align(random::<4>(1, [2, 3, 8, 8], 1.0), &rois, shape(7, 7, 0.5, 0));
}

#[test]
fn gradients_only_where_asked() {
    let x = random::<4>(1, [1, 4, 6, 6], 1.0);
    let scale = Tensor::<4>::from_data(TensorData::new(vec![2.0f32], [1, 1, 1, 1]), &device()).require_grad();
    let y = roi_align(x.clone(), &boxes(1, 3, [1, 6, 6], 0.5), shape(2, 2, 0.5, 0));
    let grads = (y * scale.clone()).sum().backward();
    assert!(x.grad(&grads).is_none() && scale.grad(&grads).is_some());
}

#[test]
fn a_hundred_calls_give_the_same_bits() {
    let (x, rois) = (random::<4>(1, [2, 9, 13, 11], 1.0), boxes(5, 30, [2, 13, 11], 0.25));
    let all = || {
        let (y, dx) = run(kernel, x.clone().detach(), &rois, shape(7, 7, 0.25, 0));
        vec![bits(&y), bits(&dx)]
    };
    let first = all();
    for call in 1..100 {
        assert!(all() == first, "call {call} differs");
    }
}

#[test]
fn is_the_same_on_any_number_of_threads() {
    let rois = boxes(5, 60, [3, 20, 21], 0.0625);
    same_bits("roi_align", || {
        let (y, dx) = run(kernel, random(1, [3, 150, 20, 21], 1.0), &rois, shape(7, 7, 0.0625, 0));
        vec![bits(&y), bits(&dx)]
    });
}

#[test]
fn reference_passes_finite_differences() {
    let x = random::<4>(1, [2, 2, 5, 4], 1.0);
    for how in [shape(3, 2, 0.25, 0), shape(2, 3, 0.25, 2)] {
        let rois = boxes(9, 6, [2, 5, 4], how.scale);
        differences("x", &x, |x| roi_align_reference(&x, &rois, how));
    }
}
