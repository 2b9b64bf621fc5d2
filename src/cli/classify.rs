//! `ocelli classify`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use burn::tensor::{Tensor, TensorData};
use clap::Args;
use ocelli::data::files::decoded;
use ocelli::data::{EvalBatches, EvalConfig, Source as _};
use ocelli::models::ProbeFeatures;
use ocelli::models::weights::preprocessing::Preprocessing;
use ocelli::train::{ClassifierHead, Loaded, Loading, eval_transform, read_head, weights_crc32};
use serde_json::json;

use super::DeviceArgs;
use super::images::Named;
use super::opening::{self, NormaliseArgs, SizeArgs};
use super::talk;

/// Images through the network at once.
const BATCH: usize = 32;
/// Cells of the longest bar.
const BAR: usize = 30;

/// Name the likeliest classes of images, by a linear classifier on a backbone's features
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli classify photo.jpg --weights runs/first --head runs/first/linear/head.safetensors\n  ocelli classify photos --weights vit.safetensors --head vit.safetensors --classes imagenet.txt --json\n\nA classifier comes from `ocelli eval linear` or `ocelli finetune classification`. Published ones work as well: DINO's linear weights, and files of timm and torchvision with their head or fc."
)]
pub struct ClassifyArgs {
    /// Images, folders of images, or `scenes[:COUNT]`
    #[arg(required = true)]
    images: Vec<String>,
    /// The backbone: a run folder, a checkpoint, a .safetensors or .pth file (see `ocelli weights`)
    #[arg(long)]
    weights: PathBuf,
    /// The classifier (default: one in the file of --weights)
    #[arg(long)]
    head: Option<PathBuf>,
    /// Names of the classes, one in each line, where the classifier does not have them
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    /// Number of classes to show per image
    #[arg(long, default_value_t = 5)]
    top: usize,
    /// What the classifier takes: cls, cls-4, cls+mean, mean (default: as its file says, or what fits its width)
    #[arg(long)]
    features: Option<ProbeFeatures>,
    #[command(flatten)]
    size: SizeArgs,
    #[command(flatten)]
    normalise: NormaliseArgs,
    /// Number of attention heads of a Vision Transformer, if the weights do not say
    #[arg(long)]
    heads: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: &ClassifyArgs) -> anyhow::Result<()> {
    ensure!(args.top > 0, "--top: expected at least 1, found 0");
    let inputs = Arc::new(Named::list(&args.images, 0)?);
    let path = args.head.as_deref().unwrap_or(&args.weights);
    let head = read_head(&head_file(path)).with_context(|| match &args.head {
        Some(_) => "--head".to_owned(),
        None => "no --head was given, and the file of --weights has no classifier".to_owned(),
    })?;
    let names = names(args, &head)?;
    let device = args.device.open()?;
    let backbone = open(args, &head, &device)?;
    let features = features(args, &head, &backbone)?;
    let mut notes = Vec::new();
    if let Some(crc) = &head.backbone_crc32
        && *crc != weights_crc32(&backbone.encoder)?
    {
        notes.push(format!(
            "warning: the classifier {} was trained on other weights than {}: what it says may mean nothing",
            path.display(),
            args.weights.display()
        ));
    }
    if names.is_none() {
        notes.push(
            "the classifier has no names of classes: they are shown by number; --classes FILE names them".into(),
        );
    }
    if talk::notes(args.json) {
        inputs.lines().iter().for_each(|line| println!("{line}"));
        println!("{}", opening::lines(&backbone, &device.name, &backbone.size.to_string()));
        println!("classifier: {} of {}, on {features}", head.description, path.display());
        notes.iter().for_each(|note| println!("{note}"));
    }
    let transform = eval_transform(&backbone.eval_config());
    let config = EvalConfig { transform, batch_size: BATCH, threads: 0 };
    let mut batches = EvalBatches::all(inputs.clone(), config)?;
    let (mut rows, mut done) = (Vec::new(), 0);
    for batch in batches.by_ref() {
        let batch = batch?;
        let shape = [batch.indices.len(), 3, batch.height as usize, batch.width as usize];
        let images = Tensor::from_data(TensorData::new(batch.data, shape), &device.device);
        let logits = head.head.logits(features.of(&backbone.encoder, images));
        let logits = logits
            .into_data()
            .try_to_vec::<f32>()
            .map_err(|e| anyhow::anyhow!("cannot read logits back: {e:?}"))?;
        for (index, logits) in batch.indices.iter().zip(logits.chunks_exact(head.head.bias.len())) {
            let top = top(logits, args.top);
            let name = |class: usize| names.as_ref().map_or_else(|| class.to_string(), |n| n[class].clone());
            done += 1;
            if args.json {
                let classes: Vec<_> = top
                    .iter()
                    .map(|(class, p)| json!({ "class": class, "name": names.as_ref().map(|n| &n[*class]), "probability": p }))
                    .collect();
                rows.push(json!({ "image": inputs.name(*index), "classes": classes }));
            } else {
                println!("\n{}", inputs.name(*index));
                let width = top.iter().map(|(class, _)| name(*class).chars().count()).max().unwrap_or(0);
                for (class, p) in top {
                    let bar = "█".repeat((p * BAR as f64).round() as usize);
                    println!("  {:width$}  {:5.1} %  {bar}", name(class), 100.0 * p);
                }
            }
        }
    }
    for bad in batches.bad_files() {
        notes.push(format!("warning: skipped {}: {}", bad.name, bad.reason));
        if !args.json {
            println!("warning: skipped {}: {}", bad.name, bad.reason);
        }
    }
    if args.json {
        println!(
            "{}",
            json!({ "weights": opening::fields(&backbone, &backbone.size), "head": path.display().to_string(),
                "features": features, "notes": notes, "images": rows })
        );
    }
    if done == 0 {
        bail!("no image could be read");
    }
    Ok(())
}

/// The classifier of a run's folder, or the file itself.
fn head_file(path: &Path) -> PathBuf {
    let inside = ["head.safetensors", "linear/head.safetensors", "classifier.safetensors"];
    let found = inside.iter().map(|name| path.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| path.to_owned())
}

/// Names of the classes: those of --classes, or the classifier's own.
fn names(args: &ClassifyArgs, head: &ClassifierHead) -> anyhow::Result<Option<Vec<String>>> {
    let Some(path) = &args.classes else { return Ok(head.classes.clone()) };
    let bytes = std::fs::read(path).with_context(|| format!("cannot read --classes {}", path.display()))?;
    let text = decoded(&bytes).map_err(|e| anyhow::anyhow!("--classes {}: {e}", path.display()))?;
    let names: Vec<String> =
        text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
    let (expected, found) = (head.head.bias.len(), names.len());
    ensure!(
        found == expected,
        "--classes {}: expected {expected} names, one in each line, as the classifier has classes; found {found}",
        path.display()
    );
    Ok(Some(names))
}

/// The backbone, with what the classifier says of pictures before what the weights say: it was trained so.
fn open(
    args: &ClassifyArgs,
    head: &ClassifierHead,
    device: &ocelli::train::device::Chosen,
) -> anyhow::Result<Loaded> {
    let given = Preprocessing { size: args.size.given(), ..args.normalise.given()? };
    let given = given.or(head.preprocessing.clone());
    let mut backbone =
        Loading { heads: args.heads, given, ..Loading::default() }.open(&args.weights, &device.device)?;
    args.size.apply(&mut backbone.size);
    Ok(backbone)
}

/// What the classifier takes: as somebody says, as its file says, or the one kind of features that has its width.
fn features(args: &ClassifyArgs, head: &ClassifierHead, backbone: &Loaded) -> anyhow::Result<ProbeFeatures> {
    let config = &backbone.config;
    if let Some(chosen) = args.features.or(head.features) {
        let width = chosen.width(config)?;
        ensure!(
            width == head.dim,
            "the classifier takes {} numbers of an image; {} of {} gives {width}",
            head.dim,
            chosen,
            backbone.arch()
        );
        return Ok(chosen);
    }
    // Where two kinds are equally wide, the published protocol's comes first.
    let published = ProbeFeatures::published(config);
    let kinds = (1..=12).map(|blocks| ProbeFeatures::Cls { blocks });
    let kinds = std::iter::once(published).chain([ProbeFeatures::Mean, ProbeFeatures::ClsAndMean]).chain(kinds);
    let fits = kinds.into_iter().find(|kind| kind.width(config).is_ok_and(|width| width == head.dim));
    fits.with_context(|| {
        format!(
            "the classifier takes {} numbers of an image; no features of {} are so many (its class token has {})",
            head.dim,
            backbone.arch(),
            config.dim()
        )
    })
}

/// The likeliest classes and their probabilities, the likeliest first; of equal ones the lower number.
fn top(logits: &[f32], count: usize) -> Vec<(usize, f64)> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp: Vec<f64> = logits.iter().map(|v| f64::from(v - most).exp()).collect();
    let sum: f64 = exp.iter().sum();
    let mut all: Vec<(usize, f64)> = exp.iter().map(|e| e / sum).enumerate().collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all.truncate(count);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_come_first() {
        let found = top(&[0.0, 2.0, 2.0, -1.0], 3);
        assert_eq!(found.iter().map(|(class, _)| *class).collect::<Vec<_>>(), [1, 2, 0]);
        let all: f64 = top(&[0.0, 2.0, 2.0, -1.0], 9).iter().map(|(_, p)| p).sum();
        assert!((all - 1.0).abs() < 1e-12 && (found[0].1 - found[1].1).abs() < 1e-12);
        assert!((top(&[1000.0, 0.0], 1)[0].1 - 1.0).abs() < 1e-12, "large logits do not overflow");
    }
}
