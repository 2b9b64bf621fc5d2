//! InfoNCE in plain tensor operations, with all logits.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;

/// The loss of [`info_nce`](super::info_nce()) for any device and precision, differentiable in everything.
pub fn info_nce(
    query: Tensor<2>,
    key: Tensor<2>,
    queue: Tensor<2>,
    temperature: f64,
    weights: Option<Tensor<2>>,
) -> Tensor<1> {
    let positive = (query.clone() * key).sum_dim(1);
    let logits = Tensor::cat(vec![positive, query.matmul(queue)], 1) / temperature;
    let losses = log_softmax(logits, 1).narrow(1, 0, 1).neg();
    match weights {
        Some(weights) => (losses * weights).sum(),
        None => losses.mean(),
    }
}
