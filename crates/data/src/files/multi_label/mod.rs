//! Images that show any number of classes: PASCAL VOC, YOLO and COCO folders.
//!
//! Only whether an image shows a class matters here, not where.

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use super::annotated::marks::{self, Mark, MarkedPart, MarkedSet, Want};
use super::annotated::spec::Spec;
use super::understood::{Understood, count};
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
    let set = marks::open(&Spec::path(spec), Want::Classes)?;
    let parts = std::iter::once(&set.train).chain(&set.held_out);
    // Its image must not be taken for one without classes.
    if let Some(error) = parts.flat_map(|part| &part.images).find_map(|image| image.marks.as_ref().err()) {
        return Err(error.clone());
    }
    assemble(set)
}

/// Every so many images one is held out, where no part is.
const HELD_OUT: usize = 3;

/// The set, out of what was found. Without a held-out part some images are.
fn assemble(set: MarkedSet) -> Result<MultiLabelSet, DataError> {
    let MarkedSet { root, classes, mut train, held_out, mut understood } = set;
    let test = held_out.unwrap_or_else(|| hold_out(&mut train, &mut understood));
    for part in [&train, &test] {
        let fail = |reason: &str| {
            let reason = format!("{}: {reason}", part.name);
            Err(DataError::Spec { spec: understood.spec.clone(), reason })
        };
        if part.images.is_empty() {
            return fail("expected labelled images, found none");
        }
        if part.images.iter().all(|image| image.marks.as_ref().is_ok_and(Vec::is_empty)) {
            let images = count(part.images.len(), "image", "images");
            return fail(&format!("no labels: none of the {images} shows any class"));
        }
    }
    understood.train = train.info();
    understood.val = Some(test.info());
    let part = |part: &MarkedPart| of_part(&root, part, classes.len());
    let (train, test) = (part(&train), part(&test));
    understood.classes = classes;
    Ok(MultiLabelSet { train, test, understood })
}

/// Takes every third image.
fn hold_out(train: &mut MarkedPart, understood: &mut Understood) -> MarkedPart {
    let images = std::mem::take(&mut train.images);
    let all = images.len();
    let mut test = MarkedPart { name: "held out".into(), images: Vec::new() };
    for (i, image) in images.into_iter().enumerate() {
        if i % HELD_OUT == HELD_OUT - 1 { test.images.push(image) } else { train.images.push(image) }
    }
    understood
        .notes
        .push(format!("no part is held out (val or test): every third image is, {} of {all}", test.images.len()));
    test
}

fn of_part(root: &Path, part: &MarkedPart, classes: usize) -> MultiLabelPart {
    let mut presence = vec![Presence::Absent; part.images.len() * classes];
    for (image, row) in part.images.iter().zip(presence.chunks_exact_mut(classes.max(1))) {
        for mark in image.marks.iter().flatten() {
            // One instance that counts is enough.
            if let Some(shown) = row.get_mut(mark.class).filter(|shown| **shown != Presence::Present) {
                *shown = shown_by(mark);
            }
        }
    }
    MultiLabelPart { source: Arc::new(part.source(root)), presence }
}

fn shown_by(mark: &Mark) -> Presence {
    if mark.is_difficult || mark.is_crowd { Presence::Ignored } else { Presence::Present }
}
