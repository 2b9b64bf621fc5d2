//! Nearest rows on the CPU: a block of queries at a time against a tile of the bank.

use burn::backend::flex::Layout;
use burn::backend::{Flex, flex::FlexTensor};
use burn::tensor::{Bytes, DType, Shape};

use super::{Nearest, SimilarityTopkKernel};
use crate::buffer::{View, contiguous, numbers, size, tensor};
use crate::gemm::{self, Panels};
use crate::{alloc, parallel};

/// Queries of one task.
const ROWS: usize = 64;

impl SimilarityTopkKernel for Flex {
    fn similarity_topk_forward(
        queries: FlexTensor,
        bank: FlexTensor,
        k: usize,
        tile: usize,
    ) -> (FlexTensor, FlexTensor) {
        let (queries, bank) = (contiguous(queries), contiguous(bank));
        let (rows, dim, n) = (size(&queries, 0), size(&queries, 1), size(&bank, 0));
        let mut nearest = vec![Nearest::new(k); rows];
        for (t, part) in numbers(&bank).chunks(tile * dim).enumerate() {
            let width = part.len() / dim;
            let panels = Panels::new(View::row_major(part, width, dim).transposed());
            let tasks = numbers(&queries).chunks(ROWS * dim).zip(nearest.chunks_mut(ROWS)).collect();
            parallel::run(tasks, |(queries, nearest): (&[f32], &mut [Nearest])| {
                let mut scores = alloc::scratch(nearest.len() * width);
                gemm::rows(queries, &panels, None, &mut scores);
                for (nearest, row) in nearest.iter_mut().zip(scores.chunks_exact(width)) {
                    nearest.extend(row, t * tile);
                }
            });
        }
        debug_assert!(k <= n);
        let mut similarities = alloc::scratch(rows * k);
        let mut indices = vec![-1i64; rows * k];
        for (row, nearest) in nearest.into_iter().enumerate() {
            let found = nearest.finish();
            let places = similarities[row * k..][..k].iter_mut().zip(&mut indices[row * k..][..k]);
            for (i, (similarity, index)) in places.enumerate() {
                *similarity = found.get(i).map_or(f32::NEG_INFINITY, |r| r.similarity);
                *index = found.get(i).map_or(-1, |r| i64::from(r.index));
            }
        }
        let indices =
            FlexTensor::new(Bytes::from_elems(indices), Layout::contiguous(Shape::from([rows, k])), DType::I64);
        (tensor(similarities, [rows, k]), indices)
    }
}
