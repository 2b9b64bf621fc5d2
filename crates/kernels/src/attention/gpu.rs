//! Attention in WGSL.

mod blocks;
mod rows;

use burn::backend::wgpu::{CubeBackend, CubeTensor};

use super::{AttentionKernel, AttentionOps};
use crate::gpu::{contiguous, empty, size, software};

/// What the kernels are told of the heads.
struct Heads {
    batch: usize,
    tokens: usize,
    heads: usize,
    /// Numbers of a head.
    head: usize,
    scale: f32,
}

impl Heads {
    fn of(qkv: &CubeTensor, heads: usize, scale: f32) -> Self {
        Self { batch: size(qkv, 0), tokens: size(qkv, 1), heads, head: size(qkv, 2) / (3 * heads), scale }
    }

    /// Heads of all images.
    fn all(&self) -> usize {
        self.batch * self.heads
    }

    fn sizes(&self) -> [u32; 4] {
        [self.tokens as u32, self.heads as u32, self.all() as u32, self.scale.to_bits()]
    }
}

impl AttentionOps for CubeBackend {
    fn fused_attention(qkv: CubeTensor, heads: usize, scale: f32) -> CubeTensor {
        Self::attention_forward(qkv, heads, scale).0
    }
}

impl AttentionKernel for CubeBackend {
    fn attention_forward(qkv: CubeTensor, heads: usize, scale: f32) -> (CubeTensor, CubeTensor) {
        let qkv = contiguous(qkv);
        let of = Heads::of(&qkv, heads, scale);
        let y = empty(&qkv, [of.batch, of.tokens, heads * of.head]);
        let lse = empty(&qkv, [of.batch, heads, of.tokens]);
        if software() {
            rows::forward(&of, &qkv, &y, &lse);
        } else {
            blocks::forward(&of, &qkv, &y, &lse);
        }
        (y, lse)
    }

    fn attention_backward(
        dy: CubeTensor,
        qkv: CubeTensor,
        y: CubeTensor,
        lse: CubeTensor,
        heads: usize,
        scale: f32,
    ) -> CubeTensor {
        let [dy, qkv, y] = [dy, qkv, y].map(contiguous);
        let of = Heads::of(&qkv, heads, scale);
        // Of every row the sum of its result times the result's gradient.
        let delta = empty(&qkv, [of.batch, heads, of.tokens]);
        let dqkv = empty(&qkv, [of.batch, of.tokens, 3 * heads * of.head]);
        let buffers = [&qkv, &dy, &lse, &delta, &dqkv];
        if software() {
            rows::backward(&of, buffers, &y);
        } else {
            blocks::backward(&of, buffers, &y);
        }
        dqkv
    }
}
