//! `ocelli eval linear`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use ocelli::data::{BadFile, DataSet, Source, open_data_beside};
use ocelli::eval::linear::Published;
use ocelli::models::weights::preprocessing::Preprocessing;
use ocelli::models::{BackboneKind, ProbeFeatures};
use ocelli::train::device::Chosen;
use ocelli::train::{
    ClassifiedData, FrozenFeatures, HEAD, LINEAR_TASK, LinearConfig, LinearTask, Loaded, Loading, RunDir, Trainer,
    eval_transform, extract_for_probe, weights_crc32,
};
use serde_json::{Value, json};

use super::DeviceArgs;
use super::images;
use super::opening::{self, NormaliseArgs, SizeArgs};
use super::progress::Progress;
use super::ranks;
use super::run::{Job, Start, Trains, data_of, tell};
use super::talk;

/// Images through the network at once.
const BATCH: usize = 32;

/// Measure the accuracy of a linear classifier on frozen features, with many learning rates at once
///
/// One classifier is trained for each learning rate, all at once, and the best is kept. By default it is done as DINO
/// does it: with augmented views in every epoch. --cached computes the features once and takes minutes instead of
/// hours. That is another protocol; its result is usually within a point or two.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli eval linear --data imagenette --weights runs/first --cached\n  ocelli eval linear --data imagenette --weights dino_deitsmall16_pretrain.pth --out runs/linear\n  ocelli eval linear --data imagenette --weights resnet50.pth --protocol moco --rates 30 --out runs/moco-linear\n  ocelli eval linear --resume --out runs/linear\n\nThe best classifier is written as OUT/head.safetensors, and as OUT/head.pth, which DINO's own evaluation loads. `ocelli classify` takes either."
)]
pub struct LinearArgs {
    /// Labelled images: a folder with train/ and val/, a folder of class folders, CIFAR records, or `scenes`; without val
    /// every tenth image is held out
    #[arg(long, required_unless_present = "resume")]
    data: Option<String>,
    /// A run folder, a checkpoint, or a backbone (.safetensors, or PyTorch's .pth; see `ocelli weights`)
    #[arg(long, required_unless_present = "resume")]
    weights: Option<PathBuf>,
    /// Folder of the probe (default: the folder `linear` in that of the run whose weights these are)
    #[arg(long)]
    out: Option<PathBuf>,
    /// Compute the features once, of images as they are evaluated: minutes instead of hours, and another protocol
    #[arg(long)]
    cached: bool,
    /// dino, moco, mae or msf: how the heads are trained
    #[arg(long, default_value = "dino")]
    protocol: Published,
    /// cls, cls-4 (of the last four blocks), cls+mean; a ResNet has mean (default: as DINO's evaluation takes them)
    #[arg(long)]
    features: Option<ProbeFeatures>,
    /// Learning rates as papers name them, trained side by side (default: ten around the published one)
    #[arg(long, num_args = 1.., value_name = "RATE")]
    rates: Vec<f64>,
    /// Number of epochs (default: the protocol's)
    #[arg(long)]
    epochs: Option<usize>,
    /// Images per step
    #[arg(long, default_value_t = 256)]
    batch_size: usize,
    /// Seed of first weights, order and views
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    size: SizeArgs,
    #[command(flatten)]
    normalise: NormaliseArgs,
    /// Number of attention heads of a Vision Transformer, if the weights do not say
    #[arg(long)]
    heads: Option<usize>,
    /// Continue the probe in the folder. Cached features are computed again
    #[arg(long, conflicts_with_all = ["overwrite", "cached", "rates", "epochs", "features"])]
    resume: bool,
    /// Replace a probe that is in the folder
    #[arg(long)]
    overwrite: bool,
    /// Print JSON: a row for each step and epoch, and at the end the result
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

impl LinearArgs {
    fn talks(&self) -> bool {
        talk::notes(self.json)
    }

    fn start(&self) -> Start {
        match (self.resume, self.overwrite) {
            (true, _) => Start::Resume,
            (false, true) => Start::Overwrite,
            (false, false) => Start::New,
        }
    }

    /// Where the probe goes.
    fn out(&self) -> anyhow::Result<PathBuf> {
        if let Some(out) = &self.out {
            return Ok(out.clone());
        }
        match &self.weights {
            Some(weights) if weights.is_dir() => Ok(weights.join("linear")),
            _ => bail!(
                "--out: expected a folder for the probe, found none; only a run's folder has a place of its own"
            ),
        }
    }

    /// The rates as papers name them.
    fn rates(&self, of_resnet: bool) -> Vec<f64> {
        if self.rates.is_empty() { sweep(self.protocol.rate(of_resnet)) } else { self.rates.clone() }
    }
}

/// Ten rates around the published one: the best depends on data and features.
fn sweep(published: f64) -> Vec<f64> {
    // Features of small networks and small sets want more than the published rate, rarely less.
    [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0]
        .map(|times| format!("{:.1e}", times * published).parse().unwrap_or(times * published))
        .to_vec()
}

pub fn run(args: &LinearArgs) -> anyhow::Result<()> {
    ranks::one_process("eval linear")?;
    let out = args.out()?;
    let stored = args.resume.then(|| stored(&out)).transpose()?;
    let named = match (&args.data, &stored) {
        (Some(data), _) => data.clone(),
        (None, _) => data_of(RunDir::stored_data(&out).as_ref(), &out, args.talks())?,
    };
    let DataSet { train, val, understood } = open_data_beside(&named, Some(&out))?;
    if args.talks() {
        tell(&understood);
    }
    let found = understood.lines().join("; ");
    let data = ClassifiedData::of(&train, val.as_ref()).with_context(|| format!("{named} ({found})"))?;
    let device = args.device.open()?;
    let weights = match (&args.weights, &stored) {
        (Some(path), _) => path.clone(),
        (None, Some(stored)) => {
            let found = RunDir::stored_weights(&out, &stored.weights).find(&out, "--weights")?;
            if let (true, Some(note)) = (args.talks(), &found.note) {
                println!("{note}");
            }
            found.name.into()
        }
        (None, None) => bail!("--weights: expected the backbone to evaluate"),
    };
    let backbone = open(args, &weights, &device)?;
    let config = configuration(args, &weights, &backbone, stored)?;
    if args.talks() {
        data.notes.iter().for_each(|note| println!("{note}"));
        println!("{}", opening::lines(&backbone, &device.name, &backbone.size.to_string()));
        println!("protocol: {}; features: {}", config.protocol, config.features);
        if args.resume && config.cached {
            println!("the features were not kept: they are computed again");
        }
    }
    let (train, val) = features(args, &config, &backbone, &data, &device)?;
    let held_out = val.len();
    let understood = json!({
        "data": understood,
        "train": data.train.len(),
        "held_out": held_out,
        "classes": data.classes,
        "notes": data.notes,
        "weights": opening::fields(&backbone, &backbone.size),
    });
    let task = LinearTask::new(&config, &device.device, backbone.encoder, &data, (train, val))?;
    let job = Job {
        trains: Trains::Linear,
        config: config.table()?,
        device: &device,
        data: &named,
        understood,
        json: args.json,
    };
    let mut progress = Progress::new(!args.talks());
    let (trainer, summary) = job.train(Trainer::of(task), &out, args.start(), &mut progress)?;
    let best = summary.best.context("no head was evaluated")?;
    show(args, trainer.task(), &config, (&out, best.accuracy, best.epoch + 1));
    Ok(())
}

/// What the folder says of the probe in it.
fn stored(out: &Path) -> anyhow::Result<LinearConfig> {
    let (path, text) = RunDir::stored_config(out)?;
    Ok(LinearConfig::parse(&text, &path)?)
}

fn open(args: &LinearArgs, path: &Path, device: &Chosen) -> anyhow::Result<Loaded> {
    let given = Preprocessing { size: args.size.given(), ..args.normalise.given()? };
    let mut backbone = Loading { heads: args.heads, given, ..Loading::default() }.open(path, &device.device)?;
    args.size.apply(&mut backbone.size);
    Ok(backbone)
}

/// Every value resolved: a new probe's, or that of the probe that goes on, which must be of the same weights.
fn configuration(
    args: &LinearArgs,
    weights: &Path,
    backbone: &Loaded,
    stored: Option<LinearConfig>,
) -> anyhow::Result<LinearConfig> {
    let crc = weights_crc32(&backbone.encoder)?;
    if let Some(stored) = stored {
        ensure!(
            stored.weights_crc32 == crc,
            "{}: the probe was begun with other weights ({}): expected values with CRC-32 {}, found {crc}. Give --weights, or begin a \
             new probe",
            weights.display(),
            stored.weights,
            stored.weights_crc32
        );
        return Ok(stored);
    }
    let of_resnet = backbone.config.kind() == BackboneKind::ResNet;
    let features = args.features.unwrap_or_else(|| ProbeFeatures::published(&backbone.config));
    features.width(&backbone.config).context("--features")?;
    ensure!(
        args.protocol != Published::Msf || args.cached,
        "--protocol msf: it needs mean and deviation of all training features; add --cached"
    );
    let size = backbone.size.value;
    let epochs = args.epochs.unwrap_or_else(|| args.protocol.epochs());
    let config = LinearConfig {
        task: LINEAR_TASK.into(),
        method: LINEAR_TASK.into(),
        arch: backbone.arch().parse()?,
        weights: weights.display().to_string(),
        weights_crc32: crc,
        protocol: args.protocol,
        features,
        cached: args.cached,
        rates: args.rates(of_resnet),
        seed: args.seed,
        epochs,
        batch_size: args.batch_size,
        // Every evaluation leaves a checkpoint; an epoch of cached features takes a fraction of a second.
        evaluate_every: if args.cached { epochs.div_ceil(20) } else { 1 },
        side_px: if size.crop_px > 0 { size.crop_px } else { backbone.image_side_px() },
        resize_px: size.resize_px,
        crop_px: size.crop_px,
        mean: backbone.statistics.value.mean,
        std: backbone.statistics.value.std,
    };
    config.probe().validate()?;
    Ok(config)
}

/// Features of the held-out images, and of the training images where they are computed once.
fn features(
    args: &LinearArgs,
    config: &LinearConfig,
    backbone: &Loaded,
    data: &ClassifiedData,
    device: &Chosen,
) -> anyhow::Result<(Option<FrozenFeatures>, FrozenFeatures)> {
    let transform = eval_transform(&backbone.eval_config());
    let of = |source: &Arc<dyn Source>, what: &str| -> anyhow::Result<FrozenFeatures> {
        let bar = images::bar(source.len(), !args.talks());
        let mut tell = |done: usize| bar.set_position(done as u64);
        let pass = (transform, BATCH);
        let (found, bad) =
            extract_for_probe(&backbone.encoder, config.features, source, pass, &device.device, &mut tell)
                .with_context(|| format!("features of the {what} images"))?;
        bar.finish_and_clear();
        if args.talks() {
            println!("features of {} {what} images, {} numbers each", found.len(), found.dim());
            bad.iter().for_each(warn);
        }
        Ok(found)
    };
    let train = config.cached.then(|| of(&data.train, "training")).transpose()?;
    Ok((train, of(&data.val, "held-out")?))
}

fn warn(bad: &BadFile) {
    println!("warning: skipped {}: {}", bad.name, bad.reason);
}

/// Cells of the longest bar.
const BAR: usize = 40;

/// The result: every rate's accuracy as a bar, the best marked.
fn show(args: &LinearArgs, task: &LinearTask, config: &LinearConfig, (out, accuracy, epoch): (&Path, f64, usize)) {
    let rows = task.by_rate();
    let head = out.join(HEAD);
    if args.json {
        let of = |(rate, score): &(f64, Option<ocelli::eval::linear::HeadScore>)| match score {
            Some(s) => json!({ "rate": rate, "top1": s.top1, "top5": s.top5, "loss": s.loss }),
            None => json!({ "rate": rate, "top1": Value::Null, "broke": true }),
        };
        println!(
            "{}",
            json!({ "event": "result", "top1": accuracy, "epoch": epoch, "held_out": task.held_out(), "protocol": config.protocol,
                "cached": config.cached, "features": config.features, "head": head.display().to_string(),
                "rates": rows.iter().map(of).collect::<Vec<_>>() })
        );
        return;
    }
    println!("after the last epoch, by learning rate:");
    let top = rows.iter().filter_map(|(_, s)| Some(s.as_ref()?.top1)).fold(0.0, f64::max);
    for (rate, score) in &rows {
        match score {
            Some(s) => {
                let bar = "█".repeat((s.top1 / 100.0 * BAR as f64).round() as usize);
                let mark = if s.top1 >= top { "  best" } else { "" };
                println!("  {rate:<8} {bar:<BAR$} {:5.2} %{mark}", s.top1);
            }
            None => println!("  {rate:<8} the numbers broke: far too high a rate"),
        }
    }
    let edges = [rows.first(), rows.last()];
    let at_edge = |row: &Option<&(f64, Option<ocelli::eval::linear::HeadScore>)>| {
        row.and_then(|(_, s)| s.as_ref()).is_some_and(|s| s.top1 >= top)
    };
    if rows.len() > 2 && edges.iter().any(at_edge) {
        println!("the best rate is at one end of the sweep: a wider one (--rates) may find better");
    }
    println!(
        "linear top-1 {accuracy:.2} % of {} held-out images (epoch {epoch}); classifier: {}\nuse it: ocelli classify IMAGE --weights {} --head {}",
        task.held_out(),
        head.display(),
        config.weights,
        head.display()
    );
}
