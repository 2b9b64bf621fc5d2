use serde_json::Value;

use super::*;
use crate::golden::Fixture;

const NAME: &str = "segmentation_metrics";

fn close(found: f64, want: &Value, fixture: &Fixture, what: &str) {
    let (want, atol) = (want.as_f64().unwrap(), fixture.json["tolerance"]["atol"].as_f64().unwrap());
    assert!((found - want).abs() <= atol, "{what}: {found} for {want}");
}

fn masks(fixture: &Fixture, name: &str) -> Vec<Mask> {
    let shape = fixture.shape(name);
    let (width, height) = (shape[shape.len() - 1], shape[shape.len() - 2]);
    let bytes = fixture.u8s(name);
    bytes.chunks_exact(width * height).map(|frame| Mask::from_bytes(width, height, frame).unwrap()).collect()
}

#[test]
fn fixture_j_and_f_of_single_masks() {
    let fixture = Fixture::load(NAME);
    let threshold = fixture.json["config"]["boundary_threshold"].as_f64().unwrap();
    let cases = fixture.json["expected"]["jf"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let key = case["key"].as_str().unwrap();
        let mask = |what: &str| masks(&fixture, &format!("{key}.{what}")).remove(0);
        let (prediction, truth) = (mask("prediction"), mask("gt"));
        let void = case["void"].as_bool().unwrap().then(|| mask("void"));
        let j = region_similarity(&prediction, &truth, void.as_ref()).unwrap();
        let found = boundary(&prediction, &truth, void.as_ref(), threshold).unwrap();
        close(j, &case["J"], &fixture, key);
        close(found.f, &case["F"], &fixture, key);
        close(found.precision, &case["boundary_precision"], &fixture, key);
        close(found.recall, &case["boundary_recall"], &fixture, key);
        assert_eq!(found.radius_px as u64, case["boundary_radius"].as_u64().unwrap(), "{key}");
    }
}

#[test]
fn fixture_sequence_without_first_and_last_frame() {
    let fixture = Fixture::load(NAME);
    let threshold = fixture.json["config"]["boundary_threshold"].as_f64().unwrap();
    let (truth, prediction) = (masks(&fixture, "sequence.gt"), masks(&fixture, "sequence.prediction"));
    let (mut j, mut f) = (Vec::new(), Vec::new());
    for i in 1..truth.len() - 1 {
        j.push(region_similarity(&prediction[i], &truth[i], None).unwrap());
        f.push(boundary(&prediction[i], &truth[i], None, threshold).unwrap().f);
    }
    let want = &fixture.json["expected"]["sequence"];
    for (name, values) in [("J", &j), ("F", &f)] {
        let listed = want[format!("{name}_per_frame")].as_array().unwrap();
        assert_eq!(values.len(), listed.len());
        for (value, want) in values.iter().zip(listed) {
            close(*value, want, &fixture, name);
        }
        let found = SequenceStatistics::of(values).unwrap();
        close(found.mean, &want[name]["mean"], &fixture, name);
        close(found.recall, &want[name]["recall"], &fixture, name);
        close(found.decay, &want[name]["decay"], &fixture, name);
    }
    let both = |values: &[f64]| SequenceStatistics::of(values).unwrap().mean;
    close((both(&j) + both(&f)) / 2.0, &want["J&F_mean"], &fixture, "J&F");
}

#[test]
fn fixture_miou() {
    let fixture = Fixture::load(NAME);
    let size = |value: &Value| value.as_u64().unwrap() as usize;
    let miou = &fixture.json["config"]["miou"];
    let (classes, ignored) = (size(&miou["classes"]), size(&miou["ignore_index"]) as u8);
    let (labels, predictions) = (fixture.u8s("miou.label"), fixture.u8s("miou.prediction"));
    let pixels: usize = fixture.shape("miou.label")[1..].iter().product();
    let mut confusion = Confusion::new(classes).unwrap();
    for (labels, predictions) in labels.chunks_exact(pixels).zip(predictions.chunks_exact(pixels)) {
        confusion.add(labels, predictions, Some(ignored)).unwrap();
    }
    let counts = |name: &str| fixture.i64s(name).into_iter().map(|c| c as u64).collect::<Vec<_>>();
    assert_eq!(confusion.counts(), counts("miou.confusion"));
    let scores = confusion.scores().unwrap();
    let want = &fixture.json["expected"]["miou"];
    per_class(&scores, want, &fixture);
    close(scores.mean_class_accuracy, &want["mean_class_accuracy"], &fixture, "mean class accuracy");
    close(scores.pixel_accuracy, &want["pixel_accuracy"], &fixture, "pixel accuracy");

    let classes = fixture.shape("miou2.confusion")[0];
    let given = Confusion::from_counts(classes, counts("miou2.confusion")).unwrap();
    per_class(&given.scores().unwrap(), &fixture.json["expected"]["miou_from_confusion"], &fixture);
}

fn per_class(scores: &SegmentationScores, want: &Value, fixture: &Fixture) {
    close(scores.miou, &want["miou"], fixture, "mIoU");
    let listed = want["iou_per_class"].as_array().unwrap();
    assert_eq!(scores.iou.len(), listed.len());
    for (class, (iou, want)) in scores.iou.iter().zip(listed).enumerate() {
        match iou {
            Some(iou) => close(*iou, want, fixture, &format!("class {class}")),
            None => assert!(want.is_null(), "class {class}"),
        }
    }
}

#[test]
fn the_disk_is_the_one_of_the_definition() {
    // Every pixel against every other, by the definition of a disk.
    let (width, height) = (23, 17);
    let pixels = [(0, 0), (11, 8), (12, 8), (22, 3), (5, 16)];
    for radius in [0, 1, 2, 5, 9, 30] {
        let near = dilate_of(&pixels, width, height, radius);
        for y in 0..height {
            for x in 0..width {
                let within =
                    |&(u, v): &(usize, usize)| x.abs_diff(u).pow(2) + y.abs_diff(v).pow(2) <= radius * radius;
                assert_eq!(near.get(x, y), pixels.iter().any(within), "radius {radius} at {x}, {y}");
            }
        }
    }
}

fn dilate_of(pixels: &[(usize, usize)], width: usize, height: usize, radius: usize) -> Mask {
    Mask::new(width, height, boundary::dilate(pixels, width, height, radius)).unwrap()
}

#[test]
fn few_frames_and_bad_input() {
    let one = SequenceStatistics::of(&[0.75]).unwrap();
    assert_eq!(one, SequenceStatistics { mean: 0.75, recall: 1.0, decay: 0.0 });
    let two = SequenceStatistics::of(&[1.0, 0.5]).unwrap();
    assert_eq!((two.mean, two.recall), (0.75, 0.5));
    assert_eq!(SequenceStatistics::mean_of(&[one, one]).unwrap(), one);
    assert!(SequenceStatistics::of(&[]).is_err() && SequenceStatistics::mean_of(&[]).is_err());
    let (small, large) = (Mask::new(2, 2, vec![true; 4]).unwrap(), Mask::new(3, 2, vec![true; 6]).unwrap());
    assert!(region_similarity(&small, &large, None).is_err());
    assert!(region_similarity(&small, &small, Some(&large)).is_err());
    assert!(boundary(&small, &large, None, BOUNDARY_THRESHOLD).is_err());
    assert!(boundary(&small, &small, None, f64::NAN).is_err());
    assert!(Confusion::new(0).is_err() && Confusion::from_counts(2, vec![0; 3]).is_err());
    let mut confusion = Confusion::new(2).unwrap();
    assert!(confusion.scores().is_err(), "nothing was counted");
    assert!(confusion.add(&[0, 1], &[0], None).is_err());
    let message = confusion.add(&[0, 255], &[0, 1], None).unwrap_err().to_string();
    assert!(message.contains("255") && message.contains("row 1"), "{message}");
    assert_eq!(confusion.counts(), [0; 4], "nothing is half counted");
    confusion.add(&[0, 255], &[1, 7], Some(255)).unwrap();
    assert_eq!(confusion.counts(), [0, 1, 0, 0]);
}
