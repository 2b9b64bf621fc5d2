//! `ocelli demo`: the main job, from images to attention maps.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use ocelli::data::files::set_max_pixels;
use ocelli::data::{DataSet, open_data_beside};
use ocelli::eval::attention::{AttentionJaccard, JaccardSummary};
use ocelli::models::weights::preprocessing::Statistics;
use ocelli::models::{AnyBackbone, BackboneKind};
use ocelli::train::config::resolve;
use ocelli::train::{Labelled, RunConfig, knn_of, knn_of_pixels};
use serde_json::json;

use super::DeviceArgs;
use super::attention::{Attended, attend, write_sheet};
use super::images::Input;
use super::outputs;
use super::pixels;
use super::progress::{self, Progress};
use super::ranks;
use super::run::{Run, Start, tell};
use super::talk;

/// Pre-train a small network on built-in scenes and look at what it attends to (about five minutes on two cores)
///
/// It trains a Vision Transformer with DINO. Nothing is downloaded. The scenes know their objects, so the attention
/// can be scored. --data takes your own images instead.
#[derive(Args)]
#[command(after_help = "Examples:\n  ocelli demo\n  ocelli demo --data photos --out runs/photos")]
pub struct DemoArgs {
    /// Folder of images instead of the built-in scenes
    #[arg(long, default_value = "scenes:2000")]
    data: String,
    /// Folder of the run
    #[arg(long, default_value = "runs/demo")]
    out: PathBuf,
    /// Replace a run that is in the folder
    #[arg(long)]
    overwrite: bool,
    /// Number of epochs
    #[arg(long)]
    epochs: Option<usize>,
    /// Set one value of the recipe, such as batch_size=32 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Print JSON: the rows of metrics.jsonl as they are written, and at the end the result
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Scenes on the contact sheet, and scenes attention is scored on.
const SHEET_SCENES: usize = 10;
const SCORED_SCENES: usize = 200;
/// The contact sheets, before and after training.
const SHEETS: [&str; 2] = ["attention-untrained.png", "attention.png"];
/// Share of the attention the drawn masks keep, as in the paper's figures.
const DRAWN_MASS: f64 = 0.6;
/// Share of the attention the scored masks keep, as in the paper's table of Jaccard indices.
const SCORED_MASS: f64 = 0.8;

pub fn run(args: &DemoArgs) -> anyhow::Result<()> {
    ranks::one_process("demo")?;
    let mut sets: Vec<String> = args.epochs.iter().map(|e| format!("epochs={e}")).collect();
    sets.extend(pixels::as_value());
    sets.extend(args.sets.iter().cloned());
    let config = resolve(Some("demo"), None, &sets)?;
    set_max_pixels(config.loader.max_pixels);
    if config.arch.kind() != BackboneKind::Vit {
        bail!("arch: expected a Vision Transformer, whose attention the demo shows; found {}", config.arch);
    }
    // Before minutes of training. A run that is to be replaced takes its pictures with it.
    if !args.overwrite {
        for name in SHEETS {
            outputs::check_picture(&args.out.join(name))?;
        }
    }
    let DataSet { train: source, val: test, understood } = open_data_beside(&args.data, Some(&args.out))?;
    let device = args.device.open()?;
    if talk::notes(args.json) {
        println!(
            "Ocelli trains a Vision Transformer ({}) with DINO on {}, without labels.",
            config.arch, args.data
        );
        println!("device: {} ({})", device.name, device.reason);
        tell(&understood);
        if let Some(why) = understood.why_no_knn() {
            println!("{why}");
        }
    }

    let mut progress = Progress::new(!talk::notes(args.json));
    let trainer = ocelli::train::Trainer::new(&config, &device.device, &source, test.as_ref())?;
    let untrained = trainer.encoder()?;
    let start = if args.overwrite { Start::Overwrite } else { Start::New };
    let understood = json!({ "data": understood });
    let run = Run { config: &config, device: &device, data: &args.data, understood, json: args.json };
    let (trainer, _) = run.train(trainer, &args.out, start, &mut progress)?;
    let trained = trainer.encoder()?;

    let mut result = json!({ "event": "result", "out": args.out });
    if let Some(labelled) = Labelled::of(&source, test.as_ref(), &config.eval) {
        let (pixels, side) = knn_of_pixels(&labelled, &config, &device.device)?;
        let before = knn_of(&untrained, &labelled, &config, &device.device)?;
        let after = knn_of(&trained, &labelled, &config, &device.device)?;
        let chance = 100.0 / labelled.classes.max(1) as f64;
        result["knn"] = json!({ "chance": chance, "raw_pixels": pixels, "untrained": before, "trained": after });
        if !args.json {
            println!("\nk-NN accuracy (k = 20; chance {chance:.1} %):");
            println!("  raw pixels         {} ({side})", progress::knn(&pixels));
            println!("  untrained network  {}", progress::knn(&before));
            println!("  trained network    {}", progress::knn(&after));
        }
    }

    let shown = test.as_ref().unwrap_or(&source);
    let scored: Vec<Input> = samples(shown.as_ref(), SCORED_SCENES);
    let maps = |encoder: &AnyBackbone| -> anyhow::Result<Vec<Attended>> {
        let vit = encoder.as_vit().context("the demo looks at a Vision Transformer's attention")?;
        let size = look_px(&config);
        let statistics = Statistics { mean: config.views.mean, std: config.views.std };
        scored.iter().map(|input| attend(vit, input, size, &statistics, &device.device)).collect()
    };
    let (before, after) = (maps(&untrained)?, maps(&trained)?);
    if let (Some(b), Some(a)) = (fit_with_truth(&before)?, fit_with_truth(&after)?) {
        let of = |fit: &JaccardSummary| json!({ "best_head": fit.best_head, "mean": fit.mean_map });
        result["jaccard"] =
            json!({ "images": a.images, "share": SCORED_MASS, "untrained": of(&b), "trained": of(&a) });
        if !args.json {
            println!(
                "\nAttention masks against the objects (Jaccard index, {:.0} % of the attention, {} held-out scenes):",
                SCORED_MASS * 100.0,
                a.images
            );
            println!("  best head  untrained {:.3}  trained {:.3}", b.best_head, a.best_head);
            println!("  mean       untrained {:.3}  trained {:.3}", b.mean_map, a.mean_map);
        }
    }
    let sheet = |file: &str, title: &str, maps: &[Attended]| -> anyhow::Result<PathBuf> {
        let path = args.out.join(file);
        write_sheet(&path, title, &maps[..maps.len().min(SHEET_SCENES)], DRAWN_MASS)?;
        Ok(path)
    };
    sheet(SHEETS[0], "Attention of the untrained network", &before)?;
    let path = sheet(SHEETS[1], "Attention after training, without a single label", &after)?;
    let report = args.out.join("report.html");
    if args.json {
        (result["sheet"], result["report"]) = (json!(path), json!(report));
        println!("{result}");
        return Ok(());
    }
    println!("\nSee what it attends to: {}", path.display());
    println!("The whole run, in a browser: {}", report.display());
    Ok(())
}

/// Mean Jaccard indices over the images that know their object.
fn fit_with_truth(attended: &[Attended]) -> anyhow::Result<Option<JaccardSummary>> {
    let scores: Vec<Option<AttentionJaccard>> =
        attended.iter().map(|a| a.jaccard(SCORED_MASS)).collect::<anyhow::Result<_>>()?;
    let scores: Vec<AttentionJaccard> = scores.into_iter().flatten().collect();
    Ok(if scores.is_empty() { None } else { Some(JaccardSummary::of(&scores)?) })
}

/// Long side of the pictures attention is drawn on: what the network is evaluated at.
fn look_px(config: &RunConfig) -> usize {
    config.eval.crop_px
}

/// The first `n` images of a source that can be read, with their masks.
fn samples(source: &dyn ocelli::data::Source, n: usize) -> Vec<Input> {
    (0..source.len()).filter_map(|i| Input::of(source, i).ok()).take(n).collect()
}
