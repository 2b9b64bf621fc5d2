//! `ocelli eval detection`.

use std::path::PathBuf;

use anyhow::{bail, ensure};
use clap::{Args, ValueEnum};
use ocelli::data::annotated::BoxedPart;
use ocelli::data::files::{BoxedSet, open_boxed};
use ocelli::data::{DataError, LoaderConfig, bad_limit};
use ocelli::eval::detection::{Detection, DetectionSummary, Interpolation, Truth, summary};
use ocelli::transfer::detection::Detector;
use ocelli::transfer::detection::evaluation::{Findings, SHOWN_SCORE, look};
use serde_json::json;

use super::DeviceArgs;
use super::coco_results::{self, Ids, Labels};
use super::images;
use super::outputs;
use super::run::tell;
use super::talk;

/// Longest name of a class in the table.
const NAME: usize = 24;

/// Measure the average precision of boxes, as PASCAL VOC and as COCO do
///
/// The boxes come from a detector, or from COCO results that any program wrote. VOC: 11 points, boxes as its files
/// have them, and AP as the mean over IoU .5:.05:.95, as MoCo and DenseCL report it. COCO: 101 points. The two are
/// not comparable.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli eval detection --weights runs/boxes --data VOCdevkit:test\n  ocelli eval detection --detections results.json --data coco --instances coco/annotations/instances_val2017.json\n  ocelli eval detection --weights runs/boxes --data scenes --json\n\nThe held-out part is evaluated: val, else test; of PASCAL VOC test where there is a list of it, else val. FOLDER:test or FOLDER:val chooses one. If no part is held out, all images are evaluated. A file in detectron2's names does not say everything. These are assumed: RGB pictures, ImageNet's normalisation unless it has pixel_mean and pixel_std, and a block's stride in its 3×3 convolution (STRIDE_IN_1X1: False)."
)]
pub struct EvalDetectionArgs {
    /// Images with boxes: a folder of VOC, COCO or YOLO, or `scenes[:COUNT[:SIZE]]`
    #[arg(long, alias = "truth")]
    data: String,
    /// The detector: a run folder of `ocelli finetune detection`, its detector.safetensors, or a .pth in detectron2's names
    #[arg(long, required_unless_present = "detections", conflicts_with = "detections")]
    weights: Option<PathBuf>,
    /// COCO's results: a JSON list of boxes with image_id, category_id, bbox and score
    #[arg(long, value_name = "FILE", group = "results")]
    detections: Option<PathBuf>,
    /// COCO's instances, which say what the numbers of images and categories in --detections stand for, and which --coco writes
    #[arg(long, value_name = "FILE", requires = "results")]
    instances: Option<PathBuf>,
    /// How VOC's precision is interpolated (default: as the detector's run does, else 11-point)
    #[arg(long, value_enum)]
    interpolation: Option<Interpolated>,
    /// Write what was found as COCO's results. Without --instances categories are numbered from 1 in the data's order, and an image
    /// by the number in its file's name, else by its name
    #[arg(long, value_name = "FILE", group = "results", conflicts_with = "detections")]
    coco: Option<PathBuf>,
    /// Replace a file of results that is there
    #[arg(long)]
    overwrite: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Interpolated {
    /// Mean over recall 0, .1, … 1: VOC 2007
    #[value(name = "11-point")]
    ElevenPoint,
    /// Area below the curve: VOC since 2010
    Continuous,
}

/// What was found, what is there, and how it is to be judged.
struct Found {
    findings: Findings,
    interpolation: Interpolation,
    notes: Vec<String>,
    what: String,
}

pub fn run(args: &EvalDetectionArgs) -> anyhow::Result<()> {
    if let Some(coco) = &args.coco {
        outputs::check_new(coco, args.overwrite)?;
    }
    let BoxedSet { train, val, classes, understood } = open_boxed(&args.data)?;
    if talk::notes(args.json) {
        tell(&understood);
    }
    let mut notes = Vec::new();
    let part = val.filter(|val| !val.source.is_empty()).unwrap_or_else(|| {
        notes.push("no part is held out: all images are evaluated".to_owned());
        train
    });
    let counted = part.objects.iter().flatten().filter(|o| !o.is_crowd && !o.is_difficult).count();
    ensure!(
        counted > 0,
        "{}: expected images with objects to find, found {} images without any ({})",
        args.data,
        part.source.len(),
        understood.lines().join("; ")
    );
    let names: Vec<String> = (0..part.source.len()).map(|i| part.source.name(i)).collect();
    let labels = match &args.coco {
        Some(_) => Some(Labels::of(&names, &classes, args.instances.as_deref())?),
        None => None,
    };
    let mut found = match &args.detections {
        Some(_) => of_results(args, (&part, &names), &classes)?,
        None => of_detector(args, &part, &classes)?,
    };
    notes.append(&mut found.notes);
    let Findings { detections, truths, images } = &found.findings;
    if let Some((path, labels)) = args.coco.as_ref().zip(labels) {
        let row = |d: &Detection| labels.row(&classes[d.class], d);
        let rows: Vec<serde_json::Value> = detections.iter().map(row).collect();
        outputs::write(path, format!("{}\n", serde_json::Value::from(rows)).as_bytes())?;
    }
    let told = summary(detections, truths, &classes, images.len(), found.interpolation, SHOWN_SCORE)?;
    if args.json {
        let mut document = serde_json::to_value(&told)?;
        document["what"] = found.what.into();
        document["data"] = json!(understood);
        document["notes"] = json!(notes);
        println!("{document}");
        return Ok(());
    }
    notes.iter().for_each(|note| println!("{note}"));
    show(&told, &found.what);
    Ok(())
}

/// A detector's own.
fn of_detector(args: &EvalDetectionArgs, part: &BoxedPart, classes: &[String]) -> anyhow::Result<Found> {
    let Some(weights) = &args.weights else { bail!("--weights: expected a detector, or --detections") };
    let device = args.device.open()?;
    let detector = Detector::open(weights, &device.device)?;
    if talk::notes(args.json) {
        println!("{} on {}", detector.description, device.name);
    }
    let mut notes = Vec::new();
    let to = same_classes(&detector.classes, classes, &mut notes)?;
    let bar = images::bar(part.source.len(), args.json);
    let loading = &detector.config.loader;
    let (threads, max_bad_fraction) = (loading.threads, loading.max_bad_fraction);
    let loader = LoaderConfig { threads, max_bad_fraction, ..LoaderConfig::default() };
    let mut findings =
        look(detector.net(), detector.stages(), (part, detector.test()), loader, &device.device, &mut |done| {
            bar.set_position(done as u64);
        })?;
    bar.finish_and_clear();
    notes.extend(left_out(part.source.len() - findings.images.len()));
    findings.detections =
        findings.detections.iter().filter_map(|d| Some(Detection { class: to[d.class]?, ..*d })).collect();
    let interpolation = match args.interpolation {
        Some(given) => given.into(),
        None => detector.config.eval.interpolation,
    };
    Ok(Found { findings, interpolation, notes, what: detector.description })
}

/// The detector's classes as the data numbers them, by name.
fn same_classes(own: &[String], data: &[String], notes: &mut Vec<String>) -> anyhow::Result<Vec<Option<usize>>> {
    let to: Vec<Option<usize>> = own.iter().map(|name| data.iter().position(|n| n == name)).collect();
    let shared = to.iter().flatten().count();
    if shared == 0 && own.len() == data.len() {
        notes.push(
            "the detector's classes have other names than the data's: they are matched by number".to_owned(),
        );
        return Ok((0..own.len()).map(Some).collect());
    }
    ensure!(
        shared > 0,
        "the detector's {} classes ({}, …) are none of the data's {} ({}, …)",
        own.len(),
        own[0],
        data.len(),
        data[0]
    );
    if shared < data.len() {
        notes.push(format!(
            "the detector does not know {} of the data's classes; their objects count as missed",
            data.len() - shared
        ));
    }
    if shared < own.len() {
        notes.push(format!(
            "{} classes of the detector are none of the data's: they are left out",
            own.len() - shared
        ));
    }
    Ok(to)
}

/// What is said of images that cannot be read, if there are any.
fn left_out(images: usize) -> Option<String> {
    (images > 0).then(|| format!("warning: images left out because they or their labels cannot be read: {images}"))
}

/// The images whose labels could be read. Where they could not there are no objects, and [`Source::load`] tells.
///
/// [`Source::load`]: ocelli::data::Source::load
fn readable(part: &BoxedPart, names: &[String]) -> anyhow::Result<Vec<bool>> {
    let (mut readable, mut bad) = (Vec::with_capacity(names.len()), Vec::new());
    for (image, objects) in part.objects.iter().enumerate() {
        let error = if objects.is_empty() { part.source.load(image).err() } else { None };
        readable.push(error.is_none());
        bad.extend(error.map(|error| format!("  {}: {error}", names[image])));
    }
    // The limit of a detector's own evaluation.
    let total = names.len();
    let allowed = bad_limit(LoaderConfig::default().max_bad_fraction, total);
    if bad.len() > allowed {
        let listing = bad[..bad.len().min(10)].join("\n");
        bail!(DataError::TooManyBad { bad: bad.len(), total, allowed, listing });
    }
    Ok(readable)
}

/// Another program's.
fn of_results(
    args: &EvalDetectionArgs,
    (part, names): (&BoxedPart, &[String]),
    classes: &[String],
) -> anyhow::Result<Found> {
    let Some(path) = &args.detections else { bail!("--detections: expected a file of COCO's results") };
    let ids = args.instances.as_deref().map(Ids::read).transpose()?.unwrap_or_default();
    let (mut detections, understood) = coco_results::read(path, names, classes, &ids)?;
    let readable = readable(part, names)?;
    detections.retain(|d| readable[d.image]);
    let truth = |(image, objects): (usize, &Vec<ocelli::data::annotated::ObjectBox>)| {
        let truth = move |o: &ocelli::data::annotated::ObjectBox| Truth {
            image,
            class: o.class as usize,
            xyxy: o.xyxy,
            is_difficult_or_crowd: o.is_difficult || o.is_crowd,
            area: o.area_px,
        };
        objects.iter().map(truth).collect::<Vec<_>>()
    };
    let truths = part.objects.iter().enumerate().flat_map(truth).collect();
    let what = format!("{} boxes of {}; {understood}", detections.len(), path.display());
    let images: Vec<usize> = (0..names.len()).filter(|image| readable[*image]).collect();
    let notes = left_out(names.len() - images.len()).into_iter().collect();
    let findings = Findings { detections, truths, images };
    let interpolation = args.interpolation.map_or(Interpolation::ElevenPoint, Interpolation::from);
    Ok(Found { findings, interpolation, notes, what })
}

impl From<Interpolated> for Interpolation {
    fn from(given: Interpolated) -> Self {
        match given {
            Interpolated::ElevenPoint => Self::ElevenPoint,
            Interpolated::Continuous => Self::Continuous,
        }
    }
}

/// The table, per cent.
fn show(told: &DetectionSummary, what: &str) {
    let percent = |v: Option<f64>| v.map_or_else(|| format!("{:>6}", "–"), |v| format!("{:6.2}", 100.0 * v));
    let short = |name: &str| name.chars().take(NAME).collect::<String>();
    let width = told.classes.iter().map(|c| short(&c.name).chars().count()).max().unwrap_or(0).max(11);
    let how = match told.voc.interpolation {
        Interpolation::ElevenPoint => "VOC, 11 points",
        Interpolation::Continuous => "VOC, continuous",
    };
    println!("{what}");
    println!("{:width$}  {how:>20}  {:>20}", "", "COCO");
    println!(
        "{:width$}  {:>6} {:>6} {:>6}  {:>6} {:>6} {:>6}  objects  found",
        "", "AP", "AP50", "AP75", "AP", "AP50", "AP75"
    );
    for (class, (voc, coco)) in told.classes.iter().zip(told.voc.per_class.iter().zip(&told.coco.per_class)) {
        println!(
            "{:width$}  {} {} {}  {} {} {}  {:>7}  {:>5}",
            short(&class.name),
            percent(voc.ap),
            percent(voc.ap50),
            percent(voc.ap75),
            percent(coco.ap),
            percent(coco.ap50),
            percent(coco.ap75),
            voc.objects,
            voc.detections
        );
    }
    let (voc, coco) = (&told.voc, &told.coco);
    println!(
        "{:width$}  {} {} {}  {} {} {}",
        "all classes",
        percent(voc.ap),
        percent(voc.ap50),
        percent(voc.ap75),
        percent(coco.ap),
        percent(coco.ap50),
        percent(coco.ap75)
    );
    println!(
        "COCO, small / medium / large: AP {} {} {}, recall {} {} {}; recall with 1 / 10 / 100 boxes: {} {} {}",
        percent(coco.ap_small).trim(),
        percent(coco.ap_medium).trim(),
        percent(coco.ap_large).trim(),
        percent(coco.ar_small).trim(),
        percent(coco.ar_medium).trim(),
        percent(coco.ar_large).trim(),
        percent(coco.ar1).trim(),
        percent(coco.ar10).trim(),
        percent(coco.ar100).trim()
    );
    println!("{} images, per cent; VOC's AP and COCO's AP are not comparable", told.images);
}
