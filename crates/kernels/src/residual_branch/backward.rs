//! Residual branches in the autodiff graph.

use burn::backend::autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;

use super::{BranchKernel, BranchOps, Heads};

/// What both branches keep of their inputs.
#[derive(Debug, Clone)]
struct Inputs<T> {
    x: T,
    gamma: T,
    beta: T,
    /// Weights of the first and the second map.
    weights: [T; 2],
    epsilon: f32,
}

#[derive(Debug)]
struct MlpBranchBackward;

impl<B: BranchKernel> Backward<B, 7> for MlpBranchBackward {
    /// Inputs, and what goes into the activation.
    type State = (Inputs<FloatTensor<B>>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 7>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (Inputs { x, gamma, beta, weights: [w1, w2], epsilon }, h) = ops.state;
        let (dx, dgamma, dbeta, dw1, db1, dw2, db2) =
            B::mlp_branch_backward(dy, x, gamma, beta, h, w1, w2, epsilon);
        for (parent, grad) in ops.parents.into_iter().zip([dx, dgamma, dbeta, dw1, db1, dw2, db2]) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, grad);
            }
        }
    }
}

#[derive(Debug)]
struct AttentionBranchBackward;

/// What the heads leave for the backward pass.
#[derive(Debug, Clone)]
struct Mixed<T> {
    qkv: T,
    mixed: T,
    stats: T,
    heads: Heads,
}

impl<B: BranchKernel> Backward<B, 7> for AttentionBranchBackward {
    type State = (Inputs<FloatTensor<B>>, Mixed<FloatTensor<B>>);

    fn backward(self, ops: Ops<Self::State, 7>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (Inputs { x, gamma, beta, weights: [w, w_out], epsilon }, Mixed { qkv, mixed, stats, heads }) =
            ops.state;
        let (dx, dgamma, dbeta, dw, db, dw_out, db_out) =
            B::attention_branch_backward(dy, x, gamma, beta, qkv, mixed, stats, w, w_out, epsilon, heads);
        for (parent, grad) in ops.parents.into_iter().zip([dx, dgamma, dbeta, dw, db, dw_out, db_out]) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, grad);
            }
        }
    }
}

impl<B: BranchKernel + BranchOps, C: CheckpointStrategy> BranchOps for Autodiff<B, C> {
    fn fused_mlp_branch(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        w1: FloatTensor<Self>,
        b1: FloatTensor<Self>,
        w2: FloatTensor<Self>,
        b2: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let ((x, n0), (gamma, n1), (beta, n2)) = (x.into_parts(), gamma.into_parts(), beta.into_parts());
        let ((w1, n3), (b1, n4), (w2, n5), (b2, n6)) =
            (w1.into_parts(), b1.into_parts(), w2.into_parts(), b2.into_parts());
        match MlpBranchBackward.prepare::<C>([n0, n1, n2, n3, n4, n5, n6]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let kept = Inputs {
                    x: x.clone(),
                    gamma: gamma.clone(),
                    beta: beta.clone(),
                    weights: [w1.clone(), w2.clone()],
                    epsilon,
                };
                let (y, h) = B::mlp_branch_forward(x, gamma, beta, w1, b1, w2, b2, epsilon);
                prep.finish((kept, h), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::fused_mlp_branch(x, gamma, beta, w1, b1, w2, b2, epsilon)),
        }
    }

    fn fused_attention_branch(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        w_out: FloatTensor<Self>,
        b_out: FloatTensor<Self>,
        epsilon: f32,
        heads: Heads,
    ) -> FloatTensor<Self> {
        let ((x, n0), (gamma, n1), (beta, n2)) = (x.into_parts(), gamma.into_parts(), beta.into_parts());
        let ((w, n3), (b, n4), (w_out, n5), (b_out, n6)) =
            (w.into_parts(), b.into_parts(), w_out.into_parts(), b_out.into_parts());
        match AttentionBranchBackward.prepare::<C>([n0, n1, n2, n3, n4, n5, n6]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let kept = Inputs {
                    x: x.clone(),
                    gamma: gamma.clone(),
                    beta: beta.clone(),
                    weights: [w.clone(), w_out.clone()],
                    epsilon,
                };
                let (y, qkv, mixed, stats) =
                    B::attention_branch_forward(x, gamma, beta, w, b, w_out, b_out, epsilon, heads);
                prep.finish((kept, Mixed { qkv, mixed, stats, heads }), y)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::fused_attention_branch(x, gamma, beta, w, b, w_out, b_out, epsilon, heads))
            }
        }
    }
}
