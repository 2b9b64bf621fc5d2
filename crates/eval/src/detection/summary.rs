//! Everything that is told of a detector, in one table that can be written as JSON.

use serde::{Deserialize, Serialize};

use super::voc::{curves, truth_as_voc};
use super::{
    BoxConfusion, CocoScores, Detection, Interpolation, Truth, VocCurve, VocScores, as_voc_file, coco_scores,
    confusion, voc_scores,
};
use crate::EvalError;

/// Points of a curve at most; more cannot be told apart.
const POINTS: usize = 200;
/// Overlap from which a detection is one of an object.
const IOU: f64 = 0.5;

/// What is told of a detector: `detection.json` of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectionSummary {
    /// Images that were looked at.
    pub images: usize,
    /// By VOC's rules, with boxes as its files have them ([`as_voc_file`]).
    pub voc: VocScores,
    /// By COCO's rules.
    pub coco: CocoScores,
    /// Class by class.
    pub classes: Vec<ClassSummary>,
    /// Score from which detections count in `confusion`.
    pub least_score: f32,
    /// What was taken for what at IoU .5; the last row and column are nothing.
    pub confusion: BoxConfusion,
}

/// What is told of a class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassSummary {
    /// Its name.
    pub name: String,
    /// Precision over recall at IoU .5, by VOC's rules.
    pub curve: CurvePoints,
}

/// Some points of a curve, the first and the last among them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CurvePoints {
    /// Rising.
    pub recall: Vec<f64>,
    /// Precision at each.
    pub precision: Vec<f64>,
    /// The score from which detections are taken at each.
    pub score: Vec<f32>,
}

impl CurvePoints {
    /// At most 200 points of a curve, evenly spaced.
    pub fn of(curve: &VocCurve) -> Self {
        let all = curve.recall.len();
        let count = all.min(POINTS);
        let at = |i: usize| if count > 1 { i * (all - 1) / (count - 1) } else { 0 };
        let round = |v: f64| (v * 1e4).round() / 1e4;
        Self {
            recall: (0..count).map(|i| round(curve.recall[at(i)])).collect(),
            precision: (0..count).map(|i| round(curve.precision[at(i)])).collect(),
            score: (0..count).map(|i| curve.scores[at(i)]).collect(),
        }
    }
}

/// Compares detections with what is there. Boxes are edges in pixels of the images as they are stored; `classes` are the names.
///
/// # Errors
/// Without classes, for a class that is none, and for boxes, areas or scores that are not finite or inside out.
pub fn summary(
    detections: &[Detection],
    truths: &[Truth],
    classes: &[String],
    images: usize,
    interpolation: Interpolation,
    least_score: f32,
) -> Result<DetectionSummary, EvalError> {
    let count = classes.len();
    let coco = coco_scores(detections, truths, count)?;
    let confusion = confusion(detections, truths, count, least_score, IOU)?;
    let written: Vec<Detection> = detections.iter().map(as_voc_file).collect();
    let objects: Vec<Truth> = truths.iter().map(truth_as_voc).collect();
    let voc = voc_scores(&written, &objects, count, interpolation)?;
    let curves = curves(&written, &objects, count, IOU)?;
    let classes = classes
        .iter()
        .zip(&curves)
        .map(|(name, curve)| ClassSummary { name: name.clone(), curve: CurvePoints::of(curve) })
        .collect();
    Ok(DetectionSummary { images, voc, coco, classes, least_score, confusion })
}
