//! What the device is good at.

use std::sync::{PoisonError, RwLock};

/// Which family of kernels a device runs fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Graphics hardware: tiles in workgroup memory, many small invocations.
    Hardware,
    /// A processor that plays graphics hardware (lavapipe, SwiftShader, WARP): few large invocations with everything in
    /// registers, no barriers.
    Software,
}

/// What kernels may use of a device beyond what every browser has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Which kernels it runs fast.
    pub family: Family,
    /// Invocations of a subgroup, where subgroup operations are there and every subgroup has as many; else 0.
    pub lanes: usize,
    /// Whether shaders may use 64-bit integers.
    pub int64: bool,
}

impl Caps {
    /// Nothing optional.
    pub const fn plain(family: Family) -> Self {
        Self { family, lanes: 0, int64: false }
    }
}

static CAPS: RwLock<Caps> = RwLock::new(Caps::plain(Family::Hardware));

/// Says what the process's device can do. Whoever opens a device knows.
pub fn set_caps(caps: Caps) {
    *CAPS.write().unwrap_or_else(PoisonError::into_inner) = caps;
}

/// What was said; plain hardware until then.
pub fn caps() -> Caps {
    *CAPS.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn software() -> bool {
    caps().family == Family::Software
}

/// Whether a subgroup shares what it loads, which makes a matrix product faster than anything else (`gemm_subgroup`).
pub(crate) fn shares_loads() -> bool {
    let caps = caps();
    caps.family == Family::Software && matches!(caps.lanes, 4 | 8)
}

/// Whether vec4 are better read as two 64-bit numbers (`shaders/vec4_parts.wgsl`).
pub(crate) fn wide() -> bool {
    let caps = caps();
    caps.family == Family::Software && caps.int64
}
