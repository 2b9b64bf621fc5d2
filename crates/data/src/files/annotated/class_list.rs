//! Files that name the classes of label maps: by number, by colour, or one a line.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::listing::Listing;
use super::palettes::is_void;
use super::{malformed, malformed_line, read, yaml};
use crate::DataError;
use crate::annotated::IGNORED;

/// Lists of classes, those that are preferred first.
const LISTS: [&str; 8] = [
    "classes.txt",
    "class_names.txt",
    "label_colors.txt",
    "labelmap.txt",
    "class_dict.csv",
    "_classes.csv",
    "classes.csv",
    "labels.txt",
];

/// What lists begin with whose classes are numbered from the next line on.
const NO_CLASS: &str = "__ignore__";

/// Far more than 255 lines need.
const MOST_BYTES: usize = 1 << 20;

/// A class as a file names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// What maps have for it.
    pub number: usize,
    pub name: String,
    pub colour: Option<[u8; 3]>,
}

/// Classes as a file names them.
#[derive(Debug, Clone)]
pub(super) struct ClassList {
    /// The file, below the root.
    pub file: String,
    pub entries: Vec<Entry>,
}

impl ClassList {
    /// The list nearest to the top of a folder, or what a YAML file there says; `None` where neither is.
    pub fn find(root: &Path, listing: &Listing) -> Result<Option<Self>, DataError> {
        let rank = |name: &String| {
            let file = name.rsplit('/').next().unwrap_or(name).to_lowercase();
            LISTS.iter().position(|list| *list == file).map(|rank| (name.matches('/').count(), rank))
        };
        let lists = listing.others.iter().filter_map(|name| Some((rank(name)?, name)));
        if let Some((_, name)) = lists.min() {
            let path = root.join(name);
            return Ok(Some(Self { file: name.clone(), entries: parse(&path, &read(&path)?)? }));
        }
        let is_yaml =
            |name: &&String| name.matches('/').count() <= 1 && (name.ends_with(".yaml") || name.ends_with(".yml"));
        let mut best = None;
        for name in listing.others.iter().filter(is_yaml) {
            let path = root.join(name);
            let text = read(&path)?;
            let Some(top) = yaml::document(&path, &text)? else { continue };
            let named = ["classes", "names"].into_iter().find_map(|key| yaml::numbered(top.as_mapping_get(key)?));
            let Some(named) = named else { continue };
            // Beside one about boxes, which names other classes.
            let train = top.as_mapping_get("train");
            if train.is_some_and(|train| !train.is_mapping()) {
                continue;
            }
            let is_of_maps = train.is_some_and(|train| train.as_mapping_get("masks").is_some())
                || name.contains("segment")
                || name.contains("mask");
            let entries: Vec<Entry> =
                named.into_iter().map(|(number, name)| Entry { number, name, colour: None }).collect();
            // More than maps of bytes can have: it is about something else.
            if entries.len() > 255 || entries.iter().any(|entry| entry.number > 255) {
                continue;
            }
            if best.as_ref().is_none_or(|(was, _)| is_of_maps && !was) {
                best = Some((is_of_maps, Self { file: name.clone(), entries }));
            }
        }
        Ok(best.map(|(_, list)| list))
    }

    /// The list that lies directly in a folder.
    pub fn directly_in(root: &Path) -> Result<Option<Self>, DataError> {
        let Some(file) = LISTS.into_iter().find(|list| root.join(list).is_file()) else { return Ok(None) };
        let path = root.join(file);
        Ok(Some(Self { file: file.to_owned(), entries: parse(&path, &read(&path)?)? }))
    }

    /// Whether every class has a colour.
    pub fn has_colours(&self) -> bool {
        self.entries.iter().all(|entry| entry.colour.is_some())
    }

    /// Numbers of the classes in their order; those that are named as none are [`IGNORED`].
    pub fn numbered(&self) -> Vec<u8> {
        let mut next = 0;
        let mut class = |entry: &Entry| {
            if is_void(&entry.name) {
                return IGNORED;
            }
            next += 1;
            next - 1
        };
        self.entries.iter().map(&mut class).collect()
    }

    /// The classes that are some.
    pub fn classes(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !is_void(&entry.name))
    }
}

/// How the lines of a list are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    NameColour,
    ColourName,
    NumberName,
    Name,
}

/// Lines `NAME R G B`, `R G B NAME`, `NUMBER NAME` or `NAME`, words apart by spaces, commas, colons or tabs; all of one form,
/// but for a first line that says what the columns are.
fn parse(path: &Path, text: &str) -> Result<Vec<Entry>, DataError> {
    if text.len() > MOST_BYTES {
        let found = text.len();
        return Err(malformed(path, format!("expected a list of at most {MOST_BYTES} bytes, found {found}")));
    }
    let lines: Vec<(usize, &str)> = text
        .lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#') && *line != NO_CLASS)
        .collect();
    let forms = [Form::NameColour, Form::ColourName, Form::NumberName];
    let is_all = |form: Form, lines: &[(usize, &str)]| {
        !lines.is_empty() && lines.iter().all(|(at, line)| entry(form, *at, line).is_some())
    };
    let (form, lines) = match forms.into_iter().find(|form| is_all(*form, &lines)) {
        Some(form) => (form, lines.as_slice()),
        None => match forms.into_iter().find(|form| is_all(*form, lines.get(1..).unwrap_or_default())) {
            Some(form) => (form, &lines[1..]),
            None => (Form::Name, lines.as_slice()),
        },
    };
    let entries: Vec<Entry> =
        lines.iter().enumerate().filter_map(|(at, (_, line))| entry(form, at, line)).collect();
    if entries.is_empty() {
        return Err(malformed(path, "expected classes, one a line; found none"));
    }
    let (mut numbers, mut colours) = (BTreeSet::new(), BTreeSet::new());
    for (entry, (line, _)) in entries.iter().zip(lines) {
        if entry.number > 255 {
            let reason = format!("expected the number of a class from 0 to 255, found {}", entry.number);
            return Err(malformed_line(path, *line, reason));
        }
        if !numbers.insert(entry.number) {
            return Err(malformed_line(path, *line, format!("class {} is there twice", entry.number)));
        }
        if let Some([r, g, b]) = entry.colour.filter(|colour| !colours.insert(*colour)) {
            return Err(malformed_line(path, *line, format!("the colour {r} {g} {b} is there twice")));
        }
    }
    if entries.iter().filter(|entry| !is_void(&entry.name)).count() > 255 {
        return Err(malformed(path, format!("expected at most 255 classes, found {}", entries.len())));
    }
    Ok(entries)
}

/// A line of a form, `at` lines below the first.
fn entry(form: Form, at: usize, line: &str) -> Option<Entry> {
    let words: Vec<&str> = line.split([' ', '\t', ',', ';', ':']).filter(|word| !word.is_empty()).collect();
    let colour = |words: &[&str]| -> Option<[u8; 3]> {
        let [r, g, b] = words else { return None };
        Some([r.parse().ok()?, g.parse().ok()?, b.parse().ok()?])
    };
    let name = |words: &[&str]| (!words.is_empty()).then(|| words.join(" "));
    match form {
        Form::NameColour => {
            let (named, last) = words.split_at_checked(words.len().checked_sub(3)?)?;
            // A number before the name is the map's.
            let (number, named) = match named {
                [number, rest @ ..] if !rest.is_empty() => {
                    number.parse().map_or((at, named), |number| (number, rest))
                }
                _ => (at, named),
            };
            Some(Entry { number, name: name(named)?, colour: Some(colour(last)?) })
        }
        Form::ColourName => {
            let (first, named) = words.split_at_checked(3)?;
            Some(Entry { number: at, name: name(named)?, colour: Some(colour(first)?) })
        }
        Form::NumberName => {
            let (number, named) = words.split_first()?;
            Some(Entry { number: number.parse().ok()?, name: name(named)?, colour: None })
        }
        Form::Name => Some(Entry { number: at, name: line.to_owned(), colour: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(usize, String, Option<[u8; 3]>)> {
        let entries = parse(Path::new("classes.txt"), text).unwrap();
        entries.into_iter().map(|e| (e.number, e.name, e.colour)).collect()
    }

    #[test]
    fn lists_of_every_form() {
        let of = |number, name: &str, colour| (number, name.to_owned(), colour);
        assert_eq!(parsed("sky\nold road\n\n"), [of(0, "sky", None), of(1, "old road", None)]);
        assert_eq!(parsed("__ignore__\nsky\nold road"), parsed("sky\nold road"));
        assert_eq!(parsed("0 sky\n4 old road"), [of(0, "sky", None), of(4, "old road", None)]);
        let colours = [of(0, "sky", Some([1, 2, 3])), of(1, "old road", Some([4, 5, 6]))];
        assert_eq!(parsed("sky 1 2 3\nold road 4 5 6\n"), colours);
        assert_eq!(parsed("1 2 3\tsky\n4 5 6\told road\n"), colours);
        assert_eq!(parsed("name,r,g,b\nsky,1,2,3\nold road,4,5,6\n"), colours);
        assert_eq!(parsed("# label:color_rgb:parts:actions\nsky:1,2,3::\nold road:4,5,6::\n"), colours);
        assert_eq!(
            parsed("Pixel Value, Class\n0, sky\n4, old road\n"),
            [of(0, "sky", None), of(4, "old road", None)]
        );
        assert_eq!(parsed("5 sky 1 2 3\n7 road 4 5 6")[1], of(7, "road", Some([4, 5, 6])));
    }

    #[test]
    fn what_is_no_list_is_refused_with_its_line() {
        for (text, words) in [
            ("\n\n", "found none"),
            ("0 a\n0 b\n", "classes.txt:2: class 0 is there twice"),
            ("0 a\n256 b\n", "classes.txt:2: expected the number of a class from 0 to 255, found 256"),
            ("a 1 2 3\nb 1 2 3\n", "classes.txt:2: the colour 1 2 3 is there twice"),
        ] {
            let message = parse(Path::new("classes.txt"), text).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn what_is_named_as_no_class_is_ignored() {
        let entries = parse(Path::new("c"), "0 unlabeled\n1 person\n3 car\n").unwrap();
        let list = ClassList { file: "c".into(), entries };
        assert_eq!(list.numbered(), [IGNORED, 0, 1]);
        assert_eq!(list.classes().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["person", "car"]);
        assert!(!list.has_colours());
    }
}
