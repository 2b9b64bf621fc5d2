//! What lies in a folder: pictures, other files, and what is passed over because a tool left it there.

use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::decode::EXTENSIONS;
use crate::DataError;

/// Folders and files that operating systems and tools leave behind, in lower case. Names that begin with a dot, `@`, `$` or `#`
/// are passed over too.
const LEFT_BY_TOOLS: [&str; 5] =
    ["__macosx", "system volume information", "lost+found", "thumbs.db", "desktop.ini"];

/// A folder's contents. Names have `/` between their parts on every system, and are sorted by their bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Listing {
    /// Pictures by their ending: name and path below the root.
    pub images: Vec<(String, PathBuf)>,
    /// Folders.
    pub folders: Vec<String>,
    /// Other files.
    pub others: Vec<String>,
    /// Folders that were passed over with everything in them.
    pub hidden_folders: Vec<String>,
    /// Files that were passed over.
    pub hidden_files: Vec<String>,
    /// Links that lead nowhere or in a circle, folders that cannot be read: in words.
    pub problems: Vec<String>,
}

impl Listing {
    /// Lists a folder with everything below it; links are followed.
    pub fn of(root: &Path) -> Result<Self, DataError> {
        let shown = root.display().to_string();
        if !root.exists() {
            return Err(DataError::NotFound { path: shown });
        }
        if !root.is_dir() {
            return Err(DataError::NotAFolder { path: shown, found: "a file".to_owned() });
        }
        let mut listing = Self::default();
        let (mut hidden_folders, mut hidden_files) = (Vec::new(), Vec::new());
        let walk = WalkDir::new(root).follow_links(true).into_iter().filter_entry(|entry| {
            let is_hidden = entry.depth() > 0 && is_left_by_a_tool(&entry.file_name().to_string_lossy());
            if is_hidden {
                let name = portable_name(entry.path().strip_prefix(root).unwrap_or(entry.path()));
                if entry.file_type().is_dir() { hidden_folders.push(name) } else { hidden_files.push(name) }
            }
            !is_hidden
        });
        for entry in walk {
            let entry = match entry {
                Ok(entry) => entry,
                Err(e) if e.depth() == 0 => {
                    return Err(DataError::Io { path: shown, reason: e.to_string() });
                }
                // A link that leads nowhere has no entry for the filter to see.
                Err(e)
                    if e.path()
                        .and_then(Path::file_name)
                        .is_some_and(|n| is_left_by_a_tool(&n.to_string_lossy())) =>
                {
                    listing
                        .hidden_files
                        .push(portable_name(e.path().map_or(root, |p| p.strip_prefix(root).unwrap_or(p))));
                    continue;
                }
                Err(e) => {
                    listing.problems.push(problem(root, &e));
                    continue;
                }
            };
            let relative = entry.path().strip_prefix(root).unwrap_or(entry.path()).to_path_buf();
            let name = portable_name(&relative);
            match entry.file_type() {
                _ if entry.depth() == 0 => {}
                kind if kind.is_dir() => listing.folders.push(name),
                kind if kind.is_file() && is_image(&relative) => listing.images.push((name, relative)),
                _ => listing.others.push(name),
            }
        }
        listing.hidden_folders = hidden_folders;
        listing.hidden_files.append(&mut hidden_files);
        listing.images.sort();
        for names in [
            &mut listing.folders,
            &mut listing.others,
            &mut listing.hidden_folders,
            &mut listing.hidden_files,
            &mut listing.problems,
        ] {
            names.sort();
        }
        Ok(listing)
    }

    /// The error that there is no picture.
    pub fn no_images(&self, path: &Path) -> DataError {
        DataError::NoImages {
            path: path.display().to_string(),
            expected: EXTENSIONS.join(", "),
            found: self.describe(),
        }
    }

    /// What is there instead of images.
    fn describe(&self) -> String {
        const SHOWN: usize = 5;
        let some = |names: &[String]| {
            let more = if names.len() > SHOWN { ", …" } else { "" };
            format!("{}{more}", names[..names.len().min(SHOWN)].join(", "))
        };
        let hidden = [self.hidden_folders.as_slice(), &self.hidden_files].concat();
        match self.others.as_slice() {
            [only] => format!("1 file, not with a known image extension: {only}"),
            [] if !hidden.is_empty() => format!("only what is passed over: {}", some(&hidden)),
            [] if !self.problems.is_empty() => format!("only {}", some(&self.problems)),
            [] if !self.folders.is_empty() => format!("only empty folders: {}", some(&self.folders)),
            [] => "an empty folder".to_owned(),
            others => format!("{} files, none with a known image extension: {}", others.len(), some(others)),
        }
    }
}

fn is_left_by_a_tool(name: &str) -> bool {
    name.starts_with(['.', '@', '$', '#']) || LEFT_BY_TOOLS.contains(&name.to_lowercase().as_str())
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str()))
}

fn portable_name(path: &Path) -> String {
    let parts: Vec<_> = path.components().map(|c| c.as_os_str().to_string_lossy()).collect();
    parts.join("/")
}

fn problem(root: &Path, error: &walkdir::Error) -> String {
    let name = error.path().map(|p| portable_name(p.strip_prefix(root).unwrap_or(p))).unwrap_or_default();
    if error.loop_ancestor().is_some() {
        return format!("{name} (a link to a folder it lies in)");
    }
    match error.io_error().map(std::io::Error::kind) {
        Some(std::io::ErrorKind::NotFound) => format!("{name} (a link that leads nowhere)"),
        Some(std::io::ErrorKind::PermissionDenied) => format!("{name} (not readable)"),
        _ => format!("{name} ({error})"),
    }
}
