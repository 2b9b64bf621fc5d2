//! Several processes in one run: started by `mpirun` or `srun`, they compute each batch together.
//!
//! Without the feature `mpi` nothing can be shared, and a launcher's processes are told so before each of them does the whole
//! run.

use std::env;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::bail;
use ocelli::world::{Alone, Shared};

use super::talk;

static WORLD: OnceLock<Shared> = OnceLock::new();

/// What launchers tell the processes they start: how many there are.
const SIZES: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"];

/// The processes that the launcher of this one started, where there is a launcher; this one alone, where there is none.
fn launched() -> usize {
    let number = |name: &str| env::var(name).ok()?.parse::<usize>().ok();
    let told = SIZES.iter().find_map(|name| number(name));
    // `srun --mpi=pmix` tells the rank; the number of tasks is Slurm's to know. A script that Slurm runs has the latter alone.
    let slurm = || env::var_os("PMIX_RANK").and_then(|_| number("SLURM_NTASKS"));
    told.or_else(slurm).unwrap_or(1)
}

fn has_launcher() -> bool {
    SIZES.iter().chain(&["PMIX_RANK"]).any(|name| env::var_os(name).is_some())
}

/// The processes that train together, of which this is one; only the first of them talks from now on.
///
/// # Errors
/// When there are several and this build cannot share a run.
pub fn open() -> anyhow::Result<Shared> {
    if let Some(world) = WORLD.get() {
        return Ok(world.clone());
    }
    let world = if has_launcher() { of_launcher()? } else { std::sync::Arc::new(Alone) };
    if !world.is_first() {
        talk::silence();
    }
    Ok(WORLD.get_or_init(|| world).clone())
}

#[cfg(feature = "mpi")]
fn of_launcher() -> anyhow::Result<Shared> {
    match ocelli_world_mpi::Mpi::open() {
        Ok(world) => Ok(std::sync::Arc::new(world)),
        Err(reason) => bail!("cannot take part in what the launcher started: {reason}"),
    }
}

#[cfg(not(feature = "mpi"))]
fn of_launcher() -> anyhow::Result<Shared> {
    let processes = launched();
    if processes > 1 {
        bail!(
            "expected one process, found {processes} that a launcher started: this build of ocelli cannot share a run among them, and \
             each would do all of it and write to the same folder. Build it with `cargo build --release --features mpi` (needs an MPI \
             library; on Debian and Ubuntu: openmpi-bin libopenmpi-dev libclang-dev), or start it without the launcher"
        );
    }
    Ok(std::sync::Arc::new(Alone))
}

/// Refuses several processes where a command works in one.
///
/// # Errors
/// When a launcher started several.
pub fn one_process(command: &str) -> anyhow::Result<()> {
    let processes = launched();
    if processes > 1 {
        bail!(
            "`ocelli {command}` works in one process, found {processes} that a launcher started: each would do all of it and write to \
             the same folder. Start it without the launcher; `ocelli pretrain` and `ocelli finetune classification` can be shared"
        );
    }
    Ok(())
}

/// The world that was opened, where it has several processes.
fn several() -> Option<&'static Shared> {
    WORLD.get().filter(|world| world.size() > 1)
}

/// Number of this process on its machine, where there are several.
pub fn local_rank() -> Option<usize> {
    several().map(|world| world.local_rank())
}

/// Which of how many processes this is, for a message.
pub fn which() -> Option<String> {
    several().map(|world| format!("rank {} of {}", world.rank(), world.size()))
}

/// Whether this is the process that tells what all have come to.
pub fn is_first() -> bool {
    several().is_none_or(|world| world.is_first())
}

/// Takes leave of the others, at an end that all come to.
pub fn close() {
    if let Some(world) = WORLD.get() {
        world.close();
    }
}

/// How long the others leave it to the first to say what went wrong: an error that all of them meet is said once.
const GRACE: Duration = Duration::from_secs(5);
/// The same where the first has a checkpoint to finish.
const LONG_GRACE: Duration = Duration::from_secs(60);

/// Waits, in all but the first process, for the first to end the run with its own message; `all_alike` where it certainly will.
pub fn leave_it_to_the_first(all_alike: bool) {
    if !is_first() {
        std::thread::sleep(if all_alike { LONG_GRACE } else { GRACE });
    }
}

/// How long the launcher has to pass on what this process said last: one that ends all of them may lose it.
const FORWARDED: Duration = Duration::from_millis(200);

/// Ends all processes, where there are several: the others wait for this one, which will not come.
pub fn end_all(code: u8) {
    match several() {
        Some(world) => {
            std::thread::sleep(FORWARDED);
            world.abort(i32::from(code))
        }
        None => close(),
    }
}

/// What this build can share, in words, and whether it can.
#[cfg(feature = "mpi")]
pub fn built_in() -> (String, bool) {
    (format!("MPI is built in ({})", ocelli_world_mpi::Mpi::library()), true)
}

/// What this build can share, in words, and whether it can.
#[cfg(not(feature = "mpi"))]
pub fn built_in() -> (String, bool) {
    (
        "MPI is not built in: a run has one process (`cargo build --release --features mpi` builds with it)"
            .to_owned(),
        false,
    )
}
