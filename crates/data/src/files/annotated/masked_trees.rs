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

/// VOC: the lists of a year. Of several the newest alone: it has the pictures of the others, under other names and in other
/// parts, so that what is held out in one is learnt from in another.
pub(super) fn voc(spec: &Spec<'_>, roots: &[PathBuf]) -> Result<MaskedSet, DataError> {
    let newest = newest(roots);
    let years = Years::of(spec.path, newest);
    let mut understood =
        Understood { spec: spec.text.to_owned(), root: years.root.display().to_string(), ..Understood::default() };
    if let ([one], true) = (newest, roots.len() > 1) {
        let one_name = one.display();
        understood
            .notes
            .push(format!("of {} VOC folders {one_name} alone is read: years share pictures", roots.len()));
    }
    let roots = newest;
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
    let list = ClassList::directly_in(root)?;
    finish(spec, found, |look, understood| match list {
        Some(list) if list.has_colours() || list.entries.len() == VOC.len() => {
            masked_pairs::listed(spec, &list, look, understood)
        }
        other => {
            // Such as the names of objects, which have no background.
            if let Some(ClassList { file, entries }) = other {
                understood.notes.push(format!(
                    "classes: VOC's {}; {file} is not used: expected as many names or lines NAME R G B, found {} names",
                    VOC.len(),
                    entries.len()
                ));
            }
            let mut coding = Coding::plain(VOC.len());
            coding.by_colour = (0..VOC.len()).map(|class| (voc_colour(class), class as u8)).collect();
            coding.by_colour.insert(VOC_VOID, IGNORED);
            Ok(Classes { names: VOC.map(str::to_owned).to_vec(), palette: voc_palette(VOC.len()), coding })
        }
    })
}

/// The folder of the newest year of those with lists to learn from, by the number that its name ends in.
fn newest(roots: &[PathBuf]) -> &[PathBuf] {
    let year = |root: &PathBuf| -> Option<u32> {
        let name = root.file_name()?.to_string_lossy().into_owned();
        let start = name
            .rfind(|c: char| !c.is_ascii_digit())
            .map_or(0, |at| at + name[at..].chars().next().map_or(1, char::len_utf8));
        name[start..].parse().ok()
    };
    let has_lists = |root: &PathBuf| {
        ["train", "trainval", "train_aug", "trainaug", "default"].iter().any(|list| has(root, list))
    };
    let best = (0..roots.len()).max_by_key(|at| (has_lists(&roots[*at]), year(&roots[*at]), *at));
    best.map_or(roots, |at| &roots[at..=at])
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

/// What the names of its maps end in: of those with the 19 classes' numbers, and of those with all.
const TRAIN_IDS: &str = "labelTrainIds.png";
const IDS: &str = "labelIds.png";

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
    let map_of = |name: &str, ending: &str| root.join("gtFine").join(format!("{name}_gtFine_{ending}"));
    let stems: Vec<(&str, &PathBuf)> = listing
        .images
        .iter()
        .filter_map(|(name, file)| Some((name.rsplit_once('.')?.0.strip_suffix("_leftImg8bit")?, file)))
        .collect();
    let of_part = |stem: &str| stem.split('/').next().unwrap_or_default().to_owned();
    // Maps of each kind in each folder, of which the kind is taken that there are more of.
    let mut kinds: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for (stem, _) in &stems {
        let kinds = kinds.entry(of_part(stem)).or_default();
        [TRAIN_IDS, IDS]
            .iter()
            .zip(kinds)
            .for_each(|(ending, n)| *n += usize::from(map_of(stem, ending).is_file()));
    }
    let ending_of = |folder: &str| match kinds.get(folder) {
        Some([trained, all]) if trained >= all && *trained > 0 => TRAIN_IDS,
        _ => IDS,
    };
    let mut endings = BTreeSet::new();
    let mut parts: BTreeMap<Role, NamedPairs> = BTreeMap::new();
    let (mut missing, mut other) = (Vec::new(), Vec::new());
    for (stem, file) in stems {
        let folder = of_part(stem);
        let ending = ending_of(&folder);
        let map = map_of(stem, ending);
        match (role(&folder), map.is_file()) {
            (Some(role), true) => {
                endings.insert(ending);
                let part = parts.entry(role).or_insert_with(|| (folder, Vec::new()));
                part.1.push(Pair { name: stem.to_owned(), picture: pictures.join(file), map });
            }
            (None, _) => other.push(stem.to_owned()),
            (Some(_), false) => missing.push(stem.to_owned()),
        }
    }
    let endings = if endings.is_empty() { vec![IDS] } else { endings.into_iter().collect::<Vec<_>>() };
    let maps = format!("gtFine/…_gtFine_{}", endings.join(" and "));
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
        let number = |(class, (number, ..)): (usize, &(u8, _, _))| (usize::from(*number), class as u8);
        let mut coding = Coding::of_numbers(CITYSCAPES.iter().enumerate().map(number));
        let known = &mut coding.by_number[..=CITYSCAPES_LAST];
        known.iter_mut().for_each(|class| *class = class.or(Some(IGNORED)));
        coding.other = Some((TRAIN_IDS, Box::new(Coding::plain(CITYSCAPES.len()))));
        Ok(Classes {
            names: CITYSCAPES.iter().map(|(_, name, _)| (*name).to_owned()).collect(),
            palette: CITYSCAPES.iter().map(|(.., colour)| *colour).collect(),
            coding,
        })
    })
}
