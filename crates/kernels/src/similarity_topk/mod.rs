//! The most similar rows of a bank, for k-nearest neighbours.
//!
//! ```
//! use burn::tensor::{Device, Tensor, TensorData};
//! use ocelli_kernels::similarity_topk;
//!
//! let device = Device::flex();
//! let bank = Tensor::<2>::from_data(TensorData::new(vec![1.0f32, 0.0, 0.0, 1.0, 0.6, 0.8], [3, 2]), &device);
//! let query = Tensor::<2>::from_data(TensorData::new(vec![0.0f32, 1.0], [1, 2]), &device);
//! let (_, rows) = similarity_topk(query, bank, 2, 64);
//! assert_eq!(rows.into_data().iter::<i64>().collect::<Vec<_>>(), [1, 2]);
//! ```

mod cpu;
#[cfg(feature = "wgsl")]
mod gpu;
mod reference;

use burn::backend::{
    Backend, Dispatch, backend_extension,
    tensor::{FloatTensor, IntTensor},
};
#[cfg(feature = "fusion")]
use burn::tensor::{DType, Shape};
use burn::tensor::{Int, Tensor};

#[cfg(feature = "fusion")]
use crate::mode::spec;
use crate::mode::{fused, on_gpu};

pub use ocelli_simd::nearest::{Nearest, Ranked};
pub use reference::similarity_topk as similarity_topk_reference;

/// Largest k of the kernel for GPUs.
pub const MAX_K: usize = 256;

/// What a device implements. Shapes as in [`similarity_topk`].
#[backend_extension(Flex, Cube: cfg(feature = "wgsl"), Fusion: cfg(feature = "fusion"))]
pub trait SimilarityTopkKernel: Backend {
    /// Similarities and indices.
    #[fusion(meta = |queries, _bank, k, _tile| (
        spec(queries, [queries.shape[0], *k]),
        burn::backend::fusion::custom::TensorSpec::new(Shape::from([queries.shape[0], *k]), DType::I32),
    ))]
    fn similarity_topk_forward(
        queries: FloatTensor<Self>,
        bank: FloatTensor<Self>,
        k: usize,
        tile: usize,
    ) -> (FloatTensor<Self>, IntTensor<Self>);
}

/// The `k` rows of `bank [n, dim]` with the largest dot product with each row of `queries [rows, dim]` — for rows of unit
/// length, the cosine similarity: similarities and indices, `[rows, k]` each, best first, equal similarities in the order of the
/// bank; outside autodiff. Of the similarities, `[rows, tile]` at most are in memory at a time.
///
/// `k` is from 1 to n. On a GPU, a place for which there was no similarity above the lowest number has index −1 (NaN is never
/// among the best); elsewhere NaN comes first.
pub fn similarity_topk(queries: Tensor<2>, bank: Tensor<2>, k: usize, tile: usize) -> (Tensor<2>, Tensor<2, Int>) {
    let ([rows, dim], [n, depth]) = (queries.dims(), bank.dims());
    assert!(dim == depth, "similarity_topk: queries have {dim} numbers, rows of the bank {depth}");
    assert!((1..=n).contains(&k) && tile > 0, "similarity_topk: k = {k} of {n} rows, tiles of {tile}");
    let (queries, bank) = (queries.inner(), bank.inner());
    let fits = !on_gpu(&queries) || k <= MAX_K;
    if !fused(&queries) || rows * dim == 0 || !fits {
        return reference::similarity_topk(&queries, &bank, k, tile);
    }
    let (similarities, indices) = <Dispatch as SimilarityTopkKernel>::similarity_topk_forward(
        queries.into_dispatch(),
        bank.into_dispatch(),
        k,
        tile,
    );
    (Tensor::from_dispatch(similarities), Tensor::from_dispatch(indices))
}
