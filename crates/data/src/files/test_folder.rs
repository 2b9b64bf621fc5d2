//! A folder of files for tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder of its own with these files; those that end in .jpg or .png are pictures of 3 × 2 pixels.
pub(super) struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    pub fn write(&self, name: &str, text: &str) {
        match name.ends_with(".jpg") || name.ends_with(".png") {
            true => self.picture(name, 3, 2),
            false => fs::write(self.file(name), text).unwrap(),
        }
    }

    /// A picture of this size.
    pub fn picture(&self, name: &str, width: u32, height: u32) {
        image::RgbImage::from_pixel(width, height, image::Rgb([9, 8, 7])).save(self.file(name)).unwrap();
    }

    /// A grey picture of these values, so many a row.
    pub fn map(&self, name: &str, width: u32, values: &[u8]) {
        let height = values.len() as u32 / width;
        image::GrayImage::from_raw(width, height, values.to_vec()).unwrap().save(self.file(name)).unwrap();
    }

    /// A picture of these colours, so many a row.
    pub fn colours(&self, name: &str, width: u32, colours: &[[u8; 3]]) {
        let height = colours.len() as u32 / width;
        image::RgbImage::from_raw(width, height, colours.concat()).unwrap().save(self.file(name)).unwrap();
    }

    /// A file's path, its folder made.
    fn file(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    pub fn remove(&self, name: &str) {
        let path = self.0.path().join(name);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }

    pub fn at(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
}

/// An archive of the real data, unpacked; `None`, which is said, where it is not there.
pub(super) fn real(archive: &str) -> Option<tempfile::TempDir> {
    let file = std::env::var_os("OCELLI_DATA").map(|data| Path::new(&data).join(archive)).filter(|f| f.is_file());
    let Some(file) = file else {
        println!("skipped: OCELLI_DATA names no folder with {archive}");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let unpacked = Command::new("tar").arg("-xf").arg(file).arg("-C").arg(folder.path()).status();
    if !unpacked.is_ok_and(|status| status.success()) {
        println!("skipped: there is no `tar` to unpack {archive}");
        return None;
    }
    Some(folder)
}

/// That a message has all these words.
pub(super) fn has(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "expected \"{word}\" in: {message}");
    }
}
