//! Folders whose images have objects with boxes, or a class for every pixel.
//!
//! Each layout is read by one file, whoever asks: [`marks`] is what files of labels say of objects, from which come the
//! classes of multi-label sets and the boxes here.

mod boxes;
mod class_list;
mod coco;
mod coco_json;
mod coco_maps;
mod coding;
mod look;
mod map_files;
mod map_png;
pub(in crate::files) mod marks;
mod masked;
mod masked_pairs;
mod masked_trees;
mod outline;
mod palettes;
mod per_image;
mod size;
pub(in crate::files) mod spec;
mod splits;
#[cfg(test)]
mod tests_boxes;
#[cfg(test)]
mod tests_maps;
mod voc;
mod voc_lists;
mod voc_xml;
mod yaml;
mod yolo;

pub use palettes::{VOC as VOC_CLASSES, voc_colour};

use std::path::Path;

use super::text::decoded;
use super::understood::Understood;
use crate::DataError;
use crate::annotated::{BoxedPart, MaskedPart};
use spec::Spec;

/// A set of images whose objects have boxes, and what was made of what was named.
#[derive(Clone)]
pub struct BoxedSet {
    /// What is learnt from.
    pub train: BoxedPart,
    /// What is held out.
    pub val: Option<BoxedPart>,
    /// Names of the classes, by number.
    pub classes: Vec<String>,
    /// How it was understood.
    pub understood: Understood,
}

/// A set of images with a class for every pixel, and what was made of what was named.
#[derive(Clone)]
pub struct MaskedSet {
    /// What is learnt from.
    pub train: MaskedPart,
    /// What is held out.
    pub val: Option<MaskedPart>,
    /// Names of the classes, by number.
    pub classes: Vec<String>,
    /// A colour for each class, for pictures: the set's own, or those of PASCAL VOC.
    pub palette: Vec<[u8; 3]>,
    /// How it was understood.
    pub understood: Understood,
}

/// Opens a folder of images whose objects have boxes.
///
/// * PASCAL VOC: `JPEGImages`, `Annotations/ID.xml`, `ImageSets/Main`; several years below one folder are joined. Without
///   lists every image with an annotation is learnt from.
///   A box is (xmin − 1, ymin − 1, xmax, ymax); difficult objects are marked so.
/// * COCO: `annotations/instances_train2017.json` and the like, or `_annotations.coco.json` beside the images. Classes
///   are numbered by their categories' numbers, without gaps; crowds are marked so.
/// * Images with a label file each, YOLO's `.txt` or VOC's `.xml`: in `labels/` or `boxes/` for `images/`, or beside the
///   image, perhaps with a YAML file, whose key `kpt_shape` says that labels are poses: then only their boxes are read.
/// * `scenes`, `scenes:COUNT` or `scenes:COUNT:SIZE`: drawn, with several objects each ([`ManyScenes`]).
///
/// The held-out part is `val`, else `test`. `FOLDER:test` holds `test` out, `FOLDER:val` `val`, and `FOLDER:train`
/// evaluates on what is learnt from. Single folders around all of it are gone through.
///
/// Boxes are clipped to their pictures and empty ones dropped, both said in `understood`. Where a file of labels cannot be
/// read, [`Source::load`] of its image fails with the reason, so that such images are skipped and listed like pictures that
/// cannot be read.
///
/// [`ManyScenes`]: crate::annotated::ManyScenes
/// [`Source::load`]: crate::Source::load
///
/// # Errors
/// When there are no such labels, or what holds for the whole set is malformed: the message names the file.
pub fn open_boxed(spec: &str) -> Result<BoxedSet, DataError> {
    if let Some(config) = masked::scenes(spec)? {
        return boxes::of_scenes(spec, config);
    }
    boxes::open(&Spec::of(spec))
}

/// Opens a folder of images with a class for every pixel.
///
/// * PASCAL VOC: `JPEGImages`, `SegmentationClass`, `ImageSets/Segmentation`; `train_aug.txt` or `aug.txt` with
///   `SegmentationClassAug` where they are there. Of several years below one folder the newest alone.
/// * Cityscapes: `leftImg8bit/{train,val}/CITY`, `gtFine` (19 classes, all else ignored).
/// * Images and PNG maps of the same names in two folders: `images` and `masks` or `labels`, `train` and `val` above or
///   below, or `train` and `trainannot` as CamVid has them. A map has class numbers (grey or palette) or colours. Classes
///   are named by `classes.txt` (`NAME`, `NUMBER NAME`, `NAME R G B` or `R G B NAME` a line) or a YAML file, else found in
///   the maps. Classes called void, unlabelled or ignore are ignored, and so is the value 255, but in maps of 0 and 255
///   alone, where it is the second class.
/// * COCO's instances, polygons and runs, drawn: 0 is the background, crowds are ignored, smaller objects lie on larger ones.
/// * `scenes`, as for [`open_boxed`]: 0 is the background.
///
/// The held-out part is chosen as for [`open_boxed`].
///
/// # Errors
/// When there are no such maps, or none of those that are checked can be used: the message names the file. A single map that
/// cannot be used is an error of [`LabelMaps::label_map`].
///
/// [`LabelMaps::label_map`]: crate::annotated::LabelMaps::label_map
pub fn open_masked(spec: &str) -> Result<MaskedSet, DataError> {
    if let Some(config) = masked::scenes(spec)? {
        return masked::of_scenes(spec, config);
    }
    masked::open(&Spec::of(spec))
}

/// The largest text file of labels: fifty times the lists of the largest sets.
const MOST_TEXT_BYTES: u64 = 64 << 20;

/// The bytes of a file that has at most so many.
fn read_bytes(path: &Path, most: u64) -> Result<Vec<u8>, DataError> {
    let fail = |reason: String| DataError::Io { path: path.display().to_string(), reason };
    let len = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?.len();
    if len > most {
        return Err(fail(format!("expected at most {most} bytes, found {len}")));
    }
    std::fs::read(path).map_err(|e| fail(e.to_string()))
}

/// The text of a file of labels.
fn read(path: &Path) -> Result<String, DataError> {
    let fail = |reason: String| DataError::Io { path: path.display().to_string(), reason };
    let bytes = read_bytes(path, MOST_TEXT_BYTES)?;
    decoded(&bytes).map_err(fail)
}

/// The error about a file of labels.
fn malformed(path: &Path, reason: impl Into<String>) -> DataError {
    DataError::Records { path: path.display().to_string(), reason: reason.into() }
}

/// The same about one of its lines, counted from 1.
fn malformed_line(path: &Path, line: usize, reason: impl Into<String>) -> DataError {
    DataError::Records { path: format!("{}:{line}", path.display()), reason: reason.into() }
}
