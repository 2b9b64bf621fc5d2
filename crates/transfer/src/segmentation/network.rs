//! A backbone and the heads on its maps.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ocelli_models::params::{self, FlatParam};
use ocelli_models::{AnyBackbone, Backbone as _, BackboneConfig, BackboneError, Init, Mode, Vit};

use super::head::{FcnHead, FcnHeadConfig, PatchHead, PatchHeadConfig};

/// Keeps the heads' first weights apart from other draws of the same seed.
const HEADS: u64 = 0x6865_6164;
/// Streams of dropout.
const DECODE: u64 = 0;
const AUXILIARY: u64 = 1;

/// The head whose answer counts.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // There is one in a program.
pub enum DecodeHead {
    /// On the last stage of a ResNet.
    Fcn(FcnHead),
    /// On the patches of a Vision Transformer.
    Patch(PatchHead),
}

/// Shape of a [`DecodeHead`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DecodeConfig {
    /// FCN's.
    Fcn(FcnHeadConfig),
    /// On patch features.
    Patch(PatchHeadConfig),
}

/// Shape of a [`SegmentationNet`].
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkConfig {
    /// The backbone.
    pub backbone: BackboneConfig,
    /// The last blocks of a Vision Transformer whose patches the head sees, side by side, the oldest first; each after the
    /// final norm. A ResNet has 1.
    pub blocks: usize,
    /// Whether the backbone stays as it is.
    pub frozen: bool,
    /// The head.
    pub decode: DecodeConfig,
    /// A second head on the third stage of a ResNet, for training alone.
    pub auxiliary: Option<FcnHeadConfig>,
}

impl NetworkConfig {
    /// Channels that the head sees.
    pub fn decode_dim(backbone: &BackboneConfig, blocks: usize) -> usize {
        backbone.dim() * blocks.max(1)
    }

    /// Channels of the third stage, where the backbone is a ResNet.
    pub fn auxiliary_dim(backbone: &BackboneConfig) -> Option<usize> {
        match backbone {
            BackboneConfig::ResNet(config) => Some(config.arch.stage_dim(2)),
            BackboneConfig::Vit(_) => None,
        }
    }

    /// Values of the heads, running statistics included; `usize::MAX` where that is too many to count.
    pub fn head_values(&self) -> usize {
        let decode = match &self.decode {
            DecodeConfig::Fcn(config) => config.num_values(),
            DecodeConfig::Patch(config) => config.num_values(),
        };
        decode.saturating_add(self.auxiliary.map_or(0, |config| config.num_values()))
    }

    /// A network with this backbone, and heads drawn from `seed`. On an autodiff device everything that is trained is
    /// tracked: a frozen backbone is not.
    ///
    /// # Errors
    /// When the backbone cannot be built.
    pub fn with_backbone(
        &self,
        encoder: &AnyBackbone,
        seed: u64,
        device: &Device,
    ) -> Result<SegmentationNet, BackboneError> {
        let mut net = self.build(&mut Init::new(seed ^ HEADS, device))?;
        let mut values = by_name(params::collect(encoder));
        net.backbone = params::replace(net.backbone, |param| values.remove(&param.name));
        Ok(net)
    }

    /// A network of zeros, to be filled.
    ///
    /// # Errors
    /// When the backbone cannot be built.
    pub fn blank(&self, device: &Device) -> Result<SegmentationNet, BackboneError> {
        self.build(&mut Init::blank(device))
    }

    /// A network with these values, by name: of its own, on the plain device, with running statistics that are not shared.
    ///
    /// # Errors
    /// When the backbone cannot be built.
    pub fn with_values(&self, values: Vec<FlatParam>, device: &Device) -> Result<SegmentationNet, BackboneError> {
        let mut values = by_name(values);
        Ok(params::replace(self.blank(&device.clone().inner())?, |param| values.remove(&param.name)))
    }

    fn build(&self, heads: &mut Init) -> Result<SegmentationNet, BackboneError> {
        let device = heads.device().clone();
        let of_backbone = if self.frozen { device.inner() } else { device };
        Ok(SegmentationNet {
            // Its values always come from elsewhere.
            backbone: self.backbone.init(&mut Init::blank(&of_backbone))?,
            decode_head: match &self.decode {
                DecodeConfig::Fcn(config) => DecodeHead::Fcn(config.init(heads)),
                DecodeConfig::Patch(config) => DecodeHead::Patch(config.init(heads)),
            },
            auxiliary_head: self.auxiliary.map(|config| config.init(heads)),
            blocks: self.blocks,
            frozen: self.frozen,
        })
    }
}

fn by_name(values: Vec<FlatParam>) -> BTreeMap<String, Tensor<1>> {
    values.into_iter().map(|param| (param.name, param.values)).collect()
}

/// What the heads say of every cell.
#[derive(Debug, Clone)]
pub struct Logits {
    /// `[batch, classes, rows, cols]`.
    pub decode: Tensor<4>,
    /// The auxiliary head's, of the same cells; in training alone.
    pub auxiliary: Option<Tensor<4>>,
}

/// A network for semantic segmentation. Parameters have mmsegmentation's names: `backbone.…`, `decode_head.…`,
/// `auxiliary_head.…`.
#[derive(Module, Debug)]
pub struct SegmentationNet {
    /// The backbone.
    pub backbone: AnyBackbone,
    /// The head whose answer counts.
    pub decode_head: DecodeHead,
    /// The head that helps in training, where there is one.
    pub auxiliary_head: Option<FcnHead>,
    #[module(skip)]
    blocks: usize,
    #[module(skip)]
    frozen: bool,
}

impl SegmentationNet {
    /// Images `[batch, 3, height, width]`, on the plain device, to the classes of their cells. Of a Vision Transformer, pixels
    /// beyond the last whole patch are left out, and no path is dropped whatever the mode. A frozen backbone always evaluates:
    /// its running statistics stay.
    pub fn forward(&self, images: Tensor<4>, mode: Mode) -> Logits {
        let tracked = self.is_tracked();
        let images = if tracked && !self.frozen { images.autodiff() } else { images };
        let (last, middle) = self.maps(images, if self.frozen { Mode::Eval } else { mode });
        let enter = |map: Tensor<4>| if tracked { map.autodiff() } else { map };
        let decode = match &self.decode_head {
            DecodeHead::Fcn(head) => head.forward(enter(last), mode, DECODE),
            DecodeHead::Patch(head) => head.forward(enter(last), mode),
        };
        let auxiliary = match (mode, &self.auxiliary_head, middle) {
            (Mode::Train { .. }, Some(head), Some(map)) => Some(head.forward(enter(map), mode, AUXILIARY)),
            _ => None,
        };
        Logits { decode, auxiliary }
    }

    /// The map of the head, and the auxiliary head's, where the backbone has one.
    fn maps(&self, images: Tensor<4>, mode: Mode) -> (Tensor<4>, Option<Tensor<4>>) {
        match &self.backbone {
            AnyBackbone::ResNet(net) => {
                let [_, _, middle, last] = net.stages(images, mode);
                (last, Some(middle))
            }
            AnyBackbone::Vit(vit) if self.blocks > 1 => (patches(vit, images, self.blocks), None),
            AnyBackbone::Vit(vit) => (vit.feature_map(images, mode), None),
        }
    }

    /// Whether its heads are part of an autodiff graph.
    fn is_tracked(&self) -> bool {
        let conv = match &self.decode_head {
            DecodeHead::Fcn(head) | DecodeHead::Patch(PatchHead::Conv(head)) => &head.conv_seg,
            DecodeHead::Patch(PatchHead::Linear(head)) => &head.conv_seg,
        };
        conv.weight.val().is_autodiff()
    }
}

/// Patches of the last `blocks` blocks side by side, `[batch, blocks·dim, rows, cols]`.
fn patches(vit: &Vit, images: Tensor<4>, blocks: usize) -> Tensor<4> {
    let [batch, _, height, width] = images.dims();
    let (grid, dim) = (vit.grid(height, width), vit.dim());
    let map = |tokens: Tensor<3>| {
        let cells = tokens.narrow(1, 1, grid.cells()).swap_dims(1, 2);
        cells.reshape([batch, dim, grid.rows, grid.cols])
    };
    Tensor::cat(vit.intermediate_layers(images, blocks).into_iter().map(map).collect(), 1)
}

#[cfg(test)]
mod tests {
    use ocelli_models::{Arch, ResNetArch, ResNetConfig};

    use super::*;

    fn resnet() -> BackboneConfig {
        let arch: ResNetArch = "resnet-18c2".parse().unwrap();
        BackboneConfig::ResNet(ResNetConfig { output_stride: 8, ..arch.into() })
    }

    fn fcn(input: usize, dropout: f64) -> FcnHeadConfig {
        FcnHeadConfig { input, channels: 4, convs: 1, concat_input: false, classes: 3, dropout }
    }

    fn config(frozen: bool) -> NetworkConfig {
        NetworkConfig {
            backbone: resnet(),
            blocks: 1,
            frozen,
            decode: DecodeConfig::Fcn(fcn(16, 0.1)),
            auxiliary: Some(fcn(8, 0.1)),
        }
    }

    fn encoder(config: &BackboneConfig) -> AnyBackbone {
        config.init(&mut Init::new(5, &Device::flex())).unwrap()
    }

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn names_are_mmsegmentations() {
        let net = config(false).with_backbone(&encoder(&resnet()), 1, &Device::flex()).unwrap();
        let all = params::collect(&net);
        for name in [
            "backbone.conv1.weight",
            "backbone.layer4.1.bn2.running_mean",
            "decode_head.convs.0.conv.weight",
            "decode_head.conv_seg.bias",
            "auxiliary_head.convs.0.bn.weight",
            "auxiliary_head.conv_seg.weight",
        ] {
            assert!(all.iter().any(|p| p.name == name), "{name}");
        }
        let heads: usize =
            all.iter().filter(|p| !p.name.starts_with("backbone.")).map(|p| p.shape.num_elements()).sum();
        assert_eq!(heads, config(false).head_values());
        // The backbone's values are the encoder's.
        let theirs = params::collect(&encoder(&resnet()));
        for (a, b) in all.iter().zip(&theirs) {
            assert_eq!(a.name, format!("backbone.{}", b.name));
            assert_eq!(values(a.values.clone()), values(b.values.clone()));
        }
    }

    #[test]
    fn both_heads_train_and_one_answers() {
        let device = Device::flex();
        let net = config(false).with_backbone(&encoder(&resnet()), 1, &device.clone().autodiff()).unwrap();
        let images = || Tensor::<4>::ones([2, 3, 40, 56], &device);
        let found = net.forward(images(), Mode::Train { seed: 1 });
        assert_eq!(found.decode.dims(), [2, 3, 5, 7]);
        assert_eq!(found.auxiliary.unwrap().dims(), [2, 3, 5, 7]);
        assert!(net.forward(images(), Mode::Eval).auxiliary.is_none());
        let mut raw = found.decode.sum().backward();
        let gradients = params::take_gradients(&net, &mut raw);
        assert!(gradients.iter().any(|(name, _)| name == "backbone.conv1.weight"));
        // A copy with the same values answers the same, off the graph.
        let copy = config(false).with_values(params::collect(&net), &device).unwrap();
        let (a, b) = (net.forward(images(), Mode::Eval).decode, copy.forward(images(), Mode::Eval).decode);
        let near = values(a.inner()).iter().zip(values(b)).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near);
    }

    #[test]
    fn a_frozen_backbone_has_neither_gradients_nor_new_statistics() {
        let device = Device::flex();
        let net = config(true).with_backbone(&encoder(&resnet()), 1, &device.clone().autodiff()).unwrap();
        let running = |net: &SegmentationNet| {
            let all = params::collect(net);
            let of = |name: &str| values(all.iter().find(|p| p.name == name).unwrap().values.clone());
            (of("backbone.bn1.running_mean"), of("decode_head.convs.0.bn.running_mean"))
        };
        let before = running(&net);
        let found = net.forward(Tensor::ones([2, 3, 32, 32], &device), Mode::Train { seed: 1 });
        let mut raw = (found.decode.sum() + found.auxiliary.unwrap().sum()).backward();
        let gradients = params::take_gradients(&net, &mut raw);
        assert!(gradients.iter().all(|(name, _)| !name.starts_with("backbone.")));
        assert!(gradients.iter().any(|(name, _)| name == "auxiliary_head.conv_seg.bias"));
        let after = running(&net);
        assert_eq!(before.0, after.0);
        assert_ne!(before.1, after.1);
    }

    #[test]
    fn patches_of_several_blocks_lie_side_by_side() {
        let device = Device::flex();
        let backbone = BackboneConfig::Vit("vit-32x3x2/8".parse::<Arch>().unwrap().config(32, 0.0));
        let net = |blocks: usize| {
            let input = NetworkConfig::decode_dim(&backbone, blocks);
            let decode = DecodeConfig::Patch(PatchHeadConfig::Linear { input, classes: 3 });
            let config =
                NetworkConfig { backbone: backbone.clone(), blocks, frozen: true, decode, auxiliary: None };
            config.with_backbone(&encoder(&backbone), 1, &device).unwrap()
        };
        let images: Vec<f32> = (0..3 * 24 * 40).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
        let images =
            || Tensor::<4>::from_data(burn::tensor::TensorData::new(images.clone(), [1, 3, 24, 40]), &device);
        let (one, two) = (net(1).maps(images(), Mode::Eval).0, net(2).maps(images(), Mode::Eval).0);
        assert_eq!((one.dims(), two.dims()), ([1, 32, 3, 5], [1, 64, 3, 5]));
        let near = |a: Vec<f32>, b: Vec<f32>| a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near(values(two.narrow(1, 32, 32)), values(one)), "the last block comes last");
        assert_eq!(net(2).forward(images(), Mode::Eval).decode.dims(), [1, 3, 3, 5]);
    }
}
