//! `ocelli devices`.

use clap::Args;
use ocelli::train::device::{self, Adapter};
use serde_json::{Value, json};

use super::DeviceArgs;

/// List the devices and say which one would be used
#[derive(Args)]
#[command(after_help = "Examples:\n  ocelli devices\n  ocelli devices --device gpu:1\n  ocelli devices --json")]
pub struct DevicesArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &DevicesArgs) -> anyhow::Result<()> {
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
        "max_workgroup_memory_bytes": a.max_workgroup_memory_bytes,
        "subgroup_lanes": a.subgroup_lanes, "shader_int64": a.shader_int64,
    })
}
