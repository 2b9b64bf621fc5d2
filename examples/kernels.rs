//! Hand-written kernels beside stock burn, on one device, in one process.
//!
//!     cargo run --release --example kernels -- gpu [OUT.md] [ROWS]
//!
//! `cargo xtask bench` runs it. Prints a table of medians of runs that take turns, both sides warm (after stock's autotune)
//! and synchronised, and puts it into OUT.md in place of this adapter's last one. ROWS picks rows by a part of their names, or `memory`.
#![allow(clippy::print_stderr)]

use std::error::Error;
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use ocelli::kernels::{Mode, attention, dino_cross_entropy, layer_norm, linear, mlp, set_mode};
use ocelli::methods::{Dino, DinoConfig, Method as _, StepClock};
use ocelli::models::{Arch, Init, Vit, params};
use ocelli::train::{AdamW, AdamWState, GradientSum, StepRates, device};

/// Runs of each side that count, and seconds after which one more is too many.
const RUNS: usize = 5;
const PATIENCE_S: f64 = 60.0;

/// One measured thing: the work itself waits for the device.
struct Row {
    name: String,
    /// Floating-point operations, where there is a fair count.
    flops: f64,
    work: Box<dyn FnMut()>,
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

/// Waits until everything before is done: data is fetched when somebody looks at it.
fn finish(x: Tensor<1>) {
    let numbers = x.into_data().try_to_vec::<f32>();
    assert!(numbers.is_ok_and(|n| n.iter().all(|x| x.is_finite())), "the result is not finite");
}

fn operation<const D: usize>(
    name: &str,
    flops: f64,
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
            work: Box::new(move || finish(forward(plain.clone()).sum())),
        },
        Row {
            name: format!("{name}, forward and backward"),
            flops: 3.0 * flops,
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

fn operations(plain: &Device) -> Vec<Row> {
    let tracked = plain.clone().autodiff();
    let mut rows = Vec::new();
    for (m, k, n) in [(197, 384, 1152), (197, 1536, 384), (1568, 384, 1536)] {
        let (w, b) = (random([k, n], &tracked), random([n], &tracked));
        rows.extend(operation(
            &format!("linear {m}×{k}×{n}"),
            2.0 * (m * k * n) as f64,
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
            &random([batch, tokens, 3 * dim], &tracked),
            move |x: Tensor<3>| attention(x, heads, 0.125),
        ));
    }
    let (g, b) = (random([384], &tracked), random([384], &tracked));
    rows.extend(operation("layer norm 1576×384", 0.0, &random([1576, 384], &tracked), move |x: Tensor<2>| {
        let of = |t: &Tensor<1>| if x.is_autodiff() { t.clone().require_grad() } else { t.clone().inner() };
        let (g, b) = (of(&g), of(&b));
        layer_norm(x, g, b, 1e-6)
    }));
    let w = [random([384, 1536], &tracked), random([1536, 384], &tracked)];
    let b = [random([1536], &tracked), random([384], &tracked)];
    rows.extend(operation(
        "mlp 788×384×1536",
        4.0 * (788 * 384 * 1536) as f64,
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
        work: Box::new(move || {
            let s = student.clone().require_grad();
            let loss = dino_cross_entropy(s.clone(), teacher.clone(), centre.clone(), 0.1, 0.04, views);
            if let Some(g) = s.grad(&loss.backward()) {
                finish(g.sum());
            }
        }),
    });
    rows
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

fn networks(plain: &Device) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut rows = Vec::new();
    for batch in [1, 4] {
        let net = vit("vit-s/16", 224, plain)?;
        let x = random([batch, 3, 224, 224], plain);
        rows.push(Row {
            name: format!("ViT-S/16 at 224 px, batch {batch}: inference"),
            flops: vit_flops(batch),
            work: Box::new(move || {
                finish(net.forward(x.clone(), ocelli::models::Mode::Eval).slice_dim(0, 0..1).sum());
            }),
        });
        rows.push(Row {
            name: format!("ViT-S/16 at 224 px, batch {batch}: training step"),
            flops: 3.0 * vit_flops(batch),
            work: training_step("vit-s/16", batch, plain)?,
        });
    }
    rows.push(dino_step(plain)?);
    Ok(rows)
}

/// Forward, backward and AdamW at 224 px.
fn training_step(name: &str, batch: usize, plain: &Device) -> Result<Box<dyn FnMut()>, Box<dyn Error>> {
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
        let after = adamw.step(before, &gradients, &rates);
        let some = params::collect(&after).swap_remove(0).values;
        net = Some(after);
        finish(loss.inner());
        finish(some.slice_dim(0, 0..1));
    }))
}

/// What the device's memory pools hold after a training step of ViT-S/8 (785 tokens), bytes: their largest so far.
fn step_memory(kernels: &str, plain: &Device) -> Result<u64, Box<dyn Error>> {
    set_mode(kernels.parse()?);
    training_step("vit-s/8", 1, plain)?();
    Ok(plain.memory_pool_usage().ok_or("this device does not report its memory")?.bytes_reserved)
}

/// [`step_memory`] of both sides, each in a process of its own, so that neither finds the other's memory.
fn memory_row(device: &str) -> Result<String, Box<dyn Error>> {
    let of = |kernels: &str| -> Result<f64, Box<dyn Error>> {
        let output =
            std::process::Command::new(std::env::current_exe()?).args(["memory", device, kernels]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse::<f64>()? / 1e6)
    };
    let (ours, stock) = (of("wgsl")?, of("stock")?);
    Ok(format!(
        "\nDevice memory of a training step of ViT-S/8 at 224 px (785 tokens), batch 1: WGSL {ours:.0} MB, stock {stock:.0} MB, \
         {:.2} of it.\n",
        ours / stock
    ))
}

/// 2 × 64 px and 6 × 32 px, batch 16, K = 4096.
fn dino_step(plain: &Device) -> Result<Row, Box<dyn Error>> {
    let mut config = DinoConfig::default();
    (config.head.out_dim, config.head.hidden_dim, config.head.bottleneck_dim) = (4096, 512, 128);
    let arch: Arch = "vit-192x6x3/8".parse()?;
    let mut method = Dino::new(&config, &arch.config(64, 0.0), 0, plain)?;
    let batch = 16;
    let views = [random([2 * batch, 3, 64, 64], plain), random([6 * batch, 3, 32, 32], plain)];
    let mut adamw = AdamWState::new(AdamW::default());
    Ok(Row {
        name: "DINO step, ViT 192×6×3/8, 2 × 64 px + 6 × 32 px, batch 16, K = 4096".into(),
        flops: 0.0,
        work: Box::new(move || {
            let clock = StepClock { epoch: 1, iteration: 0, micro_batch: 0, momentum: 0.99, seed: 0 };
            let output = method.loss(&views, batch, &[], &clock);
            let mut raw = output.loss.backward();
            let mut gradients = GradientSum::default();
            gradients.add(params::take_gradients(method.net(), &mut raw), 1.0);
            let rates = StepRates { lr: 1e-5, weight_decay: 0.04, clip: 3.0 };
            method.update_net(|net| adamw.step(net, &gradients, &rates));
            method.after_step(&clock);
            finish(output.loss.inner());
            finish(method.centre().slice_dim(1, 0..1).flatten(0, 1));
        }),
    })
}

fn seconds(work: &mut dyn FnMut()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, choice, kernels] = &args[..]
        && first == "memory"
    {
        println!("{}", step_memory(kernels, &device::open(choice.parse()?)?.device)?);
        return Ok(());
    }
    let choice = args.first().map_or("gpu", String::as_str);
    let chosen = device::open(choice.parse()?)?;
    let wanted = args.get(2).map_or("", String::as_str);
    let mut rows = operations(&chosen.device);
    rows.extend(networks(&chosen.device)?);
    rows.retain(|r| r.name.contains(wanted));

    let mut table = String::from(
        "| work | WGSL | stock | WGSL is | WGSL GFLOP/s | first use WGSL | first use stock |\n|---|---|---|---|---|---|---|\n",
    );
    println!("{}", chosen.name);
    print!("{table}");
    for row in &mut rows {
        // The first use compiles; stock chooses among its kernels.
        let first = [Mode::Wgsl, Mode::Stock].map(|mode| {
            set_mode(mode);
            seconds(&mut row.work)
        });
        let mut times = [Vec::new(), Vec::new()];
        let started = Instant::now();
        for run in 0..=RUNS {
            if run > 1 && started.elapsed().as_secs_f64() > PATIENCE_S {
                break;
            }
            for (mode, times) in [Mode::Wgsl, Mode::Stock].into_iter().zip(&mut times) {
                set_mode(mode);
                let taken = seconds(&mut row.work);
                if run > 0 {
                    times.push(taken);
                }
            }
        }
        let [ours, stock] = times.map(median);
        let rate = if row.flops > 0.0 { format!("{:.1}", row.flops / ours * 1e-9) } else { "–".into() };
        let line = format!(
            "| {} | {:.2} ms | {:.2} ms | {:.2}× | {rate} | {:.1} s | {:.1} s |\n",
            row.name,
            ours * 1e3,
            stock * 1e3,
            stock / ours,
            first[0],
            first[1]
        );
        print!("{line}");
        table.push_str(&line);
    }
    if "memory".contains(wanted) {
        let line = memory_row(choice)?;
        print!("{line}");
        table.push_str(&line);
    }
    if let Some(path) = args.get(1).filter(|p| !p.is_empty()) {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        std::fs::write(path, with_table(&text, &chosen.name, &table))?;
    }
    Ok(())
}

/// The text with this adapter's table in place of the one it had, or at the end.
fn with_table(text: &str, adapter: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- measured: {adapter} -->"), "<!-- end -->");
    let section = format!("{begin}\n\n### {adapter}\n\n{table}\n{end}");
    match text.split_once(&begin).and_then(|(head, rest)| Some((head, rest.split_once(end)?.1))) {
        Some((head, tail)) => format!("{head}{section}{tail}"),
        None => format!("{}\n\n{section}\n", text.trim_end()),
    }
}
