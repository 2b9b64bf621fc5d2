//! How a folder is laid out: splits, classes, strays. Functions of names alone.

use std::collections::BTreeSet;

/// Names of the part that is learnt from, in any case.
const TRAIN: [&str; 2] = ["train", "training"];
/// Names of held-out parts, in any case, those that are preferred first.
const HELD_OUT: [&str; 6] = ["val", "valid", "validation", "dev", "test", "testing"];

/// Pictures beside class folders that are no set of their own: at most so many, or a hundredth of the others.
const STRAYS: usize = 3;

/// Folders directly below `prefix` (empty, or ending in `/`), of folders and pictures.
pub(super) fn children<'a>(names: impl Iterator<Item = &'a str>, prefix: &str) -> BTreeSet<&'a str> {
    names.filter_map(|name| name.strip_prefix(prefix)?.split_once('/').map(|(child, _)| child)).collect()
}

/// The folder to look at: down single folders, as unpacking leaves them, while no picture and no split lies beside them.
pub(super) fn descend(images: &[&str], mut prefix: String) -> String {
    loop {
        let beside = images.iter().any(|n| n.strip_prefix(&prefix).is_some_and(|rest| !rest.contains('/')));
        let below = children(images.iter().copied(), &prefix);
        let mut below = below.into_iter();
        match (beside, below.next(), below.next()) {
            (false, Some(only), None) if split_of(only).is_none() => prefix = format!("{prefix}{only}/"),
            _ => return prefix,
        }
    }
}

/// Which part of a data set a folder's name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PartName {
    Train,
    /// The smaller number is preferred.
    HeldOut(usize),
}

/// The part that a folder's name stands for, in any case.
pub(super) fn split_of(name: &str) -> Option<PartName> {
    let name = name.to_lowercase();
    if TRAIN.contains(&name.as_str()) {
        return Some(PartName::Train);
    }
    HELD_OUT.iter().position(|n| *n == name).map(PartName::HeldOut)
}

/// The classes of the pictures below a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Classes {
    /// Class of each picture below the folder, in their order; `None` where there are no classes.
    pub of: Option<Vec<String>>,
    /// Pictures, by their place in that order, that lie beside the class folders and are left out.
    pub strays: Vec<usize>,
    /// Why there are no classes, where one might expect some.
    pub note: Option<String>,
}

/// First-level folders are classes where there are at least `fewest` of them. A few pictures beside them are strays; many make it a mixed
/// folder without classes. `names` are below the folder.
pub(super) fn classes(names: &[&str], fewest: usize) -> Classes {
    let folder = |name: &&str| name.split_once('/').map(|(folder, _)| folder.to_owned());
    let folders: BTreeSet<String> = names.iter().filter_map(folder).collect();
    let strays: Vec<usize> = (0..names.len()).filter(|i| !names[*i].contains('/')).collect();
    if folders.len() < fewest.max(1) {
        return Classes::default();
    }
    let labelled = names.len() - strays.len();
    let few = strays.len() <= STRAYS && 5 * strays.len() <= labelled || 100 * strays.len() <= labelled;
    if !few {
        let note = format!(
            "{} images lie beside {} folders: all are taken as one set without classes; move them into a folder of their own to \
             have classes",
            strays.len(),
            folders.len()
        );
        return Classes { note: Some(note), ..Classes::default() };
    }
    Classes { of: Some(names.iter().filter_map(folder).collect()), strays, note: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_folders_are_gone_through_and_splits_are_not() {
        for (images, prefix) in [
            (vec!["unzipped/flowers/a/1.jpg", "unzipped/flowers/b/1.jpg"], "unzipped/flowers/"),
            (vec!["data/train/a/1.jpg", "data/val/a/1.jpg"], "data/"),
            (vec!["train/a/1.jpg", "train/b/1.jpg"], ""),
            (vec!["a/1.jpg", "x.jpg"], ""),
            (vec!["a/1.jpg", "b/x.jpg"], ""),
            (vec!["only/1.jpg", "only/2.jpg"], "only/"),
        ] {
            assert_eq!(descend(&images, String::new()), prefix, "{images:?}");
        }
    }

    #[test]
    fn parts_have_names_in_any_case() {
        for name in ["train", "Train", "TRAINING"] {
            assert_eq!(split_of(name), Some(PartName::Train), "{name}");
        }
        for name in ["val", "Val", "valid", "validation", "dev", "test", "Testing"] {
            assert!(matches!(split_of(name), Some(PartName::HeldOut(_))), "{name}");
        }
        assert!(split_of("val") < split_of("test") && split_of("validation") < split_of("testing"));
        assert_eq!(split_of("valley"), None);
    }

    #[test]
    fn strays_are_left_out_and_mixed_folders_have_no_classes() {
        let many: Vec<String> = (0..12).map(|i| format!("{}/{i}.jpg", ["a", "b"][i % 2])).collect();
        let mut names: Vec<&str> = many.iter().map(String::as_str).collect();
        names.push("stray.jpg");
        let found = classes(&names, 2);
        assert_eq!((found.strays, found.of.unwrap().len()), (vec![12], 12));
        let found = classes(&["1.jpg", "2.jpg", "a/3.jpg", "b/4.jpg"], 2);
        assert!(found.of.is_none() && found.note.unwrap().contains("2 images lie beside 2 folders"));
        assert_eq!(classes(&["a/1.jpg", "a/2.jpg"], 2), Classes::default());
        assert!(classes(&["a/1.jpg", "a/2.jpg"], 1).of.is_some());
    }
}
