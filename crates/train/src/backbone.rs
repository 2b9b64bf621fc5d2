//! The backbone out of any file or run folder.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_models::weights::{Family, ModuleState as _, Network, Part, StateDict, Weights};
use ocelli_models::{Arch, Init, PositionGrid, Vit, VitConfig};

use crate::TrainError;
use crate::checkpoint_files::checkpoints_in;

/// A backbone and where it came from.
#[derive(Debug, Clone)]
pub struct Backbone {
    /// The network, on a plain device.
    pub vit: Vit,
    /// Its shape.
    pub config: VitConfig,
    /// What was loaded, in words.
    pub description: String,
    /// The run's configuration, where the file is a checkpoint.
    pub run: Option<crate::RunConfig>,
}

/// Loads a backbone from a run folder (its newest checkpoint), a checkpoint of Ocelli or of DINO (the teacher's
/// backbone), or a file with a backbone alone in DINO's or timm's names: safetensors, or PyTorch's `.pth`, `.pt` and
/// `.tar`. `heads` is only needed where the file does not tell (a width that is not a multiple of 64).
///
/// # Errors
/// When there is no such file, or it holds something else.
pub fn load_backbone(path: &Path, heads: Option<usize>, device: &Device) -> Result<Backbone, TrainError> {
    load_backbone_part(path, None, heads, device)
}

/// As [`load_backbone`], of a file with two networks the one that is asked for.
///
/// # Errors
/// When there is no such file, or it holds something else.
pub fn load_backbone_part(
    path: &Path,
    part: Option<Part>,
    heads: Option<usize>,
    device: &Device,
) -> Result<Backbone, TrainError> {
    let loaded = Loaded::read(path, part)?;
    let run = loaded.run();
    let heads = heads.or(run.as_ref().and_then(|r| r.arch.heads()));
    let config = VitConfig::of_weights(&loaded.state, heads).map_err(|reason| loaded.fail(reason))?;
    let vit = config.init(&mut Init::new(0, device))?;
    let vit = loaded.state.load_into(vit).map_err(|e| loaded.fail(e.to_string()))?;
    let arch =
        Arch { dim: config.dim, depth: config.depth, heads: config.heads, patch_size_px: config.patch_size_px };
    Ok(Backbone { vit, config, description: loaded.describe(&arch.to_string()), run })
}

/// Loads a file's backbone into a network of a given shape, to start a run from it. Position embeddings of another grid
/// are resampled as DINO does. Returns the network and what was loaded, in words.
///
/// # Errors
/// When there is no such file, or its tensors are not this network's: the message counts and names what is missing,
/// unexpected and of another shape.
pub fn load_backbone_into(
    path: &Path,
    part: Option<Part>,
    config: &VitConfig,
    device: &Device,
) -> Result<(Vit, String), TrainError> {
    let mut loaded = Loaded::read(path, part)?;
    let vit = config.init(&mut Init::new(0, device))?;
    let side = config.image_size_px / config.patch_size_px;
    let resampled = resample_positions(&mut loaded.state, config.dim, side, device)?;
    let vit = loaded.state.load_into(vit).map_err(|e| loaded.fail(e.to_string()))?;
    let mut words = loaded.describe(&loaded.network.family.to_string());
    if let Some(before) = resampled {
        words.push_str(&format!(", position embeddings resampled from {before}×{before} to {side}×{side}"));
    }
    Ok((vit, words))
}

/// A backbone's tensors and where they came from.
pub(crate) struct Loaded {
    pub file: PathBuf,
    pub network: Network,
    pub state: StateDict,
}

impl Loaded {
    /// A Vision Transformer's tensors.
    fn read(path: &Path, part: Option<Part>) -> Result<Self, TrainError> {
        Self::read_any(path, part, |family| match family {
            Family::Vit { .. } => Ok(()),
            Family::ResNet { .. } => Err("a Vision Transformer"),
        })
    }

    /// The tensors of the first network that is asked for; `accept` says of another family what was expected.
    pub fn read_any(
        path: &Path,
        part: Option<Part>,
        accept: impl Fn(&Family) -> Result<(), &'static str>,
    ) -> Result<Self, TrainError> {
        let file = resolve_weights(path)?;
        let bytes = fs::read(&file).map_err(|e| TrainError::io(&file, "read the weights", &e))?;
        let fail = |reason: String| TrainError::File { path: file.clone(), reason };
        let weights = Weights::open(&bytes).map_err(|e| fail(e.to_string()))?;
        let network = weights.network(part).map_err(|e| fail(e.to_string()))?;
        if let Err(expected) = accept(&network.family) {
            let what = weights.layout().name;
            return Err(fail(format!("expected the weights of {expected}, found {what} ({})", network.family)));
        }
        let state = weights.backbone(&network).map_err(|e| fail(e.to_string()))?;
        Ok(Self { file, network, state })
    }

    /// The configuration of the run it comes from, where the file tells.
    pub fn run(&self) -> Option<crate::RunConfig> {
        self.state.metadata.get("config").and_then(|c| toml::from_str(c).ok())
    }

    pub fn fail(&self, reason: String) -> TrainError {
        TrainError::File { path: self.file.clone(), reason }
    }

    pub fn describe(&self, arch: &str) -> String {
        let what = match (self.network.part, self.network.prefix.contains("encoder_")) {
            (Some(Part::Teacher), true) => "key encoder's backbone",
            (Some(Part::Student), true) => "query encoder's backbone",
            (Some(Part::Teacher), false) => "teacher backbone",
            (Some(Part::Student), false) => "student backbone",
            (None, _) => "backbone",
        };
        let told = |key: &str| self.state.metadata.get(key);
        let epochs = told("epochs_done").or_else(|| told("epoch"));
        let epochs = epochs.map(|e| format!(" after {e} epochs")).unwrap_or_default();
        format!("{what} {arch}{epochs} of {}", self.file.display())
    }
}

/// Brings `pos_embed` to a grid of `side`×`side` patches; returns the side it had, where that was another.
fn resample_positions(
    state: &mut StateDict,
    dim: usize,
    side: usize,
    device: &Device,
) -> Result<Option<usize>, TrainError> {
    let Some((_, positions)) = state.tensors.iter_mut().find(|(n, _)| n == "pos_embed") else { return Ok(None) };
    let &[1, tokens, width] = &positions.shape[..] else { return Ok(None) };
    let before = tokens.saturating_sub(1).isqrt();
    // Anything else is for the comparison of shapes to say.
    if width != dim || before == 0 || before * before + 1 != tokens || before == side {
        return Ok(None);
    }
    let stored = TensorData::new(std::mem::take(&mut positions.values), [tokens, width]);
    let found = ocelli_models::resample_positions(Tensor::from_data(stored, device), PositionGrid::square(side));
    let device_error = |e| TrainError::Device(format!("cannot read the position embeddings back: {e:?}"));
    positions.values = found.into_data().try_to_vec::<f32>().map_err(device_error)?;
    positions.shape = vec![1, side * side + 1, width];
    Ok(Some(before))
}

/// The file `path` means: of a run folder its newest checkpoint.
///
/// # Errors
/// When there is nothing there, or a folder without checkpoints.
pub fn resolve_weights(path: &Path) -> Result<PathBuf, TrainError> {
    let missing = |reason: &str| TrainError::File { path: path.to_owned(), reason: reason.to_owned() };
    if path.is_dir() {
        let found = if path.join("checkpoints").is_dir() { checkpoints_in(path)? } else { Vec::new() };
        return found
            .last()
            .cloned()
            .ok_or_else(|| missing("expected weights; this folder has no checkpoints/*.safetensors"));
    }
    match path.exists() {
        true => Ok(path.to_owned()),
        false => Err(missing(
            "expected weights (a run folder, a .safetensors file, or a .pth of PyTorch), found nothing there",
        )),
    }
}
