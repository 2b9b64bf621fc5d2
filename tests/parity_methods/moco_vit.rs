//! MoCo v2 on a Vision Transformer: whole steps with AdamW, a head of three layers and a momentum that rises.

use ocelli::methods::{Batch, Method, Moco, MocoConfig, MomentumSchedule};
use ocelli::models::weights::HostTensor;
use ocelli::models::{Init, Mode};

use super::{Steps, at, cat, init_of, optim_of, vit_of};
use crate::support::{Fixture, Tolerance, assert_close, device, values};

/// The fixture in MoCo's names: `encoder_q.*` with the head under `fc`, and gradients as the network has them.
fn fixture() -> Fixture {
    let mut f = Fixture::load("vit_contrast_train_moco");
    for (name, _) in &mut f.tensors.tensors {
        let ours = [
            (".query.backbone.", ".encoder_q."),
            (".query.head.", ".encoder_q.fc."),
            (".key.backbone.", ".encoder_k."),
            (".key.head.", ".encoder_k.fc."),
        ];
        let of_gradients = [(".query.backbone.", ".backbone."), (".query.head.", ".fc.")];
        let list = if name.starts_with("grad0.") { &of_gradients[..] } else { &ours[..] };
        if let Some((from, to)) = list.iter().find(|(from, _)| name.contains(from)) {
            *name = name.replacen(from, to, 1);
        }
    }
    f
}

#[cfg_attr(test, test)]
pub fn three_steps() {
    let f = fixture();
    let device = device();
    let vit = vit_of(&f);
    let config = MocoConfig {
        hidden_dim: f.usize("hid"),
        layers: f.config()["head"].as_str().unwrap().matches("Linear").count(),
        out_dim: f.usize("out"),
        queue: f.usize("queue"),
        temperature: f.f64("T"),
        momentum: f.f64("base_m"),
        momentum_schedule: MomentumSchedule::Cosine,
        shuffle_keys: false,
    };
    let mut method = Moco::new(&config, |init: &mut Init| vit.init(init), 3, &device).unwrap();
    let mut init = init_of(&f, &[("encoder_q.", "encoder_k.")]);
    init.tensors.push(("queue_ptr".into(), HostTensor { shape: vec![1], values: vec![0.0] }));
    method.load_state(&init).unwrap();

    let mode = Mode::Train { seed: 0 };
    let view = |which: usize| f.tensor::<4>(&format!("step0.view{which}"), &device);
    for (name, found) in [
        // The key encoder is a copy at first, so that following changes nothing.
        ("step0.query", method.query_net().forward(view(0).autodiff(), mode).0),
        ("step0.key", method.key_net().forward(view(1), mode).0),
    ] {
        let expected = &f.get(name).values;
        assert_close(name, &values(found), expected, Tolerance::of(&f.json["tolerance"]["params"], expected));
    }

    let momenta: Vec<f64> =
        (0..f.usize("steps")).map(|step| method.momentum(step, f.usize("total_steps")).unwrap()).collect();
    for (step, momentum) in momenta.iter().enumerate() {
        let expected = at(&f.config()["m"], step);
        assert!((momentum - expected).abs() < 1e-12, "momentum of step {step}: {momentum} for {expected}");
    }
    let pointers = f.integers("queue_ptr");
    let steps = Steps {
        f: &f,
        optim: optim_of(&f),
        trained: "encoder_q.",
        follower: "encoder_k.",
        batch: &|step| {
            let names = [0, 1].map(|view| format!("step{step}.view{view}"));
            Batch::of_views(vec![cat(&f, &names, &device)], f.usize("batch"))
        },
        momentum: &|step| momenta[step],
    };
    steps.run(&mut method, |step, _, method| {
        let name = format!("step{step}.queue_after");
        let expected = &f.get(&name).values;
        let found = &method.state().unwrap().get("queue").unwrap().values.clone();
        let near = Tolerance::of(&f.json["tolerance"]["followers"], expected);
        assert_close(&name, found, expected, near);
        assert_eq!(method.queue().pointer(), pointers[step], "pointer after {step}");
    });
}

/// A momentum that stays is the default's, whatever the clock says.
#[cfg_attr(test, test)]
pub fn the_momentum_stays_unless_it_is_to_rise() {
    let f = fixture();
    let vit = vit_of(&f);
    let new = |config: &MocoConfig| Moco::new(config, |init: &mut Init| vit.init(init), 3, &device()).unwrap();
    let config = MocoConfig { queue: 8, out_dim: 4, ..MocoConfig::default() };
    let constant = new(&config);
    assert!((0..10).all(|step| constant.momentum(step, 10) == Some(config.momentum)));
    let cosine = new(&MocoConfig { momentum_schedule: MomentumSchedule::Cosine, ..config });
    let momenta: Vec<f64> = (0..10).map(|step| cosine.momentum(step, 10).unwrap()).collect();
    assert!(momenta.is_sorted_by(|a, b| a < b) && momenta[0] == 0.999 && momenta[9] < 1.0, "{momenta:?}");
}
