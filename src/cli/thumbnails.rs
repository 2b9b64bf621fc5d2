//! Small copies of pictures, for contact sheets and pages.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use ocelli::data::files::{DecodeLimits, decode_file};
use ocelli::data::views::{CropBox, Filter, resized_crop};
use ocelli::data::{DataError, Image, Source, map_images};

/// Quality of JPEG: at this size more is not seen.
const QUALITY: u8 = 82;

/// Files as a source of images.
struct Files(Vec<PathBuf>);

impl Source for Files {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn load(&self, index: usize) -> Result<Image, DataError> {
        let path = self.0.get(index).ok_or(DataError::OutOfRange { index, len: self.0.len() })?;
        decode_file(path, DecodeLimits::default())
    }

    fn name(&self, index: usize) -> String {
        self.0.get(index).map(|path| path.display().to_string()).unwrap_or_default()
    }
}

/// The picture with its long side at most `px` pixels.
pub fn shrunk(image: Image, px: u32) -> Image {
    let long = image.width.max(image.height);
    if long <= px {
        return image;
    }
    let side = |s: u32| ((u64::from(s) * u64::from(px) / u64::from(long)) as u32).max(1);
    resized_crop(&image, CropBox::whole(&image), side(image.width), side(image.height), Filter::Bicubic)
}

/// Small copies of files in their order, on all cores; `None` where one cannot be read. `done` is called for each.
pub fn of_files(paths: Vec<PathBuf>, px: u32, mut done: impl FnMut()) -> Vec<Option<Image>> {
    let all = (0..paths.len()).collect();
    let images = map_images(Arc::new(Files(paths)), all, 0, move |_, image| shrunk(image, px));
    images.inspect(|_| done()).map(Result::ok).collect()
}

/// The picture as a JPEG.
pub fn jpeg(image: &Image) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, QUALITY)
        .encode(&image.data, image.width, image.height, image::ExtendedColorType::Rgb8)
        .context("cannot encode a small copy of a picture")?;
    Ok(bytes)
}
