//! AdamW in WGSL: sums of squares, then everything else in one pass.

use burn::backend::wgpu::{CubeBackend, CubeTensor};

use super::{AdamWKernel, AdamWStep};
use crate::gpu::{Launch, contiguous, empty, size, software};

/// Spans whose squares are summed apart; every invocation of the step adds them up again.
const SPANS: usize = 64;

impl AdamWKernel for CubeBackend {
    fn adamw_step(p: CubeTensor, g: CubeTensor, moments: CubeTensor, step: AdamWStep) -> (CubeTensor, CubeTensor) {
        let [p, g, moments] = [p, g, moments].map(contiguous);
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
        let (next, next_moments) = (empty(&p, [n]), empty(&p, [2, n]));
        // An invocation of a software adapter does enough to be worth adding up the spans for.
        let each = if software() { 64 } else { 4 };
        let bits = |x: f64| (x as f32).to_bits();
        Launch {
            shader: "adamw",
            settings: &[("vec", vec.into()), ("each", each.into()), ("group", group.into())],
            group,
            groups: (elements.div_ceil(each * group), 1),
            buffers: &[&p, &g, &moments, &squares, &next, &next_moments],
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
                0,
                0,
                0,
            ],
        }
        .run();
        (next, next_moments)
    }
}
