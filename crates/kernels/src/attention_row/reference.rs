//! One row of attention in plain tensor operations.

use burn::tensor::{Tensor, activation::softmax};

/// See [`attention_row`](super::attention_row()); on any device, in any precision.
pub fn attention_row(qkv: Tensor<3>, heads: usize, scale: f32, query: usize) -> Tensor<3> {
    let [batch, tokens, width] = qkv.dims();
    let dim = width / 3;
    let qk = qkv.narrow(2, 0, 2 * dim).reshape([batch, tokens, 2 * heads, dim / heads]).swap_dims(1, 2);
    let q = qk.clone().narrow(1, 0, heads).narrow(2, query, 1);
    let k = qk.narrow(1, heads, heads);
    softmax((q * scale).matmul(k.swap_dims(2, 3)), 3).reshape([batch, heads, tokens])
}
