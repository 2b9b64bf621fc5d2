//! Nearest rows in plain tensor operations.

use burn::tensor::{Int, Tensor};

/// See [`similarity_topk`](super::similarity_topk()); on any device, in any precision.
pub fn similarity_topk(
    queries: &Tensor<2>,
    bank: &Tensor<2>,
    k: usize,
    tile: usize,
) -> (Tensor<2>, Tensor<2, Int>) {
    let [n, _] = bank.dims();
    let top = |start: usize| {
        let width = tile.min(n - start);
        let part = bank.clone().narrow(0, start, width).transpose();
        let (values, indices) = queries.clone().matmul(part).topk_with_indices(k.min(width), 1);
        (values, indices + start as i64)
    };
    let (mut values, mut indices) = top(0);
    for start in (tile..n).step_by(tile) {
        let (more, places) = top(start);
        // The earlier rows stand first, so that they win among equals.
        let (all, from) = (Tensor::cat(vec![values, more], 1), Tensor::cat(vec![indices, places], 1));
        let kept = k.min(all.dims()[1]);
        let (best, places) = all.topk_with_indices(kept, 1);
        (values, indices) = (best, from.gather(1, places));
    }
    (values, indices)
}
