//! How a folder is laid out: wrappers, splits, classes, strays, records. Functions of names alone.

use std::collections::BTreeSet;

use super::cifar::{is_named_as_records, is_record_name};

/// Names of the part that is learnt from, in any case.
const TRAIN: [&str; 2] = ["train", "training"];
/// Names of held-out parts, in any case, those that are preferred first.
const HELD_OUT: [&str; 6] = ["val", "valid", "validation", "dev", "test", "testing"];

/// Pictures beside class folders that are no set of their own: at most so many, or a hundredth of all.
const STRAYS: usize = 3;

/// Names of all there is below a folder, each list sorted by its bytes. A prefix is empty or ends in `/`.
pub(super) struct Tree<'a> {
    pub images: &'a [&'a str],
    pub folders: &'a [&'a str],
    pub others: &'a [&'a str],
}

/// Where the data is, and what it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Prefix of the folder that was found to hold the data.
    pub root: String,
    pub kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// CIFAR records; names below the whole tree.
    Records(Vec<String>),
    Split(Splits),
    /// One set, with or without classes.
    Whole,
}

/// Names of folders directly below the root.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Splits {
    pub train: String,
    pub val: Option<String>,
    /// Held-out folders that hold images but are not taken.
    pub unused: Vec<String>,
    /// Held-out folders without any image.
    pub empty: Vec<String>,
}

/// The part that a folder's name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Train,
    /// The smaller number is preferred.
    HeldOut(usize),
}

fn role(name: &str) -> Option<Role> {
    let name = name.to_lowercase();
    if TRAIN.contains(&name.as_str()) {
        return Some(Role::Train);
    }
    HELD_OUT.iter().position(|n| *n == name).map(Role::HeldOut)
}

/// Those that start with `prefix`: next to each other, as the names are sorted.
fn below<'t, 'a>(names: &'t [&'a str], prefix: &str) -> &'t [&'a str] {
    let start = names.partition_point(|n| *n < prefix);
    let len = names[start..].partition_point(|n| n.starts_with(prefix));
    &names[start..start + len]
}

/// Those directly in the folder, without the prefix.
fn direct<'a>(names: &[&'a str], prefix: &str) -> Vec<&'a str> {
    let inside = below(names, prefix).iter().map(|n| &n[prefix.len()..]);
    inside.filter(|n| !n.is_empty() && !n.contains('/')).collect()
}

impl<'a> Tree<'a> {
    /// Images anywhere below.
    pub fn images_below(&self, prefix: &str) -> &[&'a str] {
        below(self.images, prefix)
    }

    /// Images directly in a folder, without the prefix.
    pub fn images_in(&self, prefix: &str) -> Vec<&'a str> {
        direct(self.images, prefix)
    }

    /// Folders directly in a folder that hold images, and those that hold none.
    pub fn folders_in(&self, prefix: &str) -> (Vec<&'a str>, Vec<&'a str>) {
        let holds = |name: &&str| !self.images_below(&format!("{prefix}{name}/")).is_empty();
        direct(self.folders, prefix).into_iter().partition(holds)
    }

    /// Record files directly in a folder. Beside images only usual names are records: many programs call a file something.bin.
    fn records_in(&self, prefix: &str) -> Vec<String> {
        let is_record = |n: &&str| is_record_name(n) && (self.images.is_empty() || is_named_as_records(n));
        direct(self.others, prefix).into_iter().filter(is_record).map(|n| format!("{prefix}{n}")).collect()
    }

    /// The folder that all data lies in, where there is exactly one and no image beside it.
    fn only_folder(&self, prefix: &str) -> Option<String> {
        match direct(self.folders, prefix).as_slice() {
            [only] if self.images_in(prefix).is_empty() => Some(format!("{prefix}{only}/")),
            _ => None,
        }
    }

    fn splits(&self, root: &str) -> Option<Splits> {
        let (with, without) = self.folders_in(root);
        let mut named: Vec<(Role, &str)> = with.iter().filter_map(|f| Some((role(f)?, *f))).collect();
        named.sort();
        let is_held_out = |f: &&&str| matches!(role(f), Some(Role::HeldOut(_)));
        let empty: Vec<String> = without.iter().filter(is_held_out).map(|f| (*f).to_owned()).collect();
        let (_, train) = *named.first().filter(|(role, _)| *role == Role::Train)?;
        let mut held_out = named.iter().filter(|(r, _)| *r != Role::Train).map(|(_, f)| (*f).to_owned());
        let val = held_out.next();
        // Beside `bus` and `car`, `train` is a class.
        let beside = with.iter().any(|f| role(f).is_none());
        let has_classes = self.folders_in(&format!("{root}{train}/")).0.len() > 1;
        if val.is_none() && empty.is_empty() && beside && !has_classes {
            return None;
        }
        Some(Splits { train: train.to_owned(), val, unused: held_out.collect(), empty })
    }

    /// Down single folders, as unpacking leaves them, to records, splits, or more than one folder.
    pub fn layout(&self) -> Layout {
        let mut root = String::new();
        loop {
            let records = self.records_in(&root);
            if !records.is_empty() {
                return Layout { root, kind: Kind::Records(records) };
            }
            if let Some(splits) = self.splits(&root) {
                return Layout { root, kind: Kind::Split(splits) };
            }
            match self.only_folder(&root) {
                Some(only) => root = only,
                None => return Layout { root, kind: Kind::Whole },
            }
        }
    }

    /// The folder of a part that its class folders lie in: down single folders, but not past a class of `known`.
    pub fn inside_part(&self, folder: &str, known: &[String]) -> String {
        let mut folder = folder.to_owned();
        while let Some(only) = self.only_folder(&folder) {
            if known.iter().any(|class| only[folder.len()..].trim_end_matches('/') == class) {
                break;
            }
            folder = only;
        }
        folder
    }
}

/// The classes of the pictures below a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Classes {
    /// Class of each picture that is no stray, in their order; `None` where there are no classes.
    pub of: Option<Vec<String>>,
    /// Pictures, by their place, that lie beside the class folders and are left out; ascending.
    pub strays: Vec<usize>,
    /// Why there are no classes, where one might expect some.
    pub note: Option<String>,
}

/// First-level folders are classes where there are at least `fewest` of them. A few pictures beside them are strays; many
/// make it a mixed folder without classes. `names` are below the folder.
pub(super) fn classes(names: &[&str], fewest: usize) -> Classes {
    let folder = |name: &&str| name.split_once('/').map(|(folder, _)| folder.to_owned());
    let folders: BTreeSet<&str> = names.iter().filter_map(|n| n.split_once('/').map(|(f, _)| f)).collect();
    let strays: Vec<usize> = (0..names.len()).filter(|i| !names[*i].contains('/')).collect();
    if folders.len() < fewest.max(1) {
        return Classes::default();
    }
    // Two pictures beside two classes of one picture each are as much data as these.
    let few = strays.len() <= STRAYS && strays.len() < names.len() - strays.len();
    if !few && 100 * strays.len() > names.len() {
        let note = format!(
            "{} beside {}: taken as one set without classes; move them into a folder to have classes",
            if strays.len() == 1 { "1 image lies".to_owned() } else { format!("{} images lie", strays.len()) },
            if folders.len() == 1 { "1 folder".to_owned() } else { format!("{} folders", folders.len()) }
        );
        return Classes { note: Some(note), ..Classes::default() };
    }
    Classes { of: Some(names.iter().filter_map(folder).collect()), strays, note: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of images and other files; folders follow from these, and those with a `/` at the end are empty.
    fn layout(names: &[&str]) -> (String, Kind) {
        let mut folders = BTreeSet::new();
        for name in names {
            folders.extend(name.match_indices('/').map(|(i, _)| &name[..i]));
        }
        let folders: Vec<&str> = folders.into_iter().collect();
        let mut files: Vec<&str> = names.iter().copied().filter(|n| !n.ends_with('/')).collect();
        files.sort_unstable();
        let (images, others): (Vec<&str>, Vec<&str>) = files.into_iter().partition(|n| n.ends_with(".jpg"));
        let Layout { root, kind } = Tree { images: &images, folders: &folders, others: &others }.layout();
        (root, kind)
    }

    #[test]
    fn single_folders_are_gone_through() {
        for (names, root) in [
            (["unzipped/flowers/a/1.jpg", "unzipped/flowers/b/1.jpg"], "unzipped/flowers/"),
            (["a/1.jpg", "x.jpg"], ""),
            (["a/1.jpg", "b/x.jpg"], ""),
            (["only/1.jpg", "only/2.jpg"], "only/"),
            (["val/a/1.jpg", "val/b/2.jpg"], "val/"),
            // A class that is empty still is one.
            (["cat/indoor/1.jpg", "dog/"], ""),
        ] {
            assert_eq!(layout(&names), (root.to_owned(), Kind::Whole), "{names:?}");
        }
    }

    fn splits(names: &[&str]) -> Option<(String, Splits)> {
        match layout(names) {
            (root, Kind::Split(splits)) => Some((root, splits)),
            _ => None,
        }
    }

    #[test]
    fn splits_are_found_by_name_in_any_case() {
        for (train, val) in [("train", "val"), ("Train", "Valid"), ("TRAINING", "validation"), ("train", "dev")]
            .into_iter()
            .chain([("training", "test"), ("train", "Testing")])
        {
            let names = [format!("data/{train}/a/1.jpg"), format!("data/{val}/a/1.jpg")];
            let want = Splits { train: train.into(), val: Some(val.into()), ..Splits::default() };
            let found = splits(&names.each_ref().map(String::as_str));
            assert_eq!(found, Some(("data/".to_owned(), want)), "{train} {val}");
        }
        let (_, several) = splits(&["testing/1.jpg", "train/1.jpg", "test/1.jpg", "dev/1.jpg", "val/a/"]).unwrap();
        assert_eq!(several.val.as_deref(), Some("dev"));
        assert_eq!(
            (several.unused, several.empty),
            (vec!["test".into(), "testing".into()], vec!["val".to_owned()])
        );
        let (root, alone) = splits(&["train/a/1.jpg", "train/b/1.jpg"]).unwrap();
        assert_eq!((root.as_str(), alone.train.as_str(), alone.val), ("", "train", None));
    }

    #[test]
    fn split_names_may_be_classes() {
        assert_eq!(splits(&["bus/1.jpg", "car/1.jpg", "train/1.jpg"]), None);
        assert_eq!(splits(&["test/1.jpg", "valley/1.jpg"]), None);
        assert!(splits(&["extra/1.jpg", "train/a/1.jpg", "train/b/1.jpg"]).is_some());
    }

    #[test]
    fn records_are_told_from_other_files_by_name() {
        let records = |names: &[&str]| match layout(names) {
            (_, Kind::Records(records)) => records,
            _ => Vec::new(),
        };
        assert_eq!(records(&["a/1.jpg", "b/1.jpg", "thumbcache.bin", "training_args.bin"]), [""; 0]);
        assert_eq!(records(&["a/1.jpg", "model.bin", "train.bin.xz"]), ["train.bin.xz"]);
        assert_eq!(records(&["cifar/any.bin", "cifar/readme.html"]), ["cifar/any.bin"]);
    }

    #[test]
    fn a_part_is_gone_into_until_its_classes() {
        let images = ["test/images/1.jpg", "val/a/in/1.jpg"];
        let folders = ["test", "test/images", "val", "val/a", "val/a/in"];
        let tree = Tree { images: &images, folders: &folders, others: &[] };
        assert_eq!(tree.inside_part("val/", &["a".to_owned(), "b".to_owned()]), "val/");
        assert_eq!(tree.inside_part("test/", &["a".to_owned()]), "test/images/");
    }

    #[test]
    fn strays_are_left_out_and_mixed_folders_have_no_classes() {
        let inside = |count: usize| (0..count).map(|i| format!("{}/{i}.jpg", ["a", "b"][i % 2]));
        let found = |count: usize, strays: usize| {
            let names: Vec<String> = inside(count).chain((0..strays).map(|i| format!("{i}.jpg"))).collect();
            classes(&names.iter().map(String::as_str).collect::<Vec<_>>(), 2)
        };
        for (count, strays) in [(12, 1), (12, 3), (396, 4), (2, 1)] {
            let found = found(count, strays);
            assert_eq!((found.strays.len(), found.of.map(|of| of.len())), (strays, Some(count)));
        }
        for (count, strays) in [(12, 4), (395, 4), (2, 2)] {
            let found = found(count, strays);
            assert!(found.of.is_none() && found.strays.is_empty());
            let note = found.note.unwrap();
            assert!(note.contains(&format!("{strays} images lie beside 2 folders: taken as one set")), "{note}");
        }
        assert_eq!(classes(&["a/1.jpg", "a/2.jpg"], 2), Classes::default());
        assert!(classes(&["a/1.jpg", "a/2.jpg"], 1).of.is_some());
    }
}
