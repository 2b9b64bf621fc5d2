//! Which classes are taken for which: detections matched with objects by overlap alone, whatever their classes.

use serde::{Deserialize, Serialize};

use super::{Detection, Truth, check, overlap};
use crate::EvalError;

/// How often objects of each class were taken for each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxConfusion {
    /// Classes, without the row and the column beside them.
    pub classes: usize,
    /// `[classes + 1, classes + 1]` row-major: rows are objects, columns detections. The last column is objects that nothing was
    /// found of, the last row detections where there is nothing.
    pub counts: Vec<u64>,
}

impl BoxConfusion {
    /// How often an object of class `truth` was taken for `found`; `classes` in either place stands for nothing there.
    pub fn get(&self, truth: usize, found: usize) -> u64 {
        let side = self.classes + 1;
        if truth < side && found < side { self.counts[truth * side + found] } else { 0 }
    }
}

/// Detections of a score of `least_score` or more, the surest first, each take the object of their image that is still free and
/// that they overlap most, where that is by `least_iou` or more. What takes a difficult object or a crowd counts neither way,
/// and nor do those.
///
/// # Errors
/// As [`super::coco_scores`].
pub fn confusion(
    detections: &[Detection],
    truths: &[Truth],
    classes: usize,
    least_score: f32,
    least_iou: f64,
) -> Result<BoxConfusion, EvalError> {
    check(detections, truths, classes)?;
    let side = classes + 1;
    let mut counts = vec![0u64; side * side];
    // One image at a time, from lists sorted by it.
    let mut objects: Vec<usize> = (0..truths.len()).collect();
    objects.sort_by_key(|i| truths[*i].image);
    let mut order: Vec<usize> = (0..detections.len()).filter(|i| detections[*i].score >= least_score).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&detections[*a], &detections[*b]);
        a.image.cmp(&b.image).then(b.score.total_cmp(&a.score))
    });
    let mut is_taken = vec![false; truths.len()];
    for i in order {
        let detection = &detections[i];
        let first = objects.partition_point(|o| truths[*o].image < detection.image);
        let here = objects[first..].iter().take_while(|o| truths[**o].image == detection.image);
        let mut best: Option<(usize, f64)> = None;
        for &object in here {
            let truth = &truths[object];
            let iou = overlap::iou(detection.xyxy, truth.xyxy);
            // A difficult object may be found by many.
            let is_free = !is_taken[object] || truth.is_difficult_or_crowd;
            if is_free && iou >= least_iou && best.is_none_or(|(_, most)| iou > most) {
                best = Some((object, iou));
            }
        }
        match best {
            Some((object, _)) => {
                is_taken[object] = true;
                if !truths[object].is_difficult_or_crowd {
                    counts[truths[object].class * side + detection.class] += 1;
                }
            }
            None => counts[classes * side + detection.class] += 1,
        }
    }
    for (truth, is_taken) in truths.iter().zip(is_taken) {
        if !is_taken && !truth.is_difficult_or_crowd {
            counts[truth.class * side + classes] += 1;
        }
    }
    Ok(BoxConfusion { classes, counts })
}
