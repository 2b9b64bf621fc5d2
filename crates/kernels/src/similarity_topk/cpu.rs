//! Nearest rows on the CPU.

use burn::backend::flex::Layout;
use burn::backend::{Flex, flex::FlexTensor};
use burn::tensor::{Bytes, DType, Shape};
use ocelli_simd::nearest::similarity_topk;

use super::SimilarityTopkKernel;
use crate::buffer::{contiguous, numbers, size, tensor};

impl SimilarityTopkKernel for Flex {
    fn similarity_topk_forward(
        queries: FlexTensor,
        bank: FlexTensor,
        k: usize,
        tile: usize,
    ) -> (FlexTensor, FlexTensor) {
        let (queries, bank) = (contiguous(queries), contiguous(bank));
        let (rows, dim, n) = (size(&queries, 0), size(&queries, 1), size(&bank, 0));
        debug_assert!(k <= n);
        let (similarities, indices) = similarity_topk(numbers(&queries), numbers(&bank), dim, k, tile);
        let indices =
            FlexTensor::new(Bytes::from_elems(indices), Layout::contiguous(Shape::from([rows, k])), DType::I64);
        (tensor(similarities, [rows, k]), indices)
    }
}
