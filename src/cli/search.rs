//! `ocelli search`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::bail;
use clap::Args;
use ocelli::data::{Image, Source};
use ocelli::eval::index::Hit;
use ocelli::eval::picture::Picture;
use ocelli::eval::sheet::{FoundPicture, NeighbourSheet, QueryPictures};
use ocelli::report::text::plain;
use serde_json::{Value, json};

use super::images::Named;
use super::indexing::{IndexArgs, Indexed, decimal, pictures};
use super::{opening, outputs, thumbnails};

/// Queries on a sheet at most.
const SHEET_QUERIES: usize = 32;
/// Pictures found for each query at most on a sheet.
const SHEET_FOUND: usize = 60;

/// Find the pictures of a folder that are most similar to others
///
/// Pictures are compared by the cosine of their features (the class token, or a ResNet's mean over its cells). An
/// index keeps the features, so that each picture is embedded once. New, changed and deleted pictures are recognised
/// by name, size and time.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli search cat.jpg --in photos --weights runs/first\n  ocelli search a.jpg b.jpg --in photos --weights vit.pth --top 24 --out found.png\n  ocelli search cat.jpg --in /mnt/album --weights runs/first --index album.index --json\n\nThe index is the file .ocelli.index in the folder. Ocelli ignores it when it reads images. --index names another place, for example when the folder cannot be written to. An index belongs to one network and one preprocessing; others are refused. Ctrl-C while pictures are embedded keeps what is done."
)]
pub struct SearchArgs {
    /// What to look for: images, folders of images, or `scenes[:COUNT]`
    #[arg(required = true)]
    images: Vec<String>,
    /// The folder to look in, with all folders below it
    #[arg(long = "in", value_name = "FOLDER")]
    folder: PathBuf,
    /// Pictures to find for each image
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    top: u32,
    /// The contact sheet (replaces one that Ocelli drew, no other file; default: search.png, none with --json)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Largest number of images to look for per folder, evenly spaced (0: all)
    #[arg(long, default_value_t = 16)]
    limit: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    index: IndexArgs,
}

/// An image to look for and what was found.
struct Answer {
    name: String,
    small: Option<Image>,
    hits: Vec<Hit>,
}

pub fn run(args: &SearchArgs) -> anyhow::Result<()> {
    let sheet = args.out.clone().or_else(|| (!args.json).then(|| PathBuf::from("search.png")));
    if let Some(path) = &sheet {
        outputs::check_picture(path)?;
    }
    let queries: Arc<dyn Source> = Arc::new(Named::list(&args.images, args.limit)?);
    let indexed = Indexed::open(&args.folder, &args.index, args.json)?;
    let mut asked = Vec::new();
    let bad = indexed.network.embed(&queries, (0..queries.len()).collect(), |embedded| {
        asked.extend(embedded);
        Ok(true)
    })?;
    if let (true, Some(bad)) = (asked.is_empty(), bad.first()) {
        bail!("no image to look for could be read; {}: {}", bad.name, bad.reason);
    }
    let names: Vec<String> = asked.iter().map(|one| queries.name(one.index)).collect();
    let own: Vec<Option<usize>> = names.iter().map(|name| own_row(&indexed, &args.images, name)).collect();
    let started = Instant::now();
    let found: Vec<Vec<Hit>> = asked
        .iter()
        .zip(&own)
        .map(|(one, own)| indexed.file.search(&one.feature, args.top as usize, *own))
        .collect();
    let took = started.elapsed();
    let mut answers = Vec::new();
    for ((one, name), hits) in asked.iter().zip(names).zip(found) {
        let shown = sheet.is_some() && answers.len() < SHEET_QUERIES;
        let small = if shown { Some(thumbnails::shrunk(queries.load(one.index)?, CELL_PX)) } else { None };
        answers.push(Answer { name, small, hits });
    }
    if let Some(path) = &sheet {
        write_sheet(path, &indexed, &answers)?;
    }
    if args.json {
        let skipped: Vec<Value> = bad.iter().map(|b| json!({ "name": b.name, "reason": b.reason })).collect();
        let loaded = &indexed.network.loaded;
        let all = json!({
            "folder": args.folder, "index": indexed.fields(), "weights": opening::fields(loaded, &loaded.size),
            "queries": answers.iter().map(|answer| fields(&indexed, answer)).collect::<Vec<_>>(),
            "skipped": skipped, "search_ms": took.as_secs_f64() * 1e3, "sheet": sheet,
        });
        println!("{all}");
        return Ok(());
    }
    for bad in &bad {
        println!("warning: skipped {}: {}", bad.name, bad.reason);
    }
    for (answer, own) in answers.iter().zip(&own) {
        let note = if own.is_some() { " (itself left out)" } else { "" };
        println!("\n{}{note}", plain(&answer.name));
        for (rank, hit) in answer.hits.iter().enumerate() {
            println!("{:>4}  {:.3}  {}", rank + 1, hit.similarity, plain(&indexed.file.entries()[hit.row].name));
        }
    }
    println!(
        "\nsearched {} in {:.0} ms{}",
        pictures(indexed.file.entries().len()),
        (took.as_secs_f64() * 1e3 / answers.len() as f64).ceil(),
        if answers.len() > 1 { " an image" } else { "" }
    );
    if let Some(path) = &sheet {
        println!("sheet: {}", path.display());
        if answers.len() > SHEET_QUERIES {
            println!("the sheet shows the first {SHEET_QUERIES} images");
        }
        if args.top as usize > SHEET_FOUND {
            println!("the sheet shows the first {SHEET_FOUND} pictures found");
        }
    }
    Ok(())
}

/// Side that pictures have on the sheet, pixels.
const CELL_PX: u32 = 160;

/// The row of the image itself, where it lies in the folder: nobody looks for what they have.
fn own_row(indexed: &Indexed, given: &[String], name: &str) -> Option<usize> {
    let folder = indexed.folder.canonicalize().ok()?;
    let of_folders = given.iter().filter(|g| Path::new(g).is_dir()).map(|g| Path::new(g).join(name));
    let mut places = std::iter::once(PathBuf::from(name)).chain(of_folders);
    let below = places.find_map(|path| {
        let path = path.canonicalize().ok()?;
        Some(path.strip_prefix(&folder).ok()?.to_owned())
    })?;
    let parts: Vec<_> = below.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    let name = parts.join("/");
    indexed.file.entries().iter().position(|entry| entry.name == name)
}

fn fields(indexed: &Indexed, answer: &Answer) -> Value {
    let found = answer.hits.iter().map(|hit| {
        let entry = &indexed.file.entries()[hit.row];
        json!({
            "name": entry.name, "similarity": decimal(hit.similarity), "width": entry.width, "height": entry.height,
            "bytes": entry.bytes,
        })
    });
    json!({ "name": answer.name, "found": found.collect::<Vec<_>>() })
}

fn write_sheet(path: &Path, indexed: &Indexed, answers: &[Answer]) -> anyhow::Result<()> {
    let picture = |image: Image| Picture::new(image.width as usize, image.height as usize, image.data);
    let mut queries = Vec::new();
    for answer in answers {
        let Some(small) = &answer.small else { continue };
        let hits = &answer.hits[..answer.hits.len().min(SHEET_FOUND)];
        let paths = hits.iter().map(|hit| indexed.path_of(&indexed.file.entries()[hit.row].name)).collect();
        let images = thumbnails::of_files(paths, CELL_PX, || ());
        let found = hits.iter().zip(images).map(|(hit, image)| {
            Ok(FoundPicture {
                picture: image.map(picture).transpose()?,
                similarity: hit.similarity,
                name: indexed.file.entries()[hit.row].name.clone(),
            })
        });
        queries.push(QueryPictures {
            picture: picture(small.clone())?,
            name: answer.name.clone(),
            found: found.collect::<anyhow::Result<_>>()?,
        });
    }
    let title = format!("Nearest in {}: {}", indexed.folder.display(), pictures(indexed.file.entries().len()));
    let mut sheet = NeighbourSheet { title, ..NeighbourSheet::default() };
    sheet.style.cell_px = CELL_PX as usize;
    let page = sheet.render(&queries)?;
    outputs::write_png(path, page.width(), page.height(), page.data())
}
