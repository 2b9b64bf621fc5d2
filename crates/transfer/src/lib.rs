//! Fine-tuned networks and what they are worth: object detection with Faster R-CNN on a ResNet's fourth stage (C4), and
//! semantic segmentation with FCN on a dilated ResNet or a small head on a Vision Transformer's patches. These are the
//! protocols by which DenseCL and MoCo are judged.
//!
//! Each is a task of the training loop ([`ocelli_train::Task`]): resume, checkpoints, progress, report and `--dry-run` come
//! with it.
//!
//! ```
//! use ocelli_transfer::detection::nms::nms;
//!
//! // The second box is surer than the first, and hides it; the third lies elsewhere.
//! let boxes = [[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [20.0, 0.0, 30.0, 10.0]];
//! assert_eq!(nms(&boxes, &[0.8, 0.9, 0.5], 0.5), [1, 2]);
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod detection;
mod judged;
mod precise_bn;
pub mod segmentation;

pub use judged::Judged;
pub use precise_bn::{NormStatistics, PreciseBn};

/// At most `most` of the numbers below `len`, evenly spaced; 0 keeps all.
fn evenly(len: usize, most: usize) -> Vec<usize> {
    if most == 0 || len <= most {
        return (0..len).collect();
    }
    (0..most).map(|i| i * len / most).collect()
}

#[cfg(test)]
mod tests {
    use super::evenly;

    #[test]
    fn numbers_are_spread() {
        assert_eq!(evenly(5, 0), [0, 1, 2, 3, 4]);
        assert_eq!(evenly(3, 5), [0, 1, 2]);
        assert_eq!(evenly(10, 3), [0, 3, 6]);
    }
}
