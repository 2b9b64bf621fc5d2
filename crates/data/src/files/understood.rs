//! What was made of a data set: said at the start of every command that opens one.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

/// A part of a data set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PartInfo {
    /// Its folder, as it is called; empty where it is the whole of what was named.
    pub folder: String,
    /// Images.
    pub images: usize,
    /// Whether they have classes.
    pub labelled: bool,
}

/// Files or folders that were left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// What they are, in the number that goes with `count`: `hidden folders`.
    pub what: String,
    /// How many.
    pub count: usize,
    /// At most three of them; of other files their endings, the most frequent first.
    pub examples: Vec<String>,
}

/// A data set as it was understood.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Understood {
    /// As it was named.
    pub spec: String,
    /// The folder that was taken: within the one named where folders only wrap it.
    pub root: String,
    /// What is learnt from.
    pub train: PartInfo,
    /// What is held out.
    pub val: Option<PartInfo>,
    /// Classes in the order of their numbers: those of the training part, then those that only the held-out part has.
    pub classes: Vec<String>,
    /// Classes that only the held-out part has, with their images.
    pub val_only_classes: Vec<(String, usize)>,
    /// What was left out.
    pub left_out: Vec<LeftOut>,
    /// What a person should know besides.
    pub notes: Vec<String>,
}

const SHOWN_CLASSES: usize = 8;
const SHOWN_EXAMPLES: usize = 3;
const SHOWN_ENDINGS: usize = 8;

/// Kinds of pictures that are not read, by their endings.
const UNREAD: [(&str, &[&str]); 7] = [
    ("HEIC", &["heic", "heif", "hif"]),
    ("AVIF", &["avif"]),
    ("JPEG XL", &["jxl"]),
    ("JPEG 2000", &["jp2", "j2k"]),
    ("camera raw", &["cr2", "cr3", "nef", "arw", "dng", "raf", "orf", "rw2"]),
    ("Photoshop", &["psd"]),
    ("PNM", &["ppm", "pgm", "pbm", "pnm"]),
];

/// A file's ending with its dot, in lower case, or that there is none.
fn ending_of(name: &str) -> String {
    let ending = Path::new(name).extension().map(|e| format!(".{}", e.to_string_lossy().to_lowercase()));
    ending.unwrap_or_else(|| "without an ending".to_owned())
}

/// The kind of picture that is not read, by an ending with its dot.
fn kind_of_picture(ending: &str) -> Option<&'static str> {
    let ending = ending.strip_prefix('.')?;
    UNREAD.iter().find(|(_, endings)| endings.contains(&ending)).map(|(kind, _)| *kind)
}

/// What to do about files that are pictures of a kind that is not read, where there are any.
pub(super) fn unread<'a>(names: impl Iterator<Item = &'a String>) -> Option<String> {
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    for kind in names.filter_map(|name| kind_of_picture(&ending_of(name))) {
        *found.entry(kind).or_default() += 1;
    }
    let kinds: Vec<String> =
        found.iter().map(|(kind, n)| count(*n, &format!("{kind} picture"), &format!("{kind} pictures"))).collect();
    let are = if found.values().sum::<usize>() == 1 { "is" } else { "are" };
    (!kinds.is_empty())
        .then(|| format!("{} {are} not read: convert such files to JPEG or PNG to have them", kinds.join(", ")))
}

/// `3 images`, `1 image`.
pub(super) fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// The first names, and whether there are more.
pub(super) fn some_of<S: AsRef<str>>(names: &[S]) -> String {
    let shown: Vec<&str> = names.iter().take(SHOWN_CLASSES).map(AsRef::as_ref).collect();
    format!("{}{}", shown.join(", "), if names.len() > SHOWN_CLASSES { ", …" } else { "" })
}

impl Understood {
    /// Leaves something out; nothing where there are no names.
    pub(super) fn leave_out(&mut self, one: &str, many: &str, names: &[String]) {
        if !names.is_empty() {
            let what = if names.len() == 1 { one } else { many }.to_owned();
            let examples = names.iter().take(SHOWN_EXAMPLES).cloned().collect();
            self.left_out.push(LeftOut { what, count: names.len(), examples });
        }
    }

    /// Leaves files out, which are known by their endings; those of pictures come first.
    pub(super) fn leave_out_files<'a>(&mut self, names: impl Iterator<Item = &'a String>) {
        let mut endings: BTreeMap<String, usize> = BTreeMap::new();
        for name in names {
            *endings.entry(ending_of(name)).or_default() += 1;
        }
        let total: usize = endings.values().sum();
        if total == 0 {
            return;
        }
        let mut endings: Vec<(String, usize)> = endings.into_iter().collect();
        endings.sort_by_key(|(ending, n)| (kind_of_picture(ending).is_none(), std::cmp::Reverse(*n)));
        let alone = endings.len() == 1;
        let text = |(ending, n): &(String, usize)| if alone { ending.clone() } else { format!("{n} {ending}") };
        let mut examples: Vec<String> = endings.iter().map(text).collect();
        if endings.len() > SHOWN_ENDINGS {
            let rest: usize = endings.iter().skip(SHOWN_ENDINGS - 1).map(|(_, n)| n).sum();
            examples.truncate(SHOWN_ENDINGS - 1);
            examples.push(format!("{rest} others"));
        }
        let what = if total == 1 { "file" } else { "files" }.to_owned();
        self.left_out.push(LeftOut { what, count: total, examples });
    }

    /// In a few lines: parts and classes; what was left out; what else to know.
    pub fn lines(&self) -> Vec<String> {
        let part = |part: &PartInfo| {
            let space = if part.folder.is_empty() { "" } else { " " };
            format!("{}{space}{}", part.folder, count(part.images, "image", "images"))
        };
        let mut first = format!("data: {}", part(&self.train));
        if let Some(val) = &self.val {
            first += &format!(", {}", part(val));
        }
        first += &match self.classes.len() {
            0 => ", no classes".to_owned(),
            n => format!(", {} ({})", count(n, "class", "classes"), some_of(&self.classes)),
        };
        if !self.root.is_empty() && self.root != self.spec {
            first += &format!(", in {}", self.root);
        }
        let mut lines = vec![first];
        if !self.left_out.is_empty() {
            let text = |l: &LeftOut| {
                // Endings stand for all files.
                let listed_all = l.count <= l.examples.len() || l.what == "files";
                let more = if listed_all { "" } else { ", …" };
                format!("{} {} ({}{more})", l.count, l.what, l.examples.join(", "))
            };
            let parts: Vec<String> = self.left_out.iter().map(text).collect();
            lines.push(format!("left out: {}", parts.join(", ")));
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
