//! InfoNCE against a queue (van den Oord et al. 2018, He et al. 2020) without ever holding its logits.
//!
//! ```
//! use burn::tensor::{Device, Tensor, TensorData};
//! use ocelli_kernels::info_nce;
//!
//! let device = Device::flex();
//! let tensor = |values: [f32; 2], shape: [usize; 2]| {
//!     Tensor::<2>::from_data(TensorData::new(values.to_vec(), shape), &device)
//! };
//! let (query, key) = (tensor([1.0, 0.0], [1, 2]), tensor([1.0, 0.0], [1, 2]));
//! let queue = tensor([0.0, 1.0], [2, 1]);
//! let found = info_nce(query, key, &queue, 1.0, None);
//! // The logits are 1 and 0.
//! assert!((found.loss.into_scalar::<f32>() - (1.0f32 + (-1.0f32).exp()).ln()).abs() < 1e-6);
//! assert_eq!(found.top1.into_scalar::<f32>(), 1.0);
//! ```

#[cfg(feature = "wgsl")]
#[cfg(feature = "autodiff")]
mod backward;
#[cfg(feature = "wgsl")]
mod gpu;
#[cfg(feature = "wgsl")]
mod kernel;
mod reference;
mod tiled;

use burn::tensor::Tensor;

pub use reference::info_nce as info_nce_reference;

/// A loss over rows and how often the positive won.
pub struct InfoNce {
    /// Σ rows of weight · −log softmax at the positive, `[1]`; differentiable in the queries.
    pub loss: Tensor<1>,
    /// Weighted share of the rows whose positive is above every negative, `[1]`, outside autodiff.
    pub top1: Tensor<1>,
}

/// Cross-entropy of `[q·k, q·queue]/τ` with the positive as the class, summed over rows by `weights` (`[rows, 1]`;
/// absent: the mean). `query` and `key` are `[rows, dim]`, `queue` is `[dim, len]`; only the query gets a gradient.
///
/// Nothing of size rows × len is kept, in forward or backward: the queue goes by in tiles.
pub fn info_nce(
    query: Tensor<2>,
    key: Tensor<2>,
    queue: &Tensor<2>,
    temperature: f64,
    weights: Option<Tensor<2>>,
) -> InfoNce {
    let ([rows, dim], [depth, len]) = (query.dims(), queue.dims());
    assert!(
        key.dims() == [rows, dim] && depth == dim,
        "info_nce: queries {:?}, keys {:?}, queue {:?}",
        query.dims(),
        key.dims(),
        queue.dims()
    );
    if let Some(weights) = &weights {
        assert!(weights.dims() == [rows, 1], "info_nce: {rows} rows, weights {:?}", weights.dims());
    }
    #[cfg(feature = "wgsl")]
    if rows * dim * len > 0 && crate::mode::fused(&query) && crate::mode::on_gpu(&query) {
        return kernel::info_nce(query, key, queue.clone(), temperature, weights);
    }
    #[cfg(not(feature = "wgsl"))]
    let _ = len;
    tiled::info_nce(query, key, queue, temperature, weights)
}

/// A weight for every row: those given, or the mean's.
fn row_weights(weights: Option<Tensor<2>>, query: &Tensor<2>) -> Tensor<2> {
    let rows = query.dims()[0];
    weights.unwrap_or_else(|| Tensor::ones([rows, 1], &query.device().inner()) / rows as f64)
}
