//! Branches out of the kernels of their parts, the same on every device.

use burn::backend::{TensorMetadata as _, tensor::FloatTensor};
use burn::tensor::Shape;

use super::{BranchKernel, BranchOps, Heads};
use crate::attention::AttentionKernel;
use crate::layer_norm::LayerNormKernel;
use crate::linear::LinearKernel;
use crate::mlp::MlpKernel;

/// What a device does in fewer passes than an operation and an addition.
pub(super) trait Parts: LayerNormKernel + LinearKernel + MlpKernel + AttentionKernel {
    /// [`LayerNormKernel::layer_norm_backward`]; the gradient of `x` with `past` added.
    fn norm_backward_past(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        stats: FloatTensor<Self>,
        past: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3];

    /// The perceptron of `[x, w1, b1, w2, b2]` with `past` added, and with `keep` what goes into the activation.
    fn mlp_past(
        inputs: [FloatTensor<Self>; 5],
        past: FloatTensor<Self>,
        keep: bool,
    ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>);
}

/// A linear map: weight, bias.
pub(super) type Weights<B> = (FloatTensor<B>, FloatTensor<B>);
/// γ, β, ε.
pub(super) type NormWeights<B> = (FloatTensor<B>, FloatTensor<B>, f32);

pub(super) fn mlp_forward<B: Parts>(
    x: FloatTensor<B>,
    norm: NormWeights<B>,
    fc1: Weights<B>,
    fc2: Weights<B>,
    keep: bool,
) -> (FloatTensor<B>, Option<FloatTensor<B>>) {
    let (normed, _) = B::layer_norm_forward(x.clone(), norm.0, norm.1, norm.2);
    B::mlp_past([normed, fc1.0, fc1.1, fc2.0, fc2.1], x, keep)
}

pub(super) fn mlp_backward<B: Parts>(
    dy: FloatTensor<B>,
    x: FloatTensor<B>,
    norm: NormWeights<B>,
    h: FloatTensor<B>,
    w1: FloatTensor<B>,
    w2: FloatTensor<B>,
) -> [FloatTensor<B>; 7] {
    let (gamma, beta, epsilon) = norm;
    let (normed, stats) = B::layer_norm_forward(x.clone(), gamma.clone(), beta, epsilon);
    let (d_normed, dw1, db1, dw2, db2) = B::mlp_backward(dy.clone(), normed, h, w1, w2);
    let [dx, dgamma, dbeta] = B::norm_backward_past(d_normed, x, gamma, stats, dy);
    [dx, dgamma, dbeta, dw1, db1, dw2, db2]
}

/// The result, and what the backward pass wants: queries, keys and values; what the heads give; statistics.
pub(super) fn attention_forward<B: Parts>(
    x: FloatTensor<B>,
    norm: NormWeights<B>,
    qkv: Weights<B>,
    proj: Weights<B>,
    heads: Heads,
) -> [FloatTensor<B>; 4] {
    let shape = x.shape();
    let (rows, dim) = (shape[0], shape[1]);
    let (normed, _) = B::layer_norm_forward(x.clone(), norm.0, norm.1, norm.2);
    let packed = B::linear_forward(normed, qkv.0, qkv.1);
    let packed = B::float_reshape(packed, Shape::from([heads.batch, rows / heads.batch, 3 * dim]));
    let (mixed, stats) = B::attention_forward(packed.clone(), heads.heads, heads.scale);
    let flat = B::float_reshape(mixed.clone(), Shape::from([rows, dim]));
    [B::linear_past(flat, proj.0, proj.1, x), packed, mixed, stats]
}

/// What [`attention_forward`] kept.
pub(super) struct Mixed<T> {
    pub qkv: T,
    pub mixed: T,
    pub stats: T,
}

pub(super) fn attention_backward<B: Parts>(
    dy: FloatTensor<B>,
    x: FloatTensor<B>,
    norm: NormWeights<B>,
    kept: Mixed<FloatTensor<B>>,
    w: FloatTensor<B>,
    w_out: FloatTensor<B>,
    heads: Heads,
) -> [FloatTensor<B>; 7] {
    let shape = x.shape();
    let (rows, dim) = (shape[0], shape[1]);
    let (gamma, beta, epsilon) = norm;
    let Mixed { qkv, mixed, stats } = kept;
    let flat = B::float_reshape(mixed.clone(), Shape::from([rows, dim]));
    let (dw_out, db_out) = B::linear_weight_grad(flat, dy.clone());
    let d_mixed = B::linear_input_grad(dy.clone(), w_out);
    let d_mixed = B::float_reshape(d_mixed, mixed.shape());
    let dqkv = B::attention_backward(d_mixed, qkv, mixed, stats, heads.heads, heads.scale);
    let dqkv = B::float_reshape(dqkv, Shape::from([rows, 3 * dim]));
    let (normed, stats) = B::layer_norm_forward(x.clone(), gamma.clone(), beta, epsilon);
    let (dw, db) = B::linear_weight_grad(normed, dqkv.clone());
    let d_normed = B::linear_input_grad(dqkv, w);
    let [dx, dgamma, dbeta] = B::norm_backward_past(d_normed, x, gamma, stats, dy);
    [dx, dgamma, dbeta, dw, db, dw_out, db_out]
}

/// A device's kernels are the same calls, whatever the device.
macro_rules! branch_kernels {
    ($backend:ty, $tensor:ty) => {
        impl BranchKernel for $backend {
            fn mlp_branch_forward(
                x: $tensor,
                gamma: $tensor,
                beta: $tensor,
                w1: $tensor,
                b1: $tensor,
                w2: $tensor,
                b2: $tensor,
                epsilon: f32,
            ) -> ($tensor, $tensor) {
                let (y, h) = mlp_forward::<$backend>(x, (gamma, beta, epsilon), (w1, b1), (w2, b2), true);
                let h = h.unwrap_or_else(|| y.clone());
                (y, h)
            }

            fn mlp_branch_backward(
                dy: $tensor,
                x: $tensor,
                gamma: $tensor,
                beta: $tensor,
                h: $tensor,
                w1: $tensor,
                w2: $tensor,
                epsilon: f32,
            ) -> ($tensor, $tensor, $tensor, $tensor, $tensor, $tensor, $tensor) {
                mlp_backward::<$backend>(dy, x, (gamma, beta, epsilon), h, w1, w2).into()
            }

            fn attention_branch_forward(
                x: $tensor,
                gamma: $tensor,
                beta: $tensor,
                w: $tensor,
                b: $tensor,
                w_out: $tensor,
                b_out: $tensor,
                epsilon: f32,
                heads: Heads,
            ) -> ($tensor, $tensor, $tensor, $tensor) {
                attention_forward::<$backend>(x, (gamma, beta, epsilon), (w, b), (w_out, b_out), heads).into()
            }

            fn attention_branch_backward(
                dy: $tensor,
                x: $tensor,
                gamma: $tensor,
                beta: $tensor,
                qkv: $tensor,
                mixed: $tensor,
                stats: $tensor,
                w: $tensor,
                w_out: $tensor,
                epsilon: f32,
                heads: Heads,
            ) -> ($tensor, $tensor, $tensor, $tensor, $tensor, $tensor, $tensor) {
                let kept = Mixed { qkv, mixed, stats };
                attention_backward::<$backend>(dy, x, (gamma, beta, epsilon), kept, w, w_out, heads).into()
            }
        }

        impl BranchOps for $backend {
            fn fused_mlp_branch(
                x: $tensor,
                gamma: $tensor,
                beta: $tensor,
                w1: $tensor,
                b1: $tensor,
                w2: $tensor,
                b2: $tensor,
                epsilon: f32,
            ) -> $tensor {
                mlp_forward::<$backend>(x, (gamma, beta, epsilon), (w1, b1), (w2, b2), false).0
            }

            fn fused_attention_branch(
                x: $tensor,
                gamma: $tensor,
                beta: $tensor,
                w: $tensor,
                b: $tensor,
                w_out: $tensor,
                b_out: $tensor,
                epsilon: f32,
                heads: Heads,
            ) -> $tensor {
                let [y, ..] =
                    attention_forward::<$backend>(x, (gamma, beta, epsilon), (w, b), (w_out, b_out), heads);
                y
            }
        }
    };
}

branch_kernels!(burn::backend::Flex, burn::backend::flex::FlexTensor);
#[cfg(feature = "wgsl")]
branch_kernels!(burn::backend::wgpu::CubeBackend, burn::backend::wgpu::CubeTensor);
