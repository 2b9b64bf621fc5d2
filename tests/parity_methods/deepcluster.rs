//! DeepCluster-v2's k-means, loss, memory bank and training steps.

use burn::tensor::{Device, Int, Tensor, TensorData};
use ocelli::methods::{
    Batch, DeepCluster, DeepClusterConfig, Epoch, Method, StepClock, deepcluster_terms, kmeans::kmeans,
};
use ocelli::models::weights::StateDict;

use super::{Small, Steps, cat, init_of, integers, optim_of};
use crate::support::{Fixture, Tolerance, assert_close, device, values};

/// The fixture's integers, which may be below 0.
fn labels(f: &Fixture, name: &str) -> Vec<i32> {
    f.integers(name).into_iter().map(|v| v as i64 as i32).collect()
}

#[cfg_attr(test, test)]
pub fn loss() {
    let f = Fixture::load("loss_deepcluster");
    let device = device();
    let heads = integers(&f.config()["heads"]);
    let (index, assigned) = (f.integers("dataset_index"), labels(&f, "assignments"));
    let images = assigned.len() / heads.len();
    let ignored = f.config()["ignore_index"].as_i64().unwrap() as i32;
    let left_out = |h: usize| index.iter().filter(|i| assigned[h * images + **i] == ignored).count();
    assert!((0..heads.len()).any(|h| left_out(h) > 0), "no image without a cluster");
    let tracked = device.clone().autodiff();
    let scores: Vec<Tensor<2>> =
        (0..heads.len()).map(|h| f.tensor::<2>(&format!("scores{h}"), &tracked).require_grad()).collect();
    let of = |(h, scores): (usize, &Tensor<2>)| {
        assert_eq!(scores.dims(), [f.usize("crops") * f.usize("batch"), heads[h]]);
        let labels: Vec<i32> = index.iter().map(|i| assigned[h * images + i]).collect();
        let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [index.len()]), &device);
        (scores.clone(), labels)
    };
    let terms = deepcluster_terms(scores.iter().enumerate().map(of).collect(), f.f64("temperature"));
    let gradients = terms.loss.backward();
    let check = |what: &str, found: Vec<f32>, kind: &str| {
        let expected = &f.get(what).values;
        assert_close(what, &found, expected, Tolerance::of(&f.json["tolerance"][kind], expected));
    };
    assert_eq!(f.get("loss").values[0], f.json["expected"]["loss"].as_f64().unwrap() as f32);
    check("loss", values(terms.loss), "loss");
    for (h, scores) in scores.iter().enumerate() {
        check(&format!("grad.scores{h}"), values(scores.grad(&gradients).unwrap()), "grad");
    }
}

#[cfg_attr(test, test)]
pub fn clusters() {
    let f = Fixture::load("loss_deepcluster");
    let device = device();
    let number = |key: &str| crate::support::as_usize(&f.config()["kmeans"][key], key);
    let (bank, start) = (f.tensor::<2>("kmeans.bank", &device), f.tensor::<2>("kmeans.start_centroids", &device));
    assert_eq!((bank.dims(), start.dims()), ([number("points"), number("dim")], [number("k"), number("dim")]));
    let third = number("points") / 3;
    let parts = [bank.clone().narrow(0, 0, third), bank.narrow(0, third, number("points") - third)];
    let found = kmeans(&parts, start, number("iterations"));
    let expected = &f.get("kmeans.centroids").values;
    let near = Tolerance::of(&f.json["tolerance"]["kmeans.centroids"], expected);
    assert_close("centroids", &values(found.centroids), expected, near);
    assert_eq!(f.json["tolerance"]["kmeans.assignments"], "exact");
    let found: Vec<usize> = found.assigned.into_data().iter::<i64>().map(|i| i as usize).collect();
    assert_eq!(found, f.integers("kmeans.assignments"));
}

fn method(f: &Fixture, state: &StateDict) -> DeepCluster<Small> {
    let config = DeepClusterConfig {
        heads: integers(&f.config()["heads"]),
        hidden_dim: f.usize("hid"),
        out_dim: f.usize("out"),
        temperature: f.f64("T"),
        iterations: f.usize("kmeans"),
    };
    let epoch = Epoch { images: f.usize("dataset size"), batch_size: f.usize("batch"), part: f.usize("batch") };
    let mut method = DeepCluster::new(&config, epoch, Small::of(f), 0, &device()).unwrap();
    method.load_state(state).unwrap();
    method
}

/// Crops `from..from + n` of a batch, and its images' numbers.
fn batch(f: &Fixture, what: &str, number: usize, local: usize, device: &Device) -> Batch {
    let crops = |from: usize, n: usize| {
        let names: Vec<String> = (from..from + n).map(|i| format!("{what}{number}.crop{i}")).collect();
        cat(f, &names, device)
    };
    let images = f.usize("batch");
    let mut views = vec![crops(0, 2)];
    if local > 0 {
        views.push(crops(2, local));
    }
    let indices = f.integers(&format!("{what}_index"))[number * images..][..images].to_vec();
    Batch { indices, ..Batch::of_views(views, images) }
}

fn clock(epoch: usize, iteration: usize) -> StepClock {
    StepClock { epoch, iteration, micro_batch: 0, momentum: 0.0, seed: 0 }
}

fn check(f: &Fixture, state: &StateDict, name: &str, stored: &str, kind: &str) {
    let (found, expected) = (state.get(name).unwrap(), f.get(stored));
    assert_eq!(found.shape, expected.shape, "{name}");
    let near = Tolerance::of(&f.json["tolerance"][kind], &expected.values);
    assert_close(stored, &found.values, &expected.values, near);
}

fn check_bank(f: &Fixture, state: &StateDict, when: &str) {
    check(f, state, "bank.embeddings", &format!("{when}_bank.embeddings"), "bank, centroids");
    let index: Vec<usize> = state.get("bank.index").unwrap().values.iter().map(|i| *i as usize).collect();
    assert_eq!(index, f.integers(&format!("{when}_bank.index")));
}

/// Clusters the bank as the fixture does, and compares what is found.
fn cluster(f: &Fixture, method: &mut DeepCluster<Small>, epoch: usize, prefix: &str) {
    let heads = f.config()["heads"].as_array().unwrap().len();
    let starts: Vec<Vec<usize>> = (0..heads).map(|h| f.integers(&format!("{prefix}kmeans_start{h}"))).collect();
    method.cluster_from(epoch, &starts);
    let state = method.state().unwrap();
    for h in 0..heads {
        check(f, &state, &format!("centroids{h}"), &format!("{prefix}centroids{h}"), "bank, centroids");
    }
    let found: Vec<i32> = state.get("assignments").unwrap().values.iter().map(|v| *v as i32).collect();
    assert_eq!(found, labels(f, &format!("{prefix}assignments")), "{prefix}assignments");
}

#[cfg_attr(test, test)]
pub fn an_epoch_of_three_steps() {
    let f = Fixture::load("deepcluster_train");
    let device = device();
    let mut method = method(&f, &init_of(&f, &[]));
    for t in 0..f.usize("steps") {
        assert!(method.wants_pass());
        method.see(&batch(&f, "bank", t, 0, &device), &clock(0, t));
    }
    assert!(!method.wants_pass());
    let state = method.state().unwrap();
    check_bank(&f, &state, "init");
    for (name, _) in &f.tensors.under("after_bank.").tensors {
        check(&f, &state, name, &format!("after_bank.{name}"), "buffers");
    }
    cluster(&f, &mut method, 0, "");

    let step = |step: usize| batch(&f, "step", step, f.usize("nlocal"), &device);
    // A copy, as a forward pass moves the running statistics.
    let copy = |state: &StateDict| self::method(&f, state);
    let embeddings = copy(&method.state().unwrap()).embeddings(&step(0), &clock(0, 0));
    let expected = &f.get("step0.embedding").values;
    let near = Tolerance::of(&f.json["tolerance"]["bank, centroids"], expected);
    assert_close("step0.embedding", &values(embeddings), expected, near);

    Steps { f: &f, optim: optim_of(&f), trained: "", follower: "", batch: &step, momentum: &|_| 0.0 }.run(
        &mut method,
        |done, output, method| {
            let names: Vec<&str> = output.scalars.iter().map(|s| s.0).collect();
            assert_eq!(names, method.figures().iter().map(|figure| figure.name).collect::<Vec<_>>());
            if done + 1 == f.usize("steps") {
                return;
            }
            // One that goes on from here in the same epoch keeps its clusters.
            let state = method.state().unwrap();
            let mut again = copy(&state);
            assert!(!again.wants_pass());
            again.begin_epoch(0);
            assert_eq!(state_of(&again.state().unwrap()), state_of(&state));
            let found = values(again.loss(&step(done + 1), &clock(done + 1, done + 1)).loss);
            let expected = &f.get("loss").values[done + 1..][..1];
            let near = Tolerance::of(&f.json["tolerance"]["loss"], expected);
            assert_close("loss of a copy", &found, expected, near);
        },
    );
    check_bank(&f, &method.state().unwrap(), "end");
    let mut own = copy(&method.state().unwrap());
    cluster(&f, &mut method, 1, "next_");
    // By itself it starts from rows of its own, the same whenever it is asked.
    let mut other = copy(&own.state().unwrap());
    own.begin_epoch(1);
    other.begin_epoch(1);
    assert_eq!(state_of(&own.state().unwrap()), state_of(&other.state().unwrap()));
    assert_eq!(own.state().unwrap().get("clustered_epoch").unwrap().values, [1.0]);
}

fn state_of(state: &StateDict) -> Vec<(String, Vec<u32>)> {
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect();
    state.tensors.iter().map(|(name, tensor)| (name.clone(), bits(&tensor.values))).collect()
}
