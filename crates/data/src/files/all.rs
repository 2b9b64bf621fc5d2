//! Every image below a folder, whatever its layout: for commands that look for pictures rather than learn from
//! them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::decode::{DecodeLimits, decode_file};
use super::folder::Part;
use super::layout::{Kind, Layout, Tree};
use super::listing::Listing;
use super::understood::{PartInfo, Understood};
use crate::{DataError, Image, Source};

/// Images below a folder, sorted by the bytes of their paths. Held-out parts and pictures beside class folders are
/// taken too: only what tools leave behind (hidden folders, thumbnails) and what Ocelli wrote is passed over. Where the
/// layout has classes, images in their folders have labels.
#[derive(Debug, Clone)]
pub struct AllImages {
    root: PathBuf,
    /// Name below the root, with `/` between its parts, and path below the root.
    images: Vec<(String, PathBuf)>,
    labels: Vec<Option<u32>>,
    understood: Understood,
}

impl AllImages {
    /// Lists a folder.
    ///
    /// # Errors
    /// When the folder is missing, is a file, cannot be read, or holds no file with a known image extension.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, DataError> {
        let root = folder.as_ref();
        let listing = Listing::of(root)?;
        if listing.images.is_empty() {
            return Err(listing.no_images(root));
        }
        let mut understood = Understood { spec: root.display().to_string(), ..Understood::default() };
        listing.tell(&mut understood, |_| false);
        let class_of = classes(&listing);
        let mut names: Vec<String> = class_of.values().cloned().collect();
        names.sort();
        names.dedup();
        let number = |(name, _): &(String, PathBuf)| {
            let class = class_of.get(name)?;
            names.binary_search(class).ok().map(|at| at as u32)
        };
        let labels = listing.images.iter().map(number).collect();
        let images = listing.images;
        understood.train = PartInfo { folder: String::new(), images: images.len(), labelled: !names.is_empty() };
        understood.classes = names;
        Ok(Self { root: root.to_path_buf(), images, labels, understood })
    }

    /// What was made of the folder.
    pub fn understood(&self) -> &Understood {
        &self.understood
    }

    /// The file of a sample.
    pub fn path(&self, index: usize) -> Option<PathBuf> {
        self.images.get(index).map(|(_, path)| self.root.join(path))
    }

    /// The sample of a name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.images.binary_search_by(|(n, _)| n.as_str().cmp(name)).ok()
    }
}

/// Class of each image that has one, by name: as [`open_data`](super::open_data) sees the folder, with every
/// held-out part.
fn classes(listing: &Listing) -> HashMap<String, String> {
    let images: Vec<&str> = listing.images.iter().map(|(name, _)| name.as_str()).collect();
    let folders: Vec<&str> = listing.folders.iter().map(String::as_str).collect();
    let others: Vec<&str> = listing.others.iter().map(String::as_str).collect();
    let tree = Tree { images: &images, folders: &folders, others: &others };
    let Layout { root, kind } = tree.layout();
    let parts = match kind {
        // Pictures beside records are pictures all the same.
        Kind::Records(_) => return HashMap::new(),
        Kind::Whole => vec![Part::of(listing, &root, 2)],
        Kind::Split(splits) => {
            let part = |name: &String, known: &[String]| {
                let inside = tree.inside_part(&format!("{root}{name}/"), known);
                // A held-out part may have one class of several alone.
                let knows_one = tree.folders_in(&inside).0.iter().any(|f| known.iter().any(|k| k == f));
                Part::of(listing, &inside, if knows_one { 1 } else { 2 })
            };
            let train = part(&splits.train, &[]);
            let known = train.class_names();
            let held_out: Vec<Part> =
                splits.val.iter().chain(&splits.unused).map(|name| part(name, &known)).collect();
            std::iter::once(train).chain(held_out).collect()
        }
    };
    let named = |part: Part| {
        let classes = part.classes.unwrap_or_default();
        part.images.into_iter().map(|(name, _)| name).zip(classes).collect::<Vec<_>>()
    };
    parts.into_iter().flat_map(named).collect()
}

impl Source for AllImages {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn load(&self, index: usize) -> Result<Image, DataError> {
        let path = self.path(index).ok_or(DataError::OutOfRange { index, len: self.images.len() })?;
        decode_file(&path, DecodeLimits::default())
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.labels.get(index).copied().flatten()
    }

    fn name(&self, index: usize) -> String {
        self.images.get(index).map(|(name, _)| name.clone()).unwrap_or_default()
    }

    fn class_names(&self) -> &[String] {
        &self.understood.classes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(files: &[&str]) -> AllImages {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        AllImages::open(folder.path()).unwrap()
    }

    #[test]
    fn strays_and_held_out_parts_are_taken() {
        let all = open(&[
            "a/1.jpg",
            "a/2.jpg",
            "b/3.jpg",
            "stray.png",
            "notes.txt",
            ".ocelli.index",
            ".hidden/x.jpg",
            ".rc",
        ]);
        let names: Vec<String> = (0..all.len()).map(|i| all.name(i)).collect();
        assert_eq!(names, ["a/1.jpg", "a/2.jpg", "b/3.jpg", "stray.png"]);
        let labels: Vec<_> = (0..all.len()).map(|i| all.label(i)).collect();
        assert_eq!(labels, [Some(0), Some(0), Some(1), None]);
        assert_eq!((all.find("b/3.jpg"), all.find("b/4.jpg")), (Some(2), None));
        assert!(all.path(2).unwrap().ends_with("b/3.jpg") && all.path(4).is_none() && all.load(9).is_err());
        let lines = all.understood().lines();
        assert_eq!(lines[0], "data: 4 images, 2 classes (a, b)");
        assert!(lines[1].contains("1 hidden file (.rc)") && lines[1].contains(".txt"), "{lines:?}");

        let all =
            open(&["w/train/cat/1.jpg", "w/train/dog/1.jpg", "w/val/dog/2.jpg", "w/test/cat/3.jpg", "w/x/4.jpg"]);
        let labelled: Vec<_> = (0..all.len()).map(|i| (all.name(i), all.label(i))).collect();
        let labels: Vec<_> = labelled.iter().map(|(_, l)| *l).collect();
        assert_eq!(all.class_names(), ["cat", "dog"]);
        assert_eq!(labels, [Some(0), Some(0), Some(1), Some(1), None], "{labelled:?}");
    }
}
