//! VOC's annotation of an image: the size it had, and its objects.

use std::path::Path;

use roxmltree::{Document, Node, ParsingOptions};

use super::marks::{Mark, Place, Want};
use super::{malformed, malformed_line, read};
use crate::DataError;

/// More elements than any annotation has; each takes some hundred bytes of memory.
const MOST_NODES: u32 = 200_000;

/// An object by the name of its class.
pub(super) struct Named {
    pub class: String,
    pub mark: Mark,
}

/// An image's objects.
pub(super) struct Annotation {
    pub told_size: Option<[u32; 2]>,
    pub objects: Vec<Named>,
}

/// Reads an annotation. Where boxes are wanted, every object must have one, and none is looked at elsewhere. VOC counts
/// pixels from 1 and both ends in: box (xmin, ymin, xmax, ymax) has its edges at (xmin − 1, ymin − 1, xmax, ymax).
pub(super) fn read_annotation(path: &Path, want: Want) -> Result<Annotation, DataError> {
    let text = read(path)?;
    let options = ParsingOptions { nodes_limit: MOST_NODES, ..ParsingOptions::default() };
    let document =
        Document::parse_with_options(&text, options).map_err(|e| malformed(path, format!("not XML: {e}")))?;
    let root = document.root_element();
    if !root.has_tag_name("annotation") {
        let found = root.tag_name().name();
        return Err(malformed(path, format!("expected VOC's element <annotation>, found <{found}>")));
    }
    let mut objects = Vec::new();
    for object in root.children().filter(|n| n.has_tag_name("object")) {
        let wrong =
            |reason: String| malformed_line(path, document.text_pos_at(object.range().start).row as usize, reason);
        let Some(class) = word(object, "name").filter(|name| !name.is_empty()) else {
            return Err(wrong("expected a <name> in the <object>, found none".to_owned()));
        };
        let place = match want {
            Want::Classes => Place::Untold,
            Want::Boxes => Place::Pixels(corners(object).map_err(wrong)?),
        };
        let is_difficult = matches!(word(object, "difficult"), Some("1" | "true" | "True"));
        objects.push(Named { class: class.to_owned(), mark: Mark { place, is_difficult, ..Mark::default() } });
    }
    let side = |size: Node<'_, '_>, name: &str| word(size, name)?.parse::<u32>().ok().filter(|side| *side > 0);
    let size = root.children().find(|n| n.has_tag_name("size"));
    let told_size = size.and_then(|size| Some([side(size, "width")?, side(size, "height")?]));
    Ok(Annotation { told_size, objects })
}

/// The text of a child.
fn word<'a>(of: Node<'a, '_>, name: &str) -> Option<&'a str> {
    of.children().find(|n| n.has_tag_name(name)).and_then(|n| n.text()).map(str::trim)
}

fn corners(object: Node<'_, '_>) -> Result<[f64; 4], String> {
    let Some(corners) = object.children().find(|n| n.has_tag_name("bndbox")) else {
        return Err("expected a <bndbox> in the <object>, found none".to_owned());
    };
    let number = |name: &str| match word(corners, name).map(|text| (text, text.parse::<f64>())) {
        Some((_, Ok(number))) if number.is_finite() => Ok(number),
        Some((text, _)) => Err(format!("expected a number in <{name}>, found \"{}\"", short(text))),
        None => Err(format!("expected <xmin>, <ymin>, <xmax> and <ymax> in the <bndbox>, found no <{name}>")),
    };
    Ok([number("xmin")? - 1.0, number("ymin")? - 1.0, number("xmax")?, number("ymax")?])
}

/// The start of a text that nobody checked.
pub(super) fn short(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
