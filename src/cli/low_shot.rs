//! `ocelli eval low-shot`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use ocelli::data::{BadFile, DataSet, Image, Source, open_data};
use ocelli::eval::accuracy::accuracy;
use ocelli::eval::low_shot::{LogisticConfig, fit};
use ocelli::models::weights::preprocessing::Preprocessing;
use ocelli::models::{Backbone as _, Mode};
use ocelli::train::device::Chosen;
use ocelli::train::{Labelled, Loaded, Loading, eval_transform};
use serde_json::{Value, json};

use super::DeviceArgs;
use super::extraction::{Features, Network, read_back};
use super::opening::{self, NormaliseArgs, SizeArgs};
use super::talk;

mod draw;

use draw::{Draw, Labels};

/// Measure the accuracy with 1 % and 10 % of the labels
///
/// This is DINO's protocol: features as for k-NN, divided by their length, and multinomial logistic regression
/// without a bias at λ = 0.1/n. Images are drawn from each class separately. Several draws show how much the figure
/// depends on chance.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli eval low-shot --data imagenette --weights runs/first\n  ocelli eval low-shot --data imagenette --weights runs/first --per-class 1 5 20 --draws 10\n  ocelli eval low-shot --data imagenet --weights vits16.pth --list 1percent.txt   # the published images"
)]
pub struct LowShotArgs {
    /// Labelled images: a folder with train/ and val/, a folder of class folders, CIFAR records, or `scenes`
    #[arg(long)]
    data: String,
    /// A run folder, a checkpoint, or a backbone (.safetensors, or PyTorch's .pth; see `ocelli weights`)
    #[arg(long)]
    weights: PathBuf,
    /// Shares of the training labels, per cent; at least one image of each class
    #[arg(long, num_args = 1.., default_values_t = [1.0, 10.0], value_name = "PERCENT")]
    #[arg(allow_negative_numbers = true)]
    #[arg(conflicts_with_all = ["per_class", "list"])]
    share: Vec<f64>,
    /// Number of images per class, instead of a share
    #[arg(long, num_args = 1.., value_name = "IMAGES", conflicts_with = "list")]
    per_class: Vec<usize>,
    /// A file with the names of the training images to use instead, one a line: paths below the data, or names
    /// alone
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// Regularisation: λ times the number of training images
    #[arg(long, num_args = 1.., default_values_t = [0.1], value_name = "LAMBDA", allow_negative_numbers = true)]
    lambda: Vec<f64>,
    /// Number of draws
    #[arg(long, default_value_t = 3, conflicts_with = "list")]
    draws: usize,
    /// Seed of the draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
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

impl LowShotArgs {
    fn check(&self) -> anyhow::Result<()> {
        let share = self.share.iter().find(|s| !(**s > 0.0 && **s <= 100.0));
        ensure!(
            share.is_none(),
            "--share: expected numbers above 0 and up to 100, found {}",
            share.unwrap_or(&0.0)
        );
        let lambda = self.lambda.iter().find(|l| !(l.is_finite() && **l > 0.0));
        ensure!(lambda.is_none(), "--lambda: expected numbers above 0, found {}", lambda.unwrap_or(&0.0));
        ensure!(self.draws > 0, "--draws: expected at least 1, found 0");
        ensure!(!self.per_class.contains(&0), "--per-class: expected at least 1, found 0");
        Ok(())
    }

    fn labels(&self) -> Vec<Labels> {
        match (&self.list, self.per_class.is_empty()) {
            (Some(list), _) => vec![Labels::Listed(list.clone())],
            (None, false) => self.per_class.iter().map(|n| Labels::PerClass(*n)).collect(),
            (None, true) => self.share.iter().map(|s| Labels::Share(*s)).collect(),
        }
    }
}

pub fn run(args: &LowShotArgs) -> anyhow::Result<()> {
    args.check()?;
    let DataSet { train: source, val, understood } = open_data(&args.data)?;
    let device = args.device.open()?;
    let given = Preprocessing { size: args.size.given(), ..args.normalise.given()? };
    let loading = Loading { heads: args.heads, given, ..Loading::default() };
    let mut backbone = loading.open(&args.weights, &device.device)?;
    args.size.apply(&mut backbone.size);
    let mut config = backbone.eval_config();
    (config.eval.max_train, config.eval.max_test) = (0, 0);
    let found = || understood.lines().join("; ");
    let Some(labelled) = Labelled::of(&source, val.as_ref(), &config.eval) else {
        bail!("{}: expected labelled images, a folder for each class; found {}", args.data, found());
    };
    let known: BTreeSet<u32> = labelled.train.1.iter().filter_map(|i| source.label(*i)).collect();
    ensure!(known.len() > 1, "{}: expected two classes or more, found one; {}", args.data, found());
    let mut results = Vec::new();
    for labels in args.labels() {
        let draws = if args.list.is_some() { 1 } else { args.draws };
        let drawn = (0..draws).map(|draw| labels.draw(&labelled.train, args.seed, draw as u64));
        results.push((labels.clone(), drawn.collect::<anyhow::Result<Vec<Draw>>>()?));
    }
    if talk::notes(args.json) {
        understood.lines().iter().for_each(|line| println!("{line}"));
        println!("{}", opening::lines(&backbone, &device.name, &backbone.size.to_string()));
    }
    let drawn: BTreeSet<usize> =
        results.iter().flat_map(|(_, draws)| draws).flat_map(|d| d.images.iter().copied()).collect();
    let network = (&backbone, &device);
    let train = Rows::of(&labelled.train.0, drawn.into_iter().collect(), network)?;
    let test = Rows::of(&labelled.test.0, labelled.test.1.clone(), network)?;
    let skipped: Vec<&BadFile> = train.bad.iter().chain(&test.bad).collect();
    if !args.json {
        skipped.iter().for_each(|bad| println!("warning: skipped {}: {}", bad.name, bad.reason));
    }
    let strangers = test.labels.iter().filter(|label| !known.contains(label)).count();
    let mut rows = Vec::new();
    for (labels, draws) in &results {
        for lambda in &args.lambda {
            rows.push(Row::of(labels, draws, *lambda, labelled.classes, (&train, &test))?);
        }
    }
    if args.json {
        let bad = |bad: &&BadFile| json!({ "name": bad.name, "reason": bad.reason });
        let found = json!({
            "data": understood,
            "weights": opening::fields(&backbone, &backbone.size),
            "test": test.labels.len(),
            "classes": known.len(),
            "seed": args.seed,
            "queries_of_unknown_classes": strangers,
            "skipped": skipped.iter().map(bad).collect::<Vec<_>>(),
            "results": rows.iter().map(Row::json).collect::<Vec<_>>(),
        });
        println!("{found}");
        return Ok(());
    }
    println!("{} classes, {} test images", known.len(), test.labels.len());
    if strangers > 0 {
        println!("{strangers} of the test images are of classes that no training image has: they count as wrong");
    }
    rows.iter().for_each(|row| println!("{row}"));
    Ok(())
}

/// Features and labels of the images that could be read.
struct Rows {
    dim: usize,
    values: Vec<f32>,
    labels: Vec<u32>,
    /// Their numbers in the source, ascending where these were.
    indices: Vec<usize>,
    bad: Vec<BadFile>,
}

impl Rows {
    fn of(
        source: &Arc<dyn Source>,
        indices: Vec<usize>,
        (loaded, device): (&Loaded, &Chosen),
    ) -> anyhow::Result<Self> {
        let transform = eval_transform(&loaded.eval_config());
        let prepare = move |_: usize, image: &Image| {
            let (pixels, width, height) = transform.apply_normalised(image);
            Ok(vec![(pixels, height as usize, width as usize)])
        };
        let network = Network { loaded, device };
        let forward = |x| read_back(loaded.encoder.features(x, Mode::Eval));
        let features: Features = network.features(source, indices.clone(), prepare, &forward)?;
        let first = features.bad.first().map(|bad| format!("; {}: {}", bad.name, bad.reason)).unwrap_or_default();
        ensure!(features.count() > 0, "none of {} images could be read{first}", indices.len());
        let kept: Vec<usize> =
            indices.into_iter().zip(&features.is_there).filter(|(_, there)| **there).map(|(i, _)| i).collect();
        Ok(Self {
            dim: features.dim,
            values: features.dense(),
            labels: kept.iter().map(|i| source.label(*i).unwrap_or_default()).collect(),
            indices: kept,
            bad: features.bad,
        })
    }

    /// Features and labels of some images, of those that could be read.
    fn some(&self, images: &[usize]) -> (Vec<f32>, Vec<u32>) {
        let places: Vec<usize> = images.iter().filter_map(|i| self.indices.binary_search(i).ok()).collect();
        let values = places.iter().flat_map(|at| &self.values[at * self.dim..(at + 1) * self.dim]).copied();
        (values.collect(), places.iter().map(|at| self.labels[*at]).collect())
    }
}

/// Accuracy with some labels at one λ.
struct Row {
    labels: Labels,
    lambda: f64,
    /// Images of the draws, each.
    images: Vec<usize>,
    /// Classes of which no image was drawn.
    without: usize,
    top1: Vec<f64>,
    top5: Vec<f64>,
}

impl Row {
    fn of(
        labels: &Labels,
        draws: &[Draw],
        lambda: f64,
        classes: usize,
        (train, test): (&Rows, &Rows),
    ) -> anyhow::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let config = LogisticConfig { lambda_times_n: lambda, threads, ..LogisticConfig::default() };
        let mut row = Self {
            labels: labels.clone(),
            lambda,
            images: Vec::new(),
            without: draws.iter().map(|d| d.classes_without).max().unwrap_or(0),
            top1: Vec::new(),
            top5: Vec::new(),
        };
        for draw in draws {
            let (values, of) = train.some(&draw.images);
            ensure!(!of.is_empty(), "{labels}: none of the images that were drawn could be read");
            let fitted = fit(&values, &of, classes, &config).with_context(|| labels.to_string())?;
            let found = accuracy(&fitted.logits(&test.values, threads)?, classes, &test.labels)?;
            row.images.push(of.len());
            row.top1.push(found.top1);
            row.top5.extend(found.top5);
        }
        Ok(row)
    }

    fn json(&self) -> Value {
        let [(top1, top1_std), (top5, top5_std)] = [&self.top1, &self.top5].map(|of| (mean(of), deviation(of)));
        let (share, per_class) = match self.labels {
            Labels::Share(share) => (Some(share), None),
            Labels::PerClass(n) => (None, Some(n)),
            Labels::Listed(_) => (None, None),
        };
        json!({
            "labels": self.labels.to_string(),
            "share": share,
            "per_class": per_class,
            "lambda_times_n": self.lambda,
            "images": self.images,
            "classes_without_images": self.without,
            "top1": top1,
            "top1_std": top1_std,
            "top5": top5,
            "top5_std": top5_std,
            "draws": self.top1,
        })
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The standard deviation that several draws let expect.
fn deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() > 1)?;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let figure = |name: &str, of: &[f64]| {
            let spread = deviation(of).map(|d| format!(" ± {d:.1}")).unwrap_or_default();
            mean(of).map(|mean| format!("  {name} {mean:5.1} %{spread}")).unwrap_or_default()
        };
        let images = self.images.first().copied().unwrap_or(0);
        write!(f, "{}, {images} images, λ·n {}:", self.labels, self.lambda)?;
        write!(f, "{}{}", figure("top-1", &self.top1), figure("top-5", &self.top5))?;
        if self.top1.len() > 1 {
            write!(f, "  ({} draws)", self.top1.len())?;
        }
        match self.without {
            0 => Ok(()),
            n => write!(f, "  ({n} classes have no image there)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_those_of_a_sample() {
        assert_eq!((mean(&[1.0, 3.0]), deviation(&[1.0, 3.0])), (Some(2.0), Some(2.0f64.sqrt())));
        assert_eq!((mean(&[]), deviation(&[4.0])), (None, None));
    }
}
