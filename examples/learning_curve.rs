//! Turns runs into learning curves in the reference's file format, and compares their mean with the reference's.
//!
//!     ocelli pretrain --preset cifar-reference --data CIFAR --seed 0 --out runs/curve0
//!     ocelli pretrain --preset cifar-reference --data CIFAR --seed 1 --out runs/curve1
//!     cargo run --release --example learning_curve -- docs/curves runs/curve0 runs/curve1 --reference REFERENCE
//!
//! writes `docs/curves/curve0.json` and `curve1.json` and, where REFERENCE is a folder with `reference_seed*.json`,
//! prints one row per epoch: our mean, the reference's, and whether the difference lies in the band (from epoch 3 on:
//! loss ±0.12, teacher entropy ±0.18, KL ±0.08, k-NN ±3.5 points).
#![allow(clippy::print_stderr)]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Key in our rows, key in the reference's, half-width of the band.
const FIGURES: [(&str, f64); 4] = [("loss", 0.12), ("teacher_entropy", 0.18), ("kl", 0.08), ("knn", 3.5)];

fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let out = PathBuf::from(args.next().ok_or("expected: OUT RUN... [--reference FOLDER]")?);
    let (mut runs, mut reference) = (Vec::new(), None);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--reference" => reference = args.next().map(PathBuf::from),
            run => runs.push(PathBuf::from(run)),
        }
    }
    fs::create_dir_all(&out)?;
    let mut curves = Vec::new();
    for run in &runs {
        let curve = curve(run)?;
        let name = run.file_name().and_then(|n| n.to_str()).unwrap_or("run");
        fs::write(out.join(format!("{name}.json")), format!("{curve:#}\n"))?;
        curves.push(curve);
    }
    match reference {
        None => Ok(()),
        Some(folder) => compare(&curves, &references(&folder)?),
    }
}

/// A run's `metrics.jsonl` in the reference's format.
fn curve(run: &Path) -> Outcome<Value> {
    let metrics = fs::read_to_string(run.join("metrics.jsonl"))?;
    let rows: Vec<Value> = metrics.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let config: toml::Table = fs::read_to_string(run.join("config.toml"))?.parse()?;
    let baseline = rows.iter().find(|r| r["event"] == "baseline").cloned().unwrap_or_default();
    let epochs: Vec<Value> = rows
        .iter()
        .filter(|r| r["event"] == "epoch")
        .map(|r| {
            json!({
                "epoch": r["epoch"], "loss": r["loss"], "teacher_entropy": r["teacher_entropy"], "kl": r["kl"],
                "max_param_grad_norm": r["max_parameter_gradient_norm"], "lr_end": r["lr"], "wd_end": r["weight_decay"],
                "momentum_end": r["momentum"], "knn_teacher": r["knn"], "wall_s": r["wall_s"], "cpu_s": r["cpu_s"],
            })
        })
        .collect();
    Ok(json!({
        "config": config,
        "reference": { "raw_pixel_knn": baseline["raw_pixels"], "random_init_knn": baseline["untrained"] },
        "epochs": epochs,
    }))
}

fn references(folder: &Path) -> Outcome<Vec<Value>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)?.filter_map(|e| e.ok().map(|e| e.path())).collect();
    paths.retain(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("reference_seed")));
    paths.sort();
    paths.iter().map(|p| Ok(serde_json::from_str(&fs::read_to_string(p)?)?)).collect()
}

/// The mean of a figure over curves at an epoch.
fn mean(curves: &[Value], epoch: usize, key: &str) -> f64 {
    let of = |c: &Value| match key {
        "knn" => c["epochs"][epoch]["knn_teacher"]["20"].as_f64(),
        key => c["epochs"][epoch][key].as_f64(),
    };
    let values: Vec<f64> = curves.iter().filter_map(of).collect();
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn compare(ours: &[Value], theirs: &[Value]) -> Outcome<()> {
    let epochs = theirs.first().and_then(|c| c["epochs"].as_array()).map_or(0, Vec::len);
    let mut inside = true;
    println!(
        "| epoch | loss (reference) | teacher entropy | KL | k-NN k=20 | in the band |\n|---|---|---|---|---|---|"
    );
    for epoch in 0..epochs {
        let cells: Vec<(f64, f64)> =
            FIGURES.iter().map(|(key, _)| (mean(ours, epoch, key), mean(theirs, epoch, key))).collect();
        let verdict = match epoch {
            // The last layer thaws: the seeds differ, the shape does not.
            0 => "–".to_owned(),
            1 => if cells[1].0 < 5.2 { "dips" } else { "no dip" }.to_owned(),
            2 => if cells[1].0 > 5.0 { "rises" } else { "no rise" }.to_owned(),
            _ => {
                let off: Vec<&str> = FIGURES
                    .iter()
                    .zip(&cells)
                    .filter(|((_, band), (a, b))| (a - b).abs() > *band)
                    .map(|((key, _), _)| *key)
                    .collect();
                if off.is_empty() { "yes".to_owned() } else { format!("no: {}", off.join(", ")) }
            }
        };
        inside &= !verdict.starts_with("no");
        let row: Vec<String> = cells
            .iter()
            .enumerate()
            .map(|(i, (a, b))| if i == 3 { format!("{a:.1} ({b:.1})") } else { format!("{a:.3} ({b:.3})") })
            .collect();
        println!("| {epoch} | {} | {verdict} |", row.join(" | "));
    }
    let cpu = |curves: &[Value]| (0..epochs).map(|e| mean(curves, e, "cpu_s")).sum::<f64>() / epochs.max(1) as f64;
    println!("\nprocessor time of an epoch: {:.1} s, the reference's {:.1} s", cpu(ours), cpu(theirs));
    if inside { Ok(()) } else { Err("outside the band".into()) }
}
