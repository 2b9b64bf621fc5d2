//! How well predicted masks fit true ones: region J and boundary F of the DAVIS benchmark, and mIoU of classes.
//!
//! J and F after Perazzi et al. 2016, *A Benchmark Dataset and Evaluation Methodology for Video Object
//! Segmentation*, as the published evaluation of DAVIS-2017 (Pont-Tuset et al., arXiv:1704.00675) computes them.
//!
//! ```
//! use ocelli_eval::segmentation::Confusion;
//!
//! // Four pixels, of which the last is not counted.
//! let mut confusion = Confusion::new(2)?;
//! confusion.add(&[0, 0, 1, 255], &[0, 1, 1, 1], Some(255))?;
//! let scores = confusion.scores()?;
//! assert_eq!(scores.iou, [Some(0.5), Some(0.5)]);
//! assert_eq!(scores.pixel_accuracy, 2.0 / 3.0);
//! # Ok::<(), ocelli_eval::EvalError>(())
//! ```

mod boundary;
mod confusion;
pub mod drawing;

use serde::{Deserialize, Serialize};

use crate::EvalError;
use crate::mask::Mask;

pub use boundary::{BOUNDARY_THRESHOLD, Boundary, boundary};
pub use confusion::{Confusion, SegmentationScores};

/// Region similarity J of two masks of one size: intersection over union outside the `void` pixels, in 0..=1.
/// Where both are empty it is 1.
///
/// # Errors
/// [`EvalError::Shape`] if the sizes differ.
pub fn region_similarity(prediction: &Mask, truth: &Mask, void: Option<&Mask>) -> Result<f64, EvalError> {
    match void {
        None => prediction.jaccard(truth),
        Some(void) => without(prediction, void)?.jaccard(&without(truth, void)?),
    }
}

/// The mask with the void pixels taken out.
fn without(mask: &Mask, void: &Mask) -> Result<Mask, EvalError> {
    same_size(mask, void)?;
    let cells = mask.cells().iter().zip(void.cells()).map(|(cell, void)| *cell && !void).collect();
    Mask::new(mask.width(), mask.height(), cells)
}

fn same_size(a: &Mask, b: &Mask) -> Result<(), EvalError> {
    if (a.width(), a.height()) == (b.width(), b.height()) {
        return Ok(());
    }
    let size = |mask: &Mask| format!("{} × {}", mask.width(), mask.height());
    Err(EvalError::shape("mask", size(a), size(b)))
}

/// What DAVIS reports of one measure of one object over the frames of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SequenceStatistics {
    /// Mean over the frames.
    pub mean: f64,
    /// Share of frames above 0.5.
    pub recall: f64,
    /// Mean of the first quarter of the frames less that of the last: what is lost on the way.
    pub decay: f64,
}

impl SequenceStatistics {
    /// Of a measure per frame. The benchmark leaves out the first frame, which is given, and the last, which has
    /// no annotation in some sequences: so should the caller.
    ///
    /// # Errors
    /// [`EvalError::Empty`] without frames.
    pub fn of(per_frame: &[f64]) -> Result<Self, EvalError> {
        if per_frame.is_empty() {
            return Err(EvalError::Empty { what: "the list of frames to score" });
        }
        let n = per_frame.len();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        // The published edges: np.round(np.linspace(1, n, 5) + 1e-10) - 1, and bins hold both their edges.
        let edge = |i: usize| (1.0 + (n - 1) as f64 * i as f64 / 4.0 + 1e-10).round_ties_even() as usize - 1;
        Ok(Self {
            mean: mean(per_frame),
            recall: per_frame.iter().filter(|value| **value > 0.5).count() as f64 / n as f64,
            decay: mean(&per_frame[edge(0)..=edge(1)]) - mean(&per_frame[edge(3)..=edge(4)]),
        })
    }

    /// Means of several, each counting the same: the benchmark's figures over the objects of all sequences.
    ///
    /// # Errors
    /// [`EvalError::Empty`] without any.
    pub fn mean_of(all: &[Self]) -> Result<Self, EvalError> {
        if all.is_empty() {
            return Err(EvalError::Empty { what: "the list of objects to score" });
        }
        let mean = |of: fn(&Self) -> f64| all.iter().map(of).sum::<f64>() / all.len() as f64;
        Ok(Self { mean: mean(|s| s.mean), recall: mean(|s| s.recall), decay: mean(|s| s.decay) })
    }
}

#[cfg(test)]
mod tests;
