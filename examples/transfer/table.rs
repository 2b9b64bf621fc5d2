//! The table in Markdown, and its place in the documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use ocelli::train::device::Chosen;
use serde_json::Value;

use super::flags::{Args, Kind};
use super::{Cell, Data, ROWS, cores};

/// A data set without the folders above it, which are somebody's own.
fn short_name(data: &str) -> String {
    let named = data.trim_end_matches('/');
    Path::new(named).file_name().map_or_else(|| named.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Where the table goes in the documentation: the text before, and the text after.
pub fn place(docs: &Path, data: &str) -> anyhow::Result<(String, String)> {
    let text = std::fs::read_to_string(docs).with_context(|| format!("{}: cannot read it", docs.display()))?;
    let named = short_name(data);
    let named = named.split(':').next().unwrap_or_default();
    let (begin, end) = (format!("<!-- table of {named} -->\n"), format!("<!-- end of table of {named} -->"));
    let missing = || {
        format!(
            "{}: expected the lines {} and {end}; --no-docs leaves the file alone",
            docs.display(),
            begin.trim_end()
        )
    };
    let (before, rest) = text.split_once(&begin).with_context(missing)?;
    let (_, after) = rest.split_once(&end).with_context(missing)?;
    Ok((format!("{before}{begin}"), format!("{end}{after}")))
}

/// `mean ± standard deviation` over seeds.
fn spread(values: &[f64], signed: bool) -> String {
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    let shown = if signed { format!("{mean:+.1}") } else { format!("{mean:.1}") };
    if values.len() < 2 {
        return shown;
    }
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64;
    format!("{shown} ± {:.1}", variance.sqrt())
}

/// The table and what it was made with.
pub fn table(args: &Args, data: &Data, done: &BTreeMap<String, Value>, device: &Chosen) -> String {
    let columns = data.columns();
    let value = |row: usize, seed: u64, kind: Kind, key: &str| {
        let name = Cell { kind: Some(kind), row, seed }.name();
        done.get(&name).and_then(|cell| cell["figures"][key].as_f64()).unwrap_or(f64::NAN)
    };
    let names: Vec<&str> = columns.iter().map(|column| column.2).collect();
    let mut text = format!("| pre-training | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    let mut line = |head: &str, cells: Vec<String>| {
        let _ = writeln!(text, "| {head} | {} |", cells.join(" | "));
    };
    for (row, (_, words, _)) in ROWS.iter().enumerate() {
        let of = |(kind, key, _): &(Kind, &str, &str)| {
            spread(&(0..args.seeds).map(|seed| value(row, seed, *kind, key)).collect::<Vec<_>>(), false)
        };
        line(words, columns.iter().map(of).collect());
    }
    for (words, more, less) in
        [("MoCo v2 − random", 1, 0), ("DenseCL − random", 2, 0), ("DenseCL − MoCo v2", 2, 1)]
    {
        let of = |(kind, key, _): &(Kind, &str, &str)| {
            let by_seed =
                (0..args.seeds).map(|seed| value(more, seed, *kind, key) - value(less, seed, *kind, key));
            spread(&by_seed.collect::<Vec<_>>(), true)
        };
        line(words, columns.iter().map(of).collect());
    }
    let commits: BTreeSet<&str> = done.values().filter_map(|cell| cell["commit"].as_str()).collect();
    let seconds: f64 = done.values().filter_map(|cell| cell["wall_s"].as_f64()).sum();
    let steps = |kind: &str| {
        let of_kind = done.iter().filter(|(name, _)| name.starts_with(kind));
        of_kind.filter_map(|(_, cell)| cell["figures"]["steps"].as_u64()).max().unwrap_or(0)
    };
    let _ = writeln!(
        text,
        "\nPer cent; mean and standard deviation over {} seeds, differences seed by seed. `{}`: {} training images, {} with the \
         stem `{}`. Pre-training: {} steps of {} images (views of {} px, queue {}, key momentum {}, {}, rate {}). Fine-tuning at \
         {} px, with the labels of {}:",
        args.seeds,
        short_name(&args.data),
        data.images.len(),
        args.arch,
        args.stem,
        steps("pretraining"),
        args.pretrain_batch,
        args.view,
        args.queue,
        args.momentum,
        args.pretrain_optimizer,
        args.pretrain_lr,
        args.size,
        match args.labelled {
            count if (1..data.images.len()).contains(&count) => format!("{count} images, evenly spaced"),
            _ => "all images".to_owned(),
        }
    );
    if data.detection.is_some() {
        let _ = writeln!(
            text,
            "detection {} steps of {} images, {} regions of each, anchors {:?} px, rate {}, at most {} test images, VOC's AP;",
            steps("detection"),
            args.detection_batch,
            args.regions,
            args.anchors(),
            args.detection_lr,
            args.test_images
        );
    }
    if data.segmentation.is_some() {
        let _ = writeln!(
            text,
            "segmentation (FCN) {} steps of {} images, {} px a cell, rate {}, at most {} test images;",
            steps("segmentation"),
            args.segmentation_batch,
            args.stride_px,
            args.segmentation_lr,
            args.test_images
        );
    }
    let sets = [&args.pretrain_set, &args.detection_set, &args.segmentation_set].into_iter().flatten();
    let sets: Vec<String> = sets.map(|set| format!("`{set}`")).collect();
    if !sets.is_empty() {
        let _ = writeln!(text, "with {};", sets.join(", "));
    }
    let (cores, commits) = (cores(), commits.into_iter().collect::<Vec<_>>().join(", "));
    let _ = writeln!(
        text,
        "each evaluated once, at the end. Commit {commits}; {}, {cores} cores; {:.0} minutes.",
        device.name,
        seconds / 60.0
    );
    text
}
