//! The Vision Transformer of DINO: pre-norm blocks, class token, learned position embeddings (Dosovitskiy et al.
//! 2020; Caron et al. 2021); with registers, that of DINOv2 (Oquab et al. 2023; Darcet et al. 2023).
//!
//! DINOv2's layer scale is no part of it: files come with it folded into the projections before it, which are linear.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

mod arch;
mod block;
mod shape;
mod trace;

pub use arch::{Arch, VitError};
pub(crate) use block::BatchShape;
use block::Block;
pub use shape::usual_side_px;
pub use trace::Trace;

use crate::pos_embed::{PositionGrid, PositionRule, interpolate};
use crate::{Init, LayerNorm, Mode};

/// What DINOv2 draws registers with: they begin as good as equal.
const REGISTER_DEVIATION: f64 = 1e-6;

/// Shape of a Vision Transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// Image side the stored position embeddings belong to, pixels.
    pub image_size_px: usize,
    /// Patch side, pixels.
    pub patch_size_px: usize,
    /// Embedding width.
    pub dim: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads; must divide `dim`.
    pub heads: usize,
    /// MLP width over `dim` (4).
    pub mlp_ratio: usize,
    /// Largest drop-path rate; block i of n gets rate·i/(n−1).
    pub drop_path: f64,
    /// Tokens beside class and patches that belong to no place of the image; DINOv2 has 0 or 4.
    #[serde(default)]
    pub registers: usize,
    /// How position embeddings are interpolated for images of another size.
    #[serde(default)]
    pub position_rule: PositionRule,
}

impl VitConfig {
    /// Checks the numbers and builds the network with the reference's initialisation.
    ///
    /// # Errors
    /// When heads do not divide the width, or a size is zero.
    pub fn init(&self, init: &mut Init) -> Result<Vit, VitError> {
        self.check()?;
        let side = self.image_size_px / self.patch_size_px;
        let fan_in = 3 * self.patch_size_px * self.patch_size_px;
        let bound = 1.0 / (fan_in as f64).sqrt();
        let last = self.depth.saturating_sub(1).max(1) as f64;
        Ok(Vit {
            cls_token: init.trunc_normal([1, 1, self.dim], 0.02),
            pos_embed: init.trunc_normal([1, 1 + side * side, self.dim], 0.02),
            patch_embed: PatchEmbed {
                proj: Projection {
                    weight: init.uniform([self.dim, 3, self.patch_size_px, self.patch_size_px], bound),
                    bias: init.uniform([self.dim], bound),
                },
            },
            blocks: (0..self.depth).map(|i| Block::new(self, self.drop_path * i as f64 / last, init)).collect(),
            norm: LayerNorm::new(self.dim, block::LAYER_NORM_EPSILON, init),
            register_tokens: (self.registers > 0)
                .then(|| init.trunc_normal([1, self.registers, self.dim], REGISTER_DEVIATION)),
            position_rule: self.position_rule,
        })
    }

    /// Number of parameters of the backbone.
    pub fn num_parameters(&self) -> usize {
        let (d, p, r) = (self.dim, self.patch_size_px, self.mlp_ratio);
        let side = self.image_size_px / p;
        let block = 4 * d + (3 * d * d + 3 * d) + (d * d + d) + (r * d * d + r * d) + (r * d * d + d);
        3 * p * p * d + d + d + (1 + side * side + self.registers) * d + self.depth * block + 2 * d
    }
}

/// The convolution that cuts patches, in PyTorch's layout.
#[derive(Module, Debug)]
pub struct Projection {
    /// `[dim, 3, patch, patch]`.
    pub weight: Param<Tensor<4>>,
    /// `[dim]`.
    pub bias: Param<Tensor<1>>,
}

/// Patches to tokens.
#[derive(Module, Debug)]
pub struct PatchEmbed {
    /// A convolution whose stride is its kernel; computed as a matrix product over unfolded patches.
    pub proj: Projection,
}

impl PatchEmbed {
    /// `[batch, 3, height, width]` to `[batch·rows·cols, dim]`. Pixels beyond the last whole patch are left out, as a
    /// strided convolution does.
    fn forward(&self, images: Tensor<4>, grid: PositionGrid) -> Tensor<2> {
        let [dim, channels, patch, _] = self.proj.weight.shape().dims();
        let batch = images.dims()[0];
        let images = images.narrow(2, 0, grid.rows * patch).narrow(3, 0, grid.cols * patch);
        let unfolded = images
            .reshape([batch, channels, grid.rows, patch, grid.cols, patch])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch * grid.cells(), channels * patch * patch]);
        let weight = self.proj.weight.val().reshape([dim, channels * patch * patch]).transpose();
        ocelli_kernels::linear(unfolded, weight, Some(self.proj.bias.val()))
    }
}

/// A Vision Transformer without a classifier. See [`VitConfig`].
///
/// Registers take part in every block and are in no output: tokens are the class token's and the patches', and of
/// attention the registers' columns are left out and the rest is not scaled up, so that a row then sums to less than 1.
#[derive(Module, Debug)]
pub struct Vit {
    /// `[1, 1, dim]`.
    pub cls_token: Param<Tensor<3>>,
    /// `[1, 1 + cells, dim]`, the class token's first.
    pub pos_embed: Param<Tensor<3>>,
    /// The patch projection.
    pub patch_embed: PatchEmbed,
    /// The transformer blocks.
    pub blocks: Vec<Block>,
    /// The final layer norm.
    pub norm: LayerNorm,
    /// `[1, registers, dim]`, where it has some.
    pub register_tokens: Option<Param<Tensor<3>>>,
    #[module(skip)]
    position_rule: PositionRule,
}

impl Vit {
    /// Width of the embeddings.
    pub fn dim(&self) -> usize {
        self.cls_token.shape().dims::<3>()[2]
    }

    /// Patch side, pixels.
    pub fn patch_size_px(&self) -> usize {
        self.patch_embed.proj.weight.shape().dims::<4>()[2]
    }

    /// Attention heads.
    pub fn heads(&self) -> usize {
        self.blocks.first().map_or(1, Block::heads)
    }

    /// Tokens that belong to no place of the image.
    pub fn registers(&self) -> usize {
        self.register_tokens.as_ref().map_or(0, |tokens| tokens.shape().dims::<3>()[1])
    }

    /// How position embeddings are interpolated.
    pub fn position_rule(&self) -> PositionRule {
        self.position_rule
    }

    /// The entry of a file's metadata that names the rule, where it is not the one that is assumed of as many registers.
    pub fn position_entry(&self) -> Option<(&'static str, String)> {
        let is_usual = self.position_rule == PositionRule::of_registers(self.registers());
        (!is_usual).then(|| (PositionRule::METADATA, self.position_rule.name().to_owned()))
    }

    /// Patches of a `height × width` image: whole patches only.
    pub fn grid(&self, height_px: usize, width_px: usize) -> PositionGrid {
        let patch = self.patch_size_px();
        PositionGrid { rows: height_px / patch, cols: width_px / patch }
    }

    /// Position embeddings `[1 + cells, dim]` for an image of this size.
    pub fn position_embedding(&self, height_px: usize, width_px: usize) -> Tensor<2> {
        let [_, stored, dim] = self.pos_embed.shape().dims();
        let all = self.pos_embed.val().reshape([stored, dim]);
        let side = ((stored - 1) as f64).sqrt().round() as usize;
        let patches = interpolate(
            all.clone().narrow(0, 1, stored - 1),
            side,
            self.grid(height_px, width_px),
            height_px == width_px,
            self.position_rule,
        );
        Tensor::cat(vec![all.narrow(0, 0, 1), patches], 0)
    }

    /// The class token's feature after the final norm, `[batch, dim]`, of images `[batch, 3, height, width]`.
    pub fn forward(&self, images: Tensor<4>, mode: Mode) -> Tensor<2> {
        let (mut x, shape) = self.embed(images);
        let Some((last, first)) = self.blocks.split_last() else {
            return self.norm.forward(shape.cls(x));
        };
        for (i, block) in first.iter().enumerate() {
            x = block.forward(x, shape, mode, i);
        }
        // Only the class token leaves the last block, so little else is computed there: the same numbers for about a sixth
        // of the block, on a GPU a third.
        self.norm.forward(last.forward_cls(x, shape, mode, first.len()))
    }

    /// The outputs of the last `n` blocks, each after the final norm, oldest first: `[batch, 1 + cells, dim]`.
    pub fn intermediate_layers(&self, images: Tensor<4>, n: usize) -> Vec<Tensor<3>> {
        let (mut x, shape) = self.embed(images);
        let first = self.blocks.len().saturating_sub(n);
        let mut out = Vec::with_capacity(n);
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(x, shape, Mode::Eval, i);
            if i >= first {
                out.push(shape.visible(self.norm.forward(x.clone())));
            }
        }
        out
    }

    /// All tokens after the final norm, `[batch, 1 + cells, dim]`.
    pub fn tokens(&self, images: Tensor<4>) -> Tensor<3> {
        let (mut x, shape) = self.embed(images);
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(x, shape, Mode::Eval, i);
        }
        shape.visible(self.norm.forward(x))
    }

    /// Softmax attention of block `layer` for some queries: `[batch, heads, queries, 1 + cells]`. Query 0 is the
    /// class token, query 1 + i patch i. The last block's class row is what DINO's pictures show. What goes to registers is
    /// left out: then a row sums to less than 1.
    pub fn attention_rows(&self, images: Tensor<4>, layer: usize, queries: std::ops::Range<usize>) -> Tensor<4> {
        let (x, shape, block) = self.up_to_block(images, layer);
        block.attention_rows(x, shape, queries).narrow(3, 0, shape.visible_tokens())
    }

    /// What goes into block `layer` (the last one where there are fewer), and the block.
    fn up_to_block(&self, images: Tensor<4>, layer: usize) -> (Tensor<2>, BatchShape, &Block) {
        let (mut x, shape) = self.embed(images);
        let layer = layer.min(self.blocks.len() - 1);
        for (i, block) in self.blocks[..layer].iter().enumerate() {
            x = block.forward(x, shape, Mode::Eval, i);
        }
        (x, shape, &self.blocks[layer])
    }

    /// The class token's attention over the patches in the last block: `[batch, heads, cells]`, the class token's own
    /// column left out.
    pub fn cls_attention(&self, images: Tensor<4>) -> Tensor<3> {
        let (x, shape, block) = self.up_to_block(images, self.blocks.len().saturating_sub(1));
        block.attention_row(x, shape, 0).narrow(2, 1, shape.visible_tokens() - 1)
    }

    /// Class token and patches with their positions, then registers, which have none: `[batch·tokens, dim]`. DINOv2 has its
    /// registers before the patches; attention does not know the order of what it attends to.
    fn embed(&self, images: Tensor<4>) -> (Tensor<2>, BatchShape) {
        let [batch, _, height, width] = images.dims();
        let grid = self.grid(height, width);
        let (visible, dim) = (1 + grid.cells(), self.dim());
        let patches = self.patch_embed.forward(images, grid).reshape([batch, grid.cells(), dim]);
        let cls = self.cls_token.val().expand([batch, 1, dim]);
        let positions = self.position_embedding(height, width).reshape([1, visible, dim]);
        let mut x = Tensor::cat(vec![cls, patches], 1) + positions;
        let registers = self.registers();
        if let Some(tokens) = &self.register_tokens {
            x = Tensor::cat(vec![x, tokens.val().expand([batch, registers, dim])], 1);
        }
        let tokens = visible + registers;
        (x.reshape([batch * tokens, dim]), BatchShape { batch, tokens, registers })
    }
}

/// Softmax over the last axis; kept here so that maps and blocks share one definition.
pub(crate) fn softmax_last(x: Tensor<4>) -> Tensor<4> {
    activation::softmax(x, 3)
}
