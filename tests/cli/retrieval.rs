//! `ocelli eval retrieval` and `ocelli eval copies` on sets small enough to know the answer.

use std::fs;
use std::path::Path;

use image::{Rgb, RgbImage};
use serde_json::{Value, json};

use super::command::{ocelli, refused, stdout};

const TINY: [&str; 4] = ["--weights", "random:vit-32x2x2/8", "--device", "cpu"];

/// A picture like no other.
fn picture(seed: u32, width: u32, height: u32) -> RgbImage {
    let level = |x: u32, y: u32, c: u32| {
        let wave = f64::from((x / 3 + 1) * (seed % 5 + 1) + y * (seed % 3) + 40 * c) * 0.37 + f64::from(seed);
        (127.0 + 120.0 * wave.sin()) as u8
    };
    RgbImage::from_fn(width, height, |x, y| Rgb([level(x, y, 0), level(y, x, seed % 4), level(x + y, seed, 2)]))
}

/// A pickle of protocol 2, as Python writes plain lists and dicts.
fn pickle(value: &Value) -> Vec<u8> {
    fn write(value: &Value, out: &mut Vec<u8>) {
        let text = |text: &str, out: &mut Vec<u8>| {
            out.push(b'X');
            out.extend((text.len() as u32).to_le_bytes());
            out.extend(text.bytes());
        };
        match value {
            Value::Array(items) => {
                out.extend(b"](");
                items.iter().for_each(|item| write(item, out));
                out.push(b'e');
            }
            Value::Object(map) => {
                out.extend(b"}(");
                for (key, value) in map {
                    text(key, out);
                    write(value, out);
                }
                out.push(b'u');
            }
            Value::String(s) => text(s, out),
            Value::Number(n) if n.is_u64() => {
                out.push(b'J');
                out.extend((n.as_u64().unwrap() as i32).to_le_bytes());
            }
            Value::Number(n) => {
                out.push(b'G');
                out.extend(n.as_f64().unwrap().to_be_bytes());
            }
            _ => panic!("{value}"),
        }
    }
    let mut out = b"\x80\x02".to_vec();
    write(value, &mut out);
    out.push(b'.');
    out
}

/// Six images; the first query is the third image on a larger canvas, the second query is the sixth itself.
fn revisited(folder: &Path) -> Value {
    let jpg = folder.join("roxford5k/jpg");
    fs::create_dir_all(&jpg).unwrap();
    for i in 0..6 {
        picture(i, 48, 32).save(jpg.join(format!("house_{i}.png"))).unwrap();
    }
    let mut canvas = picture(30, 96, 80);
    image::imageops::replace(&mut canvas, &picture(2, 48, 32), 20, 30);
    canvas.save(jpg.join("q_0.png")).unwrap();
    picture(5, 48, 32).save(jpg.join("q_1.png")).unwrap();
    json!({
        "imlist": ["house_0", "house_1", "house_2", "house_3", "house_4", "house_5"],
        "qimlist": ["q_0", "q_1"],
        "gnd": [
            { "bbx": [20.2, 29.9, 68.0, 62.0], "easy": [2], "hard": [], "junk": [0] },
            { "bbx": [0.0, 0.0, 48.0, 32.0], "easy": [5], "hard": [1], "junk": [] },
        ],
    })
}

fn json_of(args: &[&str]) -> Value {
    serde_json::from_str(&stdout(&ocelli(&[args, &TINY, &["--json"]].concat()))).unwrap()
}

#[test]
fn a_revisited_set_is_searched_and_scored() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().display().to_string();
    let truth = revisited(folder.path());
    let gnd = folder.path().join("roxford5k/gnd_roxford5k.pkl");
    fs::write(&gnd, pickle(&truth)).unwrap();
    let base = ["eval", "retrieval", "--data", &data];
    let cropped = json_of(&[&base[..], &["--crop-queries", "--scales", "multi"]].concat());
    let easy = &cropped["results"]["E"];
    assert_eq!((&easy["map"], &easy["mp_at"]["1"], &easy["queries"]), (&json!(100.0), &json!(100.0), &json!(2)));
    assert_eq!(cropped["results"]["H"]["queries"], 1, "the first query has no hard image: {cropped}");
    assert_eq!(cropped["scales"].as_array().unwrap().len(), 3);
    assert_eq!(cropped["data"]["set"], "roxford5k");
    // Whole, the first query is another picture: a wall with the house somewhere in it.
    let text = stdout(&ocelli(&[&base[..], &["--dataset", "roxford5k", "--size", "40"], &TINY].concat()));
    for words in
        ["6 images and 2 queries", "queries: whole", "scales: 1;", "at most 40 px", "\nE ", "\nM ", "\nH "]
    {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }
    // The same as JSON, with the set's own folder named.
    fs::remove_file(&gnd).unwrap();
    fs::write(gnd.with_extension("json"), truth.to_string()).unwrap();
    let own = folder.path().join("roxford5k").display().to_string();
    let again = json_of(&["eval", "retrieval", "--data", &own, "--crop-queries", "--scales", "multi"]);
    assert_eq!(again["results"], cropped["results"]);
}

#[test]
fn classes_stand_in_for_a_ground_truth() {
    let found = json_of(&["eval", "retrieval", "--data", "scenes:120:32"]);
    let row = &found["results"]["class"];
    assert!((0.0..=100.0).contains(&row["map"].as_f64().unwrap()), "{found}");
    assert!(found["protocol"].as_str().unwrap().contains("not a published protocol"));
    assert!(found["results"].get("E").is_none());
    let text = stdout(&ocelli(&[&["eval", "retrieval", "--data", "scenes:40:32"][..], &TINY].concat()));
    assert!(text.contains("This is another protocol"), "{text}");
}

#[test]
fn what_retrieval_cannot_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let data = at("");
    let truth = revisited(folder.path());
    let gnd = folder.path().join("roxford5k/gnd_roxford5k.pkl");
    let run = |extra: &[&str], words: &[&str]| {
        refused(&[&["eval", "retrieval", "--data", &data][..], extra, &TINY].concat(), words);
    };
    run(&[], &["roxford5k/gnd_roxford5k.pkl", "a folder roxford5k without it", "benchmark"]);
    run(&["--dataset", "rparis6k"], &["rparis6k/gnd_rparis6k.pkl", "no rparis6k there"]);
    refused(
        &[&["eval", "retrieval", "--data", &at("none"), "--dataset", "rparis6k"][..], &TINY].concat(),
        &["no such folder"],
    );
    refused(
        &[&["eval", "retrieval", "--data", &at("none")][..], &TINY].concat(),
        &["none", "no such file or folder"],
    );
    refused(&[&["eval", "retrieval", "--data", &at("roxford5k")][..], &TINY].concat(), &["gnd_NAME.pkl"]);
    let with = |pointer: &str, value: Value, words: &[&str]| {
        let mut truth = truth.clone();
        *truth.pointer_mut(pointer).unwrap() = value;
        fs::write(&gnd, pickle(&truth)).unwrap();
        run(&["--crop-queries"], words);
    };
    with("/imlist/3", json!("house_9"), &["roxford5k/jpg", "1 of the 6 images of imlist", "house_9.jpg"]);
    with("/qimlist/0", json!("q_7"), &["1 of the 2 images of qimlist", "q_7.jpg"]);
    with("/gnd/1/easy/0", json!(6), &["gnd_roxford5k.pkl", "gnd[1].easy", "below 6", "found 6"]);
    with("/gnd/0", json!({ "ok": [1], "junk": [] }), &["gnd[0].easy", "before the revision"]);
    with("/gnd/0", json!({ "easy": [1], "hard": [], "junk": [] }), &["--crop-queries", "none for 1 of 2"]);
    let empty = json!({ "bbx": [0.0, 0.0, 9.0, 9.0], "easy": [], "hard": [], "junk": [1] });
    with("/gnd", json!([empty, empty]), &["no query has an image to find"]);
    fs::write(&gnd, b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R.").unwrap();
    run(&[], &["gnd_roxford5k.pkl", "refused", "os.system", "Nothing was run"]);
    fs::write(&gnd, b"not a pickle").unwrap();
    run(&[], &["gnd_roxford5k.pkl", "cannot be read"]);
    fs::write(folder.path().join("gnd_mine.json"), "{").unwrap();
    run(&[], &["several sets", "mine and roxford5k", "--dataset"]);
    run(&["--dataset", "mine"], &["gnd_mine.json", "expected JSON"]);
    // Too small for the smallest scale, every one of them.
    fs::write(&gnd, pickle(&truth)).unwrap();
    run(
        &["--dataset", "roxford5k", "--size", "15", "--scales", "multi"],
        &["no image of the database", "house_0", "at least 8 px"],
    );
    // Folders without classes, with one image, with nothing.
    let flat = at("flat");
    fs::create_dir_all(folder.path().join("flat")).unwrap();
    refused(&[&["eval", "retrieval", "--data", &flat][..], &TINY].concat(), &["flat", "no images found"]);
    picture(1, 16, 16).save(folder.path().join("flat/one.png")).unwrap();
    refused(&[&["eval", "retrieval", "--data", &flat][..], &TINY].concat(), &["folders of classes", "1 image"]);
    refused(
        &[&["eval", "retrieval", "--data", "scenes:40:32", "--crop-queries"][..], &TINY].concat(),
        &["a box for every query"],
    );
}

/// One image of the database cannot be read: it is named and ranked last; a query that cannot be read is left out.
#[test]
fn damaged_images_are_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let truth = revisited(folder.path());
    let own = folder.path().join("roxford5k");
    fs::write(own.join("gnd_roxford5k.json"), truth.to_string()).unwrap();
    fs::write(own.join("jpg/house_5.png"), "broken").unwrap();
    let data = own.display().to_string();
    let found = json_of(&["eval", "retrieval", "--data", &data, "--crop-queries"]);
    let warnings = found["warnings"].to_string();
    assert!(warnings.contains("house_5") && warnings.contains("ranked last"), "{found}");
    // The second query's image is the last of six: (0 + 1/6) / 2, or of five where the hard one is passed over.
    let map = found["results"]["E"]["map"].as_f64().unwrap();
    assert!((map - 100.0 * (1.0 + 0.5 / 5.0) / 2.0).abs() < 1e-9, "{found}");
    fs::write(own.join("jpg/q_1.png"), "broken").unwrap();
    let found = json_of(&["eval", "retrieval", "--data", &data, "--crop-queries"]);
    assert_eq!(found["results"]["E"]["queries"], 1, "{found}");
    assert_eq!(found["results"]["H"], Value::Null, "{found}");
}

/// Four originals and what was made of them.
fn copydays(folder: &Path) {
    let save = |path: String, image: &RgbImage| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image.save(path).unwrap();
    };
    for i in 0..4 {
        let original = picture(7 * i + 1, 40, 32);
        save(format!("original/{}.png", 2000 + i), &original);
        save(format!("jpegqual/3/{}.png", 2000 + i), &original);
        let dark = RgbImage::from_fn(40, 32, |x, y| original.get_pixel(x, y).0.map(|v| v / 2).into());
        save(format!("strong/{}01.png", 2000 + i), &dark);
        save(format!("others/{i}.png"), &picture(100 + i, 32, 32));
    }
    save("strong/999.png".into(), &picture(3, 20, 20));
    save("crops/25/2000.png".into(), &picture(3, 20, 20));
}

#[test]
fn copies_are_found_among_originals() {
    let folder = tempfile::tempdir().unwrap();
    copydays(folder.path());
    let (data, others) = (folder.path().display().to_string(), folder.path().join("others").display().to_string());
    let base = ["eval", "copies", "--data", &data, "--size", "32", "--distractors", &others];
    let found = json_of(&base);
    let row = |found: &Value, block: &str| {
        let rows = found["results"].as_array().unwrap();
        rows.iter().find(|row| row["block"] == block).unwrap_or_else(|| panic!("{block} in {found}")).clone()
    };
    for block in ["original", "jpegqual/3"] {
        let row = row(&found, block);
        assert_eq!(
            (&row["map"], &row["micro_ap"], &row["queries"]),
            (&json!(1.0), &json!(1.0), &json!(4)),
            "{block}"
        );
    }
    let strong = row(&found, "strong");
    assert!(strong["map"].as_f64().unwrap() > 0.0 && strong["queries"] == 4, "{strong}");
    assert_eq!((&found["database"], &found["whitening"]), (&json!(8), &Value::Null));
    let left_out: Vec<&str> = found["left_out"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    assert!(left_out.contains(&"crops/80") && left_out.contains(&"jpegqual/75") && !left_out.contains(&"strong"));
    let notes = found["notes"].to_string();
    assert!(notes.contains("999.png") && notes.contains("left out: 25"), "{notes}");
    // Four images tell of four directions of 64.
    let whitened = json_of(&[&base[..], &["--whiten", &others]].concat());
    assert_eq!(whitened["whitening"]["images"], 4);
    assert!(whitened["whitening"]["directions_raised_to_the_floor"].as_u64().unwrap() >= 60, "{whitened}");
    let warning = whitened["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("4 images for features of 64 numbers") && warning.contains("at least 64"),
        "{warning}"
    );
    assert_ne!(row(&whitened, "strong")["micro_ap"], strong["micro_ap"]);
    let text = stdout(&ocelli(&[&base[..6], &TINY].concat()));
    for words in
        ["4 originals, 2 blocks", "no distractors", "left out", "crops/80", "strong, as papers print it", "µAP"]
    {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }
}

#[test]
fn what_copies_cannot_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let data = at("");
    let run = |extra: &[&str], words: &[&str]| {
        refused(&[&["eval", "copies", "--data", &data, "--size", "32"][..], extra, &TINY].concat(), words);
    };
    refused(&[&["eval", "copies", "--data", &at("none")][..], &TINY].concat(), &["none", "no such folder"]);
    run(&[], &["in the folder original, found none"]);
    copydays(folder.path());
    refused(&[&["eval", "copies", "--data", &data, "--size", "0"][..], &TINY].concat(), &["--size", "found 0"]);
    run(&["--whiten", &at("nowhere")], &["--whiten", "nowhere"]);
    fs::create_dir(folder.path().join("empty")).unwrap();
    run(&["--distractors", &at("empty")], &["--distractors", "no images found"]);
    fs::create_dir(folder.path().join("bad")).unwrap();
    fs::write(folder.path().join("bad/a.jpg"), "broken").unwrap();
    run(&["--whiten", &at("bad")], &["--whiten", "no image could be read", "a.jpg"]);
    fs::write(folder.path().join("original/2001.png"), "broken").unwrap();
    run(&[], &["original/2001.png", "every original"]);
    fs::remove_file(folder.path().join("jpegqual/3/2001.png")).unwrap();
    run(&[], &["jpegqual/3", "expected 4 images", "found 3"]);
    fs::remove_dir_all(folder.path().join("jpegqual")).unwrap();
    for i in 2000..2004 {
        fs::remove_file(folder.path().join(format!("strong/{i}01.png"))).unwrap();
    }
    run(&[], &["strong", "first 4 characters", "2000", "999.png"]);
    fs::remove_dir_all(folder.path().join("strong")).unwrap();
    run(&[], &["found only the originals"]);
}
