//! Between CPU tensors and slices.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{AllocationProperty, Bytes, DType, Shape};
use burn_std::{AccessError, AccessPolicy, AllocationController};

use crate::alloc::{ALIGNMENT, Buffer};
use crate::gemm::View;

/// A buffer as the memory of a tensor.
struct Kept(Buffer);

impl AllocationController for Kept {
    fn alloc_align(&self) -> usize {
        ALIGNMENT
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(&mut self, _: AccessPolicy) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.0);
        // SAFETY: same layout; the caller writes initialised bytes only.
        Ok(unsafe { &mut *(std::ptr::from_mut(bytes) as *mut [MaybeUninit<u8>]) })
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        let bytes: &[u8] = bytemuck::cast_slice(&self.0);
        // SAFETY: same layout; initialised bytes can be read as possibly uninitialised ones.
        Ok(unsafe { &*(std::ptr::from_ref(bytes) as *const [MaybeUninit<u8>]) })
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
    let len = size_of_val(&*data);
    // SAFETY: all bytes of the buffer are initialised.
    let bytes = unsafe { Bytes::from_controller(Box::new(Kept(data)), len) };
    FlexTensor::new(bytes, Layout::contiguous(Shape::from(shape)), DType::F32)
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
