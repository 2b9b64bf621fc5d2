//! InfoNCE in the autodiff graph.

use burn::backend::autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;

use super::kernel::{InfoNceKernel, InfoNceOps};

#[derive(Debug)]
struct InfoNceBackward;

impl<B: InfoNceKernel> Backward<B, 1> for InfoNceBackward {
    /// Query, key, queue, weights, log-sum-exps; temperature.
    type State = ([FloatTensor<B>; 5], f32);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dloss = grads.consume::<B>(&ops.node);
        let ([query, key, queue, weights, lse], temperature) = ops.state;
        if let [Some(parent)] = ops.parents {
            let dq = B::info_nce_backward(query, key, queue, weights, lse, dloss, temperature);
            grads.register::<B>(parent.id, dq);
        }
    }
}

impl<B: InfoNceKernel + InfoNceOps, C: CheckpointStrategy> InfoNceOps for Autodiff<B, C> {
    fn info_nce_of(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        queue: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        loss: FloatTensor<Self>,
        temperature: f32,
    ) -> FloatTensor<Self> {
        let (query, node) = query.into_parts();
        let [key, queue, weights, lse, loss] = [key, queue, weights, lse, loss].map(|t| t.into_parts().0);
        match InfoNceBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(([query, key, queue, weights, lse], temperature), loss),
            OpsKind::UnTracked(prep) => prep.finish(loss),
        }
    }
}
