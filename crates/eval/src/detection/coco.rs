//! COCO's average precision and recall (Lin et al., ECCV 2014; the published evaluation code).
//!
//! Of an image and class, the best 100 detections by score take, one after the other, the object still free that they overlap
//! most. Objects outside a range of areas, and crowds, are ignored: they are taken only where no other is left, and what takes
//! them counts neither way; nor does an unmatched detection whose own area is outside the range. Precision is made monotone and
//! read at 101 recalls. Boxes are edges: a width is x2 − x1.

use serde::{Deserialize, Serialize};

use super::groups::Groups;
use super::{Detection, Truth, check, iou_thresholds, mean, overlap};
use crate::EvalError;

/// Detections of a class in an image at most.
const DETECTIONS: usize = 100;
/// What AR is told for.
const LIMITS: [usize; 3] = [1, 10, DETECTIONS];
/// Smallest and largest area of all, small, medium and large objects, pixels²; both are inside.
const RANGES: [[f64; 2]; 4] = [[0.0, 1e10], [0.0, 1024.0], [1024.0, 9216.0], [9216.0, 1e10]];
/// Recalls at which precision is read, less one.
const RECALLS: usize = 100;

/// What COCO says of a class. None where there is nothing to find.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CocoClass {
    /// Mean AP over IoU .5:.05:.95.
    pub ap: Option<f64>,
    /// AP at IoU .5.
    pub ap50: Option<f64>,
    /// AP at IoU .75.
    pub ap75: Option<f64>,
    /// Mean recall over IoU .5:.05:.95 with 100 detections an image.
    pub ar100: Option<f64>,
}

/// What COCO says of a detector: means over the classes with something to find. None where there is none (−1 in the published
/// code).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CocoScores {
    /// AP, mean over IoU .5:.05:.95.
    pub ap: Option<f64>,
    /// AP at IoU .5.
    pub ap50: Option<f64>,
    /// AP at IoU .75.
    pub ap75: Option<f64>,
    /// AP of objects below 32² px.
    pub ap_small: Option<f64>,
    /// AP of objects from 32² to 96² px.
    pub ap_medium: Option<f64>,
    /// AP of objects above 96² px.
    pub ap_large: Option<f64>,
    /// Recall with one detection an image and class, mean over IoU .5:.05:.95.
    pub ar1: Option<f64>,
    /// The same with 10.
    pub ar10: Option<f64>,
    /// The same with 100.
    pub ar100: Option<f64>,
    /// The same of objects below 32² px.
    pub ar_small: Option<f64>,
    /// The same of objects from 32² to 96² px.
    pub ar_medium: Option<f64>,
    /// The same of objects above 96² px.
    pub ar_large: Option<f64>,
    /// Each class.
    pub per_class: Vec<CocoClass>,
}

/// COCO's figures.
///
/// # Errors
/// Without classes, for a class that is none, and for boxes, areas or scores that are not finite or inside out.
pub fn coco_scores(detections: &[Detection], truths: &[Truth], classes: usize) -> Result<CocoScores, EvalError> {
    check(detections, truths, classes)?;
    let found = Groups::of(detections, |d| (d.class, d.image));
    let objects = Groups::of(truths, |t| (t.class, t.image));
    let cells: Vec<ClassCells> =
        (0..classes).map(|class| ClassCells::of(class, (detections, &found), (truths, &objects))).collect();
    let over = |of: &dyn Fn(&ClassCells) -> Option<f64>| mean(cells.iter().map(of));
    Ok(CocoScores {
        ap: over(&|c| c.ap(0)),
        ap50: over(&|c| c.ap_at(0, 0)),
        ap75: over(&|c| c.ap_at(0, 5)),
        ap_small: over(&|c| c.ap(1)),
        ap_medium: over(&|c| c.ap(2)),
        ap_large: over(&|c| c.ap(3)),
        ar1: over(&|c| c.ar(0, 0)),
        ar10: over(&|c| c.ar(0, 1)),
        ar100: over(&|c| c.ar(0, 2)),
        ar_small: over(&|c| c.ar(1, 2)),
        ar_medium: over(&|c| c.ar(2, 2)),
        ar_large: over(&|c| c.ar(3, 2)),
        per_class: cells
            .iter()
            .map(|c| CocoClass { ap: c.ap(0), ap50: c.ap_at(0, 0), ap75: c.ap_at(0, 5), ar100: c.ar(0, 2) })
            .collect(),
    })
}

/// Figures of a class by range of areas; none where no object is in the range.
struct ClassCells {
    ranges: [Option<RangeCells>; 4],
}

/// AP by threshold, and recall by limit and threshold.
struct RangeCells {
    ap: [f64; 10],
    recall: [[f64; 10]; 3],
}

impl ClassCells {
    fn of(
        class: usize,
        (detections, found): (&[Detection], &Groups),
        (truths, objects): (&[Truth], &Groups),
    ) -> Self {
        // The best of each image, by score; their place among them says which limit they are within.
        let mut taken: Vec<Taken> = Vec::new();
        let mut images: Vec<(usize, std::ops::Range<usize>)> = Vec::new();
        for (image, items) in found.images(class) {
            let mut best = items.to_vec();
            best.sort_by(|a, b| detections[*b].score.total_cmp(&detections[*a].score));
            best.truncate(DETECTIONS);
            let start = taken.len();
            taken.extend(best.iter().enumerate().map(|(rank, i)| Taken { detection: *i, rank }));
            images.push((image, start..taken.len()));
        }
        let ranges = RANGES.map(|range| {
            let is_ignored = |t: &Truth| {
                let area = t.area.map_or_else(|| overlap::area(t.xyxy, 0.0), f64::from);
                t.is_difficult_or_crowd || area < range[0] || area > range[1]
            };
            let total = objects.of_class(class).iter().filter(|i| !is_ignored(&truths[**i])).count();
            if total == 0 {
                return None;
            }
            let mut outcomes = vec![[Outcome::Ignored; 10]; taken.len()];
            for (image, places) in &images {
                // Those that count come first, as the matching below wants it.
                let mut here = objects.get(class, *image).to_vec();
                here.sort_by_key(|i| is_ignored(&truths[*i]));
                let ignored: Vec<bool> = here.iter().map(|i| is_ignored(&truths[*i])).collect();
                let here: Vec<&Truth> = here.iter().map(|i| &truths[*i]).collect();
                let boxes: Vec<[f32; 4]> =
                    taken[places.clone()].iter().map(|t| detections[t.detection].xyxy).collect();
                match_image(&boxes, &here, &ignored, range, &mut outcomes[places.clone()]);
            }
            Some(RangeCells::of(detections, &taken, &outcomes, total))
        });
        Self { ranges }
    }

    fn ap(&self, range: usize) -> Option<f64> {
        self.ranges[range].as_ref().map(|c| c.ap.iter().sum::<f64>() / c.ap.len() as f64)
    }

    fn ap_at(&self, range: usize, threshold: usize) -> Option<f64> {
        self.ranges[range].as_ref().map(|c| c.ap[threshold])
    }

    fn ar(&self, range: usize, limit: usize) -> Option<f64> {
        self.ranges[range].as_ref().map(|c| c.recall[limit].iter().sum::<f64>() / 10.0)
    }
}

/// A detection among the best of its image and class.
struct Taken {
    detection: usize,
    /// Its place there by score, from 0.
    rank: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Right,
    Wrong,
    Ignored,
}

/// Matches the detections of an image, by descending score, with its objects: those that are ignored last.
fn match_image(
    boxes: &[[f32; 4]],
    objects: &[&Truth],
    ignored: &[bool],
    range: [f64; 2],
    outcomes: &mut [[Outcome; 10]],
) {
    let thresholds = iou_thresholds();
    let mut free = vec![[true; 10]; objects.len()];
    for (xyxy, outcomes) in boxes.iter().zip(outcomes) {
        let overlaps: Vec<f64> = objects
            .iter()
            .map(|t| match t.is_difficult_or_crowd {
                true => overlap::inside(*xyxy, t.xyxy),
                false => overlap::iou(*xyxy, t.xyxy),
            })
            .collect();
        let area = overlap::area(*xyxy, 0.0);
        let is_outside = area < range[0] || area > range[1];
        for (place, threshold) in thresholds.iter().enumerate() {
            let mut most = threshold.min(1.0 - 1e-10);
            let mut chosen: Option<usize> = None;
            for (object, iou) in overlaps.iter().enumerate() {
                // A crowd may be taken by many.
                if !free[object][place] && !objects[object].is_difficult_or_crowd {
                    continue;
                }
                // Whoever has one that counts does not look at the others.
                if ignored[object] && chosen.is_some_and(|c| !ignored[c]) {
                    break;
                }
                // Of equal ones the last.
                if *iou >= most {
                    (most, chosen) = (*iou, Some(object));
                }
            }
            outcomes[place] = match chosen {
                Some(object) => {
                    free[object][place] = false;
                    if ignored[object] { Outcome::Ignored } else { Outcome::Right }
                }
                None if is_outside => Outcome::Ignored,
                None => Outcome::Wrong,
            };
        }
    }
}

impl RangeCells {
    fn of(detections: &[Detection], taken: &[Taken], outcomes: &[[Outcome; 10]], total: usize) -> Self {
        let mut order: Vec<usize> = (0..taken.len()).collect();
        let score = |place: usize| detections[taken[place].detection].score;
        order.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
        let mut cells = Self { ap: [0.0; 10], recall: [[0.0; 10]; 3] };
        for threshold in 0..10 {
            let (mut right, mut wrong) = (0usize, 0usize);
            let (mut recall, mut precision) = (Vec::new(), Vec::new());
            for place in &order {
                match outcomes[*place][threshold] {
                    Outcome::Right => right += 1,
                    Outcome::Wrong => wrong += 1,
                    Outcome::Ignored => continue,
                }
                recall.push(right as f64 / total as f64);
                precision.push(right as f64 / (right + wrong) as f64);
            }
            for i in (1..precision.len()).rev() {
                precision[i - 1] = precision[i - 1].max(precision[i]);
            }
            let at = |i: usize| {
                let wanted = if i == RECALLS { 1.0 } else { i as f64 * 0.01 };
                precision.get(recall.partition_point(|r| *r < wanted)).copied().unwrap_or(0.0)
            };
            cells.ap[threshold] = (0..=RECALLS).map(at).sum::<f64>() / (RECALLS + 1) as f64;
            for (limit, most) in LIMITS.iter().enumerate() {
                let right =
                    taken.iter().zip(outcomes).filter(|(t, o)| t.rank < *most && o[threshold] == Outcome::Right);
                cells.recall[limit][threshold] = right.count() as f64 / total as f64;
            }
        }
        cells
    }
}
