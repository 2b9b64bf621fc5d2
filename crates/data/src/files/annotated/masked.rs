//! Opening sets of label maps: which layout it is, and what all layouts share.

use std::sync::Arc;

use super::super::listing::Listing;
use super::super::understood::{PartInfo, Understood};
use super::coding::Coding;
use super::look::Look;
use super::map_files::{Pair, part};
use super::palettes::voc_colour;
use super::spec::{HeldOut, Spec};
use super::{MaskedSet, coco, coco_maps, masked_pairs, masked_trees, voc};
use crate::annotated::{ManyScenes, ManyScenesConfig, MaskedPart};
use crate::{DataError, Split};

pub(super) fn open(spec: &Spec<'_>) -> Result<MaskedSet, DataError> {
    if !spec.path.is_dir() {
        let found = if spec.path.exists() { "a file" } else { "no such file or folder" };
        return Err(spec.fails(format!("expected a folder of images and label maps, found {found}")));
    }
    if let Some(root) = voc::find(spec.path, &[masked_trees::CITIES]).first() {
        return masked_trees::cityscapes(spec, root);
    }
    let roots = voc::find(spec.path, &masked_trees::SEGMENTATION);
    if !roots.is_empty() {
        return masked_trees::voc(spec, &roots);
    }
    let listing = Listing::with_drawn(spec.path)?;
    if listing.images.is_empty() {
        return Err(listing.no_images(spec.path));
    }
    if let Some(found) = masked_pairs::find(spec, &listing)? {
        return finish(spec, found, |look, understood| {
            listing.tell_briefly(understood);
            masked_pairs::classes(spec, &listing, look, understood)
        });
    }
    let instances = coco::find(&listing);
    if !instances.is_empty() {
        return coco_maps::open(spec, &listing, &instances);
    }
    Err(masked_pairs::none(spec, &listing))
}

/// A part's name and its pairs.
pub(super) type NamedPairs = (String, Vec<Pair>);

/// What a layout found.
pub(super) struct Found {
    pub train: NamedPairs,
    pub held_out: Option<NamedPairs>,
    pub understood: Understood,
}

/// Classes, a colour for each, and what stands for them in maps.
pub(super) struct Classes {
    pub names: Vec<String>,
    pub palette: Vec<[u8; 3]>,
    pub coding: Coding,
}

/// The colours of PASCAL VOC for so many classes.
pub(super) fn voc_palette(classes: usize) -> Vec<[u8; 3]> {
    (0..classes).map(voc_colour).collect()
}

/// Looks at the maps, finds their classes, and makes the set.
pub(super) fn finish(
    spec: &Spec<'_>,
    found: Found,
    classes: impl FnOnce(&Look, &mut Understood) -> Result<Classes, DataError>,
) -> Result<MaskedSet, DataError> {
    let Found { train, held_out, mut understood } = found;
    if train.1.is_empty() {
        return Err(spec.fails(format!("{}: expected images with label maps, found none", train.0)));
    }
    let mut held_out = held_out.filter(|(_, pairs)| !pairs.is_empty());
    let looked_at: Vec<&[Pair]> = std::iter::once(&train).chain(&held_out).map(|(_, pairs)| &**pairs).collect();
    let look = Look::at(&looked_at);
    let Classes { names, palette, coding } = classes(&look, &mut understood)?;
    let is_fitted = look.judge(spec, &coding, &mut understood)?;
    if spec.held_out == Some(HeldOut::Train) {
        held_out = Some(train.clone());
    }
    understood.train = info(&train);
    understood.val = held_out.as_ref().map(info);
    understood.classes.clone_from(&names);
    spec.says_which(held_out.as_ref().map(|(folder, _)| folder.as_str()), &mut understood);
    let coding = Arc::new(coding);
    let made = |(_, pairs): NamedPairs| part(pairs, &coding, is_fitted);
    let train = made(train);
    let val = match spec.held_out {
        // The same images: whoever evaluates them knows them by their source.
        Some(HeldOut::Train) => Some(train.clone()),
        _ => held_out.map(made),
    };
    Ok(MaskedSet { train, val, classes: names, palette, understood })
}

fn info((folder, pairs): &NamedPairs) -> PartInfo {
    PartInfo { folder: folder.clone(), images: pairs.len(), labelled: true }
}

/// The most scenes whose boxes are found when a set is opened.
const MOST_SCENES: usize = 100_000;

/// `None` where the text does not name the built-in scenes.
pub(super) fn scenes(spec: &str) -> Result<Option<ManyScenesConfig>, DataError> {
    let mut parts = spec.split(':');
    // A folder called `scenes` is reached as `./scenes`.
    if parts.next() != Some("scenes") {
        return Ok(None);
    }
    let mut config = ManyScenesConfig::default();
    let fail = || DataError::Spec {
        spec: spec.to_owned(),
        reason: format!("expected scenes, scenes:COUNT or scenes:COUNT:SIZE, with at most {MOST_SCENES} scenes"),
    };
    if let Some(count) = parts.next() {
        config.count = count.parse().ok().filter(|count| *count <= MOST_SCENES).ok_or_else(fail)?;
    }
    if let Some(size) = parts.next() {
        config.size_px = size.parse().map_err(|_| fail())?;
    }
    if parts.next().is_some() {
        return Err(fail());
    }
    Ok(Some(config))
}

/// The built-in scenes.
pub(super) fn of_scenes(spec: &str, config: ManyScenesConfig) -> Result<MaskedSet, DataError> {
    let part = |split: Split| -> Result<MaskedPart, DataError> {
        let scenes = Arc::new(ManyScenes::new(config.split(split))?);
        Ok(MaskedPart { source: scenes.clone(), maps: scenes })
    };
    let (train, val) = (part(Split::Train)?, part(Split::Val)?);
    let info = |folder: &str, part: &MaskedPart| PartInfo {
        folder: folder.to_owned(),
        images: part.source.len(),
        labelled: true,
    };
    let classes: Vec<String> =
        std::iter::once("background".to_owned()).chain(train.source.class_names().iter().cloned()).collect();
    let understood = Understood {
        spec: spec.to_owned(),
        train: info("train", &train),
        val: Some(info("val", &val)),
        classes: classes.clone(),
        ..Understood::default()
    };
    Ok(MaskedSet { palette: voc_palette(classes.len()), train, val: Some(val), classes, understood })
}
