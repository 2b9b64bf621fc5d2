//! Against the fixture, and what is refused.

use serde_json::Value;

use super::*;
use crate::accuracy::accuracy;
use crate::golden::Fixture;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn labels(fixture: &Fixture, name: &str) -> Vec<u32> {
    fixture.i64s(name).into_iter().map(|l| u32::try_from(l).unwrap()).collect()
}

#[test]
fn weights_are_those_of_the_fixture() {
    let fixture = Fixture::load("low_shot_logreg");
    let config = &fixture.json["config"];
    let classes = config["classes"].as_u64().unwrap() as usize;
    let (train, test) = (fixture.f32s("train.features"), fixture.f32s("test.features"));
    let (train_labels, test_labels) = (labels(&fixture, "train.labels"), labels(&fixture, "test.labels"));
    let close = |found: &[f64], name: &str, tolerance: &str| {
        let expected = fixture.f32s(name);
        assert_eq!(found.len(), expected.len(), "{name}");
        let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let relative = number(&fixture.json["tolerance"][tolerance]["atol_times_tensor_max_abs"]);
        for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let apart = (found - f64::from(*expected)).abs();
            assert!(apart <= relative * f64::from(largest), "{name} at {at}: {found}, not {expected}");
        }
    };
    for times_n in config["lambda_times_n"].as_array().unwrap() {
        let name = format!("lambda{times_n}_over_n");
        let expected = &fixture.json["expected"][&name];
        let config = LogisticConfig { lambda_times_n: number(times_n), ..LogisticConfig::default() };
        let fitted = fit(&train, &train_labels, classes, &config).unwrap();
        assert!(fitted.converged);
        close(&fitted.weight, &format!("{name}.weight"), "weight");
        let logits = fitted.logits(&test, 1).unwrap();
        let wide: Vec<f64> = logits.iter().map(|v| f64::from(*v)).collect();
        close(&wide, &format!("{name}.test_logits"), "test_logits");
        let objective = number(&expected["objective"]);
        let rtol = number(&fixture.json["tolerance"]["objective"]["rtol"]);
        assert!((fitted.objective - objective).abs() <= rtol * objective, "{name}: {}", fitted.objective);
        let of = |features: &[f32], labels: &[u32]| {
            accuracy(&fitted.logits(features, 1).unwrap(), classes, labels).unwrap()
        };
        // One item at most, as the fixture has it.
        let (on_test, on_train) = (of(&test, &test_labels), of(&train, &train_labels));
        for (found, key, items) in [
            (Some(on_test.top1), "test_top1_percent", test_labels.len()),
            (on_test.top5, "test_top5_percent", test_labels.len()),
            (Some(on_train.top1), "train_top1_percent", train_labels.len()),
        ] {
            let found = found.unwrap_or(100.0);
            let apart = (found - number(&expected[key])).abs();
            assert!(apart <= 100.0 / items as f64 + 1e-9, "{name} {key}: {found}");
        }
        // The property the fixture names: weights of the classes sum to nothing.
        let dim = fitted.weight.len() / classes;
        let largest = fitted.weight.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        for feature in 0..dim {
            let sum: f64 = fitted.weight.iter().skip(feature).step_by(dim).sum();
            assert!(sum.abs() <= 1e-6 * largest, "{name}: the weights of feature {feature} sum to {sum}");
        }
    }
}

/// Rows enough for many blocks, and classes enough for the preconditioner.
fn many(n: usize, dim: usize, classes: usize) -> (Vec<f32>, Vec<u32>) {
    let mut state = 3u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let centres: Vec<f32> = (0..classes * dim).map(|_| next()).collect();
    let labels: Vec<u32> = (0..n).map(|i| (i % classes) as u32).collect();
    let features = labels.iter().flat_map(|l| {
        let centre = &centres[*l as usize * dim..(*l as usize + 1) * dim];
        centre.iter().map(|c| c + 0.6 + 2.0 * next()).collect::<Vec<f32>>()
    });
    (features.collect(), labels)
}

#[test]
fn the_optimum_is_the_same_for_any_number_of_threads() {
    let (features, labels) = many(1500, 12, 7);
    let config = LogisticConfig::default();
    let one = fit(&features, &labels, 7, &config).unwrap();
    assert!(one.converged && one.steps < 30, "{} steps", one.steps);
    assert_eq!(fit(&features, &labels, 7, &LogisticConfig { threads: 4, ..config }).unwrap(), one, "bit for bit");
    // The gradient says how far the weights are from the optimum.
    let finer = fit(&features, &labels, 7, &LogisticConfig { tolerance: 1e-9, ..config }).unwrap();
    let apart: f64 = one.weight.iter().zip(&finer.weight).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    let size: f64 = finer.weight.iter().map(|w| w * w).sum::<f64>().sqrt();
    assert!(apart <= config.tolerance * size * 1.001, "{apart} of {size}");
}

#[test]
fn what_cannot_be_fitted_is_refused_in_words() {
    let (features, labels) = many(20, 3, 4);
    let message = |features: &[f32], labels: &[u32], classes, lambda_times_n| {
        let config = LogisticConfig { lambda_times_n, ..LogisticConfig::default() };
        fit(features, labels, classes, &config).unwrap_err().to_string()
    };
    assert!(message(&features, &labels, 4, 0.0).contains("lambda·n must be a finite number above 0"));
    assert!(message(&features, &labels, 3, 0.1).contains("train label 3 at row 3"));
    assert!(message(&features, &labels[1..], 4, 0.1).contains("19 rows"));
    assert!(message(&[], &[], 4, 0.1).contains("empty"));
    let mut broken = features.clone();
    broken[5] = f32::NAN;
    assert!(message(&broken, &labels, 4, 0.1).contains("row 1"));
    let fitted = fit(&features, &labels, 4, &LogisticConfig::default()).unwrap();
    assert!(fitted.logits(&features[1..], 1).unwrap_err().to_string().contains("rows of 3"));
}

/// `OCELLI_PUBLISHED_SIZE=1` times 1 % of ImageNet with ViT-S features, which takes minutes; else a small set.
#[test]
fn large_sets_converge_at_every_lambda() {
    let published = std::env::var_os("OCELLI_PUBLISHED_SIZE").is_some();
    let (n, dim, classes) = if published { (12_811, 384, 1000) } else { (200, 16, 10) };
    let (features, labels) = many(n, dim, classes);
    for lambda_times_n in [1.0, 0.1, 0.01] {
        let started = std::time::Instant::now();
        let config = LogisticConfig { lambda_times_n, threads: 2, ..LogisticConfig::default() };
        let fitted = fit(&features, &labels, classes, &config).unwrap();
        println!("λ·n {lambda_times_n}: {:.1} s, {} steps", started.elapsed().as_secs_f64(), fitted.steps);
        assert!(fitted.converged);
    }
}
