//! PyTorch's files: the zip of a pickle and its storages, and the older form of pickles followed by storages.

use std::collections::HashMap;
use std::ops::Range;

use crate::WeightsError;
use crate::dtype::Dtype;
use crate::pickle::read;
use crate::pickle::value::{Arena, Node, Value};
use crate::zip;

/// The number every old file starts with, and its little-endian bytes in the pickle.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const MAGIC_DIGITS: &[u8] = b"119547037146038801333356";

/// An opened file: its object, and where the bytes of its storages lie.
#[derive(Debug)]
pub struct TorchFile<'a> {
    pub arena: Arena<'a>,
    pub root: Value<'a>,
    pub storages: HashMap<String, Range<usize>>,
    /// In a few words.
    pub form: &'static str,
}

fn fail(reason: impl Into<String>) -> WeightsError {
    WeightsError::Torch(reason.into())
}

/// Opens the zip form.
pub fn open_zip(bytes: &[u8]) -> Result<TorchFile<'_>, WeightsError> {
    let entries = zip::entries(bytes)?;
    if entries.iter().any(|e| e.name == "constants.pkl" || e.name.ends_with("/constants.pkl")) {
        return Err(fail(
            "a TorchScript program, not a state dict; save model.state_dict() with torch.save instead",
        ));
    }
    if let Some(entry) = entries.iter().find(|e| e.method != 0) {
        let name: String = entry.name.chars().take(80).collect();
        return Err(fail(format!(
            "entry {name} of the zip is compressed (method {}); PyTorch stores its entries as they are",
            entry.method
        )));
    }
    let Some(pickle) = entries.iter().find(|e| e.name == "data.pkl" || e.name.ends_with("/data.pkl")) else {
        let first: String = entries.first().map_or("nothing", |e| e.name).chars().take(80).collect();
        return Err(fail(format!("a zip file without a data.pkl (it holds {first})")));
    };
    let root = pickle.name.strip_suffix("data.pkl").unwrap_or_default();
    let (mut storages, mut order) = (HashMap::new(), None);
    for entry in &entries {
        let Some(inner) = entry.name.strip_prefix(root) else { continue };
        if let Some(key) = inner.strip_prefix("data/") {
            storages.insert(key.to_owned(), entry.range.clone());
        } else if inner == "byteorder" {
            order = bytes.get(entry.range.clone());
        }
    }
    if order.is_some_and(|o| o != b"little") {
        return Err(fail("its numbers are big-endian; save it on a little-endian machine"));
    }
    let mut arena = Arena::new(bytes.len());
    let (root, _) = read(&bytes[pickle.range.clone()], &mut arena)?;
    Ok(TorchFile { arena, root, storages, form: "PyTorch zip" })
}

/// Whether these bytes may be the older form: a pickle to begin with.
pub fn looks_like_pickle(bytes: &[u8]) -> bool {
    matches!(bytes, [0x80, 0..=5, ..]) || bytes.strip_prefix(b"L").is_some_and(|b| b.starts_with(MAGIC_DIGITS))
}

/// Opens the older form: magic number, protocol, system, object and storage keys, each a pickle; then the storages.
pub fn open_legacy(bytes: &[u8]) -> Result<TorchFile<'_>, WeightsError> {
    let mut file = Legacy { bytes, at: 0, arena: Arena::new(bytes.len()) };
    let magic = match file.next()? {
        Value::Long(long) => long == MAGIC,
        Value::Digits(digits) => digits.as_bytes() == MAGIC_DIGITS,
        _ => false,
    };
    if !magic {
        return Err(fail("a plain pickle; PyTorch's own files are zips or start with its magic number"));
    }
    let _protocol = file.next()?;
    let system = file.next()?;
    if matches!(file.arena.entry(system, "little_endian"), Some(Value::Bool(false))) {
        return Err(fail("its numbers are big-endian; save it on a little-endian machine"));
    }
    let root = file.next()?;
    let keys = file.next()?;
    let storages = file.storages(keys)?;
    Ok(TorchFile { arena: file.arena, root, storages, form: "PyTorch before 1.6" })
}

/// A file read from the front.
struct Legacy<'a> {
    bytes: &'a [u8],
    at: usize,
    arena: Arena<'a>,
}

impl<'a> Legacy<'a> {
    fn next(&mut self) -> Result<Value<'a>, WeightsError> {
        let before = self.at;
        match read(&self.bytes[before..], &mut self.arena) {
            Ok((value, len)) => {
                self.at += len;
                Ok(value)
            }
            // Positions are the file's.
            Err(WeightsError::Pickle { at, reason }) => Err(WeightsError::Pickle { at: before + at, reason }),
            Err(WeightsError::Code { at, name }) => Err(WeightsError::Code { at: before + at, name }),
            Err(other) => Err(other),
        }
    }

    /// In the order of the keys: a count of elements, then the elements. Their size is the storage's in the object.
    fn storages(&mut self, keys: Value<'a>) -> Result<HashMap<String, Range<usize>>, WeightsError> {
        let size_of: HashMap<&str, usize> = self
            .arena
            .nodes()
            .iter()
            .filter_map(|node| match node {
                Node::Storage(storage) => Some((storage.key.as_str(), storage.dtype.map_or(1, Dtype::size))),
                _ => None,
            })
            .collect();
        let keys = self.arena.items(keys).ok_or_else(|| fail("expected the list of its storages"))?;
        let mut storages = HashMap::new();
        for key in keys {
            let key = self.arena.text(*key).ok_or_else(|| fail("the name of a storage is not text"))?;
            let size = *size_of.get(key).ok_or_else(|| fail("it has a storage that no tensor uses"))?;
            let cut = || fail("it ends within its storages; the download may be incomplete");
            let count = self.bytes.get(self.at..).and_then(|b| b.first_chunk::<8>()).ok_or_else(cut)?;
            let len = usize::try_from(i64::from_le_bytes(*count)).ok().and_then(|c| c.checked_mul(size));
            let start = self.at + 8;
            let end = len.and_then(|l| start.checked_add(l)).filter(|e| *e <= self.bytes.len()).ok_or_else(cut)?;
            self.at = end;
            storages.insert(key.to_owned(), start..end);
        }
        Ok(storages)
    }
}
