//! `ocelli embed`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use burn::tensor::{Tensor, TensorData};
use clap::{Args, ValueEnum};
use ocelli::data::{EvalBatches, EvalConfig, Source as _};
use ocelli::eval::features::{FeatureTable, Pooling, TableFormat, encode, names_txt};
use ocelli::models::weights::preprocessing::Preprocessing;
use ocelli::train::{Loading, eval_transform, pooled_features};
use serde_json::json;

use super::DeviceArgs;
use super::images::{self, Named};
use super::opening::{self, NormaliseArgs, SizeArgs};
use super::outputs;
use super::talk;

/// Images through the network at once.
const BATCH: usize = 32;

/// Write the features of images to a file
///
/// The ending of --out chooses the format: .safetensors, .npy (the names go to a .txt beside it) or .csv.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli embed photos --weights runs/first --out features.npy\n  ocelli embed a.jpg b.jpg --weights weights.safetensors --features patches --out patches.safetensors"
)]
pub struct EmbedArgs {
    /// Images, folders of images, or `scenes[:COUNT]`
    #[arg(required = true)]
    images: Vec<String>,
    /// A run folder, a checkpoint, or a backbone (.safetensors, or PyTorch's .pth; see `ocelli weights`)
    #[arg(long)]
    weights: PathBuf,
    /// The file to write. Its ending chooses the format
    #[arg(long)]
    out: PathBuf,
    /// Replace the file if there is one
    #[arg(long)]
    overwrite: bool,
    /// Which features
    #[arg(long, value_enum, default_value_t = Features::Cls)]
    features: Features,
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

#[derive(Clone, Copy, ValueEnum)]
enum Features {
    /// The class token; of a ResNet, the mean of its cells
    Cls,
    /// The mean of the patch tokens (of a ResNet, of its cells)
    MeanPatch,
    /// Every patch token (of a ResNet, every cell)
    Patches,
}

pub fn run(args: &EmbedArgs) -> anyhow::Result<()> {
    let extension = args.out.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let Some(format) = TableFormat::from_extension(extension) else {
        bail!("--out {}: expected a file ending in .safetensors, .npy or .csv", args.out.display());
    };
    let names = args.out.with_extension("txt");
    outputs::check_new(&args.out, args.overwrite)?;
    if format == TableFormat::Npy {
        outputs::check_new(&names, args.overwrite)?;
    }
    let inputs = Arc::new(Named::list(&args.images, 0)?);
    if talk::notes(args.json) {
        inputs.lines().iter().for_each(|line| println!("{line}"));
    }
    let device = args.device.open()?;
    let given = Preprocessing { size: args.size.given(), ..args.normalise.given()? };
    let loading = Loading { heads: args.heads, given, ..Loading::default() };
    let mut backbone = loading.open(&args.weights, &device.device)?;
    args.size.apply(&mut backbone.size);
    if talk::notes(args.json) {
        println!("{}", opening::lines(&backbone, &device.name, &backbone.size.to_string()));
    }
    let pooling = match args.features {
        Features::Cls => Pooling::Cls,
        Features::MeanPatch => Pooling::MeanPatch,
        Features::Patches => Pooling::Patches,
    };
    let transform = eval_transform(&backbone.eval_config());
    let config = EvalConfig { transform, batch_size: BATCH, threads: 0 };
    let mut batches = EvalBatches::all(inputs.clone(), config)?;
    let mut table: Option<FeatureTable> = None;
    let bar = images::bar(inputs.len(), args.json);
    for batch in batches.by_ref() {
        let batch = batch?;
        let shape = [batch.indices.len(), 3, batch.height as usize, batch.width as usize];
        let pixels = Tensor::from_data(TensorData::new(batch.data, shape), &device.device);
        let pooled = pooled_features(&backbone.encoder, pixels, pooling)?;
        let table = match &mut table {
            Some(table) => table,
            empty => empty.insert(FeatureTable::new(pooling, pooled.rows, pooled.dim)?),
        };
        let names: Vec<String> = batch.indices.iter().map(|i| inputs.name(*i)).collect();
        table.extend(&names, &pooled.values)?;
        bar.inc(names.len() as u64);
    }
    bar.finish_and_clear();
    let skipped = batches.bad_files();
    for bad in skipped.iter().filter(|_| !args.json) {
        println!("warning: skipped {}: {}", bad.name, bad.reason);
    }
    let table = table.with_context(|| match skipped.first() {
        Some(bad) => format!("no image could be read; the first: {}: {}", bad.name, bad.reason),
        None => "no image could be read".to_owned(),
    })?;
    outputs::write(&args.out, &encode(format, &table)?)?;
    if format == TableFormat::Npy {
        outputs::write(&names, names_txt(&table).as_bytes())?;
    }
    let done = inputs.len() - skipped.len();
    if args.json {
        let skipped: Vec<_> = skipped.iter().map(|b| json!({ "name": b.name, "reason": b.reason })).collect();
        println!(
            "{}",
            json!({ "weights": opening::fields(&backbone, &backbone.size), "images": done, "shape": table.shape(),
                "out": args.out, "skipped": skipped })
        );
        return Ok(());
    }
    println!("{:?} features of {done} images: {}", table.shape(), args.out.display());
    Ok(())
}
