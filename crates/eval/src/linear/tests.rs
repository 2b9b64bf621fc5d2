use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;

use super::*;
use crate::golden::Fixture;

/// Rows of numbers of images.
struct Features {
    values: Vec<f32>,
    dim: usize,
}

impl Features {
    fn rows(&self, of: &[usize]) -> Tensor<2> {
        let values: Vec<f32> = of.iter().flat_map(|i| self.values[i * self.dim..][..self.dim].to_vec()).collect();
        Tensor::from_data(TensorData::new(values, [of.len(), self.dim]), &Device::flex())
    }

    fn all(&self) -> Tensor<2> {
        self.rows(&(0..self.values.len() / self.dim).collect::<Vec<_>>())
    }
}

/// `[items, blocks, tokens, dim]` and `[items, channels, height, width]` as a protocol takes them.
fn features(f: &Fixture, set: &str, kind: &str) -> Features {
    let tokens = f.f32s(&format!("{set}.tokens"));
    let [items, blocks, count, dim] = f.shape(&format!("{set}.tokens")).try_into().unwrap();
    let token = |item: usize, block: usize, token: usize| {
        &tokens[((item * blocks + block) * count + token) * dim..][..dim]
    };
    let of = |item: usize| -> Vec<f32> {
        match kind {
            "cls_concat" => (0..blocks).flat_map(|block| token(item, block, 0).to_vec()).collect(),
            "cls_avgpool" => {
                let mean =
                    |j: usize| (1..count).map(|t| token(item, blocks - 1, t)[j]).sum::<f32>() / (count - 1) as f32;
                (0..dim).flat_map(|j| [token(item, blocks - 1, 0)[j], mean(j)]).collect()
            }
            "map_avgpool" => {
                let map = f.f32s(&format!("{set}.map"));
                let [_, channels, height, width] = f.shape(&format!("{set}.map")).try_into().unwrap();
                let cells = height * width;
                let mean =
                    |c: usize| map[(item * channels + c) * cells..][..cells].iter().sum::<f32>() / cells as f32;
                (0..channels).map(mean).collect()
            }
            _ => token(item, blocks - 1, 0).to_vec(),
        }
    };
    let values: Vec<f32> = (0..items).flat_map(of).collect();
    Features { dim: values.len() / items, values }
}

fn config(run: &Value, fixture: &Value) -> ProbeConfig {
    let number = |key: &str| run[key].as_f64().unwrap();
    let whole = |v: &Value| v.as_u64().unwrap() as usize;
    ProbeConfig {
        rates: vec![number("lr")],
        epochs: whole(&fixture["epochs"]),
        batch_size: whole(&fixture["batch_size"]),
        drop_last: run["drop_last"].as_bool().unwrap_or(false),
        optimizer: if run["optimizer"] == "lars" { ProbeOptimizer::Lars } else { ProbeOptimizer::Sgd },
        schedule: match run["schedule"].as_str().unwrap() {
            "cosine_per_epoch" => ProbeSchedule::CosinePerEpoch,
            "steps" => ProbeSchedule::Steps(run["milestones"].as_array().unwrap().iter().map(whole).collect()),
            "warmup_cosine_per_iteration" => ProbeSchedule::WarmupCosine(whole(&run["warmup_epochs"])),
            other => panic!("{other}"),
        },
        weight_decay: number("weight_decay"),
        input: match (run.get("batch_norm_eps"), run["feature"].as_str().unwrap()) {
            (Some(_), _) => ProbeInput::BatchNorm,
            (None, "l2_standardised") => ProbeInput::Standardised,
            _ => ProbeInput::Raw,
        },
        batch_norm_epsilon: run["batch_norm_eps"].as_f64().unwrap_or(1e-6),
    }
}

fn read_all(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

/// |found − expected| ≤ share of the largest expected value.
fn assert_near(what: &str, found: &[f32], expected: &[f32], share: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        let off = (f64::from(*a) - f64::from(*b)).abs();
        assert!(off <= share * largest, "{what}[{i}]: expected {b}, found {a}");
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// The feature a run takes: published expressions are checked against what the fixture stores of them.
fn stored_features_agree(f: &Fixture) {
    for name in f.names().into_iter().filter(|n| n.starts_with("val.feature.")) {
        let found = features(f, "val", &name["val.feature.".len()..]);
        assert_near(name, &found.values, &f.f32s(name), 1e-6);
    }
}

/// Every protocol of the fixture, alone and as one of three heads side by side.
#[test]
fn published_protocols_step_by_step() {
    let f = Fixture::load("linear_probe");
    stored_features_agree(&f);
    let runs = f.json["config"]["runs"].as_array().unwrap().clone();
    for run in &runs {
        for side_by_side in [false, true] {
            follow(&f, run, side_by_side);
        }
    }
    assert!(runs.len() > 3, "the fixture has a run for each protocol");
}

fn follow(f: &Fixture, run: &Value, side_by_side: bool) {
    let (key, fixture) = (run["key"].as_str().unwrap(), &f.json["config"]);
    let mut config = config(run, fixture);
    let rate = config.rates[0];
    // Its neighbours learn at other rates, one of them so fast that it breaks.
    let own = usize::from(side_by_side);
    if side_by_side {
        config.rates = vec![0.5 * rate, rate, 1e30];
    }
    let (train, val) = (
        features(f, "train", run["feature"].as_str().unwrap()),
        features(f, "val", run["feature"].as_str().unwrap()),
    );
    let classes = fixture["classes"].as_u64().unwrap() as usize;
    let labels = |set: &str| f.i64s(&format!("{set}.labels")).iter().map(|l| *l as u32).collect::<Vec<u32>>();
    let (train_labels, val_labels) = (labels("train"), labels("val"));
    let init = f.f32s(&format!("{key}.init_weight"));
    let mut probe = LinearProbe::new(&config, classes, train.dim, &init, &Device::flex()).unwrap();
    if f.names().contains(&format!("{key}.init_bias").as_str()) {
        probe.set_bias(&f.f32s(&format!("{key}.init_bias"))).unwrap();
    }
    probe.see_all(train.all());
    if config.input == ProbeInput::Standardised {
        let [mean, variance] = probe.statistics.clone().unwrap();
        assert_near("mean", &read_all(mean), &f.f32s(&format!("{key}.mean")), 1e-5);
        assert_near("variance", &read_all(variance), &f.f32s(&format!("{key}.var")), 1e-5);
    }
    let (expected, tolerance) = (&f.json["expected"][key], &f.json["tolerance"]);
    let (losses, rates) = (numbers(&expected["loss_per_step"]), numbers(&expected["learning_rate_per_step"]));
    let order: Vec<usize> = f.i64s("order").iter().map(|i| *i as usize).collect();
    let images = train_labels.len();
    let steps = config.steps_per_epoch(images);
    assert_eq!(losses.len(), steps * config.epochs, "{key}");
    let share = |what: &str| tolerance[what]["atol_times_tensor_max_abs"].as_f64().unwrap();
    for epoch in 0..config.epochs {
        let order = &order[epoch * images..][..images];
        for (step, batch) in order.chunks(config.batch_size).take(steps).enumerate() {
            let at = epoch * steps + step;
            let factor = config.factor(epoch, step, steps);
            assert!((rate * factor - rates[at]).abs() <= 1e-9 * rate, "{key}: the rate of step {at}");
            let batch_labels: Vec<u32> = batch.iter().map(|i| train_labels[*i]).collect();
            let found = probe.step(train.rows(batch), &batch_labels, factor);
            let loss: Vec<f32> = found.losses.into_data().try_to_vec().unwrap();
            let (atol, rtol) = (
                tolerance["loss_per_step"]["atol"].as_f64().unwrap(),
                tolerance["loss_per_step"]["rtol"].as_f64().unwrap(),
            );
            let off = (f64::from(loss[own]) - losses[at]).abs();
            assert!(
                off <= atol + rtol * losses[at].abs(),
                "{key}: loss {at}: expected {}, found {loss:?}",
                losses[at]
            );
        }
        let (first, weight) = (own * classes, probe.weight.clone());
        let name = format!("{key}.epoch{}", epoch + 1);
        let found = read_all(weight.narrow(1, first, classes).transpose());
        assert_near(&name, &found, &f.f32s(&format!("{name}.weight")), share("weights"));
        let found = read_all(probe.bias.clone().narrow(1, first, classes));
        assert_near(&name, &found, &f.f32s(&format!("{name}.bias")), share("weights"));
        check_scores(&probe, &val, &val_labels, expected, (key, epoch, own));
    }
    let logits = read_all(probe.logits(val.all()).narrow(1, own * classes, classes));
    assert_near(key, &logits, &f.f32s(&format!("{key}.val_logits")), share("val_logits"));
    // What is kept of a head gives the same logits by itself.
    let head = probe.head(own).unwrap();
    assert_near(
        key,
        &read_all(head.logits(val.all())),
        &f.f32s(&format!("{key}.val_logits")),
        share("val_logits"),
    );
    if config.input == ProbeInput::BatchNorm {
        let [mean, variance] = probe.statistics.clone().unwrap();
        assert_near(key, &read_all(mean), &f.f32s(&format!("{key}.running_mean")), share("weights"));
        assert_near(key, &read_all(variance), &f.f32s(&format!("{key}.running_var")), share("weights"));
    }
}

fn check_scores(probe: &LinearProbe, val: &Features, labels: &[u32], expected: &Value, at: (&str, usize, usize)) {
    let (key, epoch, own) = at;
    let mut scorer = Scorer::new(probe.heads(), probe.classes);
    let logits = read_all(probe.logits(val.all()));
    let row = probe.heads() * probe.classes;
    // In two parts: figures of parts add up.
    let half = labels.len() / 2;
    scorer.add(&logits[..half * row], &labels[..half]).unwrap();
    scorer.add(&logits[half * row..], &labels[half..]).unwrap();
    let score = scorer.scores()[own].unwrap();
    let item = 100.0 / labels.len() as f64 + 1e-9;
    let top1 = numbers(&expected["val_top1_percent_per_epoch"])[epoch];
    assert!((score.top1 - top1).abs() <= item, "{key}: top-1 {} for {top1}", score.top1);
    if let Some(found) = score.top5 {
        let top5 = numbers(&expected["val_top5_percent_per_epoch"])[epoch];
        assert!((found - top5).abs() <= item, "{key}: top-5 {found} for {top5}");
    }
    let loss = numbers(&expected["val_loss_per_epoch"])[epoch];
    assert!((score.loss - loss).abs() <= 1e-5 + 2e-4 * loss, "{key}: loss {} for {loss}", score.loss);
}

fn small(rates: &[f64]) -> ProbeConfig {
    Published::Dino.config(rates, 10, 4)
}

/// A rate that breaks its head leaves the others alone, and the figures of a step are the best head's.
#[test]
fn a_broken_head_is_told_apart() {
    let device = Device::flex();
    let mut probe =
        LinearProbe::new(&small(&[1e300, 0.1]), 2, 3, &[0.1, -0.2, 0.3, 0.2, 0.1, -0.1], &device).unwrap();
    let rows = |n: usize| {
        Tensor::<2>::from_data(TensorData::new((0..3 * n).map(|i| i as f32).collect(), [n, 3]), &device)
    };
    for _ in 0..3 {
        probe.step(rows(4), &[0, 1, 0, 1], 1.0);
    }
    let [loss, norm] = probe.step(rows(4), &[0, 1, 0, 1], 1.0).lowest();
    let (loss, norm) =
        (loss.into_data().try_to_vec::<f32>().unwrap(), norm.into_data().try_to_vec::<f32>().unwrap());
    assert!(loss[0].is_finite() && norm[0].is_finite() && loss.len() == 1, "{loss:?} {norm:?}");
    let mut scorer = Scorer::new(2, 2);
    scorer.add(&read_all(probe.logits(rows(4))), &[0, 1, 0, 1]).unwrap();
    let scores = scorer.scores();
    assert!(scores[0].is_none() && scores[1].is_some(), "{scores:?}");
}

/// What is saved goes on as if it had never stopped, to the last bit.
#[test]
fn state_goes_on_bit_for_bit() {
    let device = Device::flex();
    for published in Published::ALL {
        let config = published.config(&[0.1, 0.3], 10, 4);
        let fresh = || {
            let mut probe = LinearProbe::new(&config, 2, 3, &[0.1; 6], &device).unwrap();
            let rows: Vec<f32> = (0..12).map(|i| ((i * 7) % 5) as f32 - 1.5).collect();
            probe.see_all(Tensor::from_data(TensorData::new(rows, [4, 3]), &device));
            probe
        };
        let rows = |n: usize| -> Tensor<2> {
            Tensor::from_data(TensorData::new((0..12).map(|i| ((i * n) % 7) as f32).collect(), [4, 3]), &device)
        };
        let mut whole = fresh();
        whole.step(rows(2), &[0, 1, 1, 0], 0.5);
        let kept = whole.state();
        whole.step(rows(3), &[1, 1, 0, 0], 0.25);
        let mut again = fresh();
        again.load(|name| kept.iter().find(|(n, _)| *n == name).map(|(_, t)| t.clone())).unwrap();
        again.step(rows(3), &[1, 1, 0, 0], 0.25);
        for ((name, a), (_, b)) in whole.state().into_iter().zip(again.state()) {
            assert_eq!(read_all(a), read_all(b), "{published} {name}");
        }
        assert!(again.load(|_| None).is_err());
    }
}

#[test]
fn settings_are_checked_in_words() {
    let device = Device::flex();
    let refused =
        |config: ProbeConfig| LinearProbe::new(&config, 2, 3, &[0.0; 6], &device).err().unwrap().to_string();
    assert!(refused(small(&[])).contains("learning rates"));
    assert!(refused(small(&[0.1, -64.0])).contains("-1"));
    assert!(refused(ProbeConfig { epochs: 0, ..small(&[0.1]) }).contains("epochs"));
    assert!(refused(Published::Mae.config(&[0.1], 9, 1)).contains("batch_size"));
    assert!(LinearProbe::new(&small(&[0.1]), 2, 3, &[0.0; 5], &device).is_err());
}

/// Fewer epochs keep the proportions of the published ones.
#[test]
fn protocols_are_the_published_ones() {
    let dino = Published::Dino.config(&[0.001], 100, 1024);
    assert_eq!((dino.rates[0], dino.steps_per_epoch(1025)), (0.004, 2));
    let moco = Published::Moco.config(&[30.0], 100, 256);
    assert_eq!(
        (moco.rates[0], moco.factor(59, 0, 1), moco.schedule),
        (30.0, 1.0, ProbeSchedule::Steps(vec![60, 80]))
    );
    assert_eq!(Published::Moco.config(&[30.0], 10, 256).schedule, ProbeSchedule::Steps(vec![6, 8]));
    let mae = Published::Mae.config(&[0.1], 90, 16384);
    assert_eq!((mae.rates[0], mae.drop_last, mae.factor(0, 0, 7), mae.factor(10, 0, 7)), (6.4, true, 0.0, 1.0));
    assert_eq!("msf".parse::<Published>(), Ok(Published::Msf));
    assert!("simclr".parse::<Published>().unwrap_err().contains("dino, moco"));
}
