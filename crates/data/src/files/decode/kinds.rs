//! Names for what is not read: what a person holds, in their words, and what to do with it.

/// Where text that a reader skips begins in a DICOM file.
const DICOM_AT: usize = 128;

/// What the bytes are, where a person would know it by name and Ocelli does not read it; with what to do.
pub(super) fn foreign(bytes: &[u8]) -> Option<&'static str> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    if bytes.get(4..8) == Some(b"ftyp".as_slice()) {
        return Some(of_brands(bytes));
    }
    let known: [(&[u8], &str); 25] = [
        (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture; save it as PNG or TIFF"),
        (b"\xff\x4f\xff\x51", "a JPEG 2000 picture; save it as PNG or TIFF"),
        (b"\0\0\0\x0cJXL ", "a JPEG XL picture; save it as JPEG or PNG"),
        (b"\xff\x0a", "a JPEG XL picture; save it as JPEG or PNG"),
        (b"II\xbc\x01", "a JPEG XR picture; save it as JPEG or PNG"),
        (b"8BPS", "a Photoshop document (PSD); save it as PNG, TIFF or JPEG"),
        (b"gimp xcf", "a GIMP document (XCF); export it as PNG"),
        (b"%PDF", "a PDF document; save its pages as PNG or JPEG"),
        (b"FUJIFILMCCD-RAW", RAW),
        (b"IIU\0", RAW),
        (b"IIRO", RAW),
        (b"MMOR", RAW),
        (b"v/1\x01", "an OpenEXR picture; save it as 8- or 16-bit PNG or TIFF"),
        (b"#?RADIANCE", "a Radiance HDR picture; save it as 8- or 16-bit PNG or TIFF"),
        (b"DDS ", "a DDS texture; save it as PNG"),
        (b"qoif", "a QOI picture; save it as PNG"),
        (b"SIMPLE  =", "a FITS picture; save it as 8- or 16-bit PNG or TIFF"),
        (b"\0\0\x01\0", "an icon (ICO); save it as PNG"),
        (b"<svg", "an SVG drawing; save it as PNG"),
        (b"<?xml", "an XML or SVG text; save a drawing as PNG"),
        (b"<!DOCTYPE", "a web page, as a failed download leaves it; fetch the picture again"),
        (b"<!doctype", "a web page, as a failed download leaves it; fetch the picture again"),
        (b"<html", "a web page, as a failed download leaves it; fetch the picture again"),
        (b"version https://git-lfs", "a Git LFS pointer in the picture's place; run `git lfs pull`"),
        (b"\x1a\x45\xdf\xa3", "a video (Matroska or WebM); save its frames as pictures"),
    ];
    if let Some((_, what)) = known.iter().find(|(magic, _)| starts(magic)) {
        return Some(what);
    }
    if let [b'P', b'1'..=b'7', b' ' | b'\t' | b'\r' | b'\n' | b'#', ..] = bytes {
        return Some("a PNM picture (PBM, PGM, PPM or PAM); save it as PNG");
    }
    (bytes.get(DICOM_AT..DICOM_AT + 4) == Some(b"DICM".as_slice()))
        .then_some("a DICOM picture; save it as 8- or 16-bit PNG or TIFF")
}

pub(super) const RAW: &str = "a camera's raw photo; develop it and export it as JPEG or TIFF";

const AVIF: &str = "an AVIF picture; save it as JPEG, PNG or WebP";

const HEIC: &str = "a HEIC photo, as iPhones take them; export it as JPEG (Settings, Camera, Formats, Most Compatible \
                    takes JPEGs from then on)";

/// Of an ISO media file: the major brand, then those it is compatible with.
fn of_brands(bytes: &[u8]) -> &'static str {
    let len = bytes.first_chunk::<4>().map_or(0, |b| u32::from_be_bytes(*b) as usize);
    let brands = bytes.get(8..len.clamp(12, 256).min(bytes.len())).unwrap_or_default();
    // Behind the major brand stands a version.
    let brands = brands.chunks_exact(4).enumerate().filter(|(i, _)| *i != 1).map(|(_, brand)| brand);
    for brand in brands.clone() {
        match brand {
            b"avif" | b"avis" => return AVIF,
            b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" | b"hevm" | b"hevs" => return HEIC,
            b"crx " => return RAW,
            b"jp2 " | b"jpx " => return "a JPEG 2000 picture; save it as PNG or TIFF",
            _ => {}
        }
    }
    if brands.clone().any(|brand| matches!(brand, b"mif1" | b"msf1" | b"mif2")) {
        return "a HEIF picture; export it as JPEG";
    }
    "a video (MP4 or MOV); save its frames as pictures"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_hold_is_named() {
        let cases: [(&[u8], &str); 13] = [
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
            (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
            (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miafMA1A", "AVIF"),
            (b"\0\0\0\x10ftypmif1\0\0\0\0", "HEIF"),
            // Brands that stand behind the box are not its brands.
            (b"\0\0\0\x10ftypisom\0\0\0\0heic", "video"),
            (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", "raw"),
            (b"P6\n3 2\n255\n", "PNM"),
            (b"%PDF-1.7", "PDF"),
            (b"<!DOCTYPE html>", "web page"),
            (b"<!doctype html>", "web page"),
            (b"\xff\x0a\0\0", "JPEG XL"),
            (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        ];
        for (bytes, word) in cases {
            assert!(foreign(bytes).is_some_and(|text| text.contains(word)), "{word}: {:?}", foreign(bytes));
            for cut in 0..bytes.len() {
                let _ = foreign(&bytes[..cut]);
            }
        }
        let mut dicom = vec![0; 128];
        dicom.extend(b"DICM");
        assert!(foreign(&dicom).unwrap().contains("DICOM"));
        for read in
            [b"\xff\xd8\xff\xe0".as_slice(), b"\x89PNG\r\n\x1a\n", b"II*\0", b"RIFF", b"GIF89a", b"BM", b"PK"]
        {
            assert_eq!(foreign(read), None);
        }
    }
}
