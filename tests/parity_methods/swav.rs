//! SwAV's codes, loss and training steps.

use burn::tensor::{Device, Tensor};
use ocelli::methods::optim::{GradientSum, Optimizer, StepRates};
use ocelli::methods::{Batch, Method, MethodError, StepClock, Swav, SwavConfig, Update, sinkhorn, swav_loss};
use ocelli::models::weights::{HostTensor, StateDict};
use ocelli::models::{Backbone, Init};
use serde_json::Value;

use super::{Small, Steps, at, cat, init_of, optim_of, vit_of};
use crate::support::{Fixture, Tolerance, assert_close, device, number_after, values};

/// Crops that have codes; the fixtures' queues and codes are of two.
const ASSIGNED: usize = 2;

#[cfg_attr(test, test)]
pub fn loss() {
    let f = Fixture::load("loss_swav");
    let device = device();
    assert_eq!(f.usize("global_crops"), ASSIGNED);
    let views = ASSIGNED + f.usize("local_crops");
    let (batch, epsilon, iterations) = (f.usize("batch"), f.f64("epsilon"), f.usize("iterations"));
    let [_, queued, dim] = f.get("queue").shape[..] else { panic!("a queue of three axes") };
    assert_eq!((queued, dim), (f.usize("queue"), f.usize("dim")));
    let prototypes = f.tensor::<2>("prototypes", &device);
    assert_eq!(prototypes.dims(), [f.usize("prototypes"), dim]);
    let check = |what: &str, found: Vec<f32>, kind: &str| {
        let expected = &f.get(what).values;
        assert_close(what, &found, expected, Tolerance::of(&f.json["tolerance"][kind], expected));
    };
    for case in ["plain", "with_queue"] {
        let tracked = device.clone().autodiff();
        let scores: Vec<Tensor<2>> =
            (0..views).map(|v| f.tensor::<2>(&format!("scores{v}"), &tracked).require_grad()).collect();
        let codes: [Tensor<2>; ASSIGNED] = std::array::from_fn(|i| {
            let own = scores[i].clone().inner();
            if case == "plain" {
                return sinkhorn(own, epsilon, iterations);
            }
            let queue = f.tensor::<3>("queue", &device).narrow(0, i, 1).reshape([queued, dim]);
            let queue = queue.matmul(prototypes.clone().transpose());
            sinkhorn(Tensor::cat(vec![queue, own], 0), epsilon, iterations).narrow(0, queued, batch)
        });
        for (i, codes) in codes.iter().enumerate() {
            check(&format!("{case}.codes{i}"), values(codes.clone()), "codes");
        }
        let loss = swav_loss(Tensor::cat(scores.clone(), 0), codes, f.f64("temperature"));
        let gradients = loss.backward();
        assert_eq!(f.get(&format!("{case}.loss")).values[0], f.json["expected"][case].as_f64().unwrap() as f32);
        check(&format!("{case}.loss"), values(loss), "loss");
        for (v, scores) in scores.iter().enumerate() {
            check(&format!("{case}.grad.scores{v}"), values(scores.grad(&gradients).unwrap()), "grad");
        }
    }
}

fn config(f: &Fixture, queue: usize) -> SwavConfig {
    let main = &f.config()["queue runs"]["main"];
    SwavConfig {
        prototypes: f.usize("prototypes"),
        hidden_dim: f.usize("hid"),
        out_dim: f.usize("out"),
        head_norm: true,
        temperature: f.f64("T"),
        epsilon: f.f64("eps"),
        iterations: f.usize("iters"),
        queue,
        // Every step of the fixture is an epoch here.
        queue_from_epoch: main.as_str().map_or(0, |text| number_after(text, "from step ") as usize),
        freeze_prototypes_steps: f.usize("freeze"),
    }
}

fn batch(f: &Fixture, step: usize, device: &Device) -> Batch {
    let crops = |from: usize, n: usize| {
        let names: Vec<String> = (from..from + n).map(|i| format!("step{step}.crop{i}")).collect();
        cat(f, &names, device)
    };
    let local = f.usize("nlocal");
    let mut views = vec![crops(0, ASSIGNED)];
    if local > 0 {
        views.push(crops(ASSIGNED, local));
    }
    Batch::of_views(views, f.usize("batch"))
}

fn clock(step: usize) -> StepClock {
    StepClock { epoch: step, iteration: step, micro_batch: 0, momentum: 0.0, seed: 0 }
}

fn swav<B: Backbone, E: Into<MethodError>>(
    f: &Fixture,
    queue: usize,
    build: impl Fn(&mut Init) -> Result<B, E>,
    state: &StateDict,
) -> Swav<B> {
    let mut method = Swav::new(&config(f, queue), f.usize("batch"), build, 0, &device()).unwrap();
    method.load_state(state).unwrap();
    method
}

/// What the fixture has of the step that follows `state`: embeddings, scores, codes.
fn check_step<B: Backbone>(f: &Fixture, mut method: Swav<B>, step: usize) {
    let device = device();
    method.before_step(&clock(step));
    let outputs = method.outputs(&batch(f, step, &device), &clock(step));
    if let Some(used) = f.json["expected"]["queue_used"][step].as_bool() {
        let active = step >= config(f, 0).queue_from_epoch;
        assert_eq!(active && method.queue().is_some_and(|q| q.is_full()), used, "queue at step {step}");
    }
    let normalised = method.state().unwrap().get("prototypes.weight").unwrap().values.clone();
    let codes = method.codes(&outputs, f.usize("batch"), &clock(step));
    let [first, second] = codes.map(values);
    let mut compared = 0;
    for (name, found, kind) in [
        ("prototypes_normalised", normalised, "params"),
        ("embedding", values(outputs.embeddings), "params"),
        ("scores", values(outputs.scores), "params"),
        ("codes0", first, "codes"),
        ("codes1", second, "codes"),
    ] {
        let name = format!("step{step}.{name}");
        let Some(expected) = f.tensors.get(&name) else { continue };
        compared += 1;
        let near = Tolerance::of(&f.json["tolerance"][kind], &expected.values);
        assert_close(&format!("{} {name}", f.name), &found, &expected.values, near);
    }
    assert!(compared >= 2, "{}: codes of step {step}", f.name);
}

fn three_steps<B: Backbone, E: Into<MethodError>>(
    f: &Fixture,
    queue: Option<&HostTensor>,
    build: impl Fn(&mut Init) -> Result<B, E> + Copy,
) {
    let device = device();
    let mut init = init_of(f, &[]);
    let rows = queue.map_or(0, |q| q.shape[1]);
    if let Some(queue) = queue {
        init.tensors.push(("queue".into(), queue.clone()));
    }
    let mut method = swav(f, rows, build, &init);
    check_step(f, swav(f, rows, build, &init), 0);
    let mut queues = 0;
    Steps {
        f,
        optim: optim_of(f),
        trained: "",
        follower: "",
        batch: &|step| batch(f, step, &device),
        momentum: &|_| 0.0,
    }
    .run(&mut method, |step, output, method| {
        let names: Vec<&str> = output.scalars.iter().map(|s| s.0).collect();
        assert_eq!(names, method.figures().iter().map(|figure| figure.name).collect::<Vec<_>>());
        let state = method.state().unwrap();
        let name = format!("step{step}.queue_after");
        if let Some(expected) = f.tensors.get(&name) {
            queues += 1;
            let near = Tolerance::of(&f.json["tolerance"]["params"], &expected.values);
            assert_close(&name, &state.get("queue").unwrap().values, &expected.values, near);
        }
        if step + 1 < f.usize("steps") {
            check_step(f, swav(f, rows, build, &state), step + 1);
        }
    });
    assert!(queue.is_none() || queues > 0, "{}: a queue and nothing to compare it with", f.name);
}

#[cfg_attr(test, test)]
pub fn three_steps_with_a_full_queue() {
    let f = Fixture::load("swav_train");
    let build = Small::of(&f);
    let from = config(&f, 0).queue_from_epoch;
    let queue = f.get(&format!("step{from}.queue_before"));
    assert_eq!(queue.shape[1], f.usize("queue"));
    three_steps(&f, Some(queue), &build);
}

/// Losses of the fixture's steps with a queue of so many rows, which starts as zeros.
fn losses(f: &Fixture, queue: usize) -> Vec<f32> {
    let device = device();
    let mut method = swav(f, queue, Small::of(f), &init_of(f, &[]));
    let optim = optim_of(f);
    let mut optimizer = Optimizer::new(&optim);
    let step = |step: usize| {
        let clock = clock(step);
        let rate = |value: &Value| at(value, step);
        let rates = StepRates { lr: rate(&f.config()["lr"]), weight_decay: rate(&f.config()["wd"]), clip: 0.0 };
        method.before_step(&clock);
        let output = method.loss(&batch(f, step, &device), &clock);
        let mut gradients = GradientSum::default();
        gradients.add(method.network().take_gradients(&mut output.loss.backward()), 1.0);
        method.update(Update {
            optimizer: &mut optimizer,
            gradients,
            rates: &rates,
            config: &optim,
            clock: &clock,
        });
        method.after_step(&clock);
        values(output.loss)[0]
    };
    (0..f.usize("steps")).map(step).collect()
}

#[cfg_attr(test, test)]
pub fn a_queue_of_zeros_is_used_once_it_is_full_and_none_is_none() {
    let f = Fixture::load("swav_train");
    for (name, queue) in [("loss_zero_queue", f.usize("batch")), ("loss_no_queue", 0)] {
        let expected = &f.get(name).values;
        let near = Tolerance::of(&f.json["tolerance"]["loss"], expected);
        assert_close(name, &losses(&f, queue), expected, near);
    }
}

#[cfg_attr(test, test)]
pub fn three_steps_of_a_vit() {
    let f = Fixture::load("vit_contrast_train_swav");
    let vit = vit_of(&f);
    three_steps(&f, None, |init: &mut Init| vit.init(init));
}

/// In parts codes are those of the whole batch: without statistics of a batch the step is the same.
#[cfg_attr(test, test)]
pub fn a_batch_in_parts_has_the_codes_of_the_whole() {
    let f = Fixture::load("vit_contrast_train_swav");
    let (device, vit) = (device(), vit_of(&f));
    let config = SwavConfig { head_norm: false, ..config(&f, 0) };
    let whole = batch(&f, 0, &device);
    let images = whole.images / 2 * 2;
    let part = |from: usize, n: usize| {
        let of = |views: &Tensor<4>| {
            let count = views.dims()[0] / whole.images;
            let rows = (0..count).map(|v| views.clone().narrow(0, v * whole.images + from, n)).collect();
            Tensor::cat(rows, 0)
        };
        Batch::of_views(whole.views.iter().map(of).collect(), n)
    };
    let losses = |parts: &[Batch]| {
        let build = |init: &mut Init| vit.init(init);
        let mut method = Swav::new(&config, images, build, 3, &device).unwrap();
        method.before_step(&clock(0));
        if parts.len() > 1 {
            method.before_parts(parts, &clock(0));
        }
        let of = |(micro_batch, part): (usize, &Batch)| {
            values(method.loss(part, &StepClock { micro_batch, ..clock(0) }).loss)[0]
        };
        let all: Vec<f32> = parts.iter().enumerate().map(of).collect();
        all.iter().sum::<f32>() / all.len() as f32
    };
    let (at_once, in_parts) =
        (losses(&[part(0, images)]), losses(&[part(0, images / 2), part(images / 2, images / 2)]));
    assert!((at_once - in_parts).abs() < 1e-5 * at_once, "{at_once} {in_parts}");
}
