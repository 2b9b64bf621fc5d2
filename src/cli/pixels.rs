//! How large an image may be: the flag `--max-pixels`, which every command has, and the setting of a run, `loader.max_pixels`.

use std::sync::OnceLock;

use ocelli::data::files::set_max_pixels;

/// What the command line asked for.
static ASKED: OnceLock<u64> = OnceLock::new();

/// A number of pixels: 150000000, 200M or 1.5G.
pub fn parse(text: &str) -> Result<u64, String> {
    let expected = || format!("expected a number of pixels such as 150000000, 200M or 1.5G, found {text:?}");
    let (number, unit) = match text.trim().char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text.trim()[..at], 1e3),
        Some((at, 'm' | 'M')) => (&text.trim()[..at], 1e6),
        Some((at, 'g' | 'G')) => (&text.trim()[..at], 1e9),
        _ => (text.trim(), 1.0),
    };
    let plain = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let pixels = number.parse::<f64>().ok().filter(|_| plain).ok_or_else(expected)? * unit;
    // Sides are 32 bits, so no picture has more.
    if (1.0..=1e18).contains(&pixels) { Ok(pixels as u64) } else { Err(expected()) }
}

/// Sets the limit of this process, and of the runs it starts.
pub fn ask_for(pixels: u64) {
    let _ = ASKED.set(pixels);
    set_max_pixels(pixels);
}

/// The flag as a value of a run's configuration, so that the run keeps it.
pub fn as_value() -> Option<String> {
    ASKED.get().map(|pixels| format!("loader.max_pixels={pixels}"))
}

/// Sets what a run's configuration will say, before its images are opened: the size of some is read by then. In order of
/// precedence: `sets` and the flag, the text of its `file`, and what was `stored` of a run that goes on. What is wrong in them
/// the configuration itself will say.
pub fn before_opening(sets: &[String], file: Option<&str>, stored: Option<u64>) {
    let set = sets.iter().rev().find_map(|set| {
        let (key, value) = set.split_once('=')?;
        (key.trim() == "loader.max_pixels").then(|| value.trim().replace('_', "").parse().ok())?
    });
    let in_file = || {
        let table: toml::Table = file?.parse().ok()?;
        table.get("loader")?.get("max_pixels")?.as_integer().and_then(|pixels| u64::try_from(pixels).ok())
    };
    let asked = || ASKED.get().copied();
    if let Some(pixels) = set.or_else(asked).or_else(in_file).or(stored).filter(|pixels| *pixels > 0) {
        set_max_pixels(pixels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_pixels_are_read() {
        for (text, pixels) in [
            ("150000000", 150_000_000),
            ("200M", 200_000_000),
            ("1.5g", 1_500_000_000),
            (" 64k ", 64_000),
            ("1", 1),
        ] {
            assert_eq!(parse(text), Ok(pixels), "{text}");
        }
        for text in
            ["", "M", "0", "-3", "1e9", "inf", "nan", "200 MP", "1.2.3", "200MB", "0.1", "×", "99999999999G"]
        {
            assert!(parse(text).is_err_and(|message| message.contains("200M")), "{text}");
        }
    }
}
