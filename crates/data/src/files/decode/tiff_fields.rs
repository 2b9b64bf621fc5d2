//! The fields of a TIFF's first directory, read before any decoder makes room for what they claim.

/// Numbers of the fields that matter here (TIFF 6.0).
pub(super) mod tag {
    pub const SUBFILE: u16 = 254;
    pub const WIDTH: u16 = 256;
    pub const HEIGHT: u16 = 257;
    pub const BITS: u16 = 258;
    pub const COMPRESSION: u16 = 259;
    pub const PHOTOMETRIC: u16 = 262;
    pub const FILL_ORDER: u16 = 266;
    pub const STRIP_OFFSETS: u16 = 273;
    pub const ORIENTATION: u16 = 274;
    pub const SAMPLES: u16 = 277;
    pub const ROWS_PER_STRIP: u16 = 278;
    pub const STRIP_LENGTHS: u16 = 279;
    pub const PLANES: u16 = 284;
    pub const COLOUR_MAP: u16 = 320;
    pub const TILE_WIDTH: u16 = 322;
    pub const TILE_HEIGHT: u16 = 323;
    pub const TILE_OFFSETS: u16 = 324;
    pub const TILE_LENGTHS: u16 = 325;
    pub const SUB_DIRECTORIES: u16 = 330;
    pub const SAMPLE_FORMAT: u16 = 339;
    pub const JPEG_TABLES: u16 = 347;
    pub const SUBSAMPLING: u16 = 530;
    pub const DNG_VERSION: u16 = 50706;
}

/// As many as a classic TIFF can count.
const MOST_FIELDS: u64 = 65_535;

/// A TIFF's or BigTIFF's first directory.
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    big_endian: bool,
    /// 64-bit offsets.
    wide: bool,
    /// Where the first field stands.
    first: u64,
    count: u64,
}

/// Where a field's values stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub at: usize,
    /// Bytes of one.
    pub size: usize,
    pub count: u64,
}

impl<'a> Fields<'a> {
    /// `None` for what is no TIFF.
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        let big_endian = match bytes.get(..2)? {
            b"II" => false,
            b"MM" => true,
            _ => return None,
        };
        let mut fields = Self { bytes, big_endian, wide: false, first: 0, count: 0 };
        fields.wide = match fields.number(2, 2) {
            42 => false,
            43 => true,
            _ => return None,
        };
        let (directory, count_len) = if fields.wide { (fields.number(8, 8), 8) } else { (fields.number(4, 4), 2) };
        fields.first = directory.saturating_add(count_len);
        fields.count = fields.number(directory, count_len as usize).min(MOST_FIELDS);
        Some(fields)
    }

    fn field_len(&self) -> u64 {
        if self.wide { 20 } else { 12 }
    }

    /// The number of `len` bytes at `at`; 0 behind the end.
    fn number(&self, at: u64, len: usize) -> u64 {
        let part =
            usize::try_from(at).ok().and_then(|at| self.bytes.get(at..at.checked_add(len)?)).unwrap_or_default();
        let join = |n: u64, b: &u8| n << 8 | u64::from(*b);
        if self.big_endian { part.iter().fold(0, join) } else { part.iter().rev().fold(0, join) }
    }

    /// Bytes of a value, and how many there are, of field `i`.
    fn extent(&self, i: u64) -> (u64, usize, u64) {
        let at = self.first.saturating_add(i * self.field_len());
        let size = match self.number(at.saturating_add(2), 2) {
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 | 16..=18 => 8,
            _ => 1,
        };
        (at, size, self.number(at.saturating_add(4), if self.wide { 8 } else { 4 }))
    }

    /// Bytes that the fields say they hold, each counted by itself.
    pub fn claimed_bytes(&self) -> u64 {
        let bytes = |i| {
            let (_, size, count) = self.extent(i);
            count.saturating_mul(size as u64)
        };
        (0..self.count).map(bytes).fold(0, u64::saturating_add)
    }

    /// Where the values of a field stand.
    pub fn place(&self, tag: u16) -> Option<Place> {
        let is_it = |i: &u64| self.number(self.first.saturating_add(i * self.field_len()), 2) == u64::from(tag);
        let (field, size, count) = self.extent((0..self.count).find(is_it)?);
        let (inside, value) = if self.wide { (8, field + 12) } else { (4, field + 8) };
        let at =
            if count.saturating_mul(size as u64) <= inside { value } else { self.number(value, inside as usize) };
        Some(Place { at: usize::try_from(at).ok()?, size, count })
    }

    /// The values of a field, up to the end of the file; none for one that is absent.
    pub fn values(&self, tag: u16) -> impl Iterator<Item = u64> {
        let Place { at, size, count } = self.place(tag).unwrap_or(Place { at: 0, size: 1, count: 0 });
        let fits = (self.bytes.len().saturating_sub(at) / size) as u64;
        (0..count.min(fits)).map(move |i| self.number(at as u64 + i * size as u64, size))
    }

    /// The first value of a field.
    pub fn value(&self, tag: u16) -> Option<u64> {
        let Place { at, size, count } = self.place(tag)?;
        (count > 0).then(|| self.number(at as u64, size))
    }

    /// Puts `value` in the place of a field's first one in `bytes`, a copy of the file.
    pub fn put(&self, bytes: &mut [u8], tag: u16, value: u64) {
        let Some(Place { at, size, .. }) = self.place(tag) else { return };
        let Some(part) = at.checked_add(size).and_then(|end| bytes.get_mut(at..end)) else { return };
        let all = value.to_le_bytes();
        part.copy_from_slice(&all[..size]);
        if self.big_endian {
            part.reverse();
        }
    }

    /// Begin and end in the file of each strip or tile, as far as they lie in it.
    pub fn chunks(&self) -> Vec<(usize, usize)> {
        let pair = |offsets, lengths| self.values(offsets).zip(self.values(lengths));
        let strips = pair(tag::STRIP_OFFSETS, tag::STRIP_LENGTHS);
        let within = |(at, len): (u64, u64)| {
            let end = at.saturating_add(len).min(self.bytes.len() as u64);
            (at.min(end) as usize, end as usize)
        };
        strips.chain(pair(tag::TILE_OFFSETS, tag::TILE_LENGTHS)).map(within).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_put_in_either_order() {
        for wide in [false, true] {
            for big in [false, true] {
                let number = |value: u64, len: usize| {
                    let mut bytes = value.to_le_bytes()[..len].to_vec();
                    if big {
                        bytes.reverse();
                    }
                    bytes
                };
                let mut bytes = if big { b"MM".to_vec() } else { b"II".to_vec() };
                bytes.extend(number(if wide { 43 } else { 42 }, 2));
                if wide {
                    bytes.extend([number(8, 2), number(0, 2), number(16, 8), number(2, 8)].concat());
                } else {
                    bytes.extend([number(8, 4), number(2, 2)].concat());
                }
                let inside = if wide { 8 } else { 4 };
                let long_at = if wide { 24 + 2 * 20 + 8 } else { 10 + 2 * 12 + 4 };
                // A short in its own field, and five shorts elsewhere.
                bytes.extend([number(262, 2), number(3, 2), number(1, inside), number(3, 2)].concat());
                bytes.resize(bytes.len() + inside - 2, 0);
                bytes.extend([number(258, 2), number(3, 2), number(5, inside), number(long_at, inside)].concat());
                bytes.resize(long_at as usize, 9);
                (1..=5).for_each(|i| bytes.extend(number(i * 300, 2)));
                let fields = Fields::of(&bytes).unwrap();
                assert_eq!(fields.value(tag::PHOTOMETRIC), Some(3));
                assert_eq!(fields.values(tag::BITS).collect::<Vec<_>>(), [300, 600, 900, 1200, 1500]);
                assert_eq!((fields.value(tag::WIDTH), fields.claimed_bytes()), (None, 12));
                let mut copy = bytes.clone();
                fields.put(&mut copy, tag::PHOTOMETRIC, 1);
                assert_eq!(Fields::of(&copy).unwrap().value(tag::PHOTOMETRIC), Some(1));
                assert_eq!(Fields::of(&copy).unwrap().values(tag::BITS).count(), 5);
                for cut in 0..bytes.len() {
                    if let Some(fields) = Fields::of(&bytes[..cut]) {
                        let _ = (fields.values(tag::BITS).count(), fields.chunks());
                    }
                }
            }
        }
        assert!(Fields::of(b"II\x2b").is_none() && Fields::of(b"\x89PNG").is_none());
    }
}
