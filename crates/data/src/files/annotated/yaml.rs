//! YAML files that describe a set: where its parts are, and what its classes are called.

use std::path::{Path, PathBuf};

use saphyr::{LoadableYamlNode as _, Yaml};

use super::{malformed, malformed_line, read};
use crate::DataError;

/// Far more than a description needs.
const MOST_BYTES: usize = 1 << 20;
/// How far a line may be indented: what bounds how deep blocks can nest. (The parser bounds the rest.)
const MOST_INDENT: usize = 200;

/// The first document of a file.
pub(super) fn document<'t>(path: &Path, text: &'t str) -> Result<Option<Yaml<'t>>, DataError> {
    if text.len() > MOST_BYTES {
        let found = text.len();
        return Err(malformed(
            path,
            format!("expected a description of at most {MOST_BYTES} bytes, found {found}"),
        ));
    }
    let too_deep = |line: &str| line.chars().take_while(|c| " -?:\t".contains(*c)).count() > MOST_INDENT;
    if let Some(at) = text.lines().position(too_deep) {
        return Err(malformed_line(path, at + 1, format!("not indented by at most {MOST_INDENT} places")));
    }
    let documents = Yaml::load_from_str(text).map_err(|e| malformed(path, format!("not YAML: {e}")))?;
    Ok(documents.into_iter().next())
}

/// What a YAML file says.
#[derive(Debug, Default)]
pub(super) struct Config {
    pub path: PathBuf,
    /// Class names by number.
    pub names: Option<Vec<String>>,
    /// Whether labels have key points: the key `kpt_shape` says how many.
    pub are_poses: bool,
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
        let document = document(path, &text)?;
        let Some(top) = document.filter(|top| top.as_mapping_get("names").is_some()) else {
            return Ok(None);
        };
        let list = |key: &str| match top.as_mapping_get(key) {
            Some(Yaml::Sequence(items)) => items.iter().filter_map(word).collect(),
            Some(one) => word(one).into_iter().collect(),
            None => Vec::new(),
        };
        Ok(Some(Self {
            names: Some(names(path, &top)?),
            are_poses: top.as_mapping_get("kpt_shape").is_some(),
            train: list("train"),
            val: list("val"),
            test: list("test"),
            base: top.as_mapping_get("path").and_then(word),
            path: path.to_owned(),
        }))
    }

    /// Where an entry leads: below the folder it names, below the file's own, or without the steps up that some
    /// exports begin with. A folder around the file's own is none: it may be the whole disk.
    pub fn resolve(&self, entry: &str) -> Option<PathBuf> {
        let own = self.path.parent().unwrap_or(Path::new("."));
        let inside = entry.trim_start_matches("../").trim_start_matches("./");
        let based = self.base.as_ref().map(|base| own.join(base).join(entry));
        let whole = own.canonicalize().unwrap_or_default();
        let is_around = |path: &PathBuf| path.canonicalize().is_ok_and(|p| p != whole && whole.starts_with(p));
        let mut places = based.into_iter().chain([own.join(entry), own.join(inside)]);
        places.find(|path| path.exists() && !is_around(path))
    }
}

/// A scalar as text; nothing of an empty one.
pub(super) fn word(value: &Yaml<'_>) -> Option<String> {
    let text = match (value.as_str(), value.as_integer(), value.as_bool(), value.as_floating_point()) {
        (Some(text), ..) => text.trim().to_owned(),
        (_, Some(number), ..) => number.to_string(),
        (_, _, Some(truth), _) => truth.to_string(),
        (.., Some(number)) => number.to_string(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// Names of classes by number, in the order of these: a list, or a mapping from numbers to names that may leave some out.
/// `None` where it is neither.
pub(super) fn numbered(value: &Yaml<'_>) -> Option<Vec<(usize, String)>> {
    match value {
        Yaml::Sequence(items) if !items.is_empty() => items.iter().map(word).enumerate().map(named).collect(),
        Yaml::Mapping(entries) if !entries.is_empty() => {
            let entry = |(key, value): (&Yaml<'_>, &Yaml<'_>)| Some((word(key)?.parse().ok()?, word(value)?));
            let mut numbered = entries.iter().map(entry).collect::<Option<Vec<(usize, String)>>>()?;
            numbered.sort();
            let is_twice = numbered.windows(2).any(|pair| pair[0].0 == pair[1].0);
            (!is_twice).then_some(numbered)
        }
        _ => None,
    }
}

fn named((number, name): (usize, Option<String>)) -> Option<(usize, String)> {
    Some((number, name?))
}

/// Names of all classes from 0 on.
fn names(path: &Path, top: &Yaml<'_>) -> Result<Vec<String>, DataError> {
    let wrong = |found: String| {
        malformed(path, format!("names: expected a list of class names, or 0: NAME, 1: NAME, …; found {found}"))
    };
    let Some(numbered) = top.as_mapping_get("names").and_then(numbered) else {
        return Err(wrong("neither".into()));
    };
    match numbered.iter().enumerate().find(|(i, (number, _))| i != number) {
        None => Ok(numbered.into_iter().map(|(_, name)| name).collect()),
        Some((i, _)) => Err(wrong(format!("no single name for class {i}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_nest_too_deep_or_grow_too_large_is_refused() {
        let staircase: String = (0..2000).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
        let laughs: String =
            (1..12).map(|i| format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(","))).collect();
        for text in [
            "[".repeat(1_000_000),
            "{a: ".repeat(200_000),
            "- ".repeat(400_000),
            "? ".repeat(400_000),
            staircase,
            format!("a0: &a0 [1, 2]\n{laughs}"),
            "a".repeat(2 << 20),
        ] {
            let start = &text[..20.min(text.len())];
            assert!(document(Path::new("data.yaml"), &text).is_err(), "{start}");
        }
        assert!(document(Path::new("data.yaml"), "a: [[[1]]]\nb:\n  - - 2\n").is_ok());
    }
}
