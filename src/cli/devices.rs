//! `ocelli devices`.

use ocelli::train::device;

use super::DeviceArgs;

pub fn run(args: &DeviceArgs) -> anyhow::Result<()> {
    let adapters = device::adapters();
    let (picked, reason) = device::pick(args.device, &adapters)?;
    let mark = |chosen: bool| if chosen { "*" } else { " " };
    for (i, a) in adapters.iter().enumerate() {
        println!("{} gpu:{i}  {} [{}]", mark(picked == Some(i)), a.name, a.kind);
        println!("         {}, driver {}", a.api, if a.driver.is_empty() { "unknown" } else { &a.driver });
        println!(
            "         storage buffers up to {} MiB, workgroups of {} threads with {} KiB of shared memory",
            a.max_storage_buffer_bytes >> 20,
            a.max_workgroup_threads,
            a.max_workgroup_memory_bytes >> 10
        );
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{} cpu    this machine's processor, {cores} threads", mark(picked.is_none()));
    let name = picked.map_or("cpu".to_owned(), |i| format!("gpu:{i}"));
    println!("\n{} takes {name}: {reason}.", describe(args.device));
    Ok(())
}

fn describe(choice: device::DeviceChoice) -> String {
    match choice {
        device::DeviceChoice::Auto => "--device auto".into(),
        device::DeviceChoice::Gpu => "--device gpu".into(),
        device::DeviceChoice::GpuIndex(i) => format!("--device gpu:{i}"),
        device::DeviceChoice::Cpu => "--device cpu".into(),
    }
}
