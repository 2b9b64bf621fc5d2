//! A pre-norm transformer block over flattened tokens `[batch·tokens, dim]`.

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use ocelli_kernels::residual_branch::{Heads, attention_branch, mlp_branch};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use super::{VitConfig, softmax_last};
use crate::{Init, LayerNorm, Linear, Mode};

pub(crate) const LAYER_NORM_EPSILON: f64 = 1e-6;

/// How rows divide into images.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchShape {
    pub batch: usize,
    /// Of an image all: class token, patches, and registers at the end.
    pub tokens: usize,
    pub registers: usize,
}

impl BatchShape {
    fn rows(self) -> usize {
        self.batch * self.tokens
    }

    /// Class token and patches of an image.
    pub fn visible_tokens(self) -> usize {
        self.tokens - self.registers
    }

    /// Rows without registers' as `[batch, 1 + cells, dim]`.
    pub fn visible(self, x: Tensor<2>) -> Tensor<3> {
        let dim = x.dims()[1];
        let x = x.reshape([self.batch, self.tokens, dim]);
        if self.registers == 0 { x } else { x.narrow(1, 0, self.visible_tokens()) }
    }

    /// The class token's rows, `[batch, dim]`.
    pub fn cls(self, x: Tensor<2>) -> Tensor<2> {
        let dim = x.dims()[1];
        x.reshape([self.batch, self.tokens, dim]).narrow(1, 0, 1).reshape([self.batch, dim])
    }
}

/// Multi-head self-attention with PyTorch's packed `qkv`: all queries, all keys, all values.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[dim, 3·dim]`.
    pub qkv: Linear,
    /// `[dim, dim]`.
    pub proj: Linear,
    #[module(skip)]
    heads: usize,
}

impl Attention {
    fn scale(&self, dim: usize) -> f64 {
        1.0 / ((dim / self.heads) as f64).sqrt()
    }

    fn forward(&self, x: Tensor<2>, shape: BatchShape) -> Tensor<2> {
        let dim = x.dims()[1];
        let qkv = self.qkv.forward(x).reshape([shape.batch, shape.tokens, 3 * dim]);
        let mixed = ocelli_kernels::attention(qkv, self.heads, self.scale(dim) as f32);
        self.proj.forward(mixed.reshape([shape.rows(), dim]))
    }

    /// `[batch·tokens, dim]` (already normed) to the class token's output, `[batch, dim]`.
    fn forward_cls(&self, x: Tensor<2>, shape: BatchShape) -> Tensor<2> {
        let dim = x.dims()[1];
        let (batch, tokens, heads) = (shape.batch, shape.tokens, self.heads);
        let head_dim = dim / heads;
        if ocelli_kernels::in_wgsl(&x) {
            // The kernel of the other blocks, though it does all queries: it is there, and tensor operations for one query
            // are slower, and a dozen kernels more to compile and to choose.
            let qkv = self.qkv.forward(x).reshape([batch, tokens, 3 * dim]);
            let mixed = ocelli_kernels::attention(qkv, heads, self.scale(dim) as f32);
            return self.proj.forward(mixed.narrow(1, 0, 1).reshape([batch, dim]));
        }
        let q = self.qkv.forward_columns(shape.cls(x.clone()), 0, dim).reshape([batch, heads, 1, head_dim]);
        let kv = self.qkv.forward_columns(x, dim, 2 * dim).reshape([batch, tokens, 2, heads, head_dim]);
        let kv = kv.permute([2, 0, 3, 1, 4]);
        let k = kv.clone().narrow(0, 0, 1).reshape([batch, heads, tokens, head_dim]);
        let v = kv.narrow(0, 1, 1).reshape([batch, heads, tokens, head_dim]);
        let weights = softmax_last((q * self.scale(dim)).matmul(k.swap_dims(2, 3)));
        self.proj.forward(weights.matmul(v).reshape([batch, dim]))
    }

    /// `[batch, heads, tokens]` of rows already normed: what one query attends to.
    fn row(&self, x: Tensor<2>, shape: BatchShape, query: usize) -> Tensor<3> {
        let dim = x.dims()[1];
        let qkv = self.qkv.forward(x).reshape([shape.batch, shape.tokens, 3 * dim]);
        ocelli_kernels::attention_row(qkv, self.heads, self.scale(dim) as f32, query)
    }

    /// `[batch, heads, queries, tokens]` of rows already normed.
    fn rows(&self, x: Tensor<2>, shape: BatchShape, queries: std::ops::Range<usize>) -> Tensor<4> {
        let dim = x.dims()[1];
        let head_dim = dim / self.heads;
        let split = |t: Tensor<2>| t.reshape([shape.batch, shape.tokens, self.heads, head_dim]).swap_dims(1, 2);
        let q = split(self.qkv.forward_columns(x.clone(), 0, dim)).narrow(2, queries.start, queries.len());
        let k = split(self.qkv.forward_columns(x, dim, dim));
        softmax_last((q * self.scale(dim)).matmul(k.swap_dims(2, 3)))
    }
}

/// Two linear layers around an exact GELU.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `[dim, ratio·dim]`.
    pub fc1: Linear,
    /// `[ratio·dim, dim]`.
    pub fc2: Linear,
}

impl Mlp {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match (&self.fc1.bias, &self.fc2.bias) {
            (Some(b1), Some(b2)) => {
                ocelli_kernels::mlp(x, self.fc1.weight.val(), b1.val(), self.fc2.weight.val(), b2.val())
            }
            _ => self.fc2.forward(ocelli_kernels::gelu(self.fc1.forward(x))),
        }
    }
}

/// x + attention(norm(x)), then x + mlp(norm(x)), each branch dropped per image at the block's rate.
#[derive(Module, Debug)]
pub struct Block {
    /// Before attention.
    pub norm1: LayerNorm,
    /// Self-attention.
    pub attn: Attention,
    /// Before the MLP.
    pub norm2: LayerNorm,
    /// The MLP.
    pub mlp: Mlp,
    #[module(skip)]
    drop_path: f64,
}

impl Block {
    pub(crate) fn new(config: &VitConfig, drop_path: f64, init: &mut Init) -> Self {
        let dim = config.dim;
        Self {
            norm1: LayerNorm::new(dim, LAYER_NORM_EPSILON, init),
            attn: Attention {
                qkv: Linear::new(dim, 3 * dim, true, init),
                proj: Linear::new(dim, dim, true, init),
                heads: config.heads,
            },
            norm2: LayerNorm::new(dim, LAYER_NORM_EPSILON, init),
            mlp: Mlp {
                fc1: Linear::new(dim, config.mlp_ratio * dim, true, init),
                fc2: Linear::new(config.mlp_ratio * dim, dim, true, init),
            },
            drop_path,
        }
    }

    pub(crate) fn heads(&self) -> usize {
        self.attn.heads
    }

    pub(crate) fn forward(&self, x: Tensor<2>, shape: BatchShape, mode: Mode, index: usize) -> Tensor<2> {
        if !self.drops(mode)
            && let (Some(qkv), Some(proj)) = (self.attn.qkv.weights(), self.attn.proj.weights())
        {
            let dim = x.dims()[1];
            let (heads, scale) = (self.attn.heads, self.attn.scale(dim) as f32);
            let heads = Heads { batch: shape.batch, heads, scale };
            let x = attention_branch(x, self.norm1.weights(), qkv, proj, heads);
            return self.add_mlp(x, shape, mode, 2 * index + 1);
        }
        let mixed = self.attn.forward(self.norm1.forward(x.clone()), shape);
        let x = x + self.drop(mixed, shape, mode, 2 * index);
        self.add_mlp(x, shape, mode, 2 * index + 1)
    }

    /// x + mlp(norm2(x)).
    fn add_mlp(&self, x: Tensor<2>, shape: BatchShape, mode: Mode, branch: usize) -> Tensor<2> {
        if !self.drops(mode)
            && let (Some(fc1), Some(fc2)) = (self.mlp.fc1.weights(), self.mlp.fc2.weights())
        {
            return mlp_branch(x, self.norm2.weights(), fc1, fc2);
        }
        let expanded = self.mlp.forward(self.norm2.forward(x.clone()));
        x + self.drop(expanded, shape, mode, branch)
    }

    /// Whether branches may be dropped: then a branch and its sum are two things.
    fn drops(&self, mode: Mode) -> bool {
        self.drop_path > 0.0 && mode != Mode::Eval
    }

    /// The block's output for the class token alone, `[batch, dim]`.
    pub(crate) fn forward_cls(&self, x: Tensor<2>, shape: BatchShape, mode: Mode, index: usize) -> Tensor<2> {
        let rows = BatchShape { batch: shape.batch, tokens: 1, registers: 0 };
        let mixed = self.attn.forward_cls(self.norm1.forward(x.clone()), shape);
        let x = shape.cls(x) + self.drop(mixed, rows, mode, 2 * index);
        self.add_mlp(x, rows, mode, 2 * index + 1)
    }

    pub(crate) fn attention_row(&self, x: Tensor<2>, shape: BatchShape, query: usize) -> Tensor<3> {
        self.attn.row(self.norm1.forward(x), shape, query)
    }

    pub(crate) fn attention_rows(
        &self,
        x: Tensor<2>,
        shape: BatchShape,
        queries: std::ops::Range<usize>,
    ) -> Tensor<4> {
        self.attn.rows(self.norm1.forward(x), shape, queries)
    }

    /// Drop path: a branch is kept per image with probability 1 − rate and divided by it.
    fn drop(&self, x: Tensor<2>, shape: BatchShape, mode: Mode, branch: usize) -> Tensor<2> {
        let Mode::Train { seed } = mode else { return x };
        if self.drop_path <= 0.0 {
            return x;
        }
        let keep = 1.0 - self.drop_path;
        let mut rng = Pcg64Mcg::seed_from_u64(seed ^ (branch as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mask: Vec<f32> =
            (0..shape.batch).map(|_| if rng.random::<f64>() < keep { (1.0 / keep) as f32 } else { 0.0 }).collect();
        let (rows, dim) = (shape.rows(), x.dims()[1]);
        let mask = Tensor::<3>::from_data(TensorData::new(mask, [shape.batch, 1, 1]), &x.device().inner());
        (x.reshape([shape.batch, shape.tokens, dim]) * mask).reshape([rows, dim])
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn drop_path_drops_images_at_its_rate_and_keeps_the_mean() {
        let device = Device::flex();
        let config = "vit-8x1x2/8".parse::<crate::Arch>().unwrap().config(8, 0.0);
        let (rate, shape) = (0.3, BatchShape { batch: 4000, tokens: 2, registers: 0 });
        let block = Block::new(&config, rate, &mut Init::new(0, &device));
        let ones = || Tensor::<2>::ones([shape.rows(), 8], &device);
        let dropped = |seed, branch| -> Vec<f32> {
            block.drop(ones(), shape, Mode::Train { seed }, branch).into_data().try_to_vec().unwrap()
        };
        let first = dropped(5, 0);
        let kept = (1.0 / (1.0 - rate)) as f32;
        for image in first.chunks(shape.tokens * 8) {
            assert!(image.iter().all(|v| *v == image[0]) && (image[0] == 0.0 || image[0] == kept));
        }
        // 4,000 draws: five standard deviations are 3.6 %.
        let share = first.iter().filter(|v| **v == 0.0).count() as f64 / first.len() as f64;
        assert!((share - rate).abs() < 0.036, "{share}");
        assert_eq!(first, dropped(5, 0), "the seed decides");
        for other in [dropped(6, 0), dropped(5, 1)] {
            let same = first.iter().zip(&other).filter(|(a, b)| a == b).count() as f64 / first.len() as f64;
            let expected = rate * rate + (1.0 - rate) * (1.0 - rate);
            assert!((same - expected).abs() < 0.04, "independent of each other: {same}");
        }
        let evaluated: Vec<f32> = block.drop(ones(), shape, Mode::Eval, 0).into_data().try_to_vec().unwrap();
        assert!(evaluated.iter().all(|v| *v == 1.0));
    }
}
