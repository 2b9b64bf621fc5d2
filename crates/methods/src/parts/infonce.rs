//! InfoNCE against a queue, over the operation of `ocelli-kernels`.

use burn::tensor::Tensor;

pub use ocelli_kernels::info_nce::{InfoNce, info_nce, info_nce_reference};

/// Rows divided by max(‖row‖, 1e-12), `[rows, dim]`.
pub fn unit(rows: Tensor<2>) -> Tensor<2> {
    // Clamped before the root, whose slope at 0 is infinite: a row of zeros then has a gradient of zero, not NaN.
    let norm = rows.clone().powi_scalar(2).sum_dim(1).clamp_min(1e-24).sqrt();
    rows / norm
}
