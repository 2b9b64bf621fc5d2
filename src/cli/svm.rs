//! `ocelli eval svm`.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::bail;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ocelli::data::files::{MultiLabelPart, MultiLabelSet, Presence, open_multi_label};
use ocelli::eval::svm::{Labelled, SvmConfig, SvmReport, Target, svm, unusable};
use ocelli::models::weights::preprocessing::Preprocessing;
use ocelli::train::device::Chosen;
use ocelli::train::{Loaded, Loading};
use serde_json::{Value, json};

use super::DeviceArgs;
use super::extraction::{Features, Network};
use super::opening::{self, NormaliseArgs, SizeArgs};
use super::talk;

mod costs;
mod view;

use costs::Costs;
use view::{Feature, Fit, View};

/// Measure multi-label classification by linear SVMs: VOC07 mAP
///
/// Three-fold cross-validation on the training images chooses the cost of each SVM. The result is the mean over the
/// classes of average precision on the test images. As VISSL and OpenSelfSup publish it, images are squashed to a
/// square, and a ResNet's last stage is pooled to 2×2 cells.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli eval svm --data VOCdevkit/VOC2007 --weights runs/densecl\n  ocelli eval svm --data VOCdevkit/VOC2007 --weights random:resnet-50   # features of an untrained network\n  ocelli eval svm --data coco128 --weights vit.pth --min-positives 8 --json\n\nData: PASCAL VOC (JPEGImages, Annotations, ImageSets/Main), YOLO (images/, labels/, a YAML file or classes.txt), or COCO\n(annotations/instances_*.json)."
)]
pub struct SvmArgs {
    /// Images with labels of several classes: a folder as VOC, YOLO or COCO have it, or the YAML file of one
    #[arg(long)]
    data: String,
    /// A run folder, a checkpoint, or a backbone (.safetensors, or PyTorch's .pth; see `ocelli weights`)
    #[arg(long)]
    weights: PathBuf,
    /// Costs to choose from: openselfsup (19, as DenseCL), vissl (11), or numbers with commas between
    #[arg(long, default_value = "openselfsup", value_name = "LIST")]
    costs: Costs,
    /// Which features (default: the published ones, res5-2x2 of a ResNet and cls of a Vision Transformer)
    #[arg(long, value_enum)]
    features: Option<Feature>,
    /// How images are made square
    #[arg(long, value_enum, default_value_t = Fit::Squash)]
    fit: Fit,
    /// Leave out classes that appear in fewer training or test images
    #[arg(long, default_value_t = 1, value_name = "IMAGES")]
    min_positives: usize,
    #[command(flatten)]
    size: SizeArgs,
    #[command(flatten)]
    normalise: NormaliseArgs,
    /// Number of attention heads, if the weights do not say
    #[arg(long)]
    heads: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: &SvmArgs) -> anyhow::Result<()> {
    let data = open_multi_label(&args.data)?;
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let config = SvmConfig { costs: args.costs.values.clone(), threads, ..SvmConfig::default() };
    let classes = Classes::of(&data, args.min_positives, config.folds);
    classes.check(&args.data)?;
    let device = args.device.open()?;
    let given = Preprocessing { size: args.size.given(), ..args.normalise.given()? };
    let loading = Loading { heads: args.heads, given, ..Loading::default() };
    let mut backbone = loading.open(&args.weights, &device.device)?;
    args.size.apply(&mut backbone.size);
    let view = View::new(&backbone, args.features, args.fit)?;
    if talk::notes(args.json) {
        data.understood.lines().iter().for_each(|line| println!("{line}"));
        classes.lines().iter().for_each(|line| println!("{line}"));
        println!("{}", opening::lines(&backbone, &device.name, &view.size()));
        view.lines().iter().for_each(|line| println!("{line}"));
    }
    let (train, train_targets) = read(&data.train, &classes, &view, (&backbone, &device), args.json)?;
    let (test, test_targets) = read(&data.test, &classes, &view, (&backbone, &device), args.json)?;
    // Images that could not be read may have been the last of a class.
    for (at, (name, _)) in classes.kept.iter().enumerate() {
        if let Some(why) = unusable(&train_targets, &test_targets, at, classes.kept.len(), config.folds) {
            bail!(
                "{name}: without the images that could not be read, {why}; --min-positives leaves such classes out"
            );
        }
    }
    let started = Instant::now();
    let report = svm(
        Labelled { features: &train.dense(), targets: &train_targets },
        Labelled { features: &test.dense(), targets: &test_targets },
        train.dim,
        classes.kept.len(),
        &config,
        &mut bar(args.json),
    )?;
    let found = Found { data: &data, classes: &classes, train: &train, test: &test, report: &report };
    match args.json {
        true => println!("{}", found.json(args, &backbone, &view)),
        false => found.print(started.elapsed().as_secs_f64()),
    }
    Ok(())
}

/// The classes that are evaluated, and those that cannot be.
struct Classes {
    /// Name and number in the data.
    kept: Vec<(String, usize)>,
    /// Name and why.
    left_out: Vec<(String, String)>,
    /// Of all that the data has.
    all: usize,
}

fn target(presence: &Presence) -> Target {
    match presence {
        Presence::Absent => Target::Absent,
        Presence::Present => Target::Present,
        Presence::Ignored => Target::Ignored,
    }
}

fn positives(targets: &[Target], class: usize, classes: usize) -> usize {
    targets.iter().skip(class).step_by(classes).filter(|t| **t == Target::Present).count()
}

impl Classes {
    fn of(data: &MultiLabelSet, fewest: usize, folds: usize) -> Self {
        let names = &data.understood.classes;
        let targets = |part: &MultiLabelPart| part.presence.iter().map(target).collect::<Vec<Target>>();
        let (train, test) = (targets(&data.train), targets(&data.test));
        let (mut kept, mut left_out) = (Vec::new(), Vec::new());
        for (class, name) in names.iter().enumerate() {
            let [learnt, tested] = [&train, &test].map(|of| positives(of, class, names.len()));
            let few = || {
                let why = format!("{learnt} training and {tested} test images show it, --min-positives {fewest}");
                (learnt < fewest || tested < fewest).then_some(why)
            };
            match unusable(&train, &test, class, names.len(), folds).or_else(few) {
                Some(why) => left_out.push((name.clone(), why)),
                None => kept.push((name.clone(), class)),
            }
        }
        Self { kept, left_out, all: names.len() }
    }

    /// Fails where no class is left.
    fn check(&self, data: &str) -> anyhow::Result<()> {
        if self.kept.is_empty() {
            let only =
                if self.all == 1 { "there is one class only" } else { "none of the classes can be evaluated" };
            bail!("{data}: {only}: {}", self.reasons(4));
        }
        Ok(())
    }

    fn reasons(&self, most: usize) -> String {
        let text = |(name, why): &(String, String)| format!("{name}: {why}");
        let shown: Vec<String> = self.left_out.iter().take(most).map(text).collect();
        let more = if self.left_out.len() > most { "; …" } else { "" };
        format!("{}{more}", shown.join("; "))
    }

    fn lines(&self) -> Vec<String> {
        match self.left_out.len() {
            0 => Vec::new(),
            1 => vec![format!("1 class is left out: {}", self.reasons(1))],
            n => vec![format!("{n} classes are left out: {}", self.reasons(3))],
        }
    }

    /// What the images at these places show of the classes kept, `[images, classes]`.
    fn targets(&self, part: &MultiLabelPart, is_there: &[bool]) -> Vec<Target> {
        let rows = part.presence.chunks_exact(self.all).zip(is_there).filter(|(_, there)| **there);
        rows.flat_map(|(row, _)| self.kept.iter().map(|(_, class)| target(&row[*class]))).collect()
    }
}

/// Features of a part's images, and what these show.
fn read(
    part: &MultiLabelPart,
    classes: &Classes,
    view: &View,
    (loaded, device): (&Loaded, &Chosen),
    is_quiet: bool,
) -> anyhow::Result<(Features, Vec<Target>)> {
    let network = Network { loaded, device };
    let indices = (0..part.source.len()).collect();
    let transform = view.clone();
    let prepare = move |_: usize, image: &ocelli::data::Image| Ok(vec![transform.planes(image)]);
    let features = network.features(&part.source, indices, prepare, &|x| view.features(&loaded.encoder, x))?;
    if features.count() == 0 {
        let first = features.bad.first().map(|bad| format!("; {}: {}", bad.name, bad.reason)).unwrap_or_default();
        bail!("none of the {} images could be read{first}", part.source.len());
    }
    if !is_quiet {
        features.warnings().for_each(|line| println!("{line}"));
    }
    let targets = classes.targets(part, &features.is_there);
    Ok((features, targets))
}

/// A bar that shows how many SVMs are done.
fn bar(is_quiet: bool) -> impl FnMut(usize, usize) {
    let bar = if is_quiet || talk::is_quiet() { ProgressBar::hidden() } else { ProgressBar::new(0) };
    if let Ok(style) = ProgressStyle::with_template("{bar:28} {pos}/{len} SVMs  {elapsed}") {
        bar.set_style(style.progress_chars("━╸─"));
    }
    move |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        if done == all {
            bar.finish_and_clear();
        }
    }
}

/// What was found, for people and for programs.
struct Found<'a> {
    data: &'a MultiLabelSet,
    classes: &'a Classes,
    train: &'a Features,
    test: &'a Features,
    report: &'a SvmReport,
}

impl Found<'_> {
    fn chance(&self) -> f64 {
        let of = &self.report.classes;
        of.iter().map(|c| c.chance).sum::<f64>() / of.len() as f64
    }

    fn print(&self, seconds: f64) {
        let width = self.classes.kept.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(5);
        println!("{:width$}     AP  chance  cost", "class");
        for ((name, _), result) in self.classes.kept.iter().zip(&self.report.classes) {
            let (ap, chance) = (100.0 * result.ap, 100.0 * result.chance);
            println!("{name:width$}  {ap:5.1}   {chance:5.1}  {}", costs::shown(result.cost));
        }
        println!(
            "mAP {:.2} % (chance {:.2} %) over {} of {} classes; {} training and {} test images; \
             SVMs in {seconds:.1} s",
            100.0 * self.report.map,
            100.0 * self.chance(),
            self.classes.kept.len(),
            self.classes.all,
            self.train.count(),
            self.test.count()
        );
        if self.report.not_converged > 0 {
            println!("warning: {} SVMs did not reach their optimum; please report it", self.report.not_converged);
        }
    }

    fn json(&self, args: &SvmArgs, backbone: &Loaded, view: &View) -> Value {
        let parts = [&self.data.train, &self.data.test];
        let class = |((name, number), result): (&(String, usize), &ocelli::eval::svm::ClassResult)| {
            let [train, test] = parts.map(|part| {
                let of = part.presence.iter().skip(*number).step_by(self.classes.all);
                of.filter(|p| **p == Presence::Present).count()
            });
            json!({ "name": name, "ap": 100.0 * result.ap, "chance": 100.0 * result.chance, "cost": result.cost,
                "train_positives": train, "test_positives": test,
                "cv_ap": result.cv_ap.iter().map(|ap| 100.0 * ap).collect::<Vec<_>>() })
        };
        let left_out = |(name, why): &(String, String)| json!({ "name": name, "why": why });
        let skipped = self.train.bad.iter().chain(&self.test.bad);
        json!({
            "data": self.data.understood,
            "weights": opening::fields(backbone, &backbone.size),
            "features": view.name(),
            "dim": self.train.dim,
            "fit": view.size(),
            "costs": args.costs.values,
            "costs_name": args.costs.name,
            "train": self.train.count(),
            "test": self.test.count(),
            "map": 100.0 * self.report.map,
            "chance": 100.0 * self.chance(),
            "classes": self.classes.kept.iter().zip(&self.report.classes).map(class).collect::<Vec<_>>(),
            "left_out": self.classes.left_out.iter().map(left_out).collect::<Vec<_>>(),
            "skipped": skipped.map(|bad| json!({ "name": bad.name, "reason": bad.reason })).collect::<Vec<_>>(),
            "not_converged": self.report.not_converged,
        })
    }
}
