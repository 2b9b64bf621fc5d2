//! Optimizers and learning rates as a configuration has them.

use ocelli::methods::optim::{OptimConfig, Optimizer, OptimizerKind, ScheduleKind, StepRates};
use ocelli::methods::schedule::LrSchedule;
use serde_json::Value;

use crate::support::{Fixture, device};
use crate::{Parameters, check_step, given_gradients};

/// A learning rate's factor and tensor: `lr.sgd_lars`, or `0.1 * lr.sgd_lars`.
fn rates<'a>(f: &'a Fixture, recipe: &Value) -> (f64, &'a [f32]) {
    let text = recipe["lr"].as_str().unwrap();
    let (factor, name) = match text.split_once(" * ") {
        Some((factor, name)) => (factor.parse().unwrap(), name),
        None => (1.0, text),
    };
    (factor, &f.get(name).values)
}

/// A recipe of the fixture as a configuration.
fn config_of(recipe: &str, r: &Value) -> OptimConfig {
    let eta = r["eta"].as_f64().or(r["trust_coefficient"].as_f64());
    let defaults = OptimConfig::default();
    OptimConfig {
        optimizer: match recipe {
            "sgd_momentum" | "sgd_nesterov" => OptimizerKind::Sgd,
            "larc_swav" => OptimizerKind::Larc,
            "adamw" => OptimizerKind::AdamW,
            "lars_dino" | "lars_barlow" | "lars_nofilter" | "lars_simclr" => OptimizerKind::Lars,
            other => panic!("the fixture has a recipe {other} that no test knows"),
        },
        momentum: r["momentum"].as_f64().unwrap_or(defaults.momentum),
        beta1: r["betas"][0].as_f64().unwrap_or(defaults.beta1),
        beta2: r["betas"][1].as_f64().unwrap_or(defaults.beta2),
        nesterov: r["nesterov"].as_bool().unwrap_or_default(),
        lars_eta: eta.unwrap_or(defaults.lars_eta),
        lars_matrices_only: recipe != "lars_nofilter",
        lars_rate_inside: recipe == "lars_simclr",
        decay_all: recipe != "adamw",
        clip_grad: 0.0,
        ..defaults
    }
}

#[test]
fn every_optimizer_by_its_configuration() {
    let f = Fixture::load("optim");
    let device = device();
    let recipes = f.config()["recipes"].as_object().unwrap();
    for (name, recipe) in recipes {
        let config = config_of(name, recipe);
        config.check().unwrap();
        let (factor, learning_rates) = rates(&f, recipe);
        assert!(learning_rates.len() >= f.usize("steps"), "{name}: a rate for every step");
        let (mut module, names) = Parameters::of(&f, &device);
        let mut optimizer = Optimizer::new(&config);
        for (step, lr) in learning_rates.iter().enumerate().take(f.usize("steps")) {
            let gradients = given_gradients(&f, &names, step, &device);
            let decay_of_step = || f64::from(f.get("wd.adamw").values[step]);
            let weight_decay = recipe["weight_decay"].as_f64().unwrap_or_else(decay_of_step);
            let lr = f64::from(*lr) * factor;
            let rates = StepRates { lr, weight_decay, clip: config.clip_grad };
            // Every step from a state that was stored: it is all there is to an optimizer.
            let mut restored = Optimizer::new(&config);
            restored.load(&optimizer.state().unwrap(), &module).unwrap();
            optimizer = restored;
            module = optimizer.step(module, None, gradients, &rates, &|p| config.group(p)).0;
            check_step(&f, &names, name, step, &module);
        }
    }
}

fn near(what: &str, found: f64, expected: f64, rtol: f64) {
    assert!((found - expected).abs() <= rtol * expected.abs() + 1e-18, "{what}: {found} {expected}");
}

#[test]
fn cosines_by_configuration() {
    let f = Fixture::load("dino_schedules");
    for (name, c) in f.config()["cosine"].as_object().unwrap() {
        let number = |key: &str| c[key].as_f64().unwrap();
        let count = |key: &str| c[key].as_u64().unwrap() as usize;
        let config = OptimConfig {
            min_lr: number("final_value"),
            warmup_epochs: count("warmup_epochs"),
            warmup_start_lr: number("start_warmup_value"),
            ..OptimConfig::default()
        };
        let schedule =
            LrSchedule::new(&config, number("base_value"), count("iterations_per_epoch"), count("epochs"));
        for (i, expected) in c["values_float64"].as_array().unwrap().iter().enumerate() {
            near(&format!("{name}[{i}]"), schedule.at(i), expected.as_f64().unwrap(), 1e-12);
        }
    }
}

#[test]
fn poly_rates() {
    let f = Fixture::load("fcn_step");
    let c = &f.config()["poly.small"];
    let config = OptimConfig {
        schedule: ScheduleKind::Poly,
        min_lr: c["min"].as_f64().unwrap(),
        power: c["power"].as_f64().unwrap(),
        warmup_epochs: 0,
        ..OptimConfig::default()
    };
    let rtol = f.json["tolerance"]["lr"]["rtol"].as_f64().unwrap();
    let total = c["total"].as_u64().unwrap() as usize;
    let schedule = LrSchedule::new(&config, c["base"].as_f64().unwrap(), 1, total);
    let expected = &f.get("poly.small").values;
    assert_eq!(expected.len(), total);
    for (i, expected) in expected.iter().enumerate() {
        near(&format!("poly.small[{i}]"), schedule.at(i), f64::from(*expected), rtol);
    }
}

#[test]
fn step_rates() {
    let f = Fixture::load("supervised_train_resnet");
    let c = f.config();
    let milestones = c["milestones"].as_array().unwrap().iter();
    let config = OptimConfig {
        optimizer: OptimizerKind::Sgd,
        schedule: ScheduleKind::Step,
        milestones_epochs: milestones.map(|m| m.as_u64().unwrap() as usize).collect(),
        gamma: f.f64("gamma"),
        warmup_epochs: 0,
        ..OptimConfig::default()
    };
    config.check().unwrap();
    let per_epoch = f.usize("steps_per_epoch");
    let schedule = LrSchedule::new(&config, f.f64("base_lr"), per_epoch, f.usize("steps") / per_epoch);
    for (i, expected) in f.json["expected"]["lr"].as_array().unwrap().iter().enumerate() {
        near(&format!("lr[{i}]"), schedule.at(i), expected.as_f64().unwrap(), 1e-12);
    }
}
