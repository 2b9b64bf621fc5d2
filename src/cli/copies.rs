//! `ocelli eval copies`.

mod blocks;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use burn::tensor::Tensor;
use clap::Args;
use ocelli::data::views::{CropBox, Filter, resized_crop};
use ocelli::data::{FolderSource, Image, Source, normalise_into};
use ocelli::eval::copies::{BlockScore, SHORT_LIST, Whitening, describe, score};
use ocelli::eval::retrieval::Gallery;
use ocelli::models::weights::preprocessing::{EvalSize, Statistics, Told};
use ocelli::train::Loading;
use serde_json::{Value, json};

use super::DeviceArgs;
use super::extraction::{Features, Files, Network, Planes, read_back};
use super::opening::{self, NormaliseArgs};
use super::talk;
use blocks::{Block, Blocks, file_name};

/// Measure copy detection on Copydays, by DINO's protocol
///
/// Altered copies are used to find their originals. The features are the class token and the generalised mean (power
/// 4) of the patches; --whiten names a set to whiten them by. The result is mean average precision over the twenty
/// most similar images, for each block of alterations.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli eval copies --data copydays --weights dino_vitbase8_pretrain.pth --whiten yfcc-20k --distractors yfcc-10k\n  ocelli eval copies --data copydays --weights runs/first --size 224\n  ocelli eval copies --data copydays --weights random:vit-s/16 --json\n\nThe layout is Copydays': original/, strong/, jpegqual/3 … 75/, crops/10 … 80/. Missing blocks are left out,\nand the command names them."
)]
pub struct CopiesArgs {
    /// Copydays' folder
    #[arg(long)]
    data: PathBuf,
    /// A run folder, a checkpoint, a backbone (.safetensors, or PyTorch's .pth; see `ocelli weights`), or
    /// `random:ARCH`
    #[arg(long)]
    weights: PathBuf,
    /// Images from which the whitening is learnt; none may be from Copydays (published: 20,000)
    #[arg(long, value_name = "FOLDER")]
    whiten: Option<PathBuf>,
    /// Distractors, among which the originals must be found (published: 10,000)
    #[arg(long, value_name = "FOLDER")]
    distractors: Option<PathBuf>,
    /// Side in pixels that images are squeezed or stretched to
    #[arg(long, value_name = "PX", default_value_t = 320)]
    size: usize,
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

pub fn run(args: &CopiesArgs) -> anyhow::Result<()> {
    if !(1..=4096).contains(&args.size) {
        bail!("--size: expected a side from 1 to 4096 px, found {}", args.size);
    }
    let blocks = Blocks::open(&args.data)?;
    let folder = |flag: &str, path: &Option<PathBuf>| -> anyhow::Result<Option<Arc<dyn Source>>> {
        let Some(path) = path else { return Ok(None) };
        Ok(Some(Arc::new(FolderSource::open(path).with_context(|| flag.to_owned())?)))
    };
    let whiten = folder("--whiten", &args.whiten)?;
    let distractors = folder("--distractors", &args.distractors)?;
    let device = args.device.open()?;
    let loading = Loading { heads: args.heads, given: args.normalise.given()?, ..Loading::default() };
    let loaded = loading.open(&args.weights, &device.device)?;
    let told = format!("squeezed to {0}×{0} px (--size)", args.size);
    if talk::notes(args.json) {
        describe_data(args, &blocks, whiten.as_deref(), distractors.as_deref());
        println!("{}", opening::lines(&loaded, &device.name, &told));
    }
    let extraction = Extraction { network: Network { loaded: &loaded, device: &device }, size: args.size };
    let found = extraction.all(&blocks, whiten, distractors)?;
    let outcome = found.evaluate(&blocks)?;
    if args.json {
        let size = Told::new(EvalSize { resize_px: args.size, crop_px: args.size }, told);
        let mut fields = outcome.json(&blocks);
        fields["data"] = json!(args.data);
        fields["weights"] = opening::fields(&loaded, &size);
        println!("{fields}");
    } else {
        outcome.print();
    }
    Ok(())
}

fn describe_data(
    args: &CopiesArgs,
    blocks: &Blocks,
    whiten: Option<&dyn Source>,
    distractors: Option<&dyn Source>,
) {
    let images = |what: &str, source: Option<&dyn Source>, without: &str| match source {
        Some(source) => format!("{} {what}", source.len()),
        None => without.to_owned(),
    };
    println!(
        "data: {}, {} originals, {} blocks of altered images; {}; {}",
        args.data.display(),
        blocks.originals.len(),
        blocks.altered.len(),
        images("distractors", distractors, "no distractors (the published database has 10,000)"),
        images("images to whiten by", whiten, "no whitening (published: by 20,000 images)")
    );
    if !blocks.left_out.is_empty() {
        println!("left out, as there are no images: {}", blocks.left_out.join(", "));
    }
    blocks.notes.iter().for_each(|note| println!("{note}"));
}

/// How images become features.
struct Extraction<'a> {
    network: Network<'a>,
    size: usize,
}

/// Features of everything that takes part.
struct Extracted {
    originals: Features,
    blocks: Vec<Features>,
    distractors: Option<Features>,
    whiten: Option<Features>,
}

impl Extraction<'_> {
    fn all(
        &self,
        blocks: &Blocks,
        whiten: Option<Arc<dyn Source>>,
        distractors: Option<Arc<dyn Source>>,
    ) -> anyhow::Result<Extracted> {
        let files = |paths: &[PathBuf], block: &str| {
            let name = |path: &PathBuf| format!("{block}/{}", file_name(path));
            let files = Files { names: paths.iter().map(name).collect(), paths: paths.to_vec() };
            Arc::new(files) as Arc<dyn Source>
        };
        let originals = self.of(&files(&blocks.originals, "original"))?;
        if let Some(bad) = originals.bad.first() {
            bail!(
                "{}: {}; every original must be there, as the others are matched with them",
                bad.name,
                bad.reason
            );
        }
        let block = |block: &Block| self.of(&files(&block.paths, &block.name));
        Ok(Extracted {
            originals,
            blocks: blocks.altered.iter().map(block).collect::<anyhow::Result<_>>()?,
            distractors: distractors.map(|source| self.of(&source)).transpose()?,
            whiten: whiten.map(|source| self.of(&source)).transpose()?,
        })
    }

    fn of(&self, source: &Arc<dyn Source>) -> anyhow::Result<Features> {
        let (size, statistics) = (self.size as u32, self.network.loaded.statistics.value);
        let encoder = &self.network.loaded.encoder;
        let forward = |images: Tensor<4>| {
            let tokens = encoder.tokens(images);
            let [_, count, dim] = tokens.dims();
            let tokens = read_back(tokens)?;
            let features = tokens.chunks_exact(count * dim).map(|image| describe(image, dim));
            Ok(features.collect::<Result<Vec<_>, _>>()?.concat())
        };
        let indices = (0..source.len()).collect();
        self.network.features(
            source,
            indices,
            move |_, image| Ok(vec![squeezed(image, size, statistics)]),
            &forward,
        )
    }
}

/// An image as a square, whatever its shape: normalised planes.
fn squeezed(image: &Image, side: u32, statistics: Statistics) -> Planes {
    let square = resized_crop(image, CropBox::whole(image), side, side, Filter::Bicubic);
    let mut planes = vec![0.0; square.data.len()];
    normalise_into(&square, statistics.mean, statistics.std, &mut planes);
    (planes, side as usize, side as usize)
}

/// What came out.
struct Outcome {
    rows: Vec<(String, BlockScore)>,
    images: usize,
    whitening: Option<Whitening>,
    warnings: Vec<String>,
}

impl Extracted {
    /// Whitens and scores.
    fn evaluate(&self, blocks: &Blocks) -> anyhow::Result<Outcome> {
        let dim = self.originals.dim;
        let mut warnings = Vec::new();
        for features in self.blocks.iter().chain(&self.distractors).chain(&self.whiten) {
            warnings.extend(features.warnings());
        }
        let whitening = match &self.whiten {
            None => None,
            Some(set) if set.count() == 0 => bail!("--whiten: no image could be read; {}", first(&set.bad)),
            Some(set) => Some(Whitening::learn(&set.dense(), dim)?),
        };
        warnings.extend(whitening.as_ref().and_then(of_rank));
        let ready = |features: Vec<f32>| match &whitening {
            Some(whitening) => whitening.apply(&features),
            None => Ok(features),
        };
        let mut database = self.originals.rows.clone();
        database.extend(self.distractors.iter().flat_map(Features::dense));
        let images = database.len() / dim;
        let database = Gallery::new(ready(database)?, dim)?;
        let same = (0..self.originals.count() as u32).map(|i| vec![i]).collect::<Vec<_>>();
        let own = score(&ready(self.originals.rows.clone())?, &same, &database)?;
        let mut rows = vec![("original".to_owned(), own)];
        for (block, features) in blocks.altered.iter().zip(&self.blocks) {
            let there = block.originals.iter().zip(&features.is_there).filter(|(_, is_there)| **is_there);
            let originals: Vec<Vec<u32>> = there.map(|(of, _)| of.clone()).collect();
            if originals.is_empty() {
                bail!("{}: no image could be read; {}", block.name, first(&features.bad));
            }
            rows.push((block.name.clone(), score(&ready(features.dense())?, &originals, &database)?));
        }
        Ok(Outcome { rows, images, whitening, warnings })
    }
}

/// The first image that could not be read.
fn first(bad: &[ocelli::data::BadFile]) -> String {
    bad.first().map(|bad| format!("{}: {}", bad.name, bad.reason)).unwrap_or_default()
}

/// What a whitening set leaves open.
fn of_rank(whitening: &Whitening) -> Option<String> {
    let (images, dim, raised) = (whitening.images(), whitening.dim(), whitening.raised());
    match raised {
        0 => None,
        _ if images >= dim => Some(format!(
            "{raised} of {dim} directions hardly vary over the whitening set; they were given the smallest scale, as \
             published"
        )),
        _ => Some(format!(
            "warning: the whitening set has {images} images for features of {dim} numbers, so its rank is {images} at \
             most: {raised} directions are unknown to it and were given the smallest scale, which makes differences \
             along them count up to 316 times as much as along the largest. Scores usually fall; use at least {dim} \
             varied images (published: 20,000), or leave --whiten out"
        )),
    }
}

impl Outcome {
    fn print(&self) {
        println!(
            "{} images in the database; mAP over the {SHORT_LIST} most similar, µAP over all pairs",
            self.images
        );
        println!("{:<14}{:>8}{:>8}{:>10}", "block", "mAP", "µAP", "queries");
        for (name, score) in &self.rows {
            println!("{name:<14}{:>8.3}{:>8.3}{:>10}", score.map, score.micro_ap, score.per_query.len());
        }
        if let Some((_, score)) = self.rows.iter().find(|(name, _)| name == "strong") {
            println!("strong, as papers print it: mAP {:.1}", 100.0 * score.map);
        }
        self.warnings.iter().for_each(|line| println!("{line}"));
    }

    fn json(&self, blocks: &Blocks) -> Value {
        let row = |(name, score): &(String, BlockScore)| {
            let queries = score.per_query.len();
            json!({ "block": name, "map": score.map, "micro_ap": score.micro_ap, "queries": queries })
        };
        let whitening = self.whitening.as_ref().map(
            |w| json!({ "images": w.images(), "dim": w.dim(), "directions_raised_to_the_floor": w.raised() }),
        );
        json!({
            "protocol": "Copydays, DINO's",
            "database": self.images,
            "whitening": whitening,
            "results": self.rows.iter().map(row).collect::<Vec<_>>(),
            "left_out": blocks.left_out,
            "notes": blocks.notes,
            "warnings": self.warnings,
        })
    }
}
