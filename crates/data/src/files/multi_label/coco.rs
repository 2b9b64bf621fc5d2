//! COCO's instances.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::super::listing::Listing;
use super::super::understood::Understood;
use super::splits::{Role, role, role_of_file, role_of_folders};
use super::{Images, MultiLabelSet, Presence, Shown, assemble, malformed};
use crate::DataError;

/// A file of instances, by its name below the root.
pub(super) struct Instances {
    name: String,
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

#[derive(Deserialize)]
struct File {
    images: Vec<ImageEntry>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct ImageEntry {
    id: i64,
    file_name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: i64,
    category_id: i64,
    #[serde(default)]
    iscrowd: Flag,
}

/// 0 or 1, or as some programs write it.
#[derive(Deserialize, Default)]
#[serde(untagged)]
enum Flag {
    #[default]
    Missing,
    Number(i64),
    Truth(bool),
}

impl Flag {
    fn is_set(&self) -> bool {
        matches!(self, Self::Truth(true)) || matches!(self, Self::Number(n) if *n != 0)
    }
}

#[derive(Deserialize)]
struct Category {
    id: i64,
    name: String,
}

impl File {
    fn read(path: &Path) -> Result<Self, DataError> {
        let bytes = std::fs::read(path)
            .map_err(|e| DataError::Io { path: path.display().to_string(), reason: e.to_string() })?;
        serde_json::from_slice(&bytes).map_err(|e| {
            let reason = match e.is_data() {
                true => format!("expected COCO's instances (images, annotations, categories): {e}"),
                false => format!("not JSON: {e}"),
            };
            malformed(path, reason)
        })
    }
}

pub(super) fn open(
    spec: &str,
    root: &Path,
    listing: &Listing,
    instances: &[Instances],
) -> Result<MultiLabelSet, DataError> {
    let mut understood =
        Understood { spec: spec.to_owned(), root: root.display().to_string(), ..Understood::default() };
    let (train, test) = choose(instances);
    let unused: Vec<String> = instances
        .iter()
        .filter(|i| i.name != train.name && test.is_none_or(|test| i.name != test.name))
        .map(|i| i.name.clone())
        .collect();
    understood.leave_out("more file of instances", "more files of instances", &unused);
    let names: Vec<&str> = std::iter::once(train).chain(test).map(|i| i.name.as_str()).collect();
    understood
        .notes
        .push(format!("labels: COCO's instances ({}); an image with crowds alone is ignored", names.join(", ")));
    let train_file = File::read(&root.join(&train.name))?;
    let test_file = test.map(|test| File::read(&root.join(&test.name))).transpose()?;
    let classes = class_names(std::iter::once(&train_file).chain(&test_file));
    let files = Files::of(listing);
    let mut missing = Vec::new();
    let mut part = |of: &Instances, file: File| images(root, of, file, &classes, &files, &mut missing);
    let train = part(train, train_file)?;
    let test = test.zip(test_file).map(|(test, file)| part(test, file)).transpose()?;
    understood.leave_out("listed image without a file", "listed images without a file", &missing);
    assemble(root, classes, train, test, understood)
}

/// What to learn from, and what to test on.
fn choose(instances: &[Instances]) -> (&Instances, Option<&Instances>) {
    let train = instances.iter().find(|i| i.role == Some(Role::Train)).unwrap_or(&instances[0]);
    let held_out = instances.iter().filter(|i| i.name != train.name && i.role > Some(Role::Train));
    (train, held_out.min_by_key(|i| i.role))
}

/// Names of all categories, by their numbers where both files agree on these, each name once.
fn class_names<'f>(files: impl Iterator<Item = &'f File>) -> Vec<String> {
    let mut categories: Vec<(i64, &String)> =
        files.flat_map(|file| &file.categories).map(|c| (c.id, &c.name)).collect();
    categories.sort();
    let mut seen = BTreeSet::new();
    categories.into_iter().filter(|(_, name)| seen.insert(*name)).map(|(_, name)| name.clone()).collect()
}

/// The images of a folder by their names without folders.
struct Files<'a> {
    by_name: BTreeMap<&'a str, Vec<&'a (String, PathBuf)>>,
}

impl<'a> Files<'a> {
    fn of(listing: &'a Listing) -> Self {
        let mut by_name: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for image in &listing.images {
            by_name.entry(image.0.rsplit('/').next().unwrap_or(&image.0)).or_default().push(image);
        }
        Self { by_name }
    }

    /// The file of an image: the only one of its name, or the one whose path ends as it is written, or that lies
    /// in a folder of the part.
    fn find(&self, written: &str, part: Option<Role>) -> Option<&'a (String, PathBuf)> {
        let candidates = self.by_name.get(written.rsplit('/').next()?)?;
        let is_in_part = |name: &str| part.is_some() && name.split('/').any(|folder| role(folder) == part);
        let ends_so = |name: &str| name == written || name.ends_with(&format!("/{written}"));
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
        found.copied()
    }
}

/// The images of a file that are there, with what they show.
fn images(
    root: &Path,
    of: &Instances,
    file: File,
    classes: &[String],
    files: &Files<'_>,
    missing: &mut Vec<String>,
) -> Result<Images, DataError> {
    let path = root.join(&of.name);
    let numbers: BTreeMap<&String, usize> = classes.iter().zip(0..).collect();
    let class_of: BTreeMap<i64, usize> =
        file.categories.iter().filter_map(|c| Some((c.id, *numbers.get(&c.name)?))).collect();
    let mut shows: BTreeMap<i64, Vec<(usize, Presence)>> =
        file.images.iter().map(|image| (image.id, Vec::new())).collect();
    for (at, annotation) in file.annotations.iter().enumerate() {
        let Annotation { image_id, category_id, iscrowd } = annotation;
        let Some(class) = class_of.get(category_id) else {
            let reason = format!("annotations[{at}]: category_id {category_id} is none of the categories");
            return Err(malformed(&path, reason));
        };
        let Some(of_image) = shows.get_mut(image_id) else {
            return Err(malformed(&path, format!("annotations[{at}]: image_id {image_id} is none of the images")));
        };
        of_image.push((*class, if iscrowd.is_set() { Presence::Ignored } else { Presence::Present }));
    }
    let mut part = Images { name: of.name.clone(), images: Vec::new() };
    for image in file.images {
        match files.find(&image.file_name, of.role) {
            Some((name, file)) => part.images.push(Shown {
                name: name.clone(),
                file: file.clone(),
                shows: shows.remove(&image.id).unwrap_or_default(),
            }),
            None => missing.push(image.file_name),
        }
    }
    if part.images.is_empty() {
        let reason = format!("none of its images is below {}", root.display());
        return Err(malformed(&path, reason));
    }
    Ok(part)
}
