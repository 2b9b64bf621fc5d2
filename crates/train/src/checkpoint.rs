//! Checkpoints: one safetensors file with everything a run holds.

use std::path::Path;

use ocelli_models::weights::{StateDict, write_safetensors};

use crate::TrainError;
use crate::run_dir::write_atomically;

/// What a checkpoint says of itself, in the file's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Epochs finished.
    pub epochs_done: usize,
    /// Optimizer steps done.
    pub steps_done: usize,
    /// The backbone's name.
    pub arch: String,
    /// The image side its position embeddings belong to, pixels.
    pub image_size_px: usize,
    /// The run's whole configuration, TOML.
    pub config: String,
}

impl Checkpoint {
    /// Writes `state` with this description.
    ///
    /// # Errors
    /// When the file cannot be written; an older file of the same name stays.
    pub fn save(&self, path: &Path, mut state: StateDict) -> Result<(), TrainError> {
        let metadata = [
            ("format", "ocelli-checkpoint-1".to_owned()),
            ("epochs_done", self.epochs_done.to_string()),
            ("steps_done", self.steps_done.to_string()),
            ("arch", self.arch.clone()),
            ("image_size_px", self.image_size_px.to_string()),
            ("config", self.config.clone()),
        ];
        state.metadata = metadata.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        write_atomically(path, &write_safetensors(&state)?)
    }
}
