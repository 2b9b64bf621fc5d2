//! The DINO loss in the autodiff graph.
//!
//! The gradient is found together with the loss, while the logits are at hand; the backward pass only scales it.

use burn::backend::autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::FloatTensor;

use super::{DinoCrossEntropyKernel, DinoCrossEntropyOps};

#[derive(Debug)]
struct DinoCrossEntropyBackward;

impl<B: DinoCrossEntropyKernel> Backward<B, 1> for DinoCrossEntropyBackward {
    /// The gradient for a loss gradient of one.
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dloss = grads.consume::<B>(&ops.node);
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            let grad = B::dino_cross_entropy_backward(ops.state, dloss);
            grads.register::<B>(parent.id, grad);
        }
    }
}

impl<B: DinoCrossEntropyKernel + DinoCrossEntropyOps, C: CheckpointStrategy> DinoCrossEntropyOps
    for Autodiff<B, C>
{
    fn fused_dino_cross_entropy(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        centre: FloatTensor<Self>,
        student_temp: f32,
        teacher_temp: f32,
        views: usize,
    ) -> FloatTensor<Self> {
        let (student, node) = student.into_parts();
        let (teacher, centre) = (teacher.into_primitive(), centre.into_primitive());
        match DinoCrossEntropyBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (loss, grad) =
                    B::dino_cross_entropy_with_grad(student, teacher, centre, student_temp, teacher_temp, views);
                prep.finish(grad, loss)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::dino_cross_entropy_loss(
                student,
                teacher,
                centre,
                student_temp,
                teacher_temp,
                views,
            )),
        }
    }
}
