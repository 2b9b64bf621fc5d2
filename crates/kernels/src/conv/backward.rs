//! Convolution in the autodiff graph.

use burn::backend::TensorMetadata as _;
use burn::backend::autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;

use super::ConvShape;
use super::kernel::{ConvKernel, ConvOps};

#[derive(Debug)]
struct ConvBackward;

impl<B: ConvKernel> Backward<B, 2> for ConvBackward {
    /// Input, weight, how it goes over the input.
    type State = (FloatTensor<B>, FloatTensor<B>, ConvShape);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (x, w, shape) = ops.state;
        let [x_node, w_node] = ops.parents;
        let (size, kernel) = ([x.shape()[2], x.shape()[3]], [w.shape()[2], w.shape()[3]]);
        if let Some(node) = x_node {
            grads.register::<B>(node.id, B::conv_input_grad(dy.clone(), w, size, shape));
        }
        if let Some(node) = w_node {
            grads.register::<B>(node.id, B::conv_weight_grad(x, dy, kernel, shape));
        }
    }
}

impl<B: ConvKernel + ConvOps, C: CheckpointStrategy> ConvOps for Autodiff<B, C> {
    fn fused_conv(x: FloatTensor<Self>, w: FloatTensor<Self>, shape: ConvShape) -> FloatTensor<Self> {
        let ((x, x_node), (w, w_node)) = (x.into_parts(), w.into_parts());
        match ConvBackward.prepare::<C>([x_node, w_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let y = B::conv_forward(x.clone(), w.clone(), shape);
                prep.finish((x, w, shape), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::conv_forward(x, w, shape)),
        }
    }
}
