//! PASCAL VOC: one folder or several years side by side, their image sets and annotations.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::decode::EXTENSIONS;
use super::super::understood::Understood;
use super::marks::{Mark, Marked, MarkedPart, MarkedSet, Want};
use super::spec::{HeldOut, Spec};
use super::voc_lists::{ClassList, class_lists, shown_in};
use super::voc_xml::{self, Annotation, Named};
use super::{malformed, read};
use crate::DataError;

/// How deep below the named folder a VOC folder is looked for: `VOCtrainval/VOCdevkit/VOC2007`.
const DEPTH: usize = 3;
/// The folder of images.
pub(super) const IMAGES: &str = "JPEGImages";
const SETS: &str = "ImageSets/Main";
const ANNOTATIONS: &str = "Annotations";
/// Folders one of which makes a VOC folder.
pub(super) const MAIN: [&str; 2] = [IMAGES, SETS];

/// The VOC folders at or below a path that have one of these folders: those of one level, sorted.
pub(super) fn find(path: &Path, folders: &[&str]) -> Vec<PathBuf> {
    let mut level = vec![path.to_path_buf()];
    for _ in 0..=DEPTH {
        let is_voc = |p: &&PathBuf| folders.iter().any(|folder| p.join(folder).is_dir());
        let found: Vec<PathBuf> = level.iter().filter(is_voc).cloned().collect();
        if !found.is_empty() {
            return found;
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
    Vec::new()
}

/// Several VOC folders, or the only one.
pub(super) struct Years<'a> {
    /// What their files are named below.
    pub root: &'a Path,
    /// Each with what its images' names begin with.
    pub folders: Vec<(&'a Path, PathBuf)>,
}

impl<'a> Years<'a> {
    pub fn of(path: &'a Path, roots: &'a [PathBuf]) -> Self {
        match roots {
            [one] => Self { root: one, folders: vec![(one, PathBuf::new())] },
            several => {
                let below = |root: &'a PathBuf| {
                    (root.as_path(), root.strip_prefix(path).map(Path::to_path_buf).unwrap_or_default())
                };
                Self { root: path, folders: several.iter().map(below).collect() }
            }
        }
    }

    /// The name of an image: its own, behind the folder's where there are several.
    pub fn name(prefix: &Path, id: &str) -> String {
        let mut name = String::new();
        for part in prefix.components() {
            name += &format!("{}/", part.as_os_str().to_string_lossy());
        }
        name + id
    }
}

/// An image of a list.
struct Listed {
    name: String,
    file: PathBuf,
    annotation: Result<Annotation, DataError>,
}

pub(super) fn open(spec: &Spec<'_>, roots: &[PathBuf], want: Want) -> Result<MarkedSet, DataError> {
    let years = Years::of(spec.path, roots);
    if let (Want::Classes, true) = (want, roots.len() > 1) {
        let names: Vec<String> = roots.iter().map(|p| p.display().to_string()).collect();
        return Err(spec.fails(format!("expected one VOC folder, found {}; name one of them", names.join(", "))));
    }
    let mut understood =
        Understood { spec: spec.text.to_owned(), root: years.root.display().to_string(), ..Understood::default() };
    let parts = parts(spec, roots, want, &mut understood)?;
    let mut found = [Vec::new(), Vec::new()];
    let mut names = [BTreeSet::new(), BTreeSet::new()];
    let mut classes = BTreeSet::new();
    let (mut no_image, mut no_annotation) = (Vec::new(), Vec::new());
    let mut no_lists = Vec::new();
    for ((folder, prefix), splits) in years.folders.iter().zip(&parts) {
        if splits.iter().all(Option::is_none) {
            no_lists.push(folder.display().to_string());
            continue;
        }
        let year = Year::of(spec, folder, *splits, want)?;
        classes.extend(year.classes());
        understood.notes.push(year.note());
        for (which, split) in splits.iter().enumerate() {
            let Some(split) = split else { continue };
            names[which].insert(*split);
            let ids = match *split {
                ANNOTATIONS => annotated_ids(spec, folder)?,
                list => ids(&folder.join(SETS).join(format!("{list}.txt")))?,
            };
            for id in ids {
                let name = Years::name(prefix, &id);
                let Some(file) = year.files.get(&id) else {
                    no_image.push(name);
                    continue;
                };
                match year.annotation(which, &id, want)? {
                    Some(annotation) => found[which].push(Listed { name, file: prefix.join(file), annotation }),
                    None => no_annotation.push(name),
                }
            }
        }
    }
    understood.notes.dedup();
    understood.leave_out("VOC folder without these lists", "VOC folders without these lists", &no_lists);
    understood.leave_out("listed image without a file", "listed images without a file", &no_image);
    understood.leave_out("image without an annotation", "images without an annotation", &no_annotation);
    let objects = found.iter().flatten().filter_map(|image| image.annotation.as_ref().ok());
    classes.extend(objects.flat_map(|a| &a.objects).map(|object| object.class.clone()));
    let classes: Vec<String> = classes.into_iter().collect();
    let [train, test] = found;
    let part = |names: &BTreeSet<&str>, images: Vec<Listed>| MarkedPart {
        name: names.iter().copied().collect::<Vec<_>>().join(", "),
        images: images.into_iter().map(|image| image.numbered(&classes)).collect(),
    };
    let held_out = (!names[1].is_empty()).then(|| part(&names[1], test));
    let train = part(&names[0], train);
    Ok(MarkedSet { root: years.root.to_path_buf(), train, held_out, classes, understood })
}

impl Listed {
    fn numbered(self, classes: &[String]) -> Marked {
        let told_size = self.annotation.as_ref().ok().and_then(|a| a.told_size);
        let number =
            |Named { class, mark }: Named| Some(Mark { class: classes.binary_search(&class).ok()?, ..mark });
        let marks = self.annotation.map(|a| a.objects.into_iter().filter_map(number).collect());
        Marked { name: self.name, file: self.file, told_size, marks }
    }
}

/// The lists to learn from and to evaluate on, of each folder.
fn parts(
    spec: &Spec<'_>,
    roots: &[PathBuf],
    want: Want,
    understood: &mut Understood,
) -> Result<Vec<[Option<&'static str>; 2]>, DataError> {
    let has = |root: &Path, name: &str| root.join(SETS).join(format!("{name}.txt")).is_file();
    let any = |name: &str| roots.iter().any(|root| has(root, name));
    let of = |train: &[&'static str], test: Option<&'static str>| {
        let both = |root: &PathBuf| {
            [train.iter().copied().find(|name| has(root, name)), test.filter(|name| has(root, name))]
        };
        Ok(roots.iter().map(both).collect())
    };
    let asked = spec.held_out;
    // VOC 2012 lists test images that nobody has annotations of.
    let is_tested = roots.iter().any(|root| has(root, "test") && is_labelled(root, "test", want));
    if is_tested && (any("trainval") || any("train")) && asked != Some(HeldOut::Val) {
        return of(&["trainval", "train"], Some("test"));
    }
    if any("train") && any("val") && asked != Some(HeldOut::Test) {
        if asked.is_none() {
            let why = match any("test") {
                true => "the images of ImageSets/Main/test.txt have no annotations",
                false => "ImageSets/Main has no test.txt beside trainval.txt",
            };
            let note = format!("{why}: learnt from train and tested on val, not the published parts");
            understood.notes.push(note);
        }
        return of(&["train"], Some("val"));
    }
    let is_there = |name: &&str| any(name) && (*name != "test" || is_tested);
    let found: Vec<&str> = ["train", "trainval", "val", "test"].into_iter().filter(is_there).collect();
    spec.lacks(&found)?;
    if want == Want::Boxes && (any("trainval") || any("train")) {
        return of(&["trainval", "train"], None);
    }
    if want == Want::Boxes && any("default") {
        return of(&["default"], None);
    }
    let is_annotated = roots.iter().any(|root| root.join(ANNOTATIONS).is_dir());
    if want == Want::Boxes && found.is_empty() && !any("test") && is_annotated {
        understood.notes.push("no lists in ImageSets/Main: every image with an annotation is taken".to_owned());
        return Ok(roots
            .iter()
            .map(|root| [root.join(ANNOTATIONS).is_dir().then_some(ANNOTATIONS), None])
            .collect());
    }
    let sets = roots.first().map(|root| root.join(SETS)).unwrap_or_default();
    let found = match (any("trainval"), sets.is_dir()) {
        (true, _) => {
            "trainval.txt alone; VOC 2007's test images are an archive of their own, to be unpacked into the same \
             folder"
        }
        (false, true) => "none of them",
        (false, false) => "no such folder",
    };
    let shown = sets.display();
    Err(spec.fails(format!("expected lists of images, {shown}/trainval.txt and test.txt; found {found}")))
}

/// Whether anything is known of the images of a list.
fn is_labelled(root: &Path, list: &str, want: Want) -> bool {
    let sets = root.join(SETS);
    let has_lists = want == Want::Classes && class_lists(&sets, list).map_or(true, |lists| !lists.is_empty());
    let is_annotated = |id: &String| root.join(ANNOTATIONS).join(format!("{id}.xml")).is_file();
    // What cannot be read is told when it is.
    has_lists || ids(&sets.join(format!("{list}.txt"))).map_or(true, |ids| ids.iter().any(is_annotated))
}

/// The names of all annotations, sorted.
fn annotated_ids(spec: &Spec<'_>, root: &Path) -> Result<Vec<String>, DataError> {
    let folder = root.join(ANNOTATIONS);
    let entries = std::fs::read_dir(&folder)
        .map_err(|e| spec.fails(format!("no boxes: expected {}/ID.xml: {e}", folder.display())))?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut ids: Vec<String> = names.filter_map(|name| Some(name.strip_suffix(".xml")?.to_owned())).collect();
    ids.sort();
    Ok(ids)
}

/// A VOC folder.
struct Year {
    /// Files in `JPEGImages` by their names without the ending.
    files: BTreeMap<String, PathBuf>,
    annotations: PathBuf,
    /// Lists of each class for both parts, where classes alone are asked for and all are there.
    lists: Option<[BTreeMap<String, ClassList>; 2]>,
    train: &'static str,
}

impl Year {
    fn of(
        spec: &Spec<'_>,
        folder: &Path,
        [train, test]: [Option<&'static str>; 2],
        want: Want,
    ) -> Result<Self, DataError> {
        let files = image_files(spec, folder)?;
        let sets = folder.join(SETS);
        let mut lists = None;
        if let (Want::Classes, Some(train), Some(test)) = (want, train, test) {
            let both = [class_lists(&sets, train)?, class_lists(&sets, test)?];
            lists = Some(both).filter(|[train, test]| !train.is_empty() && train.keys().eq(test.keys()));
        }
        let annotations = folder.join(ANNOTATIONS);
        let train = train.unwrap_or("train");
        if lists.is_none() && !annotations.is_dir() {
            let (shown, test) = (folder.display(), test.unwrap_or("test"));
            return Err(spec.fails(match want {
                Want::Boxes => format!("no boxes: expected Annotations/ID.xml in {shown}"),
                Want::Classes => format!(
                    "no labels: expected Annotations/ID.xml, or ImageSets/Main/CLASS_{train}.txt and \
                     CLASS_{test}.txt for every class, in {shown}"
                ),
            }));
        }
        Ok(Self { files, annotations, lists, train })
    }

    /// Classes that have a list.
    fn classes(&self) -> impl Iterator<Item = String> {
        self.lists.iter().flat_map(|[train, _]| train.keys().cloned())
    }

    fn note(&self) -> String {
        match &self.lists {
            Some(_) => format!("labels: VOC's lists of each class (ImageSets/Main/CLASS_{}.txt)", self.train),
            None => "labels: VOC's annotations (Annotations/ID.xml)".to_owned(),
        }
    }

    /// What is known of an image; `None` where it has no annotation.
    fn annotation(
        &self,
        part: usize,
        id: &str,
        want: Want,
    ) -> Result<Option<Result<Annotation, DataError>>, DataError> {
        if let Some(lists) = &self.lists {
            return Ok(Some(Ok(Annotation { told_size: None, objects: shown_in(&lists[part], id)? })));
        }
        let path = self.annotations.join(format!("{id}.xml"));
        Ok(path.is_file().then(|| voc_xml::read_annotation(&path, want)))
    }
}

/// Names in a list of images, one a line; a second column, as in per-class lists, is ignored.
pub(super) fn ids(path: &Path) -> Result<Vec<String>, DataError> {
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
pub(super) fn image_files(spec: &Spec<'_>, root: &Path) -> Result<BTreeMap<String, PathBuf>, DataError> {
    let folder = root.join(IMAGES);
    let entries = std::fs::read_dir(&folder)
        .map_err(|e| spec.fails(format!("expected the folder {} with the images: {e}", folder.display())))?;
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
