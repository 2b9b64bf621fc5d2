//! Images with a label file each: YOLO's `.txt`, or VOC's `.xml` as labelling tools write it beside an image.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::listing::Listing;
use super::super::understood::{Understood, count};
use super::marks::{Mark, Marked, MarkedPart, MarkedSet, Want};
use super::spec::{HeldOut, Spec};
use super::splits::{Role, role_of_folders};
use super::voc_xml::{self, Annotation};
use super::yaml::Config;
use super::{malformed, read, yolo};
use crate::DataError;

/// The folder of images in YOLO's layouts, and those that hold their labels, in the place of it.
const IMAGES: &str = "images";
const LABELS: [&str; 4] = ["labels", "boxes", "annotations", "Annotations"];
/// Files that name classes, one a line.
const NAMES: [&str; 4] = ["classes.txt", "obj.names", "classes.names", "_darknet.labels"];

/// Images by name and file: those to learn from, and those held out.
type Parts = ((String, Vec<Image>), Option<(String, Vec<Image>)>);
type Image = (String, PathBuf);

/// `yaml`: the file that was named to describe the set.
pub(super) fn open(
    spec: &Spec<'_>,
    root: &Path,
    listing: &Listing,
    yaml: Option<&Path>,
    want: Want,
) -> Result<MarkedSet, DataError> {
    let mut understood =
        Understood { spec: spec.text.to_owned(), root: root.display().to_string(), ..Understood::default() };
    let config = config(root, listing, yaml, &mut understood)?;
    let listed = config.as_ref().filter(|c| !c.train.is_empty());
    let (train, test) = match listed {
        Some(config) => by_config(spec, config, &mut understood)?,
        None => by_folders(spec, root, listing, &mut understood)?,
    };
    let all = || train.1.iter().chain(test.iter().flat_map(|(_, images)| images));
    let found: BTreeMap<&Path, PathBuf> = match label_files("txt", all()) {
        boxes if boxes.is_empty() => label_files("xml", all()),
        boxes => boxes,
    };
    if found.is_empty() {
        return Err(no_labels(spec, all().count(), listing, want));
    }
    let is_xml = found.values().next().is_some_and(|file| file.extension().is_some_and(|e| e == "xml"));
    let names = match (&config, is_xml) {
        (_, true) => None,
        (Some(Config { path, names: Some(names), .. }), _) => Some((path.clone(), names.clone())),
        _ => names_file(root, listing)?,
    };
    understood.notes.push(match (is_xml, &names) {
        (true, _) => "labels: an XML file of VOC's kind for each image".to_owned(),
        (false, Some((path, _))) => format!("labels: YOLO's text files; class names from {}", path.display()),
        (false, None) => "labels: YOLO's text files; no YAML file or classes.txt names their classes".to_owned(),
    });
    let mut read = Read {
        found: &found,
        numbers: BTreeMap::new(),
        last: None,
        names: names.map(|(_, names)| names),
        are_poses: config.as_ref().is_some_and(|config| config.are_poses),
        without: Vec::new(),
        want,
    };
    let mut learnt_from = read.part(&train, is_xml);
    let mut held_out = test.as_ref().map(|part| read.part(part, is_xml));
    let Read { without, numbers, last, names, .. } = read;
    if is_xml {
        understood.leave_out("image without a label file", "images without a label file", &without);
    } else if !without.is_empty() {
        understood.notes.push(match without.len() {
            1 => "1 image has no label file: it counts as an image without objects".to_owned(),
            n => format!("{n} images have no label file: they count as images without objects"),
        });
    }
    leave_out_labels(root, listing, is_xml, &mut understood);
    let classes = match (names, is_xml) {
        (Some(names), _) => names,
        (None, true) => {
            // Numbers were given in the order of reading; classes are sorted by name.
            let order: BTreeMap<usize, usize> = numbers.values().copied().zip(0..).collect();
            let images =
                learnt_from.images.iter_mut().chain(held_out.iter_mut().flat_map(|part| &mut part.images));
            let marks = images.filter_map(|image| image.marks.as_mut().ok()).flatten();
            marks.for_each(|mark| mark.class = order.get(&mark.class).copied().unwrap_or_default());
            numbers.into_keys().collect()
        }
        (None, false) => (0..last.map_or(0, |last| last + 1)).map(|class| class.to_string()).collect(),
    };
    // The files have their whole paths.
    Ok(MarkedSet { root: PathBuf::new(), classes, train: learnt_from, held_out, understood })
}

/// The YAML file that was named, or the first near the top that names classes.
fn config(
    root: &Path,
    listing: &Listing,
    named: Option<&Path>,
    understood: &mut Understood,
) -> Result<Option<Config>, DataError> {
    if let Some(path) = named {
        let missing = || malformed(path, "expected a key `names` with the names of the classes, found none");
        return Config::read(path)?.ok_or_else(missing).map(Some);
    }
    let is_yaml = |name: &&String| name.ends_with(".yaml") || name.ends_with(".yml");
    let mut files: Vec<&String> = listing.others.iter().filter(is_yaml).collect();
    files.sort_by_key(|name| name.matches('/').count());
    let mut found = None;
    for name in files.into_iter().filter(|name| name.matches('/').count() <= 2) {
        match (Config::read(&root.join(name))?, &found) {
            (Some(config), None) => found = Some(config),
            (Some(_), Some(_)) => {
                understood.leave_out("more YAML file", "more YAML files", std::slice::from_ref(name));
            }
            (None, _) => {}
        }
    }
    Ok(found)
}

/// Parts as a YAML file lists them.
fn by_config(spec: &Spec<'_>, config: &Config, understood: &mut Understood) -> Result<Parts, DataError> {
    let images = |key: &str, entries: &[String]| -> Result<Option<(String, Vec<Image>)>, DataError> {
        let mut all = Vec::new();
        for entry in entries {
            let Some(path) = config.resolve(entry) else {
                let reason =
                    format!("{key}: expected a folder of images or a list of them, found nothing at {entry}");
                return Err(malformed(&config.path, reason));
            };
            match path.is_dir() {
                true => {
                    let below = Listing::of(&path)?;
                    all.extend(below.images.into_iter().map(|(name, file)| (name, path.join(file))));
                }
                false => all.extend(listed(&path)?),
            }
        }
        let name = entries.join(", ");
        Ok((!entries.is_empty()).then_some((name, all)))
    };
    let Some(train) = images("train", &config.train)? else {
        return Err(malformed(&config.path, "expected a key `train`, found none"));
    };
    let val = || images("val", &config.val);
    let test = || images("test", &config.test);
    let held_out = match spec.held_out {
        Some(HeldOut::Train) => None,
        Some(HeldOut::Val) => val()?,
        Some(HeldOut::Test) => test()?,
        None => match val()? {
            Some(val) => {
                if !config.test.is_empty() {
                    understood.notes.push(format!("tested on val, not on test ({})", config.test.join(", ")));
                }
                Some(val)
            }
            None => test()?,
        },
    };
    let held_out = held_out.filter(|(_, images)| !images.is_empty());
    if held_out.is_none() {
        let named = [("val", &config.val), ("test", &config.test)];
        spec.lacks(&named.iter().filter(|(_, e)| !e.is_empty()).map(|(key, _)| *key).collect::<Vec<_>>())?;
    }
    Ok((train, held_out))
}

/// Images in a list, one a line, below the list's folder.
fn listed(path: &Path) -> Result<Vec<Image>, DataError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let text = read(path)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.map(|line| (line.to_owned(), folder.join(line.trim_start_matches("./")))).collect())
}

/// Parts by the names of folders.
fn by_folders(
    spec: &Spec<'_>,
    root: &Path,
    listing: &Listing,
    understood: &mut Understood,
) -> Result<Parts, DataError> {
    let is_below_images = |(name, _): &&(String, PathBuf)| name.split('/').any(|folder| folder == IMAGES);
    let (inside, outside): (Vec<_>, Vec<_>) = listing.images.iter().partition(is_below_images);
    // Masks and previews lie beside them.
    let (taken, left) = if inside.is_empty() { (outside, Vec::new()) } else { (inside, outside) };
    let names = |images: &[&Image]| -> Vec<String> { images.iter().map(|(name, _)| name.clone()).collect() };
    understood.leave_out("image outside of images/", "images outside of images/", &names(&left));
    let mut parts: BTreeMap<Option<Role>, (String, Vec<&Image>)> = BTreeMap::new();
    for image in taken {
        let role = role_of_folders(&image.0);
        let part = parts.entry(role.map(|(role, _)| role)).or_default();
        if let Some((_, folder)) = role {
            part.0 = folder.to_owned();
        }
        part.1.push(image);
    }
    let files = |(name, images): (String, Vec<&Image>)| {
        (name, images.into_iter().map(|(name, file)| (name.clone(), root.join(file))).collect())
    };
    let held_out = spec.choose(parts.keys().flatten().copied());
    if held_out.is_none() {
        spec.lacks(&parts.values().map(|(folder, _)| folder.as_str()).collect::<Vec<_>>())?;
    }
    let Some(train) = parts.remove(&Some(Role::Train)).or_else(|| parts.remove(&None)) else {
        // Held-out parts alone: all there is, and the one that is asked for.
        let asked = held_out.filter(|_| spec.held_out.is_some()).and_then(|role| parts.get(&Some(role)).cloned());
        let (names, all): (Vec<String>, Vec<Vec<&Image>>) = parts.into_values().unzip();
        let train = (names.join(", "), all.concat());
        if !train.1.is_empty() {
            spec.says_no_train(&train.0, understood);
        }
        return Ok((files(train), asked.map(files)));
    };
    let mut test = None;
    for (role, part) in parts {
        if role.is_some() && role == held_out {
            test = Some(files(part));
            continue;
        }
        let (one, many) = match role {
            Some(_) => ("image of another held-out part", "images of another held-out part"),
            None => ("image beside the parts", "images beside the parts"),
        };
        understood.leave_out(one, many, &names(&part.1));
    }
    Ok((files(train), test))
}

/// The label file of every image that has one with this ending: in place of `images/`, or beside it.
fn label_files<'a>(ending: &str, images: impl Iterator<Item = &'a Image>) -> BTreeMap<&'a Path, PathBuf> {
    let mut found = BTreeMap::new();
    for (_, file) in images {
        let beside = file.with_extension(ending);
        let parts: Vec<_> = beside.components().collect();
        let at = parts.iter().rposition(|part| part.as_os_str() == IMAGES);
        let instead = at.into_iter().flat_map(|at| {
            let (before, after) = (&parts[..at], &parts[at + 1..]);
            LABELS.map(|labels| {
                before.iter().collect::<PathBuf>().join(labels).join(after.iter().collect::<PathBuf>())
            })
        });
        if let Some(label) = instead.chain([beside.clone()]).find(|path| path.is_file()) {
            found.insert(file.as_path(), label);
        }
    }
    found
}

/// Reads label files of one part after another.
struct Read<'a> {
    found: &'a BTreeMap<&'a Path, PathBuf>,
    /// Numbers of classes by name, in XML.
    numbers: BTreeMap<String, usize>,
    /// The largest number of a class in text files.
    last: Option<usize>,
    names: Option<Vec<String>>,
    /// Whether text files have key points behind the boxes.
    are_poses: bool,
    /// Images without a label file.
    without: Vec<String>,
    want: Want,
}

impl Read<'_> {
    fn part(&mut self, (name, images): &(String, Vec<Image>), is_xml: bool) -> MarkedPart {
        let mut part = MarkedPart { name: name.clone(), images: Vec::new() };
        for (name, file) in images {
            let (told_size, marks) = match self.found.get(file.as_path()) {
                None => {
                    self.without.push(name.clone());
                    if is_xml {
                        continue;
                    }
                    (None, Ok(Vec::new()))
                }
                Some(labels) if is_xml => match voc_xml::read_annotation(labels, self.want) {
                    Ok(annotation) => (annotation.told_size, Ok(self.numbered(annotation))),
                    Err(error) => (None, Err(error)),
                },
                Some(labels) => (None, yolo::objects(labels, self.names.as_deref(), self.are_poses)),
            };
            if let (Ok(marks), false) = (&marks, is_xml) {
                self.last = self.last.max(marks.iter().map(|mark| mark.class).max());
            }
            part.images.push(Marked { name: name.clone(), file: file.clone(), told_size, marks });
        }
        part
    }

    fn numbered(&mut self, annotation: Annotation) -> Vec<Mark> {
        let mut number = |class: String| {
            let next = self.numbers.len();
            *self.numbers.entry(class).or_insert(next)
        };
        annotation.objects.into_iter().map(|object| Mark { class: number(object.class), ..object.mark }).collect()
    }
}

/// The list of class names nearest to the top.
fn names_file(root: &Path, listing: &Listing) -> Result<Option<(PathBuf, Vec<String>)>, DataError> {
    let is_list = |name: &&String| NAMES.contains(&name.rsplit('/').next().unwrap_or(name));
    let nearest = listing.others.iter().filter(is_list).min_by_key(|name| name.matches('/').count());
    nearest.map(|name| Ok((root.join(name), yolo::names_in(&root.join(name))?))).transpose()
}

/// Label files that no image has, of any part.
fn leave_out_labels(root: &Path, listing: &Listing, is_xml: bool, understood: &mut Understood) {
    let images: Vec<Image> = listing.images.iter().map(|(name, file)| (name.clone(), root.join(file))).collect();
    let used: BTreeSet<PathBuf> =
        label_files(if is_xml { "xml" } else { "txt" }, images.iter()).into_values().collect();
    let is_label = |name: &&String| {
        let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
        let is_named = folder.split('/').any(|part| LABELS.contains(&part)) && !NAMES.contains(&file);
        is_named && (file.ends_with(".txt") || file.ends_with(".xml")) && !used.contains(root.join(name).as_path())
    };
    let unused: Vec<String> = listing.others.iter().filter(is_label).cloned().collect();
    understood.leave_out("label file without an image", "label files without an image", &unused);
}

/// The error that there are no labels, with what would be some.
fn no_labels(spec: &Spec<'_>, images: usize, listing: &Listing, want: Want) -> DataError {
    let folders = listing.folders.len();
    let is_by_folder = folders > 1 && !listing.folders.iter().any(|f| LABELS.contains(&f.as_str()));
    let (what, hint) = match want {
        Want::Classes if is_by_folder => (
            "labels of several classes",
            "; where a folder is a class, use `ocelli eval knn` or `ocelli eval low-shot`",
        ),
        Want::Classes => ("labels of several classes", ""),
        Want::Boxes => ("boxes", ""),
    };
    spec.fails(format!(
        "no {what}: expected PASCAL VOC (JPEGImages, Annotations, ImageSets/Main), YOLO (images/…, labels/….txt, or \
         .txt beside each image) or COCO (annotations/instances_….json); found {} in {} without any{hint}",
        count(images, "image", "images"),
        count(folders, "folder", "folders"),
    ))
}
