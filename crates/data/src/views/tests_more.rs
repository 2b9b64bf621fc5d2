//! Every tensor of the fixture `augment_more`, by its name; what the name does not say is in the fixture's description.

use std::collections::BTreeMap;

use safetensors::Dtype;

use super::convolve::{convolution_blur, infomin_blur};
use super::planes::Planes;
use super::tests_golden::{Golden, assert_same, cut_of, fill, numbers, px};
use super::*;
use crate::Image;

/// What the fixture calls the operations that have a tolerance of their own.
const LOOKUPS: &str = "lookup operations (auto_contrast .. solarize_add), jigsaw";
const BLENDS: &str = "color, contrast, brightness, sharpness";

/// A turn, shear or shift by the name of its tensor without the interpolation.
fn change(name: &str, value: f64) -> Option<Affine> {
    Some(match name {
        "rotate" => Affine::Rotate(value),
        "shear_x" => Affine::ShearX(value),
        "shear_y" => Affine::ShearY(value),
        "translate_x_rel" => Affine::TranslateX(value),
        "translate_y_rel" => Affine::TranslateY(value),
        _ => return None,
    })
}

fn level_step(name: &str, value: &str) -> Option<RandStep> {
    let factor = || value.parse().unwrap();
    Some(match name {
        "auto_contrast" => RandStep::AutoContrast,
        "equalize" => RandStep::Equalize,
        "invert" => RandStep::Invert,
        "posterize" => RandStep::Posterize(value.parse().unwrap()),
        "solarize" => RandStep::Solarize(value.parse().unwrap()),
        "solarize_add" => RandStep::SolarizeAdd(value.parse().unwrap()),
        "color" => RandStep::Colour(factor()),
        "contrast" => RandStep::Contrast(factor()),
        "brightness" => RandStep::Brightness(factor()),
        "sharpness" => RandStep::Sharpness(factor()),
        _ => return None,
    })
}

fn affine_case(golden: &Golden, key: &str, change: Affine, interpolation: &str) {
    let interpolation = match interpolation {
        "bilinear" => Interpolation::Bilinear,
        "bicubic" => Interpolation::Bicubic,
        other => panic!("{key}: unknown interpolation {other}"),
    };
    let base = golden.image("base");
    let matrix = change.matrix(base.width, base.height);
    for (ours, expected) in matrix.iter().zip(numbers(&golden.config("affine_matrices")[key])) {
        assert!((ours - expected).abs() < 1e-12, "{key}: {matrix:?}");
    }
    assert_same(golden, (key, "affine"), &change.apply(&base, interpolation, fill(golden)));
}

fn float_case(golden: &Golden, key: &str, name: &str, value: &str) {
    let factor = || value.parse::<f32>().unwrap();
    let mut planes = golden.planes("float_base");
    match name {
        "brightness" => planes.brightness(factor()),
        "brightness_add" => planes.brightness_add(factor()),
        "contrast" => planes.contrast(factor()),
        "saturation" => planes.saturation(factor()),
        "hue" => planes.hue(factor()),
        "grayscale" => planes.grayscale(),
        "distortion" | "distortion_grayscale" => {
            let distortion = golden.config("float_distortion");
            for step in distortion["order"].as_array().unwrap() {
                let name = step.as_str().unwrap();
                let factor = distortion["factors"][name].as_f64().unwrap();
                let step = match name {
                    "brightness" => JitterStep::Brightness(factor),
                    "contrast" => JitterStep::Contrast(factor),
                    "saturation" => JitterStep::Saturation(factor),
                    "hue" => JitterStep::Hue(factor),
                    other => panic!("unknown operation {other}"),
                };
                planes.jitter(step, FloatBrightness::Multiply);
            }
            if name == "distortion_grayscale" {
                planes.grayscale();
            }
        }
        "blur" => {
            let entry = golden.entry("float_blur", key);
            planes.fill_from(&Planes::from_image(&golden.image("base")));
            let radius = blur_radius(planes.height as u32);
            assert_eq!(radius, px(&entry["radius"]), "{key}");
            let sigma = entry["sigma"].as_f64().unwrap();
            let kernel: Vec<f32> = numbers(&entry["kernel"]).iter().map(|&w| w as f32).collect();
            golden.assert_close(key, &blur_kernel(sigma, radius), &kernel);
            convolution_blur(&mut planes, sigma);
        }
        other => panic!("{key}: unknown operation {other}"),
    }
    golden.assert_close(key, &planes.data, &golden.planes(key).data);
}

fn mix_case(golden: &Golden, key: &str, what: &str) {
    let entry = golden.entry("mix", key);
    let labels: Vec<usize> = golden.integers("mix.labels").iter().map(|&l| l as usize).collect();
    let (shape, mut images) = golden.floats("mix.images");
    let cut = (!entry["box_y0_y1_x0_x1"].is_null()).then(|| cut_of(&entry["box_y0_y1_x0_x1"]));
    let draw = MixDraw { lambda: entry["effective_lambda"].as_f64().unwrap(), cut };
    let expected = golden.floats(&format!("{key}.{what}")).1;
    match what {
        "images" => {
            draw.apply(&mut images, shape[0], [shape[2], shape[3]]);
            golden.assert_close(key, &images, &expected);
        }
        "targets" => {
            let smoothing = entry["smoothing"].as_f64().unwrap() as f32;
            let targets = draw.targets(&labels, px(&entry["classes"]) as usize, smoothing).unwrap();
            golden.assert_close(key, &targets, &expected);
        }
        other => panic!("{key}: unknown tensor {other}"),
    }
}

/// The patches of the jigsaw, rendered as views.
fn patches(golden: &Golden) -> Vec<Image> {
    let config = golden.config("jigsaw");
    let (text, per_side) = (config["image"].as_str().unwrap(), px(&config["grid"]));
    let (side, formula) = text.split_once('x').unwrap();
    let side: u32 = side.parse().unwrap();
    let formula = formula.split_once('=').unwrap().1;
    let n: Vec<u32> = formula.split(|c: char| !c.is_ascii_digit()).filter_map(|t| t.parse().ok()).collect();
    assert_eq!(n.len(), 5, "{formula}");
    let level = |i: u32| {
        let (y, x, c) = (i / 3 / side, i / 3 % side, i % 3);
        ((n[0] * y + n[1] * x + n[2] * c + (y * x) % n[3]) % n[4]) as u8
    };
    let image = Image::new(side, side, (0..3 * side * side).map(level).collect()).unwrap();
    let size_px = px(&config["patch"]);
    let stride_px = px(&config["cell"]);
    let jitter_px = stride_px - size_px;
    let grid = Grid { canvas_px: side, per_side, stride_px, jitter_px, shuffled: false };
    let most = config["offsets"].as_str().unwrap().split("..").nth(1).unwrap().split(' ').next().unwrap();
    assert_eq!(most.parse::<u32>().unwrap(), jitter_px);
    let views = grid.views(per_side * per_side, &ViewSpec { size_px, ..ViewSpec::default() });
    let offsets = golden.integers("jigsaw.offset_y").into_iter().zip(golden.integers("jigsaw.offset_x"));
    let patch = |((cell, view), (down, across)): ((u32, &ViewSpec), (i64, i64))| {
        let (left, top) = grid.origin(cell);
        let (left, top) = (left + across as u32, top + down as u32);
        let window = Window { canvas_width: side, canvas_height: side, left, top, size_px };
        let params = ViewParams { window: Some(window), ..ViewParams::plain(CropBox::whole(&image)) };
        view.render(&image, &params)
    };
    (0..).zip(&views).zip(offsets).map(patch).collect()
}

fn jigsaw_case(golden: &Golden, key: &str, what: &str) {
    let patches = patches(golden);
    let sums = |weight: fn(i64) -> i64| -> Vec<i64> {
        let of = |patch: &Image, c: usize| {
            let levels = patch.data.iter().skip(c).step_by(3).zip(0..);
            levels.map(|(&v, i): (_, i64)| i64::from(v) * weight(i % i64::from(patch.width))).sum()
        };
        patches.iter().flat_map(|p| (0..3).map(move |c| of(p, c))).collect()
    };
    match what {
        // Read by every other case.
        "offset_y" | "offset_x" => {}
        "sums" => assert_eq!(sums(|_| 1), golden.integers(key)),
        "column_weighted_sums" => assert_eq!(sums(|column| column), golden.integers(key)),
        "corners" => {
            let corners = |p: &Image| {
                let last = p.width - 1;
                [(0, 0), (last, 0), (0, last), (last, last)].map(|(x, y)| p.pixel(x, y).unwrap()).concat()
            };
            let ours: Vec<u8> = patches.iter().flat_map(corners).collect();
            assert_eq!(ours, golden.raw(key, Dtype::U8).1);
        }
        patch => {
            // Counted from 0.
            let number: usize = patch.strip_prefix("patch").and_then(|n| n.parse().ok()).expect(key);
            assert_same(golden, (key, LOOKUPS), &patches[number]);
        }
    }
}

fn erase_case(golden: &Golden, key: &str) {
    let (shape, mut data) = golden.floats("erase.input");
    let at = &golden.config("erase")["box"];
    let [top, left, height, width] = ["top", "left", "height", "width"].map(|side| px(&at[side]));
    erase(&mut data, [shape[1], shape[2]], CropBox { top, left, height, width }, &golden.floats("erase.noise").1);
    golden.assert_close(key, &data, &golden.floats("erase.output").1);
}

/// Runs one tensor; what kind of case it was.
fn case(golden: &Golden, key: &str) -> &'static str {
    let (first, rest) = key.split_once('.').unwrap_or((key, ""));
    match first {
        "base" | "float_base" => "input",
        "float" => {
            let (name, value) = rest.split_once('.').unwrap_or((rest, ""));
            float_case(golden, key, name, value);
            "float"
        }
        "infomin_blur" => {
            let mut planes = Planes::from_image(&golden.image("base"));
            infomin_blur(&mut planes, rest.parse().unwrap(), &mut FloatPlanes::default());
            assert_same(golden, (key, "infomin_blur"), &planes.to_image());
            "blur"
        }
        "erase" => {
            match rest {
                "input" | "noise" => {}
                "output" => erase_case(golden, key),
                other => panic!("unknown tensor erase.{other}"),
            }
            "erase"
        }
        "mix" => {
            match rest.split_once('.') {
                None => assert!(["images", "labels"].contains(&rest), "unknown tensor {key}"),
                Some(_) => {
                    let (entry, what) = key.rsplit_once('.').unwrap();
                    mix_case(golden, entry, what);
                }
            }
            "mix"
        }
        "jigsaw" => {
            jigsaw_case(golden, key, rest);
            "jigsaw"
        }
        name => {
            if let Some(step) = level_step(name, rest) {
                let blends = BLENDS.split(", ").any(|blend| blend == name);
                let kind = if blends { BLENDS } else { LOOKUPS };
                assert_same(golden, (key, kind), &step.apply(&golden.image("base"), fill(golden)));
                return "level";
            }
            let (value, interpolation) = rest.rsplit_once('.').unwrap_or_else(|| panic!("unknown tensor {key}"));
            let value = value.parse().unwrap_or_else(|_| panic!("unknown tensor {key}"));
            let change = change(name, value).unwrap_or_else(|| panic!("unknown tensor {key}"));
            affine_case(golden, key, change, interpolation);
            "affine"
        }
    }
}

#[test]
fn every_tensor_of_the_fixture_is_matched() {
    let golden = Golden::open();
    let mut cases: BTreeMap<&str, usize> = BTreeMap::new();
    for key in golden.names() {
        *cases.entry(case(&golden, &key)).or_default() += 1;
    }
    let kinds = ["affine", "blur", "erase", "float", "input", "jigsaw", "level", "mix"];
    assert_eq!(cases.keys().copied().collect::<Vec<_>>(), kinds, "{cases:?}");
}
