//! Pictures and the files of their maps.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::DecodeLimits;
use super::super::folder::{FolderSource, Part};
use super::boxes::same_shape;
use super::coding::Coding;
use super::map_png::MapPicture;
use super::size::picture_size;
use crate::DataError;
use crate::annotated::{LabelMap, LabelMaps, MaskedPart};

/// A picture and its map, by their whole paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub name: String,
    pub picture: PathBuf,
    pub map: PathBuf,
}

/// Maps in files.
struct MapFiles {
    pairs: Vec<Pair>,
    coding: Arc<Coding>,
    /// Whether maps of another size than their pictures are read at the pictures'.
    is_fitted: bool,
}

impl LabelMaps for MapFiles {
    fn label_map(&self, index: usize) -> Result<LabelMap, DataError> {
        let pair = self.pairs.get(index).ok_or(DataError::OutOfRange { index, len: self.pairs.len() })?;
        let map = MapPicture::read(&pair.map)?;
        let name = pair.map.display().to_string();
        let labels = self.coding.labels(&name, &map)?;
        let size = picture_size(&pair.picture)?;
        fit(&name, LabelMap { width: map.width, height: map.height, labels }, size, self.is_fitted)
    }
}

/// A part out of its pairs.
pub(super) fn part(pairs: Vec<Pair>, coding: &Arc<Coding>, is_fitted: bool) -> MaskedPart {
    let source = pictures(pairs.iter().map(|pair| (pair.name.clone(), pair.picture.clone())).collect());
    MaskedPart {
        source: Arc::new(source),
        maps: Arc::new(MapFiles { pairs, coding: Arc::clone(coding), is_fitted }),
    }
}

/// Pictures by name and whole path.
pub(super) fn pictures(images: Vec<(String, PathBuf)>) -> FolderSource {
    let part = Part { images, classes: None, strays: Vec::new(), note: None };
    part.source(Path::new(""), "", &[], DecodeLimits::default())
}

/// A map at the size of its picture. Where that may be, one of another size and the same shape is read at the pixels nearest to
/// the picture's.
pub(super) fn fit(name: &str, map: LabelMap, size: [u32; 2], is_fitted: bool) -> Result<LabelMap, DataError> {
    let [width, height] = size.map(|side| side as usize);
    if (map.width, map.height) == (width, height) {
        return Ok(map);
    }
    if !is_fitted || !is_same_shape(&map, size) {
        return Err(misfit(name, [map.width, map.height], size));
    }
    let columns: Vec<usize> = (0..width).map(|x| nearest(x, width, map.width)).collect();
    let mut labels = Vec::with_capacity(width * height);
    for y in 0..height {
        let from = nearest(y, height, map.height) * map.width;
        let row = map.labels.get(from..from + map.width).unwrap_or_default();
        labels.extend(columns.iter().map(|x| row.get(*x).copied().unwrap_or(crate::annotated::IGNORED)));
    }
    Ok(LabelMap { width, height, labels })
}

/// The pixel of `from` whose place in its row is nearest to that of pixel `at` of `to`.
pub(super) fn nearest(at: usize, to: usize, from: usize) -> usize {
    ((2 * at + 1) * from / (2 * to.max(1))).min(from.saturating_sub(1))
}

fn is_same_shape(map: &LabelMap, size: [u32; 2]) -> bool {
    match (u32::try_from(map.width), u32::try_from(map.height)) {
        (Ok(width), Ok(height)) => same_shape([width, height], size),
        _ => false,
    }
}

/// The error about a map of another size.
pub(super) fn misfit(name: &str, map: [usize; 2], [width, height]: [u32; 2]) -> DataError {
    let [map_width, map_height] = map;
    DataError::Decode {
        name: name.to_owned(),
        reason: format!(
            "expected a map of {width}x{height} pixels as its picture has, found {map_width}x{map_height}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_read_at_the_nearest_pixels_where_it_may_be() {
        let map = LabelMap { width: 4, height: 2, labels: (0..8).collect() };
        assert_eq!(fit("m", map.clone(), [4, 2], false).unwrap(), map);
        let half = fit("m", map.clone(), [2, 1], true).unwrap();
        assert_eq!((half.width, half.height, half.labels), (2, 1, vec![5, 7]));
        let double = fit("m", map.clone(), [8, 4], true).unwrap();
        assert_eq!(double.labels[..8], [0, 0, 1, 1, 2, 2, 3, 3]);
        assert_eq!(double.labels[24..], [4, 4, 5, 5, 6, 6, 7, 7]);
        for (size, is_fitted) in [([2, 1], false), ([60, 4], true)] {
            let message = fit("a.png", map.clone(), size, is_fitted).unwrap_err().to_string();
            assert!(message.contains("a.png") && message.contains("found 4x2"), "{message}");
        }
    }
}
