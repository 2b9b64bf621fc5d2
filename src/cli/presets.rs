//! `ocelli presets`.

use std::collections::BTreeSet;

use clap::Args;
use ocelli::methods::{PUBLISHED, PublishedArch, PublishedRow, PublishedTable};
use ocelli::train::RunConfig;
use ocelli::train::config::{MethodChoice, annotated, preset, presets, resolve};
use ocelli::transfer::detection::{self, DetectionConfig};
use ocelli::transfer::segmentation::{SegmentationConfig, segmentation_presets};
use serde_json::{Value, json};

/// List the recipes, or print one with all its values
///
/// The list groups the recipes by the published table that they reproduce, and gives the table's figures. A printed
/// recipe explains each value and names its source.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli presets\n  ocelli presets default\n  ocelli presets vit-s16-300 > run.toml\n  ocelli presets segmentation/laptop"
)]
pub struct PresetsArgs {
    /// Recipe to print as TOML. The name of a method prints its defaults, and `default` prints those of the first
    /// method. `detection/NAME` and `segmentation/NAME` are recipes of fine-tuning
    name: Option<String>,
    /// Print JSON: the list with what is published
    #[arg(long, conflicts_with = "name")]
    json: bool,
}

pub fn run(args: &PresetsArgs) -> anyhow::Result<()> {
    let Some(name) = &args.name else {
        match args.json {
            true => println!("{:#}", list_json()),
            false => list(),
        }
        return Ok(());
    };
    if name == "default" {
        println!("# The defaults: the reference's, where it has any.");
        print!("{}", annotated(&RunConfig::default())?);
        return Ok(());
    }
    if let Ok(method) = name.parse::<MethodChoice>() {
        let recipe = method.recipe();
        println!("# {}: {}\n# published for {}", recipe.title, recipe.paper, recipe.published_for);
        print!("{}", annotated(&RunConfig::of(method)?)?);
        return Ok(());
    }
    let is_pretraining = presets().any(|(_, p)| p.name == name);
    if let (false, Some(text)) = (is_pretraining, transfer(name)?) {
        print!("{text}");
        return Ok(());
    }
    let (_, found) = preset(name)?;
    println!("# {}", found.about);
    for line in found.toml.lines().take_while(|l| l.starts_with('#')) {
        println!("{line}");
    }
    print!("{}", annotated(&resolve(Some(name), None, &[])?)?);
    Ok(())
}

/// A recipe of fine-tuning with every value. Where tasks share a name, `detection/NAME` and `segmentation/NAME` tell them apart.
fn transfer(name: &str) -> anyhow::Result<Option<String>> {
    let of = |task: &str| match name.split_once('/') {
        Some((before, after)) => (before == task).then_some(after),
        None => Some(name),
    };
    let detector = of("detection").and_then(|name| detection::PRESETS.iter().find(|(known, ..)| *known == name));
    if let Some((name, about, _)) = detector {
        let config = DetectionConfig::resolve(Some(name), None, &[])?;
        return Ok(Some(format!("# {about}\n{}", toml::to_string(&config)?)));
    }
    let segmenter = of("segmentation").and_then(|name| segmentation_presets().iter().find(|p| p.name == name));
    let Some(found) = segmenter else { return Ok(None) };
    let config = SegmentationConfig::preset(found.name)?;
    Ok(Some(format!("# {}\n{}", found.about, toml::to_string(&config)?)))
}

/// The published tables with the presets of their rows, then the presets that are in no table, then those of fine-tuning.
fn list() {
    let there: BTreeSet<&str> = presets().map(|(_, p)| p.name).collect();
    for table in PUBLISHED {
        println!("{}\n  {}", table.title, table.about);
        print_table(table, &there);
        println!();
    }
    print_named("Others", &others());
    print_named("\nDetection, for ocelli finetune detection --preset", &detectors());
    print_named("\nSegmentation, for ocelli finetune segmentation --preset", &segmenters());
}

/// The same as fields.
fn list_json() -> Value {
    let named = |recipes: Vec<Named>| -> Vec<Value> {
        recipes.iter().map(|(name, about)| json!({ "name": name, "about": about })).collect()
    };
    json!({
        "tables": PUBLISHED,
        "presets": presets().map(|(_, p)| p.name).collect::<Vec<_>>(),
        "others": named(others()),
        "detection": named(detectors()),
        "segmentation": named(segmenters()),
    })
}

/// A recipe: its name and a sentence on it.
type Named = (&'static str, &'static str);

/// The presets of pre-training that are in no published table.
fn others() -> Vec<Named> {
    let listed: BTreeSet<&str> = PUBLISHED.iter().flat_map(|t| t.rows).map(|row| row.preset).collect();
    presets().map(|(_, p)| p).filter(|p| !listed.contains(p.name)).map(|p| (p.name, p.about)).collect()
}

fn detectors() -> Vec<Named> {
    detection::PRESETS.iter().map(|&(name, about, _)| (name, about)).collect()
}

fn segmenters() -> Vec<Named> {
    segmentation_presets().iter().map(|p| (p.name, p.about)).collect()
}

/// A title, then names with a sentence each.
fn print_named(title: &str, recipes: &[(&str, &str)]) {
    println!("{title}");
    let width = recipes.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, about) in recipes {
        println!("  {name:width$}  {about}");
    }
}

/// A column: its title and a row's text.
type Column = (&'static str, fn(&PublishedTable, &PublishedRow) -> Option<String>);

const COLUMNS: [Column; 11] = [
    ("preset", |_, row| Some(row.preset.to_owned())),
    ("method", |_, row| Some(row.title.to_owned())),
    ("backbone", |_, row| Some(row.arch.to_owned())),
    ("params", |table, row| Some(arch_of(table, row)?.parameters_m.to_string())),
    ("im/s", |table, row| Some(arch_of(table, row)?.images_per_second.to_string())),
    ("data", |_, row| Some(row.data.to_owned())),
    ("epochs", |_, row| Some(row.epochs?.to_string())),
    ("linear", |_, row| Some(format!("{:.1}", row.linear?))),
    ("k-NN", |_, row| Some(format!("{:.1}", row.knn?))),
    ("AP", |_, row| Some(format!("{:.1}", row.detection_ap?))),
    ("mIoU", |_, row| Some(format!("{:.1}", row.segmentation_miou?))),
];

fn arch_of(table: &PublishedTable, row: &PublishedRow) -> Option<&'static PublishedArch> {
    table.archs.iter().find(|a| a.arch == row.arch)
}

/// A published table: the columns in which it has something.
fn print_table(table: &PublishedTable, there: &BTreeSet<&str>) {
    let has = |(_, of): &Column| table.rows.iter().any(|row| of(table, row).is_some());
    let columns: Vec<Column> = COLUMNS.into_iter().filter(has).collect();
    let width = |(title, of): &Column| {
        let texts = table.rows.iter().filter_map(|row| of(table, row));
        texts.map(|t| t.chars().count()).max().unwrap_or(0).max(title.len())
    };
    let widths: Vec<usize> = columns.iter().map(width).collect();
    let line = |cells: Vec<String>| {
        let cells: Vec<String> = cells.iter().zip(&widths).map(|(text, width)| format!("{text:width$}")).collect();
        println!("  {}", cells.join("  ").trim_end());
    };
    line(columns.iter().map(|(title, _)| (*title).to_owned()).collect());
    for row in table.rows {
        line(columns.iter().map(|(_, of)| of(table, row).unwrap_or_else(|| "–".into())).collect());
    }
    let missing: Vec<&str> = table.rows.iter().map(|row| row.preset).filter(|p| !there.contains(p)).collect();
    if !missing.is_empty() {
        println!("  not there yet: {}", missing.join(", "));
    }
    for row in table.rows.iter().filter(|row| !row.note.is_empty()) {
        println!("  {}: {}", row.preset, row.note);
    }
}
