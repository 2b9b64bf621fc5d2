//! Which part of a set a folder's or a file's name stands for.

/// Names of the part that is learnt from.
const TRAIN: [&str; 3] = ["train", "training", "trainval"];
/// Names of held-out parts, those that are preferred first.
const HELD_OUT: [&str; 6] = ["val", "valid", "validation", "dev", "test", "testing"];

/// The first of these that is a test part.
const FIRST_TEST: usize = 4;

/// The part that a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::files) enum Role {
    Train,
    /// The smaller number is preferred.
    HeldOut(usize),
}

impl Role {
    /// A part for the last measurement, as against one to choose settings on.
    pub fn is_test(self) -> bool {
        matches!(self, Self::HeldOut(which) if which >= FIRST_TEST)
    }
}

/// Of a single name, in any case and with a year or without: `train2017`, `Valid`, `test-2`.
pub(in crate::files) fn role(name: &str) -> Option<Role> {
    let name = name.to_lowercase();
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-' || c == '_');
    if TRAIN.contains(&name) {
        return Some(Role::Train);
    }
    HELD_OUT.iter().position(|n| *n == name).map(Role::HeldOut)
}

/// Of the folders of a path, without the file's own name: the first that stands for a part.
pub(in crate::files) fn role_of_folders(name: &str) -> Option<(Role, &str)> {
    let (folders, _) = name.rsplit_once('/')?;
    folders.split('/').find_map(|folder| Some((role(folder)?, folder)))
}

/// Of a file's name: the first of its words that stands for a part, as in `instances_val2017.json`.
pub(in crate::files) fn role_of_file(stem: &str) -> Option<Role> {
    stem.split(['_', '-', '.', ' ']).find_map(role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_parts() {
        assert_eq!(role("Train2017"), Some(Role::Train));
        assert_eq!(role("val2017"), Some(Role::HeldOut(0)));
        assert_eq!(role("trains"), None);
        assert_eq!(role_of_folders("images/valid/a.jpg"), Some((Role::HeldOut(1), "valid")));
        assert_eq!(role_of_folders("train.jpg"), None);
        assert_eq!(role_of_file("instances_train2017"), Some(Role::Train));
        assert_eq!(role_of_file("instances_default"), None);
        assert!(role("test").is_some_and(Role::is_test) && !role("dev").is_some_and(Role::is_test));
        assert!(Role::HeldOut(0) < Role::HeldOut(4) && Role::Train < Role::HeldOut(0));
    }
}
