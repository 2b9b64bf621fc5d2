//! PASCAL VOC: image sets, lists of each class, annotations.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::decode::EXTENSIONS;
use super::super::understood::Understood;
use super::{Images, MultiLabelSet, Presence, Shown, assemble, malformed, malformed_line, read};
use crate::DataError;

/// How deep below the named folder a VOC folder is looked for: `VOCtrainval/VOCdevkit/VOC2007`.
const DEPTH: usize = 3;
const IMAGES: &str = "JPEGImages";

/// The VOC folder at or below a path, where there is one.
pub(super) fn find(spec: &str, path: &Path) -> Result<Option<PathBuf>, DataError> {
    let mut level = vec![path.to_path_buf()];
    for _ in 0..=DEPTH {
        let is_voc = |p: &&PathBuf| p.join(IMAGES).is_dir() || p.join("ImageSets/Main").is_dir();
        let found: Vec<&PathBuf> = level.iter().filter(is_voc).collect();
        match found.as_slice() {
            [] => {}
            [one] => return Ok(Some((*one).clone())),
            several => {
                let names: Vec<String> = several.iter().map(|p| p.display().to_string()).collect();
                let reason = format!("expected one VOC folder, found {}; name one of them", names.join(", "));
                return Err(DataError::Spec { spec: spec.to_owned(), reason });
            }
        }
        let below = |p: &PathBuf| {
            let entries = std::fs::read_dir(p).into_iter().flatten().flatten().map(|e| e.path());
            entries.filter(|p| p.is_dir()).collect::<Vec<_>>()
        };
        level = level.iter().flat_map(below).collect();
        level.sort();
        // A set of many folders is no wrapper around a VOC folder.
        if level.len() > 100 {
            break;
        }
    }
    Ok(None)
}

/// Classes of an image by name.
type Shows = BTreeMap<String, Presence>;

/// An image of a list.
struct Listed {
    id: String,
    file: PathBuf,
    shows: Shows,
}

pub(super) fn open(spec: &str, root: &Path) -> Result<MultiLabelSet, DataError> {
    let mut understood =
        Understood { spec: spec.to_owned(), root: root.display().to_string(), ..Understood::default() };
    let [train, test] = parts(spec, root, &mut understood)?;
    let files = image_files(spec, root)?;
    let sets = root.join("ImageSets/Main");
    let listed = [class_lists(&sets, train)?, class_lists(&sets, test)?];
    let [of_train, of_test] = &listed;
    let has_lists = !of_train.is_empty() && of_train.keys().eq(of_test.keys());
    let annotations = root.join("Annotations");
    if !has_lists && !annotations.is_dir() {
        let reason = format!(
            "no labels: expected Annotations/ID.xml, or ImageSets/Main/CLASS_{train}.txt and CLASS_{test}.txt for \
             every class, in {}",
            root.display()
        );
        return Err(DataError::Spec { spec: spec.to_owned(), reason });
    }
    understood.notes.push(match has_lists {
        true => format!("labels: VOC's lists of each class (ImageSets/Main/CLASS_{train}.txt)"),
        false => "labels: VOC's annotations (Annotations/ID.xml)".to_owned(),
    });
    let mut found = Vec::new();
    let (mut no_image, mut no_annotation) = (Vec::new(), Vec::new());
    for (split, lists) in [train, test].into_iter().zip(&listed) {
        let mut images = Vec::new();
        for id in ids(&sets.join(format!("{split}.txt")))? {
            let Some(file) = files.get(&id) else {
                no_image.push(id);
                continue;
            };
            let annotation = annotations.join(format!("{id}.xml"));
            let shows = match has_lists {
                true => shown_in(lists, &id)?,
                false if annotation.is_file() => objects(&annotation)?,
                false => {
                    no_annotation.push(id);
                    continue;
                }
            };
            images.push(Listed { id, file: file.clone(), shows });
        }
        found.push((split, images));
    }
    understood.leave_out("listed image without a file", "listed images without a file", &no_image);
    understood.leave_out("image without an annotation", "images without an annotation", &no_annotation);
    let mut classes: BTreeSet<String> = of_train.keys().filter(|_| has_lists).cloned().collect();
    classes.extend(found.iter().flat_map(|(_, images)| images).flat_map(|image| image.shows.keys().cloned()));
    let classes: Vec<String> = classes.into_iter().collect();
    let mut parts = found.into_iter().map(|(name, images)| {
        let number = |(class, p): (String, Presence)| Some((classes.binary_search(&class).ok()?, p));
        let shown = |Listed { id, file, shows }: Listed| {
            let shows = shows.into_iter().filter_map(number).collect();
            Shown { name: id, file, shows }
        };
        Images { name: name.to_owned(), images: images.into_iter().map(shown).collect() }
    });
    let (train, test) = (parts.next().unwrap_or_default(), parts.next());
    assemble(root, classes.clone(), train, test, understood)
}

/// The lists to learn from and to test on.
fn parts(spec: &str, root: &Path, understood: &mut Understood) -> Result<[&'static str; 2], DataError> {
    let sets = root.join("ImageSets/Main");
    let has = |name: &str| sets.join(format!("{name}.txt")).is_file();
    let fail = |found: &str| {
        let shown = sets.display();
        let reason = format!("expected lists of images, {shown}/trainval.txt and test.txt; found {found}");
        Err(DataError::Spec { spec: spec.to_owned(), reason })
    };
    if has("trainval") && has("test") {
        return Ok(["trainval", "test"]);
    }
    if has("train") && has("val") {
        understood.notes.push(
            "ImageSets/Main has no test.txt beside trainval.txt: learnt from train and tested on val, not the \
             published parts"
                .to_owned(),
        );
        return Ok(["train", "val"]);
    }
    if has("trainval") {
        return fail(
            "trainval.txt alone; VOC 2007's test images are an archive of their own, to be unpacked into the same \
             folder",
        );
    }
    fail(if sets.is_dir() { "none of them" } else { "no such folder" })
}

/// Names in a list of images, one a line; what follows a name is another list's.
fn ids(path: &Path) -> Result<Vec<String>, DataError> {
    let mut seen = BTreeSet::new();
    let text = read(path)?;
    let names = text.lines().filter_map(|line| line.split_whitespace().next());
    let ids: Vec<String> = names.filter(|id| seen.insert(*id)).map(str::to_owned).collect();
    if ids.is_empty() {
        return Err(malformed(path, "expected names of images, one a line; found none"));
    }
    Ok(ids)
}

/// Files in `JPEGImages` by their names without the ending.
fn image_files(spec: &str, root: &Path) -> Result<BTreeMap<String, PathBuf>, DataError> {
    let folder = root.join(IMAGES);
    let entries = std::fs::read_dir(&folder).map_err(|e| DataError::Spec {
        spec: spec.to_owned(),
        reason: format!("expected the folder {} with the images: {e}", folder.display()),
    })?;
    let mut files = BTreeMap::new();
    for entry in entries.flatten() {
        let name = PathBuf::from(entry.file_name());
        let ending = name.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        if let (true, Some(stem)) = (EXTENSIONS.contains(&ending.as_str()), name.file_stem()) {
            files.insert(stem.to_string_lossy().into_owned(), Path::new(IMAGES).join(&name));
        }
    }
    Ok(files)
}

/// What one list says of each image, with the list for messages.
struct ClassList {
    path: PathBuf,
    of: BTreeMap<String, Presence>,
}

/// The lists of each class for a part: `CLASS_trainval.txt` and the like.
fn class_lists(sets: &Path, split: &str) -> Result<BTreeMap<String, ClassList>, DataError> {
    let mut lists = BTreeMap::new();
    let ending = format!("_{split}.txt");
    for entry in std::fs::read_dir(sets).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(class) = name.strip_suffix(&ending).filter(|class| !class.is_empty()) {
            lists.insert(class.to_owned(), class_list(entry.path())?);
        }
    }
    Ok(lists)
}

/// Lines `ID 1`, `ID -1` or `ID 0`: present, absent, and present only as difficult objects.
fn class_list(path: PathBuf) -> Result<ClassList, DataError> {
    let mut of = BTreeMap::new();
    for (at, line) in read(&path)?.lines().enumerate() {
        let mut words = line.split_whitespace();
        let presence = match (words.next(), words.next(), words.next()) {
            (None, ..) => continue,
            (Some(id), Some("1" | "+1"), None) => Some((id, Presence::Present)),
            (Some(id), Some("-1"), None) => Some((id, Presence::Absent)),
            (Some(id), Some("0"), None) => Some((id, Presence::Ignored)),
            _ => None,
        };
        let Some((id, presence)) = presence else {
            let expected = "expected a name and 1 (shown), -1 (not) or 0 (difficult)";
            return Err(malformed_line(&path, at + 1, format!("{expected}, found \"{line}\"")));
        };
        of.insert(id.to_owned(), presence);
    }
    Ok(ClassList { path, of })
}

fn shown_in(lists: &BTreeMap<String, ClassList>, id: &str) -> Result<Shows, DataError> {
    let mut shows = Shows::new();
    for (class, list) in lists {
        match list.of.get(id) {
            Some(Presence::Absent) => {}
            Some(presence) => {
                shows.insert(class.clone(), *presence);
            }
            None => {
                return Err(malformed(
                    &list.path,
                    format!("expected a line for every image, found none for {id}"),
                ));
            }
        }
    }
    Ok(shows)
}

/// The classes of an annotation's objects.
pub(super) fn objects(path: &Path) -> Result<Shows, DataError> {
    let text = read(path)?;
    let document = roxmltree::Document::parse(&text).map_err(|e| malformed(path, format!("not XML: {e}")))?;
    let root = document.root_element();
    if !root.has_tag_name("annotation") {
        let found = root.tag_name().name();
        return Err(malformed(path, format!("expected VOC's element <annotation>, found <{found}>")));
    }
    let mut shows = Shows::new();
    for object in root.children().filter(|n| n.has_tag_name("object")) {
        let child =
            |name: &str| object.children().find(|n| n.has_tag_name(name)).and_then(|n| n.text()).map(str::trim);
        let line = document.text_pos_at(object.range().start).row as usize;
        let Some(class) = child("name").filter(|name| !name.is_empty()) else {
            return Err(malformed_line(path, line, "expected a <name> in the <object>, found none"));
        };
        let presence = match child("difficult") {
            Some("1" | "true" | "True") => Presence::Ignored,
            _ => Presence::Present,
        };
        let shown = shows.entry(class.to_owned()).or_insert(presence);
        if presence == Presence::Present {
            *shown = presence;
        }
    }
    Ok(shows)
}
