//! ROIAlign on the CPU.

use std::sync::Arc;

use burn::backend::{Flex, flex::FlexTensor};
use ocelli_simd::roi_align::{backward, forward};

use super::RoiPlan;
use super::kernel::{RoiAlignKernel, RoiAlignOps};
use crate::buffer::{contiguous, numbers, size, tensor};

impl RoiAlignOps for Flex {
    fn fused_roi_align(features: FlexTensor, plan: Arc<RoiPlan>) -> FlexTensor {
        Self::roi_align_forward(features, plan)
    }
}

impl RoiAlignKernel for Flex {
    fn roi_align_forward(features: FlexTensor, plan: Arc<RoiPlan>) -> FlexTensor {
        let features = contiguous(features);
        let channels = size(&features, 1);
        tensor(forward(&plan, numbers(&features), channels), plan.output(channels))
    }

    fn roi_align_backward(dy: FlexTensor, plan: Arc<RoiPlan>) -> FlexTensor {
        let dy = contiguous(dy);
        let channels = size(&dy, 1);
        tensor(backward(&plan, numbers(&dy), channels), plan.input(channels))
    }
}
