//! COCO's instances: which files there are, and which of the images they list.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::listing::Listing;
use super::super::understood::Understood;
use super::coco_json::{Entry, File};
use super::malformed;
use super::marks::{Mark, Marked, MarkedPart, MarkedSet, Place};
use super::spec::Spec;
use super::splits::{Role, role, role_of_file, role_of_folders};
use crate::DataError;

/// A file of instances, by its name below the root.
pub(super) struct Instances {
    pub name: String,
    role: Option<Role>,
}

/// Files of instances: `instances_….json` anywhere, and `….coco.json` as some exports have it.
pub(super) fn find(listing: &Listing) -> Vec<Instances> {
    let of = |name: &String| {
        let file = name.rsplit('/').next().unwrap_or(name);
        let stem = file.strip_suffix(".json")?;
        let is_one = stem.starts_with("instances") || stem.ends_with("coco");
        let role = role_of_file(stem).or_else(|| role_of_folders(name).map(|(role, _)| role));
        is_one.then(|| Instances { name: name.clone(), role })
    };
    listing.others.iter().filter_map(of).collect()
}

/// The class of each object and its entry, or why they cannot be read.
type Objects<S> = Result<Vec<(usize, Entry<S>)>, DataError>;

/// An image that is there, and its objects.
pub(super) struct Listed<S> {
    pub name: String,
    /// Below the root.
    pub file: PathBuf,
    pub told_size: Option<[u32; 2]>,
    pub objects: Objects<S>,
}

/// The files that were taken, read.
pub(super) struct Read<S> {
    pub classes: Vec<String>,
    pub train: (String, Vec<Listed<S>>),
    pub held_out: Option<(String, Vec<Listed<S>>)>,
    pub understood: Understood,
}

pub(super) fn open(spec: &Spec<'_>, listing: &Listing, instances: &[Instances]) -> Result<MarkedSet, DataError> {
    let Read { classes, train, held_out, understood } = read::<IgnoredAny>(spec, listing, instances)?;
    let part = |(name, images): (String, Vec<Listed<IgnoredAny>>)| {
        let image = |image: Listed<IgnoredAny>| Marked {
            name: image.name,
            file: image.file,
            told_size: image.told_size,
            marks: image.objects.map(|objects| objects.into_iter().map(mark).collect()),
        };
        MarkedPart { name, images: images.into_iter().map(image).collect() }
    };
    let (train, held_out) = (part(train), held_out.map(part));
    Ok(MarkedSet { root: spec.path.to_path_buf(), classes, train, held_out, understood })
}

fn mark((class, entry): (usize, Entry<IgnoredAny>)) -> Mark {
    let place = match entry.bbox.0 {
        Some([x, y, width, height]) => Place::Pixels([x, y, x + width, y + height]),
        None => Place::Untold,
    };
    Mark { class, place, is_difficult: false, is_crowd: entry.iscrowd.is_set(), area: entry.area }
}

/// Reads the file to learn from and the one to evaluate on, and finds their images.
pub(super) fn read<S: for<'de> Deserialize<'de> + Default>(
    spec: &Spec<'_>,
    listing: &Listing,
    instances: &[Instances],
) -> Result<Read<S>, DataError> {
    let root = spec.path;
    let mut understood =
        Understood { spec: spec.text.to_owned(), root: root.display().to_string(), ..Understood::default() };
    let (train, held_out) = choose(spec, instances)?;
    let unused: Vec<String> = instances
        .iter()
        .filter(|i| i.name != train.name && held_out.is_none_or(|held_out| i.name != held_out.name))
        .map(|i| i.name.clone())
        .collect();
    understood.leave_out("more file of instances", "more files of instances", &unused);
    let names: Vec<&str> = std::iter::once(train).chain(held_out).map(|i| i.name.as_str()).collect();
    understood.notes.push(format!("labels: COCO's instances ({}); crowds do not count", names.join(", ")));
    let train_file = File::<S>::read(&root.join(&train.name))?;
    let held_out_file = held_out.map(|part| File::<S>::read(&root.join(&part.name))).transpose()?;
    let classes = class_names(std::iter::once(&train_file).chain(&held_out_file));
    let files = Files::of(listing);
    let (mut missing, mut shared) = (Vec::new(), Vec::new());
    let mut part =
        |of: &Instances, file: File<S>| images(root, of, file, &classes, &files, [&mut missing, &mut shared]);
    let train = (train.name.clone(), part(train, train_file)?);
    let held_out = match held_out.zip(held_out_file) {
        Some((of, file)) => Some((of.name.clone(), part(of, file)?)),
        None => None,
    };
    understood.leave_out("listed image without a file", "listed images without a file", &missing);
    understood.leave_out(
        "listed image whose file is another's too",
        "listed images whose files are others' too",
        &shared,
    );
    Ok(Read { classes, train, held_out, understood })
}

/// What to learn from, and what to evaluate on.
fn choose<'i>(
    spec: &Spec<'_>,
    instances: &'i [Instances],
) -> Result<(&'i Instances, Option<&'i Instances>), DataError> {
    let train = instances.iter().find(|i| i.role == Some(Role::Train)).unwrap_or(&instances[0]);
    let others = || instances.iter().filter(|i| i.name != train.name);
    let role = spec.choose(others().filter_map(|i| i.role));
    let held_out = others().find(|i| role.is_some() && i.role == role);
    if held_out.is_none() {
        spec.lacks(&instances.iter().map(|i| i.name.as_str()).collect::<Vec<_>>())?;
    }
    Ok((train, held_out))
}

/// Names of all categories, by their numbers where both files agree on these, each name once.
fn class_names<'f, S: 'f>(files: impl Iterator<Item = &'f File<S>>) -> Vec<String> {
    let mut categories: Vec<(i64, &String)> =
        files.flat_map(|file| &file.categories).map(|c| (c.id, &c.name)).collect();
    categories.sort();
    let mut seen = BTreeSet::new();
    categories.into_iter().filter(|(_, name)| seen.insert(*name)).map(|(_, name)| name.clone()).collect()
}

/// A file's name without its folders.
fn base(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// A number that is there twice.
fn twice(mut numbers: impl Iterator<Item = i64>) -> Option<i64> {
    let mut seen = BTreeSet::new();
    numbers.find(|number| !seen.insert(*number))
}

/// The images of a folder by their names without folders.
struct Files<'a> {
    by_name: BTreeMap<&'a str, Vec<&'a (String, PathBuf)>>,
}

impl<'a> Files<'a> {
    fn of(listing: &'a Listing) -> Self {
        let mut by_name: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for image in &listing.images {
            by_name.entry(base(&image.0)).or_default().push(image);
        }
        Self { by_name }
    }

    /// The file of an image: the only one of its name, or the one whose path ends as it is written, or that lies in a folder
    /// of the part; none that lies in another part's. Where its name alone does not say which image it is (not `is_alone`),
    /// the path must end as it is written.
    fn find(&self, written: &str, part: Option<Role>, is_alone: bool) -> Option<&'a (String, PathBuf)> {
        let written = written.trim_start_matches("./");
        let is_in_part = |name: &str| part.is_some() && name.split('/').any(|folder| role(folder) == part);
        let ends_so = |name: &str| name == written || name.ends_with(&format!("/{written}"));
        let is_of_another = |name: &str| {
            // What is written is meant so.
            let folders = if ends_so(name) { &name[..name.len() - written.len()] } else { name };
            let folders = folders.rsplit_once('/').map_or("", |(folders, _)| folders);
            let roles: Vec<Role> = folders.split('/').filter_map(role).collect();
            // `valid` is `val`.
            let kind = |role: &Role| (*role == Role::Train, role.is_test());
            part.is_some_and(|part| !roles.is_empty() && !roles.iter().any(|role| kind(role) == kind(&part)))
        };
        let named = self.by_name.get(base(written))?;
        let candidates: Vec<_> =
            named.iter().filter(|(n, _)| (is_alone || ends_so(n)) && !is_of_another(n)).collect();
        let pick = |good: &dyn Fn(&str) -> bool| {
            let mut left = candidates.iter().filter(|(name, _)| good(name));
            left.next().filter(|_| left.next().is_none())
        };
        let found = match candidates.as_slice() {
            [only] => Some(only),
            _ => pick(&|name| ends_so(name) && is_in_part(name))
                .or_else(|| pick(&is_in_part))
                .or_else(|| pick(&ends_so)),
        };
        found.map(|found| **found)
    }
}

/// The images of a file that are there, with their objects. An object of no category makes its image unreadable, one of no
/// image the file.
fn images<S>(
    root: &Path,
    of: &Instances,
    file: File<S>,
    classes: &[String],
    files: &Files<'_>,
    [missing, shared]: [&mut Vec<String>; 2],
) -> Result<Vec<Listed<S>>, DataError> {
    let path = root.join(&of.name);
    for (what, again) in [
        ("images", twice(file.images.iter().map(|image| image.id))),
        ("categories", twice(file.categories.iter().map(|category| category.id))),
    ] {
        if let Some(id) = again {
            return Err(malformed(&path, format!("{what}: expected an id for each, found {id} twice")));
        }
    }
    let numbers: BTreeMap<&String, usize> = classes.iter().zip(0..).collect();
    let class_of: BTreeMap<i64, usize> =
        file.categories.iter().filter_map(|c| Some((c.id, *numbers.get(&c.name)?))).collect();
    let mut objects: BTreeMap<i64, Objects<S>> =
        file.images.iter().map(|image| (image.id, Ok(Vec::new()))).collect();
    for (at, entry) in file.annotations.into_iter().enumerate() {
        let Some(of_image) = objects.get_mut(&entry.image_id) else {
            let image_id = entry.image_id;
            return Err(malformed(&path, format!("annotations[{at}]: image_id {image_id} matches no image")));
        };
        match (class_of.get(&entry.category_id), of_image.as_mut()) {
            (Some(class), Ok(found)) => found.push((*class, entry)),
            (None, Ok(_)) => {
                let category_id = entry.category_id;
                let reason = format!("annotations[{at}]: category_id {category_id} is none of the categories");
                *of_image = Err(malformed(&path, reason));
            }
            (_, Err(_)) => {}
        }
    }
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    file.images.iter().for_each(|image| *times.entry(base(&image.file_name)).or_default() += 1);
    let found: Vec<Option<&(String, PathBuf)>> = file
        .images
        .iter()
        .map(|image| {
            // A folder is written only where there are several.
            let is_alone = !image.file_name.contains('/') || times.get(base(&image.file_name)) == Some(&1);
            files.find(&image.file_name, of.role, is_alone)
        })
        .collect();
    let mut takers: BTreeMap<&str, usize> = BTreeMap::new();
    found.iter().flatten().for_each(|(name, _)| *takers.entry(name).or_default() += 1);
    let mut listed = Vec::new();
    for (image, found) in file.images.into_iter().zip(found) {
        match found {
            Some((name, _)) if takers.get(name.as_str()).is_some_and(|takers| *takers > 1) => {
                shared.push(image.file_name);
            }
            Some((name, file)) => listed.push(Listed {
                name: name.clone(),
                file: file.clone(),
                told_size: image.size(),
                objects: objects.remove(&image.id).unwrap_or_else(|| Ok(Vec::new())),
            }),
            None => missing.push(image.file_name),
        }
    }
    if listed.is_empty() {
        return Err(malformed(&path, format!("none of its images is below {}", root.display())));
    }
    Ok(listed)
}
