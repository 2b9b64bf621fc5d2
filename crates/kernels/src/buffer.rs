//! Between CPU tensors and slices.

use crate::alloc::Buffer;
use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape};

/// A matrix in memory: numbers, size, and distances between rows and between columns.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// From the first number of the matrix on.
    pub data: &'a [f32],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Distance between rows.
    pub row: usize,
    /// Distance between columns.
    pub col: usize,
}

impl<'a> View<'a> {
    /// A contiguous row-major matrix.
    pub fn row_major(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self { data, rows, cols, row: cols, col: 1 }
    }

    /// The same numbers with rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self { data: self.data, rows: self.cols, cols: self.rows, row: self.col, col: self.row }
    }
}

/// The tensor in row-major order, copied only if it is not already.
pub fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// The numbers of a contiguous `f32` tensor.
pub fn numbers(tensor: &FlexTensor) -> &[f32] {
    let layout = tensor.layout();
    &tensor.storage::<f32>()[layout.start_offset()..][..layout.num_elements()]
}

/// Size along one dimension.
pub fn size(tensor: &FlexTensor, dim: usize) -> usize {
    tensor.layout().shape()[dim]
}

/// A tensor from numbers in row-major order.
pub fn tensor<const D: usize>(data: Buffer, shape: [usize; D]) -> FlexTensor {
    debug_assert_eq!(data.len(), shape.iter().product::<usize>());
    FlexTensor::new(Bytes::from(data), Layout::contiguous(Shape::from(shape)), DType::F32)
}

/// Hands out a matrix with whatever strides it has; only a flipped one is copied.
pub fn view<R>(tensor: &FlexTensor, work: impl FnOnce(View<'_>) -> R) -> R {
    let layout = tensor.layout();
    if let [row, col] = *layout.strides()
        && let (Ok(row), Ok(col)) = (usize::try_from(row), usize::try_from(col))
    {
        let (rows, cols) = (layout.shape()[0], layout.shape()[1]);
        return work(View { data: &tensor.storage::<f32>()[layout.start_offset()..], rows, cols, row, col });
    }
    let copy = tensor.to_contiguous();
    work(View::row_major(numbers(&copy), size(&copy, 0), size(&copy, 1)))
}
