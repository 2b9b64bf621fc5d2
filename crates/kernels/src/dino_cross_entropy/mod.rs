//! The DINO loss: cross-entropy between sharpened, centred teacher outputs and student outputs of all other views.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use ocelli_kernels::dino_cross_entropy;
//!
//! // Of three prototypes none is preferred, by student or teacher: ln 3.
//! let device = Device::flex();
//! let (student, teacher) = (Tensor::<2>::zeros([4, 3], &device), Tensor::<2>::zeros([4, 3], &device));
//! let loss = dino_cross_entropy(student, teacher, Tensor::zeros([1, 3], &device), 0.1, 0.04, 2);
//! assert!((loss.into_scalar::<f32>() - 3.0f32.ln()).abs() < 1e-5);
//! ```

#[cfg(feature = "autodiff")]
mod backward;
mod cpu;
#[cfg(feature = "wgsl")]
mod gpu;
mod reference;

use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
#[cfg(feature = "fusion")]
use burn::tensor::Shape;
use burn::tensor::Tensor;

use crate::mode::fused;
#[cfg(feature = "fusion")]
use crate::mode::spec;

pub use reference::dino_cross_entropy as dino_cross_entropy_reference;

/// What a device implements. Shapes and meaning as in [`dino_cross_entropy`].
#[backend_extension(Flex, Cube: cfg(feature = "wgsl"), Fusion: cfg(feature = "fusion"))]
pub trait DinoCrossEntropyKernel: Backend {
    /// The loss `[1]`.
    #[fusion(dtype = student, shape = Shape::from([1]))]
    fn dino_cross_entropy_loss(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        centre: FloatTensor<Self>,
        student_temp: f32,
        teacher_temp: f32,
        views: usize,
    ) -> FloatTensor<Self>;

    /// The loss and its gradient `[views·batch, K]` with respect to the student.
    #[fusion(meta = |student, _teacher, _centre, _student_temp, _teacher_temp, _views| (spec(student, [1]), student.clone()))]
    fn dino_cross_entropy_with_grad(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        centre: FloatTensor<Self>,
        student_temp: f32,
        teacher_temp: f32,
        views: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The saved gradient times the gradient `[1]` of the loss.
    #[fusion(dtype = grad, shape = grad)]
    fn dino_cross_entropy_backward(grad: FloatTensor<Self>, dloss: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// The differentiable operation.
#[backend_extension(Autodiff: cfg(feature = "autodiff"), Flex, Cube: cfg(feature = "wgsl"), Fusion: cfg(feature = "fusion"))]
pub trait DinoCrossEntropyOps: Backend {
    /// See [`dino_cross_entropy`](super::dino_cross_entropy()).
    #[fusion(dtype = student, shape = Shape::from([1]))]
    fn fused_dino_cross_entropy(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        centre: FloatTensor<Self>,
        student_temp: f32,
        teacher_temp: f32,
        views: usize,
    ) -> FloatTensor<Self>;
}

/// `1/(2(views−1)) Σ_{i∈{0,1}} Σ_{v≠i} mean_b(−Σ_k softmax((t_i − centre)/teacher_temp)_k · log_softmax(s_v/student_temp)_k)`.
///
/// `student` is `[views·batch, K]`, `teacher` `[2·batch, K]`, `centre` `[1, K]`; row `v·batch + b` is view `v` of image
/// `b`. The result is `[1]`. Only the student gets a gradient.
pub fn dino_cross_entropy(
    student: Tensor<2>,
    teacher: Tensor<2>,
    centre: Tensor<2>,
    student_temp: f32,
    teacher_temp: f32,
    views: usize,
) -> Tensor<1> {
    let ([rows, k], [teacher_rows, teacher_k]) = (student.dims(), teacher.dims());
    assert!(
        views >= 2 && rows % views == 0 && teacher_rows * views == rows * 2,
        "dino_cross_entropy: {views} views, {rows} student rows, {teacher_rows} teacher rows"
    );
    assert!(
        teacher_k == k && centre.dims() == [1, k],
        "dino_cross_entropy: {k} outputs, teacher {teacher_k}, centre {:?}",
        centre.dims()
    );
    if !fused(&student) || rows * k == 0 {
        return reference::dino_cross_entropy(student, teacher, centre, student_temp, teacher_temp, views);
    }
    Tensor::from_dispatch(<Dispatch as DinoCrossEntropyOps>::fused_dino_cross_entropy(
        student.into_dispatch(),
        teacher.into_dispatch(),
        centre.into_dispatch(),
        student_temp,
        teacher_temp,
        views,
    ))
}
