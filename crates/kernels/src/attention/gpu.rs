//! Attention in WGSL.

use burn::backend::wgpu::{CubeBackend, CubeTensor};

use super::{AttentionKernel, AttentionOps};
use crate::gpu::{Launch, contiguous, empty, size, software};

/// How the rows of a head are divided: rows of an invocation, invocations of a workgroup, and whether a workgroup shares
/// what it walks over.
struct Plan {
    own: usize,
    group: usize,
    shared: bool,
}

impl Plan {
    fn of(software_rows: usize) -> Self {
        match software() {
            true => Self { own: software_rows, group: 8, shared: false },
            false => Self { own: 1, group: 64, shared: true },
        }
    }

    /// Workgroups for so many heads of so many tokens.
    fn groups(&self, heads: usize, tokens: usize) -> usize {
        match self.shared {
            true => heads * tokens.div_ceil(self.own * self.group),
            false => (heads * tokens.div_ceil(self.own)).div_ceil(self.group),
        }
    }
}

/// Batch, tokens, heads, numbers of a head.
fn dims(qkv: &CubeTensor, heads: usize) -> [usize; 4] {
    [size(qkv, 0), size(qkv, 1), heads, size(qkv, 2) / (3 * heads)]
}

impl AttentionOps for CubeBackend {
    fn fused_attention(qkv: CubeTensor, heads: usize, scale: f32) -> CubeTensor {
        Self::attention_forward(qkv, heads, scale).0
    }
}

impl AttentionKernel for CubeBackend {
    fn attention_forward(qkv: CubeTensor, heads: usize, scale: f32) -> (CubeTensor, CubeTensor) {
        let qkv = contiguous(qkv);
        let [batch, tokens, heads, head] = dims(&qkv, heads);
        let y = empty(&qkv, [batch, tokens, heads * head]);
        let lse = empty(&qkv, [batch, heads, tokens]);
        let plan = Plan::of(4);
        Launch {
            shader: "attention",
            settings: &[
                ("head", head.into()),
                ("queries", plan.own.into()),
                ("shared", plan.shared.into()),
                ("group", plan.group.into()),
            ],
            group: plan.group,
            groups: (plan.groups(batch * heads, tokens), 1),
            buffers: &[&qkv, &y, &lse],
            sizes: &[tokens as u32, heads as u32, (batch * heads) as u32, scale.to_bits()],
        }
        .run();
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
        let [batch, tokens, heads, head] = dims(&qkv, heads);
        let delta = empty(&qkv, [batch, heads, tokens]);
        let dqkv = empty(&qkv, [batch, tokens, 3 * heads * head]);
        let group = if software() { 8 } else { 64 };
        let rows = batch * heads * tokens;
        Launch {
            shader: "attention_delta",
            settings: &[("head", head.into()), ("group", group.into())],
            group,
            groups: (rows.div_ceil(group), 1),
            buffers: &[&y, &dy, &delta],
            sizes: &[tokens as u32, heads as u32, rows as u32, 0],
        }
        .run();
        // Keys keep twice as many numbers as queries do.
        for (of, plan) in [("queries", Plan::of(4)), ("keys", Plan::of(2))] {
            Launch {
                shader: "attention_backward",
                settings: &[
                    ("head", head.into()),
                    ("of", of.into()),
                    ("own", plan.own.into()),
                    ("shared", plan.shared.into()),
                    ("group", plan.group.into()),
                ],
                group: plan.group,
                groups: (plan.groups(batch * heads, tokens), 1),
                buffers: &[&qkv, &dy, &lse, &delta, &dqkv],
                sizes: &[tokens as u32, heads as u32, (batch * heads) as u32, scale.to_bits()],
            }
            .run();
        }
        dqkv
    }
}
