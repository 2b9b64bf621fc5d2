//! Files that appear whole, and what a killed process left of others.

use std::fs;
use std::path::Path;

use ocelli_data::files::TEMPORARY;
pub(crate) use ocelli_data::files::temporary_in;

use crate::TrainError;

/// Writes a file under a temporary name beside it, syncs, and renames: readers see the old file or the whole new one.
///
/// # Errors
/// When it cannot be written; the temporary file is removed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    ocelli_data::files::write_whole(path, bytes, true).map_err(|e| TrainError::io(path, "write the file", &e))
}

/// Removes the files in `folder` that a killed process left half-written. A folder that is not there has none.
///
/// # Errors
/// When the folder cannot be listed or a file cannot be removed.
pub(crate) fn remove_half_written(folder: &Path) -> Result<(), TrainError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(TrainError::io(folder, "list the folder", &e)),
    };
    for entry in entries.filter_map(Result::ok) {
        let is_folder = entry.file_type().is_ok_and(|t| t.is_dir());
        if !is_folder && entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a file, where there is one.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), TrainError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(TrainError::io(path, "remove the old file", &e)),
    }
}
