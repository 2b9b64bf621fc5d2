//! `ocelli match` and `ocelli eval correspondence`.

use serde_json::Value;

use super::command::{ocelli, refused, stdout};

const CPU: [&str; 2] = ["--device", "cpu"];

#[test]
fn matches_of_two_images_and_of_an_image_with_its_augmented_self() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("pictures/match.png");
    let text = out.to_str().unwrap();
    let said = stdout(&ocelli(
        &[
            &["match", "scenes:1", "scenes:1", "--weights", "random:resnet-18c8", "--size", "128", "--lines", "0"],
            &CPU[..],
            &["--out", text],
        ]
        .concat(),
    ));
    // An image and itself: every cell chooses itself.
    assert!(said.contains("16 cells, 16 of them in mutual matches, 16 drawn"), "{said}");
    let page = image::open(&out).unwrap().to_rgb8();
    assert_eq!((page.width(), page.height()), (128 + 128 + 36, 2 * 128 + 48 + 28));
    let said = stdout(&ocelli(
        &[
            &["match", "scenes:1", "--weights", "random:vit-32x2x2/16", "--size", "128", "--one-way"],
            &CPU[..],
            &["--lines", "7", "--out", text],
        ]
        .concat(),
    ));
    assert!(said.contains("64 cells") && said.contains("7 drawn"), "{said}");
    assert_ne!(image::open(&out).unwrap().to_rgb8(), page, "the picture is another");
}

#[test]
fn correspondence_of_several_networks_on_the_same_views() {
    let args = |seed: &'static str| {
        let nets = ["random:vit-32x2x2/16", "random:resnet-18c8", "random:resnet-18c8"];
        let rest = ["--images", "6", "--size", "128", "--seed", seed, "--json"];
        let args = [&["eval", "correspondence", "--data", "scenes", "--weights"], &nets[..], &rest, &CPU].concat();
        serde_json::from_str::<Value>(&stdout(&ocelli(&args))).unwrap()
    };
    let found = args("3");
    let rows = found["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[1], rows[2], "the same network on the same views");
    for row in rows {
        let share = |key: &str| row[key].as_f64().unwrap();
        assert!(row["cells"].as_u64().unwrap() > 0 && row["pairs"] == 6);
        assert!((0.0..=100.0).contains(&share("pck_1")) && share("pck_1") <= share("pck_2"));
        assert!(share("chance_1") < share("chance_2"));
        // Even a random convolution knows colours: it beats guessing.
        assert!(share("pck_2") > share("chance_2"), "{row}");
    }
    assert_eq!(rows[0]["weights"]["normalisation_source"], "the usual one, for random weights");
    assert_eq!((&rows[0]["weights"]["crop_px"], &rows[0]["file"]), (&128.into(), &"random:vit-32x2x2/16".into()));
    assert_ne!(args("4")["rows"][1], rows[1], "another seed is other views");
}

#[test]
fn bad_input_of_matching_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("match.png");
    let of = |rest: &[&'static str]| [&["match", "scenes:1", "--out", out.to_str().unwrap()], rest, &CPU].concat();
    refused(&of(&["--weights", "random:resnet-51"]), &["resnet-51", "18, 34, 50, 101, 152, 200"]);
    refused(&of(&["--weights", "random:resnet-18c8", "--stride", "7"]), &["output_stride", "8, 16 or 32", "7"]);
    refused(&of(&["--weights", "random:vit-32x2x2/16", "--stride", "8"]), &["stride of 16 px", "found 8"]);
    for name in ["random:resnet-18é", "random:resnet-é", "random:vit-é/16", "random:é"] {
        refused(&of(&["--weights", name]), &["unknown architecture", "é"]);
    }
    refused(&of(&["--weights", "nothing-here"]), &["nothing-here"]);
    assert!(!out.exists(), "nothing is written");
    let odd = ["eval", "correspondence", "--data", "scenes", "--weights", "random:resnet-18c8", "--size", "100"];
    refused(&[&odd[..], &CPU].concat(), &["--size", "multiple of 32", "100"]);
}
