//! Writes a contact sheet of the built-in scenes, one class per column, with the object masks below.
//!
//! `cargo run --release -p ocelli-data --example scenes_sheet -- [FILE.png] [SIZE_PX] [ROWS] [SEED]`
//! prints the file written and the time one scene takes.
#![allow(missing_docs)]

use std::time::Instant;

use ocelli_data::{SceneConfig, SceneSource, scenes::CLASS_NAMES};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let file = args.next().unwrap_or_else(|| "scenes.png".to_owned());
    let size_px: u32 = args.next().map_or(Ok(64), |s| s.parse())?;
    let rows: u32 = args.next().map_or(Ok(6), |s| s.parse())?;
    let seed: u64 = args.next().map_or(Ok(0), |s| s.parse())?;
    let columns = CLASS_NAMES.len() as u32;
    let count = (rows * columns) as usize;
    let source = SceneSource::new(SceneConfig { count, size_px, seed, ..SceneConfig::default() })?;

    let start = Instant::now();
    let scenes: Vec<_> = (0..count).map(|i| source.scene(i)).collect();
    let each_ms = start.elapsed().as_secs_f64() * 1e3 / count as f64;

    const GAP_PX: u32 = 4;
    let cell = size_px + GAP_PX;
    let mask_rows = rows.min(2);
    let (width, height) = (columns * cell + GAP_PX, (rows + mask_rows) * cell + GAP_PX);
    let mut sheet = image::RgbImage::from_pixel(width, height, image::Rgb([250, 250, 248]));
    let mut place = |row: u32, column: u32, pixels: image::RgbImage| {
        let (x, y) = (column * cell + GAP_PX, row * cell + GAP_PX);
        image::imageops::replace(&mut sheet, &pixels, x.into(), y.into());
    };
    for (i, scene) in scenes.into_iter().enumerate() {
        let (row, column) = (i as u32 / columns, i as u32 % columns);
        if row < mask_rows {
            let grey = scene.mask.data.iter().flat_map(|&v| [v * 255; 3]).collect();
            if let Some(pixels) = image::RgbImage::from_raw(size_px, size_px, grey) {
                place(rows + row, column, pixels);
            }
        }
        if let Some(pixels) = image::RgbImage::from_raw(size_px, size_px, scene.image.data) {
            place(row, column, pixels);
        }
    }
    sheet.save(&file)?;
    println!("{file}: {count} scenes of {size_px} px, {each_ms:.3} ms each");
    Ok(())
}
