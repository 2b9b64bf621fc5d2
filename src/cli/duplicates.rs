//! `ocelli duplicates`.

use std::cmp::Reverse;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use clap::Args;
use ocelli::eval::index::near_duplicates;
use ocelli::report::text::{bytes, plain};
use ocelli::report::{Duplicate, DuplicatesPage, duplicates_html};
use serde_json::{Value, json};

use super::indexing::{IndexArgs, Indexed, decimal, pictures};
use super::report::{now, write_page};
use super::{Interrupted, images, opening, pages};

/// Long side of the small copies, pixels.
const THUMBNAIL_PX: u32 = 168;
/// Groups named in the terminal at most.
const SHOWN_GROUPS: usize = 20;

/// Find near-duplicates in a folder: copies, other sizes, other compression, slight edits
///
/// Two pictures are linked where the cosine of their features is at least the threshold. Linked pictures form a
/// group. The command writes a page to look through, and deletes nothing.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli duplicates photos --weights runs/first\n  ocelli duplicates photos --weights vit.pth --threshold 0.9 --out duplicates.html\n  ocelli duplicates photos --weights runs/first --json > duplicates.json\n\nThe right threshold depends on the network: start high and go down. The index of `ocelli search` keeps the features."
)]
pub struct DuplicatesArgs {
    /// The folder, with all folders below it
    folder: PathBuf,
    /// Smallest cosine of their features at which two pictures are linked
    #[arg(long, default_value_t = 0.95)]
    threshold: f32,
    /// The page (replaces one that Ocelli wrote, no other file; default: duplicates.html, none with --json)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Largest number of pictures on the page that have a small copy
    #[arg(long, default_value_t = 2000, value_name = "N")]
    thumbnails: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    index: IndexArgs,
}

pub fn run(args: &DuplicatesArgs) -> anyhow::Result<()> {
    if !(-1.0..=1.0).contains(&args.threshold) {
        anyhow::bail!("--threshold: expected a cosine from -1 to 1, such as 0.95; found {}", args.threshold);
    }
    let page = args.out.clone().or_else(|| (!args.json).then(|| PathBuf::from("duplicates.html")));
    if let Some(path) = &page {
        pages::check(path)?;
    }
    let indexed = Indexed::open(&args.folder, &args.index, args.json)?;
    let bar = images::bar(indexed.file.entries().len(), false);
    let found = near_duplicates(indexed.file.rows(), args.threshold, |rows| {
        bar.set_position(rows as u64);
        !indexed.stop.load(Ordering::Relaxed)
    })?;
    bar.finish_and_clear();
    let Some(found) = found else {
        let how = format!("the features are in {}; the same command compares them", indexed.file.path().display());
        return Err(Interrupted(how).into());
    };
    let mut groups: Vec<Vec<Duplicate>> = found.into_iter().map(|rows| group(&indexed, rows)).collect();
    groups.sort_by(|a, b| (Reverse(a.len()), &a[0].name).cmp(&(Reverse(b.len()), &b[0].name)));
    let thumbnail_bytes = match &page {
        Some(path) => Some(write(path, &indexed, args, &mut groups)?),
        None => None,
    };
    if args.json {
        let loaded = &indexed.network.loaded;
        let groups: Vec<Vec<Value>> = groups.iter().map(|group| group.iter().map(fields).collect()).collect();
        let all = json!({
            "folder": args.folder, "index": indexed.fields(), "weights": opening::fields(loaded, &loaded.size),
            "threshold": decimal(args.threshold), "groups": groups, "page": page,
        });
        println!("{all}");
        return Ok(());
    }
    for group in groups.iter().take(SHOWN_GROUPS) {
        println!("\n{}", pictures(group.len()));
        for (place, one) in group.iter().enumerate() {
            let note = match (place, one.is_copy) {
                (0, _) => "  largest".to_owned(),
                (_, true) => format!("  {:.3}, the same file", one.similarity),
                _ => format!("  {:.3}", one.similarity),
            };
            println!("  {}  {}×{} px, {}{note}", plain(&one.name), one.width, one.height, bytes(one.bytes));
        }
    }
    if groups.len() > SHOWN_GROUPS {
        println!("\n… and {} more groups, see the page", groups.len() - SHOWN_GROUPS);
    }
    let inside: usize = groups.iter().map(Vec::len).sum();
    println!(
        "\n{} group{} with {} of {} (cosine at least {}); nothing was deleted",
        groups.len(),
        if groups.len() == 1 { "" } else { "s" },
        inside,
        pictures(indexed.file.entries().len()),
        args.threshold
    );
    if let (Some(path), Some(size)) = (&page, thumbnail_bytes) {
        println!("page: {}, {} of it small copies", path.display(), bytes(size));
    }
    Ok(())
}

fn fields(one: &Duplicate) -> Value {
    json!({
        "name": one.name, "width": one.width, "height": one.height, "bytes": one.bytes,
        "similarity": decimal(one.similarity), "same_file": one.is_copy,
    })
}

/// The largest first: by pixels, then by bytes. The others by their cosine with it.
fn group(indexed: &Indexed, rows: Vec<usize>) -> Vec<Duplicate> {
    let entries = indexed.file.entries();
    let size = |row: &usize| {
        let entry = &entries[*row];
        (u64::from(entry.width) * u64::from(entry.height), entry.bytes)
    };
    let mut largest = rows[0];
    for row in &rows {
        if size(row) > size(&largest) {
            largest = *row;
        }
    }
    let feature = indexed.file.rows().to_vec(largest..largest + 1);
    let mut members: Vec<(usize, f32)> = rows
        .into_iter()
        // Rounding may put a picture's copy beyond 1.
        .map(|row| (row, if row == largest { 1.0 } else { indexed.file.rows().dot(row, &feature).min(1.0) }))
        .collect();
    members.sort_by(|a, b| {
        (b.0 == largest)
            .cmp(&(a.0 == largest))
            .then(b.1.total_cmp(&a.1))
            .then(entries[a.0].name.cmp(&entries[b.0].name))
    });
    let mut done: Vec<(u64, PathBuf)> = Vec::with_capacity(members.len());
    let one = |(row, similarity): (usize, f32)| {
        let entry = &entries[row];
        let path = indexed.path_of(&entry.name);
        let is_copy = done.iter().any(|(bytes, other)| *bytes == entry.bytes && same_bytes(&path, other));
        done.push((entry.bytes, path));
        let (name, width, height) = (entry.name.clone(), entry.width, entry.height);
        Duplicate { name, width, height, bytes: entry.bytes, similarity, is_copy, thumbnail: None }
    };
    members.into_iter().map(one).collect()
}

/// Whether two files hold the same; not where one cannot be read.
fn same_bytes(a: &Path, b: &Path) -> bool {
    let open = |path: &Path| File::open(path).map(|file| BufReader::with_capacity(1 << 16, file).bytes());
    let (Ok(a), Ok(b)) = (open(a), open(b)) else { return false };
    a.map(Result::ok).eq(b.map(Result::ok))
}

/// Writes the page; gives the bytes of its small copies.
fn write(
    path: &Path,
    indexed: &Indexed,
    args: &DuplicatesArgs,
    groups: &mut [Vec<Duplicate>],
) -> anyhow::Result<u64> {
    let all: usize = groups.iter().map(Vec::len).sum();
    let shown = all.min(args.thumbnails);
    let paths = groups.iter().flatten().take(shown).map(|one| indexed.path_of(&one.name)).collect();
    let bar = images::bar(shown, false);
    let (thumbnails, size) = pages::thumbnails_of(paths, THUMBNAIL_PX, || bar.inc(1))?;
    bar.finish_and_clear();
    for (one, thumbnail) in groups.iter_mut().flatten().zip(thumbnails) {
        one.thumbnail = thumbnail;
    }
    let mut notes = Vec::new();
    if shown < all {
        notes
            .push(format!("The first {shown} of {all} pictures come with a small copy; --thumbnails N for more."));
    }
    if !indexed.update.bad.is_empty() {
        let bad: Vec<String> = indexed.update.bad.iter().take(10).map(|b| b.name.clone()).collect();
        let more = if indexed.update.bad.len() > 10 { ", …" } else { "" };
        notes.push(format!("Not compared, as they cannot be read: {}{more}", bad.join(", ")));
    }
    let page = DuplicatesPage {
        folder: indexed.folder.display().to_string(),
        network: indexed.network_name.clone(),
        threshold: args.threshold,
        pictures: indexed.file.entries().len(),
        groups: groups.to_vec(),
        notes,
    };
    write_page(path, &duplicates_html(&page, now()))?;
    Ok(size)
}
