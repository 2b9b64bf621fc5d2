//! PASCAL VOC's and Cityscapes' trees of label maps.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::listing::Listing;
use super::super::understood::Understood;
use super::class_list::ClassList;
use super::coding::Coding;
use super::map_files::Pair;
use super::masked::{Classes, Found, NamedPairs, finish, voc_palette};
use super::palettes::{CITYSCAPES, CITYSCAPES_LAST, VOC, VOC_VOID, voc_colour};
use super::spec::{HeldOut, Spec};
use super::splits::{Role, role};
use super::voc::{Years, ids, image_files};
use super::{MaskedSet, masked_pairs};
use crate::DataError;
use crate::annotated::IGNORED;

const SETS: &str = "ImageSets/Segmentation";
const MAPS: &str = "SegmentationClass";
const MORE_MAPS: &str = "SegmentationClassAug";
/// Folders one of which makes a VOC folder with label maps.
pub(super) const SEGMENTATION: [&str; 3] = [MAPS, MORE_MAPS, SETS];

/// VOC: the lists of one or more years.
pub(super) fn voc(spec: &Spec<'_>, roots: &[PathBuf]) -> Result<MaskedSet, DataError> {
    let years = Years::of(spec.path, roots);
    let mut understood =
        Understood { spec: spec.text.to_owned(), root: years.root.display().to_string(), ..Understood::default() };
    let any = |name: &str| roots.iter().any(|root| has(root, name));
    let held_out = match spec.held_out {
        Some(asked @ (HeldOut::Val | HeldOut::Test)) => Some(asked.word()).filter(|name| any(name)),
        Some(HeldOut::Train) | None => ["val", "test"].into_iter().find(|name| any(name)),
    };
    if held_out.is_none() {
        spec.lacks(
            &["train", "trainval", "val", "test"].into_iter().filter(|name| any(name)).collect::<Vec<_>>(),
        )?;
    }
    let mut train: NamedPairs = Default::default();
    let mut test: NamedPairs = Default::default();
    let (mut train_names, mut missing) = (BTreeSet::new(), Vec::new());
    for (folder, prefix) in &years.folders {
        let files = image_files(spec, folder)?;
        let mut pairs = |list: &str, maps: [&str; 2]| -> Result<Vec<Pair>, DataError> {
            let mut found = Vec::new();
            for id in ids(&folder.join(SETS).join(format!("{list}.txt")))? {
                let name = Years::name(prefix, &id);
                let map =
                    maps.iter().map(|maps| folder.join(maps).join(format!("{id}.png"))).find(|p| p.is_file());
                match (files.get(&id), map) {
                    (Some(file), Some(map)) => found.push(Pair { name, picture: folder.join(file), map }),
                    _ => missing.push(name),
                }
            }
            Ok(found)
        };
        for list in train_lists(folder, held_out) {
            train_names.insert(list);
            let is_more = list.contains("aug");
            train.1.extend(pairs(list, if is_more { [MORE_MAPS, MAPS] } else { [MAPS, MORE_MAPS] })?);
        }
        if let Some(list) = held_out.filter(|list| has(folder, list)) {
            test.1.extend(pairs(list, [MAPS, MORE_MAPS])?);
        }
    }
    if train_names.is_empty() {
        let shown = years.root.join(SETS).display().to_string();
        return Err(
            spec.fails(format!("expected lists of images, {shown}/train.txt and val.txt; found no train.txt"))
        );
    }
    train.0 = train_names.into_iter().collect::<Vec<_>>().join(", ");
    test.0 = held_out.unwrap_or_default().to_owned();
    understood.leave_out(
        "listed image without a file or a map",
        "listed images without a file or a map",
        &missing,
    );
    keep_apart(&mut train.1, &test.1, &mut understood);
    let found = Found { train, held_out: held_out.map(|_| test), understood };
    let root = years.folders.first().map_or(years.root, |(folder, _)| *folder);
    finish(spec, found, |look, understood| match ClassList::directly_in(root)? {
        Some(list) => masked_pairs::listed(spec, &list, look, understood),
        None => {
            let mut coding = Coding::plain(VOC.len());
            coding.by_colour = (0..VOC.len()).map(|class| (voc_colour(class), class as u8)).collect();
            coding.by_colour.insert(VOC_VOID, IGNORED);
            Ok(Classes { names: VOC.map(str::to_owned).to_vec(), palette: voc_palette(VOC.len()), coding })
        }
    })
}

fn has(root: &Path, list: &str) -> bool {
    root.join(SETS).join(format!("{list}.txt")).is_file()
}

/// The lists to learn from: with the maps that were drawn later where these are there.
fn train_lists(folder: &Path, held_out: Option<&str>) -> Vec<&'static str> {
    let has = |list: &&str| has(folder, list);
    let has_more = folder.join(MORE_MAPS).is_dir();
    if let Some(list) = ["train_aug", "trainaug"].into_iter().find(|list| has_more && has(list)) {
        return vec![list];
    }
    let plain: &[&str] = if held_out == Some("val") { &["train"] } else { &["trainval", "train", "default"] };
    let mut lists: Vec<&str> = plain.iter().copied().find(has).into_iter().collect();
    lists.extend(["aug"].into_iter().filter(|list| has_more && has(list)));
    lists
}

/// Takes out of what is learnt from what is held out, and what is there twice.
fn keep_apart(train: &mut Vec<Pair>, held_out: &[Pair], understood: &mut Understood) {
    let apart: BTreeSet<&str> = held_out.iter().map(|pair| pair.name.as_str()).collect();
    let (mut seen, mut both) = (BTreeSet::new(), Vec::new());
    train.retain(|pair| {
        let is_apart = apart.contains(pair.name.as_str());
        if is_apart {
            both.push(pair.name.clone());
        }
        !is_apart && seen.insert(pair.name.clone())
    });
    understood.leave_out("training image that is held out", "training images that are held out", &both);
}

/// The folder of Cityscapes' images.
pub(super) const CITIES: &str = "leftImg8bit";

/// Cityscapes: `leftImg8bit/PART/CITY/NAME_leftImg8bit.png` and `gtFine/PART/CITY/NAME_gtFine_labelIds.png`.
pub(super) fn cityscapes(spec: &Spec<'_>, root: &Path) -> Result<MaskedSet, DataError> {
    let pictures = root.join(CITIES);
    let listing = Listing::of(&pictures)?;
    if listing.images.is_empty() {
        return Err(listing.no_images(&pictures));
    }
    let mut understood =
        Understood { spec: spec.text.to_owned(), root: root.display().to_string(), ..Understood::default() };
    let map_of = |name: &str, ending: &str| root.join("gtFine").join(format!("{name}_gtFine_{ending}.png"));
    let stems: Vec<(&str, &PathBuf)> = listing
        .images
        .iter()
        .filter_map(|(name, file)| Some((name.rsplit_once('.')?.0.strip_suffix("_leftImg8bit")?, file)))
        .collect();
    let is_trained = stems.iter().any(|(stem, _)| map_of(stem, "labelTrainIds").is_file());
    let ending = if is_trained { "labelTrainIds" } else { "labelIds" };
    let mut parts: BTreeMap<Role, NamedPairs> = BTreeMap::new();
    let (mut missing, mut other) = (Vec::new(), Vec::new());
    for (stem, file) in stems {
        let map = map_of(stem, ending);
        let folder = stem.split('/').next().unwrap_or_default();
        match (role(folder), map.is_file()) {
            (Some(role), true) => {
                let part = parts.entry(role).or_insert_with(|| (folder.to_owned(), Vec::new()));
                part.1.push(Pair { name: stem.to_owned(), picture: pictures.join(file), map });
            }
            (None, _) => other.push(stem.to_owned()),
            (Some(_), false) => missing.push(stem.to_owned()),
        }
    }
    let maps = format!("gtFine/…_gtFine_{ending}.png");
    understood.leave_out("image without a map", "images without a map", &missing);
    understood.leave_out("image of another folder", "images of another folder", &other);
    let held_out = spec.choose(parts.keys().copied());
    if held_out.is_none() {
        spec.lacks(&parts.values().map(|(folder, _)| folder.as_str()).collect::<Vec<_>>())?;
    }
    let Some(train) = parts.remove(&Role::Train) else {
        let shown = root.display();
        return Err(
            spec.fails(format!("expected maps {maps} for the images of {CITIES}/train in {shown}, found none"))
        );
    };
    let held_out = held_out.and_then(|role| parts.remove(&role));
    let unused: Vec<String> = parts.into_values().flat_map(|(_, pairs)| pairs).map(|pair| pair.name).collect();
    understood.leave_out("image of another held-out part", "images of another held-out part", &unused);
    understood.notes.push(format!("labels: Cityscapes' {maps}, 19 classes, all else is ignored"));
    finish(spec, Found { train, held_out, understood }, |_, _| {
        let number = |(class, (number, ..)): (usize, &(u8, _, _))| match is_trained {
            true => (class, class as u8),
            false => (usize::from(*number), class as u8),
        };
        let mut coding = Coding::of_numbers(CITYSCAPES.iter().enumerate().map(number));
        if !is_trained {
            let known = &mut coding.by_number[..=CITYSCAPES_LAST];
            known.iter_mut().for_each(|class| *class = class.or(Some(IGNORED)));
        }
        Ok(Classes {
            names: CITYSCAPES.iter().map(|(_, name, _)| (*name).to_owned()).collect(),
            palette: CITYSCAPES.iter().map(|(.., colour)| *colour).collect(),
            coding,
        })
    })
}
