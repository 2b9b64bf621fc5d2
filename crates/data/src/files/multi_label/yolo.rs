//! YOLO's label files, and the YAML file that says where they are and what their classes are called.

use std::path::{Path, PathBuf};

use saphyr::{LoadableYamlNode as _, Yaml};

use super::{malformed, malformed_line, read};
use crate::DataError;

/// Classes of a label file, one for each object: lines `CLASS X Y W H`, or a polygon's points after the class.
pub(super) fn classes(path: &Path, names: Option<&[String]>) -> Result<Vec<usize>, DataError> {
    let mut classes = Vec::new();
    for (at, line) in read(path)?.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((class, numbers)) = words.split_first() else { continue };
        let wrong = |reason: String| malformed_line(path, at + 1, reason);
        let is_finite = |word: &&str| word.parse::<f64>().is_ok_and(f64::is_finite);
        let Some(class) =
            class.parse::<usize>().ok().filter(|_| numbers.len() >= 4 && numbers.iter().all(is_finite))
        else {
            return Err(wrong(format!(
                "expected a class number and a box (class x y width height), or a polygon; found \"{line}\""
            )));
        };
        // Past any list of classes there is: a number that would ask for memory instead.
        let most = names.map_or(100_000, <[String]>::len);
        if class >= most {
            return Err(wrong(match names {
                Some(_) => format!("expected a class from 0 to {}, as {most} are named; found {class}", most - 1),
                None => format!("expected a class below {most}, found {class}"),
            }));
        }
        classes.push(class);
    }
    Ok(classes)
}

/// What a YAML file says.
#[derive(Debug, Default)]
pub(super) struct Config {
    pub path: PathBuf,
    /// Class names by number.
    pub names: Option<Vec<String>>,
    pub train: Vec<String>,
    pub val: Vec<String>,
    pub test: Vec<String>,
    /// The folder that the others are below, as it was where the file was written.
    pub base: Option<String>,
}

impl Config {
    /// Reads a file. `None` where it is about something else: it has no names of classes.
    pub fn read(path: &Path) -> Result<Option<Self>, DataError> {
        let text = read(path)?;
        let documents = Yaml::load_from_str(&text).map_err(|e| malformed(path, format!("not YAML: {e}")))?;
        let Some(top) = documents.first().filter(|top| top.as_mapping_get("names").is_some()) else {
            return Ok(None);
        };
        let list = |key: &str| match top.as_mapping_get(key) {
            Some(Yaml::Sequence(items)) => items.iter().filter_map(word).collect(),
            Some(one) => word(one).into_iter().collect(),
            None => Vec::new(),
        };
        Ok(Some(Self {
            names: Some(names(path, top)?),
            train: list("train"),
            val: list("val"),
            test: list("test"),
            base: top.as_mapping_get("path").and_then(word),
            path: path.to_owned(),
        }))
    }

    /// Where an entry leads: below the folder it names, below the file's own, or without the steps up that some
    /// exports begin with.
    pub fn resolve(&self, entry: &str) -> Option<PathBuf> {
        let own = self.path.parent().unwrap_or(Path::new("."));
        let inside = entry.trim_start_matches("../").trim_start_matches("./");
        let based = self.base.as_ref().map(|base| own.join(base).join(entry));
        based.into_iter().chain([own.join(entry), own.join(inside)]).find(|path| path.exists())
    }
}

/// A scalar as text; nothing of an empty one.
fn word(value: &Yaml<'_>) -> Option<String> {
    let text = match (value.as_str(), value.as_integer(), value.as_bool(), value.as_floating_point()) {
        (Some(text), ..) => text.trim().to_owned(),
        (_, Some(number), ..) => number.to_string(),
        (_, _, Some(truth), _) => truth.to_string(),
        (.., Some(number)) => number.to_string(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// A list of names, or a mapping from numbers to names.
fn names(path: &Path, top: &Yaml<'_>) -> Result<Vec<String>, DataError> {
    let wrong = |found: String| {
        malformed(path, format!("names: expected a list of class names, or 0: NAME, 1: NAME, …; found {found}"))
    };
    match top.as_mapping_get("names") {
        Some(Yaml::Sequence(items)) if !items.is_empty() => {
            let name =
                |(i, item): (usize, &Yaml<'_>)| word(item).ok_or_else(|| wrong(format!("no name for class {i}")));
            items.iter().enumerate().map(name).collect()
        }
        Some(Yaml::Mapping(entries)) if !entries.is_empty() => {
            let mut numbered = Vec::new();
            for (key, value) in entries {
                let number = word(key).and_then(|k| k.parse::<usize>().ok());
                match (number, word(value)) {
                    (Some(number), Some(name)) => numbered.push((number, name)),
                    (key, value) => return Err(wrong(format!("an entry {key:?}: {value:?}"))),
                }
            }
            numbered.sort();
            match numbered.iter().enumerate().find(|(i, (number, _))| i != number) {
                None => Ok(numbered.into_iter().map(|(_, name)| name).collect()),
                Some((i, _)) => Err(wrong(format!("no single name for class {i}"))),
            }
        }
        _ => Err(wrong("neither".into())),
    }
}

/// Names in a list, one a line, as `classes.txt` has them.
pub(super) fn names_in(path: &Path) -> Result<Vec<String>, DataError> {
    let names: Vec<String> = read(path)?.lines().map(|line| line.trim().to_owned()).collect();
    let last = names.iter().rposition(|name| !name.is_empty()).map_or(0, |at| at + 1);
    match names[..last].iter().position(String::is_empty) {
        _ if last == 0 => Err(malformed(path, "expected names of classes, one a line; found none")),
        Some(at) => Err(malformed_line(path, at + 1, "expected the name of a class, found an empty line")),
        None => Ok(names[..last].to_vec()),
    }
}
