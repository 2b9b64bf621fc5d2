//! The DINO loss on the CPU.

use burn::backend::{Flex, flex::FlexTensor, ops::FloatTensorOps};
use ocelli_simd::dino_cross_entropy::{Setting, loss};

use super::{DinoCrossEntropyKernel, DinoCrossEntropyOps};
use crate::alloc;
use crate::buffer::{contiguous, numbers, size, tensor};

impl DinoCrossEntropyOps for Flex {
    fn fused_dino_cross_entropy(
        student: FlexTensor,
        teacher: FlexTensor,
        centre: FlexTensor,
        student_temp: f32,
        teacher_temp: f32,
        views: usize,
    ) -> FlexTensor {
        Self::dino_cross_entropy_loss(student, teacher, centre, student_temp, teacher_temp, views)
    }
}

impl DinoCrossEntropyKernel for Flex {
    fn dino_cross_entropy_loss(
        student: FlexTensor,
        teacher: FlexTensor,
        centre: FlexTensor,
        student_temp: f32,
        teacher_temp: f32,
        views: usize,
    ) -> FlexTensor {
        value([student, teacher, centre], [student_temp, teacher_temp], views, None)
    }

    fn dino_cross_entropy_with_grad(
        student: FlexTensor,
        teacher: FlexTensor,
        centre: FlexTensor,
        student_temp: f32,
        teacher_temp: f32,
        views: usize,
    ) -> (FlexTensor, FlexTensor) {
        let [rows, k] = [size(&student, 0), size(&student, 1)];
        let mut grad = alloc::scratch(rows * k);
        let loss = value([student, teacher, centre], [student_temp, teacher_temp], views, Some(&mut grad));
        (loss, tensor(grad, [rows, k]))
    }

    fn dino_cross_entropy_backward(mut grad: FlexTensor, dloss: FlexTensor) -> FlexTensor {
        let factor = numbers(&contiguous(dloss))[0];
        if factor == 1.0 {
            return grad;
        }
        match grad.try_storage_mut::<f32>() {
            Some(numbers) => {
                for x in numbers {
                    *x *= factor;
                }
                grad
            }
            None => Self::float_mul_scalar(grad, factor.into()),
        }
    }
}

/// The loss; the gradient of the student if there is room for it.
fn value(
    inputs: [FlexTensor; 3],
    [student_temp, teacher_temp]: [f32; 2],
    views: usize,
    grad: Option<&mut [f32]>,
) -> FlexTensor {
    let inputs = inputs.map(contiguous);
    let batch = size(&inputs[0], 0) / views;
    let [student, teacher, centre] = inputs.each_ref().map(numbers);
    let setting = Setting { student, teacher, centre, batch, views, student_temp, teacher_temp };
    let mut out = alloc::scratch(1);
    out[0] = loss(&setting, grad);
    tensor(out, [1])
}
