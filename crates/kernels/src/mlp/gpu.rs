//! The perceptron in WGSL: matrix products whose endings are the bias, the activation and its slope.

use burn::backend::wgpu::{CubeBackend, CubeTensor};

use super::{MlpKernel, MlpOps};
use crate::gelu::map;
use crate::gpu::{Ending, Gemm, Layout, contiguous, empty, gemm, size, sum_rows};

/// The result, with `past` added where there is one, and with `keep` what goes into the activation.
pub(crate) fn forward(
    inputs: [CubeTensor; 5],
    past: Option<CubeTensor>,
    keep: bool,
) -> (CubeTensor, Option<CubeTensor>) {
    let [x, w1, b1, w2, b2] = inputs.map(contiguous);
    let (rows, inputs, hidden, outputs) = (size(&x, 0), size(&x, 1), size(&w1, 1), size(&w2, 1));
    let kept = keep.then(|| empty(&x, [rows, hidden]));
    let ending = match &kept {
        Some(kept) => Ending::BiasGeluKeep(&b1, kept),
        None => Ending::BiasGelu(&b1),
    };
    let nn =
        |a: &CubeTensor, b: &CubeTensor, sizes, ending| gemm(&Gemm { layout: Layout::Nn, a, b, sizes, ending });
    let active = nn(&x, &w1, [rows, hidden, inputs], ending);
    let past = past.map(contiguous);
    let ending = past.as_ref().map_or(Ending::Bias(&b2), |past| Ending::BiasResidual(&b2, past));
    (nn(&active, &w2, [rows, outputs, hidden], ending), kept)
}

impl MlpOps for CubeBackend {
    fn fused_mlp(x: CubeTensor, w1: CubeTensor, b1: CubeTensor, w2: CubeTensor, b2: CubeTensor) -> CubeTensor {
        Self::mlp_value(x, w1, b1, w2, b2)
    }
}

impl MlpKernel for CubeBackend {
    fn mlp_value(x: CubeTensor, w1: CubeTensor, b1: CubeTensor, w2: CubeTensor, b2: CubeTensor) -> CubeTensor {
        forward([x, w1, b1, w2, b2], None, false).0
    }

    fn mlp_forward(
        x: CubeTensor,
        w1: CubeTensor,
        b1: CubeTensor,
        w2: CubeTensor,
        b2: CubeTensor,
    ) -> (CubeTensor, CubeTensor) {
        let (y, kept) = forward([x, w1, b1, w2, b2], None, true);
        let kept = kept.unwrap_or_else(|| y.clone());
        (y, kept)
    }

    fn mlp_backward(
        dy: CubeTensor,
        x: CubeTensor,
        h: CubeTensor,
        w1: CubeTensor,
        w2: CubeTensor,
    ) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
        let [dy, x, h, w1, w2] = [dy, x, h, w1, w2].map(contiguous);
        let (rows, inputs, hidden, outputs) = (size(&x, 0), size(&x, 1), size(&w1, 1), size(&w2, 1));
        let product =
            |layout, a: &CubeTensor, b: &CubeTensor, sizes, ending| gemm(&Gemm { layout, a, b, sizes, ending });
        // The activation is computed again rather than kept: it is cheap next to the memory it would hold.
        let active = map(&h, None);
        let dw2 = product(Layout::Tn, &active, &dy, [hidden, outputs, rows], Ending::Plain);
        drop(active);
        let db2 = sum_rows(&dy, rows, outputs);
        let dh = product(Layout::Nt, &dy, &w2, [rows, hidden, outputs], Ending::Slope(&h));
        let dw1 = product(Layout::Tn, &x, &dh, [inputs, hidden, rows], Ending::Plain);
        let db1 = sum_rows(&dh, rows, hidden);
        let dx = product(Layout::Nt, &dh, &w1, [rows, inputs, hidden], Ending::Plain);
        (dx, dw1, db1, dw2, db2)
    }
}
