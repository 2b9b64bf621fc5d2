//! Label maps of folders as people have them, and what is wrong with some.

use super::super::test_folder::{Folder, has, real};
use super::palettes::voc_colour;
use super::*;

fn open(folder: &Folder, name: &str) -> MaskedSet {
    open_masked(&folder.at(name)).unwrap()
}

fn refused(folder: &Folder, name: &str, words: &[&str]) {
    has(&open_masked(&folder.at(name)).err().expect("an error").to_string(), words);
}

fn says(set: &MaskedSet, words: &[&str]) {
    has(&set.understood.lines().join("\n"), words);
}

fn labels(part: &MaskedPart, index: usize) -> Vec<u8> {
    part.maps.label_map(index).unwrap().labels
}

fn names(part: &MaskedPart) -> Vec<String> {
    (0..part.source.len()).map(|i| part.source.name(i)).collect()
}

const PLAIN: [u8; 6] = [0, 1, 255, 1, 0, 0];

#[test]
fn maps_of_voc() {
    let root = "dev/VOC2012";
    let folder = Folder::new(&[]);
    for id in ["a", "b", "c", "d"] {
        folder.write(&format!("{root}/JPEGImages/{id}.jpg"), "");
    }
    let lists = |name: &str, ids: &str| folder.write(&format!("{root}/ImageSets/Segmentation/{name}.txt"), ids);
    lists("train", "a\n");
    lists("val", "b\n");
    folder.map(&format!("{root}/SegmentationClass/a.png"), 3, &PLAIN);
    folder.map(&format!("{root}/SegmentationClass/b.png"), 3, &[20; 6]);
    let set = open(&folder, "");
    assert_eq!((set.classes.len(), set.classes[15].as_str(), set.palette[15]), (21, "person", [192, 128, 128]));
    assert_eq!((names(&set.train), labels(&set.train, 0)), (vec!["a".to_owned()], PLAIN.to_vec()));
    assert_eq!(labels(set.val.as_ref().unwrap(), 0), [20; 6]);
    says(&set, &["train 1 image, val 1 image, 21 classes"]);

    // Maps that were drawn later, in colours; what is held out stays so.
    lists("train_aug", "a\nb\nc\ngone\n");
    let colours = [voc_colour(0), voc_colour(15), [224, 224, 192], voc_colour(0), voc_colour(0), voc_colour(2)];
    for id in ["a", "b", "c"] {
        folder.colours(&format!("{root}/SegmentationClassAug/{id}.png"), 3, &colours);
    }
    let set = open(&folder, "");
    assert_eq!((names(&set.train).join(" "), labels(&set.train, 1)), ("a c".into(), vec![0, 15, 255, 0, 0, 2]));
    assert_eq!(labels(set.val.as_ref().unwrap(), 0), [20; 6]);
    says(&set, &["1 training image that is held out (b)", "1 listed image without a file or a map (gone)"]);
    says(
        &open(&folder, ":train"),
        &["train_aug 2 images, train_aug 2 images", "on what is learnt from, as asked for"],
    );
    refused(&folder, ":test", &["no part test", "found train, val"]);

    folder.map(&format!("{root}/SegmentationClass/b.png"), 3, &[21; 6]);
    let set = open(&folder, "");
    says(&set, &["1 of the 3 maps cannot be used", "b.png", "value 21"]);
    let message = set.val.unwrap().maps.label_map(0).unwrap_err().to_string();
    has(&message, &["b.png", "value 21 at (0, 0)", "expected 0 to 20, or 255"]);
}

#[test]
fn of_several_years_of_voc_the_newest_is_read() {
    let folder = Folder::new(&[]);
    for (year, train, val) in [("VOC2007", "000033", "1"), ("VOC2012", "2008_1", "2007_000033")] {
        for (list, id) in [("train", train), ("val", val)] {
            folder.write(&format!("{year}/ImageSets/Segmentation/{list}.txt"), id);
            folder.write(&format!("{year}/JPEGImages/{id}.jpg"), "");
            folder.map(&format!("{year}/SegmentationClass/{id}.png"), 3, &PLAIN);
        }
    }
    // Objects' names, without the background.
    folder.write("VOC2012/labels.txt", "aeroplane\nbicycle\n");
    let set = open(&folder, "");
    assert_eq!(
        (names(&set.train), names(set.val.as_ref().unwrap())),
        (vec!["2008_1".to_owned()], vec!["2007_000033".to_owned()])
    );
    says(&set, &["of 2 VOC folders", "VOC2012 alone is read", "labels.txt is not used", "found 2 names"]);
    assert_eq!(set.classes[1], "aeroplane");
    folder.write("VOC2012/labels.txt", "a 0 0 0\nb 128 0 0\n");
    assert_eq!(open(&folder, "").classes, ["a", "b"]);
}

#[test]
fn maps_of_cityscapes() {
    let folder = Folder::new(&[]);
    for (part, city) in [("train", "aachen"), ("val", "ulm")] {
        folder.write(&format!("leftImg8bit/{part}/{city}/x_leftImg8bit.png"), "");
        folder.map(&format!("gtFine/{part}/{city}/x_gtFine_labelIds.png"), 3, &[7, 33, 0, 11, 255, 26]);
    }
    folder.write("leftImg8bit/train/aachen/y_leftImg8bit.png", "");
    let set = open(&folder, "");
    assert_eq!((set.classes.len(), set.classes[13].as_str(), set.palette[13]), (19, "car", [0, 0, 142]));
    assert_eq!(
        (names(&set.train).join(" "), labels(&set.train, 0)),
        ("train/aachen/x".into(), vec![0, 18, 255, 2, 255, 13])
    );
    assert_eq!(names(set.val.as_ref().unwrap()), ["val/ulm/x"]);
    says(&set, &["1 image without a map (train/aachen/y)", "gtFine/…_gtFine_labelIds.png"]);
    folder.map("gtFine/train/aachen/x_gtFine_labelTrainIds.png", 3, &[18, 0, 255, 1, 1, 1]);
    let set = open(&folder, "");
    assert_eq!(labels(&set.train, 0), [18, 0, 255, 1, 1, 1]);
    assert_eq!(labels(set.val.as_ref().unwrap(), 0), [0, 18, 255, 2, 255, 13], "maps of the other kind");
    says(&set, &["_labelIds.png and labelTrainIds.png, 19 classes"]);
}

#[test]
fn maps_of_camvid() {
    let folder = Folder::new(&[]);
    for part in ["train", "val", "test"] {
        folder.write(&format!("CamVid/{part}/1.jpg"), "");
        folder.map(&format!("CamVid/{part}annot/1.png"), 3, &[0, 10, 11, 11, 3, 255]);
    }
    let set = open(&folder, "");
    let expected = [0, 10, 255, 255, 3, 255];
    assert_eq!((set.classes.len(), set.classes[3].as_str(), set.palette[3]), (11, "road", [128, 64, 128]));
    assert_eq!(labels(&set.train, 0), expected);
    says(&set, &["train 1 image, val 1 image", "evaluated on val", ":test", "1 image of another part"]);
    folder.write("CamVid/classes.txt", "0 sky\n3 road\n10 bike\n11 Void\n");
    let set = open(&folder, ":test");
    assert_eq!(
        (set.classes.join(" "), labels(&set.train, 0)),
        ("sky road bike".into(), vec![0, 2, 255, 255, 1, 255])
    );
    assert_eq!(names(set.val.as_ref().unwrap()), ["CamVid/test/1.jpg"]);
    says(&set, &["evaluated on test, as asked for", "ignored: Void (11) and 255"]);
}

#[test]
fn maps_of_numbers_and_of_colours_that_nothing_names() {
    let folder = Folder::new(&[("images/a.jpg", ""), ("images/b.jpg", ""), ("images/c.jpg", "")]);
    folder.map("masks/a.png", 3, &PLAIN);
    folder.map("masks/b_mask.png", 3, &[255; 6]);
    folder.map("masks/d.png", 3, &PLAIN);
    let set = open(&folder, "");
    assert_eq!(
        (set.classes.join(" "), labels(&set.train, 0), set.val.is_none()),
        ("0 1".into(), PLAIN.to_vec(), true)
    );
    assert_eq!(labels(&set.train, 1), [255; 6]);
    says(&set, &["1 image without a map (images/c.jpg)", "1 map that is not used (masks/d.png)"]);
    says(&set, &["1 of the 2 maps has no labelled pixel", "b_mask.png", "no val or test part"]);
    folder.map("masks/a.png", 3, &[255, 0, 0, 255, 0, 0]);
    let set = open(&folder, "");
    assert_eq!(
        (set.classes.join(" "), labels(&set.train, 0)),
        ("background object".into(), vec![1, 0, 0, 1, 0, 0])
    );
    says(&set, &["contain only 0 and 255, read as background and object; add classes.txt"]);
    folder.write("classes.txt", "skin\nspot\n");
    let set = open(&folder, "");
    assert_eq!((set.classes.join(" "), labels(&set.train, 0)), ("skin spot".into(), vec![1, 0, 0, 1, 0, 0]));
    says(&set, &["contain only 0 and 255, so 255 is spot"]);
    folder.write("classes.txt", "skin\nspot\nhair\n");
    let set = open(&folder, "");
    assert_eq!(labels(&set.train, 0), [255, 0, 0, 255, 0, 0]);
    says(&set, &["2 of 3 listed classes are in none of the 2 maps: spot, hair"]);
    folder.remove("classes.txt");
    folder.write("data.yaml", "train: images\nnames: [cat, dog]\n");
    assert_eq!(open(&folder, "").classes, ["background", "object"], "the file is about boxes");
    folder.remove("data.yaml");
    folder.map("masks/a.png", 3, &[255; 6]);
    refused(&folder, "", &["no labels", "every pixel of the 2 maps is ignored"]);

    let [sky, road] = [[9, 9, 9], [1, 2, 3]];
    folder.colours("masks/a.png", 3, &[sky, sky, road, sky, road, road]);
    folder.colours("masks/b_mask.png", 3, &[sky; 6]);
    let set = open(&folder, "");
    assert_eq!((set.classes.join(" "), set.palette), ("#090909 #010203".into(), vec![sky, road]));
    assert_eq!(labels(&set.train, 0), [0, 0, 1, 0, 1, 1]);
    folder.write("classes.txt", "road 1 2 3\nunlabelled 9 9 9\n");
    let set = open(&folder, "");
    assert_eq!((set.classes.join(" "), labels(&set.train, 0)), ("road".into(), vec![255, 255, 0, 255, 0, 0]));
    folder.write("classes.txt", "road 1 2 3\nsky 9 9 8\n");
    refused(&folder, "", &["none of the 2 maps can be used", "colour 9 9 9"]);
    folder.write("classes.txt", "road\nsky\n");
    refused(&folder, "", &["2 maps have colours", "classes.txt names none", "NAME R G B"]);
}

/// A map with a palette.
fn paletted(folder: &Folder, name: &str, values: [u8; 6], palette: &[[u8; 3]]) {
    let mut encoder = png::Encoder::new(std::fs::File::create(folder.at(name)).unwrap(), 3, 2);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(palette.concat());
    encoder.write_header().unwrap().write_image_data(&values).unwrap();
}

#[test]
fn maps_are_read_by_what_their_values_are() {
    let folder = Folder::new(&[("images/a.jpg", ""), ("images/b.jpg", "")]);
    folder.map("masks/a.png", 3, &PLAIN);
    let [sky, road, car] = [[9, 9, 9], [1, 2, 3], [4, 5, 6]];
    paletted(&folder, "masks/a.png", [0, 1, 1, 1, 0, 0], &[sky, road]);
    paletted(&folder, "masks/b.png", [0, 1, 0, 0, 0, 0], &[sky, road, car]);
    assert_eq!(open(&folder, "").classes, ["0", "1"], "what is not used does not count");
    paletted(&folder, "masks/b.png", [0, 1, 0, 0, 0, 0], &[sky, car]);
    let set = open(&folder, "");
    assert_eq!(set.palette, [sky, road, car]);
    assert_eq!((labels(&set.train, 0), labels(&set.train, 1)), (vec![0, 1, 1, 1, 0, 0], vec![0, 2, 0, 0, 0, 0]));
    says(&set, &["maps are read by their colours", "palettes of the 2 maps differ", "b.png shows 1"]);
    folder.write("classes.txt", "sky\nroad\n");
    refused(&folder, "", &["palettes of the 2 maps differ", "classes.txt names no colours"]);

    // Numbers in three channels.
    for name in ["masks/a.png", "masks/b.png"] {
        folder.colours(name, 3, &[[0; 3], [1; 3], [255; 3], [1; 3], [0; 3], [0; 3]]);
    }
    let set = open(&folder, "");
    assert_eq!((set.classes.join(" "), labels(&set.train, 0)), ("sky road".into(), PLAIN.to_vec()));
    says(&set, &["every colour of the maps is a grey"]);
    folder.remove("classes.txt");
    assert_eq!(labels(&open(&folder, "").train, 0), PLAIN);

    // Smoothed edges.
    folder.picture("images/a.jpg", 65, 1);
    folder.colours("masks/a.png", 65, &(0..65).map(|i| [i, 0, 200]).collect::<Vec<_>>());
    refused(&folder, "", &["2 maps have more than 64 colours", "NAME R G B"]);
    folder.picture("images/a.jpg", 255, 1);
    folder.map("masks/a.png", 255, &(0..255).collect::<Vec<u8>>());
    folder.map("masks/b.png", 3, &PLAIN);
    refused(&folder, "", &["2 maps have 255 greys up to 254"]);
}

#[test]
fn a_map_of_two_pictures_and_one_that_is_no_png_are_told() {
    let folder = Folder::new(&[("images/a.jpg", ""), ("images/a.png", ""), ("images/b.jpg", "")]);
    folder.map("masks/a.png", 3, &PLAIN);
    refused(&folder, "", &["every map is that of several pictures", "images/a.jpg with masks/a.png"]);
    folder.map("masks/b.png", 3, &PLAIN);
    let set = open(&folder, "");
    assert_eq!(names(&set.train), ["images/b.jpg"]);
    says(&set, &["2 images whose maps are other images' too (images/a.jpg with masks/a.png"]);
    folder.remove("masks");
    folder.write("masks/b.jpg", "");
    refused(&folder, "", &["found 1 map that is not PNG (masks/b.jpg); JPEG cannot hold labels, save as PNG"]);
    let folder = Folder::new(&[("images/val/a.jpg", ""), ("images/test/b.jpg", "")]);
    folder.map("masks/val/a.png", 3, &PLAIN);
    folder.map("masks/test/b.png", 3, &PLAIN);
    says(&open(&folder, ""), &["there is no part train: val, test is taken for it", "val, test 2 images"]);
}

#[test]
fn a_map_of_another_size_is_refused_but_where_most_are_of_one_shape() {
    let folder = Folder::new(&[]);
    for (i, size) in [(0, 4), (1, 4), (2, 4)] {
        folder.picture(&format!("images/{i}.jpg"), size, 4);
        folder.map(&format!("labels/{i}.png"), 4, &[1; 16]);
    }
    folder.map("labels/0.png", 2, &[0, 1, 1, 0]);
    let set = open(&folder, "");
    says(&set, &["1 of the 3 maps cannot be used", "0.png", "expected a map of 4x4", "found 2x2"]);
    has(&set.train.maps.label_map(0).unwrap_err().to_string(), &["0.png", "found 2x2"]);
    assert_eq!(labels(&set.train, 1), [1; 16]);
    folder.map("labels/1.png", 8, &[1; 64]);
    let set = open(&folder, "");
    says(&set, &["maps of another size than their pictures (2x2 for 4x4)", "nearest pixels"]);
    assert_eq!(labels(&set.train, 0), [0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 0, 0]);
    folder.map("labels/2.png", 8, &[1; 16]);
    has(&open(&folder, "").train.maps.label_map(2).unwrap_err().to_string(), &["2.png", "found 8x2"]);
}

fn coco(annotations: &str) -> String {
    format!(
        r#"{{"images": [{{"id": 1, "file_name": "a.jpg", "width": 3, "height": 2}}], "annotations": [{annotations}],
           "categories": [{{"id": 4, "name": "cat"}}, {{"id": 9, "name": "dog"}}]}}"#
    )
}

#[test]
fn maps_of_coco_are_drawn() {
    let folder = Folder::new(&[("a.jpg", "")]);
    let object = |category: u32, more: &str| {
        format!(r#"{{"image_id": 1, "category_id": {category}, "segmentation": {more}}}"#)
    };
    let polygon = "[[0, 0, 2, 0, 2, 2, 0, 2]]";
    // Runs down the columns: the middle one of three, and its upper pixel alone.
    let (column, pixel) = (r#"{"size": [2, 3], "counts": [2, 2, 2]}"#, r#"{"size": [2, 3], "counts": "213"}"#);
    for (objects, expected) in [
        (vec![object(4, polygon)], [1, 1, 0, 1, 1, 0]),
        (vec![object(9, column), object(4, polygon)], [1, 2, 0, 1, 2, 0]),
        (vec![object(4, pixel), object(9, column), object(4, "null")], [0, 1, 0, 0, 2, 0]),
        (vec![object(9, column).replace("}}", r#"}, "iscrowd": 1}"#)], [0, 255, 0, 0, 255, 0]),
    ] {
        folder.write("instances.json", &coco(&objects.join(",")));
        let set = open(&folder, "");
        assert_eq!(
            (set.classes.join(" "), labels(&set.train, 0)),
            ("background cat dog".into(), expected.to_vec())
        );
    }
    for (outline, words) in [
        (r#"{"size": [2, 3], "counts": [2, 9]}"#, "runs of 11 pixels for a mask of 3x2"),
        (r#"{"size": [3000, 2], "counts": [6000]}"#, "outlined in 2x3000 pixels, the picture has 3x2"),
        (r#"{"size": [2, 3], "counts": "2~"}"#, "letter"),
    ] {
        folder.write("instances.json", &coco(&object(4, outline)));
        has(&open(&folder, "").train.maps.label_map(0).unwrap_err().to_string(), &["a.jpg", words]);
    }
    let lie = coco(&object(4, polygon)).replace("\"width\": 3", "\"width\": 3000000");
    folder.write("instances.json", &lie);
    assert_eq!(labels(&open(&folder, "").train, 0), [1, 1, 0, 1, 1, 0], "no size that a picture can have");
    folder.write("instances.json", &lie.replace("3000000", "30000"));
    has(&open(&folder, "").train.maps.label_map(0).unwrap_err().to_string(), &["30000x2", "3x2"]);
    folder.write("instances.json", &coco(&object(4, "null")));
    refused(&folder, "", &["no object has a segmentation"]);
}

#[test]
fn without_maps_it_is_said_what_would_be_some() {
    let folder = Folder::new(&[("train/1.jpg", ""), ("val/2.jpg", "")]);
    refused(&folder, "", &["no label maps", "SegmentationClass", "leftImg8bit", "masks/", "trainannot"]);
    refused(&folder, "nowhere", &["nowhere", "no such file or folder"]);
    let set = open_masked("scenes:30:32").unwrap();
    assert_eq!((set.classes.len(), set.classes[0].as_str(), set.palette.len()), (11, "background", 11));
    assert_eq!((set.train.source.len(), set.val.unwrap().source.len()), (30, 100));
    assert!(labels(&set.train, 0).iter().any(|label| *label > 0));
}

#[test]
fn real_maps() {
    if let Some(folder) = real("camvid-240x180.tar") {
        let path = folder.path().join("camvid-240x180").display().to_string();
        let set = open_masked(&path).unwrap();
        assert_eq!((set.train.source.len(), set.val.as_ref().unwrap().source.len()), (367, 101));
        assert_eq!((set.classes.len(), set.palette[3]), (11, [128, 64, 128]));
        says(&set, &["ignored: unlabelled (11)"]);
        let map = set.train.maps.label_map(0).unwrap();
        assert!((map.width, map.height) == (240, 180) && map.labels.iter().all(|l| *l < 11 || *l == 255));
        assert_eq!(open_masked(&format!("{path}:test")).unwrap().val.unwrap().source.len(), 233);
    }
    if let Some(folder) = real("coco128-320.tar") {
        let set = open_masked(&folder.path().join("coco128-320").display().to_string()).unwrap();
        assert_eq!((set.train.source.len(), set.val.as_ref().unwrap().source.len()), (100, 100));
        assert_eq!(set.classes[..2], ["person", "bicycle"]);
        says(&set, &["semantic_segmentation.yaml", "maps of another size than their pictures", "unlabeled (0)"]);
        for part in [&set.train, set.val.as_ref().unwrap()] {
            for i in 0..100 {
                let (map, picture) = (part.maps.label_map(i).unwrap(), part.source.load(i).unwrap());
                assert_eq!([map.width, map.height], [picture.width as usize, picture.height as usize]);
            }
        }
    }
}
