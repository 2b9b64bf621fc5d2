//! Barlow Twins beside the reference: the loss, and whole steps.

use burn::tensor::Device;
use ocelli::methods::optim::OptimConfig;
use ocelli::methods::{Barlow, BarlowConfig, Batch, Method as _, barlow_terms, cross_correlation};
use ocelli::models::mlp::RowNorm;
use ocelli::models::{Init, Mode};
#[cfg(not(target_arch = "wasm32"))]
use ocelli::train::config::resolve;

use super::{Small, Steps, at, cat, init_of, optim_of};
use crate::support::{Fixture, Tolerance, assert_close, device, values};

const TRAIN: Mode = Mode::Train { seed: 0 };

#[cfg_attr(test, test)]
pub fn loss() {
    let f = Fixture::load("loss_barlow");
    let (device, tolerance) = (device(), &f.json["tolerance"]);
    let norm = RowNorm::new(f.usize("dim"), false, false, &mut Init::new(0, &device.clone().autodiff()));
    let views = ["z1", "z2"].map(|name| f.tensor::<2>(name, &device).autodiff().require_grad());
    let [a, b] = views.clone().map(|view| norm.forward(view, TRAIN));
    let expected = &f.get("cross_correlation").values;
    let near = Tolerance::of(&tolerance["loss"], expected);
    assert_close("cross-correlation", &values(cross_correlation(a.clone(), b.clone())), expected, near);
    let terms = barlow_terms(a, b);
    let loss = terms.diagonal + terms.off_diagonal * f.f64("lambda");
    let expected = &f.get("loss").values;
    assert_close("loss", &values(loss.clone()), expected, Tolerance::of(&tolerance["loss"], expected));
    let gradients = loss.backward();
    for (name, view) in ["z1", "z2"].into_iter().zip(views) {
        let expected = &f.get(&format!("grad.{name}")).values;
        let near = Tolerance::of(&tolerance["grad"], expected);
        assert_close(name, &values(view.grad(&gradients).unwrap()), expected, near);
    }
}

fn method(f: &Fixture, device: &Device) -> Barlow<Small> {
    let config = BarlowConfig {
        hidden_dim: f.usize("hid"),
        out_dim: f.usize("out"),
        lambda: f.f64("lam"),
        loss_scale: 1.0,
    };
    let mut method = Barlow::new(&config, Small::of(f), 5, device).unwrap();
    method.load_state(&init_of(f, &[])).unwrap();
    method
}

#[cfg_attr(test, test)]
pub fn three_steps() {
    let f = Fixture::load("barlow_train");
    let device = device();
    let views = |step: usize| [0, 1].map(|view| format!("step{step}.view{view}"));
    let near = |expected: &[f32]| Tolerance::of(&f.json["tolerance"]["buffers"], expected);
    let fresh = method(&f, &device);
    let [a, b] = [0, 1].map(|view| {
        let (z, _) = fresh.embed(f.tensor::<4>(&views(0)[view], &device), TRAIN);
        let name = format!("step0.z{view}");
        let expected = &f.get(&name).values;
        assert_close(&name, &values(z.clone()), expected, near(expected));
        fresh.normalise(z, TRAIN)
    });
    let expected = &f.get("step0.cross_correlation").values;
    assert_close("step0.cross_correlation", &values(cross_correlation(a, b)), expected, near(expected));
    let lr_factor_1d = f.f64("lr_biases") / f.f64("lr_weights");
    // What the schedule's two rates are is the optimizer's single one and this factor.
    for step in 0..f.usize("steps") {
        let of = |key: &str| at(&f.config()[key], step);
        assert!((of("lr") * lr_factor_1d - of("lr_1d")).abs() <= 1e-9 * of("lr_1d"), "rates of step {step}");
    }
    let components = f.usize("out") as f32;
    Steps {
        f: &f,
        optim: OptimConfig { lr_factor_1d, ..optim_of(&f) },
        trained: "",
        follower: "",
        batch: &|step| Batch::of_views(vec![cat(&f, &views(step), &device)], f.usize("batch")),
        momentum: &|_| 0.0,
    }
    .run(&mut method(&f, &device), |step, output, _| {
        for name in ["diagonal", "off_diagonal"] {
            let (_, term) = output.scalars.iter().find(|(n, _)| *n == name).unwrap();
            let expected = &f.get(&format!("loss_{name}")).values[step..=step];
            let near = Tolerance::of(&f.json["tolerance"]["loss"], expected);
            assert_close(&format!("{name}[{step}]"), &values(term.clone() * components), expected, near);
        }
    });
}

/// The published rates of weights and of everything one-dimensional, and a thousandth of the first at the end.
#[cfg(not(target_arch = "wasm32"))]
#[test]
fn preset() {
    let config = resolve(Some("barlow-r50-1000"), None, &[]).unwrap();
    let (own, optim) = (config.section::<BarlowConfig>("barlow").unwrap(), &config.optim);
    assert_eq!((config.epochs, config.batch_size, own), (1000, 2048, BarlowConfig::default()));
    let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
    assert!(near(config.peak_lr(), 0.2 * 8.0) && near(optim.min_lr, config.peak_lr() / 1000.0));
    assert!(near(config.peak_lr() * optim.lr_factor_1d, 0.0048 * 8.0));
    assert!(config.resnet.zero_init_residual && optim.weight_decay == 1e-6 && optim.warmup_epochs == 10);
}
