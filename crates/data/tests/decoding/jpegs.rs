//! JPEGs as cameras, phones and broken transfers leave them: whole ones are read, and no other.

use image::{DynamicImage, ImageFormat, Rgb};
use ocelli_data::{DecodeLimits, Image, decode_bytes};

use super::{decode, encode, from_hex};

/// 40 × 40 grey pixels in four scans of bits and bands.
const PROGRESSIVE: &str = "ffd8ffdb004300432e323a322a433a363a4b47434f64a66c645c5c64cc929a79a6f1d4fefaedd4e9e5ffffff\
ffffffffffe5e9ffffffffffffffffffffffffffffffffffffffffffc2000b080028002801011100ffc40017000101010100000000000000000000\
000003010204ffda000801010000000124dd14d1e12954df3ef709a8c4ffc400191001010101010100000000000000000000001101023121ffda00\
08010100010502888dd8bba8f1bd2237a8f511e22237a8fba8f1bd5447ffc400161000030000000000000000000000000000202140ffda00080101\
00063f023517ffc4001a100101010101010100000000000000000001002151113171ffda0008010100013f213a8841fdca6260f56772108183ecfa\
f638899a5887510bd07d957638943b360c2213ffda0008010100000010a028f27fffc4002310000202010402020300000000000000000121001151\
317191a141d16181b1e1f0ffda0008010100013f1050e910d0883e041646b803fd51c8ac0d04d2a67372a921bc286d0334cfafccc9c54d4b431517\
961c08570bcac0da293ee09d330d4421b98256ce22874886840ec02f81bfea10123ca1b4d2ed7010976ccb709d0dfd4d4b6715327153ffd9";

/// 24 × 32 grey pixels with a restart marker after every two blocks of twelve.
const RESTARTS: &str = "ffd8ffdb004300432e323a322a433a363a4b47434f64a66c645c5c64cc929a79a6f1d4fefaedd4e9e5ffffff\
ffffffffffe5e9ffffffffffffffffffffffffffffffffffffffffffc0000b080020001801011100ffc40017000101010100000000000000000000\
000003020401ffc400241000010401020603000000000000000000010002032111125104223141719181b1d1ffdd00040002ffda0008010100003f\
00ccc8e86af49db1d5d05fffd056c747b050c8fa62cef95fffd16c3626ea7b80f2b3cdc5b9c4b62c81be2cfe7dafffd2b9789645cad1970f416471\
7ccecb8f7ad8785fffd326475ca3e54323159b3b2fffd4e323a1abd266c757417fffd9";

/// Three colours, textured everywhere, several rows of blocks.
fn plain() -> Vec<u8> {
    let picture = image::RgbImage::from_fn(70, 90, |x, y| {
        Rgb([(x * 37 + y * 11) as u8, (x * y) as u8 ^ 0x55, (200 - x + (y % 7) * 9) as u8])
    });
    encode(&DynamicImage::ImageRgb8(picture), ImageFormat::Jpeg)
}

fn kinds() -> [(&'static str, Vec<u8>); 3] {
    [("plain", plain()), ("progressive", from_hex(PROGRESSIVE)), ("restarts", from_hex(RESTARTS))]
}

fn refused(bytes: &[u8]) -> String {
    match decode_bytes("photo.jpg", bytes, DecodeLimits::default()) {
        Err(error) => error.to_string(),
        Ok(Image { width, height, .. }) => panic!("read as {width}x{height}"),
    }
}

#[test]
fn an_end_marker_is_no_matter() {
    for (kind, bytes) in kinds() {
        let whole = decode(&bytes);
        let without = &bytes[..bytes.len() - 2];
        let half_marker = &bytes[..bytes.len() - 1];
        let samsung = [without, b"\0\0\x01\x0aSEFH", &[0; 200], b"SEFT"].concat();
        let zeros = [without, &[0; 4096]].concat();
        // Another picture behind this one, as phones put a preview or a depth map there.
        let preview = [without, &bytes].concat();
        let padded = [&bytes[..], &[0; 4096]].concat();
        let second = [&bytes[..], &bytes[..bytes.len() / 2]].concat();
        for (what, file) in [
            ("without", without),
            ("half a marker", half_marker),
            ("a trailer", &samsung),
            ("zeros", &zeros),
            ("a preview", &preview),
            ("padded", &padded),
            ("part of a second", &second),
        ] {
            assert!(decode(file) == whole, "{kind}, {what}");
        }
    }
}

#[test]
fn missing_rows_are_missed() {
    for (kind, bytes) in kinds() {
        let scan = bytes.windows(2).position(|pair| pair == [0xFF, 0xDA]).unwrap();
        let data = bytes.len() - 2 - scan;
        for cut in
            [scan + 30, scan + data / 4, scan + data / 2, bytes.len() - 40, bytes.len() - 12, bytes.len() - 6]
        {
            let part = &bytes[..cut];
            let message = refused(part);
            assert!(message.contains("truncated jpeg"), "{kind}, {cut} of {}: {message}", bytes.len());
            // What a disk or a card had in the place of the rest.
            let zeros = [part, &vec![0; bytes.len() - cut + 600]].concat();
            assert!(refused(&zeros).contains("truncated jpeg"), "{kind}, zeros from {cut}");
        }
    }
    // An end marker behind a part.
    let bytes = plain();
    for cut in [bytes.len() / 2, bytes.len() * 3 / 4] {
        let ended = [&bytes[..cut], b"\xff\xd9"].concat();
        assert!(refused(&ended).contains("truncated jpeg"), "ended at {cut}");
        let trailer = [&bytes[..cut], b"\0\0\x01\x0aSEFH", &[0; 40], b"SEFT"].concat();
        assert!(refused(&trailer).contains("truncated jpeg"), "a trailer from {cut}");
    }
    // In a smooth picture the decoder goes on with the last block's colour.
    let smooth = image::RgbImage::from_fn(120, 96, |x, y| Rgb([(2 * x) as u8, (2 * y) as u8, (x + y) as u8]));
    let bytes = encode(&DynamicImage::ImageRgb8(smooth), ImageFormat::Jpeg);
    let scan = bytes.windows(2).position(|pair| pair == [0xFF, 0xDA]).unwrap();
    for share in [1, 2, 3] {
        let ended = [&bytes[..scan + 14 + share * (bytes.len() - scan - 16) / 4], b"\xff\xd9"].concat();
        assert!(refused(&ended).contains("truncated jpeg"), "{share} quarters");
    }
    decode(&bytes);
    // A progressive one, in the midst of a scan that others should follow.
    let bytes = from_hex(PROGRESSIVE);
    let scan = bytes.windows(2).position(|pair| pair == [0xFF, 0xDA]).unwrap();
    assert!(refused(&[&bytes[..scan + 13], b"\xff\xd9"].concat()).contains("truncated jpeg"));
    // A grey picture is one, whatever the decoder fills with.
    let grey = image::RgbImage::from_pixel(40, 40, Rgb([128; 3]));
    let grey = decode(&encode(&DynamicImage::ImageRgb8(grey), ImageFormat::Jpeg));
    assert!(grey.data.iter().all(|level| level.abs_diff(128) <= 1));
}

#[test]
fn a_progressive_file_lacks_no_scan() {
    let bytes = from_hex(PROGRESSIVE);
    let scans: Vec<usize> =
        (0..bytes.len() - 1).filter(|at| matches!(bytes[*at..at + 2], [0xFF, 0xC4 | 0xDA])).collect();
    for cut in &scans[2..] {
        assert!(refused(&bytes[..*cut]).contains("truncated jpeg"), "{cut}");
    }
}

#[test]
fn kinds_that_are_not_read_are_named() {
    let bytes = plain();
    let frame = bytes.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    let with = |at: usize, byte: u8| {
        let mut other = bytes.clone();
        other[frame + at] = byte;
        other
    };
    assert!(refused(&with(1, 0xC9)).contains("arithmetic"));
    assert!(refused(&with(1, 0xC3)).contains("lossless"));
    assert!(refused(&with(4, 12)).contains("12 bits"));
    // An extended frame of 8 bits is an ordinary one by another name.
    assert!(decode(&with(1, 0xC1)) == decode(&bytes));
}
