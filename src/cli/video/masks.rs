//! DAVIS's masks: PNG files whose pixels are numbers of objects, with colours to look at.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use ocelli::eval::picture::Rgb;
use ocelli::eval::video::mask::VOID;

use super::tree::Year;
use crate::cli::outputs;

/// Numbers of objects, `[height, width]` row-major; 0 is background and 255 is void.
#[derive(Clone)]
pub struct Objects {
    pub width: usize,
    pub height: usize,
    pub data: Vec<u8>,
}

impl Objects {
    /// The largest number of an object.
    pub fn largest(&self) -> u8 {
        self.data.iter().copied().filter(|label| *label != VOID).max().unwrap_or(0)
    }

    /// Reads a mask of `year`.
    pub fn read(path: &Path, year: Year) -> anyhow::Result<Self> {
        let samples = Samples::read(path)?;
        let data = match (year, samples.color) {
            (Year::Davis2016, _) => samples.any(),
            (Year::Davis2017, png::ColorType::Indexed | png::ColorType::Grayscale) => samples.values,
            (Year::Davis2017, other) => bail!(
                "{}: expected a palette PNG whose pixels are numbers of objects, found one of {}. A mask saved in \
                 colours has lost them; --year 2016 takes whatever is not black for one object",
                path.display(),
                if other == png::ColorType::GrayscaleAlpha { "grey with transparency" } else { "colours" }
            ),
        };
        Ok(Self { width: samples.width, height: samples.height, data })
    }

    /// Writes a palette PNG, over nothing but an older one of ours.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        outputs::write_index_png(path, [self.width, self.height], &self.data, (0..=255).map(colour))
    }
}

/// Whether a mask holds 0 and 255 alone, or colours: DAVIS-2016's.
pub fn is_binary(path: &Path) -> anyhow::Result<bool> {
    let Samples { values, color, .. } = Samples::read(path)?;
    Ok(match color {
        png::ColorType::Grayscale | png::ColorType::Indexed => {
            values.contains(&VOID) && values.iter().all(|value| matches!(*value, 0 | VOID))
        }
        // Colours are no numbers of objects.
        _ => true,
    })
}

/// DAVIS's palette: 22 colours, then greys.
pub fn colour(label: u8) -> Rgb {
    const COLOURS: [Rgb; 22] = [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 0, 128],
        [128, 0, 128],
        [0, 128, 128],
        [128, 128, 128],
        [64, 0, 0],
        [191, 0, 0],
        [64, 128, 0],
        [191, 128, 0],
        [64, 0, 128],
        [191, 0, 128],
        [64, 128, 128],
        [191, 128, 128],
        [0, 64, 0],
        [128, 64, 0],
        [0, 191, 0],
        [128, 191, 0],
        [0, 64, 128],
        [128, 64, 128],
    ];
    COLOURS.get(usize::from(label)).copied().unwrap_or([label; 3])
}

/// A PNG's samples as they are stored: indices stay indices.
struct Samples {
    width: usize,
    height: usize,
    color: png::ColorType,
    values: Vec<u8>,
}

impl Samples {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read the mask {}", path.display()))?;
        Self::decode(&bytes).map_err(|reason| anyhow!("{}: {reason}", path.display()))
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let bad = |e: png::DecodingError| format!("expected a mask as PNG: {e}");
        let mut decoder = png::Decoder::new(Cursor::new(bytes));
        decoder.set_transformations(png::Transformations::IDENTITY);
        let mut reader = decoder.read_info().map_err(bad)?;
        let (width, height) = (reader.info().width as usize, reader.info().height as usize);
        let (color, depth) = (reader.info().color_type, reader.info().bit_depth as usize);
        if depth > 8 {
            return Err("expected numbers of objects up to 254 (8 bits), found a PNG of 16 bits: more than 255 \
                        objects, or no mask"
                .into());
        }
        let size = reader.output_buffer_size().ok_or("the mask is too large to read")?;
        let mut buffer = vec![0; size];
        let line = reader.next_frame(&mut buffer).map_err(bad)?.line_size;
        let values = match depth {
            8 => buffer,
            // Small palettes are packed: several pixels a byte, the first in the highest bits.
            _ => {
                buffer.chunks_exact(line).flat_map(|row| (0..width).map(move |x| unpack(row, x, depth))).collect()
            }
        };
        Ok(Self { width, height, color, values })
    }

    /// 1 where any colour is not 0.
    fn any(&self) -> Vec<u8> {
        let (channels, colours) = match self.color {
            png::ColorType::Grayscale | png::ColorType::Indexed => (1, 1),
            png::ColorType::GrayscaleAlpha => (2, 1),
            png::ColorType::Rgb => (3, 3),
            png::ColorType::Rgba => (4, 3),
        };
        self.values
            .chunks_exact(channels)
            .map(|pixel| u8::from(pixel[..colours].iter().any(|v| *v != 0)))
            .collect()
    }
}

fn unpack(row: &[u8], x: usize, depth: usize) -> u8 {
    let per_byte = 8 / depth;
    let shift = 8 - depth * (x % per_byte + 1);
    (row[x / per_byte] >> shift) & ((1u16 << depth) - 1) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(color: png::ColorType, depth: png::BitDepth, width: u32, height: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if color == png::ColorType::Indexed {
            encoder.set_palette(vec![7u8; 3 << depth as usize]);
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        bytes
    }

    #[test]
    fn indices_are_read_at_every_depth_and_written_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.png");
        let (indexed, grey) = (png::ColorType::Indexed, png::ColorType::Grayscale);
        for (depth, rows, want) in [
            (png::BitDepth::One, vec![0b1011_0000, 0b0100_0000], vec![1, 0, 1, 1, 0, 0, 1, 0, 0, 0]),
            (png::BitDepth::Two, vec![0b11_01_00_10, 0b01_000000, 0, 0], vec![3, 1, 0, 2, 1, 0, 0, 0, 0, 0]),
            (png::BitDepth::Four, vec![0x12, 0x34, 0x50, 0, 0, 0], vec![1, 2, 3, 4, 5, 0, 0, 0, 0, 0]),
            (png::BitDepth::Eight, vec![9, 255, 0, 1, 2, 3, 4, 5, 6, 7], vec![9, 255, 0, 1, 2, 3, 4, 5, 6, 7]),
        ] {
            for color in [indexed, grey] {
                fs::write(&path, encode(color, depth, 5, 2, &rows)).unwrap();
                let mask = Objects::read(&path, Year::Davis2017).unwrap();
                assert_eq!((mask.width, mask.height, &mask.data), (5, 2, &want));
                let one = Objects::read(&path, Year::Davis2016).unwrap();
                assert_eq!(one.data, want.iter().map(|v| u8::from(*v > 0)).collect::<Vec<_>>());
                let back = folder.path().join("out/back.png");
                mask.write(&back).unwrap();
                assert_eq!(Objects::read(&back, Year::Davis2017).unwrap().data, want);
                let shown = image::open(&back).unwrap().to_rgb8();
                assert_eq!(shown.get_pixel(0, 0).0, colour(want[0]));
            }
        }
        assert_eq!(
            (colour(1), colour(21), colour(22), colour(255)),
            ([128, 0, 0], [128, 64, 128], [22; 3], [255; 3])
        );
    }

    #[test]
    fn colours_and_wide_numbers_are_refused_and_guesses_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.png");
        let read = |year| Objects::read(&path, year).map(|m| m.data).map_err(|e| e.to_string());
        fs::write(&path, encode(png::ColorType::Rgba, png::BitDepth::Eight, 2, 1, &[0, 0, 0, 255, 0, 3, 0, 0]))
            .unwrap();
        assert_eq!(read(Year::Davis2016), Ok(vec![0, 1]));
        assert!(read(Year::Davis2017).unwrap_err().contains("palette PNG"));
        assert!(is_binary(&path).unwrap(), "colours cannot be numbers");
        fs::write(&path, encode(png::ColorType::Grayscale, png::BitDepth::Sixteen, 1, 1, &[1, 1])).unwrap();
        assert!(read(Year::Davis2017).unwrap_err().contains("more than 255"));
        fs::write(&path, "GIF89a").unwrap();
        assert!(read(Year::Davis2016).unwrap_err().contains("expected a mask as PNG"));
        for (data, binary) in [([0, 255], true), ([0, 0], false), ([1, 255], false), ([0, 1], false)] {
            fs::write(&path, encode(png::ColorType::Grayscale, png::BitDepth::Eight, 2, 1, &data)).unwrap();
            assert_eq!(is_binary(&path).unwrap(), binary, "{data:?}");
        }
    }
}
