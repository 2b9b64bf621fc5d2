//! Some images of a source, as a source of their own.

use std::sync::Arc;

use crate::{DataError, Image, Mask, Source};

/// Chosen images of a source under their own names, numbered from 0 in the order they were chosen.
pub struct Subset {
    source: Arc<dyn Source>,
    indices: Vec<usize>,
}

impl Subset {
    /// The images of these numbers. A number the source does not have is an image that cannot be read.
    pub fn new(source: Arc<dyn Source>, indices: Vec<usize>) -> Self {
        Self { source, indices }
    }

    /// The images that have a label; the source itself where all have one.
    pub fn labelled(source: &Arc<dyn Source>) -> Arc<dyn Source> {
        let labelled: Vec<usize> = (0..source.len()).filter(|i| source.label(*i).is_some()).collect();
        if labelled.len() == source.len() {
            return source.clone();
        }
        Arc::new(Self::new(source.clone(), labelled))
    }

    fn at(&self, index: usize) -> usize {
        self.indices.get(index).copied().unwrap_or(usize::MAX)
    }
}

impl Source for Subset {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn load(&self, index: usize) -> Result<Image, DataError> {
        match self.indices.get(index) {
            Some(&at) => self.source.load(at),
            None => Err(DataError::OutOfRange { index, len: self.len() }),
        }
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.source.label(*self.indices.get(index)?)
    }

    fn name(&self, index: usize) -> String {
        self.source.name(self.at(index))
    }

    fn class_names(&self) -> &[String] {
        self.source.class_names()
    }

    fn mask(&self, index: usize) -> Option<Mask> {
        self.source.mask(*self.indices.get(index)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SceneConfig, SceneSource};

    #[test]
    fn images_are_those_of_the_source() {
        let config = SceneConfig { count: 12, size_px: 32, ..SceneConfig::default() };
        let all: Arc<dyn Source> = Arc::new(SceneSource::new(config).unwrap());
        let some = Subset::new(all.clone(), vec![7, 2]);
        assert_eq!((some.len(), some.class_names()), (2, all.class_names()));
        assert_eq!(some.load(0).unwrap(), all.load(7).unwrap());
        assert_eq!((some.label(1), some.name(1)), (all.label(2), all.name(2)));
        assert!(some.load(2).is_err() && some.label(2).is_none() && some.mask(2).is_none());
        assert_eq!(Subset::labelled(&all).len(), 12);
    }
}
