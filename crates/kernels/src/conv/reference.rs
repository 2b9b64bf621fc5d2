//! Convolution by burn's own operation.

use burn::tensor::Tensor;
use burn::tensor::module;
use burn::tensor::ops::ConvOptions;

use super::ConvShape;

/// See [`conv2d`](super::conv2d()); on any device, in any precision.
pub fn conv2d(x: Tensor<4>, w: Tensor<4>, b: Option<Tensor<1>>, shape: ConvShape) -> Tensor<4> {
    let options = ConvOptions::new([shape.stride; 2], [shape.padding; 2], [shape.dilation; 2], 1);
    module::conv2d(x, w, b, options)
}
