//! Names that programs give to the same tensors, brought to DINO's (of Vision Transformers) and torchvision's (of ResNets).

/// Whose names a network's tensors have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// DINO's and timm's: `patch_embed.proj`, `blocks.0.norm1`.
    Dino,
    /// `transformers`': `embeddings.patch_embeddings.projection`, `encoder.layer.0.…`.
    Transformers,
    /// torchvision's Vision Transformers: `conv_proj`, `encoder.layers.encoder_layer_0.ln_1`.
    TorchvisionVit,
    /// mmpretrain's: `patch_embed.projection`, `layers.0.ln1`.
    Mmpretrain,
    /// torchvision's ResNets: `conv1`, `layer1.0.conv1`.
    Torchvision,
    /// The same behind three convolutions: `stem.0.conv`.
    DeepStem,
    /// A ResNet's children in an `nn.Sequential`: `0`, `1`, `4.0.conv1`.
    Sequential,
    /// The same of a network for small images, without activation and pooling between: `0`, `1`, `2.0.conv1`.
    SmallSequential,
    /// `transformers`' ResNets: `embedder.embedder.convolution`, `encoder.stages.0.layers.0.layer.0.convolution`.
    TransformersResNet,
}

/// Where a block's tensors and the others have their places: name there, name here.
struct Table {
    /// What stands before a block's number.
    blocks: &'static [&'static str],
    inside: &'static [(&'static str, &'static str)],
    top: &'static [(&'static str, &'static str)],
}

const DINO: Table = Table {
    blocks: &["blocks."],
    inside: &[("gamma_1", "ls1.gamma"), ("gamma_2", "ls2.gamma")],
    top: &[("reg_token", "register_tokens")],
};

/// ViT, DeiT, Dinov2 and Dinov2WithRegisters, as `transformers` 4 and 5 save them.
const TRANSFORMERS: Table = Table {
    blocks: &["encoder.layer.", "encoder.layers.", "layers.", "layer."],
    inside: &[
        ("layernorm_before", "norm1"),
        ("layernorm_after", "norm2"),
        ("attention.attention.query", "attn.q"),
        ("attention.attention.key", "attn.k"),
        ("attention.attention.value", "attn.v"),
        ("attention.output.dense", "attn.proj"),
        ("attention.q_proj", "attn.q"),
        ("attention.k_proj", "attn.k"),
        ("attention.v_proj", "attn.v"),
        ("attention.o_proj", "attn.proj"),
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
        ("layer_scale1.lambda1", "ls1.gamma"),
        ("layer_scale2.lambda1", "ls2.gamma"),
    ],
    top: &[
        ("embeddings.cls_token", "cls_token"),
        ("embeddings.position_embeddings", "pos_embed"),
        ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
        ("embeddings.mask_token", "mask_token"),
        ("embeddings.register_tokens", "register_tokens"),
        ("embeddings.distillation_token", "dist_token"),
        ("layernorm", "norm"),
    ],
};

const TORCHVISION_VIT: Table = Table {
    blocks: &["encoder.layers.encoder_layer_"],
    inside: &[
        ("ln_1", "norm1"),
        ("ln_2", "norm2"),
        ("self_attention.in_proj_weight", "attn.qkv.weight"),
        ("self_attention.in_proj_bias", "attn.qkv.bias"),
        ("self_attention.out_proj", "attn.proj"),
        ("mlp.linear_1", "mlp.fc1"),
        ("mlp.linear_2", "mlp.fc2"),
        ("mlp.0", "mlp.fc1"),
        ("mlp.3", "mlp.fc2"),
    ],
    top: &[
        ("class_token", "cls_token"),
        ("encoder.pos_embedding", "pos_embed"),
        ("conv_proj", "patch_embed.proj"),
        ("encoder.ln", "norm"),
        ("heads", "head"),
    ],
};

const MMPRETRAIN: Table = Table {
    blocks: &["layers."],
    inside: &[
        ("ln1", "norm1"),
        ("ln2", "norm2"),
        ("attn.gamma1.weight", "ls1.gamma"),
        ("ffn.gamma2.weight", "ls2.gamma"),
        ("ffn.gamma2.scale", "ls2.gamma"),
        ("ffn.layers.0.0", "mlp.fc1"),
        ("ffn.layers.1", "mlp.fc2"),
    ],
    top: &[("patch_embed.projection", "patch_embed.proj"), ("ln1", "norm")],
};

/// A kind of names: the end of its first layer's name, and tensors of the first block of which one must be there too.
type First = (Naming, &'static str, &'static [&'static str]);

/// In the order they are tried.
const FIRSTS: [First; 9] = [
    (Naming::Dino, "patch_embed.proj.weight", &["blocks.0.norm1.weight", "blocks.0.0.norm1.weight"]),
    (Naming::Torchvision, "conv1.weight", &["layer1.0.conv1.weight"]),
    (
        Naming::Transformers,
        "embeddings.patch_embeddings.projection.weight",
        &[
            "encoder.layer.0.layernorm_before.weight",
            "encoder.layer.0.norm1.weight",
            "encoder.layers.0.layernorm_before.weight",
            "encoder.layers.0.norm1.weight",
            "layers.0.layernorm_before.weight",
            "layers.0.norm1.weight",
            "layer.0.layernorm_before.weight",
            "layer.0.norm1.weight",
        ],
    ),
    // The small one has a child 4 too.
    (Naming::SmallSequential, "0.weight", &["2.0.conv1.weight"]),
    (Naming::Sequential, "0.weight", &["4.0.conv1.weight"]),
    (Naming::DeepStem, "stem.0.conv.weight", &["layer1.0.conv1.weight"]),
    (
        Naming::TransformersResNet,
        "embedder.embedder.convolution.weight",
        &["encoder.stages.0.layers.0.layer.0.convolution.weight"],
    ),
    (Naming::TorchvisionVit, "conv_proj.weight", &["encoder.layers.encoder_layer_0.ln_1.weight"]),
    (Naming::Mmpretrain, "patch_embed.projection.weight", &["layers.0.ln1.weight"]),
];

impl Naming {
    /// The names this tensor may be the first layer in, and what stands before them; `is_there` looks a name up.
    pub fn of_first(name: &str, is_there: impl Fn(&str) -> bool) -> Option<(Self, &str)> {
        FIRSTS.iter().find_map(|(naming, first, probes)| {
            let prefix = name.strip_suffix(first).filter(|p| p.is_empty() || p.ends_with('.'))?;
            probes.iter().any(|probe| is_there(&format!("{prefix}{probe}"))).then_some((*naming, prefix))
        })
    }

    /// Whether these are names of ResNets.
    pub fn is_resnet(self) -> bool {
        match self {
            Self::Torchvision
            | Self::DeepStem
            | Self::Sequential
            | Self::SmallSequential
            | Self::TransformersResNet => true,
            Self::Dino | Self::Transformers | Self::TorchvisionVit | Self::Mmpretrain => false,
        }
    }

    /// Our name of a tensor whose name, without the network's prefix, is `name`. Queries, keys and values that are apart are
    /// `attn.q`, `attn.k` and `attn.v`. A name that is not known stays as it is.
    pub fn own(self, name: &str) -> String {
        let found = match self {
            Self::Torchvision | Self::DeepStem => None,
            Self::Sequential => of_sequential(name, 4),
            Self::SmallSequential => of_sequential(name, 2),
            Self::TransformersResNet => of_transformers_resnet(name),
            Self::Dino => DINO.own(name),
            Self::Transformers => TRANSFORMERS.own(name),
            Self::TorchvisionVit => TORCHVISION_VIT.own(name),
            Self::Mmpretrain => MMPRETRAIN.own(name),
        };
        found.unwrap_or_else(|| name.to_owned())
    }
}

impl Table {
    fn own(&self, name: &str) -> Option<String> {
        for blocks in self.blocks {
            let Some((number, inside)) = name.strip_prefix(blocks).and_then(|rest| rest.split_once('.')) else {
                continue;
            };
            // DINOv2's training program keeps its blocks in chunks: `blocks.1.3.norm1` is block 3.
            let (number, inside) = match inside.split_once('.') {
                Some((inner, rest)) if is_number(inner) => (inner, rest),
                _ => (number, inside),
            };
            if is_number(number) {
                let inside = renamed(self.inside, inside).unwrap_or_else(|| inside.to_owned());
                return Some(format!("blocks.{number}.{inside}"));
            }
        }
        renamed(self.top, name)
    }
}

/// By the first entry that is the name or its beginning up to a dot.
fn renamed(table: &[(&str, &str)], name: &str) -> Option<String> {
    table.iter().find_map(|(there, here)| {
        let rest = name.strip_prefix(there).filter(|r| r.is_empty() || r.starts_with('.'))?;
        Some(format!("{here}{rest}"))
    })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// `stage` is the place of the first stage in the sequence.
fn of_sequential(name: &str, stage: usize) -> Option<String> {
    let (place, rest) = name.split_once('.')?;
    Some(match place.parse::<usize>().ok()? {
        0 => format!("conv1.{rest}"),
        1 => format!("bn1.{rest}"),
        at if (stage..stage + 4).contains(&at) => {
            let rest = rest.replacen(".shortcut.", ".downsample.", 1);
            format!("layer{}.{rest}", at - stage + 1)
        }
        _ => return None,
    })
}

fn of_transformers_resnet(name: &str) -> Option<String> {
    if let Some(rest) = name.strip_prefix("embedder.embedder.") {
        return renamed(&[("convolution", "conv1"), ("normalization", "bn1")], rest);
    }
    let (stage, rest) = name.strip_prefix("encoder.stages.")?.split_once('.')?;
    let (block, rest) = rest.strip_prefix("layers.")?.split_once('.')?;
    let stage = stage.parse::<usize>().ok()?.checked_add(1)?;
    let rest = match rest.strip_prefix("shortcut.") {
        Some(rest) => renamed(&[("convolution", "downsample.0"), ("normalization", "downsample.1")], rest)?,
        None => {
            let (layer, rest) = rest.strip_prefix("layer.")?.split_once('.')?;
            let layer = layer.parse::<usize>().ok()?.checked_add(1)?;
            match (rest.strip_prefix("convolution."), rest.strip_prefix("normalization.")) {
                (Some(what), _) => format!("conv{layer}.{what}"),
                (None, Some(what)) => format!("bn{layer}.{what}"),
                _ => return None,
            }
        }
    };
    Some(format!("layer{stage}.{block}.{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_program() {
        for (naming, there, here) in [
            (Naming::Dino, "blocks.3.attn.qkv.weight", "blocks.3.attn.qkv.weight"),
            (Naming::Dino, "blocks.1.3.norm1.weight", "blocks.3.norm1.weight"),
            (Naming::Dino, "reg_token", "register_tokens"),
            (Naming::Dino, "blocks.0.gamma_2", "blocks.0.ls2.gamma"),
            (Naming::Dino, "norm.weight", "norm.weight"),
            (Naming::Transformers, "encoder.layer.11.attention.attention.key.bias", "blocks.11.attn.k.bias"),
            (Naming::Transformers, "encoder.layer.0.attention.output.dense.weight", "blocks.0.attn.proj.weight"),
            (Naming::Transformers, "encoder.layer.0.output.dense.weight", "blocks.0.mlp.fc2.weight"),
            (Naming::Transformers, "encoder.layer.0.layer_scale1.lambda1", "blocks.0.ls1.gamma"),
            (Naming::Transformers, "layers.2.attention.o_proj.bias", "blocks.2.attn.proj.bias"),
            (Naming::Transformers, "encoder.layer.0.mlp.fc1.bias", "blocks.0.mlp.fc1.bias"),
            (Naming::Transformers, "embeddings.patch_embeddings.projection.bias", "patch_embed.proj.bias"),
            (Naming::Transformers, "layernorm.bias", "norm.bias"),
            (Naming::TorchvisionVit, "encoder.layers.encoder_layer_7.mlp.3.bias", "blocks.7.mlp.fc2.bias"),
            (
                Naming::TorchvisionVit,
                "encoder.layers.encoder_layer_0.self_attention.in_proj_bias",
                "blocks.0.attn.qkv.bias",
            ),
            (Naming::Mmpretrain, "layers.1.ffn.layers.0.0.weight", "blocks.1.mlp.fc1.weight"),
            (Naming::Mmpretrain, "ln1.weight", "norm.weight"),
            (Naming::Sequential, "4.0.downsample.0.weight", "layer1.0.downsample.0.weight"),
            (Naming::Sequential, "7.2.bn3.running_var", "layer4.2.bn3.running_var"),
            (Naming::Sequential, "1.running_mean", "bn1.running_mean"),
            (Naming::SmallSequential, "3.0.shortcut.1.bias", "layer2.0.downsample.1.bias"),
            (Naming::TransformersResNet, "embedder.embedder.normalization.weight", "bn1.weight"),
            (
                Naming::TransformersResNet,
                "encoder.stages.3.layers.0.layer.2.convolution.weight",
                "layer4.0.conv3.weight",
            ),
            (
                Naming::TransformersResNet,
                "encoder.stages.1.layers.0.shortcut.normalization.bias",
                "layer2.0.downsample.1.bias",
            ),
            // Nothing that is not known is made into something that is.
            (Naming::Transformers, "layernorms.bias", "layernorms.bias"),
            (Naming::Sequential, "8.weight", "8.weight"),
            (
                Naming::TransformersResNet,
                "encoder.stages.18446744073709551615.layers.0.x",
                "encoder.stages.18446744073709551615.layers.0.x",
            ),
        ] {
            assert_eq!(naming.own(there), here, "{naming:?}");
        }
    }
}
