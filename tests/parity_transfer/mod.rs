//! Parity of fine-tuned detection and segmentation: kernels, geometry, whole training steps and scores.

mod anchors;
mod detector;
mod detector_network;
mod metrics;
mod nms;
mod roi_align;
mod segmentation;
