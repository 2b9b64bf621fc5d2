//! Draws a contact sheet of attention maps, to look at.
//!
//! ```text
//! cargo run --release -p ocelli-eval --example sheet_preview -- sheet.png
//! ```
//!
//! The first rows are made up: discs on a noisy ground. With `OCELLI_DATA` set, the published DINO ViT-S/8 maps of one
//! photo (`dino-attention-reference`) follow. Expected output: `sheet.png: WIDTH × HEIGHT`.

use std::error::Error;
use std::path::Path;

use ocelli_eval::attention::AttentionMap;
use ocelli_eval::colour::Colormap;
use ocelli_eval::mask::Mask;
use ocelli_eval::picture::{Filter, Picture};
use ocelli_eval::sheet::{AttentionExample, AttentionSheet};

struct Example {
    name: String,
    note: String,
    picture: Picture,
    attention: AttentionMap,
    truth: Option<Mask>,
}

/// A disc of `radius` cells on a `grid × grid` picture of `patch`-sized cells, and six heads of varying attention.
fn made_up(grid: usize, patch: usize, at: [f32; 2], radius: f32) -> Result<Example, Box<dyn Error>> {
    let side = grid * patch;
    let distance = |x: f32, y: f32| ((x - at[0]).powi(2) + (y - at[1]).powi(2)).sqrt();
    let centre = |pixel: usize| (pixel as f32 + 0.5) / patch as f32;
    let inside = |i: usize| distance(centre(i % side), centre(i / side)) < radius;
    let pixels = (0..side * side).flat_map(|i| {
        let noise = ((i as u32).wrapping_mul(0x9E37_79B9) >> 27) as u8;
        if inside(i) { [220 - noise, 150 + noise, 60] } else { [70 + noise, 110 - noise, 120 + noise] }
    });
    let heads = 6;
    let mut attention = Vec::new();
    for head in 0..heads {
        let aim = head as f32 * 0.55;
        for cell in 0..grid * grid {
            let d = distance((cell % grid) as f32 + 0.5 - aim, (cell / grid) as f32 + 0.5 + aim);
            let noise = ((cell as u32 * 31 + head).wrapping_mul(0x85EB_CA6B) >> 24) as f32 / 255.0;
            attention.push((-(d / radius).powi(4)).exp() + 0.06 * noise);
        }
    }
    Ok(Example {
        name: format!("made_up/disc_of_radius_{radius}_on_a_{grid}x{grid}_grid.png"),
        note: "disc".into(),
        picture: Picture::new(side, side, pixels.collect())?,
        attention: AttentionMap::new(heads as usize, grid, grid, attention)?,
        truth: Some(Mask::new(side, side, (0..side * side).map(inside).collect())?),
    })
}

fn published(folder: &Path) -> Result<Example, Box<dyn Error>> {
    let levels: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("attn_levels.json"))?)?;
    let size = |name: &str| levels[name].as_u64().unwrap_or(0) as usize;
    let maps = levels["levels"].as_object().ok_or("levels is missing")?;
    let mut values = Vec::new();
    for map in maps.values() {
        values.extend(numbers(map));
    }
    let photo = image::open(folder.join("img.png"))?.into_rgb8();
    let (width, height) = (photo.width() as usize, photo.height() as usize);
    Ok(Example {
        name: "img.png".into(),
        note: "DINO ViT-S/8".into(),
        picture: Picture::new(width, height, photo.into_raw())?,
        attention: AttentionMap::new(maps.len(), size("rows"), size("cols"), values)?,
        truth: None,
    })
}

/// All numbers of a possibly nested list.
fn numbers(value: &serde_json::Value) -> Vec<f32> {
    match value.as_array() {
        Some(list) => list.iter().flat_map(numbers).collect(),
        None => value.as_f64().map(|v| v as f32).into_iter().collect(),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "sheet.png".into());
    let mut examples = vec![made_up(14, 16, [5.5, 7.0], 3.4)?, made_up(8, 4, [4.0, 4.5], 2.2)?];
    if let Some(data) = std::env::var_os("OCELLI_DATA") {
        examples.push(published(&Path::new(&data).join("dino-attention-reference"))?);
    }
    let rows: Vec<AttentionExample> = examples
        .iter()
        .map(|example| AttentionExample {
            name: &example.name,
            note: &example.note,
            picture: &example.picture,
            attention: &example.attention,
            truth: example.truth.as_ref(),
        })
        .collect();
    let sheet = AttentionSheet {
        title: "Attention of the class token, last block".into(),
        colormap: if std::env::args().nth(2).as_deref() == Some("inferno") {
            Colormap::Inferno
        } else {
            Colormap::Viridis
        },
        filter: if std::env::args().nth(3).as_deref() == Some("smooth") {
            Filter::Smooth
        } else {
            Filter::Nearest
        },
        ..Default::default()
    };
    let page = sheet.render(&rows)?;
    let (width, height) = (page.width(), page.height());
    image::save_buffer(&path, page.data(), width as u32, height as u32, image::ColorType::Rgb8)?;
    println!("{path}: {width} × {height}");
    Ok(())
}
