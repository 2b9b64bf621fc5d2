//! Parity with the reference implementation, on the device `OCELLI_TEST_DEVICE` names (default: the CPU).
//!
//! Every size, seed and constant comes from the fixtures' JSON, so another set of fixtures (`OCELLI_GOLDEN`) runs
//! through the same tests.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod parity_dense;
mod parity_methods;
mod parity_transfer;
mod parity_vit;
mod support;

use std::collections::HashMap;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use ocelli::eval::retrieval::scales::{at_scale, mean_of_scales};
use ocelli::methods::optim::{AdamW, AdamWState, GradientSum, OptimConfig, Optimizer, StepRates};
use ocelli::methods::schedule::{Cosine, TeacherTemperature};
use ocelli::methods::{Batch, Dino, DinoConfig, Method, StepClock, Update};
use ocelli::models::weights::{ModuleState as _, StateDict};
use ocelli::models::{
    AnyBackbone, Backbone as _, DinoHeadConfig, Init, Mode, PositionRule, ProbeFeatures, Vit, VitConfig, params,
};
use support::{
    Fixture, Tolerance, as_usize, assert_close, device, fixtures, formula_tensor, number_after, values,
};

/// A backbone with formula weights.
fn formula_vit(config: &VitConfig, salt: &str) -> Vit {
    let vit = config.init(&mut Init::new(0, &device())).unwrap();
    let mut state = StateDict::default();
    state.add_module("", &vit).unwrap();
    for (name, tensor) in &mut state.tensors {
        *tensor = formula_tensor(salt, name, &tensor.shape);
    }
    state.load_into(vit).unwrap()
}

#[test]
fn vit_forward() {
    for name in fixtures("vit_forward") {
        let f = Fixture::load(&name);
        let salt = f.config()["salt"].as_str().unwrap();
        let config = VitConfig {
            image_size_px: f.usize("img_size_of_pos_embed"),
            patch_size_px: f.usize("patch"),
            dim: f.usize("embed_dim"),
            depth: f.usize("depth"),
            heads: f.usize("heads"),
            mlp_ratio: f.usize("mlp_ratio"),
            drop_path: 0.0,
            registers: 0,
            position_rule: PositionRule::Dino,
        };
        assert_eq!(config.num_parameters(), f.usize("num_parameters"), "{name}");
        let vit = formula_vit(&config, salt);
        assert_eq!(params::count(&vit), f.usize("num_parameters"), "{name}");
        let tolerance = &f.json["tolerance"]["fp32_gpu"];
        let tokens_tolerance = &tolerance["cls/patch_tokens/last4_cls/mean_patch"];
        let attention_tolerance = &tolerance["attn"];
        for size in f.config()["sizes"].as_array().unwrap() {
            let key = size["key"].as_str().unwrap();
            let (batch, dim) = (f.usize("batch"), config.dim);
            let (h, w) = (as_usize(&size["height"], "height"), as_usize(&size["width"], "width"));
            let input = f.config()["input_name"].as_str().unwrap();
            let count = batch * 3 * h * w;
            let pixels: Vec<f32> = (0..count).map(|i| support::formula(salt, input, i) as f32).collect();
            let images = Tensor::<4>::from_data(TensorData::new(pixels, [batch, 3, h, w]), &device());
            let check = |what: &str, found: Vec<f32>, tolerance: &serde_json::Value| {
                let expected = &f.get(&format!("{key}.{what}")).values;
                assert_close(
                    &format!("{name} {key}.{what}"),
                    &found,
                    expected,
                    Tolerance::of(tolerance, expected),
                );
            };
            check("cls", values(vit.forward(images.clone(), Mode::Eval)), tokens_tolerance);

            // One pass gives the last blocks and, from the very last, every token.
            let layers = vit.intermediate_layers(images.clone(), f.get(&format!("{key}.last4_cls")).shape[0]);
            let cls = layers.iter().map(|l| l.clone().narrow(1, 0, 1).reshape([1, batch, dim])).collect();
            check("last4_cls", values(Tensor::<3>::cat(cls, 0)), tokens_tolerance);
            let tokens = layers.last().unwrap().clone();
            let patches = tokens.clone().narrow(1, 1, tokens.dims()[1] - 1);
            check("mean_patch", values(patches.clone().mean_dim(1)), tokens_tolerance);
            let chosen = f.integers(&format!("{key}.patch_index"));
            let picked = chosen.iter().map(|i| patches.clone().narrow(1, *i, 1)).collect();
            check("patch_tokens", values(Tensor::<3>::cat(picked, 1)), tokens_tolerance);

            // One pass gives the rows of all queries.
            let rows = vit.attention_rows(images.clone(), config.depth - 1, 0..tokens.dims()[1]);
            let row = |query: usize| values(rows.clone().narrow(2, query, 1));
            check("attn_cls", row(0), attention_tolerance);
            // Maps take a way of their own to the class token's row.
            let map = vit.cls_attention(images.clone());
            let [batch, heads, cells] = map.dims();
            let same = rows.clone().narrow(2, 0, 1).reshape([batch, heads, cells + 1]).narrow(2, 1, cells);
            let apart = (map - same).abs().max().into_data().try_to_vec::<f32>().unwrap()[0];
            assert!(apart < 1e-5, "the map is {apart} off the row of attention");
            let prefix = format!("{key}.attn_row_patch");
            for (tensor, _) in f.tensors.tensors.iter().filter(|(n, _)| n.starts_with(&prefix)) {
                let patch: usize = tensor[prefix.len()..].parse().unwrap();
                check(&tensor[key.len() + 1..], row(1 + patch), attention_tolerance);
            }
        }
    }
}

/// What each protocol of frozen features takes of a Vision Transformer.
#[test]
fn frozen_features() {
    let f = Fixture::load("tokens_to_features");
    let salt = f.config()["salt"].as_str().unwrap();
    let config = VitConfig {
        image_size_px: f.usize("img_size"),
        patch_size_px: f.usize("patch"),
        dim: f.usize("dim"),
        depth: f.usize("depth"),
        heads: f.usize("heads"),
        mlp_ratio: f.usize("mlp_ratio"),
        drop_path: 0.0,
        registers: 0,
        position_rule: PositionRule::Dino,
    };
    let vit = formula_vit(&config, salt);
    let shape: Vec<usize> = f.config()["input"].as_array().unwrap().iter().map(|v| as_usize(v, "input")).collect();
    let count = shape.iter().product();
    let pixels: Vec<f32> = (0..count).map(|i| support::formula(salt, "input", i) as f32).collect();
    let images = Tensor::<4>::from_data(TensorData::new(pixels, shape), &device());
    let check = |what: &str, found: Vec<f32>, tolerance: &str| {
        let expected = &f.get(what).values;
        assert_close(what, &found, expected, Tolerance::of(&f.json["tolerance"][tolerance], expected));
    };
    let blocks = f.usize("n_last_blocks");
    let layers = vit.intermediate_layers(images.clone(), blocks);
    let stacked = layers.iter().map(|t| t.clone().unsqueeze_dim::<4>(1)).collect();
    check("intermediate", values(Tensor::cat(stacked, 1)), "tokens");
    check("cls", values(vit.forward(images.clone(), Mode::Eval)), "tokens");
    let tokens = vit.tokens(images.clone());
    check("davis.patch_tokens", values(tokens.clone().narrow(1, 1, tokens.dims()[1] - 1)), "tokens");
    let any = AnyBackbone::Vit(vit);
    for (features, what) in [
        (ProbeFeatures::Cls { blocks }, "linear.n4_cls"),
        (ProbeFeatures::Cls { blocks: 1 }, "linear.n1_cls"),
        (ProbeFeatures::ClsAndMean, "linear.n1_cls_avgpool"),
    ] {
        check(what, values(features.of(&any, images.clone())), "tokens");
    }
    // The whole network at several scales, as retrieval describes an image: the mean of what each gives, of unit length.
    let item = f.usize("multiscale_item");
    let [_, planes, height, width] = images.dims();
    let image = values(images.narrow(0, item, 1));
    let mut each = Vec::new();
    for size in f.config()["multiscale_sizes"].as_array().unwrap() {
        let scale = size["scale"].as_f64().unwrap();
        let (pixels, rows, cols) = at_scale(&image, (height, width), scale).unwrap();
        let expected = size["image"].as_array().unwrap();
        assert_eq!([rows, cols], [0, 1].map(|i| as_usize(&expected[i], "image")), "scale {scale}");
        let pixels = Tensor::<4>::from_data(TensorData::new(pixels, [1, planes, rows, cols]), &device());
        each.extend(values(any.features(pixels, Mode::Eval)));
    }
    check("multiscale.cls_per_scale", each.clone(), "tokens");
    check("multiscale.feature", mean_of_scales(&each, f.usize("dim")).unwrap(), "unit features");
}

#[test]
fn position_embeddings() {
    let f = Fixture::load("vit_pos_embed");
    let salt = f.config()["salt"].as_str().unwrap();
    let channels = f.config()["stored_channels"].as_array().unwrap();
    let (from, to) = (as_usize(&channels[0], "channel"), as_usize(&channels[1], "channel"));
    for case in f.config()["cases"].as_array().unwrap() {
        let key = case["key"].as_str().unwrap();
        let arch = case["arch"].as_str().unwrap().replace("vit_small", "vit-s").replace("vit_base", "vit-b");
        let arch = arch.replace("vit_tiny", "vit-ti");
        let patch = as_usize(&case["patch"], "patch");
        let arch: ocelli::models::Arch = format!("{arch}/{patch}").parse().unwrap();
        let source = as_usize(&case["source_grid"][0], "grid");
        let config = VitConfig { depth: 1, ..arch.config(source * patch, 0.0) };
        let vit = formula_vit(&config, salt);
        let (h, w) = (as_usize(&case["height"], "height"), as_usize(&case["width"], "width"));
        let found = values(vit.position_embedding(h, w));
        let rows = f.integers(&format!("{key}.rows"));
        let found: Vec<f32> =
            rows.iter().flat_map(|r| found[r * config.dim..][..config.dim][from..to].to_vec()).collect();
        let expected = &f.get(&format!("{key}.values")).values;
        assert_close(key, &found, expected, Tolerance::of(&f.json["tolerance"], expected));
    }
}

#[test]
fn schedules() {
    let f = Fixture::load("dino_schedules");
    let single = Tolerance::of(&f.json["tolerance"], &[]);
    // What holds for the values in double precision is only told in words.
    let double = number_after(f.json["tolerance"]["note"].as_str().unwrap(), "rtol ");
    for (name, c) in f.config()["cosine"].as_object().unwrap() {
        let number = |key: &str| c[key].as_f64().unwrap();
        let per_epoch = as_usize(&c["iterations_per_epoch"], "iterations");
        let mut schedule =
            Cosine::new(number("base_value"), number("final_value"), as_usize(&c["epochs"], "epochs") * per_epoch)
                .with_warmup(as_usize(&c["warmup_epochs"], "warm-up") * per_epoch);
        schedule.warmup_start = number("start_warmup_value");
        let values = c["values_float64"].as_array().unwrap();
        assert_eq!(values.len(), as_usize(&c["length"], "length"), "{name}");
        // Where 1 + cos is nearly nothing, its rounding is that of numbers of size 1.
        let rounding = f64::EPSILON * (number("base_value") - number("final_value")).abs();
        let mut rounded = Vec::new();
        for (i, expected) in values.iter().enumerate() {
            let (found, expected) = (schedule.at(i), expected.as_f64().unwrap());
            let near = double * expected.abs() + rounding;
            assert!((found - expected).abs() <= near, "{name}[{i}]: {found} {expected}");
            rounded.push(found as f32);
        }
        assert_close(name, &rounded, &f.get(name).values, single);
    }
    for (name, c) in f.config()["teacher_temp"].as_object().unwrap() {
        let schedule = TeacherTemperature {
            start: c["warmup_teacher_temp"].as_f64().unwrap(),
            end: c["teacher_temp"].as_f64().unwrap(),
            warmup_epochs: as_usize(&c["warmup_epochs"], "warm-up"),
        };
        let found: Vec<f32> =
            (0..as_usize(&c["epochs"], "epochs")).map(|epoch| schedule.at(epoch) as f32).collect();
        assert_close(name, &found, &f.get(name).values, single);
    }
}

#[test]
fn dino_loss() {
    let f = Fixture::load("loss_dino");
    let device = device();
    let student = f.tensor::<2>("student", &device.clone().autodiff()).require_grad();
    let loss = ocelli::kernels::dino_cross_entropy(
        student.clone(),
        f.tensor::<2>("teacher", &device),
        f.tensor::<2>("center", &device),
        f.f64("student_temp") as f32,
        f.f64("teacher_temp") as f32,
        f.usize("ncrops"),
    );
    let gradient = values(student.grad(&loss.backward()).unwrap());
    let tolerance = &f.json["tolerance"];
    let expected = &f.get("loss").values;
    assert_eq!(expected[0], f.json["expected"]["loss"].as_f64().unwrap() as f32, "the loss is stored twice");
    assert_close("loss", &values(loss), expected, Tolerance::of(&tolerance["loss"], expected));
    let expected = &f.get("grad.student").values;
    assert_close("gradient", &gradient, expected, Tolerance::of(&tolerance["grad"], expected));
}

#[test]
fn five_training_steps() {
    for name in fixtures("dino_train_").into_iter().filter(|n| !n.contains("crops")) {
        training_steps(&Fixture::load(&name));
    }
}

fn training_steps(f: &Fixture) {
    let device = device();
    let name = &f.name;
    let crops = Fixture::load(f.config()["crops_file"].as_str().unwrap());
    let (batch, per_epoch) = (f.usize("batch"), f.usize("nit"));
    let vit = VitConfig {
        image_size_px: f.usize("img"),
        patch_size_px: f.usize("patch"),
        dim: f.usize("dim"),
        depth: f.usize("depth"),
        heads: f.usize("heads"),
        mlp_ratio: number_after(f.config()["vit"].as_str().unwrap(), "mlp_ratio ") as usize,
        drop_path: 0.0,
        registers: 0,
        position_rule: PositionRule::Dino,
    };
    let config = DinoConfig {
        head: DinoHeadConfig {
            out_dim: f.usize("out_dim"),
            hidden_dim: f.usize("hidden"),
            bottleneck_dim: f.usize("bottleneck"),
            norm_last_layer: f.config()["norm_last_layer"].as_bool().unwrap(),
            ..DinoHeadConfig::default()
        },
        warmup_teacher_temp: f.f64("temp0"),
        teacher_temp: f.f64("temp"),
        warmup_teacher_temp_epochs: f.usize("temp_warm"),
        teacher_momentum: f.f64("mom"),
        freeze_last_layer_epochs: f.usize("freeze"),
        ..DinoConfig::default()
    };
    let mut dino = Dino::new(&config, &vit, 0, &device).unwrap();
    let mut init = f.tensors.under("init.");
    if config.head.norm_last_layer {
        let g = init.get("head.last_layer.weight_g").unwrap();
        assert!(g.values.iter().all(|v| *v == 1.0), "a frozen weight_g is left out because it is 1");
        init.tensors.retain(|(n, _)| n != "head.last_layer.weight_g");
    }
    let mut state = StateDict::default();
    for who in ["student", "teacher"] {
        state.tensors.extend(init.tensors.iter().map(|(n, t)| (format!("{who}.{n}"), t.clone())));
    }
    let centre = ocelli::models::weights::HostTensor {
        shape: vec![1, config.head.out_dim],
        values: vec![0.0; config.head.out_dim],
    };
    state.tensors.push(("dino_loss.center".into(), centre));
    dino.load_state(&state).unwrap();

    let total = f.usize("epochs") * per_epoch;
    let lr = Cosine::new(f.f64("lr"), f.f64("min_lr"), total).with_warmup(f.usize("lr_warmup_epochs") * per_epoch);
    let decay = Cosine::new(f.f64("wd"), f.f64("wd_end"), total);
    let momentum = Cosine::new(f.f64("mom"), 1.0, total);
    let tolerance = &f.json["tolerance"];
    let (betas, epsilon) = f.config()["optimizer"].as_str().unwrap().split_once(" eps ").unwrap();
    let (beta1, beta2) = betas.split_once('/').unwrap();
    let optim = OptimConfig {
        beta1: number_after(beta1, "betas "),
        beta2: number_after(beta2, ""),
        ..OptimConfig::default()
    };
    let given: f64 = number_after(epsilon, "");
    assert_eq!(
        given,
        AdamW::default().epsilon,
        "{name}: the optimizer's constant, which no configuration changes"
    );
    let mut optimizer = Optimizer::new(&optim);
    let stored: Vec<usize> =
        f.config()["stored_after_steps"].as_array().unwrap().iter().map(|step| as_usize(step, "step")).collect();
    assert!(stored.contains(&f.usize("steps")), "{name}: the last step's parameters are stored");
    let mut lr_sum = 0.0;
    for step in 0..f.usize("steps") {
        let clock = StepClock {
            epoch: step / per_epoch,
            iteration: step,
            micro_batch: 0,
            momentum: momentum.at(step),
            seed: 0,
        };
        let rates = StepRates { lr: lr.at(step), weight_decay: decay.at(step), clip: f.f64("clip") };
        lr_sum += rates.lr;
        let near = |found: f64, key: &str| {
            let expected = f.json["expected"][key][step].as_f64().unwrap();
            assert!(
                (found - expected).abs() <= 1e-12 + 1e-10 * expected,
                "{name} {key}[{step}]: {found} {expected}"
            );
        };
        near(rates.lr, "lr");
        near(rates.weight_decay, "wd");
        near(clock.momentum, "momentum");
        near(dino.teacher_temperature(clock.epoch), "teacher_temp");

        // Crops of one size make one tensor, crop-major.
        let crop = |v: usize| crops.tensor::<4>(&format!("step{step}.crop{v}"), &device);
        let locals = (2..2 + f.usize("nlocal")).map(crop).collect();
        let views = [Tensor::cat(vec![crop(0), crop(1)], 0), Tensor::cat(locals, 0)];
        if step == 0 {
            let (student, teacher, _) = dino.outputs(&views, batch, 0);
            // The fixture names no tolerance: these are cosines, which f32 gives to a few millionths.
            let close = |what: &str, found: Vec<f32>| {
                let expected = &f.get(what).values;
                assert_close(&format!("{name} {what}"), &found, expected, Tolerance { atol: 2e-5, rtol: 1e-4 });
            };
            close("step0.student_output", values(student));
            close("step0.teacher_output", values(teacher));
        }
        let output = dino.loss(&Batch::of_views(views.to_vec(), batch), &clock);
        let mut raw = output.loss.backward();
        let found = values(output.loss.clone());
        let expected = &f.get("loss").values[step..=step];
        assert_close(
            &format!("{name} loss[{step}]"),
            &found,
            expected,
            Tolerance::of(&tolerance["loss"], expected),
        );

        let gradients = dino.network().take_gradients(&mut raw);
        check_gradients(f, step, &gradients);
        let mut sum = GradientSum::default();
        sum.add(gradients, 1.0);
        dino.update(Update {
            optimizer: &mut optimizer,
            gradients: sum,
            rates: &rates,
            config: &optim,
            clock: &clock,
        });
        dino.after_step(&clock);

        let k = config.head.out_dim;
        let expected = &f.get("center").values[step * k..][..k];
        assert_close(
            &format!("{name} centre[{step}]"),
            &values(dino.centre()),
            expected,
            Tolerance::of(&tolerance["center"], expected),
        );
        if stored.contains(&(step + 1)) {
            check_parameters(f, &dino.state().unwrap(), step + 1, vit.dim, lr_sum);
        }
    }
}

/// Gradients of the first step, and the norms of every step's.
fn check_gradients(f: &Fixture, step: usize, gradients: &[(String, Tensor<1>)]) {
    let names = f.config()["grad_names_in_order"].as_array().unwrap();
    assert_eq!(gradients.len(), names.len(), "{}: number of gradients", f.name);
    // Of a whole tensor both parts of the tolerance are relative.
    let tolerance = &f.json["tolerance"]["grad0"];
    let near = tolerance["atol_times_tensor_max_abs"].as_f64().unwrap() + tolerance["rtol"].as_f64().unwrap();
    for (i, name) in names.iter().map(|n| n.as_str().unwrap()).enumerate() {
        let (_, gradient) =
            gradients.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no gradient of {name}"));
        let found = values(gradient.clone());
        let norm = found.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let expected = f64::from(f.get("grad_norm").values[step * names.len() + i]);
        assert!((norm - expected).abs() <= near * expected, "{} |grad {name}|[{step}]: {norm} {expected}", f.name);
        if step > 0 {
            continue;
        }
        let reference = f.get(&format!("grad0.raw.{name}"));
        let linear = reference.shape.len() == 2 && name.ends_with(".weight");
        let found = if linear { transposed(&found, reference.shape[0]) } else { found };
        let tolerance = Tolerance::of(tolerance, &reference.values);
        assert_close(&format!("{} grad0 {name}", f.name), &found, &reference.values, tolerance);
    }
}

/// `[in, out]`, `out` columns, to PyTorch's `[out, in]`.
fn transposed(values: &[f32], out: usize) -> Vec<f32> {
    (0..out).flat_map(|c| values.iter().skip(c).step_by(out).copied()).collect()
}

/// Student and teacher after a step that the fixture has them of. As its note allows, the key third of the qkv biases
/// is left out (its true gradient is zero) and a thousandth of the rest may be off by at most twice the sum of lr.
fn check_parameters(f: &Fixture, state: &StateDict, after: usize, dim: usize, lr_sum: f64) {
    for who in ["student", "teacher"] {
        let stored = f.tensors.under(&format!("{who}.after{after}."));
        let found = state.under(&format!("{who}."));
        assert!(!stored.tensors.is_empty(), "{}: no {who} after {after}", f.name);
        let (mut total, mut off) = (0usize, 0usize);
        for (name, expected) in &stored.tensors {
            let found = found.get(name).unwrap_or_else(|| panic!("no {who} {name}"));
            let tolerance = Tolerance::of(&f.json["tolerance"]["params"], &expected.values);
            assert_eq!(found.shape, expected.shape, "{who} {name}");
            for (i, (a, b)) in found.values.iter().zip(&expected.values).enumerate() {
                if name.ends_with("attn.qkv.bias") && (dim..2 * dim).contains(&i) {
                    continue;
                }
                total += 1;
                if tolerance.excess(*a, *b) > 0.0 || a.is_nan() {
                    off += 1;
                    let distance = f64::from((a - b).abs());
                    assert!(distance <= 2.0 * lr_sum, "{} {who} {name}[{i}] after {after}: {a} {b}", f.name);
                }
            }
        }
        assert!(off * 1000 <= total, "{} {who} after {after}: {off} of {total} values are off", f.name);
    }
}

/// Parameters of any names and up to four axes, in the order of the fixture's names.
#[derive(Module, Debug)]
struct Parameters {
    vectors: Vec<Param<Tensor<1>>>,
    matrices: Vec<Param<Tensor<2>>>,
    kernels: Vec<Param<Tensor<4>>>,
}

impl Parameters {
    /// The fixture's start, and the fixture's name of every parameter by the module's own.
    fn of(f: &Fixture, device: &Device) -> (Self, HashMap<String, String>) {
        let mut module = Self { vectors: Vec::new(), matrices: Vec::new(), kernels: Vec::new() };
        let mut names = HashMap::new();
        for (name, shape) in f.config()["shapes"].as_object().unwrap() {
            let start = format!("init.{name}");
            let shape: Vec<usize> = shape.as_array().unwrap().iter().map(|n| as_usize(n, "shape")).collect();
            assert_eq!(f.get(&start).shape, shape, "{start}");
            let own = match shape.len() {
                1 => {
                    module.vectors.push(Param::from_tensor(f.tensor(&start, device)));
                    format!("vectors.{}", module.vectors.len() - 1)
                }
                2 => {
                    module.matrices.push(Param::from_tensor(f.tensor(&start, device)));
                    format!("matrices.{}", module.matrices.len() - 1)
                }
                4 => {
                    module.kernels.push(Param::from_tensor(f.tensor(&start, device)));
                    format!("kernels.{}", module.kernels.len() - 1)
                }
                axes => panic!("{name} has {axes} axes"),
            };
            names.insert(own, name.clone());
        }
        (module, names)
    }
}

/// The fixture's gradients of a step.
fn given_gradients(f: &Fixture, names: &HashMap<String, String>, step: usize, device: &Device) -> GradientSum {
    let of = |name: &String| {
        let host = f.get(&format!("grad.step{step}.{name}"));
        let flat = TensorData::new(host.values.clone(), [host.values.len()]);
        Tensor::<1>::from_data(flat, device)
    };
    let mut gradients = GradientSum::default();
    gradients.add(names.iter().map(|(own, name)| (own.clone(), of(name))).collect(), 1.0);
    gradients
}

/// Every parameter after a step of a recipe.
fn check_step(f: &Fixture, names: &HashMap<String, String>, recipe: &str, step: usize, module: &Parameters) {
    let params = params::collect(module);
    assert_eq!(params.len(), names.len(), "{recipe}");
    for param in params {
        let key = format!("{recipe}.after{}.{}", step + 1, names[&param.name]);
        let expected = &f.get(&key).values;
        assert_close(&key, &values(param.values), expected, Tolerance::of(&f.json["tolerance"], expected));
    }
}

#[test]
fn adamw() {
    let f = Fixture::load("optim");
    let device = device();
    let (mut module, names) = Parameters::of(&f, &device);
    let recipe = &f.config()["recipes"]["adamw"];
    let number = |v: &serde_json::Value| v.as_f64().unwrap();
    let mut state = AdamWState::new(AdamW {
        beta1: number(&recipe["betas"][0]),
        beta2: number(&recipe["betas"][1]),
        epsilon: number(&recipe["eps"]),
    });
    for step in 0..f.usize("steps") {
        let gradients = given_gradients(&f, &names, step, &device);
        let rates = StepRates {
            lr: f64::from(f.get("lr.adamw").values[step]),
            weight_decay: f64::from(f.get("wd.adamw").values[step]),
            clip: 0.0,
        };
        module = state.step(module, &gradients, &rates);
        check_step(&f, &names, "adamw", step, &module);
    }
}
