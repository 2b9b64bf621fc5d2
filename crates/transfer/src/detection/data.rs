//! Images with objects to learn from, and others to be tested on.

use std::sync::Arc;

use ocelli_data::Subset;
use ocelli_data::annotated::BoxedPart;
use ocelli_methods::MethodError;
use ocelli_train::{EveryTenth, TrainError};

use crate::{Judged, evenly};

/// What a detector is trained and tested on.
#[derive(Clone)]
pub struct DetectionData {
    /// What is learnt from.
    pub train: BoxedPart,
    /// What is looked at after a span of steps.
    pub val: BoxedPart,
    /// Whether those are the training images.
    pub judged: Judged,
    /// The classes, in the order of their numbers.
    pub classes: Vec<String>,
    /// What a person should know of them.
    pub notes: Vec<String>,
}

impl DetectionData {
    /// A set; where no part of it is held out, every tenth image is.
    ///
    /// # Errors
    /// When there is nothing to learn (no class, no object), an object is of no class, or there are too few images to hold any out.
    pub fn of(train: &BoxedPart, val: Option<&BoxedPart>, classes: &[String]) -> Result<Self, TrainError> {
        let wrong = |expected: String, found: String| {
            TrainError::from(MethodError::Value { key: "data", expected, found })
        };
        if classes.is_empty() {
            return Err(wrong("a set with one class or more".into(), "none".into()));
        }
        let mut notes = Vec::new();
        let (train, val) = match val {
            Some(val) => (train.clone(), val.clone()),
            None => {
                let parts = EveryTenth::of(train.source.len(), "images")?;
                notes.push(parts.note());
                (some_of(train, &parts.train), some_of(train, &parts.held_out))
            }
        };
        for (name, part) in [("train", &train), ("val", &val)] {
            for (image, objects) in part.objects.iter().enumerate() {
                if let Some(object) = objects.iter().find(|o| o.class as usize >= classes.len()) {
                    return Err(wrong(
                        format!("classes below {}", classes.len()),
                        format!("{} in {} ({name})", object.class, part.source.name(image)),
                    ));
                }
            }
        }
        let to_learn = train.objects.iter().flatten().filter(|o| !o.is_crowd).count();
        if to_learn == 0 {
            return Err(wrong("training images with objects".into(), format!("{} without", train.source.len())));
        }
        let without: Vec<&str> = classes
            .iter()
            .enumerate()
            .filter(|(class, _)| !train.objects.iter().flatten().any(|o| o.class as usize == *class))
            .map(|(_, name)| name.as_str())
            .collect();
        if !without.is_empty() {
            notes.push(format!("{} classes have no object to learn from: {}", without.len(), listed(&without)));
        }
        if !val.objects.iter().flatten().any(|o| !o.is_crowd && !o.is_difficult) {
            notes.push("no image to evaluate has an object that counts: there will be no AP".to_owned());
        }
        let judged = Judged::of(&train.source, &val.source);
        notes.extend(judged.note());
        Ok(Self { train, val, judged, classes: classes.to_vec(), notes })
    }

    /// The same with the labels of at most so many training images, evenly spaced: what a network is worth where labels are few.
    /// 0 keeps all.
    pub fn with_few_labels(self, images: usize) -> Self {
        let train = at_most(&self.train, images);
        let val = if self.judged == Judged::Training { train.clone() } else { self.val };
        Self { train, val, ..self }
    }

    /// A number by which images of both parts and classes are known again.
    pub(super) fn names_crc32(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        let mut add = |what: &str, names: &mut dyn Iterator<Item = String>| {
            hasher.update(format!("{what}:\n").as_bytes());
            names.for_each(|name| hasher.update(format!("{name}\n").as_bytes()));
        };
        for (what, part) in [("train", &self.train), ("val", &self.val)] {
            add(what, &mut (0..part.source.len()).map(|i| part.source.name(i)));
        }
        add("classes", &mut self.classes.iter().cloned());
        hasher.finalize()
    }
}

/// The first few names.
fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 8;
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", names[..names.len().min(SHOWN)].join(", "))
}

/// Chosen images of a part.
pub(super) fn some_of(part: &BoxedPart, chosen: &[usize]) -> BoxedPart {
    let objects = chosen.iter().map(|i| part.objects.get(*i).cloned().unwrap_or_default()).collect();
    BoxedPart { source: Arc::new(Subset::new(part.source.clone(), chosen.to_vec())), objects: Arc::new(objects) }
}

/// At most so many images of a part, evenly spaced; 0 keeps all.
pub(super) fn at_most(part: &BoxedPart, limit: usize) -> BoxedPart {
    some_of(part, &evenly(part.source.len(), limit))
}

#[cfg(test)]
pub(super) mod tests {
    use ocelli_data::annotated::ObjectBox;
    use ocelli_data::{SceneConfig, SceneSource, Source};

    use super::*;

    /// Scenes whose object's box is that of its mask.
    pub fn scenes(count: usize, size_px: u32) -> (BoxedPart, Vec<String>) {
        let config = SceneConfig { count, size_px, ..SceneConfig::default() };
        let source: Arc<dyn Source> = Arc::new(SceneSource::new(config).unwrap());
        let boxed = |i: usize| {
            let mask = source.mask(i).unwrap();
            let on = |at: usize| mask.data[at] != 0;
            let (width, height) = (mask.width as usize, mask.height as usize);
            let cols = || (0..width).filter(|x| (0..height).any(|y| on(y * width + x)));
            let rows = || (0..height).filter(|y| (0..width).any(|x| on(y * width + x)));
            let edges = [cols().min(), rows().min(), cols().max().map(|v| v + 1), rows().max().map(|v| v + 1)];
            let xyxy = edges.map(|v| v.unwrap_or(0) as f32);
            vec![ObjectBox { class: source.label(i).unwrap(), xyxy, ..ObjectBox::default() }]
        };
        let objects = Arc::new((0..count).map(boxed).collect());
        let classes = source.class_names().to_vec();
        (BoxedPart { source, objects }, classes)
    }

    #[test]
    fn parts_are_made_and_judged() {
        let (all, classes) = scenes(30, 32);
        let data = DetectionData::of(&all, None, &classes).unwrap();
        assert_eq!((data.train.source.len(), data.val.source.len()), (27, 3));
        assert_eq!(data.val.objects[1], all.objects[19]);
        assert_eq!(data.val.source.name(1), all.source.name(19));
        assert!(data.notes.iter().any(|n| n.contains("every tenth image")), "{:?}", data.notes);
        let given = DetectionData::of(&all, Some(&at_most(&all, 7)), &classes).unwrap();
        assert_eq!((given.train.source.len(), given.val.source.len()), (30, 7));
        let few = given.with_few_labels(10);
        assert_eq!((few.train.source.len(), few.val.source.len()), (10, 7));
        assert_eq!((few.train.source.name(3), &few.train.objects[3]), (all.source.name(9), &all.objects[9]));
        let message = |train: &BoxedPart, classes: &[String]| {
            DetectionData::of(train, Some(&all), classes).err().unwrap().to_string()
        };
        assert!(message(&all, &[]).contains("one class or more"));
        assert!(message(&all, &classes[..1]).contains("classes below 1"));
        let empty = BoxedPart { objects: Arc::new(vec![Vec::new(); 30]), ..all.clone() };
        assert!(message(&empty, &classes).contains("30 without"));
        let few = some_of(&all, &[0, 1]);
        assert!(DetectionData::of(&few, None, &classes).err().unwrap().to_string().contains("held-out part"));
    }
}
