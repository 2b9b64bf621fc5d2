//! Images that show any number of classes: PASCAL VOC, YOLO and COCO folders.
//!
//! Only whether an image shows a class matters here, not where.

mod coco;
mod per_image;
mod splits;
#[cfg(test)]
mod tests;
mod voc;
mod yolo;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::DecodeLimits;
use super::folder::Part;
use super::listing::Listing;
use super::understood::{PartInfo, Understood, count};
use crate::{DataError, Source};

/// Whether an image shows a class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Presence {
    /// It does not.
    #[default]
    Absent,
    /// It does.
    Present,
    /// It does, but only as instances that should not count: VOC's difficult objects, COCO's crowds.
    Ignored,
}

/// A part of a multi-label set.
#[derive(Clone)]
pub struct MultiLabelPart {
    /// The images.
    pub source: Arc<dyn Source>,
    /// What they show, `[images, classes]`.
    pub presence: Vec<Presence>,
}

/// A multi-label set in its two parts, and what was made of what was named.
#[derive(Clone)]
pub struct MultiLabelSet {
    /// What is learnt from.
    pub train: MultiLabelPart,
    /// What is held out.
    pub test: MultiLabelPart,
    /// How it was understood.
    pub understood: Understood,
}

/// Opens a folder of images with labels of several classes.
///
/// * PASCAL VOC: `JPEGImages`, `ImageSets/Main/trainval.txt` and `test.txt`, with the lists of each class there or
///   else `Annotations/ID.xml`. A class is present where an object of it is not difficult, ignored where all are.
/// * COCO: `annotations/instances_train2017.json` and the like, or `_annotations.coco.json` beside the images.
///   Crowds alone are ignored.
/// * Images with a label file each, YOLO's `.txt` or VOC's `.xml`: in `labels/` for `images/`, or beside the
///   image. Parts by folders (`train`, `val`, …) or a YAML file, which also names the classes; so does
///   `classes.txt`.
///
/// Without a held-out part every third image is held out. Single folders around all of it are gone through. A YAML
/// file may be named instead of its folder.
///
/// # Errors
/// When there are no such labels, or a file of them is malformed: the message names file and line.
pub fn open_multi_label(spec: &str) -> Result<MultiLabelSet, DataError> {
    let path = Path::new(spec);
    if !path.exists() {
        let reason = "no such file or folder; expected a folder of images with labels of several classes";
        return Err(DataError::Spec { spec: spec.to_owned(), reason: reason.into() });
    }
    if path.is_file() {
        let is_yaml = path.extension().is_some_and(|e| e == "yaml" || e == "yml");
        if !is_yaml {
            let reason = "expected a folder, or a YAML file that describes one; found another file";
            return Err(DataError::Spec { spec: spec.to_owned(), reason: reason.into() });
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        return per_image::open(spec, folder, &Listing::of(folder)?, Some(path));
    }
    if let Some(root) = voc::find(spec, path)? {
        return voc::open(spec, &root);
    }
    let listing = Listing::of(path)?;
    if listing.images.is_empty() {
        return Err(listing.no_images(path));
    }
    let instances = coco::find(&listing);
    if !instances.is_empty() {
        return coco::open(spec, path, &listing, &instances);
    }
    per_image::open(spec, path, &listing, None)
}

/// An image, its file below the root, and the classes it shows.
#[derive(Debug, Clone, Default)]
struct Shown {
    name: String,
    file: PathBuf,
    shows: Vec<(usize, Presence)>,
}

/// The images of a part, before it becomes one.
#[derive(Debug, Default)]
struct Images {
    /// Its name in messages: a folder or a list.
    name: String,
    images: Vec<Shown>,
}

impl Images {
    fn part(self, root: &Path, classes: usize) -> MultiLabelPart {
        let mut presence = vec![Presence::Absent; self.images.len() * classes];
        for (image, row) in self.images.iter().zip(presence.chunks_exact_mut(classes.max(1))) {
            for &(class, shown) in &image.shows {
                // One instance that counts is enough.
                if row[class] != Presence::Present {
                    row[class] = shown;
                }
            }
        }
        let images = self.images.into_iter().map(|image| (image.name, image.file)).collect();
        let part = Part { images, classes: None, strays: Vec::new(), note: None };
        MultiLabelPart { source: Arc::new(part.source(root, "", &[], DecodeLimits::default())), presence }
    }
}

/// Every so many images one is held out, where no part is.
const HELD_OUT: usize = 3;

/// The set, out of what was found. Without a held-out part some images are.
fn assemble(
    root: &Path,
    classes: Vec<String>,
    mut train: Images,
    test: Option<Images>,
    mut understood: Understood,
) -> Result<MultiLabelSet, DataError> {
    let spec = understood.spec.clone();
    let fail = |reason: String| DataError::Spec { spec: spec.clone(), reason };
    let test = match test {
        Some(test) => test,
        None => {
            let all = train.images.len();
            let (held_out, rest): (Vec<_>, Vec<_>) =
                train.images.into_iter().enumerate().partition(|(i, _)| i % HELD_OUT == HELD_OUT - 1);
            let strip = |images: Vec<(usize, Shown)>| images.into_iter().map(|(_, image)| image).collect();
            train.images = strip(rest);
            understood.notes.push(format!(
                "no part is held out (val or test): every third image is, {} of {all}",
                held_out.len()
            ));
            Images { name: "held out".into(), images: strip(held_out) }
        }
    };
    for part in [&train, &test] {
        if part.images.is_empty() {
            return Err(fail(format!("{}: expected labelled images, found none", part.name)));
        }
        if part.images.iter().all(|image| image.shows.is_empty()) {
            return Err(fail(format!(
                "{}: no labels: none of the {} shows any class",
                part.name,
                count(part.images.len(), "image", "images")
            )));
        }
    }
    let info = |part: &Images| PartInfo { folder: part.name.clone(), images: part.images.len(), labelled: true };
    understood.train = info(&train);
    understood.val = Some(info(&test));
    let number = classes.len();
    understood.classes = classes;
    Ok(MultiLabelSet { train: train.part(root, number), test: test.part(root, number), understood })
}

/// The text of a file of labels.
fn read(path: &Path) -> Result<String, DataError> {
    let fail = |reason: String| DataError::Io { path: path.display().to_string(), reason };
    let bytes = std::fs::read(path).map_err(|e| fail(e.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| fail("expected text in UTF-8, found other bytes".into()))?;
    // Some editors begin files with a mark.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// The error about a file of labels.
fn malformed(path: &Path, reason: impl Into<String>) -> DataError {
    DataError::Records { path: path.display().to_string(), reason: reason.into() }
}

/// The same about one of its lines, counted from 1.
fn malformed_line(path: &Path, line: usize, reason: impl Into<String>) -> DataError {
    DataError::Records { path: format!("{}:{line}", path.display()), reason: reason.into() }
}
