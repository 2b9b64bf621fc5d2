//! The methods behind one interface: what the loop needs of whichever is trained.

use burn::tensor::{Device, Tensor};
use ocelli_methods::optim::{GradientSum, OptimConfig, Optimizer, StepRates};
use ocelli_methods::{DenseCl, Dino, Method, MethodError, Moco, StepClock, ViewBox};
use ocelli_models::weights::StateDict;
use ocelli_models::{Init, ResNet, ResNetConfig, ResNetError, Vit, params};

use crate::config::MethodKind;
use crate::encoder::{EncoderConfig, detached};
use crate::{Encoder, RunConfig, TrainError};

/// A method with its backbone.
pub(crate) enum Learner {
    DinoVit(Box<Dino<Vit>>),
    DinoResNet(Box<Dino<ResNet>>),
    Moco(Box<Moco<ResNet>>, ResNetConfig),
    DenseCl(Box<DenseCl<ResNet>>, ResNetConfig),
}

/// The same expression for whichever method it is.
macro_rules! each {
    ($learner:expr, $method:ident => $value:expr) => {
        match $learner {
            Learner::DinoVit($method) => $value,
            Learner::DinoResNet($method) => $value,
            Learner::Moco($method, _) => $value,
            Learner::DenseCl($method, _) => $value,
        }
    };
}

/// The views of a micro-batch on the device, and what they show.
pub(crate) struct MicroBatch {
    pub views: Vec<Tensor<4>>,
    pub images: usize,
    pub places: Vec<Vec<ViewBox>>,
    pub clock: StepClock,
}

impl Learner {
    /// Draws the networks from the run's seed.
    pub fn new(config: &RunConfig, device: &Device) -> Result<Self, TrainError> {
        let seed = config.seed;
        Ok(match (config.method, config.encoder_config()) {
            (MethodKind::Dino, EncoderConfig::Vit(vit)) => {
                Self::DinoVit(Box::new(Dino::new(&config.dino, &vit, seed, device)?))
            }
            (MethodKind::Dino, EncoderConfig::ResNet(net)) => {
                let build = |init: &mut Init| -> Result<ResNet, ResNetError> { net.init(init) };
                Self::DinoResNet(Box::new(Dino::of(&config.dino, [&build, &build], seed, device)?))
            }
            (MethodKind::Moco, EncoderConfig::ResNet(net)) => {
                Self::Moco(Box::new(Moco::new(&config.moco, |init| net.init(init), seed, device)?), net)
            }
            (MethodKind::DenseCl, EncoderConfig::ResNet(net)) => {
                let method = DenseCl::new(&config.densecl(), |init| net.init(init), seed, device)?;
                Self::DenseCl(Box::new(method), net)
            }
            (MethodKind::Moco | MethodKind::DenseCl, EncoderConfig::Vit(_)) => {
                return Err(MethodError::Value {
                    key: "arch",
                    expected: "a ResNet",
                    found: config.arch.to_string(),
                }
                .into());
            }
        })
    }

    /// Names of a step's figures, before the gradients' two norms.
    pub fn figures(&self) -> &'static [&'static str] {
        fn of<M: Method>(_: &M) -> &'static [&'static str] {
            M::FIGURES
        }
        each!(self, method => of(method.as_ref()))
    }

    /// One optimizer step; returns its figures and the gradients' norms, still on the device.
    pub fn step(
        &mut self,
        optimizer: &mut Optimizer,
        micro: &[MicroBatch],
        rates: &StepRates,
        optim: &OptimConfig,
    ) -> Tensor<1> {
        each!(self, method => step(method.as_mut(), optimizer, micro, rates, optim))
    }

    /// The network one keeps, as it is now: the teacher's backbone, or the query encoder's.
    pub fn encoder(&self, device: &Device) -> Result<Encoder, TrainError> {
        Ok(match self {
            Self::DinoVit(method) => Encoder::Vit(Box::new(method.teacher().backbone.clone())),
            Self::DinoResNet(method) => Encoder::ResNet(Box::new(method.teacher().backbone.clone())),
            Self::Moco(method, config) => detached(config, &method.net().backbone, device)?,
            Self::DenseCl(method, config) => detached(config, &method.net().backbone, device)?,
        })
    }

    /// Gives every network this backbone.
    pub fn start_from(&mut self, encoder: &Encoder) -> Result<(), TrainError> {
        match (self, encoder) {
            (Self::DinoVit(method), Encoder::Vit(vit)) => method.start_from(vit)?,
            (Self::DinoResNet(method), Encoder::ResNet(net)) => method.start_from(net)?,
            (Self::Moco(method, _), Encoder::ResNet(net)) => method.start_from(net)?,
            (Self::DenseCl(method, _), Encoder::ResNet(net)) => method.start_from(net)?,
            (_, Encoder::Vit(_)) => return Err(MethodError::Missing("ResNet to start from").into()),
            (_, Encoder::ResNet(_)) => return Err(MethodError::Missing("Vision Transformer to start from").into()),
        }
        Ok(())
    }

    pub fn state(&self) -> Result<StateDict, MethodError> {
        each!(self, method => method.state())
    }

    /// Restores [`Learner::state`], and the optimizer's from under `optimizer.`.
    pub fn load(&mut self, state: &StateDict, optimizer: &mut Optimizer) -> Result<(), MethodError> {
        each!(self, method => {
            method.load_state(state)?;
            optimizer.load(&state.under("optimizer."), method.net())?;
        });
        Ok(())
    }

    /// Trained values of backbone and head.
    pub fn parameters(&self) -> (usize, usize) {
        let (all, backbone) =
            each!(self, method => (params::count(method.net()), params::count(&method.net().backbone)));
        (backbone, all - backbone)
    }
}

fn step<M: Method>(
    method: &mut M,
    optimizer: &mut Optimizer,
    micro: &[MicroBatch],
    rates: &StepRates,
    optim: &OptimConfig,
) -> Tensor<1> {
    let mut gradients = GradientSum::default();
    let mut figures: Vec<Tensor<1>> = Vec::new();
    let weight = 1.0 / micro.len().max(1) as f64;
    for MicroBatch { views, images, places, clock } in micro {
        let output = method.loss(views, *images, places, clock);
        let mut raw = output.loss.backward();
        gradients.add(params::take_gradients(method.net(), &mut raw), weight);
        let row = Tensor::cat(output.scalars.into_iter().map(|(_, value)| value).collect(), 0) * weight;
        figures = vec![match figures.pop() {
            None => row,
            Some(sum) => sum + row,
        }];
    }
    if let Some((all, largest)) = gradients.norms() {
        figures.extend([all, largest]);
    }
    if let Some(MicroBatch { clock, .. }) = micro.first() {
        gradients.drop_where(|name| method.is_frozen(name, clock.epoch));
        method.update_with_follower(clock, |net, follower| {
            optimizer.step(net, follower, gradients, rates, &|param| optim.group(param))
        });
        method.after_step(clock);
    }
    Tensor::cat(figures, 0)
}
