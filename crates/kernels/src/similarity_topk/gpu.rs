//! Nearest rows in WGSL: matrix products of a tile of the bank, each followed by a pass that keeps the best.

use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::{DType, Shape};

use super::SimilarityTopkKernel;
use crate::gpu::{Ending, Gemm, Launch, Layout, contiguous, empty, gemm, size, software};

/// Tiles begin at multiples of this many rows: then they begin where a binding may, whatever the width.
const ALIGNED_ROWS: usize = 64;

/// Rows of a contiguous matrix, in place.
fn rows_of(matrix: &CubeTensor, start: usize, rows: usize) -> CubeTensor {
    let dim = size(matrix, 1);
    let skipped = (start * dim * size_of::<f32>()) as u64;
    let behind = ((size(matrix, 0) - start - rows) * dim * size_of::<f32>()) as u64;
    CubeTensor::new_contiguous(
        matrix.client.clone(),
        matrix.device.clone(),
        Shape::from([rows, dim]),
        matrix.handle.clone().offset_start(skipped).offset_end(behind),
        matrix.dtype,
    )
}

impl SimilarityTopkKernel for CubeBackend {
    fn similarity_topk_forward(
        queries: CubeTensor,
        bank: CubeTensor,
        k: usize,
        tile: usize,
    ) -> (CubeTensor, CubeTensor) {
        let (queries, bank) = (contiguous(queries), contiguous(bank));
        let (rows, dim, n) = (size(&queries, 0), size(&queries, 1), size(&bank, 0));
        let tile = tile.next_multiple_of(ALIGNED_ROWS);
        let similarities = empty(&queries, [rows, k]);
        let mut indices = empty(&queries, [rows, k]);
        indices.dtype = DType::I32;
        let shared = !software();
        let group = if shared { 64 } else { 4 };
        for start in (0..n).step_by(tile) {
            let width = tile.min(n - start);
            let part = rows_of(&bank, start, width);
            let sizes = [rows, width, dim];
            let scores = gemm(&Gemm { layout: Layout::Nt, a: &queries, b: &part, sizes, ending: Ending::Plain });
            Launch {
                shader: "topk",
                settings: &[
                    ("shared", shared.into()),
                    ("room", k.next_power_of_two().max(64).into()),
                    ("group", group.into()),
                ],
                group,
                groups: (if shared { rows } else { rows.div_ceil(group) }, 1),
                buffers: &[&scores, &similarities, &indices],
                sizes: &[
                    rows as u32,
                    width as u32,
                    k as u32,
                    start as u32,
                    u32::from(start == 0),
                    u32::from(start + width == n),
                    0,
                    0,
                ],
            }
            .run();
        }
        (similarities, indices)
    }
}
