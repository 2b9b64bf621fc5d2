//! CIFAR's binary record files, plain or compressed with xz.
//!
//! A CIFAR-10 record is 1 label byte and 3072 bytes of planes `[3, 32, 32]`; a CIFAR-100 record has a coarse and a fine
//! label byte in front, of which the fine one counts.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use lzma_rust2::XzReader;

use crate::{DataError, Image, Source, Split};

const SIDE: usize = 32;
const PIXELS: usize = SIDE * SIDE;

const CIFAR10_CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Files that list the names of the classes, of CIFAR-10 and of CIFAR-100.
pub(super) const CLASS_LISTS: [&str; 2] = ["batches.meta.txt", "fine_label_names.txt"];

/// Memory for unpacking beside twice the file's size, bytes. `xz -9` wants 64 MB, which a file of 1 MB gets.
const XZ_MEMORY: usize = 125 << 19;
/// What any file may unpack to, beside four times its size: photographs hardly compress.
const UNPACKED: usize = 1 << 18;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ten,
    Hundred,
}

impl Kind {
    fn label_bytes(self) -> usize {
        match self {
            Self::Ten => 1,
            Self::Hundred => 2,
        }
    }

    fn record_bytes(self) -> usize {
        self.label_bytes() + 3 * PIXELS
    }

    fn classes(self) -> usize {
        match self {
            Self::Ten => 10,
            Self::Hundred => 100,
        }
    }
}

/// CIFAR-10 or CIFAR-100 records, held in memory.
#[derive(Debug, Clone)]
pub struct CifarSource {
    kind: Kind,
    records: Vec<u8>,
    classes: Vec<String>,
    /// (file name, index of its first record).
    files: Vec<(String, usize)>,
}

impl CifarSource {
    /// Reads a record file, or the training records of a folder: its `.bin` and `.bin.xz` files except those whose
    /// names start with `test` or `val` (unless there are no others).
    ///
    /// # Errors
    /// When there is no such file, a file is truncated or damaged, or a label is out of range.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path = path.as_ref();
        if !path.is_dir() {
            return Self::open_files(&[path.to_path_buf()]);
        }
        let files = record_files(path)?;
        let training: Vec<PathBuf> = files.iter().filter(|f| split_of(f) == Split::Train).cloned().collect();
        Self::open_files(if training.is_empty() { &files } else { &training })
    }

    /// Reads several record files of one kind, in the order given.
    ///
    /// # Errors
    /// As [`CifarSource::open`].
    pub fn open_files(files: &[PathBuf]) -> Result<Self, DataError> {
        let mut source = Self { kind: Kind::Ten, records: Vec::new(), classes: Vec::new(), files: Vec::new() };
        for (i, path) in files.iter().enumerate() {
            let shown = path.display().to_string();
            let bytes = read_records(path)?;
            let kind = kind_of(path, &bytes)?;
            if i > 0 && kind != source.kind {
                let reason = format!(
                    "expected CIFAR-{} records as in the files before, found CIFAR-{}",
                    source.kind.classes(),
                    kind.classes()
                );
                return Err(DataError::Records { path: shown, reason });
            }
            source.kind = kind;
            check_labels(&shown, kind, &bytes)?;
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
            source.files.push((name.unwrap_or(shown), source.len()));
            source.records.extend_from_slice(&bytes);
        }
        if source.records.is_empty() {
            return Err(DataError::Records {
                path: files.first().map(|f| f.display().to_string()).unwrap_or_default(),
                reason: "expected CIFAR records (.bin or .bin.xz), found none".to_owned(),
            });
        }
        source.classes = class_names(source.kind, files.first().and_then(|f| f.parent()));
        Ok(source)
    }

    fn record(&self, index: usize) -> Option<&[u8]> {
        self.records.chunks_exact(self.kind.record_bytes()).nth(index)
    }
}

impl Source for CifarSource {
    fn len(&self) -> usize {
        self.records.len() / self.kind.record_bytes()
    }

    fn load(&self, index: usize) -> Result<Image, DataError> {
        let record = self.record(index).ok_or(DataError::OutOfRange { index, len: self.len() })?;
        let planes = &record[self.kind.label_bytes()..];
        let mut data = vec![0; 3 * PIXELS];
        for (i, pixel) in data.chunks_exact_mut(3).enumerate() {
            pixel.copy_from_slice(&[planes[i], planes[PIXELS + i], planes[2 * PIXELS + i]]);
        }
        Ok(Image { width: SIDE as u32, height: SIDE as u32, data })
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.record(index).map(|record| u32::from(record[self.kind.label_bytes() - 1]))
    }

    fn name(&self, index: usize) -> String {
        let file = self.files.iter().rev().find(|(_, first)| *first <= index);
        file.map(|(name, first)| format!("{name}#{}", index - first)).unwrap_or_default()
    }

    fn class_names(&self) -> &[String] {
        &self.classes
    }
}

/// True for a name this source can read.
pub(super) fn is_record_file(path: &Path) -> bool {
    path.file_name().is_some_and(|n| is_record_name(&n.to_string_lossy()))
}

/// The same of a file's name.
pub(super) fn is_record_name(name: &str) -> bool {
    stem(&name.to_lowercase()).is_some()
}

/// Whether a file is called as record files usually are: `data_batch_1.bin`, `test_batch.bin`, `train.bin.xz`. Other programs'
/// files, such as `training_args.bin`, are not.
pub(super) fn is_named_as_records(name: &str) -> bool {
    let name = name.to_lowercase();
    let Some(stem) = stem(&name) else { return false };
    let is_number = |rest: &str| rest.replace("batch", "").chars().all(|c| !c.is_alphabetic());
    ["data_batch", "test_batch", "cifar"].iter().any(|start| stem.starts_with(start))
        || ["train", "test", "val"].iter().any(|start| stem.strip_prefix(start).is_some_and(is_number))
}

/// A record file's name without its ending.
fn stem(name: &str) -> Option<&str> {
    name.strip_suffix(".bin").or_else(|| name.strip_suffix(".bin.xz"))
}

/// The record files directly inside a folder, sorted by name.
pub(super) fn record_files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let io = |e: std::io::Error| DataError::Io { path: folder.display().to_string(), reason: e.to_string() };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.is_file() && is_record_file(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Which part of the data set a record file holds, by its name.
pub(super) fn split_of(file: &Path) -> Split {
    let name = file.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    if name.starts_with("test") || name.starts_with("val") { Split::Val } else { Split::Train }
}

fn read_records(path: &Path) -> Result<Vec<u8>, DataError> {
    let shown = path.display().to_string();
    if !path.exists() {
        return Err(DataError::NotFound { path: shown });
    }
    let bytes = fs::read(path).map_err(|e| DataError::Io { path: shown.clone(), reason: e.to_string() })?;
    if path.extension().is_none_or(|e| !e.eq_ignore_ascii_case("xz")) {
        return Ok(bytes);
    }
    let damaged = |reason: String| DataError::Records { path: shown.clone(), reason };
    let mut plain = Vec::new();
    let (dictionary, most) = (XZ_MEMORY + 2 * bytes.len(), UNPACKED + 4 * bytes.len());
    let dictionary_kb = u32::try_from(dictionary / 1024).unwrap_or(u32::MAX);
    let reader = XzReader::new_mem_limit(bytes.as_slice(), true, dictionary_kb);
    reader.take(most as u64 + 1).read_to_end(&mut plain).map_err(|e| match e.kind() {
        std::io::ErrorKind::OutOfMemory => {
            damaged(format!("needs more than {dictionary_kb} kB to unpack; pack it with xz -6"))
        }
        _ => damaged(format!("damaged or truncated xz file of {} bytes: {e}", bytes.len())),
    })?;
    if plain.len() > most {
        let reason =
            format!("not CIFAR records: {} bytes unpack to more than {most}, pictures do not", bytes.len());
        return Err(damaged(reason));
    }
    Ok(plain)
}

/// By length; where that allows both, by name, then by the labels.
fn kind_of(path: &Path, bytes: &[u8]) -> Result<Kind, DataError> {
    let fits = |kind: Kind| bytes.len().is_multiple_of(kind.record_bytes());
    match (fits(Kind::Ten), fits(Kind::Hundred)) {
        _ if bytes.is_empty() => Err(DataError::Records {
            path: path.display().to_string(),
            reason: "expected CIFAR records, found an empty file".to_owned(),
        }),
        (true, false) => Ok(Kind::Ten),
        (false, true) => Ok(Kind::Hundred),
        (true, true) => {
            let named = path.to_string_lossy().contains("100");
            let labels_fit = check_labels("", Kind::Hundred, bytes).is_ok();
            Ok(if named && labels_fit { Kind::Hundred } else { Kind::Ten })
        }
        (false, false) => {
            let (ten, hundred) = (Kind::Ten.record_bytes(), Kind::Hundred.record_bytes());
            Err(DataError::Records {
                path: path.display().to_string(),
                reason: format!(
                    "truncated, or not CIFAR records: expected a multiple of {ten} bytes (CIFAR-10) or {hundred} \
                     bytes (CIFAR-100), found {} = {} records of {ten} and {} bytes more",
                    bytes.len(),
                    bytes.len() / ten,
                    bytes.len() % ten
                ),
            })
        }
    }
}

fn check_labels(path: &str, kind: Kind, bytes: &[u8]) -> Result<(), DataError> {
    for (i, record) in bytes.chunks_exact(kind.record_bytes()).enumerate() {
        let label = record[kind.label_bytes() - 1];
        if usize::from(label) >= kind.classes() {
            return Err(DataError::Records {
                path: path.to_owned(),
                reason: format!(
                    "not CIFAR-{} records: expected labels below {}, found {label} in record {i}",
                    kind.classes(),
                    kind.classes()
                ),
            });
        }
    }
    Ok(())
}

/// From the list that comes with the data set where it is there.
fn class_names(kind: Kind, folder: Option<&Path>) -> Vec<String> {
    let list = match kind {
        Kind::Ten => CLASS_LISTS[0],
        Kind::Hundred => CLASS_LISTS[1],
    };
    let text = folder.and_then(|f| fs::read_to_string(f.join(list)).ok()).unwrap_or_default();
    let names: Vec<String> = text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
    if names.len() == kind.classes() {
        return names;
    }
    match kind {
        Kind::Ten => CIFAR10_CLASSES.map(str::to_owned).to_vec(),
        Kind::Hundred => (0..100).map(|i| format!("class-{i:02}")).collect(),
    }
}
