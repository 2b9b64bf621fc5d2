//! Which implementation runs.

use std::sync::atomic::{AtomicBool, Ordering};

use burn::backend::DispatchTensorKind;
use burn::tensor::{DType, Tensor};

static REFERENCE: AtomicBool = AtomicBool::new(false);

/// How operations are computed, for the whole process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The fused kernel where the device and the precision have one, else the reference.
    Auto,
    /// Plain tensor operations everywhere.
    Reference,
}

/// Chooses between fused kernels and plain tensor operations, for comparisons.
pub fn set_mode(mode: Mode) {
    REFERENCE.store(mode == Mode::Reference, Ordering::Relaxed);
}

/// The current choice.
pub fn mode() -> Mode {
    if REFERENCE.load(Ordering::Relaxed) { Mode::Reference } else { Mode::Auto }
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
    mode() == Mode::Auto && tensor.dtype() == DType::F32 && known(&tensor.clone().into_dispatch().kind)
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
