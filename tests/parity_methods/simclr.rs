//! SimCLR beside the reference: the loss, and whole steps.

use burn::tensor::Device;
use ocelli::methods::ntxent::nt_xent;
use ocelli::methods::{Batch, Method as _, Simclr, SimclrConfig};
use ocelli::models::Mode;
#[cfg(not(target_arch = "wasm32"))]
use ocelli::train::config::resolve;

use super::{Small, Steps, cat, init_of, optim_of};
use crate::support::{Fixture, Tolerance, assert_close, device, values};

#[cfg_attr(test, test)]
pub fn loss() {
    let f = Fixture::load("loss_ntxent");
    let (device, tolerance) = (device(), &f.json["tolerance"]);
    for temperature in f.config()["temperatures"].as_array().unwrap() {
        let key = format!("T{temperature}");
        let views = ["z1", "z2"].map(|name| f.tensor::<2>(name, &device).autodiff().require_grad());
        let embeddings = burn::tensor::Tensor::cat(views.to_vec(), 0);
        let found = nt_xent(embeddings, temperature.as_f64().unwrap());
        let expected = &f.get(&format!("{key}.loss_sum")).values;
        let near = Tolerance::of(&tolerance["loss"], expected);
        assert_close(&format!("{key} loss_sum"), &values(found.loss.clone()), expected, near);
        // Half of the sum of two means is the mean over all views.
        let gradients = (found.loss / 2.0).backward();
        for (name, view) in ["z1", "z2"].into_iter().zip(views) {
            let expected = &f.get(&format!("{key}.grad_mean.{name}")).values;
            let near = Tolerance::of(&tolerance["grad"], expected);
            assert_close(&format!("{key} {name}"), &values(view.grad(&gradients).unwrap()), expected, near);
        }
    }
}

fn method(f: &Fixture, device: &Device) -> Simclr<Small> {
    let config = SimclrConfig {
        temperature: f.f64("T"),
        layers: f.config()["projector"].as_str().unwrap().matches("Linear").count(),
        hidden_dim: 0,
        out_dim: f.usize("out"),
    };
    let mut method = Simclr::new(&config, Small::of(f), 5, device).unwrap();
    method.load_state(&init_of(f, &[])).unwrap();
    method
}

#[cfg_attr(test, test)]
pub fn three_steps() {
    let f = Fixture::load("simclr_train");
    let device = device();
    // Both views in one tensor.
    let views = |step: usize| cat(&f, &[0, 1].map(|view| format!("step{step}.view{view}")), &device);
    let (embeddings, _) = method(&f, &device).embed(views(0), Mode::Train { seed: 0 });
    let expected = &f.get("step0.embedding").values;
    let near = Tolerance::of(&f.json["tolerance"]["buffers"], expected);
    assert_close("step0.embedding", &values(embeddings), expected, near);
    Steps {
        f: &f,
        optim: optim_of(&f),
        trained: "",
        follower: "",
        batch: &|step| Batch::of_views(vec![views(step)], f.usize("batch")),
        momentum: &|_| 0.0,
    }
    .run(&mut method(&f, &device), |_, _, _| {});
}

/// The published rates, batches and heads.
#[cfg(not(target_arch = "wasm32"))]
#[test]
fn presets() {
    for (name, arch, epochs, peak, decay, layers, warmup) in [
        ("simclr-r50-1000", "resnet-50", 1000, 4.8, 1e-6, 2, 10),
        ("simclr-r50w4-1000", "resnet-50x4", 1000, 4.8, 1e-6, 2, 10),
        ("simclrv2-r152w3-sk-800", "resnet-152x3-sk", 800, 6.4, 1e-4, 3, 40),
    ] {
        let config = resolve(Some(name), None, &[]).unwrap();
        let (own, optim) = (config.section::<SimclrConfig>("simclr").unwrap(), &config.optim);
        assert_eq!((config.arch.to_string().as_str(), config.epochs, config.batch_size), (arch, epochs, 4096));
        assert!((config.peak_lr() - peak).abs() < 1e-9 && optim.min_lr == 0.0, "{name}");
        assert_eq!((optim.weight_decay, optim.weight_decay_end, optim.warmup_epochs), (decay, decay, warmup));
        assert_eq!((own.temperature, own.layers, own.hidden_dim, own.out_dim), (0.1, layers, 0, 128));
        assert!(optim.lars_rate_inside && config.views.mean == [0.0; 3] && config.views.std == [1.0; 3]);
    }
}
