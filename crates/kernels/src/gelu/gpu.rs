//! GELU in WGSL.

use burn::backend::wgpu::{CubeBackend, CubeTensor};

use super::{GeluKernel, GeluOps};
use crate::gpu::{Launch, contiguous, count, empty, size, software};

/// GELU of every number of `x [rows, dim]`; with `dy`, the gradient of `x`.
pub(crate) fn map(x: &CubeTensor, dy: Option<&CubeTensor>) -> CubeTensor {
    let y = empty(x, [size(x, 0), size(x, 1)]);
    let vec = count(x).is_multiple_of(4);
    let elements = if vec { count(x) / 4 } else { count(x) };
    let group = if software() { 16 } else { 64 };
    let mut buffers = vec![x, &y];
    buffers.extend(dy);
    Launch {
        shader: "gelu",
        settings: &[("vec", vec.into()), ("slope", dy.is_some().into()), ("group", group.into())],
        group,
        groups: (elements.div_ceil(group), 1),
        buffers: &buffers,
        sizes: &[elements as u32, 0, 0, 0],
    }
    .run();
    y
}

impl GeluOps for CubeBackend {
    fn fused_gelu(x: CubeTensor) -> CubeTensor {
        Self::gelu_exact_forward(x)
    }
}

impl GeluKernel for CubeBackend {
    fn gelu_exact_forward(x: CubeTensor) -> CubeTensor {
        map(&contiguous(x), None)
    }

    fn gelu_exact_backward(dy: CubeTensor, x: CubeTensor) -> CubeTensor {
        map(&contiguous(x), Some(&contiguous(dy)))
    }
}
