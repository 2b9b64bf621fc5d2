//! Fine-tuned networks in files: mmsegmentation's names, and beside the tensors everything that is needed to use them.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ocelli_data::annotated::{LabelMap, MaskedPart};
use ocelli_data::{Image, Scratch};
use ocelli_eval::picture::Rgb;
use ocelli_models::weights::preprocessing::{EvalSize, Preprocessing, Told};
use ocelli_models::weights::{ModuleState as _, StateDict, read_safetensors, write_safetensors};
use ocelli_models::{BackboneArch, BackboneConfig, ResNetConfig, Vit, VitConfig};
use ocelli_train::config::ConfigError;
use ocelli_train::{Loaded, TrainError, weights_crc32};

use super::config::{SEGMENTATION_TASK, SegmentationConfig};
use super::data::palette;
use super::evaluation::{Limits, SegmentationFound, evaluate};
use super::inference::Inference;
use super::network::SegmentationNet;
use super::task::SEGMENTER_FILE;

/// How weights are named that are drawn, not read.
pub(super) const DRAWN: &str = "random:";

impl SegmentationConfig {
    /// The same for these weights, named so: their architecture and the normalisation they want.
    ///
    /// # Errors
    /// When the architecture has no name, or values cannot be read from the device.
    pub fn for_weights(self, loaded: &Loaded, name: &str) -> Result<Self, TrainError> {
        let fail = |reason: String| TrainError::File { path: PathBuf::from(name), reason };
        let arch = loaded.arch().parse().map_err(|e: ocelli_models::BackboneError| fail(e.to_string()))?;
        let statistics = loaded.statistics.value;
        // Drawn values are this run's seed's: they are not those that were opened.
        let weights_crc32 = if name.starts_with(DRAWN) { String::new() } else { weights_crc32(&loaded.encoder)? };
        let mut config = Self { arch, weights: name.to_owned(), weights_crc32, ..self };
        (config.views.mean, config.views.std) = (statistics.mean, statistics.std);
        Ok(config)
    }

    /// A recipe's configuration for these weights, named so: over the recipe what they want
    /// ([`SegmentationConfig::for_weights`]), then a file and single values.
    ///
    /// # Errors
    /// As [`SegmentationConfig::resolve`] and [`SegmentationConfig::for_weights`], and where a file or a value names another
    /// architecture than the weights have.
    pub fn resolve_for(
        (loaded, name): (&Loaded, &str),
        preset_name: Option<&str>,
        file: Option<(&str, &str)>,
        sets: &[String],
    ) -> Result<Self, TrainError> {
        let wanted = Self::resolve(preset_name, None, &[])?.for_weights(loaded, name)?;
        let config = wanted.with(file, sets)?;
        if config.arch != wanted.arch {
            let expected =
                format!("{}, which the weights have ({}); leave it out", wanted.arch, loaded.description);
            return Err(ConfigError::Value { key: "arch", expected, found: config.arch.to_string() }.into());
        }
        // A file may be another run's: which weights these are is no question of it.
        Ok(Self { weights: wanted.weights, weights_crc32: wanted.weights_crc32, ..config })
    }

    /// The shape of a backbone of this configuration's architecture with these values, named as in its own files.
    ///
    /// # Errors
    /// When they are another's.
    pub(super) fn backbone_of(&self, values: &StateDict) -> Result<BackboneConfig, String> {
        match &self.arch {
            BackboneArch::Vit(arch) => VitConfig::of_weights(values, Some(arch.heads)).map(BackboneConfig::Vit),
            BackboneArch::ResNet(_) => {
                ResNetConfig::of(values).map(BackboneConfig::ResNet).map_err(|e| e.to_string())
            }
        }
    }
}

/// The bytes of a file with a network: its tensors, and what is needed to build it and to use it. `more` is said beside that.
///
/// # Errors
/// When values cannot be read from the device.
pub(super) fn segmenter_file(
    net: &SegmentationNet,
    config: &SegmentationConfig,
    (classes, palette): (&[String], &[Rgb]),
    more: &[(&str, String)],
) -> Result<Vec<u8>, TrainError> {
    let mut state = StateDict::default();
    state.add_module("", net)?;
    let said = [
        ("format", "pt".to_owned()),
        ("producer", concat!("ocelli ", env!("CARGO_PKG_VERSION")).to_owned()),
        ("task", SEGMENTATION_TASK.to_owned()),
        ("arch", config.arch.to_string()),
        ("classes", serde_json::to_string(classes).unwrap_or_default()),
        ("palette", serde_json::to_string(palette).unwrap_or_default()),
        ("config", config.table()?.to_string()),
    ];
    let rule = net.backbone.as_vit().and_then(Vit::position_entry);
    let all = said.iter().chain(more).chain(&rule);
    state.metadata = all.map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let short = config.eval.scale_px[0].min(config.eval.scale_px[1]);
    let input = Preprocessing {
        statistics: Some(Told::new(config.statistics(), "the run's")),
        size: Some(Told::new(EvalSize { resize_px: short, crop_px: 0 }, "the short side, as the run evaluates")),
    };
    input.write(&mut state.metadata);
    Ok(write_safetensors(&state)?)
}

/// A fine-tuned network, ready for pictures.
pub struct Segmenter {
    net: SegmentationNet,
    config: SegmentationConfig,
    classes: Vec<String>,
    palette: Vec<Rgb>,
    inference: Inference,
    device: Device,
    accuracy: Option<String>,
    /// The file it came from, for messages.
    name: String,
}

impl Segmenter {
    /// Opens a file that a fine-tuning kept, or the folder of its run.
    ///
    /// # Errors
    /// When there is no such file, it is no segmentation network, or its tensors are not those of the network it describes.
    pub fn open(path: &Path, device: &Device) -> Result<Self, TrainError> {
        let file = if path.is_dir() { path.join(SEGMENTER_FILE) } else { path.to_owned() };
        let fail = |reason: String| TrainError::File { path: file.clone(), reason };
        let bytes = std::fs::read(&file).map_err(|e| {
            fail(format!("cannot read the network: {e}; expected a run of segmentation or its {SEGMENTER_FILE}"))
        })?;
        let state = read_safetensors(&bytes).map_err(|e| fail(e.to_string()))?;
        drop(bytes);
        Self::of(&state, &file.display().to_string(), device).map_err(|e| match e {
            told @ TrainError::File { .. } => told,
            other => fail(other.to_string()),
        })
    }

    /// The same from tensors and metadata; messages name `name`.
    ///
    /// # Errors
    /// As [`Segmenter::open`].
    pub fn of(state: &StateDict, name: &str, device: &Device) -> Result<Self, TrainError> {
        let fail = |reason: String| TrainError::File { path: PathBuf::from(name), reason };
        let said = |key: &str| state.metadata.get(key).map(String::as_str);
        if said("task") != Some(SEGMENTATION_TASK) {
            let found = said("task").unwrap_or("nothing about it");
            return Err(fail(format!(
                "expected a network fine-tuned for segmentation (task = \"{SEGMENTATION_TASK}\"), found {found}"
            )));
        }
        let missing = |key: &str| fail(format!("the file does not say its {key}"));
        let config = SegmentationConfig::parse(said("config").ok_or_else(|| missing("config"))?, name)?;
        config.check()?;
        let classes: Vec<String> =
            said("classes").and_then(|text| serde_json::from_str(text).ok()).ok_or_else(|| missing("classes"))?;
        let colours: Option<Vec<Rgb>> = said("palette").and_then(|text| serde_json::from_str(text).ok());
        let found = config.backbone_of(&state.under("backbone.")).map_err(fail)?;
        let backbone = config.backbone(&found)?;
        let shape = config.network(&backbone, classes.len())?;
        // A network is only built for values that could fill it, so that a file cannot ask for any amount of memory.
        let (needs, has) = (shape.head_values(), state.num_values());
        if needs > has {
            return Err(fail(format!("its heads have {needs} values, and there are {has} in the file")));
        }
        let tensors = StateDict { tensors: state.tensors.clone(), ..StateDict::default() };
        let net = tensors.load_into(shape.blank(&device.clone().inner())?)?;
        Ok(Self {
            inference: config.inference(&backbone),
            palette: colours.filter(|c| c.len() == classes.len()).unwrap_or_else(|| palette(classes.len())),
            accuracy: said("accuracy").map(str::to_owned),
            net,
            config,
            classes,
            device: device.clone().inner(),
            name: name.to_owned(),
        })
    }

    /// The classes, in the order of their numbers.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// A colour for each class.
    pub fn palette(&self) -> &[Rgb] {
        &self.palette
    }

    /// How it was trained.
    pub fn config(&self) -> &SegmentationConfig {
        &self.config
    }

    /// What it came to in its run, in words.
    pub fn accuracy(&self) -> Option<&str> {
        self.accuracy.as_deref()
    }

    /// The network, on the plain device.
    pub fn net(&self) -> &SegmentationNet {
        &self.net
    }

    /// How it takes pictures; may be changed, for example to another scale.
    pub fn inference_mut(&mut self) -> &mut Inference {
        &mut self.inference
    }

    /// A class for each pixel of a picture of any size.
    ///
    /// # Errors
    /// When values cannot be read from the device, or are not finite.
    pub fn segment(&self, image: &Image) -> Result<LabelMap, TrainError> {
        self.inference.segment(&self.net, image, &self.device, &mut Scratch::default())
    }

    /// What it comes to on labelled pictures, evenly spaced where there are more than `most` (0: all).
    ///
    /// # Errors
    /// As [`evaluate`] (as many may be unreadable as in the network's own run), and where the pictures have other classes than the network.
    pub fn evaluate(
        &self,
        part: &MaskedPart,
        classes: &[String],
        most: usize,
        tell: &mut dyn FnMut(usize),
    ) -> Result<SegmentationFound, TrainError> {
        if classes != self.classes {
            let listed = |names: &[String]| format!("{} ({})", names.len(), names.join(", "));
            return Err(TrainError::File {
                path: PathBuf::from(&self.name),
                reason: format!(
                    "expected pictures with the network's classes, {}; found {}",
                    listed(&self.classes),
                    listed(classes)
                ),
            });
        }
        let limits = Limits { most, max_bad_fraction: self.config.loader.max_bad_fraction };
        evaluate((&self.net, &self.inference), part, (self.classes.len(), limits), &self.device, tell)
    }
}
