//! Copy detection against the reference, and what it refuses.

use serde_json::Value;

use super::*;
use crate::golden::Fixture;

/// Features of the items of a tensor of tokens, `[items, 2 · dim]`.
fn features(f: &Fixture, name: &str) -> Vec<f32> {
    let &[_, tokens, dim] = f.shape(name) else { panic!("three axes") };
    f.f32s(name).chunks_exact(tokens * dim).flat_map(|item| describe(item, dim).unwrap()).collect()
}

fn number(json: &Value) -> f64 {
    json.as_f64().unwrap()
}

#[test]
fn class_token_and_generalised_mean() {
    for (name, tokens, expected, tolerance) in [
        ("copy_detection", "original.tokens", "original.feature", "feature"),
        ("tokens_to_features", "intermediate", "copy.cls_gem", "tokens"),
    ] {
        let f = Fixture::load(name);
        let found = match f.shape(tokens) {
            // The last of several blocks.
            &[_, layers, count, dim] => {
                let all = f.f32s(tokens);
                let last = all.chunks_exact(count * dim).skip(layers - 1).step_by(layers);
                last.flat_map(|item| describe(item, dim).unwrap()).collect()
            }
            _ => features(&f, tokens),
        };
        let (tolerance, expected) = (&f.json["tolerance"][tolerance], f.f32s(expected));
        assert_eq!(found.len(), expected.len());
        for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
            let bound = number(&tolerance["atol"]) + number(&tolerance["rtol"]) * f64::from(b.abs());
            assert!(f64::from((a - b).abs()) <= bound, "{name}, value {i}: {a} for {b}");
        }
    }
}

/// The tolerances on similarities are numbers, or words that begin with one.
fn leading_number(json: &Value) -> f64 {
    let first = |text: &str| text.split_whitespace().next().and_then(|word| word.parse().ok());
    json.as_f64().or_else(|| json.as_str().and_then(first)).unwrap()
}

#[test]
fn the_protocol_with_and_without_whitening() {
    let f = Fixture::load("copy_detection");
    let config = &f.json["config"];
    let of = |key: &str| config[key].as_u64().unwrap() as usize;
    let dim = 2 * of("dim");
    let whitening = features(&f, "whitening.tokens");
    let database = [features(&f, "original.tokens"), features(&f, "distractors.tokens")].concat();
    let strong: Vec<Vec<u32>> = f.i64s("strong.original_index").iter().map(|i| vec![*i as u32]).collect();
    let matched: Vec<Vec<u32>> = (0..of("originals") as u32).map(|i| vec![i]).collect();
    let blocks = [
        ("original", "original.tokens", &matched),
        ("strong", "strong.tokens", &strong),
        ("jpegqual/3", "jpeg.tokens", &matched),
    ];
    for (case, rows) in
        [("none", None), ("whitened", Some(of("whitening"))), ("whitened_few", Some(of("whitening_few")))]
    {
        let learnt = rows.map(|rows| Whitening::learn(&whitening[..rows * dim], dim).unwrap());
        if let Some(learnt) = &learnt {
            let raised = &f.json["cross_checks"][case]["eigenvalues_raised_to_the_floor"];
            assert_eq!((learnt.raised() as u64, learnt.images()), (raised.as_u64().unwrap(), rows.unwrap()));
        }
        let ready = |features: Vec<f32>| match &learnt {
            Some(learnt) => learnt.apply(&features).unwrap(),
            None => features,
        };
        let database = Gallery::new(ready(database.clone()), dim).unwrap();
        let similarity = f.f32s(&format!("{case}.similarity"));
        let atol = leading_number(&f.json["tolerance"]["similarity"][case]);
        let atol_map = number(&f.json["tolerance"]["map"]["atol"]);
        let mut row = 0;
        for (block, tokens, originals) in blocks {
            let queries = ready(features(&f, tokens));
            for query in queries.chunks_exact(dim) {
                let found = database.similarities(query).unwrap();
                let expected = &similarity[row * database.len()..][..database.len()];
                for (i, (a, b)) in found.iter().zip(expected).enumerate() {
                    assert!(f64::from((a - b).abs()) <= atol, "{case}, row {row}, {i}: {a} for {b}");
                }
                row += 1;
            }
            let found = score(&queries, originals, &database).unwrap();
            let expected = &f.json["expected"][case][block];
            let close = |what: &str, found: f64, expected: &Value| {
                let expected = number(expected);
                assert!((found - expected).abs() <= atol_map, "{case}, {block}: {what} {found} for {expected}");
            };
            close("mAP", found.map, &expected["map"]);
            close("micro-AP", found.micro_ap, &expected["micro_ap"]);
            assert_eq!(found.per_query.len(), expected["ap_per_query"].as_array().unwrap().len());
            for (i, found) in found.per_query.iter().enumerate() {
                close(&format!("AP of {i}"), *found, &expected["ap_per_query"][i]);
            }
        }
    }
}

/// y = diag(d^-½) Vᵀ (x − μ) of FᵀF / n: second moments of what is whitened, the mean added back, are the
/// identity.
#[test]
fn whitened_features_have_unit_moments() {
    let (rows, dim) = (3000, 24);
    let mut state = 7u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.3
    };
    let features: Vec<f32> = (0..rows * dim).map(|i| random() * (1 + i % dim) as f32).collect();
    let learnt = Whitening::learn(&features, dim).unwrap();
    assert_eq!(learnt.raised(), 0);
    let centred = learnt.apply(&features).unwrap();
    let zero = learnt.apply(&vec![0.0; dim]).unwrap();
    for i in 0..dim {
        for j in 0..dim {
            let moment = |row: &[f32]| f64::from(row[i] - zero[i]) * f64::from(row[j] - zero[j]);
            let mean = centred.chunks_exact(dim).map(moment).sum::<f64>() / rows as f64;
            assert!((mean - f64::from(u8::from(i == j))).abs() < 1e-5, "{i}, {j}: {mean}");
        }
    }
}

#[test]
fn only_the_best_twenty_count() {
    // The query is like item i by 1 / (1 + i).
    let items: Vec<f32> = (0..40).flat_map(|i| [1.0, i as f32]).collect();
    let database = Gallery::new(items, 2).unwrap();
    let ap = |original: u32| score(&[1.0, 0.0], &[vec![original]], &database).unwrap().map;
    assert_eq!(ap(0), 1.0);
    assert!((ap(19) - 0.5 / 20.0).abs() < 1e-12);
    assert_eq!(ap(20), 0.0);
    // Two originals, the first and the third: (1 + 1) / 2 and (1/2 + 2/3) / 2, halved.
    let two = score(&[1.0, 0.0], &[vec![0, 2]], &database).unwrap();
    assert!((two.map - (1.0 + 7.0 / 12.0) / 2.0).abs() < 1e-12);
    assert!((two.micro_ap - (1.0 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
}

#[test]
fn what_does_not_fit_is_refused() {
    assert!(describe(&[1.0; 4], 4).unwrap_err().to_string().contains("a class token and patches of 4"));
    assert!(describe(&[1.0; 7], 4).is_err() && describe(&[], 0).is_err());
    assert!(describe(&[f32::NAN; 8], 4).unwrap_err().to_string().contains("not finite"));
    assert!(Whitening::learn(&[], 4).unwrap_err().to_string().contains("whitening set is empty"));
    assert!(Whitening::learn(&[1.0; 5], 4).is_err() && Whitening::learn(&[f32::INFINITY; 4], 4).is_err());
    assert!(Whitening::learn(&[0.0; 8], 4).unwrap_err().to_string().contains("other than zero"));
    let learnt = Whitening::learn(&[1.0, 2.0, 3.0, 4.0], 2).unwrap();
    assert!(learnt.apply(&[1.0; 3]).is_err());
    let database = Gallery::new(vec![1.0; 4], 2).unwrap();
    assert!(score(&[], &[], &database).unwrap_err().to_string().contains("queries is empty"));
    assert!(score(&[1.0], &[vec![0]], &database).unwrap_err().to_string().contains("1 × 2"));
    assert!(score(&[1.0, 1.0], &[vec![2]], &database).unwrap_err().to_string().contains("below 2"));
    assert!(score(&[1.0, 1.0], &[vec![]], &database).unwrap_err().to_string().contains("originals"));
}

/// `OCELLI_PUBLISHED_SIZE=1` times the largest published features, ViT-B's; else a small set.
#[test]
fn whitening_takes_seconds() {
    let published = std::env::var_os("OCELLI_PUBLISHED_SIZE").is_some();
    let (rows, dim) = if published { (20_000, 1536) } else { (400, 24) };
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let features: Vec<f32> = (0..rows * dim).map(|_| random()).collect();
    let start = std::time::Instant::now();
    let learnt = Whitening::learn(&features, dim).unwrap();
    let learning = start.elapsed();
    learnt.apply(&features).unwrap();
    assert!(learning.as_secs() < 120, "{learning:?}");
    println!("learnt from {rows} features of {dim} in {learning:?}, applied in {:?}", start.elapsed() - learning);
}
