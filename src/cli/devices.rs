//! `ocelli devices`.

use std::path::PathBuf;

use clap::Args;
use ocelli::train::device::{self, Adapter};
use serde_json::{Value, json};

use super::DeviceArgs;
use super::selftest::{self, FamilyChoice};
use super::tune;

/// List the devices and say which one would be used
///
/// With --selftest every hand-written kernel is run on the device and compared with the same computation in double precision on the
/// CPU. Please run it on a graphics card that Ocelli has not been measured on, and send the file: this is how cards are
/// tested that we do not have.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli devices\n  ocelli devices --device gpu:1\n  ocelli devices --json\n  ocelli devices --tune --preset vit-s16-one-gpu\n  ocelli devices --selftest --device gpu --out selftest.json\n\nOn a card we have never seen, run the last one and send selftest.json."
)]
pub struct DevicesArgs {
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Run every hand-written kernel on the device against its reference, results and gradients, and time it beside burn's own. Ends
    /// with 1 where one is wrong or fails
    #[arg(long)]
    selftest: bool,
    /// Make the choices of `--kernels auto` now that it would make at the first step: whose kernels are the faster ones here, for the
    /// shapes of common recipes and networks. They are kept for later runs
    #[arg(long, conflicts_with = "selftest")]
    tune: bool,
    /// Choose for this recipe in place of the common ones (repeatable; see `ocelli presets`)
    #[arg(long, requires = "tune", value_name = "NAME")]
    pub preset: Vec<String>,
    /// Test the kernels of this family in place of the device's own: hardware (graphics cards), software (drivers that compute
    /// on the CPU) or plain (software, with nothing optional, as in a browser)
    #[arg(long, requires = "selftest", value_parser = selftest::parse_family)]
    pub family: Option<FamilyChoice>,
    /// Seconds after which the self-test times no more of burn's own kernels. Every kernel is compared in any case; with 0
    /// nothing is timed
    #[arg(long, requires = "selftest", default_value_t = 45.0, value_parser = selftest::parse_seconds)]
    pub seconds: f64,
    /// Write the self-test's report to this file: JSON where it ends with .json, else text
    #[arg(long, requires = "selftest", value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &DevicesArgs) -> anyhow::Result<()> {
    if args.selftest {
        return selftest::run(args);
    }
    if args.tune {
        return tune::run(args);
    }
    let adapters = device::adapters();
    let choice = args.device.device;
    let (picked, reason) = device::pick(choice, &adapters)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let name = name(picked);
    if args.json {
        let adapters: Vec<Value> = adapters.iter().enumerate().map(|(i, a)| fields(i, a)).collect();
        println!(
            "{:#}",
            json!({
                "adapters": adapters, "cpu": { "threads": cores }, "asked_for": choice.to_string(), "takes": name,
                "reason": reason,
            })
        );
        return Ok(());
    }
    let mark = |chosen: bool| if chosen { "*" } else { " " };
    for (i, adapter) in adapters.iter().enumerate() {
        let [first, more @ ..] = lines(i, adapter);
        println!("{} {first}", mark(picked == Some(i)));
        more.iter().for_each(|line| println!("         {line}"));
    }
    println!("{} cpu    this machine's processor, {cores} threads", mark(picked.is_none()));
    println!("\n--device {choice} takes {name}: {reason}.");
    Ok(())
}

/// The name of a device: `gpu:N`, or `cpu`.
pub fn name(picked: Option<usize>) -> String {
    picked.map_or("cpu".to_owned(), |i| format!("gpu:{i}"))
}

/// An adapter in three lines.
pub fn lines(index: usize, adapter: &Adapter) -> [String; 3] {
    let a = adapter;
    [
        format!("gpu:{index}  {} [{}]", a.name, a.kind),
        format!("{}, driver {}", a.api, if a.driver.is_empty() { "unknown" } else { &a.driver }),
        format!(
            "storage buffers up to {} MiB, workgroups of {} threads with {} KiB of shared memory",
            a.max_storage_buffer_bytes >> 20,
            a.max_workgroup_threads,
            a.max_workgroup_memory_bytes >> 10
        ),
    ]
}

/// The same as fields.
pub fn fields(index: usize, adapter: &Adapter) -> Value {
    let a = adapter;
    json!({
        "device": name(Some(index)), "name": a.name, "kind": a.kind.to_string(), "api": a.api, "driver": a.driver,
        "max_storage_buffer_bytes": a.max_storage_buffer_bytes, "max_workgroup_threads": a.max_workgroup_threads,
        "max_workgroup_memory_bytes": a.max_workgroup_memory_bytes, "max_buffer_bytes": a.max_buffer_bytes,
        "max_storage_buffers": a.max_storage_buffers, "max_workgroups": a.max_workgroups,
        "subgroup_lanes": a.subgroup_lanes, "subgroup_range": a.subgroup_range, "shader_int64": a.shader_int64,
        "features": a.features,
    })
}
