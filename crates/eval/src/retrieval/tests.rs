//! Retrieval against the reference, and what it refuses.

use serde_json::{Value, json};

use super::scales::{SCALES, at_scale, mean_of_scales, scaled_side};
use super::*;
use crate::golden::Fixture;

/// The query's row of levels: 1 easy, 2 hard, 3 junk.
fn relevance(levels: &[u8]) -> Relevance {
    let of = |level: u8| (0..levels.len() as u32).filter(|i| levels[*i as usize] == level).collect();
    Relevance { easy: of(1), hard: of(2), junk: of(3) }
}

fn usize_of(json: &Value) -> usize {
    json.as_u64().unwrap() as usize
}

/// Everything the fixture expects of scores, one setup after the other.
fn check(f: &Fixture, scores: impl Fn(usize, Setup, &[usize]) -> Option<QueryScore>, atol: f64) {
    let ks: Vec<usize> = f.json["config"]["k"].as_array().unwrap().iter().map(usize_of).collect();
    let close = |what: String, found: f64, expected: &Value| {
        let expected = expected.as_f64().unwrap();
        assert!((found - expected).abs() <= atol, "{what}: {found} for {expected}");
    };
    for setup in Setup::ALL {
        let expected = &f.json["expected"][setup.letter()];
        let queries = usize_of(&f.json["config"]["queries"]);
        let all: Vec<Option<QueryScore>> = (0..queries).map(|q| scores(q, setup, &ks)).collect();
        for (q, found) in all.iter().enumerate() {
            let (ap, precision) = (&expected["ap_per_query"][q], &expected["precision_at_k_per_query"][q]);
            assert_eq!(found.is_none(), ap.is_null(), "{setup:?} {q}");
            let Some(found) = found else { continue };
            close(format!("{setup:?} AP of {q}"), found.average_precision, ap);
            for (i, k) in ks.iter().enumerate() {
                close(format!("{setup:?} P@{k} of {q}"), found.precision_at[i], &precision[i]);
            }
        }
        let mean = mean(&all).unwrap();
        assert_eq!(mean.queries, all.iter().flatten().count());
        close(format!("{setup:?} mAP"), mean.map, &expected["map"]);
        for (i, k) in ks.iter().enumerate() {
            close(
                format!("{setup:?} mP@{k}"),
                mean.mean_precision_at[i],
                &expected["mean_precision_at_k"][k.to_string()],
            );
        }
    }
}

#[test]
fn the_three_setups() {
    let f = Fixture::load("retrieval_map");
    let config = &f.json["config"];
    let (database, dim) = (usize_of(&config["database"]), usize_of(&config["dim"]));
    let levels = f.u8s("level");
    let relevance = |q: usize| relevance(&levels[q * database..][..database]);
    let tolerance = &f.json["tolerance"]["map/ap/precision"]["atol"];
    let stored: Vec<u32> = f.i64s("ranking").iter().map(|i| *i as u32).collect();
    let given = |q: usize, setup, ks: &[usize]| {
        score(&stored[q * database..][..database], &relevance(q), setup, ks).unwrap()
    };
    check(&f, given, tolerance.as_f64().unwrap());
    // By features. The note gives the tolerance for one's own similarities.
    let note = f.json["tolerance"]["map/ap/precision"]["note"].as_str().unwrap();
    let own: f64 = note.split_whitespace().find_map(|word| word.parse().ok().filter(|v| *v < 0.1)).unwrap();
    let gallery = Gallery::new(f.f32s("database.features"), dim).unwrap();
    let (queries, expected) = (f.f32s("query.features"), f.f32s("similarity"));
    let similarities = |q: usize| gallery.similarities(&queries[q * dim..][..dim]).unwrap();
    let atol = f.json["tolerance"]["similarity"]["atol"].as_f64().unwrap();
    for q in 0..usize_of(&config["queries"]) {
        let (found, expected) = (similarities(q), &expected[q * database..][..database]);
        for (i, (a, b)) in found.iter().zip(expected).enumerate() {
            assert!(f64::from((a - b).abs()) <= atol, "similarity {q}, {i}: {a} for {b}");
        }
        for (i, (a, b)) in rank(&found).iter().zip(&stored[q * database..]).enumerate() {
            let apart = f64::from((expected[*a as usize] - expected[*b as usize]).abs());
            assert!(a == b || apart < atol, "place {i} of query {q}: {a} for {b}");
        }
    }
    check(&f, |q, setup, ks| score(&rank(&similarities(q)), &relevance(q), setup, ks).unwrap(), own);
}

#[test]
fn several_scales_make_one_feature() {
    let f = Fixture::load("retrieval_map");
    let &[items, scales, dim] = f.shape("multiscale.features") else { panic!("three axes") };
    let (given, expected) = (f.f32s("multiscale.features"), f.f32s("multiscale.expected"));
    let atol = f.json["tolerance"]["multiscale"]["atol"].as_f64().unwrap();
    assert_eq!(scales, SCALES.len());
    for item in 0..items {
        let found = mean_of_scales(&given[item * scales * dim..][..scales * dim], dim).unwrap();
        for (a, b) in found.iter().zip(&expected[item * dim..]) {
            assert!(f64::from((a - b).abs()) <= atol, "item {item}: {a} for {b}");
        }
    }
}

/// The fixtures' formula for inputs, see their README.
fn formula(name: &str, count: usize) -> Vec<f32> {
    let hash = name.bytes().fold(0x811c_9dc5u32, |h, byte| (h ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let value = |i: usize| {
        let mut x = hash ^ (i as u32).wrapping_mul(0x9E37_79B1);
        x ^= x >> 16;
        x = x.wrapping_mul(0x85EB_CA6B);
        x ^= x >> 13;
        x = x.wrapping_mul(0xC2B2_AE35);
        x ^= x >> 16;
        (f64::from(x) / 4_294_967_296.0 * 2.0 - 1.0) as f32
    };
    (0..count).map(value).collect()
}

#[test]
fn images_at_several_scales() {
    let f = Fixture::load("tokens_to_features");
    let config = &f.json["config"];
    let sides: Vec<usize> = config["input"].as_array().unwrap().iter().map(usize_of).collect();
    let [items, 3, height, width] = sides[..] else { panic!("images") };
    let image = 3 * height * width;
    let input = formula(&format!("{}input", config["salt"].as_str().unwrap()), items * image);
    let planes = &input[usize_of(&config["multiscale_item"]) * image..][..image];
    let atol = f.json["tolerance"]["multiscale.image"]["atol"].as_f64().unwrap();
    let listed = config["multiscale_sizes"].as_array().unwrap();
    assert_eq!(listed.len(), SCALES.len());
    for (of, scale) in listed.iter().zip(SCALES) {
        assert!((of["scale"].as_f64().unwrap() - scale).abs() < 1e-12);
        let (rows, columns) = (usize_of(&of["image"][0]), usize_of(&of["image"][1]));
        let (found, h, w) = at_scale(planes, (height, width), scale).unwrap();
        assert_eq!((h, w), (rows, columns), "scale {scale}");
        assert_eq!((h, w), (scaled_side(height, scale), scaled_side(width, scale)));
        let expected = match scale {
            1.0 => planes.to_vec(),
            _ => f.f32s(&format!("multiscale.image_{rows}x{columns}")),
        };
        for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
            assert!(f64::from((a - b).abs()) <= atol, "scale {scale}, value {i}: {a} for {b}");
        }
    }
    let dim = usize_of(&config["dim"]);
    let found = mean_of_scales(&f.f32s("multiscale.cls_per_scale"), dim).unwrap();
    let atol = f.json["tolerance"]["unit features"]["atol"].as_f64().unwrap();
    for (a, b) in found.iter().zip(f.f32s("multiscale.feature")) {
        assert!(f64::from((a - b).abs()) <= atol, "{a} for {b}");
    }
}

#[test]
fn scores_by_hand() {
    let relevance = Relevance { easy: vec![2], hard: vec![4], junk: vec![0] };
    let of = |ranking: &[u32], setup| score(ranking, &relevance, setup, &[1, 3]).unwrap().unwrap();
    // Junk first, then the easy one: as if it were first.
    let first = of(&[0, 2, 1, 3, 4], Setup::Easy);
    assert_eq!((first.average_precision, first.precision_at), (1.0, vec![1.0, 1.0]));
    // The hard one at position 2 when the easy and the junk image are taken out: (0/2 + 1/3) / 2.
    let hard = of(&[0, 2, 1, 3, 4], Setup::Hard);
    assert!((hard.average_precision - 1.0 / 6.0).abs() < 1e-12 && hard.precision_at == [0.0, 1.0 / 3.0]);
    assert_eq!(score(&[0, 1], &Relevance::default(), Setup::Medium, &[1]).unwrap(), None);
    assert_eq!(mean(&[None, None]), None);
    // An image in two lists is one that must be found.
    let both = Relevance { easy: vec![1], junk: vec![1], ..Relevance::default() };
    assert_eq!(score(&[1, 0], &both, Setup::Easy, &[1]).unwrap().unwrap().average_precision, 1.0);
    assert_eq!(average_precision(&[], 3), 0.0);
    assert_eq!(rank(&[0.5, f32::NEG_INFINITY, 0.7, 0.5]), [2, 0, 3, 1]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let message = |ranking: &[u32], relevance: &Relevance, k: usize| {
        score(ranking, relevance, Setup::Easy, &[k]).unwrap_err().to_string()
    };
    let beyond = Relevance { easy: vec![5], ..Relevance::default() };
    assert!(message(&[0, 1], &beyond, 1).contains("below 2, found 5"));
    for ranking in [&[0, 0][..], &[0, 7]] {
        assert!(message(ranking, &Relevance::default(), 1).contains("every image once"), "{ranking:?}");
    }
    assert!(message(&[0], &Relevance::default(), 0).contains("k must be at least 1"));
    assert!(Gallery::new(vec![], 2).unwrap_err().to_string().contains("empty"));
    assert!(Gallery::new(vec![0.0; 3], 2).unwrap_err().to_string().contains("rows of 2"));
    assert!(Gallery::new(vec![0.0, 1.0, f32::NAN, 0.0], 2).unwrap_err().to_string().contains("row 1"));
    let gallery = Gallery::new(vec![0.0, 0.0, 3.0, 4.0], 2).unwrap();
    assert_eq!(gallery.similarities(&[6.0, 8.0]).unwrap(), [0.0, 1.0], "zeros are like nothing");
    assert!(gallery.similarities(&[1.0]).is_err() && gallery.similarities(&[f32::INFINITY, 0.0]).is_err());
    assert!(at_scale(&[0.0; 12], (2, 2), 0.4).unwrap_err().to_string().contains("at least a pixel"));
    assert!(at_scale(&[0.0; 11], (2, 2), 0.5).is_err());
    assert!(mean_of_scales(&[], 2).is_err() && mean_of_scales(&[1.0; 3], 2).is_err());
}

#[test]
fn ground_truth_is_read_and_its_faults_are_named() {
    let good = json!({
        "imlist": ["a_0", "sub/a_1", "a_2"], "qimlist": ["q"],
        "gnd": [{ "bbx": [0, 1.5, 10, 20], "easy": [0], "hard": [2.0], "junk": [] }],
    });
    let read = GroundTruth::from_json(&good).unwrap();
    assert_eq!((read.images.len(), read.queries[0].bbox), (3, Some([0.0, 1.5, 10.0, 20.0])));
    assert_eq!(read.queries[0].relevance, Relevance { easy: vec![0], hard: vec![2], junk: vec![] });
    let with = |pointer: &str, value: Value| {
        let mut json = good.clone();
        *json.pointer_mut(pointer).unwrap() = value;
        GroundTruth::from_json(&json)
    };
    assert_eq!(with("/gnd/0/bbx", Value::Null).unwrap().queries[0].bbox, None);
    for (pointer, value, words) in [
        ("", json!([1]), &["imlist", "a list of 1"][..]),
        ("", json!({ "ok": [] }), &["imlist", "dict with ok", "before the revision"]),
        ("/imlist", json!([]), &["imlist", "at least one"]),
        ("/imlist/1", json!(7), &["imlist[1]", "name", "found 7"]),
        ("/imlist/1", json!("../../etc/passwd"), &["imlist[1]", "passwd"]),
        ("/imlist/1", json!("/etc/passwd"), &["imlist[1]"]),
        ("/imlist/1", json!("C:\\a"), &["imlist[1]"]),
        ("/qimlist", json!(["q", "r"]), &["gnd", "2 entries", "found 1"]),
        ("/gnd/0", json!({ "ok": [1], "junk": [] }), &["gnd[0].easy", "before the revision"]),
        ("/gnd/0/easy", json!([3]), &["gnd[0].easy", "below 3", "found 3"]),
        ("/gnd/0/hard", json!([-1]), &["gnd[0].hard", "found -1"]),
        ("/gnd/0/junk", json!([0.5]), &["gnd[0].junk", "found 0.5"]),
        ("/gnd/0/junk", json!("none"), &["gnd[0].junk", "a list", "\"none\""]),
        ("/gnd/0/bbx", json!([3, 2, 1, 4]), &["gnd[0].bbx", "left, top, right and bottom"]),
    ] {
        let message = with(pointer, value).unwrap_err().to_string();
        words.iter().for_each(|word| assert!(message.contains(word), "expected \"{word}\" in: {message}"));
    }
}
