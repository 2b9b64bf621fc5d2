//! A linear map in WGSL.

use burn::backend::wgpu::{CubeBackend, CubeTensor};

use super::{LinearKernel, LinearOps};
use crate::gpu::{Ending, Gemm, Layout, contiguous, gemm, size, sum_rows};

/// A matrix as it lies in memory: itself, or its transpose.
struct Stored {
    tensor: CubeTensor,
    transposed: bool,
}

/// The head's prototypes come as a transposed view; turning 65,536 rows round in memory would cost more than the product.
fn stored(w: CubeTensor) -> Stored {
    let (shape, strides) = (w.meta.shape(), w.meta.strides());
    let transposed = strides[0] == 1 && strides[1] == shape[0] && shape[0] > 1 && shape[1] > 1;
    match transposed {
        true => Stored { tensor: w, transposed },
        false => Stored { tensor: contiguous(w), transposed },
    }
}

fn product(x: CubeTensor, w: CubeTensor, ending: Ending<'_>) -> CubeTensor {
    let sizes = [size(&x, 0), size(&w, 1), size(&x, 1)];
    let (x, w) = (contiguous(x), stored(w));
    let layout = if w.transposed { Layout::Nt } else { Layout::Nn };
    gemm(&Gemm { layout, a: &x, b: &w.tensor, sizes, ending })
}

impl LinearOps for CubeBackend {
    fn fused_linear(x: CubeTensor, w: CubeTensor, b: CubeTensor) -> CubeTensor {
        Self::linear_forward(x, w, b)
    }

    fn fused_linear_past(x: CubeTensor, w: CubeTensor, b: CubeTensor, past: CubeTensor) -> CubeTensor {
        Self::linear_past(x, w, b, past)
    }

    fn fused_linear_plain(x: CubeTensor, w: CubeTensor) -> CubeTensor {
        Self::linear_plain(x, w)
    }
}

impl LinearKernel for CubeBackend {
    fn linear_forward(x: CubeTensor, w: CubeTensor, b: CubeTensor) -> CubeTensor {
        let b = contiguous(b);
        product(x, w, Ending::Bias(&b))
    }

    fn linear_past(x: CubeTensor, w: CubeTensor, b: CubeTensor, past: CubeTensor) -> CubeTensor {
        let (b, past) = (contiguous(b), contiguous(past));
        product(x, w, Ending::BiasResidual(&b, &past))
    }

    fn linear_plain(x: CubeTensor, w: CubeTensor) -> CubeTensor {
        product(x, w, Ending::Plain)
    }

    fn linear_input_grad(dy: CubeTensor, w: CubeTensor) -> CubeTensor {
        let sizes = [size(&dy, 0), size(&w, 0), size(&dy, 1)];
        let (dy, w) = (contiguous(dy), stored(w));
        let layout = if w.transposed { Layout::Nn } else { Layout::Nt };
        gemm(&Gemm { layout, a: &dy, b: &w.tensor, sizes, ending: Ending::Plain })
    }

    fn linear_weight_grad(x: CubeTensor, dy: CubeTensor) -> (CubeTensor, CubeTensor) {
        let dy = contiguous(dy);
        let db = sum_rows(&dy, size(&dy, 0), size(&dy, 1));
        (Self::linear_weight_grad_plain(x, dy), db)
    }

    fn linear_weight_grad_plain(x: CubeTensor, dy: CubeTensor) -> CubeTensor {
        let (x, dy) = (contiguous(x), contiguous(dy));
        let sizes = [size(&x, 1), size(&dy, 1), size(&x, 0)];
        gemm(&Gemm { layout: Layout::Tn, a: &x, b: &dy, sizes, ending: Ending::Plain })
    }
}
