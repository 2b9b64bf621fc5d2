//! Attention in plain tensor operations.

use burn::tensor::{Tensor, activation::softmax};

/// See [`attention`](super::attention); on any device, in any precision.
pub fn attention(qkv: Tensor<3>, heads: usize, scale: f32) -> Tensor<3> {
    let [batch, tokens, width] = qkv.dims();
    let dim = width / 3;
    let qkv = qkv.reshape([batch, tokens, 3 * heads, dim / heads]).swap_dims(1, 2);
    let [q, k, v] = [0, 1, 2].map(|part| qkv.clone().narrow(1, part * heads, heads));
    let weights = softmax((q * scale).matmul(k.swap_dims(2, 3)), 3);
    weights.matmul(v).swap_dims(1, 2).reshape([batch, tokens, dim])
}
