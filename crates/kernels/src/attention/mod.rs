//! Multi-head self-attention straight from the packed output of the query-key-value map.

#[cfg(feature = "autodiff")]
mod backward;
mod cpu;
#[cfg(feature = "wgsl")]
mod gpu;
mod reference;

use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
#[cfg(feature = "fusion")]
use burn::tensor::Shape;
use burn::tensor::Tensor;

#[cfg(feature = "fusion")]
use crate::mode::spec;
use crate::mode::{fused, on_gpu};

pub use reference::attention as attention_reference;

/// What a device implements.
#[backend_extension(Flex, Cube: cfg(feature = "wgsl"), Fusion: cfg(feature = "fusion"))]
pub trait AttentionKernel: Backend {
    /// From `qkv [batch, tokens, 3·dim]`: the result `[batch, tokens, dim]` and what the backward
    /// pass wants to know of every row of scores: on the CPU `[batch, heads, 2, tokens]`, its maximum (unscaled) and the
    /// reciprocal of its sum of exponentials; on a GPU `[batch, heads, tokens]`, its log-sum-exp.
    #[fusion(meta = |qkv, heads, _scale| (
        spec(qkv, [qkv.shape[0], qkv.shape[1], qkv.shape[2] / 3]),
        spec(qkv, [qkv.shape[0], *heads, qkv.shape[1]]),
    ))]
    fn attention_forward(
        qkv: FloatTensor<Self>,
        heads: usize,
        scale: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// From the gradient of the result, the input, the result and the statistics: the gradient of `qkv`.
    #[fusion(dtype = qkv, shape = qkv)]
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
#[backend_extension(Autodiff: cfg(feature = "autodiff"), Flex, Cube: cfg(feature = "wgsl"), Fusion: cfg(feature = "fusion"))]
pub trait AttentionOps: Backend {
    /// See [`attention`](super::attention()).
    #[fusion(dtype = qkv, shape = Shape::from([qkv[0], qkv[1], qkv[2] / 3]))]
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
    // In WGSL a head is a few whole vec4. Software adapters keep it in registers; blocks for hardware have workgroup memory for it.
    let head = width / (3 * heads);
    let fits = head <= 128 && head.is_multiple_of(4) || !on_gpu(&qkv);
    if !fused(&qkv) || batch * tokens * width == 0 || scale <= 0.0 || !fits {
        return reference::attention(qkv, heads, scale);
    }
    Tensor::from_dispatch(<Dispatch as AttentionOps>::fused_attention(qkv.into_dispatch(), heads, scale))
}
