//! The choices of kernels that a run would make at its first steps, made ahead of it.
//!
//! Choices are made for an operation and its shapes, so networks of one block ask for all that deep ones ask for.

use burn::tensor::{Device, Tensor};
use ocelli_methods::{Batch, StepClock};
use ocelli_models::{Backbone as _, BackboneArch, BackboneConfig, Init, Mode};

use crate::config::resolve;
use crate::fence::fenced;
use crate::{RunConfig, TrainError, backbone_of};

/// Recipes that people begin with on a graphics card.
pub const PRESETS: [&str; 4] = ["demo", "laptop", "cifar-reference", "vit-s16-one-gpu"];
/// Networks that people use, and images they pass through at once.
const NETWORKS: [(&str, [usize; 2]); 4] =
    [("vit-ti/16", [1, 32]), ("vit-s/16", [1, 32]), ("vit-s/8", [1, 32]), ("vit-b/16", [1, 32])];
const SIZE_PX: usize = 224;

/// Something whose shapes are asked for.
#[derive(Debug, Clone)]
pub enum Work {
    /// A step of a configuration.
    Step(String, Box<RunConfig>),
    /// Images through a network.
    Inference(BackboneArch, usize),
}

impl Work {
    /// What it is, in words.
    pub fn name(&self) -> String {
        match self {
            Self::Step(preset, _) => format!("a step of {preset}"),
            Self::Inference(arch, 1) => format!("{arch}, 1 image"),
            Self::Inference(arch, images) => format!("{arch}, {images} images"),
        }
    }

    /// Computes it once on a plain device, which has `Mode::Auto` choose.
    ///
    /// # Errors
    /// When the device fails, or the configuration cannot be built.
    pub fn choose(&self, device: &Device) -> Result<(), TrainError> {
        fenced(|| match self {
            Self::Step(_, config) => step(config, device),
            Self::Inference(arch, images) => {
                let net = shallow(backbone_of(arch, SIZE_PX)).init(&mut Init::new(0, device))?;
                let features = net.features(Tensor::ones([*images, 3, SIZE_PX, SIZE_PX], device), Mode::Eval);
                let _ = features.into_data();
                Ok(())
            }
        })
    }
}

/// The common recipes and networks, or the recipes of these names.
///
/// # Errors
/// A name that no recipe has.
pub fn works(presets: &[String]) -> Result<Vec<Work>, TrainError> {
    let step =
        |name: &str| Ok::<_, TrainError>(Work::Step(name.to_owned(), Box::new(resolve(Some(name), None, &[])?)));
    if !presets.is_empty() {
        return presets.iter().map(|name| step(name)).collect();
    }
    let mut works = PRESETS.into_iter().map(step).collect::<Result<Vec<_>, _>>()?;
    for (name, batches) in NETWORKS {
        let arch: BackboneArch = name.parse()?;
        works.extend(batches.map(|images| Work::Inference(arch.clone(), images)));
    }
    Ok(works)
}

/// A Vision Transformer of one block; other networks as they are.
fn shallow(mut backbone: BackboneConfig) -> BackboneConfig {
    if let BackboneConfig::Vit(vit) = &mut backbone {
        vit.depth = 1;
    }
    backbone
}

/// Forward and backward with as many images and views as a micro-batch has.
fn step(config: &RunConfig, device: &Device) -> Result<(), TrainError> {
    let backbone = shallow(config.backbone());
    let images = config.batch_size / config.accumulate.max(1);
    // As many as any method asks for; none of them is read.
    let facts = config.facts(&backbone, Some(1 << 20), Some(10));
    let mut method = (config.recipe().build)(&facts, config.seed, device)?;
    let of = |(size_px, views): (u32, std::ops::Range<usize>)| {
        let side = size_px as usize;
        Tensor::ones([views.len() * images, 3, side, side], device)
    };
    let views = config.view_plan().groups().into_iter().map(of).collect();
    let clock = StepClock { epoch: 0, iteration: 0, micro_batch: 0, momentum: 0.99, seed: config.seed };
    let mut batch = Batch::of_views(views, images);
    batch.indices = (0..images).collect();
    batch.labels = (0..images).map(|i| Some(i as u32 % 10)).collect();
    method.before_step(&clock);
    let loss = method.loss(&batch, &clock).loss;
    let gradients = loss.backward();
    drop(gradients);
    let _ = loss.into_data();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_common_recipe_is_there_and_others_can_be_asked_for() {
        let names: Vec<String> = works(&[]).unwrap().iter().map(Work::name).collect();
        assert!(names.contains(&"a step of laptop".to_owned()) && names.contains(&"vit-s/8, 1 image".to_owned()));
        assert!(names.len() == PRESETS.len() + 8, "{names:?}");
        let one = works(&["moco-vit-s16-300".to_owned()]).unwrap();
        assert_eq!(one.iter().map(Work::name).collect::<Vec<_>>(), ["a step of moco-vit-s16-300"]);
        assert!(works(&["nobody".to_owned()]).unwrap_err().to_string().contains("nobody"));
    }

    #[test]
    fn a_step_is_computed() {
        let sets = ["batch_size=4", "arch=vit-32x6x2/8"].map(str::to_owned);
        let config = resolve(Some("laptop"), None, &sets).unwrap();
        Work::Step("laptop".to_owned(), Box::new(config)).choose(&Device::flex()).unwrap();
        Work::Inference("vit-32x6x2/16".parse().unwrap(), 2).choose(&Device::flex()).unwrap();
    }
}
