//! Every kernel against its reference, on the device at hand: what `ocelli devices --selftest` runs on a card that nobody has
//! tested.
//!
//! The reference is computed in double precision on the CPU. Shapes are those of networks in small, and some that divide by
//! nothing.
//!
//! ```
//! use burn::tensor::Device;
//! use ocelli_kernels::selftest;
//!
//! let device = Device::flex();
//! let case = selftest::cases(&device).into_iter().find(|case| case.kernel == "gelu").ok_or("no such case")?;
//! for difference in case.compare(&device) {
//!     assert!(difference.largest <= difference.tolerance, "{}: {:e}", difference.part, difference.largest);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod losses;
mod maps;
mod optimizer;
mod transformer;

use burn::tensor::{DType, Device, Gradients, Tensor, TensorData};

use crate::choice::compare;
use crate::mode::on_gpu;

/// What is allowed of sums of products: f32 rounds each, and every device adds in an order of its own.
const PRODUCTS: f64 = 5e-6;
/// What is allowed where roots, quotients or exponentials are taken: WGSL lets a device round those by several units.
const FUNCTIONS: f64 = 2e-5;

/// Whose operation runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// This crate's kernel.
    Kernel,
    /// The same in plain tensor operations: burn's own kernels.
    Reference,
}

/// Where the numbers of a case lie.
#[derive(Debug, Clone)]
pub struct Place {
    device: Device,
    dtype: DType,
}

impl Place {
    /// A device, in f32 and with a graph.
    pub fn on(device: &Device) -> Self {
        Self { device: device.clone().autodiff(), dtype: DType::F32 }
    }

    /// The CPU, in double precision and with a graph: where what is right is computed.
    pub fn exact() -> Self {
        Self { device: Device::flex().autodiff(), dtype: DType::F64 }
    }

    /// Whether it is where what is right is computed.
    pub fn is_exact(&self) -> bool {
        self.dtype == DType::F64
    }

    /// The device, with a graph.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The same [`numbers`] on every place.
    pub fn random<const D: usize>(&self, seed: u64, shape: [usize; D], scale: f32) -> Tensor<D> {
        self.tensor(numbers(seed, shape.iter().product(), scale), shape)
    }

    /// A tensor of numbers.
    pub fn tensor<const D: usize>(&self, numbers: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        let data = TensorData::new(numbers, shape).convert_dtype(self.dtype);
        Tensor::from_data(data, (&self.device, self.dtype))
    }
}

/// Repeatable numbers, roughly normal with standard deviation `scale`.
pub fn numbers(seed: u64, count: usize, scale: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    for _ in 0..16 {
        next();
    }
    (0..count).map(|_| (next() + next() + next() - 1.5) * 2.0 * scale).collect()
}

/// One result of a case.
struct Part {
    name: &'static str,
    /// Nothing where a gradient is missing.
    values: Option<Tensor<1>>,
    tolerance: f64,
}

/// The results of a case, all of them.
pub struct Parts {
    tolerance: f64,
    parts: Vec<Part>,
}

impl Parts {
    /// Of results that may be `tolerance` away from what is right, relative to the largest number of what is right.
    pub fn within(tolerance: f64) -> Self {
        Self { tolerance, parts: Vec::new() }
    }

    /// Adds a result.
    pub fn with<const D: usize>(mut self, name: &'static str, values: &Tensor<D>) -> Self {
        let values = Some(flat(values.clone()));
        self.parts.push(Part { name, values, tolerance: self.tolerance });
        self
    }

    /// Adds the gradient of `leaf`.
    fn gradient<const D: usize>(mut self, name: &'static str, leaf: &Tensor<D>, gradients: &Gradients) -> Self {
        self.parts.push(Part { name, values: leaf.grad(gradients).map(flat), tolerance: self.tolerance });
        self
    }
}

fn flat<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    let count: usize = x.dims().iter().product();
    x.inner().reshape([count])
}

/// A tensor whose gradient is asked for, or in inference none.
fn leaf<const D: usize>(x: &Tensor<D>, training: bool) -> Tensor<D> {
    if training { x.clone().detach().require_grad() } else { x.clone().inner() }
}

/// The gradients of a sum that depends on every number of `y` differently: by `dy`.
fn backward<const D: usize>(y: &Tensor<D>, dy: &Tensor<D>) -> Gradients {
    (y.clone() * dy.clone()).sum().backward()
}

/// How far a result is from what is right.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Which result: `y`, or the gradient of what.
    pub part: &'static str,
    /// The largest difference by the largest number of what is right. Infinite where a result is missing, has another number of
    /// values, or is no number.
    pub largest: f64,
    /// What it may be.
    pub tolerance: f64,
}

impl Difference {
    /// Whether it is within what it may be.
    pub fn is_small(&self) -> bool {
        self.largest <= self.tolerance
    }

    fn of(got: &Part, want: &Part) -> Self {
        let list = |part: &Part| {
            let values = part.values.clone()?;
            values.into_data().convert::<f64>().try_to_vec::<f64>().ok()
        };
        let largest = match (list(got), list(want)) {
            (Some(got), Some(want)) if got.len() == want.len() => apart(&got, &want),
            _ => f64::INFINITY,
        };
        Self { part: got.name, largest, tolerance: got.tolerance }
    }
}

/// The largest difference, relative to the largest number of `want`.
fn apart(got: &[f64], want: &[f64]) -> f64 {
    let largest = |numbers: &mut dyn Iterator<Item = f64>| {
        numbers.fold(0.0f64, |most, x| if x.is_finite() { most.max(x.abs()) } else { f64::INFINITY })
    };
    match largest(&mut want.iter().copied()) {
        0.0 => largest(&mut got.iter().copied()),
        scale => largest(&mut got.iter().zip(want).map(|(g, w)| g - w)) / scale,
    }
}

/// Seconds of one run, medians.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Times {
    /// This crate's kernel.
    pub ours_s: f64,
    /// burn's own.
    pub stock_s: f64,
}

type Work = Box<dyn Fn(Side) -> Parts>;

/// A kernel at one shape.
pub struct Case {
    /// The operation.
    pub kernel: &'static str,
    /// Sizes in words.
    pub shape: String,
    /// Makes the inputs where they are needed, and gives what is then run.
    prepare: Box<dyn Fn(&Place) -> Work>,
}

impl Case {
    /// A case whose inputs `prepare` makes on a place; what it gives runs either side on them.
    pub fn new(
        kernel: &'static str,
        shape: impl Into<String>,
        prepare: impl Fn(&Place) -> Box<dyn Fn(Side) -> Parts> + 'static,
    ) -> Self {
        Self { kernel, shape: shape.into(), prepare: Box::new(prepare) }
    }

    /// Every result of the kernel on a device beside what is right.
    ///
    /// # Panics
    /// When the device fails, as tensors do that are read then.
    pub fn compare(&self, device: &Device) -> Vec<Difference> {
        let got = (self.prepare)(&Place::on(device))(Side::Kernel).parts;
        let want = (self.prepare)(&Place::exact())(Side::Reference).parts;
        got.iter().zip(&want).map(|(got, want)| Difference::of(got, want)).collect()
    }

    /// Seconds that kernel and reference take on a device, in turns. The first run of each, which compiles, does not count.
    ///
    /// # Panics
    /// When the device fails.
    pub fn time(&self, device: &Device) -> Times {
        let work = (self.prepare)(&Place::on(device));
        let measured = compare(|ours| timed(&work, if ours { Side::Kernel } else { Side::Reference }, device));
        Times { ours_s: measured.ours_s, stock_s: measured.stock_s }
    }

    /// Seconds that the kernel takes on a device; burn's own may take minutes until it has chosen among its kernels.
    ///
    /// # Panics
    /// When the device fails.
    pub fn time_ours(&self, device: &Device) -> f64 {
        let work = (self.prepare)(&Place::on(device));
        compare(|ours| {
            if ours {
                timed(&work, Side::Kernel, device);
            }
        })
        .ours_s
    }
}

fn timed(work: &Work, side: Side, device: &Device) {
    let parts = work(side);
    // What fails is told by the comparison.
    let _ = device.sync();
    drop(parts);
}

/// Every operation that has a kernel on a device, at several shapes.
pub fn cases(device: &Device) -> Vec<Case> {
    let mut cases = transformer::cases();
    if on_gpu(&Tensor::<1>::empty([1], device)) {
        cases.extend(transformer::cases_of_gpus());
    }
    cases.extend(maps::cases());
    cases.extend(losses::cases());
    cases.extend(optimizer::cases());
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel that is right but for one number, or for all numbers in its gradient, or gives none.
    fn wrong(value: f32, slope: f32) -> Case {
        Case::new("wrong", "2×3", move |place| {
            let (x, dy) = (place.random::<2>(1, [2, 3], 1.0), place.random::<2>(2, [2, 3], 1.0));
            let shift = place.tensor(vec![0.0, 0.0, value, 0.0, 0.0, 0.0], [2, 3]);
            Box::new(move |side| {
                let x = leaf(&x, true);
                let y = match side {
                    Side::Kernel => x.clone() * slope + shift.clone() - x.clone().detach() * (slope - 1.0),
                    Side::Reference => x.clone(),
                };
                let gradients = backward(&y, &dy);
                Parts::within(1e-5).with("y", &y).gradient("dx", &x, &gradients)
            })
        })
    }

    #[test]
    fn a_wrong_kernel_is_found() {
        let found = |value, slope| -> Vec<bool> {
            wrong(value, slope).compare(&Device::flex()).iter().map(Difference::is_small).collect()
        };
        assert_eq!(found(0.0, 1.0), [true, true]);
        assert_eq!(found(1e-3, 1.0), [false, true], "one number");
        assert_eq!(found(0.0, 1.001), [true, false], "the gradient");
        assert_eq!(found(f32::NAN, 1.0), [false, true]);
        assert_eq!(found(f32::INFINITY, 1.0), [false, true]);
    }

    #[test]
    fn what_is_missing_is_no_result() {
        let part = |values: Option<Vec<f32>>| Part {
            name: "y",
            values: values.map(|v| Tensor::from_floats(v.as_slice(), &Device::flex())),
            tolerance: 1e-5,
        };
        let apart = |got, want| Difference::of(&part(got), &part(want)).largest;
        assert_eq!(apart(Some(vec![1.0, 2.0]), Some(vec![1.0, 4.0])), 0.5);
        assert_eq!(apart(None, Some(vec![1.0])), f64::INFINITY);
        assert_eq!(apart(Some(vec![1.0]), Some(vec![1.0, 1.0])), f64::INFINITY);
        // Where nothing but zeros is right there is nothing to be relative to.
        assert_eq!(apart(Some(vec![1e-3]), Some(vec![0.0])), f64::from(1e-3f32));
    }

    #[test]
    fn both_sides_have_a_time() {
        let case = wrong(0.0, 1.0);
        let Times { ours_s, stock_s } = case.time(&Device::flex());
        assert!(ours_s > 0.0 && stock_s > 0.0 && case.time_ours(&Device::flex()) > 0.0);
    }
}
