//! What the device is good at.

use std::sync::atomic::{AtomicBool, Ordering};

/// Which family of kernels a device runs fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Graphics hardware: tiles in workgroup memory, many small invocations.
    Hardware,
    /// A processor that plays graphics hardware (lavapipe, SwiftShader, WARP): few large invocations with everything in
    /// registers, no barriers.
    Software,
}

static SOFTWARE: AtomicBool = AtomicBool::new(false);

/// Chooses the family for the process. Whoever opens a device knows what it is.
pub fn set_family(family: Family) {
    SOFTWARE.store(family == Family::Software, Ordering::Relaxed);
}

/// The family in use; hardware until somebody says otherwise.
pub fn family() -> Family {
    if SOFTWARE.load(Ordering::Relaxed) { Family::Software } else { Family::Hardware }
}

pub(crate) fn software() -> bool {
    family() == Family::Software
}
