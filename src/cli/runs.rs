//! `ocelli runs`.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use ocelli::report::text::{date, duration, number, plain};
use ocelli::report::{Difference, Run, compare_html, differences, figures, find_runs};
use serde_json::{Value, json};

use super::report::{now, write_page};

/// Folders below the given one that are looked into.
pub const DEPTH: usize = 4;

/// List the runs below a folder, or compare some of them
///
/// A comparison shows how their configurations differ, and what the runs achieved.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli runs\n  ocelli runs experiments --json\n  ocelli runs --compare first second\n  ocelli runs --compare runs/first runs/second --out compared.html"
)]
pub struct RunsArgs {
    /// Folder that holds the runs
    #[arg(default_value = "runs")]
    dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Runs to compare, by folder or by name below DIR
    #[arg(long, num_args = 2.., value_name = "RUN")]
    compare: Vec<PathBuf>,
    /// Write the compared runs' curves to this HTML file
    #[arg(long, value_name = "FILE", requires = "compare")]
    out: Option<PathBuf>,
}

pub fn run(args: &RunsArgs) -> anyhow::Result<()> {
    if args.compare.is_empty() { list(args) } else { compare(args) }
}

fn list(args: &RunsArgs) -> anyhow::Result<()> {
    if !args.dir.is_dir() {
        bail!("{}: expected a folder with runs below it, found none", args.dir.display());
    }
    let (mut rows, mut unreadable) = (Vec::new(), Vec::new());
    for path in find_runs(&args.dir, DEPTH) {
        match Run::read(&path) {
            Ok(run) => rows.push((name(&path, &args.dir), run)),
            Err(e) => unreadable.push(e.to_string()),
        }
    }
    // The newest last: that is where the eye is after the command.
    rows.sort_by(|(_, a), (_, b)| {
        let started = |r: &Run| r.started_unix_s().unwrap_or(0.0);
        started(a).total_cmp(&started(b))
    });
    if args.json {
        let all: Vec<Value> = rows.iter().map(|(name, run)| summary(name, run)).collect();
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    if rows.is_empty() {
        println!("no runs in {}", args.dir.display());
    } else {
        let header =
            ["run", "state", "model", "data", "epochs", "loss", "best k-NN", "img/s", "started (UTC)", "time"];
        let lines = rows.iter().map(|(name, run)| line(name, run).to_vec()).collect();
        print(header.map(String::from).to_vec(), lines);
    }
    for message in unreadable {
        println!("warning: {}", plain(&message));
    }
    Ok(())
}

/// The path below the folder that was listed.
pub fn name(path: &Path, root: &Path) -> String {
    match path.strip_prefix(root) {
        Ok(rest) if !rest.as_os_str().is_empty() => rest.display().to_string(),
        _ => path.display().to_string(),
    }
}

fn line(name: &str, run: &Run) -> [String; 10] {
    let dash = || "–".to_owned();
    let whole = |v: f64| number(v.floor());
    let epochs =
        run.epochs_planned().map_or_else(dash, |all| format!("{}/{all}", whole(run.history.epochs_done())));
    let loss = run.history.epochs.last("loss").or_else(|| run.history.steps.last("loss"));
    [
        name.to_owned(),
        run.state(now()).word().into(),
        format!("{} {}", run.method(), run.arch()),
        run.said("data").unwrap_or("–").into(),
        epochs,
        loss.map_or_else(dash, |v| format!("{v:.3}")),
        run.history.best_knn().map_or_else(dash, |(_, v)| format!("{v:.1} %")),
        run.speed().map_or_else(dash, whole),
        run.started_unix_s().map_or_else(dash, date),
        if run.active_s() > 0.0 { duration(run.active_s()) } else { dash() },
    ]
}

fn summary(name: &str, run: &Run) -> Value {
    let history = &run.history;
    json!({
        "name": name,
        "path": run.dir.display().to_string(),
        "state": run.state(now()).word(),
        "reason": history.stopped,
        "method": run.setting("method").and_then(|v| v.as_str()),
        "arch": run.setting("arch").and_then(|v| v.as_str()),
        "data": run.said("data"),
        "device": run.said("device"),
        "epochs_done": history.epochs_done(),
        "epochs": run.epochs_planned(),
        "loss": history.epochs.last("loss").or_else(|| history.steps.last("loss")),
        "knn_k": history.quoted_k(),
        "best_knn": history.best_knn().map(|(_, v)| v),
        "best_knn_epoch": history.best_knn().map(|(epoch, _)| epoch),
        "images_per_second": run.speed(),
        "started_unix_s": run.started_unix_s(),
        "active_s": run.active_s(),
    })
}

fn compare(args: &RunsArgs) -> anyhow::Result<()> {
    let find = |given: &PathBuf| {
        let below = args.dir.join(given);
        Run::read(if !given.is_dir() && below.is_dir() { &below } else { given })
    };
    let mut runs: Vec<Run> = args.compare.iter().map(find).collect::<Result<_, _>>()?;
    runs.iter_mut().for_each(super::report::declare);
    let (figures, different) = (figures(&runs, now()), differences(&runs));
    if args.json {
        let object = |rows: &[Difference]| -> Value {
            rows.iter().map(|d| (d.key.clone(), Value::from(d.values.clone()))).collect()
        };
        let names: Vec<String> = runs.iter().map(Run::name).collect();
        let all = json!({ "runs": names, "figures": object(&figures), "differences": object(&different) });
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        let header = || std::iter::once(String::new()).chain(runs.iter().map(Run::name)).collect::<Vec<_>>();
        let lines = |rows: &[Difference]| -> Vec<Vec<String>> {
            rows.iter().map(|d| std::iter::once(d.key.clone()).chain(d.values.iter().cloned()).collect()).collect()
        };
        print(header(), lines(&figures));
        println!();
        if different.is_empty() {
            println!("The configurations are the same.");
        } else {
            print(
                std::iter::once("differs".into()).chain(header().into_iter().skip(1)).collect(),
                lines(&different),
            );
        }
    }
    if let Some(out) = &args.out {
        write_page(out, &compare_html(&runs, now()))?;
        if !args.json {
            println!("\ncurves: {}", out.display());
        }
    }
    Ok(())
}

/// Columns as wide as their widest text.
fn print(header: Vec<String>, lines: Vec<Vec<String>>) {
    let table: Vec<Vec<String>> =
        std::iter::once(header).chain(lines).map(|line| line.iter().map(|text| plain(text)).collect()).collect();
    let columns = table.first().map_or(0, Vec::len);
    let width = |c: usize| table.iter().filter_map(|l| l.get(c)).map(|t| t.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for line in &table {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(text, width)| format!("{text:width$}")).collect();
        println!("{}", cells.join("  ").trim_end());
    }
}
