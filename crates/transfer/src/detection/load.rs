//! A detector out of a file: a run's own, or one in detectron2's names.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_data::files::VOC_CLASSES;
use ocelli_data::{DetectionTest, Image, Scratch};
use ocelli_models::weights::preprocessing::{Preprocessing, Statistics};
use ocelli_models::weights::{StateDict, Weights};
use ocelli_models::{BackboneConfig, Init, ResNetConfig};
use ocelli_train::TrainError;

use super::config::DetectionConfig;
use super::names::{backbone_of_file, of_file};
use super::network::{C4 as _, FasterRcnn, ResNetC4};
use super::pass::{Stages, find};
use super::roi::in_original;

/// The best detector of a run, in its folder.
pub const DETECTOR_FILE: &str = "detector.safetensors";

/// An object in a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detected {
    /// Its class, an index into [`Detector::classes`].
    pub class: usize,
    /// Probability of the class.
    pub score: f32,
    /// `[x1, y1, x2, y2]` in pixels of the picture.
    pub xyxy: [f32; 4],
}

/// A detector ready to be used.
#[derive(Debug, Clone)]
pub struct Detector {
    net: FasterRcnn<ResNetC4>,
    stages: Stages,
    test: DetectionTest,
    device: Device,
    /// Names of its classes.
    pub classes: Vec<String>,
    /// Its configuration; of a file that has none, the published one with what the tensors tell.
    pub config: DetectionConfig,
    /// What was loaded and what was guessed, in words.
    pub description: String,
}

impl Detector {
    /// Opens a run folder (its `detector.safetensors`), such a file, or a detector in detectron2's names (safetensors, or PyTorch's
    /// `.pth` with the tensors under `model` or alone). What a file does not say is the published protocol's, and said so: pictures are
    /// RGB, normalised as ImageNet's unless the file has `pixel_mean` and `pixel_std`, and a block's stride is in its 3×3 convolution.
    ///
    /// # Errors
    /// When there is no such file, or it holds something else: the message names what is missing, unexpected and of another shape.
    /// For pictures in the order blue, green, red.
    pub fn open(path: &Path, device: &Device) -> Result<Self, TrainError> {
        let file = resolve(path)?;
        let fail = |reason: String| TrainError::File { path: file.clone(), reason };
        let bytes = fs::read(&file).map_err(|e| fail(format!("cannot read the detector: {e}")))?;
        let weights = Weights::open(&bytes).map_err(|e| fail(e.to_string()))?;
        let mut state =
            weights.state_dict(|entry| detector_tensor(&entry.name)).map_err(|e| fail(e.to_string()))?;
        drop(bytes);
        let pixels = take_statistics(&mut state).map_err(fail)?;
        let shape = |name: &str| state.get(name).map(|t| t.shape.as_slice()).unwrap_or_default();
        let (classes, per_cell) = match (
            shape("roi_heads.box_predictor.cls_score.bias"),
            shape("proposal_generator.rpn_head.objectness_logits.bias"),
        ) {
            (&[classes], &[per_cell]) if classes > 1 && per_cell > 0 => (classes - 1, per_cell),
            _ => {
                return Err(fail(
                    "expected a detector (Faster R-CNN C4: roi_heads.box_predictor.cls_score and \
                     proposal_generator.rpn_head.objectness_logits), found none; `ocelli weights` lists what a file holds"
                        .into(),
                ));
            }
        };
        let shape = ResNetConfig::of(&backbone_of_file(&state)).map_err(|e| fail(e.to_string()))?;
        let mut guesses = Vec::new();
        let stored = state.metadata.get("config").map(|text| DetectionConfig::parse(text, "its configuration"));
        let mut config = match stored.transpose()? {
            Some(config) => config,
            None => {
                let normalised = match pixels {
                    Some(pixels) => format!("normalised by the file's pixel_mean and pixel_std ({pixels})"),
                    None => "normalised as ImageNet's".to_owned(),
                };
                guesses.push(format!(
                    "sizes, anchors and thresholds are the published protocol's, pictures are RGB, {normalised}, and a block's stride \
                     is in its 3×3 convolution (STRIDE_IN_1X1: False)"
                ));
                DetectionConfig::default()
            }
        };
        (config.arch, config.stem) = (shape.arch, shape.stem);
        config.roi.extra_norm = state.tensors.iter().any(|(n, _)| n.starts_with("roi_heads.res5.norm."));
        let own = config.anchors.sizes_px.len() * config.anchors.ratios.len();
        if own != per_cell {
            return Err(fail(format!(
                "expected {own} anchors a cell (sizes {:?}, ratios {:?}), found a network for {per_cell}",
                config.anchors.sizes_px, config.anchors.ratios
            )));
        }
        config.check()?;
        let told = Preprocessing::of_metadata(&state.metadata).map_err(fail)?.statistics;
        if let Some(told) = told.map(|told| told.value).or(pixels) {
            (config.views.mean, config.views.std) = (told.mean, told.std);
        }
        // A network is only built for values that could fill it, so that a file cannot ask for any amount of memory.
        let needs = BackboneConfig::ResNet(shape).num_parameters().saturating_add(head_values(
            &shape,
            (classes, per_cell),
            config.roi.extra_norm,
        ));
        let has = state.num_values();
        if needs > has {
            return Err(fail(format!("its network has {needs} values, and there are {has} in the file")));
        }
        let names = names_of(&state.metadata, classes, &mut guesses);
        let init = &mut Init::blank(device);
        let network = ResNetC4::new(&shape, config.roi.extra_norm, init)?;
        let net = FasterRcnn::new(network, per_cell, classes, init);
        let net = of_file(&state, net).map_err(|e| fail(e.to_string()))?;
        let guessed =
            if guesses.is_empty() { String::new() } else { format!("; a guess: {}", guesses.join("; ")) };
        let description =
            format!("Faster R-CNN of {} on {} classes, {}{guessed}", config.arch, names.len(), file.display());
        Ok(Self::new(net, names, config, description, device))
    }

    /// A network with its configuration, on a plain device.
    pub fn new(
        net: FasterRcnn<ResNetC4>,
        classes: Vec<String>,
        config: DetectionConfig,
        description: String,
        device: &Device,
    ) -> Self {
        let stages = Stages::of(&config, net.network.stride_px());
        let test = DetectionTest { views: config.views.clone(), short_px: config.eval.short_px };
        Self { net, stages, test, device: device.clone(), classes, config, description }
    }

    /// The network.
    pub fn net(&self) -> &FasterRcnn<ResNetC4> {
        &self.net
    }

    /// Both stages' constants.
    pub fn stages(&self) -> &Stages {
        &self.stages
    }

    /// How pictures are resized and normalised.
    pub fn test(&self) -> &DetectionTest {
        &self.test
    }

    /// Also finds what is less sure than the detector's own threshold (`roi.score`), from `score` on; a higher one changes nothing.
    pub fn find_from(&mut self, score: f32) {
        let own = &mut self.stages.roi.score;
        *own = own.min(score);
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The objects in a picture, the likeliest first.
    ///
    /// # Errors
    /// When values cannot be read from the device.
    pub fn detect(&self, image: &Image) -> Result<Vec<Detected>, TrainError> {
        let sample = self.test.views.at_test(image, &[], self.test.short_px, &mut Scratch::default());
        let size = [sample.height, sample.width];
        let input = TensorData::new(sample.pixels, [1, 3, sample.height, sample.width]);
        let found = find(&self.net, Tensor::from_data(input, &self.device), &self.stages)?;
        let found = in_original(&found, size, sample.original);
        Ok(found.iter().map(|f| Detected { class: f.class, score: f.score, xyxy: f.xyxy }).collect())
    }
}

/// The file `path` means: of a run folder its best detector.
fn resolve(path: &Path) -> Result<PathBuf, TrainError> {
    let fail = |reason: &str| TrainError::File { path: path.to_owned(), reason: reason.to_owned() };
    let file = if path.is_dir() { path.join(DETECTOR_FILE) } else { path.to_owned() };
    match (file.exists(), path.is_dir()) {
        (true, _) => Ok(file),
        (false, true) => Err(fail(
            "expected a detector; this folder has no detector.safetensors, which `ocelli finetune detection` keeps after its first \
             evaluation",
        )),
        (false, false) => Err(fail(
            "expected a detector (the run folder of `ocelli finetune detection`, its detector.safetensors, or a .pth in detectron2's \
             names), found nothing there",
        )),
    }
}

/// What other programs call the normalisation, tensors of their files.
const PIXELS: [&str; 2] = ["pixel_mean", "pixel_std"];
/// Levels up to which means count as ImageNet's.
const SAME_LEVELS: f32 = 2.0;

/// Takes the normalisation, of levels from 0 to 255, out of a file's tensors; none where it has none. Levels from 0 to 1 are known by
/// their means.
fn take_statistics(state: &mut StateDict) -> Result<Option<Statistics>, String> {
    let three = |name: &str| state.get(name).map(|t| <[f32; 3]>::try_from(t.values.as_slice()));
    let found = PIXELS.map(three);
    state.tensors.retain(|(name, _)| !PIXELS.contains(&name.as_str()));
    let (mean, std) = match found {
        [Some(Ok(mean)), Some(Ok(std))] => (mean, std),
        [None, None] => return Ok(None),
        _ => return Err("expected three numbers each for pixel_mean and pixel_std".into()),
    };
    let [blue, green, red] = mean;
    let is_imagenets = |(v, m): (f32, f32)| (v - 255.0 * m).abs() < SAME_LEVELS;
    if [red, green, blue].into_iter().zip(Statistics::IMAGENET.mean).all(is_imagenets) {
        return Err(format!(
            "expected a detector of pictures in red, green, blue (INPUT.FORMAT: RGB), found pixel_mean {blue}, {green}, {red}, \
             ImageNet's in blue, green, red"
        ));
    }
    let is_to_one = mean.iter().all(|m| *m <= 1.0) && mean.iter().any(|m| *m > 0.0);
    let scale = if is_to_one { 1.0 } else { 255.0 };
    let checked = Statistics::checked(mean.map(|v| v / scale), std.map(|v| v / scale));
    checked.map(Some).map_err(|reason| format!("pixel_mean {mean:?} and pixel_std {std:?}: {reason}"))
}

/// Values of the heads and of the norm behind the fourth stage, for so many classes and anchors of a cell.
fn head_values(shape: &ResNetConfig, (classes, anchors): (usize, usize), extra_norm: bool) -> usize {
    let (trunk, dim) = (shape.arch.stage_dim(2), shape.arch.dim());
    let proposals = 9 * trunk * trunk + trunk + 5 * anchors * (trunk + 1);
    let judged = (dim + 1).saturating_mul(5 * classes + 1);
    proposals.saturating_add(judged).saturating_add(if extra_norm { 4 * dim } else { 0 })
}

/// The name of a tensor that belongs to a detector, without what a training program puts before it. Anchors, which some files hold as
/// tensors, are left out.
fn detector_tensor(name: &str) -> Option<String> {
    let name = name.strip_prefix("model.").unwrap_or(name);
    let is_ours = PIXELS.contains(&name)
        || ["backbone.", "proposal_generator.rpn_head.", "roi_heads."].iter().any(|p| name.starts_with(p));
    (is_ours && !name.ends_with("num_batches_tracked")).then(|| name.to_owned())
}

fn names_of(metadata: &BTreeMap<String, String>, classes: usize, guesses: &mut Vec<String>) -> Vec<String> {
    let told: Option<Vec<String>> = metadata.get("classes").and_then(|text| serde_json::from_str(text).ok());
    if let Some(names) = told.filter(|names| names.len() == classes) {
        return names;
    }
    // A detector's background is no class of its own.
    let objects = &VOC_CLASSES[1..];
    if classes == objects.len() {
        guesses.push("20 classes are PASCAL VOC's".to_owned());
        return objects.iter().map(|name| (*name).to_owned()).collect();
    }
    guesses.push("classes have numbers for names".to_owned());
    (0..classes).map(|class| class.to_string()).collect()
}
