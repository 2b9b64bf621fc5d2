//! Any file of weights, opened by its bytes.

use std::collections::{BTreeMap, HashMap};

use crate::entry::Entry;
use crate::{HostTensor, StateDict, WeightsError, q8, safetensors, torch, walk};

/// Weights in memory: the bytes of a file, or of several that belong together, and the list of its tensors. Values are
/// decoded when they are asked for, so tensors nobody wants (an optimizer's) and second names of the same storage cost nothing.
#[derive(Debug, Clone)]
pub struct Weights<'a> {
    files: Vec<&'a [u8]>,
    format: &'static str,
    entries: Vec<Entry>,
    metadata: BTreeMap<String, String>,
}

impl<'a> Weights<'a> {
    /// Opens a safetensors file, a PyTorch zip (`torch.save` since 1.6), or PyTorch's older form, told apart by their
    /// first bytes.
    ///
    /// # Errors
    /// When the bytes are none of these or contradict themselves; with the tensor or the position.
    pub fn open(bytes: &'a [u8]) -> Result<Self, WeightsError> {
        // The first eight bytes of a safetensors file are a length, and may look like anything.
        if bytes.get(8) == Some(&b'{') {
            return Self::of_safetensors(bytes);
        }
        if bytes.starts_with(b"PK\x03\x04") {
            return Self::of_torch(bytes, &torch::open_zip(bytes)?);
        }
        if torch::looks_like_pickle(bytes) {
            return Self::of_torch(bytes, &torch::open_legacy(bytes)?);
        }
        Err(WeightsError::Unrecognised(describe(bytes)))
    }

    /// Opens files that belong together, as Hugging Face splits large networks: each with the name to speak of it by. Their
    /// tensors are one list, in the order of the files; of what they say of themselves the first counts.
    ///
    /// # Errors
    /// As [`Weights::open`], with the name of the file; and when two files have a tensor of the same name.
    pub fn open_many(files: &[(String, &'a [u8])]) -> Result<Self, WeightsError> {
        let mut all: Option<Self> = None;
        let mut from: HashMap<String, usize> = HashMap::new();
        for (index, (name, bytes)) in files.iter().enumerate() {
            let mut one = Self::open(bytes).map_err(|e| WeightsError::Layout(format!("{name}: {e}")))?;
            for entry in &mut one.entries {
                entry.file = index;
                if let Some(before) = from.insert(entry.name.clone(), index) {
                    let other = files.get(before).map_or("", |(name, _)| name.as_str());
                    return Err(WeightsError::Tensor {
                        name: entry.name.clone(),
                        reason: format!("it is there twice, in {other} and in {name}"),
                    });
                }
            }
            match &mut all {
                None => all = Some(one),
                Some(all) => {
                    all.files.extend(one.files);
                    all.entries.extend(one.entries);
                    one.metadata.into_iter().for_each(|(key, value)| {
                        all.metadata.entry(key).or_insert(value);
                    });
                }
            }
        }
        all.ok_or_else(|| WeightsError::Layout("expected at least one file of weights, found none".into()))
    }

    /// Adds what a file beside this one says, where this one says nothing.
    pub fn tell(&mut self, words: impl IntoIterator<Item = (String, String)>) {
        for (key, value) in words {
            self.metadata.entry(key).or_insert(value);
        }
    }

    pub(crate) fn of_safetensors(bytes: &'a [u8]) -> Result<Self, WeightsError> {
        let (entries, metadata) = safetensors::list(bytes)?;
        let entries = q8::pair(bytes, entries, &metadata)?;
        Ok(Self { files: vec![bytes], format: "safetensors", entries, metadata })
    }

    fn of_torch(bytes: &'a [u8], file: &torch::TorchFile<'_>) -> Result<Self, WeightsError> {
        let (entries, metadata) = walk::walk(file)?;
        if entries.is_empty() {
            return Err(WeightsError::Torch("there is no tensor in it".into()));
        }
        Ok(Self { files: vec![bytes], format: file.form, entries, metadata })
    }

    /// `safetensors`, `PyTorch zip` or `PyTorch before 1.6`.
    pub fn format(&self) -> &'static str {
        self.format
    }

    /// Every tensor: in the order of a PyTorch file, by name of a safetensors file.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What the file says beside its tensors: a safetensors file's metadata; numbers and words of a PyTorch file by
    /// their path (`epoch`, `args.arch`).
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.name == name)
    }

    /// The values of a tensor of this file, row-major; int8 with scales is multiplied out.
    ///
    /// # Errors
    /// When it holds neither floating-point numbers nor int8 with scales.
    pub fn values(&self, entry: &Entry) -> Result<Vec<f32>, WeightsError> {
        let file = self.files.get(entry.file).copied().unwrap_or_default();
        entry.decode(file).ok_or_else(|| WeightsError::Tensor {
            name: entry.name.clone(),
            reason: format!("expected f16, bf16, f32 or f64 values, found {}", entry.dtype),
        })
    }

    /// Decodes the floating-point tensors `wanted` accepts, under the names it gives them; int8 with scales is multiplied out.
    /// Integers (such as `num_batches_tracked`) are left out.
    ///
    /// # Errors
    /// When tensors that share storage would together take far more memory than the file explains.
    pub fn state_dict(&self, mut wanted: impl FnMut(&Entry) -> Option<String>) -> Result<StateDict, WeightsError> {
        let mut state = StateDict { tensors: Vec::new(), metadata: self.metadata_of_values() };
        let mut budget = self.budget();
        for entry in self.entries.iter().filter(|e| e.is_float()) {
            let Some(name) = wanted(entry) else { continue };
            budget.take(entry)?;
            state.tensors.push((name, HostTensor { shape: entry.shape.clone(), values: self.values(entry)? }));
        }
        Ok(state)
    }

    /// The metadata of tensors that are f32 by now.
    pub(crate) fn metadata_of_values(&self) -> BTreeMap<String, String> {
        let mut metadata = self.metadata.clone();
        metadata.remove(q8::KEY);
        metadata
    }

    /// What decoded tensors may cost together. Half-precision values double, those of eight bits become four times as large;
    /// names for the same storage again must stay within that.
    pub(crate) fn budget(&self) -> Budget {
        const ALLOWANCE: usize = 32 << 20;
        let all = self.files.iter().fold(0usize, |sum, file| sum.saturating_add(file.len()));
        let int8 = self.entries.iter().filter(|e| e.scale.is_some());
        let int8 = int8.fold(0usize, |sum, e| sum.saturating_add(e.storage_bytes()));
        Budget(all.saturating_add(int8).saturating_mul(2).saturating_add(ALLOWANCE))
    }
}

/// Bytes that may still be decoded.
pub(crate) struct Budget(usize);

impl Budget {
    pub fn take(&mut self, entry: &Entry) -> Result<(), WeightsError> {
        let needs = entry.len().saturating_mul(4);
        self.0 = self.0.checked_sub(needs).ok_or_else(|| WeightsError::Tensor {
            name: entry.name.clone(),
            reason: "tensors share their storage so often that they would not fit in memory".into(),
        })?;
        Ok(())
    }
}

/// Bytes that are no weights, in words.
fn describe(bytes: &[u8]) -> String {
    let is_text = |prefix: &str| bytes.trim_ascii_start().to_ascii_lowercase().starts_with(prefix.as_bytes());
    let head = &bytes[..bytes.len().min(512)];
    match head {
        [] => "an empty file".into(),
        [0x1f, 0x8b, ..] => "a gzip archive; unpack it first".into(),
        [0x89, b'H', b'D', b'F', ..] => "an HDF5 file".into(),
        [b'N', b'R', b'U', b'B', ..] => "a burnpack, which only burn's own store reads".into(),
        _ if head.get(257..262) == Some(b"ustar") => "a tar archive; unpack it first".into(),
        _ if is_text("<!doctype") || is_text("<html") => "a web page; the download went wrong".into(),
        _ if is_text("version https://git-lfs") => "a Git LFS pointer; fetch the file itself".into(),
        _ => {
            let start: Vec<String> = head.iter().take(8).map(|b| format!("{b:02x}")).collect();
            format!("{} bytes that start {}", bytes.len(), start.join(" "))
        }
    }
}
