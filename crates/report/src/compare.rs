//! Several runs side by side.

use std::fmt::Write as _;

use crate::sections::{flatten, footer};
use crate::text::{duration, escape, number};
use crate::{Run, curves, page};

/// A line of a comparison: what, and one text per run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The key of the configuration, or the name of a figure.
    pub key: String,
    /// One per run, `–` where it has none.
    pub values: Vec<String>,
}

/// The values of the configurations that are not the same in all runs; data and device count as values.
pub fn differences(runs: &[Run]) -> Vec<Difference> {
    let tables: Vec<std::collections::BTreeMap<String, String>> =
        runs.iter().map(|r| r.config.as_ref().map(flatten).unwrap_or_default().into_iter().collect()).collect();
    let said = ["data", "device", "ocelli"].into_iter().map(|key| {
        let values = runs.iter().map(|r| r.said(key).unwrap_or("–").to_owned()).collect();
        Difference { key: key.into(), values }
    });
    let keys: std::collections::BTreeSet<&String> = tables.iter().flat_map(|t| t.keys()).collect();
    let set = keys.into_iter().map(|key| {
        let values = tables.iter().map(|t| t.get(key).cloned().unwrap_or_else(|| "–".into())).collect();
        Difference { key: key.clone(), values }
    });
    said.chain(set).filter(|d| d.values.windows(2).any(|w| w[0] != w[1])).collect()
}

/// What the runs came to, as of `now` (seconds since 1970).
pub fn figures(runs: &[Run], now: f64) -> Vec<Difference> {
    let row = |key: &str, of: &dyn Fn(&Run) -> Option<String>| Difference {
        key: key.into(),
        values: runs.iter().map(|r| of(r).unwrap_or_else(|| "–".into())).collect(),
    };
    let newest = |r: &Run, key: &str| r.history.epochs.last(key).or_else(|| r.history.steps.last(key)).map(number);
    let mut rows = vec![
        row("state", &|r| Some(r.state(now).word().into())),
        row("epochs", &|r| {
            let done = number((r.history.epochs_done() * 100.0).floor() / 100.0);
            Some(r.epochs_planned().map_or(done.clone(), |all| format!("{done} of {all}")))
        }),
        row("best k-NN", &|r| r.history.best_knn().map(|(epoch, v)| format!("{v:.1} % (epoch {epoch})"))),
        row("last k-NN", &|r| {
            Some(format!("{:.1} %", r.history.epochs.last(&format!("knn_{}", r.history.quoted_k()?))?))
        }),
        row("untrained k-NN", &|r| {
            let k = r.history.quoted_k()?;
            Some(format!("{:.1} %", r.history.baseline.as_ref()?.untrained.get(&k)?))
        }),
        row("loss", &|r| newest(r, "loss")),
    ];
    let mut told: Vec<(&str, &str)> = Vec::new();
    for declared in runs.iter().map(|r| &r.history.declared) {
        let headline = declared.figures.iter().filter(|f| f.headline);
        for figure in headline.chain(&declared.scores) {
            if !told.iter().any(|(name, _)| *name == figure.name) {
                told.push((&figure.name, &figure.title));
            }
        }
    }
    rows.extend(told.into_iter().map(|(name, title)| row(&title.to_lowercase(), &|r| newest(r, name))));
    rows.push(row("images per second", &|r| r.speed().map(number)));
    rows.push(row("time at work", &|r| Some(duration(r.active_s())).filter(|_| r.active_s() > 0.0)));
    rows
}

fn table(runs: &[Run], rows: &[Difference]) -> String {
    let mut html = String::from("<div class=\"scroll\"><table><thead><tr><th></th>");
    for (i, run) in runs.iter().enumerate() {
        let _ = write!(html, "<th><i class=\"key k{}\"></i>{}</th>", i % 8, escape(&run.name()));
    }
    html += "</tr></thead><tbody>";
    for row in rows {
        let _ = write!(html, "<tr><th>{}</th>", escape(&row.key));
        for value in &row.values {
            let _ = write!(html, "<td>{}</td>", escape(value));
        }
        html += "</tr>";
    }
    html + "</tbody></table></div>\n"
}

/// Several runs in one page: their figures, what differs in their configurations, and their curves over each other.
pub fn compare_html(runs: &[Run], now: f64) -> String {
    let mut body = format!(
        "<header><h1>{} runs compared</h1></header>\n<section><h2>Figures</h2>{}</section>\n",
        runs.len(),
        table(runs, &figures(runs, now))
    );
    let different = differences(runs);
    body += "<section><h2>What differs</h2>";
    body += &match different.is_empty() {
        true => "<p class=\"lead\">The configurations are the same.</p>".to_owned(),
        false => table(runs, &different),
    };
    body += "</section>\n<section><h2>Curves</h2><p class=\"lead\">";
    for (i, run) in runs.iter().enumerate() {
        let _ = write!(body, "<i class=\"key k{}\"></i>{} &nbsp; ", i % 8, escape(&run.name()));
    }
    body += "</p><div class=\"charts\">\n";
    let runs: Vec<&Run> = runs.iter().collect();
    body.extend(curves::of_runs(&runs).iter().map(crate::chart::Chart::figure));
    body += "</div></section>\n";
    body += &footer(now);
    page::document("Runs compared – Ocelli", &body, None)
}
