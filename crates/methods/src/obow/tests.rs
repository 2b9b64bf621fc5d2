//! What OBoW keeps between steps.

use burn::tensor::TensorData;
use ocelli_models::{BackboneConfig, ResNetArch, ResNetConfig, Stem};

use super::*;
use crate::optim::{OptimConfig, Optimizer, OptimizerKind, StepRates};
use crate::train_step;

const IMAGES: usize = 4;

fn config() -> ObowConfig {
    ObowConfig { words: 12, hidden_dim: 6, ..ObowConfig::default() }
}

fn obow(config: &ObowConfig, seed: u64) -> Obow {
    let arch: ResNetArch = "resnet-18c2".parse().unwrap();
    let backbone = BackboneConfig::ResNet(ResNetConfig { stem: Stem::Cifar, ..arch.into() });
    Obow::new(config, |init: &mut Init| backbone.init(init), seed, &Device::flex()).unwrap()
}

/// Views of 40, 24 and 16 px with another pattern for each image and step.
fn batch(step: usize) -> Batch {
    let views = [(1, 40), (2, 24), (3, 16)].map(|(count, side): (usize, usize)| {
        let mut draw = Draw((step * 10 + side) as u64);
        let mut value = || draw.below(1000) as f32 / 500.0 - 1.0;
        let values: Vec<f32> = (0..count * IMAGES * 3 * side * side).map(|_| value()).collect();
        Tensor::from_data(TensorData::new(values, [count * IMAGES, 3, side, side]), &Device::flex())
    });
    Batch::of_views(views.to_vec(), IMAGES)
}

fn step(
    method: &mut Obow,
    optimizer: &mut Optimizer,
    optim: &OptimConfig,
    iteration: usize,
    parts: usize,
) -> Vec<f32> {
    let momentum = method.momentum(iteration, 10).unwrap();
    let clock = StepClock { epoch: 0, iteration, micro_batch: 0, momentum, seed: 5 };
    let rates = StepRates { lr: 0.05, weight_decay: 1e-3, clip: 0.0 };
    let batches: Vec<Batch> = (0..parts).map(|p| batch(iteration * 100 + p)).collect();
    train_step(method, (optimizer, optim), &batches, clock, &rates).into_data().try_to_vec().unwrap()
}

fn bits(state: &StateDict) -> Vec<(String, Vec<u32>)> {
    state.tensors.iter().map(|(n, t)| (n.clone(), t.values.iter().map(|v| v.to_bits()).collect())).collect()
}

fn optim() -> OptimConfig {
    OptimConfig { optimizer: OptimizerKind::Sgd, decay_all: true, ..OptimConfig::default() }
}

#[test]
fn it_goes_on_bit_for_bit_and_refuses_another_state() {
    let optim = optim();
    let (mut whole, mut optimizer) = (obow(&config(), 1), Optimizer::new(&optim));
    for iteration in 0..3 {
        let figures = step(&mut whole, &mut optimizer, &optim, iteration, 2);
        assert!(figures.iter().all(|f| f.is_finite()), "{figures:?}");
        assert_eq!(figures.len(), FIGURES.len() + 2);
    }
    let (state, of_optimizer) = (whole.state().unwrap(), optimizer.state().unwrap());
    let (mut again, mut its_optimizer) = (obow(&config(), 2), Optimizer::new(&optim));
    again.load_state(&state).unwrap();
    its_optimizer.load(&of_optimizer, again.network()).unwrap();
    for iteration in 3..6 {
        let expected = step(&mut whole, &mut optimizer, &optim, iteration, 2);
        assert_eq!(step(&mut again, &mut its_optimizer, &optim, iteration, 2), expected);
    }
    let last = bits(&whole.state().unwrap());
    assert_eq!(bits(&again.state().unwrap()), last);

    for missing in
        ["words1_distance_mean", "words0", "student.predictor1.fc.weight", "teacher.backbone.conv1.weight"]
    {
        let mut part = state.clone();
        part.tensors.retain(|(name, _)| name != missing);
        assert_eq!(part.tensors.len() + 1, state.tensors.len(), "{missing}");
        assert!(again.load_state(&part).is_err(), "{missing}");
        assert_eq!(bits(&again.state().unwrap()), last, "{missing}: a refused state changes nothing");
    }
    let other = ObowConfig { words: 16, ..config() };
    assert!(obow(&other, 1).load_state(&state).unwrap_err().to_string().contains("[16, 8] here, [12, 8] there"));
}

#[test]
fn student_and_teacher_begin_alike_and_the_teacher_has_no_predictors() {
    let method = obow(&config(), 3);
    let own: std::collections::BTreeMap<_, _> = bits(&method.state().unwrap()).into_iter().collect();
    let teacher: Vec<_> = own.keys().filter(|name| name.starts_with("teacher.")).collect();
    assert!(teacher.iter().all(|name| name.starts_with("teacher.backbone.")));
    for name in teacher {
        assert_eq!(own[name], own[&name.replace("teacher.", "student.")], "{name}");
    }
    assert!(own.contains_key("student.predictor1.last.bias") && !own.contains_key("student.predictor2.last.bias"));
    let message = Obow::<AnyBackbone>::new(&ObowConfig { levels: 5, ..config() }, vit, 0, &Device::flex());
    assert!(message.err().unwrap().to_string().contains("obow.levels: expected 1 to 4"));
    let message = Obow::<AnyBackbone>::new(&config(), vit, 0, &Device::flex()).err().unwrap().to_string();
    assert!(
        message.contains("obow.levels: expected at most 1, the levels of this backbone, found 2"),
        "{message}"
    );
}

fn vit(init: &mut Init) -> Result<AnyBackbone, ocelli_models::BackboneError> {
    BackboneConfig::Vit("vit-32x1x2/8".parse::<ocelli_models::Arch>().unwrap().config(16, 0.0)).init(init)
}

/// What it says it holds is what its state has beside the trained network, but for the vocabularies' pointers.
#[test]
fn it_holds_what_it_says() {
    for levels in [1, 3] {
        let mut method = obow(&ObowConfig { levels, ..config() }, 0);
        let optim = optim();
        step(&mut method, &mut Optimizer::new(&optim), &optim, 0, 1);
        let state = method.state().unwrap();
        let beside = state.tensors.iter().filter(|(n, _)| !n.starts_with("student.") && !n.ends_with("_ptr"));
        assert_eq!(beside.map(|(_, t)| t.values.len()).sum::<usize>(), method.held_values(), "{levels}");
    }
}

/// Images that are all the same are what a teacher that sees no difference makes of any: the signs are there. Of others they are
/// not.
#[test]
fn collapse_is_seen_and_nothing_else_is() {
    for is_same in [true, false] {
        let (mut method, optim) = (obow(&config(), 1), optim());
        let mut optimizer = Optimizer::new(&optim);
        let mut row = std::collections::BTreeMap::new();
        // From the seventh step on the last bits of the arithmetic decide: gradients are a hundred times the weights.
        for iteration in 0..6 {
            let mut batch = batch(iteration);
            if is_same {
                let first = |v: &Tensor<4>| v.clone().narrow(0, 0, 1).repeat_dim(0, v.dims()[0]);
                batch.views = batch.views.iter().map(first).collect();
            }
            let clock = StepClock { epoch: 0, iteration, micro_batch: 0, momentum: 0.99, seed: 5 };
            let rates = StepRates { lr: 0.05, weight_decay: 1e-3, clip: 0.0 };
            let found = train_step(&mut method, (&mut optimizer, &optim), &[batch], clock, &rates);
            let found: Vec<f32> = found.into_data().try_to_vec().unwrap();
            row = FIGURES.iter().map(|f| f.name).zip(found.into_iter().map(f64::from)).collect();
        }
        let seen = super::super::OBOW.signs.iter().filter(|s| s.is_seen(&row, &method.levels()));
        let seen: Vec<_> = seen.map(|s| s.name).collect();
        let expected: &[&str] = if is_same { &["constant_features", "same_bag", "all_words"] } else { &[] };
        assert_eq!(seen, expected, "{row:?}");
    }
}

/// The cells of new words depend on seed, step and level, and on nothing else.
#[test]
fn new_words_come_from_anywhere() {
    let clock = |iteration| StepClock { epoch: 0, iteration, micro_batch: 0, momentum: 0.0, seed: 1 };
    let drawn = |iteration, level| random_cells(&clock(iteration), level, [40, 9]);
    assert_eq!(drawn(0, 0), drawn(0, 0));
    assert!(drawn(0, 0) != drawn(1, 0) && drawn(0, 0) != drawn(0, 1));
    let all: std::collections::BTreeSet<usize> = (0..20).flat_map(|i| drawn(i, 0)).collect();
    assert_eq!(all, (0..9).collect());
}
