//! MoCo v2 and DenseCL with each way of matching, the same budget for all, on images of your own or the built-in scenes:
//!
//!     cargo run --release --example densecl -- scenes:2000:64 300 /tmp/densecl
//!     ocelli eval correspondence --data scenes:500:64 --size 48 --weights random:resnet-18c8 /tmp/densecl/*.safetensors
//!
//! The loop is written out: views with their places, a loss, gradients, SGD on a cosine, what follows the step. Every run
//! ends as a file in MoCo's or DenseCL's published layout. The loss rises until the queue has turned over once.
#![allow(clippy::print_stderr)]

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use ocelli::data::{Loader, LoaderConfig, MocoViews, ViewPlace, ViewPlan, open_source};
use ocelli::methods::schedule::Cosine;
use ocelli::methods::{
    DenseCl, DenseClConfig, LossOutput, Matching, Method, Moco, MocoConfig, StepClock, ViewBox, check_queue,
};
use ocelli::models::weights::write_safetensors;
use ocelli::models::{Init, ResNet, ResNetConfig, ResNetError, Stem, params};
use ocelli::train::device::{DeviceChoice, open};
use ocelli::train::{GradientSum, Sgd, SgdRule, SgdState, to_tensor, write_atomically};

const BATCH: usize = 16;
const SIZE_PX: u32 = 48;
const LR: f64 = 0.01;
const DECAY: f64 = 1e-4;

fn backbone(init: &mut Init) -> Result<ResNet, ResNetError> {
    // 3×3 stem: maps of 6×6 cells from 48 px, as 7×7 from 224.
    ResNetConfig {
        stem: Stem::Cifar,
        norm_groups: 2,
        ..ResNetConfig::from("resnet-18c8".parse::<ocelli::models::ResNetArch>()?)
    }
    .init(init)
}

fn view_box(place: &ViewPlace) -> ViewBox {
    let crop = place.crop;
    ViewBox {
        left: crop.left as f32,
        top: crop.top as f32,
        width: crop.width as f32,
        height: crop.height as f32,
        flip: place.flip,
    }
}

/// Trains and writes the encoders to `out`.
fn train<M: Method>(
    name: &str,
    method: &mut M,
    mut show: impl FnMut(&mut M, &[Vec<ViewPlace>]),
    loader: &Loader,
    steps: usize,
    out: &Path,
) -> anyhow::Result<()> {
    let device = open(DeviceChoice::Cpu)?.device;
    let lr = Cosine::new(LR, 0.0, steps);
    let mut optimizer = SgdState::new(Sgd { momentum: 0.9, rule: SgdRule::Plain { nesterov: false } });
    let (mut step, mut epoch, started) = (0, 0, Instant::now());
    while step < steps {
        for batch in loader.epoch(epoch, 0).take(steps - step) {
            let batch = batch?;
            let clock = StepClock { epoch, iteration: step, micro_batch: 0, momentum: 0.0, seed: 1 };
            show(method, &batch.places);
            let LossOutput { loss, scalars } = method.loss(&[to_tensor(&batch.groups[0], &device)], BATCH, &clock);
            let mut raw = loss.backward();
            let mut gradients = GradientSum::default();
            gradients.add(params::take_gradients(method.net(), &mut raw), 1.0);
            method.update_net(|net| optimizer.step(net, &gradients, lr.at(step), DECAY));
            method.after_step(&clock);
            step += 1;
            if step.is_multiple_of(50) || step == steps {
                let mut line = format!("{name:<18} step {step:>5}");
                for (figure, value) in scalars {
                    let value: f32 = value.into_scalar();
                    line.push_str(&format!("  {figure} {value:.3}"));
                }
                eprintln!("{line}");
            }
        }
        epoch += 1;
    }
    let path = out.join(format!("{name}.safetensors"));
    write_atomically(&path, &write_safetensors(&method.state()?)?)?;
    println!("{name}: {:.0} ms a step, {}", started.elapsed().as_secs_f64() * 1e3 / steps as f64, path.display());
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let data = args.next().unwrap_or_else(|| "scenes:2000:64".into());
    let steps: usize = args.next().map_or(Ok(300), |s| s.parse()).context("steps: expected a number")?;
    let out = args.next().unwrap_or_else(|| "densecl".into());
    let (out, only) = (Path::new(&out), args.next());
    std::fs::create_dir_all(out)?;
    let source = open_source(&data)?;
    let contrast = MocoConfig { queue: 256, ..MocoConfig::default() };
    check_queue(contrast.queue, BATCH, source.len())?;
    let views = MocoViews { size_px: SIZE_PX, blur_sigma: None, ..MocoViews::default() };
    let loader_config = LoaderConfig { batch_size: BATCH, ..LoaderConfig::default() };
    let loader = Loader::new(source, ViewPlan::moco(views), loader_config)?;
    let device = open(DeviceChoice::Cpu)?.device;
    let wanted = |name: &str| only.as_deref().is_none_or(|o| o == name);
    if wanted("moco") {
        let mut method = Moco::new(&contrast, backbone, 0, &device)?;
        train("moco", &mut method, |_, _| (), &loader, steps, out)?;
    }
    for (name, matching) in [
        ("densecl-backbone", Matching::Backbone),
        ("densecl-head", Matching::Head),
        ("densecl-random", Matching::Random),
        ("densecl-geometric", Matching::Geometric),
    ] {
        if !wanted(name) {
            continue;
        }
        let config = DenseClConfig { contrast: contrast.clone(), matching, ..DenseClConfig::default() };
        let mut method = DenseCl::new(&config, backbone, 0, &device)?;
        let show = |method: &mut DenseCl<ResNet>, places: &[Vec<ViewPlace>]| {
            method.set_boxes(places.iter().map(|p| [view_box(&p[0]), view_box(&p[1])]).collect());
        };
        train(name, &mut method, show, &loader, steps, out)?;
    }
    Ok(())
}
