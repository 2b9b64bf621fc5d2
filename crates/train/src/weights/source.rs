//! Weights as they lie on a disk: one file, or a folder of Hugging Face with its shards.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ocelli_models::weights::{ShardIndex, Weights, read_model_config};

use crate::TrainError;

/// What the weights in a folder are called, the one to take first: safetensors before pickles.
const NAMES: [&str; 4] =
    ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
/// How an index of shards ends.
const INDEX: &str = ".index.json";
/// Longest index and `config.json` that are read, bytes.
const LONGEST_INDEX: u64 = 16 << 20;
const LONGEST_CONFIG: u64 = 1 << 20;

/// The bytes of weights, and what lies beside them.
#[derive(Debug)]
pub struct WeightsFile {
    path: PathBuf,
    /// Each with the name to speak of it by.
    files: Vec<(String, Vec<u8>)>,
    index: Option<ShardIndex>,
    /// What a `config.json` of transformers says.
    told: Vec<(String, String)>,
}

impl WeightsFile {
    /// Reads the file that [`super::resolve_weights`] found; of an index every shard it names.
    ///
    /// # Errors
    /// When one cannot be read, an index names something that is not a file beside it, or the file is one shard of several.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let name = file_name(path);
        let told = beside(path, "config.json").map(|text| read_model_config(&text)).unwrap_or_default();
        let fail = |reason: String| TrainError::File { path: path.to_owned(), reason };
        let mut found = Self { path: path.to_owned(), files: Vec::new(), index: None, told };
        if !name.ends_with(INDEX) {
            if let Some(count) = shards(name) {
                return Err(fail(format!(
                    "expected all weights of a network, found one of {count} shards; give the folder, or the {INDEX} file in it"
                )));
            }
            found.files.push((
                name.to_owned(),
                fs::read(path).map_err(|e| TrainError::io(path, "read the weights", &e))?,
            ));
            return Ok(found);
        }
        let text = short_text(path, LONGEST_INDEX)
            .ok_or_else(|| fail(format!("expected an index of shards: text of at most {LONGEST_INDEX} bytes")))?;
        let index = ShardIndex::parse(name, &text).map_err(|e| fail(e.to_string()))?;
        for shard in index.files() {
            let at = path.with_file_name(shard);
            let bytes = fs::read(&at)
                .map_err(|e| TrainError::io(&at, &format!("read the shard that {name} names"), &e))?;
            found.files.push((shard.clone(), bytes));
        }
        found.index = Some(index);
        Ok(found)
    }

    /// The weights, with what a `config.json` of transformers beside them says (above all the heads).
    ///
    /// # Errors
    /// When the bytes are no weights, contradict themselves, or are not all that the index names.
    pub fn open(&self) -> Result<Weights<'_>, TrainError> {
        let fail = |reason: String| TrainError::File { path: self.path.clone(), reason };
        let files: Vec<(String, &[u8])> = self.files.iter().map(|(n, b)| (n.clone(), b.as_slice())).collect();
        let opened = match &files[..] {
            [(_, bytes)] => Weights::open(bytes),
            several => Weights::open_many(several),
        };
        let mut weights = opened.map_err(|e| fail(e.to_string()))?;
        if let Some(index) = &self.index {
            index.check(&weights).map_err(|e| fail(e.to_string()))?;
        }
        weights.tell(self.told.clone());
        Ok(weights)
    }

    /// Bytes of all files together.
    pub fn num_bytes(&self) -> usize {
        self.files.iter().map(|(_, bytes)| bytes.len()).sum()
    }
}

pub(super) fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|n| n.to_str()).unwrap_or_default()
}

/// Of `model-00001-of-00003.safetensors` 3, where it is not 1.
fn shards(name: &str) -> Option<usize> {
    let (before, after) = name.split_once("-of-")?;
    let number = |text: &str| text.parse::<usize>().ok().filter(|_| text.len() == 5);
    number(before.rsplit('-').next()?)?;
    number(after.split('.').next()?).filter(|count| *count > 1)
}

/// Whether every shard that an index names lies beside it. A single file has none.
pub(super) fn has_its_shards(path: &Path) -> bool {
    let name = file_name(path);
    if !name.ends_with(INDEX) {
        return true;
    }
    let text = short_text(path, LONGEST_INDEX).unwrap_or_default();
    ShardIndex::parse(name, &text)
        .is_ok_and(|index| index.files().iter().all(|shard| path.with_file_name(shard).is_file()))
}

/// A text of at most `most` bytes.
pub(super) fn short_text(path: &Path, most: u64) -> Option<String> {
    let mut text = String::new();
    let read = File::open(path).ok()?.take(most + 1).read_to_string(&mut text).ok()?;
    (read as u64 <= most).then_some(text)
}

/// The text of a file beside `path`, where there is one.
pub(super) fn beside(path: &Path, name: &str) -> Option<String> {
    short_text(&path.with_file_name(name), LONGEST_CONFIG)
}

/// The file of weights in a folder that is no run: Hugging Face's names, or the only one there is.
///
/// # Errors
/// What the folder holds instead.
pub(super) fn in_folder(folder: &Path) -> Result<PathBuf, TrainError> {
    if let Some(found) = NAMES.iter().map(|name| folder.join(name)).find(|path| path.is_file()) {
        return Ok(found);
    }
    let fail = |reason: String| TrainError::File { path: folder.to_owned(), reason };
    let mut names: Vec<String> = fs::read_dir(folder)
        .map_err(|e| TrainError::io(folder, "list the folder", &e))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    let ends = |name: &str, endings: &[&str]| endings.iter().any(|e| name.ends_with(e));
    let own: Vec<&String> =
        names.iter().filter(|n| ends(n, &[".safetensors", ".safetensors.index.json", ".pth", ".pt"])).collect();
    match &own[..] {
        [one] => return Ok(folder.join(one)),
        [first, second, ..] => {
            return Err(fail(format!(
                "expected one file of weights in this folder, found {} ({first}, {second}, …); name the one to take",
                own.len()
            )));
        }
        [] => {}
    }
    if let Some(other) = names.iter().find(|n| ends(n, &[".h5", ".msgpack", ".onnx", ".ot"])) {
        return Err(fail(format!(
            "expected weights as PyTorch or safetensors have them, found only another framework's ({other})"
        )));
    }
    Err(fail(
        "expected weights; this folder is no run (no checkpoints/*.safetensors) and none of Hugging Face's (no \
         model.safetensors, no pytorch_model.bin)"
            .into(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_its_weights_under_known_names() {
        let folder = tempfile::tempdir().unwrap();
        let found = || in_folder(folder.path());
        let touch = |name: &str| fs::write(folder.path().join(name), b"x").unwrap();
        assert!(found().unwrap_err().to_string().contains("no model.safetensors"));
        touch("tf_model.h5");
        assert!(found().unwrap_err().to_string().contains("another framework's (tf_model.h5)"));
        touch("a.pth");
        assert_eq!(file_name(&found().unwrap()), "a.pth");
        touch("b.safetensors");
        assert!(found().unwrap_err().to_string().contains("found 2 (a.pth, b.safetensors"));
        for name in NAMES.iter().rev() {
            touch(name);
            assert_eq!(file_name(&found().unwrap()), *name);
        }
        let one = folder.path().join("model-00001-of-00003.safetensors");
        assert!(WeightsFile::read(&one).unwrap_err().to_string().contains("one of 3 shards"));
        assert_eq!(["model-00001-of-00001.safetensors", "a-of-b.pth"].map(shards), [None, None]);
    }
}
