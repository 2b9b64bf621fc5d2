//! From what files say of objects to boxes within their pictures.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::super::folder::FolderSource;
use super::super::understood::{PartInfo, Understood, count};
use super::BoxedSet;
use super::marks::{self, Mark, Marked, MarkedPart, MarkedSet, Place, Want};
use super::size::picture_size;
use super::spec::{HeldOut, Spec};
use crate::annotated::{BoxedPart, ManyScenes, ManyScenesConfig, ObjectBox};
use crate::{DataError, Image, Source, Split};

/// Boxes that reach less far out are rounded, not wrong.
const ROUNDED_PX: f64 = 0.5;
/// Sides up to this make a box empty.
const EMPTY_PX: f64 = 1e-5;
/// Fractions of a picture beyond this are pixels.
const FARTHEST: f64 = 2.0;

pub(super) fn open(spec: &Spec<'_>) -> Result<BoxedSet, DataError> {
    let MarkedSet { root, classes, train, held_out, mut understood } = marks::open(spec, Want::Boxes)?;
    if u32::try_from(classes.len()).is_err() || train.images.is_empty() {
        return Err(spec.fails(format!("{}expected images with objects, found none", of(&train.name))));
    }
    let mut told = Told::default();
    let boxed = |part: &MarkedPart, told: &mut Told| of_part(&root, part, told);
    let train_part = boxed(&train, &mut told);
    let val = match spec.held_out {
        // The same images: whoever evaluates them knows them by their source.
        Some(HeldOut::Train) => Some(train_part.clone()),
        _ => held_out.as_ref().filter(|part| !part.images.is_empty()).map(|part| boxed(part, &mut told)),
    };
    told.say(&mut understood);
    if let Some(held_out) = held_out.as_ref().filter(|_| spec.held_out != Some(HeldOut::Train)) {
        let learnt_from: BTreeSet<&Path> = train.images.iter().map(|image| image.file.as_path()).collect();
        let both = held_out.images.iter().filter(|image| learnt_from.contains(image.file.as_path())).count();
        if both > 0 {
            let (pictures, are) = (count(both, "picture", "pictures"), if both == 1 { "is" } else { "are" });
            understood.notes.push(format!("{pictures} {are} in both parts: results on them say little"));
        }
    }
    let objects: usize = train_part.objects.iter().map(Vec::len).sum();
    if objects == 0 {
        let images = count(train.images.len(), "image", "images");
        let why = told.why();
        return Err(spec.fails(format!("{}no boxes: none of the {images} has an object{why}", of(&train.name))));
    }
    let empty = train_part.objects.iter().filter(|objects| objects.is_empty()).count();
    understood.notes.push(format!(
        "{} to learn from; {}",
        count(objects, "object", "objects"),
        match empty {
            0 => "every image has some".to_owned(),
            1 => "1 image has none".to_owned(),
            n => format!("{n} images have none"),
        }
    ));
    understood.train = train.info();
    understood.val = held_out.as_ref().filter(|_| val.is_some()).map(MarkedPart::info);
    understood.classes.clone_from(&classes);
    spec.says_which(held_out.as_ref().filter(|_| val.is_some()).map(|part| part.name.as_str()), &mut understood);
    Ok(BoxedSet { train: train_part, val, classes, understood })
}

/// What is told of boxes, by the names of their images.
#[derive(Default)]
struct Told {
    clipped: Vec<String>,
    empty: Vec<String>,
    untold: Vec<String>,
    /// Images of another size than their labels say, of the same shape.
    scaled: Vec<String>,
    /// Images whose labels cannot be read, with the reason.
    bad: Vec<String>,
}

impl Told {
    fn say(&self, understood: &mut Understood) {
        understood.leave_out("empty box", "empty boxes", &self.empty);
        understood.leave_out("object without a box", "objects without a box", &self.untold);
        understood.leave_out("image with unreadable labels", "images with unreadable labels", &self.bad);
        let mut note = |names: &[String], one: &str, many: &str, what: &str| {
            if let Some(first) = names.first() {
                understood.notes.push(format!("{} {what} (the first in {first})", count(names.len(), one, many)));
            }
        };
        note(&self.clipped, "box", "boxes", "reached beyond the picture and were clipped to it");
        note(
            &self.scaled,
            "picture",
            "pictures",
            "of another size than the labels say, of the same shape: boxes were scaled to them",
        );
    }

    /// Why there are no objects, where that is known.
    fn why(&self) -> String {
        match (self.bad.first(), self.empty.len(), self.untold.len()) {
            (Some(bad), ..) => format!("; the first of {} with unreadable labels: {bad}", self.bad.len()),
            (None, 0, 0) => String::new(),
            (None, empty, untold) => format!("; {empty} boxes are empty, {untold} objects have no box"),
        }
    }

    fn add(&mut self, name: &str, one: &OfImage) {
        let add = |times: usize, list: &mut Vec<String>| {
            list.extend(std::iter::repeat_n(name.to_owned(), times));
        };
        add(one.clipped, &mut self.clipped);
        add(one.empty, &mut self.empty);
        add(one.untold, &mut self.untold);
        add(usize::from(one.scaled), &mut self.scaled);
    }
}

/// What came of one image.
#[derive(Default)]
struct OfImage {
    boxes: Vec<ObjectBox>,
    clipped: usize,
    empty: usize,
    untold: usize,
    scaled: bool,
}

/// A part's name before a reason, where it has one: the whole folder has none.
fn of(part: &str) -> String {
    if part.is_empty() { String::new() } else { format!("{part}: ") }
}

fn of_part(root: &Path, part: &MarkedPart, told: &mut Told) -> BoxedPart {
    let all: Vec<Result<OfImage, DataError>> = part.images.par_iter().map(|image| of_image(root, image)).collect();
    let mut objects = Vec::with_capacity(all.len());
    let mut unreadable = BTreeMap::new();
    for (at, (image, one)) in part.images.iter().zip(all).enumerate() {
        match one {
            Ok(one) => {
                told.add(&image.name, &one);
                objects.push(one.boxes);
            }
            Err(error) => {
                told.bad.push(error.to_string());
                unreadable.insert(at, error);
                objects.push(Vec::new());
            }
        }
    }
    let source = Labelled { pictures: part.source(root), unreadable };
    BoxedPart { source: Arc::new(source), objects: Arc::new(objects) }
}

fn of_image(root: &Path, image: &Marked) -> Result<OfImage, DataError> {
    let mut found = OfImage::default();
    let marks = match &image.marks {
        Ok(marks) => marks,
        Err(error) => return Err(error.clone()),
    };
    if marks.is_empty() {
        return Ok(found);
    }
    // What cannot be opened here cannot be loaded later; that is where it is told.
    let Some(size) = picture_size(&root.join(&image.file)).ok().or(image.told_size) else { return Ok(found) };
    let [width, height] = size.map(f64::from);
    let mut scale = [1.0, 1.0];
    if let Some(told_size) = image.told_size.filter(|told| *told != size) {
        let [told_width, told_height] = told_size;
        if !same_shape(told_size, size) {
            let reason = format!("for {told_width}x{told_height} pixels, the picture has {}x{}", size[0], size[1]);
            return Err(DataError::Decode { name: format!("labels of {}", image.name), reason });
        }
        scale = [width / f64::from(told_width), height / f64::from(told_height)];
        found.scaled = true;
    }
    for mark in marks {
        let edges = match mark.place {
            Place::Untold => {
                found.untold += 1;
                continue;
            }
            Place::Pixels([x1, y1, x2, y2]) => [x1 * scale[0], y1 * scale[1], x2 * scale[0], y2 * scale[1]],
            Place::Fractions(edges) => {
                if edges.iter().any(|edge| edge.abs() > FARTHEST) {
                    let [x1, y1, x2, y2] = edges;
                    let reason = format!(
                        "expected a box in fractions of the picture, 0 to 1; found one from ({x1}, {y1}) to ({x2}, {y2})"
                    );
                    return Err(DataError::Decode { name: format!("labels of {}", image.name), reason });
                }
                let [x1, y1, x2, y2] = edges;
                [x1 * width, y1 * height, x2 * width, y2 * height]
            }
        };
        match clipped(edges, [width, height]) {
            Some((xyxy, is_clipped)) => {
                found.clipped += usize::from(is_clipped);
                found.boxes.push(boxed(mark, xyxy, scale[0] * scale[1]));
            }
            None => found.empty += 1,
        }
    }
    Ok(found)
}

fn boxed(mark: &Mark, xyxy: [f32; 4], scale: f64) -> ObjectBox {
    let area = mark.area.map(|area| area * scale).filter(|area| area.is_finite() && *area >= 0.0);
    ObjectBox {
        class: u32::try_from(mark.class).unwrap_or(u32::MAX),
        xyxy,
        is_difficult: mark.is_difficult,
        is_crowd: mark.is_crowd,
        area_px: area.map(|area| area as f32),
    }
}

/// A box within a picture, and whether it reached beyond it; `None` where nothing of it is inside.
fn clipped([x1, y1, x2, y2]: [f64; 4], [width, height]: [f64; 2]) -> Option<([f32; 4], bool)> {
    let inside = [x1.clamp(0.0, width), y1.clamp(0.0, height), x2.clamp(0.0, width), y2.clamp(0.0, height)];
    let is_clipped = inside.iter().zip([x1, y1, x2, y2]).any(|(inside, told)| (inside - told).abs() > ROUNDED_PX);
    // Not so either where one is no number.
    let is_something = inside[2] - inside[0] > EMPTY_PX && inside[3] - inside[1] > EMPTY_PX;
    is_something.then_some((inside.map(|edge| edge as f32), is_clipped))
}

/// Whether two sizes are one picture's at different scales, sides rounded to whole pixels.
pub(super) fn same_shape([w1, h1]: [u32; 2], [w2, h2]: [u32; 2]) -> bool {
    let (across, along) = (u64::from(w1) * u64::from(h2), u64::from(w2) * u64::from(h1));
    across.abs_diff(along) <= (u64::from(w1) + u64::from(h1)).max(u64::from(w2) + u64::from(h2))
}

/// Pictures, of which those whose labels cannot be read are not to be used.
struct Labelled {
    pictures: FolderSource,
    unreadable: BTreeMap<usize, DataError>,
}

impl Source for Labelled {
    fn len(&self) -> usize {
        self.pictures.len()
    }

    fn load(&self, index: usize) -> Result<Image, DataError> {
        match self.unreadable.get(&index) {
            Some(error) => Err(error.clone()),
            None => self.pictures.load(index),
        }
    }

    fn name(&self, index: usize) -> String {
        self.pictures.name(index)
    }
}

/// The built-in scenes.
pub(super) fn of_scenes(spec: &str, config: ManyScenesConfig) -> Result<BoxedSet, DataError> {
    let part = |split: Split| -> Result<BoxedPart, DataError> {
        let scenes = ManyScenes::new(config.split(split))?;
        let objects = (0..scenes.len()).into_par_iter().map(|i| scenes.objects(i)).collect();
        Ok(BoxedPart { source: Arc::new(scenes), objects: Arc::new(objects) })
    };
    let (train, val) = (part(Split::Train)?, part(Split::Val)?);
    let info = |folder: &str, part: &BoxedPart| PartInfo {
        folder: folder.to_owned(),
        images: part.objects.len(),
        labelled: true,
    };
    let classes = train.source.class_names().to_vec();
    let understood = Understood {
        spec: spec.to_owned(),
        train: info("train", &train),
        val: Some(info("val", &val)),
        classes: classes.clone(),
        ..Understood::default()
    };
    Ok(BoxedSet { train, val: Some(val), classes, understood })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_clipped_and_empty_ones_dropped() {
        let size = [20.0, 10.0];
        assert_eq!(clipped([1.0, 2.0, 20.4, 9.0], size), Some(([1.0, 2.0, 20.0, 9.0], false)));
        assert_eq!(clipped([-1.0, 2.0, 3.0, 1e300], size), Some(([0.0, 2.0, 3.0, 10.0], true)));
        assert_eq!(clipped([21.0, 2.0, 30.0, 4.0], size), None);
        assert_eq!(clipped([5.0, 2.0, 4.0, 4.0], size), None, "its edges change places");
        assert_eq!(clipped([f64::NAN, 0.0, 5.0, 5.0], size), None);
    }

    #[test]
    fn shapes_are_equal_up_to_whole_pixels() {
        assert!(same_shape([640, 427], [320, 214]) && same_shape([640, 427], [320, 213]));
        assert!(same_shape([381, 500], [244, 320]) && !same_shape([640, 480], [480, 640]));
        assert!(!same_shape([640, 480], [320, 230]));
    }
}
