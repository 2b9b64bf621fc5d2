//! What every WGSL kernel shares: the templates of `shaders/`, launching, and what the device is good at.

mod caps;
mod gemm;
mod launch;
mod sizes;
mod template;

pub use caps::{Caps, Family, caps, set_caps};
pub(crate) use caps::{shares_loads, software, wide};
pub(crate) use gemm::{Batch, Ending, Gemm, Layout, gemm, gemm_batch};
pub(crate) use launch::{Launch, contiguous, count, empty, owned, reshaped, size, sum_rows, uploaded};
pub use launch::{Watcher, watch_launches};
pub use template::{Setting, expand, shaders};
