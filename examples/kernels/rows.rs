//! What is measured.

use std::error::Error;
use std::sync::Arc;

use burn::tensor::{Device, Distribution, Tensor};
use ocelli::data::{DataError, DinoViews, Image, Loader, LoaderConfig, Source, ViewPlan};
use ocelli::kernels::{
    AdamWStep, ConvShape, Mode, Roi, RoiAlignShape, adamw_ema, attention, conv2d, dino_cross_entropy, info_nce,
    layer_norm, linear, mlp, mode, roi_align, similarity_topk,
};
use ocelli::methods::optim::{
    AdamW, AdamWState, GradientSum, OptimConfig, Optimizer, Sgd, SgdRule, SgdState, StepRates,
};
use ocelli::methods::{Batch, Dino, DinoConfig, StepClock, train_step};
use ocelli::models::{Arch, Init, ResNetArch, ResNetConfig, Vit, params};
use ocelli::train::gpu_views::render_batch;
use ocelli::train::to_tensor;

/// One measured thing: the work itself waits for the device.
pub struct Row {
    pub name: String,
    /// Floating-point operations, where there is a fair count.
    pub flops: f64,
    /// Otherwise bytes that must come from memory or go there, 0 where nobody would count them.
    pub bytes: f64,
    pub work: Box<dyn FnMut()>,
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

/// Waits until everything before is done: data is fetched when somebody looks at it.
pub fn finish(x: Tensor<1>) {
    let numbers = x.into_data().try_to_vec::<f32>();
    assert!(numbers.is_ok_and(|n| n.iter().all(|x| x.is_finite())), "the result is not finite");
}

fn operation<const D: usize>(
    name: &str,
    flops: f64,
    bytes: [f64; 2],
    x: &Tensor<D>,
    rest: impl Fn(Tensor<D>) -> Tensor<D> + Clone + 'static,
) -> [Row; 2] {
    let x = x.clone();
    let forward = rest.clone();
    let plain = x.clone().inner();
    [
        Row {
            name: format!("{name}, forward"),
            flops,
            bytes: bytes[0],
            work: Box::new(move || finish(forward(plain.clone()).sum())),
        },
        Row {
            name: format!("{name}, forward and backward"),
            flops: 3.0 * flops,
            bytes: bytes[1],
            work: Box::new(move || {
                let x = x.clone().require_grad();
                let grads = rest(x.clone()).powi_scalar(2).sum().backward();
                if let Some(g) = x.grad(&grads) {
                    finish(g.sum());
                }
            }),
        },
    ]
}

pub fn operations(plain: &Device) -> Vec<Row> {
    let tracked = plain.clone().autodiff();
    let mut rows = Vec::new();
    for (m, k, n) in [(197, 384, 1152), (197, 1536, 384), (1568, 384, 1536)] {
        let (w, b) = (random([k, n], &tracked), random([n], &tracked));
        rows.extend(operation(
            &format!("linear {m}×{k}×{n}"),
            2.0 * (m * k * n) as f64,
            [0.0; 2],
            &random([m, k], &tracked),
            move |x: Tensor<2>| {
                let same = x.is_autodiff();
                let of = |t: Tensor<2>| if same { t.require_grad() } else { t.inner() };
                let b = if same { b.clone().require_grad() } else { b.clone().inner() };
                linear(x, of(w.clone()), Some(b))
            },
        ));
    }
    for (batch, tokens, heads) in [(1, 197, 6), (8, 197, 6), (1, 785, 6)] {
        let dim = heads * 64;
        rows.extend(operation(
            &format!("attention {batch}×{tokens}, {heads} heads of 64"),
            4.0 * (batch * heads * tokens * tokens * 64) as f64,
            [0.0; 2],
            &random([batch, tokens, 3 * dim], &tracked),
            move |x: Tensor<3>| attention(x, heads, 0.125),
        ));
    }
    let (g, b) = (random([384], &tracked), random([384], &tracked));
    // One reads and one written forward; two and one more back.
    let norm_bytes = [2.0, 5.0].map(|passes| passes * 4.0 * (1576 * 384) as f64);
    rows.extend(operation(
        "layer norm 1576×384",
        0.0,
        norm_bytes,
        &random([1576, 384], &tracked),
        move |x: Tensor<2>| {
            let of = |t: &Tensor<1>| if x.is_autodiff() { t.clone().require_grad() } else { t.clone().inner() };
            let (g, b) = (of(&g), of(&b));
            layer_norm(x, g, b, 1e-6)
        },
    ));
    let w = [random([384, 1536], &tracked), random([1536, 384], &tracked)];
    let b = [random([1536], &tracked), random([384], &tracked)];
    rows.extend(operation(
        "mlp 788×384×1536",
        4.0 * (788 * 384 * 1536) as f64,
        [0.0; 2],
        &random([788, 384], &tracked),
        move |x: Tensor<2>| {
            let same = x.is_autodiff();
            let w = |i: usize| if same { w[i].clone().require_grad() } else { w[i].clone().inner() };
            let b = |i: usize| if same { b[i].clone().require_grad() } else { b[i].clone().inner() };
            mlp(x, w(0), b(0), w(1), b(1))
        },
    ));
    let (views, batch, k) = (8, 16, 4096);
    let (teacher, centre) = (random([2 * batch, k], plain), random([1, k], plain));
    let student = random([views * batch, k], &tracked);
    rows.push(Row {
        name: "DINO loss 8 views × 16, K = 4096, forward and backward".into(),
        flops: 0.0,
        bytes: 4.0 * ((2 * views + 2) * batch * k) as f64,
        work: Box::new(move || {
            let s = student.clone().require_grad();
            let loss = dino_cross_entropy(s.clone(), teacher.clone(), centre.clone(), 0.1, 0.04, views);
            if let Some(g) = s.grad(&loss.backward()) {
                finish(g.sum());
            }
        }),
    });
    rows.push(optimizer(plain));
    rows.push(nearest(plain));
    rows.push(rendering(plain));
    rows
}

/// A step of AdamW with a teacher that follows, over four million parameters.
fn optimizer(plain: &Device) -> Row {
    let n = 1 << 22;
    let mut state = Some((random([n], plain), Tensor::zeros([2, n], plain), random([n], plain)));
    let gradient = random([n], plain);
    let step = AdamWStep { clip: 3.0, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, keep: 0.999, lr: 1e-3, step: 5 };
    Row {
        name: "AdamW with EMA, 4.2 million parameters".into(),
        flops: 0.0,
        // Parameter, follower and both moments to and fro, the gradient twice.
        bytes: 4.0 * (10 * n) as f64,
        work: Box::new(move || {
            let Some((p, moments, follower)) = state.take() else { return };
            let (p, moments, follower) = adamw_ema(p, gradient.clone(), moments, follower, 0.996, step);
            finish(follower.clone().slice_dim(0, 0..1));
            state = Some((p, moments, follower));
        }),
    }
}

/// The neighbours of a chunk of k-NN evaluation.
fn nearest(plain: &Device) -> Row {
    let (queries, bank) = (random([512, 384], plain), random([8192, 384], plain));
    Row {
        name: "20 nearest of 8192×384 for 512 queries".into(),
        flops: 2.0 * (512 * 8192 * 384) as f64,
        bytes: 0.0,
        work: Box::new(move || finish(similarity_topk(queries.clone(), bank.clone(), 20, 4096).0.sum())),
    }
}

/// Photographs of one size, levels at random.
struct Photographs;

impl Source for Photographs {
    fn len(&self) -> usize {
        16
    }
    fn load(&self, index: usize) -> Result<Image, DataError> {
        let level = |i: u32| (i.wrapping_mul(2_654_435_761).wrapping_add(index as u32) >> 24) as u8;
        Image::new(500, 375, (0..500 * 375 * 3).map(level).collect())
    }
    fn label(&self, _: usize) -> Option<u32> {
        None
    }
    fn name(&self, index: usize) -> String {
        index.to_string()
    }
    fn class_names(&self) -> &[String] {
        &[]
    }
}

/// A batch from decoded photographs to the device: rendered there, or beside it by the loader on all cores.
fn rendering(plain: &Device) -> Row {
    let loader = |render| {
        let config = LoaderConfig { batch_size: 16, prefetch_batches: 1, render, ..LoaderConfig::default() };
        Loader::new(Arc::new(Photographs), ViewPlan::dino(DinoViews::default()), config)
    };
    let (on_device, on_cpu, device) = (loader(false), loader(true), plain.clone());
    Row {
        name: "views of 16 photographs of 500×375, 2 × 224 px + 8 × 96 px".into(),
        flops: 0.0,
        bytes: 0.0,
        work: Box::new(move || {
            let stock = mode() == Mode::Stock;
            let Ok(loader) = (if stock { &on_cpu } else { &on_device }) else { return };
            let Some(Ok(batch)) = loader.epoch(0, 0).next() else { return };
            let groups: Vec<Tensor<4>> = match stock {
                true => batch.groups.iter().map(|g| to_tensor(g, &device)).collect(),
                false => render_batch(&batch, loader.plan(), &device),
            };
            groups.into_iter().for_each(|views| finish(views.sum()));
        }),
    }
}

fn vit(name: &str, px: usize, device: &Device) -> Result<Vit, Box<dyn Error>> {
    let arch: Arch = name.parse()?;
    Ok(arch.config(px, 0.0).init(&mut Init::new(0, device))?)
}

/// 2 multiply-adds per weight and token, and twice that per pair of tokens and number of a head.
fn vit_flops(batch: usize) -> f64 {
    let (tokens, dim, depth) = (197.0, 384.0, 12.0);
    batch as f64 * depth * (24.0 * tokens * dim * dim + 4.0 * tokens * tokens * dim)
}

pub fn networks(plain: &Device) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut rows = Vec::new();
    for batch in [1, 4] {
        let net = vit("vit-s/16", 224, plain)?;
        let x = random([batch, 3, 224, 224], plain);
        rows.push(Row {
            name: format!("ViT-S/16 at 224 px, batch {batch}: inference"),
            flops: vit_flops(batch),
            bytes: 0.0,
            work: Box::new(move || {
                finish(net.forward(x.clone(), ocelli::models::Mode::Eval).slice_dim(0, 0..1).sum());
            }),
        });
        rows.push(Row {
            name: format!("ViT-S/16 at 224 px, batch {batch}: training step"),
            flops: 3.0 * vit_flops(batch),
            bytes: 0.0,
            work: training_step("vit-s/16", batch, plain)?,
        });
    }
    rows.push(dino_step(plain)?);
    rows.push(Row {
        name: "ResNet-50 at 224 px, batch 1: training step".into(),
        // 4.09 G multiply-adds forward; the images need no gradient.
        flops: 3.0 * 2.0 * 4.09e9 - 2.0 * 0.118e9,
        bytes: 0.0,
        work: resnet_step(plain)?,
    });
    Ok(rows)
}

/// Convolutions of ResNet-50, InfoNCE against the published queue: an image's and DenseCL's (batch 32, 7×7 cells), and the parts
/// of a map under proposals.
pub fn dense_operations(plain: &Device) -> Vec<Row> {
    let tracked = plain.clone().autodiff();
    let mut rows = Vec::new();
    for (from, to, px, side, stride) in [
        (3, 64, 224, 7, 2),
        (256, 64, 56, 1, 1),
        (64, 64, 56, 3, 1),
        (128, 128, 56, 3, 2),
        (256, 1024, 14, 1, 1),
        (512, 512, 7, 3, 1),
    ] {
        let shape = ConvShape { stride, padding: side / 2, dilation: 1 };
        let w = random([to, from, side, side], &tracked);
        let cells = (px / stride) * (px / stride);
        rows.extend(operation(
            &format!("convolution {side}×{side} of stride {stride}, {from} to {to} channels, {px} × {px}"),
            2.0 * (from * to * side * side * cells) as f64,
            [0.0; 2],
            &random([1, from, px, px], &tracked),
            move |x: Tensor<4>| {
                let w = if x.is_autodiff() { w.clone().require_grad() } else { w.clone().inner() };
                conv2d(x, w, None, shape)
            },
        ));
    }
    rows.extend(proposals(&tracked));
    let unit = |rows: usize, device: &Device| {
        let x = random([rows, 128], device);
        x.clone() / x.powi_scalar(2).sum_dim(1).sqrt()
    };
    for count in [32, 1568] {
        let (query, key) = (unit(count, &tracked), unit(count, plain));
        let queue = unit(65_536, plain).transpose();
        rows.push(Row {
            name: format!("InfoNCE {count} × 65,536 of 128, forward and backward"),
            // The logits, and the mean of the queue under their softmax.
            flops: 4.0 * (count * 65_536 * 128) as f64,
            bytes: 0.0,
            work: Box::new(move || {
                let q = query.clone().detach().require_grad();
                let loss = info_nce(q.clone(), key.clone(), &queue, 0.2, None).loss;
                if let Some(g) = q.grad(&loss.backward()) {
                    finish(g.sum());
                }
            }),
        });
    }
    rows
}

/// The parts of a fourth stage's map of an image of 800 × 800 px under proposals of many sizes.
fn proposals(tracked: &Device) -> [Row; 2] {
    let (count, channels, side) = (64, 256, 50);
    let part = |i: usize, by: usize| (i * by % count) as f32 / count as f32;
    let rois: Vec<Roi> = (0..count)
        .map(|i| {
            let [x, y] = [part(i, 7), part(i, 13)].map(|p| 640.0 * p);
            let [w, h] = [part(i, 5), part(i, 11)].map(|p| 50.0 + 400.0 * p);
            Roi { image: 0, xyxy: [x, y, (x + w).min(800.0), (y + h).min(800.0)] }
        })
        .collect();
    let shape = RoiAlignShape { rows: 14, cols: 14, scale: 0.0625, sampling_ratio: 0 };
    let bytes = 4.0 * (channels * (side * side + count * 14 * 14)) as f64;
    operation(
        &format!("ROIAlign {count} boxes, {channels} channels, 14 × 14"),
        0.0,
        [bytes, 2.0 * bytes],
        &random([1, channels, side, side], tracked),
        move |x: Tensor<4>| roi_align(x, &rois, shape),
    )
}

/// Forward, backward and SGD with momentum of ResNet-50 at 224 px.
pub fn resnet_step(plain: &Device) -> Result<Box<dyn FnMut()>, Box<dyn Error>> {
    let arch: ResNetArch = "resnet-50".parse()?;
    let mut net = Some(ResNetConfig::from(arch).init(&mut Init::new(0, &plain.clone().autodiff()))?);
    let x = random([1, 3, 224, 224], plain);
    let mut sgd = SgdState::new(Sgd { momentum: 0.9, rule: SgdRule::Plain { nesterov: false } });
    Ok(Box::new(move || {
        let Some(before) = net.take() else { return };
        let y = before.forward(x.clone().autodiff(), ocelli::models::Mode::Train { seed: 0 });
        let loss = y.powi_scalar(2).mean();
        let mut raw = loss.backward();
        let mut gradients = GradientSum::default();
        gradients.add(params::take_gradients(&before, &mut raw), 1.0);
        let after = sgd.step(before, &gradients, 1e-4, 1e-4);
        let some = params::collect(&after).swap_remove(0).values;
        net = Some(after);
        finish(loss.inner());
        finish(some.slice_dim(0, 0..1));
    }))
}

/// Forward, backward and AdamW at 224 px.
pub fn training_step(name: &str, batch: usize, plain: &Device) -> Result<Box<dyn FnMut()>, Box<dyn Error>> {
    let mut net = Some(vit(name, 224, &plain.clone().autodiff())?);
    let x = random([batch, 3, 224, 224], plain);
    let mut adamw = AdamWState::new(AdamW::default());
    Ok(Box::new(move || {
        let Some(before) = net.take() else { return };
        let y = before.forward(x.clone().autodiff(), ocelli::models::Mode::Train { seed: 0 });
        let loss = y.powi_scalar(2).mean();
        let mut raw = loss.backward();
        let mut gradients = GradientSum::default();
        gradients.add(params::take_gradients(&before, &mut raw), 1.0);
        let rates = StepRates { lr: 1e-4, weight_decay: 0.04, clip: 3.0 };
        let (after, _) = adamw.step_with(before, None, gradients, &rates);
        let some = params::collect(&after).swap_remove(0).values;
        net = Some(after);
        finish(loss.inner());
        finish(some.slice_dim(0, 0..1));
    }))
}

/// 2 × 64 px and 6 × 32 px, batch 16, K = 4096.
fn dino_step(plain: &Device) -> Result<Row, Box<dyn Error>> {
    let mut config = DinoConfig::default();
    (config.head.out_dim, config.head.hidden_dim, config.head.bottleneck_dim) = (4096, 512, 128);
    let arch: Arch = "vit-192x6x3/8".parse()?;
    let mut method = Dino::new(&config, &arch.config(64, 0.0), 0, plain)?;
    let batch = 16;
    let views = vec![random([2 * batch, 3, 64, 64], plain), random([6 * batch, 3, 32, 32], plain)];
    let views = [Batch::of_views(views, batch)];
    let optim = OptimConfig::default();
    let mut optimizer = Optimizer::new(&optim);
    Ok(Row {
        name: "DINO step, ViT 192×6×3/8, 2 × 64 px + 6 × 32 px, batch 16, K = 4096".into(),
        flops: 0.0,
        bytes: 0.0,
        work: Box::new(move || {
            let clock = StepClock { epoch: 1, iteration: 0, micro_batch: 0, momentum: 0.99, seed: 0 };
            let rates = StepRates { lr: 1e-5, weight_decay: 0.04, clip: 3.0 };
            finish(train_step(&mut method, (&mut optimizer, &optim), &views, clock, &rates));
            finish(method.centre().slice_dim(1, 0..1).flatten(0, 1));
        }),
    })
}
