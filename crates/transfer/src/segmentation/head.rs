//! What turns a backbone's map into a class for every cell: FCN's head of 3×3 convolutions (Long et al. 2015,
//! <https://arxiv.org/abs/1411.4038>) and the small heads by which patch features are judged (Oquab et al. 2023, DINOv2,
//! <https://arxiv.org/abs/2304.07193>).
//!
//! Parameters have mmsegmentation's names: `convs.0.conv.weight`, `convs.0.bn.weight`, `conv_cat.conv.weight`,
//! `conv_seg.weight`.

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use ocelli_data::Rng;
use ocelli_models::{BatchNorm, Conv2d, Init, Kernel, Mode};

/// Keeps the masks of dropout apart from other streams of the same seed.
const DROPOUT: u64 = 0x6472_6F70;
/// Standard deviation of the classifier's first weights.
const CLASSIFIER_STD: f64 = 0.01;

/// A 3×3 convolution without bias, batch normalisation, ReLU.
#[derive(Module, Debug)]
pub struct ConvModule {
    /// N(0, 2/(9·out)): He et al. 2015 by outgoing values.
    pub conv: Conv2d,
    /// After it.
    pub bn: BatchNorm,
}

impl ConvModule {
    fn new(input: usize, output: usize, init: &mut Init) -> Self {
        Self { conv: Conv2d::new(input, output, Kernel::new(3, 1), init), bn: BatchNorm::new(output, init) }
    }

    fn forward(&self, x: Tensor<4>, mode: Mode) -> Tensor<4> {
        self.bn.forward_relu(self.conv.forward(x), mode, 1)
    }
}

/// A 1×1 convolution with bias, N(0, 0.01²) and 0.
fn classifier(input: usize, classes: usize, init: &mut Init) -> Conv2d {
    let mut conv = Conv2d::new(input, classes, Kernel::new(1, 1), init);
    conv.weight = init.trunc_normal([classes, input, 1, 1], CLASSIFIER_STD);
    conv.bias = Some(init.constant([classes], 0.0));
    conv
}

/// Shape of an [`FcnHead`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FcnHeadConfig {
    /// Channels of the map that comes in.
    pub input: usize,
    /// Channels of the convolutions.
    pub channels: usize,
    /// 3×3 convolutions; 0 is none, and the classifier sees the map itself.
    pub convs: usize,
    /// Whether another convolution sees the map and the last convolution's output side by side.
    pub concat_input: bool,
    /// Classes.
    pub classes: usize,
    /// Share of the channels that are set to 0 in training, 0 to below 1.
    pub dropout: f64,
}

impl FcnHeadConfig {
    /// Channels that the classifier sees.
    fn last(&self) -> usize {
        if self.convs == 0 && !self.concat_input { self.input } else { self.channels }
    }

    /// Values of the head, running statistics included; too many to count is `usize::MAX`.
    pub fn num_values(&self) -> usize {
        let channels = self.channels;
        let module = |input: usize| {
            input.saturating_mul(9).saturating_mul(channels).saturating_add(channels.saturating_mul(4))
        };
        let convs = match self.convs {
            0 => 0,
            n => module(self.input).saturating_add((n - 1).saturating_mul(module(channels))),
        };
        let before = if self.convs == 0 { self.input } else { channels };
        let cat = if self.concat_input { module(self.input.saturating_add(before)) } else { 0 };
        let classifier = self.last().saturating_add(1).saturating_mul(self.classes);
        convs.saturating_add(cat).saturating_add(classifier)
    }

    /// Draws the head.
    pub fn init(&self, init: &mut Init) -> FcnHead {
        let (input, channels) = (self.input, self.channels);
        let convs: Vec<ConvModule> = (0..self.convs)
            .map(|i| ConvModule::new(if i == 0 { input } else { channels }, channels, init))
            .collect();
        let before = if convs.is_empty() { input } else { channels };
        FcnHead {
            conv_cat: self.concat_input.then(|| ConvModule::new(input + before, channels, init)),
            conv_seg: classifier(self.last(), self.classes, init),
            convs,
            dropout: self.dropout,
        }
    }
}

/// FCN's head: 3×3 convolutions, perhaps one more over the input and their output, dropout of whole channels, a 1×1
/// convolution to the classes.
#[derive(Module, Debug)]
pub struct FcnHead {
    /// 3×3 convolutions.
    pub convs: Vec<ConvModule>,
    /// Over `[input; output]`, where there is one.
    pub conv_cat: Option<ConvModule>,
    /// To the classes.
    pub conv_seg: Conv2d,
    #[module(skip)]
    dropout: f64,
}

impl FcnHead {
    /// `[batch, in, rows, cols]` to logits `[batch, classes, rows, cols]`. In training, channels are dropped by the mode's
    /// seed; two heads of one step take `stream`s of their own.
    pub fn forward(&self, x: Tensor<4>, mode: Mode, stream: u64) -> Tensor<4> {
        let keep = match mode {
            Mode::Train { seed } if self.dropout > 0.0 => {
                let shape = [x.dims()[0], self.conv_seg.weight.dims()[1]];
                let keep = keep_mask(self.dropout, shape, &[seed, stream]);
                Some(Tensor::from_data(TensorData::new(keep, shape), &x.device()))
            }
            Mode::Train { .. } | Mode::Eval => None,
        };
        self.forward_keeping(x, mode, keep)
    }

    /// The same with a given mask `[batch, channels]`: 1 keeps a channel of an image, 0 drops it. What is kept is divided by
    /// the share that is kept on average.
    pub fn forward_keeping(&self, x: Tensor<4>, mode: Mode, keep: Option<Tensor<2>>) -> Tensor<4> {
        let mut y = self.convs.iter().fold(x.clone(), |y, conv| conv.forward(y, mode));
        if let Some(conv) = &self.conv_cat {
            y = conv.forward(Tensor::cat(vec![x, y], 1), mode);
        }
        if let Some(keep) = keep {
            let [batch, channels] = keep.dims();
            y = y * (keep / (1.0 - self.dropout)).reshape([batch, channels, 1, 1]);
        }
        self.conv_seg.forward(y)
    }
}

/// Which channels of which images stay, `[images, channels]` of 0 and 1: a function of the words alone.
pub fn keep_mask(dropout: f64, [images, channels]: [usize; 2], words: &[u64]) -> Vec<f32> {
    let words: Vec<u64> = std::iter::once(DROPOUT).chain(words.iter().copied()).collect();
    let mut rng = Rng::from_words(&words);
    (0..images * channels).map(|_| f32::from(u8::from(rng.unit() >= dropout))).collect()
}

/// A linear head on patch features: batch normalisation (with γ and β, as DINOv2's) and a 1×1 convolution, nothing dropped.
#[derive(Module, Debug)]
pub struct LinearHead {
    /// Brings the features of any network to one scale, so that one learning rate suits them.
    pub bn: BatchNorm,
    /// To the classes.
    pub conv_seg: Conv2d,
}

impl LinearHead {
    /// Draws the head.
    pub fn new(input: usize, classes: usize, init: &mut Init) -> Self {
        Self { bn: BatchNorm::new(input, init), conv_seg: classifier(input, classes, init) }
    }

    /// `[batch, in, rows, cols]` to logits `[batch, classes, rows, cols]`.
    pub fn forward(&self, x: Tensor<4>, mode: Mode) -> Tensor<4> {
        self.conv_seg.forward(self.bn.forward_maps(x, mode, 1))
    }
}

/// A head on patch features: `linear`, or `conv`, which is one 3×3 convolution with normalisation and ReLU before the
/// classifier. Neither drops anything.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // There are two heads in a program.
pub enum PatchHead {
    /// What is linearly there already.
    Linear(LinearHead),
    /// With a look at the neighbours.
    Conv(FcnHead),
}

/// Shape of a [`PatchHead`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PatchHeadConfig {
    /// Normalisation and a 1×1 convolution.
    Linear {
        /// Channels of the map that comes in.
        input: usize,
        /// Classes.
        classes: usize,
    },
    /// A 3×3 convolution before it.
    Conv {
        /// Channels of the map that comes in.
        input: usize,
        /// Channels of the 3×3 convolution.
        channels: usize,
        /// Classes.
        classes: usize,
    },
}

impl PatchHeadConfig {
    fn as_fcn(input: usize, channels: usize, classes: usize) -> FcnHeadConfig {
        FcnHeadConfig { input, channels, convs: 1, concat_input: false, classes, dropout: 0.0 }
    }

    /// Values of the head, running statistics included.
    pub fn num_values(&self) -> usize {
        match *self {
            Self::Linear { input, classes } => {
                input.saturating_mul(4).saturating_add(input.saturating_add(1).saturating_mul(classes))
            }
            Self::Conv { input, channels, classes } => Self::as_fcn(input, channels, classes).num_values(),
        }
    }

    /// Draws the head.
    pub fn init(&self, init: &mut Init) -> PatchHead {
        match *self {
            Self::Linear { input, classes } => PatchHead::Linear(LinearHead::new(input, classes, init)),
            Self::Conv { input, channels, classes } => {
                PatchHead::Conv(Self::as_fcn(input, channels, classes).init(init))
            }
        }
    }
}

impl PatchHead {
    /// `[batch, in, rows, cols]` to logits `[batch, classes, rows, cols]`.
    pub fn forward(&self, x: Tensor<4>, mode: Mode) -> Tensor<4> {
        match self {
            Self::Linear(head) => head.forward(x, mode),
            Self::Conv(head) => head.forward(x, mode, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use ocelli_models::params;

    use super::*;

    fn config() -> FcnHeadConfig {
        FcnHeadConfig { input: 6, channels: 4, convs: 2, concat_input: true, classes: 3, dropout: 0.25 }
    }

    #[test]
    fn names_are_mmsegmentations_and_values_are_counted() {
        let device = Device::flex();
        let names = |params: &[params::FlatParam]| params.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
        let values = |params: &[params::FlatParam]| params.iter().map(|p| p.shape.num_elements()).sum::<usize>();
        let head = params::collect(&config().init(&mut Init::new(1, &device)));
        for name in [
            "convs.0.conv.weight",
            "convs.1.bn.running_var",
            "conv_cat.conv.weight",
            "conv_cat.bn.bias",
            "conv_seg.weight",
            "conv_seg.bias",
        ] {
            assert!(names(&head).iter().any(|n| n == name), "{name}: {:?}", names(&head));
        }
        assert_eq!(head.len(), 3 * 5 + 2);
        for config in [
            config(),
            FcnHeadConfig { convs: 1, concat_input: false, ..config() },
            FcnHeadConfig { convs: 0, concat_input: false, ..config() },
            FcnHeadConfig { convs: 0, ..config() },
        ] {
            let all = params::collect(&config.init(&mut Init::new(1, &device)));
            assert_eq!(values(&all), config.num_values(), "{config:?}");
        }
        for (config, first) in [
            (PatchHeadConfig::Linear { input: 6, classes: 3 }, "bn.weight"),
            (PatchHeadConfig::Conv { input: 6, channels: 4, classes: 3 }, "convs.0.conv.weight"),
        ] {
            let all = params::collect(&config.init(&mut Init::new(1, &device)));
            assert_eq!((values(&all), names(&all)[0].as_str()), (config.num_values(), first));
        }
        assert_eq!(FcnHeadConfig { channels: usize::MAX / 64, ..config() }.num_values(), usize::MAX);
    }

    #[test]
    fn dropout_is_of_whole_channels_and_a_function_of_the_seed() {
        let device = Device::flex();
        let head = config().init(&mut Init::new(2, &device));
        let x = Tensor::<4>::ones([2, 6, 3, 5], &device);
        let run = |mode, stream| head.forward(x.clone(), mode, stream).into_data().try_to_vec::<f32>().unwrap();
        let first = run(Mode::Train { seed: 3 }, 0);
        assert_eq!(first, run(Mode::Train { seed: 3 }, 0));
        assert_ne!(first, run(Mode::Train { seed: 4 }, 0));
        assert_ne!(first, run(Mode::Train { seed: 3 }, 1), "two heads drop channels of their own");
        let mask = keep_mask(0.25, [500, 8], &[1]);
        let kept = mask.iter().sum::<f32>() / mask.len() as f32;
        assert!((kept - 0.75).abs() < 0.03 && mask.iter().all(|v| *v == 0.0 || *v == 1.0), "{kept}");
        // Nothing kept leaves the classifier's bias alone.
        let none = head.forward_keeping(x, Mode::Eval, Some(Tensor::zeros([2, 4], &device)));
        assert!(none.into_data().try_to_vec::<f32>().unwrap().iter().all(|v| *v == 0.0));
    }
}
