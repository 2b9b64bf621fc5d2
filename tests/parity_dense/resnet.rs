//! ResNets against torchvision's.

use burn::tensor::{Device, Tensor, TensorData};
use ocelli::kernels::release_memory;
use ocelli::methods::optim::{GradientSum, Group, OptimConfig, Optimizer, OptimizerKind, StepRates};
use ocelli::models::weights::{ModuleState as _, StateDict};
use ocelli::models::{Arch, Init, Mode, ResNet, ResNetArch, ResNetConfig, Stem, params};
use ocelli::train::memory::host_available;

use crate::support::{
    Fixture, Tolerance, as_usize, assert_close, device, fixtures, formula, formula_tensor, golden_folder,
    number_after, values,
};

/// A ResNet with formula weights.
fn formula_resnet(config: &ResNetConfig, salt: &str) -> ResNet {
    let net = config.init(&mut Init::new(0, &device())).unwrap();
    let mut state = StateDict::default();
    state.add_module("", &net).unwrap();
    for (name, tensor) in &mut state.tensors {
        *tensor = formula_tensor(salt, name, &tensor.shape);
    }
    state.load_into(net).unwrap()
}

fn formula_images(salt: &str, name: &str, shape: [usize; 4]) -> Tensor<4> {
    let pixels: Vec<f32> = (0..shape.iter().product()).map(|i| formula(salt, name, i) as f32).collect();
    Tensor::from_data(TensorData::new(pixels, shape), &device())
}

/// The tolerance of a stage's output or of its mean over cells.
fn stage_tolerance(f: &Fixture, mode: &str, stage: &str, mean: bool, expected: &[f32]) -> Tolerance {
    let tolerance = &f.json["tolerance"][mode];
    match (mode, mean) {
        ("eval", _) => Tolerance::of(tolerance, expected),
        (_, false) => Tolerance::of(&tolerance[stage], expected),
        (_, true) => {
            let share = number_after(tolerance["layerK.gap"]["atol"].as_str().unwrap(), "/ ");
            let whole = Tolerance::of(&tolerance[stage], expected);
            Tolerance { atol: whole.atol / share, ..whole }
        }
    }
}

#[test]
fn resnet_forward() {
    for name in fixtures("resnet_forward") {
        let f = Fixture::load(&name);
        let text = |key: &str| f.config()[key].as_str().unwrap();
        let arch: ResNetArch = match text("arch") {
            "wide_resnet50_2" => "wide-resnet-50".parse().unwrap(),
            arch => arch.replace("resnet", "resnet-").parse().unwrap(),
        };
        let config = ResNetConfig::from(arch);
        assert_eq!(config.num_parameters(), f.usize("num_parameters_without_fc"), "{name}");
        for case in f.config()["cases"].as_array().unwrap() {
            let key = case["key"].as_str().unwrap();
            let mode = case["bn_mode"].as_str().unwrap();
            let size = |what: &str| as_usize(&case[what], what);
            // Every case starts from the formula's running statistics.
            let net = formula_resnet(&config, text("salt"));
            assert_eq!(params::count(&net), f.usize("num_parameters_without_fc"), "{name}");
            let shape = [size("batch"), 3, size("height"), size("width")];
            let images = formula_images(text("salt"), text("input_name"), shape);
            let how = if mode == "train" { Mode::Train { seed: 0 } } else { Mode::Eval };
            let check = |what: &str, found: Vec<f32>, tolerance: &dyn Fn(&[f32]) -> Tolerance| {
                let expected = &f.get(&format!("{key}.{what}")).values;
                assert_close(&format!("{name} {key}.{what}"), &found, expected, tolerance(expected));
            };
            let stages = net.stages(images, how);
            for (i, stage) in stages.iter().enumerate() {
                let layer = format!("layer{}", i + 1);
                let all = values(stage.clone());
                let chosen = f.integers(&format!("{key}.{layer}.index"));
                let found = chosen.iter().map(|i| all[*i]).collect();
                check(&format!("{layer}.value"), found, &|e| stage_tolerance(&f, mode, &layer, false, e));
                let mean = values(stage.clone().flatten::<3>(2, 3).mean_dim(2));
                check(&format!("{layer}.gap"), mean.clone(), &|e| stage_tolerance(&f, mode, &layer, true, e));
                if i == 3 {
                    let whole = &f.json["tolerance"][mode];
                    let tolerance = if mode == "train" { &whole["pooled"] } else { whole };
                    check("pooled", mean, &|e| Tolerance::of(tolerance, e));
                }
            }
            let mut state = StateDict::default();
            state.add_module("", &net).unwrap();
            let prefix = format!("{key}.after.");
            let mut buffers = 0;
            for (tensor, expected) in f.tensors.tensors.iter().filter(|(n, _)| n.starts_with(&prefix)) {
                let name = &tensor[prefix.len()..];
                let (norm, _) = name.rsplit_once('.').unwrap();
                let tolerance =
                    Tolerance::of(&f.json["tolerance"]["train"][format!("after.{norm}")], &expected.values);
                let found = state.get(name).unwrap_or_else(|| panic!("no {name}"));
                assert_close(tensor, &found.values, &expected.values, tolerance);
                buffers += 1;
            }
            assert_eq!(buffers > 0, mode == "train", "{name} {key}");
        }
    }
}

/// The name of a row of the comparison table here: `RN50w2`, `RN152w3+SK`, `wide_resnet50_2 (…)`.
fn resnet_of_row(row: &str) -> Option<String> {
    if let Some(rest) = row.strip_prefix("wide_resnet") {
        return Some(format!("wide-resnet-{}", rest.split_once('_')?.0));
    }
    let (rest, sk) =
        row.strip_prefix("RN")?.split_once('+').map_or((row.strip_prefix("RN")?, ""), |(r, _)| (r, "-sk"));
    Some(match rest.split_once('w') {
        Some((depth, width)) => format!("resnet-{depth}x{width}{sk}"),
        None => format!("resnet-{rest}{sk}"),
    })
}

/// The comparison table's counts, and that the formula behind them counts what is built.
#[test]
fn parameter_counts() {
    let bytes = std::fs::read(golden_folder().join("bench_reference.json")).unwrap();
    let table: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let count = |name: &str| {
        let arch: ResNetArch = name.parse().unwrap();
        assert_eq!(arch.to_string(), name);
        ResNetConfig::from(arch).num_parameters()
    };
    for (row, expected) in table["backbones"].as_object().unwrap() {
        let (parameters, dim) = match resnet_of_row(row) {
            Some(name) => (count(&name), name.parse::<ResNetArch>().unwrap().dim()),
            None => {
                let config = row.to_lowercase().parse::<Arch>().unwrap().config(224, 0.0);
                (config.num_parameters(), config.dim)
            }
        };
        assert_eq!(parameters, as_usize(&expected["parameters"], row), "{row}");
        assert_eq!(dim, as_usize(&expected["feature_dim"], row), "{row}");
    }
    // torchvision's own counts without the classifier.
    assert_eq!(count("resnet-18"), 11_176_512);
    assert_eq!(count("resnet-34"), 21_284_672);
    for name in
        ["resnet-18c8", "resnet-34c6", "resnet-50c8", "wide-resnet-50c8", "resnet-152c4-sk", "resnet-200c2"]
    {
        for stem in [Stem::Imagenet, Stem::Cifar] {
            let config = ResNetConfig { stem, ..name.parse::<ResNetArch>().unwrap().into() };
            let net = config.init(&mut Init::new(0, &device())).unwrap();
            assert_eq!(params::count(&net), config.num_parameters(), "{name} {stem:?}");
            let mut state = StateDict::default();
            state.add_module("", &net).unwrap();
            let found = ResNetConfig::of(&state).unwrap();
            assert_eq!(found.arch, config.arch, "{name}");
        }
    }
    for wrong in [
        "resnet-51",
        "resnet-50x0",
        "resnet-18-sk",
        "wide-resnet-18",
        "resnet-50y2",
        "resnet-50x99999",
        "",
        "resnet-18é",
        "resnet-é",
        "resnet-18cé",
        "é",
    ] {
        assert!(wrong.parse::<ResNetArch>().is_err(), "{wrong}");
    }
}

#[test]
fn resnet_maps_have_the_stride_that_is_asked_for() {
    let arch: ResNetArch = "resnet-50c4".parse().unwrap();
    let images = formula_images("", "stride", [2, 3, 70, 64]);
    let mut pixels = Vec::new();
    for (output_stride, rows, cols) in [(32, 3, 2), (16, 5, 4), (8, 9, 8)] {
        let config = ResNetConfig { output_stride, ..arch.into() };
        let map = formula_resnet(&config, "").stages(images.clone(), Mode::Eval)[3].clone();
        assert_eq!(map.dims(), [2, arch.dim(), rows, cols]);
        pixels.push(values(map.slice([0..1, 0..1, 0..1, 0..1]))[0]);
    }
    // Dilation keeps what a cell sees: before any zero of the border comes in, the values agree.
    let inside = formula_images("", "inside", [1, 3, 512, 512]);
    let at = |output_stride: usize, cell: usize| {
        let config = ResNetConfig { output_stride, ..arch.into() };
        let map = formula_resnet(&config, "").stages(inside.clone(), Mode::Eval)[2].clone();
        values(map.slice([0..1, 0..arch.dim() / 2, cell..cell + 1, cell..cell + 1]))
    };
    let tolerance = Tolerance { atol: 1e-5, rtol: 1e-4 };
    assert_close("dilated", &at(8, 32), &at(32, 16), tolerance);
    let cifar = ResNetConfig { stem: Stem::Cifar, ..arch.into() };
    let map = formula_resnet(&cifar, "").stages(formula_images("", "small", [1, 3, 32, 32]), Mode::Eval);
    assert_eq!(map[3].dims(), [1, arch.dim(), 4, 4]);
    let sk = ResNetConfig::from("resnet-50c4-sk".parse::<ResNetArch>().unwrap());
    assert_eq!(formula_resnet(&sk, "").stages(images, Mode::Eval)[3].dims(), [2, arch.dim(), 3, 2]);
    for (output_stride, norm_groups) in [(4, 1), (32, 0)] {
        let config = ResNetConfig { output_stride, norm_groups, ..arch.into() };
        assert!(config.init(&mut Init::new(0, &device())).is_err());
    }
}

/// Shares of a batch are normalised as batches of their own, and the running statistics take the mean.
#[test]
fn norm_groups_are_batches_of_their_own() {
    let arch: ResNetArch = "resnet-18c4".parse().unwrap();
    let whole = formula_images("", "groups", [6, 3, 32, 32]);
    let train = Mode::Train { seed: 0 };
    let net = formula_resnet(&ResNetConfig { norm_groups: 3, ..arch.into() }, "");
    let together = net.forward(whole.clone(), train);
    let running = |net: &ResNet| {
        let mut state = StateDict::default();
        state.add_module("", net).unwrap();
        ["bn1.running_mean", "bn1.running_var"].map(|n| state.get(n).unwrap().values.clone())
    };
    let mut sums = [vec![0.0f32; 4], vec![0.0f32; 4]];
    for share in 0..3 {
        let alone = formula_resnet(&arch.into(), "");
        let found = alone.forward(whole.clone().narrow(0, 2 * share, 2), train);
        let expected = values(found);
        let found = values(together.clone().narrow(0, 2 * share, 2));
        assert_close("a share", &found, &expected, Tolerance { atol: 1e-5, rtol: 1e-4 });
        for (sum, part) in sums.iter_mut().zip(running(&alone)) {
            sum.iter_mut().zip(part).for_each(|(s, p)| *s += p / 3.0);
        }
    }
    for (found, expected) in running(&net).iter().zip(&sums) {
        assert_close("running statistics", found, expected, Tolerance { atol: 1e-6, rtol: 1e-5 });
    }
    // One share of six is another matter.
    let one = values(formula_resnet(&arch.into(), "").forward(whole, train));
    let apart = one.iter().zip(values(together)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart > 0.05, "groups make a difference of {apart} only");
}

/// The wide networks of the comparison table at their whole width, on images of 64 px: a forward pass, and a training step after
/// which the loss is lower. Where a step does not fit into the memory, the forward pass alone.
#[test]
fn wide_networks_take_a_step() {
    if std::env::var("OCELLI_TEST_DEVICE").is_ok_and(|device| device != "cpu") {
        println!("on the CPU only: it is the networks that are tried, not their kernels");
        return;
    }
    for name in ["resnet-50x2", "resnet-200x2", "resnet-50x4", "resnet-50x5", "resnet-152x3-sk"] {
        let config = ResNetConfig::from(name.parse::<ResNetArch>().unwrap());
        // Weights, gradients, the optimizer's buffer and the new weights; as much again of one tensor and the images.
        let takes = 4 * 4 * config.num_parameters() as u64 + (1 << 30);
        let steps = host_available().is_none_or(|free| free > takes);
        let started = std::time::Instant::now();
        let device = if steps { Device::flex().autodiff() } else { Device::flex() };
        let net = config.init(&mut Init::repeated(0, &device)).unwrap();
        assert_eq!(params::count(&net), config.num_parameters(), "{name}");
        let images = formula_images("", name, [2, 3, 64, 64]).to_device(&Device::flex());
        let features = net.forward(if steps { images.clone().autodiff() } else { images.clone() }, Mode::Eval);
        assert_eq!(features.dims(), [2, config.arch.dim()], "{name}");
        assert!(values(features.inner()).iter().all(|v| v.is_finite()), "{name}");
        if steps {
            let (before, after) = losses_around_a_step(net, &images);
            assert!(after < 0.998 * before && after > 0.9 * before, "{name}: {before}, then {after}");
        } else {
            println!("{name}: a forward pass alone, a step takes {} GB", takes >> 30);
        }
        println!("{name}: {:.1} s", started.elapsed().as_secs_f64());
        release_memory();
    }
}

/// The mean square of the features before and after a step of SGD along its gradient.
fn losses_around_a_step(net: ResNet, images: &Tensor<4>) -> (f32, f32) {
    let train = Mode::Train { seed: 0 };
    let loss = |net: &ResNet| net.forward(images.clone().autodiff(), train).powi_scalar(2).mean();
    let found = loss(&net);
    let before = values(found.clone().inner())[0];
    let mut raw = found.backward();
    let mut gradients = GradientSum::default();
    gradients.add(params::take_gradients(&net, &mut raw), 1.0);
    drop(raw);
    // As far as the gradient promises a loss lower by a hundredth.
    let norm = gradients.norms().map_or(f32::NAN, |(norm, _)| values(norm)[0]);
    let lr = f64::from(0.01 * before / norm.powi(2));
    let optim = OptimConfig { optimizer: OptimizerKind::Sgd, ..OptimConfig::default() };
    let rates = StepRates { lr, weight_decay: 0.0, clip: 0.0 };
    let (net, _) = Optimizer::new(&optim).step(net, None, gradients, &rates, &|_| Group::default());
    let after = values(loss(&net).inner())[0];
    (before, after)
}
