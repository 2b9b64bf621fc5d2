//! Which networks a file holds, under whatever prefix a training program put them.

use std::collections::HashMap;
use std::fmt;

use crate::entry::Entry;
use crate::{StateDict, Weights, WeightsError};

/// A kind of network, with what its tensors' shapes tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Family {
    /// A Vision Transformer in DINO's and timm's names.
    Vit {
        /// Embedding width.
        dim: usize,
        /// Blocks.
        depth: usize,
        /// Patch side, pixels.
        patch_size_px: usize,
        /// Position embeddings, the class token's included.
        tokens: usize,
        /// Width inside the MLP.
        hidden: usize,
    },
    /// A ResNet in torchvision's names.
    ResNet {
        /// Blocks of the four stages.
        blocks: [usize; 4],
        /// Blocks of three convolutions instead of two.
        bottleneck: bool,
        /// Channels inside the first block (64; 128 in the wide ones).
        width: usize,
    },
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Vit { dim, depth, patch_size_px, .. } => {
                let size = match (dim, depth) {
                    (192, 12) => "Ti",
                    (384, 12) => "S",
                    (768, 12) => "B",
                    (1024, 24) => "L",
                    _ => return write!(f, "ViT of width {dim}, depth {depth}, patches of {patch_size_px} px"),
                };
                write!(f, "ViT-{size}/{patch_size_px}")
            }
            Self::ResNet { blocks, bottleneck, width } => {
                let depth = 2 + blocks.iter().sum::<usize>() * if bottleneck { 3 } else { 2 };
                match width {
                    64 => write!(f, "ResNet-{depth}"),
                    _ => write!(f, "ResNet-{depth} of {}× width", width as f64 / 64.0),
                }
            }
        }
    }
}

/// Which of a pair of networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The one that follows (DINO's teacher, MoCo's key encoder, BYOL's target network).
    Teacher,
    /// The one that is trained (DINO's student, MoCo's query encoder, BYOL's online network).
    Student,
}

/// A network in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// What its tensors' names start with (`teacher.backbone.`).
    pub prefix: String,
    /// What it is.
    pub family: Family,
    /// Which of a pair, where the names tell.
    pub part: Option<Part>,
    /// Values in its parameters, without a classifier and running statistics.
    pub parameters: usize,
    /// Classes of the classifier on top, which is not a part of the backbone.
    pub classes: Option<usize>,
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// In words, such as "a DINO checkpoint (student and teacher)".
    pub name: String,
    /// Its backbones, the one to use first.
    pub networks: Vec<Network>,
}

/// Classifiers on top of a backbone.
const CLASSIFIERS: [&str; 3] = ["head.", "fc.", "head_dist."];

/// Networks named of one file at most.
const MAX_NETWORKS: usize = 16;

type ByName<'w> = HashMap<&'w str, &'w Entry>;

impl Weights<'_> {
    /// What the file is, by its names and shapes.
    pub fn layout(&self) -> Layout {
        let by_name: ByName<'_> = self.entries().iter().map(|e| (e.name.as_str(), e)).collect();
        let found = self.entries().iter().filter_map(|e| network_at(e, &by_name, self.entries()));
        let mut networks: Vec<Network> = found.take(MAX_NETWORKS).collect();
        networks.sort_by_key(|n| (rank(n), n.prefix.len()));
        let name = self.name_of(&networks, &by_name);
        Layout { name, networks }
    }

    fn name_of(&self, networks: &[Network], by_name: &ByName<'_>) -> String {
        let starts = |prefix: &str| networks.iter().any(|n| n.prefix.starts_with(prefix));
        let says = |key: &str| self.metadata().get(key).map(String::as_str);
        if says("format").is_some_and(|f| f.starts_with("ocelli-checkpoint")) {
            return "an Ocelli checkpoint".into();
        }
        if starts("teacher.") || starts("student.") {
            return match (starts("teacher."), starts("student.")) {
                (true, true) => "a DINO checkpoint (student and teacher)".into(),
                (true, false) => "a DINO teacher".into(),
                _ => "a DINO student".into(),
            };
        }
        let Some(first) = networks.first() else {
            if by_name.keys().any(|n| n.ends_with("linear.weight")) && by_name.len() <= 4 {
                return "the weights of a linear classifier on frozen features".into();
            }
            return "tensors in no layout known here".into();
        };
        let any = |part: &str| networks.iter().any(|n| n.prefix.contains(part));
        match first.family {
            _ if any("encoder_q.0.") => "a DenseCL checkpoint (query and key encoder)".into(),
            _ if any("encoder_q.") => "a MoCo checkpoint (query and key encoder)".into(),
            Family::ResNet { .. } if says("author") == Some("DenseCL") => {
                "a backbone extracted from DenseCL".into()
            }
            Family::ResNet { .. } => "a ResNet in torchvision's names".into(),
            Family::Vit { .. } if first.classes.is_some() => "a Vision Transformer in timm's names".into(),
            Family::Vit { .. } => "a backbone in DINO's names".into(),
        }
    }

    /// The network to use, or the one of a pair that is asked for.
    ///
    /// # Errors
    /// When there is none; the message says what there is.
    pub fn network(&self, part: Option<Part>) -> Result<Network, WeightsError> {
        let layout = self.layout();
        if let Some(found) = layout.networks.iter().find(|n| part.is_none() || n.part == part) {
            return Ok(found.clone());
        }
        let first: Vec<&str> = self.entries().iter().take(3).map(|e| e.name.as_str()).collect();
        let reason = match (layout.networks.is_empty(), part) {
            (false, Some(part)) => {
                let prefixes: Vec<String> = layout.networks.iter().map(|n| format!("\"{}\"", n.prefix)).collect();
                let part = if part == Part::Teacher { "teacher" } else { "student" };
                format!("there is no {part} in this file; its networks are under {}", prefixes.join(", "))
            }
            _ => format!(
                "expected the weights of a Vision Transformer or a ResNet; this file holds {}: {} tensors ({}{})",
                layout.name,
                self.entries().len(),
                first.join(", "),
                if self.entries().len() > first.len() { ", …" } else { "" }
            ),
        };
        Err(WeightsError::Layout(reason))
    }

    /// The tensors of a network of this file under its own names (`blocks.0.attn.qkv.weight`), a classifier left out.
    ///
    /// # Errors
    /// As [`Weights::state_dict`].
    pub fn backbone(&self, network: &Network) -> Result<StateDict, WeightsError> {
        self.state_dict(|entry| own_name(&entry.name, &network.prefix).map(str::to_owned))
    }

    /// The tensors of a network of this file, a classifier left out.
    pub fn entries_of<'w>(&'w self, network: &'w Network) -> impl Iterator<Item = &'w Entry> {
        self.entries().iter().filter(|e| own_name(&e.name, &network.prefix).is_some())
    }
}

fn own_name<'n>(name: &'n str, prefix: &str) -> Option<&'n str> {
    name.strip_prefix(prefix).filter(|n| !CLASSIFIERS.iter().any(|c| n.starts_with(c)))
}

/// Which to take first: what is published for use, then plain names, then the trained half of a pair.
fn rank(network: &Network) -> usize {
    let has = |component: &str| network.prefix.split('.').any(|c| c == component);
    match network.part {
        Some(Part::Teacher) if !has("encoder_k") && !has("target") => 0,
        None => 1,
        Some(Part::Student) if has("encoder_q") || has("online") => 2,
        Some(Part::Student) => 3,
        Some(Part::Teacher) => 4,
    }
}

fn part_of(prefix: &str) -> Option<Part> {
    prefix.split('.').find_map(|component| match component {
        "teacher" | "encoder_k" | "momentum_encoder" | "target_encoder" | "target" => Some(Part::Teacher),
        "student" | "encoder_q" | "base_encoder" | "online_encoder" | "online" => Some(Part::Student),
        _ => None,
    })
}

/// The network whose first layer this tensor is.
fn network_at(entry: &Entry, by_name: &ByName<'_>, entries: &[Entry]) -> Option<Network> {
    let &[out, 3, side, _] = &entry.shape[..] else { return None };
    let (prefix, family, classifier) = if let Some(prefix) = entry.name.strip_suffix("patch_embed.proj.weight") {
        let shape = |name: &str| by_name.get(format!("{prefix}{name}").as_str()).map(|e| e.shape.as_slice());
        shape("blocks.0.norm1.weight")?;
        let tokens = shape("pos_embed").and_then(|s| s.get(1)).copied().unwrap_or(0);
        let hidden = shape("blocks.0.mlp.fc1.weight").and_then(|s| s.first()).copied().unwrap_or(0);
        let depth = (0..).take_while(|i| shape(&format!("blocks.{i}.norm1.weight")).is_some()).count();
        (prefix, Family::Vit { dim: out, depth, patch_size_px: side, tokens, hidden }, "head.weight")
    } else {
        let prefix = entry.name.strip_suffix("conv1.weight").filter(|p| p.is_empty() || p.ends_with('.'))?;
        let shape = |name: &str| by_name.get(format!("{prefix}{name}").as_str()).map(|e| e.shape.as_slice());
        let width = *shape("layer1.0.conv1.weight")?.first()?;
        let count = |stage: usize| {
            (0..).take_while(|i| shape(&format!("layer{stage}.{i}.conv1.weight")).is_some()).count()
        };
        let bottleneck = shape("layer1.0.conv3.weight").is_some();
        let family = Family::ResNet { blocks: [count(1), count(2), count(3), count(4)], bottleneck, width };
        (prefix, family, "fc.weight")
    };
    if !(prefix.is_empty() || prefix.ends_with('.')) {
        return None;
    }
    let parameters = entries
        .iter()
        .filter(|e| e.dtype.is_float() && !e.name.contains("running_"))
        .filter(|e| own_name(&e.name, prefix).is_some())
        .map(Entry::len)
        .sum();
    let classes = by_name.get(format!("{prefix}{classifier}").as_str()).filter(|e| e.shape.len() == 2);
    Some(Network {
        prefix: prefix.to_owned(),
        family,
        part: part_of(prefix),
        parameters,
        classes: classes.map(|e| e.shape[0]),
    })
}
