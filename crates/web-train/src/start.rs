//! What training begins from: a backbone, or everything a checkpoint of DINO holds.

use ocelli_methods::Method;
use ocelli_methods::optim::Optimizer;
use ocelli_models::weights::{StateDict, Weights};
use ocelli_models::{DinoHeadConfig, VitConfig};
use ocelli_web::{WebError, backbone_of};
use serde_json::json;

use crate::config::{Config, told};

/// Weights to begin with.
pub struct Start {
    /// The network's shape; its position embeddings keep their grid.
    pub vit: VitConfig,
    backbone: StateDict,
    /// Student, teacher, centre and moments, with the shape of the head.
    whole: Option<(StateDict, DinoHeadConfig)>,
}

impl Start {
    /// Reads a file: for DINO a checkpoint of ours whole, else the backbone.
    ///
    /// # Errors
    /// `weights` as [`Model::load`](crate::Model::load).
    pub fn read(bytes: &[u8], heads: Option<usize>, config: &Config) -> Result<Self, WebError> {
        let weights = Weights::open(bytes)?;
        let (vit, backbone, _) = backbone_of(&weights, heads)?;
        let has = |name: &str| weights.entries().iter().any(|e| e.name == name);
        let known =
            ["student.backbone.cls_token", "teacher.backbone.cls_token", "dino_loss.center"].into_iter().all(has);
        let whole = match known && config.recipe.name == "dino" {
            true => Some(weights.state_dict(|entry| Some(entry.name.clone()))?),
            false => None,
        };
        let whole = whole.and_then(|state| head_of(&state).map(|head| (state, head)));
        Ok(Self { vit, backbone, whole })
    }

    /// The configuration with the network, and the head, as the file has them.
    pub fn fit(&self, config: &mut Config) {
        config.settings.arch = self.vit.arch();
        if let (Some((_, head)), Some(section)) = (&self.whole, config.own.0.get_mut("dino")) {
            section["head"] = json!(head);
        }
    }

    /// What it is, for JavaScript.
    pub fn kind(&self) -> &'static str {
        if self.whole.is_some() { "checkpoint" } else { "backbone" }
    }

    /// Puts the weights where they belong.
    ///
    /// # Errors
    /// `weights` when they contradict themselves; nothing is changed then.
    pub fn load(&self, method: &mut dyn Method, optimizer: &mut Optimizer) -> Result<(), WebError> {
        let Some((state, _)) = &self.whole else { return method.start_from(&self.backbone).map_err(told) };
        method.load_state(state).map_err(told)?;
        optimizer.load(&state.under("optimizer."), method.network()).map_err(told)
    }
}

/// The head's shape by its tensors.
fn head_of(state: &StateDict) -> Option<DinoHeadConfig> {
    let shape = |name: &str| state.get(&format!("student.head.{name}")).map(|t| t.shape.as_slice());
    let &[out_dim, bottleneck_dim] = shape("last_layer.weight_v")? else { return None };
    let &[hidden_dim, _] = shape("mlp.0.weight")? else { return None };
    // Norms have weights, too, of one axis.
    let layers = (0..64).filter(|i| shape(&format!("mlp.{i}.weight")).is_some_and(|s| s.len() == 2)).count();
    Some(DinoHeadConfig {
        out_dim,
        hidden_dim,
        bottleneck_dim,
        layers,
        batch_norm: shape("mlp.1.weight").is_some(),
        norm_last_layer: shape("last_layer.weight_g").is_none(),
    })
}
