//! What Ocelli wrote itself: the folder of a run, and pictures it drew. Neither is data.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// What a PNG that Ocelli drew says of itself, right after its header: a chunk `tEXt`.
const PNG_MARK: &[u8] = b"tEXtSoftware\0Ocelli";
/// Checksum of [`PNG_MARK`].
const PNG_MARK_CRC: u32 = 0x4193_229D;
/// Bytes of a PNG's signature and header, after which other chunks come.
const PNG_HEADER: usize = 8 + 25;
/// What a GIF that Ocelli drew says of itself, right after its palette: a comment.
const GIF_MARK: &[u8] = b"\x21\xFE\x06Ocelli";
/// Bytes of a GIF's header before its palette, and of the largest palette.
const GIF_HEADER: usize = 13;
const GIF_PALETTE: usize = 3 * 256;

/// Folder in which a run keeps its charts.
pub(super) const PICTURES: &str = "pictures";
/// Names that charts of a run have, and what those that are numbered begin with.
const CHARTS: [&str; 5] = ["views.png", "heads.png", "matches.png", "detections.png", "segmentations.png"];
const NUMBERED_CHARTS: [&str; 2] = ["attention-", "features-"];

/// The PNG with the mark of what Ocelli drew in it.
pub fn marked_png(png: &[u8]) -> Vec<u8> {
    let (header, rest) = png.split_at(PNG_HEADER.min(png.len()));
    let length = PNG_MARK.len() as u32 - 4;
    [header, &length.to_be_bytes()[..], PNG_MARK, &PNG_MARK_CRC.to_be_bytes()[..], rest].concat()
}

/// Whether a picture's name is one that may have the mark.
pub(super) fn may_be_marked(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_lowercase());
    ending.is_some_and(|ending| matches!(ending.as_str(), "png" | "gif"))
}

/// Whether Ocelli drew the PNG or GIF in a file. One that cannot be read has no mark.
pub fn is_marked(path: &Path) -> bool {
    let start = start_of(path, GIF_HEADER + GIF_PALETTE + GIF_MARK.len());
    let png = start.get(PNG_HEADER + 4..).is_some_and(|rest| rest.starts_with(PNG_MARK));
    png || is_marked_gif(&start)
}

fn is_marked_gif(start: &[u8]) -> bool {
    let palette = match start.get(10) {
        Some(flags) if flags & 0x80 != 0 => 3 << ((flags & 7) + 1),
        _ => 0,
    };
    start.starts_with(b"GIF8") && start.get(GIF_HEADER + palette..).is_some_and(|rest| rest.starts_with(GIF_MARK))
}

/// Whether a folder holds a run, also one that is being written or replaced: a run has more than one of its files before it
/// has its first picture.
pub(super) fn is_run(folder: &Path) -> bool {
    let (file, below) = (|name: &str| folder.join(name).is_file(), |name: &str| folder.join(name).is_dir());
    let has_checkpoints = || below("checkpoints");
    (file("metrics.jsonl") && (file("config.toml") || has_checkpoints()))
        || (file(".lock") && (has_checkpoints() || below(PICTURES)))
        || is_described(folder)
}

/// Whether a folder has the description of a run: the version of Ocelli is what it begins with.
fn is_described(folder: &Path) -> bool {
    let start = start_of(&folder.join("manifest.json"), 64);
    let start: Vec<u8> = start.into_iter().filter(|b| !b.is_ascii_whitespace()).collect();
    start.starts_with(b"{\"ocelli\":")
}

/// Whether a file in a run's folder of pictures is called as a chart of a run is. Those of earlier versions have no mark.
pub(super) fn is_named_as_a_chart(name: &str) -> bool {
    CHARTS.contains(&name)
        || (name.ends_with(".png") && NUMBERED_CHARTS.iter().any(|start| name.starts_with(start)))
}

/// Whether a file holds a picture of a kind that is known by its first bytes: JPEG, PNG, GIF, WebP, TIFF.
pub(super) fn begins_as_a_picture(path: &Path) -> bool {
    let start = start_of(path, 12);
    [&b"\xFF\xD8\xFF"[..], b"\x89PNG\r\n\x1A\n", b"GIF8", b"II*\0", b"MM\0*"].iter().any(|m| start.starts_with(m))
        || (start.starts_with(b"RIFF") && start.ends_with(b"WEBP"))
}

/// The first bytes of a file, at most so many; none of what cannot be read.
fn start_of(path: &Path, most: usize) -> Vec<u8> {
    let mut start = Vec::with_capacity(most);
    // Whoever opens a pipe waits for another process.
    if path.is_file()
        && let Ok(file) = File::open(path)
    {
        let _ = file.take(most as u64).read_to_end(&mut start);
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_picture_is_a_picture_and_known() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain.png");
        image::RgbImage::from_pixel(3, 2, image::Rgb([1, 2, 3])).save(&plain).unwrap();
        assert!(!is_marked(&plain) && begins_as_a_picture(&plain) && !is_marked(&folder.path().join("none.png")));
        let marked = folder.path().join("marked.png");
        std::fs::write(&marked, marked_png(&std::fs::read(&plain).unwrap())).unwrap();
        assert!(is_marked(&marked) && begins_as_a_picture(&marked));
        // A wrong checksum would be an error.
        let mut reader =
            png::Decoder::new(std::io::BufReader::new(File::open(&marked).unwrap())).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(pixels[..3], [1, 2, 3]);
        let said = &reader.info().uncompressed_latin1_text;
        assert!(said.iter().any(|chunk| chunk.keyword == "Software" && chunk.text == "Ocelli"));
    }

    #[test]
    fn a_clip_is_known_by_its_comment() {
        for (flags, palette) in [(0xF7_u8, 768), (0x80, 6), (0, 0)] {
            let mut gif = b"GIF89a\x01\0\x01\0".to_vec();
            gif.extend([flags, 0, 0]);
            gif.resize(GIF_HEADER + palette, 7);
            assert!(!is_marked_gif(&gif));
            gif.extend(b"\x21\xFE\x06Ocelli\0");
            assert!(is_marked_gif(&gif), "{flags}");
        }
        assert!(!is_marked_gif(b"GIF89a") && !is_marked_gif(b""));
    }

    #[test]
    fn runs_are_known_at_every_stage() {
        for (files, is_one) in [
            (&[".lock", "checkpoints/"][..], true),
            (&[".lock", "checkpoints/", "metrics.jsonl", "config.toml"], true),
            (&[".lock", "pictures/"], true),
            (&["metrics.jsonl", "config.toml"], true),
            (&["metrics.jsonl"], false),
            (&["config.toml", "pictures/"], false),
            (&["checkpoints/", "1.jpg"], false),
            (&[".lock", "1.jpg"], false),
        ] {
            let folder = tempfile::tempdir().unwrap();
            for file in files {
                match file.strip_suffix('/') {
                    Some(below) => std::fs::create_dir(folder.path().join(below)).unwrap(),
                    None => std::fs::write(folder.path().join(file), "").unwrap(),
                }
            }
            assert_eq!(is_run(folder.path()), is_one, "{files:?}");
            std::fs::write(folder.path().join("manifest.json"), "{ \"name\": \"a web page\" }").unwrap();
            assert_eq!(is_run(folder.path()), is_one, "{files:?}");
            std::fs::write(folder.path().join("manifest.json"), "{\n  \"ocelli\": \"0.1.0\",\n").unwrap();
            assert!(is_run(folder.path()));
        }
    }
}
