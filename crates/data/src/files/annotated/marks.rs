//! Images and what their files of labels say of the objects in them, before anyone asks for classes or for boxes.

use std::path::{Path, PathBuf};

use super::super::DecodeLimits;
use super::super::folder::{FolderSource, Part};
use super::super::listing::Listing;
use super::super::understood::{PartInfo, Understood};
use super::spec::{HeldOut, Spec};
use super::{coco, per_image, voc};
use crate::DataError;

/// What is asked of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::files) enum Want {
    /// Whether an image shows a class.
    Classes,
    /// Where its objects are.
    Boxes,
}

/// Where an object is, as its file says.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(in crate::files) enum Place {
    /// It does not say.
    #[default]
    Untold,
    /// `[x1, y1, x2, y2]`, edges in pixels of the size the file gives, or of the image.
    Pixels([f64; 4]),
    /// The same as fractions of the image's sides.
    Fractions([f64; 4]),
}

/// An object.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::files) struct Mark {
    pub class: usize,
    pub place: Place,
    pub is_difficult: bool,
    pub is_crowd: bool,
    /// Pixels² of the size the file gives.
    pub area: Option<f64>,
}

/// An image and its objects.
#[derive(Debug, Clone)]
pub(in crate::files) struct Marked {
    pub name: String,
    /// Below the set's root.
    pub file: PathBuf,
    /// Its size, as the file of labels gives it.
    pub told_size: Option<[u32; 2]>,
    /// Or why the labels cannot be read.
    pub marks: Result<Vec<Mark>, DataError>,
}

/// Images of a part.
#[derive(Debug, Clone, Default)]
pub(in crate::files) struct MarkedPart {
    /// Its name in messages: a folder or a list.
    pub name: String,
    pub images: Vec<Marked>,
}

impl MarkedPart {
    /// The part as it is shown.
    pub fn info(&self) -> PartInfo {
        PartInfo { folder: self.name.clone(), images: self.images.len(), labelled: true }
    }

    /// The images alone.
    pub fn source(&self, root: &Path) -> FolderSource {
        let images = self.images.iter().map(|image| (image.name.clone(), image.file.clone())).collect();
        let part = Part { images, classes: None, strays: Vec::new(), note: None };
        part.source(root, "", &[], DecodeLimits::default())
    }
}

/// A set in its parts.
#[derive(Debug, Clone)]
pub(in crate::files) struct MarkedSet {
    /// What the files of the images are below.
    pub root: PathBuf,
    pub classes: Vec<String>,
    pub train: MarkedPart,
    pub held_out: Option<MarkedPart>,
    pub understood: Understood,
}

/// Finds out which layout a folder has, and reads it.
pub(in crate::files) fn open(spec: &Spec<'_>, want: Want) -> Result<MarkedSet, DataError> {
    let mut set = read(spec, want)?;
    if spec.held_out == Some(HeldOut::Train) {
        set.held_out = Some(set.train.clone());
    }
    Ok(set)
}

fn read(spec: &Spec<'_>, want: Want) -> Result<MarkedSet, DataError> {
    let path = spec.path;
    if !path.exists() {
        let reason = "no such file or folder; expected a folder of images with labels of several classes";
        return Err(spec.fails(reason));
    }
    if path.is_file() {
        let is_yaml = path.extension().is_some_and(|e| e == "yaml" || e == "yml");
        if !is_yaml {
            let reason = "expected a folder, or a YAML file that describes one; found another file";
            return Err(spec.fails(reason));
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        return per_image::open(spec, folder, &Listing::of(folder)?, Some(path), want);
    }
    let roots = voc::find(path, &voc::MAIN);
    if !roots.is_empty() {
        return voc::open(spec, &roots, want);
    }
    let listing = Listing::of(path)?;
    if listing.images.is_empty() {
        return Err(listing.no_images(path));
    }
    let instances = coco::find(&listing);
    let mut set = match instances.is_empty() {
        true => per_image::open(spec, path, &listing, None, want)?,
        false => coco::open(spec, &listing, &instances)?,
    };
    listing.tell_briefly(&mut set.understood);
    Ok(set)
}
