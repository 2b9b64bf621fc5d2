//! Files a command writes where the user says: whole or not at all, and never over a file that is not ours.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use ocelli::data::files::{is_marked, marked_png};
use ocelli::eval::picture::Rgb;

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
    write(path, &marked_png(png))
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

/// Bytes of a file's name at most: what the common file systems allow.
const LONGEST: usize = 255;
/// Bytes kept for a number behind a name.
const NUMBER: usize = 12;
/// Folders that are looked at to tell images apart, at most.
const FOLDERS: usize = 32;
/// Names that Windows keeps for devices, with whatever ending.
const DEVICES: [&str; 22] = [
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9", "lpt1",
    "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

/// Beginnings of the names of the files that are written for each of these images; `ends` are what comes behind, one for each file of an
/// image, with the ending.
///
/// A beginning is the image's name without folders and ending. Where images of several folders have the same, as many folders come
/// before it as tell them apart, and where nothing does, a number comes behind it. No two files have one name, also where a file system
/// takes letters of either case for one, and none is longer than file systems allow: a long name is cut, its end is not.
pub fn stems<N: AsRef<str>, E: AsRef<str>>(names: &[N], ends: &[E]) -> Vec<String> {
    let longest_end = ends.iter().map(|end| end.as_ref().len()).max().unwrap_or(0);
    let room = LONGEST.saturating_sub(longest_end + NUMBER).max(1);
    let mut made: Vec<String> = names.iter().map(|name| safe(name.as_ref(), 0, room)).collect();
    let mut alike: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, stem) in made.iter().enumerate() {
        alike.entry(folded(stem)).or_default().push(index);
    }
    for group in alike.into_values().filter(|group| group.len() > 1) {
        let of = |folders: usize| group.iter().map(move |i| safe(names[*i].as_ref(), folders, room));
        let different = |folders: usize| of(folders).map(|stem| folded(&stem)).collect::<HashSet<_>>().len();
        let deepest = group.iter().map(|i| parts(names[*i].as_ref()).count()).max().unwrap_or(1).min(FOLDERS);
        // The fewest folders that tell the most apart.
        let (mut best, mut folders) = (1, 0);
        for more in 1..deepest {
            let found = different(more);
            if found > best {
                (best, folders) = (found, more);
            }
            if best == group.len() {
                break;
            }
        }
        let longer: Vec<String> = of(folders).collect();
        group.iter().zip(longer).for_each(|(index, stem)| made[*index] = stem);
    }
    numbered(made, ends)
}

/// The same names, with numbers behind those whose files would have the name of another's.
fn numbered<E: AsRef<str>>(stems: Vec<String>, ends: &[E]) -> Vec<String> {
    let (mut taken, mut next) = (HashSet::new(), HashMap::<String, usize>::new());
    let files = |stem: &str| ends.iter().map(|e| folded(&format!("{stem}{}", e.as_ref()))).collect::<Vec<_>>();
    let unique = |base: String| {
        let number = next.entry(folded(&base)).or_insert(1);
        loop {
            let stem = if *number == 1 { base.clone() } else { format!("{base}-{number}") };
            *number += 1;
            let files = files(&stem);
            if files.iter().all(|file| !taken.contains(file)) {
                taken.extend(files);
                return stem;
            }
        }
    };
    stems.into_iter().map(unique).collect()
}

/// As a file system has it that takes letters of either case for one.
fn folded(name: &str) -> String {
    name.to_uppercase().to_lowercase()
}

/// The parts of a path that name something, the last first.
fn parts(name: &str) -> impl Iterator<Item = &str> {
    name.rsplit(['/', '\\']).filter(|part| !matches!(*part, "" | "." | ".."))
}

/// A name without its ending, with so many of its folders before it, of characters that any file system takes, and at most `room` bytes.
fn safe(name: &str, folders: usize, room: usize) -> String {
    let mut all: Vec<&str> = parts(name).take(folders + 1).collect();
    if let Some(file) = all.first_mut() {
        *file = file.rsplit_once('.').map(|(stem, _)| stem).filter(|stem| !stem.is_empty()).unwrap_or(*file);
    }
    let plain = |part: &&str| -> String {
        part.chars().map(|c| if c.is_alphanumeric() || c == '-' { c } else { '_' }).collect()
    };
    let mut stem = all.iter().rev().map(plain).collect::<Vec<_>>().join("-");
    stem.truncate(stem.floor_char_boundary(room));
    if stem.is_empty() {
        stem.push_str("image");
    }
    if DEVICES.contains(&folded(&stem).as_str()) {
        stem.insert(0, '_');
    }
    stem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_images_have_one_name() {
        let png = [".png"];
        // What folders tell apart has them before its name; what nothing does has a number behind it.
        let names =
            ["2024/beach/IMG_1.jpg", "2025/beach/IMG_1.jpg", "photos/cat.jpg", "./photos/cat (1).JPG", "dog.png"];
        assert_eq!(stems(&names, &png), ["2024-beach-IMG_1", "2025-beach-IMG_1", "cat", "cat__1_", "dog"]);
        let names =
            ["cat 1.jpg", "cat_1.jpg", "CAT_1.png", "a/cat.jpg", "a/cat.jpg", "b\\Cat.jpg", "straße", "STRASSE"];
        assert_eq!(
            stems(&names, &png),
            ["cat_1", "cat_1-2", "CAT_1-3", "a-cat", "a-cat-2", "b-Cat", "straße", "STRASSE-2"]
        );
        // A numbered name that another image has is passed over.
        assert_eq!(stems(&["x.jpg", "x-2.jpg", "x.png"], &png), ["x", "x-2", "x-3"]);
        let names = ["", "..", ".png", "a/.hidden", "x.tar.gz", "кот 1.jpg", "nul.jpg", "a,b \"c\".jpg"];
        assert_eq!(
            stems(&names, &png),
            ["image", "image-2", "_png", "_hidden", "x_tar", "кот_1", "_nul", "a_b__c_"]
        );
        // Neither does what is written beside a picture meet another's.
        let ends = [".png", "-index.png"];
        assert_eq!(stems(&["a.png", "a-index.png", "a.jpg"], &ends), ["a", "a-index-2", "a-2"]);
        assert!(stems::<&str, &str>(&[], &[]).is_empty());
    }

    #[test]
    fn long_names_are_cut_and_stay_different() {
        let ends = ["-head12-mask.png", ".png"];
        for letter in ["x", "é", "漢", "😀"] {
            let name = |last: &str| format!("folder/{}{last}.jpg", letter.repeat(250));
            let names: Vec<String> = (0..20).map(|i| name(&i.to_string())).chain([name("0")]).collect();
            let made = stems(&names, &ends);
            let different: HashSet<String> = made.iter().map(|stem| folded(stem)).collect();
            assert_eq!(different.len(), names.len(), "{made:?}");
            assert!(made.iter().all(|stem| stem.len() + ends[0].len() <= LONGEST && stem.len() > 200), "{made:?}");
        }
        // Many images of one name take no longer than as many of different ones.
        let names = vec!["IMG.jpg"; 20_000];
        assert_eq!(stems(&names, &[".png"]).last().map(String::as_str), Some("IMG-20000"));
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
