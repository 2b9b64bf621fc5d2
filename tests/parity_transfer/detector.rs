//! Both stages of the detector on given outputs, a whole training step of a tiny one, and precise normalisation.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::Tensor;
use ocelli::methods::optim::{GradientSum, Group, Sgd, SgdRule, SgdState};
use ocelli::models::weights::{HostTensor, ModuleState as _, StateDict};
use ocelli::models::{BatchNorm, Conv2d, Init, Kernel, Mode, params};
use ocelli::transfer::detection::DetectorOptim;
use ocelli::transfer::detection::boxes::Xyxy;
use ocelli::transfer::detection::config::{AnchorSection, RoiConfig, RpnConfig};
use ocelli::transfer::detection::network::{RegionOutput, RpnOutput, norm_parameters};
use ocelli::transfer::detection::pass::{BoxedImages, Choice, Stages, train_pass};
use ocelli::transfer::detection::roi::{self, RegionHost, Regions};
use ocelli::transfer::detection::rpn::{self, RpnHost, RpnTargets};
use ocelli::transfer::detection::sampling::{Label, Sampled};
use ocelli::transfer::{NormStatistics, PreciseBn};
use serde_json::Value;

use super::detector_network::{name_of, tiny};
use crate::support::{Fixture, Tolerance, as_usize, assert_close, device, number_after, values};

/// Boxes of a tensor; an empty one is not stored.
fn boxes(f: &Fixture, name: &str) -> Vec<Xyxy> {
    f.tensors.get(name).map(|t| t.values.as_chunks::<4>().0.to_vec()).unwrap_or_default()
}

/// Whole numbers of a tensor; an empty one is not stored.
fn integers(f: &Fixture, name: &str) -> Vec<usize> {
    let is_there = |f: &Fixture| f.json["tensors"].get(name).is_some();
    if is_there(f) { f.integers(name) } else { Vec::new() }
}

fn flat(boxes: &[Xyxy]) -> Vec<f32> {
    boxes.iter().flatten().copied().collect()
}

/// `[height, width]`.
fn sides(value: &Value) -> [usize; 2] {
    [0, 1].map(|i| as_usize(&value[i], "a side"))
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

/// Labels as the fixture has them: 1, 0 and −1.
fn numbers(labels: &[Label]) -> Vec<usize> {
    let number = |label: &Label| match label {
        Label::Object => 1,
        Label::Background => 0,
        Label::Ignored => -1i64 as usize,
    };
    labels.iter().map(number).collect()
}

fn scalar(f: &Fixture, what: &str, found: Tensor<1>, expected: &Value, tolerance: &Value) {
    let expected = [expected.as_f64().unwrap_or_else(|| panic!("{what} of {}", f.name)) as f32];
    assert_close(&format!("{} {what}", f.name), &values(found), &expected, Tolerance::of(tolerance, &expected));
}

/// `[in, out]`, `out` columns, to PyTorch's `[out, in]`.
fn transposed(values: &[f32], out: usize) -> Vec<f32> {
    (0..out).flat_map(|c| values.iter().skip(c).step_by(out).copied()).collect()
}

#[test]
fn proposals() {
    let f = Fixture::load("rpn");
    let anchors = AnchorSection::default().anchors(16);
    let thresholds = floats(&f.config()["iou_thresholds"]);
    for (case, c) in f.config()["cases"].as_object().unwrap() {
        let [rows, cols] = sides(&c["map_h_w"]);
        let size = sides(&c["image_h_w"]);
        assert_eq!(anchors.per_cell(), as_usize(&c["anchors_per_cell"], "anchors"));
        let grid = anchors.grid(rows, cols);
        let limits = |what: &str| sides(&c[format!("{what}_pre_post_nms_topk")]);
        let config = RpnConfig {
            batch_size_per_image: as_usize(&c["batch_size_per_image"], "batch"),
            positive_fraction: c["positive_fraction"].as_f64().unwrap(),
            background_below: thresholds[0],
            object_from: thresholds[1],
            nms_iou: f.f64("nms") as f32,
            ..RpnConfig::default()
        };
        let tracked = device().autodiff();
        let output = RpnOutput {
            logits: f.tensor::<4>(&format!("{case}.objectness"), &tracked).require_grad(),
            deltas: f.tensor::<4>(&format!("{case}.deltas"), &tracked).require_grad(),
        };
        let images = output.logits.dims()[0];
        let name = |image: usize, what: &str| format!("{case}.image{image}.{what}");
        let objects: Vec<Vec<Xyxy>> = (0..images).map(|i| boxes(&f, &name(i, "gt"))).collect();
        let labelled: Vec<_> = objects.iter().map(|o| rpn::label_anchors(&grid, o, &config)).collect();
        let sampled: Vec<Sampled> = (0..images)
            .map(|i| Sampled {
                positive: integers(&f, &name(i, "sampled_positive")),
                negative: integers(&f, &name(i, "sampled_negative")),
            })
            .collect();
        let expected = &f.json["expected"][case];
        for (i, found) in labelled.iter().enumerate() {
            let labels = f.integers(&name(i, "label"));
            assert_eq!(numbers(&found.labels), labels, "{case} {i}");
            let matched = f.integers(&name(i, "matched"));
            for (anchor, label) in labels.iter().enumerate() {
                assert!(*label != 1 || found.matched[anchor] == matched[anchor], "{case} {i} {anchor}");
            }
            // A sample of ours has as many of each.
            let (count, share) = (config.batch_size_per_image, config.positive_fraction);
            let drawn =
                Sampled::draw(&found.labels, count, share, &mut ocelli::data::Rng::from_words(&[i as u64]));
            let counts = &expected["sampled_positive_negative"][i];
            assert_eq!([drawn.positive.len(), drawn.negative.len()], sides(counts), "{case} {i}");
        }
        let targets: Vec<RpnTargets<'_>> = (0..images)
            .map(|i| RpnTargets { objects: &objects[i], labelled: &labelled[i], sampled: &sampled[i] })
            .collect();
        let [cls, loc] = rpn::losses(&output, &grid, &targets, &config);
        let gradients = (cls.clone() + loc.clone()).backward();
        scalar(&f, "loss_rpn_cls", cls, &expected["loss_rpn_cls"], &f.json["tolerance"]["loss"]);
        scalar(&f, "loss_rpn_loc", loc, &expected["loss_rpn_loc"], &f.json["tolerance"]["loss"]);
        for (what, tensor) in [("objectness", &output.logits), ("deltas", &output.deltas)] {
            let key = format!("{case}.grad.{what}");
            let wanted = &f.get(&key).values;
            let found = values(tensor.grad(&gradients).unwrap());
            assert_close(&key, &found, wanted, Tolerance::of(&f.json["tolerance"]["grad"], wanted));
        }
        let host = RpnHost::read(&output).unwrap();
        assert_eq!(host.anchors(), grid.len());
        for (when, [before, after]) in ["train", "test"].map(|when| (when, limits(when))) {
            for i in 0..images {
                let found = host.proposals(i, &grid, size, (&config, before, after));
                let key = |what: &str| name(i, &format!("{when}.{what}"));
                assert_eq!(found.anchors, f.integers(&key("anchor")), "{case} {i} {when}");
                for (what, found) in [("boxes", flat(&found.boxes)), ("logits", found.logits)] {
                    let wanted = &f.get(&key(what)).values;
                    assert_close(&key(what), &found, wanted, Tolerance::of(&f.json["tolerance"][what], wanted));
                }
                assert_eq!(found.anchors.len(), as_usize(&expected["kept"][when][i], "kept"));
            }
        }
    }
}

/// The sampled boxes of the fixture, objects first.
fn sampled_of(chosen: &[usize], classes: &[usize], background: usize) -> Sampled {
    let objects = classes.iter().filter(|class| **class < background).count();
    assert!(classes[..objects].iter().all(|class| *class < background), "objects come first");
    let (positive, negative) = chosen.split_at(objects);
    Sampled { positive: positive.to_vec(), negative: negative.to_vec() }
}

fn roi_config(f: &Fixture) -> RoiConfig {
    RoiConfig {
        batch_size_per_image: f.usize("batch_size_per_image"),
        positive_fraction: f.f64("positive_fraction"),
        object_from: f.f64("iou_threshold") as f32,
        box_weights: floats(&f.config()["box_weights"]).try_into().unwrap(),
        score: f.f64("score_threshold") as f32,
        nms_iou: f.f64("nms") as f32,
        top: f.usize("top"),
        ..RoiConfig::default()
    }
}

#[test]
fn regions() {
    let f = Fixture::load("roi_heads");
    let (config, background) = (roi_config(&f), f.usize("background_index"));
    let images = f.config()["image_h_w"].as_array().unwrap().len();
    let mut all = Regions::default();
    for image in 0..images {
        let key = |what: &str| format!("train.image{image}.{what}");
        let (objects, classes) = (boxes(&f, &key("gt")), integers(&f, &key("gt_classes")));
        let with: Vec<Xyxy> = boxes(&f, &key("proposals")).into_iter().chain(objects.iter().copied()).collect();
        let expected = &f.json["expected"][format!("image{image}")];
        assert_eq!(with.len(), as_usize(&expected["proposals_plus_gt"], "boxes"));
        let labelled = roi::label_proposals(&with, &objects, &config);
        let labels = f.integers(&key("label"));
        assert_eq!(numbers(&labelled.labels), labels, "{image}");
        let matched = f.integers(&key("matched"));
        for (i, label) in labels.iter().enumerate() {
            assert!(*label != 1 || labelled.matched[i] == matched[i], "{image} {i}");
        }
        let sampled = sampled_of(&f.integers(&key("sampled")), &f.integers(&key("sampled_classes")), background);
        let (count, share) = (config.batch_size_per_image, config.positive_fraction);
        let drawn = Sampled::draw(&labelled.labels, count, share, &mut ocelli::data::Rng::from_words(&[3]));
        let counts = sides(&expected["sampled_foreground_background"]);
        assert_eq!([drawn.positive.len(), drawn.negative.len()], counts);
        assert_eq!([sampled.positive.len(), sampled.negative.len()], counts);
        all.push(image, &with, (&objects, &classes), (&labelled, &sampled), background);
    }
    assert_eq!(all.classes, f.integers("train.classes"));
    assert_eq!(flat(&all.boxes), f.get("train.boxes").values);
    for (i, wanted) in boxes(&f, "train.gt_boxes").iter().enumerate() {
        assert!(all.classes[i] == background || all.objects[i] == *wanted, "{i}");
    }
    let tracked = device().autodiff();
    let logits = f.tensor::<2>("train.logits", &tracked).require_grad();
    let deltas = f.tensor::<2>("train.deltas", &tracked).require_grad();
    let output = RegionOutput { pooled: logits.clone(), logits, deltas };
    let [cls, box_reg] = roi::losses(&output, &all, &config);
    let gradients = (cls.clone() + box_reg.clone()).backward();
    let (expected, tolerance) = (&f.json["expected"], &f.json["tolerance"]);
    scalar(&f, "loss_cls", cls, &expected["loss_cls"], &tolerance["loss"]);
    scalar(&f, "loss_box_reg", box_reg, &expected["loss_box_reg"], &tolerance["loss"]);
    for (what, tensor) in [("logits", &output.logits), ("deltas", &output.deltas)] {
        let key = format!("train.grad.{what}");
        let wanted = &f.get(&key).values;
        let found = values(tensor.grad(&gradients).unwrap());
        assert_close(&key, &found, wanted, Tolerance::of(&tolerance["grad"], wanted));
    }
}

#[test]
fn detections() {
    let f = Fixture::load("roi_heads");
    let config = roi_config(&f);
    let plain = device();
    for (image, test) in f.config()["test"].as_array().unwrap().iter().enumerate() {
        let key = |what: &str| format!("test.image{image}.{what}");
        let logits = f.tensor::<2>(&key("logits"), &plain);
        let output =
            RegionOutput { pooled: logits.clone(), logits, deltas: f.tensor::<2>(&key("deltas"), &plain) };
        let mut host = RegionHost::default();
        host.extend(&output).unwrap();
        let (size, original) = (sides(&test["image_h_w"]), sides(&test["original_h_w"]));
        let found = roi::select(&host, &boxes(&f, &key("proposals")), size, &config);
        let expected = &f.json["expected"][format!("test.image{image}")];
        assert_eq!(found.len(), as_usize(&expected["detections"], "detections"));
        let before = RoiConfig { top: usize::MAX, ..config.clone() };
        let all = roi::select(&host, &boxes(&f, &key("proposals")), size, &before);
        assert_eq!(all.len(), as_usize(&expected["detections_before_top_100"], "detections"));
        assert_eq!(found.iter().map(|d| d.class).collect::<Vec<_>>(), f.integers(&key("classes")));
        assert_eq!(found.iter().map(|d| d.proposal).collect::<Vec<_>>(), f.integers(&key("proposal")));
        let near = |what: &str, kind: &str, found: Vec<f32>| {
            let wanted = &f.get(&key(what)).values;
            assert_close(&key(what), &found, wanted, Tolerance::of(&f.json["tolerance"][kind], wanted));
        };
        near("scores", "scores", found.iter().map(|d| d.score).collect());
        near("boxes", "boxes", found.iter().flat_map(|d| d.xyxy).collect());
        let last = roi::in_original(&found, size, original);
        near("final_boxes", "boxes", last.iter().flat_map(|d| d.xyxy).collect());
    }
}

fn stages_of(f: &Fixture) -> Stages {
    let anchors = AnchorSection {
        sizes_px: floats(&f.config()["anchor_sizes"]),
        ratios: floats(&f.config()["ratios"]),
        offset: f.f64("offset") as f32,
    };
    let [before, after] = sides(&f.config()["rpn_pre_post_nms_topk"]);
    let pooler = f.config()["pooler"].as_str().unwrap();
    assert!(pooler.contains("1/16"), "{pooler}");
    Stages {
        anchors: anchors.anchors(16),
        rpn: RpnConfig {
            batch_size_per_image: f.usize("rpn_batch_size_per_image"),
            train_before_nms: before,
            train_after_nms: after,
            ..RpnConfig::default()
        },
        roi: RoiConfig {
            batch_size_per_image: f.usize("roi_batch_size_per_image"),
            cells: pooler.split(',').next().unwrap().parse().unwrap(),
            sampling_ratio: number_after(pooler, "ratio ") as usize,
            ..RoiConfig::default()
        },
    }
}

/// What lies nearer to 0 than single precision tells may come out on either side of a ReLU, which then passes a gradient on or
/// does not: the fixture has such a value. Gradients must be those of a point so near to the given one, with one norm's shift moved.
const ASIDE: f32 = 3e-6;

#[test]
fn a_training_step() {
    let f = Fixture::load("faster_rcnn_step");
    let device = device();
    let (net, stages) = (tiny(&f, &device), stages_of(&f));
    let background = net.classes();
    let tolerance = &f.json["tolerance"];
    let near = |what: &str, kind: &str, found: Vec<f32>| {
        let wanted = &f.get(what).values;
        assert_close(what, &found, wanted, Tolerance::of(&tolerance[kind], wanted));
    };
    let image = f.tensor::<3>("image", &device).unsqueeze::<4>().autodiff();
    let batch = BoxedImages {
        images: image,
        sizes: vec![sides(&f.config()["image_h_w"])],
        objects: vec![boxes(&f, "gt")],
        classes: vec![f.integers("gt_classes")],
    };
    let anchors = [Sampled {
        positive: integers(&f, "rpn.sampled_positive"),
        negative: integers(&f, "rpn.sampled_negative"),
    }];
    let regions = [sampled_of(&f.integers("roi.sampled"), &f.integers("roi.classes"), background)];
    let choice = Choice::Given { anchors: &anchors, regions: &regions };
    let pass = train_pass(&net, &batch, &stages, choice).unwrap();
    // Values on the way have the tolerance of gradients, which is wider.
    near("res4", "grad", values(pass.maps.clone()));
    near("rpn.objectness", "grad", values(pass.rpn.logits.clone()));
    near("rpn.deltas", "grad", values(pass.rpn.deltas.clone()));
    near("anchors", "boxes", flat(&pass.anchors));
    assert_eq!(numbers(&pass.labelled[0].labels), f.integers("rpn.label"));
    assert_eq!(pass.proposals[0].anchors, f.integers("proposals.anchor"));
    near("proposals.boxes", "boxes", flat(&pass.proposals[0].boxes));
    near("roi.boxes", "boxes", flat(&pass.regions.boxes));
    assert_eq!(pass.regions.classes, f.integers("roi.classes"));
    let output = pass.output.as_ref().unwrap();
    near("roi.pooled", "grad", values(output.pooled.clone()));
    near("roi.logits", "grad", values(output.logits.clone()));
    near("roi.deltas", "grad", values(output.deltas.clone()));

    let losses = pass.losses(&batch, &stages);
    let total = losses.total();
    let names = ["loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"];
    for (name, found) in names.into_iter().zip(losses.each()) {
        scalar(&f, name, found, &f.json["expected"][name], &tolerance["losses"]);
    }
    scalar(&f, "total", total.clone(), &f.json["expected"]["total"], &tolerance["losses"]);
    let gradients = params::take_gradients(&net, &mut total.backward());
    let stored = f.tensors.under("grad.");
    assert_eq!(gradients.len(), stored.tensors.len(), "every parameter has a gradient");
    let far = |gradients: &[(String, Tensor<1>)]| gradients.iter().find_map(|(own, g)| far_from(&f, own, g));
    if let Some(words) = far(&gradients) {
        // The last norms first: a gradient that is passed on there is passed on to all before.
        let norms = params::collect(&net).into_iter().map(|p| p.name);
        let shifts = norms.filter(|n| n.ends_with("norm.bias")).collect::<Vec<_>>().into_iter().rev();
        let is_near = shifts.flat_map(|shift| [(shift.clone(), -ASIDE), (shift, ASIDE)]).any(|(shift, by)| {
            let net = tiny(&f, &device);
            let net = params::replace(net, |p| (p.name == shift).then(|| p.values.clone() + by));
            let total = train_pass(&net, &batch, &stages, choice).unwrap().losses(&batch, &stages).total();
            far(&params::take_gradients(&net, &mut total.backward())).is_none()
        });
        assert!(is_near, "{words}");
    }

    let sgd = &f.config()["sgd"];
    let number = |key: &str| sgd[key].as_f64().unwrap();
    let norms = norm_parameters(&net);
    let share = number("weight_decay_norm") / number("weight_decay");
    let group = |p: &params::FlatParam| Group {
        decay: if norms.contains(&p.name) { share } else { 1.0 },
        ..Group::default()
    };
    let mut sum = GradientSum::default();
    sum.add(gradients, 1.0);
    let rule = SgdRule::Plain { nesterov: false };
    let mut optimizer = SgdState::new(Sgd { momentum: number("momentum"), rule });
    let net = optimizer.step_by(net, &sum, number("lr"), number("weight_decay"), &group);
    let mut state = StateDict::default();
    state.add_module("", &net).unwrap();
    let found: BTreeMap<String, HostTensor> =
        state.tensors.into_iter().map(|(own, tensor)| (name_of(&own), tensor)).collect();
    for (name, wanted) in &f.tensors.under("after.").tensors {
        let found = found.get(name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(found.shape, wanted.shape, "{name}");
        near(&format!("after.{name}"), "after", found.values.clone());
    }
}

/// Where a gradient is farther off than the fixture allows, in words.
fn far_from(f: &Fixture, own: &str, gradient: &Tensor<1>) -> Option<String> {
    let name = format!("grad.{}", name_of(own));
    let wanted = f.get(&name);
    let found = values(gradient.clone());
    let found = if wanted.shape.len() == 2 { transposed(&found, wanted.shape[0]) } else { found };
    assert_eq!(found.len(), wanted.values.len(), "{name}");
    let tolerance = Tolerance::of(&f.json["tolerance"]["grad"], &wanted.values);
    let mut pairs = found.iter().zip(&wanted.values).enumerate();
    let (i, (a, b)) = pairs.find(|(_, (a, b))| a.is_nan() || tolerance.excess(**a, **b) > 0.0)?;
    Some(format!("{name}[{i}]: expected {b}, found {a} ({tolerance:?})"))
}

#[test]
fn the_published_learning_rates() {
    let f = Fixture::load("faster_rcnn_step");
    let optim = DetectorOptim::default();
    let rates = f.json["expected"]["lr_24k"].as_object().unwrap();
    assert!(!rates.is_empty());
    for (iteration, expected) in rates {
        let (found, expected) = (optim.lr_at(iteration.parse().unwrap()), expected.as_f64().unwrap());
        assert!((found - expected).abs() <= 1e-12 * expected, "{iteration}: {found} {expected}");
    }
}

/// Two convolutions with norms.
#[derive(Module, Debug)]
struct Normed {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
}

#[test]
fn precise_statistics() {
    let f = Fixture::load("precise_bn");
    let device = device();
    let [input, middle, output] = [0, 1, 2].map(|i| as_usize(&f.config()["channels"][i], "channels"));
    let init = &mut Init::new(0, &device);
    let net = Normed {
        conv1: Conv2d::new(input, middle, Kernel::new(3, 1), init),
        bn1: BatchNorm::new(middle, init),
        conv2: Conv2d::new(middle, output, Kernel::new(3, 2), init),
        bn2: BatchNorm::new(output, init),
    };
    let mut net = f.tensors.under("init.").load_into(net).unwrap();
    for (flavour, name) in [(NormStatistics::Population, "population"), (NormStatistics::BatchMean, "batch_mean")]
    {
        let mut precise = PreciseBn::new(flavour);
        for batch in 0..f.config()["batch_sizes"].as_array().unwrap().len() {
            let images = f.tensor::<4>(&format!("batch{batch}"), &device);
            let train = Mode::Train { seed: 0 };
            precise
                .see(|| {
                    let x = net.bn1.forward_relu(net.conv1.forward(images), train, 1);
                    net.bn2.forward_maps(net.conv2.forward(x), train, 1)
                })
                .unwrap();
        }
        net = precise.apply(net);
        let mut state = StateDict::default();
        state.add_module("", &net).unwrap();
        let stored = f.tensors.under(&format!("{name}."));
        assert_eq!(stored.tensors.len(), 4, "mean and variance of both norms");
        for (what, wanted) in &stored.tensors {
            let found = &state.get(what).unwrap().values;
            let tolerance = Tolerance::of(&f.json["tolerance"], &wanted.values);
            assert_close(&format!("{name} {what}"), found, &wanted.values, tolerance);
        }
    }
}
