//! A folder of image files, flat or nested.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::decode::{DecodeLimits, EXTENSIONS, decode_file};
use crate::{DataError, Image, Source};

/// All images below a folder, in the byte order of their paths (with `/` between parts), so the numbering is the same
/// on every system. When every image sits in a subfolder and there are at least two of those, the first-level subfolder
/// is the class; otherwise the images are unlabelled.
#[derive(Debug, Clone)]
pub struct FolderSource {
    root: PathBuf,
    /// Paths relative to the root.
    files: Vec<PathBuf>,
    names: Vec<String>,
    labels: Option<Vec<u32>>,
    classes: Vec<String>,
    limits: DecodeLimits,
}

impl FolderSource {
    /// Lists a folder with the default limits.
    ///
    /// # Errors
    /// See [`FolderSource::open_with`].
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, DataError> {
        Self::open_with(folder, DecodeLimits::default())
    }

    /// Lists a folder; images are decoded under `limits` later.
    ///
    /// # Errors
    /// When the folder is missing, is a file, cannot be read, or holds no file with a known image extension.
    pub fn open_with(folder: impl AsRef<Path>, limits: DecodeLimits) -> Result<Self, DataError> {
        let root = folder.as_ref();
        let shown = root.display().to_string();
        if !root.exists() {
            return Err(DataError::NotFound { path: shown });
        }
        if !root.is_dir() {
            return Err(DataError::NotAFolder { path: shown, found: "a file".to_owned() });
        }
        let mut found = Vec::new();
        let mut others = Vec::new();
        for entry in WalkDir::new(root).follow_links(true) {
            let entry = entry.map_err(|e| DataError::Io { path: shown.clone(), reason: e.to_string() })?;
            if !entry.file_type().is_file() {
                continue;
            }
            let relative = entry.path().strip_prefix(root).unwrap_or(entry.path()).to_path_buf();
            let name = portable_name(&relative);
            // macOS leaves files such as `._photo.jpg` on foreign disks: metadata, not photos.
            let hidden = entry.file_name().to_string_lossy().starts_with("._");
            if !hidden && is_image(&relative) {
                found.push((name, relative));
            } else {
                others.push(name);
            }
        }
        if found.is_empty() {
            others.sort();
            let found = describe(&others);
            return Err(DataError::NoImages { path: shown, expected: EXTENSIONS.join(", "), found });
        }
        found.sort();
        let (names, files): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        let (classes, labels) = classes_of(&names);
        Ok(Self { root: root.to_path_buf(), files, names, labels, classes, limits })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl Source for FolderSource {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn load(&self, index: usize) -> Result<Image, DataError> {
        let file = self.files.get(index);
        let file = file.ok_or(DataError::OutOfRange { index, len: self.files.len() })?;
        decode_file(&self.root.join(file), self.limits)
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.labels.as_ref()?.get(index).copied()
    }

    fn name(&self, index: usize) -> String {
        self.names.get(index).cloned().unwrap_or_default()
    }

    fn class_names(&self) -> &[String] {
        &self.classes
    }
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str()))
}

fn portable_name(path: &Path) -> String {
    let parts: Vec<_> = path.components().map(|c| c.as_os_str().to_string_lossy()).collect();
    parts.join("/")
}

fn describe(others: &[String]) -> String {
    const SHOWN: usize = 5;
    match others {
        [] => "an empty folder".to_owned(),
        [only] => format!("1 file, not with a known image extension: {only}"),
        _ => format!(
            "{} files, none with a known image extension: {}{}",
            others.len(),
            others[..others.len().min(SHOWN)].join(", "),
            if others.len() > SHOWN { ", …" } else { "" }
        ),
    }
}

fn classes_of(names: &[String]) -> (Vec<String>, Option<Vec<u32>>) {
    let folders: Option<Vec<&str>> =
        names.iter().map(|name| name.split_once('/').map(|(folder, _)| folder)).collect();
    let Some(folders) = folders else { return (Vec::new(), None) };
    let classes: Vec<&str> = folders.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    if classes.len() < 2 {
        return (Vec::new(), None);
    }
    let labels = folders.iter().map(|f| classes.binary_search(f).unwrap_or_default() as u32).collect();
    (classes.into_iter().map(str::to_owned).collect(), Some(labels))
}
