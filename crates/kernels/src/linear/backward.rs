//! A linear map in the autodiff graph.

use burn::backend::autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;

use super::{LinearKernel, LinearOps};

/// `N` is 4 with a bias and a residual, 3 with a bias, else 2.
#[derive(Debug)]
struct LinearBackward;

impl<B: LinearKernel, const N: usize> Backward<B, N> for LinearBackward {
    /// Input, weight.
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (x, w) = ops.state;
        let mut parents = ops.parents.into_iter();
        let (x_node, w_node, b_node) =
            (parents.next().flatten(), parents.next().flatten(), parents.next().flatten());
        if let Some(node) = parents.next().flatten() {
            grads.register::<B>(node.id, dy.clone());
        }
        if let Some(node) = x_node {
            grads.register::<B>(node.id, B::linear_input_grad(dy.clone(), w));
        }
        let Some(b_node) = b_node else {
            if let Some(node) = w_node {
                grads.register::<B>(node.id, B::linear_weight_grad_plain(x, dy));
            }
            return;
        };
        let (dw, db) = B::linear_weight_grad(x, dy);
        if let Some(node) = w_node {
            grads.register::<B>(node.id, dw);
        }
        grads.register::<B>(b_node.id, db);
    }
}

impl<B: LinearKernel + LinearOps, C: CheckpointStrategy> LinearOps for Autodiff<B, C> {
    fn fused_linear(x: FloatTensor<Self>, w: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((x, x_node), (w, w_node), (b, b_node)) = (x.into_parts(), w.into_parts(), b.into_parts());
        match Backward::<B, 3>::prepare::<C>(LinearBackward, [x_node, w_node, b_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let y = B::linear_forward(x.clone(), w.clone(), b);
                prep.finish((x, w), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::linear_forward(x, w, b)),
        }
    }

    fn fused_linear_past(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        past: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let ((x, n0), (w, n1), (b, n2), (past, n3)) =
            (x.into_parts(), w.into_parts(), b.into_parts(), past.into_parts());
        match Backward::<B, 4>::prepare::<C>(LinearBackward, [n0, n1, n2, n3]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let y = B::linear_past(x.clone(), w.clone(), b, past);
                prep.finish((x, w), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::linear_past(x, w, b, past)),
        }
    }

    fn fused_linear_plain(x: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((x, x_node), (w, w_node)) = (x.into_parts(), w.into_parts());
        match Backward::<B, 2>::prepare::<C>(LinearBackward, [x_node, w_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let y = B::linear_plain(x.clone(), w.clone());
                prep.finish((x, w), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::linear_plain(x, w)),
        }
    }
}
