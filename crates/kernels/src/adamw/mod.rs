//! One optimizer step over a flat parameter.
//!
//! ```
//! use burn::tensor::{Device, Tensor, TensorData};
//! use ocelli_kernels::{AdamWStep, adamw};
//!
//! let device = Device::flex();
//! let one = |value: f32| Tensor::<1>::from_data(TensorData::new(vec![value], [1]), &device);
//! let step = AdamWStep { clip: 0.0, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, keep: 1.0, lr: 0.1, step: 1 };
//! let (parameter, _) = adamw(one(1.0), one(0.5), Tensor::zeros([2, 1], &device), step);
//! // The first step is as long as the learning rate, whatever the gradient's size.
//! assert!((parameter.into_scalar::<f32>() - 0.9).abs() < 1e-5);
//! ```

mod cpu;
#[cfg(feature = "wgsl")]
mod gpu;
mod reference;

use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

use crate::mode::fused;

pub use ocelli_simd::adamw::AdamWStep;
pub use reference::{adamw as adamw_reference, adamw_ema as adamw_ema_reference};

/// What a device implements. Shapes and meaning as in [`adamw`].
#[backend_extension(Flex, Cube: cfg(feature = "wgsl"), Fusion: cfg(feature = "fusion"))]
pub trait AdamWKernel: Backend {
    /// The new parameter and moments.
    #[fusion(meta = |p, _g, moments, _step| (p.clone(), moments.clone()))]
    fn adamw_step(
        p: FloatTensor<Self>,
        g: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        step: AdamWStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The new parameter, moments and follower.
    #[fusion(meta = |p, _g, moments, follower, _momentum, _step| (p.clone(), moments.clone(), follower.clone()))]
    fn adamw_ema_step(
        p: FloatTensor<Self>,
        g: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        follower: FloatTensor<Self>,
        momentum: f64,
        step: AdamWStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// Clips the gradient by its own norm, g·min(1, clip/(‖g‖ + 1e-6)), updates both moments and takes a step of AdamW with
/// decoupled decay (Loshchilov & Hutter 2019): `p·keep − lr·m̂/(√v̂ + ε)`.
///
/// `p` and `g` are `[n]`, `moments` `[2, n]`, first and second, all outside autodiff. Returns the new parameter and moments.
/// On a GPU they take the memory of the old ones, where nobody else holds those.
pub fn adamw(p: Tensor<1>, g: Tensor<1>, moments: Tensor<2>, step: AdamWStep) -> (Tensor<1>, Tensor<2>) {
    let [n] = p.dims();
    check(n, &g, &moments);
    if !fused(&p) || n == 0 {
        return reference::adamw(p, g, moments, step);
    }
    let (p, moments) =
        <Dispatch as AdamWKernel>::adamw_step(p.into_dispatch(), g.into_dispatch(), moments.into_dispatch(), step);
    (Tensor::from_dispatch(p), Tensor::from_dispatch(moments))
}

/// [`adamw`], and in the same pass the moving average that follows the parameter: `m·follower + (1 − m)·p` with the new `p`.
///
/// `follower` is `[n]`. Returns the new parameter, moments and follower.
pub fn adamw_ema(
    p: Tensor<1>,
    g: Tensor<1>,
    moments: Tensor<2>,
    follower: Tensor<1>,
    momentum: f64,
    step: AdamWStep,
) -> (Tensor<1>, Tensor<2>, Tensor<1>) {
    let [n] = p.dims();
    check(n, &g, &moments);
    assert!(follower.dims() == [n], "adamw: {n} parameters, {:?} that follow", follower.dims());
    if !fused(&p) || n == 0 {
        return reference::adamw_ema(p, g, moments, follower, momentum, step);
    }
    let (p, moments, follower) = <Dispatch as AdamWKernel>::adamw_ema_step(
        p.into_dispatch(),
        g.into_dispatch(),
        moments.into_dispatch(),
        follower.into_dispatch(),
        momentum,
        step,
    );
    (Tensor::from_dispatch(p), Tensor::from_dispatch(moments), Tensor::from_dispatch(follower))
}

fn check(n: usize, g: &Tensor<1>, moments: &Tensor<2>) {
    assert!(
        g.dims() == [n] && moments.dims() == [2, n],
        "adamw: {n} parameters, {:?} gradients, {:?} moments",
        g.dims(),
        moments.dims()
    );
}
