use burn::tensor::{Device, Tensor, TensorData};

use super::*;
use crate::golden::Fixture;

/// The CPU; or burn's default device (a GPU where there is one) when `OCELLI_TEST_DEFAULT_DEVICE` is set.
fn device() -> Device {
    if std::env::var_os("OCELLI_TEST_DEFAULT_DEVICE").is_some() { Device::default() } else { Device::flex() }
}

fn matrix(values: Vec<f32>, columns: usize) -> Tensor<2> {
    let rows = values.len() / columns;
    Tensor::from_data(TensorData::new(values, [rows, columns]), &device())
}

/// Reproducible values in (-1, 1), clustered around one direction per class.
fn clusters(rows: usize, dim: usize, classes: u32, seed: u32) -> (Tensor<2>, Vec<u32>) {
    let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        f32::from(state as u16) / 32768.0 - 1.0
    };
    let mut values = Vec::with_capacity(rows * dim);
    let mut labels = Vec::with_capacity(rows);
    for row in 0..rows {
        let class = row as u32 % classes;
        labels.push(class);
        values.extend((0..dim).map(|d| next() + if d as u32 % classes == class { 0.6 } else { 0.0 }));
    }
    (matrix(values, dim), labels)
}

struct KnnFixture {
    fixture: Fixture,
    train: Tensor<2>,
    train_labels: Vec<u32>,
    test: Tensor<2>,
    test_labels: Vec<u32>,
    classes: usize,
    ks: Vec<usize>,
    temperatures: Vec<f64>,
}

fn fixture() -> KnnFixture {
    let fixture = Fixture::load("knn");
    let config = fixture.json["config"].clone();
    let dim = config["dim"].as_u64().unwrap() as usize;
    let labels = |name: &str| fixture.i64s(name).into_iter().map(|l| l as u32).collect::<Vec<_>>();
    KnnFixture {
        train: matrix(fixture.f32s("train_features"), dim),
        train_labels: labels("train_labels"),
        test: matrix(fixture.f32s("test_features"), dim),
        test_labels: labels("test_labels"),
        classes: config["classes"].as_u64().unwrap() as usize,
        ks: config["k"].as_array().unwrap().iter().map(|k| k.as_u64().unwrap() as usize).collect(),
        temperatures: config["temperatures"].as_array().unwrap().iter().map(|t| t.as_f64().unwrap()).collect(),
        fixture,
    }
}

fn check_fixture(selection: Selection) {
    let f = fixture();
    assert_eq!(f.train.dims()[0], f.fixture.json["config"]["train"].as_u64().unwrap() as usize);
    assert_eq!(f.test.dims()[0], f.fixture.json["config"]["test"].as_u64().unwrap() as usize);
    let rtol = f.fixture.json["tolerance"]["votes"]["rtol"].as_f64().unwrap();
    // "0.5 percentage point (…)"
    let points = f.fixture.json["tolerance"]["top1/top5"].as_str().unwrap();
    let points: f64 = points.split(' ').next().unwrap().parse().unwrap();
    // "indices may swap where similarities differ by less than 1e-6"
    let swaps = f.fixture.json["tolerance"].as_object().unwrap();
    let swaps = swaps.iter().find(|(key, _)| key.starts_with("neighbours")).unwrap().1.as_str().unwrap();
    let swaps: f64 = swaps.rsplit(' ').next().unwrap().parse().unwrap();
    let mut checked = 0;
    for &temperature in &f.temperatures {
        let config =
            KnnConfig { ks: f.ks.clone(), temperature, train_chunk: 256, selection, ..Default::default() };
        let report =
            knn(f.train.clone(), &f.train_labels, f.test.clone(), &f.test_labels, f.classes, &config).unwrap();
        // The neighbours themselves are stored as well: as many as the tensor's name says.
        let names = f.fixture.names();
        let stored = *names.iter().find(|n| n.starts_with("neighbours")).expect("no neighbours in the fixture");
        let width = f.fixture.shape(stored)[1];
        let k_max = width.max(*f.ks.iter().max().unwrap());
        let found =
            burn::tensor::read_sync(find_neighbours_async(f.train.clone(), f.test.clone(), k_max, &config))
                .unwrap();
        for &k in &f.ks {
            let key = format!("T{temperature:?}.k{k}");
            let expected = &f.fixture.json["expected"][&key];
            let result = report.get(k).unwrap();
            assert!(
                (result.top1 - expected["top1_percent"].as_f64().unwrap()).abs() <= points,
                "{key} {result:?}"
            );
            match result.top5 {
                Some(top5) => {
                    let expected = expected["top5_percent"].as_f64().unwrap();
                    assert!((top5 - expected).abs() <= points, "{key} {result:?}");
                }
                // With so few votes or classes it says nothing.
                None => assert!(k < 5 || f.classes <= 5, "{key} {result:?}"),
            }
            let predictions = f.fixture.i64s(&format!("{key}.predictions"));
            assert_eq!(predictions.len(), result.predictions.len(), "{key}");
            let differing = predictions
                .iter()
                .zip(&result.predictions)
                .filter(|(want, got)| **want != i64::from(**got))
                .count();
            // As many as the percentage allows.
            let allowed = points * predictions.len() as f64 / 100.0;
            assert!(differing as f64 <= allowed, "{key}: {differing} predictions differ");
            let name = format!("{key}.votes");
            if names.contains(&name.as_str()) {
                let want = f.fixture.f32s(&name);
                assert_eq!(want.len(), f.test_labels.len() * f.classes, "{name}");
                for (row, want) in want.chunks_exact(f.classes).enumerate() {
                    for (got, want) in
                        found.votes(row, k, &f.train_labels, f.classes, temperature).into_iter().zip(want)
                    {
                        let want = f64::from(*want);
                        assert!((got - want).abs() <= rtol * want.abs(), "{key} row {row}: {got} for {want}");
                    }
                }
                checked += 1;
            }
        }
        let want = f.fixture.i64s(stored);
        for (row, want) in want.chunks_exact(width).enumerate() {
            let similarities = found.similarities(row);
            for (place, (got, want)) in found.indices(row).iter().zip(want).enumerate() {
                if i64::from(*got) != *want {
                    let other = found.indices(row).iter().position(|i| i64::from(*i) == *want).unwrap();
                    let gap = f64::from((similarities[place] - similarities[other]).abs());
                    assert!(gap < swaps, "row {row}, place {place}: {got} for {want}, gap {gap}");
                }
            }
        }
    }
    assert!(checked > 0, "no votes were compared");
}

#[test]
fn fixture_selecting_on_the_host() {
    check_fixture(Selection::Host);
}

#[test]
fn fixture_selecting_on_the_device() {
    check_fixture(Selection::Device);
}

#[test]
fn tile_sizes_do_not_change_the_result() {
    let (train, train_labels) = clusters(233, 24, 7, 1);
    let (test, test_labels) = clusters(41, 24, 7, 2);
    let run = |test_chunk, train_chunk, selection| {
        let config = KnnConfig { ks: vec![1, 5, 20], test_chunk, train_chunk, selection, ..Default::default() };
        knn(train.clone(), &train_labels, test.clone(), &test_labels, 7, &config).unwrap()
    };
    let whole = run(1000, 1000, Selection::Host);
    assert!(whole.results[2].top1 > 50.0, "the clusters should be found: {whole:?}");
    for selection in [Selection::Host, Selection::Device, Selection::Auto] {
        assert_eq!(run(7, 7, selection), whole, "{selection:?}");
        assert_eq!(run(1, 50, selection), whole, "{selection:?}");
        assert_eq!(run(1000, 1000, selection), whole, "{selection:?}");
    }
}

#[test]
fn k_beyond_the_training_set_uses_all_of_it() {
    let (train, train_labels) = clusters(9, 8, 3, 3);
    let (test, test_labels) = clusters(3, 8, 3, 4);
    let config = KnnConfig { ks: vec![9, 200], train_chunk: 4, ..Default::default() };
    let report = knn(train, &train_labels, test, &test_labels, 3, &config).unwrap();
    assert_eq!(report.results[1].k, 200);
    assert_eq!(report.results[1].neighbours, 9);
    assert_eq!(report.results[0].predictions, report.results[1].predictions);
    assert_eq!(report.test_rows, 3);
}

#[test]
fn top5_only_where_it_says_something() {
    let (train, train_labels) = clusters(30, 8, 6, 5);
    let (test, test_labels) = clusters(6, 8, 6, 6);
    let config = KnnConfig { ks: vec![1, 4, 5, 30], ..Default::default() };
    let report = knn(train.clone(), &train_labels, test.clone(), &test_labels, 6, &config).unwrap();
    let with: Vec<bool> = report.results.iter().map(|r| r.top5.is_some()).collect();
    assert_eq!(with, [false, false, true, true]);
    let labels: Vec<u32> = train_labels.iter().map(|l| l % 5).collect();
    let test_labels: Vec<u32> = test_labels.iter().map(|l| l % 5).collect();
    let report = knn(train, &labels, test, &test_labels, 5, &config).unwrap();
    assert!(report.results.iter().all(|r| r.top5.is_none()));
}

#[test]
fn a_class_without_votes_is_no_top5_hit() {
    let votes = [0.0, 3.0, 0.0, 1.0, 3.0, 0.0];
    assert_eq!(argmax(&votes), 1);
    assert_eq!(rank(&votes, 4), Some(1));
    assert_eq!(rank(&votes, 3), Some(2));
    assert_eq!(rank(&votes, 0), None);
}

#[test]
fn one_class_is_always_right() {
    let (train, _) = clusters(20, 8, 2, 7);
    let (test, _) = clusters(5, 8, 2, 8);
    let report = knn(train, &[0; 20], test, &[0; 5], 1, &KnnConfig::default()).unwrap();
    assert!(report.results.iter().all(|r| r.top1 == 100.0 && r.top5.is_none()));
}

#[test]
fn equal_similarities_go_to_the_lowest_index() {
    // Twelve equal rows among others that point away.
    let train = matrix((0..24).flat_map(|row| if row % 2 == 0 { [1.0, 0.0] } else { [0.0, 1.0] }).collect(), 2);
    let test = matrix(vec![2.0, 0.0], 2);
    for (selection, train_chunk) in [(Selection::Host, 5), (Selection::Host, 100), (Selection::Device, 5)] {
        let config = KnnConfig { train_chunk, selection, ..Default::default() };
        let found =
            burn::tensor::read_sync(find_neighbours_async(train.clone(), test.clone(), 4, &config)).unwrap();
        assert_eq!(found.indices(0), [0, 2, 4, 6], "{selection:?} {train_chunk}");
    }
}

#[test]
fn bad_input_is_refused() {
    let (train, train_labels) = clusters(10, 8, 2, 9);
    let (test, test_labels) = clusters(4, 8, 2, 10);
    let go = |train: &Tensor<2>, labels: &[u32], test: &Tensor<2>, test_labels: &[u32], config: &KnnConfig| {
        knn(train.clone(), labels, test.clone(), test_labels, 2, config).unwrap_err().to_string()
    };
    let config = KnnConfig::default();
    let none = Tensor::<2>::zeros([0, 8], &device());
    assert!(go(&none, &[], &test, &test_labels, &config).contains("training set is empty"));
    assert!(go(&train, &train_labels, &none, &[], &config).contains("test set is empty"));
    assert!(go(&train, &train_labels[1..], &test, &test_labels, &config).contains("train labels"));
    assert!(go(&train, &train_labels, &test, &[0, 1, 2, 0], &config).contains("test label 2 at row 2"));
    let narrow = clusters(4, 7, 2, 1).0;
    assert!(go(&train, &train_labels, &narrow, &test_labels, &config).contains("expected 8 columns"));
    for bad in [
        KnnConfig { ks: vec![], ..Default::default() },
        KnnConfig { ks: vec![0], ..Default::default() },
        KnnConfig { temperature: 0.0, ..Default::default() },
        KnnConfig { temperature: f64::NAN, ..Default::default() },
        KnnConfig { train_chunk: 0, ..Default::default() },
    ] {
        assert!(bad.validate().is_err(), "{bad:?}");
        go(&train, &train_labels, &test, &test_labels, &bad);
    }
    let mut values = vec![0.5; 80];
    values[42] = f32::NAN;
    assert!(go(&matrix(values, 8), &train_labels, &test, &test_labels, &config).contains("not finite"));
}

#[test]
fn normalising_ignores_row_length() {
    let normal = l2_normalise(matrix(vec![3.0, 4.0, 0.0, 0.0], 2)).into_data();
    assert_eq!(normal.try_into_vec_as::<f32>().unwrap(), [0.6, 0.8, 0.0, 0.0]);
}
