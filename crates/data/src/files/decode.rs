//! Bytes of a file to packed RGB: the one door all images come through.
//!
//! JPEG (grey, YCbCr, CMYK), PNG, WebP, BMP, GIF (first frame) and TIFF (first picture), 1 to 16 bits. As PIL's
//! `convert("RGB")`, alpha is dropped, not composited. The orientation in the metadata is applied. What a file is called
//! does not matter. An image that claims more pixels than the limit is refused before anything is allocated for it; below
//! it, memory stays within [`allowance`].

mod jpeg;
mod kinds;
mod tiff;
mod tiff_fields;

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use crate::{DataError, Image};

/// Bounds on what a file may make the decoder do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DecodeLimits {
    /// Largest width × height; `None` for the process's limit at the time of decoding.
    pub max_pixels: Option<u64>,
}

/// Largest width × height that is decoded unless something else is asked for: 100 megapixels.
pub const MAX_PIXELS: u64 = 100_000_000;

/// The limit of a process that sets no other.
static PROCESS_MAX_PIXELS: AtomicU64 = AtomicU64::new(MAX_PIXELS);

/// Sets the largest width × height for the whole process, data sets that are open already included: what a person asked for
/// with `--max-pixels` or `loader.max_pixels`.
pub fn set_max_pixels(pixels: u64) {
    PROCESS_MAX_PIXELS.store(pixels, Ordering::Relaxed);
}

impl DecodeLimits {
    /// The largest width × height in force: these limits' own, or the process's ([`MAX_PIXELS`] unless [`set_max_pixels`]
    /// has changed it).
    pub fn most_pixels(self) -> u64 {
        self.max_pixels.unwrap_or_else(|| PROCESS_MAX_PIXELS.load(Ordering::Relaxed))
    }
}

/// File name extensions that are taken for images, in lower case.
pub(crate) const EXTENSIONS: [&str; 10] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff"];

const KNOWN: &str = "a JPEG, PNG, WebP, BMP, GIF or TIFF image";

/// Decodes the bytes of an image file; `name` is for messages.
///
/// # Errors
/// [`DataError::Decode`] for anything that is not a complete image of a known format, [`DataError::TooManyPixels`] for
/// one beyond the limits.
pub fn decode_bytes(name: &str, bytes: &[u8], limits: DecodeLimits) -> Result<Image, DataError> {
    // A decoder that panics on a damaged file must not take a training run with it.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(name, bytes, limits)));
    decoded.unwrap_or_else(|_| {
        let reason = "damaged file: the decoder panicked".to_owned();
        Err(DataError::Decode { name: name.to_owned(), reason })
    })
}

/// The format that the first bytes tell, where it is one that is read.
fn format_of(bytes: &[u8]) -> Option<ImageFormat> {
    if bytes.starts_with(b"II+\0") || bytes.starts_with(b"MM\0+") {
        // BigTIFF.
        return Some(ImageFormat::Tiff);
    }
    image::guess_format(bytes).ok().filter(ImageFormat::reading_enabled)
}

fn decode(name: &str, bytes: &[u8], limits: DecodeLimits) -> Result<Image, DataError> {
    if bytes.is_empty() {
        return Err(expected(name, "an empty file"));
    }
    if let Some(what) = kinds::foreign(bytes) {
        return Err(expected(name, what));
    }
    let Some(format) = format_of(bytes) else {
        let start: Vec<String> = bytes.iter().take(8).map(|b| format!("{b:02x}")).collect();
        return Err(expected(name, &format!("bytes starting {}", start.join(" "))));
    };
    let (rgb, orientation) = match format {
        ImageFormat::Tiff => tiff::decode(name, bytes, limits)?,
        ImageFormat::Jpeg => decode_jpeg(name, bytes, limits)?,
        _ => decode_as(format, name, bytes, limits)?,
    };
    let mut turned = DynamicImage::ImageRgb8(rgb);
    turned.apply_orientation(orientation);
    let rgb = turned.into_rgb8();
    let (width, height) = rgb.dimensions();
    Image::new(width, height, rgb.into_raw())
}

/// The message for what is no image of ours.
fn expected(name: &str, found: &str) -> DataError {
    DataError::Decode { name: name.to_owned(), reason: format!("expected {KNOWN}, found {found}") }
}

/// Width × height, if that is a picture within the limits.
fn sized(name: &str, width: u32, height: u32, limits: DecodeLimits) -> Result<u64, DataError> {
    let pixels = u64::from(width) * u64::from(height);
    let limit = limits.most_pixels();
    if pixels > limit {
        return Err(DataError::TooManyPixels { name: name.to_owned(), width, height, pixels, limit });
    }
    if pixels == 0 {
        let reason = format!("expected at least one pixel, found {width}x{height}");
        return Err(DataError::Decode { name: name.to_owned(), reason });
    }
    Ok(pixels)
}

/// Bytes that decoding a file of `len` bytes and so many pixels may take: 16-bit RGBA is 8 bytes a pixel, and decoders may
/// need as much again for themselves.
fn allowance(len: usize, pixels: u64) -> u64 {
    ((16 << 20) + 2 * len as u64).saturating_add(pixels.saturating_mul(16))
}

/// A JPEG, if the data of its every row is there.
fn decode_jpeg(name: &str, bytes: &[u8], limits: DecodeLimits) -> Result<(RgbImage, Orientation), DataError> {
    let survey = jpeg::Survey::of(bytes);
    if let Some(what) = survey.refusal() {
        return Err(expected(name, &what));
    }
    let baseline = survey.as_baseline(bytes);
    let bytes = baseline.as_deref().unwrap_or(bytes);
    let mut orientation = Orientation::NoTransforms;
    let decoded = survey.whole(bytes, |bytes| {
        let (picture, turned) = decode_as(ImageFormat::Jpeg, name, bytes, limits)?;
        orientation = turned;
        Ok(picture)
    })?;
    match decoded {
        Some(picture) => Ok((picture, orientation)),
        None => {
            let end = if survey.ended { "" } else { ", and no end-of-image marker" };
            let reason = format!("truncated jpeg file: data of its last rows is missing{end}");
            Err(DataError::Decode { name: name.to_owned(), reason })
        }
    }
}

/// A picture by the decoder of its format.
fn decode_as(
    format: ImageFormat,
    name: &str,
    bytes: &[u8],
    limits: DecodeLimits,
) -> Result<(RgbImage, Orientation), DataError> {
    let fail = |reason: String| DataError::Decode { name: name.to_owned(), reason };
    let kind = format.extensions_str().first().copied().unwrap_or("image");
    let broken = |e: image::ImageError| fail(format!("damaged or unsupported {kind} file: {e}"));
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    // Enough for headers; the picture's own limit follows once its size is known.
    let mut allowed = Limits::default();
    allowed.max_alloc = Some(allowance(bytes.len(), 0));
    reader.limits(allowed.clone());
    let mut decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    let pixels = sized(name, width, height, limits)?;
    if !plausible(format, bytes, pixels) {
        let len = bytes.len();
        return Err(fail(format!("damaged {kind} file: claims {width}x{height} pixels in {len} bytes")));
    }
    allowed.max_alloc = Some(allowance(bytes.len(), pixels));
    decoder.set_limits(allowed).map_err(broken)?;
    let orientation = decoder.orientation().map_err(broken)?;
    let decoded = DynamicImage::from_decoder(decoder).map_err(broken)?;
    Ok((decoded.into_rgb8(), orientation))
}

/// Whether a file so small can hold so many pixels: what is impossible is not tried. A blank page is small, so this counts
/// packed bytes, not pixels: deflate gives at most 1,032 for one. A JPEG's blocks of 64 pixels take a bit each at least.
/// WebP and GIF have no such bound.
fn plausible(format: ImageFormat, bytes: &[u8], pixels: u64) -> bool {
    let len = bytes.len() as u64;
    match (format, bytes.get(24..26)) {
        (ImageFormat::Png, Some(&[depth, colour])) => {
            let channels = match colour {
                2 => 3,
                4 => 2,
                6 => 4,
                _ => 1,
            };
            // Rows are filled up to whole bytes; the sum is no more than what they need.
            pixels.saturating_mul(channels * u64::from(depth)) / 8 <= len.saturating_mul(1032)
        }
        (ImageFormat::Jpeg, _) => pixels <= len.saturating_mul(1032),
        _ => true,
    }
}

/// Reads and decodes an image file.
///
/// # Errors
/// [`DataError::Io`] when it cannot be read, else as [`decode_bytes`].
pub fn decode_file(path: &Path, limits: DecodeLimits) -> Result<Image, DataError> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|e| DataError::Io { path: name.clone(), reason: e.to_string() })?;
    decode_bytes(&name, &bytes, limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page of paper: 8.7 megapixels of one bit in 4 kB.
    #[test]
    fn a_blank_page_is_no_bomb() {
        let (width, height) = (2480, 3508);
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::One);
        encoder.set_deflate_compression(png::DeflateCompression::Level(9));
        let rows = vec![0xFF; (width / 8 * height) as usize];
        encoder.write_header().unwrap().write_image_data(&rows).unwrap();
        assert!(bytes.len() < 8000, "{} bytes", bytes.len());
        let page = decode_bytes("page.png", &bytes, DecodeLimits::default()).unwrap();
        assert_eq!((page.width, page.height), (width, height));
        assert!(page.data.iter().all(|level| *level == 255));
        // The same claim with less than deflate needs for it.
        let cut = bytes[..600].to_vec();
        let message = decode_bytes("page.png", &cut, DecodeLimits::default()).unwrap_err().to_string();
        assert!(message.contains("claims 2480x3508"), "{message}");
    }

    #[test]
    fn limits_follow_the_process_unless_they_say_more() {
        assert_eq!(DecodeLimits { max_pixels: Some(7) }.most_pixels(), 7);
        assert_eq!(DecodeLimits::default().most_pixels(), MAX_PIXELS);
    }
}
