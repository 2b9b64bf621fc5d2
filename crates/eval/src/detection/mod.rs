//! Object detection: how good boxes are, by the rules of PASCAL VOC and of COCO, and pictures of them.
//!
//! * [`voc`]: precision and recall by VOC's matching, 11-point and continuous AP, and their mean over .5:.05:.95, which is the
//!   "AP" of MoCo's and DenseCL's tables.
//! * [`coco`]: COCO's AP and AR, also of small, medium and large objects.
//! * [`confusion()`]: which classes are taken for which.
//! * [`summary()`]: all of it in one table, as a run keeps it.
//! * [`drawing`]: boxes with names on a picture.
//!
//! Figures are fractions, 0..=1. Nothing here grows beyond a list of the detections: of one image its detections are compared
//! with its objects, one pair at a time.
//!
//! ```
//! use ocelli_eval::detection::{Detection, Interpolation, Truth, voc_scores};
//!
//! let object = Truth { image: 0, class: 0, xyxy: [10.0, 10.0, 30.0, 30.0], ..Truth::default() };
//! let right = Detection { image: 0, class: 0, score: 0.9, xyxy: [10.0, 10.0, 30.0, 30.0] };
//! let wrong = Detection { score: 0.95, xyxy: [50.0, 50.0, 60.0, 60.0], ..right };
//! let alone = voc_scores(&[right], &[object], 1, Interpolation::Continuous)?;
//! let both = voc_scores(&[right, wrong], &[object], 1, Interpolation::Continuous)?;
//! assert_eq!((alone.ap50, both.ap50), (Some(1.0), Some(0.5)));
//! # Ok::<(), ocelli_eval::EvalError>(())
//! ```

pub mod coco;
pub mod confusion;
pub mod drawing;
mod groups;
mod overlap;
pub mod summary;
pub mod voc;

use serde::{Deserialize, Serialize};

use crate::EvalError;

pub use coco::{CocoClass, CocoScores, coco_scores};
pub use confusion::{BoxConfusion, confusion};
pub use drawing::{BoxPicture, class_colour, draw_boxes};
pub use overlap::{iou, pixel_iou};
pub use summary::{ClassSummary, CurvePoints, DetectionSummary, summary};
pub use voc::{Interpolation, VocClass, VocCurve, VocScores, as_voc_file, voc_scores};

/// What a detector says is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// Number of the image.
    pub image: usize,
    /// Class, from 0.
    pub class: usize,
    /// How sure it is; only the order counts.
    pub score: f32,
    /// `[x1, y1, x2, y2]`, pixels of the image as it is stored.
    pub xyxy: [f32; 4],
}

/// What is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// Number of the image.
    pub image: usize,
    /// Class, from 0.
    pub class: usize,
    /// `[x1, y1, x2, y2]`, pixels of the image as it is stored.
    pub xyxy: [f32; 4],
    /// VOC's difficult objects and COCO's crowds: they count neither as found nor as missed.
    pub is_difficult_or_crowd: bool,
    /// Area in pixels² by which COCO tells small from large, of the object's mask; none: the box's.
    pub area: Option<f32>,
}

/// IoU thresholds .5, .55, … .95 of COCO's AP, computed as `linspace(.5, .95, 10)` is, so that an overlap at a threshold falls on
/// the same side.
pub fn iou_thresholds() -> [f64; 10] {
    let step = (0.95 - 0.5) / 9.0;
    std::array::from_fn(|i| if i == 9 { 0.95 } else { 0.5 + i as f64 * step })
}

/// Classes below `classes`, boxes finite and not inside out, scores finite.
fn check(detections: &[Detection], truths: &[Truth], classes: usize) -> Result<(), EvalError> {
    if classes == 0 {
        return Err(EvalError::Empty { what: "the list of classes" });
    }
    for (row, d) in detections.iter().enumerate() {
        if !d.score.is_finite() {
            return Err(EvalError::NotFinite { what: "the scores", place: format!(" at detection {row}") });
        }
        check_box("detected", "detection", row, d.class, d.xyxy, classes)?;
    }
    for (row, t) in truths.iter().enumerate() {
        check_box("true", "object", row, t.class, t.xyxy, classes)?;
        if t.area.is_some_and(|area| !area.is_finite()) {
            return Err(EvalError::NotFinite { what: "the areas", place: format!(" at object {row}") });
        }
    }
    Ok(())
}

fn check_box(
    set: &'static str,
    what: &str,
    row: usize,
    class: usize,
    [x1, y1, x2, y2]: [f32; 4],
    classes: usize,
) -> Result<(), EvalError> {
    if class >= classes {
        let label = u32::try_from(class).unwrap_or(u32::MAX);
        return Err(EvalError::Label { set, row, label, classes });
    }
    if ![x1, y1, x2, y2].iter().all(|v| v.is_finite()) {
        return Err(EvalError::NotFinite { what: "the boxes", place: format!(" at {what} {row}") });
    }
    if x2 < x1 || y2 < y1 {
        let found = format!("[{x1}, {y1}, {x2}, {y2}] of {what} {row}");
        return Err(EvalError::shape("box", "[x1, y1, x2, y2] with x1 ≤ x2 and y1 ≤ y2", found));
    }
    Ok(())
}

/// Mean of what is there; none of nothing.
fn mean(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0usize);
    for value in values.into_iter().flatten() {
        sum += value;
        count += 1;
    }
    (count > 0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests;
