//! Frames of a video as files in a folder.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Endings of files that are taken for frames, in lower case.
const ENDINGS: [&str; 9] = ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "tif", "tiff"];

/// The images directly in a folder, in the order of the numbers in their names: `frame9.png` comes before
/// `frame10.png`.
///
/// # Errors
/// When the folder is not there, or has no image.
pub fn list(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)
        .with_context(|| format!("{}: expected a folder of frames, found none", folder.display()))?;
    let is_frame = |path: &Path| {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        !hidden && ENDINGS.contains(&ending.as_str()) && path.is_file()
    };
    let mut frames: Vec<PathBuf> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| is_frame(path)).collect();
    if frames.is_empty() {
        bail!("{}: expected frames such as 00000.jpg, found no image", folder.display());
    }
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    frames.sort_by(|a, b| natural(&name(a), &name(b)));
    Ok(frames)
}

/// Runs of digits by their value, everything else by its bytes.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    while let (Some(x), Some(y)) = (left.first(), right.first()) {
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let ((m, rest_a), (n, rest_b)) = (digits(left), digits(right));
            // Without leading zeros, the longer number is the larger one.
            let order = m.len().cmp(&n.len()).then_with(|| m.cmp(n));
            if order.is_ne() {
                return order;
            }
            (left, right) = (rest_a, rest_b);
        } else if x == y {
            (left, right) = (&left[1..], &right[1..]);
        } else {
            return x.cmp(y);
        }
    }
    left.len().cmp(&right.len()).then_with(|| a.cmp(b))
}

/// The number a text begins with, without its leading zeros, and the rest.
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|c| !c.is_ascii_digit()).unwrap_or(text.len());
    let zeros = text[..end].iter().take_while(|c| **c == b'0').count();
    (&text[zeros..end], &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_sorted_by_value() {
        let mut names = ["f10.png", "f9.png", "f009.png", "f1b.png", "f1.png", "g.png", "10.png", "9.png"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["9.png", "10.png", "f1.png", "f1b.png", "f009.png", "f9.png", "f10.png", "g.png"]);
    }

    #[test]
    fn other_files_are_no_frames() {
        let folder = tempfile::tempdir().unwrap();
        assert!(list(&folder.path().join("none")).unwrap_err().to_string().contains("none"));
        for name in ["Thumbs.db", ".hidden.png", "readme.txt"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        assert!(list(folder.path()).unwrap_err().to_string().contains("no image"));
        fs::write(folder.path().join("A.JPG"), "x").unwrap();
        assert_eq!(list(folder.path()).unwrap(), [folder.path().join("A.JPG")]);
    }
}
