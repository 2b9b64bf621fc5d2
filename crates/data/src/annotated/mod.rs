//! Images with objects or with a class for every pixel: what detection and segmentation learn from.
//!
//! Readers of folders are in `files::annotated`; here is what they give, and the built-in scenes, whose exact masks make both
//! kinds without any download.
//!
//! ```
//! use ocelli_data::annotated::{LabelMaps, ManyScenes, ManyScenesConfig};
//!
//! let scenes = ManyScenes::new(ManyScenesConfig { count: 4, size_px: 64, ..ManyScenesConfig::default() })?;
//! let map = scenes.label_map(2)?;
//! assert_eq!((map.width, map.height, map.labels.len()), (64, 64, 64 * 64));
//! for object in scenes.objects(2) {
//!     let [x1, y1, x2, y2] = object.xyxy;
//!     assert!(0.0 <= x1 && x1 < x2 && x2 <= 64.0 && 0.0 <= y1 && y1 < y2 && y2 <= 64.0);
//!     // 0 is where no object is.
//!     assert!(map.labels.iter().any(|label| u32::from(*label) == object.class + 1));
//! }
//! # Ok::<(), ocelli_data::DataError>(())
//! ```

mod scenes;

use std::sync::Arc;

pub use scenes::{ManyScenes, ManyScenesConfig};

use crate::{DataError, Source};

/// Labels that stand for no class: such pixels are neither learnt from nor counted.
pub const IGNORED: u8 = 255;

/// An object of an image.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ObjectBox {
    /// Its class, an index into the part's class names.
    pub class: u32,
    /// `[x1, y1, x2, y2]` in pixels of the image as it is stored, edges (not pixel centres): a box over the whole of a
    /// picture of 640 × 480 is `[0, 0, 640, 480]`.
    pub xyxy: [f32; 4],
    /// VOC's difficult objects: trained on, not counted in an evaluation.
    pub is_difficult: bool,
    /// COCO's crowds: neither trained on nor counted.
    pub is_crowd: bool,
    /// Area by which COCO's small, medium and large are told, pixels² (its mask's where there is one); none: the box's.
    pub area_px: Option<f32>,
}

/// A class for every pixel of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelMap {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Classes, row by row; [`IGNORED`] is none.
    pub labels: Vec<u8>,
}

/// Images and the objects in them.
#[derive(Clone)]
pub struct BoxedPart {
    /// The images; [`Source::class_names`] may be empty, the classes are the set's.
    pub source: Arc<dyn Source>,
    /// The objects of each image, as many lists as images; an image may have none.
    pub objects: Arc<Vec<Vec<ObjectBox>>>,
}

/// Label maps by number of the image.
pub trait LabelMaps: Send + Sync {
    /// The map of an image. The same index always gives the same labels.
    ///
    /// # Errors
    /// When it cannot be read, has another size than the image, or holds a value that is no class; the message names the file.
    fn label_map(&self, index: usize) -> Result<LabelMap, DataError>;
}

/// Images and a class for each of their pixels.
#[derive(Clone)]
pub struct MaskedPart {
    /// The images.
    pub source: Arc<dyn Source>,
    /// Their labels, by the same numbers.
    pub maps: Arc<dyn LabelMaps>,
}
