//! Against the fixture, and what must hold for any data.

use serde_json::Value;

use super::*;
use crate::golden::Fixture;

struct Data {
    fixture: Fixture,
    train: Vec<f32>,
    test: Vec<f32>,
    train_targets: Vec<Target>,
    test_targets: Vec<Target>,
    dim: usize,
    classes: usize,
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

impl Data {
    fn load() -> Self {
        let fixture = Fixture::load("voc07_svm");
        let target = |t: i64| match t {
            1 => Target::Present,
            0 => Target::Absent,
            -1 => Target::Ignored,
            other => panic!("target {other}"),
        };
        let targets = |name: &str| fixture.i64s(name).into_iter().map(target).collect();
        Self {
            train: fixture.f32s("train.features"),
            test: fixture.f32s("test.features"),
            train_targets: targets("train.targets"),
            test_targets: targets("test.targets"),
            dim: fixture.shape("train.features")[1],
            classes: fixture.shape("train.targets")[1],
            fixture,
        }
    }

    fn config(&self, list: &str) -> SvmConfig {
        let config = &self.fixture.json["config"];
        let weight = |side: &str| number(&config["class_weight"][side]);
        SvmConfig {
            costs: numbers(&config["cost_lists"][list]),
            folds: config["folds"].as_u64().unwrap() as usize,
            positive_weight: weight("positive") / weight("negative"),
            ..SvmConfig::default()
        }
    }

    fn evaluate(&self, config: &SvmConfig) -> SvmReport {
        let train = Labelled { features: &self.train, targets: &self.train_targets };
        let test = Labelled { features: &self.test, targets: &self.test_targets };
        svm(train, test, self.dim, self.classes, config, &mut |_, _| ()).unwrap()
    }

    fn positives(&self) -> Vec<Vec<bool>> {
        let of = |class| self.train_targets.iter().skip(class).step_by(self.classes);
        (0..self.classes).map(|class| of(class).map(|t| *t == Target::Present).collect()).collect()
    }

    /// Compares with a tensor `[rows, columns]`, given by columns; the tolerance is that of the fixture for such a
    /// tensor.
    fn compare(&self, found: &[Vec<f64>], name: &str, tolerance: &str) {
        let expected = self.fixture.f32s(name);
        let columns = self.fixture.shape(name)[1];
        assert_eq!(columns, found.len(), "{name}");
        let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let relative = &self.fixture.json["tolerance"][tolerance]["atol_times_tensor_max_abs"];
        for (at, value) in expected.iter().enumerate() {
            let apart = (found[at % columns][at / columns] - f64::from(*value)).abs();
            assert!(apart <= number(relative) * f64::from(largest), "{name} at {at}: {apart}");
        }
    }
}

fn transposed(rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
    (0..rows[0].len()).map(|j| rows.iter().map(|row| row[j]).collect()).collect()
}

#[test]
fn folds_are_those_of_the_fixture() {
    let data = Data::load();
    let folds = data.config("vissl").folds;
    let expected = data.fixture.i64s("train.folds");
    for (class, positive) in data.positives().iter().enumerate() {
        let found = stratified_folds(positive, folds);
        let expected: Vec<usize> =
            expected.iter().skip(class).step_by(data.classes).map(|f| usize::try_from(*f).unwrap()).collect();
        assert_eq!(found, expected, "class {class}");
    }
}

/// Weights and decisions at single costs, from the table of inner products and from the features.
#[test]
fn weights_are_the_optimum() {
    let data = Data::load();
    let rows = Rows::new(&data.train, data.dim, "train").unwrap();
    let test_rows = Rows::new(&data.test, data.dim, "test").unwrap();
    let gram = Kernel::Gram { values: rows.gram(1), n: rows.len() };
    let names: Vec<String> = data.fixture.names().into_iter().map(str::to_owned).collect();
    let mut compared = 0;
    for name in names.iter().filter_map(|n| n.strip_suffix(".weights")) {
        let cost: f64 = name.strip_prefix("cost").unwrap().parse().unwrap();
        for kernel in [&gram, &Kernel::of(&rows, 1)] {
            let config = data.config("vissl");
            let costs = vec![cost; data.classes];
            let (weights, open) = fit(kernel, &rows, &data.positives(), &costs, &config, &mut |_, _| ());
            assert_eq!(open, 0);
            data.compare(&transposed(&weights), &format!("{name}.weights"), "weights");
            let decisions = test_rows.decisions(&weights, 1);
            data.compare(&decisions, &format!("{name}.test_decision"), "test_decision");
        }
        compared += 1;
    }
    assert!(compared > 0, "the fixture has weights at single costs");
}

#[test]
fn the_protocol_gives_the_published_figures() {
    let data = Data::load();
    for (list, expected) in data.fixture.json["expected"].as_object().unwrap() {
        let config = data.config(list);
        let report = data.evaluate(&config);
        assert_eq!(report.not_converged, 0);
        let within = |found: f64, expected: f64, what: &str| {
            let atol = number(&data.fixture.json["tolerance"][what]["atol"]);
            assert!((found - expected).abs() <= atol, "{list} {what}: {found}, not {expected}");
        };
        let chosen: Vec<f64> = report.classes.iter().map(|c| c.cost).collect();
        assert_eq!(chosen, numbers(&expected["chosen_cost"]), "{list}");
        let cv = data.fixture.f32s(&format!("{list}.cv_ap"));
        let aps = data.fixture.f32s(&format!("{list}.test_ap"));
        for (class, result) in report.classes.iter().enumerate() {
            for (found, expected) in result.cv_ap.iter().zip(&cv[class * config.costs.len()..]) {
                within(*found, f64::from(*expected), "cv_ap");
            }
            let at = config.costs.iter().position(|c| *c == result.cost).unwrap();
            within(result.cv_ap[at], numbers(&expected["cv_ap_at_chosen"])[class], "cv_ap");
            within(result.ap, numbers(&expected["test_ap_per_class"])[class], "test_ap");
            within(result.ap, f64::from(aps[class]), "test_ap");
        }
        within(report.map, number(&expected["test_map"]), "test_ap");
        let decisions: Vec<Vec<f64>> = report.classes.iter().map(|c| c.decisions.clone()).collect();
        data.compare(&decisions, &format!("{list}.test_decision"), "test_decision");
        let threaded = data.evaluate(&SvmConfig { threads: 3, ..config });
        assert_eq!(threaded, report, "bit for bit, whatever the number of threads");
    }
}

/// The lists that are built in are those of the fixture.
#[test]
fn cost_lists_are_the_published_ones() {
    let lists = &Data::load().fixture.json["config"]["cost_lists"];
    assert_eq!(numbers(&lists["openselfsup"]), openselfsup_costs());
    assert_eq!(numbers(&lists["vissl"]), VISSL_COSTS);
}

/// Images `[n, dim]` of noise in which a class is a direction, shown by every `every`-th.
fn noise(n: usize, dim: usize, every: usize) -> (Vec<f32>, Vec<Target>) {
    let mut state = 9u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let targets: Vec<Target> =
        (0..n).map(|i| if i.is_multiple_of(every) { Target::Present } else { Target::Absent }).collect();
    let features = (0..n * dim)
        .map(|i| next() + if (i / dim).is_multiple_of(every) && i.is_multiple_of(3) { 0.2 } else { 0.0 });
    (features.collect(), targets)
}

/// More features than rows, at costs at which conjugate gradients give way to direct solutions: the gradient at
/// the weights is zero.
#[test]
fn the_gradient_vanishes_at_every_cost() {
    for (n, dim) in [(60, 200), (300, 20)] {
        let (features, targets) = noise(n, dim, 4);
        let positives: Vec<bool> = targets.iter().map(|t| *t == Target::Present).collect();
        let rows = Rows::new(&features, dim, "rows").unwrap();
        let kernel = Kernel::of(&rows, 1);
        for cost in [1e-6, 1e-2, 1.0, 100.0, 1e3] {
            let config = SvmConfig::default();
            let (weights, open) =
                fit(&kernel, &rows, std::slice::from_ref(&positives), &[cost], &config, &mut |_, _| ());
            assert_eq!(open, 0);
            let f = &rows.decisions(&weights, 1)[0];
            let pull = |i: usize| {
                let (y, c) = if positives[i] { (1.0, 2.0 * cost) } else { (-1.0, cost) };
                2.0 * c * y * (1.0 - y * f[i]).max(0.0)
            };
            let pulls: Vec<f64> = (0..n).map(pull).collect();
            let pulled = &rows.combined(&[&pulls], 1)[0];
            let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
            let apart = norm(&mut weights[0].iter().zip(pulled).map(|(v, p)| v - p));
            // The terms of which the gradient is what is left: it cannot be nearer to zero than their rounding
            // errors.
            let terms = norm(&mut weights[0].iter().copied()) + pulls.iter().map(|p| p.abs()).sum::<f64>();
            assert!(terms > 0.0 && apart <= 1e-8 * terms, "{n}×{dim} at {cost}: {apart} of {terms}");
        }
    }
}

#[test]
fn what_cannot_be_evaluated_is_refused_in_words() {
    let (features, targets) = noise(30, 4, 3);
    let config = SvmConfig::default();
    let run = |train: &[Target], test: &[Target], config: &SvmConfig| {
        let train = Labelled { features: &features, targets: train };
        let test = Labelled { features: &features, targets: test };
        svm(train, test, 4, 1, config, &mut |_, _| ()).unwrap_err().to_string()
    };
    let with = |shown: usize| -> Vec<Target> {
        (0..30).map(|i| if i < shown { Target::Present } else { Target::Absent }).collect()
    };
    for (train, words) in [
        (with(0), "0 training images show it; 3 folds need 3"),
        (with(1), "1 training image show it"),
        (with(28), "2 training images do not show it"),
    ] {
        assert!(run(&train, &targets, &config).contains(words), "{words}");
    }
    assert!(run(&targets, &[Target::Ignored; 30], &config).contains("no test image shows it"));
    assert!(run(&targets[1..], &targets, &config).contains("30 rows of 1, found 29"));
    for (config, words) in [
        (SvmConfig { costs: vec![], ..SvmConfig::default() }, "list of costs"),
        (SvmConfig { costs: vec![0.0], ..SvmConfig::default() }, "above 0"),
        (SvmConfig { folds: 1, ..SvmConfig::default() }, "folds"),
    ] {
        assert!(run(&targets, &targets, &config).contains(words), "{words}");
    }
    // Ignored images are negatives in training.
    let ignored: Vec<Target> =
        targets.iter().map(|t| if *t == Target::Absent { Target::Ignored } else { *t }).collect();
    assert_eq!(unusable(&ignored, &targets, 0, 1, 3), None);
}

/// Features like those of images, `[n, dim]`: rectified mixtures of few causes of falling weight. A class is shown
/// where a mixture of the causes is high.
fn like_images(n: usize, dim: usize, rates: &[f64]) -> (Vec<f32>, Vec<Target>) {
    const CAUSES: usize = 256;
    let mut state = 5u64;
    let mut normal = || {
        let mut unit = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        (0..6).map(|_| unit() - 0.5).sum::<f64>() * std::f64::consts::SQRT_2
    };
    let weight = |cause: usize| 1.0 / (1.0 + cause as f64).powf(0.7);
    let causes: Vec<f64> = (0..n * CAUSES).map(|i| normal() * weight(i % CAUSES)).collect();
    let mixing: Vec<f64> = (0..CAUSES * dim).map(|_| normal()).collect();
    let mut mixed = vec![0.0; n * dim];
    crate::dense::add_product(
        &mut crate::dense::MatrixMut::by_cols(&mut mixed, dim, n, dim),
        0.0,
        1.0,
        crate::dense::Matrix::by_cols(&mixing, dim, CAUSES, dim),
        crate::dense::Matrix::by_cols(&causes, CAUSES, n, CAUSES),
    );
    let features = mixed.iter().map(|v| (v + 0.5 * normal() - 1.0).max(0.0) as f32).collect();
    let mut targets = vec![Target::Absent; n * rates.len()];
    for (class, rate) in rates.iter().enumerate() {
        let direction: Vec<f64> = (0..CAUSES).map(|_| normal()).collect();
        let mut scores: Vec<(f64, usize)> = causes
            .chunks_exact(CAUSES)
            .map(|c| c.iter().zip(&direction).map(|(c, d)| c * d).sum::<f64>() + 0.8 * normal())
            .zip(0..n)
            .collect();
        scores.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (_, image) in scores.iter().take((rate * n as f64) as usize) {
            targets[image * rates.len() + class] = Target::Present;
        }
    }
    (features, targets)
}

/// `OCELLI_PUBLISHED_SIZE=1` times the published protocol at its size, which takes minutes; else a small set.
#[test]
fn every_cost_of_both_lists_converges() {
    let rates: Vec<f64> =
        (0..20).map(|class| if class == 14 { 0.42 } else { 0.03 + 0.006 * f64::from(class) }).collect();
    let published = std::env::var_os("OCELLI_PUBLISHED_SIZE").is_some();
    let (n, dim) = if published { (5011, 8192) } else { (240, 12) };
    let (features, targets) = like_images(n, dim, &rates);
    let labelled = Labelled { features: &features, targets: &targets };
    for (name, costs) in [("OpenSelfSup", openselfsup_costs()), ("VISSL", VISSL_COSTS.to_vec())] {
        let started = std::time::Instant::now();
        let mut told = 0.0;
        let mut progress = |done: usize, all: usize| {
            let elapsed = started.elapsed().as_secs_f64();
            if elapsed > told + 2.0 {
                told = elapsed;
                println!("{name}: {done} of {all} SVMs after {elapsed:.1} s");
            }
        };
        let config = SvmConfig { costs, threads: 2, ..SvmConfig::default() };
        let report = svm(labelled, labelled, dim, rates.len(), &config, &mut progress).unwrap();
        println!(
            "{name}: {:.1} s in all, {} not converged",
            started.elapsed().as_secs_f64(),
            report.not_converged
        );
        for (rate, class) in rates.iter().zip(&report.classes) {
            let aps: Vec<String> = class.cv_ap.iter().map(|ap| format!("{:.1}", 100.0 * ap)).collect();
            println!("rate {rate:.3}: cost {}, cross-validated {}", class.cost, aps.join(" "));
        }
        assert_eq!(report.not_converged, 0);
    }
}
