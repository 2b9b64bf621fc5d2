//! What fine-tuned detection and segmentation leave in a run's folder, `detection.json` and `segmentation.json`: figures class
//! by class, curves of precision over recall, and what is taken for what.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::Run;
use crate::chart::{Chart, Curve, Stroke};
use crate::pictures::Png;
use crate::text::escape;

/// Larger files are not ours.
const LARGEST_BYTES: u64 = 16 << 20;
/// Classes with a curve of their own at most, those with the most objects.
const CURVES: usize = 24;
/// Classes in a table of figures at most.
const ROWS: usize = 200;
/// Pictures listed at either end at most.
const PICTURES: usize = 10;
/// Classes in a table of what is taken for what at most: those that occur most.
const CONFUSED: usize = 32;

/// What is known of boxes and of classes of pixels, where the run has any of it.
pub fn sections(run: &Run) -> String {
    let [boxes, pixels] = ["detection.json", "segmentation.json"].map(|file| read(&run.dir.join(file)));
    let mut html =
        boxes.as_ref().map(detection).unwrap_or_default() + &pixels.as_ref().map(segmentation).unwrap_or_default();
    let which = |told: &Option<Value>| told.as_ref().map_or("held-out", judged);
    for (file, title, lead) in [
        (
            "detections.png",
            "Found and missed",
            format!(
                "Some {} images with what is there and what was found, the worst and the best of them.",
                which(&boxes)
            ),
        ),
        (
            "segmentations.png",
            "Pixel by pixel",
            format!(
                "Some {} images, the classes of their pixels as they are labelled, and as the network assigns them.",
                which(&pixels)
            ),
        ),
    ] {
        if let Some(png) = Png::read(&run.dir.join("pictures").join(file)) {
            let tag = png.tag(&title.to_lowercase());
            let _ = writeln!(
                html,
                "<section><h2>{title}</h2><p class=\"lead\">{lead}</p><div class=\"sheet\">{tag}</div></section>"
            );
        }
    }
    html
}

/// A table of the run, if it is there and whole.
fn read(path: &Path) -> Option<Value> {
    let size = std::fs::metadata(path).ok()?.len();
    (size <= LARGEST_BYTES)
        .then(|| std::fs::read(path).ok())?
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
}

/// A share as per cent, or a dash for what is not there.
fn percent(value: &Value) -> String {
    value.as_f64().filter(|v| v.is_finite()).map_or("–".to_owned(), |v| format!("{:.1}", 100.0 * v))
}

/// So many images, in words.
fn images(value: &Value, judged: &str) -> String {
    format!("{} {judged} image{}", number_of(value), if value.as_u64() == Some(1) { "" } else { "s" })
}

/// Which images the figures are of, "held-out" or "training".
fn judged(told: &Value) -> &'static str {
    if told["judged"] == "training" { "training" } else { "held-out" }
}

/// A count, or a dash for what is none.
fn number_of(value: &Value) -> String {
    value.as_u64().map_or("–".to_owned(), |n| n.to_string())
}

/// A row of a table; the first cell names it.
fn row(html: &mut String, name: &str, cells: &[String]) {
    let _ = write!(html, "<tr><th>{}</th>", escape(name));
    cells.iter().for_each(|cell| {
        let _ = write!(html, "<td>{cell}</td>");
    });
    *html += "</tr>";
}

fn head(titles: &[&str]) -> String {
    let cells: String = titles.iter().map(|title| format!("<th>{title}</th>")).collect();
    format!("<div class=\"scroll\"><table><thead><tr>{cells}</tr></thead><tbody>")
}

const END: &str = "</tbody></table></div>";

fn detection(told: &Value) -> String {
    let Some(classes) = told["classes"].as_array() else { return String::new() };
    let name = |class: usize| classes.get(class).and_then(|c| c["name"].as_str()).unwrap_or("–");
    let (voc, coco) = (&told["voc"], &told["coco"]);
    let mut html = format!(
        "<section><h2>What was found</h2><p class=\"lead\">{}, per cent. VOC: {} AP, boxes as its files have \
         them; its AP is the mean over IoU .5:.05:.95, as MoCo and DenseCL report it. COCO: 101 points, boxes as they are. \
         The two are not comparable.</p>",
        images(&told["images"], judged(told)),
        escape(voc["interpolation"].as_str().unwrap_or("–"))
    );
    html += &head(&["", "VOC AP", "AP50", "AP75", "COCO AP", "AP50", "AP75", "objects", "found"]);
    let figures = |of: &Value| ["ap", "ap50", "ap75"].map(|key| percent(&of[key]));
    let cells = |voc: &Value, coco: &Value, counts: [String; 2]| -> Vec<String> {
        figures(voc).into_iter().chain(figures(coco)).chain(counts).collect()
    };
    row(&mut html, "all classes", &cells(voc, coco, [String::new(), String::new()]));
    for class in 0..classes.len().min(ROWS) {
        let (voc, coco) = (&voc["per_class"][class], &coco["per_class"][class]);
        let counts = ["objects", "detections"].map(|key| number_of(&voc[key]));
        row(&mut html, name(class), &cells(voc, coco, counts));
    }
    html += END;
    html += &curves(classes, voc);
    html += &confusion(
        &counts(&told["confusion"]["counts"], classes.len() + 1),
        &|class| name(class).to_owned(),
        Some("nothing"),
        &format!(
            "What objects (rows) were taken for (columns), detections with a score of {} or more, at an IoU of .5: per cent of \
             the row. The last column is what was missed, the last row what was found where nothing is, in numbers.",
            told["least_score"].as_f64().map_or("–".into(), crate::text::number)
        ),
    );
    html + "</section>\n"
}

/// Precision over recall, a chart for each class.
fn curves(classes: &[Value], voc: &Value) -> String {
    let mut order: Vec<usize> = (0..classes.len()).collect();
    let objects = |class: usize| voc["per_class"][class]["objects"].as_u64().unwrap_or(0);
    order.sort_by_key(|class| std::cmp::Reverse(objects(*class)));
    order.truncate(CURVES);
    let mut html = String::new();
    for class in order {
        let numbers = |key: &str| -> Vec<f64> {
            let values = classes[class]["curve"][key].as_array();
            values.into_iter().flatten().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect()
        };
        let points: Vec<(f64, f64)> = numbers("recall").into_iter().zip(numbers("precision")).collect();
        let chart = Chart {
            title: classes[class]["name"].as_str().unwrap_or("–").to_owned(),
            curves: vec![Curve { name: "precision".into(), colour: 0, stroke: Stroke::Plain, points }],
            x_title: "recall",
            x_last: 1.0,
            from_zero: true,
            ..Chart::default()
        };
        // A class of which nothing was found has nothing to draw.
        if chart.curves.iter().flat_map(|c| &c.points).any(|(_, precision)| *precision > 0.0) {
            let ap = percent(&voc["per_class"][class]["ap50"]);
            html += &chart.figure_with(&format!("AP50 {ap} %"));
        }
    }
    if html.is_empty() {
        return html;
    }
    format!(
        "<h3>Precision over recall at IoU .5</h3><p class=\"lead\">Healthy: high at the left, and far to the right before it \
         falls.</p><div class=\"charts\">{html}</div>"
    )
}

fn segmentation(told: &Value) -> String {
    let Some(classes) = told["classes"].as_array() else { return String::new() };
    let name = |class: usize| classes.get(class).and_then(|c| c["name"].as_str()).unwrap_or("–").to_owned();
    // This file has per cent.
    let percent = |value: &Value| value.as_f64().map_or("–".to_owned(), |v| format!("{v:.1}"));
    let mut html = format!(
        "<section><h2>Classes of the pixels</h2><p class=\"lead\">{}{}, all pixels with a label: mIoU {} \
         %, mean accuracy of the classes {} %, accuracy of the pixels {} %.</p>",
        images(&told["pictures"], judged(told)),
        match told["skipped"].as_array().map_or(0, Vec::len) {
            0 => String::new(),
            n => format!(" ({n} more could not be read)"),
        },
        percent(&told["miou"]),
        percent(&told["mean_accuracy"]),
        percent(&told["pixel_accuracy"])
    );
    html += &head(&["", "IoU", "", "pixels"]);
    let pixels = |class: &Value| class["pixels_labelled"].as_f64().unwrap_or(0.0).max(0.0);
    let total: f64 = classes.iter().map(pixels).sum();
    for (class, told) in classes.iter().enumerate().take(ROWS) {
        let width = told["iou"].as_f64().unwrap_or(0.0).clamp(0.0, 100.0);
        let bar = format!("<div class=\"bar\"><i style=\"width:{width:.1}%\"></i></div>");
        let share = format!("{:.1} %", 100.0 * pixels(told) / total.max(1.0));
        row(&mut html, &name(class), &[percent(&told["iou"]), bar, share]);
    }
    html += END;
    html += &confusion(
        &rows(&told["confusion"], classes.len()),
        &name,
        None,
        "The class that pixels have (rows) and the one that they were assigned (columns): per cent of the row.",
    );
    for (key, title) in [("worst", "Worst pictures"), ("best", "Best pictures")] {
        let listed = told[key].as_array().map(Vec::as_slice).unwrap_or_default();
        let item = |picture: &Value| {
            let miou = percent(&picture["miou"]);
            format!("<dt>{}</dt><dd>mIoU {miou} %</dd>", escape(picture["name"].as_str().unwrap_or("–")))
        };
        if !listed.is_empty() {
            let items: String = listed.iter().take(PICTURES).map(item).collect();
            let _ = write!(html, "<h3>{title}</h3><dl class=\"facts\">{items}</dl>");
        }
    }
    html + "</section>\n"
}

/// The counts of a confusion matrix that are listed one after the other; nothing where they are not `side²`.
fn counts(told: &Value, side: usize) -> Vec<Vec<f64>> {
    let counts = told.as_array().filter(|counts| side > 0 && counts.len() == side * side);
    counts.map(|counts| counts.chunks_exact(side).map(numbers).collect()).unwrap_or_default()
}

/// Those of a confusion matrix that is a list of rows; nothing where it is not square.
fn rows(told: &Value, side: usize) -> Vec<Vec<f64>> {
    let rows = told.as_array().filter(|rows| rows.len() == side);
    let row = |row: &Value| row.as_array().filter(|row| row.len() == side).map(|row| numbers(row));
    rows.and_then(|rows| rows.iter().map(row).collect()).unwrap_or_default()
}

fn numbers(row: &[Value]) -> Vec<f64> {
    row.iter().map(|v| v.as_f64().unwrap_or(0.0).max(0.0)).collect()
}

/// A heat map of what is taken for what. `beside` names a last row and column that are no class.
fn confusion(counts: &[Vec<f64>], name: &dyn Fn(usize) -> String, beside: Option<&str>, lead: &str) -> String {
    let Some(classes) = counts.len().checked_sub(usize::from(beside.is_some())).filter(|n| *n > 0) else {
        return String::new();
    };
    let of_row = |class: usize| counts[class].iter().sum::<f64>();
    let mut shown: Vec<usize> = (0..classes).collect();
    shown.sort_by(|a, b| of_row(*b).total_cmp(&of_row(*a)));
    shown.truncate(CONFUSED);
    shown.sort_unstable();
    let title = |class: usize| beside.filter(|_| class == classes).map_or_else(|| name(class), str::to_owned);
    let left_out = match classes - shown.len() {
        0 => String::new(),
        more => format!(" {more} rarer classes are left out."),
    };
    shown.extend(beside.map(|_| classes));
    let columns: String = shown.iter().map(|c| format!("<th>{}</th>", escape(&title(*c)))).collect();
    let mut html = format!(
        "<h3>What is taken for what</h3><p class=\"lead\">{}{left_out}</p><div class=\"scroll\"><table class=\"heat\"><thead>\
         <tr><th></th>{columns}</tr></thead><tbody>",
        escape(lead)
    );
    for &truth in &shown {
        let whole = of_row(truth);
        let _ = write!(html, "<tr><th>{}</th>", escape(&title(truth)));
        for &found in &shown {
            let count = counts[truth][found];
            if beside.is_some() && truth == classes {
                // There is no whole of what is not there.
                let _ =
                    write!(html, "<td>{}</td>", if count > 0.0 { format!("{count:.0}") } else { String::new() });
                continue;
            }
            let share = if whole > 0.0 { count / whole } else { 0.0 };
            let text = if share >= 0.0005 { format!("{:.1}", 100.0 * share) } else { String::new() };
            let class = if share > 0.55 { " class=\"much\"" } else { "" };
            let _ = write!(html, "<td{class} style=\"--share:{:.0}%\">{text}</td>", 100.0 * share);
        }
        html += "</tr>";
    }
    html + END
}
