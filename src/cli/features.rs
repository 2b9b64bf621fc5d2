//! `ocelli features`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use burn::tensor::{Tensor, TensorData};
use clap::{Args, ValueEnum};
use ocelli::data::{AllImages, Source as _, hash_words};
use ocelli::eval::knn::KnnConfig;
use ocelli::eval::knn::neighbours::find_neighbours_async;
use ocelli::eval::pca::pca3;
use ocelli::eval::umap::{Graph, umap};
use ocelli::report::text::bytes;
use ocelli::report::{MapPage, MapPoint, map_html};
use serde_json::{Value, json};

use super::indexing::{IndexArgs, Indexed, decimal, pictures};
use super::report::{now, write_page};
use super::{images, opening, pages};

/// Neighbours of each picture that UMAP lays out.
const NEIGHBOURS: usize = 15;

/// Draw a map of a folder: every picture is a point, and similar pictures lie near each other
///
/// The map is one page that contains the pictures. Their features (the class token, or a ResNet's mean over its
/// cells) are reduced to two dimensions. Points have the colours of their class folders.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli features photos --weights runs/first\n  ocelli features photos --weights vit.pth --map photos.html --projection umap\n  ocelli features photos --weights runs/first --thumbnails 500   # a smaller page\n\nTo write the features themselves to a file, use `ocelli embed`. The index of `ocelli search` keeps the features."
)]
pub struct FeaturesArgs {
    /// The folder, with all folders below it
    folder: PathBuf,
    /// The page (replaces one that Ocelli wrote, no other file; default: map.html, none with --json)
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
    /// How features become two numbers
    #[arg(long, value_enum, default_value_t = Projection::Pca)]
    projection: Projection,
    /// Largest number of pictures that have a small copy, of about 5 kB each at 96 px. The others are points with
    /// names
    #[arg(long, default_value_t = 2000, value_name = "N")]
    thumbnails: usize,
    /// Long side of the small copies, pixels
    #[arg(long, default_value_t = 96, value_name = "PX", value_parser = clap::value_parser!(u32).range(16..=512))]
    thumbnail_size: u32,
    /// Print JSON: every picture with its place
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    index: IndexArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Projection {
    /// The two leading principal components: distances are meaningful, and groups overlap
    Pca,
    /// UMAP: neighbours stay neighbours, and groups separate; distances between groups mean little
    Umap,
}

pub fn run(args: &FeaturesArgs) -> anyhow::Result<()> {
    let page = args.map.clone().or_else(|| (!args.json).then(|| PathBuf::from("map.html")));
    if let Some(path) = &page {
        pages::check(path)?;
    }
    let indexed = Indexed::open(&args.folder, &args.index, args.json)?;
    let count = indexed.file.entries().len();
    if count < 3 {
        bail!("{}: expected at least 3 pictures for a map, found {count}", args.folder.display());
    }
    let values = indexed.file.rows().to_vec(0..count);
    let (places, projection) = place(&indexed, &values, args.projection)?;
    // A folder that was not looked through still tells its classes, where it is there.
    let listed = indexed.images.clone().or_else(|| AllImages::open(&args.folder).ok().map(Arc::new));
    let class_of = |name: &str| listed.as_ref().and_then(|images| images.label(images.find(name)?));
    let mut points: Vec<MapPoint> = indexed
        .file
        .entries()
        .iter()
        .zip(places)
        .map(|(entry, at)| MapPoint {
            name: entry.name.clone(),
            at,
            class: class_of(&entry.name),
            thumbnail: None,
        })
        .collect();
    // In no order, so that no class lies over the others, and small copies are of all of them.
    points.sort_by_cached_key(|p| hash_words(&p.name.bytes().map(u64::from).collect::<Vec<_>>()));
    let classes = listed.map(|images| images.class_names().to_vec()).unwrap_or_default();
    if args.json {
        let all = fields(&indexed, &points, &classes, (&projection, page.as_deref()));
        println!("{all}");
    }
    let Some(path) = page else { return Ok(()) };
    let shown = count.min(args.thumbnails);
    let paths = points.iter().take(shown).map(|p| indexed.path_of(&p.name)).collect();
    let bar = images::bar(shown, false);
    let (thumbnails, size) = pages::thumbnails_of(paths, args.thumbnail_size, || bar.inc(1))?;
    bar.finish_and_clear();
    for (point, thumbnail) in points.iter_mut().zip(thumbnails) {
        point.thumbnail = thumbnail;
    }
    let mut notes = Vec::new();
    if shown < count {
        notes.push(format!("{shown} of {count} pictures come with a small copy; --thumbnails N for more."));
    }
    let map = MapPage {
        folder: args.folder.display().to_string(),
        network: indexed.network_name,
        projection: projection.clone(),
        classes,
        points,
        notes,
    };
    let html = map_html(&map, now());
    write_page(&path, &html)?;
    if !args.json {
        println!("{projection}");
        println!(
            "map: {}, {}, {} of it small copies of {}",
            path.display(),
            bytes(html.len() as u64),
            bytes(size),
            pictures(shown)
        );
    }
    Ok(())
}

/// A place for each picture, and what the places are in words.
fn place(indexed: &Indexed, values: &[f32], projection: Projection) -> anyhow::Result<(Vec<[f32; 2]>, String)> {
    let dim = indexed.file.rows().dim();
    let scores = pca3(values, dim)?;
    let scores: Vec<[f32; 2]> = scores.as_chunks::<3>().0.iter().map(|[a, b, _]| [*a, *b]).collect();
    if projection == Projection::Pca {
        let all: f64 = variance(values.iter(), dim);
        let shares = [0, 1].map(|axis| {
            let of = variance(scores.iter().map(|s| &s[axis]), 1);
            if all > 0.0 { 100.0 * of / all } else { 0.0 }
        });
        let [first, second] = shares.map(|share| format!("{share:.1} %"));
        let words = format!("The two leading principal components, {first} and {second} of the variance");
        return Ok((scores, words));
    }
    let k = NEIGHBOURS.min(scores.len() - 1);
    let (neighbours, distances) = neighbours(indexed, values, k)?;
    let graph = Graph { k, neighbours: &neighbours, distances: &distances };
    let at = umap(graph, scores.as_flattened())?;
    let words =
        format!("UMAP of {k} neighbours by cosine: near points are alike, distances between groups mean little");
    Ok((at.as_chunks::<2>().0.to_vec(), words))
}

/// Sum over the columns of their variances.
fn variance<'a>(values: impl Iterator<Item = &'a f32>, columns: usize) -> f64 {
    let (mut sums, mut squares, mut count) = (vec![0.0; columns], vec![0.0; columns], 0usize);
    for (i, value) in values.enumerate() {
        let value = f64::from(*value);
        sums[i % columns] += value;
        squares[i % columns] += value * value;
        count += 1;
    }
    let rows = (count / columns).max(1) as f64;
    sums.iter().zip(&squares).map(|(sum, square)| square / rows - (sum / rows).powi(2)).sum()
}

/// The `k` nearest pictures of each, without itself, and their distances 1 − cosine.
fn neighbours(indexed: &Indexed, values: &[f32], k: usize) -> anyhow::Result<(Vec<u32>, Vec<f32>)> {
    let dim = indexed.file.rows().dim();
    let data = TensorData::new(values.to_vec(), [values.len() / dim, dim]);
    let rows = Tensor::<2>::from_data(data, &indexed.network.device.device);
    let config = KnnConfig { normalise: false, ..KnnConfig::default() };
    let found = burn::tensor::read_sync(find_neighbours_async(rows.clone(), rows, k + 1, &config))?;
    let (mut all, mut distances) = (Vec::new(), Vec::new());
    for row in 0..found.rows() {
        // Among many copies of a picture it may not be among its own nearest.
        let others = found.indices(row).iter().zip(found.similarities(row)).filter(|(i, _)| **i as usize != row);
        for (index, similarity) in others.take(k) {
            all.push(*index);
            distances.push((1.0 - similarity).max(0.0));
        }
    }
    Ok((all, distances))
}

fn fields(
    indexed: &Indexed,
    points: &[MapPoint],
    classes: &[String],
    (projection, page): (&str, Option<&std::path::Path>),
) -> Value {
    let class = |c: Option<u32>| c.and_then(|c| classes.get(c as usize));
    let points = points
        .iter()
        .map(|p| json!({ "name": p.name, "class": class(p.class), "x": decimal(p.at[0]), "y": decimal(p.at[1]) }));
    let loaded = &indexed.network.loaded;
    json!({
        "folder": indexed.folder, "index": indexed.fields(), "weights": opening::fields(loaded, &loaded.size),
        "projection": projection, "classes": classes, "points": points.collect::<Vec<_>>(), "page": page,
    })
}
