//! The two residual branches of a pre-norm transformer block, each with its layer norm as one operation.
//!
//! As one operation a branch keeps less for its backward pass (the output of the norm is computed again, it is cheap), and
//! its sum with what goes past it is the ending of a matrix product, its gradient part of the norm's.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use ocelli_kernels::residual_branch::{Map, Norm, mlp_branch};
//!
//! let device = Device::flex();
//! let map = |from: usize, to: usize| {
//!     let (weight, bias) = (Tensor::zeros([from, to], &device), Tensor::ones([to], &device));
//!     Map { weight, bias }
//! };
//! let norm = Norm { gamma: Tensor::ones([4], &device), beta: Tensor::zeros([4], &device), epsilon: 1e-6 };
//! // The branch gives its last bias, 1, which is added to what goes past it.
//! let y = mlp_branch(Tensor::ones([1, 4], &device), norm, map(4, 8), map(8, 4)).into_data().try_to_vec::<f32>()?;
//! assert_eq!(y, [2.0; 4]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "autodiff")]
mod backward;
mod compute;
mod cpu;
#[cfg(feature = "wgsl")]
mod gpu;
mod reference;

use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::{Device, Tensor};

#[cfg(feature = "fusion")]
use crate::mode::spec;
use crate::mode::{fused, leaf, on_gpu, preferred};

pub use reference::{attention_branch as attention_branch_reference, mlp_branch as mlp_branch_reference};

/// The layer norm a branch begins with: γ and β `[dim]`, ε.
#[derive(Debug, Clone)]
pub struct Norm {
    /// γ.
    pub gamma: Tensor<1>,
    /// β.
    pub beta: Tensor<1>,
    /// ε.
    pub epsilon: f32,
}

/// A linear map: `weight [inputs, outputs]`, `bias [outputs]`.
#[derive(Debug, Clone)]
pub struct Map {
    /// `[inputs, outputs]`.
    pub weight: Tensor<2>,
    /// `[outputs]`.
    pub bias: Tensor<1>,
}

impl Norm {
    /// To measure with.
    fn ones(dim: usize, device: &Device) -> Self {
        Self { gamma: leaf([dim], device), beta: leaf([dim], device), epsilon: 1e-6 }
    }
}

impl Map {
    /// To measure with.
    fn ones(inputs: usize, outputs: usize, device: &Device) -> Self {
        Self { weight: leaf([inputs, outputs], device), bias: leaf([outputs], device) }
    }
}

/// How rows and columns divide in an attention branch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heads {
    /// Images; `rows / batch` tokens each.
    pub batch: usize,
    /// Attention heads; divide the width.
    pub heads: usize,
    /// What scores are multiplied by.
    pub scale: f32,
}

/// What a device implements; shapes as in [`mlp_branch`] and [`attention_branch`].
#[backend_extension(Flex, Cube: cfg(feature = "wgsl"), Fusion: cfg(feature = "fusion"))]
pub trait BranchKernel: Backend {
    /// The perceptron's branch, and `[rows, hidden]`, what goes into the activation.
    #[allow(clippy::too_many_arguments)] // Dispatch over devices takes tensors one by one.
    #[fusion(meta = |x, _g, _b, w1, _b1, _w2, _b2, _e| (x.clone(), spec(x, [x.shape[0], w1.shape[1]])))]
    fn mlp_branch_forward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        w1: FloatTensor<Self>,
        b1: FloatTensor<Self>,
        w2: FloatTensor<Self>,
        b2: FloatTensor<Self>,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradients of `x`, γ, β, `w1`, `b1`, `w2` and `b2`.
    #[allow(clippy::too_many_arguments, clippy::type_complexity)]
    #[fusion(meta = |_dy, x, gamma, _b, _h, w1, w2, _e| (
        x.clone(), gamma.clone(), gamma.clone(), w1.clone(), spec(x, [w1.shape[1]]), w2.clone(), gamma.clone(),
    ))]
    fn mlp_branch_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        h: FloatTensor<Self>,
        w1: FloatTensor<Self>,
        w2: FloatTensor<Self>,
        epsilon: f32,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    );

    /// The attention's branch; queries, keys and values `[batch, tokens, 3·dim]`; what the heads give
    /// `[batch, tokens, dim]`; the statistics of [`attention`](crate::attention()).
    #[allow(clippy::too_many_arguments, clippy::type_complexity)]
    #[fusion(meta = |x, _g, _b, w, _bq, _wp, _bp, _e, heads| {
        let tokens = x.shape[0] / heads.batch;
        (
            x.clone(),
            spec(x, [heads.batch, tokens, w.shape[1]]),
            spec(x, [heads.batch, tokens, w.shape[1] / 3]),
            spec(x, [heads.batch, heads.heads, tokens]),
        )
    })]
    fn attention_branch_forward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        w_out: FloatTensor<Self>,
        b_out: FloatTensor<Self>,
        epsilon: f32,
        heads: Heads,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The gradients of `x`, γ, β, and of both maps, weight and bias.
    #[allow(clippy::too_many_arguments, clippy::type_complexity)]
    #[fusion(meta = |_dy, x, gamma, _b, _qkv, _y, _s, w, w_out, _e, _heads| (
        x.clone(), gamma.clone(), gamma.clone(), w.clone(), spec(x, [w.shape[1]]), w_out.clone(), gamma.clone(),
    ))]
    fn attention_branch_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        qkv: FloatTensor<Self>,
        mixed: FloatTensor<Self>,
        stats: FloatTensor<Self>,
        w: FloatTensor<Self>,
        w_out: FloatTensor<Self>,
        epsilon: f32,
        heads: Heads,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    );
}

/// The differentiable operations.
#[backend_extension(Autodiff: cfg(feature = "autodiff"), Flex, Cube: cfg(feature = "wgsl"), Fusion: cfg(feature = "fusion"))]
pub trait BranchOps: Backend {
    /// See [`mlp_branch`].
    #[allow(clippy::too_many_arguments)]
    #[fusion(dtype = x, shape = x)]
    fn fused_mlp_branch(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        w1: FloatTensor<Self>,
        b1: FloatTensor<Self>,
        w2: FloatTensor<Self>,
        b2: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;

    /// See [`attention_branch`].
    #[allow(clippy::too_many_arguments)]
    #[fusion(dtype = x, shape = x)]
    fn fused_attention_branch(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        w_out: FloatTensor<Self>,
        b_out: FloatTensor<Self>,
        epsilon: f32,
        heads: Heads,
    ) -> FloatTensor<Self>;
}

fn check(x: &Tensor<2>, norm: &Norm, maps: [&Map; 2], widths: [usize; 3]) {
    let [_, dim] = x.dims();
    let fits = norm.gamma.dims() == [dim] && norm.beta.dims() == [dim];
    let map = |map: &Map, from, to| map.weight.dims() == [from, to] && map.bias.dims() == [to];
    assert!(
        fits && map(maps[0], dim, widths[0]) && map(maps[1], widths[1], widths[2]),
        "branch: rows of {dim}, γ {:?}, weights {:?} and {:?}, biases {:?} and {:?}",
        norm.gamma.dims(),
        maps[0].weight.dims(),
        maps[1].weight.dims(),
        maps[0].bias.dims(),
        maps[1].bias.dims()
    );
}

/// `x + fc2(gelu(fc1(layer_norm(x))))` for `x [rows, dim]`.
pub fn mlp_branch(x: Tensor<2>, norm: Norm, fc1: Map, fc2: Map) -> Tensor<2> {
    let (dim, hidden) = (x.dims()[1], fc1.weight.dims()[1]);
    check(&x, &norm, [&fc1, &fc2], [hidden, hidden, dim]);
    if !fused(&x) || x.dims().contains(&0) || hidden == 0 {
        return reference::mlp_branch(x, norm, fc1, fc2);
    }
    let [rows, _] = x.dims();
    let ours = preferred("mlp branch", &x, rows, [dim, hidden], |device, ours| {
        let x = leaf([rows, dim], device);
        let (norm, fc1, fc2) =
            (Norm::ones(dim, device), Map::ones(dim, hidden, device), Map::ones(hidden, dim, device));
        if ours { mlp_kernel(x, norm, fc1, fc2) } else { reference::mlp_branch(x, norm, fc1, fc2) }
    });
    if ours { mlp_kernel(x, norm, fc1, fc2) } else { reference::mlp_branch(x, norm, fc1, fc2) }
}

fn mlp_kernel(x: Tensor<2>, norm: Norm, fc1: Map, fc2: Map) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as BranchOps>::fused_mlp_branch(
        x.into_dispatch(),
        norm.gamma.into_dispatch(),
        norm.beta.into_dispatch(),
        fc1.weight.into_dispatch(),
        fc1.bias.into_dispatch(),
        fc2.weight.into_dispatch(),
        fc2.bias.into_dispatch(),
        norm.epsilon,
    ))
}

/// `x + proj(attention(qkv(layer_norm(x))))` for `x [batch·tokens, dim]`, `qkv` a map to `3·dim`, `proj` one from `dim`; see
/// [`crate::attention()`].
pub fn attention_branch(x: Tensor<2>, norm: Norm, qkv: Map, proj: Map, heads: Heads) -> Tensor<2> {
    let [rows, dim] = x.dims();
    check(&x, &norm, [&qkv, &proj], [3 * dim, dim, dim]);
    assert!(
        heads.heads > 0 && dim.is_multiple_of(heads.heads) && heads.batch > 0 && rows.is_multiple_of(heads.batch),
        "attention branch: {rows} rows of {dim} in {} images and {} heads",
        heads.batch,
        heads.heads
    );
    let head = dim / heads.heads;
    let fits = head <= 128 && head.is_multiple_of(4) || !on_gpu(&x);
    if !fused(&x) || x.dims().contains(&0) || heads.scale <= 0.0 || !fits {
        return reference::attention_branch(x, norm, qkv, proj, heads);
    }
    let ours = preferred("attention branch", &x, rows, [dim, rows / heads.batch], |device, ours| {
        let x = leaf([rows, dim], device);
        let (norm, qkv, proj) =
            (Norm::ones(dim, device), Map::ones(dim, 3 * dim, device), Map::ones(dim, dim, device));
        if ours {
            attention_kernel(x, norm, qkv, proj, heads)
        } else {
            reference::attention_branch(x, norm, qkv, proj, heads)
        }
    });
    if ours {
        attention_kernel(x, norm, qkv, proj, heads)
    } else {
        reference::attention_branch(x, norm, qkv, proj, heads)
    }
}

fn attention_kernel(x: Tensor<2>, norm: Norm, qkv: Map, proj: Map, heads: Heads) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as BranchOps>::fused_attention_branch(
        x.into_dispatch(),
        norm.gamma.into_dispatch(),
        norm.beta.into_dispatch(),
        qkv.weight.into_dispatch(),
        qkv.bias.into_dispatch(),
        proj.weight.into_dispatch(),
        proj.bias.into_dispatch(),
        norm.epsilon,
        heads,
    ))
}
