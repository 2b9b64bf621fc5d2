//! From what a user writes after `--data` to a source.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::DecodeLimits;
use super::cifar::{CifarSource, is_named_as_records, is_record_file, record_files, split_of};
use super::folder::Part;
use super::layout::{PartName, children, descend, split_of as part_name};
use super::listing::Listing;
use super::understood::{LeftOut, PartInfo, Understood};
use crate::scenes::SceneConfig;
use crate::{DataError, SceneSource, Source, Split};

/// A data set in its parts, and what was made of what was named.
#[derive(Clone)]
pub struct DataSet {
    /// What is learnt from.
    pub train: Arc<dyn Source>,
    /// What is held out. Classes have the numbers they have in the training part; those it lacks come after them.
    pub val: Option<Arc<dyn Source>>,
    /// How it was understood.
    pub understood: Understood,
}

/// Opens a data set: `scenes`, `scenes:COUNT` or `scenes:COUNT:SIZE` (the built-in one), a folder of images, a folder
/// with CIFAR records, or a record file.
///
/// A folder may hold `train` (or `training`) and `val` (`valid`, `validation`, `dev`, `test`, `testing`), in any case, or classes, or
/// images; single folders around all of it are gone through.
///
/// # Errors
/// When the text is no known data set, or the data set cannot be read.
pub fn open_data(spec: &str) -> Result<DataSet, DataError> {
    if let Some(config) = scene_config(spec)? {
        let part = |split: Split| -> Result<Arc<dyn Source>, DataError> {
            Ok(Arc::new(SceneSource::new(config.split(split))?))
        };
        return Ok(of_parts(spec, part(Split::Train)?, Some(part(Split::Val)?)));
    }
    let path = Path::new(spec);
    if path.is_file() {
        if !is_record_file(path) {
            return Err(DataError::NotAFolder {
                path: spec.to_owned(),
                found: "a file that does not end in .bin or .bin.xz".to_owned(),
            });
        }
        return Ok(of_parts(spec, Arc::new(CifarSource::open(path)?), None));
    }
    let listing = Listing::of(path)?;
    let records = record_files(path)?;
    // Beside pictures only the data set's own names are records: many programs call a file something.bin.
    let known: Vec<PathBuf> = records.iter().filter(|file| is_named_as_records(file)).cloned().collect();
    match (listing.images.is_empty(), records.is_empty(), known.is_empty()) {
        (true, true, _) => Err(listing.no_images(path)),
        (true, false, _) => of_records(spec, &records, &listing),
        (false, _, false) => of_records(spec, &known, &listing),
        (false, _, true) => Ok(of_folder(spec, path, &listing)),
    }
}

/// Opens the training part of a data set, see [`open_data`].
///
/// # Errors
/// As [`open_data`].
pub fn open_source(spec: &str) -> Result<Arc<dyn Source>, DataError> {
    Ok(open_data(spec)?.train)
}

/// Opens one part of a data set, see [`open_data`]. `None` where there is no such split.
///
/// # Errors
/// As [`open_data`].
pub fn open_split(spec: &str, split: Split) -> Result<Option<Arc<dyn Source>>, DataError> {
    let DataSet { train, val, .. } = open_data(spec)?;
    Ok(match split {
        Split::Train => val.map(|_| train),
        Split::Val => val,
    })
}

/// A set whose parts are known, and have the same classes.
fn of_parts(spec: &str, train: Arc<dyn Source>, val: Option<Arc<dyn Source>>) -> DataSet {
    let info = |folder: &str, source: &dyn Source| PartInfo {
        folder: folder.to_owned(),
        images: source.len(),
        labelled: !source.class_names().is_empty(),
    };
    let understood = Understood {
        spec: spec.to_owned(),
        train: info("train", train.as_ref()),
        val: val.as_ref().map(|val| info("held out", val.as_ref())),
        classes: train.class_names().to_vec(),
        ..Understood::default()
    };
    DataSet { train, val, understood }
}

fn of_records(spec: &str, files: &[PathBuf], listing: &Listing) -> Result<DataSet, DataError> {
    let (train, val): (Vec<PathBuf>, Vec<PathBuf>) =
        files.iter().cloned().partition(|f| split_of(f) == Split::Train);
    let open = |files: &[PathBuf]| -> Result<Arc<dyn Source>, DataError> {
        Ok(Arc::new(CifarSource::open_files(files)?))
    };
    let mut set = match (train.is_empty(), val.is_empty()) {
        (false, false) => of_parts(spec, open(&train)?, Some(open(&val)?)),
        _ => of_parts(spec, open(files)?, None),
    };
    let images: Vec<String> = listing.images.iter().map(|(name, _)| name.clone()).collect();
    set.understood.leave_out("pictures beside CIFAR records", &images);
    Ok(set)
}

fn of_folder(spec: &str, path: &Path, listing: &Listing) -> DataSet {
    let mut understood = Understood { spec: spec.to_owned(), ..Understood::default() };
    understood.leave_out("hidden or a system's own", &listing.hidden);
    let other: Vec<String> = listing.endings().iter().map(|(ending, n)| format!("{n} {ending}")).collect();
    if !other.is_empty() {
        understood.left_out.push(LeftOut {
            what: if listing.others.len() == 1 { "other file" } else { "other files" }.to_owned(),
            count: listing.others.len(),
            examples: other,
        });
    }
    understood.leave_out("unreadable or leading nowhere", &listing.problems);

    let images: Vec<&str> = listing.images.iter().map(|(name, _)| name.as_str()).collect();
    let root = descend(&images, String::new());
    understood.root = root.trim_end_matches('/').to_owned();
    let (train, val, folders) = parts(listing, &root, &mut understood);

    for part in [Some(&train), val.as_ref()].into_iter().flatten() {
        understood.leave_out("images beside the class folders", &part.strays);
        understood.notes.extend(part.note.clone());
    }
    let train_classes = train.class_names();
    let mut classes = train_classes.clone();
    if let Some(of) = val.as_ref().and_then(|val| val.classes.as_ref()) {
        let all = val.as_ref().map(Part::class_names).unwrap_or_default();
        for class in all.iter().filter(|c| !train_classes.contains(c)) {
            understood.only_held_out.push((class.clone(), of.iter().filter(|c| *c == class).count()));
            classes.push(class.clone());
        }
        understood.not_held_out = train_classes.iter().filter(|c| !all.contains(c)).count();
    }
    let info = |folder: &str, part: &Part| PartInfo {
        folder: folder.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned(),
        images: part.images.len(),
        labelled: part.classes.is_some(),
    };
    understood.train = info(&folders[0], &train);
    understood.val = val.as_ref().map(|val| info(&folders[1], val));
    if let (Some(val), true) = (&understood.val, train.classes.is_some())
        && !val.labelled
    {
        understood.notes.push(format!(
            "{} has no class folders, so its images have no labels: k-NN holds out a tenth of the training images",
            val.folder
        ));
    }
    understood.classes.clone_from(&classes);
    let limits = DecodeLimits::default();
    // Of a set without splits names begin where it was named, so that they stay the same if folders around it change hands.
    DataSet {
        val: val.map(|val| Arc::new(val.source(path, &folders[1], &classes, limits)) as Arc<dyn Source>),
        train: Arc::new(train.source(path, &folders[0], &classes, limits)),
        understood,
    }
}

/// The training part and the held-out one below `root`, with their folders.
fn parts(listing: &Listing, root: &str, understood: &mut Understood) -> (Part, Option<Part>, [String; 2]) {
    let folders = children(listing.folders.iter().map(String::as_str).chain([""]), root);
    let direct =
        listing.folders.iter().filter_map(|f| f.strip_prefix(root)).filter(|f| !f.is_empty() && !f.contains('/'));
    let mut named: Vec<(PartName, &str)> =
        folders.into_iter().chain(direct).filter_map(|f| Some((part_name(f)?, f))).collect();
    named.sort();
    named.dedup();
    let holds = |folder: &str| {
        let prefix = format!("{root}{folder}/");
        listing.images.iter().any(|(name, _)| name.starts_with(&prefix))
    };
    let train = named.iter().find(|(part, folder)| *part == PartName::Train && holds(folder));
    let Some((_, train)) = train else {
        return (Part::of(listing, root, 2), None, [String::new(), String::new()]);
    };
    let mut held_out: Vec<&str> = Vec::new();
    for (_, folder) in named.iter().filter(|(part, _)| *part != PartName::Train) {
        if holds(folder) {
            held_out.push(folder);
        } else {
            understood.notes.push(format!("{folder} holds no image: it counts as absent"));
        }
    }
    let images: Vec<&str> = listing.images.iter().map(|(name, _)| name.as_str()).collect();
    let part = |folder: &str| {
        let folder = format!("{root}{folder}/");
        let below: Vec<&str> = images.iter().copied().filter(|n| n.starts_with(&folder)).collect();
        (Part::of(listing, &descend(&below, folder.clone()), 2), folder)
    };
    let (train_part, train_folder) = part(train);
    let known = train_part.class_names();
    let taken: Vec<&str> = std::iter::once(*train).chain(held_out.first().copied()).collect();
    let beside: Vec<String> = images
        .iter()
        .filter(|n| {
            let rest = n.strip_prefix(root).unwrap_or(n);
            !taken.iter().any(|t| rest.strip_prefix(t).is_some_and(|r| r.starts_with('/')))
        })
        .map(|n| (*n).to_owned())
        .collect();
    understood.leave_out(&format!("images beside {}", taken.join(" and ")), &beside);
    // A held-out part may have one class of several alone.
    let held_out_part = |name: &&str| {
        let folder = format!("{root}{name}/");
        match children(images.iter().copied(), &folder).iter().any(|c| known.iter().any(|k| k == c)) {
            true => (Part::of(listing, &folder, 1), folder),
            false => part(name),
        }
    };
    match held_out.first().map(held_out_part) {
        Some((val, folder)) => (train_part, Some(val), [train_folder, folder]),
        None => (train_part, None, [train_folder, String::new()]),
    }
}

/// `None` when the text does not name the built-in data set.
fn scene_config(spec: &str) -> Result<Option<SceneConfig>, DataError> {
    let mut parts = spec.split(':');
    // A folder called `scenes` is reached as `./scenes`.
    if parts.next() != Some("scenes") {
        return Ok(None);
    }
    let mut config = SceneConfig::default();
    let fail = || DataError::Spec {
        spec: spec.to_owned(),
        reason: "expected scenes, scenes:COUNT or scenes:COUNT:SIZE, such as scenes:5000:64".to_owned(),
    };
    if let Some(count) = parts.next() {
        config.count = count.parse().map_err(|_| fail())?;
    }
    if let Some(size) = parts.next() {
        config.size_px = size.parse().map_err(|_| fail())?;
    }
    if parts.next().is_some() {
        return Err(fail());
    }
    Ok(Some(config))
}
