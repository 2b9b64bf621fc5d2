//! Scores of detections: the fixture of PASCAL VOC's and COCO's figures, and real boxes with VOC's AP by class.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ocelli::eval::detection::{Detection, Interpolation, Truth, VocScores, coco_scores, voc, voc_scores};
use serde_json::Value;

use crate::support::{Fixture, Tolerance, assert_close};

/// Boxes, `[rows, 4]`.
fn boxes(fixture: &Fixture, name: &str) -> Vec<[f32; 4]> {
    fixture.get(name).values.as_chunks::<4>().0.to_vec()
}

fn read(fixture: &Fixture) -> (Vec<Detection>, Vec<Truth>) {
    let (images, classes) = (fixture.integers("gt.image"), fixture.integers("gt.class"));
    let flags = fixture.integers("gt.difficult_or_crowd");
    let truths = boxes(fixture, "gt.box").into_iter().enumerate().map(|(i, xyxy)| Truth {
        image: images[i],
        class: classes[i],
        xyxy,
        is_difficult_or_crowd: flags[i] != 0,
        area: None,
    });
    let (images, classes) = (fixture.integers("det.image"), fixture.integers("det.class"));
    let scores = &fixture.get("det.score").values;
    let detections = boxes(fixture, "det.box").into_iter().enumerate().map(|(i, xyxy)| Detection {
        image: images[i],
        class: classes[i],
        score: scores[i],
        xyxy,
    });
    (detections.collect(), truths.collect())
}

/// A figure that may be missing (−1 where COCO has none).
fn close(what: &str, found: Option<f64>, expected: &Value, atol: f64) {
    match (found, expected.as_f64().filter(|v| *v >= 0.0)) {
        (Some(found), Some(expected)) => {
            assert!((found - expected).abs() <= atol, "{what}: expected {expected}, found {found}");
        }
        (found, expected) => assert_eq!(found, expected, "{what}"),
    }
}

fn close_all(what: &str, found: &[Option<f64>], expected: &Value, atol: f64) {
    let expected = expected.as_array().unwrap_or_else(|| panic!("{what}"));
    assert_eq!(found.len(), expected.len(), "{what}");
    for (class, (found, expected)) in found.iter().zip(expected).enumerate() {
        close(&format!("{what} of class {class}"), *found, expected, atol);
    }
}

#[test]
fn detection_metrics_voc() {
    let fixture = Fixture::load("detection_metrics");
    let (detections, truths) = read(&fixture);
    let (classes, atol) = (fixture.usize("classes"), fixture.json["tolerance"]["atol"].as_f64().unwrap());
    let want = &fixture.json["expected"]["voc"];
    for (name, interpolation) in
        [("11point", Interpolation::ElevenPoint), ("continuous", Interpolation::Continuous)]
    {
        let scores = voc_scores(&detections, &truths, classes, interpolation).unwrap();
        let of = |what: &str| &want[format!("{what}_{name}")];
        close(name, scores.ap, of("AP_50_95"), atol);
        close(name, scores.ap50, of("AP50"), atol);
        close(name, scores.ap75, of("AP75"), atol);
        let per_class: Vec<Option<f64>> = scores.per_class.iter().map(|c| c.ap50).collect();
        close_all(name, &per_class, &want[format!("AP50_{name}_per_class")], atol);
    }
    for (class, curve) in voc::curves(&detections, &truths, classes, 0.5).unwrap().iter().enumerate() {
        for (what, found) in [("recall", &curve.recall), ("precision", &curve.precision)] {
            let name = format!("voc.class{class}.{what}");
            let found: Vec<f32> = found.iter().map(|v| *v as f32).collect();
            assert_close(&name, &found, &fixture.get(&name).values, Tolerance { atol, rtol: 0.0 });
        }
    }
}

#[test]
fn detection_metrics_coco() {
    let fixture = Fixture::load("detection_metrics");
    let (detections, truths) = read(&fixture);
    let (classes, atol) = (fixture.usize("classes"), fixture.json["tolerance"]["atol"].as_f64().unwrap());
    let want = &fixture.json["expected"]["coco"];
    let scores = coco_scores(&detections, &truths, classes).unwrap();
    for (name, found) in [
        ("AP", scores.ap),
        ("AP50", scores.ap50),
        ("AP75", scores.ap75),
        ("AP_small", scores.ap_small),
        ("AP_medium", scores.ap_medium),
        ("AP_large", scores.ap_large),
        ("AR1", scores.ar1),
        ("AR10", scores.ar10),
        ("AR100", scores.ar100),
        ("AR_small", scores.ar_small),
        ("AR_medium", scores.ar_medium),
        ("AR_large", scores.ar_large),
    ] {
        close(name, found, &want[name], atol);
    }
    let of = |value: fn(&ocelli::eval::detection::CocoClass) -> Option<f64>| {
        scores.per_class.iter().map(value).collect::<Vec<_>>()
    };
    close_all("AP", &of(|c| c.ap), &want["AP_per_class"], atol);
    close_all("AP50", &of(|c| c.ap50), &want["AP50_per_class"], atol);
}

/// The order in which images and objects are told does not matter, and nor do gaps between numbers of images.
#[test]
fn detection_metrics_do_not_depend_on_the_order_of_images() {
    let fixture = Fixture::load("detection_metrics");
    let (mut detections, mut truths) = read(&fixture);
    let classes = fixture.usize("classes");
    let told = |d: &[Detection], t: &[Truth]| {
        let voc = voc_scores(d, t, classes, Interpolation::Continuous).unwrap();
        (voc, coco_scores(d, t, classes).unwrap())
    };
    let before = told(&detections, &truths);
    let far = |image: usize| usize::MAX - image * 1_000_003;
    detections.iter_mut().for_each(|d| d.image = far(d.image));
    truths.iter_mut().for_each(|t| t.image = far(t.image));
    detections.sort_by_key(|d| d.image);
    truths.sort_by_key(|t| t.image);
    let after = told(&detections, &truths);
    let near = |a: Option<f64>, b: Option<f64>| (a.unwrap() - b.unwrap()).abs() < 1e-12;
    assert!(near(before.0.ap, after.0.ap) && near(before.1.ap, after.1.ap), "{before:?} and {after:?}");
}

/// Numbers of a line of text: a name, then as many as follow.
fn line(text: &str) -> (String, Vec<f32>) {
    let mut words = text.split_whitespace();
    let name = words.next().unwrap().to_owned();
    (name, words.map(|w| w.parse().unwrap_or_else(|_| panic!("{text}"))).collect())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

/// 85 photographs with objects, detections of a real detector, and VOC's AP of every class.
#[test]
fn voc_map_of_real_detections() {
    let Some(data) = std::env::var_os("OCELLI_DATA") else {
        eprintln!("skipped: OCELLI_DATA does not name the folder of voc-map-fixture");
        return;
    };
    let folder = PathBuf::from(data).join("voc-map-fixture");
    if !folder.is_dir() {
        eprintln!("skipped: {} is not there", folder.display());
        return;
    }
    let lines = |part: &str| -> Vec<(usize, String, Vec<f32>)> {
        let files = files(&folder.join(part));
        let of = |(image, file): (usize, &PathBuf)| {
            let text = std::fs::read_to_string(file).unwrap();
            let of = move |l: &str| {
                let (name, numbers) = line(l);
                (image, name, numbers)
            };
            text.lines().filter(|l| !l.trim().is_empty()).map(of).collect::<Vec<_>>()
        };
        files.iter().enumerate().flat_map(of).collect()
    };
    let (truths, found) = (lines("ground-truth"), lines("detection-results"));
    let names: BTreeSet<&String> = truths.iter().chain(&found).map(|(_, name, _)| name).collect();
    let class: BTreeMap<&String, usize> = names.iter().enumerate().map(|(i, n)| (*n, i)).collect();
    let truths: Vec<Truth> = truths
        .iter()
        .map(|(image, name, n)| Truth {
            image: *image,
            class: class[name],
            xyxy: [n[0], n[1], n[2], n[3]],
            ..Truth::default()
        })
        .collect();
    let found: Vec<Detection> = found
        .iter()
        .map(|(image, name, n)| Detection {
            image: *image,
            class: class[name],
            score: n[0],
            xyxy: [n[1], n[2], n[3], n[4]],
        })
        .collect();
    let scores: VocScores = voc_scores(&found, &truths, names.len(), Interpolation::Continuous).unwrap();

    let text = std::fs::read_to_string(folder.join("expected_output_from_main_py.txt")).unwrap();
    let mut compared = 0;
    for told in text.lines() {
        // "22.73% = backpack AP" and "mAP = 31.05%", rounded.
        let near = |found: f64, percent: f64, what: &str| {
            assert!(
                (100.0 * found - percent).abs() <= 0.005 + 1e-9,
                "{what}: expected {percent} %, found {found}"
            );
        };
        if let Some((percent, rest)) = told.split_once("% = ") {
            let name = rest.trim().trim_end_matches("AP").trim().to_owned();
            near(scores.per_class[class[&name]].ap50.unwrap(), percent.trim().parse().unwrap(), &name);
            compared += 1;
        } else if let Some(percent) = told.strip_prefix("mAP = ") {
            let percent: f64 = percent.trim().trim_end_matches('%').parse().unwrap();
            near(scores.ap50.unwrap(), percent, "mAP");
            compared += 1;
        }
    }
    let with_objects = scores.per_class.iter().filter(|c| c.objects > 0).count();
    assert_eq!(compared, with_objects + 1, "every class with objects, and the mean");
}
