//! Classes and colours of well-known sets.

/// PASCAL VOC's colour of a number: its bits dealt out to red, green and blue, the lowest to the highest.
pub fn voc_colour(number: usize) -> [u8; 3] {
    let mut colour = [0; 3];
    let mut bits = number;
    for shift in (0..8).rev() {
        for channel in &mut colour {
            *channel |= ((bits & 1) as u8) << shift;
            bits >>= 1;
        }
    }
    colour
}

/// PASCAL VOC's classes, the background first.
pub const VOC: [&str; 21] = [
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
];
/// The colour of VOC's pixels that are not labelled, in maps without a palette.
pub(super) const VOC_VOID: [u8; 3] = [224, 224, 192];

/// A class of Cityscapes by its training number: its number in `labelIds` maps, name and colour.
pub(super) const CITYSCAPES: [(u8, &str, [u8; 3]); 19] = [
    (7, "road", [128, 64, 128]),
    (8, "sidewalk", [244, 35, 232]),
    (11, "building", [70, 70, 70]),
    (12, "wall", [102, 102, 156]),
    (13, "fence", [190, 153, 153]),
    (17, "pole", [153, 153, 153]),
    (19, "traffic light", [250, 170, 30]),
    (20, "traffic sign", [220, 220, 0]),
    (21, "vegetation", [107, 142, 35]),
    (22, "terrain", [152, 251, 152]),
    (23, "sky", [70, 130, 180]),
    (24, "person", [220, 20, 60]),
    (25, "rider", [255, 0, 0]),
    (26, "car", [0, 0, 142]),
    (27, "truck", [0, 0, 70]),
    (28, "bus", [0, 60, 100]),
    (31, "train", [0, 80, 100]),
    (32, "motorcycle", [0, 0, 230]),
    (33, "bicycle", [119, 11, 32]),
];
/// The largest number in Cityscapes' `labelIds` maps.
pub(super) const CITYSCAPES_LAST: usize = 33;

/// The eleven classes that CamVid is evaluated on, with its colours; 11 is what is not labelled.
pub(super) const CAMVID: [(&str, [u8; 3]); 11] = [
    ("sky", [128, 128, 128]),
    ("building", [128, 0, 0]),
    ("pole", [192, 192, 128]),
    ("road", [128, 64, 128]),
    ("pavement", [0, 0, 192]),
    ("tree", [128, 128, 0]),
    ("sign_symbol", [192, 128, 128]),
    ("fence", [64, 64, 128]),
    ("car", [64, 0, 128]),
    ("pedestrian", [64, 64, 0]),
    ("bicyclist", [0, 128, 192]),
];

/// Names of what is no class: such pixels are ignored.
const VOID: [&str; 10] = [
    "void",
    "unlabelled",
    "unlabeled",
    "ignore",
    "ignored",
    "ignore_index",
    "unknown",
    "no label",
    "not labelled",
    "unclassified",
];

/// Whether a name is one of what is no class.
pub(super) fn is_void(name: &str) -> bool {
    VOID.contains(&name.trim().to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_the_published_ones() {
        let first: Vec<[u8; 3]> = (0..4).map(voc_colour).collect();
        assert_eq!(first, [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]);
        assert_eq!((voc_colour(15), voc_colour(20), voc_colour(255)), ([192, 128, 128], [0, 64, 128], VOC_VOID));
        let numbers: Vec<u8> = CITYSCAPES.iter().map(|(number, ..)| *number).collect();
        assert!(numbers.is_sorted() && numbers.last() == Some(&33));
        assert!(is_void("Unlabelled") && is_void("void") && !is_void("background"));
    }
}
