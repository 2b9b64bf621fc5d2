//! InfoMin beside its reference.

use burn::tensor::{Device, Tensor};
use ocelli::methods::{Batch, InfoMin, InfoMinConfig, MocoConfig, StepClock, jigsaw_order};
use ocelli::models::Mode;
use ocelli::models::weights::HostTensor;

use super::{Small, Steps, init_of, optim_of};
use crate::support::{Fixture, Tolerance, assert_close, device, values};

const PATCHES: usize = 9;

fn method_of(f: &Fixture, device: &Device) -> InfoMin<Small> {
    let config = InfoMinConfig {
        contrast: MocoConfig {
            hidden_dim: 0,
            out_dim: f.usize("out"),
            queue: f.usize("queue"),
            temperature: f.f64("T"),
            momentum: f.f64("m"),
            shuffle_keys: true,
            ..MocoConfig::default()
        },
        jigsaw: f.f64("beta"),
    };
    let mut method = InfoMin::new(&config, Small::of(f), 3, device).unwrap();
    let mut state = init_of(f, &[("query.", "key.")]);
    for (_, queue) in state.tensors.iter_mut().filter(|(name, _)| name == "queue") {
        *queue = transposed(queue);
    }
    state.tensors.push(("queue_ptr".into(), HostTensor { shape: vec![1], values: vec![0.0] }));
    ocelli::methods::Method::load_state(&mut method, &state).unwrap();
    method
}

/// The reference's queue has a row for each entry, ours a column.
fn transposed(rows: &HostTensor) -> HostTensor {
    let (entries, dim) = (rows.shape[0], rows.shape[1]);
    let value = |i: usize| rows.values[i % entries * dim + i / entries];
    HostTensor { shape: vec![dim, entries], values: (0..entries * dim).map(value).collect() }
}

/// What the method draws an order from at a step of [`Steps`].
fn seed_of(step: usize) -> u64 {
    StepClock { epoch: step, iteration: step, micro_batch: 0, momentum: 0.0, seed: 0 }.step_seed()
}

/// Views and patches of a step, patch by patch. The patches lie so that in the order the method draws, the reference's stand
/// where it has them.
fn batch_of(f: &Fixture, step: usize, device: &Device) -> Batch {
    let images = f.usize("batch");
    let view = |name: &str| f.tensor::<4>(&format!("step{step}.{name}"), device);
    let patches = f.tensor::<5>(&format!("step{step}.patches"), device).flatten::<4>(0, 1);
    let wanted = f.integers(&format!("step{step}.permutation"));
    let drawn = jigsaw_order(images, seed_of(step));
    let mut from = vec![0; images * PATCHES];
    for image in 0..images {
        for place in image * PATCHES..(image + 1) * PATCHES {
            from[drawn[place] * images + image] = image * PATCHES + wanted[place];
        }
    }
    let patches = from.into_iter().map(|row| patches.clone().narrow(0, row, 1)).collect();
    Batch::of_views(vec![Tensor::cat(vec![view("view0"), view("view1")], 0), Tensor::cat(patches, 0)], images)
}

#[cfg_attr(test, test)]
pub fn three_steps() {
    let f = Fixture::load("infomin_train");
    let device = device();
    let mut method = method_of(&f, &device);
    let batch = |step: usize| batch_of(&f, step, &device);
    let momentum = |_: usize| f.f64("m");
    let steps = Steps {
        f: &f,
        optim: optim_of(&f),
        trained: "query.",
        follower: "key.",
        batch: &batch,
        momentum: &momentum,
    };
    let pointers = f.integers("queue_ptr");
    steps.run(&mut method, |step, output, method| {
        for key in ["loss_instance", "loss_jigsaw"] {
            let found = output.scalars.iter().find(|(name, _)| *name == key).unwrap().1.clone();
            let expected = &f.get(key).values[step..=step];
            let near = Tolerance::of(&f.json["tolerance"]["loss"], expected);
            assert_close(&format!("{key}[{step}]"), &values(found), expected, near);
        }
        let expected = &f.get(&format!("step{step}.queue_after")).values;
        let near = Tolerance::of(&f.json["tolerance"]["queue"], expected);
        let found = values(method.queue().entries().transpose());
        assert_close(&format!("queue after {step}"), &found, expected, near);
        assert_eq!(method.queue().pointer(), pointers[step], "pointer after {step}");
    });
}

/// What both encoders make of the first batch.
#[cfg_attr(test, test)]
pub fn embeddings() {
    let f = Fixture::load("infomin_train");
    let device = device();
    let method = method_of(&f, &device);
    let mode = Mode::Train { seed: 0 };
    let image = |name: &str| f.tensor::<4>(&format!("step0.{name}"), &device);
    let patches = f.tensor::<5>("step0.patches", &device).flatten::<4>(0, 1);
    let order = f.integers("step0.permutation");
    let query = method.query_net();
    for (name, found) in [
        ("key", method.key_net().forward(image("view1"), mode).0),
        ("query", query.forward(image("view0").autodiff(), mode).0),
        ("query_jigsaw", query.forward_jigsaw(patches.autodiff(), &order, mode)),
    ] {
        let expected = &f.get(&format!("step0.{name}")).values;
        let near = Tolerance::of(&f.json["tolerance"]["queue"], expected);
        assert_close(name, &values(found), expected, near);
    }
}
