//! OBoW beside the reference: targets, loss and gradients of one level, and whole steps.

use std::rc::Rc;

use burn::tensor::Tensor;
use ocelli::methods::bow::{BagFigures, bag_loss, bags_of_words, codes, distances, entropies, inner, new_words};
use ocelli::methods::{Batch, BowPredictor, Method as _, Obow, ObowConfig};
use ocelli::models::weights::{HostTensor, ModuleState as _, StateDict};
use ocelli::models::{Backbone as _, Init, Mode, params};

use super::{Small, Steps, at, init_of, optim_of};
use crate::support::{Fixture, Tolerance, assert_close, device, values};

/// Rows image by image (row = image·count + view), as the fixtures have them, view by view.
fn by_view<const D: usize>(rows: Tensor<D>, images: usize) -> Tensor<D> {
    let n = rows.dims()[0];
    let count = n / images;
    let order: Vec<i32> = (0..count).flat_map(|v| (0..images).map(move |i| (i * count + v) as i32)).collect();
    let order = Tensor::from_data(burn::tensor::TensorData::new(order, [n]), &rows.device());
    rows.select(0, order)
}

fn close(f: &Fixture, name: &str, found: &[f32], kind: &str) {
    let expected = &f.get(name).values;
    assert_close(
        &format!("{} {name}", f.name),
        found,
        expected,
        Tolerance::of(&f.json["tolerance"][kind], expected),
    );
}

#[cfg_attr(test, test)]
pub fn loss() {
    let f = Fixture::load("loss_obow");
    let device = device();
    let (batch, inv_delta, kappa) = (f.usize("batch"), f.f64("inv_delta"), f.f64("kappa"));
    let map = inner(f.tensor::<4>("teacher_map", &device));
    let words: Tensor<2> = f.tensor("dictionary", &device);
    let (decay, before) = (f.f64("distance_mean_decay"), f.f64("distance_mean_before"));
    let mut after = None;
    let bags = bags_of_words(map.clone(), &words, inv_delta, |nearest| {
        let mean = nearest * (1.0 - decay) + before * decay;
        after = Some(mean.clone());
        mean
    });
    let mean = after.unwrap();
    close(&f, "distance_mean_after", &values(mean.clone()), "loss");
    close(&f, "bow", &values(bags.bags.clone()), "loss");
    let [_, dim, rows, cols] = map.dims();
    let cells = map.clone().flatten::<3>(2, 3).swap_dims(1, 2).reshape([batch * rows * cols, dim]);
    close(&f, "codes", &values(codes(distances(cells, &words), &mean, inv_delta)), "loss");
    close(&f, "new_words", &values(new_words(map, &f.integers("new_word_location"))), "loss");

    let shape = [f.usize("channels"), f.usize("predictor_hidden"), f.usize("student_dim")];
    let predictor = BowPredictor::new(shape, &mut Init::new(0, &device.clone().autodiff()));
    let mut state = StateDict::default();
    state.add_module("", &predictor).unwrap();
    for (name, tensor) in &mut state.tensors {
        let stored = if name == "fc.weight" { "predictor.fc".to_owned() } else { format!("predictor.{name}") };
        if let Some(given) = f.tensors.get(&stored) {
            *tensor = given.clone();
        }
    }
    let predictor = state.load_into(predictor).unwrap();
    let features: Tensor<2> = f.tensor("student_features", &device);
    let features = features.autodiff().require_grad();
    let weights = predictor.forward(words.autodiff(), Mode::Train { seed: 0 });
    let logits = features.clone().matmul(weights.clone().transpose()) * kappa;
    close(&f, "logits", &values(logits.inner()), "loss");
    let kl = bag_loss(by_view(features.clone(), batch), weights, &bags.bags, kappa);
    close(&f, "loss_kl", &values(kl.clone().inner()), "loss");
    let ce = kl.clone().inner() + entropies(bags.bags).mean();
    close(&f, "loss_ce", &values(ce), "loss");

    let mut gradients = kl.backward();
    close(&f, "grad.student_features", &values(features.grad(&gradients).unwrap()), "grad");
    let found = params::take_gradients(&predictor, &mut gradients);
    let expected = f.tensors.under("grad.predictor.");
    assert_eq!(found.len(), expected.tensors.len());
    for (name, gradient) in found {
        let stored = if name == "fc.weight" { "fc" } else { &name };
        let shape = &expected.get(stored).unwrap_or_else(|| panic!("no gradient of {stored}")).shape;
        let gradient = match shape[..] {
            [out, input] => values(gradient.reshape([input, out]).transpose()),
            _ => values(gradient),
        };
        close(&f, &format!("grad.predictor.{stored}"), &gradient, "grad");
    }
}

/// The configuration of the fixture, its values and its draws of new words.
fn method_of(f: &Rc<Fixture>) -> Obow<Small> {
    let alpha = f.f64("alpha_base");
    let levels = f.config()["mu0"].as_array().unwrap().len();
    let config = ObowConfig {
        words: f.usize("words"),
        hidden_dim: f.usize("hid"),
        levels,
        inv_delta: f.f64("inv_delta"),
        kappa: f.f64("kappa"),
        momentum: alpha,
        distance_momentum: f.f64("mu_decay"),
    };
    let drawn = f.clone();
    let mut method =
        Obow::new(&config, Small::of(f), 1, &device()).unwrap().with_cells(move |clock, level, [n, cells]| {
            let given = drawn.integers(&format!("step{}.new_word_location{level}", clock.iteration));
            assert!(given.len() == n && given.iter().all(|c| *c < cells));
            given
        });
    let mut state = init_of(f, &[]);
    for level in 0..levels {
        let mut add = |end: &str, value: f64| {
            let tensor = HostTensor { shape: vec![1], values: vec![value as f32] };
            state.tensors.push((format!("words{level}_{end}"), tensor));
        };
        add("ptr", 0.0);
        add("distance_mean", at(&f.config()["mu0"], level));
    }
    method.load_state(&state).unwrap();
    method
}

fn batch_of(f: &Fixture, step: usize) -> Batch {
    let (images, device) = (f.usize("batch"), device());
    let view = |name: &str| f.tensor::<4>(&format!("step{step}.{name}"), &device);
    let views = [view("student_crops"), view("student_patches")].map(|v| by_view(v, images));
    let [crops, patches] = views;
    assert_eq!(crops.dims()[0], images * f.usize("ncrops"));
    assert_eq!(patches.dims()[0], images * f.usize("npatches"));
    Batch::of_views(vec![view("teacher_view"), crops, patches], images)
}

#[cfg_attr(test, test)]
pub fn three_steps() {
    let f = Rc::new(Fixture::load("obow_train"));
    let mut method = method_of(&f);
    for step in 0..f.usize("steps") {
        let found = method.momentum(step, f.usize("total_steps")).unwrap();
        assert!((found - at(&f.config()["alpha"], step)).abs() < 1e-12);
    }
    let mut words: Vec<Tensor<2>> = method.vocabularies().iter().map(|v| v.words()).collect();
    let (inv_delta, levels) = (f.f64("inv_delta"), words.len());
    let steps = Steps {
        f: &f,
        optim: optim_of(&f),
        trained: "student.",
        follower: "teacher.",
        batch: &|step| batch_of(&f, step),
        momentum: &|step| at(&f.config()["alpha"], step),
    };
    steps.run(&mut method, |step, output, method| {
        let scalar = |name: &str| {
            let found = output.scalars.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("no {name}"));
            found.1.clone().into_scalar::<f32>()
        };
        let loss = Tolerance::of(&f.json["tolerance"]["loss"], &[]);
        let near = |what: &str, found: f32, expected: f32| {
            assert_close(&format!("{} {what} of step {step}", f.name), &[found], &[expected], loss);
        };
        let groups = &f.get("loss_per_group").values[2 * step..2 * step + 2];
        near("loss of the crops", scalar("loss_crops"), groups[0]);
        near("loss of the patches", scalar("loss_patches"), groups[1]);
        // The teacher of this step is the one there is, and normalises by the batch as it did then; a copy of it, since that moves
        // its running statistics.
        let mut copy = method_of(&f);
        copy.load_state(&method.state().unwrap()).unwrap();
        let view = batch_of(&f, step).views[0].clone();
        let maps = copy.teacher().backbone.levels(view, Mode::Train { seed: 0 }, levels);
        let stored = |name: &str| f.get(name).values[levels * step..levels * (step + 1)].to_vec();
        for (level, (map, vocabulary)) in maps.into_iter().zip(method.vocabularies()).enumerate() {
            let mean = vocabulary.mean();
            let expected = &stored("distance_mean_after")[level..=level];
            let tolerance = Tolerance::of(&f.json["tolerance"]["distance_mean"], expected);
            assert_close(&format!("distance_mean{level}"), &values(mean.clone()), expected, tolerance);
            let bags = bags_of_words(inner(map), &words[level], inv_delta, |_| mean).bags;
            close(&f, &format!("step{step}.bow{level}"), &values(bags.clone()), "bow");
            let found = BagFigures::of(&bags);
            near("perplexity of an image", found.of_image.into_scalar(), stored("perplexity_per_image")[level]);
            near("perplexity of the batch", found.of_batch.into_scalar(), stored("perplexity_per_batch")[level]);
            close(&f, &format!("step{step}.words_after{level}"), &values(vocabulary.words()), "words");
            assert_eq!(vocabulary.pointer(), f.integers("words_ptr_after")[levels * step + level]);
            words[level] = vocabulary.words();
        }
        for (name, stored_name) in
            [("perplexity_image", "perplexity_per_image"), ("perplexity_batch", "perplexity_per_batch")]
        {
            near(name, scalar(name), stored(stored_name).iter().sum::<f32>() / levels as f32);
        }
    });
}

#[cfg_attr(test, test)]
pub fn the_first_features_and_weights() {
    let f = Rc::new(Fixture::load("obow_train"));
    let method = method_of(&f);
    let mode = Mode::Train { seed: 0 };
    let images = f.usize("batch");
    for (view, name) in batch_of(&f, 0).views.iter().skip(1).zip(["crops", "patches"]) {
        let features = method.student().backbone.features(view.clone().autodiff(), mode).inner();
        let name = format!("step0.student_features_{name}");
        let expected = values(by_view(f.tensor::<2>(&name, &device()), images));
        let tolerance = Tolerance::of(&f.json["tolerance"]["params"], &expected);
        assert_close(&name, &values(features), &expected, tolerance);
    }
    for (level, (predictor, vocabulary)) in method.student().predictors().zip(method.vocabularies()).enumerate() {
        let weights = predictor.forward(vocabulary.words().autodiff(), mode).inner();
        close(&f, &format!("step0.predicted_weights{level}"), &values(weights), "params");
    }
}
