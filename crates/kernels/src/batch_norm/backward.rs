//! Batch normalisation in the autodiff graph.

use burn::backend::autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;

use super::kernel::{BatchNormKernel, BatchNormOps};

/// Input, gamma, statistics; the result where ReLU made it.
struct Kept<B: BatchNormKernel> {
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    stats: FloatTensor<B>,
    y: Option<FloatTensor<B>>,
    eps: f32,
}

impl<B: BatchNormKernel> Clone for Kept<B> {
    fn clone(&self) -> Self {
        Self {
            x: self.x.clone(),
            gamma: self.gamma.clone(),
            stats: self.stats.clone(),
            y: self.y.clone(),
            eps: self.eps,
        }
    }
}

impl<B: BatchNormKernel> std::fmt::Debug for Kept<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("eps", &self.eps).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct BatchNormBackward;

/// `N` is 4 with something added, else 3.
impl<B: BatchNormKernel, const N: usize> Backward<B, N> for BatchNormBackward {
    type State = Kept<B>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let Kept { x, gamma, stats, y, eps } = ops.state;
        let mut parents = ops.parents.into_iter();
        let [x_node, gamma_node, beta_node, other_node] = [(); 4].map(|()| parents.next().flatten());
        let (dx, dgamma, dbeta) = match (y, other_node) {
            (Some(y), Some(node)) => {
                let (dx, dgamma, dbeta, dother) = B::batch_norm_add_relu_backward(dy, x, gamma, stats, y, eps);
                grads.register::<B>(node.id, dother);
                (dx, dgamma, dbeta)
            }
            (Some(y), None) => B::batch_norm_relu_backward(dy, x, gamma, stats, y, eps),
            (None, other) => {
                if let Some(node) = other {
                    grads.register::<B>(node.id, dy.clone());
                }
                B::batch_norm_backward(dy, x, gamma, stats, eps)
            }
        };
        for (node, grad) in [(x_node, dx), (gamma_node, dgamma), (beta_node, dbeta)] {
            if let Some(node) = node {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

impl<B: BatchNormKernel + BatchNormOps, C: CheckpointStrategy> BatchNormOps for Autodiff<B, C> {
    fn fused_batch_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        stats: FloatTensor<Self>,
        relu: bool,
        eps: f32,
    ) -> FloatTensor<Self> {
        let ((x, x_node), (gamma, gamma_node), (beta, beta_node)) =
            (x.into_parts(), gamma.into_parts(), beta.into_parts());
        let stats = stats.into_parts().0;
        let y = B::batch_norm_plain(x.clone(), gamma.clone(), beta, stats.clone(), relu, eps);
        let nodes = [x_node, gamma_node, beta_node];
        match Backward::<B, 3>::prepare::<C>(BatchNormBackward, nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let kept = relu.then(|| y.clone());
                prep.finish(Kept { x, gamma, stats, y: kept, eps }, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn fused_batch_norm_add(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        stats: FloatTensor<Self>,
        other: FloatTensor<Self>,
        relu: bool,
        eps: f32,
    ) -> FloatTensor<Self> {
        let ((x, x_node), (gamma, gamma_node), (beta, beta_node), (other, other_node)) =
            (x.into_parts(), gamma.into_parts(), beta.into_parts(), other.into_parts());
        let stats = stats.into_parts().0;
        let y = B::batch_norm_add(x.clone(), gamma.clone(), beta, stats.clone(), other, relu, eps);
        let nodes = [x_node, gamma_node, beta_node, other_node];
        match Backward::<B, 4>::prepare::<C>(BatchNormBackward, nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let kept = relu.then(|| y.clone());
                prep.finish(Kept { x, gamma, stats, y: kept, eps }, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}
