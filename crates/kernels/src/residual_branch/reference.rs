//! Residual branches in plain tensor operations.

use burn::tensor::Tensor;

use super::{Heads, Map, Norm};
use crate::attention::attention_reference;
use crate::layer_norm::layer_norm_reference;
use crate::linear::linear_reference;
use crate::mlp::mlp_reference;

/// See [`mlp_branch`](super::mlp_branch()); on any device, in any precision.
pub fn mlp_branch(x: Tensor<2>, norm: Norm, fc1: Map, fc2: Map) -> Tensor<2> {
    let normed = layer_norm_reference(x.clone(), norm.gamma, norm.beta, norm.epsilon);
    x + mlp_reference(normed, fc1.weight, fc1.bias, fc2.weight, fc2.bias)
}

/// See [`attention_branch`](super::attention_branch()); on any device, in any precision.
pub fn attention_branch(x: Tensor<2>, norm: Norm, qkv: Map, proj: Map, heads: Heads) -> Tensor<2> {
    let [rows, dim] = x.dims();
    let normed = layer_norm_reference(x.clone(), norm.gamma, norm.beta, norm.epsilon);
    let packed = linear_reference(normed, qkv.weight, Some(qkv.bias));
    let packed = packed.reshape([heads.batch, rows / heads.batch, 3 * dim]);
    let mixed = attention_reference(packed, heads.heads, heads.scale).reshape([rows, dim]);
    x + linear_reference(mixed, proj.weight, Some(proj.bias))
}
