//! One network's tensors out of a file, and what the file says of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ocelli_models::weights::{Family, Network, Part, StateDict};
use ocelli_models::{BackboneArch, BackboneConfig, ResNetConfig, VitConfig};

use super::hub::{hub_name, in_hub};
use super::source::{WeightsFile, in_folder};
use crate::checkpoint_files::checkpoints_in;
use crate::{RunConfig, TrainError};

/// A backbone's tensors and where they came from.
pub(super) struct Found {
    pub file: PathBuf,
    /// What the file is, in words.
    pub layout: String,
    pub network: Network,
    pub state: StateDict,
}

impl Found {
    /// The tensors of the network to use, or of the one of a pair that is asked for.
    pub fn read(path: &Path, part: Option<Part>) -> Result<Self, TrainError> {
        let file = resolve_weights(path)?;
        let opened = WeightsFile::read(&file)?;
        let fail = |reason: String| TrainError::File { path: file.clone(), reason };
        let weights = opened.open()?;
        let network = weights.network(part).map_err(|e| fail(e.to_string()))?;
        let state = weights.backbone(&network).map_err(|e| fail(e.to_string()))?;
        let layout = weights.layout().name;
        Ok(Self { file, layout, network, state })
    }

    /// The configuration of the run it comes from, where the file tells.
    pub fn run(&self) -> Option<RunConfig> {
        self.state.metadata.get("config").and_then(|c| crate::config::stored(c, "config").ok())
    }

    /// The network's shape.
    pub fn config(&self, heads: Option<usize>, run: Option<&RunConfig>) -> Result<BackboneConfig, TrainError> {
        match self.network.family {
            Family::Vit { .. } => {
                let heads = heads.or(run.and_then(|r| r.arch.heads())).or_else(|| self.heads_of_table());
                Ok(BackboneConfig::Vit(self.vit_config(heads)?))
            }
            Family::ResNet { .. } => {
                let config = ResNetConfig::of(&self.state).map_err(|e| self.fail(e.to_string()))?;
                Ok(BackboneConfig::ResNet(config))
            }
        }
    }

    /// A Vision Transformer's shape.
    pub fn vit_config(&self, heads: Option<usize>) -> Result<VitConfig, TrainError> {
        VitConfig::of_weights(&self.state, heads).map_err(|reason| self.fail(reason))
    }

    /// Heads out of the configuration of a version of Ocelli that has other keys.
    fn heads_of_table(&self) -> Option<usize> {
        table(&self.state.metadata)?.get("arch")?.as_str()?.parse::<BackboneArch>().ok()?.heads()
    }

    pub fn fail(&self, reason: String) -> TrainError {
        TrainError::File { path: self.file.clone(), reason }
    }

    /// The error that it holds another kind of network.
    pub fn expected(&self, what: &str) -> TrainError {
        self.fail(format!("expected the weights of {what}, found {} ({})", self.layout, self.network.family))
    }

    /// Which network of which file, after how much training, and what was done to its tensors.
    pub fn describe(&self, arch: &str) -> String {
        let prefix = &self.network.prefix;
        let is_byol = ["online.", "target."].iter().any(|name| prefix.contains(name));
        let what = match (self.network.part, prefix.contains("encoder_")) {
            (Some(Part::Student), false) if is_byol => "online network's backbone",
            (Some(Part::Teacher), false) if is_byol => "target network's backbone",
            (Some(Part::Teacher), true) => "key encoder's backbone",
            (Some(Part::Student), true) => "query encoder's backbone",
            (Some(Part::Teacher), false) => "teacher backbone",
            (Some(Part::Student), false) => "student backbone",
            (None, _) => "backbone",
        };
        let told = |key: &str| self.state.metadata.get(key);
        let epochs = told("epochs_done").or_else(|| told("epoch"));
        let epochs = epochs.map(|e| format!(" after {e} epochs")).unwrap_or_default();
        let notes: String = self.network.notes().iter().map(|note| format!("; {note}")).collect();
        // Of our own files and those named as ours are there is nothing to say.
        let usual = ["an Ocelli checkpoint", "a backbone in DINO's names"].contains(&self.layout.as_str());
        let layout = if usual { String::new() } else { format!(" ({})", self.layout) };
        format!("{what} {arch}{epochs} of {}{layout}{notes}", self.file.display())
    }
}

/// A run's configuration as it is written, whatever keys its version of Ocelli had.
pub(super) fn table(metadata: &BTreeMap<String, String>) -> Option<toml::Table> {
    metadata.get("config")?.parse().ok()
}

/// The file `path` means: of a run folder its newest checkpoint, of a folder of Hugging Face its weights or the index of their
/// shards, of `hf:NAME` what `huggingface_hub` has cached on this machine (or downloads, after [`super::allow_download`]).
///
/// # Errors
/// When there is nothing there, or a folder without checkpoints and weights.
pub fn resolve_weights(path: &Path) -> Result<PathBuf, TrainError> {
    let missing = |reason: &str| TrainError::File { path: path.to_owned(), reason: reason.to_owned() };
    if let Some(name) = hub_name(path).filter(|_| !path.exists()) {
        return in_hub(name);
    }
    if path.is_dir() {
        let found = if path.join("checkpoints").is_dir() {
            checkpoints_in(path)?
        } else if path.join("metrics.jsonl").exists() {
            Vec::new()
        } else {
            return in_folder(path);
        };
        return found
            .last()
            .cloned()
            .ok_or_else(|| missing("expected weights; this folder has no checkpoints/*.safetensors"));
    }
    match path.exists() {
        true => Ok(path.to_owned()),
        false => Err(missing(
            "expected weights (a run folder, a .safetensors file, a .pth of PyTorch, a folder of Hugging Face or hf:NAME), found \
             nothing there",
        )),
    }
}
