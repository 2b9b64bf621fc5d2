//! Attention on the CPU.

use burn::backend::{Flex, flex::FlexTensor};
use ocelli_simd::attention::{backward, forward};

use super::{AttentionKernel, AttentionOps};
use crate::buffer::{contiguous, numbers, size, tensor};

impl AttentionOps for Flex {
    fn fused_attention(qkv: FlexTensor, heads: usize, scale: f32) -> FlexTensor {
        Self::attention_forward(qkv, heads, scale).0
    }
}

impl AttentionKernel for Flex {
    fn attention_forward(qkv: FlexTensor, heads: usize, scale: f32) -> (FlexTensor, FlexTensor) {
        let qkv = contiguous(qkv);
        let (batch, tokens, width) = (size(&qkv, 0), size(&qkv, 1), size(&qkv, 2));
        let (y, stats) = forward(numbers(&qkv), [batch, tokens, heads], scale);
        (tensor(y, [batch, tokens, width / 3]), tensor(stats, [batch, heads, 2, tokens]))
    }

    fn attention_backward(
        dy: FlexTensor,
        qkv: FlexTensor,
        y: FlexTensor,
        stats: FlexTensor,
        heads: usize,
        scale: f32,
    ) -> FlexTensor {
        let (dy, qkv, y) = (contiguous(dy), contiguous(qkv), contiguous(y));
        let (batch, tokens, width) = (size(&qkv, 0), size(&qkv, 1), size(&qkv, 2));
        let [dy, from, y, stats] = [&dy, &qkv, &y, &stats].map(numbers);
        tensor(backward(dy, from, y, stats, [batch, tokens, heads], scale), [batch, tokens, width])
    }
}
