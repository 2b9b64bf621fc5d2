//! Several processes in one run: the tests over MPI.

use std::process::{Command, Stdio};

use super::{Outcome, as_root, cargo};

/// What Debian calls the library with its launcher, its headers, and what reads those.
const PACKAGES: &str = "openmpi-bin libopenmpi-dev libclang-dev";

/// What builds the program with MPI where it is there or can be installed, and without it where it cannot, which is said.
pub fn features() -> &'static [&'static str] {
    if ensure() {
        return &["--features", "mpi"];
    }
    println!(
        "\nskipped: the tests of several processes need Open MPI (on Debian and Ubuntu: apt-get install {PACKAGES})"
    );
    &[]
}

/// Whose tests start processes that take all cores: they run one after the other.
pub const TESTS: [&str; 3] = ["ends::", "kills::", "same::"];

/// Runs the tests over MPI, where it is there.
pub fn test() -> Outcome {
    if features().is_empty() {
        return Ok(());
    }
    // One after the other: each takes the machine's cores.
    let args = ["test", "--release", "--workspace", "--features", "mpi", "--test", "world", "--"];
    cargo(&[&args[..], &["--test-threads", "1"]].concat(), &[])
}

/// Clippy of what is there with MPI alone.
pub fn lint() -> Outcome {
    if !is_there() {
        println!("\nleft out: clippy of several processes, as Open MPI is not installed ({PACKAGES})");
        return Ok(());
    }
    let lint = ["clippy", "--release", "--workspace", "--features", "mpi", "--bins", "--lib", "--test", "world"];
    cargo(&[&lint[..], &["--", "-D", "warnings"]].concat(), &[])
}

/// Whether the launcher and the compiler's wrapper are there.
fn is_there() -> bool {
    let works = |name: &str| {
        let version = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    works("mpirun") && works("mpicc")
}

/// Whether the launcher and the compiler's wrapper are there; installs them where that is possible.
fn ensure() -> bool {
    if is_there() {
        return true;
    }
    println!("\nno MPI: installing Open MPI");
    let script = as_root(&format!("apt-get update -qq && apt-get install -y -qq {PACKAGES}"));
    let installed = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).status();
    installed.is_ok_and(|status| status.success()) && is_there()
}
