//! From what a user writes after `--data` to a source.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cifar::{CifarSource, is_record_file, record_files, split_of};
use super::folder::FolderSource;
use crate::scenes::SceneConfig;
use crate::{DataError, SceneSource, Source, Split};

const TRAIN_FOLDERS: [&str; 1] = ["train"];
const VAL_FOLDERS: [&str; 3] = ["val", "valid", "test"];

/// Opens a data set: `scenes`, `scenes:COUNT` or `scenes:COUNT:SIZE` (the built-in one), a folder of images, a folder
/// with CIFAR records, or a record file. Where there is a split into training and held-out images, this is the training
/// part; [`open_split`] gives either.
///
/// # Errors
/// When the text is no known data set, or the data set cannot be read.
pub fn open_source(spec: &str) -> Result<Arc<dyn Source>, DataError> {
    if let Some(source) = open_split(spec, Split::Train)? {
        return Ok(source);
    }
    let path = Path::new(spec);
    if path.is_file() {
        if !is_record_file(path) {
            return Err(DataError::NotAFolder {
                path: spec.to_owned(),
                found: "a file that does not end in .bin or .bin.xz".to_owned(),
            });
        }
        return Ok(Arc::new(CifarSource::open(path)?));
    }
    if path.is_dir() && !record_files(path)?.is_empty() {
        return Ok(Arc::new(CifarSource::open(path)?));
    }
    Ok(Arc::new(FolderSource::open(path)?))
}

/// Opens one part of a data set: the built-in scenes under different seeds; `train` and `val` (or `valid`, `test`)
/// inside a folder; record files whose names say so. `None` where there is no such split.
///
/// # Errors
/// When the text is no known data set, or the part is there but cannot be read.
pub fn open_split(spec: &str, split: Split) -> Result<Option<Arc<dyn Source>>, DataError> {
    if let Some(config) = scene_config(spec)? {
        return Ok(Some(Arc::new(SceneSource::new(config.split(split))?)));
    }
    let path = Path::new(spec);
    if !path.exists() {
        return Err(DataError::NotFound { path: spec.to_owned() });
    }
    if !path.is_dir() {
        return Ok(None);
    }
    let part = |names: &[&str]| names.iter().map(|n| path.join(n)).find(|p| p.is_dir());
    if let (Some(train), Some(val)) = (part(&TRAIN_FOLDERS), part(&VAL_FOLDERS)) {
        let folder = if split == Split::Train { train } else { val };
        return Ok(Some(Arc::new(FolderSource::open(folder)?)));
    }
    let (train, val): (Vec<PathBuf>, Vec<PathBuf>) =
        record_files(path)?.into_iter().partition(|f| split_of(f) == Split::Train);
    if train.is_empty() || val.is_empty() {
        return Ok(None);
    }
    let files = if split == Split::Train { train } else { val };
    Ok(Some(Arc::new(CifarSource::open_files(&files)?)))
}

/// `None` when the text does not name the built-in data set.
fn scene_config(spec: &str) -> Result<Option<SceneConfig>, DataError> {
    let mut parts = spec.split(':');
    // A folder called `scenes` is reached as `./scenes`.
    if parts.next() != Some("scenes") {
        return Ok(None);
    }
    let mut config = SceneConfig::default();
    let fail = || DataError::Spec {
        spec: spec.to_owned(),
        reason: "expected scenes, scenes:COUNT or scenes:COUNT:SIZE, such as scenes:5000:64".to_owned(),
    };
    if let Some(count) = parts.next() {
        config.count = count.parse().map_err(|_| fail())?;
    }
    if let Some(size) = parts.next() {
        config.size_px = size.parse().map_err(|_| fail())?;
    }
    if parts.next().is_some() {
        return Err(fail());
    }
    Ok(Some(config))
}
