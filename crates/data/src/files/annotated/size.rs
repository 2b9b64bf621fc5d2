//! How large a picture is, from its first bytes.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use image::metadata::Orientation;

use super::super::{DecodeLimits, decode_file};
use crate::DataError;

/// More pieces than a header has.
const MOST_PIECES: usize = 1000;
/// A description of the camera that is longer is passed over, as no camera writes one.
const MOST_EXIF_BYTES: u64 = 1 << 20;

/// Width and height of a picture as it is decoded, its orientation applied. JPEG and PNG are read as far as that takes; others,
/// and what is odd, are decoded.
///
/// # Errors
/// As [`decode_file`].
pub(super) fn picture_size(path: &Path) -> Result<[u32; 2], DataError> {
    let header = File::open(path).ok().and_then(|file| of_header(&mut BufReader::new(file)));
    let limits = DecodeLimits::default();
    let Some([width, height]) = header else {
        return decode_file(path, limits).map(|image| [image.width, image.height]);
    };
    let (pixels, limit) = (u64::from(width) * u64::from(height), limits.most_pixels());
    if pixels > limit {
        return Err(DataError::TooManyPixels { name: path.display().to_string(), width, height, pixels, limit });
    }
    Ok([width, height])
}

fn of_header<R: Read + Seek>(reader: &mut R) -> Option<[u32; 2]> {
    let (size, orientation) = match bytes::<2, _>(reader)? {
        [0xFF, 0xD8] => jpeg(reader)?,
        [0x89, b'P'] => png(reader)?,
        _ => return None,
    };
    let is_turned = matches!(
        orientation,
        Some(
            Orientation::Rotate90
                | Orientation::Rotate270
                | Orientation::Rotate90FlipH
                | Orientation::Rotate270FlipH
        )
    );
    let [width, height] = size;
    (width > 0 && height > 0).then_some(if is_turned { [height, width] } else { size })
}

fn bytes<const N: usize, R: Read>(reader: &mut R) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

fn exif<R: Read>(reader: &mut R, len: u64) -> Option<Vec<u8>> {
    let mut payload = Vec::new();
    reader.take(len).read_to_end(&mut payload).ok()?;
    Some(payload)
}

type Header = ([u32; 2], Option<Orientation>);

/// Behind the start of the image: segments up to the frame's header.
fn jpeg<R: Read + Seek>(reader: &mut R) -> Option<Header> {
    let mut orientation = None;
    for _ in 0..MOST_PIECES {
        let [mark, mut kind] = bytes(reader)?;
        if mark != 0xFF {
            return None;
        }
        while kind == 0xFF {
            [kind] = bytes(reader)?;
        }
        if matches!(kind, 0x01 | 0xD0..=0xD8) {
            continue;
        }
        let len = u64::from(u16::from_be_bytes(bytes(reader)?)).checked_sub(2)?;
        match kind {
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                let [_, h1, h0, w1, w0] = bytes(reader)?;
                let sides = [[w1, w0], [h1, h0]].map(|side| u32::from(u16::from_be_bytes(side)));
                return Some((sides, orientation));
            }
            0xD9 | 0xDA => return None,
            0xE1 => {
                let payload = exif(reader, len)?;
                if let (Some(chunk), None) = (payload.strip_prefix(b"Exif\0\0"), orientation) {
                    orientation = Orientation::from_exif_chunk(chunk);
                }
            }
            _ => reader.seek_relative(i64::try_from(len).ok()?).ok()?,
        }
    }
    None
}

/// Behind the first two bytes of the signature: chunks up to the picture's data.
fn png<R: Read + Seek>(reader: &mut R) -> Option<Header> {
    let _: [u8; 6] = bytes(reader)?;
    let (mut size, mut orientation) = (None, None);
    for _ in 0..MOST_PIECES {
        let len = u64::from(u32::from_be_bytes(bytes(reader)?));
        match &bytes::<4, _>(reader)? {
            b"IHDR" if len == 13 => {
                size = Some([u32::from_be_bytes(bytes(reader)?), u32::from_be_bytes(bytes(reader)?)]);
                let _: [u8; 9] = bytes(reader)?;
            }
            b"IDAT" => return Some((size?, orientation)),
            b"eXIf" if len <= MOST_EXIF_BYTES => {
                orientation = Orientation::from_exif_chunk(&exif(reader, len)?);
                let _: [u8; 4] = bytes(reader)?;
            }
            _ => reader.seek_relative(i64::try_from(len).ok()?.checked_add(4)?).ok()?,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{DynamicImage, ImageFormat};

    use super::*;

    #[test]
    fn sizes_are_those_of_the_decoded_picture() {
        let picture = DynamicImage::new_rgb8(37, 21);
        for format in [ImageFormat::Jpeg, ImageFormat::Png] {
            let mut file = Cursor::new(Vec::new());
            picture.write_to(&mut file, format).unwrap();
            let bytes = file.into_inner();
            assert_eq!(of_header(&mut Cursor::new(&bytes)), Some([37, 21]), "{format:?}");
            assert_eq!(of_header(&mut Cursor::new(&bytes[..20])), None, "{format:?} cut off");
            if format == ImageFormat::Jpeg {
                // A camera that was held on its side: orientation 6.
                let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
                let mut turned = [0xFF, 0xD8, 0xFF, 0xE1, 0, (exif.len() + 2) as u8].to_vec();
                turned.append(&mut exif);
                turned.extend_from_slice(&bytes[2..]);
                assert_eq!(of_header(&mut Cursor::new(&turned)), Some([21, 37]));
                let decoded = crate::decode_bytes("turned", &turned, DecodeLimits::default()).unwrap();
                assert_eq!([decoded.width, decoded.height], [21, 37]);
            }
        }
        let mut large = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x4e\x20\0\0\x4e\x20".to_vec();
        large.extend([0; 9]);
        large.extend(b"\0\0\0\0IDAT");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.png");
        std::fs::write(&path, large).unwrap();
        let message = picture_size(&path).unwrap_err().to_string();
        assert!(message.contains("large.png") && message.contains("20000"), "{message}");
        assert!(picture_size(Path::new("nowhere.jpg")).unwrap_err().to_string().contains("nowhere.jpg"));
    }
}
