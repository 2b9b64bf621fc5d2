//! Near-duplicates of a folder in one page.

use std::fmt::Write as _;

use crate::sections::footer;
use crate::text::{bytes, escape};
use crate::{Thumbnail, page};

const STYLE: &str = include_str!("../assets/duplicates.css");

/// A picture that has near-duplicates.
#[derive(Debug, Clone, PartialEq)]
pub struct Duplicate {
    /// Path below the folder.
    pub name: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Bytes of the file.
    pub bytes: u64,
    /// Cosine with the group's first.
    pub similarity: f32,
    /// Whether the file is an earlier one's of its group, byte for byte.
    pub is_copy: bool,
    /// A small copy; without it the name stands alone.
    pub thumbnail: Option<Thumbnail>,
}

/// What the page says.
#[derive(Debug, Clone, PartialEq)]
pub struct DuplicatesPage {
    /// The folder.
    pub folder: String,
    /// The network, in words.
    pub network: String,
    /// Least cosine of two pictures that are linked.
    pub threshold: f32,
    /// Pictures that were compared.
    pub pictures: usize,
    /// Groups; the first picture of each is the largest.
    pub groups: Vec<Vec<Duplicate>>,
    /// What a person should know besides.
    pub notes: Vec<String>,
}

/// The page as of `now` (seconds since 1970).
pub fn duplicates_html(page: &DuplicatesPage, now: f64) -> String {
    let all: usize = page.groups.iter().map(Vec::len).sum();
    let spare: u64 = page.groups.iter().flat_map(|group| group.iter().skip(1)).map(|d| d.bytes).sum();
    let copies = page.groups.iter().flatten().filter(|d| d.is_copy).count();
    let mut body = format!(
        "<header><h1>Near-duplicates in {}</h1><p class=\"sub\">{} by {}; pictures are linked where the cosine \
         of their features is at least {}</p></header>\n<div class=\"cards\">",
        escape(&page.folder),
        count(page.pictures, "picture"),
        escape(&page.network),
        page.threshold
    );
    let cards = [
        ("Groups", page.groups.len().to_string(), String::new()),
        ("Pictures in them", all.to_string(), String::new()),
        ("Beside the largest of each", bytes(spare), count(all - page.groups.len(), "file")),
        ("The same file twice", copies.to_string(), "byte for byte".to_owned()),
    ];
    for (title, value, small) in cards {
        let _ = write!(body, "<div><span>{title}</span><b>{value}</b><small>{small}</small></div>");
    }
    body += "</div>\n";
    body += match page.groups.is_empty() {
        true => "<p class=\"note good\">No two pictures are this similar. A lower --threshold finds more.</p>\n",
        false => {
            "<p class=\"lead hint\">The largest picture of each group comes first; the others' similarity is with \
             it. Where it is below the threshold, pictures between them link the two. Alike to a network is not the \
             same: look before you delete. Nothing was deleted.</p>\n"
        }
    };
    for note in &page.notes {
        let _ = writeln!(body, "<p class=\"note warn\">{}</p>", escape(note));
    }
    for (i, group) in page.groups.iter().enumerate() {
        let _ = write!(
            body,
            "<section class=\"group\"><h2>{} <small>{}</small></h2><ul>",
            i + 1,
            count(group.len(), "picture")
        );
        body.extend(group.iter().enumerate().map(|(place, one)| item(one, place == 0)));
        body += "</ul></section>\n";
    }
    body += &footer(now);
    let title = format!("Near-duplicates in {} – Ocelli", page.folder);
    page::with_style(&title, &body, STYLE)
}

fn item(one: &Duplicate, is_first: bool) -> String {
    let picture = match &one.thumbnail {
        Some(thumbnail) => thumbnail.tag(&one.name),
        None => "<i class=\"none\">no preview</i>".to_owned(),
    };
    let badge = match (is_first, one.is_copy) {
        (true, _) => "<span class=\"badge good\">largest</span>",
        (false, true) => "<span class=\"badge warn\">same file</span>",
        (false, false) => "",
    };
    let similarity = if is_first { String::new() } else { format!("<b>{:.3}</b>", one.similarity) };
    format!(
        "<li{}><div class=\"shown\">{picture}</div><p>{similarity}{badge}</p><p class=\"name\">{}</p><p \
         class=\"facts\">{} × {} px, {}</p></li>",
        if is_first { " class=\"largest\"" } else { "" },
        escape(&one.name),
        one.width,
        one.height,
        bytes(one.bytes)
    )
}

/// `3 files`, `1 file`.
fn count(n: usize, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_picture_is_on_the_page_and_names_are_text() {
        let thumbnail = Thumbnail { jpeg: vec![1, 2, 3], width: 4, height: 5 };
        let one = |name: &str, similarity: f32, is_copy: bool| Duplicate {
            name: name.into(),
            width: 640,
            height: 480,
            bytes: 1500,
            similarity,
            is_copy,
            thumbnail: (!is_copy).then(|| thumbnail.clone()),
        };
        let mut page = DuplicatesPage {
            folder: "a&b".into(),
            network: "vit-s/16".into(),
            threshold: 0.95,
            pictures: 9,
            groups: vec![vec![
                one("<script>.jpg", 1.0, false),
                one("b.jpg", 0.97, false),
                one("c.jpg", 1.0, true),
            ]],
            notes: vec!["a note".into()],
        };
        let html = duplicates_html(&page, 0.0);
        for words in [
            "a&amp;b",
            "&lt;script&gt;.jpg",
            "0.970",
            "same file",
            "largest",
            "640 × 480 px, 1.5 kB",
            "3.0 kB",
            "a note",
        ] {
            assert!(html.contains(words), "{words}");
        }
        assert_eq!(html.matches("data:image/jpeg;base64,AQID").count(), 2);
        assert!(!html.contains("<script>.jpg") && !html.contains("http:") && !html.contains("https:"));
        page.groups.clear();
        assert!(duplicates_html(&page, 0.0).contains("No two pictures are this similar"));
    }
}
