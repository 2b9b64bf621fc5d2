//! A linear map on the CPU.

use burn::backend::ops::FloatTensorOps as _;
use burn::backend::{Flex, flex::FlexTensor};

use super::{LinearKernel, LinearOps};
use crate::alloc;
use crate::buffer::{contiguous, numbers, size, tensor, view};
use crate::gemm::{Panels, WeightGrad, tall, weight_grad};

impl LinearOps for Flex {
    fn fused_linear(x: FlexTensor, w: FlexTensor, b: FlexTensor) -> FlexTensor {
        Self::linear_forward(x, w, b)
    }

    fn fused_linear_past(x: FlexTensor, w: FlexTensor, b: FlexTensor, past: FlexTensor) -> FlexTensor {
        Self::linear_past(x, w, b, past)
    }

    fn fused_linear_plain(x: FlexTensor, w: FlexTensor) -> FlexTensor {
        Self::linear_plain(x, w)
    }
}

fn forward(x: FlexTensor, w: &FlexTensor, b: Option<FlexTensor>) -> FlexTensor {
    let x = contiguous(x);
    let (rows, outputs) = (size(&x, 0), size(w, 1));
    let w = view(w, Panels::new);
    let b = b.map(contiguous);
    let mut y = alloc::scratch(rows * outputs);
    tall(numbers(&x), &w, b.as_ref().map(numbers), &mut y);
    tensor(y, [rows, outputs])
}

impl LinearKernel for Flex {
    fn linear_forward(x: FlexTensor, w: FlexTensor, b: FlexTensor) -> FlexTensor {
        forward(x, &w, Some(b))
    }

    fn linear_past(x: FlexTensor, w: FlexTensor, b: FlexTensor, past: FlexTensor) -> FlexTensor {
        // The sum as burn computes it: the same bits as a map and an addition.
        Self::float_add(past, forward(x, &w, Some(b)))
    }

    fn linear_plain(x: FlexTensor, w: FlexTensor) -> FlexTensor {
        forward(x, &w, None)
    }

    fn linear_input_grad(dy: FlexTensor, w: FlexTensor) -> FlexTensor {
        let dy = contiguous(dy);
        let (rows, inputs) = (size(&dy, 0), size(&w, 0));
        let w = view(&w, |w| Panels::new(w.transposed()));
        let mut dx = alloc::scratch(rows * inputs);
        tall(numbers(&dy), &w, None, &mut dx);
        tensor(dx, [rows, inputs])
    }

    fn linear_weight_grad(x: FlexTensor, dy: FlexTensor) -> (FlexTensor, FlexTensor) {
        let (x, dy) = (contiguous(x), contiguous(dy));
        let (inputs, outputs) = (size(&x, 1), size(&dy, 1));
        let WeightGrad { weight, bias } = weight_grad(numbers(&x), numbers(&dy), inputs, outputs);
        (tensor(weight, [inputs, outputs]), tensor(bias, [outputs]))
    }
    fn linear_weight_grad_plain(x: FlexTensor, dy: FlexTensor) -> FlexTensor {
        Self::linear_weight_grad(x, dy).0
    }
}
