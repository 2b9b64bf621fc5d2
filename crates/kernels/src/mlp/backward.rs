//! The perceptron in the autodiff graph.

use burn::backend::autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;

use super::{MlpKernel, MlpOps};

#[derive(Debug)]
struct MlpBackward;

/// What the backward pass needs.
#[derive(Debug, Clone)]
struct Saved<T> {
    x: T,
    h: T,
    w1: T,
    w2: T,
}

impl<B: MlpKernel> Backward<B, 5> for MlpBackward {
    type State = Saved<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 5>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let Saved { x, h, w1, w2 } = ops.state;
        let (dx, dw1, db1, dw2, db2) = B::mlp_backward(dy, x, h, w1, w2);
        for (parent, grad) in ops.parents.into_iter().zip([dx, dw1, db1, dw2, db2]) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, grad);
            }
        }
    }
}

impl<B: MlpKernel + MlpOps, C: CheckpointStrategy> MlpOps for Autodiff<B, C> {
    fn fused_mlp(
        x: FloatTensor<Self>,
        w1: FloatTensor<Self>,
        b1: FloatTensor<Self>,
        w2: FloatTensor<Self>,
        b2: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let ((x, n0), (w1, n1), (b1, n2), (w2, n3), (b2, n4)) =
            (x.into_parts(), w1.into_parts(), b1.into_parts(), w2.into_parts(), b2.into_parts());
        match MlpBackward.prepare::<C>([n0, n1, n2, n3, n4]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (y, h) = B::mlp_forward(x.clone(), w1.clone(), b1, w2.clone(), b2);
                prep.finish(Saved { x, h, w1, w2 }, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::mlp_value(x, w1, b1, w2, b2)),
        }
    }
}
