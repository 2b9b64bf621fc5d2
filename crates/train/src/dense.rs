//! Backbones of either kind, for what looks at their feature maps.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use ocelli_models::weights::{Family, Part};
use ocelli_models::{Arch, DenseBackbone as _, Init, Mode, ResNet, ResNetArch, ResNetConfig, Vit};

use crate::backbone::Loaded;
use crate::resnet::load_resnet_with;
use crate::{RunConfig, TrainError, load_backbone_part};

enum Net {
    Vit(Box<Vit>),
    ResNet(Box<ResNet>),
}

/// A Vision Transformer or a ResNet that gives a feature per cell.
pub struct DenseNet {
    net: Net,
    /// What was loaded, in words.
    pub description: String,
    /// Pixels per cell.
    pub stride_px: usize,
    /// The run's configuration, where the file is a checkpoint.
    pub run: Option<RunConfig>,
}

impl DenseNet {
    /// `[batch, 3, height, width]` to `[batch, dim, rows, columns]`.
    pub fn feature_map(&self, images: Tensor<4>) -> Tensor<4> {
        match &self.net {
            Net::Vit(vit) => vit.feature_map(images, Mode::Eval),
            Net::ResNet(net) => net.feature_map(images, Mode::Eval),
        }
    }
}

/// Loads a backbone of either kind as `load_backbone` and `load_resnet` do, or draws one: `random:vit-s/16`,
/// `random:resnet-50`. `stride_px` makes a ResNet's cells closer (16 or 8 in place of 32) by dilation; 0 leaves them.
///
/// # Errors
/// When there is no such file or architecture, or the file holds something else; for a stride other than a Vision
/// Transformer's patch.
pub fn load_dense(
    weights: &Path,
    part: Option<Part>,
    heads: Option<usize>,
    stride_px: usize,
    device: &Device,
) -> Result<DenseNet, TrainError> {
    let fail = |reason: String| TrainError::File { path: weights.to_owned(), reason };
    let of_vit = |vit: Vit, description: String, run| {
        let stride = vit.patch_size_px();
        if stride_px != 0 && stride_px != stride {
            return Err(fail(format!(
                "expected a stride of {stride} px, this network's patch; found {stride_px}"
            )));
        }
        Ok(DenseNet { net: Net::Vit(Box::new(vit)), description, stride_px: stride, run })
    };
    let of_resnet = |net: ResNet, config: ResNetConfig, description: String| {
        let quarter = if config.stem == ocelli_models::Stem::Cifar { 4 } else { 1 };
        let stride_px = config.output_stride / quarter;
        DenseNet { net: Net::ResNet(Box::new(net)), description, stride_px, run: None }
    };
    let stride = |config: &mut ResNetConfig| {
        if stride_px != 0 {
            config.output_stride = stride_px;
        }
    };
    if let Some(name) = weights.to_str().and_then(|w| w.strip_prefix("random:")) {
        let mut init = Init::new(0, device);
        let description = format!("random {name}");
        if name.contains("resnet") {
            let arch: ResNetArch = name.parse().map_err(|e| fail(format!("{e}")))?;
            let mut config = ResNetConfig::from(arch);
            stride(&mut config);
            let net = config.init(&mut init).map_err(|e| fail(e.to_string()))?;
            return Ok(of_resnet(net, config, description));
        }
        let arch: Arch = name.parse()?;
        return of_vit(arch.config(224, 0.0).init(&mut init)?, description, None);
    }
    let loaded = Loaded::read_any(weights, part, |_| Ok(()))?;
    match loaded.network.family {
        Family::ResNet { .. } => {
            let loaded = load_resnet_with(&loaded, device, stride)?;
            Ok(of_resnet(loaded.net, loaded.config, loaded.description))
        }
        Family::Vit { .. } => {
            let loaded = load_backbone_part(weights, part, heads, device)?;
            of_vit(loaded.vit, loaded.description, loaded.run)
        }
    }
}
