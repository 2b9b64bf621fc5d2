//! Multi-head self-attention straight from the packed output of the query-key-value map.

mod backward;
mod cpu;
mod head;
mod reference;

use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

use crate::mode::fused;

pub use reference::attention as attention_reference;

/// What a device implements.
pub trait AttentionKernel: Backend {
    /// From `qkv [batch, tokens, 3·dim]`: the result `[batch, tokens, dim]` and `[batch, heads, 2, tokens]`, for every
    /// row of scores its maximum (unscaled) and the reciprocal of its sum of exponentials.
    fn attention_forward(
        qkv: FloatTensor<Self>,
        heads: usize,
        scale: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// From the gradient of the result, the input, the result and the statistics: the gradient of `qkv`.
    fn attention_backward(
        dy: FloatTensor<Self>,
        qkv: FloatTensor<Self>,
        y: FloatTensor<Self>,
        stats: FloatTensor<Self>,
        heads: usize,
        scale: f32,
    ) -> FloatTensor<Self>;
}

/// The differentiable operation.
#[backend_extension(Autodiff, Flex)]
pub trait AttentionOps: Backend {
    /// See [`attention`](super::attention()).
    fn fused_attention(qkv: FloatTensor<Self>, heads: usize, scale: f32) -> FloatTensor<Self>;
}

/// `softmax(Q·Kᵀ·scale)·V` for every head.
///
/// `qkv` is `[batch, tokens, 3·dim]`: the columns hold the queries of all heads, then the keys, then the values, head
/// `h` at `h·dim/heads..(h+1)·dim/heads` of each third. The result is `[batch, tokens, dim]`, the heads side by side.
/// `scale` is positive.
pub fn attention(qkv: Tensor<3>, heads: usize, scale: f32) -> Tensor<3> {
    let [batch, tokens, width] = qkv.dims();
    assert!(heads > 0 && width % (3 * heads) == 0, "attention: {width} columns are not three times {heads} heads");
    if !fused(&qkv) || batch * tokens * width == 0 || scale <= 0.0 {
        return reference::attention(qkv, heads, scale);
    }
    Tensor::from_dispatch(<Dispatch as AttentionOps>::fused_attention(qkv.into_dispatch(), heads, scale))
}
