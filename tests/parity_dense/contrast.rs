//! InfoNCE, MoCo v2 and DenseCL.

use burn::tensor::{Device, Int, Tensor, TensorData};
use ocelli::data::ViewBox;
use ocelli::methods::infonce::{info_nce, unit};
use ocelli::methods::optim::{GradientSum, OptimConfig, Optimizer, OptimizerKind, StepRates};
use ocelli::methods::{
    Batch, DenseCl, DenseClConfig, Matching, Method, Moco, MocoConfig, StepClock, Update, dense_loss,
};
use ocelli::models::weights::{HostTensor, StateDict};
use ocelli::models::{Init, Mode, ResNetArch, ResNetConfig, ResNetError};

use crate::parity_methods::Small;
use crate::support::{Fixture, Tolerance, assert_close, device, number_after, tensor, values};

#[test]
fn infonce() {
    let f = Fixture::load("loss_infonce");
    let device = device();
    let batch = f.usize("batch");
    // How often the positive wins is stored for some temperatures; it is the same for all.
    let won: Vec<(f64, f64)> = f
        .config()
        .as_object()
        .unwrap()
        .iter()
        .filter_map(|(key, share)| Some((key.strip_prefix("top1_accuracy_at_T")?.parse().ok()?, share.as_f64()?)))
        .collect();
    assert!(!won.is_empty(), "the fixture has no top-1");
    for temperature in f.config()["temperatures"].as_object().unwrap().values() {
        let t = temperature.as_f64().unwrap();
        let query = f.tensor::<2>("q", &device).autodiff().require_grad();
        let found =
            info_nce(unit(query.clone()), unit(f.tensor("k", &device)), &f.tensor("queue", &device), t, None);
        let gradient = values(query.grad(&found.loss.backward()).unwrap());
        let check = |what: &str, found: &[f32], tolerance: &str| {
            let key = format!("T{t:?}.{what}");
            let expected = &f.get(&key).values;
            assert_close(&key, found, expected, Tolerance::of(&f.json["tolerance"][tolerance], expected));
        };
        check("loss", &values(found.loss), "loss");
        check("grad.q", &gradient, "grad");
        let top1 = f64::from(values(found.top1)[0]);
        for (_, share) in won.iter().filter(|(at, _)| *at == t) {
            // A share of the batch: as good as one more or one less is not good enough.
            assert!(
                (top1 - share).abs() * (batch as f64) < 0.01,
                "T{t:?}: {top1} of the positives won for {share}"
            );
        }
    }
}

fn densecl(f: &Fixture, device: &Device) -> DenseCl<Small> {
    let config = DenseClConfig {
        contrast: MocoConfig {
            hidden_dim: f.usize("hid"),
            out_dim: f.usize("out"),
            queue: f.usize("queue"),
            temperature: f.f64("T"),
            momentum: f.f64("m"),
            shuffle_keys: false,
            ..MocoConfig::default()
        },
        lambda: f.f64("lam"),
        ..DenseClConfig::default()
    };
    // The learner's own: three convolutions of stride 2, which its text says.
    let channels: Vec<usize> =
        f.config()["chans"].as_array().unwrap().iter().map(|c| c.as_u64().unwrap() as usize).collect();
    let build = |init: &mut Init| Ok::<_, ResNetError>(Small::new(&channels, &[2; 3], init));
    let mut method = DenseCl::new(&config, build, 3, device).unwrap();
    // The key encoder starts as a copy; pointers at 0.
    let init = f.tensors.under("init.");
    let mut state = StateDict::default();
    for (name, values) in &init.tensors {
        state.tensors.push((name.clone(), values.clone()));
        if let Some(rest) = name.strip_prefix("encoder_q.") {
            state.tensors.push((format!("encoder_k.{rest}"), values.clone()));
        }
    }
    for pointer in ["queue_ptr", "queue2_ptr"] {
        state.tensors.push((pointer.into(), HostTensor { shape: vec![1], values: vec![0.0] }));
    }
    method.load_state(&state).unwrap();
    method
}

fn clock(iteration: usize) -> StepClock {
    StepClock { epoch: 0, iteration, micro_batch: 0, momentum: 0.5, seed: 0 }
}

#[test]
fn three_densecl_steps() {
    let f = Fixture::load("densecl_train");
    let device = device();
    let mut method = densecl(&f, &device);
    let optim = OptimConfig { momentum: f.f64("momentum"), ..sgd() };
    let mut optimizer = Optimizer::new(&optim);
    let tolerance = |key: &str, expected: &[f32]| Tolerance::of(&f.json["tolerance"][key], expected);
    let sure = number_after(f.json["formulas"]["match_gap"].as_str().unwrap(), "gap < ") as f32;
    for step in 0..f.usize("steps") {
        let image = |which: &str| f.tensor::<4>(&format!("step{step}.{which}"), &device);
        let views = [Tensor::cat(vec![image("im_q"), image("im_k")], 0)];
        let output = method.loss(&Batch::of_views(views.to_vec(), f.usize("batch")), &clock(step));
        let matched: Vec<usize> = indices(method.matched().unwrap());
        let (expected, gap) =
            (f.integers(&format!("step{step}.match_index")), f.get(&format!("step{step}.match_gap")));
        assert_eq!(matched.len(), expected.len(), "matches of step {step}");
        for (cell, (found, expected)) in matched.iter().zip(&expected).enumerate() {
            // Two that are as good as equal may be told apart either way.
            assert!(
                found == expected || gap.values[cell] < sure,
                "step {step}, cell {cell}: {found} for {expected}"
            );
        }
        for (key, scalar) in [("loss_global", "loss_global"), ("loss_dense", "loss_dense"), ("loss_total", "loss")]
        {
            let found = output.scalars.iter().find(|(n, _)| *n == scalar).unwrap().1.clone();
            let expected = &f.get(key).values[step..=step];
            assert_close(&format!("{key}[{step}]"), &values(found), expected, tolerance("loss", expected));
        }
        let mut raw = output.loss.backward();
        let gradients = method.network().take_gradients(&mut raw);
        if step == 0 {
            check_gradients(&f, &gradients);
        }
        let mut sum = GradientSum::default();
        sum.add(gradients, 1.0);
        update(&mut method, (&mut optimizer, &optim), sum, [f.f64("lr"), f.f64("wd")], &clock(step));
        let state = method.state().unwrap();
        let pointers = f.integers("queue_ptr");
        for (i, queue) in ["queue", "queue2"].into_iter().enumerate() {
            let expected = &f.get(&format!("step{step}.{queue}")).values;
            let found = &state.get(queue).unwrap().values;
            assert_close(&format!("{queue} after {step}"), found, expected, tolerance("queues", expected));
            assert_eq!(method.queues()[i].pointer(), pointers[2 * step + i], "pointer of {queue} after {step}");
        }
        let after = f.tensors.under(&format!("after{}.", step + 1));
        assert!(!after.tensors.is_empty() || step + 1 < f.usize("steps"), "no parameters in the fixture");
        for (name, expected) in &after.tensors {
            let found = state.get(name).unwrap_or_else(|| panic!("no {name}"));
            assert_eq!(found.shape, expected.shape, "{name}");
            let near = tolerance("params", &expected.values);
            assert_close(&format!("{name} after {}", step + 1), &found.values, &expected.values, near);
        }
    }
}

fn indices(tensor: Tensor<2, Int>) -> Vec<usize> {
    tensor.into_data().iter::<i64>().map(|i| i as usize).collect()
}

fn check_gradients(f: &Fixture, gradients: &[(String, Tensor<1>)]) {
    let expected = f.tensors.under("grad0.encoder_q.");
    assert_eq!(gradients.len(), expected.tensors.len(), "number of gradients");
    for (name, expected) in &expected.tensors {
        let own = match name.strip_prefix("0.") {
            Some(rest) => format!("backbone.{rest}"),
            None => format!("head.{}", &name[2..]),
        };
        let (_, found) = gradients.iter().find(|(n, _)| *n == own).unwrap_or_else(|| panic!("no {own}"));
        let found = match expected.shape[..] {
            // Linear weights are [in, out] here.
            [out, input] => values(found.clone().reshape([input, out]).transpose()),
            _ => values(found.clone()),
        };
        let tolerance = Tolerance::of(&f.json["tolerance"]["grad0"], &expected.values);
        assert_close(&format!("grad0 {name}"), &found, &expected.values, tolerance);
    }
}

#[test]
fn matching_strategies() {
    let f = Fixture::load("densecl_train");
    let device = device();
    let method = densecl(&f, &device);
    let mode = Mode::Train { seed: 0 };
    let image = |which: &str| f.tensor::<4>(&format!("step0.{which}"), &device);
    let query = method.query_net().forward(image("im_q").autodiff(), mode, 0);
    let near = Tolerance { atol: 2e-5, rtol: 1e-4 };
    let same = |what: &str, found: Vec<f32>| {
        let expected = &f.get(&format!("step0.feat.{what}")).values;
        // Stored as the networks gave them: compared by direction.
        let dims = &f.get(&format!("step0.feat.{what}")).shape;
        let cells: usize = dims[2..].iter().product();
        let stored = tensor::<1>(&HostTensor { shape: vec![expected.len()], values: expected.clone() }, &device);
        let rows = stored.reshape([dims[0], dims[1], cells]).swap_dims(1, 2).reshape([dims[0] * cells, dims[1]]);
        let rows = values(unit(rows).reshape([dims[0], cells, dims[1]]).swap_dims(1, 2));
        assert_close(what, &found, &rows, near);
    };
    same("q_backbone", values(query.backbone.clone()));
    same("q_global", values(query.global.clone()));
    same("q_dense", values(query.dense));

    let raw = f.tensor::<3>("step0.feat.q_dense", &device);
    let raw_k = f.tensor::<3>("step0.feat.k_dense", &device);
    let [batch, channels, cells] = raw.dims();
    let queue = f.tensor::<2>("init.queue2", &device);
    let unit_cells = |map: Tensor<3>| {
        let norm = map.clone().powi_scalar(2).sum_dim(1).sqrt();
        map / norm
    };
    let map = |what: &str| {
        let map = f.tensor::<4>(&format!("step0.feat.{what}"), &device);
        unit_cells(map.flatten(2, 3))
    };
    for (strategy, expected) in f.json["expected"]["strategies"].as_object().unwrap() {
        let stored = f.integers(&format!("strategy.{strategy}.index"));
        let index = match strategy.as_str() {
            "max_sim_backbone" => ocelli::methods::matching::most_similar(map("q_backbone"), map("k_backbone")),
            "max_sim_dense" => {
                ocelli::methods::matching::most_similar(unit_cells(raw.clone()), unit_cells(raw_k.clone()))
            }
            _ => {
                let stored: Vec<i32> = stored.iter().map(|i| *i as i32).collect();
                Tensor::from_data(TensorData::new(stored, [batch, cells]), &device)
            }
        };
        assert_eq!(indices(index.clone()), stored, "{strategy}");
        let q = raw.clone().autodiff().require_grad();
        let found = dense_loss(unit_cells(q.clone()), unit_cells(raw_k.clone()), index, &queue, f.f64("T"), None);
        let gradient = values(q.grad(&found.loss.backward()).unwrap());
        assert_eq!(gradient.len(), batch * channels * cells);
        let loss = [expected["dense_loss"].as_f64().unwrap() as f32];
        assert_close(strategy, &values(found.loss), &loss, Tolerance::of(&f.json["tolerance"]["loss"], &loss));
        let expected = &f.get(&format!("strategy.{strategy}.grad_q_dense")).values;
        let tolerance = Tolerance::of(&f.json["tolerance"]["grad0"], expected);
        assert_close(&format!("{strategy} gradient"), &gradient, expected, tolerance);
    }
}

fn tiny(norm_groups: usize) -> impl Fn(&mut Init) -> Result<ocelli::models::ResNet, ResNetError> {
    let arch: ResNetArch = "resnet-18c4".parse().unwrap();
    move |init: &mut Init| ResNetConfig { norm_groups, ..arch.into() }.init(init)
}

fn contrast(queue: usize, shuffle_keys: bool) -> MocoConfig {
    MocoConfig { hidden_dim: 16, out_dim: 8, queue, shuffle_keys, ..MocoConfig::default() }
}

fn noise(seed: u64, images: usize) -> Tensor<4> {
    Init::new(seed, &device()).uniform([images, 3, 64, 64], 1.7).val().detach()
}

fn figure(output: &ocelli::methods::LossOutput, name: &str) -> f32 {
    values(output.scalars.iter().find(|(n, _)| *n == name).unwrap().1.clone())[0]
}

/// Plain SGD on everything, as MoCo and DenseCL have it.
fn sgd() -> OptimConfig {
    let optimizer = OptimizerKind::Sgd;
    OptimConfig { optimizer, decay_all: true, clip_grad: 0.0, ..OptimConfig::default() }
}

/// The optimizer's step on a method, at a learning rate and weight decay.
fn update(
    method: &mut dyn Method,
    (optimizer, config): (&mut Optimizer, &OptimConfig),
    gradients: GradientSum,
    [lr, weight_decay]: [f64; 2],
    clock: &StepClock,
) {
    let rates = StepRates { lr, weight_decay, clip: config.clip_grad };
    method.update(Update { optimizer, gradients, rates: &rates, config, clock });
    method.after_step(clock);
}

/// Order does not matter where one group is normalised, and every output comes back to its image.
#[test]
fn shuffled_keys_come_back_to_their_images() {
    let outputs = |shuffle: bool, groups: usize| {
        let config = DenseClConfig { contrast: contrast(16, shuffle), ..DenseClConfig::default() };
        let mut method = DenseCl::new(&config, tiny(groups), 1, &device()).unwrap();
        let output = method.loss(&Batch::of_views(vec![noise(5, 16)], 8), &clock(0));
        method.after_step(&clock(0));
        let state = method.state().unwrap();
        let queues = ["queue", "queue2"].map(|q| state.get(q).unwrap().values.clone());
        (figure(&output, "loss_global"), figure(&output, "loss_dense"), queues)
    };
    let (plain, shuffled) = (outputs(false, 1), outputs(true, 1));
    let near = Tolerance { atol: 2e-4, rtol: 2e-4 };
    assert_close("losses", &[shuffled.0, shuffled.1], &[plain.0, plain.1], near);
    for (a, b) in shuffled.2.iter().zip(&plain.2) {
        assert_close("queue", a, b, Tolerance { atol: 2e-3, rtol: 0.0 });
    }
    // With two groups it does matter: that is what shuffling is for.
    assert!((outputs(false, 2).0 - outputs(true, 2).0).abs() > 1e-3);
}

#[test]
fn densecl_figures_and_warm_up() {
    let config = DenseClConfig {
        contrast: contrast(16, false),
        lambda_warmup_iterations: 1,
        matching: Matching::Geometric,
        ..DenseClConfig::default()
    };
    let mut method = DenseCl::new(&config, tiny(1), 1, &device()).unwrap();
    let whole = ViewBox { left: 0.0, top: 0.0, width: 64.0, height: 64.0, flip: false };
    let mirrored = ViewBox { flip: true, ..whole };
    let beside = ViewBox { left: 500.0, ..whole };
    let places = [[whole, whole], [whole, mirrored], [whole, beside], [beside, whole]].map(|views| views.to_vec());
    let batch = Batch { places: places.into(), ..Batch::of_views(vec![noise(7, 8)], 4) };
    let output = method.loss(&batch, &clock(0));
    // λ = 0 in the first step; 2 of 4 images overlap; a mirrored row of two cells is 1, 0.
    assert_eq!(figure(&output, "loss"), figure(&output, "loss_global"));
    assert_eq!(figure(&output, "matched"), 0.5);
    assert_eq!(indices(method.matched().unwrap())[..8], [0, 1, 2, 3, 1, 0, 3, 2]);
    assert_eq!((figure(&output, "queue_fill"), figure(&output, "queue_age")), (0.0, 0.0));
    method.after_step(&clock(0));
    // Boxes are for one batch: without them nothing matches and the dense loss is 0.
    let output = method.loss(&Batch::of_views(vec![noise(8, 8)], 4), &clock(1));
    assert_eq!((figure(&output, "matched"), figure(&output, "loss_dense")), (0.0, 0.0));
    let half = 0.5 * figure(&output, "loss_global");
    assert!((figure(&output, "loss") - half).abs() < 1e-6);
    assert_eq!(figure(&output, "queue_fill"), 0.25);
    for wrong in [
        DenseClConfig { lambda: 1.5, ..config.clone() },
        DenseClConfig { contrast: MocoConfig { temperature: 0.0, ..contrast(16, true) }, ..config.clone() },
        DenseClConfig { contrast: contrast(0, true), ..config },
    ] {
        assert!(DenseCl::new(&wrong, tiny(1), 1, &device()).is_err());
    }
}

/// Four by four patches of an image's own colours, and noise that differs from view to view.
fn patterns(images: &[usize], noise_seed: u64) -> Tensor<4> {
    let own = |image: usize| {
        let small = Init::new(1000 + image as u64, &device()).uniform([1, 3, 4, 1, 4, 1], 1.0).val().detach();
        small.expand([1, 3, 4, 8, 4, 8]).reshape([1, 3, 32, 32])
    };
    let all = Tensor::cat(images.iter().map(|i| own(*i)).collect(), 0);
    let noise = Init::new(noise_seed, &device()).uniform(all.dims(), 0.5).val().detach();
    all + noise
}

/// The loss rises while random entries give way to keys, so it is judged from the first turn of the queue on.
#[test]
fn contrastive_methods_learn_after_the_queue_has_turned_over() {
    fn check<M: Method>(what: &str, loss: &str, mut method: M) {
        let mut optimizer = Optimizer::new(&sgd());
        let (batch, steps) = (8, 240);
        let (mut losses, mut won) = (Vec::new(), Vec::new());
        for step in 0..steps {
            // A walk through 48 images: those in the queue are others.
            let images: Vec<usize> = (0..batch).map(|i| (step * batch + i) % 48).collect();
            let views = [&images, &images].map(|i| i.as_slice()).concat();
            let output = method.loss(&Batch::of_views(vec![patterns(&views, step as u64)], batch), &clock(step));
            losses.push(figure(&output, loss));
            won.push(figure(&output, "top1"));
            let mut raw = output.loss.backward();
            let mut sum = GradientSum::default();
            sum.add(method.network().take_gradients(&mut raw), 1.0);
            update(&mut method, (&mut optimizer, &sgd()), sum, [0.05, 1e-4], &clock(step));
        }
        let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
        let (early, late) = (mean(&losses[4..14]), mean(&losses[steps - 20..]));
        assert!(late < early - 0.8, "{what}: loss {early} after the first turn, {late} at the end");
        let (early, late) = (mean(&won[4..14]), mean(&won[steps - 20..]));
        assert!(late > early + 0.2, "{what}: {early} of the positives won, then {late}");
    }
    // A key encoder that is fast for its queue lets all images share one feature that turns from step to step.
    let config = MocoConfig { momentum: 0.995, ..contrast(32, true) };
    let build = |init: &mut Init| Ok::<_, ResNetError>(Small::new(&[3, 16, 32, 32], &[2; 3], init));
    check("moco", "loss", Moco::new(&config, build, 1, &device()).unwrap());
    let config = DenseClConfig { contrast: config, ..DenseClConfig::default() };
    check("densecl", "loss_global", DenseCl::new(&config, build, 1, &device()).unwrap());
}
