//! COCO's instances as label maps: outlines drawn when a map is asked for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::listing::Listing;
use super::super::understood::{PartInfo, Understood};
use super::boxes::same_shape;
use super::coco::{self, Instances, Listed, Read};
use super::coco_json::Outline;
use super::map_files::pictures;
use super::masked::voc_palette;
use super::outline::{Canvas, area, unpacked};
use super::size::picture_size;
use super::spec::{HeldOut, Spec};
use super::{MaskedSet, malformed};
use crate::DataError;
use crate::annotated::{IGNORED, LabelMap, LabelMaps, MaskedPart};

/// An object that is drawn.
struct Drawn {
    class: u8,
    outline: Outline,
    /// Larger ones are drawn first, so that what lies on them is seen.
    area: f64,
}

/// An image's objects in the order of drawing.
struct Objects {
    picture: PathBuf,
    told_size: Option<[u32; 2]>,
    drawn: Result<Vec<Drawn>, DataError>,
}

struct CocoMaps {
    images: Vec<Objects>,
}

impl LabelMaps for CocoMaps {
    fn label_map(&self, index: usize) -> Result<LabelMap, DataError> {
        let image = self.images.get(index).ok_or(DataError::OutOfRange { index, len: self.images.len() })?;
        let drawn = match &image.drawn {
            Ok(drawn) => drawn,
            Err(error) => return Err(error.clone()),
        };
        let size = picture_size(&image.picture)?;
        draw(drawn, image.told_size, size)
            .map_err(|reason| malformed(&image.picture, format!("its objects: {reason}")))
    }
}

/// The map of an image of this size, whose objects were outlined in another.
fn draw(objects: &[Drawn], told_size: Option<[u32; 2]>, size: [u32; 2]) -> Result<LabelMap, String> {
    let told = told_size.unwrap_or(size);
    let [width, height] = size.map(|side| side as usize);
    let odd = |[told_width, told_height]: [u64; 2]| {
        format!("outlined in {told_width}x{told_height} pixels, the picture has {width}x{height}")
    };
    if !same_shape(told, size) {
        return Err(odd(told.map(u64::from)));
    }
    let scale = [0, 1].map(|axis| f64::from(size[axis]) / f64::from(told[axis]));
    let mut canvas = Canvas::new(width, height);
    for Drawn { class, outline, .. } in objects {
        let runs = |[high, wide]: [u64; 2]| match (u32::try_from(wide), u32::try_from(high)) {
            (Ok(w), Ok(h)) if same_shape([w, h], size) => Ok([high, wide]),
            _ => Err(odd([wide, high])),
        };
        match outline {
            Outline::Untold => {}
            Outline::TooLong => return Err("an outline of more numbers than are believed".to_owned()),
            Outline::Polygons(polygons) => {
                polygons.iter().try_for_each(|points| canvas.polygon(points, scale, *class))?;
            }
            Outline::Runs { size, counts } => canvas.runs(counts, runs(*size)?, *class)?,
            Outline::PackedRuns { size, counts } => canvas.runs(&unpacked(counts)?, runs(*size)?, *class)?,
        }
    }
    Ok(LabelMap { width, height, labels: canvas.into_labels() })
}

pub(super) fn open(spec: &Spec<'_>, listing: &Listing, instances: &[Instances]) -> Result<MaskedSet, DataError> {
    let Read { classes, train, held_out, mut understood } = coco::read::<Outline>(spec, listing, instances)?;
    // 255 is none, 0 the background.
    let most = usize::from(IGNORED) - 1;
    if classes.len() > most {
        let found = classes.len();
        return Err(spec.fails(format!("expected at most {most} categories beside the background, found {found}")));
    }
    understood
        .notes
        .push("0 is the background; crowds are ignored; smaller objects are drawn onto larger ones".to_owned());
    let mut untold = Vec::new();
    let mut part = |(name, images): (String, Vec<Listed<Outline>>), understood: &mut Understood| {
        let info = PartInfo { folder: name, images: images.len(), labelled: true };
        let empty = images.iter().filter(|image| image.objects.as_ref().is_ok_and(Vec::is_empty)).count();
        if empty > 0 {
            understood.notes.push(format!("{}: {empty} of {} images have no object", info.folder, info.images));
        }
        (info, of_images(spec.path, images, &mut untold))
    };
    let (train_info, (train, drawn)) = part(train, &mut understood);
    if drawn == 0 {
        return Err(spec.fails(format!("{}: no object has a segmentation", train_info.folder)));
    }
    let mut val = held_out.map(|held_out| part(held_out, &mut understood));
    understood.leave_out("object without an outline", "objects without an outline", &untold);
    if spec.held_out == Some(HeldOut::Train) {
        val = Some((train_info.clone(), (train.clone(), drawn)));
    }
    let names: Vec<String> = std::iter::once("background".to_owned()).chain(classes).collect();
    understood.train = train_info;
    understood.val = val.as_ref().map(|(info, _)| info.clone());
    understood.classes.clone_from(&names);
    spec.says_which(val.as_ref().map(|(info, _)| info.folder.as_str()), &mut understood);
    let val = val.map(|(_, (part, _))| part);
    Ok(MaskedSet { train, val, palette: voc_palette(names.len()), classes: names, understood })
}

/// A part, and how many of its objects are drawn.
fn of_images(root: &Path, images: Vec<Listed<Outline>>, untold: &mut Vec<String>) -> (MaskedPart, usize) {
    let named = images.iter().map(|image| (image.name.clone(), root.join(&image.file))).collect();
    let mut count = 0;
    let objects = images.into_iter().map(|image| {
        let drawn = image.objects.map(|objects| {
            let all = objects.len();
            let mut drawn: Vec<Drawn> = objects
                .into_iter()
                .filter_map(|(class, entry)| {
                    let area = match &entry.segmentation {
                        Outline::Untold => return None,
                        Outline::Polygons(polygons) => area(polygons),
                        Outline::Runs { counts, .. } => on(counts),
                        Outline::PackedRuns { counts, .. } => {
                            unpacked(counts).map(|counts| on(&counts)).unwrap_or_default()
                        }
                        Outline::TooLong => 0.0,
                    };
                    let class = if entry.iscrowd.is_set() { IGNORED } else { class as u8 + 1 };
                    Some(Drawn { class, outline: entry.segmentation, area })
                })
                .collect();
            untold.extend(std::iter::repeat_n(image.name.clone(), all - drawn.len()));
            count += drawn.len();
            drawn.sort_by(|a, b| b.area.total_cmp(&a.area));
            drawn
        });
        Objects { picture: root.join(&image.file), told_size: image.told_size, drawn }
    });
    let maps = CocoMaps { images: objects.collect() };
    (MaskedPart { source: Arc::new(pictures(named)), maps: Arc::new(maps) }, count)
}

/// Pixels of the runs that are on.
fn on(counts: &[u32]) -> f64 {
    counts.iter().skip(1).step_by(2).map(|count| f64::from(*count)).sum()
}
