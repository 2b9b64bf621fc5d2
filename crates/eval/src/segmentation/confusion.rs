//! Mean intersection over union of classes, from a confusion matrix summed over images.

use serde::{Deserialize, Serialize};

use crate::EvalError;

/// How often each class was taken for each: rows are labels, columns predictions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    classes: usize,
    counts: Vec<u64>,
}

/// What a confusion matrix says. Classes that never occur are left out of the means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentationScores {
    /// Intersection over union of each class; none for a class in neither labels nor predictions.
    pub iou: Vec<Option<f64>>,
    /// Their mean (mIoU).
    pub miou: f64,
    /// Mean over the classes that have labels of the share of their pixels that is right.
    pub mean_class_accuracy: f64,
    /// Share of all pixels that is right.
    pub pixel_accuracy: f64,
}

impl Confusion {
    /// Nothing counted yet.
    ///
    /// # Errors
    /// [`EvalError::Empty`] without classes.
    pub fn new(classes: usize) -> Result<Self, EvalError> {
        if classes == 0 {
            return Err(EvalError::Empty { what: "the list of classes" });
        }
        Ok(Self { classes, counts: vec![0; classes * classes] })
    }

    /// From counts, `[classes, classes]` row-major.
    ///
    /// # Errors
    /// [`EvalError::Empty`] without classes, [`EvalError::Shape`] if the number of counts does not fit.
    pub fn from_counts(classes: usize, counts: Vec<u64>) -> Result<Self, EvalError> {
        if counts.len() != classes * classes {
            return Err(EvalError::shape("confusion matrix", format!("{classes} × {classes}"), counts.len()));
        }
        Ok(Self { counts, ..Self::new(classes)? })
    }

    /// The counts, `[classes, classes]` row-major.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Counts the pixels of an image. Pixels whose label is `ignored` are left out.
    ///
    /// # Errors
    /// [`EvalError::Shape`] if the lengths differ, [`EvalError::Label`] for a class that is none: nothing is
    /// counted then.
    pub fn add(&mut self, labels: &[u8], predictions: &[u8], ignored: Option<u8>) -> Result<(), EvalError> {
        if labels.len() != predictions.len() {
            return Err(EvalError::shape("predictions", format!("{} pixels", labels.len()), predictions.len()));
        }
        let counted = || labels.iter().zip(predictions).enumerate().filter(|(_, (l, _))| Some(**l) != ignored);
        for (row, (label, prediction)) in counted() {
            for (set, class) in [("true", *label), ("predicted", *prediction)] {
                if usize::from(class) >= self.classes {
                    return Err(EvalError::Label { set, row, label: class.into(), classes: self.classes });
                }
            }
        }
        for (_, (label, prediction)) in counted() {
            self.counts[usize::from(*label) * self.classes + usize::from(*prediction)] += 1;
        }
        Ok(())
    }

    /// The figures.
    ///
    /// # Errors
    /// [`EvalError::Empty`] where no pixel was counted.
    pub fn scores(&self) -> Result<SegmentationScores, EvalError> {
        let n = self.classes;
        let total: u64 = self.counts.iter().sum();
        if total == 0 {
            return Err(EvalError::Empty { what: "the set of labelled pixels" });
        }
        let right = |class: usize| self.counts[class * n + class];
        let labelled = |class: usize| self.counts[class * n..][..n].iter().sum::<u64>();
        let predicted = |class: usize| self.counts.iter().skip(class).step_by(n).sum::<u64>();
        let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let iou: Vec<Option<f64>> =
            (0..n).map(|class| share(right(class), labelled(class) + predicted(class) - right(class))).collect();
        let accuracies: Vec<Option<f64>> = (0..n).map(|class| share(right(class), labelled(class))).collect();
        let mean = |values: &[Option<f64>]| {
            let there = values.iter().flatten();
            there.clone().sum::<f64>() / there.count() as f64
        };
        Ok(SegmentationScores {
            miou: mean(&iou),
            mean_class_accuracy: mean(&accuracies),
            pixel_accuracy: (0..n).map(right).sum::<u64>() as f64 / total as f64,
            iou,
        })
    }
}
