//! ROIAlign in WGSL: an invocation for some channels of an output; in the other direction for some channels of a cell, which
//! gathers from the boxes over it in order, so that nothing is added to by two at once.

use std::sync::Arc;

use burn::backend::wgpu::{CubeBackend, CubeTensor};
use ocelli_simd::roi_align::{Axis, Span};

use super::RoiPlan;
use super::kernel::{RoiAlignKernel, RoiAlignOps};
use crate::gpu::{Launch, contiguous, empty, size, software, uploaded};

/// What a kernel reads of a plan: whole numbers, and weights.
struct Tables {
    places: Vec<u32>,
    weights: Vec<f32>,
}

/// A span as a kernel reads it; `skipped` weights lie before its axis'.
fn triple(span: &Span, skipped: usize) -> [u32; 3] {
    [span.first, span.count, span.weights + skipped as u32]
}

impl Tables {
    /// The image of every box; the spans of its rows, of all boxes; those of its columns.
    fn forward(plan: &RoiPlan) -> Self {
        let RoiPlan { image_of, y, x, .. } = plan;
        let mut places: Vec<u32> = image_of.iter().map(|image| *image as u32).collect();
        places.extend(y.spans.iter().flat_map(|span| triple(span, 0)));
        places.extend(x.spans.iter().flat_map(|span| triple(span, y.weights.len())));
        Self { places, weights: [&y.weights[..], &x.weights].concat() }
    }

    /// For every row of every image where its list begins, and where the last one ends; for every box its first column, how many,
    /// and where their spans are; those; then the lists: boxes over the row, in order, with the span of it.
    fn backward(plan: &RoiPlan) -> Self {
        let RoiPlan { images, image_of, y, x } = plan;
        let mut weights = Vec::new();
        let mut lists: Vec<Vec<u32>> = vec![Vec::new(); images * y.cells];
        let (mut records, mut spans) = (Vec::new(), Vec::new());
        let spans_from = lists.len() + 1 + 3 * plan.boxes();
        for (roi, image) in image_of.iter().enumerate() {
            let (turned, across) = (x.turned(roi, &mut weights), x.reach(roi));
            records.extend([across.start, across.len(), spans_from + spans.len()].map(|n| n as u32));
            spans.extend(turned.iter().flat_map(|span| triple(span, 0)));
            for (row, span) in y.reach(roi).zip(y.turned(roi, &mut weights)) {
                let list = &mut lists[image * y.cells + row];
                list.push(roi as u32);
                list.extend(triple(&span, 0));
            }
        }
        let mut places = Vec::new();
        let mut end = spans_from + spans.len();
        for list in &lists {
            places.push(end as u32);
            end += list.len();
        }
        places.push(end as u32);
        places.extend(records);
        places.extend(spans);
        places.extend(lists.into_iter().flatten());
        Self { places, weights }
    }
}

/// A launch with an invocation for some channels of each cell of `to`.
fn launch(shader: &'static str, plan: &RoiPlan, from: &CubeTensor, to: &CubeTensor, mut tables: Tables) {
    let [count, channels, height, width] = [0, 1, 2, 3].map(|d| size(to, d));
    if tables.weights.is_empty() {
        // No box has a sample; a buffer must hold something.
        tables.weights.push(0.0);
    }
    let places = uploaded(from, &tables.places);
    let weights = uploaded(from, bytemuck::cast_slice(&tables.weights));
    let each = if channels.is_multiple_of(4) { 4 } else { 1 };
    let group = if software() { 8 } else { 64 };
    let Axis { cells: map_h, outputs: rows, .. } = plan.y;
    let Axis { cells: map_w, outputs: cols, .. } = plan.x;
    Launch {
        shader,
        settings: &[("each", each.into()), ("group", group.into())],
        group,
        groups: ((count * (channels / each) * height * width).div_ceil(group), 1),
        buffers: &[from, to, &places, &weights],
        sizes: &[count, channels, map_h, map_w, rows, cols, 0, 0].map(|n| n as u32),
    }
    .run();
}

impl RoiAlignOps for CubeBackend {
    fn fused_roi_align(features: CubeTensor, plan: Arc<RoiPlan>) -> CubeTensor {
        Self::roi_align_forward(features, plan)
    }
}

impl RoiAlignKernel for CubeBackend {
    fn roi_align_forward(features: CubeTensor, plan: Arc<RoiPlan>) -> CubeTensor {
        let features = contiguous(features);
        let y = empty(&features, plan.output(size(&features, 1)));
        launch("roi_align", &plan, &features, &y, Tables::forward(&plan));
        y
    }

    fn roi_align_backward(dy: CubeTensor, plan: Arc<RoiPlan>) -> CubeTensor {
        let dy = contiguous(dy);
        let dx = empty(&dy, plan.input(size(&dy, 1)));
        launch("roi_align_backward", &plan, &dy, &dx, Tables::backward(&plan));
        dx
    }
}
