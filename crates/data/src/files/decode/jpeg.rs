//! What a JPEG file says of itself, and whether the data of every row is there.
//!
//! The decoder fills what is missing and says nothing. An end marker proves little: cameras and transfers lose it from whole
//! pictures, and others write it behind a part. So the pixels are asked: whatever follows a whole scan changes none of
//! them.

use image::RgbImage;

/// Coefficients of a block.
const BLOCK: usize = 64;

/// What the frame header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// Place of the marker's second byte.
    at: usize,
    /// SOF0 to SOF15, by the marker's second byte.
    kind: u8,
    /// Bits of a sample.
    precision: u8,
    pub width: u32,
    pub height: u32,
    /// Identifier, horizontal and vertical sampling.
    components: Vec<(u8, u32, u32)>,
}

/// A scan: the components in it, the first and last coefficient, and the bits still missing of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Scan {
    components: Vec<u8>,
    first: u8,
    last: u8,
    low_bit: u8,
}

/// The markers of a file, up to the end of its first picture.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub frame: Option<Frame>,
    scans: Vec<Scan>,
    /// MCUs between restart markers; 0 for none.
    interval: u32,
    /// Restart markers in the last scan.
    restarts: u32,
    /// Where the data of the last scan ends.
    end: usize,
    /// Whether an end marker is there.
    pub ended: bool,
}

impl Survey {
    /// Walks through the markers of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut found = Self { end: bytes.len(), ..Self::default() };
        let mut at = 0;
        while let Some(skip) = bytes.get(at..).and_then(|rest| rest.iter().position(|b| *b == 0xFF)) {
            at += skip;
            let Some(&kind) = bytes.get(at + 1) else { break };
            let scanning = !found.scans.is_empty();
            match kind {
                // The first of two may be filling.
                0xFF => at += 1,
                0xD0..=0xD7 => {
                    found.restarts += 1;
                    at += 2;
                }
                0xD9 if scanning => {
                    (found.end, found.ended) = (at, true);
                    return found;
                }
                // Another picture begins, or a byte is wrong.
                0xD8 | 0x02..=0xBF | 0xF0..=0xFD if scanning => {
                    found.end = at;
                    return found;
                }
                0x00 | 0x01 | 0xD8 | 0xD9 => at += 2,
                _ => {
                    let len =
                        bytes.get(at + 2..at + 4).map_or(0, |b| usize::from(u16::from_be_bytes([b[0], b[1]])));
                    let Some(body) = bytes.get(at + 4..at + 2 + len.max(2)) else {
                        found.end = at;
                        return found;
                    };
                    found.segment(at + 1, kind, body);
                    at += 2 + len.max(2);
                }
            }
        }
        found
    }

    fn segment(&mut self, at: usize, kind: u8, body: &[u8]) {
        match (kind, body) {
            (0xDD, [high, low, ..]) => self.interval = u32::from(u16::from_be_bytes([*high, *low])),
            (0xDA, [count, rest @ ..]) => {
                let count = usize::from(*count);
                let components = rest.chunks_exact(2).take(count).map(|pair| pair[0]).collect();
                let tail = rest.get(2 * count..2 * count + 3).unwrap_or(&[0, 63, 0]);
                self.scans.push(Scan { components, first: tail[0], last: tail[1], low_bit: tail[2] & 15 });
                self.restarts = 0;
            }
            (0xC0..=0xCF, [precision, h1, h0, w1, w0, count, rest @ ..])
                if !matches!(kind, 0xC4 | 0xC8 | 0xCC) && self.frame.is_none() =>
            {
                let components = rest.chunks_exact(3).take(usize::from(*count));
                self.frame = Some(Frame {
                    at,
                    kind,
                    precision: *precision,
                    width: u32::from(u16::from_be_bytes([*w1, *w0])),
                    height: u32::from(u16::from_be_bytes([*h1, *h0])),
                    components: components
                        .map(|c| (c[0], u32::from(c[1] >> 4).max(1), u32::from(c[1] & 15).max(1)))
                        .collect(),
                });
            }
            _ => {}
        }
    }

    /// Why a JPEG like this one is not read, and what to do; `None` for one that may be.
    pub fn refusal(&self) -> Option<String> {
        let frame = self.frame.as_ref()?;
        let what = match frame.kind {
            _ if frame.precision != 8 && matches!(frame.kind, 0xC0..=0xC2) => {
                return Some(format!(
                    "a JPEG of {} bits a sample; save it as an ordinary JPEG of 8",
                    frame.precision
                ));
            }
            0xC9 | 0xCA | 0xCB | 0xCD..=0xCF => {
                "a JPEG with arithmetic coding; save it as an ordinary JPEG or PNG"
            }
            0xC3 | 0xC7 => "a lossless JPEG, as medical devices write it; save it as PNG or TIFF",
            0xC5 | 0xC6 => "a hierarchical JPEG; save it as an ordinary JPEG or PNG",
            _ => return None,
        };
        Some(what.to_owned())
    }

    /// The file as the decoder takes it, where that differs: an extended frame of 8 bits is a plain one with another name.
    pub fn as_baseline(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let at = self.frame.as_ref().filter(|frame| frame.kind == 0xC1)?.at;
        let mut plain = bytes.to_vec();
        *plain.get_mut(at)? = 0xC0;
        Some(plain)
    }

    /// The picture, if the data of its every row is there whatever stands behind it; `Ok(None)` where some is missing.
    ///
    /// # Errors
    /// What `decode` returns for the file as it is.
    pub fn whole<E>(
        &self,
        bytes: &[u8],
        mut decode: impl FnMut(&[u8]) -> Result<RgbImage, E>,
    ) -> Result<Option<RgbImage>, E> {
        if !self.ended {
            if !(self.every_scan() && self.every_restart()) {
                return Ok(None);
            }
            return self.unmoved(bytes, decode);
        }
        let picture = decode(bytes)?;
        // Few pictures need a second look.
        if self.every_scan() && !self.may_be_filled(&picture) {
            return Ok(Some(picture));
        }
        let other = with_tail(&bytes[..self.end.min(bytes.len())], other_tail());
        let whole = decode(&other).is_ok_and(|again| again == picture);
        Ok(whole.then_some(picture))
    }

    /// Whether the bottom of a picture may be the decoder's own. Without data it repeats a block or leaves grey; a plain background
    /// looks the same.
    fn may_be_filled(&self, picture: &RgbImage) -> bool {
        let components = self.frame.as_ref().map_or(&[][..], |frame| &frame.components);
        let widest = if components.len() > 1 { components.iter().map(|c| c.1).max().unwrap_or(1) } else { 1 };
        let unit = 3 * 8 * widest as usize;
        let row = 3 * picture.width() as usize;
        let bottom = &picture.as_raw()[picture.as_raw().len().saturating_sub(row)..];
        let blocks: Vec<&[u8]> = bottom.chunks_exact(unit).collect();
        // Of the last one the edge may make something else.
        match blocks[..] {
            [_, .., before, block, _] => before == block,
            _ => true,
        }
    }

    /// The picture of a file without an end marker that comes out with one end and with another, if they are the same.
    fn unmoved<E>(
        &self,
        bytes: &[u8],
        mut decode: impl FnMut(&[u8]) -> Result<RgbImage, E>,
    ) -> Result<Option<RgbImage>, E> {
        let data = &bytes[..self.end.min(bytes.len())];
        let data = &data[..filling_starts(data)];
        // Zeros are codes in every table.
        let one = decode(&with_tail(data, std::iter::repeat_n(0, TAIL)))?;
        let same = decode(&with_tail(data, other_tail())).is_ok_and(|two| one == two);
        Ok(same.then_some(one))
    }

    /// Whether the scans bring every bit of every coefficient.
    fn every_scan(&self) -> bool {
        let Some(frame) = &self.frame else { return false };
        let progressive = frame.kind == 0xC2;
        !frame.components.is_empty()
            && frame.components.iter().all(|(id, ..)| {
                let mut missing = [u8::MAX; BLOCK];
                for scan in self.scans.iter().filter(|scan| scan.components.contains(id)) {
                    let (first, last) = if progressive { (scan.first, scan.last) } else { (0, 63) };
                    let part = missing.iter_mut().take(usize::from(last) + 1).skip(usize::from(first));
                    part.for_each(|bits| *bits = if progressive { scan.low_bit } else { 0 });
                }
                missing.iter().all(|bits| *bits == 0)
            })
    }

    /// Whether the last scan has all its restart markers.
    fn every_restart(&self) -> bool {
        let (Some(frame), Some(scan)) = (&self.frame, self.scans.last()) else { return false };
        if self.interval == 0 {
            return true;
        }
        let widest = frame.components.iter().map(|c| c.1).max().unwrap_or(1);
        let highest = frame.components.iter().map(|c| c.2).max().unwrap_or(1);
        let alone = (scan.components.len() == 1)
            .then(|| frame.components.iter().find(|c| scan.components.contains(&c.0)))
            .flatten();
        let (across, down) = match alone {
            Some((_, h, v)) => ((frame.width * h).div_ceil(widest), (frame.height * v).div_ceil(highest)),
            None => (frame.width.div_ceil(widest), frame.height.div_ceil(highest)),
        };
        let units = across.div_ceil(8) * down.div_ceil(8);
        self.restarts >= units.div_ceil(self.interval).saturating_sub(1)
    }
}

/// Bytes put behind the data: more than a row of a large picture reads before it has met a difference.
const TAIL: usize = 4096;

/// A run of one byte so long is what a disk or a card left, not data.
const FILLING: usize = 16;

/// Bytes that begin with another bit than zeros, which is what the decoder reads behind an end marker; none is a marker's.
fn other_tail() -> impl Iterator<Item = u8> {
    (0..TAIL as u32).map(|i| ((i.wrapping_mul(2_654_435_761) >> 24) as u8 | 0x80).min(0xFE))
}

fn with_tail(data: &[u8], tail: impl Iterator<Item = u8>) -> Vec<u8> {
    // A marker that lost its second byte.
    let end = data.iter().rposition(|b| *b != 0xFF).map_or(0, |last| last + 1);
    let mut bytes = Vec::with_capacity(end + TAIL + 2);
    bytes.extend_from_slice(&data[..end]);
    bytes.extend(tail);
    bytes.extend([0xFF, 0xD9]);
    bytes
}

/// Where data ends that a run of zeros was put behind. The one that belongs to a byte 0xFF is its own.
fn filling_starts(data: &[u8]) -> usize {
    let end = data.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    let own = usize::from(data[..end].last() == Some(&0xFF));
    if data.len() - end >= FILLING { end + own } else { data.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of two components and a scan's header for each of `scans`: components, first, last, bits.
    fn file(kind: u8, scans: &[(&[u8], u8, u8, u8)], data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xFF, 0xD8, 0xFF, 0xDD, 0, 4, 0, 2];
        bytes.extend([0xFF, kind, 0, 14, 8, 0, 20, 0, 40, 2, 1, 0x22, 0, 2, 0x11, 0]);
        for (components, first, last, bits) in scans {
            bytes.extend([0xFF, 0xDA, 0, (6 + 2 * components.len()) as u8, components.len() as u8]);
            bytes.extend(components.iter().flat_map(|id| [*id, 0]));
            bytes.extend([*first, *last, *bits]);
            bytes.extend(data);
        }
        bytes
    }

    #[test]
    fn markers_are_walked_through() {
        let data = [1, 0xFF, 0, 0xFF, 0xD0, 2, 0xFF, 0xD1, 3];
        let mut bytes = file(0xC0, &[(&[1, 2], 0, 63, 0)], &data);
        let len = bytes.len();
        let survey = Survey::of(&bytes);
        let frame = survey.frame.as_ref().unwrap();
        assert_eq!((frame.width, frame.height, survey.end, survey.ended), (40, 20, len, false));
        // 3 × 2 units of 16 × 16 pixels, two to an interval: two markers.
        assert!(survey.every_scan() && survey.every_restart());
        assert!(!Survey::of(&bytes[..len - 2]).every_restart());
        bytes.extend([0xFF, 0xFF, 0xD9, 7, 7]);
        let survey = Survey::of(&bytes);
        assert_eq!((survey.end, survey.ended), (len + 1, true));
        assert_eq!(with_tail(&bytes[..len + 1], [5].into_iter())[len - 1..], [3, 5, 0xFF, 0xD9]);
        // Another picture behind this one, and a byte that is no marker's.
        for other in [0xD8, 0x30] {
            bytes[len + 2] = other;
            let survey = Survey::of(&bytes);
            assert_eq!((survey.end, survey.ended), (len + 1, false));
        }
        for cut in 0..bytes.len() {
            let _ = Survey::of(&bytes[..cut]);
        }
    }

    #[test]
    fn scans_are_counted_by_their_bits() {
        let whole: [(&[u8], u8, u8, u8); 5] =
            [(&[1, 2], 0, 0, 1), (&[1], 1, 63, 0), (&[2], 1, 20, 0), (&[2], 21, 63, 0), (&[1, 2], 0, 0, 0x10)];
        assert!(Survey::of(&file(0xC2, &whole, &[9])).every_scan());
        assert!(!Survey::of(&file(0xC2, &whole[..4], &[9])).every_scan());
        assert!(!Survey::of(&file(0xC0, &[(&[1], 0, 63, 0)], &[9])).every_scan());
        assert!(!Survey::of(b"\xff\xd8").every_scan());
    }

    #[test]
    fn kinds_that_are_not_read_are_named() {
        let refusal = |kind: u8| Survey::of(&file(kind, &[(&[1, 2], 0, 63, 0)], &[9])).refusal();
        assert!(refusal(0xC9).is_some_and(|text| text.contains("arithmetic")));
        assert!(refusal(0xC3).is_some_and(|text| text.contains("lossless")));
        assert_eq!((refusal(0xC0), refusal(0xC1), refusal(0xC2)), (None, None, None));
        let mut deep = file(0xC1, &[], &[]);
        deep[12] = 12;
        assert!(Survey::of(&deep).refusal().is_some_and(|text| text.contains("12 bits")));
        let bytes = file(0xC1, &[(&[1, 2], 0, 63, 0)], &[9]);
        let plain = Survey::of(&bytes).as_baseline(&bytes).unwrap();
        assert_eq!(plain, file(0xC0, &[(&[1, 2], 0, 63, 0)], &[9]));
        assert_eq!(Survey::of(&plain).as_baseline(&plain), None);
    }

    #[test]
    fn filling_is_no_data() {
        assert_eq!(filling_starts(&[1; 40]), 40);
        let mut data = vec![1; 10];
        data.extend([0; 15]);
        assert_eq!(filling_starts(&data), 25);
        data.push(0);
        assert_eq!(filling_starts(&data), 10);
        data[9] = 0xFF;
        assert_eq!(filling_starts(&data), 11);
    }
}
