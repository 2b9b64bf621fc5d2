//! AdamW in WGSL: sums of squares, then everything else in one pass, in place.

use burn::backend::wgpu::{CubeBackend, CubeTensor};

use super::{AdamWKernel, AdamWStep};
use crate::gpu::{Launch, contiguous, empty, owned, size, software};

/// Spans whose squares are summed apart; every invocation of the step adds them up again.
const SPANS: usize = 64;

/// The parameter, its moments and what follows it (with the momentum) after a step.
fn step_in_place(
    p: CubeTensor,
    g: CubeTensor,
    moments: CubeTensor,
    follower: Option<(CubeTensor, f64)>,
    step: AdamWStep,
) -> (CubeTensor, CubeTensor, Option<CubeTensor>) {
    let (p, g, moments) = (owned(p), contiguous(g), owned(moments));
    let momentum = follower.as_ref().map_or(0.0, |(_, momentum)| *momentum);
    let follower = follower.map(|(tensor, _)| owned(tensor));
    let n = size(&p, 0);
    let vec = n.is_multiple_of(4);
    let elements = if vec { n / 4 } else { n };
    let group = if software() { 8 } else { 64 };
    let span = elements.div_ceil(SPANS);
    let spans = elements.div_ceil(span);
    let squares = empty(&g, [spans]);
    Launch {
        shader: "square_sums",
        settings: &[("vec", vec.into()), ("group", group.into())],
        group,
        groups: (spans.div_ceil(group), 1),
        buffers: &[&g, &squares],
        sizes: &[elements as u32, span as u32, 0, 0],
    }
    .run();
    // An invocation of a software adapter does enough to be worth adding up the spans for.
    let each = if software() { 64 } else { 4 };
    let bits = |x: f64| (x as f32).to_bits();
    let mut buffers = vec![&p, &g, &moments, &squares];
    buffers.extend(&follower);
    Launch {
        shader: "adamw",
        settings: &[
            ("vec", vec.into()),
            ("each", each.into()),
            ("ema", follower.is_some().into()),
            ("group", group.into()),
        ],
        group,
        groups: (elements.div_ceil(each * group), 1),
        buffers: &buffers,
        sizes: &[
            elements as u32,
            spans as u32,
            bits(step.clip),
            bits(step.beta1),
            bits(step.beta2),
            bits(step.epsilon),
            bits(step.keep),
            bits(step.rate()),
            bits(step.unbias()),
            bits(1.0 - step.beta2),
            bits(momentum),
            bits(1.0 - momentum),
            // The difference in f32 would be 2e-7 off.
            bits(1.0 - step.beta1),
        ],
    }
    .run();
    (p, moments, follower)
}

impl AdamWKernel for CubeBackend {
    fn adamw_step(p: CubeTensor, g: CubeTensor, moments: CubeTensor, step: AdamWStep) -> (CubeTensor, CubeTensor) {
        let (p, moments, _) = step_in_place(p, g, moments, None, step);
        (p, moments)
    }

    fn adamw_ema_step(
        p: CubeTensor,
        g: CubeTensor,
        moments: CubeTensor,
        follower: CubeTensor,
        momentum: f64,
        step: AdamWStep,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let (p, moments, follower) = step_in_place(p, g, moments, Some((follower, momentum)), step);
        let follower = follower.unwrap_or_else(|| p.clone());
        (p, moments, follower)
    }
}
