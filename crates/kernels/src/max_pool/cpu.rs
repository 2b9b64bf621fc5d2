//! The pooling on the CPU.

use burn::backend::{Flex, flex::FlexTensor};
use ocelli_simd::max_pool::{backward, forward, output};

use super::{MaxPoolKernel, MaxPoolOps};
use crate::buffer::{contiguous, numbers, size, tensor};

impl MaxPoolOps for Flex {
    fn fused_max_pool(x: FlexTensor) -> FlexTensor {
        Self::max_pool_forward(x)
    }
}

impl MaxPoolKernel for Flex {
    fn max_pool_forward(x: FlexTensor) -> FlexTensor {
        let x = contiguous(x);
        let [images, channels, height, width] = [0, 1, 2, 3].map(|d| size(&x, d));
        tensor(forward(numbers(&x), [height, width]), [images, channels, output(height), output(width)])
    }

    fn max_pool_backward(dy: FlexTensor, x: FlexTensor) -> FlexTensor {
        let (dy, x) = (contiguous(dy), contiguous(x));
        let shape = [0, 1, 2, 3].map(|d| size(&x, d));
        tensor(backward(numbers(&dy), numbers(&x), [shape[2], shape[3]]), shape)
    }
}
