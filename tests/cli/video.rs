//! `ocelli eval video`.

use std::fs;
use std::path::{Path, PathBuf};

use ocelli::eval::mask::Mask;
use ocelli::eval::segmentation::{BOUNDARY_THRESHOLD, SequenceStatistics, boundary, region_similarity};
use serde_json::Value;

use super::command::{ocelli, refused, stdout};

const CPU: [&str; 2] = ["--device", "cpu"];
const WIDTH: usize = 96;
const HEIGHT: usize = 64;

/// The object at a pixel of a frame: a left one that moves right, and a right one that stays.
fn object(frame: usize, x: usize, y: usize) -> u8 {
    let inside = |left: usize, top: usize| (left..left + 24).contains(&x) && (top..top + 32).contains(&y);
    match (inside(8 + 2 * frame, 16), inside(64, 8)) {
        (true, _) => 1,
        (false, true) => 2,
        _ => 0,
    }
}

fn mask(frame: usize) -> Vec<u8> {
    (0..WIDTH * HEIGHT).map(|i| object(frame, i % WIDTH, i / WIDTH)).collect()
}

pub fn write_frame(path: &Path, frame: usize) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let picture = image::RgbImage::from_fn(WIDTH as u32, HEIGHT as u32, |x, y| {
        let noise = ((x * 31 + y * 17) % 23) as u8;
        image::Rgb(match object(frame, x as usize, y as usize) {
            0 => [40 + noise, 90, 60],
            1 => [220, 60 + noise, 40],
            _ => [50, 80, 200 + noise],
        })
    });
    picture.save(path).unwrap();
}

fn write_mask(path: &Path, color: png::ColorType, size: [usize; 2], values: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), size[0] as u32, size[1] as u32);
    encoder.set_color(color);
    encoder.set_depth(png::BitDepth::Eight);
    if color == png::ColorType::Indexed {
        encoder.set_palette((0..=255u8).flat_map(|i| [i, 255 - i, 7]).collect::<Vec<u8>>());
    }
    encoder.write_header().unwrap().write_image_data(values).unwrap();
}

/// A PNG's indices and its palette.
fn read_mask(path: &Path) -> (Vec<u8>, Vec<u8>) {
    let mut decoder = png::Decoder::new(std::io::BufReader::new(fs::File::open(path).unwrap()));
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().unwrap();
    assert_eq!(reader.info().color_type, png::ColorType::Indexed, "{}", path.display());
    let palette = reader.info().palette.clone().unwrap().into_owned();
    let mut values = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut values).unwrap();
    (values, palette)
}

struct Davis(tempfile::TempDir);

impl Davis {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn text(&self, path: &str) -> String {
        self.at(path).display().to_string()
    }

    /// Frames, and masks of as many of them, with indices.
    fn sequence(&self, name: &str, frames: usize, masks: usize) {
        for frame in 0..frames {
            write_frame(&self.frame(name, frame), frame);
        }
        for frame in 0..masks {
            write_mask(&self.mask(name, frame), png::ColorType::Indexed, [WIDTH, HEIGHT], &mask(frame));
        }
    }

    fn frame(&self, name: &str, frame: usize) -> PathBuf {
        self.at(&format!("davis/JPEGImages/480p/{name}/{frame:05}.png"))
    }

    fn mask(&self, name: &str, frame: usize) -> PathBuf {
        self.at(&format!("davis/Annotations/480p/{name}/{frame:05}.png"))
    }

    fn list(&self, path: &str, names: &str) {
        let path = self.at(&format!("davis/ImageSets/{path}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, names).unwrap();
    }

    fn args(&self, rest: &[&str]) -> Vec<String> {
        let data = self.text("davis");
        let all = [&["eval", "video", "--data", &data, "--size", "64"], &CPU[..], rest].concat();
        all.into_iter().map(str::to_owned).collect()
    }

    fn json(&self, rest: &[&str]) -> Value {
        let args = self.args(&[&["--json"], rest].concat());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        serde_json::from_str(&stdout(&ocelli(&args))).unwrap()
    }

    fn refused(&self, rest: &[&str], words: &[&str]) {
        let args = self.args(&[&["--weights", VIT], rest].concat());
        refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), words);
    }
}

const VIT: &str = "random:vit-32x2x2/8";

#[test]
fn davis_2017_is_scored_and_its_masks_are_written() {
    let davis = Davis::new();
    davis.sequence("moving", 6, 5);
    davis.sequence("other", 4, 4);
    davis.sequence("unlisted", 3, 3);
    davis.list("2017/val.txt", "other\nmoving\n");
    let out = davis.text("out");
    let found = davis.json(&["--weights", VIT, "--out", &out]);
    assert_eq!(found["year"], 2017);
    let said = found["understood"].as_str().unwrap();
    assert!(
        said.contains("ImageSets/2017") && said.contains("2 sequences") && said.contains("10 frames"),
        "{said}"
    );
    assert_eq!(found["weights"]["std"], serde_json::json!([0.228, 0.224, 0.225]), "as the published evaluation");
    let sequences = found["sequences"].as_array().unwrap();
    assert_eq!(sequences.len(), 2);
    assert_eq!((&sequences[0]["name"], &sequences[1]["name"]), (&"other".into(), &"moving".into()));
    let moving = &sequences[1];
    // First and last frame are left out; the last has no mask here.
    assert_eq!((&moving["frames"], &moving["scored_frames"]), (&6.into(), &4.into()));
    assert_eq!((&moving["network_width"], &moving["network_height"]), (&64.into(), &64.into()));

    // The masks on disk have the scores that were printed.
    let path = |frame: usize| Path::new(&out).join(format!("moving/{frame:05}.png"));
    let (first, palette) = read_mask(&path(0));
    assert_eq!(first, mask(0), "the first is the given one");
    assert_eq!((&palette[..9], palette.len()), (&[0, 0, 0, 128, 0, 0, 0, 128, 0][..], 768));
    let mut means = Vec::new();
    for object in [1u8, 2] {
        let of = |values: &[u8]| Mask::new(WIDTH, HEIGHT, values.iter().map(|v| *v == object).collect()).unwrap();
        let (mut j, mut f) = (Vec::new(), Vec::new());
        for frame in 1..5 {
            let (predicted, truth) = (of(&read_mask(&path(frame)).0), of(&mask(frame)));
            j.push(region_similarity(&predicted, &truth, None).unwrap());
            f.push(boundary(&predicted, &truth, None, BOUNDARY_THRESHOLD).unwrap().f);
        }
        let row = &moving["objects"][usize::from(object) - 1];
        for (name, values) in [("J", &j), ("F", &f)] {
            let want = SequenceStatistics::of(values).unwrap();
            for (key, want) in [("mean", want.mean), ("recall", want.recall), ("decay", want.decay)] {
                assert!((row[name][key].as_f64().unwrap() - want).abs() < 1e-9, "{name} {key} of object {object}");
            }
            means.push(want.mean);
        }
    }
    let mean = means.iter().sum::<f64>() / 4.0;
    assert!((moving["J&F"].as_f64().unwrap() - mean).abs() < 1e-9);
    // The colours tell the objects apart, even to random weights.
    assert!(moving["J"].as_f64().unwrap() > 0.4, "{moving}");
    // The benchmark's mean is over objects.
    let jf = |s: &Value| s["J&F"].as_f64().unwrap();
    assert!((jf(&found["overall"]) - (jf(&sequences[0]) + jf(moving)) / 2.0).abs() < 1e-9);
    assert_eq!(found["overall"]["objects"], 4);
    assert!(path(5).exists() && !path(6).exists());
    let sheet = image::open(Path::new(&out).join("moving.png")).unwrap();
    assert!(sheet.width() > 3 * 96);

    // Again, over its own files; as text.
    let args = davis.args(&["--weights", VIT, "--out", &out]);
    let text = stdout(&ocelli(&args.iter().map(String::as_str).collect::<Vec<_>>()));
    for words in ["DAVIS-2017", "moving", "object 2", "mean over 4 objects", "propagation", "random vit-32x2x2/8"]
    {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }
    assert!(!text.contains("what an untrained network gets"), "this is one");
}

#[test]
fn davis_2016_without_lists_and_with_another_network() {
    let davis = Davis::new();
    for frame in 0..7 {
        write_frame(&davis.frame("one", frame), frame);
        let values: Vec<u8> = mask(frame).iter().map(|v| if *v > 0 { 255 } else { 0 }).collect();
        write_mask(&davis.mask("one", frame), png::ColorType::Grayscale, [WIDTH, HEIGHT], &values);
    }
    let resnet = ["--weights", "random:resnet-18c4", "--cell", "8", "--stride", "2"];
    let found = davis.json(&[&resnet[..], &["--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25"]].concat());
    assert_eq!(found["year"], 2016);
    assert!(found["understood"].as_str().unwrap().contains("a guess"), "{found}");
    assert_eq!((&found["weights"]["std"][0], &found["protocol"]["cell_px"]), (&0.25.into(), &8.into()));
    let one = &found["sequences"][0];
    assert_eq!((&one["frames"], &one["scored_frames"]), (&4.into(), &2.into()), "every second frame");
    assert_eq!(one["objects"].as_array().unwrap().len(), 1);
    assert_eq!(found["overall"]["objects"], 1);
    let found = davis.json(&["--weights", VIT, "--frames", "3", "--year", "2016", "--last-frames", "0"]);
    assert_eq!((&found["sequences"][0]["frames"], &found["protocol"]["last_frames"]), (&3.into(), &0.into()));
    // DAVIS-2016's own lists name files.
    davis.list("480p/val.txt", "/JPEGImages/480p/one/00000.jpg /Annotations/480p/one/00000.png\n");
    let found = davis.json(&["--weights", VIT]);
    assert_eq!((&found["year"], &found["sequences"][0]["name"]), (&2016.into(), &"one".into()));
}

#[test]
fn a_sequence_with_only_its_first_mask_is_carried_through_but_not_scored() {
    let davis = Davis::new();
    davis.sequence("test", 4, 1);
    davis.refused(&[], &["no sequence has masks to compare with", "--out"]);
    let out = davis.text("out");
    let found = davis.json(&["--weights", VIT, "--out", &out]);
    let test = &found["sequences"][0];
    assert_eq!(
        (&test["scored_frames"], &test["J"], &found["overall"]["J&F"]),
        (&0.into(), &Value::Null, &Value::Null)
    );
    assert_eq!(fs::read_dir(Path::new(&out).join("test")).unwrap().count(), 4);
}

#[test]
fn bad_davis_is_refused_in_words() {
    let davis = Davis::new();
    let root = davis.text("davis");
    davis.refused(&[], &[&root, "JPEGImages/480p"]);
    fs::create_dir_all(davis.at("davis")).unwrap();
    davis.refused(&[], &["JPEGImages", "no such folder", "Annotations/480p"]);
    davis.sequence("good", 4, 4);
    let indexed = png::ColorType::Indexed;
    davis.refused(&["--split", "val"], &["--split val", "no ImageSets", "--sequence"]);
    davis.refused(&["--sequence", "nobody"], &["nobody", "there are good"]);
    davis.list("2017/train.txt", "good\n");
    davis.refused(&[], &["2017/val.txt", "no such file", "--split"]);
    davis.list("2017/val.txt", "\n");
    davis.refused(&[], &["val.txt", "found none"]);
    davis.list("2017/val.txt", "good\ngone\n");
    davis.refused(&[], &["lists gone", "no such folder"]);
    davis.list("2017/val.txt", "good\n");
    fs::create_dir_all(davis.at("davis/JPEGImages/480p/empty")).unwrap();
    davis.refused(&["--sequence", "empty"], &["empty", "found no image"]);
    davis.sequence("short", 1, 1);
    davis.refused(&["--sequence", "short"], &["short", "at least 2 frames, found 1"]);

    let out = davis.at("out");
    let one = |name: &str, spoil: &dyn Fn(&str), words: &[&str]| {
        davis.sequence(name, 4, 4);
        spoil(name);
        davis.refused(&["--sequence", "good", name, "--out", out.to_str().unwrap()], words);
        assert!(!out.exists(), "{name}: what was wrong is said before anything is written");
    };
    one(
        "none",
        &|s| fs::remove_dir_all(davis.at(&format!("davis/Annotations/480p/{s}"))).unwrap(),
        &["mask of the first frame", "no annotations"],
    );
    one("hole", &|s| fs::remove_file(davis.mask(s, 2)).unwrap(), &["00002.png is missing"]);
    one("orphan", &|s| fs::remove_file(davis.frame(s, 2)).unwrap(), &["00002.png", "no frame of that name"]);
    one(
        "small",
        &|s| write_mask(&davis.mask(s, 2), indexed, [48, 32], &vec![1; 48 * 32]),
        &["00002.png", "as large as its frame, 96 × 64", "48 × 32"],
    );
    one(
        "first",
        &|s| write_mask(&davis.mask(s, 0), indexed, [48, 32], &vec![1; 48 * 32]),
        &["00000.png", "as large as its frame, 96 × 64", "48 × 32"],
    );
    one("frame", &|s| image::RgbImage::new(20, 30).save(davis.frame(s, 3)).unwrap(), &["00003.png", "20 × 30"]);
    one(
        "blank",
        &|s| write_mask(&davis.mask(s, 0), indexed, [WIDTH, HEIGHT], &[0; WIDTH * HEIGHT]),
        &["expected an object in the mask of the first frame"],
    );
    one(
        "void",
        &|s| write_mask(&davis.mask(s, 0), indexed, [WIDTH, HEIGHT], &[255; WIDTH * HEIGHT]),
        &["expected an object", "--year 2016"],
    );
    one("colours", &|s| write_frame(&davis.mask(s, 0), 0), &["palette PNG", "--year 2016"]);
    one(
        "wide",
        &|s| image::ImageBuffer::<image::Luma<u16>, _>::new(96, 64).save(davis.mask(s, 0)).unwrap(),
        &["16 bits", "more than 255 objects"],
    );
    one("text", &|s| fs::write(davis.mask(s, 0), "no picture").unwrap(), &["00000.png", "expected a mask as PNG"]);

    for (flag, value, words) in [
        ("--top-k", "0", "top_k"),
        ("--temperature", "0", "temperature"),
        ("--stride", "0", "at least 1"),
        ("--cell", "7", "stride of 8 px"),
        ("--year", "2018", "2016, 2017"),
    ] {
        davis.refused(&[flag, value], &[words]);
    }
    let small = ["eval", "video", "--data", &root, "--weights", VIT, "--size", "32"];
    refused(&[&small[..], &CPU].concat(), &["at least 64 px"]);
    // A file that is not ours stays.
    fs::create_dir_all(out.join("good")).unwrap();
    let holiday = out.join("good/00002.png");
    image::RgbImage::new(3, 3).save(&holiday).unwrap();
    let before = fs::read(&holiday).unwrap();
    davis.refused(&["--out", out.to_str().unwrap()], &["good/00002.png", "another file"]);
    assert_eq!((fs::read(&holiday).unwrap(), fs::read_dir(&out).unwrap().count()), (before, 1));
}
