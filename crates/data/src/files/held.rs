//! What a person holds who names something else than a folder of pictures: in words, with what to do about it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::decode::EXTENSIONS;

const ARCHIVE: &str = "an archive; unpack it first, then give the folder";
const TABLE: &str = "a table with pictures inside, as the datasets library of Hugging Face keeps them; export it to a folder of \
                     images first, with a folder for each class";
const ARRAYS: &str = "arrays, not pictures; save each picture as PNG or JPEG first, with a folder for each class";
const RECORDS: &str =
    "records of another program; write their pictures as PNG or JPEG first, with a folder for each class";
const PICKLE: &str = "a pickle of Python; of CIFAR take the binary version (.bin), of anything else save the pictures as PNG or JPEG";
const VIDEO: &str = "a video; write its frames as pictures first, such as: ffmpeg -i VIDEO frames/%05d.png";
const LIST: &str = "a text; give the folder of the images that it tells of";
const WEIGHTS: &str = "weights, which belong to --weights or --init-from; this is the place of a folder of images";
const PICTURE: &str = "a single picture; give the folder that it is in";

/// Endings, in lower case, and what they say. The first that fits counts.
const ENDINGS: &[(&[&str], &str)] = &[
    (
        &[
            "zip", "tar", "tgz", "tbz", "tbz2", "txz", "tar.gz", "tar.bz2", "tar.xz", "tar.zst", "gz", "bz2",
            "7z", "rar", "zst",
        ],
        ARCHIVE,
    ),
    (&["parquet", "arrow", "feather"], TABLE),
    (&["npz", "npy", "h5", "hdf5", "mat"], ARRAYS),
    (&["tfrecord", "tfrecords", "mdb", "lmdb", "rec", "beton"], RECORDS),
    (&["pkl", "pickle"], PICKLE),
    (&["mp4", "mov", "avi", "mkv", "webm", "m4v"], VIDEO),
    (&["csv", "tsv", "txt", "json", "jsonl", "xml", "yaml", "yml", "toml"], LIST),
    (&["safetensors", "pth", "pt", "ckpt", "onnx"], WEIGHTS),
    (&EXTENSIONS, PICTURE),
];

/// First bytes, where the ending says nothing.
const BEGINNINGS: &[(&[u8], &str)] = &[
    (b"PK\x03\x04", ARCHIVE),
    (b"\x1f\x8b", ARCHIVE),
    (b"BZh", ARCHIVE),
    (b"\xfd7zXZ\0", ARCHIVE),
    (b"7z\xbc\xaf\x27\x1c", ARCHIVE),
    (b"Rar!", ARCHIVE),
    (b"\x28\xb5\x2f\xfd", ARCHIVE),
    (b"PAR1", TABLE),
    (b"ARROW1", TABLE),
    (b"\x93NUMPY", ARRAYS),
    (b"\x89HDF", ARRAYS),
    (b"\x80\x02", PICKLE),
    (b"\x80\x03", PICKLE),
    (b"\x80\x04", PICKLE),
];

/// What a file is of which a folder of images was expected, where that can be told.
pub(super) fn file(path: &Path) -> Option<&'static str> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    by_ending(&name).or_else(|| by_beginning(path))
}

/// What the files of a folder without images are, where one of them says: its name and what to do.
pub(super) fn contents<'a>(names: impl Iterator<Item = &'a String>) -> Option<String> {
    let holds = |what: &&str| [ARCHIVE, TABLE, ARRAYS, RECORDS, PICKLE, VIDEO].contains(what);
    let mut known = names.filter_map(|name| Some((name, by_ending(name).filter(holds)?)));
    known.next().map(|(name, what)| format!("{name} is {what}"))
}

fn by_ending(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    let ends = |ending: &&str| name.strip_suffix(*ending).is_some_and(|rest| rest.ends_with('.'));
    ENDINGS.iter().find(|(endings, _)| endings.iter().any(&ends)).map(|(_, what)| *what)
}

fn by_beginning(path: &Path) -> Option<&'static str> {
    /// A tar archive says so there.
    const TAR: usize = 257;
    let mut head = Vec::new();
    File::open(path).ok()?.take(512).read_to_end(&mut head).ok()?;
    if head.get(TAR..).is_some_and(|rest| rest.starts_with(b"ustar")) {
        return Some(ARCHIVE);
    }
    BEGINNINGS.iter().find(|(beginning, _)| head.starts_with(beginning)).map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let tar = [vec![b'x'; 257], b"ustar\0".to_vec(), vec![0; 249]].concat();
        let rows: [(&str, &[u8], &str); 14] = [
            ("photos.ZIP", b"", ARCHIVE),
            ("imagenet.tar.gz", b"", ARCHIVE),
            ("train-00000-of-00002.parquet", b"", TABLE),
            ("data-00000-of-00001.arrow", b"", TABLE),
            ("mnist.npz", b"PK\x03\x04", ARRAYS),
            ("labels.csv", b"", LIST),
            ("vit.safetensors", b"", WEIGHTS),
            ("IMG_1.JPG", b"", PICTURE),
            ("clip.mp4", b"", VIDEO),
            ("data_batch_1", b"\x80\x02}q\x01", PICKLE),
            ("no-ending", b"PK\x03\x04..", ARCHIVE),
            ("shard", &tar, ARCHIVE),
            ("v1.0 final", b"PAR1", TABLE),
            ("nothing.known", b"?", ""),
        ];
        for (name, bytes, what) in rows {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(file(&path).unwrap_or_default(), what, "{name}");
        }
    }

    #[test]
    fn of_a_folder_the_first_that_holds_pictures_is_named() {
        let of = |names: &[&str]| contents(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>().iter());
        let found = of(&["dataset_info.json", "train/data-00000-of-00001.arrow", "train/state.json"]).unwrap();
        assert!(found.starts_with("train/data-00000-of-00001.arrow is a table"), "{found}");
        assert_eq!(of(&["README.md", "a.txt", "b.json"]), None);
    }
}
