//! Layer normalisation in WGSL.

use burn::backend::wgpu::{CubeBackend, CubeTensor};

use super::{LayerNormKernel, LayerNormOps};
use crate::gpu::{Launch, contiguous, empty, size, software, sum_rows};

/// One pass over rows: `x`, `gamma`, then two tensors by direction, then the statistics, then what is added to the gradient
/// of `x`, if anything.
fn rows_pass(backward: bool, buffers: &[&CubeTensor], eps: f32) {
    let (rows, dim) = (size(buffers[0], 0), size(buffers[0], 1));
    let vec = dim.is_multiple_of(4);
    let shared = !software();
    let group = if shared { 64 } else { 8 };
    Launch {
        shader: "layer_norm",
        settings: &[
            ("vec", vec.into()),
            ("backward", backward.into()),
            ("past", (buffers.len() == 6).into()),
            ("shared", shared.into()),
            ("group", group.into()),
        ],
        group,
        groups: (if shared { rows } else { rows.div_ceil(group) }, 1),
        buffers,
        sizes: &[rows as u32, dim as u32, (if vec { dim / 4 } else { dim }) as u32, eps.to_bits()],
    }
    .run();
}

impl LayerNormOps for CubeBackend {
    fn fused_layer_norm(x: CubeTensor, gamma: CubeTensor, beta: CubeTensor, eps: f32) -> CubeTensor {
        Self::layer_norm_forward(x, gamma, beta, eps).0
    }
}

impl LayerNormKernel for CubeBackend {
    fn layer_norm_forward(
        x: CubeTensor,
        gamma: CubeTensor,
        beta: CubeTensor,
        eps: f32,
    ) -> (CubeTensor, CubeTensor) {
        let (x, gamma, beta) = (contiguous(x), contiguous(gamma), contiguous(beta));
        let (rows, dim) = (size(&x, 0), size(&x, 1));
        let (y, stats) = (empty(&x, [rows, dim]), empty(&x, [2, rows]));
        rows_pass(false, &[&x, &gamma, &beta, &y, &stats], eps);
        (y, stats)
    }

    fn layer_norm_backward(
        dy: CubeTensor,
        x: CubeTensor,
        gamma: CubeTensor,
        stats: CubeTensor,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        backward(dy, x, gamma, &stats, None).into()
    }
}

/// The gradients of `x`, with `past` added where there is one, `gamma` and `beta`.
pub(crate) fn backward(
    dy: CubeTensor,
    x: CubeTensor,
    gamma: CubeTensor,
    stats: &CubeTensor,
    past: Option<CubeTensor>,
) -> [CubeTensor; 3] {
    let (dy, x, gamma, past) = (contiguous(dy), contiguous(x), contiguous(gamma), past.map(contiguous));
    let (rows, dim) = (size(&x, 0), size(&x, 1));
    let dx = empty(&x, [rows, dim]);
    let mut buffers = vec![&x, &gamma, &dy, &dx, stats];
    buffers.extend(&past);
    rows_pass(true, &buffers, 0.0);

    let vec = dim.is_multiple_of(4);
    let width = if vec { dim / 4 } else { dim };
    let group = if software() { 8 } else { 64 };
    let span = rows.div_ceil((4096 / width).clamp(1, 64)).max(16);
    let spans = rows.div_ceil(span);
    let (dgamma, dbeta) = (empty(&x, [spans, dim]), empty(&x, [spans, dim]));
    Launch {
        shader: "layer_norm_weights",
        settings: &[("vec", vec.into()), ("group", group.into())],
        group,
        groups: ((spans * width).div_ceil(group), 1),
        buffers: &[&x, &dy, stats, &dgamma, &dbeta],
        sizes: &[rows as u32, width as u32, span as u32, 0],
    }
    .run();
    [dx, sum_rows(&dgamma, spans, dim), sum_rows(&dbeta, spans, dim)]
}
