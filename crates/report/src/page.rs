//! The report: one page that holds everything and asks the network for nothing.

use std::fmt::Write as _;

use toml::Table;

use crate::text::{duration, escape, number};
use crate::{Run, State, curves, sections, transfer};

const STYLE: &str = include_str!("../assets/page.css");
const SCRIPT: &str = include_str!("../assets/page.js");
/// Base64 of the script's SHA-256, which is all the page may run. A test compares.
const SCRIPT_SHA256: &str = "c3s/1+GO2mNPRdaubff3WIoqp4GkGBVnVe11rAqbbmY=";
/// Seconds between two looks at a report whose run goes on.
const REFRESH_S: u32 = 20;

/// The report of a run as of `now` (seconds since 1970). `defaults` marks the values of the configuration that differ.
pub fn report_html(run: &Run, defaults: Option<&Table>, now: f64) -> String {
    let state = run.state(now);
    let mut body = header(run, &state, now);
    for concern in sections::concerns(run) {
        let _ = write!(body, "<p class=\"note bad\">{}</p>", escape(&concern));
    }
    body += &sections::headline(run);
    let charts = curves::of_run(run);
    if charts.is_empty() {
        body += "<p class=\"note\">No figures yet; they come with the first steps.</p>\n";
    } else {
        body += "<section><h2>Curves</h2><p class=\"lead\">Thin: steps. Strong: means of epochs.</p><div \
                 class=\"charts\">\n";
        body.extend(charts.iter().map(crate::chart::Chart::figure));
        body += "</div></section>\n";
    }
    body += &transfer::sections(run);
    body += &sections::looks(run);
    body += &sections::events(run);
    body += &sections::configuration(run, defaults);
    body += &sections::manifest(run);
    body += &sections::footer(now);
    let refresh = matches!(state, State::Running).then_some(REFRESH_S);
    document(&format!("{} – Ocelli", run.name()), &body, refresh)
}

fn header(run: &Run, state: &State, now: f64) -> String {
    let (class, word) = match state {
        State::Running => ("run", "running".to_owned()),
        State::Finished => ("good", "finished".to_owned()),
        State::Stopped(_) => ("bad", "stopped".to_owned()),
        State::Silent(last) => ("warn", format!("no news for {}", duration(now - last))),
    };
    let news = match (state, run.last_news_unix_s()) {
        (State::Running, Some(last)) => {
            format!(" data-news=\"{last:.0}\" data-patience=\"{:.0}\"", run.patience_s())
        }
        _ => String::new(),
    };
    let done = run.history.epochs_done();
    let mut progress = match run.epochs_planned() {
        Some(all) => format!("{} of {all} epochs", number((done * 100.0).floor() / 100.0)),
        None => format!("{} epochs", number(done)),
    };
    match state {
        State::Running => {
            let left = run.remaining_s().filter(|s| *s > 0.0);
            progress += &left.map(|s| format!(", about {} to go", duration(s))).unwrap_or_default();
        }
        State::Finished => progress += &format!(" in {}", duration(run.active_s())),
        State::Stopped(_) | State::Silent(_) => {}
    }
    let share = run.epochs_planned().map_or(0.0, |all| (100.0 * done / all as f64).clamp(0.0, 100.0));
    let mut html = format!(
        "<header><h1>{}<span class=\"badge {class}\"{news}>{}</span></h1><p class=\"sub\">{}</p><div \
         class=\"progress {class}\"><i style=\"width:{share:.1}%\"></i></div><p class=\"sub\">{}</p></header>\n",
        escape(&run.name()),
        escape(&word),
        sections::subtitle(run),
        escape(&progress)
    );
    if let State::Stopped(reason) = state {
        let _ = writeln!(html, "<p class=\"note bad\">Stopped: {}</p>", escape(reason));
    }
    html
}

/// A whole document around a body. Its policy forbids every request and every script but its own.
pub(crate) fn document(title: &str, body: &str, refresh_s: Option<u32>) -> String {
    let head = refresh_s.map(|s| {
        format!("<noscript><meta http-equiv=\"refresh\" content=\"{s}\"></noscript><meta name=\"refresh\" content=\"{s}\">")
    });
    whole(&Parts { title, body, head: &head.unwrap_or_default(), style: "", script: (SCRIPT, SCRIPT_SHA256) })
}

/// The same with more rules of style.
pub(crate) fn with_style(title: &str, body: &str, style: &str) -> String {
    whole(&Parts { title, body, head: "", style, script: (SCRIPT, SCRIPT_SHA256) })
}

/// What a page is made of beside the house style.
pub(crate) struct Parts<'a> {
    pub title: &'a str,
    pub body: &'a str,
    /// More of the head.
    pub head: &'a str,
    /// Rules after those that all pages have.
    pub style: &'a str,
    /// The script and the base64 of its SHA-256.
    pub script: (&'a str, &'a str),
}

/// A page of these parts, under the same policy.
pub(crate) fn whole(Parts { title, body, head, style, script: (script, sha256) }: &Parts<'_>) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{sha256}'; \
         base-uri 'none'; form-action 'none'\">\n<meta name=\"viewport\" content=\"width=device-width, \
         initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n{head}<title>{}</title>\n<style>\n{STYLE}{style}</style>\n\
         </head>\n<body>\n<main>\n{body}</main>\n<div id=\"tip\" hidden></div>\n<script>{script}</script>\n</body>\n</html>\n",
        escape(title)
    )
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use sha2::Digest as _;

    use super::*;

    #[test]
    fn the_policy_knows_the_script() {
        for (script, sha256) in [(SCRIPT, SCRIPT_SHA256), crate::map::SCRIPT] {
            let digest = sha2::Sha256::digest(script.as_bytes());
            let want = base64::engine::general_purpose::STANDARD.encode(digest);
            assert_eq!(sha256, want, "the script changed: set its SHA-256 to {want}");
            assert!(!script.contains('\r') && !script.contains("</"));
        }
    }
}
