//! The little of the zip format PyTorch uses: stored entries, with ZIP64. Encrypted and overlapping entries are refused
//! and nothing is decompressed, so no entry is larger than the file and all together are not either.

use std::ops::Range;

use crate::WeightsError;

/// An entry: its name and where its bytes lie in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZipEntry<'a> {
    pub name: &'a str,
    pub range: Range<usize>,
    /// 0 for stored; anything else is compressed.
    pub method: usize,
}

const END: [u8; 4] = *b"PK\x05\x06";
const END_64: [u8; 4] = *b"PK\x06\x06";
const LOCATOR_64: [u8; 4] = *b"PK\x06\x07";
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const LOCAL: [u8; 4] = *b"PK\x03\x04";
const END_LEN: usize = 22;
const CENTRAL_LEN: usize = 46;
const LOCAL_LEN: usize = 30;

fn fail(reason: impl Into<String>) -> WeightsError {
    WeightsError::Torch(reason.into())
}

/// Little-endian fields at a position, as far as the bytes go.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk::<N>().copied()
    }
    fn u16(&self, at: usize) -> Option<usize> {
        self.array(at).map(|b| usize::from(u16::from_le_bytes(b)))
    }
    fn u32(&self, at: usize) -> Option<u64> {
        self.array(at).map(|b| u64::from(u32::from_le_bytes(b)))
    }
    fn u64(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }
}

/// Where the central directory lies and how many entries it has.
fn directory(bytes: &[u8]) -> Option<(u64, u64, u64)> {
    // The end record is the last thing but for a comment of at most 65,535 bytes.
    let first = bytes.len().saturating_sub(END_LEN + 0xffff);
    let fields = Fields(bytes);
    let is_end = |at: &usize| {
        fields.array(*at) == Some(END) && fields.u16(at + 20).is_some_and(|c| at + END_LEN + c == bytes.len())
    };
    let end = (first..bytes.len()).rev().find(is_end)?;
    let (count, size, start) = (fields.u16(end + 10)? as u64, fields.u32(end + 12)?, fields.u32(end + 16)?);
    let located = end.checked_sub(20).filter(|at| fields.array(*at) == Some(LOCATOR_64));
    if let Some(locator) = located
        && let Ok(end_64) = usize::try_from(fields.u64(locator + 8)?)
        && fields.array(end_64) == Some(END_64)
    {
        return Some((fields.u64(end_64.checked_add(48)?)?, fields.u64(end_64 + 40)?, fields.u64(end_64 + 32)?));
    }
    Some((start, size, count))
}

/// Lists the entries of the zip file `bytes`.
///
/// # Errors
/// When the directory and the bytes do not agree, or an entry is encrypted.
pub fn entries(bytes: &[u8]) -> Result<Vec<ZipEntry<'_>>, WeightsError> {
    let cut = || fail("its zip directory is missing or cut off; the download may be incomplete");
    let (start, size, count) = directory(bytes).ok_or_else(cut)?;
    let (start, size) = (usize::try_from(start).map_err(|_| cut())?, usize::try_from(size).map_err(|_| cut())?);
    let directory = start.checked_add(size).and_then(|end| bytes.get(start..end)).ok_or_else(cut)?;
    if count > (size / CENTRAL_LEN) as u64 {
        return Err(fail(format!("its zip directory promises {count} entries in {size} bytes")));
    }
    let mut entries = Vec::with_capacity(count as usize);
    let mut at = 0;
    for _ in 0..count {
        let (entry, len) = entry(bytes, directory.get(at..).ok_or_else(cut)?)?;
        at += len;
        entries.push(entry);
    }
    let mut ranges: Vec<&Range<usize>> = entries.iter().map(|e| &e.range).filter(|r| !r.is_empty()).collect();
    ranges.sort_by_key(|r| r.start);
    if ranges.windows(2).any(|pair| pair[0].end > pair[1].start) {
        return Err(fail("entries of the zip overlap, as in a zip bomb"));
    }
    Ok(entries)
}

/// One entry of the directory, and how long its record is.
fn entry<'a>(bytes: &'a [u8], record: &'a [u8]) -> Result<(ZipEntry<'a>, usize), WeightsError> {
    let cut = || fail("an entry of its zip directory is cut off");
    let fields = Fields(record);
    if fields.array(0) != Some(CENTRAL) {
        return Err(fail("its zip directory holds something else than entries"));
    }
    let (name_len, extra_len, comment_len) =
        (fields.u16(28).ok_or_else(cut)?, fields.u16(30).ok_or_else(cut)?, fields.u16(32).ok_or_else(cut)?);
    let name = record.get(CENTRAL_LEN..CENTRAL_LEN + name_len).ok_or_else(cut)?;
    let name = std::str::from_utf8(name).map_err(|_| fail("an entry of the zip has a name that is not UTF-8"))?;
    let extra = record.get(CENTRAL_LEN + name_len..CENTRAL_LEN + name_len + extra_len).ok_or_else(cut)?;
    let shown: String = name.chars().take(80).collect();
    if fields.u16(8).ok_or_else(cut)? & 1 != 0 {
        return Err(fail(format!("entry {shown} of the zip is encrypted")));
    }
    let method = fields.u16(10).ok_or_else(cut)?;
    let (mut packed, mut size, mut local) =
        (fields.u32(20).ok_or_else(cut)?, fields.u32(24).ok_or_else(cut)?, fields.u32(42).ok_or_else(cut)?);
    // ZIP64: fields that did not fit come in this order, in the extra field with the number 1.
    if let Some(wide) = extra_field(extra, 1) {
        let mut next = (0..).step_by(8).map(|at| Fields(wide).u64(at));
        for field in [&mut size, &mut packed, &mut local] {
            if *field == u64::from(u32::MAX) {
                *field = next.next().flatten().ok_or_else(cut)?;
            }
        }
    }
    if method == 0 && packed != size {
        return Err(fail(format!("entry {shown} of the zip is stored in {packed} bytes but says it has {size}")));
    }
    let outside =
        || fail(format!("entry {shown} of the zip lies outside the file; the download may be incomplete"));
    let local = usize::try_from(local).map_err(|_| outside())?;
    let packed = usize::try_from(packed).map_err(|_| outside())?;
    let header = bytes.get(local..).map(Fields).ok_or_else(outside)?;
    if header.array(0) != Some(LOCAL) {
        return Err(fail(format!("entry {shown} of the zip is not where its directory says")));
    }
    let before = header.u16(26).zip(header.u16(28)).ok_or_else(outside)?;
    let start = local.checked_add(LOCAL_LEN + before.0 + before.1).ok_or_else(outside)?;
    let end = start.checked_add(packed).filter(|end| *end <= bytes.len()).ok_or_else(outside)?;
    Ok((ZipEntry { name, range: start..end, method }, CENTRAL_LEN + name_len + extra_len + comment_len))
}

fn extra_field(mut extra: &[u8], wanted: usize) -> Option<&[u8]> {
    loop {
        let (id, len) = (Fields(extra).u16(0)?, Fields(extra).u16(2)?);
        let body = extra.get(4..4 + len)?;
        if id == wanted {
            return Some(body);
        }
        extra = &extra[4 + len..];
    }
}

/// CRC-32 of zip files.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let (mut value, mut bit) = (i as u32, 0);
            while bit < 8 {
                value = if value & 1 == 1 { 0xEDB8_8320 ^ (value >> 1) } else { value >> 1 };
                bit += 1;
            }
            table[i] = value;
            i += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc: u32, byte| TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8))
}

/// Writes a zip of stored entries, each starting at a multiple of 64 bytes as PyTorch's do.
///
/// # Errors
/// When it would need more than 4 GiB.
pub fn write(files: &[(String, Vec<u8>)]) -> Result<Vec<u8>, WeightsError> {
    const ALIGNMENT: usize = 64;
    let large = |_| fail("more than 4 GiB in one file are not written");
    let (mut out, mut central) = (Vec::new(), Vec::new());
    for (name, bytes) in files {
        let local = u32::try_from(out.len()).map_err(large)?;
        let size = u32::try_from(bytes.len()).map_err(large)?;
        let name_len = u16::try_from(name.len()).map_err(|_| fail("an entry's name of more than 65,535 bytes"))?;
        let header = out.len() + LOCAL_LEN + name.len() + 4;
        let padding = header.next_multiple_of(ALIGNMENT) - header;
        let mut common = Vec::new();
        for field in [20u16, 0, 0, 0, 0x21] {
            common.extend(field.to_le_bytes());
        }
        for field in [crc32(bytes), size, size] {
            common.extend(field.to_le_bytes());
        }
        common.extend(name_len.to_le_bytes());
        out.extend(LOCAL);
        out.extend(&common);
        out.extend((padding as u16 + 4).to_le_bytes());
        out.extend(name.as_bytes());
        // The padding is an extra field of PyTorch's own number.
        out.extend(*b"FB");
        out.extend((padding as u16).to_le_bytes());
        out.resize(out.len() + padding, b'Z');
        out.extend(bytes);
        central.extend(CENTRAL);
        central.extend(20u16.to_le_bytes());
        central.extend(&common);
        central.extend([0; 12]);
        central.extend(local.to_le_bytes());
        central.extend(name.as_bytes());
    }
    let start = u32::try_from(out.len()).map_err(large)?;
    let size = u32::try_from(central.len()).map_err(large)?;
    let count =
        u16::try_from(files.len()).map_err(|_| fail("more than 65,535 tensors in one file are not written"))?;
    out.extend(central);
    out.extend(END);
    out.extend([0; 4]);
    out.extend(count.to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend(size.to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0; 2]);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_aligned() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        let files = [("a/data.pkl".to_owned(), b"hello".to_vec()), ("a/data/0".to_owned(), vec![7; 100])];
        let bytes = write(&files).unwrap();
        let found = entries(&bytes).unwrap();
        assert_eq!(found.len(), 2);
        for (entry, (name, content)) in found.iter().zip(&files) {
            assert_eq!((entry.name, &bytes[entry.range.clone()]), (name.as_str(), content.as_slice()));
            assert!(entry.range.start.is_multiple_of(64));
        }
    }
}
