//! Non-maximum suppression, plain and per class.

use ocelli::transfer::detection::boxes::Xyxy;
use ocelli::transfer::detection::nms::{nms, nms_best, nms_per_class};

use crate::support::Fixture;

fn boxes(f: &Fixture, name: &str) -> Vec<Xyxy> {
    f.get(name).values.as_chunks().0.to_vec()
}

/// The threshold that `iou05` names.
fn threshold(name: &str) -> f32 {
    let digits = name.strip_prefix("iou").unwrap().strip_prefix('0').unwrap();
    format!("0.{digits}").parse().unwrap()
}

#[test]
fn kept_indices() {
    let f = Fixture::load("nms");
    let (boxes_of_all, scores) = (boxes(&f, "boxes"), &f.get("scores").values);
    let classes = f.integers("classes");
    assert_eq!(boxes_of_all.len(), f.usize("boxes"));
    let (edge_boxes, edge_scores) = (boxes(&f, "edge.boxes"), &f.get("edge.scores").values);
    let mut compared = 0;
    for name in f.json["tensors"].as_object().unwrap().keys() {
        let found = if let Some(iou) = name.strip_suffix(".plain") {
            let all = nms(&boxes_of_all, scores, threshold(iou));
            let half = all.len() / 2;
            assert_eq!(nms_best(&boxes_of_all, scores, threshold(iou), half), all[..half], "{name}");
            all
        } else if let Some(iou) = name.strip_suffix(".per_class") {
            nms_per_class(&boxes_of_all, scores, &classes, threshold(iou))
        } else if let Some(iou) = name.strip_prefix("edge.iou") {
            nms(&edge_boxes, edge_scores, threshold(&format!("iou{iou}")))
        } else {
            continue;
        };
        assert_eq!(found, f.integers(name), "{name}");
        compared += 1;
    }
    assert!(compared > 3, "only {compared} lists in the fixture");
}
