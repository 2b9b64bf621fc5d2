//! Attention for software adapters: invocations own rows of a head, and keep everything in registers.

use burn::backend::wgpu::CubeTensor;

use super::Heads;
use crate::gpu::{Launch, Setting, caps, wide};

/// How the rows of a head are divided.
struct Plan {
    /// Rows of an invocation.
    own: usize,
    /// Invocations of a workgroup.
    group: usize,
    /// Of the subgroup that a workgroup is, which hands round what it walks over: so many invocations, or 0.
    lanes: usize,
}

impl Plan {
    /// `plain_rows` are those of an invocation without subgroups. With them further rows save few loads, and each takes as long
    /// to compile as the first.
    fn of(plain_rows: usize) -> Self {
        match caps().lanes {
            lanes @ (4 | 8) => Self { own: 1, group: lanes, lanes },
            _ => Self { own: plain_rows, group: 8, lanes: 0 },
        }
    }

    /// Workgroups for so many heads of so many tokens.
    fn groups(&self, of: &Heads) -> usize {
        match self.lanes > 0 {
            true => of.all() * of.tokens.div_ceil(self.own * self.group),
            false => (of.all() * of.tokens.div_ceil(self.own)).div_ceil(self.group),
        }
    }

    fn settings(&self) -> [(&'static str, Setting); 3] {
        [("group", self.group.into()), ("lanes", self.lanes.into()), ("wide", wide().into())]
    }
}

/// The result and the log-sum-exp of every row.
pub(super) fn forward(of: &Heads, qkv: &CubeTensor, y: &CubeTensor, lse: &CubeTensor) {
    let plan = Plan::of(4);
    Launch {
        shader: "attention",
        settings: &[&[("head", of.head.into()), ("queries", plan.own.into())], &plan.settings()[..]].concat(),
        group: plan.group,
        groups: (plan.groups(of), 1),
        buffers: &[qkv, y, lse],
        sizes: &of.sizes(),
    }
    .run();
}

/// The gradient of `qkv`, from `[qkv, dy, lse, delta, dqkv]`, of which it writes the last two, and the result.
pub(super) fn backward(of: &Heads, buffers: [&CubeTensor; 5], y: &CubeTensor) {
    let [_, dy, _, delta, _] = buffers;
    let group: usize = 8;
    let rows = of.all() * of.tokens;
    Launch {
        shader: "attention_delta",
        settings: &[("head", of.head.into()), ("group", group.into())],
        group,
        groups: (rows.div_ceil(group), 1),
        buffers: &[y, dy, delta],
        sizes: &[of.tokens as u32, of.heads as u32, rows as u32, 0],
    }
    .run();
    // Keys keep twice as many numbers as queries do.
    for (side, plan) in [("queries", Plan::of(4)), ("keys", Plan::of(2))] {
        Launch {
            shader: "attention_backward",
            settings: &[
                &[("head", of.head.into()), ("of", side.into()), ("own", plan.own.into())],
                &plan.settings()[..],
            ]
            .concat(),
            group: plan.group,
            groups: (plan.groups(of), 1),
            buffers: &buffers,
            sizes: &of.sizes(),
        }
        .run();
    }
}
