//! `ocelli search`, `ocelli duplicates` and `ocelli features`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tempfile::TempDir;

use super::command::{ocelli, refused, stdout};

const NETWORK: [&str; 6] = ["--weights", "random:vit-32x2x2/8", "--size", "32", "--device", "cpu"];

/// A picture of smooth waves, another for every number.
fn picture(number: u32, side: u32) -> image::RgbImage {
    let wave = |at: f32, way: u32| {
        let speed = 2.0 + (number * 7 + way * 3) as f32 % 11.0;
        (127.5 + 127.5 * (at * speed + number as f32 * (way + 1) as f32).sin()) as u8
    };
    image::RgbImage::from_fn(side, side, |x, y| {
        let (u, v) = (x as f32 / side as f32, y as f32 / side as f32);
        image::Rgb([wave(u, 0), wave(v, 1), wave(u + v, 2)])
    })
}

/// A folder with eight pictures in two classes.
fn photos() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    for number in 0..8 {
        let class = photos.join(["cats", "dogs"][number as usize % 2]);
        fs::create_dir_all(&class).unwrap();
        picture(number, 64).save(class.join(format!("{number}.png"))).unwrap();
    }
    (folder, photos)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&stdout(&ocelli(&[args, &NETWORK, &["--json"]].concat()))).unwrap()
}

/// Names found for the first image.
fn found(answer: &Value) -> Vec<&str> {
    answer["queries"][0]["found"].as_array().unwrap().iter().map(|hit| hit["name"].as_str().unwrap()).collect()
}

#[test]
fn a_folder_is_embedded_once_and_the_index_follows_it() {
    let (folder, photos) = photos();
    let query = folder.path().join("query.jpg");
    picture(3, 96).save(&query).unwrap();
    let sheet = folder.path().join("out/sheet.png");
    let search = ["search", text(&query), "--in", text(&photos), "--top", "3"];
    let said = stdout(&ocelli(&[&search[..], &NETWORK, &["--out", text(&sheet)]].concat()));
    for words in
        ["data: 8 images, 2 classes (cats, dogs)", "8 embedded now", "   1  ", "dogs/3.png", "searched 8 pictures"]
    {
        assert!(said.contains(words), "expected \"{words}\" in: {said}");
    }
    assert!(image::open(&sheet).unwrap().width() > 400);
    let index = photos.join(".ocelli.index");
    let written = fs::read(&index).unwrap();

    // Nothing is embedded twice, and nothing is written.
    let answer = json(&search);
    assert_eq!((&answer["index"]["embedded"], &answer["index"]["pictures"]), (&0.into(), &8.into()));
    assert_eq!((found(&answer)[0], found(&answer).len()), ("dogs/3.png", 3));
    assert!(answer["queries"][0]["found"][0]["similarity"].as_f64().unwrap() > 0.98, "{answer}");
    assert_eq!(fs::read(&index).unwrap(), written);
    assert_eq!(answer["sheet"], Value::Null, "no file is written unasked");

    // A new picture, a changed one, a deleted one.
    picture(3, 64).save(photos.join("cats/copy.png")).unwrap();
    picture(20, 64).save(photos.join("cats/4.png")).unwrap();
    let later = SystemTime::now() + Duration::from_secs(100);
    fs::File::open(photos.join("cats/4.png")).unwrap().set_modified(later).unwrap();
    fs::remove_file(photos.join("dogs/3.png")).unwrap();
    let answer = json(&search);
    let update = &answer["index"];
    assert_eq!((&update["embedded"], &update["deleted_or_changed"]), (&2.into(), &2.into()), "{answer}");
    assert_eq!((found(&answer)[0], &update["pictures"]), ("cats/copy.png", &8.into()));
    assert!(!found(&answer).contains(&"dogs/3.png"));

    // The index as it is: nothing is looked at.
    fs::remove_file(photos.join("dogs/5.png")).unwrap();
    let answer = json(&[&search[..], &["--no-update"]].concat());
    assert_eq!((&answer["index"]["embedded"], &answer["index"]["pictures"]), (&0.into(), &8.into()));

    // A picture of the folder does not find itself.
    let own = photos.join("cats/copy.png");
    let answer = json(&["search", text(&own), "--in", text(&photos), "--top", "100"]);
    assert_eq!((found(&answer).len(), &answer["index"]["pictures"]), (6, &7.into()));
    assert!(!found(&answer).contains(&"cats/copy.png"));
    let left = fs::read_dir(&photos).unwrap().count();
    assert_eq!(left, 3, "two classes and the index");
}

#[test]
fn an_index_of_another_network_or_a_damaged_one_is_refused() {
    let (folder, photos) = photos();
    let query = text(&photos.join("cats/0.png")).to_owned();
    let search = ["search", &query, "--in", text(&photos), "--json"];
    let with = |rest: &[&'static str]| {
        let rest: Vec<String> = rest.iter().map(|r| (*r).to_owned()).collect();
        search.iter().map(|s| (*s).to_owned()).chain(rest).collect::<Vec<String>>()
    };
    let run = |rest: &[&'static str]| ocelli(&with(rest).iter().map(String::as_str).collect::<Vec<_>>());
    let refuse = |rest: &[&'static str], words: &[&str]| {
        refused(&with(rest).iter().map(String::as_str).collect::<Vec<_>>(), words);
    };
    stdout(&run(&NETWORK));
    let index = photos.join(".ocelli.index");
    let good = fs::read(&index).unwrap();
    let other = ["--weights", "random:vit-32x3x2/8", "--size", "32", "--device", "cpu"];
    refuse(&other, &["another network", "vit-32x3x2/8", "vit-32x2x2/8", "--rebuild", "another --index"]);
    let larger = ["--weights", "random:vit-32x2x2/8", "--size", "48", "--device", "cpu"];
    refuse(&larger, &["crop: 32 px in the index, 48 px here"]);
    let normalised = [&NETWORK[..], &["--normalise", "half"]].concat();
    refuse(&normalised, &["normalisation", "0.5, 0.5, 0.5"]);
    assert_eq!(fs::read(&index).unwrap(), good, "nothing is lost");
    // Both are kept, or one is replaced.
    let second = text(&folder.path().join("second.index")).to_owned();
    let args = [&search[..], &other, &["--index", &second]].concat();
    stdout(&ocelli(&args));
    assert_eq!(fs::read(&index).unwrap(), good);
    let answer: Value = serde_json::from_str(&stdout(&run(&[&other[..], &["--rebuild"]].concat()))).unwrap();
    assert_eq!(answer["index"]["embedded"], 8);

    // Cut short: refused in words, made anew when asked.
    let whole = fs::read(&index).unwrap();
    fs::write(&index, &whole[..whole.len() / 2]).unwrap();
    refuse(&other, &[".ocelli.index", "not whole", "--rebuild"]);
    stdout(&run(&[&other[..], &["--rebuild"]].concat()));
    assert_eq!(fs::read(&index).unwrap().len(), whole.len());

    // A file that is no index is nobody's to replace.
    let notes = text(&folder.path().join("notes.txt")).to_owned();
    fs::write(&notes, "mine").unwrap();
    for extra in [None, Some("--rebuild")] {
        let args: Vec<&str> =
            search.iter().copied().chain(NETWORK).chain(["--index", &notes]).chain(extra).collect();
        refused(&args, &["notes.txt", "expected an index that Ocelli wrote"]);
    }
    assert_eq!(fs::read(&notes).unwrap(), b"mine");

    // Another folder's index is not emptied by accident.
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    picture(1, 64).save(elsewhere.join("other.png")).unwrap();
    let args = [&["search", &query, "--in", text(&elsewhere), "--json", "--index", &second], &other[..]];
    refused(&args.concat(), &["none of which is in", "another folder's"]);
}

#[test]
fn bad_input_of_search_is_refused() {
    let (folder, photos) = photos();
    let query = text(&photos.join("cats/0.png")).to_owned();
    let out = text(&folder.path().join("out.png")).to_owned();
    let refuse = |args: &[&str], words: &[&str]| refused(&[args, &NETWORK].concat(), words);
    refuse(
        &["search", &query, "--in", "nowhere-at-all", "--out", &out],
        &["nowhere-at-all", "a folder of pictures"],
    );
    refuse(&["search", &query, "--in", &query, "--out", &out], &["a folder of pictures, found a file"]);
    refuse(&["search", "no.jpg", "--in", text(&photos), "--out", &out], &["no.jpg"]);
    refuse(&["search", &query, "--in", text(&photos), "--no-update", "--out", &out], &["--no-update"]);
    refuse(&["search", &query, "--in", text(&photos), "--top", "0"], &["--top"]);
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    refuse(&["search", &query, "--in", text(&empty), "--out", &out], &["empty"]);
    // Files of the user's stay.
    refuse(&["search", &query, "--in", text(&photos), "--out", &query], &["0.png", "--out"]);
    let html = text(&folder.path().join("mine.html")).to_owned();
    fs::write(&html, "<html>mine").unwrap();
    refuse(&["duplicates", text(&photos), "--out", &html], &["mine.html", "a page that Ocelli wrote"]);
    refuse(&["features", text(&photos), "--map", &html], &["mine.html", "a page that Ocelli wrote"]);
    assert_eq!(fs::read(&html).unwrap(), b"<html>mine");
    refuse(&["duplicates", text(&photos), "--threshold", "1.5"], &["--threshold", "1.5"]);
    assert!(!photos.join(".ocelli.index").exists(), "nothing was embedded");
    // Where nobody may write, whoever they are.
    if cfg!(target_os = "linux") {
        let args = ["search", &query, "--in", text(&photos), "--index", "/proc/photos.index", "--out", &out];
        refuse(&args, &["/proc/photos.index", "cannot be written", "--index"]);
    }
    let few = folder.path().join("few");
    fs::create_dir(&few).unwrap();
    picture(1, 64).save(few.join("one.png")).unwrap();
    refuse(&["features", text(&few), "--map", text(&folder.path().join("m.html"))], &["at least 3 pictures"]);
    // A damaged picture is skipped and named, and the rest is searched.
    fs::write(photos.join("cats/broken.jpg"), "no picture").unwrap();
    let said =
        stdout(&ocelli(&[&["search", &query, "--in", text(&photos), "--out", &out], &NETWORK[..]].concat()));
    assert!(said.contains("warning: skipped cats/broken.jpg") && said.contains("8 embedded now"), "{said}");
    fs::write(few.join("one.png"), "no picture").unwrap();
    refuse(&["search", &query, "--in", text(&few), "--out", &out], &["no picture could be read"]);
}

#[test]
fn a_picture_and_its_copies_are_duplicates() {
    let (folder, photos) = photos();
    let original = picture(5, 64);
    original.save(photos.join("cats/copy.jpg")).unwrap();
    picture(5, 160).save(photos.join("dogs/large.png")).unwrap();
    fs::copy(photos.join("cats/2.png"), photos.join("dogs/the <same>.png")).unwrap();
    let page = folder.path().join("found.html");
    let duplicates = ["duplicates", text(&photos), "--threshold", "0.999"];
    let said = stdout(&ocelli(&[&duplicates[..], &NETWORK, &["--out", text(&page)]].concat()));
    assert!(said.contains("2 groups with 5 of 11 pictures") && said.contains("nothing was deleted"), "{said}");
    let html = fs::read_to_string(&page).unwrap();
    assert_eq!(html.matches("data:image/jpeg;base64,").count(), 5);
    assert!(html.contains("the &lt;same&gt;.png") && html.contains("160 × 160 px"));

    let answer = json(&duplicates);
    assert_eq!(answer["index"]["embedded"], 0, "the index is there");
    let groups = answer["groups"].as_array().unwrap();
    let names = |group: &Value| -> Vec<String> {
        group.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = names(&groups[0]);
    assert_eq!(first[0], "dogs/large.png", "the largest comes first");
    assert!(first.contains(&"cats/copy.jpg".into()) && first.contains(&"dogs/5.png".into()) && first.len() == 3);
    assert_eq!(names(&groups[1]), ["cats/2.png", "dogs/the <same>.png"]);
    assert_eq!((&groups[1][0]["same_file"], &groups[1][1]["same_file"]), (&false.into(), &true.into()));
    assert!(groups[0][1]["similarity"].as_f64().unwrap() > 0.999);
    assert_eq!(fs::read_dir(photos.join("cats")).unwrap().count(), 5, "nothing was deleted");
}

#[test]
fn a_map_has_every_picture_and_its_class() {
    let (folder, photos) = photos();
    let page = folder.path().join("map.html");
    let features = ["features", text(&photos), "--map", text(&page), "--thumbnails", "5"];
    let said = stdout(&ocelli(&[&features[..], &NETWORK].concat()));
    assert!(said.contains("principal components") && said.contains("small copies of 5 pictures"), "{said}");
    let html = fs::read_to_string(&page).unwrap();
    let start = html.find("id=\"points\">").unwrap() + 12;
    let points: Value =
        serde_json::from_str(&html[start..start + html[start..].find("</script>").unwrap()]).unwrap();
    assert_eq!(points["names"].as_array().unwrap().len(), 8);
    assert_eq!(points["classes"], serde_json::json!(["cats", "dogs"]));
    assert_eq!(points["t"].as_array().unwrap().iter().filter(|t| *t != "").count(), 5);
    assert!(html.contains("5 of 8 pictures come with a small copy") && !html.contains("http:"));

    let answer = json(&["features", text(&photos), "--projection", "umap"]);
    let points = answer["points"].as_array().unwrap();
    assert!(points.len() == 8 && points.iter().all(|p| p["x"].is_f64() && p["y"].is_f64()), "{answer}");
    assert!(points.iter().all(|p| p["name"].as_str().unwrap().starts_with(p["class"].as_str().unwrap())));
    assert_eq!(answer["index"]["embedded"], 0);
}
