//! What a person names: a folder, and perhaps which part of it is held out.

use std::path::Path;

use super::super::understood::Understood;
use super::splits::{Role, role};
use crate::DataError;

/// The part to evaluate on, where the name says it: `FOLDER:test`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::files) enum HeldOut {
    /// What is learnt from.
    Train,
    Val,
    Test,
}

impl HeldOut {
    /// Whether a folder or file of this role is meant.
    pub fn is(self, role: Role) -> bool {
        match self {
            Self::Train => role == Role::Train,
            Self::Val => role > Role::Train && !role.is_test(),
            Self::Test => role.is_test(),
        }
    }

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

/// A data set as it was named.
#[derive(Debug, Clone, Copy)]
pub(in crate::files) struct Spec<'a> {
    /// All of it.
    pub text: &'a str,
    /// The folder or file.
    pub path: &'a Path,
    pub held_out: Option<HeldOut>,
}

impl<'a> Spec<'a> {
    /// The text as a path and nothing else.
    pub fn path(text: &'a str) -> Self {
        Self { text, path: Path::new(text), held_out: None }
    }

    /// A path, perhaps with `:train`, `:val` or `:test` behind it; what exists under the whole of the name is a path.
    pub fn of(text: &'a str) -> Self {
        let whole = Self::path(text);
        let Some((path, word)) = text.rsplit_once(':').filter(|(path, _)| !path.is_empty()) else { return whole };
        let held_out = match role(word) {
            Some(Role::Train) => HeldOut::Train,
            Some(role) if role.is_test() => HeldOut::Test,
            Some(_) => HeldOut::Val,
            None => return whole,
        };
        if whole.path.exists() { whole } else { Self { text, path: Path::new(path), held_out: Some(held_out) } }
    }

    /// Of the parts with these roles, the one that is held out: what the name asks for, else the preferred one.
    pub fn choose(&self, roles: impl Iterator<Item = Role>) -> Option<Role> {
        let held_out = roles.filter(|role| *role > Role::Train);
        match self.held_out {
            Some(HeldOut::Train) => None,
            Some(asked) => held_out.filter(|role| asked.is(*role)).min(),
            None => held_out.min(),
        }
    }

    /// The error about what was named.
    pub fn fails(&self, reason: impl Into<String>) -> DataError {
        DataError::Spec { spec: self.text.to_owned(), reason: reason.into() }
    }

    /// The error that the part asked for is not there; nothing where none was asked for.
    pub fn lacks(&self, found: &[&str]) -> Result<(), DataError> {
        match self.held_out {
            Some(part) if part != HeldOut::Train => {
                let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
                Err(self.fails(format!("no part {} is there to evaluate on; found {found}", part.word())))
            }
            _ => Ok(()),
        }
    }

    /// Says that there are held-out parts alone, which are then learnt from.
    pub fn says_no_train(&self, found: &str, understood: &mut Understood) {
        understood.notes.push(format!("there is no part train: {found} is taken for it"));
    }

    /// Says which part is held out, and how another one is asked for.
    pub fn says_which(&self, held_out: Option<&str>, understood: &mut Understood) {
        understood.notes.push(match (self.held_out, held_out) {
            (Some(HeldOut::Train), _) => "evaluated on what is learnt from, as asked for".to_owned(),
            (Some(_), Some(name)) => format!("evaluated on {name}, as asked for"),
            (_, Some(name)) => {
                format!("evaluated on {name}; append :test or :val to the data path to choose another part")
            }
            (_, None) => "no val or test part; append :train to evaluate on the training images".to_owned(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_asked_for_behind_a_colon() {
        let spec = Spec::of("a/b:test");
        assert_eq!((spec.path, spec.held_out), (Path::new("a/b"), Some(HeldOut::Test)));
        assert_eq!(Spec::of("a/b:train2017").held_out, Some(HeldOut::Train));
        assert_eq!(Spec::of("C:/nowhere/test").path, Path::new("C:/nowhere/test"));
        assert_eq!(Spec::of(":val").held_out, None);
        let roles = || [role("train"), role("test"), role("val")].into_iter().flatten();
        assert_eq!(spec.choose(roles()), role("test"));
        assert_eq!(Spec::of("a").choose(roles()), role("val"));
        assert_eq!(Spec::of("a:train").choose(roles()), None);
        assert_eq!(Spec::of("a:val").choose([role("test")].into_iter().flatten()), None);
    }
}
