//! The vectors of 64-bit Arm under emulation: the crate with the CPU's kernels alone, which takes a minute to build.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::targets::{add, found};
use crate::{Outcome, as_root, cargo};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64";
/// Where Debian's cross compiler has the C library for it.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";
/// Vectors of one's own, and those that the compiler makes.
const LEVELS: [&str; 2] = ["neon", "portable"];

/// Tests the CPU's kernels as they are on Arm, or says why not.
pub fn run() -> Outcome {
    if cfg!(target_arch = "aarch64") {
        println!("\nleft out: Arm under emulation; the processor here is one, and the tests have run on it");
        return Ok(());
    }
    if !missing().is_empty() {
        println!("\ninstalling an emulator and a compiler for Arm");
        let script = as_root("apt-get update -qq && apt-get install -y -qq qemu-user gcc-aarch64-linux-gnu");
        // What comes of it is looked at below.
        let _ = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).status();
    }
    let missing = missing();
    if !missing.is_empty() {
        println!("\nleft out: Arm under emulation; not installed: {}", missing.join(", "));
        return Ok(());
    }
    if let Err(reason) = add(TARGET) {
        println!("\nleft out: Arm under emulation; {reason}");
        return Ok(());
    }
    let runner = format!("{EMULATOR} -L {LIBRARIES}");
    for level in LEVELS {
        cargo(
            &[
                "test",
                "--release",
                "--package",
                "ocelli-simd",
                "--features",
                "threads",
                "--lib",
                "--tests",
                "--target",
                TARGET,
            ],
            &[
                ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER),
                ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", &runner),
                ("OCELLI_SIMD", level),
            ],
        )?;
    }
    Ok(())
}

/// What is not there, with Debian's names.
fn missing() -> Vec<&'static str> {
    let parts = [
        ("qemu-aarch64 (qemu-user)", found(EMULATOR).is_some()),
        ("a linker (gcc-aarch64-linux-gnu)", found(LINKER).is_some()),
        ("the C library (libc6-dev-arm64-cross)", Path::new(LIBRARIES).join("lib").is_dir()),
    ];
    parts.into_iter().filter(|(_, there)| !there).map(|(name, _)| name).collect()
}
