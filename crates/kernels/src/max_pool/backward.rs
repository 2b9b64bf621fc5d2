//! The pooling in the autodiff graph.

use burn::backend::autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;

use super::{MaxPoolKernel, MaxPoolOps};

#[derive(Debug)]
struct MaxPoolBackward;

impl<B: MaxPoolKernel> Backward<B, 1> for MaxPoolBackward {
    /// The maps: looking for the largest cells once more is faster than keeping where they are.
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            grads.register::<B>(parent.id, B::max_pool_backward(dy, ops.state));
        }
    }
}

impl<B: MaxPoolKernel + MaxPoolOps, C: CheckpointStrategy> MaxPoolOps for Autodiff<B, C> {
    fn fused_max_pool(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match MaxPoolBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let y = B::max_pool_forward(x.clone());
                prep.finish(x, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::max_pool_forward(x)),
        }
    }
}
