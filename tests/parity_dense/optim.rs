//! SGD, LARS and LARC.

use burn::module::Param;
use burn::tensor::{Tensor, TensorData};
use ocelli::models::params;
use ocelli::train::{GradientSum, Sgd, SgdRule, SgdState};

use crate::Parameters;
use crate::support::{Fixture, Tolerance, assert_close, device, values};

#[test]
fn sgd_and_its_layer_wise_forms() {
    let f = Fixture::load("optim");
    let device = device();
    let recipes = &f.config()["recipes"];
    for recipe in
        ["sgd_momentum", "sgd_nesterov", "lars_dino", "lars_barlow", "lars_nofilter", "lars_simclr", "larc_swav"]
    {
        let r = &recipes[recipe];
        let eta = r["eta"].as_f64().or(r["trust_coefficient"].as_f64()).unwrap_or_default();
        let rule = match recipe {
            "sgd_momentum" | "sgd_nesterov" => SgdRule::Plain { nesterov: r["nesterov"].as_bool().unwrap() },
            "lars_dino" | "lars_barlow" => SgdRule::Lars { eta, matrices_only: true },
            "lars_nofilter" => SgdRule::Lars { eta, matrices_only: false },
            "lars_simclr" => SgdRule::LarsRateInside { eta },
            _ => SgdRule::Larc { eta },
        };
        let scale = if recipe.starts_with("sgd") { 0.1 } else { 1.0 };
        assert_eq!(r["lr"].as_str().unwrap().starts_with("0.1 *"), scale == 0.1, "{recipe}");
        let config = Sgd { momentum: r["momentum"].as_f64().unwrap(), rule };
        let decay = r["weight_decay"].as_f64().unwrap();
        let mut module = Parameters {
            weight2d: Param::from_tensor(f.tensor("init.weight2d", &device)),
            bias: Param::from_tensor(f.tensor("init.bias", &device)),
            conv: Param::from_tensor(f.tensor("init.conv", &device)),
            zero_init: Param::from_tensor(f.tensor("init.zero_init", &device)),
        };
        let mut state = SgdState::new(config);
        for step in 0..f.usize("steps") {
            let mut gradients = GradientSum::default();
            let named = ["weight2d", "bias", "conv", "zero_init"].map(|name| {
                let host = f.get(&format!("grad.step{step}.{name}"));
                let flat = TensorData::new(host.values.clone(), [host.values.len()]);
                (name.to_owned(), Tensor::from_data(flat, &device))
            });
            gradients.add(named.into(), 1.0);
            let lr = f64::from(f.get("lr.sgd_lars").values[step]) * scale;
            // Every step from a state that was stored: buffers are all there is to it.
            let mut restored = SgdState::new(config);
            restored.load(&state.state().unwrap(), &module);
            state = restored;
            module = state.step(module, &gradients, lr, decay);
            for param in params::collect(&module) {
                let key = format!("{recipe}.after{}.{}", step + 1, param.name);
                let expected = &f.get(&key).values;
                assert_close(&key, &values(param.values), expected, Tolerance::of(&f.json["tolerance"], expected));
            }
        }
    }
}
