//! Anchors, and boxes as what a network regresses.

use ocelli::transfer::detection::anchors::Anchors;
use ocelli::transfer::detection::boxes::{BoxCoder, Xyxy, clip, is_nonempty};
use serde_json::Value;

use crate::support::{Fixture, Tolerance, as_usize, assert_close, read};

fn single(list: &Value) -> Vec<f32> {
    list.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn boxes(f: &Fixture, name: &str) -> Vec<Xyxy> {
    f.get(name).values.as_chunks().0.to_vec()
}

fn check(f: &Fixture, name: &str, found: &[Xyxy], tolerance: &str) {
    let expected = &f.get(name).values;
    assert_close(name, found.as_flattened(), expected, Tolerance::of(&f.json["tolerance"][tolerance], expected));
}

#[test]
fn anchors_of_maps() {
    let f = Fixture::load("anchors");
    let config = f.config();
    let anchors = Anchors {
        stride: f.usize("stride"),
        sizes: single(&config["sizes"]),
        ratios: single(&config["ratios"]),
        offset: f.f64("offset") as f32,
    };
    check(&f, "cell_anchors", &anchors.cell(), "anchors");
    let half = Anchors { offset: 0.5, ..anchors.clone() };
    let mut halves = 0;
    for map in config["maps"].as_array().unwrap() {
        let (rows, cols) = (as_usize(&map[0], "rows"), as_usize(&map[1], "columns"));
        let name = format!("anchors.{rows}x{cols}");
        let grid = anchors.grid(rows, cols);
        assert_eq!(grid.len(), rows * cols * anchors.per_cell(), "{name}");
        check(&f, &name, &grid, "anchors");
        let name = format!("offset_half.{name}");
        if f.tensors.get(&name).is_some() {
            check(&f, &name, &half.grid(rows, cols), "anchors");
            halves += 1;
        }
    }
    assert!(halves > 0, "no anchors in the middle of their cells");
}

/// The coders by what tensors' names end with. Their weights stand in a note: "… weights (1,1,1,1) / (10,10,5,5)" of
/// "given.w1 / given.w10".
fn coders(f: &Fixture) -> Vec<(String, BoxCoder)> {
    let notes = f.json["tensor_notes"].as_object().unwrap();
    let (names, note) = notes.iter().find(|(names, _)| names.starts_with("given.")).unwrap();
    let lists = note.as_str().unwrap().split('(').skip(1);
    let coders: Vec<_> = names
        .split(" / ")
        .zip(lists)
        .map(|(name, list)| {
            let (numbers, _) = list.split_once(')').unwrap();
            let weights: Vec<f32> = numbers.split(',').map(|n| n.trim().parse().unwrap()).collect();
            (name.strip_prefix("given.").unwrap().to_owned(), BoxCoder { weights: weights.try_into().unwrap() })
        })
        .collect();
    assert!(coders.len() > 1, "{names}: {note}");
    coders
}

#[test]
fn boxes_to_numbers_and_back() {
    let f = Fixture::load("anchors");
    let (sources, targets) = (boxes(&f, "src"), boxes(&f, "tgt"));
    let classes = f.usize("classes_in_decode");
    let image = [0, 1].map(|i| as_usize(&f.config()["image_h_w"][i], "a side"));
    let file = read("anchors.safetensors");
    let file = safetensors::SafeTensors::deserialize(&file).unwrap();
    for (name, coder) in coders(&f) {
        let deltas: Vec<[f32; 4]> = sources.iter().zip(&targets).map(|(s, t)| coder.encode(*s, *t)).collect();
        check(&f, &format!("deltas.{name}"), &deltas, "deltas");

        let given = boxes(&f, &format!("given.{name}"));
        assert_eq!(given.len(), sources.len() * classes, "{name}");
        let decoded: Vec<Xyxy> =
            given.iter().enumerate().map(|(i, delta)| coder.decode(sources[i / classes], *delta)).collect();
        check(&f, &format!("decoded.{name}"), &decoded, "boxes");
        let clipped: Vec<Xyxy> = decoded.iter().map(|b| clip(*b, image)).collect();
        check(&f, &format!("clipped.{name}"), &clipped, "boxes");
        let nonempty: Vec<u8> = clipped.iter().map(|b| u8::from(is_nonempty(*b))).collect();
        assert_eq!(nonempty, file.tensor(&format!("nonempty.{name}")).unwrap().data(), "{name}");
    }
    // The largest growth of a side is the fixture's.
    let [x1, _, x2, _] = coders(&f)[0].1.decode([0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1e9, 0.0]);
    let growth = f64::from(x2 - x1).ln();
    assert!((growth - f.f64("scale_clamp")).abs() < 1e-6, "{growth}");
}
