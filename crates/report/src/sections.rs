//! The parts of the page below the curves, and the figures above them.

use std::fmt::Write as _;

use serde_json::Value;
use toml::Table;

use crate::text::{bytes, command, date, duration, escape, number, time_tag};
use crate::{NoteKind, Run, pictures};

/// Diary entries shown at most.
const NOTES: usize = 60;

/// A headline figure.
fn card(html: &mut String, what: &str, value: &str, more: &str) {
    let more = if more.is_empty() { String::new() } else { format!("<small>{}</small>", escape(more)) };
    let _ = write!(html, "<div><span>{}</span><b>{}</b>{more}</div>", escape(what), escape(value));
}

/// A title within a sentence; abbreviations stay as they are.
fn lower(title: &str) -> String {
    if title.chars().nth(1).is_some_and(|second| second.is_uppercase()) {
        return title.to_owned();
    }
    let mut letters = title.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// The figures one asks for first.
pub fn headline(run: &Run) -> String {
    let history = &run.history;
    let newest = |key: &str| history.epochs.last(key).or_else(|| history.steps.last(key));
    let mut html = String::from("<section class=\"cards\">");
    if let Some((epoch, best)) = history.best_knn() {
        let baseline = history.baseline.clone().unwrap_or_default();
        let k = history.quoted_k().unwrap_or(20);
        let of = |name: &str, values: &std::collections::BTreeMap<u64, f64>| {
            values.get(&k).map(|v| format!("{name} {v:.1}"))
        };
        let known: Vec<String> = [of("untrained", &baseline.untrained), of("raw pixels", &baseline.raw_pixels)]
            .into_iter()
            .flatten()
            .collect();
        let now = history.epochs.last(&format!("knn_{k}")).filter(|now| *now < best);
        let now = now.map(|v| format!("now {v:.1}, ")).unwrap_or_default();
        let more = format!("k = {k}, epoch {epoch}; {now}{}", known.join(", "));
        card(&mut html, "Best k-NN", &format!("{best:.1} %"), more.trim_end_matches([' ', ';', ',']));
    }
    if let Some(loss) = newest("loss") {
        let first = history.steps.column("loss").and_then(|c| c.first().copied());
        let first = first.filter(|v| v.is_finite()).map(|v| format!("began at {}", number(v)));
        card(&mut html, "Loss", &number(loss), &first.unwrap_or_default());
    }
    for figure in history.declared.figures.iter().filter(|f| f.headline && f.name != "loss") {
        let Some(value) = newest(&figure.name) else { continue };
        let level = figure.level.as_ref().and_then(|name| history.declared.level(name));
        let more = level
            .filter(|l| l.value > 0.0)
            .map(|l| format!("{:.0} % of {} = {}", 100.0 * value / l.value, l.name, number(l.value)));
        let shown = format!("{}{}", number(value * figure.times), figure.unit.as_deref().unwrap_or_default());
        card(&mut html, &figure.title, &shown, &more.unwrap_or_default());
    }
    for score in &history.declared.scores {
        if !score.is_per_cent() {
            // The highest of these is not the best.
            if let Some(value) = newest(&score.name) {
                let shown =
                    format!("{}{}", number(value * score.times), score.unit.as_deref().unwrap_or_default());
                card(&mut html, &score.title, &shown, "");
            }
            continue;
        }
        let Some((epoch, best)) = history.best(&score.name) else { continue };
        let now = newest(&score.name).filter(|now| *now < best);
        let now = now.map(|v| format!("; now {v:.1}")).unwrap_or_default();
        card(
            &mut html,
            &format!("Best {}", lower(&score.title)),
            &format!("{best:.1} %"),
            &format!("epoch {epoch}{now}"),
        );
    }
    if let Some(speed) = run.speed() {
        card(&mut html, "Images per second", &number(speed), run.said("device").unwrap_or_default());
    }
    if let Some(started) = history.started {
        let millions = |n: u64| format!("{:.2} M", n as f64 / 1e6);
        let more = format!("head {}; {} images", millions(started.head_parameters), started.images);
        card(&mut html, "Backbone parameters", &millions(started.backbone_parameters), &more);
    }
    html + "</section>\n"
}

/// What looks wrong in the figures of the last epoch, in words.
pub fn concerns(run: &Run) -> Vec<String> {
    let (history, mut found) = (&run.history, Vec::new());
    if let (Some(k), Some(baseline)) = (history.quoted_k(), &history.baseline)
        && let (Some(now), Some(before)) = (history.epochs.last(&format!("knn_{k}")), baseline.untrained.get(&k))
        && now < *before
        && history.epochs.len() >= 3
    {
        found.push(format!("k-NN accuracy ({now:.1} %) is below that of the untrained network ({before:.1} %)."));
    }
    // What shows in the first epochs may pass.
    if history.epochs.len() >= 3 {
        let shown = |name: &String| history.declared.signs.iter().find(|s| s.name == *name);
        for sign in history.signs.iter().filter_map(shown) {
            found.push(format!("In the last epoch {}. Usual remedies: {}.", sign.meaning, sign.remedies));
        }
    }
    found
}

/// Attention or features over the epochs, the newest in detail, and the views.
pub fn looks(run: &Run) -> String {
    let mut html = String::new();
    let folder = run.dir.join("pictures");
    for (kind, title, lead, detail, detail_title) in [
        (
            "attention",
            "What the network attends to",
            "Attention of the class token in the last block, mean of the heads, in the same images throughout; bright is much.",
            "heads.png",
            "Head by head, newest",
        ),
        (
            "features",
            "What the dense features tell apart",
            "The feature of every cell, its three leading components over all the images as colours, in the same images \
             throughout. Healthy: places that look alike to us come to have one colour; one colour for all tells nothing.",
            "matches.png",
            "Cells of an image and of an augmented view of it that choose each other, newest",
        ),
    ] {
        // Pictures that an earlier run left in the folder are not this run's.
        let done = run.history.epochs_done() + 1e-9;
        let mut epochs = pictures::epochs(&run.dir, kind);
        epochs.retain(|e| *e as f64 <= done.max(0.0));
        let strip: Vec<(String, pictures::Png)> = pictures::thinned(&epochs)
            .into_iter()
            .filter_map(|e| {
                let title = if e == 0 { "untrained".to_owned() } else { format!("epoch {e}") };
                Some((title, pictures::after(&run.dir, kind, e)?))
            })
            .collect();
        if strip.is_empty() {
            continue;
        }
        let _ = write!(html, "<section><h2>{title}</h2><p class=\"lead\">{lead}</p><div class=\"strip\">");
        if let Some(images) = pictures::Png::read(&folder.join(format!("{kind}-images.png"))) {
            let _ = write!(html, "<figure>{}<figcaption>image</figcaption></figure>", images.tag("the images"));
        }
        for (title, png) in &strip {
            let alt = format!("{kind}, {title}");
            let _ = write!(html, "<figure>{}<figcaption>{title}</figcaption></figure>", png.tag(&alt));
        }
        html += "</div>";
        if let Some(png) = pictures::Png::read(&folder.join(detail)) {
            let tag = png.tag(&detail_title.to_lowercase());
            let _ = write!(html, "<h3>{detail_title}</h3><div class=\"sheet\">{tag}</div>");
        }
        html += "</section>\n";
    }
    if let Some(views) = pictures::Png::read(&folder.join("views.png")) {
        let _ = writeln!(
            html,
            "<section><h2>What the network sees</h2><p class=\"lead\">Views of some training images in the first epoch, \
             before normalisation. {}</p><div \
             class=\"sheet\">{}</div></section>",
            escape(&run.history.declared.views_about),
            views.tag("views of training images")
        );
    }
    html
}

/// `a.b.c` and its value, for every value of a table.
pub fn flatten(table: &Table) -> Vec<(String, String)> {
    fn walk(table: &Table, prefix: &str, depth: usize, out: &mut Vec<(String, String)>) {
        for (key, value) in table {
            let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value {
                toml::Value::Table(inner) if depth < 8 => walk(inner, &key, depth + 1, out),
                value => out.push((key, shown(value))),
            }
        }
    }
    let mut out = Vec::new();
    walk(table, "", 0, &mut out);
    // Values of the run itself come before those of its parts, and each part stays together.
    let part = |key: &str| key.rsplit_once('.').map(|(part, _)| part.to_owned());
    out.sort_by_cached_key(|(key, _)| part(key));
    out
}

/// A value as TOML writes it, a number without the digits that f32 lacks, a string without quotes.
fn shown(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Float(v) => float(*v),
        toml::Value::Array(values) => {
            format!("[{}]", values.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

fn float(value: f64) -> String {
    let short = value as f32;
    let exact = f64::from(short) == value;
    let text = if exact { format!("{short:?}") } else { format!("{value:?}") };
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// The configuration, values that differ from the defaults marked.
pub fn configuration(run: &Run, defaults: Option<&Table>) -> String {
    let Some(config) = &run.config else { return String::new() };
    let usual: std::collections::BTreeMap<String, String> =
        defaults.map(flatten).unwrap_or_default().into_iter().collect();
    let mut html = String::from("<section><h2>Configuration</h2>");
    if defaults.is_some() {
        html += "<p class=\"lead\">Marked values differ from the defaults, which stand beside them.</p>";
    }
    html += "<div class=\"config\">";
    let (mut section, mut open) = (None::<String>, false);
    for (key, value) in flatten(config) {
        let (prefix, leaf) = key.rsplit_once('.').unwrap_or(("run", &key));
        if section.as_deref() != Some(prefix) {
            let close = if open { "</dl></div>" } else { "" };
            let _ = write!(html, "{close}<div><h3>{}</h3><dl>", escape(prefix));
            (section, open) = (Some(prefix.to_owned()), true);
        }
        let differs = usual.get(&key).filter(|usual| **usual != value);
        let (class, note) = match differs {
            Some(usual) => (" class=\"changed\"", format!("<small>default {}</small>", escape(usual))),
            None => ("", String::new()),
        };
        let _ = write!(html, "<dt{class}>{}</dt><dd{class}>{}{note}</dd>", escape(leaf), escape(&value));
    }
    html + if open { "</dl></div></div></section>\n" } else { "</div></section>\n" }
}

/// How the run was made: device, data, versions, command.
pub fn manifest(run: &Run) -> String {
    let mut rows: Vec<(String, String)> = Vec::new();
    for (key, value) in &run.manifest {
        let text = match (key.as_str(), value) {
            ("command", Value::Array(words)) => {
                let words: Vec<String> = words.iter().filter_map(|w| w.as_str().map(str::to_owned)).collect();
                format!("<code>{}</code>", escape(&command(&words)))
            }
            ("resumed", Value::Array(parts)) => {
                let times = parts.iter().filter_map(|part| part["unix_s"].as_f64()).map(time_tag);
                times.collect::<Vec<_>>().join(", ")
            }
            ("started_unix_s", value) => value.as_f64().map(time_tag).unwrap_or_default(),
            (_, Value::String(text)) => escape(text),
            (_, value) => escape(&value.to_string()),
        };
        rows.push((key.trim_end_matches("_unix_s").replace('_', " "), text));
    }
    // What matters first: what on what, then how.
    let rank = |key: &str| ["data", "device", "command", "started"].iter().position(|k| *k == key).unwrap_or(9);
    rows.sort_by_key(|(key, _)| rank(key));
    let mut html = String::from("<section><h2>Where it ran</h2><dl class=\"facts\">");
    for (key, text) in rows {
        let _ = write!(html, "<dt>{}</dt><dd>{text}</dd>", escape(&key));
    }
    let _ = write!(html, "<dt>folder</dt><dd>{}</dd>", escape(&run.dir.display().to_string()));
    html + "</dl></section>\n"
}

/// The diary and the checkpoints.
pub fn events(run: &Run) -> String {
    let history = &run.history;
    let mut html = String::from("<section><h2>What happened</h2><ol class=\"events\">");
    let left_out = history.notes.len().saturating_sub(NOTES);
    let shown = history.notes.iter().enumerate().filter(|(i, _)| *i < NOTES / 2 || *i >= NOTES / 2 + left_out);
    for (i, note) in shown {
        if left_out > 0 && i == NOTES / 2 + left_out {
            let _ = write!(html, "<li>… {left_out} more</li>");
        }
        let class = match note.kind {
            NoteKind::Warning => "warn",
            NoteKind::Stopped => "bad",
            _ => "",
        };
        let time = note.unix_s.map(time_tag).unwrap_or_default();
        let _ = write!(html, "<li class=\"{class}\">{time} {}</li>", escape(&note.text));
    }
    if history.damaged_lines > 0 {
        let (n, s) = (history.damaged_lines, if history.damaged_lines == 1 { "" } else { "s" });
        let _ = write!(html, "<li class=\"warn\">{n} damaged line{s} of metrics.jsonl passed over</li>");
    }
    html += "</ol>";
    if !run.checkpoints.is_empty() {
        html += "<h3>Checkpoints</h3><dl class=\"facts\">";
        for file in &run.checkpoints {
            let _ = write!(html, "<dt>{}</dt><dd>{}</dd>", escape(&file.name), bytes(file.bytes));
        }
        html += "</dl>";
    }
    html + "</section>\n"
}

/// The line below the title: what on what, since when, how long.
pub fn subtitle(run: &Run) -> String {
    let mut parts = vec![escape(&format!("{} · {}", run.method(), run.arch()))];
    parts.extend(run.said("data").map(|d| format!("on {}", escape(d))));
    parts.extend(run.started_unix_s().map(|t| format!("started {}", time_tag(t))));
    if run.active_s() > 0.0 {
        parts.push(format!("{} at work", duration(run.active_s())));
    }
    parts.join(" · ")
}

/// When the report was written.
pub fn footer(now: f64) -> String {
    format!(
        "<footer>Written {} by Ocelli. {}</footer>\n",
        time_tag(now),
        if date(now) == "–" { "" } else { "All of it is in this one file." }
    )
}
