//! `ocelli match`.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use ocelli::data::{Image, MocoViews, Rng, Source as _, ViewPlan, fit_to_cells};
use ocelli::eval::correspondence::{Match, MatchPicture, nearest};
use ocelli::eval::picture::Picture;
use ocelli::train::{Cells, Loading, cells_of, image_tensor};
use serde_json::json;

use super::DeviceArgs;
use super::images::{Input, Named};
use super::opening::{self, NormaliseArgs};
use super::outputs;
use super::talk;

/// Draw which places of two images look alike to the network
///
/// The second image may be an augmented view of the first. Lines join nearest neighbours of dense features, and have
/// the colour of their place in the first image. The three leading components of the features stand side by side.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli match one.jpg two.jpg --weights runs/first\n  ocelli match photo.jpg --weights dino_resnet50_pretrain.pth --stride 16 --out match.png"
)]
pub struct MatchArgs {
    /// An image, or `scenes:1`
    first: String,
    /// Another; without it, an augmented view of the first
    second: Option<String>,
    /// A run folder, a checkpoint, a backbone (Vision Transformer or ResNet), or `random:ARCH`
    #[arg(long)]
    weights: PathBuf,
    /// The picture (replaces one that Ocelli drew, no other file)
    #[arg(long, default_value = "match.png")]
    out: PathBuf,
    /// Every cell's nearest neighbour, not only those that choose each other
    #[arg(long)]
    one_way: bool,
    /// Largest number of lines, the most similar first (0: all)
    #[arg(long, default_value_t = 60)]
    lines: usize,
    /// Long side in pixels (default: as it is, at most 480)
    #[arg(long, default_value_t = 0)]
    size: usize,
    /// Pixels per cell of a ResNet: 32, or 16 or 8 by dilation (0: 32)
    #[arg(long, default_value_t = 0)]
    stride: usize,
    /// Seed of the augmented view
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number of attention heads, if the weights do not say
    #[arg(long)]
    heads: Option<usize>,
    #[command(flatten)]
    normalise: NormaliseArgs,
    /// Print JSON: how many cells match, and the matches that are drawn
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// One side of the picture.
struct Side {
    picture: Picture,
    cells: Cells,
}

pub fn run(args: &MatchArgs) -> anyhow::Result<()> {
    outputs::check_picture(&args.out)?;
    let first = readable(&args.first, args.json)?;
    let second = args.second.as_deref().map(|name| readable(name, args.json)).transpose()?;
    let device = args.device.open()?;
    let given = args.normalise.given()?;
    let loading = Loading { heads: args.heads, stride_px: args.stride, given, ..Loading::default() };
    let net = loading.open(&args.weights, &device.device)?;
    if talk::notes(args.json) {
        println!("{}", opening::lines(&net, &device.name, &opening::long_side(args.size)));
    }
    let side = |image: Image| -> anyhow::Result<Side> {
        let cells = cells_of(&net.encoder, image_tensor(&image, &net.statistics.value, &device.device))?;
        Ok(Side { picture: Picture::new(image.width as usize, image.height as usize, image.data)?, cells })
    };
    let fitted = fit_to_cells(&first.image, args.size, net.stride_px).image;
    let other = match &second {
        Some(second) => fit_to_cells(&second.image, args.size, net.stride_px).image,
        None => augmented(&first.image, &fitted, net.stride_px, args.seed),
    };
    let (a, b) = (side(fitted)?, side(other)?);
    let all = nearest(a.cells.rows(&device.device), b.cells.rows(&device.device))?;
    let kept = strongest(&all, args.one_way, args.lines);
    if kept.is_empty() {
        bail!("no two cells choose each other; --one-way draws every cell's nearest neighbour");
    }
    let picture = MatchPicture {
        images: [&a.picture, &b.picture],
        features: [&a.cells.values, &b.cells.values],
        grids: [a.cells.grid, b.cells.grid],
        dim: a.cells.dim,
    };
    let page = picture.render(&kept).context("cannot draw the matches")?;
    outputs::write_png(&args.out, page.width(), page.height(), page.data())?;
    let mutual = all.iter().filter(|m| m.mutual).count();
    if args.json {
        let rows: Vec<_> = kept
            .iter()
            .map(|m| json!({ "from": m.from, "to": m.to, "similarity": m.similarity, "mutual": m.mutual }))
            .collect();
        println!(
            "{}",
            json!({ "weights": net.description, "normalisation": net.statistics.to_string(), "cells": all.len(), "mutual": mutual,
                "grids": picture.grids, "drawn": rows, "out": args.out })
        );
        return Ok(());
    }
    println!(
        "{} cells, {mutual} of them in mutual matches, {} drawn: {}",
        all.len(),
        kept.len(),
        args.out.display()
    );
    Ok(())
}

/// The image somebody named, or the first of a folder that can be read; those before it are listed unless JSON is printed.
fn readable(name: &str, json: bool) -> anyhow::Result<Input> {
    let inputs = Named::list(&[name.to_owned()], 0)?;
    if talk::notes(json) {
        inputs.lines().iter().for_each(|line| println!("{line}"));
    }
    let mut first = None;
    for index in 0..inputs.len() {
        match inputs.input(index) {
            Ok(input) => return Ok(input),
            Err(error) if inputs.len() == 1 => return Err(error),
            Err(error) => {
                if !json {
                    println!("warning: skipped {}: {error:#}", inputs.name(index));
                }
                first.get_or_insert(error);
            }
        }
    }
    Err(first.map_or_else(
        || anyhow::anyhow!("{name}: expected an image, found none"),
        |e| e.context("no image could be read"),
    ))
}

/// A view of MoCo v2 at the size of the longer side, whole cells.
fn augmented(image: &Image, fitted: &Image, cell_px: usize, seed: u64) -> Image {
    let cell = cell_px as u32;
    let side = (fitted.width.max(fitted.height) / cell).max(1) * cell;
    let spec = ViewPlan::moco(MocoViews { size_px: side, ..MocoViews::default() }).views.remove(0);
    let params = spec.sample(image.width, image.height, &mut Rng::for_sample(seed, 0, 0));
    spec.render(image, &params)
}

/// The most similar matches, the best first.
fn strongest(all: &[Match], one_way: bool, lines: usize) -> Vec<Match> {
    let mut kept: Vec<Match> = all.iter().filter(|m| one_way || m.mutual).copied().collect();
    kept.sort_by(|a, b| b.similarity.total_cmp(&a.similarity).then(a.from.cmp(&b.from)));
    if lines > 0 {
        kept.truncate(lines);
    }
    kept
}
