//! Which numbers of a frozen backbone a linear classifier sees.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::{AnyBackbone, Backbone as _, BackboneConfig, Mode, Vit};

/// Features for a linear classifier, as the published protocols take them. `cls` and `cls-N` are class tokens, `cls+mean`
/// adds the patches; of a ResNet there is `mean` alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ProbeFeatures {
    /// The class tokens of the last blocks, each after the final norm, the oldest block first (DINO's for ViT-S: four).
    Cls {
        /// So many blocks.
        blocks: usize,
    },
    /// The last block's class token and the mean of its patches, **alternating**: c₀ m₀ c₁ m₁ … (DINO's for ViT-B). The order
    /// is that of the published classifiers' columns.
    ClsAndMean,
    /// The mean over the cells of a ResNet's last stage.
    Mean,
}

/// A request that the backbone cannot meet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("features: expected {expected}, found \"{found}\"")]
pub struct ProbeError {
    /// What there is.
    pub expected: String,
    /// What was asked for.
    pub found: String,
}

impl ProbeFeatures {
    /// What DINO's evaluation takes of this backbone: four class tokens of a width below 768, else class token and mean patch;
    /// a ResNet's mean.
    pub fn published(config: &BackboneConfig) -> Self {
        match config {
            BackboneConfig::ResNet(_) => Self::Mean,
            BackboneConfig::Vit(vit) if vit.dim < 768 => Self::Cls { blocks: vit.depth.min(4) },
            BackboneConfig::Vit(_) => Self::ClsAndMean,
        }
    }

    /// Numbers per image.
    ///
    /// # Errors
    /// When the backbone has no such features.
    pub fn width(self, config: &BackboneConfig) -> Result<usize, ProbeError> {
        let refuse = |expected: String| Err(ProbeError { expected, found: self.to_string() });
        match (self, config) {
            (Self::Cls { blocks }, BackboneConfig::Vit(vit)) if (1..=vit.depth).contains(&blocks) => {
                Ok(blocks * vit.dim)
            }
            (Self::Cls { .. }, BackboneConfig::Vit(vit)) => {
                refuse(format!("\"cls\" to \"cls-{}\", one for each of its blocks", vit.depth))
            }
            (Self::ClsAndMean, BackboneConfig::Vit(vit)) => Ok(2 * vit.dim),
            (Self::Mean, BackboneConfig::Vit(_)) => {
                refuse("\"cls\", \"cls-4\" or \"cls+mean\" of a Vision Transformer".into())
            }
            (Self::Mean, BackboneConfig::ResNet(_)) => Ok(config.dim()),
            (_, BackboneConfig::ResNet(_)) => refuse("\"mean\" of a ResNet, which has no class token".into()),
        }
    }

    /// `[batch, 3, height, width]` to `[batch, width]`. The backbone must have them (see [`ProbeFeatures::width`]); where it has
    /// not, its usual feature comes.
    pub fn of(self, net: &AnyBackbone, images: Tensor<4>) -> Tensor<2> {
        match net {
            AnyBackbone::Vit(vit) => self.of_vit(vit, images),
            AnyBackbone::ResNet(_) => net.features(images, Mode::Eval),
        }
    }

    /// The same of a Vision Transformer alone: the browser's module, which has no other, need not hold the rest.
    pub fn of_vit(self, vit: &Vit, images: Tensor<4>) -> Tensor<2> {
        match self {
            Self::Cls { blocks } if blocks > 1 => {
                let class = |tokens: Tensor<3>| tokens.narrow(1, 0, 1).squeeze_dim::<2>(1);
                Tensor::cat(vit.intermediate_layers(images, blocks).into_iter().map(class).collect(), 1)
            }
            Self::ClsAndMean => {
                let tokens = vit.tokens(images);
                let [batch, count, dim] = tokens.dims();
                let class = tokens.clone().narrow(1, 0, 1).reshape([batch, dim, 1]);
                let mean = tokens.narrow(1, 1, count - 1).mean_dim(1).reshape([batch, dim, 1]);
                Tensor::cat(vec![class, mean], 2).reshape([batch, 2 * dim])
            }
            Self::Cls { .. } | Self::Mean => vit.forward(images, Mode::Eval),
        }
    }
}

impl fmt::Display for ProbeFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cls { blocks: 1 } => f.write_str("cls"),
            Self::Cls { blocks } => write!(f, "cls-{blocks}"),
            Self::ClsAndMean => f.write_str("cls+mean"),
            Self::Mean => f.write_str("mean"),
        }
    }
}

impl FromStr for ProbeFeatures {
    type Err = ProbeError;

    fn from_str(name: &str) -> Result<Self, ProbeError> {
        match name {
            "cls" => return Ok(Self::Cls { blocks: 1 }),
            "cls+mean" => return Ok(Self::ClsAndMean),
            "mean" => return Ok(Self::Mean),
            _ => {}
        }
        let blocks = name.strip_prefix("cls-").and_then(|n| n.parse().ok()).filter(|n| *n > 0);
        blocks.map(|blocks| Self::Cls { blocks }).ok_or_else(|| ProbeError {
            expected: "\"cls\", \"cls-4\" (the last four blocks), \"cls+mean\" or \"mean\"".into(),
            found: name.to_owned(),
        })
    }
}

impl TryFrom<String> for ProbeFeatures {
    type Error = ProbeError;
    fn try_from(name: String) -> Result<Self, ProbeError> {
        name.parse()
    }
}

impl From<ProbeFeatures> for String {
    fn from(features: ProbeFeatures) -> Self {
        features.to_string()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{Arch, Init, ResNetArch};

    #[test]
    fn names_read_back() {
        for name in ["cls", "cls-4", "cls+mean", "mean"] {
            assert_eq!(name.parse::<ProbeFeatures>().unwrap().to_string(), name);
        }
        for name in ["", "cls-0", "cls-x", "patches"] {
            let message = name.parse::<ProbeFeatures>().unwrap_err().to_string();
            assert!(message.contains("cls+mean") && message.contains(&format!("\"{name}\"")), "{message}");
        }
    }

    /// What is said of the width is what comes; what a backbone cannot give is refused in words.
    #[test]
    fn widths_are_those_of_the_backbone() {
        let device = Device::flex();
        let vit = BackboneConfig::Vit("vit-32x3x2/8".parse::<Arch>().unwrap().config(16, 0.0));
        let resnet = BackboneConfig::ResNet("resnet-18c2".parse::<ResNetArch>().unwrap().into());
        for (config, side, names) in
            [(&vit, 16, ["cls", "cls-3", "cls+mean"].as_slice()), (&resnet, 32, &["mean"])]
        {
            let net = config.init(&mut Init::new(1, &device)).unwrap();
            for name in names {
                let features: ProbeFeatures = name.parse().unwrap();
                let found = features.of(&net, Tensor::ones([2, 3, side, side], &device));
                assert_eq!(found.dims(), [2, features.width(config).unwrap()], "{name}");
            }
        }
        for (config, name, words) in
            [(&vit, "cls-4", "cls-3"), (&vit, "mean", "cls+mean"), (&resnet, "cls", "\"mean\"")]
        {
            let message = name.parse::<ProbeFeatures>().unwrap().width(config).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
        assert_eq!(ProbeFeatures::published(&vit).to_string(), "cls-3");
        assert_eq!(ProbeFeatures::published(&resnet), ProbeFeatures::Mean);
    }
}
