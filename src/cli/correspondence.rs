//! `ocelli eval correspondence`.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use ocelli::data::{MocoViews, Source as _, ViewPlan};
use ocelli::eval::correspondence::Pck;
use ocelli::models::weights::preprocessing::{EvalSize, Statistics, Told};
use ocelli::models::{Backbone as _, Mode};
use ocelli::train::{Loaded, Loading, correspondence};
use serde_json::json;

use super::DeviceArgs;
use super::images::{self, Named};
use super::opening::{self, NormaliseArgs};
use super::talk;

/// Measure how often the most similar place in another view of an image is the right one (PCK)
///
/// Each image gives two views, by MoCo v2's augmentation. Every cell of one view is matched to the most similar cell
/// of the other. A match is right within 1 cell, or within 2 cells, of the place that the crops give.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli eval correspondence --data scenes --weights runs/first\n  ocelli eval correspondence --data photos --weights densecl.pth random:resnet-50 --images 500 --json"
)]
pub struct CorrespondenceArgs {
    /// A folder of images, records, or `scenes`
    #[arg(long)]
    data: String,
    /// Networks to compare: run folders, checkpoints, backbones (Vision Transformer or ResNet), or `random:ARCH`
    #[arg(long, num_args = 1.., required = true)]
    weights: Vec<PathBuf>,
    /// Largest number of images, evenly spaced (0: all)
    #[arg(long, default_value_t = 200)]
    images: usize,
    /// Side of the views in pixels
    #[arg(long, default_value_t = 224)]
    size: u32,
    /// Pixels per cell of a ResNet: 32, or 16 or 8 by dilation (0: 32)
    #[arg(long, default_value_t = 0)]
    stride: usize,
    /// Seed of the views: the same seed gives every network the same views
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number of attention heads, if the weights do not say
    #[arg(long)]
    heads: Option<usize>,
    #[command(flatten)]
    normalise: NormaliseArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: &CorrespondenceArgs) -> anyhow::Result<()> {
    let inputs = Named::list(std::slice::from_ref(&args.data), args.images)?;
    if talk::notes(args.json) {
        for line in inputs.lines() {
            println!("{line}");
        }
    }
    let plan = ViewPlan::moco(MocoViews { size_px: args.size, ..MocoViews::default() });
    plan.validate()?;
    let given = args.normalise.given()?;
    let device = args.device.open()?;
    let (all, mut rows) = ((0..inputs.len()).collect::<Vec<_>>(), Vec::new());
    for (i, weights) in args.weights.iter().enumerate() {
        let loading =
            Loading { heads: args.heads, stride_px: args.stride, given: given.clone(), ..Loading::default() };
        let net = loading.open(weights, &device.device)?;
        if !(args.size as usize).is_multiple_of(net.stride_px) {
            bail!(
                "--size: expected a multiple of {} px, this network's cells; found {}",
                net.stride_px,
                args.size
            );
        }
        let Statistics { mean, std } = net.statistics.value;
        let plan = ViewPlan { mean, std, ..plan.clone() };
        if !args.json {
            if i == 0 && talk::notes(false) {
                println!("{} pairs of views of {} px on {}", inputs.len(), args.size, device.name);
            }
            // Figures of several networks are told apart by it.
            println!("{}", net.description);
            if talk::notes(false) {
                println!("normalisation: {}; size: views of {} px", net.statistics, args.size);
            }
        }
        let bar = images::bar(inputs.len(), args.json);
        let mut skipped = Vec::new();
        let pck = correspondence(
            |x| net.encoder.feature_map(x, Mode::Eval),
            (&inputs, &all),
            &plan,
            args.seed,
            &device.device,
            |bad| {
                skipped.extend(bad);
                bar.inc(1);
            },
        )?;
        bar.finish_and_clear();
        let done = inputs.len() - skipped.len();
        if let (0, Some(bad)) = (done, skipped.first()) {
            bail!("no image could be read; the first: {}: {}", bad.name, bad.reason);
        }
        if pck.cells == 0 {
            bail!("{}: no two views of an image overlap; expected more images than {done}", args.data);
        }
        // They are the same for every network.
        if !args.json && i == 0 {
            skipped.iter().for_each(|bad| println!("warning: skipped {}: {}", bad.name, bad.reason));
        }
        if args.json {
            let mut row = json(weights, &net, args.size, done, &pck);
            row["skipped"] = skipped.iter().map(|b| json!({ "name": b.name, "reason": b.reason })).collect();
            rows.push(row);
        } else {
            print_row(&pck);
        }
    }
    if args.json {
        println!(
            "{}",
            serde_json::json!({ "data": args.data, "understood": inputs.understood(), "size": args.size, "seed": args.seed, "rows": rows })
        );
    }
    Ok(())
}

fn shares(pck: &Pck) -> [f64; 7] {
    let of = |part: usize, whole: usize| Pck::percent(part as f64, whole);
    [
        of(pck.within_1, pck.cells),
        of(pck.within_2, pck.cells),
        of(pck.mutual_within_1, pck.mutual),
        of(pck.mutual_within_2, pck.mutual),
        of(pck.mutual, pck.cells),
        Pck::percent(pck.chance_1, pck.cells),
        Pck::percent(pck.chance_2, pck.cells),
    ]
}

fn print_row(pck: &Pck) {
    let [one, two, mutual_one, mutual_two, mutual, chance_one, chance_two] = shares(pck);
    println!("PCK within   1 cell  2 cells   mutual: 1 cell  2 cells  share of cells");
    println!(
        "           {one:6.1} %  {two:5.1} %          {mutual_one:6.1} %  {mutual_two:5.1} %         {mutual:5.1} %"
    );
    println!("{} cells; guessing gets {chance_one:.1} and {chance_two:.1} %", pck.cells);
}

fn json(file: &std::path::Path, net: &Loaded, size: u32, images: usize, pck: &Pck) -> serde_json::Value {
    let size = Told::new(EvalSize { resize_px: 0, crop_px: size as usize }, "--size: the side of the views");
    let [one, two, mutual_one, mutual_two, mutual, chance_one, chance_two] = shares(pck);
    serde_json::json!({
        "file": file, "weights": opening::fields(net, &size), "pairs": images, "cells": pck.cells,
        "pck_1": one, "pck_2": two, "mutual_pck_1": mutual_one, "mutual_pck_2": mutual_two, "mutual": mutual,
        "chance_1": chance_one, "chance_2": chance_two,
    })
}
