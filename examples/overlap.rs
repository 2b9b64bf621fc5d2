//! Reading gradients back from the device and sending them, one after the other and at the same time: what `mpirun` runs do in
//! every step. Gradients of ViT-S/16's shapes are summed with another rank's, which has its own at hand, over a link that is slowed
//! down to a given rate:
//!
//!     cargo run --release --example overlap -- --device gpu --bandwidth 10
use std::thread;
use std::time::{Duration, Instant};

use burn::tensor::Tensor;
use clap::Parser;
use ocelli::methods::sum_of;
use ocelli::models::params::collect;
use ocelli::models::{Arch, Init};
use ocelli::train::device::{DeviceChoice, open};
use ocelli::world::{Alone, Shared, Wire, World, buckets, threads};

/// Reading, sending and both, in turns.
#[derive(Parser)]
struct Args {
    /// Backbone whose gradients are summed
    #[arg(long, default_value = "vit-s/16")]
    arch: Arch,
    /// Where they are
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Gigabits a second that a rank sends, beside what this machine takes to copy
    #[arg(long, default_value_t = 10.0)]
    bandwidth: f64,
    /// Times each is measured; medians are printed
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    times: u32,
}

/// A world whose messages take as long as a link would.
#[derive(Debug)]
struct Slow {
    inner: Shared,
    bytes_per_s: f64,
}

impl World for Slow {
    fn rank(&self) -> usize {
        self.inner.rank()
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn local_rank(&self) -> usize {
        self.inner.local_rank()
    }

    fn exchange(&self, to: &[&[u8]]) -> Vec<Vec<u8>> {
        let started = Instant::now();
        let sent: usize =
            to.iter().enumerate().filter(|(r, _)| *r != self.rank()).map(|(_, bytes)| bytes.len()).sum();
        let came = self.inner.exchange(to);
        let on_the_way = Duration::from_secs_f64(sent as f64 / self.bytes_per_s);
        thread::sleep(on_the_way.saturating_sub(started.elapsed()));
        came
    }

    fn abort(&self, code: i32) -> ! {
        self.inner.abort(code)
    }
}

/// Buckets of ones, as long as those of the gradients, in the order they are sent.
fn on_the_host(lengths: &[usize]) -> Vec<Vec<f32>> {
    buckets(lengths).into_iter().rev().map(|bucket| vec![1.0; lengths[bucket].iter().sum()]).collect()
}

/// Seconds for reading the gradients and putting them back, for sending them, and for both at once.
fn measure(world: &dyn World, gradients: &[Tensor<1>]) -> anyhow::Result<[f64; 3]> {
    let mut values = on_the_host(&gradients.iter().map(|g| g.dims()[0]).collect::<Vec<_>>());
    let started = Instant::now();
    // A world of one has nothing to send.
    drop(sum_of(&Alone, gradients, Wire::F32, "the gradients")?);
    let reading = started.elapsed().as_secs_f64();
    world.barrier();
    let started = Instant::now();
    values.iter_mut().for_each(|values| world.sum(values));
    let sending = started.elapsed().as_secs_f64();
    world.barrier();
    let started = Instant::now();
    drop(sum_of(world, gradients, Wire::F32, "the gradients")?);
    Ok([reading, sending, started.elapsed().as_secs_f64()])
}

/// The other rank: on a machine of its own it would take nothing of this one's.
fn answer(world: &dyn World, lengths: &[usize], times: usize) {
    for _ in 0..2 * times {
        let mut values = on_the_host(lengths);
        world.barrier();
        values.iter_mut().for_each(|values| world.sum(values));
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let chosen = open(args.device)?;
    let vit = args.arch.config(224, 0.0).init(&mut Init::new(0, &chosen.device))?;
    let gradients: Vec<Tensor<1>> = collect(&vit).into_iter().map(|p| p.values).collect();
    let lengths: Vec<usize> = gradients.iter().map(|g| g.dims()[0]).collect();
    // Once more, for what is done once.
    let times = args.times as usize + 1;
    let slow = |inner: &Shared| Slow { inner: inner.clone(), bytes_per_s: args.bandwidth * 1e9 / 8.0 };
    let worlds = threads(2).iter().map(slow).collect::<Vec<_>>();
    let measured = thread::scope(|scope| {
        scope.spawn(|| answer(&worlds[1], &lengths, times));
        (0..times).map(|_| measure(&worlds[0], &gradients)).collect::<anyhow::Result<Vec<_>>>()
    })?;
    let median = |what: usize| {
        let mut sorted: Vec<f64> = measured[1..].iter().map(|times| times[what]).collect();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    let [reading, sending, both] = [median(0), median(1), median(2)];
    println!("{} on {}, {} Gb/s, medians of {}", args.arch, chosen.name, args.bandwidth, args.times);
    println!("reading {reading:.3} s, sending {sending:.3} s, both {both:.3} s");
    println!("beyond the slower of the two: {:.0} %", 100.0 * (both / reading.max(sending) - 1.0));
    Ok(())
}
