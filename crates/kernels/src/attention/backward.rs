//! Attention in the autodiff graph.

use burn::backend::autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;

use super::{AttentionKernel, AttentionOps};

#[derive(Debug)]
struct AttentionBackward;

/// What the backward pass needs.
#[derive(Debug, Clone)]
struct Saved<T> {
    qkv: T,
    y: T,
    stats: T,
    heads: usize,
    scale: f32,
}

impl<B: AttentionKernel> Backward<B, 1> for AttentionBackward {
    type State = Saved<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            let Saved { qkv, y, stats, heads, scale } = ops.state;
            let dqkv = B::attention_backward(dy, qkv, y, stats, heads, scale);
            grads.register::<B>(parent.id, dqkv);
        }
    }
}

impl<B: AttentionKernel + AttentionOps, C: CheckpointStrategy> AttentionOps for Autodiff<B, C> {
    fn fused_attention(qkv: FloatTensor<Self>, heads: usize, scale: f32) -> FloatTensor<Self> {
        let (qkv, node) = qkv.into_parts();
        match AttentionBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (y, stats) = B::attention_forward(qkv.clone(), heads, scale);
                let saved = Saved { qkv, y: y.clone(), stats, heads, scale };
                prep.finish(saved, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::fused_attention(qkv, heads, scale)),
        }
    }
}
