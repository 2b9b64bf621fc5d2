//! Folders as people have them, written here, and what is wrong with some.

use super::super::test_folder::{Folder, has};
use super::*;
use Presence::{Absent, Ignored, Present};

impl Folder {
    fn open(&self, name: &str) -> MultiLabelSet {
        open_multi_label(&self.at(name)).unwrap()
    }

    fn refused(&self, name: &str, words: &[&str]) {
        has(&open_multi_label(&self.at(name)).err().expect("an error").to_string(), words);
    }
}

fn classes(set: &MultiLabelSet) -> Vec<&str> {
    set.understood.classes.iter().map(String::as_str).collect()
}

fn lines(set: &MultiLabelSet) -> String {
    set.understood.lines().join("\n")
}

fn says(set: &MultiLabelSet, words: &[&str]) {
    has(&lines(set), words);
}

fn annotation(objects: &[(&str, &str)]) -> String {
    let object = |(name, difficult): &(&str, &str)| {
        format!("  <object>\n    <name>{name}</name>\n    <difficult>{difficult}</difficult>\n  </object>\n")
    };
    format!("<annotation>\n{}</annotation>\n", objects.iter().map(object).collect::<String>())
}

fn voc() -> Folder {
    let root = "VOCdevkit/VOC2007";
    let folder = Folder::new(&[]);
    let write = |name: &str, text: &str| folder.write(&format!("{root}/{name}"), text);
    write("ImageSets/Main/trainval.txt", "000001\n000002\n");
    write("ImageSets/Main/test.txt", "000003\n000004\n000009\n");
    for id in 1..=4 {
        write(&format!("JPEGImages/00000{id}.jpg"), "");
    }
    write("Annotations/000001.xml", &annotation(&[("dog", "0"), ("cat", "1"), ("dog", "1")]));
    write("Annotations/000002.xml", &annotation(&[("cat", "0")]));
    write("Annotations/000003.xml", &annotation(&[("person", "1")]));
    write("Annotations/000004.xml", &annotation(&[("cat", "0"), ("dog", "0")]));
    folder
}

#[test]
fn voc_by_annotations_and_by_lists() {
    let folder = voc();
    let set = folder.open("");
    assert_eq!(classes(&set), ["cat", "dog", "person"]);
    assert_eq!(set.train.presence, [Ignored, Present, Absent, Present, Absent, Absent]);
    assert_eq!(set.test.presence, [Absent, Absent, Ignored, Present, Present, Absent]);
    assert_eq!((set.train.source.len(), set.train.source.name(1)), (2, "000002".to_owned()));
    assert_eq!(set.test.source.load(1).unwrap().width, 3);
    says(&set, &["trainval 2 images, test 2 images, 3 classes (cat, dog, person)", "Annotations/ID.xml"]);
    says(&set, &["1 listed image without a file (000009)"]);

    let main = "VOCdevkit/VOC2007/ImageSets/Main";
    for (class, trainval, test) in [("cat", "0 1", "-1 1 -1"), ("dog", "-1 -1", "1 0 -1")] {
        for (split, first, values) in [("trainval", 1, trainval), ("test", 3, test)] {
            let line =
                |(i, value): (usize, &str)| format!("00000{} {value:>2}\n", if i == 2 { 9 } else { first + i });
            let text: String = values.split(' ').enumerate().map(line).collect();
            folder.write(&format!("{main}/{class}_{split}.txt"), &text);
        }
    }
    let set = folder.open("VOCdevkit");
    assert_eq!(classes(&set), ["cat", "dog"]);
    assert_eq!(set.train.presence, [Ignored, Absent, Present, Absent]);
    assert_eq!(set.test.presence, [Absent, Present, Present, Ignored]);
    says(&set, &["lists of each class"]);

    folder.write(&format!("{main}/dog_test.txt"), "000003 1\n000004 maybe\n");
    folder.refused("", &["dog_test.txt:2", "000004 maybe", "difficult"]);
    folder.write(&format!("{main}/dog_test.txt"), "000003 1\n");
    folder.refused("", &["dog_test.txt", "none for 000004"]);
}

#[test]
fn voc_with_something_missing_is_refused_in_words() {
    let folder = voc();
    let root = "VOCdevkit/VOC2007";
    let xml = format!("{root}/Annotations/000002.xml");
    folder.write(&xml, "<annotation>\n<object>\n</annotation>");
    folder.refused("", &["000002.xml", "not XML"]);
    folder.write(&xml, "<annotation>\n<object>\n</object></annotation>");
    folder.refused("", &["000002.xml:2", "expected a <name>"]);
    folder.write(&xml, "<html/>");
    folder.refused("", &["000002.xml", "<annotation>", "<html>"]);
    folder.remove(&xml);
    says(&folder.open(""), &["1 image without an annotation (000002)"]);
    folder.write(&format!("{root}/ImageSets/Main/trainval.txt"), "\n");
    folder.refused("", &["trainval.txt", "names of images"]);
    folder.write(&format!("{root}/ImageSets/Main/trainval.txt"), "000001\n");
    folder.remove(&format!("{root}/ImageSets/Main/test.txt"));
    folder.refused("", &["trainval.txt alone", "archive of their own"]);
    for (name, id) in [("train", 1), ("val", 4)] {
        folder.write(&format!("{root}/ImageSets/Main/{name}.txt"), &format!("00000{id}\n"));
    }
    says(&folder.open(""), &["train 1 image, val 1 image", "not the published parts"]);
    folder.remove(&format!("{root}/Annotations"));
    folder.refused("", &["no labels", "Annotations/ID.xml", "CLASS_train.txt"]);
    folder.remove(&format!("{root}/ImageSets"));
    folder.refused("", &["trainval.txt and test.txt", "no such folder"]);
    let folder = voc();
    folder.write("VOCdevkit/VOC2012/JPEGImages/a.jpg", "");
    folder.refused("", &["VOC2007", "VOC2012", "name one of them"]);
    let folder = voc();
    folder.remove(&format!("{root}/JPEGImages"));
    folder.refused("", &["JPEGImages"]);
}

const YAML: &str =
    "path: .\ntrain: images/train2017\nval: images/val2017\nnames:\n  0: person\n  1: bus\n  2: cat\n";

fn yolo(labels: &str) -> Folder {
    let folder = Folder::new(&[("data.yaml", YAML), ("images/val2017/c.jpg", ""), ("masks/a.png", "")]);
    for (name, text) in [("a", "0 .5 .5 .1 .1\n2 .5 .5 .1 .1\n\n"), ("b", ""), ("e", "1 0 0 1 0 1 1\n")] {
        folder.write(&format!("images/train2017/{name}.jpg"), "");
        folder.write(&format!("{labels}/train2017/{name}.txt"), text);
    }
    folder.write("images/train2017/d.jpg", "");
    folder.write(&format!("{labels}/val2017/c.txt"), "2 .5 .5 .1 .1\n");
    folder.write(&format!("{labels}/val2017/z.txt"), "2 .5 .5 .1 .1\n");
    folder
}

#[test]
fn yolo_by_a_yaml_file_and_by_folders() {
    for labels in ["labels", "boxes"] {
        let folder = yolo(labels);
        let named = [folder.open(""), folder.open("data.yaml")];
        folder.remove("data.yaml");
        folder.write("classes.txt", "person\nbus\ncat\n\n");
        let by_list = folder.open("");
        folder.remove("classes.txt");
        for set in named.iter().chain([&by_list]) {
            assert_eq!(classes(set), ["person", "bus", "cat"]);
            let expected = [[Present, Absent, Present], [Absent; 3], [Absent; 3], [Absent, Present, Absent]];
            assert_eq!(set.train.presence, expected.concat(), "a, b, d without a label file, e a polygon");
            assert_eq!(set.test.presence, [Absent, Absent, Present]);
            says(set, &["1 image has no label file", "1 label file without an image", "YOLO"]);
        }
        says(&named[0], &["data.yaml", "images/train2017 4 images, images/val2017 1 image"]);
        says(&by_list, &["classes.txt", "1 image outside of images/ (masks/a.png)"]);
        let numbered = folder.open("");
        assert_eq!(classes(&numbered), ["0", "1", "2"]);
        says(&numbered, &["no YAML file or classes.txt"]);
    }
}

#[test]
fn yolo_as_an_export_has_it_beside_the_images_and_without_a_held_out_part() {
    let folder = Folder::new(&[
        ("data.yaml", "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['a b', c]\n"),
        ("train/images/1.jpg", ""),
        ("train/labels/1.txt", "0 0 0 1 1"),
        ("valid/images/2.jpg", ""),
        ("valid/labels/2.txt", "1 0 0 1 1"),
    ]);
    let set = folder.open("");
    assert_eq!((classes(&set), set.train.presence[0], set.test.presence[1]), (vec!["a b", "c"], Present, Present));

    let folder = Folder::new(&[]);
    for i in 0..6 {
        folder.write(&format!("set/{i}.jpg"), "");
        folder.write(&format!("set/{i}.txt"), &format!("{} 0 0 1 1", i % 2));
    }
    let set = folder.open("");
    assert_eq!((set.train.source.len(), set.test.source.len()), (4, 2));
    says(&set, &["every third image is, 2 of 6"]);
}

#[test]
fn malformed_yolo_files_are_named_with_their_line() {
    let folder = yolo("labels");
    let label = "labels/train2017/a.txt";
    for (text, words) in [
        ("0 .5 .5 .1 .1\ncat .5 .5 .1 .1", ["a.txt:2", "expected a class number"]),
        ("0 .5 .5 .1", ["a.txt:1", "0 .5 .5 .1"]),
        ("0 .5 .5 .1 nan", ["a.txt:1", "box"]),
        ("\n3 .5 .5 .1 .1", ["a.txt:2", "from 0 to 2, as 3 are named; found 3"]),
    ] {
        folder.write(label, text);
        folder.refused("", &words);
    }
    folder.write(label, "");
    for (text, words) in [
        ("names: [a\n", ["data.yaml", "not YAML"]),
        ("names:\n  0: a\n  2: b\n", ["data.yaml", "class 1"]),
        ("names: 3\n", ["data.yaml", "list of class names"]),
        ("train: nowhere\nnames: [a, b, c]\n", ["data.yaml", "nothing at nowhere"]),
    ] {
        folder.write("data.yaml", text);
        folder.refused("", &words);
    }
    folder.write("data.yaml", "train: images\n");
    folder.refused("data.yaml", &["names"]);
    folder.refused("labels/train2017/b.txt", &["YAML file"]);
    folder.write("classes.txt", "a\n\nb\n");
    folder.refused("", &["classes.txt:2"]);
}

#[test]
fn without_labels_it_is_said_what_would_be_some() {
    let folder = Folder::new(&[("train/cat/1.jpg", ""), ("train/dog/2.jpg", "")]);
    folder.refused("", &["no labels of several classes", "JPEGImages", "YOLO", "COCO", "eval knn"]);
    folder.refused("nowhere", &["nowhere"]);
    let folder = yolo("labels");
    for name in ["a", "b", "e"] {
        folder.write(&format!("labels/train2017/{name}.txt"), "");
    }
    folder.refused("", &["images/train2017", "no labels", "4 images"]);
}

#[test]
fn voc_annotations_beside_the_images() {
    let folder = Folder::new(&[]);
    for (name, class) in [("train/1", "zebra"), ("train/2", "ant"), ("test/3", "zebra")] {
        folder.write(&format!("{name}.jpg"), "");
        folder.write(&format!("{name}.xml"), &annotation(&[(class, "0")]));
    }
    folder.write("train/4.jpg", "");
    let set = folder.open("");
    assert_eq!(classes(&set), ["ant", "zebra"]);
    assert_eq!(set.train.presence, [Absent, Present, Present, Absent]);
    assert_eq!(set.test.presence, [Absent, Present]);
    says(&set, &["train 2 images, test 1 image", "1 image without a label file (train/4.jpg)"]);
}

const COCO: &str = r#"{"images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"},
    {"id": 9, "file_name": "gone.jpg"}],
  "annotations": [{"image_id": 7, "category_id": 3, "iscrowd": 1}, {"image_id": 8, "category_id": 3, "iscrowd": 1},
    {"image_id": 8, "category_id": 3, "iscrowd": 0}, {"image_id": 8, "category_id": 1}],
  "categories": [{"id": 3, "name": "person"}, {"id": 1, "name": "zebra"}, {"id": 2, "name": "never"}]}"#;

#[test]
fn coco_instances() {
    let files = ["train2017/a.jpg", "train2017/b.jpg", "val2017/a.jpg", "val2017/b.jpg", "test2017/c.jpg"];
    let folder = Folder::new(&files.map(|file| (file, "")));
    for split in ["train2017", "val2017"] {
        folder.write(&format!("annotations/instances_{split}.json"), COCO);
        folder.write(&format!("annotations/captions_{split}.json"), "{}");
    }
    let set = folder.open("");
    assert_eq!(classes(&set), ["zebra", "never", "person"]);
    assert_eq!(set.train.presence, [Absent, Absent, Ignored, Present, Absent, Present]);
    assert_eq!(set.train.source.name(0), "train2017/a.jpg");
    assert_eq!((set.test.presence, set.test.source.name(1)), (set.train.presence, "val2017/b.jpg".to_owned()));
    let set = folder.open("");
    says(&set, &["instances_val2017.json", "2 listed images without a file (gone.jpg, gone.jpg)"]);

    let json = "annotations/instances_val2017.json";
    for (text, words) in [
        (COCO.replace("\"image_id\": 7", "\"image_id\": 70"), ["instances_val2017.json", "image_id 70"]),
        (COCO.replace("\"category_id\": 1", "\"category_id\": 5"), ["annotations[3]", "category_id 5"]),
        (COCO.replace("\"categories\"", "\"classes\""), ["expected COCO's instances", "categories"]),
        (COCO[..80].to_owned(), ["instances_val2017.json", "not JSON"]),
        (
            COCO.replace("a.jpg", "x.jpg").replace("b.jpg", "y.jpg"),
            ["instances_val2017.json", "none of its images"],
        ),
    ] {
        folder.write(json, &text);
        folder.refused("", &words);
    }
    // As an export has it, beside the images.
    let files = ["train/a.jpg", "train/b.jpg", "valid/a.jpg", "valid/b.jpg"];
    let folder = Folder::new(&files.map(|file| (file, "")));
    for split in ["train", "valid"] {
        folder.write(&format!("{split}/_annotations.coco.json"), COCO);
    }
    assert_eq!(folder.open("").test.source.name(0), "valid/a.jpg");
}
