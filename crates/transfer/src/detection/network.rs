//! Faster R-CNN on a backbone's fourth stage (Ren et al. 2015; C4 as in He et al. 2016): three stages see the whole image, the
//! fourth each region.

use std::collections::HashSet;

use burn::module::{Module, ModuleDisplay};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use ocelli_kernels::roi_align::{Roi, RoiAlignShape, roi_align};
use ocelli_models::{BatchNorm, Conv2d, Init, Kernel, Linear, Mode, ResNet, ResNetConfig, params, pool};
use ocelli_train::TrainError;

/// Standard deviation of the first weights of both heads, and of the box regression's.
const HEAD_STD: f64 = 0.01;
const BOX_STD: f64 = 0.001;

/// A backbone in two parts: a trunk that sees whole images, and what sees the regions cut out of its maps.
pub trait C4: Module + ModuleDisplay {
    /// Images `[batch, 3, height, width]` to maps `[batch, trunk_dim, ⌈height/stride⌉, ⌈width/stride⌉]`.
    fn trunk(&self, images: Tensor<4>, mode: Mode) -> Tensor<4>;

    /// Crops `[regions, trunk_dim, side, side]` to `[regions, region_dim, ⌈side/2⌉, ⌈side/2⌉]`.
    fn regions(&self, crops: Tensor<4>, mode: Mode) -> Tensor<4>;

    /// Channels of the trunk.
    fn trunk_dim(&self) -> usize;

    /// Channels of the regions.
    fn region_dim(&self) -> usize;

    /// Pixels per cell of the trunk.
    fn stride_px(&self) -> usize;
}

/// A ResNet: three stages are the trunk, the fourth sees the regions, and a batch normalisation of its own follows it, behind the
/// last ReLU (MoCo's `Res5ROIHeadsExtraNorm`).
#[derive(Module, Debug)]
pub struct ResNetC4 {
    /// The backbone, trained from its first layer.
    pub backbone: ResNet,
    /// What follows the fourth stage, where anything does.
    pub norm: Option<BatchNorm>,
    #[module(skip)]
    trunk_dim: usize,
}

impl ResNetC4 {
    /// A ResNet with a new norm, or without.
    ///
    /// # Errors
    /// When its numbers do not fit together, and for one whose fourth stage has dilation in place of stride.
    pub fn new(config: &ResNetConfig, extra_norm: bool, init: &mut Init) -> Result<Self, TrainError> {
        let config = ResNetConfig { norm_groups: 1, output_stride: 32, ..*config };
        let backbone = config.init(init).map_err(ocelli_methods::MethodError::from)?;
        let norm = extra_norm.then(|| BatchNorm::new(config.arch.dim(), init));
        Ok(Self { backbone, norm, trunk_dim: config.arch.stage_dim(2) })
    }
}

impl C4 for ResNetC4 {
    fn trunk(&self, images: Tensor<4>, mode: Mode) -> Tensor<4> {
        self.backbone.to_stage3(images, mode)
    }

    fn regions(&self, crops: Tensor<4>, mode: Mode) -> Tensor<4> {
        let maps = self.backbone.stage4(crops, mode);
        match &self.norm {
            Some(norm) => norm.forward_maps(maps, mode, 1),
            None => maps,
        }
    }

    fn trunk_dim(&self) -> usize {
        self.trunk_dim
    }

    fn region_dim(&self) -> usize {
        self.backbone.dim()
    }

    fn stride_px(&self) -> usize {
        self.backbone.stride_px() / 2
    }
}

/// The region proposal network's head.
#[derive(Module, Debug)]
pub struct RpnHead {
    /// 3×3, as many channels as the trunk has.
    pub conv: Conv2d,
    /// 1×1 to a logit for each anchor of a cell.
    pub objectness_logits: Conv2d,
    /// 1×1 to four numbers for each anchor of a cell.
    pub anchor_deltas: Conv2d,
}

/// What the proposal network's head says of a batch.
#[derive(Debug, Clone)]
pub struct RpnOutput {
    /// How much each anchor looks like an object, `[batch, anchors, rows, cols]`.
    pub logits: Tensor<4>,
    /// How it should move, `[batch, 4·anchors, rows, cols]`, channel = 4·anchor + coordinate.
    pub deltas: Tensor<4>,
}

impl RpnHead {
    /// Weights N(0, .01²), bias 0, for `anchors` of a cell.
    pub fn new(dim: usize, anchors: usize, init: &mut Init) -> Self {
        Self {
            conv: conv(dim, dim, 3, init),
            objectness_logits: conv(dim, anchors, 1, init),
            anchor_deltas: conv(dim, 4 * anchors, 1, init),
        }
    }

    /// Maps of the trunk to logits and deltas.
    pub fn forward(&self, maps: Tensor<4>) -> RpnOutput {
        let hidden = relu(self.conv.forward(maps));
        RpnOutput {
            logits: self.objectness_logits.forward(hidden.clone()),
            deltas: self.anchor_deltas.forward(hidden),
        }
    }
}

/// A convolution with N(0, .01²) weights and zero bias.
fn conv(input: usize, output: usize, side: usize, init: &mut Init) -> Conv2d {
    let device = init.device().clone();
    let drawn = init.trunc_normal([output, input, side, side], HEAD_STD);
    let mut conv = Conv2d::new(input, output, Kernel::new(side, 1), &mut Init::blank(&device));
    (conv.weight, conv.bias) = (drawn, Some(init.constant([output], 0.0)));
    conv
}

/// What a region is, and where its object is within it.
#[derive(Module, Debug)]
pub struct BoxPredictor {
    /// To a logit for each class and, last, for the background.
    pub cls_score: Linear,
    /// To four numbers for each class.
    pub bbox_pred: Linear,
}

impl BoxPredictor {
    /// Weights N(0, .01²) of the classes and N(0, .001²) of the boxes, bias 0.
    pub fn new(dim: usize, classes: usize, init: &mut Init) -> Self {
        let mut linear = |output: usize, std: f64| Linear {
            weight: init.trunc_normal([dim, output], std),
            bias: Some(init.constant([output], 0.0)),
        };
        Self { cls_score: linear(classes + 1, HEAD_STD), bbox_pred: linear(4 * classes, BOX_STD) }
    }
}

/// What the second stage says of regions.
#[derive(Debug, Clone)]
pub struct RegionOutput {
    /// The regions' features, `[regions, region_dim]`.
    pub pooled: Tensor<2>,
    /// `[regions, classes + 1]`, background last.
    pub logits: Tensor<2>,
    /// `[regions, 4·classes]`, class by class.
    pub deltas: Tensor<2>,
}

/// The detector.
#[derive(Module, Debug)]
pub struct FasterRcnn<N: Module> {
    /// The backbone.
    pub network: N,
    /// What proposes regions.
    pub rpn: RpnHead,
    /// What judges them.
    pub predictor: BoxPredictor,
}

impl<N: C4> FasterRcnn<N> {
    /// Draws both heads.
    pub fn new(network: N, anchors: usize, classes: usize, init: &mut Init) -> Self {
        let rpn = RpnHead::new(network.trunk_dim(), anchors, init);
        let predictor = BoxPredictor::new(network.region_dim(), classes, init);
        Self { network, rpn, predictor }
    }

    /// Classes, without the background.
    pub fn classes(&self) -> usize {
        self.predictor.cls_score.weight.dims()[1] - 1
    }

    /// Anchors of a cell.
    pub fn anchors(&self) -> usize {
        self.rpn.objectness_logits.weight.dims()[0]
    }

    /// Cuts regions out of the trunk's maps by ROIAlign, `side × side` cells each, and judges them. There is one region at least.
    pub fn judge(
        &self,
        maps: Tensor<4>,
        rois: &[Roi],
        (side, sampling): (usize, usize),
        mode: Mode,
    ) -> RegionOutput {
        let scale = 1.0 / self.network.stride_px() as f32;
        let shape = RoiAlignShape { rows: side, cols: side, scale, sampling_ratio: sampling };
        let crops = roi_align(maps, rois, shape);
        let pooled = pool(self.network.regions(crops, mode));
        RegionOutput {
            logits: self.predictor.cls_score.forward(pooled.clone()),
            deltas: self.predictor.bbox_pred.forward(pooled.clone()),
            pooled,
        }
    }
}

/// Names of the parameters of normalisations, a weight and a bias beside a running mean: they are not decayed.
pub fn norm_parameters<M: Module>(net: &M) -> HashSet<String> {
    let all = params::collect(net);
    let norms = all.iter().filter_map(|p| p.name.strip_suffix("running_mean"));
    norms.flat_map(|norm| ["weight", "bias"].map(|what| format!("{norm}{what}"))).collect()
}
