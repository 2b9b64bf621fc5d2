//! Folders for tests.

use std::fs;
use std::path::Path;

/// `count` pictures in a folder.
pub fn pictures(root: &Path, folder: &str, count: usize) {
    let folder = root.join(folder);
    fs::create_dir_all(&folder).unwrap();
    for i in 0..count {
        image::RgbImage::from_pixel(5, 4, image::Rgb([i as u8, 0, 7]))
            .save(folder.join(format!("{i}.png")))
            .unwrap();
    }
}
