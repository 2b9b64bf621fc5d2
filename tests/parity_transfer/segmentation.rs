//! FCN's heads, losses, one step and inference; mIoU.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use ocelli::eval::segmentation::Confusion;
use ocelli::methods::optim::{GradientSum, Optimizer, StepRates};
use ocelli::methods::schedule::LrSchedule;
use ocelli::models::weights::ModuleState as _;
use ocelli::models::{Init, Mode, params};
use ocelli::transfer::segmentation::{
    Corners, FcnHead, FcnHeadConfig, Labels, Logits, LossConfig, Losses, Resize, SegmentationConfig,
    SegmentationOptim, classes_of_logits, losses, update,
};
use serde_json::Value;

use crate::support::{Fixture, Tolerance, as_usize, assert_close, device, number_after, read, values};

/// The two heads, under the fixture's names.
#[derive(Module, Debug)]
struct Heads {
    decode_head: FcnHead,
    auxiliary_head: FcnHead,
}

const HEADS: [&str; 2] = ["decode_head", "auxiliary_head"];

/// Heads with the fixture's values.
fn heads(f: &Fixture, device: &Device) -> Heads {
    let dropout = number_after(f.config()["dropout"].as_str().unwrap(), "Dropout2d(");
    let mut init = Init::new(0, device);
    let [decode_head, auxiliary_head] = HEADS.map(|name| {
        let c = &f.config()[name];
        let size = |key: &str| as_usize(&c[key], key);
        let config = FcnHeadConfig {
            input: size("in"),
            channels: size("channels"),
            convs: size("num_convs"),
            concat_input: c["concat_input"].as_bool().unwrap(),
            classes: f.usize("classes"),
            dropout,
        };
        config.init(&mut init)
    });
    f.tensors.under("init.").load_into(Heads { decode_head, auxiliary_head }).unwrap()
}

/// The maps, as leaves of a graph where the device keeps one: the fourth stage's and the third's.
fn maps(f: &Fixture, device: &Device) -> [Tensor<4>; 2] {
    ["stage4", "stage3"].map(|name| {
        let map = f.tensor::<4>(name, device);
        if map.is_autodiff() { map.require_grad() } else { map }
    })
}

/// What the heads make of the maps in training, with the channels that the fixture keeps or all of them.
fn logits(f: &Fixture, heads: &Heads, [last, middle]: [Tensor<4>; 2], dropout: bool) -> Logits {
    let keep = |name: &str| {
        let stored = format!("dropout.{name}");
        let values: Vec<f32> = f.integers(&stored).into_iter().map(|v| v as f32).collect();
        let images = last.dims()[0];
        let shape = [images, values.len() / images];
        dropout.then(|| Tensor::<2>::from_data(TensorData::new(values, shape), &device()))
    };
    let (decode, auxiliary) = (keep(HEADS[0]), keep(HEADS[1]));
    let mode = Mode::Train { seed: 0 };
    Logits {
        decode: heads.decode_head.forward_keeping(last.clone(), mode, decode),
        auxiliary: Some(heads.auxiliary_head.forward_keeping(middle, mode, auxiliary)),
    }
}

fn sides(f: &Fixture, key: &str) -> [usize; 2] {
    let all: Vec<usize> = f.config()[key].as_array().unwrap().iter().map(|v| as_usize(v, key)).collect();
    all.try_into().unwrap()
}

fn losses_of(f: &Fixture, found: Logits) -> Losses {
    let config = LossConfig {
        classes: f.usize("classes"),
        auxiliary_weight: f.config()["auxiliary_head"]["loss_weight"].as_f64().unwrap(),
        corners: Corners::HalfPixel,
    };
    let labels: Vec<u8> = f.integers("label").into_iter().map(|v| v as u8).collect();
    let [height, width] = sides(f, "label_h_w");
    let images = labels.len() / (height * width);
    losses(found, &Labels::new(&labels, [images, height, width], config.classes, &device()), &config)
}

/// The stored loss whose name begins so.
fn stored(of: &Value, name: &str) -> f32 {
    let all = of.as_object().unwrap();
    let (_, value) = all.iter().find(|(key, _)| key.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
    value.as_f64().unwrap() as f32
}

fn check_losses(f: &Fixture, found: &Losses, want: &Value, what: &str) {
    let auxiliary = found.auxiliary.clone().unwrap();
    for (name, value) in [("loss_decode", &found.decode.loss), ("loss_aux", &auxiliary), ("total", &found.total)] {
        let expected = [stored(want, name)];
        let tolerance = Tolerance::of(&f.json["tolerance"]["losses"], &expected);
        assert_close(&format!("{what} {name}"), &values(value.clone()), &expected, tolerance);
    }
}

#[test]
fn fcn_step() {
    let f = Fixture::load("fcn_step");
    let device = device();
    let tracked = device.clone().autodiff();
    let check = |what: &str, found: &[f32], tolerance: &str| {
        let expected = &f.get(what).values;
        assert_close(what, found, expected, Tolerance::of(&f.json["tolerance"][tolerance], expected));
    };

    // Nothing is dropped: another network of the same values, whose running statistics are its own.
    let plain = heads(&f, &tracked);
    let found = losses_of(&f, logits(&f, &plain, maps(&f, &tracked), false));
    check_losses(&f, &found, &f.json["expected"]["without_dropout"], "without dropout");

    let heads = heads(&f, &tracked);
    let [stage4, stage3] = maps(&f, &tracked);
    let both = logits(&f, &heads, [stage4.clone(), stage3.clone()], true);
    check("logits.decode_head", &values(both.decode.clone().inner()), "logits");
    check("logits.auxiliary_head", &values(both.auxiliary.clone().unwrap().inner()), "logits");
    let resize = Resize::new(sides(&f, "maps_h_w"), sides(&f, "label_h_w"), Corners::HalfPixel, &device);
    let corner = "upsampled.decode_head.corner";
    let [rows, cols] = [2, 3].map(|axis| f.get(corner).shape[axis]);
    let full = resize.forward(both.decode.clone().inner());
    check(corner, &values(full.narrow(2, 0, rows).narrow(3, 0, cols)), "logits");

    let found = losses_of(&f, both);
    check_losses(&f, &found, &f.json["expected"], "with dropout");
    let labelled = values(found.decode.labelled.clone())[0] as usize;
    let (pixels, ignored) = (&f.json["expected"]["pixels"], &f.json["expected"]["ignored_pixels"]);
    assert_eq!(labelled, as_usize(pixels, "pixels") - as_usize(ignored, "ignored"));

    let mut raw = found.carried.backward();
    check("grad.stage4", &values(stage4.grad(&raw).unwrap()), "grad");
    check("grad.stage3", &values(stage3.grad(&raw).unwrap()), "grad");
    let gradients = params::take_gradients(&heads, &mut raw);
    let wanted = f.tensors.tensors.iter().filter(|(name, _)| name.starts_with("grad.") && name.contains("_head."));
    assert_eq!(gradients.len(), wanted.count(), "number of gradients");
    for (name, gradient) in &gradients {
        check(&format!("grad.{name}"), &values(gradient.clone()), "grad");
    }

    // One step of the fixture's SGD.
    let sgd = &f.config()["sgd"];
    let number = |key: &str| sgd[key].as_f64().unwrap_or_else(|| panic!("{key}"));
    let optim = SegmentationOptim {
        lr: number("lr"),
        momentum: number("momentum"),
        weight_decay: number("weight_decay"),
        ..SegmentationOptim::default()
    }
    .config();
    let mut sum = GradientSum::default();
    sum.add(gradients, 1.0);
    let rates = StepRates { lr: optim.lr, weight_decay: optim.weight_decay, clip: 0.0 };
    let stepped = update(heads, (&mut Optimizer::new(&optim), &optim), sum, &rates, 1.0);
    let after = params::collect(&stepped);
    assert_eq!(after.len(), f.tensors.under("after.").tensors.len(), "number of parameters");
    for param in after {
        check(&format!("after.{}", param.name), &values(param.values), "after");
    }
}

/// Running statistics as they are given, nothing dropped, two resizes, and the likeliest class.
#[test]
fn fcn_inference() {
    let f = Fixture::load("fcn_step");
    let device = device();
    let [last, _] = maps(&f, &device);
    let images = last.dims()[0];
    let logits = heads(&f, &device).decode_head.forward(last, Mode::Eval, 0);
    let [_, classes, rows, cols] = logits.dims();
    let found = values(logits);
    let expected = &f.get("test.logits").values;
    assert_close("test.logits", &found, expected, Tolerance::of(&f.json["tolerance"]["logits"], expected));

    let (pred, ambiguous) = (bytes("fcn_step", "test.pred"), bytes("fcn_step", "test.ambiguous"));
    let original = sides(&f, "original_h_w");
    let (network, area) = (sides(&f, "label_h_w"), original[0] * original[1]);
    assert_eq!(pred.len(), images * area);
    let mut counts = vec![0usize; classes];
    for image in 0..images {
        let own = &found[image * classes * rows * cols..][..classes * rows * cols];
        let map = classes_of_logits(own, [classes, rows, cols], network, original, Corners::HalfPixel).unwrap();
        assert_eq!([map.height, map.width], original);
        for (pixel, label) in map.labels.iter().enumerate() {
            counts[usize::from(*label)] += 1;
            let at = image * area + pixel;
            assert!(
                *label == pred[at] || ambiguous[at] != 0,
                "image {image}, pixel {pixel}: {label} for {}",
                pred[at]
            );
        }
    }
    let test = &f.json["expected"]["test"];
    let unsure = as_usize(&test["ambiguous_pixels"], "ambiguous");
    for (class, count) in counts.iter().enumerate() {
        let expected = as_usize(&test["pixels_per_class"][class], "pixels");
        assert!(count.abs_diff(expected) <= unsure, "class {class}: {count} pixels, expected {expected}");
    }
}

#[test]
fn poly_rates() {
    let f = Fixture::load("fcn_step");
    let rtol = f.json["tolerance"]["lr"]["rtol"].as_f64().unwrap();
    let near = |what: &str, found: f64, expected: f64| {
        assert!((found - expected).abs() <= rtol * expected, "{what}: {found}, expected {expected}");
    };
    let schedule = |optim: &SegmentationOptim, iterations: usize| {
        let optim = optim.config();
        LrSchedule::new(&optim, optim.lr, 1, iterations)
    };
    // The published recipe is the default.
    let published = SegmentationConfig::default();
    let rates = schedule(&published.optim, published.iterations);
    for (iteration, expected) in f.json["expected"]["poly_20k"].as_object().unwrap() {
        near(iteration, rates.at(iteration.parse().unwrap()), expected.as_f64().unwrap());
    }
    let small = &f.config()["poly.small"];
    let number = |key: &str| small[key].as_f64().unwrap();
    let optim = SegmentationOptim {
        lr: number("base"),
        min_lr: number("min"),
        power: number("power"),
        ..SegmentationOptim::default()
    };
    let rates = schedule(&optim, as_usize(&small["total"], "total"));
    let expected = &f.get("poly.small").values;
    assert_eq!(expected.len(), as_usize(&small["total"], "total"));
    for (iteration, expected) in expected.iter().enumerate() {
        near(&format!("poly.small[{iteration}]"), rates.at(iteration), f64::from(*expected));
    }
}

#[test]
fn miou() {
    let f = Fixture::load("segmentation_metrics");
    let config = &f.config()["miou"];
    let classes = as_usize(&config["classes"], "classes");
    let ignored = as_usize(&config["ignore_index"], "ignore") as u8;
    let (labels, predictions) =
        (bytes("segmentation_metrics", "miou.label"), bytes("segmentation_metrics", "miou.prediction"));
    let mut confusion = Confusion::new(classes).unwrap();
    // Pictures one by one, as an evaluation counts them.
    let picture = labels.len() / as_usize(&config["images"], "images");
    for (labels, predictions) in labels.chunks(picture).zip(predictions.chunks(picture)) {
        confusion.add(labels, predictions, Some(ignored)).unwrap();
    }
    let counts = |name: &str| f.integers(name).into_iter().map(|n| n as u64).collect::<Vec<_>>();
    assert_eq!(confusion.counts(), counts("miou.confusion"));
    let atol = f.json["tolerance"]["atol"].as_f64().unwrap();
    let near = |what: &str, found: f64, expected: &Value| {
        let expected = expected.as_f64().unwrap();
        assert!((found - expected).abs() <= atol, "{what}: {found}, expected {expected}");
    };
    let check = |confusion: &Confusion, want: &Value| {
        let scores = confusion.scores().unwrap();
        near("mIoU", scores.miou, &want["miou"]);
        for (class, (iou, expected)) in
            scores.iou.iter().zip(want["iou_per_class"].as_array().unwrap()).enumerate()
        {
            match iou {
                Some(iou) => near(&format!("class {class}"), *iou, expected),
                None => assert!(expected.is_null(), "class {class}"),
            }
        }
        scores
    };
    let want = &f.json["expected"]["miou"];
    let scores = check(&confusion, want);
    near("mean class accuracy", scores.mean_class_accuracy, &want["mean_class_accuracy"]);
    near("pixel accuracy", scores.pixel_accuracy, &want["pixel_accuracy"]);
    let given = counts("miou2.confusion");
    let given = Confusion::from_counts(given.len().isqrt(), given).unwrap();
    check(&given, &f.json["expected"]["miou_from_confusion"]);
}

/// A tensor of bytes, which the weight reader leaves out.
fn bytes(fixture: &str, name: &str) -> Vec<u8> {
    let file = read(&format!("{fixture}.safetensors"));
    let file = safetensors::SafeTensors::deserialize(&file).unwrap();
    let view = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(view.dtype(), safetensors::Dtype::U8, "{name}");
    view.data().to_vec()
}
