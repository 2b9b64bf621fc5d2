//! Attention on the CPU: one image is one task.

use burn::backend::{Flex, flex::FlexTensor};

use super::{AttentionKernel, AttentionOps, head};
use crate::buffer::{contiguous, numbers, size, tensor};
use crate::{alloc, parallel};

impl AttentionOps for Flex {
    fn fused_attention(qkv: FlexTensor, heads: usize, scale: f32) -> FlexTensor {
        Self::attention_forward(qkv, heads, scale).0
    }
}

impl AttentionKernel for Flex {
    fn attention_forward(qkv: FlexTensor, heads: usize, scale: f32) -> (FlexTensor, FlexTensor) {
        let qkv = contiguous(qkv);
        let (batch, tokens, width) = (size(&qkv, 0), size(&qkv, 1), size(&qkv, 2));
        let dim = width / 3;
        let mut y = alloc::scratch(batch * tokens * dim);
        let mut stats = alloc::scratch(batch * heads * 2 * tokens);
        let tasks = numbers(&qkv)
            .chunks_exact(tokens * width)
            .zip(y.chunks_exact_mut(tokens * dim))
            .zip(stats.chunks_exact_mut(heads * 2 * tokens))
            .collect();
        parallel::run(tasks, |((qkv, y), stats): ((&[f32], &mut [f32]), &mut [f32])| {
            head::forward(qkv, tokens, heads, scale, y, stats);
        });
        (tensor(y, [batch, tokens, dim]), tensor(stats, [batch, heads, 2, tokens]))
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
        let dim = width / 3;
        let mut dqkv = alloc::scratch(batch * tokens * width);
        type Task<'a> = (((&'a [f32], &'a [f32]), (&'a [f32], &'a [f32])), &'a mut [f32]);
        let tasks = numbers(&dy)
            .chunks_exact(tokens * dim)
            .zip(numbers(&qkv).chunks_exact(tokens * width))
            .zip(numbers(&y).chunks_exact(tokens * dim).zip(numbers(&stats).chunks_exact(heads * 2 * tokens)))
            .zip(dqkv.chunks_exact_mut(tokens * width))
            .collect();
        parallel::run(tasks, |(((dy, qkv), (y, stats)), dqkv): Task<'_>| {
            head::backward(dy, qkv, y, stats, tokens, heads, scale, dqkv);
        });
        tensor(dqkv, [batch, tokens, width])
    }
}
