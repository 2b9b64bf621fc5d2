//! How much is said beside results and errors: `--quiet` and `--verbose`.

use std::sync::atomic::{AtomicBool, Ordering};

static QUIET: AtomicBool = AtomicBool::new(false);
static VERBOSE: AtomicBool = AtomicBool::new(false);

/// What the flags say, for the whole process.
pub fn choose(quiet: bool, verbose: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
    VERBOSE.store(verbose, Ordering::Relaxed);
}

/// From now on this process says nothing but what went wrong: another one of the same run talks.
pub fn silence() {
    choose(true, false);
}

/// Whether progress and notes are left out. Results and errors are printed in any case.
pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Whether notes for people are printed: what was understood, and what is done with it. They are printed neither beside JSON nor
/// with `--quiet`.
pub fn notes(json: bool) -> bool {
    !json && !is_quiet()
}

/// A line of `--verbose`. It goes to standard error, so that a program can still read the results.
#[allow(clippy::print_stderr)]
pub fn detail(line: impl FnOnce() -> String) {
    if VERBOSE.load(Ordering::Relaxed) {
        eprintln!("{}", line());
    }
}
