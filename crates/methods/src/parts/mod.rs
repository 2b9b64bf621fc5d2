//! What several methods are made of.

pub mod bow;
pub mod infonce;
pub mod kmeans;
pub mod matching;
pub mod ntxent;
mod projected;
mod scalars;
mod shuffle;
mod sinkhorn;
mod soft_targets;
pub(crate) mod swapped;

pub use projected::Projected;
pub use scalars::feature_std;
pub(crate) use scalars::scalar;
pub(crate) use shuffle::Shuffle;
pub use sinkhorn::sinkhorn;
pub use soft_targets::{mix_images, mix_targets, soft_cross_entropy};
pub use swapped::{Codes, swav_loss};
