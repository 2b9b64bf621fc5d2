//! A backbone of either kind behind one interface: what looks at a network need not know which it is.

use burn::tensor::{Device, Tensor};
use ocelli_models::{DenseBackbone as _, Init, Mode, ResNet, ResNetConfig, Vit, VitConfig, params, pool};

use crate::TrainError;

/// A Vision Transformer or a ResNet, on a plain device, to be evaluated.
#[derive(Debug, Clone)]
pub enum Encoder {
    /// A Vision Transformer; its feature is the class token.
    Vit(Box<Vit>),
    /// A ResNet; its feature is the mean over the cells of its last stage.
    ResNet(Box<ResNet>),
}

impl Encoder {
    /// One feature per image: `[batch, 3, height, width]` to `[batch, dim]`.
    pub fn features(&self, images: Tensor<4>) -> Tensor<2> {
        match self {
            Self::Vit(vit) => vit.forward(images, Mode::Eval),
            Self::ResNet(net) => net.forward(images, Mode::Eval),
        }
    }

    /// A feature per cell: `[batch, 3, height, width]` to `[batch, dim, rows, columns]`.
    pub fn feature_map(&self, images: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Vit(vit) => vit.feature_map(images, Mode::Eval),
            Self::ResNet(net) => net.feature_map(images, Mode::Eval),
        }
    }

    /// The image's feature, then those of its cells, row by row: `[batch, 3, height, width]` to
    /// `[batch, 1 + cells, dim]`. Of a Vision Transformer, its tokens.
    pub fn tokens(&self, images: Tensor<4>) -> Tensor<3> {
        match self {
            Self::Vit(vit) => vit.tokens(images),
            Self::ResNet(net) => {
                let map = net.feature_map(images, Mode::Eval);
                let mean = pool(map.clone()).unsqueeze_dim(1);
                Tensor::cat(vec![mean, map.flatten::<3>(2, 3).swap_dims(1, 2)], 1)
            }
        }
    }

    /// Pixels per cell.
    pub fn stride_px(&self) -> usize {
        match self {
            Self::Vit(vit) => vit.patch_size_px(),
            Self::ResNet(net) => net.stride_px(),
        }
    }

    /// The Vision Transformer, where it is one.
    pub fn as_vit(&self) -> Option<&Vit> {
        match self {
            Self::Vit(vit) => Some(vit),
            Self::ResNet(_) => None,
        }
    }
}

/// What a network of either kind is built from.
#[derive(Debug, Clone, PartialEq)]
pub enum EncoderConfig {
    /// A Vision Transformer.
    Vit(VitConfig),
    /// A ResNet.
    ResNet(ResNetConfig),
}

impl EncoderConfig {
    /// Draws the network from `seed`: the same weights as the first network a method draws from it.
    ///
    /// # Errors
    /// When its numbers do not fit together.
    pub fn init(&self, seed: u64, device: &Device) -> Result<Encoder, TrainError> {
        let mut init = Init::new(seed, device);
        Ok(match self {
            Self::Vit(config) => Encoder::Vit(Box::new(config.init(&mut init)?)),
            Self::ResNet(config) => {
                Encoder::ResNet(Box::new(config.init(&mut init).map_err(ocelli_methods::MethodError::from)?))
            }
        })
    }
}

/// The values of `from` in a network of its own: parameters without gradients, running statistics that are not shared.
pub(crate) fn detached(config: &ResNetConfig, from: &ResNet, device: &Device) -> Result<Encoder, TrainError> {
    let own = config.init(&mut Init::new(0, device)).map_err(ocelli_methods::MethodError::from)?;
    let mut values: std::collections::HashMap<String, Tensor<1>> =
        params::collect(from).into_iter().map(|p| (p.name, p.values)).collect();
    Ok(Encoder::ResNet(Box::new(params::replace(own, |param| values.remove(&param.name)))))
}
