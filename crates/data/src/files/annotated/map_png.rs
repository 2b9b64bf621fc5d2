//! PNG maps as they are stored: numbers, not the colours a viewer would show.

use std::io::Cursor;
use std::path::Path;

use png::{BitDepth, ColorType, DecodingError, Limits, Transformations};

use super::super::DecodeLimits;
use super::super::samples::panic_as_error;
use super::read_bytes;
use crate::DataError;

/// The largest file of a map.
const MOST_BYTES: u64 = 256 << 20;

/// What a pixel of a map is.
pub(super) enum Values {
    /// A number; the colours that a palette shows them in.
    Numbers(Vec<u8>, Option<Vec<[u8; 3]>>),
    /// A colour.
    Colours(Vec<[u8; 3]>),
}

/// A map as its file has it.
pub(super) struct MapPicture {
    pub width: usize,
    pub height: usize,
    pub values: Values,
}

impl MapPicture {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let name = path.display().to_string();
        let bytes = read_bytes(path, MOST_BYTES)?;
        let limits = DecodeLimits::default();
        // A decoder that panics on a damaged file must not take a training run with it.
        panic_as_error(|| name.clone(), || Self::decode(&name, &bytes, limits))
    }

    /// Of a PNG file's bytes; `name` is for messages.
    pub fn decode(name: &str, bytes: &[u8], limits: DecodeLimits) -> Result<Self, DataError> {
        let fail = |reason: String| DataError::Decode { name: name.to_owned(), reason };
        if !bytes.starts_with(b"\x89PNG") {
            let start: Vec<String> = bytes.iter().take(8).map(|b| format!("{b:02x}")).collect();
            return Err(fail(format!("expected a PNG map, found bytes starting {}", start.join(" "))));
        }
        let broken = |e: DecodingError| fail(format!("damaged or unsupported png file: {e}"));
        let allowed = Limits { bytes: (16 << 20) + 2 * bytes.len() };
        let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), allowed);
        decoder.set_ignore_text_chunk(true);
        decoder.set_ignore_iccp_chunk(true);
        decoder.set_transformations(Transformations::IDENTITY);
        let info = decoder.read_header_info().map_err(broken)?;
        let (width, height) = (info.width, info.height);
        let pixels = u64::from(width) * u64::from(height);
        let limit = limits.most_pixels();
        if pixels > limit {
            return Err(DataError::TooManyPixels { name: name.to_owned(), width, height, pixels, limit });
        }
        // Deflate gives at most 1,032 bytes for one; what is claimed beyond is made up.
        let claimed = pixels.saturating_mul(info.bits_per_pixel() as u64) / 8;
        if claimed > (bytes.len() as u64).saturating_mul(1032) {
            let len = bytes.len();
            return Err(fail(format!("damaged png file: claims {width}x{height} pixels in {len} bytes")));
        }
        let mut reader = decoder.read_info().map_err(broken)?;
        let len = reader.output_buffer_size().ok_or_else(|| broken(DecodingError::LimitsExceeded))?;
        let mut buffer = vec![0; len];
        let frame = reader.next_frame(&mut buffer).map_err(broken)?;
        if (frame.width, frame.height) != (width, height) {
            return Err(fail("expected one picture, found an animation".to_owned()));
        }
        let palette = reader.info().palette.as_deref();
        let palette = palette.map(|bytes| bytes.chunks_exact(3).map(|c| [c[0], c[1], c[2]]).collect::<Vec<_>>());
        let (width, height) = (width as usize, height as usize);
        let rows = buffer.chunks_exact(frame.line_size.max(1)).take(height);
        let step = if frame.bit_depth == BitDepth::Sixteen { 2 } else { 1 };
        let values = match frame.color_type {
            ColorType::Indexed | ColorType::Grayscale if frame.bit_depth != BitDepth::Sixteen => {
                let numbers = match frame.bit_depth as usize {
                    8 => rows.flat_map(|row| row.iter().take(width)).copied().collect(),
                    bits => rows.flat_map(|row| unpacked(row, bits, width)).collect(),
                };
                Values::Numbers(numbers, palette.filter(|_| frame.color_type == ColorType::Indexed))
            }
            ColorType::Indexed | ColorType::Grayscale | ColorType::GrayscaleAlpha => {
                let channels = if frame.color_type == ColorType::GrayscaleAlpha { 2 } else { 1 };
                let pixels = rows.flat_map(|row| row.chunks_exact(channels * step).take(width));
                let numbers: Option<Vec<u8>> = pixels.map(|pixel| narrow(&pixel[..step])).collect();
                let numbers = numbers.ok_or_else(|| {
                    fail("expected class numbers from 0 to 255, found larger ones in 16 bits".to_owned())
                })?;
                Values::Numbers(numbers, None)
            }
            ColorType::Rgb | ColorType::Rgba => {
                let channels = if frame.color_type == ColorType::Rgba { 4 } else { 3 };
                let pixels = rows.flat_map(|row| row.chunks_exact(channels * step).take(width));
                // Of 16 bits both bytes are one of eight, as programs write them.
                let channel = |pixel: &[u8], at: usize| {
                    let bytes = &pixel[at * step..(at + 1) * step];
                    (bytes[0] == bytes[step - 1]).then_some(bytes[0])
                };
                let colours: Option<Vec<[u8; 3]>> =
                    pixels.map(|p| Some([channel(p, 0)?, channel(p, 1)?, channel(p, 2)?])).collect();
                Values::Colours(colours.ok_or_else(|| {
                    fail("expected colours of 8 bits, found some in 16 bits that do not fit".to_owned())
                })?)
            }
        };
        let found = match &values {
            Values::Numbers(numbers, _) => numbers.len(),
            Values::Colours(colours) => colours.len(),
        };
        if found != width * height {
            return Err(fail(format!("expected {width}x{height} pixels, found {found}")));
        }
        Ok(Self { width, height, values })
    }
}

/// The numbers of a row that has `bits` for each, the first in the highest bits.
fn unpacked(row: &[u8], bits: usize, width: usize) -> impl Iterator<Item = u8> {
    let in_byte = 8 / bits;
    let mask = (0xFF_u16 >> (8 - bits)) as u8;
    (0..width).map(move |x| {
        let byte = row.get(x / in_byte).copied().unwrap_or_default();
        (byte >> (8 - bits * (x % in_byte + 1))) & mask
    })
}

/// A number of one or two bytes that fits into one; 65535 is what programs write for 255.
fn narrow(bytes: &[u8]) -> Option<u8> {
    match bytes {
        [low] | [0, low] | [0xFF, low @ 0xFF] => Some(*low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(width: u32, colour: ColorType, depth: BitDepth, data: &[u8], palette: Option<Vec<u8>>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, 2);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        if let Some(palette) = palette {
            encoder.set_palette(palette);
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Values, DataError> {
        MapPicture::decode("map", bytes, DecodeLimits::default()).map(|map| map.values)
    }

    fn numbers(bytes: &[u8]) -> Vec<u8> {
        match decode(bytes) {
            Ok(Values::Numbers(numbers, _)) => numbers,
            _ => panic!("no numbers"),
        }
    }

    #[test]
    fn numbers_are_read_as_they_are_stored() {
        use BitDepth::{Eight, Four, One, Sixteen, Two};
        use ColorType::{Grayscale, GrayscaleAlpha, Indexed, Rgb, Rgba};
        assert_eq!(numbers(&encoded(3, Grayscale, Eight, &[0, 1, 255, 7, 8, 9], None)), [0, 1, 255, 7, 8, 9]);
        assert_eq!(
            numbers(&encoded(3, Grayscale, Two, &[0b00_01_11_00, 0b10_00_01_00], None)),
            [0, 1, 3, 2, 0, 1]
        );
        assert_eq!(numbers(&encoded(3, Grayscale, Four, &[0x12, 0x30, 0x4F, 0x60], None)), [1, 2, 3, 4, 15, 6]);
        assert_eq!(numbers(&encoded(3, Grayscale, One, &[0b1010_0000, 0b0110_0000], None)), [1, 0, 1, 0, 1, 1]);
        assert_eq!(numbers(&encoded(1, Grayscale, Sixteen, &[0, 9, 255, 255], None)), [9, 255]);
        assert_eq!(numbers(&encoded(1, GrayscaleAlpha, Eight, &[4, 255, 5, 0], None)), [4, 5]);
        assert!(decode(&encoded(1, Grayscale, Sixteen, &[1, 9, 0, 0], None)).is_err());
        let palette = vec![0, 0, 0, 128, 0, 0];
        match decode(&encoded(1, Indexed, Eight, &[1, 0], Some(palette))) {
            Ok(Values::Numbers(numbers, Some(palette))) => {
                assert_eq!((numbers, palette), (vec![1, 0], vec![[0; 3], [128, 0, 0]]));
            }
            _ => panic!("no palette"),
        }
        match decode(&encoded(1, Rgba, Eight, &[1, 2, 3, 0, 4, 5, 6, 255], None)) {
            Ok(Values::Colours(colours)) => assert_eq!(colours, [[1, 2, 3], [4, 5, 6]]),
            _ => panic!("no colours"),
        }
        match decode(&encoded(1, Rgb, Sixteen, &[1, 1, 2, 2, 255, 255, 0, 0, 0, 0, 9, 9], None)) {
            Ok(Values::Colours(colours)) => assert_eq!(colours, [[1, 2, 255], [0, 0, 9]]),
            _ => panic!("no colours"),
        }
        let odd = encoded(1, Rgb, Sixteen, &[0, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0], None);
        assert!(decode(&odd).err().unwrap().to_string().contains("16 bits that do not fit"));
        assert!(decode(b"\xff\xd8 a JPEG").err().unwrap().to_string().contains("expected a PNG map"));
    }
}
