//! TIFFs as scanners, microscopes, satellites and old programs write them.

use ocelli_data::{DecodeLimits, Image, decode_bytes};

use super::decode;

const SHORT: u64 = 3;
const LONG: u64 = 4;

/// A TIFF in the making.
#[derive(Clone)]
struct Tiff {
    big_endian: bool,
    /// BigTIFF.
    wide: bool,
    /// Number, type and values.
    fields: Vec<(u64, u64, Vec<u64>)>,
    chunks: Vec<Vec<u8>>,
    tiled: bool,
}

impl Tiff {
    /// Chunky strips, uncompressed; one strip unless `rows_per_strip` says more.
    fn new(width: u64, height: u64, bits: &[u64], photometric: u64, chunks: Vec<Vec<u8>>) -> Self {
        let fields = vec![
            (256, LONG, vec![width]),
            (257, LONG, vec![height]),
            (258, SHORT, bits.to_vec()),
            (259, SHORT, vec![1]),
            (262, SHORT, vec![photometric]),
            (277, SHORT, vec![bits.len() as u64]),
        ];
        Self { big_endian: false, wide: false, fields, chunks, tiled: false }
    }

    fn with(mut self, tag: u64, kind: u64, values: &[u64]) -> Self {
        self.fields.retain(|(old, ..)| *old != tag);
        self.fields.push((tag, kind, values.to_vec()));
        self
    }

    fn tiles(mut self, width: u64, height: u64) -> Self {
        self.tiled = true;
        self.with(322, LONG, &[width]).with(323, LONG, &[height])
    }

    fn number(&self, value: u64, len: usize) -> Vec<u8> {
        let mut bytes = value.to_le_bytes()[..len].to_vec();
        if self.big_endian {
            bytes.reverse();
        }
        bytes
    }

    fn bytes(&self) -> Vec<u8> {
        let offset_len = if self.wide { 8 } else { 4 };
        let mut bytes = if self.big_endian { b"MM".to_vec() } else { b"II".to_vec() };
        bytes.extend(self.number(if self.wide { 43 } else { 42 }, 2));
        if self.wide {
            bytes.extend([self.number(8, 2), vec![0; 2]].concat());
        }
        let directory_at = bytes.len();
        bytes.resize(directory_at + offset_len, 0);
        let (mut offsets, mut lengths) = (Vec::new(), Vec::new());
        for chunk in &self.chunks {
            offsets.push(bytes.len() as u64);
            lengths.push(chunk.len() as u64);
            bytes.extend(chunk);
        }
        let mut fields = self.fields.clone();
        let own = if self.tiled { (324, 325) } else { (273, 279) };
        fields.extend([(own.0, LONG, offsets), (own.1, LONG, lengths)]);
        fields.sort();
        let mut directory = self.number(fields.len() as u64, if self.wide { 8 } else { 2 });
        for (tag, kind, values) in fields {
            let size = if kind == SHORT { 2 } else { 4 };
            directory.extend([self.number(tag, 2), self.number(kind, 2)].concat());
            directory.extend(self.number(values.len() as u64, offset_len));
            let mut packed: Vec<u8> = values.iter().flat_map(|value| self.number(*value, size)).collect();
            if packed.len() > offset_len {
                let at = bytes.len() as u64;
                bytes.extend(packed);
                packed = self.number(at, offset_len);
            }
            packed.resize(offset_len, 0);
            directory.extend(packed);
        }
        directory.resize(directory.len() + offset_len, 0);
        let at = self.number(bytes.len() as u64, offset_len);
        bytes[directory_at..directory_at + offset_len].copy_from_slice(&at);
        bytes.extend(directory);
        bytes
    }

    #[track_caller]
    fn read(&self) -> Image {
        decode(&self.bytes())
    }

    fn refused(&self) -> String {
        decode_bytes("scan.tif", &self.bytes(), DecodeLimits::default()).unwrap_err().to_string()
    }
}

/// Rows of numbers, `bits` each, the first in the highest bits, every row filled to whole bytes.
fn packed(rows: &[Vec<u64>], bits: usize, big_endian: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for row in rows {
        if bits == 16 {
            let pair = |n: &u64| if big_endian { (*n as u16).to_be_bytes() } else { (*n as u16).to_le_bytes() };
            bytes.extend(row.iter().flat_map(pair));
            continue;
        }
        for part in row.chunks(8 / bits) {
            bytes.push(part.iter().enumerate().fold(0, |byte, (i, n)| byte | (*n as u8) << (8 - bits * (i + 1))));
        }
    }
    bytes
}

fn numbers(width: usize, height: usize, below: u64) -> Vec<Vec<u64>> {
    (0..height).map(|y| (0..width).map(|x| (x as u64 * 7919 + y as u64 * 104_729) % below).collect()).collect()
}

fn greys(image: &Image) -> Vec<u8> {
    assert!(image.data.chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2]), "no grey");
    image.data.chunks_exact(3).map(|p| p[0]).collect()
}

#[test]
fn grey_of_any_depth_and_either_sense() {
    for bits in [1_usize, 2, 4, 8, 16] {
        let highest = (1_u64 << bits) - 1;
        let rows = numbers(13, 5, highest + 1);
        let levels: Vec<u8> = rows.iter().flatten().map(|n| ((n * 255 + highest / 2) / highest) as u8).collect();
        for (big_endian, wide, white_is_zero) in
            [(false, false, false), (true, false, true), (false, true, true), (true, true, false)]
        {
            let data = packed(&rows, bits, big_endian);
            let photometric = u64::from(!white_is_zero);
            let mut tiff = Tiff::new(13, 5, &[bits as u64], photometric, vec![data]);
            (tiff.big_endian, tiff.wide) = (big_endian, wide);
            // As high as a strip can be: all of it.
            let tiff = tiff.with(278, LONG, &[0xFFFF_FFFF]);
            let expected: Vec<u8> = levels.iter().map(|l| if white_is_zero { 255 - l } else { *l }).collect();
            assert_eq!(greys(&tiff.read()), expected, "{bits} bits, {big_endian} {wide} {white_is_zero}");
        }
    }
    // With alpha, which is dropped.
    let data: Vec<u8> = (0..24).flat_map(|i| [i * 10, 7]).collect();
    let tiff = Tiff::new(6, 4, &[8, 8], 1, vec![data]).with(338, SHORT, &[2]);
    assert_eq!(greys(&tiff.read()), (0..24).map(|i| i * 10).collect::<Vec<u8>>());
}

#[test]
fn palettes_are_looked_up() {
    for bits in [1_usize, 2, 4, 8, 16] {
        let colours = 1_u64 << bits;
        let rows = numbers(11, 6, colours);
        let level = |channel: u64, i: u64| (i * 31 + channel * 90 + 5) % 256;
        let expected: Vec<u8> =
            rows.iter().flatten().flat_map(|i| [0, 1, 2].map(|channel| level(channel, *i) as u8)).collect();
        // Levels of 16 bits in three ways that are written: times 257, times 256, and as if of 8 bits.
        for scale in [257, 256, 1] {
            let map: Vec<u64> =
                (0..3).flat_map(|channel| (0..colours).map(move |i| level(channel, i) * scale)).collect();
            let mut tiff = Tiff::new(11, 6, &[bits as u64], 3, vec![packed(&rows, bits, scale == 256)]);
            tiff.big_endian = scale == 256;
            assert_eq!(tiff.with(320, SHORT, &map).read().data, expected, "{bits} bits, times {scale}");
        }
    }
    let short = Tiff::new(2, 1, &[8], 3, vec![vec![0, 1]]).with(320, SHORT, &[0; 12]);
    assert!(short.refused().contains("colour map of 3 x 256 levels, found 12"), "{}", short.refused());
    assert!(Tiff::new(2, 1, &[8], 3, vec![vec![0, 1]]).refused().contains("found 0"));
}

#[test]
fn planes_tiles_and_other_samples() {
    let (width, height) = (20_usize, 18_usize);
    let level = |x: usize, y: usize, channel: usize| ((x * 11 + y * 7) ^ (channel * 85)) as u8;
    let colours = |channels: usize| {
        let places = (0..height).flat_map(move |y| (0..width).map(move |x| (x, y)));
        places.flat_map(move |(x, y)| (0..channels).map(move |c| level(x, y, c))).collect::<Vec<u8>>()
    };
    let plane = |c: usize| (0..height).flat_map(|y| (0..width).map(move |x| level(x, y, c))).collect::<Vec<u8>>();
    let expected = colours(3);
    let size = (width as u64, height as u64);
    let planar = Tiff::new(size.0, size.1, &[8; 3], 2, (0..3).map(plane).collect()).with(284, SHORT, &[2]);
    assert_eq!(planar.read().data, expected, "planar");
    let planar = Tiff::new(size.0, size.1, &[8; 4], 2, (0..4).map(plane).collect());
    let planar = planar.with(284, SHORT, &[2]).with(338, SHORT, &[0]);
    assert_eq!(planar.read().data, expected, "planar with a fourth");
    let five = Tiff::new(size.0, size.1, &[8; 5], 2, vec![colours(5)]).with(338, SHORT, &[0, 0]);
    assert_eq!(five.read().data, expected, "two more samples");
    // Tiles of 16 × 16, which stick out on the right and below.
    let tile = |left: usize, top: usize, channels: std::ops::Range<usize>| {
        let places = (top..top + 16).flat_map(|y| (left..left + 16).map(move |x| (x, y)));
        places.flat_map(|(x, y)| channels.clone().map(move |c| level(x, y, c))).collect::<Vec<u8>>()
    };
    let corners = [(0, 0), (16, 0), (0, 16), (16, 16)];
    let tiles = corners.iter().map(|(x, y)| tile(*x, *y, 0..3)).collect();
    assert_eq!(Tiff::new(size.0, size.1, &[8; 3], 2, tiles).tiles(16, 16).read().data, expected, "tiles");
    let tiles = (0..3).flat_map(|c| corners.iter().map(move |(x, y)| tile(*x, *y, c..c + 1))).collect();
    let tiled = Tiff::new(size.0, size.1, &[8; 3], 2, tiles).tiles(16, 16).with(284, SHORT, &[2]);
    assert!(tiled.refused().contains("tiles of its own for each colour"), "{}", tiled.refused());
    let whole = (0..3).map(|c| tile(0, 0, c..c + 1)).collect();
    let whole = Tiff::new(16, 16, &[8; 3], 2, whole).tiles(16, 16).with(284, SHORT, &[2]);
    assert_eq!(whole.read().data, tile(0, 0, 0..3), "tiles of planes");
    let nibbles = corners.iter().map(|(left, top)| {
        let rows: Vec<Vec<u64>> =
            (0..16).map(|y| (0..16).map(|x| ((left + x + top + y) % 16) as u64).collect()).collect();
        packed(&rows, 4, false)
    });
    let tiled = Tiff::new(size.0, size.1, &[4], 1, nibbles.collect()).tiles(16, 16);
    let expected: Vec<u8> = (0..height).flat_map(|y| (0..width).map(move |x| ((x + y) % 16 * 17) as u8)).collect();
    assert_eq!(greys(&tiled.read()), expected, "tiles of 4 bits");
}

#[test]
fn inks_and_luma_become_rgb() {
    // As PIL's convert("RGB").
    let inks = [[0, 0, 0, 0], [255, 0, 0, 0], [0, 128, 255, 64], [10, 20, 30, 255], [99, 3, 200, 17]];
    let expected = [255, 255, 255, 0, 255, 255, 191, 95, 0, 0, 0, 0, 146, 235, 51];
    let chunky = Tiff::new(5, 1, &[8; 4], 5, vec![inks.concat()]);
    assert_eq!(chunky.read().data, expected);
    let planes = (0..4).map(|c| inks.iter().map(|ink| ink[c]).collect()).collect();
    assert_eq!(Tiff::new(5, 1, &[8; 4], 5, planes).with(284, SHORT, &[2]).read().data, expected);
    let luma = vec![128, 128, 128, 76, 85, 255, 255, 128, 128];
    let found = Tiff::new(3, 1, &[8; 3], 6, vec![luma]).with(530, SHORT, &[1, 1]).read().data;
    for (found, expected) in found.iter().zip([128, 128, 128, 254, 0, 0, 255, 255, 255_u8]) {
        assert!(found.abs_diff(expected) <= 1, "{found} and {expected}");
    }
}

/// LZW that never uses a code of more than 9 bits.
fn lzw(data: &[u8]) -> Vec<u8> {
    let codes: Vec<u32> =
        data.chunks(200).flat_map(|part| std::iter::once(256).chain(part.iter().map(|b| u32::from(*b)))).collect();
    let bits: Vec<u8> =
        codes.iter().chain(&[257]).flat_map(|code| (0..9).rev().map(move |i| (code >> i & 1) as u8)).collect();
    bits.chunks(8).map(|byte| byte.iter().enumerate().fold(0, |all, (i, bit)| all | bit << (7 - i))).collect()
}

#[test]
fn packed_strips_are_unpacked() {
    let (width, height) = (16_u64, 12_u64);
    let pixels: Vec<u8> = (0..width * height * 3).map(|i| (i * i / 5 + i) as u8).collect();
    let rows = |bytes: &[u8]| bytes.chunks(4 * 3 * 16).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let of = |method: u64, chunks: Vec<Vec<u8>>| {
        Tiff::new(width, height, &[8; 3], 2, chunks).with(259, SHORT, &[method]).with(278, LONG, &[4])
    };
    assert_eq!(of(1, rows(&pixels)).read().data, pixels, "strips");
    let bits: Vec<Vec<u8>> = rows(&pixels)
        .iter()
        .map(|strip| strip.chunks(100).flat_map(|part| [&[part.len() as u8 - 1], part].concat()).collect())
        .collect();
    assert_eq!(of(32773, bits).read().data, pixels, "PackBits");
    // Differences along each row.
    let mut differences = pixels.clone();
    for row in differences.chunks_mut(48) {
        for i in (3..48).rev() {
            row[i] = row[i].wrapping_sub(row[i - 3]);
        }
    }
    let packed: Vec<Vec<u8>> = rows(&differences).iter().map(|strip| lzw(strip)).collect();
    assert_eq!(of(5, packed.clone()).with(317, SHORT, &[2]).read().data, pixels, "LZW with differences");
    let mirrored = packed.iter().map(|strip| strip.iter().map(|b| b.reverse_bits()).collect()).collect();
    let mirrored = of(5, mirrored).with(317, SHORT, &[2]).with(266, SHORT, &[2]);
    assert_eq!(mirrored.read().data, pixels, "the lowest bit first");
    // A strip that ends too soon.
    let mut cut = packed;
    cut[2].truncate(30);
    assert!(of(5, cut).with(317, SHORT, &[2]).refused().contains("tiff file"));
    let mut cut = rows(&pixels);
    cut[2].truncate(30);
    assert!(of(1, cut).refused().contains("tiff file"));
}

#[test]
fn a_blank_page_is_no_bomb() {
    // One bit for a row like the one above, and the end of the block.
    let (width, height) = (2480_usize, 3508_usize);
    let mut page = vec![0xFF; height / 8];
    page.extend([0xF0, 0x01, 0x00, 0x10]);
    let g4 = Tiff::new(width as u64, height as u64, &[1], 0, vec![page]).with(259, SHORT, &[4]);
    for tiff in [g4.clone(), g4.clone().with(278, LONG, &[0xFFFF_FFFF])] {
        let blank = tiff.read();
        assert_eq!((blank.width as usize, blank.height as usize), (width, height));
        assert!(blank.data.iter().all(|level| *level == 255));
    }
    let half = Tiff { chunks: vec![vec![0xFF; height / 16]], ..g4 };
    assert!(half.refused().contains("tiff file"), "{}", half.refused());
}

#[test]
fn what_has_no_black_and_white_is_refused_in_words() {
    let four = |bits: u64, format: u64| {
        Tiff::new(1, 1, &[bits], 1, vec![vec![0; 8]]).with(339, SHORT, &[format]).refused()
    };
    assert!(four(32, 3).contains("floating-point") && four(32, 3).contains("8 or 16 bits"), "{}", four(32, 3));
    assert!(four(32, 2).contains("sign") && four(16, 2).contains("sign"), "{}", four(32, 2));
    assert!(four(32, 1).contains("32 bits"), "{}", four(32, 1));
    assert!(four(12, 1).contains("12 bits"), "{}", four(12, 1));
    for lab in [8, 9, 10] {
        let message = Tiff::new(1, 1, &[8; 3], lab, vec![vec![0; 3]]).refused();
        assert!(message.contains("Lab") && message.contains("convert it to RGB"), "{message}");
    }
    let bands = Tiff::new(1, 1, &[8; 7], 1, vec![vec![0; 7]]).with(338, SHORT, &[0; 6]).refused();
    assert!(bands.contains("7 bands"), "{bands}");
    for (method, word) in
        [(3, "Group 3"), (6, "old way"), (34712, "JPEG 2000"), (50000, "Zstandard"), (9999, "9999")]
    {
        let message = Tiff::new(1, 1, &[8], 1, vec![vec![0; 8]]).with(259, SHORT, &[method]).refused();
        assert!(message.contains(word) && message.contains("LZW"), "{message}");
    }
    // Colours of 2 × 2 pixels in one, as is so where nothing else is said.
    let coarse = Tiff::new(2, 2, &[8; 3], 6, vec![vec![128; 6]]);
    for tiff in [coarse.clone(), coarse.with(530, SHORT, &[2, 1])] {
        assert!(tiff.refused().contains("save it as RGB"), "{}", tiff.refused());
    }
    let raw = Tiff::new(1, 1, &[8], 1, vec![vec![0; 8]]).with(50706, LONG, &[1]).refused();
    assert!(raw.contains("raw photo"), "{raw}");
}

#[test]
fn claims_that_cannot_be_are_refused() {
    let refused = |tiff: Tiff| tiff.refused();
    // 90 megapixels in no bytes at all.
    let large = |method: u64| Tiff::new(10_000, 9_000, &[8; 3], 2, vec![vec![7; 64]]).with(259, SHORT, &[method]);
    for method in [1, 8, 32773] {
        assert!(refused(large(method)).contains("claims 10000x9000"), "{method}");
    }
    let tiles = Tiff::new(8, 8, &[8; 3], 2, vec![vec![7; 64]]).tiles(1 << 30, 1 << 30);
    assert!(refused(tiles).contains("claims"));
    let samples = Tiff::new(3000, 3000, &[16], 2, vec![vec![7; 64]]).with(277, SHORT, &[60_000]);
    assert!(refused(samples.with(259, SHORT, &[5])).contains("claims"));
    // A strip is a JPEG of its own, which may claim more than the picture.
    let mut jpeg = b"\xff\xd8\xff\xc0\0\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0".to_vec();
    jpeg.extend([0; 40]);
    let strip = Tiff::new(16, 16, &[8], 1, vec![jpeg]).with(259, SHORT, &[7]);
    assert!(refused(strip).contains("claims"));
    // Strips may share their bytes, but not lie one over another. The fields that stand first count.
    let strips = Tiff::new(16, 16, &[8], 1, vec![vec![7; 900]]).with(259, SHORT, &[7]).with(278, LONG, &[8]);
    let at = |starts: &[u64], lens: &[u64]| strips.clone().with(273, SHORT, starts).with(279, SHORT, lens);
    assert!(refused(at(&[8, 9], &[900, 899])).contains("claims"));
    assert!(!refused(at(&[8, 8], &[900, 900])).contains("claims"));
    assert!(refused(Tiff::new(20_000, 20_000, &[1], 0, vec![vec![1; 9]])).contains("--max-pixels 400M"));
}
