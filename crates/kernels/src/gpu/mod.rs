//! What every WGSL kernel shares: the templates of `shaders/`, launching, and what the device is good at.

mod caps;
mod gemm;
mod launch;
mod template;

pub(crate) use caps::software;
pub use caps::{Family, family, set_family};
pub(crate) use gemm::{Ending, Gemm, Layout, gemm};
pub(crate) use launch::{Launch, contiguous, count, empty, owned, reshaped, size, sum_rows};
pub use template::{Setting, expand, shaders};
