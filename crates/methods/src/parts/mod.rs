//! What several methods are made of.

pub mod infonce;
pub mod matching;
mod projected;
mod scalars;
mod shuffle;
mod soft_targets;

pub use projected::Projected;
pub use scalars::feature_std;
pub(crate) use scalars::scalar;
pub(crate) use shuffle::Shuffle;
pub use soft_targets::{mix_images, mix_targets, soft_cross_entropy};
