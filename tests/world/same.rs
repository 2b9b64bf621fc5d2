//! Two processes with a part of each batch each take the steps of one process with two parts.

use std::path::Path;

use serde_json::Value;

use crate::command::{ocelli, stdout};
use crate::launch::{Running, assert_done, figures, message, rows, tool, weights};

/// What all of them have: five steps of 8 images, every step's figures written.
const COMMON: [&str; 12] = [
    "--epochs",
    "1",
    "--quiet",
    "--set",
    "batch_size=8",
    "--set",
    "log.every_steps=1",
    "--set",
    "eval.every_epochs=0",
    "--set",
    "loader.threads=1",
    "--out",
];

fn train((ranks, device): (usize, &str), command: &[&str], out: &Path) {
    let out = out.display().to_string();
    let args = [command, &COMMON[..], &[out.as_str(), "--device", device]].concat();
    let output = Running::start(tool(ranks, &args)).end();
    assert_done(&output);
    assert_eq!(message(&output), "", "{ranks} processes have nothing to complain about");
}

/// Largest difference of any figure of any step, as a share of those above 1, and of any value of the last checkpoint, as a share of its
/// tensor's largest where that is above 1.
fn differences(command: &[&str], accumulate: usize, ranks: usize) -> [f64; 2] {
    differences_between(command, accumulate, [(1, "cpu"), (ranks, "cpu")], |_| true)
}

/// The same between two numbers of processes, each on a device, of the figures and values whose name `counts`.
fn differences_between(
    command: &[&str],
    accumulate: usize,
    both: [(usize, &str); 2],
    counts: fn(&str) -> bool,
) -> [f64; 2] {
    let folder = tempfile::tempdir().unwrap();
    let parts = format!("accumulate={accumulate}");
    let command = [command, &["--set", &parts]].concat();
    let runs = both.map(|(ranks, device)| {
        let out = folder.path().join(format!("{ranks}-{device}"));
        train((ranks, device), &command, &out);
        out
    });
    let [alone, together] = runs.each_ref().map(|run| figures(run));
    assert!(alone.len() >= 5 * 5, "{alone:?}");
    assert_eq!(alone.len(), together.len());
    let mut figure = 0.0f64;
    for ((name, a), (_, b)) in alone.iter().zip(&together).filter(|((name, _), _)| counts(name)) {
        assert!(a.is_finite() && b.is_finite(), "{name}: {a} {b}");
        figure = figure.max((a - b).abs() / a.abs().max(1.0));
    }
    let [alone, together] = runs.each_ref().map(|run| weights(run));
    assert!(alone.iter().map(|(name, _)| name).eq(together.iter().map(|(name, _)| name)));
    let mut weight = 0.0f64;
    for ((name, a), (_, b)) in alone.iter().zip(&together).filter(|((name, _), _)| counts(name)) {
        assert_eq!(a.len(), b.len(), "{name}");
        let scale = a.iter().fold(1.0f64, |most, value| most.max(f64::from(value.abs())));
        for (a, b) in a.iter().zip(b) {
            // Bits, not values: −0 is not 0.
            let apart =
                if a.to_bits() == b.to_bits() { 0.0 } else { f64::from((a - b).abs()).max(1e-300) / scale };
            weight = weight.max(apart);
        }
    }
    [figure, weight]
}

const VIT: [&str; 14] = [
    "pretrain",
    "--data",
    "scenes:40",
    "--preset",
    "laptop",
    "--arch",
    "vit-32x2x2/8",
    "--set",
    "dino.head.out_dim=64",
    "--set",
    "dino.head.hidden_dim=32",
    "--set",
    "optim.warmup_epochs=0",
    "--seed=3",
];

#[test]
fn dino_to_the_bit() {
    assert_eq!(differences(&VIT, 2, 2), [0.0, 0.0]);
    // Drop path is drawn by the number of the part.
    let dropping = [&VIT[..], &["--set", "drop_path=0.3"]].concat();
    assert_eq!(differences(&dropping, 2, 2), [0.0, 0.0]);
}

/// More parts than processes: sums are added in another order.
#[test]
fn dino_with_two_parts_each() {
    let [figure, weight] = differences(&VIT, 4, 2);
    assert!(figure < 1e-4 && weight < 1e-4, "{figure} {weight}");
}

/// Two processes with an adapter each, or that share the only one, against the CPU. With SGD: AdamW makes whole steps of rounding.
#[test]
fn dino_on_adapters() {
    let listed: Value = serde_json::from_str(&stdout(&ocelli(&["devices", "--json"]))).unwrap();
    if listed["adapters"].as_array().unwrap().is_empty() {
        println!("skipped: no adapter on this machine");
        return;
    }
    let command = [&VIT[..], &["--set", "optim.optimizer=sgd", "--set", "optim.lr=0.1"]].concat();
    let [figure, weight] = differences_between(&command, 2, [(1, "cpu"), (2, "gpu")], |_| true);
    println!("two processes on adapters: figures {figure:e}, weights {weight:e}");
    assert!(figure < 1e-4 && weight < 1e-4, "{figure:e} {weight:e}");
}

/// A narrow ResNet, 32 px, SGD.
fn resnet<'a>(method: &'a str, preset: &'a str, own: &[&'a str]) -> Vec<&'a str> {
    let common = [
        "pretrain",
        "--data",
        "scenes:40",
        "--preset",
        preset,
        "--method",
        method,
        "--arch",
        "resnet-18c4",
        "--set",
        "views.global_size_px=32",
        "--set",
        "resnet.norm_groups=1",
        "--set",
        "optim.warmup_epochs=0",
        "--set",
        "optim.optimizer=sgd",
        "--set",
        "optim.lr=0.1",
    ];
    let mut all = common.to_vec();
    all.extend(own.iter().flat_map(|set| ["--set", *set]));
    all
}

/// Statistics, queues and what is drawn are the same, and so is every bit.
fn assert_same(command: &[&str]) {
    let [figure, weight] = differences(command, 2, 2);
    println!("{}: figures {figure:e}, weights {weight:e}", command.join(" "));
    assert_eq!([figure, weight], [0.0, 0.0]);
}

#[test]
fn moco_and_its_queue() {
    assert_same(&resnet("moco", "moco-laptop", &["moco.queue=16"]));
}

#[test]
fn densecl_and_both_queues() {
    assert_same(&resnet("densecl", "densecl-laptop", &["moco.queue=16"]));
}

#[test]
fn infomin_and_its_queue() {
    assert_same(&resnet("infomin", "infomin-laptop", &["moco.queue=16", "views.local_size_px=16"]));
}

#[test]
fn byol_and_its_statistics() {
    assert_same(&resnet("byol", "byol-laptop", &["byol.hidden_dim=32", "byol.out_dim=16"]));
}

/// Methods whose loss couples the images that are computed at once: two processes with four images each against one with eight,
/// batch normalisation over all of them. Gradients are left out: where an activation is 0 but for rounding, ReLU lets all of a
/// gradient through or nothing, and these networks are narrow. The rate is low for the same reason.
#[test]
fn methods_that_couple_the_batch() {
    let counts = |name: &str| !name.contains("gradient_norm") && !name.starts_with("optimizer.");
    let shared = ["views.global_size_px=64", "optim.lr=1e-7", "optim.min_lr=0.0", "optim.scale_base=0"];
    for (method, own) in [
        ("simclr", &["simclr.hidden_dim=16", "simclr.out_dim=8"][..]),
        ("barlow", &["barlow.hidden_dim=16", "barlow.out_dim=16"]),
        ("vicreg", &["vicreg.dim=16"]),
        ("swav", &["swav.prototypes=16", "swav.queue=16", "swav.queue_from_epoch=0"]),
        ("deepcluster", &["deepcluster.heads=[5,6]", "deepcluster.out_dim=8"]),
        ("obow", &["views.global_size_px=40", "obow.words=32"]),
    ] {
        let preset = format!("{method}-laptop");
        let command = resnet(method, &preset, &[&shared, own].concat());
        let [figure, weight] = differences_between(&command, 1, [(1, "cpu"), (2, "cpu")], counts);
        println!("{method}: figures {figure:e}, weights {weight:e}");
        assert!(figure < 1e-5 && weight < 1e-5, "{method}: {figure:e} {weight:e}");
    }
}

#[test]
fn a_classifier_with_mixed_images() {
    let sets = ["finetune", "classification", "--data", "scenes:45", "--weights", "random:resnet-18c4"];
    let own = ["--set", "views.global_size_px=32", "--set", "optim.warmup_epochs=0"];
    assert_same(&[&sets[..], &own[..]].concat());
}

/// Each of three processes computes a third of the features.
#[test]
fn accuracy_of_features_that_all_computed() {
    let folder = tempfile::tempdir().unwrap();
    let evaluated = ["eval.every_epochs=1", "eval.linear=true", "batch_size=12", "accumulate=3"];
    let sets: Vec<&str> = evaluated.iter().flat_map(|set| ["--set", *set]).collect();
    let found = [1, 3].map(|ranks| {
        let out = folder.path().join(format!("{ranks}"));
        let name = out.display().to_string();
        let args = [&VIT[..], &COMMON[..], &[name.as_str(), "--device", "cpu"], &sets].concat();
        let output = Running::start(tool(ranks, &args)).end();
        assert_done(&output);
        let of = |event: &str, keys: &[&str]| -> Vec<Value> {
            rows(&out, event).iter().flat_map(|row| keys.iter().map(|key| row[*key].clone())).collect()
        };
        (of("baseline", &["raw_pixels", "untrained"]), of("epoch", &["knn", "linear_online"]))
    });
    let [(baseline, epoch), together] = &found;
    assert!(baseline.len() == 2 && epoch.len() == 2, "{found:?}");
    assert!(baseline.iter().chain(epoch).all(|value| !value.is_null()), "{found:?}");
    assert_eq!((baseline, epoch), (&together.0, &together.1));
}
