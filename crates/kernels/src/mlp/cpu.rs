//! The perceptron on the CPU, a block of rows at a time: the hidden numbers stay in the second-level cache.

use burn::backend::{Flex, flex::FlexTensor};

use super::{MlpKernel, MlpOps};
use crate::alloc::{self, Buffer};
use crate::buffer::{contiguous, numbers, size, tensor, view};
use crate::gelu::{activate, activate_and_slope};
use crate::gemm::{self, CHUNK, Panels, WeightGrad, add, chunk_room, tall, weight_grad};
use crate::parallel;
use crate::simd::simd_fn;

/// Rows of a block in the forward pass.
const ROWS: usize = 64;
/// Rows whose weight gradients are summed up on their own, before the sums are added in order.
const PIECE: usize = 512;
/// Weights of both layers up to which one piece's gradients stay in cache.
const SMALL: usize = 1 << 18;

impl MlpOps for Flex {
    fn fused_mlp(x: FlexTensor, w1: FlexTensor, b1: FlexTensor, w2: FlexTensor, b2: FlexTensor) -> FlexTensor {
        Self::mlp_value(x, w1, b1, w2, b2)
    }
}

impl MlpKernel for Flex {
    fn mlp_value(x: FlexTensor, w1: FlexTensor, b1: FlexTensor, w2: FlexTensor, b2: FlexTensor) -> FlexTensor {
        forward([x, w1, b1, w2, b2], None)
    }

    fn mlp_forward(
        x: FlexTensor,
        w1: FlexTensor,
        b1: FlexTensor,
        w2: FlexTensor,
        b2: FlexTensor,
    ) -> (FlexTensor, FlexTensor) {
        let (rows, hidden) = (size(&x, 0), size(&w1, 1));
        let mut h = alloc::scratch(rows * hidden);
        let y = forward([x, w1, b1, w2, b2], Some(&mut h));
        (y, tensor(h, [rows, hidden]))
    }

    fn mlp_backward(
        dy: FlexTensor,
        x: FlexTensor,
        h: FlexTensor,
        w1: FlexTensor,
        w2: FlexTensor,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        let (dy, x) = (contiguous(dy), contiguous(x));
        let sizes = Sizes { inputs: size(&w1, 0), hidden: size(&w1, 1), outputs: size(&w2, 1) };
        let rows = size(&x, 0);
        let w1 = view(&w1, |w| Panels::new(w.transposed()));
        let w2 = view(&w2, |w| Panels::new(w.transposed()));
        let mut dx = alloc::scratch(rows * sizes.inputs);
        let (first, second) = if sizes.weights() <= SMALL {
            in_pieces(numbers(&dy), numbers(&x), numbers(&h), &w1, &w2, sizes, &mut dx)
        } else {
            layer_by_layer(numbers(&dy), numbers(&x), numbers(&h), &w1, &w2, sizes, &mut dx)
        };
        let Sizes { inputs, hidden, outputs } = sizes;
        (
            tensor(dx, [rows, inputs]),
            tensor(first.weight, [inputs, hidden]),
            tensor(first.bias, [hidden]),
            tensor(second.weight, [hidden, outputs]),
            tensor(second.bias, [outputs]),
        )
    }
}

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

/// The result; what goes into the activation to `saved`, if somebody wants it.
fn forward(inputs: [FlexTensor; 5], saved: Option<&mut Buffer>) -> FlexTensor {
    let [x, w1, b1, w2, b2] = inputs;
    let [x, b1, b2] = [x, b1, b2].map(contiguous);
    let (rows, width) = (size(&x, 0), size(&x, 1));
    let (w1, w2) = (view(&w1, Panels::new), view(&w2, Panels::new));
    let (b1, b2) = (w1.padded(numbers(&b1)), w2.padded(numbers(&b2)));
    let (hidden, outputs) = (w1.width(), w2.width());
    let mut y = alloc::scratch(rows * outputs);
    let mut kept: Vec<Option<&mut [f32]>> = match saved {
        Some(saved) => saved.chunks_mut(ROWS * hidden).map(Some).collect(),
        None => (0..rows.div_ceil(ROWS)).map(|_| None).collect(),
    };
    let tasks = numbers(&x).chunks(ROWS * width).zip(y.chunks_mut(ROWS * outputs)).zip(kept.drain(..)).collect();
    type Task<'a> = ((&'a [f32], &'a mut [f32]), Option<&'a mut [f32]>);
    parallel::run(tasks, |((x, y), kept): Task<'_>| {
        let count = y.len() / outputs * hidden;
        let mut own = alloc::scratch(if kept.is_none() { count } else { 0 });
        let mut active = alloc::scratch(count);
        let h = kept.unwrap_or(&mut own);
        gemm::rows(x, &w1, Some(&b1), h);
        activate(h, &mut active);
        gemm::rows(&active, &w2, Some(&b2), y);
    });
    tensor(y, [rows, outputs])
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
