//! Pictures and maps of the same names in two folders, CamVid's `train` and `trainannot` among them.

use std::collections::{BTreeMap, BTreeSet};

use super::super::listing::Listing;
use super::super::understood::{Understood, count, some_of};
use super::class_list::ClassList;
use super::coding::Coding;
use super::look::Look;
use super::map_files::Pair;
use super::masked::{Classes, Found, NamedPairs, voc_palette};
use super::palettes::{CAMVID, voc_colour};
use super::spec::Spec;
use super::splits::{Role, role};
use crate::DataError;
use crate::annotated::IGNORED;

/// Names of folders of maps, those that are preferred first; also behind a part's name, as in `trainannot`.
const MAPS: [&str; 17] = [
    "masks",
    "mask",
    "labels",
    "label",
    "annotations",
    "annotation",
    "annots",
    "annot",
    "segmentations",
    "segmentation",
    "segmentationclass",
    "labelmaps",
    "ground_truth",
    "groundtruth",
    "gt",
    "targets",
    "target",
];
/// Names of folders of pictures.
const PICTURES: [&str; 9] =
    ["images", "image", "imgs", "img", "pictures", "photos", "jpegimages", "inputs", "input"];
/// What the name of a map may have behind its picture's.
const ENDINGS: [&str; 8] = ["_mask", "_masks", "_labels", "_label", "_seg", "_gt", "_l", "-mask"];
/// Maps with these endings are some beside their pictures too.
const BESIDE: [&str; 2] = ["_mask", "-mask"];

/// More colours that nothing names are no classes.
const MOST_COLOURS: usize = 64;
/// Nor are more greys than these, up to white.
const SMOOTH_FEWEST: usize = 200;
const SMOOTH_LAST: usize = 250;

/// Folders of the layout that CamVid is handed on in.
const CAMVID_FOLDER: &str = "trainannot";
/// What has no label in its maps.
const CAMVID_VOID: usize = CAMVID.len();

/// What a file's path says of it.
struct Place {
    role: Option<Role>,
    /// The folder that says so.
    folder: String,
    /// The rank of the folder of maps it is in.
    maps: Option<usize>,
    /// Its other folders and its name, which a picture and its map share.
    key: String,
}

/// A part's name joined to the name of a kind of folder: `train_images`, `labels-val`.
fn joined(name: &str, kind: &str) -> Option<Role> {
    let rest = name.strip_suffix(kind).or_else(|| name.strip_prefix(kind))?;
    role(rest.trim_matches(['_', '-', ' ']))
}

impl Place {
    fn of(name: &str) -> Self {
        let mut place = Self { role: None, folder: String::new(), maps: None, key: String::new() };
        let (folders, file) = name.rsplit_once('/').unwrap_or(("", name));
        for folder in folders.split('/').filter(|folder| !folder.is_empty()) {
            let lower = folder.to_lowercase();
            let of_maps = MAPS.iter().enumerate().find_map(|(rank, kind)| match lower == *kind {
                true => Some((rank, None)),
                false => joined(&lower, kind).map(|role| (rank, Some(role))),
            });
            let of_pictures = || {
                let is_kind = PICTURES.contains(&lower.as_str());
                is_kind.then_some(None).or_else(|| PICTURES.iter().find_map(|kind| joined(&lower, kind).map(Some)))
            };
            let is_part = match (role(&lower), of_maps) {
                (Some(role), _) => Some(role),
                (None, Some((rank, role))) => {
                    place.maps = place.maps.or(Some(rank));
                    role
                }
                (None, None) => match of_pictures() {
                    Some(role) => role,
                    None => {
                        place.key += &format!("{folder}/");
                        continue;
                    }
                },
            };
            if let (Some(role), None) = (is_part, place.role) {
                (place.role, place.folder) = (Some(role), folder.to_owned());
            }
        }
        place.key += file.rsplit_once('.').map_or(file, |(stem, _)| stem);
        place
    }

    /// The key without what only maps' names have at their end.
    fn stripped(&self, endings: &[&str]) -> Option<String> {
        let lower = self.key.to_lowercase();
        let ending = endings.iter().find(|ending| lower.ends_with(*ending))?;
        // Lower case may be of another length where letters are no ASCII.
        self.key.get(..self.key.len().checked_sub(ending.len())?).map(str::to_owned)
    }
}

/// The pairs of a folder; `None` where there is not one.
pub(super) fn find(spec: &Spec<'_>, listing: &Listing) -> Result<Option<Found>, DataError> {
    let (mut pictures, mut maps) = (Vec::new(), Maps::default());
    let mut odd = Vec::new();
    for (name, file) in &listing.images {
        let mut place = Place::of(name);
        let is_png = name.to_lowercase().ends_with(".png");
        if place.maps.is_none() && is_png && place.stripped(&BESIDE).is_some() {
            place.maps = Some(0);
        }
        match (place.maps, is_png) {
            (None, _) => pictures.push((name, file, place)),
            (Some(rank), true) => maps.add(name, &place, rank),
            (Some(_), false) => odd.push(name.clone()),
        }
    }
    let mut parts: BTreeMap<Option<Role>, NamedPairs> = BTreeMap::new();
    let (mut used, mut missing, mut shared) = (BTreeSet::new(), Vec::new(), Vec::new());
    // How many pictures take a map.
    let mut takers: BTreeMap<&str, usize> = BTreeMap::new();
    let of = |place| maps.of(place);
    pictures.iter().filter_map(|(.., place)| of(place)).for_each(|(_, map)| *takers.entry(map).or_default() += 1);
    for (name, file, place) in pictures {
        let Some((role, map)) = maps.of(&place) else {
            missing.push(name.clone());
            continue;
        };
        used.insert(map);
        if takers.get(map).is_some_and(|takers| *takers > 1) {
            shared.push(format!("{name} with {map}"));
            continue;
        }
        let part = parts.entry(role).or_insert_with(|| (place.folder.clone(), Vec::new()));
        part.1.push(Pair { name: name.clone(), picture: spec.path.join(file), map: spec.path.join(map) });
    }
    if used.is_empty() {
        return Ok(None);
    }
    if parts.is_empty() {
        let first = shared.first().map_or("", String::as_str);
        return Err(
            spec.fails(format!("every map is that of several pictures; expected one each; the first: {first}"))
        );
    }
    let mut understood =
        Understood { spec: spec.text.to_owned(), root: spec.path.display().to_string(), ..Understood::default() };
    let unused: Vec<String> = maps.all.iter().filter(|map| !used.contains(map.as_str())).cloned().collect();
    understood.leave_out("image without a map", "images without a map", &missing);
    understood.leave_out(
        "image whose map is another image's too",
        "images whose maps are other images' too",
        &shared,
    );
    understood.leave_out("map that is not used", "maps that are not used", &unused);
    understood.leave_out("map that is no PNG", "maps that are no PNG", &odd);
    let held_out = spec.choose(parts.keys().flatten().copied());
    if held_out.is_none() {
        spec.lacks(&parts.values().map(|(folder, _)| folder.as_str()).collect::<Vec<_>>())?;
    }
    let train = parts.remove(&Some(Role::Train)).or_else(|| parts.remove(&None));
    let Some(train) = train else {
        // Held-out parts alone: all there is, and the one that is asked for.
        let asked = held_out.filter(|_| spec.held_out.is_some()).and_then(|role| parts.get(&Some(role)).cloned());
        let (names, all): (Vec<String>, Vec<Vec<Pair>>) = parts.into_values().unzip();
        let train = (names.join(", "), all.concat());
        spec.says_no_train(&train.0, &mut understood);
        return Ok(Some(Found { train, held_out: asked, understood }));
    };
    let held_out = held_out.and_then(|role| parts.remove(&Some(role)));
    let unused: Vec<String> = parts.into_values().flat_map(|(_, pairs)| pairs).map(|pair| pair.name).collect();
    understood.leave_out("image of another part", "images of another part", &unused);
    Ok(Some(Found { train, held_out, understood }))
}

/// Maps by part and key.
#[derive(Default)]
struct Maps {
    all: Vec<String>,
    by_key: BTreeMap<(Option<Role>, String), (usize, String)>,
}

impl Maps {
    fn add(&mut self, name: &str, place: &Place, rank: usize) {
        self.all.push(name.to_owned());
        // A whole name goes before one that something was taken off.
        let keys = [(Some(place.key.clone()), rank), (place.stripped(&ENDINGS), rank + MAPS.len())];
        for (key, rank) in keys {
            let Some(key) = key else { continue };
            let slot = self.by_key.entry((place.role, key)).or_insert_with(|| (rank, name.to_owned()));
            if rank < slot.0 {
                *slot = (rank, name.to_owned());
            }
        }
    }

    /// The map of a picture, and the part of both: the picture's, or where that has none the map's.
    fn of(&self, picture: &Place) -> Option<(Option<Role>, &str)> {
        let found =
            |role: Option<Role>| self.by_key.get(&(role, picture.key.clone())).map(|(_, map)| map.as_str());
        if let Some(map) = found(picture.role).or_else(|| found(None)) {
            return Some((picture.role, map));
        }
        if picture.role.is_some() {
            return None;
        }
        let roles: BTreeSet<Role> = self.by_key.keys().filter_map(|(role, _)| *role).collect();
        roles.into_iter().find_map(|role| Some((Some(role), found(Some(role))?)))
    }
}

/// Classes as a file of the folder names them, or as they are found in the maps.
pub(super) fn classes(
    spec: &Spec<'_>,
    listing: &Listing,
    look: &Look,
    understood: &mut Understood,
) -> Result<Classes, DataError> {
    let is_camvid = listing.folders.iter().any(|f| f.rsplit('/').next() == Some(CAMVID_FOLDER));
    let list = ClassList::find(spec.path, listing)?;
    if list.as_ref().is_some_and(ClassList::has_colours) {
        return named_or_found(spec, list, is_camvid, look, understood);
    }
    if let Some((map, number)) = look.odd_palette() {
        let why = format!("palettes of the {} differ ({map} shows {number} in another colour)", look.which());
        if let Some(ClassList { file, .. }) = list {
            return Err(spec.fails(format!(
                "the {why}, so numbers are no classes, and {file} names no colours; expected lines NAME R G B, or maps \
                 without palettes"
            )));
        }
        understood.notes.push(format!("maps are read by their colours, as the {why}"));
        return found_colours(spec, &look.by_palette(), understood);
    }
    if let Some(greys) = look.by_greys() {
        understood.notes.push("every colour of the maps is a grey: they are read as numbers".to_owned());
        let mut classes = named_or_found(spec, list, is_camvid, &greys, understood)?;
        classes.coding.are_greys_numbers = true;
        return Ok(classes);
    }
    named_or_found(spec, list, is_camvid, look, understood)
}

/// Classes as a list names them, CamVid's, or what is found.
fn named_or_found(
    spec: &Spec<'_>,
    list: Option<ClassList>,
    is_camvid: bool,
    look: &Look,
    understood: &mut Understood,
) -> Result<Classes, DataError> {
    if let Some(list) = list {
        return listed(spec, &list, look, understood);
    }
    let numbers: Vec<usize> = look.numbers().into_iter().filter(|n| *n != usize::from(IGNORED)).collect();
    if is_camvid && !numbers.is_empty() && numbers.iter().all(|number| *number <= CAMVID_VOID) {
        understood.notes.push("classes: CamVid's eleven; 11 is ignored".to_owned());
        let mut coding = Coding::plain(CAMVID.len());
        coding.by_number[CAMVID_VOID] = Some(IGNORED);
        let (names, palette) = CAMVID.iter().map(|(name, colour)| ((*name).to_owned(), *colour)).unzip();
        return Ok(Classes { names, palette, coding });
    }
    if !numbers.is_empty() || look.colours().is_empty() {
        return found_numbers(spec, &numbers, look, understood);
    }
    found_colours(spec, look, understood)
}

/// Classes of maps with colours that nothing names.
fn found_colours(spec: &Spec<'_>, look: &Look, understood: &mut Understood) -> Result<Classes, DataError> {
    let which = look.which();
    let colours = look.colours();
    if colours.len() > MOST_COLOURS {
        return Err(spec.fails(format!(
            "the {which} have more than {MOST_COLOURS} colours, as smoothed edges and photographs do; expected maps \
             of few colours, or classes.txt with a line NAME R G B for each"
        )));
    }
    understood.notes.push(format!(
        "classes: the {} of the {which}, the most frequent first; classes.txt with lines NAME R G B would name them",
        count(colours.len(), "colour", "colours")
    ));
    let mut coding = Coding::plain(0);
    coding.is_numbers_first = false;
    coding.by_colour = colours.iter().copied().zip(0..).collect();
    let name = |[r, g, b]: &[u8; 3]| format!("#{r:02x}{g:02x}{b:02x}");
    Ok(Classes { names: colours.iter().map(name).collect(), palette: colours, coding })
}

/// Classes of maps with numbers that nothing names.
fn found_numbers(
    spec: &Spec<'_>,
    numbers: &[usize],
    look: &Look,
    understood: &mut Understood,
) -> Result<Classes, DataError> {
    let which = look.which();
    if numbers == [0] && look.numbers().contains(&usize::from(IGNORED)) {
        understood.notes.push(format!(
            "classes: the {which} contain only 0 and 255, read as background and object; add classes.txt to override"
        ));
        let coding = Coding::of_numbers([(0, 0), (usize::from(IGNORED), 1)].into_iter());
        let names = ["background", "object"].map(str::to_owned).to_vec();
        return Ok(Classes { names, palette: voc_palette(2), coding });
    }
    let Some(last) = numbers.last() else {
        // Nothing in them, or none that can be read; the look says which.
        let coding = Coding::plain(1);
        look.judge(spec, &coding, understood)?;
        return Err(spec.fails(format!("no classes: the {which} have none")));
    };
    if *last >= SMOOTH_LAST && numbers.len() > SMOOTH_FEWEST {
        return Err(spec.fails(format!(
            "the {which} have {} greys up to {last}, as smoothed edges and photographs do; expected maps of class \
             numbers, or classes.txt with a line NUMBER NAME for each",
            numbers.len()
        )));
    }
    understood.notes.push(format!(
        "classes: 0 to {last}, as found in the {which}; 255 is ignored; classes.txt would name them, one a line"
    ));
    let classes = last + 1;
    let shown = look.palette();
    let colour = |class: usize| shown.and_then(|p| p.get(class)).copied().unwrap_or_else(|| voc_colour(class));
    Ok(Classes {
        names: (0..classes).map(|class| class.to_string()).collect(),
        palette: (0..classes).map(colour).collect(),
        coding: Coding::plain(classes),
    })
}

/// Classes as a list names them.
pub(super) fn listed(
    spec: &Spec<'_>,
    list: &ClassList,
    look: &Look,
    understood: &mut Understood,
) -> Result<Classes, DataError> {
    let numbered = list.numbered();
    let mut coding =
        Coding::of_numbers(list.entries.iter().map(|entry| entry.number).zip(numbered.iter().copied()));
    if list.has_colours() {
        let colours = list.entries.iter().filter_map(|entry| entry.colour);
        coding.by_colour = colours.zip(numbered.iter().copied()).collect();
        coding.is_numbers_first = false;
    } else if look.numbers().is_empty() && !look.colours().is_empty() {
        let file = &list.file;
        return Err(spec.fails(format!(
            "the {} have colours, and {file} names none; expected lines NAME R G B",
            look.which()
        )));
    }
    // As drawing programs write masks: black and white.
    let numbers: Vec<usize> = list.entries.iter().map(|entry| entry.number).collect();
    let is_shown_by_colours = list.has_colours() && look.palette().is_some();
    let is_white = numbers == [0, 1] && numbered == [0, 1] && look.numbers() == [0, 255] && !is_shown_by_colours;
    if is_white {
        coding.by_number[usize::from(IGNORED)] = Some(1);
    }
    let names: Vec<String> = list.classes().map(|entry| entry.name.clone()).collect();
    if names.is_empty() {
        return Err(spec.fails(format!("{}: expected a class that is not ignored, found none", list.file)));
    }
    let void: Vec<String> = (list.entries.iter().zip(&numbered))
        .filter(|(_, class)| **class == IGNORED)
        .map(|(entry, _)| format!("{} ({})", entry.name, entry.number))
        .collect();
    let ignored = if void.is_empty() { "255".to_owned() } else { format!("{} and 255", void.join(", ")) };
    understood.notes.push(match is_white {
        true => format!(
            "classes: named by {}; the {} contain only 0 and 255, so 255 is {}",
            list.file,
            look.which(),
            names[1]
        ),
        false => format!("classes: named by {}; ignored: {ignored}", list.file),
    });
    let shown = look.classes(&coding);
    let is_unseen = |(class, _): &(u8, &String)| !shown.contains(class);
    let unseen: Vec<&String> = (0..).zip(&names).filter(is_unseen).map(|(_, name)| name).collect();
    if !unseen.is_empty() {
        understood.notes.push(format!(
            "{} of {} listed classes are in none of the {}: {}",
            unseen.len(),
            names.len(),
            look.which(),
            some_of(&unseen)
        ));
    }
    let is_camvid = names.iter().map(|name| name.to_lowercase()).eq(CAMVID.iter().map(|(name, _)| *name));
    let own: Vec<[u8; 3]> = list.classes().filter_map(|entry| entry.colour).collect();
    let palette = match (own.len() == names.len(), is_camvid) {
        (true, _) => own,
        (false, true) => CAMVID.iter().map(|(_, colour)| *colour).collect(),
        (false, false) => voc_palette(names.len()),
    };
    Ok(Classes { names, palette, coding })
}

/// The error that there are no maps, with what would be some.
pub(super) fn none(spec: &Spec<'_>, listing: &Listing) -> DataError {
    let is_odd = |name: &&String| Place::of(name).maps.is_some() && !name.to_lowercase().ends_with(".png");
    let odd: Vec<&String> = listing.images.iter().map(|(name, _)| name).filter(is_odd).collect();
    if let Some(first) = odd.first() {
        let maps = match odd.len() {
            1 => "1 map that is not PNG".to_owned(),
            n => format!("{n} maps that are not PNG"),
        };
        return spec.fails(format!("found {maps} ({first}); JPEG cannot hold labels, save as PNG"));
    }
    spec.fails(format!(
        "no label maps: expected PASCAL VOC (JPEGImages, SegmentationClass), Cityscapes (leftImg8bit, gtFine), COCO \
         (annotations/instances_….json), or images and PNG maps of the same names in images/ and masks/, or in train/ \
         and trainannot/; found {} in {} without any",
        count(listing.images.len(), "image", "images"),
        count(listing.folders.len(), "folder", "folders"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_and_its_map_have_the_same_key() {
        let train = role("train");
        for (picture, map) in [
            ("images/train2017/a/1.jpg", "masks/train2017/a/1.png"),
            ("train/images/a/1.jpg", "train/masks/a/1.png"),
            ("train/a/1.png", "trainannot/a/1.png"),
            ("train_images/a/1.jpg", "labels-train/a/1.png"),
        ] {
            let (picture, map) = (Place::of(picture), Place::of(map));
            assert_eq!((picture.role, picture.maps, picture.key.as_str()), (train, None, "a/1"));
            assert!(map.role == train && map.maps.is_some() && map.key == "a/1", "{}", map.key);
        }
        let map = Place::of("train/a_L.png");
        assert_eq!((map.maps, map.stripped(&ENDINGS).as_deref()), (None, Some("a")));
        assert_eq!(Place::of("é_MASK.png").stripped(&BESIDE).as_deref(), Some("é"));
    }
}
