//! Residual branches on a GPU: the sum is the ending of a product, its gradient part of the norm's.

use burn::backend::wgpu::{CubeBackend, CubeTensor};

use super::compute::Parts;
use crate::{layer_norm, mlp};

impl Parts for CubeBackend {
    fn norm_backward_past(
        dy: CubeTensor,
        x: CubeTensor,
        gamma: CubeTensor,
        stats: CubeTensor,
        past: CubeTensor,
    ) -> [CubeTensor; 3] {
        layer_norm::gpu::backward(dy, x, gamma, &stats, Some(past))
    }

    fn mlp_past(inputs: [CubeTensor; 5], past: CubeTensor, keep: bool) -> (CubeTensor, Option<CubeTensor>) {
        mlp::gpu::forward(inputs, Some(past), keep)
    }
}
