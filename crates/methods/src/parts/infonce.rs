//! InfoNCE against a queue, over the operation of `ocelli-kernels`.

use burn::tensor::Tensor;

pub use ocelli_kernels::info_nce::{InfoNce, info_nce, info_nce_reference};

/// Rows divided by max(‖row‖, 1e-12), `[rows, dim]`.
pub fn unit(rows: Tensor<2>) -> Tensor<2> {
    // Clamped before the root, whose gradient at 0 is infinite: a ReLU may leave a row of zeros.
    let norm = rows.clone().powi_scalar(2).sum_dim(1).clamp_min(1e-24).sqrt();
    rows / norm
}
