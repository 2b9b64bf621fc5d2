//! Numbers to test with, and comparisons.

use burn::tensor::{DType, Device, Tensor, TensorData};
pub use ocelli_kernels::selftest::numbers;

/// The CPU, with a graph: where references are computed.
pub fn cpu() -> Device {
    Device::flex().autodiff()
}

/// The device under test, with a graph: `OCELLI_TEST_DEVICE` (cpu, gpu, gpu:N), else the CPU. With
/// `OCELLI_TEST_FAMILY=hardware` a software adapter runs the kernels for hardware, slowly; with `plain` those for software
/// adapters without anything optional, as in a browser.
pub fn device() -> Device {
    let name = std::env::var("OCELLI_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    let device = ocelli_train::device::open(name.parse().unwrap()).unwrap().device.autodiff();
    #[cfg(feature = "gpu")]
    {
        use ocelli_kernels::gpu::{Caps, Family, set_caps};
        crate::shaders::watch_settings();
        match std::env::var("OCELLI_TEST_FAMILY").as_deref() {
            Ok("hardware") => set_caps(Caps::plain(Family::Hardware)),
            Ok("plain") => set_caps(Caps::plain(Family::Software)),
            _ => {}
        }
    }
    device
}

/// A tensor of [`numbers`].
pub fn random<const D: usize>(seed: u64, shape: [usize; D], scale: f32) -> Tensor<D> {
    let count = shape.iter().product();
    Tensor::from_data(TensorData::new(numbers(seed, count, scale), shape), &device())
}

/// The same numbers in double precision, as a new leaf.
pub fn double<const D: usize>(x: &Tensor<D>) -> Tensor<D> {
    Tensor::from_data(x.to_data().convert::<f64>(), (&cpu(), DType::F64))
}

/// The numbers of a tensor of either precision.
pub fn list<const D: usize>(x: &Tensor<D>) -> Vec<f64> {
    let numbers = x.to_data().convert::<f64>().try_to_vec().unwrap();
    #[cfg(feature = "gpu")]
    crate::shaders::assert_listed();
    numbers
}

/// The largest of some numbers, by size.
fn largest(numbers: &[f64]) -> f64 {
    numbers.iter().fold(0.0, |most, x| most.max(x.abs()))
}

/// Asserts that two tensors agree within `tolerance` times the largest expected number of this tensor, however small that is.
pub fn close<const D: usize>(what: &str, got: &Tensor<D>, want: &Tensor<D>, tolerance: f64) {
    assert_eq!(got.dims(), want.dims(), "{what}: shapes");
    agree(what, &list(got), &list(want), tolerance);
}

/// As [`close`], of numbers. Where nothing but zeros is expected there is nothing to be relative to: see [`close_or_zero`].
pub fn agree(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    let largest = largest(want);
    assert!(largest > 0.0 || want.is_empty(), "{what}: nothing but zeros is expected");
    within(what, got, want, tolerance * largest);
}

/// As [`close`], of what may be nothing but zeros because numbers of size `terms` cancel in it: `tolerance` is relative to them then.
pub fn close_or_zero<const D: usize>(what: &str, got: &Tensor<D>, want: &Tensor<D>, tolerance: f64, terms: f64) {
    assert_eq!(got.dims(), want.dims(), "{what}: shapes");
    let (got, want) = (list(got), list(want));
    // What is left of the reference in double precision when all of it cancels.
    let none = largest(&want) < 1e-14 * terms;
    within(what, &got, &want, tolerance * if none { terms } else { largest(&want) });
}

fn within(what: &str, got: &[f64], want: &[f64], bound: f64) {
    assert_eq!(got.len(), want.len(), "{what}: number of values");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let apart = (g - w).abs();
        assert!(apart <= bound, "{what}: at {i} {g}, expected {w}: {apart:.2e} apart, {bound:.2e} at most");
    }
}

/// Asserts that every number is finite.
pub fn finite<const D: usize>(what: &str, x: &Tensor<D>) {
    assert!(list(x).iter().all(|x| x.is_finite()), "{what}: not finite");
}

/// A scalar that depends on every number of `y` differently.
pub fn weigh<const D: usize>(y: Tensor<D>) -> Tensor<1> {
    let shape = y.dims();
    let weights = random(99, shape, 1.0);
    let weights = if y.dtype() == DType::F64 { double(&weights) } else { weights.to_device(&y.device()) };
    (y * weights).sum()
}

/// Runs `work` with one and with four threads and asserts equal bits.
pub fn same_bits(what: &str, work: impl Fn() -> Vec<Vec<f32>> + Sync + Send) {
    let on = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&work);
    let (one, four) = (on(1), on(4));
    for (part, (a, b)) in one.iter().zip(&four).enumerate() {
        let equal = a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits());
        assert!(equal, "{what}: part {part} differs between one and four threads");
    }
}

/// The numbers of an `f32` tensor.
pub fn bits<const D: usize>(x: &Tensor<D>) -> Vec<f32> {
    let numbers = x.to_data().try_to_vec().unwrap();
    #[cfg(feature = "gpu")]
    crate::shaders::assert_listed();
    numbers
}

/// Asserts that the gradient of `weigh(f(x))` at a few numbers of `x` agrees with central differences, in double
/// precision.
pub fn differences<const D: usize, const E: usize>(what: &str, x: &Tensor<D>, f: impl Fn(Tensor<D>) -> Tensor<E>) {
    let x = double(x);
    let leaf = x.clone().require_grad();
    let grads = weigh(f(leaf.clone())).backward();
    let gradient = list(&leaf.grad(&grads).unwrap());
    let (at, most) = (list(&x), largest(&gradient));
    let step = 1e-5;
    for i in (0..at.len()).step_by((at.len() / 12).max(1)) {
        let value = |shift: f64| {
            let mut moved = at.clone();
            moved[i] += shift;
            let moved = TensorData::new(moved, x.dims());
            list(&weigh(f(Tensor::from_data(moved, (&cpu(), DType::F64)))))[0]
        };
        let slope = (value(step) - value(-step)) / (2.0 * step);
        assert!(
            (slope - gradient[i]).abs() < 1e-6 * most,
            "{what}: at {i} {}, differences give {slope}",
            gradient[i]
        );
    }
}
