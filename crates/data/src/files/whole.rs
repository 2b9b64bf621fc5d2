//! Files that appear whole: written under a temporary name, and renamed.

use std::io;
use std::io::Write as _;
use std::path::Path;

use tempfile::NamedTempFile;

/// Start of the names of what is not whole yet, or about to go.
pub const TEMPORARY: &str = ".ocelli-";

/// Writes a file under a temporary name beside it and renames it: readers see the old file or the whole new one. `synced`
/// waits until the disk has it, for what cannot be made again.
///
/// # Errors
/// When it cannot be written; the temporary file is removed.
pub fn write_whole(path: &Path, bytes: &[u8], synced: bool) -> io::Result<()> {
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut file = temporary_in(folder)?;
    file.write_all(bytes)?;
    if synced {
        file.as_file().sync_all()?;
    }
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// A file under a name that shows it is not whole yet, readable by whoever may read what the user writes.
///
/// # Errors
/// When the folder cannot be written to.
pub fn temporary_in(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    #[cfg(unix)]
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    // Less the user's mask.
    #[cfg(unix)]
    builder.permissions(permissions);
    builder.tempfile_in(folder)
}
