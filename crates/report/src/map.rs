//! Features of a folder's pictures as points in a page that can be moved, zoomed and read.

use std::fmt::Write as _;

use serde_json::json;

use crate::sections::footer;
use crate::text::escape;
use crate::{Thumbnail, page};

const STYLE: &str = include_str!("../assets/map.css");
/// The page's script and the base64 of its SHA-256. A test compares.
pub(crate) const SCRIPT: (&str, &str) =
    (include_str!("../assets/map.js"), "sQ+FRe8OzJpeD+frLJR9tJhbV1fiTkaHZJiKLaLx8bk=");

/// A picture on the map.
#[derive(Debug, Clone, PartialEq)]
pub struct MapPoint {
    /// Path below the folder.
    pub name: String,
    /// Where it lies, in any unit, the second axis upward.
    pub at: [f32; 2],
    /// Its class, below the number of classes.
    pub class: Option<u32>,
    /// A small copy.
    pub thumbnail: Option<Thumbnail>,
}

/// What the page says.
#[derive(Debug, Clone, PartialEq)]
pub struct MapPage {
    /// The folder.
    pub folder: String,
    /// The network, in words.
    pub network: String,
    /// What the two axes are, in words.
    pub projection: String,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// The pictures.
    pub points: Vec<MapPoint>,
    /// What a person should know besides.
    pub notes: Vec<String>,
}

/// The page as of `now` (seconds since 1970).
pub fn map_html(map: &MapPage, now: f64) -> String {
    let mut body = format!(
        "<header><h1>Map of {}</h1><p class=\"sub\">{} picture{} by {}. {}.</p></header>\n",
        escape(&map.folder),
        map.points.len(),
        if map.points.len() == 1 { "" } else { "s" },
        escape(&map.network),
        // No line begins with a lone percent sign.
        escape(&map.projection).replace(" %", "\u{a0}%")
    );
    body += "<noscript><p class=\"note warn\">The map needs JavaScript, which is in this file; nothing is \
             fetched.</p></noscript>\n";
    for note in &map.notes {
        let _ = writeln!(body, "<p class=\"lead hint\">{}</p>", escape(note));
    }
    body += "<div class=\"frame\"><div class=\"map\"><canvas id=\"map\" tabindex=\"0\" role=\"application\" \
             aria-label=\"Map of pictures: arrow keys go from picture to picture, plus and minus zoom\"></canvas>\
             <div class=\"tools\"><button id=\"in\" aria-label=\"Zoom in\">+</button><button id=\"out\" \
             aria-label=\"Zoom out\">−</button><button id=\"whole\" aria-label=\"Show all\" title=\"Show all\">⤢\
             </button></div><div id=\"card\" hidden></div></div>";
    body += &legend(map);
    body += "</div>\n<p class=\"lead hint\">Drag to move, turn the wheel or pinch to zoom, point at a picture to \
             see it, click to keep it. With keys: <kbd>Tab</kbd> to the map, arrows from picture to picture, \
             <kbd>+</kbd> <kbd>−</kbd> <kbd>0</kbd> zoom, <kbd>Shift</kbd> and arrows move. Close up, \
             pictures take the place of points.</p>\n<p id=\"live\" class=\"unseen\" aria-live=\"polite\"></p>\n";
    // `<` would let a file's name end the element.
    let points = points(map).replace('<', "\\u003c");
    let _ = writeln!(body, "<script type=\"application/json\" id=\"points\">{points}</script>");
    body += &footer(now);
    let title = format!("Map of {} – Ocelli", map.folder);
    page::whole(&page::Parts { title: &title, body: &body, head: "", style: STYLE, script: SCRIPT })
}

fn legend(map: &MapPage) -> String {
    if map.classes.is_empty() {
        return String::new();
    }
    let mut counts = vec![0usize; map.classes.len() + 1];
    for point in &map.points {
        counts[class(map, point)] += 1;
    }
    let mut html = String::from("<aside class=\"legend\"><h2>Classes</h2><ul>");
    let names = map.classes.iter().map(String::as_str).chain(["no class"]);
    for (i, (name, count)) in names.zip(counts).enumerate() {
        if count > 0 {
            let _ = write!(
                html,
                "<li><button data-class=\"{i}\" aria-pressed=\"true\"><i></i><span>{}</span><small>{count}</small>\
                 </button></li>",
                escape(name)
            );
        }
    }
    html + "</ul><button class=\"all\" id=\"all\">all / none</button></aside>"
}

/// The class, or the number behind the last for none.
fn class(map: &MapPage, point: &MapPoint) -> usize {
    point.class.map_or(map.classes.len(), |c| (c as usize).min(map.classes.len()))
}

/// Points for the script: places from -0.5 to 0.5 with the longer side filled, small pictures in base64.
fn points(map: &MapPage) -> String {
    let range = |axis: usize| {
        let values = || map.points.iter().map(|p| p.at[axis]).filter(|v| v.is_finite());
        (values().fold(f32::INFINITY, f32::min), values().fold(f32::NEG_INFINITY, f32::max))
    };
    let ranges = [range(0), range(1)];
    let longer = ranges.iter().map(|(low, high)| high - low).fold(0.0f32, f32::max);
    let longer = if longer > 0.0 { longer } else { 1.0 };
    let place = |axis: usize, sign: f64| -> Vec<f64> {
        let middle = ranges[axis].0.midpoint(ranges[axis].1);
        let round = |v: f64| (v * 1e5).round() / 1e5;
        let value = |p: &MapPoint| {
            let value = f64::from((p.at[axis] - middle) / longer) * sign;
            if value.is_finite() { round(value) } else { 0.0 }
        };
        map.points.iter().map(value).collect()
    };
    let thumbnail = |p: &MapPoint| p.thumbnail.as_ref().map(Thumbnail::base64).unwrap_or_default();
    json!({
        "names": map.points.iter().map(|p| &p.name).collect::<Vec<_>>(),
        "x": place(0, 1.0), "y": place(1, -1.0),
        "c": map.points.iter().map(|p| class(map, p)).collect::<Vec<_>>(),
        "t": map.points.iter().map(thumbnail).collect::<Vec<_>>(),
        "classes": map.classes,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_scaled_and_names_are_text() {
        let point = |name: &str, at, class| MapPoint {
            name: name.into(),
            at,
            class,
            thumbnail: Some(Thumbnail { jpeg: vec![1, 2, 3], width: 4, height: 5 }),
        };
        let mut map = MapPage {
            folder: "a&b".into(),
            network: "vit-s/16".into(),
            projection: "Principal components".into(),
            classes: vec!["cat".into(), "<dog>".into()],
            points: vec![
                point("</script><b>.jpg", [10.0, 5.0], Some(0)),
                point("b.jpg", [30.0, 10.0], Some(1)),
                point("c.jpg", [20.0, 0.0], None),
            ],
            notes: Vec::new(),
        };
        let html = map_html(&map, 0.0);
        let start = html.find("id=\"points\">").unwrap() + 12;
        let text = &html[start..start + html[start..].find("</script>").unwrap()];
        let data: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(data["names"][0], "</script><b>.jpg");
        assert_eq!((&data["x"], &data["y"]), (&json!([-0.5, 0.5, 0.0]), &json!([0.0, -0.25, 0.25])));
        assert_eq!((&data["c"], &data["t"][2]), (&json!([0, 1, 2]), &json!("AQID")));
        assert!(html.contains("&lt;dog&gt;") && html.contains("no class") && html.contains("a&amp;b"));
        assert!(!html.contains("http:") && !html.contains("https:"));
        // One point, no classes, a place that is no number.
        map.points = vec![point("d.jpg", [f32::NAN, 1.0], None)];
        map.classes.clear();
        let html = map_html(&map, 0.0);
        assert!(html.contains("\"x\":[0.0]") && !html.contains("<aside"));
    }
}
