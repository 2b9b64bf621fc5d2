//! A trained network out of any file or run folder, with what it wants done to its pictures.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ocelli_models::weights::preprocessing::{EvalSize, Preprocessing, Statistics, Told};
use ocelli_models::weights::{Family, ModuleState as _, Part, StateDict};
use ocelli_models::{AnyBackbone, BackboneArch, BackboneConfig, Init, ResNetConfig, Vit};

use crate::{RunConfig, TrainError};

mod file;
mod hub;
mod input;
mod into;
mod source;

pub use file::resolve_weights;
pub use hub::allow_download;
pub use input::preprocessing_of;
pub use into::load_into;
pub use source::WeightsFile;

use file::Found;

/// How weights are opened. The default takes the network to use (of DINO's checkpoint the teacher's backbone) as it is, and
/// believes what the file says of its pictures.
#[derive(Debug, Clone, Default)]
pub struct Loading {
    /// Of a file with two networks, the one to take.
    pub part: Option<Part>,
    /// Heads of a Vision Transformer, where the file does not tell (a width that is not a multiple of 64).
    pub heads: Option<usize>,
    /// Pixels per cell: 16 or 8 make a ResNet's cells closer by dilation; 0 leaves them.
    pub stride_px: usize,
    /// Refuse a ResNet.
    pub only_vit: bool,
    /// What somebody says of the pictures, before the file.
    pub given: Preprocessing,
}

/// A network and where it came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The network, on a plain device.
    pub encoder: AnyBackbone,
    /// Its shape.
    pub config: BackboneConfig,
    /// What was loaded, in words.
    pub description: String,
    /// Which of a pair of networks it is.
    pub part: Option<Part>,
    /// Pixels per cell.
    pub stride_px: usize,
    /// The normalisation it wants, and who says so.
    pub statistics: Told<Statistics>,
    /// The size it is evaluated at, and who says so.
    pub size: Told<EvalSize>,
    /// The run's configuration, where the file is a checkpoint.
    pub run: Option<RunConfig>,
}

impl Loading {
    /// Opens a run folder (its newest checkpoint), a checkpoint of Ocelli, DINO (the teacher's backbone), MoCo or DenseCL (the
    /// query encoder), a folder of Hugging Face or what its library has cached (`hf:facebook/dino-vits16`), or a backbone in any
    /// names that [`ocelli_models::weights::Weights::layout`] knows: safetensors, or PyTorch's `.pth`, `.pt`, `.bin` and `.tar`.
    /// Heads, queues and classifiers are left out. `random:vit-s/16` and `random:resnet-50` draw a network.
    ///
    /// # Errors
    /// When there is no such file or architecture, or the file holds something else: the message counts and names what is
    /// missing, unexpected and of another shape. When the file contradicts itself on how pixels are normalised. For a stride
    /// other than a Vision Transformer's patch.
    pub fn open(&self, path: &Path, device: &Device) -> Result<Loaded, TrainError> {
        if let Some(name) = path.to_str().and_then(|w| w.strip_prefix("random:")) {
            return self.draw(path, name, device);
        }
        let found = Found::read(path, self.part)?;
        if let (true, Family::ResNet { .. }) = (self.only_vit, &found.network.family) {
            return Err(found.expected("a Vision Transformer"));
        }
        let run = found.run();
        let mut config = found.config(self.heads, run.as_ref())?;
        self.set_stride(path, &mut config)?;
        let encoder = load(&config, &found.state, device).map_err(|reason| found.fail(reason))?;
        let (statistics, size) = input::resolve(&self.given, &found, run.as_ref())?;
        Ok(Loaded {
            stride_px: encoder.stride_px(),
            description: found.describe(&name_of(&config)),
            part: found.network.part,
            encoder,
            config,
            statistics,
            size,
            run,
        })
    }

    fn draw(&self, path: &Path, name: &str, device: &Device) -> Result<Loaded, TrainError> {
        let fail = |reason: String| TrainError::File { path: path.to_owned(), reason };
        let mut config = match name.parse::<BackboneArch>().map_err(|e| fail(e.to_string()))? {
            BackboneArch::ResNet(arch) => BackboneConfig::ResNet(arch.into()),
            BackboneArch::Vit(arch) => BackboneConfig::Vit(arch.config(224, 0.0)),
        };
        self.set_stride(path, &mut config)?;
        if let (true, BackboneConfig::ResNet(_)) = (self.only_vit, &config) {
            return Err(fail(format!("expected a Vision Transformer, found {name}")));
        }
        let encoder = config.init(&mut Init::new(0, device)).map_err(|e| fail(e.to_string()))?;
        let (statistics, size) = input::for_random(&self.given);
        Ok(Loaded {
            stride_px: encoder.stride_px(),
            description: format!("random {name}"),
            part: None,
            encoder,
            config,
            statistics,
            size,
            run: None,
        })
    }

    fn set_stride(&self, path: &Path, config: &mut BackboneConfig) -> Result<(), TrainError> {
        match config {
            _ if self.stride_px == 0 => Ok(()),
            BackboneConfig::ResNet(config) => {
                config.output_stride = self.stride_px;
                Ok(())
            }
            BackboneConfig::Vit(config) if config.patch_size_px == self.stride_px => Ok(()),
            BackboneConfig::Vit(config) => Err(TrainError::File {
                path: path.to_owned(),
                reason: format!(
                    "expected a stride of {} px, this network's patch; found {}",
                    config.patch_size_px, self.stride_px
                ),
            }),
        }
    }
}

impl Loaded {
    /// The Vision Transformer.
    ///
    /// # Errors
    /// When it is a ResNet (which [`Loading::only_vit`] refuses before).
    pub fn vit(&self) -> Result<&Vit, TrainError> {
        self.encoder.as_vit().ok_or_else(|| TrainError::File {
            path: PathBuf::from(&self.description),
            reason: "expected a Vision Transformer, found a ResNet".into(),
        })
    }

    /// The architecture's name, as a configuration has it.
    pub fn arch(&self) -> String {
        name_of(&self.config)
    }

    /// The side of the square images its position embeddings belong to; of a ResNet, ImageNet's usual one. Pixels.
    pub fn image_side_px(&self) -> usize {
        match &self.config {
            BackboneConfig::Vit(config) => config.image_size_px,
            BackboneConfig::ResNet(_) => 224,
        }
    }

    /// What it wants done to its pictures.
    pub fn preprocessing(&self) -> Preprocessing {
        Preprocessing { statistics: Some(self.statistics.clone()), size: Some(self.size.clone()) }
    }

    /// The configuration to evaluate it with: its run's where it has one, with the normalisation and the size of these
    /// weights.
    pub fn eval_config(&self) -> RunConfig {
        let mut config = self.run.clone().unwrap_or_default();
        (config.views.mean, config.views.std) = (self.statistics.value.mean, self.statistics.value.std);
        (config.eval.resize_px, config.eval.crop_px) = (self.size.value.resize_px, self.size.value.crop_px);
        config
    }
}

/// CRC-32 of a network's values, by which it is known again: of names, shapes and numbers, whatever file they came in.
///
/// # Errors
/// When values cannot be read from the device.
pub fn weights_crc32(encoder: &AnyBackbone) -> Result<String, TrainError> {
    let mut state = StateDict::default();
    state.add_module("", encoder)?;
    let mut hasher = crc32fast::Hasher::new();
    for (name, tensor) in &state.tensors {
        hasher.update(format!("{name} {:?}\n", tensor.shape).as_bytes());
        hasher.update(bytemuck::cast_slice(&tensor.values));
    }
    Ok(format!("{:08x}", hasher.finalize()))
}

/// A network of this shape with these values.
fn load(config: &BackboneConfig, state: &StateDict, device: &Device) -> Result<AnyBackbone, String> {
    let net = config.init(&mut Init::new(0, device)).map_err(|e| e.to_string())?;
    state.load_into(net).map_err(|e| e.to_string())
}

/// The architecture's name here.
fn name_of(config: &BackboneConfig) -> String {
    match config {
        BackboneConfig::Vit(config) => config.arch().to_string(),
        BackboneConfig::ResNet(ResNetConfig { arch, .. }) => arch.to_string(),
    }
}
