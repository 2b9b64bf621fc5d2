//! Which implementation runs.

use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

use burn::backend::DispatchTensorKind;
use burn::tensor::{DType, Device, Tensor};

use crate::choice::{self, Class};

static MODE: AtomicU8 = AtomicU8::new(0);

/// How operations are computed, for the whole process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The fastest: the kernels of this crate where the device and the precision have one, else burn's.
    Auto,
    /// The kernels of this crate, WGSL on a GPU, wherever there is one.
    Wgsl,
    /// burn's own operations everywhere.
    Stock,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "wgsl" => Ok(Self::Wgsl),
            "stock" => Ok(Self::Stock),
            _ => Err(format!("expected auto, wgsl or stock, found \"{name}\"")),
        }
    }
}

/// Chooses whose kernels run, at any time, so that they can be compared.
pub fn set_mode(mode: Mode) {
    MODE.store(mode as u8, Ordering::Relaxed);
}

/// The current choice.
pub fn mode() -> Mode {
    match MODE.load(Ordering::Relaxed) {
        1 => Mode::Wgsl,
        2 => Mode::Stock,
        _ => Mode::Auto,
    }
}

/// Where a tensor lies, as far as this crate's kernels care.
#[derive(PartialEq)]
enum Place {
    Cpu,
    #[cfg(feature = "wgsl")]
    Gpu,
    Elsewhere,
}

fn place(kind: &DispatchTensorKind) -> Place {
    match kind {
        DispatchTensorKind::Flex(_) => Place::Cpu,
        #[cfg(feature = "wgsl")]
        DispatchTensorKind::Cube(_) => Place::Gpu,
        #[cfg(feature = "autodiff")]
        DispatchTensorKind::Autodiff(inner) => place(inner),
        #[allow(unreachable_patterns)] // Other backends are there only with their features.
        _ => Place::Elsewhere,
    }
}

/// Whether the fused kernels apply: `f32` on the CPU backend or on a GPU through WGSL, with or without autodiff.
pub(crate) fn fused<const D: usize>(tensor: &Tensor<D>) -> bool {
    mode() != Mode::Stock
        && tensor.dtype() == DType::F32
        && place(&tensor.clone().into_dispatch().kind) != Place::Elsewhere
}

/// Whether this crate's kernel is the choice for an operation that burn has a way of its own for: on a GPU in
/// [`Mode::Auto`], the faster one. `rows` and `map` (inputs, outputs) say how large it is. `run` runs it on a device with
/// numbers of its own, with this crate's kernel or without.
pub(crate) fn preferred<const D: usize>(
    operation: &'static str,
    x: &Tensor<D>,
    rows: usize,
    map: [usize; 2],
    run: impl Fn(&Device, bool) -> Tensor<2>,
) -> bool {
    if mode() != Mode::Auto || !on_gpu(x) {
        return true;
    }
    let (device, training) = (x.device(), x.is_autodiff());
    let class = Class { operation, sizes: [rows.next_power_of_two(), map[0], map[1]], training };
    choice::ours(class, || {
        choice::compare(|ours| {
            let y = run(&device, ours);
            #[cfg(feature = "autodiff")]
            if training {
                let _ = y.sum().backward();
            }
            #[cfg(not(feature = "autodiff"))]
            let _ = y;
            let _ = device.sync();
        })
    })
}

/// Numbers to measure with, that have a gradient where the device keeps a graph.
pub(crate) fn leaf<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let ones = Tensor::ones(shape, device);
    if ones.is_autodiff() { ones.require_grad() } else { ones }
}

/// Whether an operation on this tensor is one of this crate's kernels in WGSL.
pub fn in_wgsl<const D: usize>(tensor: &Tensor<D>) -> bool {
    fused(tensor) && on_gpu(tensor)
}

/// Whether a tensor lies on a GPU.
#[cfg(feature = "wgsl")]
pub(crate) fn on_gpu<const D: usize>(tensor: &Tensor<D>) -> bool {
    place(&tensor.clone().into_dispatch().kind) == Place::Gpu
}

/// Without the feature there is none.
#[cfg(not(feature = "wgsl"))]
pub(crate) fn on_gpu<const D: usize>(_: &Tensor<D>) -> bool {
    false
}

/// The description of a tensor like another, with another shape.
#[cfg(feature = "fusion")]
pub(crate) fn spec<const D: usize>(
    like: &burn::backend::fusion::custom::TensorSpec,
    shape: [usize; D],
) -> burn::backend::fusion::custom::TensorSpec {
    burn::backend::fusion::custom::TensorSpec::new(shape.into(), like.dtype)
}
