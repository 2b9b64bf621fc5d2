//! `ocelli bench`: images a second in inference, architecture by architecture, beside the published ones.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ocelli::methods::{PUBLISHED_ARCHS, PublishedArch, published_arch};
use ocelli::models::BackboneArch;
use ocelli::train::memory::{Needs, gb};
use ocelli::train::{Bench, Phase, Throughput, TrainError, backbone_of, throughput};
use serde_json::{Value, json};

use super::DeviceArgs;
use super::talk;

/// Measure the inference speed of the backbones of DINO's table on this device
///
/// It counts images per second in f32: warm, the median of several passes, with the batch size that is fastest here.
/// The published figures of a V100 stand beside it. A network that does not fit into the memory is refused before it
/// is built.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli bench\n  ocelli bench --arch vit-s/16,vit-b/16 --batch 32\n  ocelli bench --json > bench.json && ocelli table --bench bench.json"
)]
pub struct BenchArgs {
    /// Backbones by name, beside ResNet-50, which the others are compared with (default: those of DINO's table)
    #[arg(long, value_delimiter = ',', value_parser = parse_arch)]
    arch: Vec<BackboneArch>,
    /// Images per pass (default: the fastest number)
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: Option<u32>,
    /// Side of the images, pixels
    #[arg(long, default_value_t = 224, value_parser = clap::value_parser!(u32).range(1..=4096))]
    size: u32,
    /// Seconds to measure each backbone. Choosing the batch takes as long again at most. At least three passes are
    /// measured
    #[arg(long, default_value_t = 5.0, value_parser = parse_seconds)]
    seconds: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

fn parse_arch(name: &str) -> Result<BackboneArch, String> {
    name.parse().map_err(|e: ocelli::models::BackboneError| e.to_string())
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|s| (0.0..=3600.0).contains(s));
    seconds.ok_or_else(|| format!("expected seconds from 0 to 3600, found \"{text}\""))
}

/// A backbone and what became of it.
struct Row {
    arch: BackboneArch,
    published: Option<&'static PublishedArch>,
    parameters: usize,
    measured: Result<Throughput, TrainError>,
}

pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let archs = archs(args)?;
    let chosen = args.device.open()?;
    let size_px = args.size as usize;
    let bench = Bench { size_px, batch: args.batch.map(|b| b as usize), seconds: args.seconds };
    let bar = bar(archs.len());
    let say = |text: &str| {
        if !args.json {
            bar.suspend(|| println!("{text}"));
        }
    };
    say(&format!("inference in f32 of images of {size_px} px on {} ({})", chosen.name, chosen.reason));
    let width = archs.iter().map(|a| a.to_string().len()).max().unwrap_or(0);
    say(&header(width));
    let mut rows: Vec<Row> = Vec::new();
    for (i, arch) in archs.into_iter().enumerate() {
        let backbone = backbone_of(&arch, size_px);
        let name = arch.to_string();
        let mut tell = |phase: Phase, share: f64| {
            bar.set_position(100 * i as u64 + (100.0 * share) as u64);
            bar.set_message(format!("{name}  {}", words(phase)));
        };
        let measured = throughput(&backbone, &chosen, &bench, &mut tell);
        match measured {
            Ok(_) | Err(TrainError::DoesNotFit { .. } | TrainError::OutOfMemory { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let row = Row { published: published_arch(&name), parameters: backbone.num_parameters(), measured, arch };
        let reference = speed(rows.first().unwrap_or(&row));
        say(&line(&row, reference, width));
        rows.push(row);
    }
    bar.finish_and_clear();
    if args.json {
        let rows: Vec<Value> = rows.iter().map(|row| object(row, speed(&rows[0]), args)).collect();
        let all = json!({
            "ocelli": env!("CARGO_PKG_VERSION"),
            "device": chosen.name,
            "size_px": size_px,
            "seconds": args.seconds,
            "rows": rows,
        });
        println!("{}", serde_json::to_string_pretty(&all)?);
    }
    // Asked for by name, and not done.
    let refused = rows.into_iter().filter(|row| args.arch.contains(&row.arch)).find_map(|row| row.measured.err());
    refused.map_or(Ok(()), |error| Err(error.into()))
}

/// The reference first, then the others from small to large, none twice: what a network leaves with the allocator is then
/// little beside the next one.
fn archs(args: &BenchArgs) -> anyhow::Result<Vec<BackboneArch>> {
    let mut archs: Vec<BackboneArch> = vec![PUBLISHED_ARCHS[0].arch.parse()?];
    let asked = match args.arch.is_empty() {
        true => PUBLISHED_ARCHS.iter().map(|a| a.arch.parse()).collect::<Result<_, _>>()?,
        false => args.arch.clone(),
    };
    for arch in asked {
        if !archs.contains(&arch) {
            archs.push(arch);
        }
    }
    archs[1..].sort_by_key(|arch| backbone_of(arch, args.size as usize).num_parameters());
    for arch in &archs {
        let cell = backbone_of(arch, args.size as usize).cell_px();
        if let BackboneArch::Vit(_) = arch
            && (args.size as usize) < cell
        {
            bail!("--size: expected at least {cell} px, a patch of {arch}, found {}", args.size);
        }
    }
    Ok(archs)
}

/// A bar of so many parts of 100 each.
pub fn bar(parts: usize) -> ProgressBar {
    let target = if talk::is_quiet() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(100 * parts as u64), target);
    if let Ok(style) = ProgressStyle::with_template("{bar:28} {percent:>3}%  {msg}  {elapsed}") {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

fn words(phase: Phase) -> String {
    match phase {
        Phase::Building => "is being built".into(),
        Phase::Trying(batch) => format!("batch {batch}"),
        Phase::Measuring(batch, speed) => format!("batch {batch}  {} img/s", number(speed)),
    }
}

fn speed(row: &Row) -> Option<f64> {
    row.measured.as_ref().ok().map(|m| m.images_per_second)
}

/// Whole numbers from 100 on, else three digits.
fn number(value: f64) -> String {
    match value {
        v if v >= 99.95 => format!("{v:.0}"),
        v if v >= 9.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

fn header(width: usize) -> String {
    let (arch, table) = ("architecture", "in the table");
    let width = width.max(arch.len());
    format!(
        "{arch:width$}  {table:12}  {:>9}  {:>8}  {:>7}  {:>5}  {:>8}   {:>9}  {:>7}",
        "params, M", "im/s", "of RN50", "batch", "memory", "V100 im/s", "of RN50"
    )
}

fn line(row: &Row, reference: Option<f64>, width: usize) -> String {
    let width = width.max("architecture".len());
    let dash = || "–".to_owned();
    let start = format!(
        "{:width$}  {:12}  {:>9.2}",
        row.arch.to_string(),
        row.published.map_or("–", |p| p.label),
        row.parameters as f64 / 1e6
    );
    let measured = match &row.measured {
        Ok(m) => format!(
            "{:>8}  {:>7}  {:>5}  {:>8}",
            number(m.images_per_second),
            reference.map_or_else(dash, |r| format!("{:.3}", m.images_per_second / r)),
            m.batch,
            m.memory_bytes.map_or_else(dash, gb),
        ),
        Err(_) => format!("{:>8}  {:>7}  {:>5}  {:>8}", "refused", "–", "–", "–"),
    };
    let first = f64::from(PUBLISHED_ARCHS[0].images_per_second);
    let published = row
        .published
        .map(|p| format!("{:>9}  {:>7.3}", p.images_per_second, f64::from(p.images_per_second) / first));
    let published = published.unwrap_or_else(|| format!("{:>9}  {:>7}", "–", "–"));
    let why = row.measured.as_ref().err().map(|error| format!("\n  {}: {error}", row.arch)).unwrap_or_default();
    format!("{start}  {measured}   {published}{why}")
}

fn object(row: &Row, reference: Option<f64>, args: &BenchArgs) -> Value {
    let first = f64::from(PUBLISHED_ARCHS[0].images_per_second);
    let measured = row.measured.as_ref().ok();
    let batch = args.batch.unwrap_or(1) as usize;
    let needs = Needs::inference(
        &backbone_of(&row.arch, args.size as usize),
        measured.map_or(batch, |m| m.batch),
        args.size as usize,
    );
    json!({
        "arch": row.arch.to_string(),
        "parameters": row.parameters,
        "images_per_second": measured.map(|m| m.images_per_second),
        "of_resnet_50": measured.and_then(|m| Some(m.images_per_second / reference?)),
        "batch": measured.map(|m| m.batch),
        "passes": measured.map(|m| m.passes),
        "memory_bytes": measured.and_then(|m| m.memory_bytes),
        "estimated_bytes": needs.bytes,
        "refused": row.measured.as_ref().err().map(ToString::to_string),
        "published": row.published.map(|p| json!({
            "label": p.label,
            "parameters_m": p.parameters_m,
            "device": "V100",
            "images_per_second": p.images_per_second,
            "of_resnet_50": f64::from(p.images_per_second) / first,
        })),
    })
}
