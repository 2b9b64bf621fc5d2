//! `ocelli attention --video`.

use std::fs;
use std::path::Path;

use image::AnimationDecoder as _;
use serde_json::Value;

use super::command::{ocelli, refused, stdout};
use super::video::write_frame;

const CPU: [&str; 2] = ["--device", "cpu"];
const VIT: &str = "random:vit-32x2x2/8";

fn clip(folder: &Path, count: usize, still: bool) -> String {
    for frame in 0..count {
        // Sorted by number, not by letters.
        write_frame(&folder.join(format!("frames/f{frame}.png")), if still { 0 } else { frame });
    }
    folder.join("frames").display().to_string()
}

fn attention(rest: &[&str]) -> String {
    stdout(&ocelli(&[&["attention", "--size", "64"], &CPU[..], rest].concat()))
}

fn gif_frames(path: &str) -> Vec<image::Frame> {
    let file = std::io::BufReader::new(fs::File::open(path).unwrap());
    image::codecs::gif::GifDecoder::new(file).unwrap().into_frames().collect_frames().unwrap()
}

#[test]
fn a_clip_of_attention_as_gif_animated_png_and_frames() {
    let folder = tempfile::tempdir().unwrap();
    let frames = clip(folder.path(), 11, false);
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (gif, apng, out) = (at("new/clip.gif"), at("clip.png"), at("maps"));
    for _ in 0..2 {
        // The second time over the first.
        let text = attention(&["--video", &frames, "--weights", VIT, "--out", &gif, "--fps", "20"]);
        for words in [
            "a folder of frames, 11 shown",
            "mean of the heads",
            "one range over the clip",
            "11 frames of 132 × 40",
        ] {
            assert!(text.contains(words), "expected \"{words}\" in: {text}");
        }
    }
    let shown = gif_frames(&gif);
    assert_eq!(shown.len(), 11);
    assert_eq!(shown[0].buffer().dimensions(), (132, 40));
    assert_eq!(std::time::Duration::from(shown[0].delay()).as_millis(), 50);
    assert_ne!(shown[0].buffer(), shown[10].buffer());

    // A GIF is read as well, at its own speed.
    let text = attention(&[
        "--video",
        &gif,
        "--weights",
        VIT,
        "--out",
        &apng,
        "--head",
        "2",
        "--stride",
        "3",
        "--map-only",
    ]);
    assert!(text.contains("a GIF, 4 shown") && text.contains("head 2"), "{text}");
    let decoder = png::Decoder::new(std::io::BufReader::new(fs::File::open(&apng).unwrap()));
    let control = *decoder.read_info().unwrap().info().animation_control().unwrap();
    assert_eq!((control.num_frames, control.num_plays), (4, 0));
    assert_eq!(image::image_dimensions(&apng).unwrap(), (64, 16));

    let json = [
        "--video",
        &frames,
        "--weights",
        "random:resnet-18c4",
        "--pca",
        "--out",
        &out,
        "--frames",
        "10",
        "--json",
    ];
    let found: Value = serde_json::from_str(&attention(&json)).unwrap();
    assert_eq!((&found["frames"], &found["fps"]), (&10.into(), &10.0.into()));
    assert!(found["shows"].as_str().unwrap().contains("principal components"));
    let mut names: Vec<_> = fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!((names.len(), names[0].to_str(), names[9].to_str()), (10, Some("f0.png"), Some("f9.png")));
}

#[test]
fn a_still_clip_has_the_same_colours_in_every_frame() {
    let folder = tempfile::tempdir().unwrap();
    let frames = clip(folder.path(), 5, true);
    for (name, more) in [("a.gif", &[][..]), ("p.gif", &["--pca"][..])] {
        let out = folder.path().join(name).display().to_string();
        attention(&[&["--video", &frames, "--weights", VIT, "--out", &out], more].concat());
        let shown = gif_frames(&out);
        assert!(shown.iter().all(|f| f.buffer() == shown[0].buffer()), "{name}");
        let colours: std::collections::BTreeSet<_> = shown[0].buffer().pixels().map(|p| p.0).collect();
        assert!(colours.len() > 16, "{name}: {} colours", colours.len());
    }
}

#[test]
fn bad_clips_are_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let frames = clip(folder.path(), 3, false);
    let at = |name: &str| folder.path().join(name).display().to_string();
    let out = at("clip.gif");
    let refuse = |video: &str, rest: &[&str], words: &[&str]| {
        let args = ["attention", "--video", video, "--size", "64"];
        let out = if rest.contains(&"--out") { vec![] } else { vec!["--out", &out] };
        let weights = if rest.contains(&"--weights") { vec![] } else { vec!["--weights", VIT] };
        refused(&[&args[..], &CPU, &out, &weights, rest].concat(), words);
    };
    refuse(&at("nowhere"), &[], &["--video", "nowhere", "found nothing"]);
    fs::create_dir(at("empty")).unwrap();
    refuse(&at("empty"), &[], &["empty", "found no image"]);
    fs::write(at("movie.mp4"), "ftyp").unwrap();
    refuse(&at("movie.mp4"), &[], &["a folder of frames or a GIF", "ffmpeg"]);
    fs::write(at("broken.gif"), "GIF89a").unwrap();
    refuse(&at("broken.gif"), &[], &["broken.gif", "damaged"]);
    refuse(&frames, &["--head", "3"], &["--head", "1 to 2", "found 3"]);
    refuse(&frames, &["--head", "1", "--pca"], &["cannot be used with"]);
    refuse(&frames, &["--fps", "0"], &["0.1 to 50"]);
    refuse(&frames, &["--weights", "random:resnet-18c4"], &["expected a Vision Transformer"]);
    refuse(&frames, &["scenes:1"], &["cannot be used with"]);
    fs::write(&out, "not ours").unwrap();
    refuse(&frames, &[], &["clip.gif", "another file"]);
    assert_eq!(fs::read(&out).unwrap(), b"not ours");
    fs::write(at("file"), "").unwrap();
    refuse(&frames, &["--out", &at("file")], &["expected a folder"]);
    image::RgbImage::new(30, 64).save(folder.path().join("frames/f9.png")).unwrap();
    refuse(&frames, &["--out", &at("other.gif")], &["f9", "30 × 64", "96 × 64"]);
    assert!(!folder.path().join("other.gif").exists());
    let still = ["attention", "scenes:1", "--weights", VIT, "--out", &at("still")];
    for flag in [&["--pca"][..], &["--head", "1"], &["--stride", "2"]] {
        refused(&[&still[..], &CPU, flag].concat(), &[flag[0], "--video"]);
    }
    assert!(!folder.path().join("still").exists());
}
