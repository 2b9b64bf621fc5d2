//! Which program wrote a file, and which of its networks that program's authors use.

use crate::Weights;
use crate::layout::{ByName, Family, Network, Part};
use crate::naming::Naming;

/// Parts of a prefix that tell which of a pair it is.
const TEACHERS: [&str; 15] = [
    "teacher",
    "teacher_backbone",
    "backbone_teacher",
    "encoder_k",
    "key_encoder",
    "key_backbone",
    "momentum_encoder",
    "momentum_backbone",
    "backbone_momentum",
    "encoder_momentum",
    "target_encoder",
    "target_backbone",
    "target_network",
    "target_net",
    "target",
];
const STUDENTS: [&str; 12] = [
    "student",
    "student_backbone",
    "backbone_student",
    "encoder_q",
    "query_encoder",
    "query_backbone",
    "base_encoder",
    "online_encoder",
    "online_backbone",
    "online_network",
    "online_net",
    "online",
];

pub(crate) fn part_of(prefix: &str) -> Option<Part> {
    prefix.split('.').find_map(|component| match component {
        c if TEACHERS.contains(&c) => Some(Part::Teacher),
        c if STUDENTS.contains(&c) => Some(Part::Student),
        _ => None,
    })
}

/// Halves of a pair that follow and that their programs' authors do not take: MoCo's key encoder, BYOL's target network.
const FOLLOWERS: [&str; 12] = [
    "encoder_k",
    "key_encoder",
    "key_backbone",
    "momentum_encoder",
    "momentum_backbone",
    "backbone_momentum",
    "encoder_momentum",
    "target",
    "target_encoder",
    "target_backbone",
    "target_network",
    "target_net",
];

/// Which to take first, as the programs' authors do: DINO's teacher; a plain name before either half of a pair; of MoCo, BYOL and
/// solo-learn the half that was trained, unless the file says that the method is DINO.
pub(crate) fn rank(network: &Network, is_dino: bool) -> usize {
    let own = |names: &[&str]| network.prefix.split('.').any(|c| names.contains(&c));
    match network.part {
        Some(Part::Teacher) if is_dino || !own(&FOLLOWERS) => 0,
        None => 1,
        Some(Part::Student) if !own(&["student", "student_backbone", "backbone_student"]) => 2,
        Some(Part::Student) => 3,
        Some(Part::Teacher) => 4,
    }
}

/// Whether solo-learn says that it trained by DINO.
pub(crate) fn is_dino(weights: &Weights<'_>) -> bool {
    let says = |(key, value): (&String, &String)| {
        key.starts_with("hyper_parameters") && key.ends_with("method") && value == "dino"
    };
    weights.metadata().iter().any(says)
}

/// What the file is, in words.
pub(crate) fn program(weights: &Weights<'_>, networks: &[Network], by_name: &ByName<'_>) -> String {
    let under = |prefix: &str| networks.iter().any(|n| n.prefix.starts_with(prefix));
    let any = |part: &str| networks.iter().any(|n| n.prefix.contains(part));
    let component = |names: &[&str]| networks.iter().any(|n| n.prefix.split('.').any(|c| names.contains(&c)));
    let says = |key: &str| weights.metadata().get(key).map(String::as_str);
    let lightning = says("pytorch-lightning_version").is_some();
    if says("format").is_some_and(|f| f.starts_with("ocelli-checkpoint")) {
        return "an Ocelli checkpoint".into();
    }
    let left_out = |what: &str| networks.iter().any(|n| n.left_out.iter().any(|l| l == what));
    if under("teacher.") || under("student.") {
        let ibot = left_out("masked_embed");
        let v2 = networks.iter().any(|n| n.scaled) && left_out("mask_token");
        let method = if ibot {
            "an iBOT"
        } else if v2 {
            "a DINOv2"
        } else {
            "a DINO"
        };
        return match (under("teacher."), under("student.")) {
            (true, true) => format!("{method} checkpoint (student and teacher)"),
            (true, false) => format!("{method} teacher"),
            _ => format!("{method} student"),
        };
    }
    let Some(first) = networks.first() else {
        if by_name.keys().any(|n| n.ends_with("linear.weight")) && by_name.len() <= 4 {
            return "the weights of a linear classifier on frozen features".into();
        }
        return "tensors in no layout known here".into();
    };
    let keeper = if lightning { "a PyTorch Lightning checkpoint" } else { "a checkpoint" };
    match (first.naming, &first.family) {
        _ if any("encoder_q.0.") => "a DenseCL checkpoint (query and key encoder)".into(),
        _ if any("encoder_q.") => "a MoCo checkpoint (query and key encoder)".into(),
        _ if any("_feature_blocks.") => "a VISSL checkpoint".into(),
        _ if component(&["base_encoder", "momentum_encoder"]) => {
            "a MoCo v3 checkpoint (base and momentum encoder)".into()
        }
        _ if component(&["momentum_backbone"]) => {
            format!("{keeper} of solo-learn (backbone and momentum_backbone)")
        }
        _ if component(&["teacher_backbone", "student_backbone"]) => {
            format!("{keeper} as lightly's examples write it (student and teacher)")
        }
        _ if component(&["backbone_momentum"]) => {
            format!("{keeper} as lightly's examples write it (backbone and backbone_momentum)")
        }
        _ if component(&["online_encoder", "target_encoder"]) => {
            "a BYOL checkpoint (online and target network)".into()
        }
        (Naming::Sequential | Naming::SmallSequential, _) => {
            format!(
                "a ResNet whose layers are numbered in an nn.Sequential, as lightly's examples keep it{}",
                in_lightning(lightning)
            )
        }
        (Naming::Transformers, _) => {
            let kind = match (first.scaled, &first.family) {
                (_, Family::Vit { registers: 1.., .. }) => "DINOv2 with registers",
                (true, _) => "DINOv2",
                _ => "a Vision Transformer",
            };
            format!("{kind} in transformers' names (Hugging Face)")
        }
        (Naming::TransformersResNet, _) => "a ResNet in transformers' names (Hugging Face)".into(),
        (Naming::Mmpretrain, _) => "a Vision Transformer in mmpretrain's names".into(),
        (Naming::TorchvisionVit, _) => "a Vision Transformer in torchvision's names".into(),
        (_, Family::ResNet { .. }) if says("author") == Some("DenseCL") => {
            "a backbone extracted from DenseCL".into()
        }
        (_, Family::ResNet { .. }) => format!("a ResNet in torchvision's names{}", in_lightning(lightning)),
        _ if left_out("decoder_blocks") || left_out("decoder_embed") => {
            "an MAE checkpoint (encoder and decoder)".into()
        }
        _ if first.scaled && left_out("mask_token") => "a backbone in DINOv2's names".into(),
        (_, Family::Vit { registers: 1.., .. }) => "a Vision Transformer with registers in timm's names".into(),
        _ if first.scaled || first.classes.is_some() => {
            format!("a Vision Transformer in timm's names{}", in_lightning(lightning))
        }
        _ => format!("a backbone in DINO's names{}", in_lightning(lightning)),
    }
}

fn in_lightning(lightning: bool) -> &'static str {
    if lightning { " in a PyTorch Lightning checkpoint" } else { "" }
}
