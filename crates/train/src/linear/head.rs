//! Files of linear classifiers: those written here, and those published beside DINO's, timm's and torchvision's weights.

use std::path::Path;

use ocelli_eval::linear::LinearHead;
use ocelli_models::ProbeFeatures;
use ocelli_models::weights::preprocessing::Preprocessing;
use ocelli_models::weights::{HostTensor, Weights};

use crate::TrainError;

/// A linear classifier out of a file.
#[derive(Debug, Clone)]
pub struct ClassifierHead {
    /// Its weights.
    pub head: LinearHead,
    /// Numbers of an image that it takes.
    pub dim: usize,
    /// Names of its classes, where the file has them.
    pub classes: Option<Vec<String>>,
    /// What it takes of an image, where the file says.
    pub features: Option<ProbeFeatures>,
    /// CRC-32 of the backbone's values it was trained on, where the file says.
    pub backbone_crc32: Option<String>,
    /// What it wants done to pictures, where the file says.
    pub preprocessing: Preprocessing,
    /// The tensors taken, in words.
    pub description: String,
}

/// Names of a classifier's weight: DINO's, timm's, torchvision's; what comes before them is left away.
const NAMES: [&str; 3] = ["linear", "head", "fc"];

/// Reads a linear classifier: a weight `[classes, dim]` called `linear`, `head` or `fc` with its bias, in safetensors or
/// PyTorch's form, with whatever prefix (`module.`, `state_dict`).
///
/// # Errors
/// When the file cannot be read, or holds no such tensors, or several.
pub fn read_head(path: &Path) -> Result<ClassifierHead, TrainError> {
    let bytes = std::fs::read(path).map_err(|e| TrainError::io(path, "read the classifier", &e))?;
    let fail = |reason: String| TrainError::File { path: path.to_owned(), reason };
    let file = Weights::open(&bytes).map_err(|e| fail(e.to_string()))?;
    let named = |name: &str, what: &str| {
        let own = |n: &str| name == format!("{n}.{what}") || name.ends_with(&format!(".{n}.{what}"));
        NAMES.iter().any(|n| own(n))
    };
    let state = file
        .state_dict(|entry| {
            (named(&entry.name, "weight") || named(&entry.name, "bias")).then(|| entry.name.clone())
        })
        .map_err(|e| fail(e.to_string()))?;
    let weights: Vec<&(String, HostTensor)> =
        state.tensors.iter().filter(|(n, t)| named(n, "weight") && t.shape.len() == 2).collect();
    let found = || weights.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>().join(", ");
    let (name, weight) = match weights.as_slice() {
        [(name, weight)] => (name.clone(), weight),
        [] => {
            return Err(fail(
                "expected a linear classifier (linear.weight, head.weight or fc.weight of two axes), found none; `ocelli weights` \
                 lists what a file holds"
                    .into(),
            ));
        }
        _ => return Err(fail(format!("expected one linear classifier, found several: {}", found()))),
    };
    let (classes, dim) = (weight.shape[0], weight.shape[1]);
    let bias_name = format!("{}bias", name.strip_suffix("weight").unwrap_or(&name));
    let bias = match state.get(&bias_name) {
        Some(bias) if bias.shape == [classes] => bias.values.clone(),
        Some(bias) => return Err(fail(format!("{bias_name}: expected [{classes}], found {:?}", bias.shape))),
        None => vec![0.0; classes],
    };
    let said = file.metadata();
    let names: Option<Vec<String>> = said.get("classes").and_then(|text| serde_json::from_str(text).ok());
    let names = names.filter(|names| names.len() == classes);
    let features = said.get("features").and_then(|text| text.parse().ok());
    Ok(ClassifierHead {
        head: LinearHead {
            weight: weight.values.clone(),
            bias,
            unit_length: said.get("features_are").is_some_and(|words| words.starts_with("divided")),
        },
        dim,
        classes: names,
        features,
        backbone_crc32: said.get("backbone_crc32").cloned(),
        preprocessing: Preprocessing::of_metadata(said).map_err(fail)?,
        description: format!("{name} [{classes}, {dim}]"),
    })
}
