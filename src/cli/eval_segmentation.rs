//! `ocelli eval segmentation`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use ocelli::data::files::{MaskedSet, open_masked};
use ocelli::transfer::Judged;
use ocelli::transfer::segmentation::Segmenter;
use serde_json::{Value, json};

use super::DeviceArgs;
use super::images;
use super::run::tell;
use super::talk;

/// Cells of the longest bar.
const BAR: usize = 30;
/// Longest name of a class in the table.
const NAME: usize = 24;
/// Images listed that went worst.
const WORST: usize = 5;

/// Measure the intersection over union of each class of pixels, and its mean
///
/// One confusion matrix is summed over all held-out images. Pixels without a label are left out, and so are classes
/// that never occur. It is an error when more images are unreadable than the network's run tolerated
/// (loader.max_bad_fraction).
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli eval segmentation --weights runs/pixels --data camvid:test\n  ocelli eval segmentation --weights runs/pixels --data scenes --json\n\nThe held-out part is evaluated: val, else test. FOLDER:test chooses one. If no part is held out, all images are evaluated."
)]
pub struct EvalSegmentationArgs {
    /// Images with a class for every pixel: a folder of VOC, Cityscapes, CamVid or COCO, any folder of images and index or colour
    /// PNGs, or `scenes[:COUNT[:SIZE]]`
    #[arg(long)]
    data: String,
    /// The network: a run folder of `ocelli finetune segmentation`, or its segmenter.safetensors
    #[arg(long)]
    weights: PathBuf,
    /// Largest number of images, evenly spaced (0: all)
    #[arg(long, default_value_t = 0)]
    limit: usize,
    /// Print JSON: IoU of each class, the confusion matrix in pixels, the worst and the best images
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: &EvalSegmentationArgs) -> anyhow::Result<()> {
    let MaskedSet { train, val, classes, palette, understood } = open_masked(&args.data)?;
    let mut notes = Vec::new();
    let judged = val.as_ref().map_or(Judged::Training, |val| Judged::of(&train.source, &val.source));
    let part = val.filter(|val| !val.source.is_empty()).unwrap_or_else(|| {
        notes.push("no part is held out: all images are evaluated".to_owned());
        train
    });
    let device = args.device.open()?;
    let segmenter = Segmenter::open(&args.weights, &device.device)?;
    if talk::notes(args.json) {
        tell(&understood);
        notes.iter().for_each(|note| println!("{note}"));
        println!("{} with {} classes on {}", segmenter.config().arch, segmenter.classes().len(), device.name);
    }
    let images = if args.limit == 0 { part.source.len() } else { part.source.len().min(args.limit) };
    let bar = images::bar(images, args.json);
    let found = segmenter
        .evaluate(&part, &classes, args.limit, &mut |done| bar.set_position(done as u64))
        .with_context(|| format!("{} ({})", args.data, understood.lines().join("; ")))?;
    bar.finish_and_clear();
    let table = found.to_json(&classes, &palette);
    if args.json {
        let mut document = table;
        document["weights"] = args.weights.display().to_string().into();
        document["data"] = json!(understood);
        if !found.skipped.is_empty() {
            notes.push(format!("the figures are of {}", found.scored(judged)));
        }
        document["notes"] = json!(notes);
        println!("{document}");
        return Ok(());
    }
    for bad in &found.skipped {
        println!("warning: skipped {}: {}", bad.name, bad.reason);
    }
    if !found.skipped.is_empty() {
        println!("warning: the figures are of {}", found.scored(judged));
    }
    show(&table);
    Ok(())
}

/// The table, per cent.
fn show(table: &Value) {
    let classes = table["classes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let name = |of: &Value| of["name"].as_str().unwrap_or_default().chars().take(NAME).collect::<String>();
    let width = classes.iter().map(|c| name(c).chars().count()).max().unwrap_or(0).max(8);
    let labelled: f64 = classes.iter().filter_map(|c| c["pixels_labelled"].as_f64()).sum();
    println!("{:width$}  {:>6}  {:BAR$}  pixels", "", "IoU", "");
    for class in classes {
        let share = 100.0 * class["pixels_labelled"].as_f64().unwrap_or(0.0) / labelled.max(1.0);
        match class["iou"].as_f64() {
            Some(iou) => {
                let bar = "█".repeat((iou / 100.0 * BAR as f64).round() as usize);
                println!("{:width$}  {iou:6.2}  {bar:BAR$}  {share:.1} %", name(class));
            }
            None => println!("{:width$}  {:>6}  {:BAR$}  {share:.1} %", name(class), "–", ""),
        }
    }
    let percent = |key: &str| table[key].as_f64().unwrap_or(f64::NAN);
    println!(
        "mIoU {:.2} %, mean accuracy of the classes {:.2} %, accuracy of the pixels {:.2} %; {} images",
        percent("miou"),
        percent("mean_accuracy"),
        percent("pixel_accuracy"),
        table["pictures"]
    );
    let worst = table["worst"].as_array().map(Vec::as_slice).unwrap_or_default();
    let listed: Vec<String> = worst
        .iter()
        .take(WORST)
        .map(|w| {
            format!("{} ({:.1} %)", w["name"].as_str().unwrap_or_default(), w["miou"].as_f64().unwrap_or(f64::NAN))
        })
        .collect();
    println!("worst: {}", listed.join(", "));
}
