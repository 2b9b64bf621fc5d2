//! Entries of folders: their names in print, and those that cannot be read, in words.

use std::fs::FileType;
use std::path::Path;

/// A path with `/` between its parts on every system. Bytes that are not UTF-8 are shown by number, so that two names stay two.
pub(super) fn portable_name(path: &Path) -> String {
    let parts: Vec<_> = path.components().map(|c| printed(c.as_os_str())).collect();
    parts.join("/")
}

#[cfg(unix)]
fn printed(name: &std::ffi::OsStr) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let mut text = String::with_capacity(name.len());
    for chunk in name.as_bytes().utf8_chunks() {
        text += chunk.valid();
        chunk.invalid().iter().for_each(|byte| text += &format!("\\x{byte:02X}"));
    }
    text
}

#[cfg(not(unix))]
fn printed(name: &std::ffi::OsStr) -> String {
    name.to_string_lossy().into_owned()
}

/// Whether a name has no ending that says what the file is; a number says nothing.
pub(super) fn has_no_ending(path: &Path) -> bool {
    let is_number = |ending: &std::ffi::OsStr| ending.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    path.extension().is_none_or(is_number)
}

/// Whether what a link leads to holds the folder that is listed.
pub(super) fn leads_up(target: Option<&Path>, root: Option<&Path>) -> bool {
    target.zip(root).is_some_and(|(target, root)| root.starts_with(target))
}

/// What an entry is that is neither file nor folder nor link. Such are never opened: a pipe waits for another process.
#[cfg(unix)]
pub(super) fn special(kind: FileType) -> Option<&'static str> {
    use std::os::unix::fs::FileTypeExt as _;
    let kinds = [
        (kind.is_fifo(), "a pipe, no file"),
        (kind.is_socket(), "a socket, no file"),
        (kind.is_block_device() || kind.is_char_device(), "a device, no file"),
    ];
    kinds.into_iter().find(|(is_one, _)| *is_one).map(|(_, what)| what)
}

#[cfg(not(unix))]
pub(super) fn special(_: FileType) -> Option<&'static str> {
    None
}

/// Why an entry of this name cannot be read, with the name where there is one.
pub(super) fn problem(name: &str, error: &walkdir::Error) -> String {
    let is_link = || error.path().and_then(|p| p.symlink_metadata().ok()).is_some_and(|m| m.is_symlink());
    let why = match error.io_error() {
        _ if error.loop_ancestor().is_some() => "a link to a folder it lies in".to_owned(),
        Some(e) if e.kind() == std::io::ErrorKind::NotFound && is_link() => "a link that leads nowhere".to_owned(),
        Some(e) if e.kind() == std::io::ErrorKind::NotFound => "gone while the folder was listed".to_owned(),
        Some(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            "not readable: this user has no permission".to_owned()
        }
        Some(e) if is_link() => format!("a link that cannot be followed: {e}"),
        Some(e) => e.to_string(),
        None => error.to_string(),
    };
    if name.is_empty() { why } else { format!("{name} ({why})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_and_links() {
        for (name, has_none) in
            [("IMG_1", true), ("a/b.c/IMG_1", true), ("IMG.1", true), ("a.jpg", false), (".x", true)]
        {
            assert_eq!(has_no_ending(Path::new(name)), has_none, "{name}");
        }
        let root = Some(Path::new("/a/b"));
        for (target, up) in [("/", true), ("/a", true), ("/a/b", true), ("/a/b/c", false), ("/a/bc", false)] {
            assert_eq!(leads_up(Some(Path::new(target)), root), up, "{target}");
        }
        assert!(!leads_up(None, root) && !leads_up(root, None));
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_not_utf8_stay_apart() {
        use std::os::unix::ffi::OsStrExt as _;
        let name = |bytes: &[u8]| portable_name(Path::new(std::ffi::OsStr::from_bytes(bytes)));
        assert_eq!(name(b"a/caf\xE9.jpg"), "a/caf\\xE9.jpg");
        assert_ne!(name(b"\xE9\xFF.jpg"), name(b"\xE8\xFF.jpg"));
        assert_eq!(name("кот/é.jpg".as_bytes()), "кот/é.jpg");
    }
}
