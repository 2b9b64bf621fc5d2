//! Names of a detector's tensors in files: detectron2's.
//!
//! ```
//! use ocelli_transfer::detection::names::head_name;
//!
//! let theirs = head_name("predictor.cls_score.weight");
//! assert_eq!(theirs.as_deref(), Some("roi_heads.box_predictor.cls_score.weight"));
//! ```

use std::collections::BTreeMap;

use burn::module::Module;
use ocelli_models::params::{self, FlatParam};
use ocelli_models::weights::{HostTensor, ModuleState as _, StateDict, WeightsError, detectron2};

use super::network::{FasterRcnn, ResNetC4};

/// Where each part of a detector has its place in files.
const PARTS: [(&str, &str); 3] = [
    ("rpn.", "proposal_generator.rpn_head."),
    ("predictor.", "roi_heads.box_predictor."),
    ("network.norm.", "roi_heads.res5.norm."),
];

/// The name in files of one of the detector's own heads or of the norm behind the fourth stage.
pub fn head_name(own: &str) -> Option<String> {
    PARTS.iter().find_map(|(here, there)| Some(format!("{there}{}", own.strip_prefix(here)?)))
}

/// The name in files of a ResNet's tensor, which has torchvision's name here: the last stage is the detector's head. `is_conv` tells
/// the two layers of a shortcut apart.
fn backbone_name(own: &str, is_conv: bool) -> String {
    let name = detectron2::name(own, is_conv);
    if name.starts_with("res5.") { format!("roi_heads.{name}") } else { format!("backbone.{name}") }
}

fn file_name(param: &FlatParam) -> String {
    let own = &param.name;
    match own.strip_prefix("network.backbone.") {
        Some(backbone) => backbone_name(backbone, param.shape.num_dims() == 4),
        None => head_name(own).unwrap_or_else(|| own.clone()),
    }
}

/// The detector's own names, and what each is in files.
fn file_names<M: Module>(net: &M) -> Vec<(String, String)> {
    params::collect(net).iter().map(|p| (p.name.clone(), file_name(p))).collect()
}

/// A detector as files have it.
///
/// # Errors
/// When values cannot be read from the device.
pub fn to_file(net: &FasterRcnn<ResNetC4>) -> Result<StateDict, WeightsError> {
    let names: BTreeMap<String, String> = file_names(net).into_iter().collect();
    let mut state = StateDict::default();
    state.add_module("", net)?;
    for (name, _) in &mut state.tensors {
        if let Some(file) = names.get(name) {
            name.clone_from(file);
        }
    }
    Ok(state)
}

/// Loads a detector from a file's tensors.
///
/// # Errors
/// [`WeightsError::Mismatch`] in the file's names when one is missing or left over, or a shape differs.
pub fn of_file(state: &StateDict, net: FasterRcnn<ResNetC4>) -> Result<FasterRcnn<ResNetC4>, WeightsError> {
    let names = file_names(&net);
    let own: BTreeMap<&str, &str> = names.iter().map(|(own, file)| (file.as_str(), own.as_str())).collect();
    let rename = |(name, tensor): &(String, HostTensor)| {
        (own.get(name.as_str()).map_or_else(|| name.clone(), |own| (*own).to_owned()), tensor.clone())
    };
    let renamed = StateDict { tensors: state.tensors.iter().map(rename).collect(), metadata: BTreeMap::new() };
    renamed.load_into(net).map_err(|error| match error {
        WeightsError::Mismatch(mut mismatch) => {
            let file: BTreeMap<&str, &str> = names.iter().map(|(own, f)| (own.as_str(), f.as_str())).collect();
            let back = |name: &mut String| {
                if let Some(f) = file.get(name.as_str()) {
                    *name = (*f).to_owned();
                }
            };
            mismatch.missing.iter_mut().for_each(back);
            mismatch.unexpected.iter_mut().for_each(back);
            mismatch.shapes.iter_mut().for_each(|(name, ..)| back(name));
            WeightsError::Mismatch(mismatch)
        }
        other => other,
    })
}

/// A ResNet's tensors out of a file of a detector, in torchvision's names: what its shape is read off.
pub fn backbone_of_file(state: &StateDict) -> StateDict {
    let own = |name: &str| -> Option<String> {
        if let Some(rest) = name.strip_prefix("backbone.stem.") {
            return Some(match rest.strip_prefix("conv1.norm.") {
                Some(what) => format!("bn1.{what}"),
                None if rest.starts_with("conv1.") => rest.to_owned(),
                None => format!("stem.{rest}"),
            });
        }
        let (stage, rest) = match name.strip_prefix("roi_heads.res5.") {
            Some(rest) if !rest.starts_with("norm.") => (4, rest),
            Some(_) => return None,
            None => {
                let (stage, rest) = name.strip_prefix("backbone.res")?.split_once('.')?;
                (stage.parse::<usize>().ok()?.checked_sub(1)?, rest)
            }
        };
        let (block, layer) = rest.split_once('.')?;
        let layer = match layer.split_once(".norm.") {
            Some(("shortcut", what)) => format!("downsample.1.{what}"),
            Some((conv, what)) if conv.starts_with("conv") => format!("bn{}.{what}", &conv["conv".len()..]),
            _ => match layer.strip_prefix("shortcut.") {
                Some(what) => format!("downsample.0.{what}"),
                None => layer.to_owned(),
            },
        };
        Some(format!("layer{stage}.{block}.{layer}"))
    };
    let tensors = state.tensors.iter().filter_map(|(name, tensor)| Some((own(name)?, tensor.clone()))).collect();
    StateDict { tensors, metadata: state.metadata.clone() }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use ocelli_models::{Init, ResNetArch, ResNetConfig};

    use super::*;

    fn detector(arch: &str, extra_norm: bool, seed: u64) -> FasterRcnn<ResNetC4> {
        let init = &mut Init::new(seed, &Device::flex());
        let arch: ResNetArch = arch.parse().unwrap();
        FasterRcnn::new(ResNetC4::new(&ResNetConfig::from(arch), extra_norm, init).unwrap(), 15, 3, init)
    }

    #[test]
    fn names_are_detectron2s() {
        let names: Vec<String> =
            file_names(&detector("resnet-50c4", true, 0)).into_iter().map(|(_, f)| f).collect();
        for name in [
            "backbone.stem.conv1.weight",
            "backbone.stem.conv1.norm.running_mean",
            "backbone.res2.0.shortcut.weight",
            "backbone.res2.0.shortcut.norm.weight",
            "backbone.res4.5.conv2.weight",
            "backbone.res4.5.conv3.norm.bias",
            "roi_heads.res5.0.conv1.weight",
            "roi_heads.res5.0.shortcut.norm.running_var",
            "roi_heads.res5.norm.running_mean",
            "proposal_generator.rpn_head.conv.bias",
            "proposal_generator.rpn_head.objectness_logits.weight",
            "proposal_generator.rpn_head.anchor_deltas.bias",
            "roi_heads.box_predictor.cls_score.weight",
            "roi_heads.box_predictor.bbox_pred.bias",
        ] {
            assert!(names.iter().any(|n| n == name), "no {name}");
        }
        let left = |n: &&String| n.starts_with("network") || n.contains("layer") || n.contains(".bn");
        assert_eq!(names.iter().filter(left).count(), 0);
        let different: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(different.len(), names.len());
    }

    #[test]
    fn there_and_back() {
        for (arch, extra_norm) in [("resnet-18c4", true), ("resnet-50c4", false), ("resnet-50c4-sk", true)] {
            let net = detector(arch, extra_norm, 1);
            let file = to_file(&net).unwrap();
            let backbone = backbone_of_file(&file);
            let (found, _) = ResNetArch::of(&backbone).unwrap();
            assert_eq!(found.to_string(), arch);
            let back = of_file(&file, detector(arch, extra_norm, 2)).unwrap();
            assert_eq!(to_file(&back).unwrap(), file, "{arch}");
            let mut other = file.clone();
            other.tensors.retain(|(n, _)| n != "roi_heads.box_predictor.cls_score.bias");
            let message = of_file(&other, detector(arch, extra_norm, 2)).unwrap_err().to_string();
            assert!(message.contains("roi_heads.box_predictor.cls_score.bias"), "{message}");
        }
    }
}
