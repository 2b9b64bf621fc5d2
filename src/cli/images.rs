//! Images named on the command line.

use std::path::Path;

use anyhow::{Context as _, bail};
use ocelli::data::files::{DecodeLimits, decode_file};
use ocelli::data::views::{CropBox, Filter, resized_crop};
use ocelli::data::{Image, Mask, open_source};

/// One image to look at.
pub struct Input {
    /// Path as given, or the sample's name.
    pub name: String,
    /// Class name, or empty.
    pub class: String,
    /// Pixels.
    pub image: Image,
    /// The object, where the data set knows it.
    pub truth: Option<Mask>,
}

/// Reads the images: files, folders, or `scenes[:COUNT]`. At most `limit` of each folder, evenly spaced.
pub fn read(names: &[String], limit: usize) -> anyhow::Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for name in names {
        let path = Path::new(name);
        if path.is_file() && !name.ends_with(".bin") && !name.ends_with(".bin.xz") {
            let image = decode_file(path, DecodeLimits::default())?;
            inputs.push(Input { name: name.clone(), class: String::new(), image, truth: None });
            continue;
        }
        let source = open_source(name)?;
        let count = if limit == 0 { source.len() } else { limit.min(source.len()) };
        for i in 0..count {
            let index = i * source.len() / count;
            inputs.push(Input {
                name: source.name(index),
                class: source
                    .label(index)
                    .and_then(|l| source.class_names().get(l as usize).cloned())
                    .unwrap_or_default(),
                image: source.load(index)?,
                truth: source.mask(index),
            });
        }
    }
    if inputs.is_empty() {
        bail!("expected at least one image, folder of images, or `scenes`");
    }
    Ok(inputs)
}

/// Scales the long side to `long_px` (0 only shrinks images beyond 480) and crops to whole patches.
pub fn fit(input: &Input, long_px: usize, patch_px: usize) -> anyhow::Result<(Image, Option<Mask>)> {
    let (w, h) = (input.image.width as usize, input.image.height as usize);
    let long = w.max(h).max(1);
    let target = if long_px == 0 { long.min(480) } else { long_px };
    // At least one patch each way, however thin the picture.
    let side = |s: usize| (s * target / long).max(patch_px);
    let (width, height) = (side(w), side(h));
    let scaled = match (width, height) == (w, h) {
        true => input.image.clone(),
        false => {
            let whole = CropBox::whole(&input.image);
            resized_crop(&input.image, whole, width as u32, height as u32, Filter::Bicubic)
        }
    };
    let (width, height) = (width / patch_px * patch_px, height / patch_px * patch_px);
    let crop = CropBox { left: 0, top: 0, width: width as u32, height: height as u32 };
    let image = resized_crop(&scaled, crop, width as u32, height as u32, Filter::Bicubic);
    let truth = input.truth.as_ref().map(|mask| nearest(mask, &scaled, width, height));
    Ok((image, truth))
}

/// The mask at the size of `scaled`, cropped to `width × height`.
fn nearest(mask: &Mask, scaled: &Image, width: usize, height: usize) -> Mask {
    let at = |x: usize, y: usize| {
        let sx = x * mask.width as usize / scaled.width as usize;
        let sy = y * mask.height as usize / scaled.height as usize;
        mask.data[sy * mask.width as usize + sx]
    };
    let data = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| at(x, y)).collect();
    Mask { width: width as u32, height: height as u32, data }
}

/// Writes RGB pixels as PNG, whole or not at all.
pub fn write_png(path: &Path, width: usize, height: usize, rgb: &[u8]) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    image::ImageEncoder::write_image(encoder, rgb, width as u32, height as u32, image::ExtendedColorType::Rgb8)
        .with_context(|| format!("cannot encode {}", path.display()))?;
    write(path, &bytes)
}

/// Writes a file, whole or not at all, and its folder where it is missing.
pub fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    }
    Ok(ocelli::train::write_atomically(path, bytes)?)
}
