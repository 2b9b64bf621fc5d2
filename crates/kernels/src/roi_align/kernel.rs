//! What a device implements.

use std::sync::Arc;

use burn::backend::{Backend, backend_extension, tensor::FloatTensor};

use super::RoiPlan;
#[cfg(feature = "fusion")]
use crate::mode::spec;

/// Both directions. Shapes as in [`roi_align`](super::roi_align()).
#[backend_extension(Flex, Cube: cfg(feature = "wgsl"), Fusion: cfg(feature = "fusion"))]
pub trait RoiAlignKernel: Backend {
    /// The parts of maps under boxes.
    #[fusion(meta = |features, plan| spec(features, plan.output(features.shape[1])))]
    fn roi_align_forward(features: FloatTensor<Self>, plan: Arc<RoiPlan>) -> FloatTensor<Self>;

    /// The gradient of the maps from that of the parts.
    #[fusion(meta = |dy, plan| spec(dy, plan.input(dy.shape[1])))]
    fn roi_align_backward(dy: FloatTensor<Self>, plan: Arc<RoiPlan>) -> FloatTensor<Self>;
}

/// The differentiable operation.
#[backend_extension(Autodiff: cfg(feature = "autodiff"), Flex, Cube: cfg(feature = "wgsl"), Fusion: cfg(feature = "fusion"))]
pub trait RoiAlignOps: Backend {
    /// The parts of maps under boxes.
    #[fusion(meta = |features, plan| spec(features, plan.output(features.shape[1])))]
    fn fused_roi_align(features: FloatTensor<Self>, plan: Arc<RoiPlan>) -> FloatTensor<Self>;
}
