//! Backbones as makers of feature maps: what methods that look at every location need of one.

use burn::module::{Module, ModuleDisplay};
use burn::tensor::Tensor;

use crate::{Mode, ResNet, Vit};

/// A backbone that gives a feature at every cell of a grid over the image.
pub trait DenseBackbone: Module + ModuleDisplay {
    /// One feature per image, `[batch, 3, height, width]` to `[batch, dim]`: the class token, or the mean over the cells.
    fn features(&self, images: Tensor<4>, mode: Mode) -> Tensor<2>;

    /// `[batch, 3, height, width]` to `[batch, dim, rows, cols]`.
    fn feature_map(&self, images: Tensor<4>, mode: Mode) -> Tensor<4>;

    /// Channels of feature and map.
    fn map_dim(&self) -> usize;
}

/// The last stage's output.
impl DenseBackbone for ResNet {
    fn features(&self, images: Tensor<4>, mode: Mode) -> Tensor<2> {
        self.forward(images, mode)
    }

    fn feature_map(&self, images: Tensor<4>, mode: Mode) -> Tensor<4> {
        let [_, _, _, last] = self.stages(images, mode);
        last
    }

    fn map_dim(&self) -> usize {
        self.dim()
    }
}

/// The patch tokens of the last block, normalised; without drop path whatever the mode.
impl DenseBackbone for Vit {
    fn features(&self, images: Tensor<4>, mode: Mode) -> Tensor<2> {
        self.forward(images, mode)
    }

    fn feature_map(&self, images: Tensor<4>, _: Mode) -> Tensor<4> {
        let [batch, _, height, width] = images.dims();
        let patch = self.patch_embed.proj.weight.dims()[2];
        let (rows, cols) = (height / patch, width / patch);
        let tokens = self.tokens(images);
        let [_, _, dim] = tokens.dims();
        tokens.narrow(1, 1, rows * cols).swap_dims(1, 2).reshape([batch, dim, rows, cols])
    }

    fn map_dim(&self) -> usize {
        self.cls_token.dims()[2]
    }
}

/// Mean over the cells: `[batch, dim, rows, cols]` to `[batch, dim]`.
pub fn pool(map: Tensor<4>) -> Tensor<2> {
    map.flatten::<3>(2, 3).mean_dim(2).squeeze_dim(2)
}
