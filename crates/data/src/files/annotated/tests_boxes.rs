//! Boxes of folders as people have them, and what is wrong with some.

use super::super::test_folder::{Folder, has, real};
use super::*;
use crate::annotated::ObjectBox;
use crate::{AnnotatedLoader, DetectionViews, LoaderConfig};

fn open(folder: &Folder, name: &str) -> BoxedSet {
    open_boxed(&folder.at(name)).unwrap()
}

fn refused(folder: &Folder, name: &str, words: &[&str]) {
    has(&open_boxed(&folder.at(name)).err().expect("an error").to_string(), words);
}

fn says(set: &BoxedSet, words: &[&str]) {
    has(&set.understood.lines().join("\n"), words);
}

fn names(part: &BoxedPart) -> Vec<String> {
    (0..part.source.len()).map(|i| part.source.name(i)).collect()
}

/// A box of a class.
fn of(class: u32, xyxy: [f32; 4]) -> ObjectBox {
    ObjectBox { class, xyxy, ..ObjectBox::default() }
}

fn annotation(objects: &[(&str, &str, [&str; 4])]) -> String {
    let object = |(name, more, [x1, y1, x2, y2]): &(&str, &str, [&str; 4])| {
        format!(
            "<object><name>{name}</name>{more}<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}\
             </ymax></bndbox><part><name>head</name></part></object>\n"
        )
    };
    let size = "<size><width>3</width><height>2</height></size>";
    format!("<annotation>{size}\n{}</annotation>", objects.iter().map(object).collect::<String>())
}

fn voc() -> Folder {
    let folder = Folder::new(&[]);
    let whole = ["1", "1", "3", "2"];
    for (year, lists, objects) in [
        ("VOC2007", &[("trainval", "1"), ("test", "2")][..], [("dog", "<difficult>1</difficult>", whole)]),
        ("VOC2012", &[("trainval", "2008_1")], [("cat", "<truncated>1</truncated>", ["2", "1", "3", "1"])]),
    ] {
        for (list, id) in lists {
            folder.write(&format!("dev/{year}/ImageSets/Main/{list}.txt"), &format!("{id}\n"));
            folder.write(&format!("dev/{year}/JPEGImages/{id}.jpg"), "");
            folder.write(&format!("dev/{year}/Annotations/{id}.xml"), &annotation(&objects));
        }
    }
    folder
}

#[test]
fn years_of_voc_are_joined() {
    let folder = voc();
    let set = open(&folder, "");
    assert_eq!(
        (set.classes.join(" "), names(&set.train)),
        ("cat dog".into(), vec!["dev/VOC2007/1".to_owned(), "dev/VOC2012/2008_1".to_owned()])
    );
    let dog = ObjectBox { is_difficult: true, ..of(1, [0.0, 0.0, 3.0, 2.0]) };
    assert_eq!(*set.train.objects, [vec![dog], vec![of(0, [1.0, 0.0, 3.0, 1.0])]]);
    let val = set.val.as_ref().unwrap();
    assert_eq!((names(val), val.source.load(0).unwrap().width), (vec!["dev/VOC2007/2".to_owned()], 3));
    says(&set, &["trainval 2 images, test 1 image", "evaluated on test; append :test or :val"]);
    let one = open(&folder, "dev/VOC2012");
    assert!(one.val.is_none());
    assert_eq!(names(&one.train), ["2008_1"]);
    refused(&folder, "dev/VOC2012:test", &["no part test", "found trainval"]);
    let same = open(&folder, "dev/VOC2012:train").val.unwrap();
    assert_eq!(*same.objects, *one.train.objects);
}

#[test]
fn lists_of_voc_that_are_not_there_or_not_annotated() {
    let folder = voc();
    folder.remove("dev/VOC2012");
    let write = |name: &str, text: &str| folder.write(&format!("dev/VOC2007/{name}"), text);
    // Test images that are listed and have no annotations.
    folder.remove("dev/VOC2007/Annotations/2.xml");
    write("JPEGImages/3.jpg", "");
    write("Annotations/3.xml", &annotation(&[("dog", "", ["1", "1", "3", "2"])]));
    write("ImageSets/Main/train.txt", "1\n");
    write("ImageSets/Main/val.txt", "3\n");
    let set = open(&folder, "");
    assert_eq!(
        (names(&set.train), names(set.val.as_ref().unwrap())),
        (vec!["1".to_owned()], vec!["3".to_owned()])
    );
    says(&set, &["test.txt have no annotations: learnt from train and tested on val"]);
    refused(&folder, ":test", &["no part test", "found train, trainval, val"]);
    folder.remove("dev/VOC2007/ImageSets");
    let set = open(&folder, "");
    assert_eq!((names(&set.train), set.val.is_none()), (vec!["1".to_owned(), "3".to_owned()], true));
    says(&set, &["no lists in ImageSets/Main: every image with an annotation is taken", "Annotations 2 images"]);
    write("ImageSets/Main/default.txt", "3\n");
    assert_eq!(names(&open(&folder, "").train), ["3"]);
}

#[test]
fn odd_boxes_of_voc() {
    let folder = voc();
    let file = "dev/VOC2007/Annotations/1.xml";
    folder.write(
        file,
        &annotation(&[
            ("dog", "", ["0", "1", "90", "2"]),
            ("dog", "", ["9", "1", "12", "2"]),
            ("cat", "", ["3", "1", "1", "2"]),
        ]),
    );
    let set = open(&folder, "");
    assert_eq!(set.train.objects[0], [of(1, [0.0, 0.0, 3.0, 2.0])]);
    says(&set, &["1 box reached beyond the picture", "2 empty boxes (dev/VOC2007/1, dev/VOC2007/1)"]);
    // The picture is twice what the annotation says: the box goes with it.
    folder.picture("dev/VOC2007/JPEGImages/2.jpg", 6, 4);
    let set = open(&folder, "");
    assert_eq!(set.val.as_ref().unwrap().objects[0][0].xyxy, [0.0, 0.0, 6.0, 4.0]);
    says(&set, &["1 picture of another size than the labels say, of the same shape"]);
    folder.picture("dev/VOC2007/JPEGImages/2.jpg", 2, 9);
    let set = open(&folder, "");
    has(
        &set.val.unwrap().source.load(0).unwrap_err().to_string(),
        &["labels of dev/VOC2007/2", "3x2 pixels, the picture has 2x9"],
    );
    folder.picture("dev/VOC2007/JPEGImages/2.jpg", 6, 4);
    for (object, words) in [
        ("<object>\n<name>dog</name></object>", ["1.xml:2", "<bndbox>"]),
        (
            "<object><name>dog</name><bndbox><xmin>a</xmin></bndbox></object>",
            ["1.xml:2", "expected a number in <xmin>, found \"a\""],
        ),
        ("<object><name>dog</name><bndbox><xmin>inf</xmin></bndbox></object>", ["1.xml:2", "found \"inf\""]),
        ("<object><name>dog</name><bndbox/></object>", ["1.xml:2", "found no <xmin>"]),
        ("<!DOCTYPE a [<!ENTITY b \"c\">]>", ["1.xml", "not XML"]),
    ] {
        folder.write(file, &format!("<annotation>\n{object}</annotation>"));
        let set = open(&folder, "");
        has(&set.train.source.load(0).unwrap_err().to_string(), &words);
        assert!(set.train.objects[0].is_empty() && set.train.source.load(1).is_ok());
        says(&set, &["1 image with unreadable labels", "1.xml"]);
    }
    folder.remove("dev/VOC2012");
    refused(&folder, "", &["no boxes", "unreadable labels", "1.xml"]);
}

const COCO: &str = r#"{"images": [{"id": 7, "file_name": "a.jpg", "width": 6, "height": 4},
    {"id": 8, "file_name": "b.jpg", "width": 3, "height": 2}, {"id": 9, "file_name": "c.jpg"}],
  "annotations": [
    {"image_id": 7, "category_id": 30, "iscrowd": 0, "bbox": [2, 1, 4, 2.5], "area": 5, "segmentation": [[0, 0, 1, 1]]},
    {"image_id": 7, "category_id": 2, "iscrowd": 1, "bbox": [0, 0, 6, 4], "segmentation": {"size": [4, 6], "counts": "x"}},
    {"image_id": 8, "category_id": 2, "bbox": [1, 1, 0, 1]}, {"image_id": 8, "category_id": 2, "bbox": []},
    {"image_id": 9, "category_id": 5, "bbox": [-1, 0, 3, 1e300], "area": null}],
  "categories": [{"id": 30, "name": "person"}, {"id": 2, "name": "zebra"}, {"id": 5, "name": "dog"}]}"#;

#[test]
fn boxes_of_coco() {
    let folder = Folder::new(&[]);
    for part in ["train", "val", "test"] {
        ["a", "b", "c"].iter().for_each(|name| folder.write(&format!("{part}/{name}.jpg"), ""));
        folder.write(&format!("annotations/instances_{part}.json"), COCO);
    }
    let set = open(&folder, "");
    assert_eq!(set.classes, ["zebra", "dog", "person"], "by their numbers");
    // The first picture is half as large as the file says.
    let person = ObjectBox { area_px: Some(1.25), ..of(2, [1.0, 0.5, 3.0, 1.75]) };
    let crowd = ObjectBox { is_crowd: true, ..of(0, [0.0, 0.0, 3.0, 2.0]) };
    let expected = [vec![person, crowd], vec![], vec![of(1, [0.0, 0.0, 2.0, 2.0])]];
    assert_eq!(*set.train.objects, expected);
    says(&set, &["2 empty boxes (train/b.jpg, val/b.jpg)", "2 objects without a box"]);
    says(&set, &["2 boxes reached beyond the picture", "1 more file of instances", "instances_val.json"]);
    assert_eq!(names(open(&folder, ":test").val.as_ref().unwrap())[0], "test/a.jpg");
    folder.write("annotations/instances_train.json", &COCO.replace("\"category_id\": 30", "\"category_id\": 31"));
    let set = open(&folder, "");
    has(&set.train.source.load(0).unwrap_err().to_string(), &["instances_train.json", "category_id 31"]);
    for (from, to, words) in [
        ("\"id\": 8", "\"id\": 7", "images: expected an id for each, found 7 twice"),
        ("\"id\": 5", "\"id\": 2", "categories: expected an id for each, found 2 twice"),
        ("\"image_id\": 8", "\"image_id\": 80", "image_id 80 matches no image"),
    ] {
        folder.write("annotations/instances_train.json", &COCO.replace(from, to));
        refused(&folder, "", &["instances_train.json", words]);
    }
    folder.write("annotations/instances_train.json", &format!("{{\"info\": {}", "[".repeat(100_000)));
    refused(&folder, "", &["instances_train.json", "not JSON"]);
}

#[test]
fn images_of_coco_are_no_others_of_the_same_name() {
    let folder = Folder::new(&[("val/a.jpg", ""), ("val/b.jpg", ""), ("train/c.jpg", ""), ("train/x/a.jpg", "")]);
    folder.write("annotations/instances_train.json", &COCO.replace("b.jpg", "y/c.jpg"));
    folder.write("annotations/instances_val.json", COCO);
    let set = open(&folder, "");
    // b.jpg is val's alone, y/c.jpg is not c.jpg.
    assert_eq!(names(&set.train), ["train/x/a.jpg", "train/c.jpg"]);
    assert_eq!(names(set.val.as_ref().unwrap()), ["val/a.jpg", "val/b.jpg"]);
    says(&set, &["2 listed images without a file (y/c.jpg, c.jpg)"]);
    folder.write("annotations/instances_train.json", &COCO.replace("b.jpg", "a.jpg"));
    let set = open(&folder, "");
    assert_eq!(names(&set.train), ["train/c.jpg"]);
    says(&set, &["2 listed images whose files are others' too (a.jpg, a.jpg)"]);
}

const YAML: &str = "train: images/train\nval: images/val\ntest: images/test\nnames: [cat, dog]\n";

fn yolo() -> Folder {
    let folder = Folder::new(&[("data.yaml", YAML)]);
    for (part, name, labels) in [
        ("train", "a", "1 .5 .5 1 .5\n0 0 .25 .5 .5 .25 1\n"),
        ("train", "b", "1 1 1 .5 .5 0.9\n"),
        ("val", "c", "0 .5 .5 1 1"),
        ("test", "d", "1 .5 .5 1 1"),
    ] {
        folder.picture(&format!("images/{part}/{name}.jpg"), 20, 10);
        folder.write(&format!("labels/{part}/{name}.txt"), labels);
    }
    folder.picture("images/train/none.jpg", 20, 10);
    folder.write("labels/train/z.txt", "0 .5 .5 1 1");
    folder
}

#[test]
fn boxes_of_yolo() {
    let folder = yolo();
    let set = open(&folder, "");
    let polygon = of(0, [0.0, 2.5, 10.0, 10.0]);
    let train = [vec![of(1, [0.0, 2.5, 20.0, 7.5]), polygon], vec![of(1, [15.0, 7.5, 20.0, 10.0])], vec![]];
    assert_eq!((set.classes.join(" "), &*set.train.objects), ("cat dog".into(), &train.to_vec()));
    says(
        &set,
        &[
            "1 image has no label file: it counts as an image without objects",
            "1 label file without an image (labels/train/z.txt)",
        ],
    );
    says(
        &set,
        &["1 box reached beyond the picture", "3 objects to learn from; 1 image has none", "tested on val"],
    );
    for (spec, class) in [("", 0), (":val", 0), (":test", 1)] {
        assert_eq!(open(&folder, spec).val.unwrap().objects[0][0].class, class, "{spec}");
    }
    folder.write("data.yaml", &format!("{YAML}kpt_shape: [1, 2]\n"));
    let first = open(&folder, "").train.objects[0][1].xyxy;
    assert_eq!(first, [0.0, 0.0, 5.0, 5.0], "of a pose the first four numbers are the box");
    folder.write("data.yaml", &YAML.replace("images/val", "images/train"));
    says(&open(&folder, ""), &["3 pictures are in both parts"]);
    assert!(!open(&folder, ":train").understood.lines().join(" ").contains("both parts"));
    folder.remove("data.yaml");
    assert_eq!(open(&folder, ":test").val.unwrap().objects[0][0].class, 1, "by folders");
}

#[test]
fn without_a_folder_to_learn_from_what_is_outside_of_parts_is_taken() {
    let folder = yolo();
    folder.remove("data.yaml");
    folder.remove("images/train");
    let set = open(&folder, "");
    assert_eq!((set.train.source.len(), set.val.is_none()), (2, true));
    says(&set, &["there is no part train: val, test is taken for it", "val, test 2 images"]);
    assert_eq!(names(open(&folder, ":test").val.as_ref().unwrap()), ["images/test/d.jpg"]);
    folder.picture("images/e.jpg", 20, 10);
    folder.write("labels/e.txt", "1 .5 .5 1 1");
    let set = open(&folder, "");
    assert_eq!(
        (names(&set.train), names(set.val.as_ref().unwrap())),
        (vec!["images/e.jpg".to_owned()], vec!["images/val/c.jpg".to_owned()])
    );
}

#[test]
fn an_image_with_bad_labels_is_skipped_as_the_loader_skips_pictures() {
    let folder = yolo();
    for (labels, words) in [
        ("1 .5 .5 1", "expected a class number and a box"),
        ("2 .5 .5 1 1", "from 0 to 1"),
        ("1 .5 .5 1 inf", "expected a class number and a box"),
        ("1 10 5 20 10", "expected a box in fractions of the picture"),
    ] {
        folder.write("labels/train/a.txt", labels);
        let set = open(&folder, "");
        has(&set.train.source.load(0).unwrap_err().to_string(), &[words]);
        says(&set, &["1 image with unreadable labels", words]);
        let config =
            |max_bad_fraction| LoaderConfig { batch_size: 3, max_bad_fraction, ..LoaderConfig::default() };
        let loader = |fraction| {
            AnnotatedLoader::new(set.train.clone(), DetectionViews::default(), config(fraction)).unwrap()
        };
        let some = loader(0.5);
        assert!(some.epoch(0, 0).all(|batch| batch.is_ok()));
        let bad: Vec<String> = some.bad_files().into_iter().map(|bad| bad.name).collect();
        assert!(bad.len() == 1 && bad[0].ends_with("a.jpg"), "{bad:?}");
        let refused = loader(0.0).epoch(0, 0).find_map(Result::err).expect("too many").to_string();
        has(&refused, &["1 of 3 images are unreadable", words]);
    }
    folder.write("labels/train/b.txt", "x");
    refused(&folder, "", &["images/train", "no boxes", "unreadable labels"]);
}

#[test]
fn without_boxes_it_is_said_what_would_be_some() {
    let folder = Folder::new(&[("train/cat/1.jpg", ""), ("train/dog/2.jpg", "")]);
    refused(&folder, "", &["no boxes", "JPEGImages", "YOLO", "COCO"]);
    refused(&folder, "nowhere", &["nowhere"]);
    for spec in ["scenes:0", "scenes:x", "scenes:10:64:1", "scenes:1000000000"] {
        assert!(open_boxed(spec).is_err(), "{spec}");
    }
    let set = open_boxed("scenes:20:64").unwrap();
    let val = set.val.unwrap();
    assert_eq!((set.train.objects.len(), val.objects.len(), set.classes.len()), (20, 100, 10));
    assert_ne!(set.train.objects[0], val.objects[0]);
}

#[test]
fn real_boxes() {
    let Some(folder) = real("coco128-320.tar") else { return };
    let set = open_boxed(&folder.path().join("coco128-320").display().to_string()).unwrap();
    let val = set.val.as_ref().unwrap();
    assert_eq!((set.train.source.len(), val.source.len(), set.classes.len()), (128, 128, 80));
    assert_eq!(set.classes[0], "person");
    let people = |part: &BoxedPart| part.objects.iter().flatten().filter(|o| o.class == 0).count();
    assert_eq!((people(&set.train), people(val)), (254, 350));
    assert_eq!(set.train.objects.iter().filter(|objects| objects.is_empty()).count(), 2);
    says(&set, &["2 images have no label file", "2 label files without an image"]);
    // 45 0.479492 0.688771 0.955609 0.5955 in 320 × 240.
    let expected = [0.539, 93.845, 306.334, 236.765];
    let first = set.train.objects[0][0];
    assert!(first.class == 45 && first.xyxy.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.01), "{first:?}");
}
