//! `ocelli finetune segmentation`.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use ocelli::data::files::{MaskedSet, open_masked};
use ocelli::train::device::Chosen;
use ocelli::train::{Loaded, Trainer};
use ocelli::transfer::segmentation::{
    SEGMENTATION_FILE, SEGMENTER_FILE, SegmentationConfig, SegmentationTask, SegmentedData,
};
use serde_json::json;

use super::flags::TransferArgs;
use super::plan;
use crate::cli::opening;
use crate::cli::progress::Progress;
use crate::cli::run::{Job, Trains, tell};

/// Spans of a run after which it is evaluated, at most, where --iterations says how long it is.
const SPANS: usize = 10;

/// Flags of `ocelli finetune segmentation`.
#[derive(Args)]
#[command(
    mut_arg("data", |arg| arg.help("Images with a class for every pixel: a folder of VOC, Cityscapes, CamVid or COCO, any folder of images and index or colour PNGs, or `scenes[:COUNT[:SIZE]]`. With --resume the run's own, unless it has moved")),
    mut_arg("preset", |arg| arg.help("Recipe by name: voc-20k (the default, as published), cityscapes-40k, laptop, vit-linear, vit-conv")),
    after_help = "Examples:\n  ocelli finetune segmentation --weights runs/dense --data camvid --preset laptop --out runs/pixels\n  ocelli finetune segmentation --weights densecl_r50.pth --data VOCdevkit/VOC2012 --out runs/voc\n  ocelli finetune segmentation --weights dino_deitsmall16_pretrain.pth --data camvid --preset vit-linear --out runs/linear\n  ocelli finetune segmentation --resume --out runs/voc\n\nValues come from --preset (voc-20k), then --config, then the other flags and --set, such as --set views.crop_px=[160,160]. Then: ocelli segment IMAGE --weights OUT, ocelli eval segmentation --weights OUT --data DATA."
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
    let loaded = weights(args, stored.as_ref(), &device)?;
    if talks && stored.is_none() {
        println!("{}\nnormalisation: {}", loaded.description, loaded.statistics);
    }
    let config = configuration(args, stored, &loaded)?;
    let task = SegmentationTask::new(&config, &device.device, &loaded, &data)
        .with_context(|| format!("{named} with {}", loaded.description))?;
    let understood = json!({
        "data": set.understood,
        "train": data.train.source.len(),
        "held_out": task.held_out(),
        "classes": data.classes,
        "notes": data.notes,
        "weights": opening::fields(&loaded, &loaded.size),
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

/// The backbone: the one that is named, or of a run that goes on its own. That one's values come from the checkpoint, so where
/// its file is gone a drawn one of its shape does.
fn weights(args: &TransferArgs, stored: Option<&SegmentationConfig>, device: &Chosen) -> anyhow::Result<Loaded> {
    if let Some(loaded) = args.open(device)? {
        return Ok(loaded);
    }
    let Some(stored) = stored else { bail!("--weights: expected the backbone to start from") };
    let drawn = format!("random:{}", stored.arch);
    let own = args.backbone.open(Path::new(&stored.weights), &device.device);
    own.or_else(|_| args.backbone.open(Path::new(&drawn), &device.device))
}

/// Every value resolved: a new network's, for these weights, or that of the run that goes on.
fn configuration(
    args: &TransferArgs,
    stored: Option<SegmentationConfig>,
    loaded: &Loaded,
) -> anyhow::Result<SegmentationConfig> {
    if let Some(stored) = stored {
        return Ok(stored.with(&args.values(Vec::new()))?);
    }
    let file = args.run.file()?;
    let file = file.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    let sets = args.values(fitted(args.iterations));
    let config = SegmentationConfig::resolve(args.run.preset.as_deref(), file, &sets)?;
    let config = config.for_weights(loaded, &args.weights_name())?;
    config.check()?;
    Ok(config)
}

/// With a number of steps of one's own, evaluations come after equal spans of it.
fn fitted(iterations: Option<usize>) -> Vec<String> {
    let every = iterations.filter(|n| *n > 0).map(|n| {
        let spans = (1..=SPANS).rev().find(|spans| n.is_multiple_of(*spans)).unwrap_or(1);
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
    let evaluated = match held_out {
        0 => "never: no part is held out".to_owned(),
        n => format!("every {} steps on {n} held-out images, {windows}", config.evaluate_every),
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
        let of = |n| fitted(Some(n)).remove(0);
        assert_eq!(
            (of(2000), of(7), of(12), of(13)),
            (
                "evaluate_every=200".into(),
                "evaluate_every=1".into(),
                "evaluate_every=2".into(),
                "evaluate_every=13".into()
            )
        );
        assert!(fitted(None).is_empty() && fitted(Some(0)).is_empty());
    }
}
