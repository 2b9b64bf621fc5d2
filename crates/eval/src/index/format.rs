//! Bytes of an index file: written around the rows, and read with every length checked.

use thiserror::Error;

use super::Rows;

const MAGIC: &[u8; 8] = b"OcelliIx";
const VERSION: u32 = 1;
/// Bytes of the header's fixed part.
const FIXED: usize = 64;
/// Where the header's checksum is.
const CHECKSUM: usize = 48;
/// Rows begin at a multiple of this: a cache line, and more than any f32 asks for.
const ALIGNMENT: usize = 64;
/// Bytes of an entry without its name.
const ENTRY: usize = 28;
/// No network has features this long; a file that claims so is damaged.
const LONGEST_ROW: u32 = 1 << 20;

/// Why a file cannot be used as an index.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IndexError {
    /// It is something else.
    #[error("expected an index that Ocelli wrote, found {found}")]
    NotAnIndex {
        /// What it begins with.
        found: String,
    },
    /// It has another version.
    #[error("expected an index of version {VERSION}, found version {found}")]
    Version {
        /// Its version.
        found: u32,
    },
    /// Its length is not what its header says.
    #[error("the index is not whole: expected {expected} bytes, found {found}")]
    Length {
        /// Bytes by the header.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// A checksum or a number is wrong.
    #[error("the index is damaged: {what}")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
}

/// What the features were made with: named values that must be the same before rows are compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings(pub Vec<(String, String)>);

impl Settings {
    /// What differs from `here`, a line each: `size: 224 px in the index, 128 px here`.
    pub fn differences(&self, here: &Self) -> Vec<String> {
        let find = |all: &Self, name: &str| {
            let found = all.0.iter().find(|(n, _)| n == name);
            found.map_or_else(|| "not told".to_owned(), |(_, value)| value.clone())
        };
        let mut names: Vec<&String> = self.0.iter().chain(&here.0).map(|(name, _)| name).collect();
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(*name));
        let line = |name: &String| {
            let (old, new) = (find(self, name), find(here, name));
            (old != new).then(|| format!("{name}: {old} in the index, {new} here"))
        };
        names.into_iter().filter_map(line).collect()
    }

    fn encode(&self) -> String {
        let clean = |text: &str| text.replace(['\t', '\n'], " ");
        self.0.iter().map(|(name, value)| format!("{}\t{}\n", clean(name), clean(value))).collect()
    }

    fn decode(text: &str) -> Self {
        let line = |line: &str| line.split_once('\t').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self(text.lines().filter_map(line).collect())
    }
}

/// A picture whose feature is in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path below the folder, with `/` between its parts.
    pub name: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// When the file was changed, nanoseconds since 1970.
    pub modified_ns: i64,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// An index without its rows, which stay where the file is mapped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// What the features were made with.
    pub settings: Settings,
    /// Numbers in a row.
    pub dim: usize,
    /// One for each row.
    pub entries: Vec<Entry>,
    /// Where the rows begin.
    rows_at: usize,
}

impl Contents {
    /// An index without rows.
    pub fn empty(settings: Settings, dim: usize) -> Self {
        Self { settings, dim, ..Self::default() }
    }

    /// Reads a whole file.
    ///
    /// # Errors
    /// What is wrong with it, see [`IndexError`]. Nothing panics, and no more memory is asked for than the file
    /// has bytes.
    pub fn read(bytes: &[u8]) -> Result<Self, IndexError> {
        let damaged = |what: &'static str| IndexError::Damaged { what };
        let Some((fixed, _)) = bytes.split_first_chunk::<FIXED>().filter(|(fixed, _)| fixed.starts_with(MAGIC))
        else {
            return Err(not_an_index(bytes));
        };
        let version = word(fixed, 8);
        if version != VERSION {
            return Err(IndexError::Version { found: version });
        }
        let (dim, settings_len) = (word(fixed, 12), word(fixed, 40) as usize);
        let settings = FIXED.checked_add(settings_len).and_then(|end| bytes.get(FIXED..end));
        let settings = settings
            .ok_or(IndexError::Length { expected: (FIXED + settings_len) as u64, found: bytes.len() as u64 })?;
        if word(fixed, CHECKSUM) != checksum(&[&fixed[..CHECKSUM], settings]) {
            return Err(damaged("the header's checksum does not fit"));
        }
        let (count, rows_at, entries_len) = (long(fixed, 16), long(fixed, 24), long(fixed, 32));
        let rows_len = count.checked_mul(u64::from(dim)).and_then(|n| n.checked_mul(4));
        let expected = rows_len.and_then(|n| n.checked_add(rows_at)).and_then(|n| n.checked_add(entries_len));
        let (Some(rows_len), Some(expected)) = (rows_len, expected) else {
            return Err(damaged("its numbers are too large"));
        };
        if expected != bytes.len() as u64 {
            return Err(IndexError::Length { expected, found: bytes.len() as u64 });
        }
        // From here on every offset lies within the file, so it fits a usize.
        let (rows_at, rows_len) = (rows_at as usize, rows_len as usize);
        if dim == 0 || dim > LONGEST_ROW || rows_at < FIXED + settings_len || !rows_at.is_multiple_of(ALIGNMENT) {
            return Err(damaged("its rows cannot be where it says"));
        }
        let block = &bytes[rows_at + rows_len..];
        if word(fixed, 44) != checksum(&[block]) {
            return Err(damaged("the checksum of its entries does not fit"));
        }
        let entries = entries_of(block, count).ok_or(damaged("its entries do not fit their number"))?;
        let settings = std::str::from_utf8(settings).map_err(|_| damaged("its settings are no text"))?;
        Ok(Self { settings: Settings::decode(settings), dim: dim as usize, entries, rows_at })
    }

    /// The rows in the bytes that these contents were read from.
    pub fn rows<'a>(&self, bytes: &'a [u8]) -> Rows<'a> {
        let len = self.entries.len() * self.dim * 4;
        let end = self.rows_at.checked_add(len);
        Rows::new(end.and_then(|end| bytes.get(self.rows_at..end)).unwrap_or_default(), self.dim)
    }
}

/// What lies before and after the rows `[entries, dim]` in a file.
pub fn around(settings: &Settings, dim: usize, entries: &[Entry]) -> (Vec<u8>, Vec<u8>) {
    let settings = settings.encode();
    let mut after = Vec::with_capacity(entries.iter().map(|e| ENTRY + e.name.len()).sum());
    for Entry { name, bytes, modified_ns, width, height } in entries {
        for number in [name.len() as u32, *width, *height] {
            after.extend(number.to_le_bytes());
        }
        after.extend(bytes.to_le_bytes());
        after.extend(modified_ns.to_le_bytes());
        after.extend(name.as_bytes());
    }
    let rows_at = (FIXED + settings.len()).next_multiple_of(ALIGNMENT);
    let mut before = Vec::with_capacity(rows_at);
    before.extend(MAGIC);
    before.extend(VERSION.to_le_bytes());
    before.extend((dim as u32).to_le_bytes());
    for number in [entries.len(), rows_at, after.len()] {
        before.extend((number as u64).to_le_bytes());
    }
    before.extend((settings.len() as u32).to_le_bytes());
    before.extend(checksum(&[&after]).to_le_bytes());
    before.extend(checksum(&[&before, settings.as_bytes()]).to_le_bytes());
    before.resize(FIXED, 0);
    before.extend(settings.as_bytes());
    before.resize(rows_at, 0);
    (before, after)
}

/// `None` unless there are exactly so many.
fn entries_of(mut block: &[u8], count: u64) -> Option<Vec<Entry>> {
    if count > (block.len() / ENTRY) as u64 {
        return None;
    }
    let mut entries = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let (fixed, rest) = block.split_first_chunk::<ENTRY>()?;
        let (name, rest) = rest.split_at_checked(word(fixed, 0) as usize)?;
        entries.push(Entry {
            name: std::str::from_utf8(name).ok()?.to_owned(),
            width: word(fixed, 4),
            height: word(fixed, 8),
            bytes: long(fixed, 12),
            modified_ns: long(fixed, 20).cast_signed(),
        });
        block = rest;
    }
    block.is_empty().then_some(entries)
}

fn not_an_index(bytes: &[u8]) -> IndexError {
    let start: Vec<String> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let found = match bytes.len() {
        0 => "an empty file".to_owned(),
        len if MAGIC.starts_with(&bytes[..len.min(MAGIC.len())]) => format!("the first {len} bytes of one"),
        _ => format!("a file that begins {}", start.join(" ")),
    };
    IndexError::NotAnIndex { found }
}

fn checksum(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

/// Four bytes; 0 where there are none.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Eight bytes; 0 where there are none.
fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
