//! The network of the detector's fixtures: a trunk of four convolutions and one block in place of res5.

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use ocelli::models::weights::{ModuleState as _, StateDict};
use ocelli::models::{BatchNorm, Conv2d, Init, Kernel, Mode, params};
use ocelli::transfer::detection::names::head_name;
use ocelli::transfer::detection::network::{C4, FasterRcnn};

use crate::support::Fixture;

/// A convolution and its norm, in detectron2's names.
#[derive(Module, Debug)]
struct Layer {
    op_conv: Conv2d,
    norm: BatchNorm,
}

impl Layer {
    /// Of the fixture's sizes.
    fn new(f: &Fixture, name: &str, stride: usize, init: &mut Init) -> Self {
        let &[output, input, side, _] = &f.get(&format!("init.{name}.weight")).shape[..] else {
            panic!("{name} is no convolution")
        };
        let op_conv = Conv2d::new(input, output, Kernel::new(side, stride), init);
        Self { op_conv, norm: BatchNorm::new(output, init) }
    }

    fn forward(&self, x: Tensor<4>, mode: Mode) -> Tensor<4> {
        self.norm.forward_maps(self.op_conv.forward(x), mode, 1)
    }

    fn dim(&self) -> usize {
        self.op_conv.weight.dims()[0]
    }
}

#[derive(Module, Debug)]
struct Trunk {
    conv1: Layer,
    conv2: Layer,
    conv3: Layer,
    conv4: Layer,
}

#[derive(Module, Debug)]
struct Bottleneck {
    shortcut: Layer,
    conv1: Layer,
    conv2: Layer,
    conv3: Layer,
}

#[derive(Module, Debug)]
struct Res5 {
    op_blocks: Vec<Bottleneck>,
    norm: BatchNorm,
}

#[derive(Module, Debug)]
struct Heads {
    res5: Res5,
}

/// The fixture's backbone.
#[derive(Module, Debug)]
pub struct Tiny {
    backbone: Trunk,
    roi_heads: Heads,
}

impl Tiny {
    fn new(f: &Fixture, init: &mut Init) -> Self {
        let mut of = |name: &str, stride| Layer::new(f, name, stride, init);
        let backbone = Trunk {
            conv1: of("backbone.conv1", 2),
            conv2: of("backbone.conv2", 2),
            conv3: of("backbone.conv3", 2),
            conv4: of("backbone.conv4", 2),
        };
        let block = Bottleneck {
            shortcut: of("roi_heads.res5.0.shortcut", 2),
            conv1: of("roi_heads.res5.0.conv1", 1),
            conv2: of("roi_heads.res5.0.conv2", 2),
            conv3: of("roi_heads.res5.0.conv3", 1),
        };
        let norm = BatchNorm::new(block.conv3.dim(), init);
        Self { backbone, roi_heads: Heads { res5: Res5 { op_blocks: vec![block], norm } } }
    }
}

impl C4 for Tiny {
    fn trunk(&self, images: Tensor<4>, mode: Mode) -> Tensor<4> {
        let Trunk { conv1, conv2, conv3, conv4 } = &self.backbone;
        [conv1, conv2, conv3, conv4].into_iter().fold(images, |x, layer| relu(layer.forward(x, mode)))
    }

    fn regions(&self, crops: Tensor<4>, mode: Mode) -> Tensor<4> {
        let Res5 { op_blocks, norm } = &self.roi_heads.res5;
        let maps = op_blocks.iter().fold(crops, |x, block| {
            let y = relu(block.conv1.forward(x.clone(), mode));
            let y = relu(block.conv2.forward(y, mode));
            relu(block.conv3.forward(y, mode) + block.shortcut.forward(x, mode))
        });
        norm.forward_maps(maps, mode, 1)
    }

    fn trunk_dim(&self) -> usize {
        self.backbone.conv4.dim()
    }

    fn region_dim(&self) -> usize {
        self.roi_heads.res5.norm.weight.dims()[0]
    }

    fn stride_px(&self) -> usize {
        16
    }
}

/// The fixture's name of one of the detector's tensors.
pub fn name_of(own: &str) -> String {
    own.strip_prefix("network.").map_or_else(|| head_name(own).unwrap(), str::to_owned)
}

/// The fixture's tensors under `prefix`, in the detector's names.
fn own_state(f: &Fixture, net: &FasterRcnn<Tiny>, prefix: &str) -> StateDict {
    let mut state = StateDict::default();
    for param in params::collect(net) {
        state.tensors.push((param.name.clone(), f.get(&format!("{prefix}{}", name_of(&param.name))).clone()));
    }
    state
}

/// The detector on it, with the fixture's first values.
pub fn tiny(f: &Fixture, device: &Device) -> FasterRcnn<Tiny> {
    let init = &mut Init::new(0, &device.clone().autodiff());
    let network = Tiny::new(f, init);
    let anchors =
        f.config()["anchor_sizes"].as_array().unwrap().len() * f.config()["ratios"].as_array().unwrap().len();
    let net = FasterRcnn::new(network, anchors, f.usize("classes"), init);
    let state = own_state(f, &net, "init.");
    state.load_into(net).unwrap()
}
