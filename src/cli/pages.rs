//! Pages that commands write where the user says.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::bail;
use ocelli::data::Image;
use ocelli::report::Thumbnail;

use super::thumbnails;

/// How every page of ours begins.
const START: &str =
    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Sec";

/// Refuses a path at which there is anything but a page of ours. For commands that work long before they write.
pub fn check(path: &Path) -> anyhow::Result<()> {
    let mut start = vec![0; START.len()];
    let ours = |mut file: File| file.read_exact(&mut start).is_ok() && start == START.as_bytes();
    if path.exists() && !File::open(path).is_ok_and(ours) {
        bail!(
            "{}: expected no file, or a page that Ocelli wrote; found another file. Move it away, or choose another \
             name",
            path.display()
        );
    }
    Ok(())
}

/// Small copies of files for a page, with how many bytes they take there.
pub fn thumbnails_of(
    paths: Vec<PathBuf>,
    px: u32,
    done: impl FnMut(),
) -> anyhow::Result<(Vec<Option<Thumbnail>>, u64)> {
    let mut bytes = 0;
    let mut encode = |image: Image| {
        let (width, height) = (image.width, image.height);
        let jpeg = thumbnails::jpeg(&image)?;
        bytes += jpeg.len() as u64 * 4 / 3;
        Ok(Thumbnail { jpeg, width, height })
    };
    let small = thumbnails::of_files(paths, px, done);
    let all: anyhow::Result<Vec<_>> = small.into_iter().map(|image| image.map(&mut encode).transpose()).collect();
    Ok((all?, bytes))
}

#[cfg(test)]
mod tests {
    use ocelli::report::{DuplicatesPage, duplicates_html};

    use super::*;

    #[test]
    fn our_pages_begin_so() {
        let (folder, network) = ("a".to_owned(), "b".to_owned());
        let page =
            DuplicatesPage { folder, network, threshold: 0.5, pictures: 1, groups: Vec::new(), notes: Vec::new() };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.html");
        check(&path).unwrap();
        std::fs::write(&path, duplicates_html(&page, 0.0)).unwrap();
        check(&path).unwrap();
        std::fs::write(&path, "<!doctype html>\n<html lang=\"en\"><p>mine").unwrap();
        assert!(check(&path).unwrap_err().to_string().contains("another file"));
    }
}
