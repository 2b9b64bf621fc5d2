//! A file's backbone in a network of a given shape, to start a run from it.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_models::weights::preprocessing::{Preprocessing, Statistics};
use ocelli_models::weights::{Family, StateDict};
use ocelli_models::{AnyBackbone, Arch, BackboneConfig, PositionGrid, PositionRule, VitConfig};

use super::file::Found;
use super::{input, load, name_of};
use crate::TrainError;

/// Loads a file's backbone into a network of a given shape. Position embeddings of another grid are resampled as the program
/// does that the file comes from. Layer scale is already folded into the projections, so the network trains without it.
/// Returns the network and what was loaded, in words: also that its pixels were normalised otherwise than by `statistics`,
/// where the file says so.
///
/// # Errors
/// When there is no such file, or its tensors are not this network's: the message counts and names what is missing,
/// unexpected and of another shape, or says which architecture has the file's registers.
pub fn load_into(
    path: &Path,
    config: &BackboneConfig,
    statistics: Statistics,
    device: &Device,
) -> Result<(AnyBackbone, String), TrainError> {
    let mut found = Found::read(path, None)?;
    let (mut words, note) = match (config, &found.network.family) {
        (BackboneConfig::Vit(config), Family::Vit { .. }) => {
            let theirs = found.vit_config(Some(config.heads))?;
            same_registers(&found, config, &theirs)?;
            same_heads(&found, config)?;
            let rule = theirs.position_rule;
            let side = config.image_size_px / config.patch_size_px;
            let resampled = resample_positions(&mut found.state, config.dim, side, rule, device)?;
            let mut note = resampled
                .map(|before| format!("; position embeddings resampled from {before}×{before} to {side}×{side}"))
                .unwrap_or_default();
            // Views of another size are interpolated in every step.
            if rule != config.position_rule {
                note.push_str(&format!(
                    "; for views of other sizes this run interpolates them by the {} rule, the file's network by the {} one",
                    config.position_rule.name(),
                    rule.name()
                ));
            }
            (found.describe(&found.network.family.to_string()), note)
        }
        (BackboneConfig::ResNet(_), Family::ResNet { .. }) => (found.describe(&name_of(config)), String::new()),
        (BackboneConfig::Vit(_), _) => return Err(found.expected("a Vision Transformer")),
        (BackboneConfig::ResNet(_), _) => return Err(found.expected("a ResNet")),
    };
    words.push_str(&note);
    let encoder = load(config, &found.state, device).map_err(|reason| found.fail(reason))?;
    let (theirs, _) = input::resolve(&Preprocessing::default(), &found, found.run().as_ref())?;
    if !theirs.is_guess && theirs.value != statistics {
        words.push_str(&format!("; its normalisation was {theirs}, this run's is {statistics}"));
    }
    Ok((encoder, words))
}

/// The error that names the architecture to give where only the number of registers differs from it.
fn same_registers(found: &Found, config: &VitConfig, theirs: &VitConfig) -> Result<(), TrainError> {
    if config.registers == theirs.registers {
        return Ok(());
    }
    let fitting = Arch { registers: theirs.registers, ..config.arch() };
    let (ours, count) = (config.registers, theirs.registers);
    Err(found.fail(format!(
        "expected a network with {ours} registers, as arch = \"{}\" has, found {count}; give arch = \"{fitting}\"",
        config.arch()
    )))
}

/// The error that names the architecture to give where the file tells of other heads: its tensors would fit, its features not.
fn same_heads(found: &Found, config: &VitConfig) -> Result<(), TrainError> {
    let told = found.run().and_then(|run| run.arch.heads()).or(found.network.heads);
    let Some(heads) = told.filter(|heads| *heads != config.heads) else { return Ok(()) };
    let fitting = Arch { heads, ..config.arch() };
    let (own, ours) = (config.arch(), config.heads);
    Err(found.fail(format!(
        "expected a network with {ours} attention heads, as arch = \"{own}\" has, found {heads}; give arch = \"{fitting}\""
    )))
}

/// Brings `pos_embed` to a grid of `side`×`side` patches; returns the side it had, where that was another.
fn resample_positions(
    state: &mut StateDict,
    dim: usize,
    side: usize,
    rule: PositionRule,
    device: &Device,
) -> Result<Option<usize>, TrainError> {
    let Some((_, positions)) = state.tensors.iter_mut().find(|(n, _)| n == "pos_embed") else { return Ok(None) };
    let &[1, tokens, width] = &positions.shape[..] else { return Ok(None) };
    let before = tokens.saturating_sub(1).isqrt();
    // Anything else is for the comparison of shapes to say.
    if width != dim || before == 0 || before * before + 1 != tokens || before == side {
        return Ok(None);
    }
    let stored = TensorData::new(std::mem::take(&mut positions.values), [tokens, width]);
    let stored = Tensor::from_data(stored, device);
    let found = ocelli_models::resample_positions(stored, PositionGrid::square(side), rule);
    let device_error = |e| TrainError::Device(format!("cannot read the position embeddings back: {e:?}"));
    positions.values = found.into_data().try_to_vec::<f32>().map_err(device_error)?;
    positions.shape = vec![1, side * side + 1, width];
    Ok(Some(before))
}
