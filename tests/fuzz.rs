//! Mutated pictures, records and configurations: no panic, no hang, and never more memory than twice the input and 64 MB.
//! (Weight files have the same in `crates/weights`.)
//!
//!     OCELLI_FUZZ=200000 cargo test --release --workspace --test fuzz -- --nocapture
//!
//! A quick run without `OCELLI_FUZZ` (inputs per reader); `OCELLI_FUZZ_SEED` for another seed.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/fuzz.rs"]
mod support;

use std::fs;
use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, Rgba};
use ocelli::data::Source;
use ocelli::data::files::{CifarSource, DecodeLimits, decode_bytes};
use ocelli::train::config::{presets, resolve, resolve_over};
use support::{fuzz, settings};

/// One test, because the allocator counts for the whole process.
#[test]
fn readers_keep_their_bounds() {
    let (count, seed) = settings(3000);
    pictures(count, seed);
    records(count, seed);
    configurations(count, seed);
}

fn pictures(count: usize, seed: u64) {
    let noise = image::RgbImage::from_fn(31, 17, |x, y| Rgb([(x * 37 + y) as u8, (y * x) as u8, (x ^ y) as u8]));
    let alpha = image::RgbaImage::from_fn(16, 9, |x, y| Rgba([(x * 16) as u8, (y * 28) as u8, 9, (x * y) as u8]));
    let wide: image::ImageBuffer<Rgb<u16>, _> =
        image::ImageBuffer::from_fn(8, 8, |x, y| Rgb([(x * 8000) as u16, (y * 8000) as u16, 77]));
    let pictures =
        [DynamicImage::ImageRgb8(noise), DynamicImage::ImageRgba8(alpha), DynamicImage::ImageRgb16(wide)];
    let mut corpus = Vec::new();
    for picture in &pictures {
        let mut add = |picture: &DynamicImage, format: ImageFormat| {
            let mut bytes = Cursor::new(Vec::new());
            if picture.write_to(&mut bytes, format).is_ok() {
                corpus.push(bytes.into_inner());
            }
        };
        add(picture, ImageFormat::Png);
        add(picture, ImageFormat::Tiff);
        for format in [ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Gif] {
            add(&DynamicImage::ImageRgb8(picture.to_rgb8()), format);
        }
    }
    assert_eq!(corpus.len(), 18, "every format");
    // Markers of JPEG, tags of TIFF.
    let letters = b"\xff\xd8\xd9\xda\xc0\xc2\xc4\xdb\xe1\x00\x01\x02\x03\x04\x08\x10II*MM";
    fuzz("pictures", &corpus, letters, (count, seed), &|_| None, &|bytes| match decode_bytes(
        "input",
        bytes,
        DecodeLimits::default(),
    ) {
        Ok(image) => {
            assert_eq!(image.data.len(), 3 * (image.width * image.height) as usize);
            true
        }
        Err(error) => {
            assert!(error.to_string().starts_with("input"), "{error}");
            false
        }
    });
}

fn records(count: usize, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let (plain, packed) = (folder.path().join("r.bin"), folder.path().join("r.bin.xz"));
    let ten: Vec<u8> = (0..2 * 3073).map(|i| if i % 3073 == 0 { 3 } else { (i * i) as u8 }).collect();
    let hundred: Vec<u8> = (0..3074).map(|i| if i < 2 { 7 } else { (i / 12) as u8 }).collect();
    let read = |path: &std::path::Path, bytes: &[u8]| {
        fs::write(path, bytes).unwrap();
        match CifarSource::open(path) {
            Ok(source) => (0..source.len()).all(|i| source.load(i).is_ok() && source.label(i).is_some()),
            Err(error) => {
                assert!(error.to_string().contains("r.bin"), "{error}");
                false
            }
        }
    };
    let packs: Vec<Vec<u8>> = [&ten, &hundred].map(|bytes| pack(bytes)).to_vec();
    fuzz("records", &[ten, hundred], b"\x00\x05\x09\x0a\xff", (count, seed), &|_| None, &|bytes| {
        read(&plain, bytes)
    });
    fuzz("packed records", &packs, b"\xfd7zXZ\x00\x01\x21\x28\xff", (count, seed), &|_| None, &|bytes| {
        read(&packed, bytes)
    });
}

fn pack(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut writer = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(0)).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn configurations(count: usize, seed: u64) {
    let mut corpus: Vec<Vec<u8>> = presets().map(|(_, p)| p.toml.as_bytes().to_vec()).collect();
    corpus.push(
        b"epochs = 3\n[views]\nglobal_scale = [0.25, 1.0]\n[dino.head]\nout_dim = 64\nnorm_last_layer = false\n"
            .to_vec(),
    );
    let letters = b"[]{}=\"'.,#\n0123456789-+eE_ta";
    let base = resolve(None, None, &[]).unwrap();
    fuzz("configurations", &corpus, letters, (count, seed), &|_| None, &|bytes| {
        let text = String::from_utf8_lossy(bytes);
        let sets: Vec<String> = text.lines().map(|l| l.replace(' ', "")).take(3).collect();
        if let Err(error) = resolve_over(&base, &sets) {
            assert!(!error.to_string().is_empty());
        }
        match resolve(None, Some(("input", &text)), &[]) {
            Ok(config) => config.check().is_ok() && config.view_plan().validate().is_ok(),
            Err(_) => false,
        }
    });
}
