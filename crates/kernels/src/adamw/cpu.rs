//! AdamW on the CPU.

use burn::backend::{Flex, flex::FlexTensor};
use ocelli_simd::adamw::{adamw, adamw_ema};

use super::{AdamWKernel, AdamWStep};
use crate::buffer::{contiguous, numbers, size, tensor};

impl AdamWKernel for Flex {
    fn adamw_step(p: FlexTensor, g: FlexTensor, moments: FlexTensor, step: AdamWStep) -> (FlexTensor, FlexTensor) {
        let [p, g, moments] = [p, g, moments].map(contiguous);
        let n = size(&p, 0);
        let (next, moments) = adamw(numbers(&p), numbers(&g), numbers(&moments), step);
        (tensor(next, [n]), tensor(moments, [2, n]))
    }

    fn adamw_ema_step(
        p: FlexTensor,
        g: FlexTensor,
        moments: FlexTensor,
        follower: FlexTensor,
        momentum: f64,
        step: AdamWStep,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let inputs = [p, g, moments, follower].map(contiguous);
        let [p, g, moments, follower] = inputs.each_ref().map(numbers);
        let n = p.len();
        let [next, moments, followed] = adamw_ema(p, g, moments, follower, momentum, step);
        (tensor(next, [n]), tensor(moments, [2, n]), tensor(followed, [n]))
    }
}
