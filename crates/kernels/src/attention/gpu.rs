//! Attention in WGSL.

use burn::backend::wgpu::{CubeBackend, CubeTensor};

use super::{AttentionKernel, AttentionOps};
use crate::gpu::{Family, Launch, Setting, caps, contiguous, empty, size, software, wide};

/// How the rows of a head are divided.
struct Plan {
    /// Rows of an invocation.
    own: usize,
    /// Invocations of a workgroup.
    group: usize,
    /// Whether a workgroup shares what it walks over through its memory.
    shared: bool,
    /// Or else its one subgroup through registers: of so many invocations, or 0.
    lanes: usize,
}

impl Plan {
    /// `plain_rows` are those of an invocation on software adapters without subgroups. With them further rows save few loads,
    /// and each takes as long to compile as the first.
    fn of(plain_rows: usize) -> Self {
        let caps = caps();
        match (caps.family, caps.lanes) {
            (Family::Hardware, _) => Self { own: 1, group: 64, shared: true, lanes: 0 },
            (Family::Software, lanes @ (4 | 8)) => Self { own: 1, group: lanes, shared: false, lanes },
            (Family::Software, _) => Self { own: plain_rows, group: 8, shared: false, lanes: 0 },
        }
    }

    /// Workgroups for so many heads of so many tokens.
    fn groups(&self, heads: usize, tokens: usize) -> usize {
        match self.shared || self.lanes > 0 {
            true => heads * tokens.div_ceil(self.own * self.group),
            false => (heads * tokens.div_ceil(self.own)).div_ceil(self.group),
        }
    }

    fn settings(&self) -> [(&'static str, Setting); 4] {
        [
            ("shared", self.shared.into()),
            ("group", self.group.into()),
            ("lanes", self.lanes.into()),
            ("wide", wide().into()),
        ]
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
            settings: &[&[("head", head.into()), ("queries", plan.own.into())], &plan.settings()[..]].concat(),
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
                    &[("head", head.into()), ("of", of.into()), ("own", plan.own.into())],
                    &plan.settings()[..],
                ]
                .concat(),
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
