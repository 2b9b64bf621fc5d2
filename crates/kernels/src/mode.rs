//! Which implementation runs.

use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

use burn::backend::DispatchTensorKind;
use burn::tensor::{DType, Tensor};

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

/// Whether the fused kernels apply: `f32` on the CPU backend or on a GPU through WGSL, with or without autodiff.
pub(crate) fn fused<const D: usize>(tensor: &Tensor<D>) -> bool {
    fn known(kind: &DispatchTensorKind) -> bool {
        match kind {
            DispatchTensorKind::Flex(_) => true,
            #[cfg(feature = "gpu")]
            DispatchTensorKind::Cube(_) => true,
            DispatchTensorKind::Autodiff(inner) => known(inner),
            #[allow(unreachable_patterns)] // Other backends are there only with their features.
            _ => false,
        }
    }
    mode() != Mode::Stock && tensor.dtype() == DType::F32 && known(&tensor.clone().into_dispatch().kind)
}

/// Whether a tensor lies on a GPU.
pub(crate) fn on_gpu<const D: usize>(tensor: &Tensor<D>) -> bool {
    fn known(kind: &DispatchTensorKind) -> bool {
        match kind {
            #[cfg(feature = "gpu")]
            DispatchTensorKind::Cube(_) => true,
            DispatchTensorKind::Autodiff(inner) => known(inner),
            _ => false,
        }
    }
    known(&tensor.clone().into_dispatch().kind)
}

/// The description of a tensor like another, with another shape.
#[cfg(feature = "gpu")]
pub(crate) fn spec<const D: usize>(
    like: &burn::backend::fusion::custom::TensorSpec,
    shape: [usize; D],
) -> burn::backend::fusion::custom::TensorSpec {
    burn::backend::fusion::custom::TensorSpec::new(shape.into(), like.dtype)
}
