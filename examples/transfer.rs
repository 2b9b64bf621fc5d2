//! What pre-training is worth after fine-tuning, side by side: a network at random, MoCo v2 and DenseCL, pre-trained on the same
//! images without their labels and with one budget, then fine-tuned as detector (Faster R-CNN C4) and as segmentation (FCN), each
//! with several seeds. Writes a JSON for each cell and the table, to OUT/table.md and into docs/transfer.md:
//!
//!     cargo run --release --example transfer -- --out runs/table
//!     cargo run --release --example transfer -- --data camvid-240x180 --out runs/camvid    # segmentation alone
//!     cargo run --release --example transfer -- --budget quick --out runs/quick            # a few steps, to see that it works
//!
//! A cell whose JSON is in OUT is not computed again, so a run that was stopped goes on; other settings want another OUT. Seeds
//! are whole comparisons: networks, order, views and samples come from them, the same for each row.
#![allow(clippy::print_stderr)]

#[path = "transfer/flags.rs"]
pub(crate) mod flags;
#[path = "transfer/table.rs"]
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use ocelli::data::Source;
use ocelli::data::files::{open_boxed, open_masked};
use ocelli::models::weights::preprocessing::{Preprocessing, Statistics, Told};
use ocelli::models::weights::{ModuleState as _, StateDict, write_safetensors};
use ocelli::models::{Init, ResNetArch};
use ocelli::train::device::{Chosen, open};
use ocelli::train::{Event, Loaded, Loading, Task, TrainError, Trainer, config, write_atomically};
use ocelli::transfer::detection::{DetectionConfig, DetectionData, DetectionTask};
use ocelli::transfer::segmentation::{SegmentationConfig, SegmentationTask, SegmentedData};
use serde_json::{Value, json};

use flags::{Args, Budget, Kind};
use table::{place, table};

/// The rows: a word for files, the table's, and the preset that pre-trains; none draws the network.
const ROWS: [(&str, &str, Option<&str>); 3] = [
    ("random", "random initialisation", None),
    ("moco", "MoCo v2", Some("moco-laptop")),
    ("densecl", "DenseCL", Some("densecl-laptop")),
];

/// The figures of a task in its JSON, and their columns.
const DETECTION: [(&str, &str); 3] = [("ap", "AP"), ("ap50", "AP50"), ("ap75", "AP75")];
const SEGMENTATION: [(&str, &str); 1] = [("miou", "mIoU")];

/// What is learnt from; a task that the data has no labels for is absent.
struct Data {
    detection: Option<DetectionData>,
    segmentation: Option<SegmentedData>,
    /// The training images, without labels.
    images: Arc<dyn Source>,
}

impl Data {
    fn open(args: &Args) -> anyhow::Result<Self> {
        let named = |kind| args.tasks.contains(&kind);
        let tried = |kind| args.tasks.is_empty() || named(kind);
        let boxed = || -> anyhow::Result<DetectionData> {
            let set = open_boxed(&args.data)?;
            Ok(DetectionData::of(&set.train, set.val.as_ref(), &set.classes)?)
        };
        let masked = || -> anyhow::Result<SegmentedData> { Ok(SegmentedData::of(&open_masked(&args.data)?)?) };
        let detection = found(tried(Kind::Detection).then(boxed), named(Kind::Detection), "detection")?;
        let segmentation =
            found(tried(Kind::Segmentation).then(masked), named(Kind::Segmentation), "segmentation")?;
        let images = detection.as_ref().map(|data| data.train.source.clone());
        let images = images.or_else(|| segmentation.as_ref().map(|data| data.train.source.clone()));
        let images = images
            .with_context(|| format!("{}: expected boxes or classes of pixels, found neither", args.data))?;
        // What is pre-trained sees all images, and no label.
        let detection = detection.map(|data| data.with_few_labels(args.labelled));
        let segmentation = segmentation.map(|data| data.with_few_labels(args.labelled));
        Ok(Self { detection, segmentation, images })
    }

    fn columns(&self) -> Vec<(Kind, &'static str, &'static str)> {
        let of = |is_there: bool, kind, figures: &'static [(&'static str, &'static str)]| {
            figures.iter().filter(move |_| is_there).map(move |(key, name)| (kind, *key, *name))
        };
        let detection = of(self.detection.is_some(), Kind::Detection, &DETECTION);
        detection.chain(of(self.segmentation.is_some(), Kind::Segmentation, &SEGMENTATION)).collect()
    }
}

/// Data of a task; where nobody named the task, it may be missing, which is said.
fn found<T>(data: Option<anyhow::Result<T>>, is_named: bool, task: &str) -> anyhow::Result<Option<T>> {
    match data {
        Some(Err(error)) if !is_named => {
            eprintln!("{task} is left out: {error:#}");
            Ok(None)
        }
        other => other.transpose(),
    }
}

/// A cell of the table, or the pre-training before it.
struct Cell {
    kind: Option<Kind>,
    row: usize,
    seed: u64,
}

impl Cell {
    fn task(&self) -> &'static str {
        match self.kind {
            None => "pretraining",
            Some(Kind::Detection) => "detection",
            Some(Kind::Segmentation) => "segmentation",
        }
    }

    fn name(&self) -> String {
        format!("{}-{}-{}", self.task(), ROWS[self.row].0, self.seed)
    }

    fn weights(&self, out: &Path) -> PathBuf {
        out.join("weights").join(format!("{}-{}.safetensors", ROWS[self.row].0, self.seed))
    }
}

/// All cells, seed by seed.
fn cells(args: &Args, data: &Data) -> Vec<Cell> {
    let kinds =
        [data.detection.as_ref().map(|_| Kind::Detection), data.segmentation.as_ref().map(|_| Kind::Segmentation)];
    let kinds: Vec<Option<Kind>> =
        std::iter::once(None).chain(kinds.into_iter().filter(Option::is_some)).collect();
    let mut all = Vec::new();
    for seed in 0..args.seeds {
        for row in 0..ROWS.len() {
            all.extend(kinds.iter().map(|kind| Cell { kind: *kind, row, seed }));
        }
    }
    all
}

/// Trains to the end with a line every few seconds; a failed evaluation is an error here. Returns the last loss.
fn train<T: Task>(trainer: &mut Trainer<T>, head: &str) -> anyhow::Result<f64> {
    const EVERY: Duration = Duration::from_secs(5);
    let shape = trainer.shape();
    let all = shape.steps_per_epoch * shape.epochs;
    let (started, mut told, mut loss) = (Instant::now(), Instant::now(), f64::NAN);
    let mut warnings = Vec::new();
    let mut listen = |event: &Event| -> Result<(), TrainError> {
        match event {
            Event::Step(figures) => loss = figures.figures.get("loss").copied().unwrap_or(f64::NAN),
            Event::Warning { message } => {
                eprintln!("{head}: {message}");
                warnings.push(message.clone());
            }
            Event::Tick { step } if told.elapsed() > EVERY => {
                told = Instant::now();
                eprintln!(
                    "{head}: step {step} of {all}, loss {loss:.3}, {:.0} s",
                    started.elapsed().as_secs_f64()
                );
            }
            _ => {}
        }
        Ok(())
    };
    trainer.run(None, &mut listen)?;
    if let Some(warning) = warnings.iter().find(|warning| warning.starts_with("the evaluation after")) {
        bail!("{head}: {warning}");
    }
    Ok(loss)
}

/// Draws or pre-trains the backbone of a row and writes it.
fn pretrain(args: &Args, cell: &Cell, data: &Data, device: &Chosen, head: &str) -> anyhow::Result<Value> {
    let preset = ROWS[cell.row].2;
    let sets = args.pretraining(data.images.len(), cell.seed);
    let config = config::resolve(Some(preset.unwrap_or("moco-laptop")), None, &sets)?;
    let (encoder, figures) = match preset {
        // What the others begin from.
        None => (config.backbone().init(&mut Init::new(cell.seed, &device.device))?, json!({ "steps": 0 })),
        Some(_) => {
            let mut trainer = Trainer::new(&config, &device.device, &data.images, None)?;
            let loss = train(&mut trainer, head)?;
            (trainer.encoder()?, json!({ "steps": trainer.steps_done(), "loss": loss }))
        }
    };
    let mut state = StateDict::default();
    state.add_module("", &encoder)?;
    let statistics = Statistics { mean: config.views.mean, std: config.views.std };
    Preprocessing { statistics: Some(Told::new(statistics, "the run's")), size: None }.write(&mut state.metadata);
    let path = cell.weights(&args.out);
    std::fs::create_dir_all(path.parent().unwrap_or(&args.out))?;
    write_atomically(&path, &write_safetensors(&state)?)?;
    Ok(figures)
}

fn detect(args: &Args, cell: &Cell, data: &DetectionData, device: &Chosen, head: &str) -> anyhow::Result<Value> {
    let (path, loaded) = opened(args, cell, device)?;
    let config = DetectionConfig::resolve(Some("small"), None, &args.detection(cell.seed))?;
    let config = DetectionConfig { weights: path.display().to_string(), ..config };
    let mut trainer = Trainer::of(DetectionTask::new(&config, &device.device, Some(&loaded), data)?);
    let loss = train(&mut trainer, head)?;
    let summary = trainer.task().summary().with_context(|| format!("{head}: nothing was evaluated"))?;
    let percent =
        |value: Option<f64>| value.map(|v| 100.0 * v).with_context(|| format!("{head}: no object counts"));
    let voc = &summary.voc;
    Ok(json!({
        "ap": percent(voc.ap)?, "ap50": percent(voc.ap50)?, "ap75": percent(voc.ap75)?,
        "coco_ap": percent(summary.coco.ap)?, "images": summary.images, "loss": loss, "steps": trainer.steps_done(),
    }))
}

fn segment(args: &Args, cell: &Cell, data: &SegmentedData, device: &Chosen, head: &str) -> anyhow::Result<Value> {
    let (path, loaded) = opened(args, cell, device)?;
    let (name, sets) = (path.display().to_string(), args.segmentation(cell.seed));
    let config = SegmentationConfig::resolve_for((&loaded, &name), Some("laptop"), None, &sets)?;
    let mut trainer = Trainer::of(SegmentationTask::new(&config, &device.device, &loaded, data)?);
    let loss = train(&mut trainer, head)?;
    let found = trainer.task().found().with_context(|| format!("{head}: nothing was evaluated"))?;
    Ok(json!({
        "miou": 100.0 * found.scores.miou, "pixel_accuracy": 100.0 * found.scores.pixel_accuracy,
        "images": found.pictures.len(), "loss": loss, "steps": trainer.steps_done(),
    }))
}

fn opened(args: &Args, cell: &Cell, device: &Chosen) -> anyhow::Result<(PathBuf, Loaded)> {
    let path = cell.weights(&args.out);
    let loaded = Loading::default().open(&path, &device.device)?;
    Ok((path, loaded))
}

/// The commit this was built from, as far as the folder one stands in tells.
fn commit() -> String {
    let git = |args: &[&str]| -> Option<String> {
        let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=10", "HEAD"]) else { return "unknown".into() };
    let is_changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|text| !text.is_empty());
    if is_changed { format!("{commit} with changes") } else { commit }
}

/// Refuses a folder of other settings, before anything is computed.
fn check_settings(args: &Args) -> anyhow::Result<()> {
    let path = args.out.join("settings.json");
    let text = format!("{:#}\n", args.settings());
    // Numbers as they are read back.
    let own: Value = serde_json::from_str(&text)?;
    if path.exists() {
        let stored: Value = serde_json::from_slice(&std::fs::read(&path)?)
            .with_context(|| format!("{}: expected the settings of a table", path.display()))?;
        let differs = |(key, value): &(&String, &Value)| stored.get(key.as_str()) != Some(*value);
        if let Some((key, value)) = own.as_object().into_iter().flatten().find(differs) {
            let (there, path) = (&stored[key.as_str()], path.display());
            bail!(
                "{path}: expected {key} {value}, found {there}: give another --out, or the settings that are there"
            );
        }
        return Ok(());
    }
    std::fs::create_dir_all(args.out.join("cells"))?;
    Ok(write_atomically(&path, text.as_bytes())?)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn main() -> anyhow::Result<()> {
    run(&Args::of(&std::env::args().collect::<Vec<_>>()))
}

/// Computes what is not there yet, and writes the table.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    args.arch.parse::<ResNetArch>().context("--arch")?;
    ensure!(args.seeds > 0, "--seeds: expected 1 or more, found 0");
    let docs = args.docs.clone().or_else(|| (args.budget == Budget::Table).then(|| "docs/transfer.md".into()));
    let docs = docs.filter(|_| !args.no_docs);
    if let Some(docs) = &docs {
        place(docs, &args.data)?;
    }
    let data = Data::open(args)?;
    check_settings(args)?;
    let (device, commit, plan) = (open(args.device)?, commit(), cells(args, &data));
    let mut done: BTreeMap<String, Value> = BTreeMap::new();
    for (number, cell) in plan.iter().enumerate() {
        let (name, started) = (cell.name(), Instant::now());
        let path = args.out.join("cells").join(format!("{name}.json"));
        if let Ok(text) = std::fs::read(&path) {
            let stored =
                serde_json::from_slice(&text).with_context(|| format!("{}: remove it", path.display()))?;
            done.insert(name, stored);
            continue;
        }
        let head =
            format!("[{}/{}] {}, {}, seed {}", number + 1, plan.len(), cell.task(), ROWS[cell.row].1, cell.seed);
        let figures = match (cell.kind, &data.detection, &data.segmentation) {
            (None, ..) => pretrain(args, cell, &data, &device, &head)?,
            (Some(Kind::Detection), Some(data), _) => detect(args, cell, data, &device, &head)?,
            (Some(Kind::Segmentation), _, Some(data)) => segment(args, cell, data, &device, &head)?,
            _ => continue,
        };
        let wall_s = started.elapsed().as_secs_f64();
        let found = json!({
            "task": cell.task(), "row": ROWS[cell.row].0, "seed": cell.seed, "figures": figures, "wall_s": wall_s,
            "commit": commit, "ocelli": env!("CARGO_PKG_VERSION"), "device": device.name, "cores": cores(),
            "settings": args.settings(),
        });
        write_atomically(&path, format!("{found:#}\n").as_bytes())?;
        done.insert(name, found);
        let left = plan[number + 1..].iter().filter_map(|cell| mean_s(&done, cell)).sum::<f64>();
        eprintln!("{head}: {figures} in {wall_s:.0} s; about {:.0} min left", left / 60.0);
    }
    let table = table(args, &data, &done, &device);
    print!("{table}");
    write_atomically(&args.out.join("table.md"), table.as_bytes())?;
    if let Some(docs) = docs {
        // Read again: somebody may have written to it in the meantime.
        let (before, after) = place(&docs, &args.data)?;
        write_atomically(&docs, format!("{before}\n{table}\n{after}").as_bytes())?;
    }
    Ok(())
}

/// Seconds that a cell takes, by those of its kind that are done; none where no such is.
fn mean_s(done: &BTreeMap<String, Value>, cell: &Cell) -> Option<f64> {
    let is_drawn = |row: &str| row == ROWS[0].0;
    let alike = done.values().filter(|found| {
        let row = found["row"].as_str().unwrap_or_default();
        found["task"] == cell.task() && (cell.kind.is_some() || is_drawn(row) == is_drawn(ROWS[cell.row].0))
    });
    let times: Vec<f64> = alike.filter_map(|found| found["wall_s"].as_f64()).collect();
    (!times.is_empty()).then(|| times.iter().sum::<f64>() / times.len() as f64)
}
