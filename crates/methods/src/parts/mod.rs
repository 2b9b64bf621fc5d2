//! What several methods are made of.

pub mod infonce;
pub mod kmeans;
pub mod matching;
mod projected;
mod scalars;
mod shuffle;
mod sinkhorn;
pub(crate) mod swapped;

pub use projected::Projected;
pub use scalars::feature_std;
pub(crate) use scalars::scalar;
pub(crate) use shuffle::Shuffle;
pub use sinkhorn::sinkhorn;
pub use swapped::{Codes, swav_loss};
