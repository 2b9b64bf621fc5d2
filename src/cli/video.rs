//! `ocelli eval video`.

mod drawing;
mod masks;
mod print;
mod sequence;
mod tree;

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ocelli::eval::video::{DAVIS_STD, PropagationConfig};
use ocelli::models::weights::preprocessing::{EvalSize, Preprocessing, Statistics, Told};
use ocelli::train::{Loaded, Loading};

use super::opening::{self, NormaliseArgs};
use super::talk;
use super::{DeviceArgs, images};
use sequence::{Outcome, Runner};
use tree::{Tree, Wanted, Year};

/// Measure video object segmentation on DAVIS by label propagation: J and F
///
/// This is DINO's protocol. The first frame's mask is carried through the video by the similarity of frozen patch
/// features. The results are region J, boundary F and their mean, for each sequence and for all objects.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli eval video --data DAVIS --weights dino_deitsmall16_pretrain.pth --out masks\n  ocelli eval video --data DAVIS --weights runs/first --sequence blackswan dog --json\n  ocelli eval video --data DAVIS --weights random:vit-s/16   # what an untrained network gets\n\nThe tree is DAVIS's: JPEGImages/480p/SEQUENCE/00000.jpg, Annotations/480p/SEQUENCE/00000.png, ImageSets/2017/val.txt.\n--out writes SEQUENCE/00000.png in DAVIS's palette, as its own evaluation and server read them, and SEQUENCE.png with frames, truth and prediction side by side."
)]
pub struct VideoArgs {
    /// DAVIS's folder, with JPEGImages and Annotations
    #[arg(long)]
    data: PathBuf,
    /// A run folder, a checkpoint, a backbone (.safetensors, or PyTorch's .pth; see `ocelli weights`), or
    /// `random:ARCH`
    #[arg(long)]
    weights: PathBuf,
    /// What the masks hold (default: by ImageSets, else by the first mask)
    #[arg(long, value_enum)]
    year: Option<Year>,
    /// The list of sequences in ImageSets (default: val; without ImageSets, every sequence)
    #[arg(long)]
    split: Option<String>,
    /// Only these sequences, whatever the lists say
    #[arg(long, num_args = 1..)]
    sequence: Vec<String>,
    /// Take every Nth frame
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_1)]
    stride: usize,
    /// Largest number of frames per sequence (0: all)
    #[arg(long, default_value_t = 0)]
    frames: usize,
    /// Folder for masks and pictures (replaces those that Ocelli wrote, no other file); without it only scores are
    /// printed
    #[arg(long)]
    out: Option<PathBuf>,
    /// Short side of the frames for the network in pixels; the long side is cut to a multiple of 64
    #[arg(long, value_name = "PX", default_value_t = 480)]
    size: usize,
    /// Number of previous frames that labels come from, besides the first frame
    #[arg(long, value_name = "N", default_value_t = 7)]
    last_frames: usize,
    /// Radius, in cells, from which a cell takes its labels (0: the whole frame)
    #[arg(long, default_value_t = 12)]
    radius: usize,
    /// Number of cells from which a cell takes its label
    #[arg(long, value_name = "K", default_value_t = 5)]
    top_k: usize,
    /// Temperature of the affinity
    #[arg(long, default_value_t = 0.1)]
    temperature: f64,
    /// Pixels per cell of a ResNet: 32, or 16 or 8 by dilation (0: 32)
    #[arg(long, value_name = "PX", default_value_t = 0)]
    cell: usize,
    /// Number of attention heads, if the weights do not say
    #[arg(long)]
    heads: Option<usize>,
    #[command(flatten)]
    normalise: NormaliseArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

fn at_least_1(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "expected a whole number of at least 1".to_owned())
}

pub fn run(args: &VideoArgs) -> anyhow::Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let config = PropagationConfig {
        last_frames: args.last_frames,
        radius: args.radius,
        top_k: args.top_k,
        temperature: args.temperature,
        threads,
    };
    config.validate()?;
    let wanted = Wanted {
        year: args.year,
        split: args.split.as_deref(),
        sequences: &args.sequence,
        stride: args.stride,
        frames: args.frames,
    };
    let tree = Tree::open(&args.data, &wanted)?;
    let scored = tree.sequences.iter().filter(|sequence| sequence.is_scored()).count();
    if scored == 0 && args.out.is_none() {
        bail!(
            "{}: no sequence has masks to compare with (of 3 frames or more, all but the last); --out FOLDER writes \
             the masks without scores",
            args.data.display()
        );
    }
    let device = args.device.open()?;
    let given = args.normalise.given()?;
    let exact = given.statistics.as_ref().is_some_and(|told| told.source.starts_with("--mean"));
    let loading = Loading {
        heads: args.heads,
        stride_px: args.cell,
        given: Preprocessing { size: None, ..given },
        ..Loading::default()
    };
    let mut net = loading.open(&args.weights, &device.device)?;
    if !exact {
        davis_statistics(&mut net);
    }
    let size = Told::new(
        EvalSize { resize_px: args.size, crop_px: 0 },
        if args.size == 480 { "DAVIS's protocol; the long side cut to a multiple of 64" } else { "--size" },
    );
    let runner = Runner {
        net: &net,
        device: &device.device,
        config,
        short_px: args.size,
        year: tree.year,
        out: args.out.as_deref(),
    };
    // Whatever would stop it later is found before the first frame.
    for sequence in &tree.sequences {
        runner.check(sequence)?;
    }
    if talk::notes(args.json) {
        println!("{}", tree.understood);
        println!("{}", opening::lines(&net, &device.name, &size.to_string()));
    }
    let bar = bar(tree.sequences.iter().map(|s| s.frames.len()).sum());
    let mut outcomes = Vec::new();
    for sequence in &tree.sequences {
        bar.set_message(sequence.name.clone());
        let outcome = runner.run(sequence, &bar)?;
        if !args.json {
            bar.suspend(|| print::sequence(&outcome));
        }
        outcomes.push(outcome);
    }
    bar.finish_and_clear();
    report(args, &tree, &net, &size, &config, &outcomes)
}

fn report(
    args: &VideoArgs,
    tree: &Tree,
    net: &Loaded,
    size: &Told<EvalSize>,
    config: &PropagationConfig,
    outcomes: &[Outcome],
) -> anyhow::Result<()> {
    let overall = print::Overall::of(outcomes)?;
    if args.json {
        let json = serde_json::json!({
            "data": args.data, "understood": tree.understood, "year": tree.year.number(), "stride": args.stride,
            "weights": opening::fields(net, size),
            "protocol": {
                "last_frames": config.last_frames, "radius": config.radius, "top_k": config.top_k,
                "temperature": config.temperature, "cell_px": net.stride_px,
            },
            "sequences": outcomes.iter().map(print::json).collect::<Vec<_>>(),
            "overall": overall.json(), "out": args.out,
        });
        println!("{json}");
        return Ok(());
    }
    overall.print();
    if let Some(out) = &args.out {
        println!("masks and pictures: {}", out.display());
    }
    if !net.description.starts_with("random ") {
        println!("what an untrained network gets: the same with --weights random:{}", net.arch());
    }
    Ok(())
}

/// The published evaluation divides by a deviation of its own, next to ImageNet's; weights that want another keep
/// it.
fn davis_statistics(net: &mut Loaded) {
    let told = &mut net.statistics;
    if told.value == Statistics::IMAGENET {
        told.value.std = DAVIS_STD;
        told.source =
            format!("{}: ImageNet's, with 0.228 for 0.229 as the published evaluation has it", told.source);
    }
}

fn bar(frames: usize) -> ProgressBar {
    let bar = images::bar(frames, false);
    if let Ok(style) = ProgressStyle::with_template("{bar:28} {pos}/{len} frames  {msg}  {per_sec}  ETA {eta}") {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar
}
