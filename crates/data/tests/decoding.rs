//! Every image format through the one door, and what happens to files that are not images.
#![cfg(feature = "files")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "decoding/jpegs.rs"]
mod jpegs;
#[path = "decoding/tiffs.rs"]
mod tiffs;

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Luma, Rgb, Rgba};
use ocelli_data::{DataError, DecodeLimits, Image, decode_bytes};

const WIDTH: u32 = 12;
const HEIGHT: u32 = 7;

fn level(x: u32, y: u32, channel: u32) -> u8 {
    (x * 17 + y * 29 + channel * 71) as u8
}

fn rgb() -> image::RgbImage {
    image::RgbImage::from_fn(WIDTH, HEIGHT, |x, y| Rgb([0, 1, 2].map(|c| level(x, y, c))))
}

fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image.write_to(&mut out, format).unwrap();
    out.into_inner()
}

#[track_caller]
fn decode(bytes: &[u8]) -> Image {
    decode_bytes("test", bytes, DecodeLimits::default()).unwrap()
}

#[test]
fn lossless_formats_come_back_exactly() {
    let image = DynamicImage::ImageRgb8(rgb());
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff] {
        let ours = decode(&encode(&image, format));
        assert_eq!((ours.width, ours.height), (WIDTH, HEIGHT), "{format:?}");
        assert_eq!(&ours.data, image.as_bytes(), "{format:?}");
    }
}

#[test]
fn grey_sixteen_bit_and_alpha_become_rgb() {
    let grey = image::GrayImage::from_fn(WIDTH, HEIGHT, |x, y| Luma([level(x, y, 0)]));
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Tiff] {
        let ours = decode(&encode(&DynamicImage::ImageLuma8(grey.clone()), format));
        assert!(ours.data.chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2]), "{format:?}");
        if format != ImageFormat::Jpeg {
            assert_eq!(ours.pixel(3, 2).unwrap()[0], level(3, 2, 0));
        }
    }
    let deep =
        image::ImageBuffer::from_fn(WIDTH, HEIGHT, |x, y| Rgb([0, 1, 2].map(|c| u16::from(level(x, y, c)) * 257)));
    let grey_deep = image::ImageBuffer::from_fn(WIDTH, HEIGHT, |x, y| Luma([u16::from(level(x, y, 0)) * 257]));
    for format in [ImageFormat::Png, ImageFormat::Tiff] {
        let ours = decode(&encode(&DynamicImage::ImageRgb16(deep.clone()), format));
        assert_eq!(&ours.data, rgb().as_raw());
        let ours = decode(&encode(&DynamicImage::ImageLuma16(grey_deep.clone()), format));
        assert_eq!(ours.pixel(5, 6), Some([level(5, 6, 0); 3]));
    }
    // Dropped, not composited: the colour under a transparent pixel stays.
    let clear = image::RgbaImage::from_fn(WIDTH, HEIGHT, |x, y| {
        let p = rgb().get_pixel(x, y).0;
        Rgba([p[0], p[1], p[2], (x * 20) as u8])
    });
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Tiff] {
        let ours = decode(&encode(&DynamicImage::ImageRgba8(clear.clone()), format));
        if format == ImageFormat::WebP {
            // Lossless WebP may drop colour where nothing shows.
            assert_eq!(ours.pixel(9, 3), Some([0, 1, 2].map(|c| level(9, 3, c))));
        } else {
            assert_eq!(&ours.data, rgb().as_raw(), "{format:?}");
        }
    }
}

#[test]
fn gif_gives_its_first_frame() {
    let mut bytes = Vec::new();
    {
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
        let frame = |rgba: [u8; 4]| image::Frame::new(image::RgbaImage::from_pixel(WIDTH, HEIGHT, Rgba(rgba)));
        encoder.encode_frame(frame([250, 20, 30, 255])).unwrap();
        encoder.encode_frame(frame([0, 0, 255, 255])).unwrap();
    }
    let ours = decode(&bytes);
    assert_eq!((ours.width, ours.height), (WIDTH, HEIGHT));
    assert!(ours.data.chunks_exact(3).all(|p| p == [250, 20, 30]));
}

#[test]
fn jpeg_is_close_and_truncation_is_noticed() {
    let flat = image::RgbImage::from_pixel(WIDTH, HEIGHT, Rgb([180, 60, 90]));
    let bytes = encode(&DynamicImage::ImageRgb8(flat), ImageFormat::Jpeg);
    let ours = decode(&bytes);
    assert!(ours.data.chunks_exact(3).all(|p| { p.iter().zip([180u8, 60, 90]).all(|(a, b)| a.abs_diff(b) <= 4) }));
    let error = decode_bytes("cut.jpg", &bytes[..bytes.len() - 20], DecodeLimits::default());
    let message = error.unwrap_err().to_string();
    assert!(message.starts_with("cut.jpg:"), "{message}");
}

/// 16×8 pixels, two flat halves, four components with Adobe's inverted convention.
const CMYK_JPEG: &str = "ffd8ffee000e41646f626500640000000000ffdb0043000201010101010201010102020202020403020202020504040\
304060506060605060606070908060709070606080b08090a0a0a0a0a06080b0c0b0a0c090a0a0affc000140800080010044311004d11005911004b\
1100ffc400170001010101000000000000000000000000090a0708ffc40014100100000000000000000000000000000000ffda000e0443004d00590\
04b00003f0036cae3a50c22be139ede04bbffd9";

#[test]
fn cmyk_jpeg_has_the_colours_pil_gives() {
    let ours = decode(&from_hex(CMYK_JPEG));
    assert_eq!((ours.width, ours.height), (16, 8));
    for (x, expected) in [(0, [49u8, 190, 146]), (15, [130, 40, 103])] {
        let found = ours.pixel(x, 4).unwrap();
        let worst = found.iter().zip(expected).map(|(a, b)| a.abs_diff(b)).max().unwrap();
        assert!(worst <= 3, "{found:?} against {expected:?}");
    }
}

/// An APP1 segment holding one Exif entry: orientation.
fn exif_segment(orientation: u8) -> Vec<u8> {
    let mut body = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01".to_vec();
    body.extend([0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0, 0, 0, 0, 0]);
    let mut segment = vec![0xFF, 0xE1];
    segment.extend(((body.len() + 2) as u16).to_be_bytes());
    segment.extend(body);
    segment
}

#[test]
fn exif_orientation_is_applied() {
    // Left half dark, right half bright.
    let halves = image::RgbImage::from_fn(32, 16, |x, _| Rgb([if x < 16 { 20 } else { 230 }; 3]));
    let plain = encode(&DynamicImage::ImageRgb8(halves), ImageFormat::Jpeg);
    // (orientation, width, where the dark half is)
    let cases = [
        (1, 32, (2, 8)),
        (2, 32, (29, 8)),
        (3, 32, (29, 8)),
        (4, 32, (2, 8)),
        (5, 16, (8, 2)),
        (6, 16, (8, 2)),
        (7, 16, (8, 29)),
        (8, 16, (8, 29)),
    ];
    for (orientation, width, (x, y)) in cases {
        let mut bytes = plain[..2].to_vec();
        bytes.extend(exif_segment(orientation));
        bytes.extend(&plain[2..]);
        let ours = decode(&bytes);
        assert_eq!((ours.width, ours.height), (width, 48 - width), "orientation {orientation}");
        let dark = ours.pixel(x, y).unwrap()[0];
        let bright = ours.pixel(ours.width - 1 - x, ours.height - 1 - y).unwrap()[0];
        assert!(dark < 60 && bright > 190, "orientation {orientation}: {dark} {bright}");
    }
}

#[test]
fn too_many_pixels_are_refused_before_decoding() {
    let bytes = encode(&DynamicImage::ImageRgb8(rgb()), ImageFormat::Png);
    let error = decode_bytes("big.png", &bytes, DecodeLimits { max_pixels: Some(50) }).unwrap_err();
    assert!(matches!(error, DataError::TooManyPixels { pixels: 84, limit: 50, .. }), "{error}");
    for word in ["--max-pixels 1M", "loader.max_pixels"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    assert!(decode_bytes("big.png", &bytes, DecodeLimits { max_pixels: Some(84) }).is_ok());
    // A header that claims 60000×60000 pixels with no data behind it.
    let mut bomb = bytes;
    bomb[16..20].copy_from_slice(&60_000u32.to_be_bytes());
    bomb[20..24].copy_from_slice(&60_000u32.to_be_bytes());
    let crc = crc32(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&crc.to_be_bytes());
    let error = decode_bytes("bomb.png", &bomb, DecodeLimits::default()).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("60000x60000") && message.contains("100000000"), "{message}");
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |c, _| (c >> 1) ^ (0xEDB8_8320 & (c & 1).wrapping_neg()))
    })
}

#[test]
fn what_is_not_an_image_is_said_plainly() {
    let fail = |bytes: &[u8]| decode_bytes("odd.png", bytes, DecodeLimits::default()).unwrap_err().to_string();
    assert!(fail(b"").contains("empty file"));
    assert!(fail(b"hello, this is text").contains("68 65 6c 6c"));
    let png = encode(&DynamicImage::ImageRgb8(rgb()), ImageFormat::Png);
    assert!(fail(&png[..40]).contains("png"));
    for cut in 0..png.len() - 13 {
        fail(&png[..cut]);
    }
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// 4000 × 1000 white pixels, lossless.
const WHITE_WEBP: &str = "52494646cc000000574542505650384cc00000002f9fcff90007d0fffef7bfff012141e2fff72622fa9ff19f\
fffce73ffff9cf7ffef39ffffce73ffff9cf7ffef39ffffce73ffff9cf7ffef39ffffce73ffff9cf7ffef39ffffce73ffff9cf7ffef39ffffce73f\
fff9cf7ffef39ffffce73ffff9cf7ffef39ffffce73ffff9cf7ffef39ffffce73ffff9cf7ffef39ffffce73ffff9cf7ffef39ffffce73ffff9cf7f\
fef39ffffce73ffff9cf7ffef39ffffce73ffff9cf7ffef39ffffce73ffff9cf7ffef39ffffce73ffff9cf7ffef39fff6300";

/// Two frames of 5 × 4 pixels: (200, 30, 40), then blue.
const MOVING_WEBP: &str = "524946468600000057454250565038580a00000002000000040000030000414e494d06000000000000000000\
414e4d462a000000000000000000040000030000640000025650384c110000002f04c0000007508f2217a5ff8188e87f0000414e4d462800000000\
0000000000040000030000640000005650384c0f0000002f04c000000710d1fffe0722a2ff0100";

#[test]
fn webp_may_be_blank_and_may_move() {
    let white = decode(&from_hex(WHITE_WEBP));
    assert_eq!((white.width, white.height), (4000, 1000));
    assert!(white.data.iter().all(|level| *level == 255));
    let first = decode(&from_hex(MOVING_WEBP));
    assert_eq!((first.width, first.height), (5, 4));
    assert!(first.data.chunks_exact(3).all(|p| p == [200, 30, 40]), "{:?}", first.pixel(0, 0));
}

#[test]
fn a_name_says_nothing() {
    let picture = DynamicImage::ImageRgb8(rgb());
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff] {
        let read = decode_bytes("photo.jpg", &encode(&picture, format), DecodeLimits::default()).unwrap();
        assert_eq!(&read.data, picture.as_bytes(), "{format:?}");
    }
    for (bytes, word) in [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".as_slice(), "HEIC"),
        (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf", "AVIF"),
        (b"P6\n1 1\n255\nabc", "PNM"),
    ] {
        let message = decode_bytes("photo.jpg", bytes, DecodeLimits::default()).unwrap_err().to_string();
        assert!(message.starts_with("photo.jpg: expected a JPEG") && message.contains(word), "{message}");
        assert!(message.contains("save it as") || message.contains("export it as"), "{message}");
    }
}
