//! Whether a file's tensors are a network that there is here: one check, for every command.

use crate::layout::Family;
use crate::plan::Plan;
use crate::{Mismatch, WeightsError};

/// Where a Vision Transformer's position embeddings have their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Positions {
    /// The class token's, then the patches'.
    ClassAndPatches,
    /// The patches' alone: the class token has none.
    Patches,
    /// The class token's, the registers', the patches'.
    ClassRegistersPatches,
}

/// What a Vision Transformer's tensors tell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VitShape {
    pub dim: usize,
    pub depth: usize,
    pub patch_size_px: usize,
    /// Position embeddings when they are in our form: one more than cells.
    pub tokens: usize,
    pub hidden: usize,
    pub registers: usize,
    pub positions: Positions,
    /// Whether there is layer scale.
    pub scaled: bool,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
}

/// Differences that are looked for, at most.
const ENOUGH: usize = 64;

/// The network must have a tensor of this name and shape.
fn want(plan: &Plan<'_>, found: &mut Mismatch, name: &str, expected: &[usize]) {
    match plan.shape(name) {
        None => found.missing.push(name.to_owned()),
        Some(shape) if shape != expected => found.shapes.push((name.to_owned(), expected.to_vec(), shape)),
        Some(_) => {}
    }
}

fn is_enough(found: &Mismatch) -> bool {
    found.missing.len() + found.shapes.len() >= ENOUGH
}

fn refused(found: Mismatch, what: &str) -> Result<(), String> {
    match found == Mismatch::default() {
        true => Ok(()),
        false => Err(format!("no network here is {what}: {}", WeightsError::Mismatch(found))),
    }
}

fn blocks(plan: &Plan<'_>, name: impl Fn(usize) -> String) -> usize {
    (0..).take_while(|i| plan.shape(&name(*i)).is_some()).count()
}

impl VitShape {
    /// What the tensors tell, whether they fit together or not. `first` is the shape of the patch projection.
    pub fn of(plan: &Plan<'_>, first: [usize; 2]) -> Self {
        let [dim, patch_size_px] = first;
        let middle = |name: &str| plan.shape(name).and_then(|s| s.get(1).copied());
        let registers = middle("register_tokens").unwrap_or(0);
        let stored = middle("pos_embed").unwrap_or(0);
        let (positions, tokens) = positions(stored, registers);
        Self {
            dim,
            depth: blocks(plan, |i| format!("blocks.{i}.norm1.weight")),
            patch_size_px,
            tokens,
            hidden: plan.shape("blocks.0.mlp.fc1.weight").and_then(|s| s.first().copied()).unwrap_or(0),
            registers,
            positions,
            scaled: plan.shape("blocks.0.ls1.gamma").is_some(),
            qkv_bias: plan.shape("blocks.0.attn.qkv.bias").is_some(),
        }
    }

    /// The family this is.
    pub fn family(&self) -> Family {
        let Self { dim, depth, patch_size_px, tokens, hidden, registers, .. } = *self;
        Family::Vit { dim, depth, patch_size_px, tokens, hidden, registers }
    }

    /// Whether every tensor of such a network is there, and none that no network here has.
    ///
    /// # Errors
    /// In words for whoever holds the file.
    pub fn check(&self, plan: &Plan<'_>) -> Result<(), String> {
        let Self { dim, depth, patch_size_px, hidden, registers, .. } = *self;
        let is = |name: &str| plan.shape(name).is_some();
        let has = |part: &str| plan.tensors.iter().any(|(name, _)| name.contains(part));
        let half = plan.shape("blocks.0.mlp.fc2.weight").is_some_and(|s| s.get(1) == Some(&(hidden / 2)));
        let swiglu = [".mlp.w12.", ".mlp.w3.", ".mlp.weights_in.", ".mlp.fc1_g."].iter().any(|p| has(p));
        if swiglu || half && hidden > 1 {
            return Err(
                "its MLPs are SwiGLU (ViT-g), which no network here has; take the ViT-S, ViT-B or ViT-L of the \
                        same family"
                    .into(),
            );
        }
        if is("dist_token") {
            return Err(
                "it is a distilled DeiT: it has a second class token (dist_token), which no network here has; \
                        take the DeiT without distillation"
                    .into(),
            );
        }
        if !is("cls_token") {
            return Err(
                "it has no class token (cls_token), as networks that average their patches have none; every \
                        Vision Transformer here has one"
                    .into(),
            );
        }
        if is("fc_norm.weight") && !is("norm.weight") {
            return Err("it averages its patches (it has fc_norm in place of norm); features here are the class \
                        token's after norm"
                .into());
        }
        if !is("pos_embed") {
            return Err(
                "it has no position embeddings (pos_embed), as networks with rotary or relative positions have \
                        none; every Vision Transformer here has them"
                    .into(),
            );
        }
        if plan.shape("patch_embed.proj.weight") != Some(vec![dim, 3, patch_size_px, patch_size_px])
            || dim == 0
            || patch_size_px == 0
        {
            return Err(format!(
                "patch_embed.proj.weight: expected square patches, shape [width, 3, patch, patch]; found {:?}",
                plan.shape("patch_embed.proj.weight").unwrap_or_default()
            ));
        }
        let cells = self.tokens.saturating_sub(1);
        if cells == 0 || cells.isqrt().pow(2) != cells {
            return Err(format!(
                "pos_embed has shape {:?}; expected the positions of a square of patches and of the class token",
                plan.shape("pos_embed").unwrap_or_default()
            ));
        }
        if is("blocks.0.mlp.fc1.weight") && (hidden == 0 || !hidden.is_multiple_of(dim)) {
            return Err(format!(
                "its MLPs are {hidden} wide; expected a multiple of its width, {dim}, as every network here has"
            ));
        }
        let mut found = Mismatch::default();
        let stored = match self.positions {
            Positions::ClassAndPatches => self.tokens,
            Positions::Patches => cells,
            Positions::ClassRegistersPatches => self.tokens.saturating_add(registers),
        };
        let mut tensors = 5;
        want(plan, &mut found, "cls_token", &[1, 1, dim]);
        want(plan, &mut found, "pos_embed", &[1, stored, dim]);
        want(plan, &mut found, "patch_embed.proj.bias", &[dim]);
        want(plan, &mut found, "norm.weight", &[dim]);
        want(plan, &mut found, "norm.bias", &[dim]);
        if registers > 0 {
            tensors += 1;
            want(plan, &mut found, "register_tokens", &[1, registers, dim]);
        }
        let square = [dim.saturating_mul(3), dim];
        let mut inside: Vec<(&str, &[usize])> = vec![
            ("norm1.weight", &square[1..]),
            ("norm1.bias", &square[1..]),
            ("attn.qkv.weight", &square),
            ("attn.proj.bias", &square[1..]),
            ("norm2.weight", &square[1..]),
            ("norm2.bias", &square[1..]),
            ("mlp.fc2.bias", &square[1..]),
        ];
        let (proj, fc1, fc2) = ([dim, dim], [hidden, dim], [dim, hidden]);
        inside.extend([("attn.proj.weight", &proj[..]), ("mlp.fc1.weight", &fc1), ("mlp.fc2.weight", &fc2)]);
        inside.push(("mlp.fc1.bias", &fc1[..1]));
        if self.qkv_bias {
            inside.push(("attn.qkv.bias", &square[..1]));
        }
        if self.scaled {
            inside.extend([("ls1.gamma", &square[1..]), ("ls2.gamma", &square[1..])]);
        }
        tensors += 1 + depth * inside.len();
        for block in 0..depth {
            for (name, shape) in &inside {
                want(plan, &mut found, &format!("blocks.{block}.{name}"), shape);
            }
            if is_enough(&found) {
                break;
            }
        }
        // Of names that no network here has, the file's own count tells first.
        if found.missing.is_empty() && plan.tensors.len() != tensors {
            let top =
                ["cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight"];
            let known = |name: &str| match name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
                Some((block, name)) => {
                    block.parse::<usize>().is_ok_and(|b| b < depth) && inside.iter().any(|(n, _)| *n == name)
                }
                None => top.contains(&name) || name == "norm.bias" || name == "register_tokens" && registers > 0,
            };
            let others = plan.tensors.iter().map(|(name, _)| name).filter(|name| !known(name));
            found.unexpected = others.take(ENOUGH).cloned().collect();
        }
        refused(found, "such a Vision Transformer")
    }
}

/// Where the positions have their places, and how many there are in our form.
fn positions(stored: usize, registers: usize) -> (Positions, usize) {
    let is_square = |n: usize| n > 0 && n.isqrt().pow(2) == n;
    match stored.checked_sub(1) {
        Some(cells) if is_square(cells) => (Positions::ClassAndPatches, stored),
        _ if is_square(stored) => (Positions::Patches, stored.saturating_add(1)),
        Some(rest) if registers > 0 && rest > registers && is_square(rest - registers) => {
            (Positions::ClassRegistersPatches, stored - registers)
        }
        _ => (Positions::ClassAndPatches, stored),
    }
}

/// A ResNet's stages, bottlenecks and the width inside its first block.
pub(crate) fn resnet_family(plan: &Plan<'_>) -> Family {
    let count = |stage: usize| blocks(plan, |i| format!("layer{stage}.{i}.conv1.weight"));
    let width = plan.shape("layer1.0.conv1.weight").and_then(|s| s.first().copied()).unwrap_or(0);
    Family::ResNet {
        blocks: [count(1), count(2), count(3), count(4)],
        bottleneck: plan.shape("layer1.0.conv3.weight").is_some(),
        width,
    }
}

/// Whether every tensor of such a ResNet is there, and none that no network here has.
///
/// # Errors
/// In words for whoever holds the file.
pub(crate) fn check_resnet(
    plan: &Plan<'_>,
    blocks: [usize; 4],
    bottleneck: bool,
    width: usize,
) -> Result<(), String> {
    // Networks with selective kernels come from this program; what is wrong with one is said when it is built.
    if plan.shape("layer1.0.sk.conv.weight").is_some() {
        return Ok(());
    }
    let Some(&[channels @ (1..), 3, side, same]) = plan.shape("conv1.weight").as_deref() else {
        return Err(
            "its first layer is not one convolution (conv1); a ResNet with a deep stem is no network here".into(),
        );
    };
    if side != same || !matches!(side, 3 | 7) {
        return Err(format!(
            "its first kernel has {side}×{same} pixels; a ResNet here has 7×7, or 3×3 for small images"
        ));
    }
    if !blocks.iter().all(|count| (1..=1000).contains(count)) {
        return Err(format!("a ResNet here has four stages of 1 to 1000 blocks; found {blocks:?}"));
    }
    if channels > 4096 || !channels.is_multiple_of(2) {
        return Err(format!(
            "its first layer has {channels} channels; a ResNet here has an even number from 2 to 4096"
        ));
    }
    if !width.is_multiple_of(channels) || !(1..=4).contains(&(width / channels)) {
        return Err(format!(
            "its first block is {width} channels wide inside, its first layer {channels}; a ResNet here has 1, 2, 3 or 4 \
             times as many"
        ));
    }
    let mut found = Mismatch::default();
    let mut known = 0;
    let mut conv_norm = |conv: &str, norm: &str, shape: [usize; 4], found: &mut Mismatch| {
        want(plan, found, &format!("{conv}.weight"), &shape);
        for part in ["weight", "bias", "running_mean", "running_var"] {
            want(plan, found, &format!("{norm}.{part}"), &shape[..1]);
        }
        known += 5;
    };
    conv_norm("conv1", "bn1", [channels, 3, side, side], &mut found);
    let mut input = channels;
    for (stage, count) in blocks.iter().enumerate() {
        let times = 1usize << stage;
        let inner = width.saturating_mul(times);
        let output = channels.saturating_mul(times).saturating_mul(if bottleneck { 4 } else { 1 });
        for block in 0..*count {
            let own = format!("layer{}.{block}.", stage + 1);
            let layers: &[[usize; 4]] = match bottleneck {
                true => &[[inner, input, 1, 1], [inner, inner, 3, 3], [output, inner, 1, 1]],
                false => &[[output, input, 3, 3], [output, output, 3, 3]],
            };
            for (index, shape) in layers.iter().enumerate() {
                let number = index + 1;
                conv_norm(&format!("{own}conv{number}"), &format!("{own}bn{number}"), *shape, &mut found);
            }
            if block == 0 && (stage > 0 || input != output) {
                let shape = [output, input, 1, 1];
                conv_norm(&format!("{own}downsample.0"), &format!("{own}downsample.1"), shape, &mut found);
            }
            input = output;
            if is_enough(&found) {
                return refused(found, "such a ResNet");
            }
        }
    }
    if found.missing.is_empty() && plan.tensors.len() != known {
        let is_known = |name: &str| {
            let layer = name.rsplit_once('.').map_or("", |(layer, _)| layer);
            let last = layer.rsplit('.').next().unwrap_or_default();
            let counted = |word: &str| last.strip_prefix(word).is_some_and(|n| matches!(n, "1" | "2" | "3"));
            counted("conv") && name.ends_with(".weight") || counted("bn") || layer.contains("downsample")
        };
        let others = plan.tensors.iter().map(|(name, _)| name).filter(|name| !is_known(name));
        found.unexpected = others.take(ENOUGH).cloned().collect();
        if found.unexpected.is_empty() {
            found.unexpected =
                vec![format!("{} tensors more than a network of these stages has", plan.tensors.len())];
        }
    }
    refused(found, "such a ResNet")
}
