//! Losses in plain tensor operations.

use burn::tensor::{Tensor, activation};

/// DINO's cross-entropy over all pairs of a teacher's and another student's view (Caron et al. 2021, eq. 3), `[1]`:
///
/// 1/(2(V−1)) Σ_{i∈{0,1}} Σ_{v≠i} mean_b( −Σ_k softmax((t_i − c)/τt)_k · log softmax(s_v/τs)_k )
///
/// Shapes: `student` `[V·batch, K]`, `teacher` `[2·batch, K]`, both crop-major; `centre` `[1, K]`. The gradient flows
/// to the student alone. The inner sum is linear in the teacher, so view v meets the sum of the other teachers' rows
/// and one pass over the student's log-probabilities is enough.
pub fn dino_cross_entropy(
    student: Tensor<2>,
    teacher: Tensor<2>,
    centre: Tensor<2>,
    student_temp: f64,
    teacher_temp: f64,
    views: usize,
) -> Tensor<1> {
    let [rows, k] = student.dims();
    let batch = rows / views;
    let targets = activation::softmax((teacher - centre) / teacher_temp, 1);
    let (first, second) = (targets.clone().narrow(0, 0, batch), targets.narrow(0, batch, batch));
    let both = first.clone() + second.clone();
    // View 0 is not compared with teacher view 0, nor 1 with 1; the local views meet both.
    let mut per_view = vec![second, first];
    per_view.resize(views, both);
    let targets = Tensor::cat(per_view, 0).detach();
    let log_probabilities = activation::log_softmax(student / student_temp, 1);
    let pairs = 2 * (views - 1);
    (log_probabilities.reshape([rows, k]) * targets).sum().neg() / (pairs * batch) as f64
}
