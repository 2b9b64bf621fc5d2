//! Batch normalisation in the autodiff graph.

use burn::backend::TensorMetadata as _;
use burn::backend::autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;
use burn::tensor::TensorData;
use ocelli_world::{Shared, World};

use super::kernel::{BatchNormKernel, BatchNormOps, How};
use crate::together::values_of;

/// Input, gamma, statistics; the result where ReLU made it; the ranks whose statistics they are, where there are several.
struct Kept<B: BatchNormKernel> {
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    stats: FloatTensor<B>,
    y: Option<FloatTensor<B>>,
    eps: f32,
    over: Option<Shared>,
}

impl<B: BatchNormKernel> Clone for Kept<B> {
    fn clone(&self) -> Self {
        Self {
            x: self.x.clone(),
            gamma: self.gamma.clone(),
            stats: self.stats.clone(),
            y: self.y.clone(),
            eps: self.eps,
            over: self.over.clone(),
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
        let Kept { x, gamma, stats, y, eps, over } = ops.state;
        let shared = over.map(|world| (world, x.clone(), gamma.clone(), stats.clone()));
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
        let dx = match shared {
            None => dx,
            Some((world, x, gamma, stats)) => {
                over_ranks::<B>(dx, [&dgamma, &dbeta], x, [gamma, stats], eps, world.as_ref())
            }
        };
        for (node, grad) in [(x_node, dx), (gamma_node, dgamma), (beta_node, dbeta)] {
            if let Some(node) = node {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

/// The gradient of `x` where its statistics are of all ranks: `dx` is as if they were of `x` alone. With x̂ the normalised maps,
/// s = gamma / √(variance + eps) and n values of a channel here, N on all ranks, the whole gradient is
/// s·(dy − Σdy/N − x̂·Σ(dy·x̂)/N), its sums over all ranks, and `dx` has the sums of this rank over n in their place.
fn over_ranks<B: BatchNormKernel>(
    dx: FloatTensor<B>,
    [dgamma, dbeta]: [&FloatTensor<B>; 2],
    x: FloatTensor<B>,
    [gamma, stats]: [FloatTensor<B>; 2],
    eps: f32,
    world: &dyn World,
) -> FloatTensor<B> {
    let (shape, device) = (x.shape(), x.device());
    let channels = shape[1];
    let n = shape.num_elements() as f64 / channels.max(1) as f64;
    let own = [values_of::<B>(dgamma.clone()), values_of::<B>(dbeta.clone())].concat();
    let mut all = own.clone();
    world.sum(&mut all);
    let ranks = world.size() as f64;
    let apart = |i: usize| (f64::from(own[i]) - f64::from(all[i]) / ranks) / n;
    let (gamma, stats) = (values_of::<B>(gamma), values_of::<B>(stats));
    let of_channel = |c: usize| {
        let inverse = 1.0 / (f64::from(stats[channels + c]) + f64::from(eps)).sqrt();
        let scale = f64::from(gamma[c]) * inverse;
        [stats[c], (scale * inverse * apart(c)) as f32, (scale * apart(channels + c)) as f32]
    };
    let by_channel: Vec<[f32; 3]> = (0..channels).map(of_channel).collect();
    let [mean, slope, shift] = [0, 1, 2].map(|i| {
        let values: Vec<f32> = by_channel.iter().map(|of| of[i]).collect();
        B::float_from_data(TensorData::new(values, [1, channels, 1, 1]), &device)
    });
    let moved = B::float_add(B::float_mul(B::float_sub(x, mean), slope), shift);
    B::float_add(dx, moved)
}

impl<B: BatchNormKernel + BatchNormOps, C: CheckpointStrategy> BatchNormOps for Autodiff<B, C> {
    fn fused_batch_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        stats: FloatTensor<Self>,
        How { relu, eps, over }: How,
    ) -> FloatTensor<Self> {
        let ((x, x_node), (gamma, gamma_node), (beta, beta_node)) =
            (x.into_parts(), gamma.into_parts(), beta.into_parts());
        let stats = stats.into_parts().0;
        let y = B::batch_norm_plain(x.clone(), gamma.clone(), beta, stats.clone(), relu, eps);
        let nodes = [x_node, gamma_node, beta_node];
        match Backward::<B, 3>::prepare::<C>(BatchNormBackward, nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let kept = relu.then(|| y.clone());
                prep.finish(Kept { x, gamma, stats, y: kept, eps, over }, y)
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
        How { relu, eps, over }: How,
    ) -> FloatTensor<Self> {
        let ((x, x_node), (gamma, gamma_node), (beta, beta_node), (other, other_node)) =
            (x.into_parts(), gamma.into_parts(), beta.into_parts(), other.into_parts());
        let stats = stats.into_parts().0;
        let y = B::batch_norm_add(x.clone(), gamma.clone(), beta, stats.clone(), other, relu, eps);
        let nodes = [x_node, gamma_node, beta_node, other_node];
        match Backward::<B, 4>::prepare::<C>(BatchNormBackward, nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let kept = relu.then(|| y.clone());
                prep.finish(Kept { x, gamma, stats, y: kept, eps, over }, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}
