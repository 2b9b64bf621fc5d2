//! Attention for graphics hardware: workgroups own blocks of rows of a head, as products tiled in registers (FlashAttention-2,
//! arXiv 2307.08691).

use burn::backend::wgpu::CubeTensor;

use super::Heads;
use crate::gpu::Launch;

/// Rows of each of the 8 × 8 invocations that a block has: as many as leave its sums room in registers.
fn rows(head: usize) -> usize {
    if head <= 64 { 8 } else { 4 }
}

/// Workgroups of a launch.
fn groups(of: &Heads) -> (usize, usize) {
    (of.all() * of.tokens.div_ceil(8 * rows(of.head)), 1)
}

/// The result and the log-sum-exp of every row.
pub(super) fn forward(of: &Heads, qkv: &CubeTensor, y: &CubeTensor, lse: &CubeTensor) {
    Launch {
        shader: "attention_blocks",
        settings: &[("head", of.head.into()), ("rows", rows(of.head).into())],
        group: 64,
        groups: groups(of),
        buffers: &[qkv, y, lse],
        sizes: &of.sizes(),
    }
    .run();
}

/// The gradient of `qkv`, from `[qkv, dy, lse, delta, dqkv]`, of which it writes the last two, and the result.
pub(super) fn backward(of: &Heads, buffers: [&CubeTensor; 5], y: &CubeTensor) {
    let [qkv, dy, lse, delta, dqkv] = buffers;
    let launch = |side: &'static str, buffers: &[&CubeTensor]| {
        Launch {
            shader: "attention_backward_blocks",
            settings: &[("head", of.head.into()), ("rows", rows(of.head).into()), ("of", side.into())],
            group: 128,
            groups: groups(of),
            buffers,
            sizes: &of.sizes(),
        }
        .run();
    };
    // Queries first: they know the result, and find out the delta of every row, which keys read.
    launch("queries", &[qkv, dy, lse, delta, dqkv, y]);
    launch("keys", &[qkv, dy, lse, delta, dqkv]);
}
