//! `ocelli finetune segmentation`.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use ocelli::data::files::{MaskedSet, open_masked, set_max_pixels};
use ocelli::models::BackboneArch;
use ocelli::train::device::Chosen;
use ocelli::train::{Loaded, Trainer, resolve_weights, weights_crc32};
use ocelli::transfer::segmentation::{
    SEGMENTATION_FILE, SEGMENTER_FILE, SegmentationConfig, SegmentationTask, SegmentedData,
};
use serde_json::{Value, json};

use super::flags::TransferArgs;
use super::plan;
use crate::cli::opening;
use crate::cli::progress::Progress;
use crate::cli::run::{Job, Trains, tell};

/// Spans of a run after which it is evaluated, at most, where --iterations says how long it is.
const MOST_SPANS: usize = 1000;

/// Flags of `ocelli finetune segmentation`.
#[derive(Args)]
#[command(
    mut_arg("data", |arg| arg.help("Images with a class for every pixel: a folder of VOC, Cityscapes, CamVid or COCO, any folder of images and index or colour PNGs, or `scenes[:COUNT[:SIZE]]`. With --resume the run's own, unless it has moved")),
    mut_arg("preset", |arg| arg.help("Recipe by name: voc-20k (the default) and cityscapes-40k, as published; laptop; overfit, a few pictures learnt by heart; vit-linear and vit-conv for Vision Transformers")),
    after_help = "Examples:\n  ocelli finetune segmentation --weights runs/dense --data camvid --preset laptop --out runs/pixels\n  ocelli finetune segmentation --weights densecl_r50.pth --data VOCdevkit/VOC2012 --out runs/voc\n  ocelli finetune segmentation --weights dino_deitsmall16_pretrain.pth --data camvid --preset vit-linear --out runs/linear\n  ocelli finetune segmentation --resume --out runs/voc\n\nLater values replace earlier ones: --preset (voc-20k) and the weights (architecture, normalisation), --config, then the other flags and --set, such as --set views.crop_px=[160,160]. Published recipes evaluate once, at the end. With several evaluations (--set evaluate_every=2000) the best network is kept, so its figure is too good. Next: ocelli segment IMAGE --weights OUT, ocelli eval segmentation --weights OUT --data DATA."
)]
pub struct SegmentationArgs {
    #[command(flatten)]
    all: TransferArgs,
}

pub fn run(args: &SegmentationArgs) -> anyhow::Result<()> {
    let args = &args.all;
    let (talks, out) = (args.run.talks(), args.run.out());
    let mut progress = Progress::new(!talks);
    let stored = args.stored()?.map(|(text, name)| SegmentationConfig::parse(&text, &name)).transpose()?;
    args.run.limit_pixels(stored.as_ref().map(|config| config.loader.max_pixels))?;
    let named = args.data()?;
    let set: MaskedSet = open_masked(&named)?;
    if talks {
        tell(&set.understood);
    }
    let found = set.understood.lines().join("; ");
    ensure!(
        set.classes.len() > 1,
        "{named} ({found}): expected two classes of pixels or more, found {}",
        set.classes.len()
    );
    let data = SegmentedData::of(&set).with_context(|| format!("{named} ({found})"))?;
    let device = args.run.device.open()?;
    let (loaded, unusable) = weights(args, stored.as_ref(), &device)?;
    let is_new = stored.is_none();
    if talks && is_new {
        println!("{}\nnormalisation: {}", loaded.description, loaded.statistics);
    }
    let config = configuration(args, stored, &loaded)?;
    set_max_pixels(config.loader.max_pixels);
    let task = SegmentationTask::new(&config, &device.device, &loaded, &data)
        .with_context(|| format!("{named} with {}", loaded.description))?;
    let task = match unusable {
        Some(reason) => task.without_weights(reason),
        None => task,
    };
    let understood = json!({
        "data": set.understood,
        "train": data.train.source.len(),
        "held_out": task.held_out(),
        "classes": data.classes,
        "notes": data.notes,
        // Those of a run that goes on are known.
        "weights": if is_new { opening::fields(&loaded, &loaded.size) } else { Value::Null },
    });
    let job = Job {
        trains: Trains::Segmentation,
        config: config.table()?,
        device: &device,
        data: &named,
        understood,
        json: args.run.json,
    };
    if args.run.dry_run {
        let (own, needs) = (plan_of(&config, &data, task.held_out()), task.needs());
        return plan::show(&job, Trainer::of(task), own, Some(needs));
    }
    args.run.tell_device(&device);
    let (trainer, summary) = job.train(Trainer::of(task), &out, args.run.start(), &mut progress)?;
    if talks {
        if let Some(found) = trainer.task().found()
            && let Some(bad) = found.skipped.first()
        {
            let scored = found.scored(trainer.task().data().judged());
            println!("warning: the figures are of {scored}; the first: {}: {}", bad.name, bad.reason);
        }
        if let Some(best) = &summary.best {
            let steps = (best.epoch + 1) * trainer.steps_per_epoch();
            let (file, table) = (out.join(SEGMENTER_FILE), out.join(SEGMENTATION_FILE));
            println!("network: {} ({} {:.1} % after {steps} steps)", file.display(), best.what, best.accuracy);
            println!("class by class: {} and {}", table.display(), out.join("report.html").display());
            println!("use it: ocelli segment IMAGE --weights {}", out.display());
        } else {
            println!("weights: {}", out.join("checkpoints").display());
        }
    }
    Ok(())
}

/// The backbone: the one that is named, or the one that the run to go on with began with. That one's values come from the
/// checkpoint, so where its file is gone or another one a drawn backbone of its shape does; with it comes the reason, for a run
/// that turns out to have no whole checkpoint.
fn weights(
    args: &TransferArgs,
    stored: Option<&SegmentationConfig>,
    device: &Chosen,
) -> anyhow::Result<(Loaded, Option<String>)> {
    if let Some(loaded) = args.open(device)? {
        return Ok((loaded, None));
    }
    let Some(stored) = stored else { bail!("--weights: expected the backbone to start from") };
    let open = |name: &str| args.backbone.open(Path::new(name), &device.device);
    let (arch, crc) = (stored.arch.to_string(), &stored.weights_crc32);
    let found = match args.backbone.open(&args.weights_of_run(&stored.weights), &device.device) {
        // They are drawn from the run's seed.
        Ok(loaded) if stored.weights.starts_with("random:") => return Ok((loaded, None)),
        Ok(loaded) => {
            let found = weights_crc32(&loaded.encoder)?;
            if found == *crc && loaded.arch().parse::<BackboneArch>()? == stored.arch {
                return Ok((loaded, None));
            }
            format!("found {} with CRC-32 {found}", loaded.arch())
        }
        Err(error) => format!("they cannot be opened ({error:#})"),
    };
    let reason = format!(
        "expected the weights that the run began with, {arch} with CRC-32 {crc}, for it has no checkpoint to go on from; \
         {found}. Put them back, or begin a new run with --weights and --overwrite"
    );
    let out = args.run.out();
    ensure!(resolve_weights(&out).is_ok(), "{}: {}: {reason}", out.display(), stored.weights);
    Ok((open(&format!("random:{arch}"))?, Some(reason)))
}

/// Every value resolved: a new network's, for these weights, or that of the run that goes on.
fn configuration(
    args: &TransferArgs,
    stored: Option<SegmentationConfig>,
    loaded: &Loaded,
) -> anyhow::Result<SegmentationConfig> {
    if let Some(stored) = stored {
        return Ok(stored.with(None, &args.values(Vec::new()))?);
    }
    let file = args.run.file()?;
    let file = file.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    let (preset, weights) = (args.run.preset.as_deref(), args.weights_name());
    let recipe = SegmentationConfig::resolve(preset, None, &[])?;
    // A file that is only whole with the flags leaves the recipe's.
    let evaluations = recipe.with(file, &[]).unwrap_or(recipe).epochs();
    let sets = args.values(fitted(args.iterations, evaluations));
    Ok(SegmentationConfig::resolve_for((loaded, &weights), preset, file, &sets)?)
}

/// With a number of steps of one's own, evaluations come after equal spans of it: as many as otherwise, or the next smaller
/// number that divides it.
fn fitted(iterations: Option<usize>, evaluations: usize) -> Vec<String> {
    let every = iterations.filter(|n| *n > 0).map(|n| {
        let most = evaluations.clamp(1, MOST_SPANS);
        let spans = (1..=most).rev().find(|spans| n.is_multiple_of(*spans)).unwrap_or(1);
        format!("evaluate_every={}", n / spans)
    });
    every.into_iter().collect()
}

/// What the plan says of it.
fn plan_of(config: &SegmentationConfig, data: &SegmentedData, held_out: usize) -> Vec<(&'static str, String)> {
    let parts = if config.accumulate > 1 { format!(", in {} parts", config.accumulate) } else { String::new() };
    let [height, width] = config.views.crop_px;
    let windows = match config.eval.window_px {
        0 => "whole".to_owned(),
        px => format!("in windows of {px} px"),
    };
    let judged = data.judged();
    let evaluated = match held_out {
        0 => "never: no part is held out".to_owned(),
        n if config.epochs() == 1 => format!("once, at the end, on {n} {judged} images, {windows}"),
        n => format!("every {} steps on {n} {judged} images, {windows}", config.evaluate_every),
    };
    vec![
        ("classes", format!("{}: {}", data.classes.len(), data.classes.join(", "))),
        ("views", format!("crops of {height} × {width} px")),
        ("steps", format!("{} of {} images{parts}", config.iterations, config.batch_size)),
        ("evaluated", evaluated),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluations_come_after_equal_spans() {
        let of = |n| fitted(Some(n), 10).remove(0);
        assert_eq!(
            (of(2000), of(7), of(12), of(13)),
            (
                "evaluate_every=200".into(),
                "evaluate_every=1".into(),
                "evaluate_every=2".into(),
                "evaluate_every=13".into()
            )
        );
        assert_eq!(fitted(Some(2000), 1), ["evaluate_every=2000"], "a recipe that is evaluated once stays one");
        assert!(fitted(None, 10).is_empty() && fitted(Some(0), 10).is_empty());
    }
}
