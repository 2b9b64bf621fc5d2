//! Which networks a file holds, under whatever prefix a training program put them.

use std::collections::HashMap;
use std::fmt;

use crate::entry::Entry;
use crate::fits::{Positions, VitShape, check_resnet, resnet_family};
use crate::naming::Naming;
use crate::plan::Plan;
use crate::program::{is_dino, part_of, program, rank};
use crate::{Weights, WeightsError};

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
        /// Position embeddings, the class token's included, the registers' not.
        tokens: usize,
        /// Width inside the MLP.
        hidden: usize,
        /// Register tokens: 0 but for networks that were trained with them.
        registers: usize,
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
            Self::Vit { dim, depth, patch_size_px, registers, .. } => {
                let size = match (dim, depth) {
                    (192, 12) => "Ti",
                    (384, 12) => "S",
                    (768, 12) => "B",
                    (1024, 24) => "L",
                    (1280, 32) => "H",
                    (1536, 40) => "g",
                    _ => "",
                };
                match size {
                    "" => write!(f, "ViT of width {dim}, depth {depth}, patches of {patch_size_px} px")?,
                    size => write!(f, "ViT-{size}/{patch_size_px}")?,
                }
                match registers {
                    0 => Ok(()),
                    count => write!(f, " with {count} register tokens"),
                }
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

impl Family {
    /// The side of the square images that a Vision Transformer's position embeddings belong to, in pixels. None for a ResNet,
    /// and where they are of no square or of one that no image has.
    pub fn image_side_px(&self) -> Option<usize> {
        let Self::Vit { tokens, patch_size_px, .. } = *self else { return None };
        let cells = tokens.checked_sub(1)?;
        let side = cells.isqrt();
        (side > 0 && side * side == cells).then(|| side.checked_mul(patch_size_px)).flatten()
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
    /// Attention heads, where something tells: the file, a `config.json` beside it, or a size whose published networks all have
    /// as many (ViT-H's 16).
    pub heads: Option<usize>,
    /// Why no command here takes it, in words; `None` where all do.
    pub refusal: Option<String>,
    pub(crate) naming: Naming,
    pub(crate) positions: Positions,
    pub(crate) scaled: bool,
    pub(crate) qkv_bias: bool,
    /// How its program resamples positions, where that is not as DINO does.
    pub(crate) position_rule: Option<&'static str>,
    pub(crate) left_out: Vec<String>,
    /// The prefixes of all networks of the file.
    pub(crate) others: Vec<String>,
}

impl Network {
    /// What was done to the file's tensors, and which were left out, a sentence each without a full stop; none for plain files.
    /// Whoever opens weights says them.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.left_out.is_empty() {
            notes.push(format!("left out, for training only: {}", self.left_out.join(", ")));
        }
        let Family::Vit { registers, .. } = self.family else { return notes };
        if self.scaled {
            notes.push("layer scale is folded into the projections behind attention and MLP".into());
        }
        if !self.qkv_bias {
            notes.push("queries, keys and values have no bias; it is 0 here".into());
        }
        match self.positions {
            Positions::ClassAndPatches => {}
            Positions::Patches => notes.push("the class token has no position embedding; it is 0 here".into()),
            Positions::ClassRegistersPatches => {
                notes.push(format!("the positions of the {registers} register tokens are added to them"));
            }
        }
        notes
    }
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// In words, such as "a DINO checkpoint (student and teacher)".
    pub name: String,
    /// Its backbones, the one to use first.
    pub networks: Vec<Network>,
}

/// Networks named of one file at most, and how long what stands before their names may be.
const MAX_NETWORKS: usize = 16;
const MAX_PREFIX: usize = 512;

pub(crate) type ByName<'w> = HashMap<&'w str, &'w Entry>;

impl Weights<'_> {
    /// What the file is, by its names and shapes.
    pub fn layout(&self) -> Layout {
        let by_name: ByName<'_> = self.entries().iter().map(|e| (e.name.as_str(), e)).collect();
        let firsts: Vec<(&Entry, Naming, &str)> =
            self.entries().iter().filter_map(|e| first_layer(e, &by_name)).take(MAX_NETWORKS).collect();
        let prefixes: Vec<String> = firsts.iter().map(|(_, _, prefix)| (*prefix).to_owned()).collect();
        let mut networks: Vec<Network> = firsts
            .iter()
            .map(|(entry, naming, prefix)| self.network_at(entry, *naming, prefix, &prefixes, &by_name))
            .collect();
        let is_dino = is_dino(self);
        networks.sort_by_key(|n| (rank(n, is_dino), n.prefix.len()));
        let name = program(self, &networks, &by_name);
        Layout { name, networks }
    }

    /// The network to use, or the one of a pair that is asked for.
    ///
    /// # Errors
    /// When there is none, or it is none that any command here takes ([`Network::refusal`]); the message says what there is.
    pub fn network(&self, part: Option<Part>) -> Result<Network, WeightsError> {
        let layout = self.layout();
        if let Some(found) = layout.networks.iter().find(|n| part.is_none() || n.part == part) {
            return match &found.refusal {
                Some(refusal) => {
                    Err(WeightsError::Layout(format!("{} ({}): {refusal}", layout.name, found.family)))
                }
                None => Ok(found.clone()),
            };
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

    /// The network of this prefix, whose first layer this tensor is.
    fn network_at(
        &self,
        entry: &Entry,
        naming: Naming,
        prefix: &str,
        prefixes: &[String],
        by_name: &ByName<'_>,
    ) -> Network {
        let plan = Plan::new(naming, prefix, prefixes, self.entries());
        let says = |key: &str| self.metadata().get(key).map(String::as_str);
        let number = |key: &str| says(key).and_then(|h| h.parse::<usize>().ok());
        let is_resnet = naming.is_resnet();
        let shape =
            VitShape::of(&plan, [entry.shape.first(), entry.shape.get(2)].map(|s| s.copied().unwrap_or(0)));
        // A config.json may lie beside another network's file.
        let is_its_own = match is_resnet {
            true => says("model_type") == Some("resnet"),
            false => number("hidden_size") == Some(shape.dim),
        };
        let usual = if is_resnet { "relu" } else { "gelu" };
        let mut refusal = says("hidden_act")
            .filter(|act| is_its_own && *act != usual)
            .map(|act| format!("its config.json says hidden_act {act:?}; the networks here have {usual}"));
        for (key, words) in [
            ("downsample_in_bottleneck", "the stride is in the 1×1 convolution; here it is in the 3×3 one"),
            ("downsample_in_first_stage", "the first stage has a stride; here it has none"),
        ] {
            if is_resnet && is_its_own && says(key) == Some("true") {
                refusal = Some(format!("its config.json says {key}: {words}"));
            }
        }
        if let Some(twice) = &plan.twice {
            refusal = Some(format!("its tensor {twice} is there twice"));
        }
        let (family, check) = match is_resnet {
            true => {
                let family = resnet_family(&plan);
                let check = match family {
                    Family::ResNet { blocks, bottleneck, width } => check_resnet(&plan, blocks, bottleneck, width),
                    Family::Vit { .. } => Ok(()),
                };
                (family, check)
            }
            false => (shape.family(), shape.check(&plan)),
        };
        // timm's networks have layer scale and left DINOv2's and iBOT's token of masked patches behind; with registers every
        // program's positions are so.
        let masks = ["mask_token", "masked_embed"].iter().any(|name| plan.left_out.contains(*name));
        let timm = naming == Naming::Dino && shape.scaled && !masks;
        let position_rule = match naming {
            _ if is_resnet => None,
            _ if shape.registers > 0 || timm => Some("antialiased"),
            Naming::Transformers => Some("bicubic"),
            _ => None,
        };
        // A file of ours has its heads without the width.
        let is_told = is_its_own || says("hidden_size").is_none();
        let told = number("num_attention_heads").filter(|_| is_told);
        let heads = match (shape.dim, shape.depth) {
            _ if is_resnet => None,
            (1280, 32) => told.or(Some(16)),
            _ => told,
        };
        let heads_fit = heads.is_none_or(|h| h > 0 && shape.dim.is_multiple_of(h));
        if !heads_fit {
            let (heads, dim) = (heads.unwrap_or(0), shape.dim);
            refusal =
                Some(format!("expected heads that divide its width, {dim}; found {heads} (num_attention_heads)"));
        }
        Network {
            prefix: prefix.to_owned(),
            family,
            part: part_of(prefix),
            parameters: plan.num_values(),
            classes: classes(prefix, by_name),
            heads,
            refusal: refusal.or(check.err()),
            naming,
            positions: shape.positions,
            scaled: shape.scaled,
            qkv_bias: shape.qkv_bias,
            position_rule,
            left_out: plan.left_out.into_iter().collect(),
            others: prefixes.to_vec(),
        }
    }
}

/// The names of the network whose first layer this tensor is, and what stands before them.
fn first_layer<'w>(entry: &'w Entry, by_name: &ByName<'_>) -> Option<(&'w Entry, Naming, &'w str)> {
    let &[_, 3, _, _] = &entry.shape[..] else { return None };
    let (naming, prefix) = Naming::of_first(&entry.name, |name| by_name.contains_key(name))?;
    (prefix.len() <= MAX_PREFIX).then_some((entry, naming, prefix))
}

/// Classes of the classifier on top: beside the backbone in `transformers`' files.
fn classes(prefix: &str, by_name: &ByName<'_>) -> Option<usize> {
    let above = prefix.strip_suffix('.').map_or("", |p| p.rsplit_once('.').map_or("", |(above, _)| above));
    let above = if above.is_empty() { String::new() } else { format!("{above}.") };
    let names = ["head.weight", "fc.weight", "heads.head.weight"].map(|name| format!("{prefix}{name}"));
    let beside = ["classifier.weight", "classifier.1.weight"].map(|name| format!("{above}{name}"));
    let found = names.iter().chain(&beside).find_map(|name| by_name.get(name.as_str()));
    found.filter(|e| e.shape.len() == 2).map(|e| e.shape[0])
}
