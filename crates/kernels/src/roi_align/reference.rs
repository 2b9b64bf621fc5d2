//! ROIAlign in plain tensor operations: a box is a matrix for each axis.

use burn::tensor::{Tensor, TensorData};
use ocelli_simd::roi_align::{Axis, RoiPlan};

/// The weights of a box along an axis, `[cells of the map, outputs]`.
fn weights(axis: &Axis, roi: usize, like: &Tensor<4>) -> Tensor<2> {
    let mut matrix = vec![0.0f32; axis.cells * axis.outputs];
    axis.matrix(roi, [axis.outputs, 1], &mut matrix[axis.reach(roi).start * axis.outputs..]);
    let data = TensorData::new(matrix, [axis.cells, axis.outputs]).convert_dtype(like.dtype());
    Tensor::from_data(data, (&like.device(), like.dtype()))
}

/// See [`roi_align_reference`](super::roi_align_reference()).
pub(super) fn roi_align(features: &Tensor<4>, plan: &RoiPlan) -> Tensor<4> {
    let [_, channels, height, width] = features.dims();
    let (rows, cols) = (plan.y.outputs, plan.x.outputs);
    // Every image once: the gradient of each part taken would be as large as the whole.
    let mut images: Vec<Option<Tensor<2>>> = vec![None; plan.images];
    let parts = plan.image_of.iter().enumerate().map(|(roi, &image)| {
        let map = images[image]
            .get_or_insert_with(|| features.clone().narrow(0, image, 1).reshape([channels * height, width]));
        let across = map.clone().matmul(weights(&plan.x, roi, features));
        let across = across.reshape([channels, height, cols]).swap_dims(1, 2);
        let down = across.reshape([channels * cols, height]).matmul(weights(&plan.y, roi, features));
        down.reshape([1, channels, cols, rows]).swap_dims(2, 3)
    });
    Tensor::cat(parts.collect(), 0)
}
