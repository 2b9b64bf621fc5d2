//! The DINO loss in WGSL: the log-sum-exp of every row, then loss and gradient in one pass over the logits.

use burn::backend::ops::FloatTensorOps;
use burn::backend::wgpu::{CubeBackend, CubeTensor};

use super::{DinoCrossEntropyKernel, DinoCrossEntropyOps};
use crate::gpu::{Launch, contiguous, count, empty, reshaped, size, software, sum_rows};

/// Log-sum-exp of every row of `(x − centre)·factor`: `[rows]`.
fn row_stats(x: &CubeTensor, centre: Option<&CubeTensor>, factor: f32) -> CubeTensor {
    let (rows, k) = (size(x, 0), size(x, 1));
    let lse = empty(x, [rows]);
    let vec = k.is_multiple_of(4);
    let shared = !software();
    let group = if shared { 256 } else { 4 };
    let mut buffers = vec![x, &lse];
    buffers.extend(centre);
    Launch {
        shader: "softmax_stats",
        settings: &[
            ("vec", vec.into()),
            ("centred", centre.is_some().into()),
            ("shared", shared.into()),
            ("group", group.into()),
        ],
        group,
        groups: (if shared { rows } else { rows.div_ceil(group) }, 1),
        buffers: &buffers,
        sizes: &[rows as u32, (if vec { k / 4 } else { k }) as u32, factor.to_bits(), 0],
    }
    .run();
    lse
}

/// The loss `[1]`, and the gradient if asked.
fn loss(
    inputs: [CubeTensor; 3],
    [student_temp, teacher_temp]: [f32; 2],
    views: usize,
    gradient: bool,
) -> (CubeTensor, Option<CubeTensor>) {
    let [student, teacher, centre] = inputs.map(contiguous);
    let (rows, k) = (size(&student, 0), size(&student, 1));
    let batch = rows / views;
    let (sharp, sharper) = (1.0 / student_temp, 1.0 / teacher_temp);
    let student_lse = row_stats(&student, None, sharp);
    let teacher_lse = row_stats(&teacher, Some(&centre), sharper);
    let vec = k.is_multiple_of(4);
    let width = if vec { k / 4 } else { k };
    // Hardware wants neighbours to read neighbours; there a span is as short as its partial sums allow.
    let span = if software() { 256 } else { 8 }.min(width);
    let spans = width.div_ceil(span);
    let partial = empty(&student, [spans, rows]);
    let grad = gradient.then(|| empty(&student, [rows, k]));
    let group = if software() { 8 } else { 64 };
    let weight = 1.0 / (2 * (views - 1) * batch) as f32;
    let mut buffers = vec![&student, &teacher, &centre, &student_lse, &teacher_lse, &partial];
    buffers.extend(&grad);
    Launch {
        shader: "dino_cross_entropy",
        settings: &[("vec", vec.into()), ("gradient", gradient.into()), ("group", group.into())],
        group,
        groups: ((rows * spans).div_ceil(group), 1),
        buffers: &buffers,
        sizes: &[
            rows as u32,
            batch as u32,
            width as u32,
            span as u32,
            sharp.to_bits(),
            sharper.to_bits(),
            weight.to_bits(),
            0,
        ],
    }
    .run();
    (sum_rows(&partial, count(&partial), 1), grad)
}

impl DinoCrossEntropyOps for CubeBackend {
    fn fused_dino_cross_entropy(
        student: CubeTensor,
        teacher: CubeTensor,
        centre: CubeTensor,
        student_temp: f32,
        teacher_temp: f32,
        views: usize,
    ) -> CubeTensor {
        Self::dino_cross_entropy_loss(student, teacher, centre, student_temp, teacher_temp, views)
    }
}

impl DinoCrossEntropyKernel for CubeBackend {
    fn dino_cross_entropy_loss(
        student: CubeTensor,
        teacher: CubeTensor,
        centre: CubeTensor,
        student_temp: f32,
        teacher_temp: f32,
        views: usize,
    ) -> CubeTensor {
        loss([student, teacher, centre], [student_temp, teacher_temp], views, false).0
    }

    fn dino_cross_entropy_with_grad(
        student: CubeTensor,
        teacher: CubeTensor,
        centre: CubeTensor,
        student_temp: f32,
        teacher_temp: f32,
        views: usize,
    ) -> (CubeTensor, CubeTensor) {
        let (loss, grad) = loss([student.clone(), teacher, centre], [student_temp, teacher_temp], views, true);
        (loss, grad.unwrap_or(student))
    }

    fn dino_cross_entropy_backward(grad: CubeTensor, dloss: CubeTensor) -> CubeTensor {
        Self::float_mul(grad, reshaped(contiguous(dloss), [1, 1]))
    }
}
