//! Backbones behind one interface: what methods, evaluations and pictures need of one, whichever it is.
//!
//! A new kind of backbone is a variant of [`AnyBackbone`], [`BackboneConfig`] and [`BackboneArch`], and nothing elsewhere.

use std::fmt;
use std::str::FromStr;

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::params::{self, FlatParam};
use crate::{Arch, Init, Mode, ResNet, ResNetArch, ResNetConfig, ResNetError, Vit, VitConfig, VitError};

/// A network that gives a feature for an image, and one for every cell of a grid over it.
pub trait Backbone: Module + ModuleDisplay {
    /// One feature per image, `[batch, 3, height, width]` to `[batch, dim]`: the class token, or the mean over the cells.
    fn features(&self, images: Tensor<4>, mode: Mode) -> Tensor<2>;

    /// `[batch, 3, height, width]` to `[batch, dim, rows, cols]`.
    fn feature_map(&self, images: Tensor<4>, mode: Mode) -> Tensor<4>;

    /// Channels of feature and map.
    fn map_dim(&self) -> usize;

    /// The last `count` maps that a pass makes on its way, each half as fine as the one before and the feature map last: a
    /// ResNet's stages. What has no such levels gives the feature map alone.
    fn levels(&self, images: Tensor<4>, mode: Mode, _count: usize) -> Vec<Tensor<4>> {
        vec![self.feature_map(images, mode)]
    }

    /// Channels of what [`Backbone::levels`] gives.
    fn level_dims(&self, _count: usize) -> Vec<usize> {
        vec![self.map_dim()]
    }
}

/// The last stage's output.
impl Backbone for ResNet {
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

    fn levels(&self, images: Tensor<4>, mode: Mode, count: usize) -> Vec<Tensor<4>> {
        let stages = self.stages(images, mode);
        stages.into_iter().skip(4usize.saturating_sub(count)).collect()
    }

    /// Every stage has twice the channels of the one before.
    fn level_dims(&self, count: usize) -> Vec<usize> {
        (0..count.min(4)).rev().map(|above| self.dim() >> above).collect()
    }
}

/// The patch tokens of the last block, normalised; without drop path whatever the mode.
impl Backbone for Vit {
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

/// A Vision Transformer or a ResNet. Its parameters have the names of the network inside.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // There are a handful of them in a program.
pub enum AnyBackbone {
    /// A Vision Transformer; its feature is the class token.
    Vit(Vit),
    /// A ResNet; its feature is the mean over the cells of its last stage.
    ResNet(ResNet),
}

impl Backbone for AnyBackbone {
    fn features(&self, images: Tensor<4>, mode: Mode) -> Tensor<2> {
        match self {
            Self::Vit(vit) => vit.features(images, mode),
            Self::ResNet(net) => net.features(images, mode),
        }
    }

    fn feature_map(&self, images: Tensor<4>, mode: Mode) -> Tensor<4> {
        match self {
            Self::Vit(vit) => vit.feature_map(images, mode),
            Self::ResNet(net) => net.feature_map(images, mode),
        }
    }

    fn map_dim(&self) -> usize {
        match self {
            Self::Vit(vit) => vit.map_dim(),
            Self::ResNet(net) => net.map_dim(),
        }
    }

    fn levels(&self, images: Tensor<4>, mode: Mode, count: usize) -> Vec<Tensor<4>> {
        match self {
            Self::Vit(vit) => vit.levels(images, mode, count),
            Self::ResNet(net) => net.levels(images, mode, count),
        }
    }

    fn level_dims(&self, count: usize) -> Vec<usize> {
        match self {
            Self::Vit(vit) => vit.level_dims(count),
            Self::ResNet(net) => net.level_dims(count),
        }
    }
}

impl AnyBackbone {
    /// The image's feature, then those of its cells, row by row, for evaluation: `[batch, 3, height, width]` to
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

/// What is wrong with a backbone's numbers.
#[derive(Debug, thiserror::Error)]
pub enum BackboneError {
    /// A Vision Transformer's.
    #[error(transparent)]
    Vit(#[from] VitError),
    /// A ResNet's.
    #[error(transparent)]
    ResNet(#[from] ResNetError),
    /// A name nobody has.
    #[error("arch: expected {expected}, found \"{found}\"")]
    UnknownName {
        /// What names look like.
        expected: String,
        /// As given.
        found: String,
    },
}

/// What a backbone is built from.
#[derive(Debug, Clone, PartialEq)]
pub enum BackboneConfig {
    /// A Vision Transformer.
    Vit(VitConfig),
    /// A ResNet.
    ResNet(ResNetConfig),
}

impl BackboneConfig {
    /// Draws the network.
    ///
    /// # Errors
    /// Which number is wrong and what is allowed.
    pub fn init(&self, init: &mut Init) -> Result<AnyBackbone, BackboneError> {
        Ok(match self {
            Self::Vit(config) => AnyBackbone::Vit(config.init(init)?),
            Self::ResNet(config) => AnyBackbone::ResNet(config.init(init)?),
        })
    }

    /// A network with these values, by name: of its own, on the plain device, with running statistics that are not shared.
    /// Those that are missing keep what is drawn.
    ///
    /// # Errors
    /// As [`BackboneConfig::init`].
    pub fn with_values(&self, values: Vec<FlatParam>, device: &Device) -> Result<AnyBackbone, BackboneError> {
        let own = self.init(&mut Init::new(0, device))?;
        let mut values: std::collections::HashMap<String, Tensor<1>> =
            values.into_iter().map(|p| (p.name, p.values)).collect();
        Ok(params::replace(own, |param| values.remove(&param.name)))
    }

    /// The same without what is random in its forward pass: as a network that follows another is built.
    pub fn without_drop_path(&self) -> Self {
        match self {
            Self::Vit(config) => Self::Vit(VitConfig { drop_path: 0.0, ..config.clone() }),
            Self::ResNet(config) => Self::ResNet(*config),
        }
    }

    /// Pixels per cell of the map: the patch, or a ResNet's stride.
    pub fn cell_px(&self) -> usize {
        match self {
            Self::Vit(config) => config.patch_size_px,
            Self::ResNet(config) => config.stride_px(),
        }
    }

    /// What its cells are called.
    pub fn cell_name(&self) -> &'static str {
        match self {
            Self::Vit(_) => "patch",
            Self::ResNet(_) => "cell",
        }
    }

    /// Cells over a square image of `side_px`.
    pub fn cells(&self, side_px: usize) -> usize {
        match self {
            Self::Vit(config) => (side_px / config.patch_size_px).pow(2),
            Self::ResNet(config) => side_px.div_ceil(config.stride_px()).pow(2),
        }
    }

    /// What kind it is.
    pub fn kind(&self) -> BackboneKind {
        match self {
            Self::Vit(_) => BackboneKind::Vit,
            Self::ResNet(_) => BackboneKind::ResNet,
        }
    }

    /// Channels of its features.
    pub fn dim(&self) -> usize {
        match self {
            Self::Vit(config) => config.dim,
            Self::ResNet(config) => config.arch.dim(),
        }
    }

    /// Numbers that are there at once while a square image of `side_px` passes through without gradients, at most: the picture,
    /// and the widest layer's input and output several times over.
    pub fn activations(&self, side_px: usize) -> usize {
        let layer = match self {
            // Tokens, their queries, keys and values, and the hidden layer of the MLP.
            Self::Vit(c) => (1 + c.registers + self.cells(side_px)) * c.dim * (4 + c.mlp_ratio),
            // The first stage has the largest maps; a 3×3 convolution unfolds them.
            Self::ResNet(c) => (side_px * 4 / c.stride_px().max(1) * 2).pow(2) * c.arch.channels * 12,
        };
        3 * side_px * side_px + 2 * layer
    }

    /// Whether its forward pass in training normalises over the batch.
    pub fn has_batch_norm(&self) -> bool {
        matches!(self, Self::ResNet(_))
    }
}

/// Kinds of backbones, as methods say which they can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackboneKind {
    /// Vision Transformers.
    Vit,
    /// ResNets.
    ResNet,
}

impl fmt::Display for BackboneKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vit => "a Vision Transformer, such as vit-s/16",
            Self::ResNet => "a ResNet, such as resnet-50",
        })
    }
}

/// A backbone by name: a Vision Transformer (`vit-s/16`, `vit-s/14-reg4`, see [`Arch`]) or a ResNet (`resnet-50`, see [`ResNetArch`];
/// `resnet50` is the same).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum BackboneArch {
    /// A Vision Transformer.
    Vit(Arch),
    /// A ResNet.
    ResNet(ResNetArch),
}

impl FromStr for BackboneArch {
    type Err = BackboneError;

    fn from_str(name: &str) -> Result<Self, BackboneError> {
        let wrong = |expected: String| BackboneError::UnknownName { expected, found: name.to_owned() };
        if let Some((before, after)) = name.split_once("resnet") {
            // torchvision writes resnet50.
            let dashed = match after.starts_with(|c: char| c.is_ascii_digit()) {
                true => format!("{before}resnet-{after}"),
                false => name.to_owned(),
            };
            return Ok(Self::ResNet(dashed.parse().map_err(|e| wrong(format!("a ResNet ({e})")))?));
        }
        if name.starts_with("vit") {
            return Ok(Self::Vit(name.parse().map_err(|e| wrong(format!("a Vision Transformer ({e})")))?));
        }
        let expected =
            "a Vision Transformer such as vit-s/16 or a ResNet such as resnet-50 (unknown architecture)";
        Err(wrong(expected.into()))
    }
}

impl fmt::Display for BackboneArch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vit(arch) => arch.fmt(f),
            Self::ResNet(arch) => arch.fmt(f),
        }
    }
}

impl TryFrom<String> for BackboneArch {
    type Error = BackboneError;
    fn try_from(name: String) -> Result<Self, BackboneError> {
        name.parse()
    }
}

impl From<BackboneArch> for String {
    fn from(arch: BackboneArch) -> Self {
        arch.to_string()
    }
}

impl BackboneArch {
    /// Heads, of a Vision Transformer.
    pub fn heads(&self) -> Option<usize> {
        match self {
            Self::Vit(arch) => Some(arch.heads),
            Self::ResNet(_) => None,
        }
    }

    /// What kind it is.
    pub fn kind(&self) -> BackboneKind {
        match self {
            Self::Vit(_) => BackboneKind::Vit,
            Self::ResNet(_) => BackboneKind::ResNet,
        }
    }
}

/// Mean over the cells: `[batch, dim, rows, cols]` to `[batch, dim]`.
pub fn pool(map: Tensor<4>) -> Tensor<2> {
    map.flatten::<3>(2, 3).mean_dim(2).squeeze_dim(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_others_are_refused_in_words() {
        for (name, written) in [
            ("resnet50", "resnet-50"),
            ("resnet-18c8", "resnet-18c8"),
            ("wide-resnet50", "wide-resnet-50"),
            ("vit-s/16", "vit-s/16"),
            ("vit-b/14-reg4", "vit-b/14-reg4"),
        ] {
            assert_eq!(name.parse::<BackboneArch>().unwrap().to_string(), written);
        }
        for name in ["resnet", "resnet-51", "alexnet", "vit-s", "resnet-18é", "éresnet50", "vit-é/16"] {
            let message = name.parse::<BackboneArch>().unwrap_err().to_string();
            assert!(message.contains("unknown architecture") && message.contains(name), "{message}");
        }
    }

    #[test]
    fn levels_are_a_resnets_stages_and_a_vits_map() {
        let device = Device::flex();
        let images = || Tensor::ones([1, 3, 64, 64], &device);
        for (name, channels) in [("resnet-18c2", [2, 4, 8, 16]), ("resnet-50c2", [8, 16, 32, 64])] {
            let arch: ResNetArch = name.parse().unwrap();
            let any = BackboneConfig::ResNet(arch.into()).init(&mut Init::new(3, &device)).unwrap();
            for count in 1..=5 {
                let maps = any.levels(images(), Mode::Eval, count);
                let dims: Vec<usize> = maps.iter().map(|m| m.dims()[1]).collect();
                assert_eq!(dims, channels[4 - count.min(4)..], "{name} {count}");
                assert_eq!(any.level_dims(count), dims);
                let sides: Vec<usize> = maps.iter().map(|m| m.dims()[2]).collect();
                assert_eq!(sides, [16, 8, 4, 2][4 - count.min(4)..]);
            }
        }
        let config = "vit-32x1x2/8".parse::<Arch>().unwrap().config(64, 0.0);
        let vit = BackboneConfig::Vit(config).init(&mut Init::new(3, &device)).unwrap();
        let maps = vit.levels(images(), Mode::Eval, 3);
        assert_eq!((maps.len(), maps[0].dims(), vit.level_dims(3)), (1, [1, 32, 8, 8], vec![32]));
    }

    #[test]
    fn parameters_have_the_names_of_the_network_inside() {
        let device = Device::flex();
        let config = "vit-32x1x2/8".parse::<Arch>().unwrap().config(16, 0.0);
        let inside = config.init(&mut Init::new(3, &device)).unwrap();
        let any = BackboneConfig::Vit(config).init(&mut Init::new(3, &device)).unwrap();
        let names = |params: Vec<FlatParam>| params.into_iter().map(|p| p.name).collect::<Vec<_>>();
        assert_eq!(names(params::collect(&any)), names(params::collect(&inside)));
        assert_eq!(names(params::take(any).1), names(params::collect(&inside)));
    }
}
