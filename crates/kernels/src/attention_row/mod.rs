//! The attention probabilities of one query, for maps.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use ocelli_kernels::attention_row;
//!
//! // Where all keys are alike, every token gets the same attention.
//! let row = attention_row(Tensor::<3>::zeros([1, 4, 6], &Device::flex()), 1, 1.0, 0);
//! assert_eq!(row.into_data().try_to_vec::<f32>()?, [0.25; 4]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "wgsl")]
mod gpu;
mod reference;

#[cfg(feature = "wgsl")]
use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
#[cfg(feature = "fusion")]
use burn::tensor::Shape;
use burn::tensor::Tensor;

#[cfg(feature = "wgsl")]
use crate::mode::{fused, on_gpu};

pub use reference::attention_row as attention_row_reference;

/// What a GPU implements; elsewhere the reference is as good.
#[cfg(feature = "wgsl")]
#[backend_extension(Cube, Fusion: cfg(feature = "fusion"))]
pub trait AttentionRowKernel: Backend {
    /// From `qkv [batch, tokens, 3·dim]`: `[batch, heads, tokens]`.
    #[fusion(dtype = qkv, shape = Shape::from([qkv[0], *heads, qkv[1]]))]
    fn attention_row_forward(qkv: FloatTensor<Self>, heads: usize, scale: f32, query: usize) -> FloatTensor<Self>;
}

/// `softmax(q·Kᵀ·scale)` of one query in every head: `[batch, heads, tokens]`, outside autodiff.
///
/// `qkv` is `[batch, tokens, 3·dim]` as [`attention`](crate::attention()) takes it; `query` is the token, 0 for the class
/// token.
pub fn attention_row(qkv: Tensor<3>, heads: usize, scale: f32, query: usize) -> Tensor<3> {
    let [_, tokens, width] = qkv.dims();
    assert!(heads > 0 && width % (3 * heads) == 0, "attention: {width} columns are not three times {heads} heads");
    assert!(query < tokens, "attention: query {query} of {tokens} tokens");
    let qkv = qkv.inner();
    #[cfg(feature = "wgsl")]
    {
        let head = width / (3 * heads);
        if fused(&qkv) && on_gpu(&qkv) && !qkv.dims().contains(&0) && head <= 128 && head.is_multiple_of(4) {
            let p =
                <Dispatch as AttentionRowKernel>::attention_row_forward(qkv.into_dispatch(), heads, scale, query);
            return Tensor::from_dispatch(p);
        }
    }
    reference::attention_row(qkv, heads, scale, query)
}
