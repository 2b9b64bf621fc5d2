//! Views of packed pictures, rendered on a GPU straight into the batch. On the CPU they are the data loader's work.

mod gpu;
mod job;

use std::sync::Arc;

use burn::backend::{
    Backend, Dispatch, backend_extension,
    tensor::{FloatTensor, IntTensor},
};
#[cfg(feature = "fusion")]
use burn::tensor::{DType, Shape};
use burn::tensor::{Int, Tensor};

use crate::mode::on_gpu;
pub use job::{Axis, Box, Picture, Step, View, ViewJob};

/// What a GPU implements.
#[backend_extension(Cube, Fusion: cfg(feature = "fusion"))]
pub trait ViewsKernel: Backend {
    /// `[views, 3, side, side]`.
    #[fusion(meta = |_pixels, job| burn::backend::fusion::custom::TensorSpec::new(
        Shape::from([job.views(), 3, job.side(), job.side()]), DType::F32,
    ))]
    fn render_views(pixels: IntTensor<Self>, job: Arc<ViewJob>) -> FloatTensor<Self>;
}

/// Renders views of `pixels`, pictures as packed RGBA8, one number a pixel, one after the other: `[views, 3, side, side]`, each
/// level `(x/255 − mean)/deviation`. The same operations in the same order as on the CPU, rounded to 8 bits where those are.
///
/// # Panics
/// When `pixels` does not lie on a GPU.
pub fn views(pixels: Tensor<1, Int>, job: ViewJob) -> Tensor<4> {
    assert!(on_gpu_int(&pixels), "views: expected pictures on a GPU; on the CPU the loader renders");
    Tensor::from_dispatch(<Dispatch as ViewsKernel>::render_views(pixels.into_dispatch(), Arc::new(job)))
}

fn on_gpu_int(pixels: &Tensor<1, Int>) -> bool {
    on_gpu(&Tensor::<1>::empty([1], &pixels.device()))
}
