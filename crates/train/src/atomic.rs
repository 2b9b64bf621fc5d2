//! Files that appear whole: written under a temporary name, synced, and renamed.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use crate::TrainError;

/// Start of the names of what is not whole yet, or about to go.
pub(crate) const TEMPORARY: &str = ".ocelli-";

/// Writes a file under a temporary name beside it, syncs, and renames: readers see the old file or the whole new one.
///
/// # Errors
/// When it cannot be written; the temporary file is removed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let write = || -> std::io::Result<()> {
        let mut file = temporary_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    };
    write().map_err(|e| TrainError::io(path, "write the file", &e))
}

/// A file under a name that shows it is not whole yet, readable by whoever may read what the user writes.
pub(crate) fn temporary_in(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    #[cfg(unix)]
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    // Less the user's mask.
    #[cfg(unix)]
    builder.permissions(permissions);
    builder.tempfile_in(folder)
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
