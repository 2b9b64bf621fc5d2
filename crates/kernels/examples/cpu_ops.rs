//! Fused CPU kernels beside stock burn, at the shapes of a small DINO run.
//!
//! `cargo run --release -p ocelli-kernels --example cpu_ops`
//!
//! Prints milliseconds for the forward pass and for forward and backward together; `RAYON_NUM_THREADS=1` for one core.

use std::{hint::black_box, sync::Arc, time::Instant};

use burn::backend::{DispatchTensorKind, Flex, flex::FlexTensor};
use burn::tensor::{Device, Distribution, Tensor, activation};
use ocelli_kernels::attention::{AttentionKernel, attention};
use ocelli_kernels::gelu::GeluKernel;
use ocelli_kernels::layer_norm::{LayerNormKernel, layer_norm};
use ocelli_kernels::linear::{LinearKernel, linear};
use ocelli_kernels::mlp::{MlpKernel, mlp};
use ocelli_kernels::roi_align::{RoiAlignKernel, RoiPlan};
use ocelli_kernels::{Mode, Roi, RoiAlignShape, roi_align, set_mode};

/// Global and local rows: 65 tokens × 128 images, 17 × 256.
const ROWS: [usize; 2] = [8320, 4352];
const DIM: usize = 96;
const HIDDEN: usize = 384;
const HEADS: usize = 3;

/// Shortest of many runs of `work`, in milliseconds: what is left when nothing else disturbs.
fn shortest(mut work: impl FnMut()) -> f64 {
    work();
    let mut best = f64::INFINITY;
    for _ in 0..15 {
        let start = Instant::now();
        work();
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
    }
    best
}

fn normal<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

/// Forward alone, and forward with backward, of stock burn.
fn stock<const D: usize>(inputs: &[Tensor<D>], f: &impl Fn(&Tensor<D>) -> Tensor<D>) -> [f64; 2] {
    let forward = shortest(|| {
        for x in inputs {
            black_box(f(&x.clone().inner()));
        }
    });
    let weights: Vec<_> = inputs.iter().map(|x| f(x).detach()).collect();
    let both = shortest(|| {
        for (x, w) in inputs.iter().zip(&weights) {
            let x = x.clone().require_grad();
            let grads = (f(&x) * w.clone()).sum().backward();
            black_box(x.grad(&grads));
        }
    });
    // What the scalar at the end costs by itself.
    let end = shortest(|| {
        for w in &weights {
            let w = w.clone().require_grad();
            black_box((w.clone() * w.clone().detach()).sum().backward());
        }
    });
    [forward, both - end]
}

/// Forward alone, and forward with backward, of the kernels themselves.
fn fused<S>(
    inputs: &[FlexTensor],
    forward: impl Fn(&FlexTensor) -> (FlexTensor, S),
    backward: impl Fn(FlexTensor, &FlexTensor, &FlexTensor, &S),
) -> [f64; 2] {
    let alone = shortest(|| {
        for x in inputs {
            black_box(forward(x));
        }
    });
    let done: Vec<_> = inputs.iter().map(|x| (x, forward(x))).collect();
    let back = shortest(|| {
        for (x, (y, saved)) in &done {
            backward(y.clone(), x, y, saved);
        }
    });
    [alone, alone + back]
}

fn print_row(name: &str, fused: [f64; 2], stock: [f64; 2], flops: f64) {
    print!("{name:20}");
    for i in [0, 1] {
        print!(" {:8.2} {:8.2} {:5.1}x ", fused[i], stock[i], stock[i] / fused[i]);
    }
    if flops > 0.0 {
        for (ms, times) in [(fused[0], 1.0), (stock[0], 1.0), (fused[1], 3.0), (stock[1], 3.0)] {
            print!(" {:6.1}", flops * times / ms / 1e6);
        }
    }
    println!();
}

fn flex<const D: usize>(x: &Tensor<D>) -> FlexTensor {
    match x.clone().inner().into_dispatch().kind {
        DispatchTensorKind::Flex(x) => x.float(),
        #[allow(unreachable_patterns)]
        _ => panic!("the benchmark runs on the CPU"),
    }
}

fn all<const D: usize>(inputs: &[Tensor<D>]) -> Vec<FlexTensor> {
    inputs.iter().map(flex).collect()
}

fn main() {
    let device = Device::flex().autodiff();
    set_mode(Mode::Stock);
    let tokens = |width: usize| ROWS.map(|rows| normal([rows, width], &device));
    println!(
        "{:20} {:>8} {:>8} {:7} {:>8} {:>8} {:7}  GFLOP/s: fwd, stock, fwd+bwd, stock",
        "ms", "fwd", "stock", "", "fwd+bwd", "stock", ""
    );

    let (gamma, beta) = (normal([DIM], &device).require_grad(), normal([DIM], &device).require_grad());
    let (g, b) = (flex(&gamma), flex(&beta));
    let x = tokens(DIM);
    print_row(
        "layer_norm",
        fused(
            &all(&x),
            |x| Flex::layer_norm_forward(x.clone(), g.clone(), b.clone(), 1e-6),
            |dy, x, _, stats| {
                black_box(Flex::layer_norm_backward(dy, x.clone(), g.clone(), stats.clone()));
            },
        ),
        stock(&x, &|x| layer_norm(x.clone(), pick(&gamma, x), pick(&beta, x), 1e-6)),
        0.0,
    );

    let x = tokens(HIDDEN);
    let kernels = fused(
        &all(&x),
        |x| (Flex::gelu_exact_forward(x.clone()), ()),
        |dy, x, _, ()| {
            black_box(Flex::gelu_exact_backward(dy, x.clone()));
        },
    );
    print_row("gelu", kernels, stock(&x, &|x| activation::gelu(x.clone())), 0.0);

    for (from, to) in [(DIM, 3 * DIM), (DIM, DIM), (DIM, HIDDEN), (HIDDEN, DIM)] {
        let w = (normal([from, to], &device) * 0.1).require_grad();
        let b = normal([to], &device).require_grad();
        let (fw, fb) = (flex(&w), flex(&b));
        let x = tokens(from);
        print_row(
            &format!("linear {from} -> {to}"),
            fused(
                &all(&x),
                |x| (Flex::linear_forward(x.clone(), fw.clone(), fb.clone()), ()),
                |dy, x, _, ()| {
                    black_box(Flex::linear_input_grad(dy.clone(), fw.clone()));
                    black_box(Flex::linear_weight_grad(x.clone(), dy));
                },
            ),
            stock(&x, &|x| linear(x.clone(), pick(&w, x), Some(pick(&b, x)))),
            ROWS.iter().sum::<usize>() as f64 * 2.0 * (from * to) as f64,
        );
    }

    let w1 = (normal([DIM, HIDDEN], &device) * 0.1).require_grad();
    let w2 = (normal([HIDDEN, DIM], &device) * 0.1).require_grad();
    let (b1, b2) = (normal([HIDDEN], &device).require_grad(), normal([DIM], &device).require_grad());
    let [f1, f2] = [&w1, &w2].map(flex);
    let [g1, g2] = [&b1, &b2].map(flex);
    let x = tokens(DIM);
    print_row(
        "mlp",
        fused(
            &all(&x),
            |x| Flex::mlp_forward(x.clone(), f1.clone(), g1.clone(), f2.clone(), g2.clone()),
            |dy, x, _, h| {
                black_box(Flex::mlp_backward(dy, x.clone(), h.clone(), f1.clone(), f2.clone()));
            },
        ),
        stock(&x, &|x| mlp(x.clone(), pick(&w1, x), pick(&b1, x), pick(&w2, x), pick(&b2, x))),
        ROWS.iter().sum::<usize>() as f64 * 4.0 * (DIM * HIDDEN) as f64,
    );

    let x = [(128, 65), (256, 17)].map(|(batch, tokens)| normal([batch, tokens, 3 * DIM], &device));
    let scale = 0.176_776_7;
    print_row(
        "attention",
        fused(
            &all(&x),
            |x| Flex::attention_forward(x.clone(), HEADS, scale),
            |dy, x, y, stats| {
                black_box(Flex::attention_backward(dy, x.clone(), y.clone(), stats.clone(), HEADS, scale));
            },
        ),
        stock(&x, &|x| attention(x.clone(), HEADS, scale)),
        [(128.0, 65.0), (256.0, 17.0f64)]
            .iter()
            .map(|(batch, tokens)| batch * tokens * tokens * 4.0 * DIM as f64)
            .sum(),
    );

    let x = [normal([2, 256, 12, 12], &device)];
    let rois = proposals(2, 64, 192.0);
    let shape = RoiAlignShape { rows: 7, cols: 7, scale: 0.0625, sampling_ratio: 0 };
    print_row(
        "roi_align",
        fused(
            &all(&x),
            |x| {
                // Made anew for every batch, as in training.
                let plan = Arc::new(RoiPlan::new(&rois, shape, [2, 12, 12]));
                (Flex::roi_align_forward(x.clone(), plan.clone()), plan)
            },
            |dy, _, _, plan| {
                black_box(Flex::roi_align_backward(dy, plan.clone()));
            },
        ),
        stock(&x, &|x| roi_align(x.clone(), &rois, shape)),
        0.0,
    );
}

/// Boxes of many sizes, so many on each of some square images.
fn proposals(images: usize, count: usize, side_px: f32) -> Vec<Roi> {
    let part = |i: usize, by: usize| (i * by % count) as f32 / count as f32;
    (0..images * count)
        .map(|i| {
            let [x, y] = [part(i, 7), part(i, 13)].map(|p| p * 0.8 * side_px);
            let [w, h] = [part(i, 5), part(i, 11)].map(|p| (0.1 + 0.5 * p) * side_px);
            Roi { image: i / count, xyxy: [x, y, (x + w).min(side_px), (y + h).min(side_px)] }
        })
        .collect()
}

/// The parameter, without a graph where the input has none.
fn pick<const D: usize, const E: usize>(p: &Tensor<D>, x: &Tensor<E>) -> Tensor<D> {
    if x.device().is_autodiff() { p.clone() } else { p.clone().inner() }
}
