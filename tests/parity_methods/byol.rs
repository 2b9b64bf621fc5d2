//! BYOL: its loss, and whole steps on a conv backbone with LARS and on a Vision Transformer with AdamW.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use ocelli::methods::optim::{OptimConfig, Optimizer, OptimizerKind, StepRates};
use ocelli::methods::schedule::LrSchedule;
use ocelli::methods::{
    Batch, Byol, ByolConfig, ByolOutputs, Method, MethodError, StepClock, byol_loss, recipe, train_step,
};
use ocelli::models::weights::StateDict;
use ocelli::models::{Backbone, Init, ResNetError};

use super::{Small, Steps, at, cat, init_of, optim_of, vit_of};
use crate::support::{Fixture, Tolerance, assert_close, device, values};

#[cfg_attr(test, test)]
pub fn loss() {
    let f = Fixture::load("loss_byol");
    let device = device();
    let [p1, p2] = ["p1", "p2"].map(|name| f.tensor::<2>(name, &device).autodiff().require_grad());
    let targets = ["target1", "target2"].map(|name| f.tensor::<2>(name, &device));
    assert_eq!(p1.dims(), [f.usize("batch"), f.usize("dim")]);
    let loss = byol_loss([p1.clone(), p2.clone()], targets);
    let gradients = loss.backward();
    let check = |name: &str, found: &[f32], tolerance: &str| {
        let expected = &f.get(name).values;
        assert_close(name, found, expected, Tolerance::of(&f.json["tolerance"][tolerance], expected));
    };
    check("loss", &values(loss), "loss");
    check("grad.p1", &values(p1.grad(&gradients).unwrap()), "grad");
    check("grad.p2", &values(p2.grad(&gradients).unwrap()), "grad");
}

/// The fixture's networks, the target a copy of the online network without its predictor.
fn method<B: Backbone, E: Into<MethodError>>(
    f: &Fixture,
    [projector_layers, predictor_layers]: [usize; 2],
    build: impl Fn(&mut Init) -> Result<B, E>,
) -> Byol<B> {
    let config = ByolConfig {
        projector_layers,
        predictor_layers,
        hidden_dim: f.usize("hid"),
        out_dim: f.usize("out"),
        momentum: f.f64("base_tau"),
    };
    let mut method = Byol::new(&config, build, 3, &device()).unwrap();
    let copies = ["backbone.", "projector."].map(|part| (format!("online.{part}"), format!("target.{part}")));
    let copies: Vec<(&str, &str)> = copies.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    method.load_state(&init_of(f, &copies)).unwrap();
    method
}

fn view(f: &Fixture, step: usize, view: usize) -> Tensor<4> {
    f.tensor(&format!("step{step}.view{view}"), &device())
}

fn steps<B: Backbone>(f: &Fixture, new: impl Fn() -> Byol<B>) {
    // Predictions and projections of the first step, by networks that are thrown away: they move their running statistics.
    let (online, target) = new().outputs([view(f, 0, 0), view(f, 0, 1)], 0);
    let check = |name: &str, which: usize, found: Tensor<2>| {
        let name = format!("step0.{name}{which}");
        let expected = &f.get(&name).values;
        let near = Tolerance::of(&f.json["tolerance"]["params"], expected);
        assert_close(&format!("{} {name}", f.name), &values(found), expected, near);
    };
    for (which, ByolOutputs { predictions, .. }) in online.into_iter().enumerate() {
        check("prediction", which, predictions);
    }
    for (which, ByolOutputs { predictions, projections, .. }) in target.into_iter().enumerate() {
        check("target_projection", which, predictions);
        check("target_projection", which, projections);
    }

    let mut method = new();
    let momenta: Vec<f64> =
        (0..f.usize("steps")).map(|step| method.momentum(step, f.usize("total_steps")).unwrap()).collect();
    for (step, momentum) in momenta.iter().enumerate() {
        let expected = at(&f.config()["tau"], step);
        assert!((momentum - expected).abs() < 1e-12, "momentum of step {step}: {momentum} for {expected}");
    }
    let run = Steps {
        f,
        optim: optim_of(f),
        trained: "online.",
        follower: "target.",
        batch: &|step| {
            let names = [0, 1].map(|view| format!("step{step}.view{view}"));
            Batch::of_views(vec![cat(f, &names, &device())], f.usize("batch"))
        },
        momentum: &|step| momenta[step],
    };
    run.run(&mut method, |_, output, method| {
        let names: Vec<&str> = output.scalars.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, method.figures().iter().map(|figure| figure.name).collect::<Vec<_>>());
    });
    let state = method.state().unwrap();
    let predictor = |prefix: &str| state.tensors.iter().filter(|(n, _)| n.starts_with(prefix)).count();
    assert!(predictor("online.predictor.") > 0 && predictor("target.predictor.") == 0);
}

#[cfg_attr(test, test)]
pub fn three_steps() {
    let f = Fixture::load("byol_train");
    // The learning rates are the schedule's, too.
    let config = OptimConfig { min_lr: 0.0, warmup_epochs: 0, ..optim_of(&f) };
    let schedule = LrSchedule::new(&config, f.f64("base_lr"), 1, f.usize("total_steps"));
    for step in 0..f.usize("steps") {
        assert!((schedule.at(step) - at(&f.config()["lr"], step)).abs() < 1e-12);
    }
    let heads = f.config()["projector, predictor"].as_str().unwrap();
    let layers = heads.split(';').next().unwrap().matches("Linear").count();
    steps(&f, || method(&f, [layers; 2], Small::of(&f)));
}

#[cfg_attr(test, test)]
pub fn three_steps_of_a_vit() {
    let f = Fixture::load("vit_contrast_train_byol");
    let vit = vit_of(&f);
    let layers = |head: &str| f.config()[head].as_str().unwrap().matches("Linear").count();
    let layers = [layers("projector"), layers("predictor")];
    steps(&f, || method(&f, layers, |init: &mut Init| vit.init(init)));
}

/// Images of a few colours, two noisy views each.
fn batch(step: usize) -> Batch {
    let images = 16;
    let noise =
        |seed: u64, shape: [usize; 4], bound: f64| Init::new(seed, &device()).uniform(shape, bound).val().detach();
    let own = noise(1000 + step as u64 % 4, [images, 3, 2, 2], 1.0);
    let own = own.reshape([images * 3, 2, 1, 2, 1]).expand([images * 3, 2, 8, 2, 8]);
    let own: Tensor<4> = own.reshape([images, 3, 16, 16]);
    let views = [0, 1].map(|v| own.clone() + noise(step as u64 * 2 + v, [images, 3, 16, 16], 0.3));
    Batch::of_views(vec![Tensor::cat(views.to_vec(), 0)], images)
}

fn small(config: &ByolConfig) -> Byol<Small> {
    let build = |init: &mut Init| Ok::<_, ResNetError>(Small::new(&[3, 8, 16, 32], &[2; 3], init));
    Byol::new(config, build, 1, &device()).unwrap()
}

fn sgd() -> OptimConfig {
    OptimConfig { optimizer: OptimizerKind::Sgd, clip_grad: 0.0, ..OptimConfig::default() }
}

/// One of 200 steps, on micro-batches; returns the figures and both norms of the gradients.
fn step(method: &mut Byol<Small>, optimizer: &mut Optimizer, step: usize, lr: f64, batches: &[Batch]) -> Vec<f32> {
    let momentum = method.momentum(step, 200).unwrap();
    let clock = StepClock { epoch: 0, iteration: step, micro_batch: 0, momentum, seed: 0 };
    let rates = StepRates { lr, weight_decay: 1e-4, clip: 0.0 };
    values(train_step(method, (optimizer, &sgd()), batches, clock, &rates))
}

/// A run that stops and goes on loses nothing, whichever optimizer moves the target; state and backbones that do not fit change
/// nothing.
#[cfg_attr(test, test)]
pub fn goes_on_bit_for_bit() {
    let config = ByolConfig { hidden_dim: 16, out_dim: 8, ..ByolConfig::default() };
    let train = |method: &mut Byol<Small>, optimizer: &mut Optimizer, steps: std::ops::Range<usize>| {
        let row = |s: usize| step(method, optimizer, s, 0.1, &[batch(2 * s), batch(2 * s + 1)]);
        steps.map(row).collect::<Vec<_>>()
    };
    for kind in [OptimizerKind::Sgd, OptimizerKind::AdamW] {
        let fresh = || Optimizer::new(&OptimConfig { optimizer: kind, ..sgd() });
        let (mut whole, mut optimizer) = (small(&config), fresh());
        let rows = train(&mut whole, &mut optimizer, 0..4);
        let (mut first, mut optimizer) = (small(&config), fresh());
        let mut found = train(&mut first, &mut optimizer, 0..2);
        let (stored, moments) = (first.state().unwrap(), optimizer.state().unwrap());
        let mut second = small(&config);
        second.load_state(&stored).unwrap();
        let mut optimizer = fresh();
        optimizer.load(&moments, second.network()).unwrap();
        found.extend(train(&mut second, &mut optimizer, 2..4));
        assert_eq!(found, rows, "{kind}");
        let state = whole.state().unwrap();
        assert_eq!(second.state().unwrap(), state, "{kind}");
        assert_eq!(second.held_values(), state.under("target.").num_values(), "{kind}");

        let lacking = |what: &str| {
            let mut wrong = stored.clone();
            wrong.tensors.retain(|(name, _)| !name.starts_with(what));
            wrong
        };
        let mut with_predictor = stored.clone();
        for (name, tensor) in &stored.under("online.predictor.").tensors {
            with_predictor.tensors.push((format!("target.predictor.{name}"), tensor.clone()));
        }
        let others = ["target.projector.", "target.", "online.predictor.", "online.backbone."].map(lacking);
        for wrong in others.iter().chain([&with_predictor]) {
            assert!(second.load_state(wrong).is_err());
            assert_eq!(second.state().unwrap(), state, "{kind}");
        }
        let backbone = stored.under("online.backbone.");
        assert!(second.start_from(&stored.under("online.")).is_err());
        assert_eq!(second.state().unwrap(), state, "{kind}");
        second.start_from(&backbone).unwrap();
        let started = second.state().unwrap();
        for prefix in ["online.", "target."] {
            assert_eq!(started.under(prefix).under("backbone."), backbone, "{prefix}");
            let head = |state: &StateDict| state.under(prefix).under("projector.");
            assert_eq!(head(&started), head(&state), "{prefix}");
        }
    }
}

/// Runs a small network; returns the rows of figures.
fn run(config: &ByolConfig, lr: f64) -> Vec<BTreeMap<&'static str, f64>> {
    let mut method = small(config);
    let mut optimizer = Optimizer::new(&sgd());
    let row = |number: usize| {
        let row = step(&mut method, &mut optimizer, number, lr, &[batch(number)]);
        method.figures().iter().zip(row).map(|(figure, value)| (figure.name, f64::from(value))).collect()
    };
    (0..200).map(row).collect()
}

/// A run that learns shows no sign of collapse, and one that cannot but collapse shows one to its end.
#[cfg_attr(test, test)]
pub fn signs_tell_a_collapse() {
    let signs = recipe("byol").unwrap().signs;
    let config = ByolConfig { hidden_dim: 64, out_dim: 16, momentum: 0.99, ..ByolConfig::default() };
    let rows = run(&config, 0.1);
    for (step, row) in rows.iter().enumerate() {
        let seen: Vec<_> = signs.iter().filter(|s| s.is_seen(row, &[])).map(|s| s.name).collect();
        assert!(seen.is_empty(), "step {step} shows {seen:?}: {row:?}");
    }
    let mean = |rows: &[BTreeMap<&str, f64>], name: &str| {
        rows.iter().map(|row| row[name]).sum::<f64>() / rows.len() as f64
    };
    let (first, last) = (&rows[..10], &rows[190..]);
    assert!(mean(last, "loss") < mean(first, "loss") - 0.5, "{} {}", mean(first, "loss"), mean(last, "loss"));
    // Far from the sign's threshold at both ends.
    assert!(rows.iter().all(|row| row["target_std"] > 0.5), "{rows:?}");

    let rows = run(&ByolConfig { predictor_layers: 0, momentum: 0.0, ..config }, 0.5);
    for (step, row) in rows.iter().enumerate().skip(100) {
        assert!(signs.iter().any(|s| s.is_seen(row, &[])), "step {step} shows no sign: {row:?}");
    }
}
