//! The backbone out of any file or run folder.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ocelli_models::weights::{StateDict, read_safetensors};
use ocelli_models::{Arch, Init, Vit, VitConfig};

use crate::TrainError;
use crate::run_dir::checkpoints_in;

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

/// Loads a backbone from a run folder (its newest checkpoint), a checkpoint (the teacher's backbone), or a
/// safetensors file with a backbone alone in PyTorch's names. `heads` is only needed where the file does not tell
/// (a bare backbone whose width is not a multiple of 64).
///
/// # Errors
/// When there is no such file, or it holds something else.
pub fn load_backbone(path: &Path, heads: Option<usize>, device: &Device) -> Result<Backbone, TrainError> {
    let file = resolve(path)?;
    let bytes = fs::read(&file).map_err(|e| TrainError::io(&file, "read the weights", &e))?;
    let state =
        read_safetensors(&bytes).map_err(|e| TrainError::File { path: file.clone(), reason: e.to_string() })?;
    let teacher = state.under("teacher.backbone.");
    let (weights, what) = match teacher.tensors.is_empty() {
        false => (teacher, "teacher backbone"),
        true => (state.clone(), "backbone"),
    };
    let run: Option<crate::RunConfig> = state.metadata.get("config").and_then(|c| toml::from_str(c).ok());
    let config = shape_of(&weights, heads, run.as_ref())
        .map_err(|reason| TrainError::File { path: file.clone(), reason })?;
    let vit = config.init(&mut Init::new(0, device))?;
    // A classifier on top is not ours to keep; everything else must fit.
    let mut weights = weights;
    weights.tensors.retain(|(n, _)| !n.starts_with("head."));
    let vit =
        weights.load_into(vit).map_err(|e| TrainError::File { path: file.clone(), reason: e.to_string() })?;
    let arch =
        Arch { dim: config.dim, depth: config.depth, heads: config.heads, patch_size_px: config.patch_size_px };
    let epochs = state.metadata.get("epochs_done").map(|e| format!(" after {e} epochs")).unwrap_or_default();
    Ok(Backbone { vit, config, description: format!("{what} {arch}{epochs} of {}", file.display()), run })
}

/// A folder means its newest checkpoint.
fn resolve(path: &Path) -> Result<PathBuf, TrainError> {
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
        false => Err(missing("expected weights (a run folder or a .safetensors file), found nothing there")),
    }
}

/// Reads a Vision Transformer's shape off its tensors.
fn shape_of(
    weights: &StateDict,
    heads: Option<usize>,
    run: Option<&crate::RunConfig>,
) -> Result<VitConfig, String> {
    let shape = |name: &str| {
        weights.get(name).map(|t| t.shape.clone()).ok_or_else(|| {
            let first = weights.tensors.first().map_or("nothing", |(n, _)| n.as_str());
            format!("expected a Vision Transformer's weights; there is no {name} (the first tensor is {first})")
        })
    };
    let (patch, positions) = (shape("patch_embed.proj.weight")?, shape("pos_embed")?);
    let (&[dim, _, patch_size_px, _], &[_, tokens, _]) = (&patch[..], &positions[..]) else {
        return Err(format!("patch_embed.proj.weight has shape {patch:?}, pos_embed {positions:?}"));
    };
    let depth = (0..).take_while(|i| weights.get(&format!("blocks.{i}.norm1.weight")).is_some()).count();
    let hidden = shape("blocks.0.mlp.fc1.weight")?.first().copied().unwrap_or(4 * dim);
    let side = (tokens.saturating_sub(1) as f64).sqrt().round() as usize;
    let heads = match (heads, run) {
        (Some(heads), _) => heads,
        (None, Some(run)) => run.arch.heads,
        (None, None) if dim.is_multiple_of(64) => dim / 64,
        (None, None) => return Err(format!("the number of heads is not in the file (width {dim}); give --heads")),
    };
    Ok(VitConfig {
        image_size_px: side * patch_size_px,
        patch_size_px,
        dim,
        depth,
        heads,
        mlp_ratio: hidden / dim.max(1),
        drop_path: 0.0,
    })
}
