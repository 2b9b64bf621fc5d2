//! Runs as rows of a table, as papers have it. What is published stands in columns of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::history::Baseline;
use crate::sections::footer;
use crate::text::{duration, escape, number, plain};
use crate::{Run, State, page};

/// What is published of a run's method on its backbone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Published {
    /// Which row it is: method, data, epochs.
    pub row: String,
    /// Linear accuracy, per cent.
    pub linear: Option<f64>,
    /// k-NN accuracy, per cent.
    pub knn: Option<f64>,
    /// Average precision of detection.
    pub detection_ap: Option<f64>,
    /// Mean IoU of segmentation, per cent.
    pub segmentation_miou: Option<f64>,
    /// Images a second of inference on a V100.
    pub images_per_second: Option<f64>,
    /// What one must know to compare with it; empty where nothing.
    pub note: String,
}

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TableRow {
    /// The run's name.
    pub run: String,
    /// Where it stands, in a word.
    pub state: String,
    /// The version it was made with.
    pub version: Option<String>,
    /// The method in words.
    pub method: Option<String>,
    /// The backbone.
    pub arch: Option<String>,
    /// Trained values of the backbone.
    pub parameters: Option<f64>,
    /// Images a second of inference, where somebody measured it.
    pub images_per_second: Option<f64>,
    /// Images a second of training.
    pub trained_per_second: Option<f64>,
    /// Linear accuracy after the last epoch of the probe in the run's folder `linear`, per cent.
    pub linear: Option<f64>,
    /// How it was trained, in words.
    pub linear_how: Option<String>,
    /// k-NN accuracy after the last epoch that has it, per cent.
    pub knn: Option<f64>,
    /// With so many neighbours.
    pub knn_k: Option<u64>,
    /// The same of the untrained network.
    pub knn_untrained: Option<f64>,
    /// The same of the pixels.
    pub knn_pixels: Option<f64>,
    /// Epochs done, and those there are to be.
    pub epochs: (f64, Option<u64>),
    /// The data set as it was named.
    pub data: Option<String>,
    /// Time at work, seconds.
    pub time_s: Option<f64>,
    /// Time of an epoch's training, the median, seconds.
    pub epoch_s: Option<f64>,
    /// The most of the machine's memory that was in use, bytes.
    pub memory_bytes: Option<f64>,
    /// The seed.
    pub seed: Option<i64>,
    /// The device.
    pub device: Option<String>,
    /// What is published of it.
    pub published: Option<Published>,
}

impl TableRow {
    /// What a run's folder says, as of `now` (seconds since 1970). `name` is how it is called in the table.
    pub fn of(run: &Run, name: &str, now: f64) -> Self {
        let history = &run.history;
        let known = |text: &str| Some(text.to_owned()).filter(|t| t != "–");
        let title = Some(history.declared.title.clone()).filter(|t| !t.is_empty());
        let k = history.quoted_k();
        let (linear, linear_how) = linear(run).unzip();
        let before = |of: fn(&Baseline) -> &BTreeMap<u64, f64>| {
            history.baseline.as_ref().zip(k).and_then(|(b, k)| of(b).get(&k).copied())
        };
        Self {
            run: name.to_owned(),
            state: match run.state(now) {
                State::Stopped(reason) => format!("stopped: {reason}"),
                state => state.word().to_owned(),
            },
            version: run.said("ocelli").map(str::to_owned),
            method: title.or_else(|| known(run.method())),
            arch: known(run.arch()),
            parameters: history.started.map(|s| s.backbone_parameters as f64).filter(|p| *p > 0.0),
            images_per_second: None,
            trained_per_second: run.speed().filter(|s| s.is_finite() && *s > 0.0),
            linear,
            linear_how,
            knn: k.and_then(|k| history.epochs.last(&format!("knn_{k}"))).filter(|v| v.is_finite()),
            knn_k: k,
            knn_untrained: before(|b| &b.untrained),
            knn_pixels: before(|b| &b.raw_pixels),
            epochs: (history.epochs_done(), run.epochs_planned()),
            data: run.said("data").map(str::to_owned),
            time_s: Some(run.active_s()).filter(|s| *s > 0.0),
            epoch_s: median(history.epochs.column("wall_s").unwrap_or_default()),
            memory_bytes: history.epochs.last("memory_bytes").filter(|v| *v > 0.0),
            seed: run.setting("seed").and_then(toml::Value::as_integer),
            device: run.said("device").map(str::to_owned),
            published: None,
        }
    }

    /// What the table would have and the run does not.
    pub fn lacks(&self) -> Vec<String> {
        let (done, all) = self.epochs;
        let left = all.map(|all| all as f64 - done).filter(|left| *left > 0.0);
        let left = left.map(|left| format!("{} of its {} epochs", number(left), all.unwrap_or_default()));
        let rest = [
            (self.method.is_none() || self.arch.is_none(), "a configuration that can be read (config.toml)"),
            (self.parameters.is_none(), "the number of its parameters"),
            (self.linear.is_none(), "linear accuracy (ocelli eval linear --weights RUN)"),
            (self.knn.is_none(), "k-NN accuracy (no labels, eval.every_epochs = 0, or not so far yet)"),
            (self.data.is_none(), "the name of its data (manifest.json)"),
            (self.time_s.is_none(), "its time"),
            (self.seed.is_none(), "its seed"),
        ];
        let rest = rest.into_iter().filter(|(lacks, _)| *lacks).map(|(_, what)| what.to_owned());
        left.into_iter().chain(rest).collect()
    }

    fn object(&self) -> Value {
        json!({
            "run": self.run,
            "state": self.state,
            "ocelli": self.version,
            "method": self.method,
            "arch": self.arch,
            "parameters": self.parameters,
            "images_per_second": self.images_per_second,
            "trained_images_per_second": self.trained_per_second,
            "linear": self.linear,
            "linear_how": self.linear_how,
            "knn": self.knn,
            "knn_k": self.knn_k,
            "knn_untrained": self.knn_untrained,
            "knn_pixels": self.knn_pixels,
            "epochs_done": self.epochs.0,
            "epochs": self.epochs.1,
            "data": self.data,
            "time_s": self.time_s,
            "epoch_s": self.epoch_s,
            "memory_bytes": self.memory_bytes,
            "seed": self.seed,
            "device": self.device,
            "lacks": self.lacks(),
            "published": self.published.as_ref().map(|p| json!({
                "row": p.row,
                "linear": p.linear,
                "knn": p.knn,
                "detection_ap": p.detection_ap,
                "segmentation_miou": p.segmentation_miou,
                "images_per_second_v100": p.images_per_second,
                "note": Some(&p.note).filter(|n| !n.is_empty()),
            })),
        })
    }
}

/// The middle of what is finite.
fn median(values: &[f64]) -> Option<f64> {
    let mut values: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The folder in that of a run where `ocelli eval linear` puts the probe of its weights.
const PROBE: &str = "linear";
/// Its accuracy in the rows of epochs.
const PROBE_TOP1: &str = "linear_top1";

/// What a run's linear probe came to, and how it was trained.
fn linear(run: &Run) -> Option<(f64, String)> {
    let probe = Run::read(&run.dir.join(PROBE)).ok()?;
    let top1 = probe.history.epochs.last(PROBE_TOP1).filter(|v| v.is_finite())?;
    let text = |key: &str| probe.setting(key).and_then(toml::Value::as_str).unwrap_or("–");
    let cached = probe.setting("cached").and_then(toml::Value::as_bool).unwrap_or_default();
    let epochs = probe.epochs_planned().unwrap_or_default();
    let features = if cached { "features computed once" } else { "augmented views" };
    Some((top1, format!("protocol {}, {epochs} epochs, {}, {features}", text("protocol"), text("features"))))
}

/// A column: its title, whether its figures are published ones, and a row's cell.
struct Column {
    title: &'static str,
    published: bool,
    cell: fn(&TableRow) -> Cell,
}

/// A text, and the number it is sorted by where it is one.
#[derive(Debug, Clone, PartialEq)]
struct Cell {
    text: String,
    sort: Option<f64>,
}

impl Cell {
    fn text(text: Option<&str>) -> Self {
        Self { text: text.unwrap_or(NOTHING).to_owned(), sort: None }
    }

    fn number(value: Option<f64>, shown: impl Fn(f64) -> String) -> Self {
        Self { text: value.map_or_else(|| NOTHING.to_owned(), shown), sort: value }
    }

    fn per_cent(value: Option<f64>) -> Self {
        Self::number(value, |v| format!("{v:.1}"))
    }
}

const NOTHING: &str = "–";

fn published(row: &TableRow, of: fn(&Published) -> Option<f64>) -> Option<f64> {
    row.published.as_ref().and_then(of)
}

const COLUMNS: &[Column] = &[
    Column { title: "run", published: false, cell: |r| Cell::text(Some(&r.run)) },
    Column { title: "method", published: false, cell: |r| Cell::text(r.method.as_deref()) },
    Column { title: "architecture", published: false, cell: |r| Cell::text(r.arch.as_deref()) },
    Column {
        title: "params, M",
        published: false,
        cell: |r| Cell::number(r.parameters, |p| format!("{:.2}", p / 1e6)),
    },
    Column { title: "im/s", published: false, cell: |r| Cell::number(r.images_per_second, speed) },
    Column { title: "train im/s", published: false, cell: |r| Cell::number(r.trained_per_second, speed) },
    Column { title: "linear", published: false, cell: |r| Cell::per_cent(r.linear) },
    Column { title: "k-NN", published: false, cell: |r| Cell::per_cent(r.knn) },
    Column { title: "untrained", published: false, cell: |r| Cell::per_cent(r.knn_untrained) },
    Column { title: "pixels", published: false, cell: |r| Cell::per_cent(r.knn_pixels) },
    Column { title: "epochs", published: false, cell: epochs },
    Column { title: "data", published: false, cell: |r| Cell::text(r.data.as_deref()) },
    Column { title: "time", published: false, cell: |r| Cell::number(r.time_s, duration) },
    Column {
        title: "s/epoch",
        published: false,
        cell: |r| Cell::number(r.epoch_s, |s| if s < 99.95 { format!("{s:.1}") } else { format!("{s:.0}") }),
    },
    Column {
        title: "memory",
        published: false,
        cell: |r| Cell::number(r.memory_bytes, |b| format!("{:.0} MB", b / 1e6)),
    },
    Column {
        title: "seed",
        published: false,
        cell: |r| Cell::number(r.seed.map(|s| s as f64), |s| format!("{s:.0}")),
    },
    Column { title: "linear", published: true, cell: |r| Cell::per_cent(published(r, |p| p.linear)) },
    Column { title: "k-NN", published: true, cell: |r| Cell::per_cent(published(r, |p| p.knn)) },
    Column { title: "VOC AP", published: true, cell: |r| Cell::per_cent(published(r, |p| p.detection_ap)) },
    Column { title: "VOC mIoU", published: true, cell: |r| Cell::per_cent(published(r, |p| p.segmentation_miou)) },
    Column {
        title: "V100 im/s",
        published: true,
        cell: |r| Cell::number(published(r, |p| p.images_per_second), speed),
    },
    Column {
        title: "of",
        published: true,
        cell: |r| Cell::text(r.published.as_ref().map(|p| p.row.as_str()).filter(|row| !row.is_empty())),
    },
];

/// Images a second, with three digits.
fn speed(value: f64) -> String {
    match value {
        v if v >= 99.95 => format!("{v:.0}"),
        v if v >= 9.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// Of a run that goes on or was stopped, how far it is.
fn epochs(row: &TableRow) -> Cell {
    let (done, all) = row.epochs;
    let whole = number((done * 100.0).floor() / 100.0);
    let text = match all {
        Some(all) if done < all as f64 => format!("{whole} of {all}"),
        _ => whole,
    };
    Cell { text, sort: Some(done) }
}

/// Rows with what is said below them.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// The rows.
    pub rows: Vec<TableRow>,
    /// What one should know of the figures.
    pub notes: Vec<String>,
}

impl Table {
    /// The columns in which some row has something. The run's own are always there, but for what somebody must have
    /// measured, and what older runs do not tell.
    fn columns(&self) -> Vec<&'static Column> {
        let some = |c: &&Column| self.rows.iter().any(|row| (c.cell)(row).text != NOTHING);
        let optional = ["im/s", "untrained", "pixels", "s/epoch", "memory"];
        let always = |c: &&Column| !c.published && !optional.contains(&c.title);
        COLUMNS.iter().filter(|c| always(c) || some(c)).collect()
    }

    /// Titles and lines of texts.
    pub fn texts(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let columns = self.columns();
        let title = |c: &&Column| if c.published { format!("published: {}", c.title) } else { c.title.to_owned() };
        let line = |row| columns.iter().map(|c| (c.cell)(row).text).collect();
        (columns.iter().map(title).collect(), self.rows.iter().map(line).collect())
    }

    /// As text for a terminal: the figures of others below a title of their own, numbers at the right of their columns.
    pub fn text(&self) -> String {
        let columns = self.columns();
        let lines: Vec<Vec<String>> =
            self.rows.iter().map(|row| columns.iter().map(|c| plain(&(c.cell)(row).text)).collect()).collect();
        let widest = |i: usize| lines.iter().map(|line| line[i].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> =
            columns.iter().enumerate().map(|(i, c)| widest(i).max(c.title.chars().count())).collect();
        let first = columns.iter().position(|c| c.published);
        let line = |cells: &[String]| {
            let mut text = String::new();
            for (i, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                if Some(i) == first {
                    text += "│ ";
                }
                let _ = match self.is_numeric(columns[i]) {
                    true => write!(text, "{cell:>width$}  "),
                    false => write!(text, "{cell:width$}  "),
                };
            }
            text.trim_end().to_owned() + "\n"
        };
        let mut text = String::new();
        if let Some(first) = first {
            let before: usize = widths[..first].iter().map(|w| w + 2).sum();
            let _ = writeln!(text, "{:before$}│ published", "");
        }
        text += &line(&columns.iter().map(|c| c.title.to_owned()).collect::<Vec<_>>());
        text.extend(lines.iter().map(|cells| line(cells)));
        text
    }

    /// What is said below the table: what the figures are, what runs lack, what published rows come with.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = self.notes.clone();
        for row in &self.rows {
            let lacks = row.lacks();
            if !lacks.is_empty() {
                remarks.push(format!("{} lacks {}", row.run, lacks.join("; ")));
            }
        }
        for published in self.rows.iter().filter_map(|row| row.published.as_ref()).filter(|p| !p.note.is_empty()) {
            let remark = format!("published: {}: {}", published.row, published.note);
            if !remarks.contains(&remark) {
                remarks.push(remark);
            }
        }
        remarks
    }

    /// As a table of Markdown; [`Table::MARKDOWN`] begins it.
    pub fn markdown(&self) -> String {
        let (header, lines) = self.texts();
        let cell = |text: &String| {
            let text = escape(text).replace(['\n', '\r', '\t'], " ");
            // What would be markup.
            text.chars().fold(String::new(), |mut out, c| {
                if "|\\`*_[]".contains(c) {
                    out.push('\\');
                }
                out.push(c);
                out
            })
        };
        let line = |cells: &[String]| format!("| {} |\n", cells.iter().map(cell).collect::<Vec<_>>().join(" | "));
        let numeric = |i: usize| self.columns().get(i).is_some_and(|c| self.is_numeric(c));
        let rule: Vec<&str> = (0..header.len()).map(|i| if numeric(i) { "---:" } else { "---" }).collect();
        let mut text = format!("{}\n\n{}| {} |\n", Self::MARKDOWN, line(&header), rule.join(" | "));
        text.extend(lines.iter().map(|l| line(l)));
        for remark in self.remarks() {
            let _ = write!(text, "\n- {}", cell(&remark));
        }
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text
    }

    /// How a table in Markdown begins.
    pub const MARKDOWN: &str = "<!-- A table by Ocelli -->";

    /// How a table in JSON begins.
    pub const JSON: &str = "{\n  \"ocelli_table\": 1,";

    /// As JSON; [`Table::JSON`] begins it.
    pub fn json(&self) -> String {
        let rows: Vec<Value> = self.rows.iter().map(TableRow::object).collect();
        let whole = json!({ "notes": self.notes, "rows": rows });
        let text = serde_json::to_string_pretty(&whole).unwrap_or_default();
        format!("{}{}\n", Self::JSON, text.strip_prefix('{').unwrap_or(&text))
    }

    fn is_numeric(&self, column: &Column) -> bool {
        self.rows.iter().any(|row| (column.cell)(row).sort.is_some())
    }

    /// As a page of its own, whose columns sort. `now` is in seconds since 1970.
    pub fn html(&self, now: f64) -> String {
        let columns = self.columns();
        let own = columns.iter().filter(|c| !c.published).count();
        let mut body = format!(
            "<header><h1>{} run{}</h1><p class=\"sub\">A click on a title sorts. Published figures are others', in columns of \
             their own.</p></header>\n<section><div class=\"scroll\"><table class=\"sorts\"><thead><tr><th \
             colspan=\"{own}\">these runs</th>",
            self.rows.len(),
            if self.rows.len() == 1 { "" } else { "s" }
        );
        if own < columns.len() {
            let _ = write!(body, "<th class=\"first\" colspan=\"{}\">published</th>", columns.len() - own);
        }
        body += "</tr><tr>";
        for (i, column) in columns.iter().enumerate() {
            let class = self.class(column, i == own);
            let _ = write!(body, "<th{class} aria-sort=\"none\"><button>{}</button></th>", escape(column.title));
        }
        body += "</tr></thead><tbody>\n";
        for row in &self.rows {
            body += "<tr>";
            for (i, column) in columns.iter().enumerate() {
                let cell = (column.cell)(row);
                let class = self.class(column, i == own);
                let sort = cell.sort.map(|v| format!(" data-v=\"{v}\"")).unwrap_or_default();
                let _ = write!(body, "<td{class}{sort}>{}</td>", escape(&cell.text));
            }
            body += "</tr>\n";
        }
        body += "</tbody></table></div></section>\n";
        let remarks = self.remarks();
        if !remarks.is_empty() {
            body += "<section><h2>What to know</h2><ul class=\"remarks\">";
            for remark in remarks {
                let _ = write!(body, "<li>{}</li>", escape(&remark));
            }
            body += "</ul></section>\n";
        }
        body += &footer(now);
        page::document("Table of runs – Ocelli", &body, None)
    }

    fn class(&self, column: &Column, first: bool) -> String {
        let classes = [
            (self.is_numeric(column), "number"),
            (column.published, "others"),
            (first && column.published, "first"),
        ];
        let classes: Vec<&str> = classes.into_iter().filter_map(|(has, name)| has.then_some(name)).collect();
        if classes.is_empty() { String::new() } else { format!(" class=\"{}\"", classes.join(" ")) }
    }
}
