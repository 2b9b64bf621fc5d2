//! The perceptron on the CPU.

use burn::backend::{Flex, flex::FlexTensor};
use ocelli_simd::mlp::{backward, forward};

use super::{MlpKernel, MlpOps};
use crate::alloc;
use crate::buffer::{contiguous, numbers, size, tensor, view};
use crate::gemm::Panels;

impl MlpOps for Flex {
    fn fused_mlp(x: FlexTensor, w1: FlexTensor, b1: FlexTensor, w2: FlexTensor, b2: FlexTensor) -> FlexTensor {
        Self::mlp_value(x, w1, b1, w2, b2)
    }
}

impl MlpKernel for Flex {
    fn mlp_value(x: FlexTensor, w1: FlexTensor, b1: FlexTensor, w2: FlexTensor, b2: FlexTensor) -> FlexTensor {
        value([x, w1, b1, w2, b2], None)
    }

    fn mlp_forward(
        x: FlexTensor,
        w1: FlexTensor,
        b1: FlexTensor,
        w2: FlexTensor,
        b2: FlexTensor,
    ) -> (FlexTensor, FlexTensor) {
        let (rows, hidden) = (size(&x, 0), size(&w1, 1));
        let mut h = alloc::scratch(rows * hidden);
        let y = value([x, w1, b1, w2, b2], Some(&mut h));
        (y, tensor(h, [rows, hidden]))
    }

    fn mlp_backward(
        dy: FlexTensor,
        x: FlexTensor,
        h: FlexTensor,
        w1: FlexTensor,
        w2: FlexTensor,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        let (dy, x) = (contiguous(dy), contiguous(x));
        let (inputs, hidden, outputs, rows) = (size(&w1, 0), size(&w1, 1), size(&w2, 1), size(&x, 0));
        let [w1, w2] = [w1, w2].map(|w| view(&w, |w| Panels::new(w.transposed())));
        let (dx, first, second) = backward(numbers(&dy), numbers(&x), numbers(&h), &w1, &w2);
        (
            tensor(dx, [rows, inputs]),
            tensor(first.weight, [inputs, hidden]),
            tensor(first.bias, [hidden]),
            tensor(second.weight, [hidden, outputs]),
            tensor(second.bias, [outputs]),
        )
    }
}

/// The result; what goes into the activation to `saved`, if somebody wants it.
fn value(inputs: [FlexTensor; 5], saved: Option<&mut [f32]>) -> FlexTensor {
    let [x, w1, b1, w2, b2] = inputs;
    let [x, b1, b2] = [x, b1, b2].map(contiguous);
    let (rows, outputs) = (size(&x, 0), size(&w2, 1));
    let [w1, w2] = [w1, w2].map(|w| view(&w, Panels::new));
    tensor(forward(numbers(&x), (&w1, numbers(&b1)), (&w2, numbers(&b2)), saved), [rows, outputs])
}
