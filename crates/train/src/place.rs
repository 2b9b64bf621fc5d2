//! Where a run's data and weights lie: as they were named, and where that was, so that a run goes on from whatever folder one
//! stands in.

use std::path::{Path, absolute};

use crate::TrainError;

/// Built-in pictures.
const SCENES: &str = "scenes";
/// What begins the names of other things that lie nowhere: so many built-in pictures, drawn networks, networks by name.
const BUILT_IN: [&str; 3] = ["scenes:", "random:", "hf:"];

/// Data or weights as a run's folder keeps them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// As it was named: a path, perhaps from the folder one stood in, or something built in.
    pub named: String,
    /// The absolute path, where the folder says; runs of earlier versions do not.
    pub path: Option<String>,
}

/// Where something lies now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The name to open it by.
    pub name: String,
    /// What a person should know of it.
    pub note: Option<String>,
}

impl Place {
    /// Where it lies now: at the given path, if that is the same place still, else where it was when the run began, else at the
    /// given path as seen from here. A note says so unless it is the same place.
    ///
    /// # Errors
    /// When it is nowhere; the message names `run`, both paths and `flag`, which says another.
    pub fn find(&self, run: &Path, flag: &str) -> Result<Found, TrainError> {
        let named = || Found { name: self.named.clone(), note: None };
        if is_built_in(&self.named) {
            return Ok(named());
        }
        let before = self.path.as_deref().filter(|path| *path != self.named);
        match (exists(&self.named), before) {
            (true, None) => Ok(named()),
            // The same name from another folder may be something else.
            (true, Some(path)) if is_same(&self.named, path) => Ok(named()),
            (true, Some(path)) if !exists(path) => Ok(Found {
                note: Some(format!(
                    "{} is no longer where it was when the run began ({path}): taken is what it names from here, {}",
                    self.named,
                    absolute_of(&self.named).unwrap_or_default()
                )),
                ..named()
            }),
            (_, Some(path)) if exists(path) => Ok(Found {
                name: path.to_owned(),
                note: Some(format!("{} is taken from where the run began: {path}", self.named)),
            }),
            (_, before) => {
                let there = before.map(|path| format!(", nor at {path}, where it was when the run began"));
                let reason = format!(
                    "this run is of {}, which is not there{}; if it has moved, {flag} NEW",
                    self.named,
                    there.unwrap_or_default()
                );
                Err(TrainError::File { path: run.to_owned(), reason })
            }
        }
    }
}

/// The absolute path of what is named, where that lies on the disk.
pub(crate) fn absolute_of(name: &str) -> Option<String> {
    if is_built_in(name) {
        return None;
    }
    let (path, part) = on_disk(name)?;
    let whole = absolute(path).ok()?.to_str()?.to_owned();
    Some(format!("{whole}{part}"))
}

fn is_built_in(name: &str) -> bool {
    name.is_empty() || name == SCENES || BUILT_IN.iter().any(|start| name.starts_with(*start))
}

/// The part of a name that is a path on the disk, and what comes behind it, such as `:test`.
fn on_disk(name: &str) -> Option<(&str, &str)> {
    let there = |path: &str| Path::new(path).exists();
    if there(name) {
        return Some((name, ""));
    }
    let at = name.rfind(':')?;
    let (path, part) = name.split_at(at);
    (!path.is_empty() && there(path)).then_some((path, part))
}

fn exists(name: &str) -> bool {
    on_disk(name).is_some()
}

/// Whether two names that are there lead to one place.
fn is_same(a: &str, b: &str) -> bool {
    let whole = |name: &str| std::fs::canonicalize(on_disk(name)?.0).ok();
    whole(a) == whole(b)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_built_in_lies_nowhere() {
        for name in ["scenes", "scenes:64", "scenes:64:32", "random:resnet-50", "hf:facebook/dino-vits16", ""] {
            assert_eq!(absolute_of(name), None, "{name}");
            let place = Place { named: name.into(), path: Some("/nowhere".into()) };
            assert_eq!(place.find(Path::new("run"), "--data").unwrap().name, name);
        }
        assert_eq!(absolute_of("no/such/folder"), None);
        // A folder of that name is given as ./scenes.
        for name in ["./scenes", "scenes2", "randomised/a", "random", "hf"] {
            assert!(!is_built_in(name), "{name}");
        }
    }

    #[test]
    fn a_place_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        for name in ["photos", "other"] {
            fs::create_dir(at(name)).unwrap();
        }
        let found =
            |named: String, path: Option<String>| Place { named, path }.find(Path::new("runs/a"), "--data");
        // An absolute name, with a part behind it or none; and runs that keep no absolute path.
        for name in [at("photos"), at("photos:test")] {
            assert_eq!(absolute_of(&name).as_deref(), Some(name.as_str()));
            for path in [Some(name.clone()), None] {
                assert_eq!(found(name.clone(), path).unwrap(), Found { name: name.clone(), note: None });
            }
        }
        // From another folder the relative name leads nowhere, or to something else.
        for named in ["photos-of-no-one".to_owned(), at("other")] {
            let found = found(named, Some(at("photos:test"))).unwrap();
            assert_eq!(found.name, at("photos:test"));
            assert!(found.note.unwrap().contains("where the run began"));
        }
        // A project that moved as a whole, or a folder of the same name elsewhere: nothing tells, so it is said.
        let here = found(at("other"), Some(at("gone"))).unwrap();
        assert_eq!(here.name, at("other"));
        let note = here.note.unwrap();
        assert!(note.contains("no longer where it was") && note.contains(&at("gone")), "{note}");
        // Nowhere any more.
        for path in [Some(at("gone")), None] {
            let message = found(at("moved"), path.clone()).unwrap_err().to_string();
            for words in ["runs/a: ", "--data NEW", at("moved").as_str(), path.as_deref().unwrap_or("")] {
                assert!(message.contains(words), "expected \"{words}\" in: {message}");
            }
        }
    }
}
