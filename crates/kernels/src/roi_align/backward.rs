//! ROIAlign in the autodiff graph.

use std::sync::Arc;

use burn::backend::autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;

use super::RoiPlan;
use super::kernel::{RoiAlignKernel, RoiAlignOps};

#[derive(Debug)]
struct RoiAlignBackward;

impl<B: RoiAlignKernel> Backward<B, 1> for RoiAlignBackward {
    /// The samples: the result is linear in the maps.
    type State = Arc<RoiPlan>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            grads.register::<B>(parent.id, B::roi_align_backward(dy, ops.state));
        }
    }
}

impl<B: RoiAlignKernel + RoiAlignOps, C: CheckpointStrategy> RoiAlignOps for Autodiff<B, C> {
    fn fused_roi_align(features: FloatTensor<Self>, plan: Arc<RoiPlan>) -> FloatTensor<Self> {
        let (features, node) = features.into_parts();
        let y = B::roi_align_forward(features, plan.clone());
        match RoiAlignBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(plan, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}
