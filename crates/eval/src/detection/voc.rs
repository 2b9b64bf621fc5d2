//! Average precision by the rules of the PASCAL VOC development kit (Everingham et al., IJCV 2010).
//!
//! Detections of a class come by descending score. Each belongs to the object of its image with which it overlaps most, found
//! already or not. Above the threshold it is right the first time and wrong every further time; a difficult object counts
//! neither way. Boxes are inclusive pixels: a width is x2 − x1 + 1.

use serde::{Deserialize, Serialize};

use super::groups::Groups;
use super::{Detection, Truth, check, mean, overlap};
use crate::EvalError;

/// IoU thresholds of the mean AP: whole hundredths, as the protocol divides them. An overlap at one is no match.
const THRESHOLDS: [f64; 10] = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95];

/// How precision is taken between the points of the curve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Interpolation {
    /// Mean over recall 0, .1, … 1 of the best precision at that recall or a higher one: VOC until 2009, and the protocol of
    /// MoCo's and DenseCL's tables.
    #[default]
    #[serde(rename = "11-point")]
    ElevenPoint,
    /// Area below the curve made monotone: VOC since 2010.
    #[serde(rename = "continuous")]
    Continuous,
}

/// Precision and recall of a class after each of its detections, by descending score; those of difficult objects repeat the
/// point before them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VocCurve {
    /// Share of the objects found so far. Empty without objects to find.
    pub recall: Vec<f64>,
    /// Share of the detections so far that are right.
    pub precision: Vec<f64>,
    /// Their scores.
    pub scores: Vec<f32>,
    /// Objects to find: those that are not difficult.
    pub objects: usize,
}

/// What VOC says of a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VocClass {
    /// Mean AP over IoU .5:.05:.95; none without objects to find, as below.
    pub ap: Option<f64>,
    /// AP at IoU .5.
    pub ap50: Option<f64>,
    /// AP at IoU .75.
    pub ap75: Option<f64>,
    /// Objects to find.
    pub objects: usize,
    /// Detections.
    pub detections: usize,
}

/// What VOC says of a detector. Classes without objects are left out of the means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VocScores {
    /// How precision was interpolated.
    pub interpolation: Interpolation,
    /// Mean AP over classes and IoU .5:.05:.95. Not COCO's AP.
    pub ap: Option<f64>,
    /// Mean AP at IoU .5.
    pub ap50: Option<f64>,
    /// Mean AP at IoU .75.
    pub ap75: Option<f64>,
    /// Each class.
    pub per_class: Vec<VocClass>,
}

/// Boxes and scores as they are after being written to the files of VOC's development kit, where published figures come from:
/// x1 and y1 one more (pixels count from 1 there, and ours are edges), boxes to a tenth of a pixel, scores to a thousandth.
pub fn as_voc_file(detection: &Detection) -> Detection {
    // Exact before the rounding: an f32 times 10 or 1000 fits into an f64. Ties go to even, as printed numbers do.
    let to = |value: f32, per: f64| ((f64::from(value) * per).round_ties_even() / per) as f32;
    let [x1, y1, x2, y2] = detection.xyxy;
    let xyxy = [x1 + 1.0, y1 + 1.0, x2, y2].map(|v| to(v, 10.0));
    // A box less than a pixel wide would be inside out.
    let xyxy = [xyxy[0], xyxy[1], xyxy[2].max(xyxy[0]), xyxy[3].max(xyxy[1])];
    Detection { score: to(detection.score, 1000.0), xyxy, ..*detection }
}

/// An object as VOC has it in its files, from one whose box is edges: x1 and y1 one more.
pub fn truth_as_voc(truth: &Truth) -> Truth {
    let [x1, y1, x2, y2] = truth.xyxy;
    Truth { xyxy: [(x1 + 1.0).min(x2), (y1 + 1.0).min(y2), x2, y2], ..*truth }
}

impl VocCurve {
    /// AP of the class; none without objects to find.
    pub fn average_precision(&self, interpolation: Interpolation) -> Option<f64> {
        if self.objects == 0 {
            return None;
        }
        // Recall never falls, so the best precision from a point on is that of the monotone curve there.
        let mut envelope = self.precision.clone();
        for i in (1..envelope.len()).rev() {
            envelope[i - 1] = envelope[i - 1].max(envelope[i]);
        }
        Some(match interpolation {
            Interpolation::ElevenPoint => {
                let best = |tenth: u32| {
                    let at = self.recall.partition_point(|r| *r < f64::from(tenth) * 0.1);
                    envelope.get(at).copied().unwrap_or(0.0)
                };
                (0..=10).map(|tenth| best(tenth) / 11.0).sum()
            }
            Interpolation::Continuous => {
                let mut reached = 0.0;
                let steps = self.recall.iter().zip(&envelope).map(|(recall, precision)| {
                    let area = (recall - reached) * precision;
                    reached = *recall;
                    area
                });
                steps.sum()
            }
        })
    }
}

/// The curve of every class at one IoU threshold. Boxes are taken as they are: see [`as_voc_file`].
///
/// # Errors
/// Without classes, for a class that is none, and for boxes or scores that are not finite or inside out.
pub fn curves(
    detections: &[Detection],
    truths: &[Truth],
    classes: usize,
    threshold: f64,
) -> Result<Vec<VocCurve>, EvalError> {
    check(detections, truths, classes)?;
    let groups = (class_groups(detections), truth_groups(truths));
    Ok((0..classes).map(|class| Matched::of(class, detections, truths, &groups).curve(threshold)).collect())
}

/// AP at IoU .5 and .75 and the mean over .5:.05:.95, of every class and of all.
///
/// # Errors
/// As [`curves`].
pub fn voc_scores(
    detections: &[Detection],
    truths: &[Truth],
    classes: usize,
    interpolation: Interpolation,
) -> Result<VocScores, EvalError> {
    check(detections, truths, classes)?;
    let groups = (class_groups(detections), truth_groups(truths));
    let per_class: Vec<VocClass> = (0..classes)
        .map(|class| {
            let matched = Matched::of(class, detections, truths, &groups);
            let aps = THRESHOLDS.map(|t| matched.curve(t).average_precision(interpolation));
            VocClass {
                ap: mean(aps),
                ap50: aps[0],
                ap75: aps[5],
                objects: matched.objects,
                detections: matched.best.len(),
            }
        })
        .collect();
    Ok(VocScores {
        interpolation,
        ap: mean(per_class.iter().map(|c| c.ap)),
        ap50: mean(per_class.iter().map(|c| c.ap50)),
        ap75: mean(per_class.iter().map(|c| c.ap75)),
        per_class,
    })
}

fn class_groups(detections: &[Detection]) -> Groups {
    Groups::of(detections, |d| (d.class, d.image))
}

fn truth_groups(truths: &[Truth]) -> Groups {
    Groups::of(truths, |t| (t.class, t.image))
}

/// The detections of a class by descending score, each with the object it overlaps most. That is the same for every threshold.
struct Matched<'a> {
    truths: &'a [Truth],
    scores: Vec<f32>,
    best: Vec<Option<(usize, f64)>>,
    objects: usize,
}

impl<'a> Matched<'a> {
    fn of(class: usize, detections: &[Detection], truths: &'a [Truth], groups: &(Groups, Groups)) -> Self {
        // Of equal scores those that came first stay first.
        let mut order: Vec<usize> = groups.0.of_class(class).to_vec();
        order.sort_unstable();
        order.sort_by(|a, b| detections[*b].score.total_cmp(&detections[*a].score));
        let best = |i: &usize| {
            let detection = &detections[*i];
            let mut best: Option<(usize, f64)> = None;
            for &object in groups.1.get(class, detection.image) {
                let iou = overlap::pixel_iou(detection.xyxy, truths[object].xyxy);
                if best.is_none_or(|(_, most)| iou > most) {
                    best = Some((object, iou));
                }
            }
            best
        };
        let objects = groups.1.of_class(class).iter().filter(|t| !truths[**t].is_difficult_or_crowd).count();
        Self {
            truths,
            scores: order.iter().map(|i| detections[*i].score).collect(),
            best: order.iter().map(best).collect(),
            objects,
        }
    }

    fn curve(&self, threshold: f64) -> VocCurve {
        if self.objects == 0 {
            return VocCurve::default();
        }
        let mut curve = VocCurve { scores: self.scores.clone(), objects: self.objects, ..VocCurve::default() };
        let mut found = std::collections::HashSet::new();
        let (mut right, mut wrong) = (0usize, 0usize);
        for best in &self.best {
            match best.filter(|(_, iou)| *iou > threshold) {
                Some((object, _)) if self.truths[object].is_difficult_or_crowd => {}
                Some((object, _)) if found.insert(object) => right += 1,
                _ => wrong += 1,
            }
            curve.recall.push(right as f64 / self.objects as f64);
            curve.precision.push(right as f64 / (right + wrong).max(1) as f64);
        }
        curve
    }
}
