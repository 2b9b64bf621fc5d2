//! Images with a class for every pixel, as a fine-tuning wants them, and the classes' colours.

use std::sync::Arc;

use ocelli_data::annotated::{IGNORED, LabelMap, LabelMaps, MaskedPart};
use ocelli_data::files::voc_colour;
use ocelli_data::{DataError, MaskedSet, Subset};
use ocelli_eval::EvalError;
use ocelli_eval::picture::{Picture, Rgb};
use ocelli_eval::segmentation::drawing::bright;
use ocelli_train::{EveryTenth, TrainError};

use crate::{Judged, evenly};

/// Colour of pixels without a class: PASCAL VOC's void.
const VOID: Rgb = [224, 224, 192];

/// Images to learn from and others to segment.
#[derive(Clone)]
pub struct SegmentedData {
    /// What is learnt from.
    pub train: MaskedPart,
    /// What is segmented after every epoch of the loop, where there is something.
    pub val: Option<MaskedPart>,
    /// The classes, in the order of their numbers.
    pub classes: Vec<String>,
    /// A colour for each of them.
    pub palette: Vec<Rgb>,
    /// What a person should know of them.
    pub notes: Vec<String>,
}

impl SegmentedData {
    /// Data whose classes have the colours of [`palette`].
    pub fn new(train: MaskedPart, val: Option<MaskedPart>, classes: Vec<String>) -> Self {
        let palette = palette(classes.len());
        Self { train, val, classes, palette, notes: Vec::new() }
    }

    /// Whether the images that are segmented are the training images.
    pub fn judged(&self) -> Judged {
        self.val.as_ref().map_or_else(Judged::default, |val| Judged::of(&self.train.source, &val.source))
    }
}

impl SegmentedData {
    /// A set with the classes' own colours. Where no part of it is held out, every tenth image is.
    ///
    /// # Errors
    /// When there are too few images to hold any out.
    pub fn of(set: &MaskedSet) -> Result<Self, TrainError> {
        let (classes, palette) = (set.classes.clone(), set.palette.clone());
        let has_val = set.val.as_ref().is_some_and(|val| !val.source.is_empty());
        if has_val {
            let (train, val) = (set.train.clone(), set.val.clone());
            return Ok(Self { train, val, classes, palette, notes: Vec::new() });
        }
        let parts = EveryTenth::of(set.train.source.len(), "images")?;
        let notes = vec![parts.note()];
        let (train, val) = (some_of(&set.train, parts.train), Some(some_of(&set.train, parts.held_out)));
        Ok(Self { train, val, classes, palette, notes })
    }

    /// The same with the labels of at most so many training images, evenly spaced: what a network is worth where labels are few.
    /// 0 keeps all.
    pub fn with_few_labels(self, images: usize) -> Self {
        let train = some_of(&self.train, evenly(self.train.source.len(), images));
        let val = if self.judged() == Judged::Training { Some(train.clone()) } else { self.val };
        Self { train, val, ..self }
    }
}

/// Images of a part by their numbers, with their maps.
fn some_of(part: &MaskedPart, indices: Vec<usize>) -> MaskedPart {
    let maps = SomeMaps { maps: part.maps.clone(), indices: indices.clone() };
    MaskedPart { source: Arc::new(Subset::new(part.source.clone(), indices)), maps: Arc::new(maps) }
}

struct SomeMaps {
    maps: Arc<dyn LabelMaps>,
    indices: Vec<usize>,
}

impl LabelMaps for SomeMaps {
    fn label_map(&self, index: usize) -> Result<LabelMap, DataError> {
        let len = self.indices.len();
        let at = self.indices.get(index).ok_or(DataError::OutOfRange { index, len })?;
        self.maps.label_map(*at)
    }
}

/// PASCAL VOC's colours for so many classes; the first is black.
pub fn palette(classes: usize) -> Vec<Rgb> {
    (0..classes).map(voc_colour).collect()
}

/// A label map in the classes' colours, as bright as they get.
///
/// # Errors
/// When it is empty, or has not as many labels as pixels.
pub fn painted(map: &LabelMap, palette: &[Rgb]) -> Result<Picture, EvalError> {
    let colour = |label: &u8| match *label {
        IGNORED => VOID,
        label if usize::from(label) < palette.len() => bright(palette, label),
        _ => VOID,
    };
    Picture::new(map.width, map.height, map.labels.iter().flat_map(colour).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_pascals() {
        let all = palette(21);
        assert_eq!(all[..4], [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]);
        assert_eq!((all[8], all[15], all[20]), ([64, 0, 0], [192, 128, 128], [0, 64, 128]));
        let many: std::collections::BTreeSet<Rgb> = palette(255).into_iter().collect();
        assert_eq!(many.len(), 255);
    }

    #[test]
    fn maps_are_painted() {
        let map = LabelMap { width: 3, height: 1, labels: vec![1, IGNORED, 7] };
        let picture = painted(&map, &palette(2)).unwrap();
        let at = |x| picture.get(x, 0).unwrap();
        assert_eq!([at(0), at(1), at(2)], [[255, 0, 0], VOID, VOID]);
        assert!(painted(&LabelMap { width: 2, ..map }, &palette(2)).is_err());
    }
}
