//! AdamW in plain tensor operations.

use burn::tensor::Tensor;

use super::AdamWStep;

/// See [`adamw`](super::adamw()); on any device, in any precision.
pub fn adamw(p: Tensor<1>, g: Tensor<1>, moments: Tensor<2>, step: AdamWStep) -> (Tensor<1>, Tensor<2>) {
    let g = clip(g, step.clip);
    let first = moments.clone().narrow(0, 0, 1).squeeze_dim::<1>(0);
    let second = moments.narrow(0, 1, 1).squeeze_dim::<1>(0);
    let first = first * step.beta1 + g.clone() * (1.0 - step.beta1);
    let second = second * step.beta2 + g.powi_scalar(2) * (1.0 - step.beta2);
    let denominator = second.clone().sqrt() * step.unbias() + step.epsilon;
    let p = p * step.keep - first.clone() / denominator * step.rate();
    (p, Tensor::stack(vec![first, second], 0))
}

/// See [`adamw_ema`](super::adamw_ema()); on any device, in any precision.
pub fn adamw_ema(
    p: Tensor<1>,
    g: Tensor<1>,
    moments: Tensor<2>,
    follower: Tensor<1>,
    momentum: f64,
    step: AdamWStep,
) -> (Tensor<1>, Tensor<2>, Tensor<1>) {
    let (p, moments) = adamw(p, g, moments, step);
    let follower = follower * momentum + p.clone() * (1.0 - momentum);
    (p, moments, follower)
}

/// On the device: nothing is read back.
fn clip(gradient: Tensor<1>, limit: f64) -> Tensor<1> {
    if limit <= 0.0 {
        return gradient;
    }
    let norm = gradient.clone().powi_scalar(2).sum().sqrt();
    let factor = ((norm + 1e-6).recip() * limit).clamp_max(1.0);
    gradient * factor
}
