//! InfoNCE in WGSL: logits arise in tiles and are used up where they arise. The backward pass computes them again, a chunk of
//! the queue at a time.

use burn::backend::ops::FloatTensorOps;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::Slice;

use super::kernel::{InfoNceKernel, InfoNceOps};
use crate::gpu::{Ending, Gemm, Launch, Layout, contiguous, empty, gemm, size, software, sum_rows};

/// Numbers of a chunk of the softmax at most: 4 Mi, 16 MiB.
const CHUNK_VALUES: usize = 4 << 20;

/// Rows and entries of the tile of logits that one workgroup (hardware) or invocation (software) computes.
fn tile() -> (usize, usize) {
    if software() { (8, 16) } else { (64, 64) }
}

/// Every split or chunk of the queue in a launch: `count` spans of `span` entries from `begin` on.
struct Spans {
    begin: usize,
    span: usize,
    count: usize,
}

fn logits(ending: &'static str, buffers: &[&CubeTensor], temperature: f32, spans: &Spans) {
    let (rows, dim, len) = (size(buffers[0], 0), size(buffers[0], 1), size(buffers[1], 1));
    let (tile_rows, columns) = tile();
    let tiles = rows.div_ceil(tile_rows)
        * match ending {
            "stats" => spans.count,
            _ => spans.span.div_ceil(columns),
        };
    let sizes = [
        rows as u32,
        dim as u32,
        len as u32,
        (1.0 / temperature).to_bits(),
        spans.begin as u32,
        spans.span as u32,
        0,
        0,
    ];
    if software() {
        Launch {
            shader: "info_nce_register",
            settings: &[
                ("ending", ending.into()),
                ("rows", tile_rows.into()),
                ("columns", columns.into()),
                ("group", 8.into()),
            ],
            group: 8,
            groups: (tiles.div_ceil(8), 1),
            buffers,
            sizes: &sizes,
        }
        .run();
    } else {
        Launch {
            shader: "info_nce_shared",
            settings: &[("ending", ending.into())],
            group: 64,
            groups: (tiles, 1),
            buffers,
            sizes: &sizes,
        }
        .run();
    }
}

impl InfoNceOps for CubeBackend {
    fn info_nce_of(
        _: CubeTensor,
        _: CubeTensor,
        _: CubeTensor,
        _: CubeTensor,
        _: CubeTensor,
        loss: CubeTensor,
        _: f32,
    ) -> CubeTensor {
        loss
    }
}

impl InfoNceKernel for CubeBackend {
    fn info_nce_forward(
        query: CubeTensor,
        key: CubeTensor,
        queue: CubeTensor,
        weights: CubeTensor,
        temperature: f32,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let [query, key, queue, weights] = [query, key, queue, weights].map(contiguous);
        let (rows, dim, len) = (size(&query, 0), size(&query, 1), size(&queue, 1));
        let (tile_rows, columns) = tile();
        let splits = 256usize.div_ceil(rows.div_ceil(tile_rows)).min(len.div_ceil(columns));
        let span = len.div_ceil(splits).next_multiple_of(columns);
        let count = len.div_ceil(span);
        let partial = empty(&query, [count, 2, rows]);
        logits("stats", &[&query, &queue, &partial], temperature, &Spans { begin: 0, span, count });

        let [lse, losses, won] = [(); 3].map(|()| empty(&query, [rows]));
        let group = if software() { 8 } else { 64 };
        Launch {
            shader: "info_nce_rows",
            settings: &[("group", group.into())],
            group,
            groups: (rows.div_ceil(group), 1),
            buffers: &[&query, &key, &weights, &partial, &lse, &losses, &won],
            sizes: &[rows as u32, dim as u32, count as u32, (1.0 / temperature).to_bits()],
        }
        .run();
        (sum_rows(&losses, rows, 1), sum_rows(&won, rows, 1), lse)
    }

    fn info_nce_backward(
        query: CubeTensor,
        key: CubeTensor,
        queue: CubeTensor,
        weights: CubeTensor,
        lse: CubeTensor,
        dloss: CubeTensor,
        temperature: f32,
    ) -> CubeTensor {
        let [query, key, queue, weights, lse, dloss] = [query, key, queue, weights, lse, dloss].map(contiguous);
        let (rows, dim, len) = (size(&query, 0), size(&query, 1), size(&queue, 1));
        let width = (CHUNK_VALUES / rows / 64 * 64).clamp(64, len.next_multiple_of(64));
        let chunk = |begin: usize| {
            let span = width.min(len - begin);
            let p = empty(&query, [rows, span]);
            logits("weights", &[&query, &queue, &lse, &p], temperature, &Spans { begin, span, count: 1 });
            let entries = match span == len {
                true => queue.clone(),
                false => {
                    let columns = [Slice::from(0..dim), Slice::from(begin..begin + span)];
                    contiguous(Self::float_slice(queue.clone(), &columns))
                }
            };
            let sizes = [rows, dim, span];
            gemm(&Gemm { layout: Layout::Nt, a: &p, b: &entries, sizes, ending: Ending::Plain })
        };
        let rest = (width..len).step_by(width);
        let mean = rest.fold(chunk(0), |sum, begin| Self::float_add(sum, chunk(begin)));
        let grad = empty(&query, [rows, dim]);
        let group = if software() { 8 } else { 64 };
        Launch {
            shader: "info_nce_gradient",
            settings: &[("group", group.into())],
            group,
            groups: (rows.div_ceil(group), 1),
            buffers: &[&query, &key, &weights, &lse, &mean, &grad, &dloss],
            sizes: &[rows as u32, dim as u32, (1.0 / temperature).to_bits(), 0],
        }
        .run();
        grad
    }
}
