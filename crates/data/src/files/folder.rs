//! A folder of image files, flat or nested.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::decode::{DecodeLimits, decode_file};
use super::layout::{self, Classes};
use super::listing::Listing;
use crate::{DataError, Image, Source};

/// Images below a folder, in the byte order of their paths (with `/` between parts), so the numbering is the same on every
/// system. What tools leave behind (hidden folders, thumbnails) and what Ocelli wrote is passed over. When the images sit in at
/// least two subfolders, the first-level subfolder is the class; otherwise the images are unlabelled.
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

/// Images of a part of a data set, before their classes have numbers.
pub(super) struct Part {
    /// Name below the root and file of each.
    pub images: Vec<(String, PathBuf)>,
    /// Their classes, where they have any.
    pub classes: Option<Vec<String>>,
    /// Images beside the classes, left out.
    pub strays: Vec<String>,
    /// Why there are no classes, where one might expect some.
    pub note: Option<String>,
}

impl Part {
    /// The images below `prefix` (empty, or ending in `/`), with the folders there as classes where there are at least `fewest`.
    pub fn of(listing: &Listing, prefix: &str, fewest: usize) -> Self {
        let below: Vec<&(String, PathBuf)> =
            listing.images.iter().filter(|(name, _)| name.starts_with(prefix)).collect();
        let names: Vec<&str> = below.iter().map(|(name, _)| &name[prefix.len()..]).collect();
        let Classes { of, strays, note } = layout::classes(&names, fewest);
        let left_out = if of.is_some() { strays } else { Vec::new() };
        let kept = (0..below.len()).filter(|i| left_out.binary_search(i).is_err());
        Self {
            images: kept.map(|i| below[i].clone()).collect(),
            strays: left_out.iter().map(|i| below[*i].0.clone()).collect(),
            classes: of,
            note,
        }
    }

    /// Its classes, each once, sorted.
    pub fn class_names(&self) -> Vec<String> {
        let names: BTreeSet<&String> = self.classes.iter().flatten().collect();
        names.into_iter().cloned().collect()
    }

    /// The source, its names and files below `folder` (empty, or ending in `/`) of `root`; classes are numbered as in
    /// `classes`, which has them all.
    pub fn source(self, root: &Path, folder: &str, classes: &[String], limits: DecodeLimits) -> FolderSource {
        let (names, files): (Vec<String>, Vec<PathBuf>) = self.images.into_iter().unzip();
        let numbers: BTreeMap<&String, u32> = classes.iter().zip(0..).collect();
        let number = |class: &String| numbers.get(class).copied().unwrap_or_default();
        FolderSource {
            root: root.to_path_buf(),
            names: names.into_iter().map(|n| n.strip_prefix(folder).map(str::to_owned).unwrap_or(n)).collect(),
            files,
            labels: self.classes.as_ref().map(|all| all.iter().map(number).collect()),
            classes: if self.classes.is_some() { classes.to_vec() } else { Vec::new() },
            limits,
        }
    }
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
        let listing = Listing::of(root)?;
        if listing.images.is_empty() {
            return Err(listing.no_images(root));
        }
        let part = Part::of(&listing, "", 2);
        let classes = part.class_names();
        Ok(part.source(root, "", &classes, limits))
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
