//! `ocelli eval retrieval`.

mod sets;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use clap::{Args, ValueEnum};
use image::imageops::{FilterType, resize};
use ocelli::data::views::{CropBox, Filter, resized_crop};
use ocelli::data::{Image, Source, normalise_into};
use ocelli::eval::retrieval::scales::{SCALES, at_scale, mean_of_scales};
use ocelli::eval::retrieval::{Gallery, MeanScore, PRECISION_AT, QueryScore, Setup, mean, rank, score};
use ocelli::models::weights::preprocessing::{EvalSize, Statistics, Told};
use ocelli::models::{Backbone as _, Mode};
use ocelli::train::Loading;
use serde_json::{Value, json};

use super::DeviceArgs;
use super::extraction::{Features, Network, Planes, read_back};
use super::opening::{self, NormaliseArgs};
use super::talk;
use sets::Set;

/// Measure image retrieval on the revisited Oxford and Paris sets, or on a folder of classes
///
/// All images of a database are ranked by the cosine of their features with a query's (the class token, or a ResNet's
/// mean over its cells). The results are mean average precision and precision at 1, 5 and 10, for the easy, medium
/// and hard setups.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli eval retrieval --data revisited --dataset roxford5k --weights dino_vitsmall16_googlelandmark_pretrain.pth --scales multi\n  ocelli eval retrieval --data revisited/roxford5k --weights runs/first --size 224\n  ocelli eval retrieval --data imagenette --weights runs/first      # classes stand in: another protocol\n\nThe layout is the benchmark's: NAME/gnd_NAME.pkl (or the same as .json) and NAME/jpg/IMAGE.jpg, where NAME is roxford5k,\nrparis6k or a name of yours. The pickle is read as data: nothing in it is run."
)]
pub struct RetrievalArgs {
    /// A folder with the set's folder in it, that folder, or a folder of classes
    #[arg(long)]
    data: String,
    /// A run folder, a checkpoint, a backbone (.safetensors, or PyTorch's .pth; see `ocelli weights`), or
    /// `random:ARCH`
    #[arg(long)]
    weights: PathBuf,
    /// roxford5k, rparis6k, or another set in the same layout (default: the one that is there)
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Images at their own size, or the mean of the features at 1, 1/√2 and 1/2 of it
    #[arg(long, value_enum, default_value_t = Scales::One)]
    scales: Scales,
    /// Largest long side of the images in pixels. Larger images are made smaller (0: all stay as they are)
    #[arg(long, value_name = "PX", default_value_t = 512)]
    size: usize,
    /// Crop queries to their boxes, as the benchmark does. DINO's evaluation uses whole images
    #[arg(long)]
    crop_queries: bool,
    #[command(flatten)]
    normalise: NormaliseArgs,
    /// Number of attention heads, if the weights do not say
    #[arg(long)]
    heads: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scales {
    /// Their own size
    #[value(name = "1")]
    One,
    /// 1, 1/√2 and 1/2
    Multi,
}

impl Scales {
    fn list(self) -> &'static [f64] {
        match self {
            Self::One => &SCALES[..1],
            Self::Multi => &SCALES,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::One => "1",
            Self::Multi => "1, 1/√2, 1/2",
        }
    }
}

pub fn run(args: &RetrievalArgs) -> anyhow::Result<()> {
    let set = Set::open(&args.data, args.dataset.as_deref())?;
    if args.crop_queries && set.boxes.iter().any(Option::is_none) {
        let without = set.boxes.iter().filter(|b| b.is_none()).count();
        bail!("--crop-queries: expected a box for every query, found none for {without} of {}", set.boxes.len());
    }
    let device = args.device.open()?;
    let loading = Loading { heads: args.heads, given: args.normalise.given()?, ..Loading::default() };
    let loaded = loading.open(&args.weights, &device.device)?;
    let told = match args.size {
        0 => "images as they are (--size)".to_owned(),
        px => format!("long side at most {px} px (--size)"),
    };
    if talk::notes(args.json) {
        set.lines.iter().for_each(|line| println!("{line}"));
        println!("{}", opening::lines(&loaded, &device.name, &told));
        let queries = if args.crop_queries { "cut to their boxes" } else { "whole" };
        println!("scales: {}; queries: {queries}", args.scales.text());
    }
    let network = Network { loaded: &loaded, device: &device };
    let preparation = Preparation { size: args.size, statistics: loaded.statistics.value, scales: args.scales };
    let features = |(source, indices): &(Arc<dyn Source>, Vec<usize>), boxes: Vec<Option<[f64; 4]>>| {
        let first = indices.clone();
        let prepare = move |index: usize, image: &Image| {
            // Boxes are in the order of the queries.
            let place = if boxes.is_empty() { None } else { first.iter().position(|i| *i == index) };
            preparation.planes(image, place.and_then(|place| boxes.get(place).copied().flatten()))
        };
        let forward = |images| read_back(loaded.encoder.features(images, Mode::Eval));
        let found = network.features(source, indices.clone(), prepare, &forward)?;
        unite(found, args.scales.list().len())
    };
    let database = features(&set.database, Vec::new())?;
    let boxes = if args.crop_queries { set.boxes.clone() } else { Vec::new() };
    let queries = features(&set.queries, boxes)?;
    if database.count() == 0 || queries.count() == 0 {
        let part = if database.count() == 0 { "database" } else { "queries" };
        let why = database.warnings().chain(queries.warnings()).next().unwrap_or_default();
        bail!("{}: no image of the {part} could be read; {why}", args.data);
    }
    let scores = evaluate(&set, &database, &queries)?;
    if scores.iter().all(Option::is_none) {
        bail!("{}: no query has an image to find: its lists easy and hard are empty", args.data);
    }
    let size = Told::new(EvalSize { resize_px: 0, crop_px: 0 }, told);
    let report = Report { set: &set, scores: &scores, database: &database, queries: &queries };
    if args.json {
        let mut fields = report.json();
        fields["weights"] = opening::fields(&loaded, &size);
        fields["scales"] = json!(args.scales.list());
        fields["max_side_px"] = json!(args.size);
        fields["queries_cropped"] = json!(args.crop_queries);
        println!("{fields}");
    } else {
        report.print();
    }
    Ok(())
}

/// How images become pixels for the network.
#[derive(Clone, Copy)]
struct Preparation {
    size: usize,
    statistics: Statistics,
    scales: Scales,
}

impl Preparation {
    fn planes(&self, image: &Image, bbox: Option<[f64; 4]>) -> anyhow::Result<Vec<Planes>> {
        let cut = bbox.map(|bbox| cut(image, bbox));
        let image = thumbnail(cut.as_ref().unwrap_or(image), self.size);
        let mut planes = vec![0.0; image.data.len()];
        normalise_into(&image, self.statistics.mean, self.statistics.std, &mut planes);
        let sides = (image.height as usize, image.width as usize);
        let scaled = |scale: &f64| Ok(at_scale(&planes, sides, *scale)?);
        self.scales.list().iter().map(scaled).collect()
    }
}

/// The part of an image in a box whose sides are rounded, half to even, and clipped to the image.
fn cut(image: &Image, bbox: [f64; 4]) -> Image {
    let [left, top, right, bottom] = bbox.map(|v| v.round_ties_even().clamp(0.0, f64::from(u32::MAX)) as u32);
    let (width, height) = (right.saturating_sub(left).max(1), bottom.saturating_sub(top).max(1));
    let clipped = CropBox { left, top, width, height }.clipped(image.width, image.height);
    resized_crop(image, clipped, clipped.width, clipped.height, Filter::Bicubic)
}

/// An image whose long side is at most `most` pixels (0: any), as PIL's `thumbnail` has its sides, by Lanczos'
/// filter.
fn thumbnail(image: &Image, most: usize) -> Image {
    let (width, height) = (image.width, image.height);
    if most == 0 || width.max(height) as usize <= most {
        return image.clone();
    }
    let (side, aspect) = (most as f64, f64::from(width) / f64::from(height));
    // The short side is rounded whichever way keeps the ratio of the sides better.
    let rounded = |exact: f64, off: &dyn Fn(f64) -> f64| {
        let (floor, ceil) = (exact.floor(), exact.ceil());
        let best = if off(ceil) < off(floor) { ceil } else { floor };
        best.max(1.0) as u32
    };
    let (w, h) = if aspect <= 1.0 {
        (rounded(side * aspect, &|w| (aspect - w / side).abs()), most as u32)
    } else {
        (most as u32, rounded(side / aspect, &|h| if h == 0.0 { 0.0 } else { (aspect - side / h).abs() }))
    };
    let scaled = image::RgbImage::from_raw(width, height, image.data.clone())
        .map(|pixels| resize(&pixels, w, h, FilterType::Lanczos3).into_raw());
    scaled.and_then(|data| Image::new(w, h, data).ok()).unwrap_or_else(|| image.clone())
}

/// One feature of each image's scales.
fn unite(found: Features, scales: usize) -> anyhow::Result<Features> {
    if scales == 1 || found.dim == 0 {
        return Ok(found);
    }
    let dim = found.dim / scales;
    let mut rows = Vec::with_capacity(found.rows.len() / scales);
    for row in found.rows.chunks_exact(found.dim) {
        rows.extend(mean_of_scales(row, dim)?);
    }
    Ok(Features { dim, rows, ..found })
}

/// Means of the three setups over the queries that could be read.
fn evaluate(set: &Set, database: &Features, queries: &Features) -> anyhow::Result<Vec<Option<MeanScore>>> {
    let gallery = Gallery::new(database.rows.clone(), database.dim)?;
    let mut scores: Vec<Vec<Option<QueryScore>>> = vec![Vec::new(); Setup::ALL.len()];
    for (q, query) in queries.rows.chunks_exact(queries.dim).enumerate() {
        if !queries.is_there[q] {
            continue;
        }
        let mut similarities = gallery.similarities(query)?;
        // What could not be read is found last.
        let gaps = similarities.iter_mut().zip(&database.is_there).filter(|(_, is_there)| !**is_there);
        gaps.for_each(|(similarity, _)| *similarity = f32::NEG_INFINITY);
        let ranking = rank(&similarities);
        for (setup, scores) in Setup::ALL.into_iter().zip(&mut scores) {
            scores.push(score(&ranking, &set.relevance[q], setup, &PRECISION_AT)?);
        }
    }
    Ok(scores.iter().map(|scores| mean(scores)).collect())
}

/// What came out.
struct Report<'a> {
    set: &'a Set,
    scores: &'a [Option<MeanScore>],
    database: &'a Features,
    queries: &'a Features,
}

impl Report<'_> {
    /// Setups that say something: of classes, which have no hard images, the first alone.
    fn rows(&self) -> impl Iterator<Item = (&'static str, &Option<MeanScore>)> {
        let shown = if self.set.is_revisited { Setup::ALL.len() } else { 1 };
        let name = |setup: Setup| if self.set.is_revisited { setup.letter() } else { "class" };
        Setup::ALL.into_iter().map(name).zip(self.scores).take(shown)
    }

    fn warnings(&self) -> impl Iterator<Item = String> {
        let last = (self.database.count() < self.database.is_there.len())
            .then(|| "images of the database that were skipped are ranked last".to_owned());
        self.database.warnings().chain(self.queries.warnings()).chain(last)
    }

    fn print(&self) {
        println!("{:<7}{:>8}{:>8}{:>8}{:>8}{:>10}", "", "mAP", "mP@1", "mP@5", "mP@10", "queries");
        for (name, score) in self.rows() {
            let Some(score) = score else {
                println!("{name:<7}  no query has an image to find in this setup");
                continue;
            };
            let figures = std::iter::once(&score.map).chain(&score.mean_precision_at);
            let figures: String = figures.map(|share| format!("{:>8.2}", 100.0 * share)).collect();
            println!("{name:<7}{figures}{:>10}", score.queries);
        }
        self.warnings().for_each(|line| println!("{line}"));
    }

    fn json(&self) -> Value {
        let row = |(name, score): (&str, &Option<MeanScore>)| {
            let Some(score) = score else {
                return (name.to_owned(), Value::Null);
            };
            let at = PRECISION_AT.iter().zip(&score.mean_precision_at);
            let at: serde_json::Map<String, Value> = at.map(|(k, p)| (k.to_string(), json!(100.0 * p))).collect();
            (name.to_owned(), json!({ "map": 100.0 * score.map, "mp_at": at, "queries": score.queries }))
        };
        let protocol = match self.set.is_revisited {
            true => "revisited Oxford/Paris",
            false => "classes as easy positives: not a published protocol",
        };
        json!({
            "data": self.set.fields,
            "protocol": protocol,
            "results": self.rows().map(row).collect::<serde_json::Map<String, Value>>(),
            "warnings": self.warnings().collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumbnails_have_the_sides_that_pil_gives_them() {
        // PIL 11: Image.new("RGB", sides).thumbnail((most, most)).
        for ((width, height), most, expected) in [
            ((1024, 768), 512, (512, 384)),
            ((768, 1024), 512, (384, 512)),
            ((1024, 683), 512, (512, 342)),
            ((683, 1024), 224, (149, 224)),
            ((1000, 3), 100, (100, 1)),
            ((100, 90), 512, (100, 90)),
            ((900, 601), 0, (900, 601)),
        ] {
            let small = thumbnail(&Image::filled(width, height, [9, 80, 200]), most);
            assert_eq!((small.width, small.height), expected, "{width}×{height} to {most}");
            assert_eq!(small.pixel(0, 0), Some([9, 80, 200]), "one colour stays");
        }
    }

    #[test]
    fn boxes_are_rounded_and_clipped() {
        let image = Image::new(4, 3, (0..36).collect()).unwrap();
        let part = cut(&image, [0.6, 0.5, 3.4, 9.0]);
        assert_eq!((part.width, part.height), (2, 3));
        assert_eq!(part.data[..6], image.data[3..9]);
    }
}
