//! `ocelli table`: runs as rows of DINO's table.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use ocelli::methods::{METHODS, PUBLISHED_ARCHS, PublishedRow, published_arch, published_rows};
use ocelli::models::BackboneArch;
use ocelli::report::{Published, Run, Table, TableRow, find_runs};
use ocelli::train::{LINEAR_TASK, backbone_of};
use serde_json::Value;

use super::outputs;
use super::report::{declare, now, write_page};
use super::runs::{DEPTH, name};

/// Set runs out as the rows of DINO's table, beside the published figures
///
/// The columns are method, backbone, parameters, speed, linear and k-NN accuracy, epochs, data, time and seed.
/// Published figures of the same method on the same backbone have columns of their own. Notes below the table say
/// what a run lacks.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli table\n  ocelli table runs/first runs/second --format markdown\n  ocelli table runs --out table.html\n  ocelli bench --json > bench.json && ocelli table runs --bench bench.json"
)]
pub struct TableArgs {
    /// Runs, or folders with runs below them
    #[arg(default_value = "runs")]
    runs: Vec<PathBuf>,
    /// Format (default: from the ending of --out, else text)
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The file to write, such as table.md, table.json or table.html, whose columns sort
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// File written by `ocelli bench --json`, from which the inference speed is taken
    #[arg(long, value_name = "FILE")]
    bench: Option<PathBuf>,
}

/// How a table is written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Markdown,
    Json,
    Html,
}

impl Format {
    /// As a file's name ends.
    pub fn of_file(path: &Path) -> anyhow::Result<Self> {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        Ok(match extension.as_str() {
            "md" | "markdown" => Self::Markdown,
            "json" => Self::Json,
            "html" | "htm" => Self::Html,
            _ => bail!(
                "--out: expected a name that ends in .md, .json or .html, or a --format; found {}",
                path.display()
            ),
        })
    }
}

pub fn run(args: &TableArgs) -> anyhow::Result<()> {
    write(&args.runs, args.format, args.out.as_deref(), args.bench.as_deref())?;
    if let Some(out) = &args.out {
        println!("table: {}", out.display());
    }
    Ok(())
}

/// Writes a table of the runs in some folders to a file, or prints it.
pub fn write(
    roots: &[PathBuf],
    format: Option<Format>,
    out: Option<&Path>,
    bench: Option<&Path>,
) -> anyhow::Result<()> {
    let format = match (format, out) {
        (Some(format), _) => format,
        (None, Some(out)) => Format::of_file(out)?,
        (None, None) => Format::Text,
    };
    if format == Format::Text && out.is_some() {
        bail!(
            "--format text: expected no --out, the text goes to the terminal; markdown, json and html can be written"
        );
    }
    let speeds = bench.map(Speeds::read).transpose()?;
    let mut table = Table::default();
    let mut unreadable = Vec::new();
    for (name, path) in found(roots)? {
        match Run::read(&path) {
            Ok(mut run) => {
                declare(&mut run);
                if run.setting("task").and_then(toml::Value::as_str) == Some(LINEAR_TASK) {
                    unreadable
                        .push(format!("{name}: a linear probe; it belongs into the row of the run it evaluates"));
                } else {
                    table.rows.push(row(&run, &name, speeds.as_ref()));
                }
            }
            Err(e) => unreadable.push(e.to_string()),
        }
    }
    if table.rows.is_empty() {
        let folders: Vec<String> = roots.iter().map(|p| p.display().to_string()).collect();
        bail!(
            "expected runs in {}, found none{}",
            folders.join(", "),
            unreadable.iter().map(|e| format!("; {e}")).collect::<String>()
        );
    }
    // As the published table: by backbone, then by method.
    table.rows.sort_by_cached_key(|row| {
        let arch = row.arch.clone().unwrap_or_default();
        let place = |found: Option<usize>| found.unwrap_or(usize::MAX);
        let of_arch = place(PUBLISHED_ARCHS.iter().position(|a| a.arch == arch));
        let of_method = place(METHODS.iter().position(|m| Some(m.title) == row.method.as_deref()));
        (of_arch, arch, of_method, row.run.clone())
    });
    table.notes = notes(&table, speeds.as_ref());
    table.notes.extend(unreadable.into_iter().map(|e| format!("left out: {e}")));
    match (format, out) {
        (Format::Text, _) => {
            println!("{}", table.text());
            for remark in table.remarks() {
                println!("{}", ocelli::report::text::plain(&remark));
            }
            return Ok(());
        }
        (Format::Markdown, None) => print!("{}", table.markdown()),
        (Format::Json, None) => print!("{}", table.json()),
        (Format::Html, None) => print!("{}", table.html(now())),
        (Format::Markdown, Some(out)) => outputs::write_over_own(out, &table.markdown(), Table::MARKDOWN)?,
        (Format::Json, Some(out)) => outputs::write_over_own(out, &table.json(), Table::JSON)?,
        (Format::Html, Some(out)) => write_page(out, &table.html(now()))?,
    }
    Ok(())
}

/// The runs there are, each with the name it has in the table.
fn found(given: &[PathBuf]) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut all: Vec<(String, PathBuf)> = Vec::new();
    for root in given {
        if !root.is_dir() {
            bail!("{}: expected a run, or a folder with runs below it, found none", root.display());
        }
        for path in find_runs(root, DEPTH) {
            if all.iter().all(|(_, known)| *known != path) {
                all.push((name(&path, root), path));
            }
        }
    }
    Ok(all)
}

fn row(run: &Run, name: &str, speeds: Option<&Speeds>) -> TableRow {
    let mut row = TableRow::of(run, name, now());
    let Ok(arch) = run.arch().parse::<BackboneArch>() else { return row };
    let arch = (arch.to_string(), arch);
    // Runs of versions that did not tell it; the parameters of a ResNet do not depend on the images.
    if row.parameters.is_none() {
        let size_px = run.setting("views.global_size_px").and_then(toml::Value::as_integer).unwrap_or(224);
        row.parameters = Some(backbone_of(&arch.1, size_px.max(1) as usize).num_parameters() as f64);
    }
    row.images_per_second = speeds.and_then(|s| s.of.get(&arch.0).copied());
    row.published = published(run, &arch.0);
    row
}

/// What is published of a run's method and backbone: with its epochs where there is such a row.
fn published(run: &Run, arch: &str) -> Option<Published> {
    let is_coco = run.said("data").is_some_and(|data| data.to_lowercase().contains("coco"));
    let rows: Vec<&PublishedRow> = published_rows(run.method(), arch)
        .map(|(_, row)| row)
        .filter(|row| (row.data == "COCO") == is_coco)
        .collect();
    let epochs = run.epochs_planned();
    let same = |row: &&&PublishedRow| row.epochs.map(u64::from) == epochs;
    let chosen = rows.iter().find(same).or(rows.first());
    let speed = published_arch(arch).map(|a| f64::from(a.images_per_second));
    let Some(chosen) = chosen else {
        // The backbone alone is in the table.
        return speed.map(|s| Published { images_per_second: Some(s), ..Published::default() });
    };
    let epochs = chosen.epochs.map(|e| format!(", {e} epochs")).unwrap_or_default();
    // Two tables may have the same run.
    let also = |of: fn(&PublishedRow) -> Option<f64>| {
        rows.iter().filter(|row| row.preset == chosen.preset).find_map(|row| of(row))
    };
    Some(Published {
        row: format!("{}, {}{epochs}", chosen.title, chosen.data),
        linear: also(|row| row.linear),
        knn: also(|row| row.knn),
        detection_ap: also(|row| row.detection_ap),
        segmentation_miou: also(|row| row.segmentation_miou),
        images_per_second: speed,
        note: chosen.note.to_owned(),
    })
}

/// What one must know of the figures.
fn notes(table: &Table, speeds: Option<&Speeds>) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(speeds) = speeds {
        notes.push(format!("im/s: inference, {}", speeds.how));
    }
    let mut devices: Vec<&str> = table.rows.iter().filter_map(|row| row.device.as_deref()).collect();
    devices.sort_unstable();
    devices.dedup();
    if !devices.is_empty() {
        notes.push(format!(
            "train im/s: images of the data set a second, all views of each, on {}",
            devices.join(", ")
        ));
    }
    let mut ks: Vec<u64> = table.rows.iter().filter(|row| row.knn.is_some()).filter_map(|row| row.knn_k).collect();
    ks.sort_unstable();
    ks.dedup();
    if !ks.is_empty() {
        let ks: Vec<String> = ks.iter().map(u64::to_string).collect();
        notes.push(format!(
            "k-NN: per cent on the run's own data after its last evaluation, k = {}",
            ks.join(" and ")
        ));
    }
    let mut probes: Vec<&str> = table.rows.iter().filter_map(|row| row.linear_how.as_deref()).collect();
    probes.sort_unstable();
    probes.dedup();
    if !probes.is_empty() {
        notes.push(format!(
            "linear: per cent on the probe's held-out images, best of its rates: {}",
            probes.join("; ")
        ));
    }
    if table.rows.iter().any(|row| row.knn_untrained.is_some()) {
        notes.push("untrained, pixels: k-NN of the network before training and of the images made small".into());
    }
    if table.rows.iter().any(|row| row.memory_bytes.is_some()) {
        notes.push(
            "memory: the most of the machine's that the run had in use; a graphics card's own is not in it".into(),
        );
    }
    if table.rows.iter().any(|row| row.published.as_ref().is_some_and(|p| !p.row.is_empty())) {
        notes.push("published: others' figures, on ImageNet (VOC after fine-tuning); im/s on one V100".into());
    }
    let here = env!("CARGO_PKG_VERSION");
    for row in &table.rows {
        if let Some(version) = row.version.as_deref().filter(|v| *v != here) {
            notes.push(format!("{} was made with Ocelli {version}, this is {here}", row.run));
        }
        if row.state.starts_with("stopped") || row.state == "no news" {
            notes.push(format!("{}: {}", row.run, row.state));
        }
    }
    let known = |method: &str| METHODS.iter().any(|m| m.title == method || m.name == method);
    for row in table.rows.iter().filter(|row| row.method.as_deref().is_some_and(|m| !known(m))) {
        notes.push(format!("{} trains with a method this version does not know", row.run));
    }
    notes
}

/// Images a second by backbone, as `ocelli bench --json` measured them.
struct Speeds {
    of: BTreeMap<String, f64>,
    how: String,
}

impl Speeds {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("--bench: cannot read {}", path.display()))?;
        let wrong = || {
            format!(
                "--bench: expected what `ocelli bench --json` prints, found something else in {}",
                path.display()
            )
        };
        let all: Value = serde_json::from_str(&text).with_context(wrong)?;
        let rows = all["rows"].as_array().with_context(wrong)?;
        let speed = |row: &Value| Some((row["arch"].as_str()?.to_owned(), row["images_per_second"].as_f64()?));
        let device = all["device"].as_str().with_context(wrong)?;
        let size = all["size_px"].as_u64().with_context(wrong)?;
        Ok(Self { of: rows.iter().filter_map(speed).collect(), how: format!("f32, {size} px, on {device}") })
    }
}
