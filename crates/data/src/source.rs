//! What a data set is to the rest of the program: a numbered list of images, perhaps with labels and masks.

use crate::{DataError, Image, Mask};

/// A numbered list of images that any thread may read.
pub trait Source: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// True when there is no sample.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The image of a sample. The same index always gives the same bytes.
    ///
    /// # Errors
    /// When the index is out of range or the image cannot be read; the message names the sample.
    fn load(&self, index: usize) -> Result<Image, DataError>;

    /// The class of a sample, an index into [`class_names`](Self::class_names); `None` when unlabelled.
    fn label(&self, _index: usize) -> Option<u32> {
        None
    }

    /// A name for messages and tables: the path relative to the root, or `scene-000012`.
    fn name(&self, index: usize) -> String;

    /// The classes in label order; empty when unlabelled.
    fn class_names(&self) -> &[String] {
        &[]
    }

    /// The exact object mask of a sample, where the source knows it.
    fn mask(&self, _index: usize) -> Option<Mask> {
        None
    }
}

/// Which part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// What is learnt from.
    Train,
    /// What is held out.
    Val,
}
