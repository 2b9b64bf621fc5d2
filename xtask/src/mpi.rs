//! Several processes in one run: the tests over MPI.

use std::process::{Command, Stdio};

use super::{Outcome, as_root, cargo};

/// What Debian calls the library with its launcher, its headers, and what reads those.
const PACKAGES: &str = "openmpi-bin libopenmpi-dev libclang-dev";

/// Runs the tests over MPI, and leaves the tool without it where it was; says so where there is no MPI to be had.
pub fn test() -> Outcome {
    if !ensure() {
        println!(
            "\nskipped: the tests of several processes need Open MPI (on Debian and Ubuntu: apt-get install {PACKAGES})"
        );
        return Ok(());
    }
    let lint = ["clippy", "--release", "--workspace", "--features", "mpi", "--bins", "--lib", "--test", "world"];
    cargo(&[&lint[..], &["--", "-D", "warnings"]].concat(), &[])?;
    // One after the other: each takes the machine's cores.
    let args = ["test", "--release", "--workspace", "--features", "mpi", "--test", "world", "--"];
    let done = cargo(&[&args[..], &["--test-threads", "1"]].concat(), &[]);
    cargo(&["build", "--release", "--workspace", "--bins"], &[])?;
    done
}

/// Whether the launcher and the compiler's wrapper are there; installs them where that is possible.
fn ensure() -> bool {
    let works = |name: &str| {
        let version = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    let is_there = || works("mpirun") && works("mpicc");
    if is_there() {
        return true;
    }
    println!("\nno MPI: installing Open MPI");
    let script = as_root(&format!("apt-get update -qq && apt-get install -y -qq {PACKAGES}"));
    let installed = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).status();
    installed.is_ok_and(|status| status.success()) && is_there()
}
