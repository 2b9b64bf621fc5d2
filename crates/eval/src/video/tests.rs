use serde_json::Value;

use super::mask::{first_labels, hard_mask, nearest, upsampled};
use super::*;
use crate::golden::Fixture;

const NAME: &str = "davis_propagation";

fn size(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

/// The fixture's video and one of its cases.
struct Case {
    key: String,
    config: PropagationConfig,
    grid: GridSize,
    original: [usize; 2],
    patch: usize,
    /// `[cells, dim]` each.
    frames: Vec<Vec<f32>>,
    labels: Vec<f32>,
}

fn cases(fixture: &Fixture) -> Vec<Case> {
    let config = &fixture.json["config"];
    let grid = GridSize { rows: size(&config["grid"][0]), columns: size(&config["grid"][1]) };
    let original = [size(&config["original_size"][1]), size(&config["original_size"][0])];
    let features = fixture.f32s("features");
    let frames: Vec<Vec<f32>> =
        features.chunks_exact(grid.cells() * size(&config["dim"])).map(<[f32]>::to_vec).collect();
    assert_eq!(frames.len(), size(&config["frames"]));
    let labels = first_labels(&fixture.u8s("first_mask_original"), original, grid).unwrap();
    assert_eq!(labels, fixture.f32s("first_labels"), "the first mask at the grid's size");
    assert_eq!(labels.len() / grid.cells(), size(&config["labels_with_background"]));
    let of = |case: &Value| Case {
        key: case["key"].as_str().unwrap().to_owned(),
        config: PropagationConfig {
            last_frames: size(&case["n_last_frames"]),
            radius: size(&case["radius"]),
            top_k: size(&case["topk"]),
            temperature: config["temperature"].as_f64().unwrap(),
            threads: 1,
        },
        grid,
        original,
        patch: size(&config["patch"]),
        frames: frames.clone(),
        labels: labels.clone(),
    };
    config["cases"].as_array().unwrap().iter().map(of).collect()
}

impl Case {
    fn start(&self, config: PropagationConfig) -> Propagation {
        Propagation::new(config, self.grid, &self.frames[0], self.labels.clone()).unwrap()
    }
}

fn close(found: &[f32], want: &[f32], fixture: &Fixture, tolerance: &str, what: &str) {
    let atol = fixture.json["tolerance"][tolerance]["atol"].as_f64().unwrap() as f32;
    assert_eq!(found.len(), want.len(), "{what}");
    for (i, (found, want)) in found.iter().zip(want).enumerate() {
        assert!((found - want).abs() <= atol, "{what} at {i}: {found} for {want}");
    }
}

/// `[context cells, cells]`.
fn dense(affinity: &[Affinity], context: usize) -> Vec<f32> {
    let cells = affinity.len();
    let mut all = vec![0.0; context * cells * cells];
    for (target, sources) in affinity.iter().enumerate() {
        for (source, weight) in sources {
            all[*source as usize * cells + target] = *weight;
        }
    }
    all
}

#[test]
fn fixture_soft_labels_affinities_and_masks() {
    let fixture = Fixture::load(NAME);
    for case in cases(&fixture) {
        let (key, grid) = (&case.key, case.grid);
        let mut video = case.start(case.config);
        let soft = fixture.f32s(&format!("{key}.soft_labels"));
        let masks = fixture.u8s(&format!("{key}.masks"));
        let per_frame = case.original[0] * case.original[1];
        let contexts = fixture.json["expected"][key]["context_frames"].as_array().unwrap();
        for (t, features) in case.frames.iter().enumerate().skip(1) {
            let context = video.context().count();
            assert_eq!(context, contexts[t - 1].as_array().unwrap().len(), "{key}: context of frame {t}");
            let affinity = dense(&video.affinity(&video.queries(features).unwrap()), context);
            for (frame, name) in [(1, "affinity_frame1"), (case.frames.len() - 1, "affinity_last_frame")] {
                if t == frame {
                    let want = fixture.f32s(&format!("{key}.{name}"));
                    close(&affinity, &want, &fixture, "affinity", &format!("{key}.{name}"));
                }
            }
            let labels = video.next(features).unwrap().to_vec();
            let want = &soft[(t - 1) * labels.len()..][..labels.len()];
            close(&labels, want, &fixture, "soft_labels", &format!("{key}: labels of frame {t}"));
            if t == 1 {
                let up: Vec<f32> =
                    labels.chunks_exact(grid.cells()).flat_map(|l| upsampled(l, grid, case.patch)).collect();
                let want = fixture.f32s(&format!("{key}.upsampled_normalised_frame1"));
                close(&up, &want, &fixture, "upsampled_normalised", key);
            }
            let mask = hard_mask(&labels, grid, case.patch, case.original).unwrap();
            let want = &masks[(t - 1) * per_frame..][..per_frame];
            // The margins of the fixture are wider than f32 is off: two pixels are what it allows.
            let off = mask.iter().zip(want).filter(|(a, b)| a != b).count();
            assert!(off <= 2, "{key}: {off} pixels of frame {t} differ");
            let counts = fixture.json["expected"][key]["pixels_per_label_and_frame"][t - 1].as_array().unwrap();
            for (label, count) in counts.iter().enumerate() {
                let found = mask.iter().filter(|l| usize::from(**l) == label).count();
                assert!(found.abs_diff(size(count)) <= 2, "{key}: label {label} of frame {t}");
            }
        }
    }
}

#[test]
fn fixture_neighbourhood_is_the_square_around_a_cell() {
    let fixture = Fixture::load(NAME);
    let mut compared = 0;
    for case in cases(&fixture) {
        let name = format!("{}.neighbourhood", case.key);
        if !fixture.names().contains(&name.as_str()) {
            continue;
        }
        // With room for all, exactly what lies in the square has an affinity.
        let all = PropagationConfig { top_k: case.grid.cells(), ..case.config };
        let video = case.start(all);
        let affinity = dense(&video.affinity(&video.queries(&case.frames[1]).unwrap()), 1);
        let found: Vec<u8> = affinity.iter().map(|weight| u8::from(*weight > 0.0)).collect();
        assert_eq!(found, fixture.u8s(&name));
        compared += 1;
    }
    assert!(compared > 0);
}

#[test]
fn fixture_nearest_maps() {
    let fixture = Fixture::load(NAME);
    let maps = fixture.json["config"]["nearest_maps"].as_array().unwrap();
    assert!(!maps.is_empty());
    for name in maps.iter().map(|name| name.as_str().unwrap()) {
        let (from, to) = name.strip_prefix("nearest.").unwrap().split_once("to").unwrap();
        let found = nearest(from.parse().unwrap(), to.parse().unwrap());
        let want: Vec<usize> = fixture.i64s(name).into_iter().map(|i| i as usize).collect();
        assert_eq!(found, want, "{name}");
    }
}

#[test]
fn fixture_network_sizes() {
    let fixture = Fixture::load(NAME);
    let config = &fixture.json["config"];
    let examples = config["network_size_examples"].as_array().unwrap();
    assert!(!examples.is_empty());
    let published = size(&config["published"]["patch"]);
    let defaults = PropagationConfig::default();
    for (name, found) in
        [("n_last_frames", defaults.last_frames), ("radius", defaults.radius), ("topk", defaults.top_k)]
    {
        assert_eq!(found, size(&config["published"][name]), "{name}");
    }
    for example in examples {
        let of = |key: &str, i: usize| size(&example[key][i]);
        let (width, height) = (of("original", 1), of("original", 0));
        let short = if width >= height { of("network", 0) } else { of("network", 1) };
        let found = network_size(width, height, short, published).unwrap();
        assert_eq!(found, [of("network", 1), of("network", 0)], "{width} × {height}");
    }
}

#[test]
fn threads_do_not_change_a_bit_and_blocks_of_any_shape_fit() {
    // Larger than a block both ways, and no multiple of one.
    let (grid, dim) = (GridSize { rows: 11, columns: 21 }, 19);
    let mut state = 7u32;
    let mut number = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let frames: Vec<Vec<f32>> = (0..4).map(|_| (0..grid.cells() * dim).map(|_| number()).collect()).collect();
    let mask: Vec<u8> = (0..grid.cells()).map(|i| u8::from(i % 5 == 0) + u8::from(i % 7 == 0)).collect();
    let labels = first_labels(&mask, [grid.columns, grid.rows], grid).unwrap();
    for radius in [0, 1, 3, 50] {
        let run = |threads| {
            let config = PropagationConfig { threads, radius, ..PropagationConfig::default() };
            let mut video = Propagation::new(config, grid, &frames[0], labels.clone()).unwrap();
            let affinity = video.affinity(&video.queries(&frames[1]).unwrap());
            let labels: Vec<Vec<f32>> = frames[1..].iter().map(|f| video.next(f).unwrap().to_vec()).collect();
            (affinity, labels)
        };
        let one = run(1);
        for threads in [2, 3, 64] {
            assert_eq!(run(threads), one, "radius {radius}, {threads} threads");
        }
        // Against all cosines in f64.
        let unit = |f: &[f32]| -> Vec<f64> {
            let norm = f.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            f.iter().map(|v| f64::from(*v) / norm).collect()
        };
        let at = |frame: &[f32], cell: usize| unit(&frame[cell * dim..][..dim]);
        for target in 0..grid.cells() {
            let (y, x) = (target / grid.columns, target % grid.columns);
            let query = at(&frames[1], target);
            let mut sources: Vec<(u32, f64)> = (0..grid.cells())
                .filter(|s| {
                    let (v, u) = (s / grid.columns, s % grid.columns);
                    radius == 0 || (y.abs_diff(v) <= radius && x.abs_diff(u) <= radius)
                })
                .map(|s| (s as u32, at(&frames[0], s).iter().zip(&query).map(|(a, b)| a * b).sum()))
                .collect();
            sources.sort_by(|a, b| b.1.total_cmp(&a.1));
            sources.truncate(5);
            sources.sort_by_key(|s| s.0);
            let sum: f64 = sources.iter().map(|s| (s.1 / 0.1).exp()).sum();
            assert_eq!(one.0[target].len(), sources.len());
            for ((source, weight), (want, cosine)) in one.0[target].iter().zip(&sources) {
                assert_eq!(source, want, "radius {radius}, cell {target}");
                assert!((f64::from(*weight) - (cosine / 0.1).exp() / sum).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn equal_sources_all_count_and_the_context_has_its_length() {
    // All cells alike: every source ties, so every label is the mean over the square.
    let grid = GridSize { rows: 3, columns: 5 };
    let features = vec![1.0; grid.cells() * 4];
    let mask: Vec<u8> = (0..grid.cells()).map(|i| u8::from(i % grid.columns < 2)).collect();
    let labels = first_labels(&mask, [grid.columns, grid.rows], grid).unwrap();
    for last_frames in [0, 1, 3] {
        let config = PropagationConfig { radius: 0, last_frames, ..PropagationConfig::default() };
        let mut video = Propagation::new(config, grid, &features, labels.clone()).unwrap();
        for frame in 1..6 {
            assert_eq!(video.context().count(), 1 + last_frames.min(frame - 1), "frame {frame}");
            let found = video.next(&features).unwrap();
            for value in &found[grid.cells()..] {
                assert!((value - 0.4).abs() < 1e-5, "{found:?}");
            }
        }
    }
}

#[test]
fn constant_channels_void_and_vanished_objects() {
    let grid = GridSize { rows: 2, columns: 2 };
    // A constant channel above 0 stays as it is; one of zeros too.
    assert_eq!(upsampled(&[0.3; 4], grid, 2), [0.3; 16]);
    assert_eq!(upsampled(&[0.0; 4], grid, 2), [0.0; 16]);
    assert_eq!(upsampled(&[0.2, 0.2, 0.2, 0.6], grid, 1), [0.0, 0.0, 0.0, 1.0]);
    // Object 2 is one pixel that the nearest pixels miss, and void is no object.
    let mut mask = vec![0u8; 64];
    mask[..4].fill(1);
    mask[8..12].fill(1);
    mask[16..20].fill(1);
    mask[24..28].fill(1);
    mask[63] = 2;
    mask[36..40].fill(255);
    mask[60..63].fill(255);
    let labels = first_labels(&mask, [8, 8], grid).unwrap();
    assert_eq!(labels, [0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    let hard = hard_mask(&labels, grid, 4, [8, 8]).unwrap();
    assert_eq!((hard[0], hard[7], hard[63]), (1, 0, 0));
}

#[test]
fn frames_are_resized_between_pixel_centres() {
    let row = [0, 0, 0, 100, 50, 200];
    assert_eq!(resize_bilinear(&row, [2, 1], [2, 1]).unwrap(), row);
    let wide = resize_bilinear(&row, [2, 1], [4, 2]).unwrap();
    assert_eq!(wide[..12], [0, 0, 0, 25, 13, 50, 75, 38, 150, 100, 50, 200]);
    assert_eq!(wide[..12], wide[12..]);
    let small = resize_bilinear(&wide, [4, 2], [2, 1]).unwrap();
    assert_eq!(small, [13, 7, 25, 88, 44, 175]);
    assert!(resize_bilinear(&row, [3, 1], [2, 1]).is_err());
    assert!(resize_bilinear(&row, [2, 1], [0, 1]).is_err());
}

#[test]
fn bad_input_is_refused() {
    let grid = GridSize { rows: 1, columns: 2 };
    let config = PropagationConfig::default();
    let new = |config, features: &[f32], labels: &[f32]| {
        Propagation::new(config, grid, features, labels.to_vec()).map(|_| ()).unwrap_err().to_string()
    };
    for (wrong, words) in [
        (PropagationConfig { top_k: 0, ..config }, "top_k"),
        (PropagationConfig { threads: 0, ..config }, "threads"),
        (PropagationConfig { temperature: 0.0, ..config }, "temperature"),
        (PropagationConfig { temperature: f64::NAN, ..config }, "temperature"),
    ] {
        assert!(new(wrong, &[1.0; 4], &[1.0; 2]).contains(words));
    }
    assert!(new(config, &[1.0; 3], &[1.0; 2]).contains("features"));
    assert!(new(config, &[1.0; 4], &[1.0; 3]).contains("labels"));
    assert!(new(config, &[], &[]).contains("empty"));
    assert!(new(config, &[1.0, 1.0, f32::NAN, 1.0], &[1.0; 2]).contains("cell 1"));
    let mut video = Propagation::new(config, grid, &[1.0; 4], vec![1.0; 2]).unwrap();
    assert!(video.next(&[1.0; 6]).unwrap_err().to_string().contains("first frame"));
    assert!(network_size(854, 480, 32, 16).is_err() && network_size(0, 480, 480, 16).is_err());
    assert!(hard_mask(&[1.0; 3], grid, 2, [4, 4]).is_err() && hard_mask(&[], grid, 2, [4, 4]).is_err());
}
