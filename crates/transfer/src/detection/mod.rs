//! Object detection: Faster R-CNN on a ResNet's fourth stage (C4), as MoCo and DenseCL fine-tune it.
//!
//! * [`boxes`], [`anchors`], [`nms`]: geometry on the host. [`sampling`]: which boxes a loss looks at.
//! * [`network`]: the layers. [`rpn`] and [`roi`]: what becomes of what they say, in both stages. [`pass`]: both over a batch.
//! * [`DetectionTask`]: fine-tuning as a task of the training loop; [`DetectionConfig`] is all that decides it.
//! * [`Detector`]: a trained one, for pictures. Its files have detectron2's names ([`names`]).

pub mod anchors;
pub mod boxes;
pub mod config;
mod data;
pub mod evaluation;
mod load;
mod memory;
pub mod names;
pub mod network;
pub mod nms;
pub mod pass;
mod pictures;
pub mod roi;
pub mod rpn;
pub mod sampling;
mod schedule;
mod task;

pub use config::{DETECTION_TASK, DetectionConfig, PRESETS};
pub use data::DetectionData;
pub use load::{DETECTOR_FILE, Detected, Detector};
pub use schedule::DetectorOptim;
pub use task::{DETECTION_FILE, DetectionTask};
