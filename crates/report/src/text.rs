//! Numbers, times and names as people read them.
//!
//! ```
//! use ocelli_report::text::{duration, escape, number};
//!
//! assert_eq!(number(0.123456), "0.1235");
//! assert_eq!(duration(100.0), "1 min 40 s");
//! assert_eq!(escape("a<b"), "a&lt;b");
//! ```

use std::fmt::Write as _;

/// Text for HTML: also safe inside a quoted attribute.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Text for a terminal: one line, nothing that steers the terminal.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A number with four significant digits; very large and very small ones with a power of ten.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    let size = value.abs();
    if size == 0.0 {
        return "0".into();
    }
    if !(1e-3..1e6).contains(&size) {
        let text = format!("{value:.3e}");
        return match text.split_once('e') {
            Some((mantissa, exponent)) => format!("{}e{exponent}", trim_zeros(mantissa)),
            None => text,
        };
    }
    let decimals = (3 - size.log10().floor() as i32).clamp(0, 6) as usize;
    trim_zeros(&format!("{value:.decimals$}")).to_owned()
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// Seconds as people say them.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "–".into();
    }
    let s = seconds.round() as u64;
    match (s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, _, _) => format!("{d} d {h} h"),
    }
}

/// Bytes as people say them.
pub fn bytes(count: u64) -> String {
    let count = count as f64;
    match count {
        b if b < 1e3 => format!("{b} B"),
        b if b < 1e6 => format!("{:.1} kB", b / 1e3),
        b if b < 1e9 => format!("{:.1} MB", b / 1e6),
        b => format!("{:.2} GB", b / 1e9),
    }
}

/// Seconds since 1970 as `2026-11-23 04:03` in UTC.
pub fn date(unix_s: f64) -> String {
    // Years beyond 9999 are damaged values.
    if !(0.0..=253_402_300_799.0).contains(&unix_s) {
        return "–".into();
    }
    let (days, seconds) = (unix_s as i64 / 86_400, unix_s as i64 % 86_400);
    // Years begin in March here, so that the leap day comes last (proleptic Gregorian calendar, 400-year cycles).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", seconds / 3600, seconds / 60 % 60)
}

/// A time for HTML, in UTC; the page's script shows it in the reader's time zone.
pub(crate) fn time_tag(unix_s: f64) -> String {
    format!("<time data-unix=\"{:.0}\">{} UTC</time>", if unix_s.is_finite() { unix_s } else { 0.0 }, date(unix_s))
}

/// A command line that a shell would take.
pub fn command(words: &[String]) -> String {
    let mut line = String::new();
    for word in words {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
        let gap = if line.is_empty() { "" } else { " " };
        let _ = match !word.is_empty() && word.chars().all(plain) {
            true => write!(line, "{gap}{word}"),
            false => write!(line, "{gap}'{}'", word.replace('\'', "'\\''")),
        };
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_times_and_names() {
        assert_eq!(number(4.21349), "4.213");
        assert_eq!(number(0.0005), "5e-4");
        assert_eq!(number(1234.6), "1235");
        assert_eq!(number(-0.25), "-0.25");
        assert_eq!(number(f64::NAN), "–");
        assert_eq!(duration(3700.0), "1 h 1 min");
        assert_eq!(duration(90_000.0), "1 d 1 h");
        assert_eq!(date(0.0), "1970-01-01 00:00");
        assert_eq!(date(951_782_399.0), "2000-02-28 23:59");
        assert_eq!(date(951_782_400.0), "2000-02-29 00:00");
        assert_eq!(date(1_767_225_599.0), "2025-12-31 23:59");
        assert_eq!(date(f64::NAN), "–");
        assert_eq!(escape("<b a='\"'>&"), "&lt;b a=&#39;&quot;&#39;&gt;&amp;");
        let words = ["ocelli", "--data", "my photos", "it's"].map(String::from);
        assert_eq!(command(&words), "ocelli --data 'my photos' 'it'\\''s'");
    }
}
