//! How large a picture may be: the flag, the setting, and the message that names both.

use std::fs;

use super::TINY;
use super::command::{ocelli, stdout};

fn refused(args: &[&str], words: &[&str]) {
    let output = ocelli(args);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for word in words {
        assert!(text.contains(word), "expected {word:?} in: {text}");
    }
}

#[test]
fn the_limit_has_a_handle() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("photos"), folder.path().join("run"));
    fs::create_dir(&data).unwrap();
    for i in 0..16_u32 {
        let picture = image::RgbImage::from_fn(40, 40, |x, y| image::Rgb([(x * i) as u8, y as u8, 9]));
        picture.save(data.join(format!("{i}.png"))).unwrap();
    }
    let (data, out) = (data.display().to_string(), out.display().to_string());
    let mut args = vec!["pretrain", "--data", &data, "--out", &out, "--overwrite"];
    args.extend(TINY);
    args.extend(["--set", "epochs=1", "--set", "loader.max_bad_fraction=0"]);
    let words = ["40x40 = 1600 pixels", "the limit is 1000 pixels", "--max-pixels 1M", "loader.max_pixels"];
    let with = |more: &[&'static str]| [args.as_slice(), more].concat();
    refused(&with(&["--max-pixels", "1k"]), &words);
    refused(&with(&["--set", "loader.max_pixels=1000"]), &words);
    refused(&with(&["--set", "loader.max_pixels=0"]), &["loader.max_pixels", "at least 1"]);
    refused(&with(&["--max-pixels", "many"]), &["expected a number of pixels such as 150000000, 200M"]);
    // A run keeps what it was told.
    stdout(&ocelli(&with(&["--max-pixels", "1600"])));
    let config = fs::read_to_string(format!("{out}/config.toml")).unwrap();
    assert!(config.contains("max_pixels = 1600"), "{config}");
    // The flag stands before the command or behind it.
    let table = folder.path().join("f.csv").display().to_string();
    let embed = ["embed", &data, "--weights", &out, "--out", &table, "--device", "cpu"];
    stdout(&ocelli(&[["--max-pixels", "2k"].as_slice(), &embed].concat()));
    assert_eq!(fs::read_to_string(&table).unwrap().lines().count(), 17);
}
