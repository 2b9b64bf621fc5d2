//! Bytes of a file to packed RGB: the one door all images come through.
//!
//! JPEG (grey, YCbCr, CMYK), PNG, WebP, BMP, GIF (first frame) and TIFF, 8 or 16 bits. As PIL's `convert("RGB")`, alpha
//! is dropped, not composited. The orientation in the metadata is applied. An image that claims more pixels than the
//! limit is refused before anything is allocated for it.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::{DataError, Image};

/// Bounds on what a file may make the decoder do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Largest width × height.
    pub max_pixels: u64,
}

impl Default for DecodeLimits {
    /// 100 megapixels.
    fn default() -> Self {
        Self { max_pixels: 100_000_000 }
    }
}

/// File name extensions that are taken for images, in lower case.
pub(crate) const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"];

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

fn decode(name: &str, bytes: &[u8], limits: DecodeLimits) -> Result<Image, DataError> {
    let fail = |reason: String| DataError::Decode { name: name.to_owned(), reason };
    if bytes.is_empty() {
        return Err(fail(format!("expected {KNOWN}, found an empty file")));
    }
    let reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|e| fail(format!("expected {KNOWN}: {e}")))?;
    let Some(format) = reader.format() else {
        let start: Vec<String> = bytes.iter().take(8).map(|b| format!("{b:02x}")).collect();
        return Err(fail(format!("expected {KNOWN}, found bytes starting {}", start.join(" "))));
    };
    let kind = format.extensions_str().first().copied().unwrap_or("image");
    let broken = |e: image::ImageError| fail(format!("damaged or unsupported {kind} file: {e}"));
    let mut decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > limits.max_pixels {
        let limit = limits.max_pixels;
        return Err(DataError::TooManyPixels { name: name.to_owned(), width, height, pixels, limit });
    }
    if pixels == 0 {
        return Err(fail(format!("expected at least one pixel, found {width}x{height}")));
    }
    if pixels > plausible_pixels(bytes.len()) {
        let len = bytes.len();
        return Err(fail(format!("damaged {kind} file: claims {width}x{height} pixels in {len} bytes")));
    }
    if format == ImageFormat::Jpeg && !jpeg_is_complete(bytes) {
        // The decoder would fill the missing part with grey.
        return Err(fail("truncated jpeg file: no end-of-image marker".to_owned()));
    }
    // 16-bit RGBA is 8 bytes a pixel; decoders may need as much again for themselves.
    let mut allowed = Limits::default();
    allowed.max_alloc = Some(limits.max_pixels.saturating_mul(16).max(64 << 20));
    decoder.set_limits(allowed).map_err(broken)?;
    let orientation = decoder.orientation().map_err(broken)?;
    let mut decoded = DynamicImage::from_decoder(decoder).map_err(broken)?;
    decoded.apply_orientation(orientation);
    let rgb = decoded.into_rgb8();
    let (width, height) = rgb.dimensions();
    Image::new(width, height, rgb.into_raw())
}

/// The most pixels a file of so many bytes is believed to hold. Deflate gives at most 1,032 bytes for one, JPEG and LZW
/// less for anything but a single colour; without this a few bytes could ask for hundreds of megabytes. What is left, 3
/// megapixels in 64 MB, is believed of any file.
fn plausible_pixels(bytes: usize) -> u64 {
    (bytes as u64).saturating_mul(1032).max(3_000_000)
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

/// True when an end-of-image marker follows the first scan. (One inside the metadata belongs to a thumbnail.)
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[marker, kind, high, low]) = bytes.get(at..at + 4) {
        if marker != 0xFF {
            break;
        }
        match kind {
            0xDA => break,
            0xFF => at += 1,
            0x01 | 0xD0..=0xD8 => at += 2,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    bytes.get(at..).is_some_and(|rest| rest.windows(2).rev().any(|pair| pair == [0xFF, 0xD9]))
}
