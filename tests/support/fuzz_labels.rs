//! Mutated files of labels, each read by everything that reads it: classes of images, boxes, label maps.

use std::fs;
use std::path::{Path, PathBuf};

use image::{GrayImage, ImageFormat, RgbImage};
use ocelli::data::annotated::{BoxedPart, MaskedPart};
use ocelli::data::files::open_multi_label;
use ocelli::data::{open_boxed, open_masked};

use crate::support::fuzz;

/// Sides of all pictures.
const SIDES: (u32, u32) = (12, 8);

/// A folder whose one file is written anew for every input.
struct Set {
    folder: tempfile::TempDir,
    /// The file.
    name: &'static str,
}

impl Set {
    fn new(name: &'static str, pictures: &[&str], files: &[(&str, &str)]) -> Self {
        let set = Self { folder: tempfile::tempdir().unwrap(), name };
        for picture in pictures {
            RgbImage::from_pixel(SIDES.0, SIDES.1, image::Rgb([9, 8, 7])).save(set.at(picture)).unwrap();
        }
        for (file, text) in files {
            fs::write(set.at(file), text).unwrap();
        }
        set
    }

    fn at(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn write(&self, bytes: &[u8]) {
        fs::write(self.folder.path().join(self.name), bytes).unwrap();
    }

    fn path(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }

    /// Whether its images show classes; an error says something.
    fn shows(&self) -> bool {
        match open_multi_label(self.path()) {
            Ok(set) => {
                assert_eq!(set.train.presence.len(), set.train.source.len() * set.understood.classes.len());
                true
            }
            Err(error) => said(&error.to_string()),
        }
    }

    /// Whether it has boxes, and all of them lie in their pictures.
    fn has_boxes(&self) -> bool {
        match open_boxed(self.path()) {
            Ok(set) => {
                let parts = std::iter::once(&set.train).chain(&set.val);
                parts.map(|part| boxes_are_inside(part, set.classes.len())).fold(true, |all, one| all & one)
            }
            Err(error) => said(&error.to_string()),
        }
    }

    /// Whether its maps can be used, and have classes alone.
    fn has_maps(&self) -> bool {
        match open_masked(self.path()) {
            Ok(set) => {
                assert!(set.palette.len() == set.classes.len() && !set.understood.lines().is_empty());
                let parts = std::iter::once(&set.train).chain(&set.val);
                parts.map(|part| maps_are_classes(part, set.classes.len())).fold(true, |all, one| all & one)
            }
            Err(error) => said(&error.to_string()),
        }
    }
}

/// That an error has words; nothing was accepted.
fn said(message: &str) -> bool {
    assert!(message.len() > 10, "{message}");
    false
}

fn boxes_are_inside(part: &BoxedPart, classes: usize) -> bool {
    assert_eq!(part.objects.len(), part.source.len());
    for object in part.objects.iter().flatten() {
        let [x1, y1, x2, y2] = object.xyxy;
        assert!(0.0 <= x1 && x1 < x2 && x2 <= SIDES.0 as f32, "{object:?}");
        assert!(0.0 <= y1 && y1 < y2 && y2 <= SIDES.1 as f32, "{object:?}");
        assert!((object.class as usize) < classes && object.area_px.is_none_or(|area| area >= 0.0), "{object:?}");
    }
    (0..part.source.len()).map(|i| part.source.load(i).is_ok()).fold(true, |all, one| all & one)
}

fn maps_are_classes(part: &MaskedPart, classes: usize) -> bool {
    let usable = |i: usize| match part.maps.label_map(i) {
        Ok(map) => {
            assert_eq!((map.width, map.height), (SIDES.0 as usize, SIDES.1 as usize));
            assert_eq!(map.labels.len(), map.width * map.height);
            assert!(map.labels.iter().all(|label| usize::from(*label) < classes || *label == 255));
            true
        }
        Err(error) => said(&error.to_string()),
    };
    (0..part.source.len()).map(usable).fold(true, |all, one| all & one)
}

/// All of them. Each input is written to a file and read from there, so there are fewer than for other readers.
pub fn labels(count: usize, seed: u64) {
    let often = (count / 5, seed);
    annotations(often);
    text_files(often);
    instances(often);
    maps(often);
}

fn annotations(often: (usize, u64)) {
    let xml = "<annotation><size><width>12</width><height>8</height></size>\n<object><name>cat</name><difficult>1\
               </difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>12</xmax><ymax>8.5</ymax></bndbox></object>\
               <object><name>dog</name><bndbox><xmin>3</xmin><ymin>2</ymin><xmax>9</xmax><ymax>7</ymax></bndbox>\
               </object></annotation>";
    let set = Set::new(
        "Annotations/1.xml",
        &["JPEGImages/1.png", "JPEGImages/2.png"],
        &[
            ("ImageSets/Main/trainval.txt", "1\n2\n"),
            ("ImageSets/Main/test.txt", "2\n"),
            ("Annotations/2.xml", xml),
        ],
    );
    let letters = b"<>/&;!\"'= \n0123456789-.eE[]CDATA";
    let corpus = [xml.as_bytes().to_vec(), xml.replace("12", "1e9").into_bytes()];
    fuzz("annotations", &corpus, letters, often, &|_| None, &|bytes| {
        set.write(bytes);
        set.shows() & set.has_boxes()
    });
    let lists = Set { name: "ImageSets/Main/trainval.txt", ..set };
    fs::write(lists.folder.path().join("Annotations/1.xml"), xml).unwrap();
    fuzz(
        "image sets",
        &[b"1\n2\n".to_vec(), b"2 -1\n1\n".to_vec()],
        b"12 \n/.-\xff",
        often,
        &|_| None,
        &|bytes| {
            lists.write(bytes);
            lists.shows() & lists.has_boxes()
        },
    );
}

fn text_files(often: (usize, u64)) {
    let yaml = "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n";
    let labels = "0 0.5 0.5 0.25 0.5\n1 0.1 0.1 0.9 0.2 0.4 0.8\n";
    let pictures = ["images/train/1.png", "images/train/2.png", "images/val/3.png"];
    let files = [
        ("data.yaml", yaml),
        ("labels/train/1.txt", labels),
        ("labels/train/2.txt", labels),
        ("labels/val/3.txt", labels),
    ];
    let set = Set::new("labels/train/1.txt", &pictures, &files);
    fuzz("YOLO's labels", &[labels.into()], b"0123456789.-+eE \ninfa", often, &|_| None, &|bytes| {
        set.write(bytes);
        set.shows() & set.has_boxes()
    });
    let set = Set::new("data.yaml", &pictures, &files);
    let pose = format!("{yaml}kpt_shape: [1, 2]\n");
    let corpus =
        [yaml.as_bytes().to_vec(), pose.into(), yaml.replace("\n  0: cat\n  1: dog", " [cat, dog]").into_bytes()];
    let letters = b"[]{}:-,&*?|>!#'\"% \n0123456789";
    fuzz("YAML files", &corpus, letters, often, &|_| None, &|bytes| {
        set.write(bytes);
        set.shows() & set.has_boxes()
    });
}

fn instances(often: (usize, u64)) {
    let polygons = r#"{"images": [{"id": 1, "file_name": "1.png", "width": 12, "height": 8}, {"id": 2, "file_name":
        "2.png"}], "annotations": [{"image_id": 1, "category_id": 3, "iscrowd": 0, "bbox": [1, 1, 4.5, 5], "area": 20,
        "segmentation": [[1, 1, 5.5, 1, 5.5, 6, 1, 6], [0, 0, 2, 2, 0, 2]]}, {"image_id": 2, "category_id": 7, "bbox":
        [-1, 2, 30, 3], "segmentation": [2, 2, 9, 2, 9, 7]}], "categories": [{"id": 3, "name": "cat"}, {"id": 7,
        "name": "dog"}]}"#;
    let runs = polygons
        .replace(
            "[[1, 1, 5.5, 1, 5.5, 6, 1, 6], [0, 0, 2, 2, 0, 2]]",
            r#"{"size": [8, 12], "counts": [9, 30, 57]}"#,
        )
        .replace("[2, 2, 9, 2, 9, 7]", r#"{"size": [8, 12], "counts": "94c2"}"#);
    let set = Set::new("instances_train.json", &["1.png", "2.png"], &[("instances_val.json", polygons)]);
    let letters = b"[]{}\":,.-+eE0123456789ntfk\\ouSV`o";
    fuzz("instances", &[polygons.into(), runs.into()], letters, often, &|_| None, &|bytes| {
        set.write(bytes);
        set.shows() & set.has_boxes() & set.has_maps()
    });
}

fn maps(often: (usize, u64)) {
    let grey = GrayImage::from_fn(SIDES.0, SIDES.1, |x, y| image::Luma([[0, 1, 2, 255][((x + y) % 4) as usize]]));
    let colours =
        RgbImage::from_fn(SIDES.0, SIDES.1, |x, y| image::Rgb([[0, 0, 0], [9, 8, 7]][((x * y) % 2) as usize]));
    let set = Set::new("masks/1.png", &["images/1.png", "images/2.png"], &[]);
    grey.save(set.at("masks/2.png")).unwrap();
    let bytes = |path: &Path| fs::read(path).unwrap();
    let mut corpus = vec![bytes(&set.at("masks/2.png"))];
    colours.save_with_format(set.at("masks/1.png"), ImageFormat::Png).unwrap();
    let coloured = bytes(&set.at("masks/1.png"));
    corpus.push(paletted(&[0, 1, 2, 255]));
    corpus.push(paletted(&[2, 0]));
    RgbImage::from_fn(SIDES.0, SIDES.1, |x, _| image::Rgb([(x % 3) as u8; 3]))
        .save(set.at("masks/1.png"))
        .unwrap();
    corpus.push(bytes(&set.at("masks/1.png")));
    fuzz(
        "label maps",
        &corpus,
        b"\x00\x01\x02\x03\x04\x06\x08\x10\xff",
        often,
        &|bytes| Some(mended(bytes)),
        &|bytes| {
            set.write(bytes);
            set.has_maps()
        },
    );
    let set = Set::new("classes.txt", &["images/1.png"], &[]);
    fs::write(set.at("masks/1.png"), coloured).unwrap();
    let corpus = ["black 0 0 0\ngrey 9 8 7\n", "name,r,g,b\nblack,0,0,0\ngrey,9,8,7\n", "0 0 0 void\n9 8 7 a\n"];
    fuzz(
        "lists of classes",
        &corpus.map(Into::into),
        b"0123456789 ,:;#\n\ta\xc3\xa9",
        often,
        &|_| None,
        &|bytes| {
            set.write(bytes);
            set.has_maps()
        },
    );
}

/// A map with a palette, its values in turn.
fn paletted(values: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, SIDES.0, SIDES.1);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette((0..=255_u8).flat_map(|i| [i, i / 2, i / 3]).collect::<Vec<u8>>());
    let data: Vec<u8> = values.iter().copied().cycle().take((SIDES.0 * SIDES.1) as usize).collect();
    encoder.write_header().unwrap().write_image_data(&data).unwrap();
    bytes
}

/// The same with right checksums, as far as its chunks can be followed: without them hardly a mutation would be read.
fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 8;
    while let Some(len) = bytes.get(at..at + 4).and_then(|len| len.try_into().ok()).map(u32::from_be_bytes) {
        let end = (at + 8).saturating_add(len as usize);
        if end.checked_add(4).is_none_or(|last| last > bytes.len()) {
            break;
        }
        let sum = crc32fast::hash(&bytes[at + 4..end]);
        bytes[end..end + 4].copy_from_slice(&sum.to_be_bytes());
        at = end + 4;
    }
    bytes
}
