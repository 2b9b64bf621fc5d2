//! Features of unit length where they lie: in a file that is mapped into memory, or in a buffer.

use std::ops::Range;

/// Partial sums of a dot product. They do not depend on each other, so the compiler keeps them in vectors.
const LANES: usize = 16;

/// Rows `[len, dim]` of little-endian f32.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    values: &'a [[u8; 4]],
    dim: usize,
}

impl<'a> Rows<'a> {
    /// Rows of `dim` numbers; bytes behind the last whole row are left out. A `dim` of 0 has no rows.
    pub fn new(bytes: &'a [u8], dim: usize) -> Self {
        let values = bytes.as_chunks::<4>().0;
        let len = values.len().checked_div(dim).unwrap_or(0);
        Self { values: &values[..len * dim], dim }
    }

    /// Number of rows.
    pub fn len(self) -> usize {
        self.values.len().checked_div(self.dim).unwrap_or(0)
    }

    /// True without rows.
    pub fn is_empty(self) -> bool {
        self.values.is_empty()
    }

    /// Numbers in a row.
    pub fn dim(self) -> usize {
        self.dim
    }

    /// Copies rows, row-major. The range is cut off at the last row.
    pub fn to_vec(self, rows: Range<usize>) -> Vec<f32> {
        let end = rows.end.min(self.len());
        let values = &self.values[rows.start.min(end) * self.dim..end * self.dim];
        values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    /// The bytes of rows as they lie. The range is cut off at the last row.
    pub fn bytes(self, rows: Range<usize>) -> &'a [u8] {
        let end = rows.end.min(self.len());
        self.values[rows.start.min(end) * self.dim..end * self.dim].as_flattened()
    }

    /// Dot product of a row below [`Rows::len`] and `query`, `[dim]`: their cosine where both have unit length.
    pub fn dot(self, row: usize, query: &[f32]) -> f32 {
        let values = &self.values[row * self.dim..][..self.dim];
        let (chunks, rest) = values.as_chunks::<LANES>();
        let (query_chunks, query_rest) = query.as_chunks::<LANES>();
        let mut sums = [0.0f32; LANES];
        for (values, query) in chunks.iter().zip(query_chunks) {
            for ((sum, value), query) in sums.iter_mut().zip(values).zip(query) {
                *sum += f32::from_le_bytes(*value) * query;
            }
        }
        let rest = rest.iter().zip(query_rest).map(|(value, query)| f32::from_le_bytes(*value) * query);
        sums.iter().sum::<f32>() + rest.sum::<f32>()
    }
}

/// Divides a row by its L2 norm, summed in f64. False, and nothing done, where it has none: zeros, NaN, infinity.
pub fn normalise(row: &mut [f32]) -> bool {
    let norm = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let usable = norm.is_finite() && norm > 0.0;
    if usable {
        row.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
    }
    usable
}
