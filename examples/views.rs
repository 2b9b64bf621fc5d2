//! How fast one core reads images and makes a preset's views of them, as the loader does in a run. Nothing is kept of an image
//! between two times.
//!
//!     cargo run --release --example views -- imagenette-128 vit-s16-300
//!     cargo run --release --example views -- photos simclr-laptop 500    # so many images
//!
//! prints JSON: images, seconds, and milliseconds an image. `bench/views.py` runs it beside torchvision.
#![allow(clippy::print_stderr)]

use std::time::Instant;

use anyhow::Context as _;
use ocelli::data::files::open_data;
use ocelli::data::{Loader, LoaderConfig};
use ocelli::train::config;
use serde_json::json;

/// Images of a batch.
const BATCH: usize = 16;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (data, preset) = match &args[..] {
        [data, preset] | [data, preset, _] => (data, preset),
        _ => anyhow::bail!("expected DATA PRESET [IMAGES], found {} arguments", args.len()),
    };
    let wanted: usize = args.get(2).map_or(Ok(1000), |text| text.parse()).context("IMAGES is a number")?;
    let source = open_data(data)?.train;
    let plan = config::resolve(Some(preset), None, &[])?.view_plan();
    let config = LoaderConfig {
        batch_size: BATCH,
        threads: 1,
        prefetch_batches: 1,
        cache_bytes: 0,
        ..LoaderConfig::default()
    };
    let loader = Loader::new(source, plan, config)?;
    let (mut images, mut started) = (0, None);
    'epochs: for epoch in 0.. {
        for batch in loader.epoch(epoch, 0) {
            let batch = batch?;
            // The clock starts when the first batch is there: what comes before it is done once.
            match started {
                None => started = Some(Instant::now()),
                Some(_) => images += batch.indices.len(),
            }
            if images >= wanted {
                break 'epochs;
            }
        }
        anyhow::ensure!(started.is_some(), "{data} has fewer than {BATCH} images");
    }
    let seconds = started.map_or(f64::NAN, |started| started.elapsed().as_secs_f64());
    println!("{}", json!({ "images": images, "seconds": seconds, "ms": 1000.0 * seconds / images as f64 }));
    Ok(())
}
