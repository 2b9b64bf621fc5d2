//! InfoNCE in WGSL: logits arise in tiles and are used up where they arise. The backward pass computes them again, a chunk of
//! the queue at a time. Where a matrix product is faster than anything that does something else as well (software adapters
//! with subgroups), both directions go chunk by chunk: a product, and a pass over it.

use burn::backend::ops::FloatTensorOps;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::Slice;

use super::kernel::{InfoNceKernel, InfoNceOps};
use crate::gpu::{Ending, Gemm, Launch, Layout, contiguous, empty, gemm, shares_loads, size, software, sum_rows};

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

/// Entries of a chunk of the queue.
fn chunk_width(rows: usize, len: usize) -> usize {
    (CHUNK_VALUES / rows / 64 * 64).clamp(64, len.next_multiple_of(64))
}

/// The entries `begin..begin + span` of a queue, `[dim, span]`.
fn entries(queue: &CubeTensor, begin: usize, span: usize) -> CubeTensor {
    let (dim, len) = (size(queue, 0), size(queue, 1));
    match span == len {
        true => queue.clone(),
        false => {
            let columns = [Slice::from(0..dim), Slice::from(begin..begin + span)];
            contiguous(CubeBackend::float_slice(queue.clone(), &columns))
        }
    }
}

/// Queries times entries, `[rows, span]`: logits but for the temperature.
fn products(query: &CubeTensor, entries: &CubeTensor) -> CubeTensor {
    let sizes = [size(query, 0), size(entries, 1), size(query, 1)];
    gemm(&Gemm { layout: Layout::Nn, a: query, b: entries, sizes, ending: Ending::Plain })
}

/// The largest logits and the sums of every chunk, `[chunks, 2, rows]`, and how many there are: a product and a pass over it each.
fn stats_of_products(query: &CubeTensor, queue: &CubeTensor, temperature: f32) -> (CubeTensor, usize) {
    let (rows, len) = (size(query, 0), size(queue, 1));
    let width = chunk_width(rows, len);
    let count = len.div_ceil(width);
    let partial = empty(query, [count, 2, rows]);
    for (i, begin) in (0..len).step_by(width).enumerate() {
        let span = width.min(len - begin);
        let found = products(query, &entries(queue, begin, span));
        let vec = span.is_multiple_of(4);
        let elements = if vec { span / 4 } else { span };
        Launch {
            shader: "info_nce_stats",
            settings: &[("vec", vec.into()), ("group", 8.into())],
            group: 8,
            groups: (rows.div_ceil(8), 1),
            buffers: &[&found, &partial],
            sizes: &[rows as u32, elements as u32, i as u32, (1.0 / temperature).to_bits()],
        }
        .run();
    }
    (partial, count)
}

/// The softmax of a chunk, `[rows, span]`.
fn weights_of_products(
    query: &CubeTensor,
    entries: &CubeTensor,
    lse: &CubeTensor,
    temperature: f32,
) -> CubeTensor {
    let (rows, span) = (size(query, 0), size(entries, 1));
    let found = products(query, entries);
    let vec = span.is_multiple_of(4);
    let elements = if vec { span / 4 } else { span };
    let each = 16;
    Launch {
        shader: "info_nce_weights",
        settings: &[("vec", vec.into()), ("each", each.into()), ("group", 8.into())],
        group: 8,
        groups: ((rows * elements).div_ceil(8 * each), 1),
        buffers: &[&found, lse],
        sizes: &[rows as u32, elements as u32, (1.0 / temperature).to_bits(), 0],
    }
    .run();
    found
}

/// The largest logits and the sums of every split, as they arise.
fn stats_in_tiles(query: &CubeTensor, queue: &CubeTensor, temperature: f32) -> (CubeTensor, usize) {
    let (rows, len) = (size(query, 0), size(queue, 1));
    let (tile_rows, columns) = tile();
    let splits = 256usize.div_ceil(rows.div_ceil(tile_rows)).min(len.div_ceil(columns));
    let span = len.div_ceil(splits).next_multiple_of(columns);
    let count = len.div_ceil(span);
    let partial = empty(query, [count, 2, rows]);
    logits("stats", &[query, queue, &partial], temperature, &Spans { begin: 0, span, count });
    (partial, count)
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
        let (rows, dim) = (size(&query, 0), size(&query, 1));
        let stats = if shares_loads() { stats_of_products } else { stats_in_tiles };
        let (partial, count) = stats(&query, &queue, temperature);
        let lse = empty(&query, [2, rows]);
        let [losses, won] = [(); 2].map(|()| empty(&query, [rows]));
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
        let width = chunk_width(rows, len);
        let chunk = |begin: usize| {
            let span = width.min(len - begin);
            let entries = entries(&queue, begin, span);
            let p = if shares_loads() {
                weights_of_products(&query, &entries, &lse, temperature)
            } else {
                let p = empty(&query, [rows, span]);
                logits("weights", &[&query, &queue, &lse, &p], temperature, &Spans { begin, span, count: 1 });
                p
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
            buffers: &[&key, &weights, &lse, &mean, &grad, &dloss],
            sizes: &[rows as u32, dim as u32, (1.0 / temperature).to_bits(), 0],
        }
        .run();
        grad
    }
}
