//! VOC's lists of each class: which images show it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::marks::Mark;
use super::voc_xml::Named;
use super::{malformed, malformed_line, read};
use crate::DataError;

/// What a list says of an image.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    Absent,
    Shown,
    Difficult,
}

/// What one list says of each image, with the list for messages.
pub(super) struct ClassList {
    path: PathBuf,
    of: BTreeMap<String, Says>,
}

/// The lists of each class for a part: `CLASS_trainval.txt` and the like.
pub(super) fn class_lists(sets: &Path, split: &str) -> Result<BTreeMap<String, ClassList>, DataError> {
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
        let says = match (words.next(), words.next(), words.next()) {
            (None, ..) => continue,
            (Some(id), Some("1" | "+1"), None) => Some((id, Says::Shown)),
            (Some(id), Some("-1"), None) => Some((id, Says::Absent)),
            (Some(id), Some("0"), None) => Some((id, Says::Difficult)),
            _ => None,
        };
        let Some((id, says)) = says else {
            let expected = "expected a name and 1 (shown), -1 (not) or 0 (difficult)";
            return Err(malformed_line(&path, at + 1, format!("{expected}, found \"{line}\"")));
        };
        of.insert(id.to_owned(), says);
    }
    Ok(ClassList { path, of })
}

/// The classes of an image, by all lists.
pub(super) fn shown_in(lists: &BTreeMap<String, ClassList>, id: &str) -> Result<Vec<Named>, DataError> {
    let mut shows = Vec::new();
    for (class, list) in lists {
        match list.of.get(id) {
            Some(Says::Absent) => {}
            Some(says) => {
                let mark = Mark { is_difficult: *says == Says::Difficult, ..Mark::default() };
                shows.push(Named { class: class.clone(), mark });
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
