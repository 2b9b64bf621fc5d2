//! Files a command writes where the user says: whole or not at all, and never over a file that is not ours.

use std::collections::HashSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use ocelli::eval::picture::Rgb;

/// What a picture of ours says of itself, right after its header: a chunk `tEXt`.
const MARK: &[u8] = b"tEXtSoftware\0Ocelli";
/// Bytes of a PNG's signature and header, after which other chunks come.
const HEADER: usize = 8 + 25;

/// Writes RGB pixels as PNG, over nothing but an older picture of ours.
///
/// # Errors
/// When another file is there, or it cannot be written.
pub fn write_png(path: &Path, width: usize, height: usize, rgb: &[u8]) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    image::ImageEncoder::write_image(encoder, rgb, width as u32, height as u32, image::ExtendedColorType::Rgb8)
        .with_context(|| format!("cannot encode {}", path.display()))?;
    write_encoded_png(path, &bytes)
}

/// Writes a PNG that is encoded already, over nothing but an older picture of ours.
///
/// # Errors
/// When another file is there, or it cannot be written.
pub fn write_encoded_png(path: &Path, png: &[u8]) -> anyhow::Result<()> {
    check_picture(path)?;
    write(path, &marked(png))
}

/// Writes a palette PNG whose pixels are numbers, over nothing but an older picture of ours. Numbers beyond the palette are black.
///
/// # Errors
/// When another file is there, or it cannot be written.
pub fn write_index_png(
    path: &Path,
    [width, height]: [usize; 2],
    numbers: &[u8],
    palette: impl Iterator<Item = Rgb>,
) -> anyhow::Result<()> {
    let mut colours: Vec<u8> = palette.take(256).flatten().collect();
    colours.resize(256 * 3, 0);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(colours);
    encoder
        .write_header()
        .and_then(|mut writer| {
            writer.write_image_data(numbers)?;
            writer.finish()
        })
        .with_context(|| format!("cannot encode {}", path.display()))?;
    write_encoded_png(path, &bytes)
}

/// Refuses a path at which there is anything but a picture of ours. For commands that work long before they write.
///
/// # Errors
/// When another file is there.
pub fn check_picture(path: &Path) -> anyhow::Result<()> {
    if path.exists() && !is_marked(path) {
        bail!(
            "{}: expected no file, or a picture that Ocelli drew; found another file. Move it away, or choose another --out",
            path.display()
        );
    }
    Ok(())
}

/// Refuses a path at which there is a file, unless it is to be replaced.
///
/// # Errors
/// When a file is there and `overwrite` is false.
pub fn check_new(path: &Path, overwrite: bool) -> anyhow::Result<()> {
    if path.exists() && !overwrite {
        bail!("{} is there already; choose another --out, or --overwrite to replace it", path.display());
    }
    Ok(())
}

/// Writes a text that begins with `mark`, over nothing but an older one that does.
///
/// # Errors
/// When another file is there, or it cannot be written.
pub fn write_over_own(path: &Path, text: &str, mark: &str) -> anyhow::Result<()> {
    let ours = |mut file: fs::File| {
        let mut start = vec![0; mark.len()];
        file.read_exact(&mut start).is_ok() && start == mark.as_bytes()
    };
    if path.exists() && !fs::File::open(path).is_ok_and(ours) {
        bail!(
            "{}: expected no file, or an older one that this command wrote; found another. Move it away, or choose another --out",
            path.display()
        );
    }
    write(path, text.as_bytes())
}

/// Writes a file, whole or not at all, and its folder where it is missing.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    }
    Ok(ocelli::train::write_atomically(path, bytes)?)
}

/// Beginnings of file names for pictures: each image's own name without folders and ending, and no two the same.
#[derive(Default)]
pub struct Stems(HashSet<String>);

impl Stems {
    /// The one of the next image.
    pub fn of(&mut self, name: &str) -> String {
        self.with(name, &[""])
    }

    /// The one of the next image, of which several files begin so: with these ends.
    pub fn with(&mut self, name: &str, ends: &[&str]) -> String {
        let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
        let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
        let safe: String =
            stem.chars().map(|c| if c.is_alphanumeric() || c == '-' { c } else { '_' }).take(100).collect();
        let base = if safe.is_empty() { "image".to_owned() } else { safe };
        // Some file systems take letters of either case for one.
        let files = |stem: &str| ends.iter().map(|end| format!("{stem}{end}").to_lowercase()).collect::<Vec<_>>();
        let numbers = std::iter::once(base.clone()).chain((2..).map(|number| format!("{base}-{number}")));
        for stem in numbers {
            let files = files(&stem);
            if files.iter().all(|file| !self.0.contains(file)) {
                self.0.extend(files);
                return stem;
            }
        }
        base
    }
}

/// A PNG with our mark in it.
fn marked(png: &[u8]) -> Vec<u8> {
    let (header, rest) = png.split_at(HEADER.min(png.len()));
    let length = MARK.len() as u32 - 4;
    [header, &length.to_be_bytes()[..], MARK, &crc32fast::hash(MARK).to_be_bytes()[..], rest].concat()
}

fn is_marked(path: &Path) -> bool {
    let mut start = [0; HEADER + 4 + MARK.len()];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start.ends_with(MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_images_have_one_name() {
        let mut stems = Stems::default();
        let names = ["a/cat.jpg", "b/Cat.png", "cat-2.jpg", "a/cat.jpg", "scene 7", "..", "x.tar.gz"];
        let made = names.map(|name| stems.of(name));
        assert_eq!(made, ["cat", "Cat-2", "cat-2-2", "cat-3", "scene_7", "_", "x_tar"]);
        assert_eq!((stems.of(""), stems.of(".png")), ("image".to_owned(), "image-2".to_owned()));
        // Neither does what is written beside a picture meet another's.
        let ends = ["", "-index"];
        assert_eq!(
            ["a.png", "a-index.png", "a.jpg"].map(|name| stems.with(name, &ends)),
            ["a", "a-index-2", "a-2"]
        );
    }

    #[test]
    fn numbers_and_their_colours_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.png");
        write_index_png(&path, [3, 1], &[0, 2, 255], [[1, 2, 3], [4, 5, 6], [7, 8, 9]].into_iter()).unwrap();
        let mut reader =
            png::Decoder::new(std::io::BufReader::new(fs::File::open(&path).unwrap())).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(pixels, [0, 2, 255]);
        assert_eq!(image::open(&path).unwrap().to_rgb8().as_raw(), &[1, 2, 3, 7, 8, 9, 0, 0, 0]);
        write_index_png(&path, [1, 1], &[0], std::iter::empty()).unwrap();
    }

    #[test]
    fn pictures_replace_our_own_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/a.png");
        write_png(&path, 2, 1, &[1, 2, 3, 4, 5, 6]).unwrap();
        write_png(&path, 1, 2, &[1, 2, 3, 4, 5, 7]).unwrap();
        let read = image::open(&path).unwrap().to_rgb8();
        assert_eq!((read.dimensions(), read.as_raw()), ((1, 2), &vec![1, 2, 3, 4, 5, 7]), "a PNG like any other");
        for other in ["holiday.png", "empty.png", "notes.txt"] {
            let path = folder.path().join(other);
            match other {
                "holiday.png" => image::RgbImage::new(3, 3).save(&path).unwrap(),
                _ => fs::write(&path, &other[..0]).unwrap(),
            }
            let before = fs::read(&path).unwrap();
            let message = write_png(&path, 2, 1, &[0; 6]).unwrap_err().to_string();
            assert!(message.contains(other) && message.contains("--out"), "{message}");
            assert_eq!(fs::read(&path).unwrap(), before);
        }
    }
}
