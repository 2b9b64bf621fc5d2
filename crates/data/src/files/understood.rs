//! What was made of a data set: said at the start of every command that opens one.

use serde::Serialize;

/// A part of a data set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PartInfo {
    /// Its folder or files, as they are called.
    pub folder: String,
    /// Images.
    pub images: usize,
    /// Whether they have classes.
    pub labelled: bool,
}

/// Files or folders that were left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// What they are.
    pub what: String,
    /// How many.
    pub count: usize,
    /// The first of them.
    pub examples: Vec<String>,
}

/// A data set as it was understood.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Understood {
    /// As it was named.
    pub spec: String,
    /// The folder within it that was taken, where that is another; empty otherwise.
    pub root: String,
    /// What is learnt from.
    pub train: PartInfo,
    /// What is held out.
    pub val: Option<PartInfo>,
    /// Classes: those of the training part, then those that only the held-out part has.
    pub classes: Vec<String>,
    /// Classes that only the held-out part has, with their images.
    pub only_held_out: Vec<(String, usize)>,
    /// Classes of the training part that the held-out part lacks.
    pub not_held_out: usize,
    /// What was left out.
    pub left_out: Vec<LeftOut>,
    /// What a person should know besides.
    pub notes: Vec<String>,
}

const SHOWN_CLASSES: usize = 8;
const SHOWN_EXAMPLES: usize = 3;

/// `3 images`, `1 image`.
pub(super) fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

impl Understood {
    /// Leaves something out.
    pub(super) fn leave_out(&mut self, what: &str, names: &[String]) {
        if !names.is_empty() {
            let examples = names.iter().take(SHOWN_EXAMPLES).cloned().collect();
            self.left_out.push(LeftOut { what: what.to_owned(), count: names.len(), examples });
        }
    }

    /// In a few lines: parts and classes; what was left out; what else to know.
    pub fn lines(&self) -> Vec<String> {
        let images = |part: &PartInfo| count(part.images, "image", "images");
        let root = if self.root.is_empty() { String::new() } else { format!(" (in {})", self.root) };
        let mut first = match &self.val {
            Some(val) => {
                format!(
                    "data: {}{root}: {} {}, {} {}",
                    self.spec,
                    self.train.folder,
                    images(&self.train),
                    val.folder,
                    images(val)
                )
            }
            None => format!("data: {}{root}: {}", self.spec, images(&self.train)),
        };
        first += &match self.classes.len() {
            0 => ", no classes".to_owned(),
            n => {
                let names =
                    self.classes.iter().take(SHOWN_CLASSES).map(String::as_str).collect::<Vec<_>>().join(", ");
                let more = if n > SHOWN_CLASSES { ", …" } else { "" };
                format!(", {} ({names}{more})", count(n, "class", "classes"))
            }
        };
        let mut lines = vec![first];
        if !self.left_out.is_empty() {
            let parts = self.left_out.iter().map(|l| {
                let more = if l.count > l.examples.len() { ", …" } else { "" };
                format!("{} {} ({}{more})", l.count, l.what, l.examples.join(", "))
            });
            lines.push(format!("left out: {}", parts.collect::<Vec<_>>().join("; ")));
        }
        if !self.only_held_out.is_empty() {
            let named = self.only_held_out.iter().take(SHOWN_CLASSES);
            let named: Vec<String> =
                named.map(|(name, n)| format!("{name}, {}", count(*n, "image", "images"))).collect();
            let n = self.only_held_out.len();
            lines.push(format!(
                "{} of the held-out images {} not among the training images ({}): no neighbour can have {}",
                count(n, "class", "classes"),
                if n == 1 { "is" } else { "are" },
                named.join("; "),
                if n == 1 { "it" } else { "them" }
            ));
        }
        lines.extend(self.notes.iter().cloned());
        lines
    }

    /// Why k-NN cannot be measured, where it cannot.
    pub fn why_no_knn(&self) -> Option<String> {
        if !self.train.labelled {
            return Some(
                "no k-NN: the training images have no classes (expected two folders or more, one for each class)"
                    .into(),
            );
        }
        (self.train.images < 2).then(|| "no k-NN: expected at least 2 labelled images".into())
    }
}
