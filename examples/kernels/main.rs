//! Hand-written kernels beside stock burn, on one device.
//!
//!     cargo run --release --example kernels -- gpu [OUT.md] [ROWS] [wgsl]
//!
//! `cargo xtask bench` runs it. Prints a table of medians of runs that take turns, both sides warm (after stock's autotune)
//! and synchronised, and puts it into OUT.md in place of this adapter's last one. Every row has a process of its own, in which
//! both sides run and the peak is measured that the row is compared with; Mesa's shader cache is off there, so that a first use is one. ROWS picks rows by a part of their names, or
//! `memory`; `wgsl` runs the hand-written kernels alone, to look at where the time goes.
#![allow(clippy::print_stderr)]

use std::error::Error;
use std::process::{Command, Stdio};
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use ocelli::kernels::{Mode, set_mode};
use ocelli::train::device;

mod peak;
mod rows;

use peak::Peak;
use rows::{Row, dense_operations, finish, networks, operations, resnet_step, training_step};

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
        let text = apart(&["memory", device, kernels, network])?;
        let (bytes, seconds) =
            text.trim().split_once(' ').ok_or_else(|| format!("the process of {network} ended: {text}"))?;
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

/// What this program says in a process of its own.
fn apart(args: &[&str]) -> Result<String, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(args).env("MESA_SHADER_CACHE_DISABLE", "true").stderr(Stdio::inherit());
    Ok(String::from_utf8(command.output()?.stdout)?)
}

fn all_rows(device: &Device) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut rows = operations(device);
    rows.extend(dense_operations(device));
    rows.extend(networks(device)?);
    Ok(rows)
}

/// A row's line of the table; `alone` measures the hand-written kernels only.
fn line(row: &mut Row, peak: &Peak, alone: bool) -> String {
    let sides = if alone { &[Mode::Wgsl][..] } else { &[Mode::Wgsl, Mode::Stock] };
    // The first use compiles; stock chooses among its kernels.
    let first: Vec<f64> = sides
        .iter()
        .map(|mode| {
            set_mode(*mode);
            seconds(&mut row.work)
        })
        .collect();
    let mut times = vec![Vec::new(); sides.len()];
    let started = Instant::now();
    for run in 0..=RUNS {
        if run > 1 && started.elapsed().as_secs_f64() > PATIENCE_S {
            break;
        }
        for (mode, times) in sides.iter().zip(&mut times) {
            set_mode(*mode);
            let taken = seconds(&mut row.work);
            if run > 0 {
                times.push(taken);
            }
        }
    }
    let found: Vec<f64> = times.into_iter().map(median).collect();
    let ours = found[0];
    let (stock, times) = match found.get(1) {
        Some(stock) => (format!("{:.2} ms", stock * 1e3), format!("{:.2}×", stock / ours)),
        None => ("–".into(), "–".into()),
    };
    let stock_first = first.get(1).map_or("–".into(), |s| format!("{s:.1} s"));
    let (name, rate) = (&row.name, peak.rate(row, ours));
    format!("| {name} | {:.2} ms | {stock} | {times} | {rate} | {:.1} s | {stock_first} |", ours * 1e3, first[0])
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["memory", choice, kernels, network] => {
            let (bytes, seconds) = step_alone(network, kernels, &device::open(choice.parse()?)?.device)?;
            println!("{bytes} {seconds:.3}");
            return Ok(());
        }
        ["row", choice, name, sides] => {
            let device = device::open(choice.parse()?)?.device;
            let mut rows = all_rows(&device)?;
            // Once in a process and seconds long on a slow device, for whichever side tunes something first: so it is nobody's.
            let peak = Peak::of(&device);
            finish(Tensor::<1>::ones([4096], &device).sum());
            let row = rows.iter_mut().find(|row| row.name == name).ok_or("no such row")?;
            println!("{}", line(row, &peak, sides == "wgsl"));
            return Ok(());
        }
        _ => {}
    }
    let (choice, wanted) = (args.first().unwrap_or(&"gpu"), args.get(2).unwrap_or(&""));
    let sides = args.get(3).copied().unwrap_or("both");
    let chosen = device::open(choice.parse()?)?;
    let mut table = "Peaks are burn's, measured in the row's own process: arithmetic in f32, or copying.\n\n\
                     | work | WGSL | stock | WGSL is | WGSL does | peak | of the peak | first use WGSL | first use stock |\n\
                     |---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    println!("{}", chosen.name);
    print!("{table}");
    // Only their names, so on whatever device.
    for name in all_rows(&Device::flex())?.into_iter().map(|row| row.name).filter(|name| name.contains(wanted)) {
        let of = |sides| apart(&["row", choice, &name, sides]);
        let mut line = of(sides)?;
        if !line.starts_with('|') && sides != "wgsl" {
            eprintln!("{name}: stock does not get through");
            line = of("wgsl")?;
        }
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
