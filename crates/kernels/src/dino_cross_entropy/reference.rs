//! The DINO loss in plain tensor operations.

use burn::tensor::{
    Tensor,
    activation::{log_softmax, softmax},
};

/// See [`dino_cross_entropy`](super::dino_cross_entropy); on any device, in any precision.
pub fn dino_cross_entropy(
    student: Tensor<2>,
    teacher: Tensor<2>,
    centre: Tensor<2>,
    student_temp: f32,
    teacher_temp: f32,
    views: usize,
) -> Tensor<1> {
    let [rows, k] = student.dims();
    let batch = rows / views;
    let target = softmax((teacher - centre) / teacher_temp, 1).detach().reshape([2, batch, k]);
    let log = log_softmax(student / student_temp, 1).reshape([views, batch, k]);
    // Each view meets both targets, except that the first two do not meet their own.
    let both = target.clone().sum_dim(0) * log.clone().sum_dim(0);
    let own = (target * log.narrow(0, 0, 2)).sum_dim(0);
    (own - both).sum() / (2 * (views - 1) * batch) as f32
}
