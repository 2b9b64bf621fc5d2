//! What training begins from: a backbone, or everything a checkpoint of DINO holds.

use ocelli_methods::optim::Optimizer;
use ocelli_methods::{DinoConfig, Method};
use ocelli_models::weights::{StateDict, Weights};
use ocelli_models::{Arch, DinoHeadConfig, VitConfig};

use crate::WebError;
use crate::model::backbone_of;

/// Weights to begin with.
pub struct Start {
    /// The network's shape; its position embeddings keep their grid.
    pub vit: VitConfig,
    backbone: StateDict,
    /// Student, teacher, centre and moments, with the shape of the head.
    whole: Option<(StateDict, DinoHeadConfig)>,
}

impl Start {
    /// Reads a file: a checkpoint of ours whole, of any other the backbone.
    ///
    /// # Errors
    /// `weights` as [`Model::load`](crate::Model::load).
    pub fn read(bytes: &[u8], heads: Option<usize>) -> Result<Self, WebError> {
        let weights = Weights::open(bytes)?;
        let (vit, backbone, _) = backbone_of(&weights, heads)?;
        let has = |name: &str| weights.entries().iter().any(|e| e.name == name);
        let known =
            ["student.backbone.cls_token", "teacher.backbone.cls_token", "dino_loss.center"].into_iter().all(has);
        let whole = match known {
            true => Some(weights.state_dict(|entry| Some(entry.name.clone()))?),
            false => None,
        };
        let whole = whole.and_then(|state| head_of(&state).map(|head| (state, head)));
        Ok(Self { vit, backbone, whole })
    }

    pub fn arch(&self) -> Arch {
        self.vit.arch()
    }

    /// The configuration with the head as the checkpoint has it.
    pub fn fit(&self, config: &mut DinoConfig) {
        if let Some((_, head)) = &self.whole {
            config.head = head.clone();
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
        let Some((state, _)) = &self.whole else { return Ok(method.start_from(&self.backbone)?) };
        method.load_state(state)?;
        Ok(optimizer.load(&state.under("optimizer."), method.network())?)
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
