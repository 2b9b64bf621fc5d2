//! `ocelli eval knn`.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use ocelli::data::{BadFile, DataSet, open_data};
use ocelli::eval::knn::{KnnConfig, knn};
use ocelli::models::weights::preprocessing::Preprocessing;
use ocelli::train::{Labelled, Loading, extract_features_and_bad, too_many};

use super::DeviceArgs;
use super::opening::{self, NormaliseArgs, SizeArgs};
use super::talk;

/// Measure weighted k-nearest-neighbour accuracy, by DINO's protocol
///
/// The features are the class token, or a ResNet's mean over its cells. A neighbour votes with the weight
/// exp(similarity/0.07).
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli eval knn --data imagenette --weights runs/first\n  ocelli eval knn --data scenes --weights runs/demo --k 5 20\n  ocelli eval knn --data photos --weights vit.pth --normalise half --size 0   # images as they are"
)]
pub struct KnnArgs {
    /// Labelled images: a folder with train/ and val/, a folder of class folders, CIFAR records, or `scenes`
    #[arg(long)]
    data: String,
    /// A run folder, a checkpoint, or a backbone (.safetensors, or PyTorch's .pth; see `ocelli weights`)
    #[arg(long)]
    weights: PathBuf,
    /// Numbers of neighbours
    #[arg(long, num_args = 1.., default_values_t = [10, 20, 100, 200])]
    k: Vec<usize>,
    /// Temperature of the votes
    #[arg(long, default_value_t = 0.07)]
    temperature: f64,
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

pub fn run(args: &KnnArgs) -> anyhow::Result<()> {
    let DataSet { train: source, val: test, understood } = open_data(&args.data)?;
    let device = args.device.open()?;
    let given = Preprocessing { size: args.size.given(), ..args.normalise.given()? };
    let loading = Loading { heads: args.heads, given, ..Loading::default() };
    let mut backbone = loading.open(&args.weights, &device.device)?;
    args.size.apply(&mut backbone.size);
    let mut config = backbone.eval_config();
    (config.eval.max_train, config.eval.max_test) = (0, 0);
    let Some(labelled) = Labelled::of(&source, test.as_ref(), &config.eval) else {
        let why = understood.why_no_knn().unwrap_or_else(|| "no k-NN: too few labelled images".into());
        bail!("{}: {why}; found {}", args.data, understood.lines().join("; "));
    };
    let no_neighbour = labelled.without_neighbour();
    let too_many = too_many(&args.k, labelled.train.1.len());
    if talk::notes(args.json) {
        for line in understood.lines() {
            println!("{line}");
        }
        println!("{}", opening::lines(&backbone, &device.name, &backbone.size.to_string()));
    }
    let train = extract_features_and_bad(&backbone.encoder, &labelled.train, &config, &device.device)?;
    let test = extract_features_and_bad(&backbone.encoder, &labelled.test, &config, &device.device)?;
    let skipped: Vec<&BadFile> = train.2.iter().chain(&test.2).collect();
    if !args.json {
        skipped.iter().for_each(|bad| println!("warning: skipped {}: {}", bad.name, bad.reason));
    }
    let knn_config = KnnConfig { ks: args.k.clone(), temperature: args.temperature, ..KnnConfig::default() };
    let report = knn(train.0, &train.1, test.0, &test.1, labelled.classes, &knn_config)?;
    if args.json {
        let rows: Vec<_> = report
            .results
            .iter()
            .map(|r| serde_json::json!({ "k": r.k, "top1": r.top1, "top5": r.top5 }))
            .collect();
        println!(
            "{}",
            serde_json::json!({ "data": understood, "queries_without_neighbour": no_neighbour, "warnings": too_many.iter().collect::<Vec<_>>(),
                "skipped": skipped.iter().map(|b| serde_json::json!({ "name": b.name, "reason": b.reason })).collect::<Vec<_>>(), "weights": opening::fields(&backbone, &backbone.size), "train": report.train_rows, "test": report.test_rows,
                "classes": report.classes, "temperature": report.temperature, "results": rows })
        );
        return Ok(());
    }
    println!("{} neighbours, {} queries, {} classes", report.train_rows, report.test_rows, report.classes);
    if let Some(warning) = too_many {
        println!("warning: {warning}");
    }
    if no_neighbour > 0 {
        println!("{no_neighbour} of the queries are of classes that no neighbour has: they count as wrong");
    }
    for r in &report.results {
        let top5 = r.top5.map(|t| format!("  top-5 {t:5.1} %")).unwrap_or_default();
        println!("k = {:<4} top-1 {:5.1} %{top5}", r.k, r.top1);
    }
    Ok(())
}
