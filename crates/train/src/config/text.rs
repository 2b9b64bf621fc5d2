//! The text of a configuration file, whatever the program that saved it made of it, or what the person holds instead.

use std::fs;
use std::path::Path;

use ocelli_data::files::decoded;

use crate::TrainError;

/// Far beyond any configuration.
const MOST_BYTES: u64 = 4 << 20;

/// Reads a configuration file as UTF-8, or as UTF-8 or UTF-16 with a byte order mark: Windows' Notepad and PowerShell's `>` write those.
///
/// # Errors
/// When it cannot be read or is something else; the message says what, and what to do.
pub fn read_config(path: &Path) -> Result<String, TrainError> {
    let file = |reason: String| TrainError::File { path: path.to_owned(), reason };
    let io = |e: std::io::Error| TrainError::io(path, "read the configuration", &e);
    let about = fs::metadata(path).map_err(io)?;
    if about.is_dir() {
        let own = path.join(crate::replace::CONFIG);
        let hint = if own.is_file() {
            format!("; the configuration of this run is {}", own.display())
        } else {
            String::new()
        };
        return Err(file(format!("expected a configuration, a TOML file; found a folder{hint}")));
    }
    if about.len() > MOST_BYTES {
        return Err(file(format!(
            "expected a configuration, a TOML file of some kilobytes; found {:.0} MB. Weights belong to --init-from or --weights",
            about.len() as f64 / 1e6
        )));
    }
    text_of(&fs::read(path).map_err(io)?).map_err(file)
}

/// The text of a configuration's bytes.
///
/// # Errors
/// When they are no text, or plainly no TOML: what was expected, what was found, what to do.
pub fn text_of(bytes: &[u8]) -> Result<String, String> {
    let text = decoded(bytes)?;
    match text.trim_start().starts_with('{') {
        true => Err(format!("expected a configuration in TOML, lines such as epochs = 10; found {}", json(&text))),
        false => Ok(text),
    }
}

/// What JSON is, by its keys.
fn json(text: &str) -> &'static str {
    if text.contains("\"weight_map\"") {
        "the list of a model's shards: weights, whose folder belongs to --init-from or --weights"
    } else if text.contains("\"model_type\"") || text.contains("\"architectures\"") {
        "the description of a Hugging Face model: the folder it is in belongs to --init-from or --weights"
    } else {
        "JSON"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_configuration_is_named() {
        assert_eq!(text_of(b"\xff\xfee\0p\0=\x001\0").unwrap(), "ep=1");
        let rows: [(&[u8], &str); 4] = [
            (b"{\"metadata\": {}, \"weight_map\": {}}", "shards"),
            (b" {\"model_type\": \"vit\"}", "Hugging Face"),
            (b"{}", "found JSON"),
            (b"PK\x03\x04...", "ZIP"),
        ];
        for (bytes, words) in rows {
            let message = text_of(bytes).unwrap_err();
            assert!(message.contains(words), "expected \"{words}\" in: {message}");
        }
    }

    #[test]
    fn paths_that_are_no_file_are_said() {
        let folder = tempfile::tempdir().unwrap();
        let message = |path: &Path| read_config(path).unwrap_err().to_string();
        assert!(message(folder.path()).contains("found a folder"));
        fs::write(folder.path().join(crate::replace::CONFIG), "epochs = 1").unwrap();
        assert!(message(folder.path()).contains("config.toml"));
        assert!(message(&folder.path().join("none.toml")).contains("none.toml"));
        let large = folder.path().join("large");
        fs::File::create(&large).unwrap().set_len(MOST_BYTES + 1).unwrap();
        assert!(message(&large).contains("--init-from"));
    }
}
