//! What can keep a run from being shown.

use std::path::{Path, PathBuf};

/// An error of reading a run or of writing what shows it.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A folder that holds no run.
    #[error(
        "{path}: no run here; expected a folder with metrics.jsonl, or config.toml and manifest.json{found}",
        path = .path.display()
    )]
    NoRun {
        /// The folder.
        path: PathBuf,
        /// What was found instead, as the end of a sentence.
        found: String,
    },
    /// A file that cannot be read or written.
    #[error("{path}: cannot {doing}: {reason}", path = .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        reason: String,
    },
}

impl ReportError {
    pub(crate) fn io(path: &Path, doing: &'static str, error: &std::io::Error) -> Self {
        Self::File { path: path.to_owned(), doing, reason: error.to_string() }
    }
}
