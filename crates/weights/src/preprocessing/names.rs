//! Published networks by name: what their authors fed them with.

use super::{EvalSize, Preprocessing, Statistics, Told};

/// Endings of a file's name that say how it is stored, not what it is.
const STORED: [&str; 15] = [
    "safetensors",
    "pth",
    "pt",
    "bin",
    "tar",
    "ckpt",
    "npz",
    "fp16",
    "fp32",
    "f16",
    "f32",
    "bf16",
    "backbone",
    "model",
    "ema",
];

/// What a network of this name wants, where it is a family known here. `whose` says in words where the name was found. Names
/// are timm's (`vit_tiny_patch16_224.augreg_in21k_ft_in1k`), DINO's (`dino_deitsmall16_pretrain`), DeiT's and torchvision's
/// (`resnet50-0676ba61`).
pub fn by_name(name: &str, whose: &str) -> Option<Preprocessing> {
    let name = name.to_ascii_lowercase();
    // Hugging Face puts the owner in front.
    let name = name.rsplit(['/', ':']).next().unwrap_or_default();
    // It is repeated on a terminal.
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
        return None;
    }
    let mut parts = name.split('.').filter(|part| !STORED.contains(part));
    let arch = parts.next().unwrap_or_default();
    let tag = parts.collect::<Vec<_>>().join(".");
    let (statistics, crop_share) = family(arch, &tag)?;
    let source = match tag.as_str() {
        "" => format!("that of {arch}, {whose}"),
        tag => format!("that of {arch}.{tag}, {whose}"),
    };
    // The side is in timm's names; the share of the image that is looked at is the family's.
    let side =
        arch.split('_').find_map(|part| part.parse::<usize>().ok().filter(|side| (32..=1024).contains(side)));
    let size = side.or((!arch.starts_with("vit_") && !arch.starts_with("mixer_")).then_some(224)).map(|side| {
        let value = match (crop_share, side) {
            (Share::Timm, 0..=256) => EvalSize { resize_px: (side as f64 / 0.9) as usize, crop_px: side },
            (Share::Timm, _) => EvalSize { resize_px: side, crop_px: side },
            (Share::Dino, _) => EvalSize::for_side(side),
        };
        Told::new(value, source.clone())
    });
    Some(Preprocessing { statistics: Some(Told::new(statistics, source)), size })
}

/// How much of an image is looked at.
#[derive(Clone, Copy)]
enum Share {
    /// Nine tenths of its side; all of it above 256 px.
    Timm,
    /// Seven eighths.
    Dino,
}

fn family(arch: &str, tag: &str) -> Option<(Statistics, Share)> {
    let is = |word: &str| arch.contains(word) || tag.contains(word);
    let begins = |words: &[&str]| words.iter().any(|word| arch.starts_with(word));
    let vit = arch.starts_with("vit_") && arch.contains("_patch");
    // `vit_small`, as DINO's code has it, is a name of many.
    if is("dino") && (vit || begins(&["dino", "resnet"])) {
        return Some((Statistics::IMAGENET, Share::Dino));
    }
    if begins(&["deit"]) {
        return Some((Statistics::IMAGENET, Share::Timm));
    }
    if vit || begins(&["mixer_"]) {
        // Each of CLIP's descendants has numbers of its own.
        if is("clip") {
            return None;
        }
        if is("miil") {
            return Some((Statistics::NONE, Share::Dino));
        }
        if is("mae") || is("ijepa") {
            return Some((Statistics::IMAGENET, Share::Timm));
        }
        let google =
            tag.is_empty() || ["augreg", "goog", "orig", "sam", "siglip"].iter().any(|t| tag.starts_with(t));
        let plain = google || arch.contains("siglip");
        return plain.then_some((Statistics::HALF, Share::Timm));
    }
    let digits = |rest: &str| rest.trim_start_matches(|c: char| c.is_ascii_digit()).len() < rest.len();
    let torchvision =
        ["resnet", "wide_resnet", "resnext"].iter().any(|p| arch.strip_prefix(p).is_some_and(digits));
    // The hash of torchvision's file, or a name without more.
    let plain = tag.is_empty() || tag.starts_with("tv");
    (torchvision && plain && !is("clip")).then_some((Statistics::IMAGENET, Share::Dino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_what_they_were_trained_with() {
        let (imagenet, half, none) = (Statistics::IMAGENET, Statistics::HALF, Statistics::NONE);
        for (name, statistics, size) in [
            ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", half, Some((248, 224))),
            ("timm/vit_tiny_patch16_224.augreg_in21k", half, Some((248, 224))),
            ("vit_base_patch16_384.augreg_in21k_ft_in1k", half, Some((384, 384))),
            ("vit_tiny_patch16_224.fp16.safetensors", half, Some((248, 224))),
            ("vit_tiny_patch16_224.fp16.backbone.pth", half, Some((248, 224))),
            ("vit_base_patch16_224.orig_in21k", half, Some((248, 224))),
            ("vit_base_patch32_224.sam_in1k", half, Some((248, 224))),
            ("mixer_b16_224.goog_in21k_ft_in1k", half, Some((248, 224))),
            ("vit_base_patch16_224_miil.in21k_ft_in1k", none, Some((256, 224))),
            ("vit_base_patch16_224.mae", imagenet, Some((248, 224))),
            ("vit_small_patch16_224.dino", imagenet, Some((256, 224))),
            ("vit_small_patch8_224_dino", imagenet, Some((256, 224))),
            ("dino_deitsmall16_pretrain.pth", imagenet, Some((256, 224))),
            ("dino_resnet50_pretrain.pth", imagenet, Some((256, 224))),
            ("deit_small_patch16_224.fb_in1k", imagenet, Some((248, 224))),
            ("deit_tiny_patch16_224-a1311bcf.pth", imagenet, Some((248, 224))),
            ("resnet50-0676ba61.pth", imagenet, Some((256, 224))),
            ("wide_resnet50_2-95faca4d.pth", imagenet, Some((256, 224))),
        ] {
            let found = by_name(name, "which the file names").unwrap_or_else(|| panic!("{name}"));
            assert_eq!(found.statistics.unwrap().value, statistics, "{name}");
            assert_eq!(found.size.map(|s| (s.value.resize_px, s.value.crop_px)), size, "{name}");
        }
    }

    #[test]
    fn other_names_say_nothing() {
        for name in [
            "",
            "vit-s/16",
            "vit_small",
            "backbone.safetensors",
            "vit_base_patch16_clip_224.openai",
            "model.pth",
            "vit_base_patch16_224.mine",
            "resnet",
            "resnet50_clip.openai",
            "my_dino.pth",
            "vit_é_224",
            "é",
            "resneté",
            "epoch-0002.safetensors",
        ] {
            assert_eq!(by_name(name, "which the file names"), None, "{name}");
        }
    }
}
