//! TIFF to RGB: grey, palette, RGB, CMYK and YCbCr of 1 to 16 bits, chunky or planar, in strips or tiles.
//!
//! The decoder of samples refuses some of these by their labels alone, so it is shown a copy with plainer labels, and the
//! colours are made here.

use std::borrow::Cow;
use std::io::Cursor;

use image::RgbImage;
use image::metadata::Orientation;
use tiff::TiffError;
use tiff::decoder::{Decoder, DecodingResult, Limits};

use super::jpeg::Survey;
use super::tiff_fields::{Fields, tag};
use super::{DecodeLimits, allowance, expected, kinds, sized};
use crate::DataError;

/// Values of the field `Compression`.
mod compression {
    pub const NONE: u64 = 1;
    pub const GROUP_4: u64 = 4;
    pub const LZW: u64 = 5;
    pub const JPEG: u64 = 7;
    pub const DEFLATE: u64 = 8;
    pub const OLD_DEFLATE: u64 = 32946;
    pub const PACK_BITS: u64 = 32773;
}

/// What the samples of a pixel mean (the field `PhotometricInterpretation`).
enum Colours {
    Grey { white_is_zero: bool },
    Rgb,
    Palette(Vec<[u8; 3]>),
    Cmyk,
    YCbCr,
}

/// The first picture of a TIFF, not yet turned.
pub(super) fn decode(
    name: &str,
    bytes: &[u8],
    limits: DecodeLimits,
) -> Result<(RgbImage, Orientation), DataError> {
    let fail = |reason: String| DataError::Decode { name: name.to_owned(), reason };
    let broken = |e: TiffError| fail(format!("damaged or unsupported tiff file: {e}"));
    let Some(fields) = Fields::of(bytes) else { return Err(fail("damaged tiff file: no header".to_owned())) };
    if fields.claimed_bytes() > bytes.len() as u64 {
        // The decoder would make room for them all.
        return Err(fail("damaged tiff file: its fields claim more than the file holds".to_owned()));
    }
    if let Some(what) = refusal(&fields, bytes) {
        return Err(expected(name, &what));
    }
    let side = |tag| fields.value(tag).unwrap_or_default().min(u64::from(u32::MAX)) as u32;
    let (width, height) = (side(tag::WIDTH), side(tag::HEIGHT));
    let pixels = sized(name, width, height, limits)?;
    if !plausible(&fields, bytes, pixels, allowance(bytes.len(), pixels)) {
        let len = bytes.len();
        return Err(fail(format!("damaged tiff file: claims {width}x{height} pixels in {len} bytes")));
    }
    let colours = colours(&fields).map_err(fail)?;
    let copy = relabelled(&fields, bytes, u64::from(height));
    let mut allowed = Limits::default();
    allowed.decoding_buffer_size = usize::try_from(allowance(bytes.len(), pixels)).unwrap_or(usize::MAX);
    allowed.intermediate_buffer_size = allowed.decoding_buffer_size;
    allowed.ifd_value_size = (16 << 20) + bytes.len();
    let mut decoder = Decoder::new(Cursor::new(&*copy)).map_err(broken)?.with_limits(allowed);
    let kind = decoder.colortype().map_err(broken)?;
    let mut found = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut found).map_err(broken)?;
    let planes = layout.planes.max(1);
    let samples = Samples {
        found: &found,
        bits: usize::from(kind.bit_depth()),
        width: width as usize,
        interleaved: if planes > 1 { 1 } else { usize::from(kind.num_samples()) },
        planes,
        row_bytes: layout.row_stride.map_or(0, usize::from),
        plane_bytes: layout.plane_stride.map_or(0, usize::from),
    };
    let rgb = samples
        .into_rgb(&colours, height as usize)
        .and_then(|rgb| RgbImage::from_raw(width, height, rgb))
        .ok_or_else(|| fail("damaged or unsupported tiff file: its samples make no pixels".to_owned()))?;
    let orientation = fields.value(tag::ORIENTATION).and_then(|o| Orientation::from_exif(u8::try_from(o).ok()?));
    Ok((rgb, orientation.unwrap_or(Orientation::NoTransforms)))
}

/// Why a TIFF like this one is not read, and what to do.
fn refusal(fields: &Fields<'_>, bytes: &[u8]) -> Option<String> {
    let reduced = fields.value(tag::SUBFILE).is_some_and(|kind| kind & 1 == 1);
    if bytes.get(8..10) == Some(b"CR")
        || fields.value(tag::DNG_VERSION).is_some()
        || (reduced && fields.place(tag::SUB_DIRECTORIES).is_some())
    {
        // What its first directory holds is a thumbnail.
        return Some(kinds::RAW.to_owned());
    }
    let bits = fields.value(tag::BITS).unwrap_or(1);
    let format = fields.value(tag::SAMPLE_FORMAT).unwrap_or(1);
    match fields.value(tag::PHOTOMETRIC) {
        Some(8..=10) => return Some("a TIFF in Lab colours; convert it to RGB and save it again".to_owned()),
        Some(32844 | 32845) => {
            return Some("a TIFF of logarithmic light (LogLuv); save it with 8 or 16 bits a sample".to_owned());
        }
        Some(32803 | 34892) => return Some(kinds::RAW.to_owned()),
        _ => {}
    }
    if let (Some(0 | 1 | 3), samples @ Some(3..)) = (fields.value(tag::PHOTOMETRIC), fields.value(tag::SAMPLES)) {
        // Which of them a person means cannot be guessed.
        let bands = samples.unwrap_or_default();
        return Some(format!("a TIFF of {bands} bands without a colour each; save three of them as RGB"));
    }
    let save = "save it with 8 or 16 bits a sample";
    match format {
        2 => {
            return Some(format!(
                "a TIFF of numbers with a sign ({bits} bits), which have no fixed black and white; {save}"
            ));
        }
        3 => {
            return Some(format!(
                "a TIFF of floating-point numbers ({bits} bits), which have no fixed black and white; {save}"
            ));
        }
        5 | 6 => return Some(format!("a TIFF of complex numbers; {save}")),
        _ => {}
    }
    if !matches!(bits, 1 | 2 | 4 | 8 | 16) {
        return Some(format!("a TIFF of {bits} bits a sample; {save}"));
    }
    let method = fields.value(tag::COMPRESSION).unwrap_or(compression::NONE);
    // Where nothing is said, it is 2 by 2.
    let is_fine = method == compression::JPEG || fields.values(tag::SUBSAMPLING).eq([1, 1]);
    if fields.value(tag::PHOTOMETRIC) == Some(6) && !is_fine {
        return Some("a TIFF with colours coarser than its light (YCbCr subsampling); save it as RGB".to_owned());
    }
    let sticks_out = |side: u16, of_tile: u16| {
        fields
            .value(of_tile)
            .is_some_and(|tile| !fields.value(side).unwrap_or_default().is_multiple_of(tile.max(1)))
    };
    if fields.value(tag::PLANES) == Some(2)
        && (sticks_out(tag::WIDTH, tag::TILE_WIDTH) || sticks_out(tag::HEIGHT, tag::TILE_HEIGHT))
    {
        // The decoder of samples has no room for what sticks out of a plane.
        return Some("a TIFF with tiles of its own for each colour; save it in strips".to_owned());
    }
    let packed = match method {
        compression::NONE | compression::GROUP_4 | compression::LZW | compression::JPEG => return None,
        compression::DEFLATE | compression::OLD_DEFLATE | compression::PACK_BITS => return None,
        2 | 3 => "as an older fax (CCITT Group 3)",
        6 => "as JPEG in the old way",
        33003 | 33005 | 34712 => "as JPEG 2000",
        34887 => "with LERC",
        34925 => "with LZMA",
        50000 => "with Zstandard",
        50001 => "as WebP",
        50002 | 52546 => "as JPEG XL",
        other => {
            return Some(format!("a TIFF packed in a way not known here (number {other}); {PACK_OTHERWISE}"));
        }
    };
    Some(format!("a TIFF packed {packed}; {PACK_OTHERWISE}"))
}

const PACK_OTHERWISE: &str = "save it without compression, or with LZW or Deflate";

/// Whether the file can hold what it claims, and the decoder stays within `most` bytes. LZW and Group 4 have no bound of their
/// own: one bit may stand for a row.
fn plausible(fields: &Fields<'_>, bytes: &[u8], pixels: u64, most: u64) -> bool {
    let value = |tag, absent| fields.value(tag).unwrap_or(absent);
    let (width, bits, samples) = (value(tag::WIDTH, 1), value(tag::BITS, 1), value(tag::SAMPLES, 1));
    let row = |width: u64| width.saturating_mul(bits).saturating_mul(samples).div_ceil(8);
    let raw = row(width).saturating_mul(value(tag::HEIGHT, 1));
    let (tile_width, tile_height) = (value(tag::TILE_WIDTH, 1), value(tag::TILE_HEIGHT, 1));
    let tile = tile_width.saturating_mul(tile_height);
    if raw > most
        || row(tile_width).saturating_mul(tile_height) > most
        || tile > pixels.saturating_mul(4).max(1 << 20)
    {
        return false;
    }
    let len = bytes.len() as u64;
    match value(tag::COMPRESSION, compression::NONE) {
        compression::NONE => raw <= len,
        compression::PACK_BITS => raw <= len.saturating_mul(64),
        compression::DEFLATE | compression::OLD_DEFLATE => raw <= len.saturating_mul(1032),
        // Each strip or tile is a file of its own, and may claim anything.
        compression::JPEG => {
            let rows = value(tag::ROWS_PER_STRIP, u64::MAX).clamp(1, value(tag::HEIGHT, 1).max(1));
            let own = if fields.place(tag::TILE_WIDTH).is_some() { tile } else { width.saturating_mul(rows) };
            let claims = |(from, to): (usize, usize)| {
                let frame = bytes.get(from..to).and_then(|part| Survey::of(part).frame);
                frame.map_or(0, |frame| u64::from(frame.width) * u64::from(frame.height))
            };
            let tables = fields.place(tag::JPEG_TABLES).and_then(|place| {
                let end = place.at.checked_add(usize::try_from(place.count).ok()?)?;
                bytes.get(place.at..end)
            });
            // Blank tiles share their bytes; parts that overlap would be read again and again.
            let mut chunks = fields.chunks();
            chunks.sort_unstable();
            chunks.dedup();
            tables.is_none_or(|tables| Survey::of(tables).frame.is_none())
                && chunks.iter().map(|(from, to)| to - from).sum::<usize>() <= bytes.len()
                && chunks.into_iter().all(|chunk| claims(chunk) <= own.saturating_mul(2).max(1 << 16))
        }
        _ => true,
    }
}

/// What the samples mean.
fn colours(fields: &Fields<'_>) -> Result<Colours, String> {
    Ok(match fields.value(tag::PHOTOMETRIC) {
        Some(0) => Colours::Grey { white_is_zero: true },
        Some(1 | 4) => Colours::Grey { white_is_zero: false },
        Some(2) => Colours::Rgb,
        Some(3) => {
            let colours = 1_usize << fields.value(tag::BITS).unwrap_or(1).min(16);
            let found = fields.values(tag::COLOUR_MAP).count();
            if found != 3 * colours {
                return Err(format!(
                    "damaged tiff file: expected a colour map of 3 x {colours} levels, found {found}"
                ));
            }
            let map: Vec<u64> = fields.values(tag::COLOUR_MAP).collect();
            // Of 16 bits; but some programs write 8, as libtiff knows.
            let shift = if map.iter().any(|level| *level > 255) { 8 } else { 0 };
            let level = |channel: usize, i: usize| (map[channel * colours + i] >> shift) as u8;
            Colours::Palette((0..colours).map(|i| [0, 1, 2].map(|channel| level(channel, i))).collect())
        }
        Some(5) => Colours::Cmyk,
        Some(6) => Colours::YCbCr,
        Some(other) => {
            let what = format!("its colours are of a kind not known here (PhotometricInterpretation {other})");
            return Err(format!("damaged or unsupported tiff file: {what}"));
        }
        None => return Err("damaged tiff file: it does not say what its colours mean".to_owned()),
    })
}

/// The file with labels that the decoder of samples takes: indices and inverted levels as plain levels, strips no higher than
/// the picture, and bytes whose first bit is the highest.
fn relabelled<'a>(fields: &Fields<'_>, bytes: &'a [u8], height: u64) -> Cow<'a, [u8]> {
    let plain = matches!(fields.value(tag::PHOTOMETRIC), Some(0 | 3 | 4));
    let rows = fields.value(tag::ROWS_PER_STRIP).is_some_and(|rows| rows > height);
    let mirrored = fields.value(tag::FILL_ORDER) == Some(2)
        && fields.value(tag::COMPRESSION).is_none_or(|method| method != compression::JPEG);
    if !(plain || rows || mirrored) {
        return Cow::Borrowed(bytes);
    }
    let mut copy = bytes.to_vec();
    if mirrored {
        let mut chunks = fields.chunks();
        chunks.sort_unstable();
        let mut done = 0;
        for (from, to) in chunks {
            // Strips of one content may share their bytes.
            copy[from.max(done).min(to)..to].iter_mut().for_each(|byte| *byte = byte.reverse_bits());
            done = done.max(to);
        }
    }
    // The labels last: strips that lie over them are none of ours to save.
    if plain {
        fields.put(&mut copy, tag::PHOTOMETRIC, 1);
    }
    if rows {
        fields.put(&mut copy, tag::ROWS_PER_STRIP, height);
    }
    Cow::Owned(copy)
}

/// Samples as the decoder leaves them, and how they lie.
struct Samples<'a> {
    found: &'a DecodingResult,
    bits: usize,
    width: usize,
    /// Samples of a pixel that stand side by side.
    interleaved: usize,
    planes: usize,
    row_bytes: usize,
    plane_bytes: usize,
}

impl Samples<'_> {
    /// Packed RGB; `None` where the samples are too few or of a kind that is not read.
    fn into_rgb(self, colours: &Colours, height: usize) -> Option<Vec<u8>> {
        let needed = match colours {
            Colours::Grey { .. } | Colours::Palette(_) => 1,
            Colours::Rgb | Colours::YCbCr => 3,
            Colours::Cmyk => 4,
        };
        let channels = self.interleaved * self.planes;
        if channels < needed || self.row_bytes < (self.width * self.interleaved * self.bits).div_ceil(8) {
            return None;
        }
        let highest = u32::from(u16::MAX >> (16_usize.checked_sub(self.bits)?));
        let level = |sample: u16| ((u32::from(sample) * 255 + highest / 2) / highest) as u8;
        let mut rgb = Vec::with_capacity(3 * self.width * height);
        let mut rows = vec![vec![0_u16; self.width * self.interleaved]; needed.min(self.planes)];
        for y in 0..height {
            for (plane, row) in rows.iter_mut().enumerate() {
                self.unpack(plane * self.plane_bytes + y * self.row_bytes, row)?;
            }
            for x in 0..self.width {
                let sample = |channel: usize| match self.planes {
                    1 => rows[0][x * self.interleaved + channel],
                    _ => rows[channel][x],
                };
                rgb.extend(match colours {
                    Colours::Grey { white_is_zero } => {
                        let grey = level(sample(0));
                        [if *white_is_zero { 255 - grey } else { grey }; 3]
                    }
                    Colours::Palette(map) => *map.get(usize::from(sample(0)))?,
                    Colours::Rgb => [0, 1, 2].map(|channel| level(sample(channel))),
                    Colours::Cmyk => from_cmyk([0, 1, 2, 3].map(|channel| level(sample(channel)))),
                    Colours::YCbCr => from_ycbcr([0, 1, 2].map(|channel| level(sample(channel)))),
                });
            }
        }
        Some(rgb)
    }

    /// The samples of a row that begins at byte `at`.
    fn unpack(&self, at: usize, row: &mut [u16]) -> Option<()> {
        match self.found {
            DecodingResult::U16(all) if self.bits == 16 => {
                row.copy_from_slice(all.get(at / 2..at / 2 + row.len())?);
            }
            DecodingResult::U8(all) if self.bits == 8 => {
                let levels = all.get(at..at + row.len())?;
                row.iter_mut().zip(levels).for_each(|(to, from)| *to = u16::from(*from));
            }
            DecodingResult::U8(all) if matches!(self.bits, 1 | 2 | 4) => {
                let in_byte = 8 / self.bits;
                let packed = all.get(at..at + row.len().div_ceil(in_byte))?;
                let mask = 0xFF_u8 >> (8 - self.bits);
                for (i, to) in row.iter_mut().enumerate() {
                    let shift = 8 - self.bits * (i % in_byte + 1);
                    *to = u16::from(packed[i / in_byte] >> shift & mask);
                }
            }
            _ => return None,
        }
        Some(())
    }
}

/// As PIL: ink takes away from the light that black leaves.
fn from_cmyk([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    let light = 255 - u32::from(k);
    [c, m, y].map(|ink| {
        let taken = u32::from(ink) * light + 128;
        (light - (((taken >> 8) + taken) >> 8)) as u8
    })
}

/// ITU-R BT.601 with all 256 levels, as JFIF has it.
fn from_ycbcr([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    let rgb = [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb];
    rgb.map(|level| level.round().clamp(0.0, 255.0) as u8)
}
