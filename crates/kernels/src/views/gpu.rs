//! Rendering views in WGSL.

use std::sync::Arc;

use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::DType;

use super::{ViewJob, ViewsKernel};
use crate::gpu::{Launch, contiguous, count, empty, software, uploaded};

/// Parts whose grey levels are summed apart.
const SPANS: usize = 64;

impl ViewsKernel for CubeBackend {
    fn render_views(pixels: CubeTensor, job: Arc<ViewJob>) -> CubeTensor {
        let pixels = contiguous(pixels);
        assert!(count(&pixels) >= job.pixels, "views: expected {} pixels, found {}", job.pixels, count(&pixels));
        let mut batch = empty(&pixels, [job.views, 3, job.side, job.side]);
        batch.dtype = DType::F32;
        let group = if software() { 16 } else { 64 };
        let area = job.side * job.side;
        let bits = |v: [f32; 3]| v.map(f32::to_bits);
        let ([m0, m1, m2], [d0, d1, d2]) = (bits(job.mean), bits(job.deviation));
        // `own` is what a pass wants to know beside the side: an axis, a number of views.
        let pass = |name: &'static str, invocations: usize, layers: usize, buffers: &[&CubeTensor], own: usize| {
            Launch {
                shader: "views",
                settings: &[("pass", name.into()), ("group", group.into())],
                group,
                groups: (invocations.div_ceil(group), layers),
                buffers,
                sizes: &[job.side as u32, SPANS as u32, own as u32, 0, m0, m1, m2, d0, d1, d2, 0, 0],
            }
            .run();
        };
        let records = uploaded(&pixels, &job.records);
        let taps = uploaded(&pixels, bytemuck::cast_slice(&job.taps));
        let narrow = empty(&pixels, [job.narrow]);
        let view = empty(&pixels, [job.views * area]);
        pass("columns", job.tallest * job.side, job.views, &[&pixels, &narrow, &records, &taps], 0);
        pass("rows", area, job.views, &[&narrow, &view, &records, &taps], 0);
        if job.colours {
            let hsv = uploaded(&pixels, &job.hsv);
            let (spans, means) = (empty(&pixels, [job.views * SPANS]), empty(&pixels, [job.views]));
            pass("grey", SPANS, job.views, &[&view, &spans, &records, &hsv], 0);
            pass("mean", job.views, 1, &[&spans, &means], job.views);
            pass("colour", area, job.views, &[&view, &records, &hsv, &means], 0);
        }
        if job.blurs {
            let other = empty(&pixels, [job.views * area]);
            for axis in 0..2 {
                for i in 0..3 {
                    let (from, to) = if (axis * 3 + i) % 2 == 0 { (&view, &other) } else { (&other, &view) };
                    pass("blur", area, job.views, &[from, to, &records], axis);
                }
            }
        }
        pass("normalise", area, job.views, &[&view, &batch, &records], 0);
        batch
    }
}
