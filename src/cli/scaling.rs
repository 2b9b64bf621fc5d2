//! `ocelli plan`: what a run would take on several devices, from a step on one and a model of what they send each other.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use anyhow::bail;
use burn::tensor::{Device, Tensor};
use clap::Args;
use ocelli::data::open_data;
use ocelli::methods::{Method, MethodError, sum_of};
use ocelli::train::config::{TaskKind, read_config, resolve};
use ocelli::train::memory::{Needs, gb};
use ocelli::train::{RunConfig, Trainer};
use ocelli::world::{BUCKET_BYTES, Link, Shared, SumCost, Wire, slowest, threads};
use serde_json::{Value, json};

use super::progress::duration;
use super::run::quoted;
use super::{DeviceArgs, talk};

/// Steps that are measured after the first.
const MEASURED: usize = 12;
/// Sums from which what copying and adding takes here is known.
const SUMS: usize = 7;
/// They are of no more bytes than this.
const ENOUGH_BYTES: usize = 100_000_000;
/// Below this share of what W devices could do, more of them are not worth it.
const EFFICIENT: f64 = 0.8;
/// The search for how many devices are worth it ends here.
const MOST: usize = 1 << 16;

/// Predict what a run takes on several devices: time, memory and cost
///
/// It measures a step on this device, or takes what --step says, and adds what a model says of the sums between the
/// devices. A prediction is a model, not a measurement. Nothing is written.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli plan --preset vit-s16-100 --ranks 8 --bandwidth 10\n  ocelli plan --preset vit-s16-100 --ranks 64 --per-machine 8 --bandwidth 100 --step 0.4 --price 2.5\n  ocelli plan --preset laptop --ranks 4 --per-machine 4 --set batch_size=64 --json\n\nThe model: a step is the images of the slowest rank, by the times measured on this device, and then the sum of the gradients.\nEach rank sends twice (W - 1)/W of them, in buckets of 25 MB. Ranks that compute on a processor share its cores. A message costs 4 µs beside what\nthe link takes. Synchronised batch normalisations wait for two messages each. `mpirun -n N ocelli pretrain` runs it."
)]
pub struct PlanArgs {
    /// Recipe by name (see `ocelli presets`)
    #[arg(long)]
    preset: Option<String>,
    /// TOML file over the preset
    #[arg(long)]
    config: Option<std::path::PathBuf>,
    /// Method by name
    #[arg(long)]
    method: Option<String>,
    /// Backbone by name
    #[arg(long)]
    arch: Option<String>,
    /// Set one value, such as batch_size=256 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Number of devices, each with a process of its own
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    ranks: u32,
    /// Devices in one machine, which share its link
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    per_machine: u32,
    /// What a machine sends, in gigabits per second (InfiniBand NDR: 400; NVLink within a machine: count its devices with
    /// --per-machine 1 and 3600 of an H100)
    #[arg(long, default_value_t = 10.0, value_parser = parse_positive)]
    bandwidth: f64,
    /// Time until a short message is there, in microseconds
    #[arg(long, default_value_t = 50.0, value_parser = parse_positive)]
    latency: f64,
    /// Images of one rank in a step (default: batch_size / ranks, the batch of the recipe)
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    part: Option<u32>,
    /// Seconds one device takes for a step of that many images (default: measured here)
    #[arg(long, value_parser = parse_positive)]
    step: Option<f64>,
    /// Seconds in which a device's gigabyte of gradients is read, added and put back, beside what the link takes (default:
    /// measured here)
    #[arg(long, value_name = "SECONDS", value_parser = parse_positive)]
    copying: Option<f64>,
    /// Training images
    #[arg(long, default_value_t = 1_281_167, value_parser = clap::value_parser!(u64).range(2..=1_000_000_000))]
    images: u64,
    /// Price of a device for an hour, in whatever currency
    #[arg(long, value_parser = parse_positive)]
    price: Option<f64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

fn parse_positive(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|v| v.is_finite() && *v > 0.0);
    value.ok_or_else(|| format!("expected a number above 0, found \"{text}\""))
}

/// A step of one rank.
struct Alone {
    /// Each of those measured, seconds.
    times_s: Vec<f64>,
    /// Processor time of one, all threads together; 0 where another device computes.
    cpu_s: f64,
    /// Cores of this machine.
    cores: usize,
}

impl Alone {
    fn step_s(&self) -> f64 {
        self.times_s.iter().sum::<f64>() / self.times_s.len().max(1) as f64
    }

    /// How many times as long everything takes where so many ranks share this machine's cores.
    fn crowding(&self, per_machine: usize) -> f64 {
        (per_machine as f64 * self.cpu_s / self.cores as f64 / self.step_s()).max(1.0)
    }

    /// The same of a sum: two ranks at a time were measured.
    fn crowding_of_sums(&self, per_machine: usize) -> f64 {
        if self.cpu_s > 0.0 { (per_machine as f64 / self.cores.max(2) as f64).max(1.0) } else { 1.0 }
    }

    /// A step takes as long as its slowest rank.
    fn slowest_s(&self, ranks: usize) -> f64 {
        slowest(&self.times_s, ranks)
    }
}

/// A number of ranks and what a step takes with it.
struct Row {
    ranks: usize,
    /// Images of all ranks.
    batch: usize,
    /// What the slowest rank computes.
    compute_s: f64,
    /// What a rank computes that has a machine to itself and waits for nobody.
    alone_s: f64,
    sums: SumCost,
}

impl Row {
    fn step_s(&self) -> f64 {
        self.compute_s + self.sums.seconds()
    }

    /// Images a second as a share of what so many devices would do that need not talk.
    fn efficiency(&self) -> f64 {
        self.alone_s / self.step_s()
    }
}

pub fn run(args: &PlanArgs) -> anyhow::Result<()> {
    let ranks = args.ranks as usize;
    let whole = configuration(args, &[])?;
    let part = match args.part {
        Some(part) => part as usize,
        None if whole.batch_size.is_multiple_of(ranks) => whole.batch_size / ranks,
        None => bail!(
            "expected a batch that {ranks} ranks can share, found batch_size {}; say --set batch_size=N with a multiple of \
             {ranks}, or --part N for the images of one rank",
            whole.batch_size
        ),
    };
    let batch = part * ranks;
    if (args.images as usize) < batch {
        bail!("--images: expected a batch of all ranks or more, {batch} images, found {}", args.images);
    }
    let config =
        configuration(args, &[format!("batch_size={part}"), "accumulate=1".into(), "eval.every_epochs=0".into()])?;
    let chosen = args.device.open()?;
    let side = config.view_plan().views.iter().map(|view| view.size_px).max().unwrap_or(64).clamp(64, 512);
    let source = open_data(&format!("scenes:{}:{side}", args.images))?.train;
    let mut trainer = Trainer::new(&config, &chosen.device, &source, None)?;
    let shape = trainer.shape();
    let bytes = 4.0 * (shape.backbone_parameters + shape.head_parameters) as f64;
    let needs = Needs::training_with(&config, trainer.state_bytes() as u64);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (alone, from) = match args.step {
        Some(step) => (Alone { times_s: vec![step], cpu_s: 0.0, cores }, "as --step says".to_owned()),
        None => {
            chosen.memory.check_beside(&needs, chosen.memory.available())?;
            let measured = trainer.measure(MEASURED)?;
            let steps = measured.times_s.len();
            let word = if steps == 1 { "step" } else { "steps" };
            let cpu_s = if chosen.is_cpu { measured.cpu_s } else { 0.0 };
            (
                Alone { times_s: measured.times_s, cpu_s, cores },
                format!("{steps} {word} measured on {}, on built-in scenes of {side} px", chosen.name),
            )
        }
    };
    let norms = messages_of_norms(&config, trainer.task().method());
    let trained = trainer.task().method().network().parameters().into_iter().filter(|p| p.trainable);
    let lengths: Vec<usize> = trained.map(|p| p.shape.num_elements()).collect();
    drop(trainer);
    let (host_s_per_byte, shared_s_per_byte) = match args.copying {
        Some(seconds) => (seconds / 1e9, 0.0),
        None => (copying(&lengths, &chosen.device)?, passing_on()),
    };
    let link = Link {
        bytes_per_s: args.bandwidth * 1e9 / 8.0,
        latency_s: args.latency * 1e-6,
        ranks_per_machine: args.per_machine as usize,
        host_s_per_byte,
        shared_s_per_byte,
    };
    let row = |ranks: usize| {
        let mut sums = link.sum(bytes, ranks, config.optim.gradients.wire());
        // A step's figures and what the ranks agree on (stopping, saving) are sums of few values, which go round once; so are a
        // norm's statistics.
        sums.wait_s += (2 + norms) as f64 * link.sum(4.0, ranks, Wire::F32).wait_s / 2.0;
        let crowding = alone.crowding(link.ranks_per_machine.min(ranks));
        sums.host_s *= alone.crowding_of_sums(link.ranks_per_machine.min(ranks));
        Row {
            ranks,
            batch: part * ranks,
            compute_s: crowding * alone.slowest_s(ranks),
            alone_s: alone.step_s(),
            sums,
        }
    };
    let rows: Vec<Row> = counts(ranks).into_iter().map(row).collect();
    let worth = (0..)
        .map(|power| 1usize << power)
        .take_while(|n| *n <= MOST)
        .take_while(|n| row(*n).efficiency() >= EFFICIENT);
    let worth = worth.last().unwrap_or(1);
    let run_s = |row: &Row| row.step_s() * (args.images as usize / row.batch.max(1)) as f64 * config.epochs as f64;
    let cost = |row: &Row| args.price.map(|price| price * row.ranks as f64 * run_s(row) / 3600.0);
    if args.json {
        let row = |row: &Row| -> Value {
            json!({
                "ranks": row.ranks, "batch_size": row.batch, "step_s": row.step_s(), "compute_s": row.compute_s,
                "wire_s": row.sums.wire_s, "wait_s": row.sums.wait_s, "host_s": row.sums.host_s,
                "images_per_second": row.batch as f64 / row.step_s(), "efficiency": row.efficiency(),
                "run_s": run_s(row), "cost": cost(row),
            })
        };
        let all = json!({
            "method": config.recipe().name, "arch": config.arch.to_string(), "images": args.images, "epochs": config.epochs,
            "images_per_rank": part, "gradient_bytes": bytes, "memory_bytes": needs.bytes, "step_from": from,
            "bandwidth_gbit_s": args.bandwidth, "latency_us": args.latency, "ranks_per_machine": args.per_machine,
            "host_s_per_byte": host_s_per_byte, "shared_s_per_byte": link.shared_s_per_byte, "cpu_s": alone.cpu_s, "cores": cores, "crowding": alone.crowding(link.ranks_per_machine.min(ranks)),
            "gradients": config.optim.gradients.to_string(), "norm_messages": norms, "efficient_ranks": worth, "rows": rows.iter().map(row).collect::<Vec<_>>(),
        });
        println!("{all:#}");
        return Ok(());
    }
    if talk::notes(args.json) {
        println!("a prediction by a model; nothing is written");
        let line = |name: &str, text: String| println!("  {name:<10}{text}");
        let parameters = bytes / 4e6;
        line(
            "method",
            format!(
                "{} with {}: {parameters:.1} M trained values, {} of gradients a step",
                config.recipe().title,
                config.arch,
                gb(bytes as u64)
            ),
        );
        line("step", format!("{:.3} s for the {part} images of one rank ({from})", alone.step_s()));
        line("memory", format!("{} on each device at least: {}", gb(needs.bytes), needs.what));
        let machine = match args.per_machine {
            1 => String::new(),
            n => format!(", {n} devices in a machine"),
        };
        line(
            "link",
            format!(
                "{} Gb/s and {} µs{machine}; copying and adding {:.2} s a gigabyte",
                args.bandwidth,
                args.latency,
                1e9 * host_s_per_byte
            ),
        );
        let crowding = alone.crowding(link.ranks_per_machine.min(ranks));
        if crowding > 1.0 {
            let text = format!(
                "a step takes {:.3} s of a core: {} ranks on {cores} cores take {crowding:.2} times as long",
                alone.cpu_s,
                link.ranks_per_machine.min(ranks)
            );
            line("cores", text);
        }
        if norms > 0 {
            line("norms", format!("batch normalisation over the images of all: {norms} messages a step"));
        }
        println!();
    }
    let price = if args.price.is_some() { "      cost" } else { "" };
    println!(
        "{:>6} {:>8} {:>9} {:>9} {:>9} {:>10} {:>11}  whole run{price}",
        "ranks", "batch", "step", "sums", "images/s", "efficiency", "rank-hours"
    );
    for row in &rows {
        let (all, hours) = (run_s(row), row.ranks as f64 * run_s(row) / 3600.0);
        println!(
            "{:>6} {:>8} {:>7.3} s {:>7.3} s {:>9.1} {:>8.0} % {hours:>11.1}  {:<9}{}",
            row.ranks,
            row.batch,
            row.step_s(),
            row.sums.seconds(),
            row.batch as f64 / row.step_s(),
            100.0 * row.efficiency(),
            duration(all),
            cost(row).map(|cost| format!(" {cost:>9.2}")).unwrap_or_default()
        );
    }
    let reach = match worth {
        MOST => format!("{MOST} ranks, the most that are tried"),
        1 => "1 rank".to_owned(),
        n => format!("{n} ranks"),
    };
    println!("at least {:.0} % efficient with {part} images a rank: up to {reach}", 100.0 * EFFICIENT);
    Ok(())
}

/// Messages of a step in which ranks exchange the statistics of batch normalisations and their gradients, where the method couples
/// the images of all.
fn messages_of_norms(config: &RunConfig, method: &dyn Method) -> usize {
    if !config.recipe().needs.coupled {
        return 0;
    }
    let parameters = method.network().parameters();
    let norms = parameters.iter().filter(|p| p.name.ends_with("running_mean")).count();
    let passes =
        |(_, views): (u32, std::ops::Range<usize>)| views.len() / method.views_at_once(views.len()).max(1);
    2 * norms * config.view_plan().groups().into_iter().map(passes).sum::<usize>()
}

/// The configuration with `own` values over all others.
fn configuration(args: &PlanArgs, own: &[String]) -> anyhow::Result<RunConfig> {
    let file = args
        .config
        .as_deref()
        .map(|path| Ok::<_, anyhow::Error>((path.display().to_string(), read_config(path)?)));
    let file = file.transpose()?;
    let named = [("method", &args.method), ("arch", &args.arch)];
    let named = named.into_iter().filter_map(|(key, value)| Some(quoted(key, value.as_ref()?)));
    let sets: Vec<String> = named.chain(args.sets.iter().cloned()).chain(own.iter().cloned()).collect();
    let file = file.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    let config = resolve(args.preset.as_deref(), file, &sets)?;
    config.check_task(TaskKind::Pretraining)?;
    Ok(config)
}

/// 1, 2, 4 and so on below `ranks`, and `ranks`.
fn counts(ranks: usize) -> Vec<usize> {
    let powers = (0..usize::BITS).map(|power| 1usize << power).take_while(|n| *n < ranks);
    powers.chain([ranks]).collect()
}

/// Seconds a rank takes here for a byte of gradients, beside what a network takes: reading it from the device, adding, putting it
/// back. The median of a few sums of tensors of these lengths over two threads.
fn copying(lengths: &[usize], device: &Device) -> anyhow::Result<f64> {
    let mut values = 0;
    let enough = lengths.iter().take_while(|len| {
        values += **len;
        values <= ENOUGH_BYTES / 4 || values == **len
    });
    let lengths: Vec<usize> = enough.copied().collect();
    let sums = |world: &Shared| -> Result<f64, MethodError> {
        let gradients: Vec<Tensor<1>> = lengths.iter().map(|len| Tensor::ones([*len], device)).collect();
        let mut times = Vec::with_capacity(SUMS);
        for _ in 0..SUMS {
            world.barrier();
            let started = Instant::now();
            drop(sum_of(world.as_ref(), &gradients, Wire::F32, "gradients")?);
            times.push(started.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        Ok(times[SUMS / 2])
    };
    let ranks = threads(2);
    let slower = thread::scope(|scope| {
        let running: Vec<_> = ranks.iter().map(|world| scope.spawn(move || sums(world))).collect();
        running
            .into_iter()
            .filter_map(|rank| rank.join().ok())
            .try_fold(0.0, |most, time| time.map(|t| f64::max(most, t)))
    })?;
    Ok(slower / (4 * lengths.iter().sum::<usize>()).max(1) as f64)
}

/// Seconds to copy a byte to memory and from there to other memory, while another thread does the same: the median of a few.
fn passing_on() -> f64 {
    let copy = || {
        let (own, mut shared, mut other) =
            (vec![1u8; BUCKET_BYTES], vec![2u8; BUCKET_BYTES], vec![3u8; BUCKET_BYTES]);
        let once = |_| {
            let started = Instant::now();
            shared.copy_from_slice(black_box(&own));
            other.copy_from_slice(black_box(&shared));
            black_box(&other);
            started.elapsed().as_secs_f64()
        };
        let mut times: Vec<f64> = (0..SUMS).map(once).collect();
        times.sort_by(f64::total_cmp);
        times[SUMS / 2]
    };
    let slower = thread::scope(|scope| {
        let other = scope.spawn(copy);
        copy().max(other.join().unwrap_or_default())
    });
    slower / BUCKET_BYTES as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_wait_for_the_slowest_and_share_cores() {
        let alone = Alone { times_s: vec![1.0, 3.0], cpu_s: 3.0, cores: 2 };
        assert!((alone.slowest_s(1) - 2.0).abs() < 1e-12 && (alone.slowest_s(2) - 2.5).abs() < 1e-12);
        // One needs a core and a half for the 2 s of a step; two need three.
        assert!((alone.crowding(1) - 1.0).abs() < 1e-12 && (alone.crowding(2) - 1.5).abs() < 1e-12);
        assert!((Alone { cpu_s: 0.0, ..alone }.crowding(8) - 1.0).abs() < 1e-12, "another device computes");
    }

    #[test]
    fn powers_of_two_and_the_number_itself() {
        assert_eq!(counts(1), [1]);
        assert_eq!(counts(6), [1, 2, 4, 6]);
        assert_eq!(counts(8), [1, 2, 4, 8]);
    }
}
