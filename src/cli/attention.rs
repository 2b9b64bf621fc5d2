//! `ocelli attention`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use burn::tensor::Device;
use clap::Args;
use ocelli::data::Source as _;
use ocelli::eval::attention::{AttentionJaccard, AttentionMap, JaccardSummary};
use ocelli::eval::colour::{Colormap, heatmap};
use ocelli::eval::mask::Mask;
use ocelli::eval::picture::{Filter, Picture};
use ocelli::eval::sheet::{AttentionExample, AttentionSheet};
use ocelli::models::Vit;
use ocelli::models::weights::preprocessing::Statistics;
use ocelli::train::{Loading, attention_of, image_tensor};
use serde_json::json;

use super::DeviceArgs;
use super::attention_video::{self, ClipArgs};
use super::images::{self, Input, Named};
use super::opening::{self, NormaliseArgs};
use super::outputs;
use super::talk;

/// Rows of the contact sheet at most.
const SHEET_ROWS: usize = 64;

/// Draw what the network attends to: per head, their mean, masks that keep a share of the attention, and one
/// contact sheet. On the built-in scenes it also prints how well the masks fit the objects. With --video, an
/// animation of the attention or of PCA colours.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli attention photo.jpg --weights runs/first\n  ocelli attention photos --weights weights.safetensors --size 480 --out maps\n  ocelli attention scenes --weights runs/demo\n  ocelli attention --video frames --weights runs/first --out clip.gif\n  ocelli attention --video clip.gif --weights runs/first --pca --out colours.png   # animated PNG"
)]
pub struct AttentionArgs {
    /// Images, folders of images, or `scenes[:COUNT]`
    #[arg(required_unless_present = "video", conflicts_with = "video")]
    images: Vec<String>,
    /// A folder of frames or a GIF: written as an animation, with the same colours from frame to frame
    #[arg(long, value_name = "FRAMES|GIF", conflicts_with_all = ["threshold", "limit", "sheet_only"])]
    video: Option<PathBuf>,
    /// A run folder, a checkpoint, or a backbone (.safetensors, or PyTorch's .pth; see `ocelli weights`)
    #[arg(long)]
    pub(super) weights: PathBuf,
    /// Folder for the pictures (replaces those that Ocelli drew, no other file), named as the images are, with their
    /// folders where images are called alike; with --video also a .gif, or a .png that is animated
    #[arg(long, default_value = "attention")]
    pub(super) out: PathBuf,
    /// Share of the attention a mask keeps
    #[arg(long, default_value_t = 0.6)]
    threshold: f64,
    /// Long side in pixels (default: as it is, at most 480)
    #[arg(long, default_value_t = 0)]
    pub(super) size: usize,
    /// Largest number of images per folder, evenly spaced (0: all)
    #[arg(long, default_value_t = 16)]
    limit: usize,
    /// Number of attention heads, if the weights do not say
    #[arg(long)]
    pub(super) heads: Option<usize>,
    #[command(flatten)]
    pub(super) normalise: NormaliseArgs,
    /// Only the contact sheet, no picture per head
    #[arg(long)]
    sheet_only: bool,
    #[command(flatten)]
    pub(super) device: DeviceArgs,
    #[command(flatten)]
    pub(super) clip: ClipArgs,
}

/// One image and what the last block's heads attend to in it.
pub struct Attended {
    pub name: String,
    pub class: String,
    pub picture: Picture,
    pub map: AttentionMap,
    pub truth: Option<Mask>,
}

pub fn run(args: &AttentionArgs) -> anyhow::Result<()> {
    if let Some(video) = &args.video {
        return attention_video::run(args, video);
    }
    args.clip.check_unused()?;
    if !(0.0..=1.0).contains(&args.threshold) {
        bail!("--threshold: expected a share from 0 to 1, found {}", args.threshold);
    }
    let path = args.out.join("sheet.png");
    outputs::check_picture(&path)?;
    let inputs = Named::list(&args.images, args.limit)?;
    let json = args.clip.json();
    if talk::notes(json) {
        inputs.lines().iter().for_each(|line| println!("{line}"));
    }
    let device = args.device.open()?;
    let given = args.normalise.given()?;
    let loading = Loading { heads: args.heads, only_vit: true, given, ..Loading::default() };
    let backbone = loading.open(&args.weights, &device.device)?;
    if talk::notes(json) {
        println!("{}", opening::lines(&backbone, &device.name, &opening::long_side(args.size)));
    }
    let vit = backbone.vit()?;
    let labels: Vec<String> = (1..=vit.heads()).map(|head| format!("head{head}")).chain(["mean".into()]).collect();
    let ends: Vec<String> = labels.iter().flat_map(|l| [format!("-{l}.png"), format!("-{l}-mask.png")]).collect();
    let stems = outputs::stems(&inputs.names(), &ends);
    if !args.sheet_only {
        let mut files = stems.iter().flat_map(|stem| ends.iter().map(move |end| format!("{stem}{end}")));
        files.try_for_each(|file| outputs::check_picture(&args.out.join(file)))?;
    }
    let bar = images::bar(inputs.len(), json);
    let (mut shown, mut scores, mut done) = (Vec::new(), Vec::new(), 0);
    let mut skipped = Vec::new();
    for (index, stem) in stems.iter().enumerate() {
        let input = match images::read_or_note(&inputs, index, &inputs.name(index), &bar, json) {
            Ok(input) => input,
            Err(note) => {
                skipped.push(json!({ "name": inputs.name(index), "reason": note }));
                continue;
            }
        };
        let mut attended = attend(vit, &input, args.size, &backbone.statistics.value, &device.device)?;
        if !args.sheet_only {
            write_heads(&args.out.join(stem), &attended, args.threshold)?;
        }
        scores.extend(attended.jaccard(args.threshold)?);
        // Two images of one name in different folders have captions as different as their files.
        attended.name.clone_from(stem);
        if shown.len() < SHEET_ROWS {
            shown.push(attended);
        }
        done += 1;
        bar.inc(1);
    }
    bar.finish_and_clear();
    if let (0, Some(first)) = (done, skipped.first()) {
        bail!("no image could be read; {}", first["reason"].as_str().unwrap_or_default());
    }
    write_sheet(&path, "What the last block attends to", &shown, args.threshold)?;
    if json {
        let fit = if scores.is_empty() { None } else { Some(JaccardSummary::of(&scores)?) };
        let fit = fit.map(|fit| {
            json!({ "images": fit.images, "share": args.threshold, "best_head": fit.best_head, "mean": fit.mean_map, "per_head": fit.per_head })
        });
        println!(
            "{}",
            json!({ "weights": backbone.description, "normalisation": backbone.statistics.to_string(), "images": done,
                "skipped": skipped, "sheet": path, "jaccard": fit })
        );
        return Ok(());
    }
    println!("{done} images: {}", path.display());
    if shown.len() < done {
        println!("the sheet shows the first {SHEET_ROWS}");
    }
    if !scores.is_empty() {
        let fit = JaccardSummary::of(&scores)?;
        println!(
            "Jaccard index of the masks with the objects ({:.0} % of the attention, {} scenes): best head {:.3}, mean of \
             the heads {:.3}",
            args.threshold * 100.0,
            fit.images,
            fit.best_head,
            fit.mean_map
        );
    }
    Ok(())
}

impl Attended {
    /// How the masks of this image fit its object, where that is known.
    pub fn jaccard(&self, mass: f64) -> anyhow::Result<Option<AttentionJaccard>> {
        let Some(truth) = &self.truth else { return Ok(None) };
        Ok(Some(self.map.jaccard(truth, self.picture.width() / self.map.columns(), mass)?))
    }
}

/// Attention of one image, its long side scaled to `size` pixels (see [`images::fit`]).
pub fn attend(
    vit: &Vit,
    input: &Input,
    size: usize,
    statistics: &Statistics,
    device: &Device,
) -> anyhow::Result<Attended> {
    let (image, truth) = images::fit(input, size, vit.patch_size_px());
    let (w, h) = (image.width as usize, image.height as usize);
    let map = attention_of(vit, image_tensor(&image, statistics, device))
        .with_context(|| format!("attention of {}", input.name))?;
    Ok(Attended {
        name: input.name.clone(),
        class: input.class.clone(),
        picture: Picture::new(w, h, image.data)?,
        map,
        truth: truth.map(|m| Mask::from_bytes(w, h, &m.data)).transpose()?,
    })
}

/// One row per image, every head, the mean, the mask.
pub fn write_sheet(path: &Path, title: &str, attended: &[Attended], mass: f64) -> anyhow::Result<()> {
    let examples: Vec<AttentionExample<'_>> = attended
        .iter()
        .map(|a| AttentionExample {
            name: &a.name,
            note: &a.class,
            picture: &a.picture,
            attention: &a.map,
            truth: a.truth.as_ref(),
        })
        .collect();
    let sheet = AttentionSheet { title: title.to_owned(), mass, ..AttentionSheet::default() }.render(&examples)?;
    outputs::write_png(path, sheet.width(), sheet.height(), sheet.data())
}

/// A heat-map over the image and a mask per head, and the same of their mean, in files whose names begin with `start`.
fn write_heads(start: &Path, a: &Attended, mass: f64) -> anyhow::Result<()> {
    let file = |end: String| {
        let mut path = start.as_os_str().to_owned();
        path.push(end);
        PathBuf::from(path)
    };
    let (w, h) = (a.picture.width(), a.picture.height());
    let draw = |label: &str, values: &[f32], mask: Mask| -> anyhow::Result<()> {
        let heat = heatmap(values, a.map.columns(), w, h, Colormap::Viridis, Filter::Smooth)?;
        let over = a.picture.overlay(&heat, 0.6);
        outputs::write_png(&file(format!("-{label}.png")), w, h, over.data())?;
        let tinted = a.picture.tint(&mask.resize(w, h), false, [0, 0, 0], 0.75);
        outputs::write_png(&file(format!("-{label}-mask.png")), w, h, tinted.data())
    };
    for head in 0..a.map.heads() {
        draw(&format!("head{}", head + 1), a.map.head(head), a.map.head_mask(head, mass)?)?;
    }
    draw("mean", &a.map.mean(), a.map.mean_mask(mass)?)
}
