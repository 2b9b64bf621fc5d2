//! ROIAlign: along columns by vectors over neighbouring cells, along rows as a matrix product.
//!
//! Tasks own channels of one box, or, in the other direction, of one image, to which its boxes are added in order.

mod plan;

use crate::alloc::{self, Buffer};
use crate::product::{self, Start, Strided};
use crate::{Lanes, WIDEST, parallel, simd_fn};

pub use plan::{Axis, RoiPlan, Span};

/// Channels at a time: what they have between the two passes stays in the first-level cache.
const CHANNELS: usize = 16;
/// Channels of one task of the forward pass.
const TASK_CHANNELS: usize = 8 * CHANNELS;

/// A box on one of some images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roi {
    /// Which image of the batch.
    pub image: usize,
    /// `[x1, y1, x2, y2]` in pixels of the image, edges; it may reach beyond the image.
    pub xyxy: [f32; 4],
}

/// How boxes are sampled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoiAlignShape {
    /// Rows of the result.
    pub rows: usize,
    /// Columns of the result.
    pub cols: usize,
    /// Cells of the map for each pixel of the image: 1/stride.
    pub scale: f32,
    /// Samples of an output along each axis; 0: as many as an output is cells long, rounded up.
    pub sampling_ratio: usize,
}

/// What lies under every box of `features`, in the shapes of [`RoiPlan::input`] and [`RoiPlan::output`].
pub fn forward(plan: &RoiPlan, features: &[f32], channels: usize) -> Buffer {
    let shape = plan.output(channels);
    let cells = shape[2] * shape[3];
    let mut y = alloc::scratch(shape.iter().product());
    let tasks = y
        .chunks_mut(channels * cells)
        .enumerate()
        .flat_map(|(roi, out)| {
            let parts = out.chunks_mut(TASK_CHANNELS * cells).enumerate();
            parts.map(move |(i, out)| (roi, i * TASK_CHANNELS, out))
        })
        .collect();
    parallel::run(tasks, |(roi, first, out): (usize, usize, &mut [f32])| {
        let area = plan.y.cells * plan.x.cells;
        let from = (plan.image_of[roi] * channels + first) * area;
        let maps = &features[from..][..out.len() / cells * area];
        part(plan, roi, maps, out);
    });
    y
}

/// The gradient of the features from that of the result.
pub fn backward(plan: &RoiPlan, dy: &[f32], channels: usize) -> Buffer {
    let shape = plan.input(channels);
    let area = shape[2] * shape[3];
    let (boxes, mut weights) = (plan.by_image(), Vec::new());
    let spans: Vec<_> = (0..plan.boxes()).map(|roi| plan.y.turned(roi, &mut weights)).collect();
    let mut dx = alloc::scratch(shape.iter().product());
    let tasks = dx
        .chunks_mut(channels * area)
        .enumerate()
        .flat_map(|(image, dx)| {
            let parts = dx.chunks_mut(CHANNELS * area).enumerate();
            parts.map(move |(i, dx)| (image, i * CHANNELS, dx))
        })
        .collect();
    parallel::run(tasks, |(image, first, dx): (usize, usize, &mut [f32])| {
        gradient(plan, &boxes[image], (&spans, &weights), dy, (first, channels), dx);
    });
    dx
}

/// `to` (where `ADD`: plus) = the sum of rows that begin `width` apart in `from`, each times its weight.
#[inline(always)]
fn weighted<L: Lanes, const ADD: bool>(weights: &[f32], from: &[f32], width: usize, to: &mut [f32]) {
    let cells = to.len();
    let mut i = 0;
    while i + L::N <= cells {
        let mut sum = if ADD { L::load(&to[i..]) } else { L::splat(0.0) };
        for (row, weight) in weights.iter().enumerate() {
            sum = L::load(&from[row * width + i..]).mul_add(L::splat(*weight), sum);
        }
        sum.store(&mut to[i..]);
        i += L::N;
    }
    if i < cells {
        let mut sum = if ADD { L::load_part(&to[i..]) } else { L::splat(0.0) };
        for (row, weight) in weights.iter().enumerate() {
            sum = L::load_part(&from[row * width + i..][..cells - i]).mul_add(L::splat(*weight), sum);
        }
        sum.store_part(&mut to[i..]);
    }
}

simd_fn! {
    /// The part under one box of some channels' `maps`.
    fn part<L>(plan: &RoiPlan, roi: usize, maps: &[f32], out: &mut [f32]) {
        let (y, x) = (&plan.y, &plan.x);
        let across = x.reach(roi);
        if across.is_empty() || y.reach(roi).is_empty() {
            out.fill(0.0);
            return;
        }
        let (area, cells) = (y.cells * x.cells, y.outputs * x.outputs);
        let row = x.outputs.next_multiple_of(WIDEST);
        let mut weights = alloc::scratch(across.len() * row);
        x.matrix(roi, [row, 1], &mut weights);
        let mut between = alloc::scratch(CHANNELS * y.outputs * across.len());
        for (maps, out) in maps.chunks(CHANNELS * area).zip(out.chunks_mut(CHANNELS * cells)) {
            let mut lines = between.chunks_exact_mut(across.len());
            for map in maps.chunks_exact(area) {
                for (span, line) in y.of(roi).iter().zip(&mut lines) {
                    let from = &map[span.first as usize * x.cells + across.start..];
                    weighted::<L, false>(y.weights(span), from, x.cells, line);
                }
            }
            product::gemm::<L>(
                [out.len() / x.outputs, x.outputs, across.len()],
                Strided(&between, across.len(), 1),
                (&weights, row),
                (out, x.outputs),
                Start::Zero,
            );
        }
    }
}

simd_fn! {
    /// The gradient of some channels of an image with these boxes. `turned` are the spans of every box's rows, and their weights;
    /// `of` is the first of the channels, and how many there are in all.
    fn gradient<L>(
        plan: &RoiPlan, boxes: &[usize], turned: (&[Vec<Span>], &[f32]), dy: &[f32], of: (usize, usize), dx: &mut [f32],
    ) {
        let (y, x, (first, channels)) = (&plan.y, &plan.x, of);
        let (area, cells) = (y.cells * x.cells, y.outputs * x.outputs);
        let count = dx.len() / area;
        dx.fill(0.0);
        let mut weights = alloc::scratch(x.outputs * x.cells.next_multiple_of(WIDEST));
        let mut between = alloc::scratch(count * y.outputs * x.cells);
        for &roi in boxes {
            let (down, across) = (y.reach(roi), x.reach(roi));
            if down.is_empty() || across.is_empty() {
                continue;
            }
            let row = across.len().next_multiple_of(WIDEST);
            x.matrix(roi, [1, row], &mut weights[..x.outputs * row]);
            let dy = &dy[(roi * channels + first) * cells..][..count * cells];
            product::gemm::<L>(
                [count * y.outputs, across.len(), x.outputs],
                Strided(dy, x.outputs, 1),
                (&weights, row),
                (&mut between, across.len()),
                Start::Zero,
            );
            let (spans, weights) = turned;
            let lines = between.chunks_exact(y.outputs * across.len());
            for (map, lines) in dx.chunks_exact_mut(area).zip(lines) {
                for (row, span) in down.clone().zip(&spans[roi]) {
                    let weights = &weights[span.weights as usize..][..span.count as usize];
                    let from = &lines[span.first as usize * across.len()..];
                    let to = &mut map[row * x.cells + across.start..][..across.len()];
                    weighted::<L, true>(weights, from, across.len(), to);
                }
            }
        }
    }
}
