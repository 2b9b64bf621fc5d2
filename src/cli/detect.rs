//! `ocelli detect`.

use std::path::PathBuf;

use anyhow::{bail, ensure};
use clap::Args;
use ocelli::data::Source as _;
use ocelli::eval::detection::{BoxPicture, Detection, draw_boxes};
use ocelli::eval::picture::Picture;
use ocelli::transfer::detection::Detector;
use serde_json::{Value, json};

use super::DeviceArgs;
use super::coco_results::Labels;
use super::images::{self, Named};
use super::outputs;
use super::talk;

/// Objects named in a line at most.
const NAMED: usize = 12;

/// Find objects in pictures and draw their boxes
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli detect street.jpg --weights runs/boxes\n  ocelli detect photos --weights runs/boxes --out found --score 0.3 --coco found.json\n  ocelli detect val2017 --weights model_final.pth --coco found.json --instances instances_val2017.json --no-pictures\n  ocelli detect photos --weights model_final.pth --json\n\nA detector comes from `ocelli finetune detection`, or is a file in detectron2's names (Faster R-CNN R50-C4). Such a file does not say everything. These are assumed: RGB pictures, ImageNet's normalisation unless it has pixel_mean and pixel_std, and a block's stride in its 3×3 convolution (STRIDE_IN_1X1: False)."
)]
pub struct DetectArgs {
    /// Images, folders of images, or `scenes[:COUNT]`
    #[arg(required = true)]
    images: Vec<String>,
    /// The detector: a run folder of `ocelli finetune detection`, its detector.safetensors, or a .pth in detectron2's names
    #[arg(long)]
    weights: PathBuf,
    /// Folder for the pictures (replaces those that Ocelli drew, no other file)
    #[arg(long, default_value = "detections")]
    out: PathBuf,
    /// Smallest probability at which an object is shown. A value below the detector's own threshold (roi.score)
    /// replaces that threshold
    #[arg(long, default_value_t = 0.5)]
    score: f32,
    /// Write the boxes as COCO's results, all from the detector's own threshold on (or --score, if that is lower). Categories are
    /// numbered from 1 in the detector's order, and an image by the number in its file's name, else by its name
    #[arg(long, value_name = "FILE")]
    coco: Option<PathBuf>,
    /// COCO's instances, whose numbers of images and categories --coco writes
    #[arg(long, value_name = "FILE", requires = "coco")]
    instances: Option<PathBuf>,
    /// Replace a file of results that is there
    #[arg(long)]
    overwrite: bool,
    /// Only the boxes, no pictures
    #[arg(long)]
    no_pictures: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: &DetectArgs) -> anyhow::Result<()> {
    ensure!(
        (0.0..=1.0).contains(&args.score),
        "--score: expected a probability from 0 to 1, found {}",
        args.score
    );
    if let Some(coco) = &args.coco {
        outputs::check_new(coco, args.overwrite)?;
    }
    let inputs = Named::list(&args.images, 0)?;
    let names = inputs.names();
    let stems = outputs::stems(&names, &[".png"]);
    let pictures: Vec<PathBuf> = stems.iter().map(|stem| args.out.join(format!("{stem}.png"))).collect();
    if !args.no_pictures {
        pictures.iter().try_for_each(|path| outputs::check_picture(path))?;
    }
    let device = args.device.open()?;
    let mut detector = Detector::open(&args.weights, &device.device)?;
    detector.find_from(args.score);
    let labels = match &args.coco {
        Some(_) => Some(Labels::of(&names, &detector.classes, args.instances.as_deref())?),
        None => None,
    };
    if talk::notes(args.json) {
        inputs.lines().iter().for_each(|line| println!("{line}"));
        println!("{} on {}", detector.description, device.name);
    }
    let bar = images::bar(inputs.len(), args.json);
    let (mut told, mut results, mut notes, mut objects) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for (index, path) in pictures.iter().enumerate() {
        let name = &names[index];
        let input = match images::read_or_note(&inputs, index, name, &bar, args.json) {
            Ok(input) => input,
            Err(note) => {
                notes.push(note);
                continue;
            }
        };
        let found: Vec<Detection> = detector
            .detect(&input.image)?
            .iter()
            .map(|d| Detection { image: index, class: d.class, score: d.score, xyxy: d.xyxy })
            .collect();
        if let Some(labels) = &labels {
            results.extend(found.iter().map(|d| labels.row(class(&detector, d), d)));
        }
        let shown: Vec<&Detection> = found.iter().filter(|d| d.score >= args.score).collect();
        objects += shown.len();
        let (width, height) = (input.image.width as usize, input.image.height as usize);
        if !args.no_pictures {
            let picture = Picture::new(width, height, input.image.data)?;
            let drawn = drawn(&picture, &detector, &shown);
            outputs::write_png(path, width, height, drawn.data())?;
        }
        if args.json {
            let picture = (!args.no_pictures).then(|| path.display().to_string());
            let objects: Vec<Value> = shown.iter().map(|d| object(&detector, d)).collect();
            told.push(
                json!({ "image": name, "width": width, "height": height, "picture": picture, "objects": objects }),
            );
        } else {
            bar.suspend(|| println!("{name}: {}", line(&detector, &shown)));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if let Some(path) = &args.coco {
        outputs::write(path, format!("{}\n", Value::from(results)).as_bytes())?;
    }
    let done = inputs.len() - notes.len();
    if args.json {
        let document = json!({
            "weights": detector.description,
            "classes": detector.classes,
            "score": args.score.to_string().parse::<f64>().unwrap_or_default(),
            "notes": notes,
            "images": told,
        });
        println!("{document}");
    } else {
        let pictures =
            if args.no_pictures { String::new() } else { format!("; pictures: {}", args.out.display()) };
        let results = args.coco.as_ref().map(|path| format!("; results: {}", path.display()));
        println!("{objects} objects in {done} images{pictures}{}", results.unwrap_or_default());
    }
    if done == 0 {
        bail!("no image could be read");
    }
    Ok(())
}

fn class<'a>(detector: &'a Detector, detection: &Detection) -> &'a str {
    detector.classes.get(detection.class).map_or("", String::as_str)
}

/// The picture with its boxes, the surest on top.
fn drawn(picture: &Picture, detector: &Detector, shown: &[&Detection]) -> Picture {
    let boxes: Vec<BoxPicture<'_>> = shown
        .iter()
        .rev()
        .map(|d| BoxPicture { xyxy: d.xyxy, class: d.class, name: class(detector, d), score: Some(d.score) })
        .collect();
    draw_boxes(picture, &boxes)
}

/// An object as JSON, its numbers as decimals people write.
fn object(detector: &Detector, d: &Detection) -> Value {
    let decimal = |v: f32| v.to_string().parse::<f64>().unwrap_or_default();
    json!({
        "class": d.class,
        "name": class(detector, d),
        "score": decimal(d.score),
        "box": d.xyxy.map(decimal),
    })
}

/// What is in a picture, for a person: `2 car (98, 61 %), person (77 %)`.
fn line(detector: &Detector, shown: &[&Detection]) -> String {
    let mut classes: Vec<(usize, Vec<f32>)> = Vec::new();
    for d in shown {
        match classes.iter_mut().find(|(class, _)| *class == d.class) {
            Some((_, scores)) => scores.push(d.score),
            None => classes.push((d.class, vec![d.score])),
        }
    }
    if classes.is_empty() {
        return "nothing".into();
    }
    let of = |(class, scores): &(usize, Vec<f32>)| {
        let name = detector.classes.get(*class).map_or("", String::as_str);
        let count = if scores.len() > 1 { format!("{} ", scores.len()) } else { String::new() };
        let shares: Vec<String> = scores.iter().take(NAMED).map(|s| format!("{:.0}", 100.0 * s)).collect();
        let more = if scores.len() > NAMED { ", …" } else { "" };
        format!("{count}{name} ({}{more} %)", shares.join(", "))
    };
    classes.iter().map(of).collect::<Vec<_>>().join(", ")
}
