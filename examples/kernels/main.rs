//! Hand-written kernels beside stock burn, on one device, in one process.
//!
//!     cargo run --release --example kernels -- gpu [OUT.md] [ROWS] [wgsl]
//!
//! `cargo xtask bench` runs it. Prints a table of medians of runs that take turns, both sides warm (after stock's autotune)
//! and synchronised, and puts it into OUT.md in place of this adapter's last one. ROWS picks rows by a part of their names, or `memory`;
//! `wgsl` runs the hand-written kernels alone.
#![allow(clippy::print_stderr)]

use std::error::Error;
use std::time::Instant;

use burn::tensor::Device;
use ocelli::kernels::{Mode, set_mode};
use ocelli::train::device;

mod peak;
mod rows;

use peak::Peak;
use rows::{dense_operations, networks, operations, resnet_step, training_step};

/// Runs of each side that count, and seconds after which one more is too many.
const RUNS: usize = 5;
const PATIENCE_S: f64 = 60.0;

/// A training step alone in its process: bytes that the device's memory pools hold, their largest so far, and seconds of a step.
/// The first step has no moments of the optimizer yet and tries candidates, so what it left is given back.
fn step_alone(network: &str, kernels: &str, plain: &Device) -> Result<(u64, f64), Box<dyn Error>> {
    set_mode(kernels.parse()?);
    let mut step = match network {
        "resnet-50" => resnet_step(plain)?,
        vit => training_step(vit, 1, plain)?,
    };
    step();
    plain.memory_cleanup();
    let times = (0..3).map(|_| seconds(&mut step)).collect();
    let bytes = plain.memory_pool_usage().ok_or("this device does not report its memory")?.bytes_reserved;
    Ok((bytes, median(times)))
}

/// [`step_alone`] of both sides, each in a process of its own, so that neither finds the other's memory.
fn memory_row(device: &str, network: &str, name: &str) -> Result<String, Box<dyn Error>> {
    let of = |kernels: &str| -> Result<[f64; 2], Box<dyn Error>> {
        let output = std::process::Command::new(std::env::current_exe()?)
            .args(["memory", device, kernels, network])
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let (bytes, seconds) = text.trim().split_once(' ').ok_or("the other process told nothing")?;
        Ok([bytes.parse::<f64>()? / 1e6, seconds.parse()?])
    };
    let ([ours, our_s], [stock, stock_s]) = (of("wgsl")?, of("stock")?);
    Ok(format!(
        "\nA training step of {name}, batch 1, alone in its process: device memory WGSL {ours:.0} MB, stock {stock:.0} MB, \
         {:.2} of it; WGSL {our_s:.2} s, stock {stock_s:.2} s, {:.2}×.\n",
        ours / stock,
        stock_s / our_s
    ))
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
    if let [first, choice, kernels, network] = &args[..]
        && first == "memory"
    {
        let (bytes, seconds) = step_alone(network, kernels, &device::open(choice.parse()?)?.device)?;
        println!("{bytes} {seconds:.3}");
        return Ok(());
    }
    let choice = args.first().map_or("gpu", String::as_str);
    let chosen = device::open(choice.parse()?)?;
    let wanted = args.get(2).map_or("", String::as_str);
    let alone = args.get(3).is_some_and(|side| side == "wgsl");
    let mut rows = operations(&chosen.device);
    rows.extend(dense_operations(&chosen.device));
    rows.extend(networks(&chosen.device)?);
    rows.retain(|r| r.name.contains(wanted));

    let peak = Peak::of(&chosen.device);
    let mut table = format!(
        "{peak}\n| work | WGSL | stock | WGSL is | WGSL does | of the peak | first use WGSL | first use stock |\n\
         |---|---|---|---|---|---|---|---|\n"
    );
    println!("{}", chosen.name);
    print!("{table}");
    for row in &mut rows {
        if alone {
            // To look at where the time goes: one side, nothing to compare with.
            set_mode(Mode::Wgsl);
            let times: Vec<f64> = (0..4).map(|_| seconds(&mut row.work)).collect();
            let rate = peak.rate(row, median(times[1..].to_vec()));
            println!("{}: first {:.2} s, then {:.3?} s, {rate}", row.name, times[0], &times[1..]);
            continue;
        }
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
        let rate = peak.rate(row, ours);
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
        for (network, name) in
            [("vit-s/8", "ViT-S/8 at 224 px (785 tokens)"), ("resnet-50", "ResNet-50 at 224 px")]
        {
            let line = memory_row(choice, network, name)?;
            print!("{line}");
            table.push_str(&line);
        }
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
