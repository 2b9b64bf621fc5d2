//! SGD, LARS and LARC.

use ocelli::train::{Sgd, SgdRule, SgdState};
use serde_json::Value;

use crate::support::{Fixture, device};
use crate::{Parameters, check_step, given_gradients};

/// The rule that a recipe's name stands for.
fn rule(name: &str, recipe: &Value) -> SgdRule {
    let number = |key: &str| recipe[key].as_f64().unwrap_or_else(|| panic!("no {key} in {name}"));
    match name {
        "sgd_momentum" | "sgd_nesterov" => SgdRule::Plain { nesterov: recipe["nesterov"].as_bool().unwrap() },
        "lars_dino" | "lars_barlow" => SgdRule::Lars { eta: number("eta"), matrices_only: true },
        "lars_nofilter" => SgdRule::Lars { eta: number("eta"), matrices_only: false },
        "lars_simclr" => SgdRule::LarsRateInside { eta: number("eta") },
        "larc_swav" => SgdRule::Larc { eta: number("trust_coefficient") },
        other => panic!("the fixture has a recipe {other} that no test knows"),
    }
}

/// A learning rate's factor and tensor: `lr.sgd_lars`, or `0.1 * lr.sgd_lars`.
fn rates<'a>(f: &'a Fixture, recipe: &Value) -> (f64, &'a [f32]) {
    let text = recipe["lr"].as_str().unwrap();
    let (factor, name) = match text.split_once(" * ") {
        Some((factor, name)) => (factor.parse().unwrap(), name),
        None => (1.0, text),
    };
    (factor, &f.get(name).values)
}

#[test]
fn sgd_and_its_layer_wise_forms() {
    let f = Fixture::load("optim");
    let device = device();
    let recipes = f.config()["recipes"].as_object().unwrap();
    for (name, recipe) in recipes.iter().filter(|(name, _)| *name != "adamw") {
        let config = Sgd { momentum: recipe["momentum"].as_f64().unwrap(), rule: rule(name, recipe) };
        let decay = recipe["weight_decay"].as_f64().unwrap();
        let (factor, rates) = rates(&f, recipe);
        let (mut module, names) = Parameters::of(&f, &device);
        let mut state = SgdState::new(config);
        for step in 0..f.usize("steps") {
            let gradients = given_gradients(&f, &names, step, &device);
            // Every step from a state that was stored: buffers are all there is to it.
            let mut restored = SgdState::new(config);
            restored.load(&state.state().unwrap(), &module);
            state = restored;
            module = state.step(module, &gradients, f64::from(rates[step]) * factor, decay);
            check_step(&f, &names, name, step, &module);
        }
    }
}
