//! GELU in plain tensor operations.

use burn::tensor::Tensor;

/// See [`gelu`](super::gelu); on any device, in any precision.
pub fn gelu(x: Tensor<2>) -> Tensor<2> {
    let gate = (x.clone() * core::f64::consts::FRAC_1_SQRT_2).erf() + 1.0;
    x * gate * 0.5
}
