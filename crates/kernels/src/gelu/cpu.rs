//! GELU on the CPU.

use burn::backend::{Flex, flex::FlexTensor};
use ocelli_simd::gelu::{backward, forward};

use super::{GeluKernel, GeluOps};
use crate::buffer::{contiguous, numbers, size, tensor};

impl GeluOps for Flex {
    fn fused_gelu(x: FlexTensor) -> FlexTensor {
        Self::gelu_exact_forward(x)
    }
}

impl GeluKernel for Flex {
    fn gelu_exact_forward(x: FlexTensor) -> FlexTensor {
        let x = contiguous(x);
        tensor(forward(numbers(&x)), [size(&x, 0), size(&x, 1)])
    }

    fn gelu_exact_backward(dy: FlexTensor, x: FlexTensor) -> FlexTensor {
        let (dy, x) = (contiguous(dy), contiguous(x));
        tensor(backward(numbers(&dy), numbers(&x)), [size(&x, 0), size(&x, 1)])
    }
}
