//! What a network wants done to its pictures, from whoever says it first: the caller, the file, a file beside it, the name of
//! a published network. Where nobody does, the usual numbers, which are then called a guess.

use std::path::Path;

use ocelli_models::usual_side_px;
use ocelli_models::weights::preprocessing::{EvalSize, Preprocessing, Statistics, Told, by_name, read_json};
use ocelli_models::weights::{Family, Network, StateDict};

use super::file::{Found, table};
use super::source::beside;
use crate::{RunConfig, TrainError};

/// Files beside the weights that may tell.
const BESIDE: [&str; 2] = ["config.json", "preprocessor_config.json"];
/// What DINO, DINOv2, MoCo and torchvision evaluate at.
const USUAL_PX: usize = 224;

type Both = (Told<Statistics>, Told<EvalSize>);

pub(super) fn resolve(given: &Preprocessing, found: &Found, run: Option<&RunConfig>) -> Result<Both, TrainError> {
    resolve_parts(given, &found.file, &found.layout, &found.network, &found.state, run)
}

/// What the network of a file wants done to its pictures: `given`, else what the file says, else a guess.
///
/// # Errors
/// When the file, or a `config.json` beside it, has numbers that pixels cannot be normalised by.
pub fn preprocessing_of(
    given: &Preprocessing,
    file: &Path,
    weights: &ocelli_models::weights::Weights<'_>,
    network: &Network,
) -> Result<(Told<Statistics>, Told<EvalSize>), TrainError> {
    let state = StateDict { tensors: Vec::new(), metadata: weights.metadata().clone() };
    let run = state.metadata.get("config").and_then(|c| crate::config::stored(c, "config").ok());
    resolve_parts(given, file, &weights.layout().name, network, &state, run.as_ref())
}

fn resolve_parts(
    given: &Preprocessing,
    file: &Path,
    layout: &str,
    network: &Network,
    state: &StateDict,
    run: Option<&RunConfig>,
) -> Result<Both, TrainError> {
    let mut told = given.clone();
    // Who gave both need not hear what is wrong with the file's.
    if told.statistics.is_none() || told.size.is_none() {
        let wrong = |reason: String| TrainError::File {
            path: file.to_owned(),
            reason: format!("{reason}. Give --mean and --std, or --normalise"),
        };
        told = told.or(Preprocessing::of_metadata(&state.metadata).map_err(wrong)?);
        let run = run.map(of_run).or_else(|| table(&state.metadata).map(|t| of_table(&t)));
        told = told.or(run.transpose().map_err(wrong)?.unwrap_or_default());
        for name in BESIDE {
            if let Some(text) = beside(file, name) {
                told = told
                    .or(read_json(&format!("{name} beside the file"), &text).map_err(wrong)?.unwrap_or_default());
            }
        }
        let name = file.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        told = told.or(by_name(name, "after which the file is named").unwrap_or_default());
        told = told.or(of_layout(layout, network, state));
    }
    let side = native_side_px(&network.family);
    let statistics = told.statistics.unwrap_or_else(|| {
        let others =
            "the file does not say; --normalise half for timm's AugReg weights, --mean and --std for others";
        Told::guess(Statistics::IMAGENET, others)
    });
    let size = told.size.unwrap_or_else(|| {
        let (Family::Vit { patch_size_px, .. }, Some(side)) = (&network.family, side) else {
            let others = "the file does not say; --resize and --crop for others";
            return Told::guess(EvalSize::for_side(USUAL_PX), others);
        };
        let usual = usual_side_px(*patch_size_px, side);
        let why = match usual == side {
            true => format!("its position embeddings are for {side} px; --resize and --crop for others"),
            false => format!(
                "what DINOv2 is evaluated at, though its position embeddings are for {side} px; --size {side} for those"
            ),
        };
        Told::guess(EvalSize::for_side(usual), why)
    });
    Ok((statistics, size))
}

/// For a network without weights.
pub(super) fn for_random(given: &Preprocessing) -> Both {
    let usual = "the usual one, for random weights";
    let statistics = given.statistics.clone();
    let size = given.size.clone();
    (
        statistics.unwrap_or_else(|| Told::new(Statistics::IMAGENET, usual)),
        size.unwrap_or_else(|| Told::new(EvalSize::for_side(USUAL_PX), usual)),
    )
}

/// The run's own, which its views were made with.
fn of_run(run: &RunConfig) -> Result<Preprocessing, String> {
    let statistics = Statistics::checked(run.views.mean, run.views.std)?;
    let size = EvalSize { resize_px: run.eval.resize_px, crop_px: run.eval.crop_px };
    Ok(Preprocessing {
        statistics: Some(Told::new(statistics, "the run's")),
        size: Some(Told::new(size, "as the run evaluates")),
    })
}

/// The same of a configuration whose other keys this version does not know.
fn of_table(config: &toml::Table) -> Result<Preprocessing, String> {
    let key = |section: &str, key: &str| config.get(section).and_then(|s| s.get(key));
    let three = |name: &str| -> Option<[f32; 3]> {
        let number = |v: &toml::Value| v.as_float().or(v.as_integer().map(|i| i as f64)).map(|v| v as f32);
        let all: Option<Vec<f32>> = key("views", name)?.as_array()?.iter().map(number).collect();
        all?.try_into().ok()
    };
    let px = |name: &str| key("eval", name)?.as_integer().and_then(|v| usize::try_from(v).ok());
    let statistics =
        three("mean").zip(three("std")).map(|(mean, std)| Statistics::checked(mean, std)).transpose()?;
    let size = px("resize_px").zip(px("crop_px")).map(|(resize_px, crop_px)| EvalSize { resize_px, crop_px });
    Ok(Preprocessing {
        statistics: statistics.map(|s| Told::new(s, "the run's")),
        size: size.map(|s| Told::new(s, "as the run evaluates")),
    })
}

/// Programs whose checkpoints have a form of their own, and what their published code does.
fn of_layout(layout: &str, network: &Network, state: &StateDict) -> Preprocessing {
    let whose = match network.prefix.as_str() {
        p if p.contains("encoder_") && layout.contains("DenseCL") => "DenseCL's",
        p if p.contains("encoder_") => "MoCo's",
        _ if layout.contains("DINOv2") => "DINOv2's",
        p if p.contains("teacher.") || p.contains("student.") => "DINO's",
        _ if state.metadata.get("author").is_some_and(|a| a == "DenseCL") => "DenseCL's",
        _ => return Preprocessing::default(),
    };
    let source = format!("what {whose} code trains with");
    Preprocessing {
        statistics: Some(Told::new(Statistics::IMAGENET, source)),
        size: (!whose.starts_with("DINO") || native_side_px(&network.family).is_none_or(|side| side == USUAL_PX))
            .then(|| Told::new(EvalSize::for_side(USUAL_PX), format!("what {whose} code evaluates at"))),
    }
}

/// The side of the images that its position embeddings belong to, where pictures may be that large.
fn native_side_px(family: &Family) -> Option<usize> {
    family.image_side_px().filter(|px| *px <= 1 << 14)
}
