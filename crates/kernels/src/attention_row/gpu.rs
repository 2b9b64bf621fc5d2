//! One row of attention in WGSL.

use burn::backend::wgpu::{CubeBackend, CubeTensor};

use super::AttentionRowKernel;
use crate::gpu::{Launch, contiguous, empty, size, software};

impl AttentionRowKernel for CubeBackend {
    fn attention_row_forward(qkv: CubeTensor, heads: usize, scale: f32, query: usize) -> CubeTensor {
        let qkv = contiguous(qkv);
        let [batch, tokens, head] = [size(&qkv, 0), size(&qkv, 1), size(&qkv, 2) / (3 * heads)];
        let p = empty(&qkv, [batch, heads, tokens]);
        let shared = !software();
        let group = if shared { 64 } else { 4 };
        let rows = batch * heads;
        Launch {
            shader: "attention_row",
            settings: &[("head", head.into()), ("shared", shared.into()), ("group", group.into())],
            group,
            groups: (if shared { rows } else { rows.div_ceil(group) }, 1),
            buffers: &[&qkv, &p],
            sizes: &[tokens as u32, heads as u32, rows as u32, scale.to_bits(), query as u32, 0, 0, 0],
        }
        .run();
        p
    }
}
