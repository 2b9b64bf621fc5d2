//! From what a user writes after `--data` to a source.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::DecodeLimits;
use super::cifar::{CLASS_LISTS, CifarSource, is_record_file, split_of};
use super::folder::Part;
use super::layout::{Kind, Layout, Splits, Tree};
use super::listing::Listing;
use super::understood::{PartInfo, Understood, count, some_of};
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
/// A folder may hold `train` (or `training`) and `val` (`valid`, `validation`, `dev`, `test`, `testing`), in any case, or
/// classes, or images; single folders around all of it are gone through. What Ocelli wrote itself, runs and pictures, is passed
/// over.
///
/// # Errors
/// When the text is no known data set, or the data set cannot be read.
pub fn open_data(spec: &str) -> Result<DataSet, DataError> {
    open_data_beside(spec, None)
}

/// The same for a command that writes to a folder, `out`, which may lie within the data set: what is in it is no data.
///
/// # Errors
/// As [`open_data`].
pub fn open_data_beside(spec: &str, out: Option<&Path>) -> Result<DataSet, DataError> {
    if let Some(config) = scene_config(spec)? {
        let part = |split: Split| -> Result<Arc<dyn Source>, DataError> {
            Ok(Arc::new(SceneSource::new(config.split(split))?))
        };
        let understood = Understood { spec: spec.to_owned(), ..Understood::default() };
        return Ok(of_parts(understood, ("train", part(Split::Train)?), Some(part(Split::Val)?)));
    }
    let path = Path::new(spec);
    if path.is_file() {
        if !is_record_file(path) {
            return Err(DataError::NotAFolder {
                path: spec.to_owned(),
                found: super::held::file(path).unwrap_or("a file that does not end in .bin or .bin.xz").to_owned(),
            });
        }
        let root = spec.to_owned();
        let understood = Understood { spec: root.clone(), root, ..Understood::default() };
        return Ok(of_parts(understood, ("", Arc::new(CifarSource::open(path)?)), None));
    }
    let listing = Listing::beside(path, out)?;
    let images: Vec<&str> = listing.images.iter().map(|(name, _)| name.as_str()).collect();
    let folders: Vec<&str> = listing.folders.iter().map(String::as_str).collect();
    let others: Vec<&str> = listing.others.iter().map(String::as_str).collect();
    let tree = Tree { images: &images, folders: &folders, others: &others };
    let Layout { root, kind } = tree.layout();
    let mut understood = Understood { spec: spec.to_owned(), root: spec.to_owned(), ..Understood::default() };
    if !root.is_empty() {
        understood.root = format!("{}/{}", spec.trim_end_matches('/'), root.trim_end_matches('/'));
    }
    let opening = Opening { path, listing: &listing, tree, root, understood };
    match kind {
        Kind::Records(files) => opening.records(&files),
        _ if images.is_empty() => Err(listing.no_images(path)),
        Kind::Split(splits) => Ok(opening.splits(&splits)),
        Kind::Whole => Ok(opening.whole()),
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
fn of_parts(
    understood: Understood,
    (train_name, train): (&str, Arc<dyn Source>),
    val: Option<Arc<dyn Source>>,
) -> DataSet {
    let info = |folder: &str, source: &dyn Source| PartInfo {
        folder: folder.to_owned(),
        images: source.len(),
        labelled: !source.class_names().is_empty(),
    };
    let understood = Understood {
        train: info(train_name, train.as_ref()),
        val: val.as_ref().map(|val| info("val", val.as_ref())),
        classes: train.class_names().to_vec(),
        ..understood
    };
    DataSet { train, val, understood }
}

/// A folder whose layout is known.
struct Opening<'a> {
    path: &'a Path,
    listing: &'a Listing,
    tree: Tree<'a>,
    root: String,
    understood: Understood,
}

impl Opening<'_> {
    /// Leaves out what no layout takes.
    fn leave_out_the_rest(&mut self, is_taken: impl Fn(&String) -> bool) {
        self.listing.tell(&mut self.understood, is_taken);
    }

    fn records(mut self, names: &[String]) -> Result<DataSet, DataError> {
        let lists = CLASS_LISTS.map(|list| format!("{}{list}", self.root));
        self.leave_out_the_rest(|name| names.contains(name) || lists.contains(name));
        let images: Vec<String> = self.tree.images.iter().map(|name| (*name).to_owned()).collect();
        self.understood.leave_out("image beside the records", "images beside the records", &images);
        let files: Vec<PathBuf> = names.iter().map(|name| self.path.join(name)).collect();
        let (train, val): (Vec<PathBuf>, Vec<PathBuf>) =
            files.iter().cloned().partition(|f| split_of(f) == Split::Train);
        let open = |files: &[PathBuf]| -> Result<Arc<dyn Source>, DataError> {
            Ok(Arc::new(CifarSource::open_files(files)?))
        };
        if train.is_empty() || val.is_empty() {
            return Ok(of_parts(self.understood, ("", open(&files)?), None));
        }
        Ok(of_parts(self.understood, ("train", open(&train)?), Some(open(&val)?)))
    }

    fn whole(mut self) -> DataSet {
        self.leave_out_the_rest(|_| false);
        let part = Part::of(self.listing, &self.root, 2);
        self.left_out_of(&part, &self.root.clone());
        // Images keep the names they have from where the set was named, so that these are paths a person can follow.
        self.set(("", part, ""), None)
    }

    fn splits(mut self, splits: &Splits) -> DataSet {
        let root = self.root.clone();
        self.leave_out_the_rest(|_| false);
        let counted = |name: &str| {
            let images = self.tree.images_below(&format!("{root}{name}/")).len();
            format!("{name}: {}", count(images, "image", "images"))
        };
        let unused: Vec<String> = splits.unused.iter().map(|f| counted(f)).collect();
        let taken = |f: &&&str| {
            **f == splits.train || splits.val.as_deref() == Some(**f) || splits.unused.iter().any(|u| u == **f)
        };
        let (with, without) = self.tree.folders_in(&root);
        let beside: Vec<String> = with.iter().filter(|f| !taken(f)).map(|f| counted(f)).collect();
        let empty: Vec<String> =
            without.iter().filter(|f| !splits.empty.iter().any(|e| e == **f)).map(|f| (*f).to_owned()).collect();
        let loose: Vec<String> = self.tree.images_in(&root).into_iter().map(str::to_owned).collect();
        self.understood.leave_out("more held-out folder", "more held-out folders", &unused);
        self.understood.leave_out("folder beside the parts", "folders beside the parts", &beside);
        self.understood.leave_out("folder without images", "folders without images", &empty);
        self.understood.leave_out("image beside the parts", "images beside the parts", &loose);
        let notes = splits.empty.iter().map(|name| format!("{name} holds no image: it counts as absent"));
        self.understood.notes.extend(notes);

        let folder = |name: &str| format!("{root}{name}/");
        let train_folder = folder(&splits.train);
        let inside = self.tree.inside_part(&train_folder, &[]);
        let train = Part::of(self.listing, &inside, 2);
        self.left_out_of(&train, &inside);
        let Some(val_name) = &splits.val else {
            return self.set((&splits.train, train, &train_folder), None);
        };
        let val_folder = folder(val_name);
        let known = train.class_names();
        let inside = self.tree.inside_part(&val_folder, &known);
        let knows_one = self.tree.folders_in(&inside).0.iter().any(|f| known.iter().any(|k| k == f));
        // A held-out part may have one class of several alone.
        let val = Part::of(self.listing, &inside, if knows_one { 1 } else { 2 });
        self.left_out_of(&val, &inside);
        self.set((&splits.train, train, &train_folder), Some((val_name, val, &val_folder)))
    }

    /// Leaves out what lies beside the classes of a part.
    fn left_out_of(&mut self, part: &Part, folder: &str) {
        self.understood.leave_out("image beside the classes", "images beside the classes", &part.strays);
        self.understood.notes.extend(part.note.clone());
        let empty = self.tree.folders_in(folder).1;
        let empty: Vec<String> = empty.into_iter().map(|name| format!("{folder}{name}")).collect();
        self.understood.leave_out("folder without images", "folders without images", &empty);
    }

    /// Parts with their names and the folders that the names of images begin below.
    fn set(self, train: (&str, Part, &str), val: Option<(&str, Part, &str)>) -> DataSet {
        let Self { path, mut understood, .. } = self;
        understood.train = part_info(train.0, &train.1);
        understood.val = val.as_ref().map(|(name, part, _)| part_info(name, part));
        understood.classes = train.1.class_names();
        if let Some((name, part, _)) = &val {
            match_classes(&mut understood, train.0, name, part);
        }
        let classes = understood.classes.clone();
        let source = |(_, part, folder): (&str, Part, &str)| -> Arc<dyn Source> {
            Arc::new(part.source(path, folder, &classes, DecodeLimits::default()))
        };
        DataSet { val: val.map(source), train: source(train), understood }
    }
}

fn part_info(name: &str, part: &Part) -> PartInfo {
    PartInfo { folder: name.to_owned(), images: part.images.len(), labelled: part.classes.is_some() }
}

/// Numbers the held-out classes by name behind those of the training part, and says where they differ.
fn match_classes(understood: &mut Understood, train: &str, val: &str, part: &Part) {
    let without_labels = |name: &str| format!("{name} has no class folders, so its images have no labels");
    let Some(of) = &part.classes else {
        if understood.train.labelled {
            understood.notes.push(format!("{}: k-NN holds out a tenth of {train}", without_labels(val)));
        }
        return;
    };
    let known = std::mem::take(&mut understood.classes);
    let mut counts: BTreeMap<&String, usize> = BTreeMap::new();
    for class in of {
        *counts.entry(class).or_default() += 1;
    }
    let missing: Vec<&String> = known.iter().filter(|class| !counts.contains_key(class)).collect();
    let mut only_val = counts.clone();
    only_val.retain(|class, _| known.binary_search(class).is_err());
    understood.val_only_classes = only_val.iter().map(|(class, n)| ((*class).clone(), *n)).collect();
    understood.classes = known.iter().chain(only_val.keys().copied()).cloned().collect();
    if !understood.train.labelled {
        understood.notes.push(format!("{}: no k-NN", without_labels(train)));
        return;
    }
    if !missing.is_empty() {
        let (n, is) = (missing.len(), if missing.len() == 1 { "is" } else { "are" });
        let classes = count(n, "class", "classes");
        understood.notes.push(format!("{classes} of {train} {is} not in {val}: {}", some_of(&missing)));
    }
    if !only_val.is_empty() {
        let (n, is, them) = match only_val.len() {
            1 => (1, "is", "it"),
            n => (n, "are", "them"),
        };
        let named: Vec<String> =
            only_val.iter().map(|(class, n)| format!("{class} ({})", count(*n, "image", "images"))).collect();
        let classes = count(n, "class", "classes");
        understood.notes.push(format!(
            "{classes} of {val} {is} not in {train}: {}: k-NN cannot get {them} right",
            some_of(&named)
        ));
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
