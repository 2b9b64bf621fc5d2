//! A tensor in a file: what is known of it without reading its values.

use std::ops::Range;

use crate::dtype::Dtype;
use crate::q8;

/// A tensor in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path, dots between the parts.
    pub name: String,
    /// Element type in the file.
    pub dtype: Dtype,
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    /// Elements from one index to the next, per axis; `None` for row-major.
    pub(crate) stride: Option<Vec<usize>>,
    /// First element in the storage.
    pub(crate) first: usize,
    /// Which of the files it is in.
    pub(crate) file: usize,
    /// The storage in the file, bytes. Several tensors may share one.
    pub(crate) range: Range<usize>,
    /// Of int8 values that stand for others, the scales of their rows: bytes in the same file.
    pub(crate) scale: Option<Range<usize>>,
}

impl Entry {
    /// Number of elements.
    pub fn len(&self) -> usize {
        num_elements(&self.shape).unwrap_or(0)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether [`crate::Weights::values`] turns it into f32: floating-point numbers, and int8 with scales.
    pub fn is_float(&self) -> bool {
        self.dtype.is_float() || self.scale.is_some()
    }

    /// Bytes of its storage in the file.
    pub fn storage_bytes(&self) -> usize {
        self.range.len()
    }

    /// f32 values, row-major, out of the whole file.
    pub(crate) fn decode(&self, file: &[u8]) -> Option<Vec<f32>> {
        if let Some(scale) = &self.scale {
            return q8::decode(file, self.range.clone(), scale.clone());
        }
        let storage = file.get(self.range.clone())?;
        let (size, count) = (self.dtype.size(), self.len());
        match &self.stride {
            None => {
                let start = self.first.checked_mul(size)?;
                let bytes = storage.get(start..start.checked_add(count.checked_mul(size)?)?)?;
                self.dtype.decode(bytes, (0..count).map(|i| i * size))
            }
            Some(stride) => {
                let positions = Positions {
                    at: self.first,
                    left: count,
                    index: vec![0; self.shape.len()],
                    shape: &self.shape,
                    stride,
                };
                self.dtype.decode(storage, positions.map(|at| at * size))
            }
        }
    }
}

/// Product of the sizes; `None` where it does not fit.
pub fn num_elements(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |n, size| n.checked_mul(*size))
}

/// Element positions of a strided view in row-major order.
struct Positions<'a> {
    at: usize,
    left: usize,
    index: Vec<usize>,
    shape: &'a [usize],
    stride: &'a [usize],
}

impl Iterator for Positions<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let at = self.at;
        for axis in (0..self.shape.len()).rev() {
            self.index[axis] += 1;
            self.at = self.at.wrapping_add(self.stride[axis]);
            if self.index[axis] < self.shape[axis] {
                break;
            }
            self.index[axis] = 0;
            self.at = self.at.wrapping_sub(self.shape[axis].wrapping_mul(self.stride[axis]));
        }
        Some(at)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Positions<'_> {}
