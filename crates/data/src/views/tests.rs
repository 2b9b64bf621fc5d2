//! Every entry of the augmentation fixture, and the statistics of the sampled views.

use serde_json::Value;

use super::planes::Planes;
use super::resize::{ResizeScratch, resized_crop_into};
use super::{blur, colour, hue, *};
use crate::{Image, Rng};

/// The fixture: its description and its tensors.
struct Golden {
    json: Value,
    bytes: Vec<u8>,
}

impl Golden {
    fn open() -> Self {
        let folder = std::env::var("OCELLI_GOLDEN")
            .unwrap_or_else(|_| std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default() + "/../../tests/golden");
        let json = std::fs::read_to_string(format!("{folder}/augment.json")).unwrap();
        let bytes = std::fs::read(format!("{folder}/augment.safetensors")).unwrap();
        Self { json: serde_json::from_str(&json).unwrap(), bytes }
    }

    fn names(&self) -> Vec<String> {
        let tensors = safetensors::SafeTensors::deserialize(&self.bytes).unwrap();
        tensors.names().into_iter().map(|name| name.to_string()).collect()
    }

    fn raw(&self, key: &str) -> (Vec<usize>, Vec<u8>) {
        let tensors = safetensors::SafeTensors::deserialize(&self.bytes).unwrap();
        let view = tensors.tensor(key).unwrap();
        (view.shape().to_vec(), view.data().to_vec())
    }

    fn image(&self, key: &str) -> Image {
        let (shape, data) = self.raw(key);
        assert_eq!(shape[2], 3);
        Image::new(shape[1] as u32, shape[0] as u32, data).unwrap()
    }

    fn floats(&self, key: &str) -> Vec<f32> {
        let (_, data) = self.raw(key);
        data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    fn config(&self, key: &str) -> &Value {
        &self.json["config"][key]
    }

    fn triple(&self, key: &str) -> [f32; 3] {
        let list = numbers(self.config(key));
        [list[0] as f32, list[1] as f32, list[2] as f32]
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn px(value: &Value) -> u32 {
    value.as_u64().unwrap() as u32
}

/// The fixture allows a level or more for other ways of rounding; ours is the reference's, so none is allowed here.
#[track_caller]
fn assert_same(what: &str, ours: &Image, expected: &Image) {
    assert_eq!((ours.width, ours.height), (expected.width, expected.height), "{what}");
    let wrong = ours.data.iter().zip(&expected.data).filter(|(a, b)| a != b).count();
    let worst = ours.data.iter().zip(&expected.data).map(|(a, b)| a.abs_diff(*b)).max();
    assert_eq!(wrong, 0, "{what}: {wrong} levels differ, by at most {worst:?}");
}

#[track_caller]
fn assert_close(what: &str, ours: &[f32], expected: &[f32], atol: f32) {
    assert_eq!(ours.len(), expected.len(), "{what}");
    for (i, (a, b)) in ours.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= atol, "{what}: {a} against {b} at {i}");
    }
}

/// Printed key of a factor: 0.6, 1.35, 0.0.
fn key_of(factor: f64) -> String {
    format!("{factor:?}")
}

fn changed(image: &Image, change: impl FnOnce(&mut Planes)) -> Image {
    let mut planes = Planes::from_image(image);
    change(&mut planes);
    planes.to_image()
}

#[test]
fn crops_match_the_fixture() {
    let golden = Golden::open();
    let image = golden.image("image");
    let crops = golden.config("crop_resize").as_array().unwrap();
    assert!(!crops.is_empty());
    for entry in crops {
        let key = entry["key"].as_str().unwrap();
        let crop = CropBox {
            top: px(&entry["top"]),
            left: px(&entry["left"]),
            height: px(&entry["height"]),
            width: px(&entry["width"]),
        };
        let (width, height) = (px(&entry["out_width"]), px(&entry["out_height"]));
        for (name, filter) in [("bicubic", Filter::Bicubic), ("bilinear", Filter::Bilinear)] {
            let key = format!("{key}.{name}");
            let ours = resized_crop(&image, crop, width, height, filter);
            assert_same(&key, &ours, &golden.image(&key));
        }
    }
}

/// Cutting is what resampling to the same size comes to.
#[test]
fn a_crop_of_the_same_size_is_cut() {
    let image = Golden::open().image("image");
    let (width, height) = (image.width / 3, image.height / 4);
    let crop = CropBox { top: image.height / 7, left: image.width / 9, height, width };
    for filter in [Filter::Bicubic, Filter::Bilinear] {
        let mut planes = Planes::default();
        planes.set_size(width as usize, height as usize);
        resized_crop_into(&image, crop, filter, false, &mut ResizeScratch::default(), &mut planes);
        assert_same("cut", &resized_crop(&image, crop, width, height, filter), &planes.to_image());
    }
}

#[test]
fn colour_operations_match_the_fixture() {
    let golden = Golden::open();
    let base = golden.image("base48");
    let factors = golden.config("factors");
    type Operation = fn(&mut Planes, f64);
    let operations: [(&str, Operation); 4] = [
        ("brightness", colour::brightness),
        ("contrast", colour::contrast),
        ("saturation", colour::saturation),
        ("hue", hue::rotate_hue),
    ];
    for (name, operation) in operations {
        for factor in numbers(&factors[name]) {
            let key = format!("{name}.{}", key_of(factor));
            assert_same(&key, &changed(&base, |p| operation(p, factor)), &golden.image(&key));
        }
    }
    assert_same("grayscale", &changed(&base, colour::greyscale), &golden.image("grayscale"));
    // The thresholds are in the tensors' names alone.
    let thresholds: Vec<u8> =
        golden.names().iter().filter_map(|name| name.strip_prefix("solarize.")?.parse().ok()).collect();
    assert!(!thresholds.is_empty(), "no solarized pictures in the fixture");
    for threshold in thresholds {
        let key = format!("solarize.{threshold}");
        let ours = changed(&base, |p| colour::solarize(p, threshold));
        assert_same(&key, &ours, &golden.image(&key));
    }
    for sigma in numbers(golden.config("blur_radii")) {
        let key = format!("blur.{}", key_of(sigma));
        let ours = changed(&base, |p| blur::gaussian_blur(p, sigma, &mut Default::default()));
        assert_same(&key, &ours, &golden.image(&key));
    }
    let mut hsv = base;
    for pixel in hsv.data.chunks_exact_mut(3) {
        pixel.copy_from_slice(&hue::rgb_to_hsv(pixel[0], pixel[1], pixel[2]));
    }
    assert_same("hsv_of_base48", &hsv, &golden.image("hsv_of_base48"));
}

#[test]
fn flip_and_normalise_match_the_fixture() {
    let golden = Golden::open();
    let base = golden.image("base48");
    let flipped = ViewSpec { size_px: base.width, ..ViewSpec::default() }
        .render(&base, &ViewParams { flip: true, ..ViewParams::plain(CropBox::whole(&base)) });
    assert_same("flip", &flipped, &golden.image("flip"));
    let atol = golden.json["tolerance"]["normalised"]["atol"].as_f64().unwrap() as f32;
    let mut ours = vec![0.0; base.data.len()];
    normalise_into(&base, golden.triple("mean"), golden.triple("std"), &mut ours);
    assert_close("normalised", &ours, &golden.floats("normalised"), atol);
}

#[test]
fn pipelines_match_the_fixture() {
    let golden = Golden::open();
    let image = golden.image("image");
    let atol = golden.json["tolerance"]["normalised"]["atol"].as_f64().unwrap() as f32;
    let pipelines = golden.config("pipelines").as_array().unwrap();
    assert!(!pipelines.is_empty());
    for entry in pipelines {
        let key = entry["key"].as_str().unwrap();
        let corners: Vec<u32> = entry["box"].as_array().unwrap().iter().map(px).collect();
        let steps: Vec<JitterStep> = entry["jitter_order"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| {
                let name = name.as_str().unwrap();
                let factor = entry[name].as_f64().unwrap();
                match name {
                    "brightness" => JitterStep::Brightness(factor),
                    "contrast" => JitterStep::Contrast(factor),
                    "saturation" => JitterStep::Saturation(factor),
                    "hue" => JitterStep::Hue(factor),
                    other => panic!("unknown operation {other}"),
                }
            })
            .collect();
        let crop = CropBox { top: corners[0], left: corners[1], height: corners[2], width: corners[3] };
        let params = ViewParams {
            flip: entry["flip"].as_bool().unwrap(),
            jitter: (!steps.is_empty()).then_some(steps),
            grayscale: entry["grayscale"].as_bool().unwrap(),
            blur: entry["blur"].as_f64(),
            solarize: !entry["solarize"].is_null(),
            ..ViewParams::plain(crop)
        };
        let spec = ViewSpec {
            size_px: px(&entry["size"]),
            solarize_threshold: entry["solarize"].as_u64().unwrap_or(128) as u8,
            ..ViewSpec::default()
        };
        assert_same(key, &spec.render(&image, &params), &golden.image(&format!("{key}.uint8")));
        let expected = golden.floats(&format!("{key}.normalised"));
        let mut ours = vec![0.0; expected.len()];
        let (mean, std) = (golden.triple("mean"), golden.triple("std"));
        spec.render_into(&image, &params, mean, std, &mut Scratch::default(), &mut ours);
        assert_close(key, &ours, &expected, atol);
    }
}

#[test]
fn validation_transform_matches_the_fixture() {
    let golden = Golden::open();
    let image = golden.image("image");
    let sizes = golden.config("validation");
    let mut transform = EvalTransform {
        resize_short_px: Some(px(&sizes["resize_short_side"])),
        crop_px: None,
        ..EvalTransform::default()
    };
    assert_same("val_resize", &transform.apply(&image), &golden.image("val_resize"));
    transform.crop_px = Some(px(&sizes["center_crop"]));
    assert_same("val_center_crop", &transform.apply(&image), &golden.image("val_center_crop"));
    transform = EvalTransform { resize_short_px: None, crop_px: None, ..transform };
    assert_same("plain", &transform.apply(&image), &image);
}

#[test]
fn crop_sizes_match_the_fixture() {
    let golden = Golden::open();
    let image = golden.image("image");
    let entries = golden.config("random_resized_crop_sizes").as_array().unwrap();
    assert!(!entries.is_empty());
    for entry in entries {
        let (width, height, fits) = random_resized_crop_size(
            entry["area_fraction"].as_f64().unwrap(),
            entry["aspect"].as_f64().unwrap(),
            image.width,
            image.height,
        );
        assert_eq!((width, height), (px(&entry["width"]), px(&entry["height"])), "{entry}");
        assert_eq!(fits, entry["fits"].as_bool().unwrap(), "{entry}");
    }
}

#[test]
fn centre_crop_pads_small_images_with_black() {
    let image = Image::filled(3, 6, [200, 100, 50]);
    let transform = EvalTransform { resize_short_px: None, crop_px: Some(4), ..EvalTransform::default() };
    let out = transform.apply(&image);
    assert_eq!((out.width, out.height), (4, 4));
    // torchvision pads (4 − 3) / 2 = 0 columns on the left and one on the right.
    assert_eq!(out.pixel(2, 3), Some([200, 100, 50]));
    assert_eq!(out.pixel(3, 0), Some([0, 0, 0]));
}

/// Within five standard deviations of a binomial count.
#[track_caller]
fn assert_frequency(what: &str, count: usize, draws: usize, p: f32) {
    let (draws, p) = (draws as f64, f64::from(p));
    let off = (count as f64 - draws * p).abs();
    assert!(off <= 5.0 * (draws * p * (1.0 - p)).sqrt(), "{what}: {count} of {draws}, p = {p}");
}

#[test]
fn sampled_views_have_the_stated_statistics() {
    const DRAWS: usize = 20_000;
    let plan = ViewPlan::dino(DinoViews::default());
    assert_eq!(plan.views.len(), 10);
    assert_eq!(plan.groups(), vec![(224, 0..2), (96, 2..10)]);
    let (width, height) = (500, 375);
    for spec in &plan.views[..3] {
        let jitter = spec.jitter.unwrap();
        let blur = spec.blur.unwrap();
        let mut counts = [0usize; 5];
        let mut first = [0usize; 4];
        for i in 0..DRAWS {
            let params = spec.sample(width, height, &mut Rng::for_sample(3, 1, i as u64));
            let flags =
                [params.flip, params.jitter.is_some(), params.grayscale, params.blur.is_some(), params.solarize];
            counts.iter_mut().zip(flags).for_each(|(count, flag)| *count += usize::from(flag));
            let CropBox { top, left, height: h, width: w } = params.crop;
            assert!(h >= 1 && w >= 1 && top + h <= height && left + w <= width);
            let area = f64::from(w * h) / f64::from(width * height);
            let slack = 0.005;
            assert!(area > f64::from(spec.scale[0]) - slack && area < f64::from(spec.scale[1]) + slack);
            let aspect = f64::from(w) / f64::from(h);
            assert!(aspect > 0.73 && aspect < 1.36, "{aspect}");
            if let Some(sigma) = params.blur {
                assert!((0.1f32 as f64..2.0).contains(&sigma));
            }
            for (at, step) in params.jitter.iter().flatten().enumerate() {
                let (kind, value, low, high) = match *step {
                    JitterStep::Brightness(f) => (0, f, 0.6, 1.4),
                    JitterStep::Contrast(f) => (1, f, 0.6, 1.4),
                    JitterStep::Saturation(f) => (2, f, 0.8, 1.2),
                    JitterStep::Hue(f) => (3, f, -0.1, 0.1),
                };
                assert!(value > low - 1e-6 && value < high + 1e-6, "{step:?}");
                first[kind] += usize::from(at == 0);
            }
        }
        assert_frequency("flip", counts[0], DRAWS, spec.flip_prob);
        assert_frequency("jitter", counts[1], DRAWS, jitter.prob);
        assert_frequency("grayscale", counts[2], DRAWS, spec.grayscale_prob);
        assert_frequency("blur", counts[3], DRAWS, blur.prob);
        assert_frequency("solarize", counts[4], DRAWS, spec.solarize_prob);
        for count in first {
            assert_frequency("first jitter step", count, counts[1], 0.25);
        }
    }
}

#[test]
fn odd_images_still_give_crops() {
    let spec = ViewSpec { size_px: 8, scale: [0.9, 1.0], ..ViewSpec::default() };
    for (width, height) in [(1, 1), (1, 500), (500, 1), (3, 2)] {
        let image = Image::filled(width, height, [10, 20, 30]);
        for i in 0..50 {
            let params = spec.sample(width, height, &mut Rng::for_sample(0, 0, i));
            let view = spec.render(&image, &params);
            assert!(view.data.chunks_exact(3).all(|p| p == [10, 20, 30]));
        }
    }
}

#[test]
fn settings_out_of_range_are_named() {
    let plan = ViewPlan::dino(DinoViews { global_scale: [0.5, 1.5], ..DinoViews::default() });
    let message = plan.validate().unwrap_err().to_string();
    assert!(message.contains("crop scale") && message.contains("1.5"), "{message}");
    let plan = ViewPlan::dino(DinoViews { local_size_px: 0, ..DinoViews::default() });
    assert!(plan.validate().unwrap_err().to_string().contains("view size"));
    assert!(ViewPlan::dino(DinoViews::default()).validate().is_ok());
}
