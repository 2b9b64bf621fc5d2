//! The perceptron, a block of rows at a time: the hidden numbers stay in the second-level cache.

use crate::alloc::{self, Buffer};
use crate::gelu::{activate, activate_and_slope};
use crate::gemm::{self, CHUNK, Panels, WeightGrad, add, chunk_room, tall, weight_grad};
use crate::{parallel, simd_fn};

/// Rows of a block in the forward pass.
const ROWS: usize = 64;
/// Rows whose weight gradients are summed up on their own, before the sums are added in order.
const PIECE: usize = 512;
/// Weights of both layers up to which one piece's gradients stay in cache.
const SMALL: usize = 1 << 18;

#[derive(Clone, Copy)]
struct Sizes {
    inputs: usize,
    hidden: usize,
    outputs: usize,
}

impl Sizes {
    fn weights(self) -> usize {
        self.hidden * (self.inputs + self.outputs)
    }
}

/// `gelu(x·w1 + b1)·w2 + b2` of `x [rows, inputs]`; what goes into the activation to `saved [rows, hidden]`, if somebody wants
/// it. The weights `[inputs, hidden]` and `[hidden, outputs]` come packed, each with its bias.
pub fn forward(
    x: &[f32],
    (w1, b1): (&Panels, &[f32]),
    (w2, b2): (&Panels, &[f32]),
    saved: Option<&mut [f32]>,
) -> Buffer {
    let width = w1.depth();
    let rows = x.len() / width;
    let (b1, b2) = (w1.padded(b1), w2.padded(b2));
    let (hidden, outputs) = (w1.width(), w2.width());
    let mut y = alloc::scratch(rows * outputs);
    let mut kept: Vec<Option<&mut [f32]>> = match saved {
        Some(saved) => saved.chunks_mut(ROWS * hidden).map(Some).collect(),
        None => (0..rows.div_ceil(ROWS)).map(|_| None).collect(),
    };
    let tasks = x.chunks(ROWS * width).zip(y.chunks_mut(ROWS * outputs)).zip(kept.drain(..)).collect();
    type Task<'a> = ((&'a [f32], &'a mut [f32]), Option<&'a mut [f32]>);
    parallel::run(tasks, |((x, y), kept): Task<'_>| {
        let count = y.len() / outputs * hidden;
        let mut own = alloc::scratch(if kept.is_none() { count } else { 0 });
        let mut active = alloc::scratch(count);
        let h = kept.unwrap_or(&mut own);
        gemm::rows(x, w1, Some(&b1), h);
        activate(h, &mut active);
        gemm::rows(&active, w2, Some(&b2), y);
    });
    y
}

/// The gradients of `x` and of both layers, from that of the result, the input, and what [`forward`] saved. The weights come
/// packed the other way round, `[hidden, inputs]` and `[outputs, hidden]`.
pub fn backward(dy: &[f32], x: &[f32], h: &[f32], w1: &Panels, w2: &Panels) -> (Buffer, WeightGrad, WeightGrad) {
    let sizes = Sizes { inputs: w1.width(), hidden: w1.depth(), outputs: w2.depth() };
    let mut dx = alloc::scratch(x.len());
    let (first, second) = if sizes.weights() <= SMALL {
        in_pieces(dy, x, h, w1, w2, sizes, &mut dx)
    } else {
        layer_by_layer(dy, x, h, w1, w2, sizes, &mut dx)
    };
    (dx, first, second)
}

/// All gradients in one pass over the rows.
fn in_pieces(
    dy: &[f32],
    x: &[f32],
    h: &[f32],
    w1: &Panels,
    w2: &Panels,
    sizes: Sizes,
    dx: &mut [f32],
) -> (WeightGrad, WeightGrad) {
    let Sizes { inputs, hidden, outputs } = sizes;
    let each = sizes.weights() + hidden + outputs;
    let pieces = (dy.len() / outputs).div_ceil(PIECE);
    let mut partial = alloc::scratch(pieces * each);
    let tasks = dy
        .chunks(PIECE * outputs)
        .zip(x.chunks(PIECE * inputs).zip(h.chunks(PIECE * hidden)))
        .zip(dx.chunks_mut(PIECE * inputs).zip(partial.chunks_exact_mut(each)))
        .collect();
    type Task<'a> = ((&'a [f32], (&'a [f32], &'a [f32])), (&'a mut [f32], &'a mut [f32]));
    parallel::run(tasks, |((dy, (x, h)), (dx, partial)): Task<'_>| {
        piece(dy, x, h, w1, w2, sizes, dx, partial);
    });
    let [mut dw1, mut dw2, mut db1, mut db2] =
        [inputs * hidden, hidden * outputs, hidden, outputs].map(alloc::zeros);
    for piece in partial.chunks_exact(each) {
        let mut rest = piece;
        for sum in [&mut dw1, &mut dw2, &mut db1, &mut db2] {
            let (from, after) = rest.split_at(sum.len());
            add(sum, from);
            rest = after;
        }
    }
    (WeightGrad { weight: dw1, bias: db1 }, WeightGrad { weight: dw2, bias: db2 })
}

simd_fn! {
    /// The gradients of one piece: `dx`, and to `partial` those of both weights, then of both biases.
    fn piece<L>(
        dy: &[f32], x: &[f32], h: &[f32], w1: &Panels, w2: &Panels, sizes: Sizes, dx: &mut [f32], partial: &mut [f32],
    ) {
        let Sizes { inputs, hidden, outputs } = sizes;
        let (dw1, rest) = partial.split_at_mut(inputs * hidden);
        let (dw2, biases) = rest.split_at_mut(hidden * outputs);
        biases.fill(0.0);
        let (db1, db2) = biases.split_at_mut(hidden);
        let mut packed = alloc::zeros(chunk_room::<L>(hidden.max(outputs)));
        let mut active = alloc::scratch(CHUNK * hidden);
        let mut dh = alloc::scratch(CHUNK * hidden);
        let rows = dy.len() / outputs;
        for at in (0..rows).step_by(CHUNK) {
            let m = CHUNK.min(rows - at);
            let (dy, x, h) = (&dy[at * outputs..][..m * outputs], &x[at * inputs..], &h[at * hidden..][..m * hidden]);
            let (active, dh) = (&mut active[..m * hidden], &mut dh[..m * hidden]);
            gemm::rows(dy, w2, None, dh);
            activate_and_slope(h, active, dh);
            gemm::rows(dh, w1, None, &mut dx[at * inputs..][..m * inputs]);
            let first = at == 0;
            let room = &mut packed[..chunk_room::<L>(outputs)];
            gemm::chunk::<L>((active, hidden), (dy, outputs), [hidden, outputs, m], room, dw2, db2, first);
            let room = &mut packed[..chunk_room::<L>(hidden)];
            gemm::chunk::<L>((x, inputs), (dh, hidden), [inputs, hidden, m], room, dw1, db1, first);
        }
    }
}

/// All gradients with the hidden numbers in memory, for weights too large for [`in_pieces`].
fn layer_by_layer(
    dy: &[f32],
    x: &[f32],
    h: &[f32],
    w1: &Panels,
    w2: &Panels,
    sizes: Sizes,
    dx: &mut [f32],
) -> (WeightGrad, WeightGrad) {
    let Sizes { inputs, hidden, outputs } = sizes;
    let mut active = alloc::scratch(h.len());
    let mut dh = alloc::scratch(h.len());
    let block = ROWS * hidden;
    let tasks = dy
        .chunks(ROWS * outputs)
        .zip(h.chunks(block))
        .zip(active.chunks_mut(block).zip(dh.chunks_mut(block)))
        .collect();
    type Task<'a> = ((&'a [f32], &'a [f32]), (&'a mut [f32], &'a mut [f32]));
    parallel::run(tasks, |((dy, h), (active, dh)): Task<'_>| {
        gemm::rows(dy, w2, None, dh);
        activate_and_slope(h, active, dh);
    });
    tall(&dh, w1, None, dx);
    (weight_grad(x, &dh, inputs, hidden), weight_grad(&active, dy, hidden, outputs))
}
